//! A run in units, on disk: what is to be computed, and what became of each unit. Lies in `results/sweeps/NAME/`:
//! `plan.json`, `units/NUMBER.json` (one per unit that was begun), `shared.json`, `log/`, and, with Slurm,
//! `submissions.json`.
//!
//! A unit is done when its record says so and its fits are in the cache; nobody's word alone counts. Records of
//! another plan (another experiment, version or device) do not count either. A record of a unit that is done is never
//! replaced by one that it began or failed, so that a process that was given up and lives on does no harm.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::flows::FLOWS_VERSION;
use super::run::short_hash;
use super::{
    Cache, Experiment, ExperimentError, Invocation, Overrides, Provenance, Unit, are_cached, read_experiment,
    results_folder, results_name, units,
};
use etcbench_feature::FEATURES_VERSION;
use etcbench_model::ModelKind;
use etcbench_storage as storage;
use etcbench_storage::Determinants;

/// What is to be computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The plan's name: that of its folder.
    pub name: String,
    /// The experiment files, absolute.
    pub experiments: Vec<PathBuf>,
    /// What the command line changes of them.
    pub overrides: Overrides,
    /// How it is to be computed.
    #[serde(flatten)]
    pub options: PlanOptions,
    /// Hash of all that decides what units compute, so that no record of anything else is taken for theirs.
    pub digest: String,
}

/// How a plan's units are to be computed, and what is to be kept of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanOptions {
    /// Where deep models train, as the command line says it: `auto`, or the name of a device.
    pub device: String,
    /// How a CUDA device takes matrix products.
    pub precision: String,
    /// How often a deep model's training is saved, in seconds; 0 after every batch.
    pub checkpoint_seconds: u64,
    /// Whether the trained models are written into the run's folder.
    pub save_models: bool,
    /// Whether a run with other results that is there already may be replaced.
    #[serde(default)]
    pub overwrite: bool,
    /// How it was asked for, and when.
    #[serde(default)]
    pub invocation: Invocation,
}

/// A unit of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedUnit {
    /// Index of its experiment in the plan.
    pub experiment: usize,
    /// Which variant and seed.
    pub unit: Unit,
}

/// How far a unit came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    /// It was begun, and nothing was heard of it since.
    Begun,
    /// It ended with an error.
    Failed,
    /// Its fits were put into the cache.
    Done,
}

/// `units/NUMBER.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// The plan's digest.
    pub digest: String,
    /// The experiment's name.
    pub experiment: String,
    /// Which unit.
    #[serde(flatten)]
    pub unit: Unit,
    /// How far it came.
    pub state: UnitState,
    /// Why it failed.
    pub problem: Option<String>,
    /// Names of its fits in the cache.
    pub fits: Vec<String>,
    /// Why fits of external models failed, which fails the unit but is a result of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_fits: Vec<String>,
    /// The name of the device that deep models trained on.
    pub device: String,
    /// The machine and program.
    pub provenance: Provenance,
    /// The machine's name.
    pub host: String,
    /// The process on it.
    pub process: u32,
    /// The job, where Slurm started it: array, index in it.
    pub slurm: Option<(u64, u64)>,
    /// When it was begun, seconds since the Unix epoch.
    pub begun: u64,
    /// Elapsed time in seconds; what was in the cache already took none.
    pub wall_seconds: f64,
}

/// A plan with its experiments, units and folder.
pub struct PlannedRun {
    /// The plan.
    pub plan: Plan,
    /// The experiments, resolved.
    pub experiments: Vec<Experiment>,
    /// Their units, one after another.
    pub units: Vec<PlannedUnit>,
    folder: PathBuf,
}

/// The folder that holds the plans.
pub fn plans_folder(project: &Path) -> PathBuf {
    results_folder(project).join("sweeps")
}

