//! What a stage cost: wall time, processor time over all threads, and the peak of resident memory.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// The cost of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Elapsed time in seconds.
    pub wall_seconds: f64,
    /// Processor time of all threads, user and system, in seconds; none where the system does not tell.
    pub cpu_seconds: Option<f64>,
    /// Largest resident memory of the process during the stage in bytes; none where the system does not
    /// tell.
    pub peak_memory_bytes: Option<u64>,
}

/// Runs `work` and says what it cost.
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    system::reset_peak_memory();
    let cpu = system::cpu_seconds();
    let start = Instant::now();
    let value = work();
    let wall_seconds = start.elapsed().as_secs_f64();
    let cpu_seconds = cpu.and_then(|before| Some(system::cpu_seconds()? - before));
    (value, Cost { wall_seconds, cpu_seconds, peak_memory_bytes: system::peak_memory_bytes() })
}

#[cfg(target_os = "linux")]
mod system {
    use procfs::process::Process;

    pub(super) fn cpu_seconds() -> Option<f64> {
        let stat = Process::myself().ok()?.stat().ok()?;
        Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
    }

    pub(super) fn peak_memory_bytes() -> Option<u64> {
        Some(Process::myself().ok()?.status().ok()?.vmhwm? * 1024)
    }

    /// proc_pid_clear_refs(5): writing 5 sets the peak back to what is resident now. Where that is not
    /// allowed the peak is that of the process so far, which is still an upper bound.
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
    pub fn reset_peak_memory() {}
}
