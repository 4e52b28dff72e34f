//! The origin of a result: versions, source revision, machine.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The machine and program that computed a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// etcbench's version.
    pub version: String,
    /// The project's git commit, with the suffix `-modified` if files differ from it; `None` outside a repository.
    pub commit: Option<String>,
    /// Operating system and CPU architecture.
    pub system: String,
    /// Name of the CPU; `None` if the system does not report it.
    pub processor: Option<String>,
    /// Threads used.
    pub threads: usize,
    /// Total memory in bytes; `None` if the system does not report it.
    pub memory_bytes: Option<u64>,
    /// Device for training deep models; for a GPU, its name, driver and the precision of matrix products.
    pub device: String,
}

impl Provenance {
    /// Collects the information from the system and git.
    pub fn collect(project: &Path, device: &str) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(project),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: processor(),
            threads: rayon::current_num_threads(),
            memory_bytes: memory_bytes(),
            device: device.to_owned(),
        }
    }
}

fn git(project: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(project).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn commit(project: &Path) -> Option<String> {
    let commit = git(project, &["rev-parse", "HEAD"])?;
    let modified = git(project, &["status", "--porcelain", "--untracked-files=no"])?;
    Some(if modified.is_empty() { commit } else { format!("{commit}-modified") })
}

#[cfg(target_os = "linux")]
fn processor() -> Option<String> {
    let information = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = information.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(target_os = "linux")]
fn memory_bytes() -> Option<u64> {
    use procfs::Current;
    Some(procfs::Meminfo::current().ok()?.mem_total)
}

#[cfg(not(target_os = "linux"))]
fn processor() -> Option<String> {
    None
}

#[cfg(not(target_os = "linux"))]
fn memory_bytes() -> Option<u64> {
    None
}
