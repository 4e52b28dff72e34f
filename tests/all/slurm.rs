//! A sweep on a real Slurm: a controller and two nodes on this machine, created for the test. A node dies while it
//! computes a unit, a failed point is resubmitted alone, and the results equal those of a run on one machine.
//!
//! Needs root and Slurm's daemons (Debian: `slurm-wlm` and `munge`); skipped with a message if they are missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::cluster::{Cluster, set_mode};
use crate::common::{Project, contents, external, write_points};

const SWEEP: &str = r#"
title = "Three clouds"
seeds = [0, 1]
models = ["random_forest"]
[dataset]
names = ["points"]
[selection]
label = "kind"
[model.random_forest]
input = "statistics"
[sweep.alternatives.trees]
few = { model.random_forest.trees = TREES }
more = { model.random_forest.trees = MORE }
file = { model.random_forest.trees = 10, split = { method = "file", path = "split.csv" } }
"#;

/// Returns the states of the started units, with their nodes.
fn begun(project: &Project) -> Vec<(PathBuf, String, String)> {
    let folder = project.path("results/sweeps/points-points-full/units");
    let entries = fs::read_dir(folder).into_iter().flatten();
    let read = |path: PathBuf| {
        // A record that is still being written has a different name.
        path.extension().filter(|extension| *extension == "json")?;
        let record: serde_json::Value = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        Some((path, record["state"].as_str()?.to_owned(), record["host"].as_str()?.to_owned()))
    };
    entries.filter_map(|entry| read(entry.ok()?.path())).collect()
}

#[test]
fn a_sweep_survives_a_node_and_a_failed_point_and_gives_the_bytes_of_one_machine() {
    let Some(cluster) = Cluster::start() else { return };
    let experiment = SWEEP.replace("TREES", "20000").replace("MORE", "20001");
    let project = Project::new();
    write_points(&project);
    project.write("experiments/points.toml", &experiment);
    let etcbench = |arguments: &[&str]| cluster.etcbench(&project, arguments);
    let told = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let submit = ["run", "experiments/points.toml", "--slurm", "--partition", "main", "--time", "10", "--memory", "0"];

    let output = etcbench(&submit);
    assert!(output.status.success(), "{}", told(&output));
    assert!(told(&output).contains("6 of 6 units submitted"), "{}", told(&output));
    // The same command submits nothing again while everything is in the queue.
    let output = etcbench(&submit);
    assert!(told(&output).contains("already in Slurm's queue"), "{}", told(&output));

    let mut killed = None;
    cluster.until("a unit runs on node2", || {
        // The last two units belong to the failing point.
        let long = |path: &PathBuf| path.file_stem().is_some_and(|number| number.to_string_lossy().as_ref() < "00004");
        killed =
            begun(&project).into_iter().find(|(path, state, host)| long(path) && state == "begun" && host == "node2");
        killed.is_some()
    });
    cluster.kill_node("node2");
    let (killed, _, _) = killed.unwrap();
    let status = || etcbench(&["sweep", "status", "points-points-full"]);
    let table = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    cluster.until("the queue is empty", || cluster.said("squeue", &["-h"]).is_empty());
    let output = status();
    assert_eq!(output.status.code(), Some(1), "{}", table(&output));
    assert!(table(&output).contains("4 done, 2 failed"), "{}", table(&output));
    assert!(table(&output).contains("split.csv"), "{}", table(&output));
    assert!(begun(&project).iter().any(|(path, state, _)| *path == killed && state == "done"), "the killed unit");
    assert!(!project.path("results/points-points-full").exists(), "nothing is put together while points are missing");

    // The point can be computed now: only it is resubmitted, and a job combines the results.
    project.done(&["split", "points", "--variants", "trees=few", "-o", "split.csv"]);
    let output = etcbench(&submit);
    assert!(output.status.success(), "{}", told(&output));
    assert!(told(&output).contains("2 of 6 units submitted"), "{}", told(&output));
    cluster.until("the results are put together", || project.path("results/points-points-full").is_dir());
    cluster.until("the queue is empty again", || cluster.said("squeue", &["-h"]).is_empty());
    let gathered = contents(&project.path("results/points-points-full"));

    // Nothing is left to submit. One more seed of one point is submitted, and the command waits for it.
    let output = etcbench(&submit);
    assert!(output.status.success() && !told(&output).contains("submitted"), "{}", told(&output));
    assert_same(&gathered, &project.path("results/points-points-full"));
    // Two units of a task, and one task at a time.
    let tasks = ["--units-per-task", "2", "--tasks-at-once", "1", "--cpu-partition", "main"];
    let more = [&submit[..], &["--variants", "trees=few", "--seeds", "3", "--wait"], &tasks].concat();
    let output = etcbench(&more);
    assert!(output.status.success() && told(&output).contains("3 of 3 units submitted"), "{}", told(&output));
    assert!(table(&output).contains("Means over 3 seeds"), "{}", table(&output));

    let local = Project::new();
    write_points(&local);
    local.write("experiments/points.toml", &experiment);
    local.write("split.csv", fs::read(project.path("split.csv")).unwrap());
    local.done(&["run", "experiments/points.toml"]);
    assert_same(&gathered, &local.path("results/points-points-full"));
}

