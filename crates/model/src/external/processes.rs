//! Observes the processes of an external model from outside: their CPU time and memory, and which of them still exist
//! when they should not.

/// Resources used by a model's processes since they were started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time in seconds.
    pub cpu_seconds: f64,
    /// Largest resident memory of any sample, in bytes.
    pub peak_memory_bytes: u64,
    /// Resident memory of the last sample, in bytes.
    pub memory_bytes: u64,
}

impl Usage {
    /// Takes a sample. CPU time never decreases, although the time of a process that ended between samples may be lost.
    pub(super) fn look(&mut self, group: u32) {
        let (cpu_seconds, memory, peak) = system::taken(group);
        self.cpu_seconds = self.cpu_seconds.max(cpu_seconds);
        self.memory_bytes = memory;
        self.peak_memory_bytes = self.peak_memory_bytes.max(peak);
    }
}

/// Kills a process and its group immediately.
pub(super) fn kill_group(leader: u32) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw) {
        // They may already be gone.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    #[cfg(not(unix))]
    let _ = leader;
}

/// Kills every process that has `mark` in its environment, and returns how many there were.
pub(super) fn kill_marked(mark: &str) -> usize {
    let left = system::marked(mark);
    #[cfg(unix)]
    for process in &left {
        if let Some(process) = rustix::process::Pid::from_raw(*process) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    }
    left.len()
}

/// Returns the free memory of the machine, in bytes; `None` if the system does not report it.
pub(super) fn free_memory() -> Option<u64> {
    system::free_memory()
}

#[cfg(target_os = "linux")]
mod system {
    use std::collections::BTreeMap;

    use procfs::Current;
    use procfs::process::{Process, Stat, all_processes};

    /// Returns the CPU seconds, resident bytes and sum of the peaks of a process, its descendants, and its group.
    pub(super) fn taken(leader: u32) -> (f64, u64, u64) {
        let Ok(leader) = i32::try_from(leader) else { return (0.0, 0, 0) };
        let stats: BTreeMap<i32, Stat> = all_processes()
            .into_iter()
            .flatten()
            .filter_map(|process| process.ok()?.stat().ok())
            .map(|stat| (stat.pid, stat))
            .collect();
        let is_below = |stat: &Stat| {
            let mut at = stat.ppid;
            // No chain of parents is longer than the number of processes.
            for _ in 0..stats.len() {
                if at == leader {
                    return true;
                }
                match stats.get(&at) {
                    Some(above) if above.ppid != at => at = above.ppid,
                    _ => return false,
                }
            }
            false
        };
        let (mut ticks, mut memory, mut peak) = (0, 0, 0);
        for stat in stats.values().filter(|stat| stat.pid == leader || stat.pgrp == leader || is_below(stat)) {
            ticks += stat.utime + stat.stime;
            ticks += u64::try_from(stat.cutime + stat.cstime).unwrap_or_default();
            let status = Process::new(stat.pid).and_then(|process| process.status());
            if let Ok(status) = status {
                memory += 1024 * status.vmrss.unwrap_or_default();
                peak += 1024 * status.vmhwm.unwrap_or_default();
            }
        }
        (ticks as f64 / procfs::ticks_per_second() as f64, memory, peak)
    }

    /// Returns the processes that have `mark` in their environment.
    pub(super) fn marked(mark: &str) -> Vec<i32> {
        let is_marked = |process: &Process| {
            let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
        };
        let is_dead = |process: &Process| process.stat().is_ok_and(|stat| matches!(stat.state, 'Z' | 'X' | 'x'));
        let processes = all_processes().into_iter().flatten().filter_map(Result::ok);
        processes.filter(|process| is_marked(process) && !is_dead(process)).map(|process| process.pid).collect()
    }

    pub(super) fn free_memory() -> Option<u64> {
        procfs::Meminfo::current().ok()?.mem_available
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn taken(_: u32) -> (f64, u64, u64) {
        (0.0, 0, 0)
    }
    pub(super) fn marked(_: &str) -> Vec<i32> {
        Vec::new()
    }
    pub(super) fn free_memory() -> Option<u64> {
        None
    }
}
