//! Which process a temporary file or a claim belongs to, and whether that process still exists.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A process, distinguished from processes on other machines, before a reboot of this machine, in other containers, and
/// from later processes with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessName {
    /// Sixteen hexadecimal digits of the machine, its boot and the process ID namespace, within which process IDs are
    /// unique.
    pub machine: String,
    /// Process ID.
    pub pid: u32,
    /// Start time in the system's own unit; 0 if the system does not report it.
    pub start: u64,
}

/// State of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    Dead,
    /// It runs, or ran, where this process cannot check.
    Elsewhere,
}

/// This process.
pub(super) fn this() -> &'static ProcessName {
    static THIS: OnceLock<ProcessName> = OnceLock::new();
    THIS.get_or_init(|| {
        let pid = std::process::id();
        ProcessName { machine: machine(), pid, start: system::start(pid).unwrap_or_default() }
    })
}

/// Host name, for messages.
pub(super) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

/// Returns a process's start time, or 0 if the system does not report it.
#[cfg(test)]
pub(super) fn started(pid: u32) -> u64 {
    system::start(pid).unwrap_or_default()
}

impl ProcessName {
    /// Returns whether the process still exists.
    pub(crate) fn life(&self) -> Life {
        let this = this();
        if self == this {
            return Life::Alive;
        }
        // Another process cannot have this process's ID now.
        if self.machine != this.machine || self.start == 0 {
            return Life::Elsewhere;
        }
        if system::start(self.pid) == Some(self.start) { Life::Alive } else { Life::Dead }
    }
}

fn machine() -> String {
    let mut hasher = Sha256::new();
    hasher.update(host());
    hasher.update(std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default());
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    hasher.update(space.to_string_lossy().as_bytes());
    hex::encode(hasher.finalize())[..16].to_owned()
}

#[cfg(target_os = "linux")]
mod system {
    /// Returns a running process's start time in clock ticks since boot, or `None` if the process does not exist or is
    /// a zombie.
    pub(super) fn start(pid: u32) -> Option<u64> {
        let stat = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
        (!matches!(stat.state, 'Z' | 'X' | 'x')).then_some(stat.starttime)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub fn start(_: u32) -> Option<u64> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn living_dead_and_remote_processes_are_distinguished() {
        assert_eq!(this().life(), Life::Alive);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let start = system::start(child.id()).unwrap();
        let name = ProcessName { pid: child.id(), start, ..this().clone() };
        assert_eq!(name.life(), Life::Alive);
        assert_eq!(ProcessName { start: start + 1, ..name.clone() }.life(), Life::Dead);
        assert_eq!(ProcessName { machine: "another".to_owned(), ..name.clone() }.life(), Life::Elsewhere);
        child.kill().unwrap();
        // Dead as soon as it is killed, although it stays listed until its parent waits for it.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while name.life() != Life::Dead && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(name.life(), Life::Dead);
        child.wait().unwrap();
        assert_eq!(name.life(), Life::Dead);
    }
}