/// The names of all plans of a project, sorted.
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
    /// Experiments that cannot be read, a folder that cannot be written.
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

    /// As [`PlannedRun::new`], without storing the plan.
    ///
    /// # Errors
    /// Experiments that cannot be read.
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
    /// A plan that is not there, or whose experiments have changed since.
    pub fn read(project: &Path, name: &str) -> Result<Self, ExperimentError> {
        let folder = plans_folder(project).join(name);
        let path = folder.join("plan.json");
        let problem = |problem: String| ExperimentError::Store { path: path.clone(), problem };
        let plan: Plan = read_json(&path)
            .ok_or_else(|| problem(format!("there is no such sweep (known: {})", plan_names(project).join(", "))))?;
        let experiments = read_all(&plan.experiments, &plan.overrides)?;
        let planned = Self { units: planned_units(&experiments), plan, experiments, folder };
        if planned.digest() != planned.plan.digest {
            return Err(problem(
                "the experiment, etcbench, or what an external model computes with has changed since this was planned, or \
                 is another here; give the command that planned it again"
                    .to_owned(),
            ));
        }
        Ok(planned)
    }

    fn digest(&self) -> String {
        let resolved: Vec<String> = self.experiments.iter().map(|experiment| experiment.resolved.to_string()).collect();
        let names: Vec<&str> = self.experiments.iter().map(|experiment| experiment.name.as_str()).collect();
        // What is kept and how often, and how it was asked for, changes no result.
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

    /// The plan's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The log of a unit that this machine runs.
    pub fn log(&self, number: usize) -> PathBuf {
        self.folder.join("log").join(format!("{number:05}.txt"))
    }

    fn record_path(&self, number: usize) -> PathBuf {
        self.folder.join("units").join(format!("{number:05}.json"))
    }

    /// `table2, as_published, seed 3`.
    pub fn unit_name(&self, number: usize) -> String {
        let PlannedUnit { experiment, unit } = &self.units[number];
        format!("{}, {}, seed {}", self.experiments[*experiment].name, unit.variant, unit.seed)
    }

    /// The record of a unit of this plan; none where it was never begun.
    pub fn record(&self, number: usize) -> Option<UnitRecord> {
        let record: UnitRecord = read_json(&self.record_path(number))?;
        let planned = self.units.get(number)?;
        (record.digest == self.plan.digest && record.unit == planned.unit).then_some(record)
    }

    /// The record of a unit whose fits are all in the cache.
    pub fn done(&self, number: usize, cache: &Cache) -> Option<UnitRecord> {
        self.record(number).filter(|record| record.state == UnitState::Done && are_cached(cache, &record.fits))
    }

    /// The record of a unit that is done, or failed in nothing but fits of external models.
    pub fn ended(&self, number: usize, cache: &Cache) -> Option<UnitRecord> {
        let failed_as_result = |record: &UnitRecord| {
            record.state == UnitState::Failed && !record.failed_fits.is_empty() && are_cached(cache, &record.fits)
        };
        self.done(number, cache).or_else(|| self.record(number).filter(failed_as_result))
    }

    /// The units that are not done.
    pub fn missing(&self, cache: &Cache) -> Vec<usize> {
        (0..self.units.len()).filter(|&number| self.done(number, cache).is_none()).collect()
    }

    /// A record of a unit that begins now, in this process.
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
        }
    }

    /// Stores a unit's record, unless it says less than one that is there.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn store(&self, number: usize, record: &UnitRecord, cache: &Cache) -> Result<(), ExperimentError> {
        if record.state != UnitState::Done && self.done(number, cache).is_some() {
            return Ok(());
        }
        write_json(&self.record_path(number), record)
    }

    /// Whether the flows that units share were put into the cache once; they are computed again where they are gone.
    pub fn shared_is_loaded(&self) -> bool {
        read_json::<String>(&self.folder.join("shared.json")).is_some_and(|digest| digest == self.plan.digest)
    }

    /// Notes that the flows that units share are in the cache.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn set_shared_loaded(&self) -> Result<(), ExperimentError> {
        write_json(&self.folder.join("shared.json"), &self.plan.digest)
    }

    /// What was submitted to Slurm, the oldest first.
    pub fn submissions(&self) -> Vec<Submission> {
        read_json(&self.folder.join("submissions.json")).unwrap_or_default()
    }

    /// Adds to what was submitted.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn add_submission(&self, submission: Submission) -> Result<(), ExperimentError> {
        let mut all = self.submissions();
        all.push(submission);
        write_json(&self.folder.join("submissions.json"), &all)
    }
}

/// One job array: its element with index `i` computes unit `first + i`, or, where elements compute several, the `i`th so many of
/// its units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Slurm's number of the array.
    pub job: u64,
    /// The unit of index 0.
    pub first: usize,
    /// The units that were submitted.
    pub units: Vec<usize>,
    /// How many units an element computes.
    #[serde(default = "one")]
    pub per_task: usize,
}

fn one() -> usize {
    1
}

impl Submission {
    /// The elements of the array: index and units.
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

/// The name of the results folder of the one experiment; of several, their names before what they share.
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

/// The machine's name; `unknown` where the system does not tell.
pub fn host() -> String {
    let slurm = std::env::var("SLURMD_NODENAME").ok();
    let kernel = || Some(std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_owned());
    slurm.or_else(kernel).or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_else(|| "unknown".to_owned())
}
