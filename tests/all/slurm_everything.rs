//! Everything at once on a real Slurm: tables 1 to 5 and a ladder with every rung, all models, ten seeds. Once undisturbed, once
//! while a node dies, units are killed and an external model crashes for one seed; both give the results of one machine,
//! and compute every output once. `scripts/slurm-everything` requests all of it; the tests run one table and two rungs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::common::cluster::Cluster;
use crate::common::{Project, contents, external};

/// Longer than everything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3 * 60 * 60);
/// Units that are killed, besides a node.
const KILLS: usize = 3;
/// The seed for which the external model `faulty` crashes.
const CRASHING_SEED: u64 = 3;

/// What is run.
struct Everything {
    models: Vec<&'static str>,
    commands: Vec<Vec<&'static str>>,
    units_per_task: &'static str,
    disturb: bool,
}

impl Everything {
    /// Returns all of it if the environment requests it, otherwise a small part.
    fn requested() -> Self {
        // A ladder has one seed unless the command states more.
        let with_options = |command: &[&'static str], seeds: &'static str| {
            [command, &["--data", "lab", "--size", "everything", "--seeds", seeds]].concat()
        };
        if std::env::var_os("ETCBENCH_SLURM_EVERYTHING").is_none() {
            return Self {
                models: vec!["random_forest", "attention_lstm", "faulty"],
                commands: vec![
                    with_options(&["reproduce", "table2"], "0,3"),
                    with_options(&["ladder", "table2", "--folds", "2", "--rungs", "flows,captures"], "0,3"),
                ],
                units_per_task: "2",
                disturb: false,
            };
        }
        Self {
            models: vec![
                "attention_lstm",
                "svm",
                "random_forest",
                "knn",
                "gradient_boosting",
                "sequence_cnn",
                "byte_cnn",
                "byte_transformer",
                "deep_fingerprinting",
                "flowpic_cnn",
                "ensemble",
                "decision_tree",
                "logistic_regression",
                "majority",
                "naive-bayes-cpp",
                "faulty",
            ],
            commands: vec![
                with_options(&["reproduce", "all"], "10"),
                with_options(&["ladder", "table3", "--folds", "2", "--test-data", "synth"], "10"),
            ],
            units_per_task: "5",
            disturb: true,
        }
    }

    fn project(&self) -> Project {
        let project = Project::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::os::unix::fs::symlink(root.join("data/lab"), project.path("data/lab")).unwrap();
        external::add_model(&project, "tests/fixtures/external/faulty", "faulty");
        external::add_model(&project, "models/naive-bayes-cpp", "naive-bayes-cpp");
        let size = fs::read_to_string(root.join("tests/fixtures/everything.toml")).unwrap();
        let models = format!("models = {:?}\n", self.models);
        let crash = format!("[model.faulty]\nfault = \"crash_seed\"\nwhere = \"{CRASHING_SEED}\"\n");
        project.write("experiments/sizes/everything.toml", format!("{models}{size}{crash}"));
        project
    }

    fn submit(&self, cluster: &Cluster, project: &Project) {
        for command in &self.commands {
            let slurm = ["--slurm", "--partition", "main", "--memory", "0", "--units-per-task", self.units_per_task];
            let output = cluster.etcbench(project, &[command, &slurm[..]].concat());
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{told}");
            print!("{told}");
        }
    }
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Returns the folders of a project's runs in units.
fn plans(project: &Project) -> Vec<PathBuf> {
    files(&project.path("results/sweeps"))
}

/// Returns the records of the units that were begun.
fn records(project: &Project) -> Vec<(PathBuf, Value)> {
    let paths = plans(project).into_iter().flat_map(|plan| files(&plan.join("units")));
    // A record that is still being written has a different name.
    let finished = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    finished.filter_map(|path| Some((path.clone(), json(&path)?))).collect()
}

/// Returns the processes of units that run.
fn running(project: &Project) -> Vec<u64> {
    let is_alive = |process: &u64| {
        let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        command.split(|&byte| byte == 0).any(|word| word == b"unit")
    };
    let begun = records(project).into_iter().filter(|(_, record)| record["state"] == "begun");
    begun.filter_map(|(_, record)| record["process"].as_u64().filter(is_alive)).collect()
}

/// Returns the process that started another.
fn parent(process: u64) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn kill(process: u64) {
    let _ = Command::new("kill").args(["-KILL", &process.to_string()]).output();
}

/// Kills the process of a unit; returns the seconds of work that were lost, unless the unit was just done.
fn kill_unit(project: &Project, process: u64) -> Option<u64> {
    kill(process);
    std::thread::sleep(Duration::from_millis(300));
    let (_, record) = records(project)
        .into_iter()
        .find(|(_, record)| record["state"] == "begun" && record["process"].as_u64() == Some(process))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Some(now - record["begun"].as_u64()?)
}

/// Returns the processes of units that run on a node, for a project.
fn on_node(project: &Project, node: &str) -> Vec<u64> {
    let place = project.path(".").canonicalize().unwrap().display().to_string();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(number) = process.file_name().to_string_lossy().parse::<u64>() else { continue };
        let has = |file: &str, wanted: &str| {
            let text = fs::read(process.path().join(file)).unwrap_or_default();
            text.split(|&byte| byte == 0).any(|word| word == wanted.as_bytes())
        };
        if has("cmdline", &place) && has("cmdline", "unit") && has("environ", &format!("SLURMD_NODENAME={node}")) {
            found.push(number);
        }
    }
    found
}

/// What was lost.
struct Lost {
    /// Seconds of work in killed processes.
    work: u64,
    /// How long a node was down.
    down: Duration,
}

/// Kills a node with everything that runs on it, then a few units on the other, and repairs the node.
fn disturb(cluster: &Cluster, project: &Project) -> Lost {
    let mut work = 0;
    let done = || records(project).iter().filter(|(_, record)| record["state"] == "done").count();
    cluster.within(PATIENCE, "units are done", || done() > 10);
    cluster.within(PATIENCE, "a unit runs on node2", || !on_node(project, "node2").is_empty());
    let start = Instant::now();
    cluster.kill_node("node2");
    cluster.within(PATIENCE, "a unit is lost with its node", || {
        let Some(&process) = on_node(project, "node2").first() else { return false };
        // What would report that the task ended, and its script, which would go on with the next unit.
        let script = parent(process);
        [script.and_then(parent), script].into_iter().flatten().for_each(kill);
        let lost = kill_unit(project, process);
        work += lost.unwrap_or_default();
        lost.is_some()
    });
    for _ in 0..KILLS {
        let before = done();
        cluster.within(PATIENCE, "a unit is killed", || {
            let lost = running(project).first().and_then(|&process| kill_unit(project, process));
            work += lost.unwrap_or_default();
            lost.is_some()
        });
        cluster.within(PATIENCE, "units go on", || done() > before + 4);
    }
    cluster.repair_node("node2");
    Lost { work, down: start.elapsed() }
}

/// What a run took.
struct Measured {
    name: &'static str,
    wall: Duration,
    arrays: usize,
    tasks: usize,
    other_jobs: usize,
    submitted: usize,
    /// Computed and reused outputs of the units that ended, or of the whole run on one machine, by stage.
    stages: BTreeMap<String, [u64; 2]>,
    /// Keys of the cache's entries by stage.
    entries: BTreeMap<String, BTreeSet<String>>,
    /// The runs, by name.
    runs: BTreeMap<String, BTreeMap<String, String>>,
    /// Failed fits.
    failures: usize,
}

impl Measured {
    fn new(name: &'static str, wall: Duration, project: &Project) -> Self {
        let mut measured = Self {
            name,
            wall,
            arrays: 0,
            tasks: 0,
            other_jobs: 0,
            submitted: 0,
            stages: BTreeMap::new(),
            entries: BTreeMap::new(),
            runs: BTreeMap::new(),
            failures: 0,
        };
        for plan in plans(project) {
            for submission in json(&plan.join("submissions.json")).unwrap().as_array().unwrap() {
                let units = submission["units"].as_array().unwrap().len();
                measured.arrays += 1;
                measured.tasks += units.div_ceil(submission["per_task"].as_u64().unwrap() as usize);
                measured.submitted += units;
            }
            let log = |path: &PathBuf| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                name.starts_with("flows-") || name.starts_with("gather-")
            };
            measured.other_jobs += files(&plan.join("log")).iter().filter(|path| log(path)).count();
        }
        let of_units: Vec<Value> = records(project).into_iter().map(|(_, record)| record["stages"].clone()).collect();
        let mut of_runs = Vec::new();
        for folder in files(&project.path("results")) {
            let Some(run) = json(&folder.join("run.json")) else { continue };
            measured.failures += run["failures"].as_array().map_or(0, Vec::len);
            of_runs.push(run["stages"].clone());
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            measured.runs.insert(name, contents(&folder));
        }
        let counted = if of_units.is_empty() { of_runs } else { of_units };
        for (stage, count) in counted.iter().filter_map(Value::as_object).flatten() {
            let sums = measured.stages.entry(stage.clone()).or_default();
            sums[0] += count["computed"].as_u64().unwrap();
            sums[1] += count["reused"].as_u64().unwrap();
        }
        for stage in files(&project.path("results/cache")) {
            let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
            measured.entries.insert(name(&stage), files(&stage).iter().map(name).collect());
        }
        measured
    }

