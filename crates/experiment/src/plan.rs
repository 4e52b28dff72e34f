//! Runs divided into units, on disk: what is to be computed, and the state of each unit. Stored in
//! `results/sweeps/NAME/`: `plan.json`, `units/NUMBER.json` (one per unit that was started), `shared.json`, `log/`,
//! and, with Slurm, `submissions.json`.
//!
//! A unit is done if its record says so and its fits are in the cache; a record alone is not sufficient. Records of
//! another plan (another experiment, version or device) do not count either. A record of a finished unit is never
//! replaced by one that says it has begun or failed, so that a process presumed dead that is still running does no
//! harm.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::flows::FLOWS_VERSION;
use super::run::short_hash;
use super::{
    Cache, Experiment, ExperimentError, Invocation, Overrides, Provenance, StageCounts, Unit, are_cached,
    read_experiment, results_folder, results_name, units,
};
use etcbench_feature::FEATURES_VERSION;
use etcbench_model::{ModelKind, ModelSpec};
use etcbench_storage as storage;
use etcbench_storage::Determinants;

/// What is to be computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The plan's name, and the name of its folder.
    pub name: String,
    /// Absolute paths of the experiment files.
    pub experiments: Vec<PathBuf>,
    /// Command-line overrides of the experiments.
    pub overrides: Overrides,
    /// Options of the computation.
    #[serde(flatten)]
    pub options: PlanOptions,
    /// Hash of everything that determines what units compute, so that records of other plans are not mistaken for this
    /// plan's.
    pub digest: String,
}

/// How a plan's units are computed, and what is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanOptions {
    /// The device for training deep models, as given on the command line: `auto`, or the name of a device.
    pub device: String,
    /// Precision of matrix products on CUDA devices.
    pub precision: String,
    /// Interval between checkpoints of a deep model's training, in seconds; 0 for every batch.
    pub checkpoint_seconds: u64,
    /// Whether to write the trained models into the run's folder.
    pub save_models: bool,
    /// Whether an existing run with other results may be replaced.
    #[serde(default)]
    pub overwrite: bool,
    /// The command that started the run, and when.
    #[serde(default)]
    pub invocation: Invocation,
}

/// A unit of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedUnit {
    /// Index of its experiment in the plan.
    pub experiment: usize,
    /// Its variant and seed.
    pub unit: Unit,
}

/// The state of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    /// Started, without a result yet.
    Begun,
    /// Ended with an error.
    Failed,
    /// Its fits are in the cache.
    Done,
}

/// `units/NUMBER.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// The plan's digest.
    pub digest: String,
    /// The experiment's name.
    pub experiment: String,
    /// The unit.
    #[serde(flatten)]
    pub unit: Unit,
    /// Its state.
    pub state: UnitState,
    /// The error, if it failed.
    pub problem: Option<String>,
    /// Keys of its fits in the cache.
    pub fits: Vec<String>,
    /// Errors of failed fits of external models; they fail the unit but are part of its result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_fits: Vec<String>,
    /// Name of the device for training deep models.
    pub device: String,
    /// The machine and program.
    pub provenance: Provenance,
    /// The machine's name.
    pub host: String,
    /// ID of the process on the machine.
    pub process: u32,
    /// If started by Slurm: array job ID and index in the array.
    pub slurm: Option<(u64, u64)>,
    /// Start time, in seconds since the Unix epoch.
    pub begun: u64,
    /// Elapsed time in seconds; cached results took none.
    pub wall_seconds: f64,
    /// The outputs that it computed and those that it took from the cache, by stage; empty until it ends.
    #[serde(default)]
    pub stages: StageCounts,
}

/// A plan with its experiments, units and folder.
pub struct PlannedRun {
    /// The plan.
    pub plan: Plan,
    /// The experiments, resolved.
    pub experiments: Vec<Experiment>,
    /// Their units, in order.
    pub units: Vec<PlannedUnit>,
    folder: PathBuf,
}

/// Returns the folder that contains the plans.
pub fn plans_folder(project: &Path) -> PathBuf {
    results_folder(project).join("sweeps")
}

/// Returns the names of all plans of a project, sorted.
pub fn plan_names(project: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(plans_folder(project)).into_iter().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            path.join("plan.json").is_file().then(|| path.file_name()?.to_str().map(str::to_owned))?
        })
        .collect();
    names.sort();
    names
}

fn store_error(path: &Path) -> impl Fn(std::io::Error) -> ExperimentError + '_ {
    |error| ExperimentError::Store { path: path.to_owned(), problem: error.to_string() }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ExperimentError> {
    let json = serde_json::to_vec_pretty(value)
        .map_err(|error| ExperimentError::Internal { problem: format!("{}: {error}", path.display()) })?;
    storage::write_whole(path, &json).map_err(store_error(path))
}

impl PlannedRun {
    /// Plans a run of these experiment files, and stores the plan.
    ///
    /// # Errors
    /// An experiment cannot be read, or the folder cannot be written.
    pub fn new(
        project: &Path,
        paths: &[PathBuf],
        overrides: &Overrides,
        options: PlanOptions,
    ) -> Result<Self, ExperimentError> {
        let planned = Self::unwritten(project, paths, overrides, options)?;
        write_json(&planned.folder.join("plan.json"), &planned.plan)?;
        Ok(planned)
    }

