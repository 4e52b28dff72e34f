//! A run in units: computed by parallel processes on this machine, or by Slurm, and then assembled like any other run,
//! with every fit taken from the cache.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use super::output::count;
use super::run::{Ended, InUnits, cache, generate_captures, settings};
use super::{Verdict, progress};
use crate::experiment::{self, Cache, PlanOptions, PlannedRun, Queue, Settings, SlurmOptions, UnitRecord, UnitState};
use crate::progress::Progress;

/// Interval between checks of local processes.
const LOCAL_PAUSE: Duration = Duration::from_millis(50);
/// Interval between queries of Slurm, which serves others too.
const SLURM_PAUSE: Duration = Duration::from_secs(3);

/// Computes the missing units and assembles the run, unless that is left to Slurm.
pub(super) fn compute(project: &Path, planned: &PlannedRun, how: &InUnits, json: bool) -> anyhow::Result<Verdict> {
    let progress = progress::for_standard_error();
    match how {
        InUnits::Local { jobs, verify } => local(project, planned, *jobs, *verify, progress.as_ref())?,
        InUnits::Slurm { options, wait } => {
            if !slurm(project, planned, options, *wait, progress.as_ref())? {
                return Ok(Verdict::Done);
            }
        }
    }
    gather(project, planned, progress.as_ref(), json)
}

/// Loads the flows that units share into the cache.
pub(super) fn load_shared(
    project: &Path,
    planned: &PlannedRun,
    cache: Cache,
    progress: &dyn Progress,
) -> anyhow::Result<()> {
    // Flows do not depend on the device.
    let settings = settings(project, "cpu", "f32", cache)?;
    for experiment in &planned.experiments {
        experiment::load_shared(experiment, &settings, progress)?;
    }
    Ok(planned.set_shared_loaded()?)
}

/// Computes one unit in this process, and stores its record.
pub(super) fn run_unit(project: &Path, planned: &PlannedRun, number: usize) -> anyhow::Result<Verdict> {
    let unit = planned.units.get(number).with_context(|| {
        format!("{} has {}, but none with number {number}", planned.plan.name, count(planned.units.len(), "unit"))
    })?;
    let PlanOptions { device, precision, checkpoint_seconds, .. } = &planned.plan.options;
    let cache = cache(project).with_checkpoint_interval(Duration::from_secs(*checkpoint_seconds));
    // A unit without such a model runs anywhere, also if the plan demands a GPU.
    let (device, precision) =
        if planned.can_use_gpu(number) { (device.as_str(), precision.as_str()) } else { ("cpu", "f32") };
    let settings = settings(project, device, precision, cache)?;
    let description = settings.device.describe()?;
    let provenance = experiment::Provenance::collect(project, &description);
    let mut record = planned.begin(number, &experiment::device_name(settings.device), provenance);
    planned.store(number, &record, &settings.cache)?;
    let started = std::time::Instant::now();
    let progress = progress::for_standard_error();
    let result = experiment::run_unit(&planned.experiments[unit.experiment], &unit.unit, &settings, progress.as_ref());
    record.wall_seconds = started.elapsed().as_secs_f64();
    record.stages = settings.cache.counts();
    match &result {
        Ok(outcome) => {
            record.state = if outcome.failures.is_empty() { UnitState::Done } else { UnitState::Failed };
            record.problem = outcome.failures.first().cloned();
            record.fits.clone_from(&outcome.fits);
            record.failed_fits.clone_from(&outcome.failures);
        }
        Err(error) => {
            record.state = UnitState::Failed;
            record.problem = Some(error.to_string());
        }
    }
    planned.store(number, &record, &settings.cache)?;
    Ok(if result?.failures.is_empty() { Verdict::Done } else { Verdict::CheckFailed })
}

/// Child processes that are killed when this is dropped.
struct Children(Vec<(usize, Child)>);

