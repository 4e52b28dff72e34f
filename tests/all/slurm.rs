//! A sweep on a real Slurm: a controller and two nodes on this machine, created for the test. A node dies while it
//! computes a unit, a failed point is resubmitted alone, and the results equal those of a run on one machine.
//!
//! Needs root and Slurm's daemons (Debian: `slurm-wlm` and `munge`); skipped with a message if they are missing.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Project, contents, external, write_points};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

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

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').map(PathBuf::from).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A controller and two nodes with one CPU each, stopped when dropped.
struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Returns `None` and prints the reason if it cannot be started.
    fn start() -> Option<Self> {
        for name in ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol"] {
            if program(name).is_none() {
                println!("skipped: {name} is not installed (Debian: apt-get install slurm-wlm munge)");
                return None;
            }
        }
        let user = Command::new("id").arg("-u").output().unwrap();
        if String::from_utf8_lossy(&user.stdout).trim() != "0" {
            println!("skipped: Slurm's daemons need root");
            return None;
        }
        let cluster = Self { folder: tempfile::tempdir().unwrap() };
        let at = |name: &str| cluster.folder.path().join(name).display().to_string();
        for folder in ["state", "spool", "log"] {
            fs::create_dir(cluster.folder.path().join(folder)).unwrap();
        }
        // The key of an isolated cluster.
        fs::write(at("munge.key"), [7; 1024]).unwrap();
        set_mode(&at("munge.key"), 0o600);
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap().to_owned();
        let mut configuration = format!(
            "ClusterName=etcbench\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={}\nAuthType=auth/munge\n\
             AuthInfo=socket={},cred_expire=5\nCredType=cred/munge\nSlurmUser=root\nSlurmdUser=root\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nAccountingStorageType=accounting_storage/none\n\
             JobAcctGatherType=jobacct_gather/none\nMpiDefault=none\nSwitchType=switch/none\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nReturnToService=2\n\
             StateSaveLocation={}\nSlurmdSpoolDir={}/%n\nSlurmctldPidFile={}\nSlurmdPidFile={}\n\
             SlurmctldLogFile={}\nSlurmdLogFile={}\nSchedulerParameters=sched_interval=1\n",
            free_port(),
            at("munge.socket"),
            at("state"),
            at("spool"),
            at("slurmctld.pid"),
            at("slurmd-%n.pid"),
            at("log/slurmctld"),
            at("log/slurmd-%n"),
        );
        for node in ["node1", "node2"] {
            let port = free_port();
            configuration +=
                &format!("NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 State=UNKNOWN\n");
        }
        configuration += "PartitionName=main Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP\n";
        fs::write(at("slurm.conf"), configuration).unwrap();
        let options = [
            "key-file=munge.key",
            "socket=munge.socket",
            "pid-file=munge.pid",
            "log-file=munge.log",
            "seed-file=munge.seed",
        ];
        let options: Vec<String> = options
            .map(|option| option.split_once('=').unwrap())
            .map(|(option, name)| format!("--{option}={}", at(name)))
            .into();
        cluster.daemon("munged", &[&["--force".to_owned()][..], &options[..]].concat());
        cluster.daemon("slurmctld", &["-c".to_owned()]);
        cluster.start_node("node1");
        cluster.start_node("node2");
        cluster.until("both nodes are idle", || cluster.said("sinfo", &["-h", "-N", "-o", "%T"]) == "idle\nidle");
        Some(cluster)
    }

    fn start_node(&self, node: &str) {
        self.daemon("slurmd", &["-N".to_owned(), node.to_owned()]);
    }

    fn daemon(&self, name: &str, arguments: &[String]) {
        // Not a pipe: a daemon may keep it open.
        let path = self.folder.path().join("log/start");
        let log = fs::File::create(&path).unwrap();
        let mut command = self.command(name);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        assert!(command.status().unwrap().success(), "{name}: {}", fs::read_to_string(path).unwrap());
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("slurm.conf")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name).unwrap_or_else(|| name.into()));
        command.env("SLURM_CONF", self.configuration());
        command
    }

    fn said(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.command(name).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[track_caller]
    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}; {}", self.said("squeue", &[]));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn signal(&self, signal: &str, pid_file: &str) {
        if let Ok(pid) = fs::read_to_string(self.folder.path().join(pid_file)) {
            let _ = Command::new("kill").args([signal, pid.trim()]).output();
        }
    }

    /// Kills the daemon at once; its children survive, as on a node that only lost its network.
    fn kill_node(&self, node: &str) {
        self.signal("-KILL", &format!("slurmd-{node}.pid"));
        // The controller would notice this by itself only after minutes.
        // While a job of the node is completing, it may refuse.
        self.until("the node is down", || {
            self.said("scontrol", &["update", &format!("nodename={node}"), "state=down", "reason=test"]);
            self.said("sinfo", &["-h", "-N", "-n", node, "-o", "%T"]).starts_with("down")
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.said("scancel", &["--me"]);
        for file in ["slurmd-node1.pid", "slurmd-node2.pid", "slurmctld.pid", "munge.pid"] {
            self.signal("-TERM", file);
        }
    }
}

fn set_mode(path: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

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
    let etcbench = |arguments: &[&str]| -> Output {
        assert_cmd::Command::cargo_bin("etcbench")
            .unwrap()
            .current_dir(project.path("."))
            .env("SLURM_CONF", cluster.configuration())
            .env_remove("ETCBENCH_DATA")
            .args(arguments)
            .output()
            .unwrap()
    };
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
    let output = assert_cmd::Command::cargo_bin("etcbench")
        .unwrap()
        .current_dir(project.path("."))
        .env("SLURM_CONF", cluster.configuration())
        .env_remove("ETCBENCH_DATA")
        .args(submit)
        .output()
        .unwrap();
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