    /// Same as [`PlannedRun::new`], but does not store the plan.
    ///
    /// # Errors
    /// An experiment cannot be read.
    pub fn unwritten(
        project: &Path,
        paths: &[PathBuf],
        overrides: &Overrides,
        options: PlanOptions,
    ) -> Result<Self, ExperimentError> {
        let absolute = |path: &PathBuf| std::path::absolute(path).map_err(store_error(path));
        let paths = paths.iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
        let experiments = read_all(&paths, overrides)?;
        let mut planned = Self {
            plan: Plan {
                name: plan_name(&experiments, overrides),
                experiments: paths,
                overrides: overrides.clone(),
                options,
                digest: String::new(),
            },
            units: planned_units(&experiments),
            experiments,
            folder: PathBuf::new(),
        };
        planned.plan.digest = planned.digest();
        planned.folder = plans_folder(project).join(&planned.plan.name);
        Ok(planned)
    }

    /// Reads a stored plan.
    ///
    /// # Errors
    /// The plan does not exist, or its experiments have changed since.
    pub fn read(project: &Path, name: &str) -> Result<Self, ExperimentError> {
        let folder = plans_folder(project).join(name);
        let path = folder.join("plan.json");
        let problem = |problem: String| ExperimentError::Store { path: path.clone(), problem };
        let plan: Plan = read_json(&path)
            .ok_or_else(|| problem(format!("no such sweep (known: {})", plan_names(project).join(", "))))?;
        let experiments = read_all(&plan.experiments, &plan.overrides)?;
        let planned = Self { units: planned_units(&experiments), plan, experiments, folder };
        if planned.digest() != planned.plan.digest {
            return Err(problem(
                "the experiment, etcbench, or the dependencies of an external model have changed since this was \
                 planned, or differ on this machine; run the command that planned it again"
                    .to_owned(),
            ));
        }
        Ok(planned)
    }

    fn digest(&self) -> String {
        let resolved: Vec<String> = self.experiments.iter().map(|experiment| experiment.resolved.to_string()).collect();
        let names: Vec<&str> = self.experiments.iter().map(|experiment| experiment.name.as_str()).collect();
        // Options that do not affect results are excluded.
        let PlanOptions { device, precision, checkpoint_seconds: _, save_models: _, overwrite: _, invocation: _ } =
            &self.plan.options;
        let models: Vec<(&str, u32)> = ModelKind::all().map(|kind| (kind.name(), kind.entry().version)).collect();
        let of_variants = self.experiments.iter().flat_map(|experiment| &experiment.variants);
        let external: Vec<[String; 3]> = of_variants
            .flat_map(|variant| &variant.models)
            .filter_map(|spec| Some(spec.kind.entry().external?.identity()))
            .collect();
        Determinants::of("plan", 1)
            .and("external", &external)
            .and("flows_version", &FLOWS_VERSION)
            .and("features_version", &FEATURES_VERSION)
            .and("models", &models)
            .and("experiments", &names)
            .and("resolved", &resolved)
            .and("device", device)
            .and("precision", precision)
            .key()
    }

    /// Returns the plan's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the log file of a unit that runs on this machine.
    pub fn log(&self, number: usize) -> PathBuf {
        self.folder.join("log").join(format!("{number:05}.txt"))
    }

    fn record_path(&self, number: usize) -> PathBuf {
        self.folder.join("units").join(format!("{number:05}.json"))
    }

    /// Returns whether a unit has a model that can use a GPU.
    pub fn can_use_gpu(&self, number: usize) -> bool {
        let PlannedUnit { experiment, unit } = &self.units[number];
        let variants = self.experiments[*experiment].variants.iter();
        let mut models = variants.filter(|variant| variant.name == unit.variant).flat_map(|variant| &variant.models);
        models.any(ModelSpec::can_use_gpu)
    }

    /// Formats a unit as `table2, random_split, seed 3`.
    pub fn unit_name(&self, number: usize) -> String {
        let PlannedUnit { experiment, unit } = &self.units[number];
        format!("{}, {}, seed {}", self.experiments[*experiment].name, unit.variant, unit.seed)
    }

    /// Returns the record of a unit of this plan, or `None` if it was never started.
    pub fn record(&self, number: usize) -> Option<UnitRecord> {
        let record: UnitRecord = read_json(&self.record_path(number))?;
        let planned = self.units.get(number)?;
        (record.digest == self.plan.digest && record.unit == planned.unit).then_some(record)
    }

    /// Returns the record of a unit if it is done and all its fits are in the cache.
    pub fn done(&self, number: usize, cache: &Cache) -> Option<UnitRecord> {
        self.record(number).filter(|record| record.state == UnitState::Done && are_cached(cache, &record.fits))
    }

