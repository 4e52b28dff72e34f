//! Which process a temporary file or a claim belongs to, and whether it is still there.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A process, distinguished from all others: on other machines, on this one before it was rebooted, in other
/// containers, and of a later process with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessName {
    /// Sixteen hexadecimal digits of the machine, its start and the processes' name space: in these, numbers mean
    /// the same.
    pub machine: String,
    /// Its number.
    pub pid: u32,
    /// When it was started, in the system's own unit; 0 where the system does not tell.
    pub start: u64,
}

/// What is known of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    Dead,
    /// It runs, or ran, where this process cannot look.
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

/// The machine's name for people.
pub(super) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

/// When a process was started; 0 where the system does not tell.
#[cfg(test)]
pub(super) fn started(pid: u32) -> u64 {
    system::start(pid).unwrap_or_default()
}

impl ProcessName {
    /// Whether the process is still there.
    pub(crate) fn life(&self) -> Life {
        let this = this();
        if self == this {
            return Life::Alive;
        }
        // A number that was this process's own cannot be another's now.
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
    /// When a process that runs was started, in clock ticks since the machine's; none where there is no such process
    /// or it is dead and only waits for its parent to notice.
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
    fn the_living_the_dead_and_the_distant_are_told_apart() {
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
