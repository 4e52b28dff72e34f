//! `etcbench run` and `etcbench reproduce`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::output::{JsonOption, Verbosity};
use super::run_summary::RunSummary;
use super::{Verdict, dry_run, invocation, models_help, output, progress, run_summary, units, with_models};
use crate::evaluate::Metric;
use crate::experiment::{
    self, Cache, Experiment, Overrides, PlanOptions, PlannedRun, Settings, SlurmOptions, UnitRecord,
};
use crate::model::Precision;
use crate::progress::Progress;
use crate::project::experiment_file;
use crate::report;
use crate::runs;

/// Options of both subcommands.
#[derive(Args)]
pub(super) struct Options {
    /// Use this dataset instead of the file's; `synth` generates its captures. Repeat for several.
    #[arg(long, value_name = "NAME")]
    data: Vec<String>,
    /// A size in experiments/sizes, such as `demo` or `ci`; the file's own sizes by default.
    #[arg(long, value_name = "NAME")]
    size: Option<String>,
    /// Override any key of the experiment, such as feature.packets=8. Repeat for several.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Number of seeds (0, 1, ...), or a list such as 3,5,8.
    #[arg(long, value_name = "N|LIST", value_parser = parse_seeds)]
    seeds: Option<Seeds>,
    #[arg(long, value_name = "LIST", value_delimiter = ',', help = models_help())]
    models: Vec<String>,
    /// Only these variants of the experiment, such as random_split.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    variants: Vec<String>,
    /// Where deep models train: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto", value_name = "DEVICE", value_parser = parse_device)]
    device: DeviceChoice,
    /// Precision of matrix products on a CUDA device: f32, tf32 or bf16.
    #[arg(long, default_value = "f32", value_name = "NAME")]
    precision: Precision,
    /// How often a deep model's training is saved, so that a stopped run can resume; 0 saves after every batch.
    #[arg(long, default_value_t = experiment::CHECKPOINT_INTERVAL.as_secs(), value_name = "SECONDS")]
    checkpoint_seconds: u64,
    /// Refuse to start if the expected memory exceeds this, such as 8G; by default, the free memory.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with_all = ["jobs", "slurm"])]
    memory_limit: Option<u64>,
    /// Recompute everything and store nothing in results/cache.
    #[arg(long)]
    no_cache: bool,
    /// Read every capture to check that it is unchanged; by default, a file with the same size, times and inode counts
    /// as unchanged.
    #[arg(long, conflicts_with_all = ["no_cache", "slurm"])]
    verify: bool,
    /// Write every trained model into the run's folder `models`, ready for `etcbench classify`.
    #[arg(long, conflicts_with = "no_cache")]
    save_models: bool,
    /// Replace the stored run even if its results differ; by default it is kept as NAME.1, NAME.2, ...
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    json: JsonOption,
    /// Read the data and show what would be computed: the resolved experiment, its flows and fits, memory and time, or
    /// the jobs of --slurm. Nothing is trained or submitted.
    #[arg(long)]
    dry_run: bool,
    /// Compute variants and seeds in this many parallel processes, which share the threads.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), conflicts_with = "no_cache")]
    jobs: Option<u16>,
    #[command(flatten)]
    slurm: SlurmArguments,
}

/// How a run is submitted to Slurm.
#[derive(Args)]
#[command(next_help_heading = "Slurm")]
struct SlurmArguments {
    /// Compute variants and seeds as Slurm job arrays; repeat the command to submit missing units or to finish the run.
    #[arg(long, conflicts_with_all = ["jobs", "no_cache"])]
    slurm: bool,
    /// Wait until everything is computed, then print the tables.
    #[arg(long, requires = "slurm")]
    wait: bool,
    /// Partition of all jobs.
    #[arg(long, requires = "slurm", value_name = "NAME")]
    partition: Option<String>,
    /// Partition of the jobs that need no GPU: reading the flows before the units, units whose models all run on the
    /// CPU, and collecting the results.
    #[arg(long, requires = "slurm", value_name = "NAME")]
    cpu_partition: Option<String>,
    /// Time limit of each job, such as 2:00:00.
    #[arg(long, requires = "slurm", value_name = "TIME")]
    time: Option<String>,
    /// Memory of each job, such as 16G.
    #[arg(long, requires = "slurm", value_name = "SIZE")]
    memory: Option<String>,
    /// CPUs of each job.
    #[arg(long, requires = "slurm", value_name = "N")]
    cpus: Option<u32>,
    /// Units that each task of an array computes, one after another; useful for many short units.
    #[arg(long, requires = "slurm", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    units_per_task: Option<u16>,
    /// Maximum number of tasks that run at the same time, separately for the tasks on GPUs and those on CPUs alone.
    #[arg(long, requires = "slurm", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tasks_at_once: Option<u32>,
    /// GPUs of each task with a model that can use one, such as 1; deep models then train only on a GPU.
    #[arg(long, requires = "slurm", value_name = "N")]
    gpus: Option<String>,
    /// Any other option of sbatch, such as --sbatch=--account=lab. Repeat for several.
    #[arg(long = "sbatch", requires = "slurm", value_name = "OPTION", allow_hyphen_values = true)]
    others: Vec<String>,
}