    /// Returns the record of a unit that is done, or whose only failures are fits of external models.
    pub fn ended(&self, number: usize, cache: &Cache) -> Option<UnitRecord> {
        let failed_as_result = |record: &UnitRecord| {
            record.state == UnitState::Failed && !record.failed_fits.is_empty() && are_cached(cache, &record.fits)
        };
        self.done(number, cache).or_else(|| self.record(number).filter(failed_as_result))
    }

    /// Returns the units that are not done.
    pub fn missing(&self, cache: &Cache) -> Vec<usize> {
        (0..self.units.len()).filter(|&number| self.done(number, cache).is_none()).collect()
    }

    /// Creates the record of a unit that starts now in this process.
    pub fn begin(&self, number: usize, device: &str, provenance: Provenance) -> UnitRecord {
        let PlannedUnit { experiment, unit } = &self.units[number];
        let variable = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        UnitRecord {
            digest: self.plan.digest.clone(),
            experiment: self.experiments[*experiment].name.clone(),
            unit: unit.clone(),
            state: UnitState::Begun,
            problem: None,
            fits: Vec::new(),
            failed_fits: Vec::new(),
            device: device.to_owned(),
            provenance,
            host: host(),
            process: std::process::id(),
            slurm: variable("SLURM_ARRAY_JOB_ID").zip(variable("SLURM_ARRAY_TASK_ID")),
            begun: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            wall_seconds: 0.0,
            stages: StageCounts::new(),
        }
    }

    /// Stores a unit's record, unless the existing record is more advanced.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn store(&self, number: usize, record: &UnitRecord, cache: &Cache) -> Result<(), ExperimentError> {
        if record.state != UnitState::Done && self.done(number, cache).is_some() {
            return Ok(());
        }
        write_json(&self.record_path(number), record)
    }

    /// Returns whether the flows shared by units were put into the cache; they are recomputed if they have since been
    /// removed.
    pub fn shared_is_loaded(&self) -> bool {
        read_json::<String>(&self.folder.join("shared.json")).is_some_and(|digest| digest == self.plan.digest)
    }

    /// Records that the flows shared by units are in the cache.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn set_shared_loaded(&self) -> Result<(), ExperimentError> {
        write_json(&self.folder.join("shared.json"), &self.plan.digest)
    }

    /// Returns the Slurm submissions, oldest first.
    pub fn submissions(&self) -> Vec<Submission> {
        read_json(&self.folder.join("submissions.json")).unwrap_or_default()
    }

    /// Appends a Slurm submission.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn add_submission(&self, submission: Submission) -> Result<(), ExperimentError> {
        let mut all = self.submissions();
        all.push(submission);
        write_json(&self.folder.join("submissions.json"), &all)
    }
}

/// A job array: its element with index `i` computes unit `first + i` or, if elements compute several units, the `i`th
/// chunk of `units`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Slurm's ID of the array job.
    pub job: u64,
    /// The unit of index 0.
    pub first: usize,
    /// The units that were submitted.
    pub units: Vec<usize>,
    /// Number of units per array element.
    #[serde(default = "one")]
    pub per_task: usize,
}

fn one() -> usize {
    1
}

impl Submission {
    /// Returns the elements of the array: index and units.
    pub fn tasks(&self) -> impl Iterator<Item = (usize, &[usize])> {
        let per_task = self.per_task.max(1);
        let index =
            move |(number, units): (usize, &[usize])| if per_task == 1 { units[0] - self.first } else { number };
        self.units.chunks(per_task).enumerate().map(move |(number, units)| (index((number, units)), units))
    }
}

fn read_all(paths: &[PathBuf], overrides: &Overrides) -> Result<Vec<Experiment>, ExperimentError> {
    paths.iter().map(|path| Ok(read_experiment(path, overrides)?)).collect()
}

fn planned_units(experiments: &[Experiment]) -> Vec<PlannedUnit> {
    let of = |(experiment, resolved): (usize, &Experiment)| {
        units(resolved).into_iter().map(|unit| PlannedUnit { experiment, unit }).collect::<Vec<_>>()
    };
    experiments.iter().enumerate().flat_map(of).collect()
}

/// Returns the name of the results folder for a single experiment; for several, their names followed by the shared
/// parts.
fn plan_name(experiments: &[Experiment], overrides: &Overrides) -> String {
    let changed = overrides.change_results();
    match experiments {
        [one] => results_name(one, changed),
        all => {
            let names: Vec<&str> = all.iter().map(|experiment| experiment.name.as_str()).collect();
            let data = overrides.data.join("+");
            let size = overrides.size.as_deref().unwrap_or("full");
            let experiments = names.join("+");
            let name = [experiments.as_str(), data.as_str(), size].into_iter().filter(|part| !part.is_empty());
            let name = name.collect::<Vec<_>>().join("-");
            let resolved: Vec<String> = all.iter().map(|experiment| experiment.resolved.to_string()).collect();
            if changed { format!("{name}-{}", short_hash(&resolved)) } else { name }
        }
    }
}

/// Returns the machine's name, or `unknown` if the system does not provide it.
pub fn host() -> String {
    let slurm = std::env::var("SLURMD_NODENAME").ok();
    let kernel = || Some(std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_owned());
    slurm.or_else(kernel).or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_else(|| "unknown".to_owned())
}