impl Drop for Children {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn local(
    project: &Path,
    planned: &PlannedRun,
    jobs: usize,
    verify: bool,
    progress: &dyn Progress,
) -> anyhow::Result<()> {
    if verify {
        // The processes of units then find the new checksums.
        load_shared(project, planned, cache(project).verifying(true), progress)?;
    }
    let missing = planned.missing(&cache(project));
    if missing.is_empty() {
        return Ok(());
    }
    load_shared(project, planned, cache(project), progress)?;
    let threads = (rayon::current_num_threads() / jobs).max(1);
    let finished = planned.units.len() - missing.len();
    progress.begin(
        &format!("{}: {}, {finished} already done", planned.plan.name, count(planned.units.len(), "unit")),
        planned.units.len() as u64,
    );
    progress.advance(finished as u64);
    let mut waiting = missing.iter().copied().rev().collect::<Vec<_>>();
    let mut running = Children(Vec::new());
    let mut failed: BTreeMap<usize, String> = BTreeMap::new();
    while !waiting.is_empty() || !running.0.is_empty() {
        while running.0.len() < jobs
            && let Some(number) = waiting.pop()
        {
            running.0.push((number, start(project, planned, number, threads)?));
            let names: Vec<String> = running.0.iter().map(|(number, _)| planned.unit_name(*number)).collect();
            progress.note(&names.join("; "));
        }
        std::thread::sleep(LOCAL_PAUSE);
        let mut index = 0;
        while let Some((number, child)) = running.0.get_mut(index) {
            let number = *number;
            match child.try_wait().context("cannot check a process of this run")? {
                None => index += 1,
                Some(status) => {
                    running.0.remove(index);
                    let ended = planned.ended(number, &cache(project));
                    if ended.is_none() {
                        let recorded = planned.record(number).and_then(|record| record.problem);
                        let log = || format!("its process ended with {status}; see {}", planned.log(number).display());
                        let problem = recorded.unwrap_or_else(log);
                        progress.warn(&format!("{} failed: {problem}", planned.unit_name(number)));
                        failed.insert(number, problem);
                    }
                    progress.advance(1);
                }
            }
        }
    }
    progress.end();
    if let Some((&number, problem)) = failed.first_key_value() {
        anyhow::bail!(
            "{} of {} units failed, the first of them {}: {problem}; the others are kept; repeat the command to retry \
             only what is missing",
            failed.len(),
            planned.units.len(),
            planned.unit_name(number)
        );
    }
    Ok(())
}

/// Starts a process of this program that computes a unit and writes to the unit's log. It exits when its standard
/// input, a pipe from this process, is closed: whatever signal kills this process, the other does not keep running.
fn start(project: &Path, planned: &PlannedRun, number: usize, threads: usize) -> anyhow::Result<Child> {
    let path = planned.log(number);
    let log = || -> std::io::Result<std::fs::File> {
        if let Some(folder) = path.parent() {
            crate::storage::create_folder(folder)?;
        }
        std::fs::File::create(&path)
    };
    let log = log().with_context(|| path.display().to_string())?;
    let program = crate::storage::program().context("this program's path")?;
    Command::new(&program[0])
        .args(&program[1..])
        .arg("--project")
        .arg(project)
        .args(["--threads", &threads.to_string(), "sweep", "unit", "--number", &number.to_string(), "--attached"])
        .arg(&planned.plan.name)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start a process of this run")
}

/// Submits what is missing and not in the queue; returns whether it waited until everything is done.
fn slurm(
    project: &Path,
    planned: &PlannedRun,
    options: &SlurmOptions,
    wait: bool,
    progress: &dyn Progress,
) -> anyhow::Result<bool> {
    let cache = cache(project);
    let missing = planned.missing(&cache);
    if missing.is_empty() {
        return Ok(true);
    }
    let name = &planned.plan.name;
    let queue = Queue::ask()?;
    let queued = queue.units(&planned.submissions());
    let new: Vec<usize> = missing.iter().copied().filter(|number| !queued.contains_key(number)).collect();
    let folder = std::path::absolute(project)?;
    if !new.is_empty() {
        crate::storage::create_folder(&planned.folder().join("log"))?;
        let last = experiment::submit(planned, &folder, &new, options, &queue, !wait)?;
        let what = if wait { "the last array" } else { "the results are collected by" };
        tell!("{name}: {} of {} units submitted to Slurm; {what} job {last}", new.len(), planned.units.len());
    } else {
        tell!("{name}: {} missing, already in Slurm's queue", count(missing.len(), "unit"));
    }
    if !wait {
        tell!("`etcbench sweep status {name}` shows their progress; repeat the command to resubmit what failed");
        return Ok(false);
    }
    progress.begin(&format!("{name}: {}", count(planned.units.len(), "unit")), planned.units.len() as u64);
    let mut left = missing;
    progress.advance((planned.units.len() - left.len()) as u64);
    // A file system may show what another machine wrote with a delay.
    let mut idle = 0;
    while !left.is_empty() && idle < 3 {
        std::thread::sleep(SLURM_PAUSE);
        let before = left.len();
        left.retain(|&number| planned.ended(number, &cache).is_none());
        progress.advance((before - left.len()) as u64);
        match Queue::ask() {
            Ok(queue) => {
                let units = queue.units(&planned.submissions());
                let running = units.values().filter(|state| *state == "running").count();
                progress.note(&format!("{running} running, {} waiting", units.len() - running));
                idle = if units.is_empty() { idle + 1 } else { 0 };
            }
            Err(error) => progress.note(&error.to_string()),
        }
    }
    progress.end();
    if let Some(&number) = left.first() {
        let problem = planned.record(number).and_then(|record| record.problem);
        anyhow::bail!(
            "{} of {} units are missing and no longer in Slurm's queue, the first of them {}: {}; the others are kept; \
             repeat the command to submit only what is missing",
            left.len(),
            planned.units.len(),
            planned.unit_name(number),
            problem.unwrap_or_else(|| format!("it left no error; see {}", planned.folder().join("log").display()))
        );
    }
    Ok(true)
}

/// Assembles a run whose units are all done: writes its results and prints its tables.
pub(super) fn gather(
    project: &Path,
    planned: &PlannedRun,
    progress: &dyn Progress,
    json: bool,
) -> anyhow::Result<Verdict> {
    let cache = cache(project);
    let ended: Vec<Option<UnitRecord>> = (0..planned.units.len()).map(|number| planned.ended(number, &cache)).collect();
    let done: Vec<&UnitRecord> = ended.iter().flatten().collect();
    if done.len() < planned.units.len() {
        anyhow::bail!(
            "{}: {} of {} units are done; `etcbench sweep status {0}` shows the others",
            planned.plan.name,
            done.len(),
            planned.units.len()
        );
    }
    let mut compared: Vec<&UnitRecord> = done.clone();
    if (0..done.len()).any(|number| planned.can_use_gpu(number)) {
        let numbered = done.iter().enumerate().filter(|(number, _)| planned.can_use_gpu(*number));
        compared = numbered.map(|(_, record)| *record).collect();
    }
    if let Some(pair) = compared.windows(2).find(|pair| pair[0].device != pair[1].device) {
        anyhow::bail!(
            "{}: deep models trained on {} ({}) and on {} ({}); results of different devices cannot be combined in one \
             table; choose one with --device",
            planned.plan.name,
            pair[0].device,
            pair[0].host,
            pair[1].device,
            pair[1].host
        );
    }
    let device = compared[0].device.parse().map_err(anyhow::Error::msg)?;
    let settings = Settings {
        project: project.to_owned(),
        device,
        device_reason: None,
        cache,
        generator: generate_captures,
        take_failures: true,
        memory_limit: None,
    };
    let mut ended = Ended::default();
    for (index, experiment) in planned.experiments.iter().enumerate() {
        let records = planned.units.iter().zip(&done).filter(|(unit, _)| unit.experiment == index);
        let records: Vec<UnitRecord> = records.map(|(_, record)| (*record).clone()).collect();
        let mut run = experiment::run(experiment, &settings, progress)?;
        run.invocation = planned.plan.options.invocation.clone();
        let mut devices: Vec<&str> = records.iter().map(|record| record.provenance.device.as_str()).collect();
        devices.sort_unstable();
        devices.dedup();
        run.provenance.device = devices.join("; ");
        let models = planned.plan.options.save_models.then_some((&settings, progress));
        let name = experiment::results_name(experiment, planned.plan.overrides.change_results());
        let folder = experiment::results_folder(project).join(name);
        ended.write(project, &run, &folder, &records, models, planned.plan.options.overwrite)?;
    }
    ended.tell(json)
}
