//! A Slurm cluster on this machine, created for a test: a controller and two nodes with one CPU each.
//!
//! Needs root and Slurm's daemons (Debian: `slurm-wlm` and `munge`); a test without them is skipped with a message.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::Project;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').map(PathBuf::from).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A controller and two nodes with one CPU each, stopped when dropped.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Returns `None` and prints the reason if it cannot be started.
    pub(crate) fn start() -> Option<Self> {
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

    /// Returns what a command of Slurm prints.
    pub(crate) fn said(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.command(name).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        self.within(PATIENCE, what, holds);
    }

    #[track_caller]
    pub(crate) fn within(&self, patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < patience, "{what}: not in {patience:?}; {}", self.said("squeue", &[]));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn signal(&self, signal: &str, pid_file: &str) {
        if let Ok(pid) = fs::read_to_string(self.folder.path().join(pid_file)) {
            let _ = Command::new("kill").args([signal, pid.trim()]).output();
        }
    }

    /// Kills the daemon at once; its children survive, as on a node that only lost its network.
    pub(crate) fn kill_node(&self, node: &str) {
        self.signal("-KILL", &format!("slurmd-{node}.pid"));
        // The controller would notice this by itself only after minutes.
        // While a job of the node is completing, it may refuse.
        self.until("the node is down", || {
            self.said("scontrol", &["update", &format!("nodename={node}"), "state=down", "reason=test"]);
            self.said("sinfo", &["-h", "-N", "-n", node, "-o", "%T"]).starts_with("down")
        });
    }
}

impl Cluster {
    /// Starts a killed node again.
    pub(crate) fn repair_node(&self, node: &str) {
        self.start_node(node);
        self.until("the node is up", || {
            self.said("scontrol", &["update", &format!("nodename={node}"), "state=resume"]);
            let state = self.said("sinfo", &["-h", "-N", "-n", node, "-o", "%T"]);
            ["idle", "mixed", "allocated", "completing"].contains(&state.as_str())
        });
    }

    /// Returns whether nothing waits or runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.said("squeue", &["-h"]).is_empty()
    }

    /// Runs `etcbench` in a project's folder as a user of the cluster.
    pub(crate) fn etcbench(&self, project: &Project, arguments: &[&str]) -> Output {
        assert_cmd::Command::cargo_bin("etcbench")
            .unwrap()
            .current_dir(project.path("."))
            .env("SLURM_CONF", self.configuration())
            .env_remove("ETCBENCH_DATA")
            .args(arguments)
            .output()
            .unwrap()
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

pub(crate) fn set_mode(path: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