    /// Returns how many outputs were computed; `artifacts` are those of all stages within fits.
    fn computed(&self, stage: &str) -> u64 {
        let is_in = |name: &str| name == stage || (stage == "artifacts" && !["fits", "flows"].contains(&name));
        self.stages.iter().filter(|(name, _)| is_in(name)).map(|(_, [computed, _])| computed).sum()
    }

    fn stored(&self, stage: &str) -> u64 {
        self.entries.get(stage).map_or(0, |entries| entries.len() as u64)
    }

    #[track_caller]
    fn assert_same(&self, expected: &Self) {
        assert!(!self.runs.is_empty());
        assert_eq!(self.runs.keys().collect::<Vec<_>>(), expected.runs.keys().collect::<Vec<_>>(), "{}", self.name);
        for (run, files) in &self.runs {
            let other = &expected.runs[run];
            assert_eq!(files.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{}: {run}", self.name);
            for (name, content) in files {
                assert!(*content == other[name], "{}: {run}: {name} differs", self.name);
            }
        }
        for stage in ["artifacts", "fits"] {
            assert_eq!(self.entries[stage], expected.entries[stage], "{}: {stage}", self.name);
        }
        assert_eq!(self.failures, expected.failures, "{}", self.name);
    }
}

fn print(measured: &[Measured]) {
    println!("\n| | wall time | jobs: arrays, tasks, others | units submitted | failed fits |\n|---|---|---|---|---|");
    for Measured { name, wall, arrays, tasks, other_jobs, submitted, failures, .. } in measured {
        let jobs = format!("{arrays}, {tasks}, {other_jobs}");
        println!("| {name} | {:.0} s | {jobs} | {submitted} | {failures} |", wall.as_secs_f64());
    }
    let names = measured.iter().map(|run| run.name).collect::<Vec<_>>().join(" | ");
    println!("\n| outputs: computed, reused | {names} |\n|---|{}", "---|".repeat(measured.len()));
    let stages: BTreeSet<&String> = measured.iter().flat_map(|run| run.stages.keys()).collect();
    for stage in stages {
        let of_run = |run: &Measured| {
            let [computed, reused] = run.stages.get(stage).copied().unwrap_or_default();
            format!("{computed}, {reused}")
        };
        println!("| `{stage}` | {} |", measured.iter().map(of_run).collect::<Vec<_>>().join(" | "));
    }
    for stage in ["artifacts", "fits", "flows"] {
        let stored = measured.iter().map(|run| run.stored(stage).to_string()).collect::<Vec<_>>().join(" | ");
        println!("| entries of `{stage}` in the cache | {stored} |");
    }
    for run in measured {
        let (files, bytes) = run
            .runs
            .values()
            .flat_map(BTreeMap::values)
            .fold((0, 0), |(files, bytes), content| (files + 1, bytes + content.len()));
        println!("{}: {} runs, {files} files of {bytes} bytes compared", run.name, run.runs.len());
    }
}

#[test]
fn everything_at_once_on_a_cluster_equals_one_machine_and_is_computed_once() {
    if !external::has_python() {
        return;
    }
    let Some(cluster) = Cluster::start() else { return };
    let everything = Everything::requested();

    let alone = everything.project();
    let start = Instant::now();
    for command in &everything.commands {
        let output = alone.etcbench(&[&command[..], &["-q"]].concat());
        // The crashing model.
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut measured = vec![Measured::new("one machine", start.elapsed(), &alone)];
    assert!(measured[0].failures > 0);

    let project = everything.project();
    let start = Instant::now();
    everything.submit(&cluster, &project);
    cluster.within(PATIENCE, "the queue is empty", || cluster.is_idle());
    let whole = Measured::new("two nodes", start.elapsed(), &project);
    whole.assert_same(&measured[0]);
    assert_eq!(whole.computed("artifacts"), whole.stored("artifacts"), "every output is computed once");
    // A failed fit is computed, but there is nothing to store.
    assert_eq!(whole.computed("fits"), whole.stored("fits") + whole.failures as u64, "every fit is computed once");
    assert_eq!(whole.computed("flows"), 0, "captures are read by the job before the units");
    measured.push(whole);
    print(&measured);

    if everything.disturb {
        let project = everything.project();
        let start = Instant::now();
        everything.submit(&cluster, &project);
        let lost = disturb(&cluster, &project);
        cluster.within(PATIENCE, "the queue is empty", || cluster.is_idle());
        let status = cluster.etcbench(&project, &["sweep", "status"]);
        println!("{}", String::from_utf8_lossy(&status.stdout));
        assert_eq!(status.status.code(), Some(1), "killed units are shown");
        everything.submit(&cluster, &project);
        cluster.within(PATIENCE, "the queue is empty", || cluster.is_idle());
        let disturbed = Measured::new("two nodes, disturbed", start.elapsed(), &project);
        measured.push(disturbed);
        print(&measured);
        let disturbed = &measured[2];
        disturbed.assert_same(&measured[0]);
        // What a killed unit had stored is in the cache but in no record.
        let failures = disturbed.failures as u64;
        assert!(disturbed.computed("artifacts") <= disturbed.stored("artifacts"), "an output is computed twice");
        assert!(disturbed.computed("fits") <= disturbed.stored("fits") + failures, "a fit is computed twice");
        let Lost { work, down } = lost;
        println!("{work} s of work in {} killed processes; a node was down for {:.0} s", KILLS + 1, down.as_secs_f64());
    }
}