/// The stored run that a subcommand is about.
#[derive(Args)]
pub(super) struct Target {
    /// The experiment, such as table2, or one of its runs, such as table2-lab-demo.
    pub experiment: String,
    /// The dataset it ran on, if not the file's own. Repeat for several.
    #[arg(long, value_name = "NAME")]
    pub data: Vec<String>,
    /// The size it ran at, if not the file's own.
    #[arg(long, value_name = "NAME")]
    pub size: Option<String>,
}

/// `etcbench run`.
#[derive(Args)]
#[command(after_help = with_models("Examples:
  etcbench run experiments/ustc-traffic.toml --seeds 3
  etcbench run experiments/ablation-n.toml --data synth --size demo
  etcbench run experiments/ablation-n.toml --variants feature.packets=4 --jobs 4
  etcbench run experiments/ablation-n.toml --slurm --partition gpu --gpus 1 --time 4:00:00 --memory 32G
  etcbench run experiments/ablation-n.toml --slurm --cpu-partition cpu --units-per-task 4 --tasks-at-once 20 --dry-run
  etcbench run table2 --data lab --size demo --dry-run
  etcbench run experiments/tuning.toml --models {MODEL},{OTHER}
  etcbench run experiments/ustc-traffic.toml --models {OTHER} --seeds 1 --save-models
  etcbench run experiments/table2.toml --set feature.packets=8 --models {MODEL},{OTHER}

Results go to results/EXPERIMENT-DATASET-SIZE. An existing run with different results is kept as ...SIZE.1, .2 and so on
unless --overwrite is given; your own files in the folder stay."))]
pub(super) struct RunArguments {
    /// The experiment, such as table2, or its file.
    experiment: PathBuf,
    #[command(flatten)]
    options: Options,
}

impl RunArguments {
    #[cfg(test)]
    pub(super) fn experiment(&self) -> &Path {
        &self.experiment
    }
}

/// `etcbench reproduce`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench reproduce table2
  etcbench reproduce all --data synth --size demo
  etcbench reproduce all --slurm --cpus 8
  etcbench reproduce table2 --set feature.packets=8 --seeds 3")]
pub(super) struct ReproduceArguments {
    /// table1 to table5, or all.
    #[arg(value_parser = ["table1", "table2", "table3", "table4", "table5", "all"])]
    table: String,
    #[command(flatten)]
    options: Options,
}

/// Seeds given on the command line.
#[derive(Clone)]
pub(super) struct Seeds(pub Vec<u64>);

pub(super) fn parse_seeds(text: &str) -> Result<Seeds, String> {
    let problem = |_| format!("`{text}` is neither a number of seeds nor a list such as 3,5,8");
    // `3,` is the single seed 3, whereas `3` is three seeds.
    let list = text.strip_suffix(',').unwrap_or(text);
    if let Some(list) = text.contains(',').then(|| list.split(',').map(|seed| seed.trim().parse::<u64>())) {
        return Ok(Seeds(list.collect::<Result<_, _>>().map_err(problem)?));
    }
    match text.parse::<u64>().map_err(problem)? {
        0 => Err("at least one seed is needed".to_owned()),
        count @ 1..=1000 => Ok(Seeds((0..count).collect())),
        _ => Err(format!("{text} seeds exceed the maximum of 1000; for the single seed {text}, write {text},")),
    }
}

/// Parses a size in bytes: an integer number of KiB, MiB, GiB or TiB.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let problem = || format!("`{text}` is not a size such as 500M or 8G");
    let unit = text.chars().last().and_then(|unit| "KMGT".find(unit.to_ascii_uppercase())).ok_or_else(problem)?;
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| problem())?;
    count.checked_mul(1 << (10 * (unit + 1))).filter(|&bytes| bytes > 0).ok_or_else(problem)
}

