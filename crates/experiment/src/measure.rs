//! Measures the cost of a stage: wall time, CPU time over all threads, and peak resident memory.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// The cost of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Elapsed time in seconds.
    pub wall_seconds: f64,
    /// CPU time of all threads, user and system, in seconds; `None` if the system does not report it.
    pub cpu_seconds: Option<f64>,
    /// Peak resident memory of the process during the stage in bytes; `None` if the system does not report it.
    pub peak_memory_bytes: Option<u64>,
}

/// Runs `work` and measures its cost.
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    system::reset_peak_memory();
    let cpu = system::cpu_seconds();
    let start = Instant::now();
    let value = work();
    let wall_seconds = start.elapsed().as_secs_f64();
    let cpu_seconds = cpu.and_then(|before| Some(system::cpu_seconds()? - before));
    (value, Cost { wall_seconds, cpu_seconds, peak_memory_bytes: system::peak_memory_bytes() })
}

/// Returns the memory that the process has allocated and not freed, or `None` if the allocator does not report it.
/// Unlike resident memory, this excludes freed memory.
pub(crate) fn allocated_bytes() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[allow(unsafe_code)]
        // SAFETY: takes no arguments and returns the allocator's counters by value.
        let counters = unsafe { libc::mallinfo2() };
        Some((counters.uordblks + counters.hblkhd) as u64)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

/// Returns the energy used by the CPU packages, relative to an arbitrary start; `None` if the system does not report
/// it, or not to this user.
pub(crate) fn energy_joules() -> Option<f64> {
    system::energy_joules()
}

#[cfg(target_os = "linux")]
mod system {
    use procfs::process::Process;

    /// Reads the counters of RAPL (Linux, Documentation/power/powercap), one zone per package; they wrap around to 0
    /// occasionally.
    pub(super) fn energy_joules() -> Option<f64> {
        let zones = std::fs::read_dir("/sys/class/powercap").ok()?;
        let is_package = |name: &str| name.starts_with("intel-rapl:") && name.matches(':').count() == 1;
        let zones = zones.filter_map(Result::ok).filter(|zone| is_package(&zone.file_name().to_string_lossy()));
        let counted = zones.map(|zone| {
            let counter = std::fs::read_to_string(zone.path().join("energy_uj")).ok()?;
            Some(counter.trim().parse::<f64>().ok()? / 1e6)
        });
        let counted: Vec<f64> = counted.collect::<Option<_>>()?;
        (!counted.is_empty()).then(|| counted.iter().sum())
    }

    pub(super) fn cpu_seconds() -> Option<f64> {
        let stat = Process::myself().ok()?.stat().ok()?;
        Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
    }

    pub(super) fn peak_memory_bytes() -> Option<u64> {
        Some(Process::myself().ok()?.status().ok()?.vmhwm? * 1024)
    }

    /// Resets the peak to the current resident memory, by writing 5 (proc_pid_clear_refs(5)). If that is not permitted,
    /// the peak is that of the process so far, which is still an upper bound.
    pub(super) fn reset_peak_memory() {
        let _ = std::fs::write("/proc/self/clear_refs", "5");
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub fn cpu_seconds() -> Option<f64> {
        None
    }
    pub fn peak_memory_bytes() -> Option<u64> {
        None
    }
    pub fn energy_joules() -> Option<f64> {
        None
    }
    pub fn reset_peak_memory() {}
}