#[test]
fn the_units_of_an_external_model_run_on_the_nodes_and_give_the_bytes_of_one_machine() {
    if !external::has_python() {
        return;
    }
    let Some(cluster) = Cluster::start() else { return };
    let projects = [external::project(), external::project()];
    for project in &projects {
        let text = fs::read_to_string(project.path("experiments/points.toml")).unwrap();
        let broken = "[variant.sound]\n[variant.broken]\nmodel.faulty.fault = \"crash_fit\"\n";
        project.write("experiments/points.toml", text.replace("seeds = [0]", "seeds = [0, 1]") + broken);
    }
    let [project, local] = &projects;
    let submit = ["run", "experiments/points.toml", "--slurm", "--partition", "main", "--time", "10", "--memory", "0"];
    let output = cluster.etcbench(project, &submit);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("4 of 4 units submitted"), "{told}");
    let folder = project.path("results/points-points-full");
    cluster.until("the results are put together", || folder.is_dir());
    cluster.until("the queue is empty", || cluster.said("squeue", &["-h"]).is_empty());
    // The failed fits of one variant are results there too.
    assert_eq!(local.etcbench(&submit[..2]).status.code(), Some(1));
    let gathered = contents(&folder);
    assert_eq!(gathered["records.csv"].matches(",failed_crashed,").count(), 2);
    assert!(gathered["records.csv"].contains(",sound,faulty,statistics,external,1,"));
    assert_same(&gathered, &local.path("results/points-points-full"));
    let units = fs::read_to_string(folder.join("units.json")).unwrap();
    assert!(units.contains("\"node1\"") || units.contains("\"node2\""), "{units}");
}

#[track_caller]
fn assert_same(expected: &std::collections::BTreeMap<String, String>, folder: &Path) {
    let found = contents(folder);
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for (name, content) in expected {
        assert!(*content == found[name], "{name} differs");
    }
}

/// A cluster whose submit plugin prints text, or that refuses the third job: its commands are scripts.
#[test]
#[cfg(unix)]
fn what_sbatch_prints_and_refuses_is_understood() {
    let project = Project::new();
    write_points(&project);
    project.write("experiments/points.toml", SWEEP.replace("TREES", "2").replace("MORE", "3"));
    let commands = tempfile::tempdir().unwrap();
    let command = |name: &str, script: &str| {
        let path = commands.path().join(name).display().to_string();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        set_mode(&path, 0o755);
    };
    command("squeue", "exit 0");
    command("scontrol", "exit 0");
    let submit = |script: &str| {
        let number = "number=$(cat \"$0.number\" 2>/dev/null || echo 100)\necho $((number + 1)) > \"$0.number\"\ncat > /dev/null\n";
        command("sbatch", &format!("{number}{script}"));
        let _ = fs::remove_file(commands.path().join("sbatch.number"));
        let path = format!("{}:{}", commands.path().display(), std::env::var("PATH").unwrap_or_default());
        let output = assert_cmd::Command::cargo_bin("etcbench")
            .unwrap()
            .current_dir(project.path("."))
            .env("PATH", path)
            .env_remove("ETCBENCH_DATA")
            .args(["run", "experiments/points.toml", "--slurm"])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };

    let (code, told) = submit("echo 'sbatch: lua: Job submitted to partition 7'\necho $number");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("6 of 6 units submitted") && told.contains("102"), "{told}");

    let (code, told) = submit("echo 'Your job was submitted.'");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("no job ID in `Your job was submitted.`"), "{told}");
    assert!(told.contains("`scancel --name=etcbench-flows-points-points-full"), "{told}");

    let limit = "[ $number -lt 102 ] || { echo 'QOSMaxSubmitJobPerUserLimit' >&2; exit 1; }\necho $number";
    let (code, told) = submit(limit);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("QOSMaxSubmitJobPerUserLimit; already in the queue: 100 101; the same command"), "{told}");
    assert!(told.contains("`scancel 100 101`"), "{told}");
}