impl Options {
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            data: self.data.clone(),
            size: self.size.clone(),
            assignments: self.assignments.clone(),
            seeds: self.seeds.as_ref().map(|seeds| seeds.0.clone()),
            models: self.models.clone(),
            variants: self.variants.clone(),
            ladder: None,
        }
    }

    /// Returns how to compute a run in units; `None` if this process computes everything.
    pub(super) fn in_units(&self) -> Option<InUnits> {
        let slurm = &self.slurm;
        if slurm.slurm {
            let options = SlurmOptions {
                partition: slurm.partition.clone(),
                time: slurm.time.clone(),
                memory: slurm.memory.clone(),
                cpus: slurm.cpus,
                gpus: slurm.gpus.clone(),
                cpu_partition: slurm.cpu_partition.clone(),
                units_per_task: slurm.units_per_task.unwrap_or(1).into(),
                tasks_at_once: slurm.tasks_at_once,
                others: slurm.others.clone(),
            };
            return Some(InUnits::Slurm { options, wait: slurm.wait });
        }
        self.jobs.map(|jobs| InUnits::Local { jobs: jobs.into(), verify: self.verify })
    }

    /// Returns whether JSON output is requested.
    pub(super) fn as_json(&self) -> bool {
        self.json.is_asked()
    }

    /// Returns the settings of a run in this process.
    ///
    /// # Errors
    /// A device that is not available.
    pub(super) fn settings(&self, project: &Path) -> anyhow::Result<Settings> {
        let (device, precision) = self.device_names();
        let cache = if self.no_cache { Cache::disabled() } else { cache(project) }
            .with_checkpoint_interval(Duration::from_secs(self.checkpoint_seconds))
            .verifying(self.verify);
        Ok(Settings { memory_limit: self.memory_limit, ..settings(project, &device, precision, cache)? })
    }

    /// Returns the names of the device and precision for a plan.
    pub(super) fn device_names(&self) -> (String, &'static str) {
        let device = match self.device {
            // A node without the requested GPU must not fall back to the CPU.
            DeviceChoice::Auto if self.slurm.gpus.is_some() => "cuda".to_owned(),
            DeviceChoice::Auto => "auto".to_owned(),
            DeviceChoice::Chosen(device) => device.name(),
        };
        (device, self.precision.name())
    }
}

/// Where the units are computed.
pub(super) enum InUnits {
    /// In processes on this machine; `verify` reads the captures again first.
    Local { jobs: usize, verify: bool },
    /// By Slurm; `wait` waits for it to finish.
    Slurm { options: SlurmOptions, wait: bool },
}

pub(super) use crate::runs::{DeviceChoice, cache, generate_captures, parse_device, settings};

/// Runs one experiment file.
pub(super) fn run(project: &Path, arguments: &RunArguments) -> anyhow::Result<Verdict> {
    let options = &arguments.options;
    let path = experiment_file(project, &arguments.experiment)?;
    run_all(project, &[path], options, &options.overrides())
}

/// Runs the paper's tables.
pub(super) fn reproduce(project: &Path, arguments: &ReproduceArguments) -> anyhow::Result<Verdict> {
    let tables: Vec<String> = match arguments.table.as_str() {
        "all" => (1..=5).map(|number| format!("table{number}")).collect(),
        table => vec![table.to_owned()],
    };
    let paths: Vec<PathBuf> =
        tables.iter().map(|table| experiment_file(project, Path::new(table))).collect::<anyhow::Result<_>>()?;
    run_all(project, &paths, &arguments.options, &arguments.options.overrides())
}

/// Runs experiment files with the given options and overrides.
pub(super) fn run_all(
    project: &Path,
    paths: &[PathBuf],
    options: &Options,
    overrides: &Overrides,
) -> anyhow::Result<Verdict> {
    if options.save_models && overrides.ladder.is_some() {
        anyhow::bail!(
            "--save-models does not work with ladders, which fit many models to parts of the flows; use `etcbench run`"
        );
    }
    // Read every file and check for its data before running the first experiment.
    let experiments: Vec<Experiment> =
        paths.iter().map(|path| experiment::read_experiment(path, overrides)).collect::<Result<_, _>>()?;
    for experiment in &experiments {
        experiment::require_data(experiment, project)?;
    }
    if let Some(in_units) = options.in_units() {
        let (device, precision) = options.device_names();
        let plan_options = PlanOptions {
            device,
            precision: precision.to_owned(),
            checkpoint_seconds: options.checkpoint_seconds,
            save_models: options.save_models,
            overwrite: options.overwrite,
            invocation: invocation::begin(project, overrides),
        };
        if let (true, InUnits::Slurm { options: slurm, wait }) = (options.dry_run, &in_units) {
            let planned = PlannedRun::unwritten(project, paths, overrides, plan_options)?;
            return dry_run::slurm(project, &planned, slurm, !wait, options.json.is_asked());
        }
        if options.dry_run {
            return dry_run::runs(project, &experiments, overrides, options);
        }
        let planned = PlannedRun::new(project, paths, overrides, plan_options)?;
        return units::compute(project, &planned, &in_units, options.json.is_asked());
    }
    if options.dry_run {
        return dry_run::runs(project, &experiments, overrides, options);
    }
    let settings = options.settings(project)?;
    let progress = progress::for_standard_error();
    let mut ended = Ended::default();
    for experiment in &experiments {
        let invocation = invocation::begin(project, overrides);
        let mut run = experiment::run(experiment, &settings, progress.as_ref())?;
        run.invocation = invocation;
        let name = experiment::results_name(experiment, overrides.change_results());
        let folder = experiment::results_folder(project).join(name);
        let models = options.save_models.then_some((&settings, progress.as_ref()));
        ended.write(project, &run, &folder, &[], models, options.overwrite)?;
    }
    ended.tell(options.json.is_asked())
}

/// Finished runs, reported together at the end.
#[derive(Default)]
pub(super) struct Ended {
    summaries: Vec<RunSummary>,
    records: Vec<experiment::Record>,
}

impl Ended {
    /// Writes a run's folder with [`runs::write_results`], and reports where an older run is kept.
    pub(super) fn write(
        &mut self,
        project: &Path,
        run: &experiment::Run,
        folder: &Path,
        units: &[UnitRecord],
        models: Option<(&Settings, &dyn Progress)>,
        overwrite: bool,
    ) -> anyhow::Result<()> {
        let written = runs::write_results(project, run, folder, units, models, overwrite)?;
        if let Some(kept) = &written.kept {
            let advice = if overwrite { "" } else { " (--overwrite replaces them)" };
            tell!("{}: older, different results are kept in {}{advice}", run.experiment.name, kept.display());
        }
        let units = (!units.is_empty()).then_some(units.len());
        self.summaries.push(RunSummary::new(project, run, folder, units, written.kept, written.tables)?);
        self.records.extend(written.records);
        Ok(())
    }

    /// Prints the tables of all runs and the ranking of models over them, and reports how the runs ended.
    pub(super) fn tell(self, json: bool) -> anyhow::Result<Verdict> {
        // Models can only be ranked over several tables.
        let rankings = report::rankings(&self.records, Metric::MACRO_F1.key)?;
        let rankings: Vec<report::Table> = rankings.iter().map(report::ranking_table).collect();
        if json {
            run_summary::print_json(&self.summaries, &rankings);
        } else if output::verbosity() > Verbosity::Quiet {
            for table in self.summaries.iter().flat_map(RunSummary::tables).chain(&rankings) {
                say!("{}", output::table(table));
            }
        }
        run_summary::tell(&self.summaries);
        let failed: usize = self.summaries.iter().map(RunSummary::failed).sum();
        if failed == 0 {
            return Ok(Verdict::Done);
        }
        complain!(
            "{} failed; see the tables, and `failures` in run.json. Repeat the command to retry",
            output::count(failed, "fit")
        );
        Ok(Verdict::CheckFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_number_of_them_or_a_list() {
        let seeds = |text: &str| parse_seeds(text).map(|seeds| seeds.0);
        assert_eq!(seeds("3"), Ok(vec![0, 1, 2]));
        assert_eq!((seeds("3,"), seeds("3, 5")), (Ok(vec![3]), Ok(vec![3, 5])));
        for text in ["", ",", "0", "3,,", "x", "1001", "-1"] {
            assert!(seeds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(parse_size("500M"), Ok(500 << 20));
        assert_eq!(parse_size("8g"), Ok(8 << 30));
        for text in ["", "8", "G", "0G", "-1G", "1.5G", "99999999999999999T", "8é"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
