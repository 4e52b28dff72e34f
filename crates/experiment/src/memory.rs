//! Checks whether a run fits into memory, before it allocates any: for the features of a variant once its flows are
//! known, and for the fits once the flows are divided. The expected memory is computed from those sizes (see
//! [`etcbench_model::FitSize`]) and compared with what this process may use: the free memory of the machine or its
//! control group plus what the process already has, or `--memory-limit`. Runs that do not fit are refused with advice
//! on what to lower. The loaded flows need no more memory than what is kept of them; that memory is measured, not
//! estimated.

use super::flows::{Content, LoadedFlows};
use super::run::{Settings, VariantRun};
use super::tune::is_tuned;
use super::variant_fits::{VariantContext, settings_of};
use super::{ExperimentError, Variant};
use serde::Serialize;

use etcbench_flow::STATISTIC_NAMES;
use etcbench_model as model;
use etcbench_model::{ExpectedMemory, FitSize};
use etcbench_storage::progress::Progress;

const MEBIBYTE: u64 = 1 << 20;

/// Bytes of a flow's provenance and label, in addition to its capture's name.
const OF_A_FLOW: u64 = 200;

/// Bytes of a record in memory, in the files' text and in the tables built from it.
const OF_A_RECORD: u64 = 1200;

/// Refuses a variant whose features do not fit into memory in addition to what is already there.
///
/// # Errors
/// [`ExperimentError::Memory`].
pub(super) fn check_features(
    variant: &Variant,
    flows: &LoadedFlows,
    settings: &Settings,
) -> Result<(), ExperimentError> {
    let Content::Flows(labelled) = &flows.content else { return Ok(()) };
    let Some(memory) = Memory::now(settings) else { return Ok(()) };
    let sequences = variant.used_sequences().map_or(0, |options| 2 * options.packets as u64);
    let tokens = 2 * variant.feature.packets as u64 * variant.feature.bytes as u64;
    let pixels = variant.used_flowpic().map_or(0, |options| options.columns() as u64);
    let of_a_flow = tokens + pixels + 4 * (STATISTIC_NAMES.len() as u64 + sequences) + OF_A_FLOW;
    let rows = variant.selection.most_flows(labelled.iter().map(|flow| &flow.labels), labelled.len()) as u64;
    let expected = memory.resident + rows * of_a_flow;
    if expected <= memory.limit {
        return Ok(());
    }
    let (packets, bytes) = (variant.feature.packets, variant.feature.bytes);
    Err(ExperimentError::Memory {
        what: format!(
            "variant {}: the features of {rows} flows, {packets} packets of {bytes} bytes each",
            variant.name
        ),
        expected: expected / MEBIBYTE,
        available: memory.limit / MEBIBYTE,
        keys: "selection.maximum_flows_per_class, feature.packets or feature.bytes",
    })
}

/// Reports the expected peak memory of a run, and refuses the run if more is needed than is available. Cached fits need
/// none.
///
/// # Errors
/// [`ExperimentError::Memory`], and models with invalid keys.
pub(super) fn check_fits(
    name: &str,
    variants: &[(VariantContext<'_>, &VariantRun)],
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<(), ExperimentError> {
    let Some(MemoryNeed { what, expected, available, keys }) = needed(name, variants, settings)? else { return Ok(()) };
    if expected > available {
        return Err(ExperimentError::Memory { what, expected, available, keys });
    }
    progress.warn(&format!("{name}: expected memory: {expected} MiB of {available} MiB available"));
    Ok(())
}

/// The expected peak memory of a run.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryNeed {
    /// What needs the most memory.
    pub what: String,
    /// Expected peak memory of the process, in MiB.
    pub expected: u64,
    /// Available memory, in MiB.
    pub available: u64,
    /// The keys to lower.
    pub keys: &'static str,
}

/// Same as [`check_fits`], but only reports; returns `None` if the system does not report memory.
pub(super) fn needed(
    name: &str,
    variants: &[(VariantContext<'_>, &VariantRun)],
    settings: &Settings,
) -> Result<Option<MemoryNeed>, ExperimentError> {
    let Some(memory) = Memory::now(settings) else { return Ok(None) };
    let mut largest: Option<(ExpectedMemory, String)> = None;
    let mut results = 0;
    for (context, prepared) in variants {
        for split in &prepared.splits {
            let size = context.fit_size(prepared, split);
            for spec in &context.variant.models {
                results += results_bytes(&size);
                let tuned = is_tuned(context.experiment.tune.as_ref(), spec.kind);
                let tried = settings_of(context.experiment, spec)?;
                let is_cached = |kind: &'static str, stage: &str, spec| {
                    context.settings.cache.has(stage, &context.cache_key(kind, &context.request(prepared, split, spec)))
                };
                // For a tuned model, one of the settings is fitted in the end.
                let fitted = tried.iter().any(|setting| is_cached("fit", "fits", &setting.spec));
                for setting in &tried {
                    if fitted && (!tuned || is_cached("trial", "trials", &setting.spec)) {
                        continue;
                    }
                    let expected = model::build(&setting.spec)?.expected_memory(&size);
                    if largest.as_ref().is_none_or(|(most, _)| expected.bytes() > most.bytes()) {
                        let model = format!("{} on {}", spec.kind.name(), spec.input.name());
                        largest = Some((expected, format!("variant {}: {model}", context.variant.name)));
                    }
                }
            }
        }
    }
    let (fit, what, keys) = match &largest {
        Some((expected, what)) => (expected.bytes(), what.clone(), expected.keys()),
        None => (0, format!("{name}: its results"), "the number of seeds"),
    };
    let expected = memory.resident.saturating_add(fit).saturating_add(results).max(memory.peak);
    let (expected, available) = (expected / MEBIBYTE, memory.limit / MEBIBYTE);
    Ok(Some(MemoryNeed { what, expected, available, keys }))
}

/// Returns the memory that remains in use after a fit: its probabilities, and the records built from it.
fn results_bytes(size: &FitSize) -> u64 {
    let (rows, classes) = (size.predicted as u64, size.class_counts.len() as u64);
    rows * (4 * classes + 16) + (classes * (classes + 12) + 100) * OF_A_RECORD
}

/// The memory of this process, in bytes.
struct Memory {
    /// Current memory.
    resident: u64,
    /// Peak memory so far.
    peak: u64,
    /// Maximum memory.
    limit: u64,
}

impl Memory {
    /// Returns `None` if the system does not report memory.
    fn now(settings: &Settings) -> Option<Self> {
        let (resident, peak) = system::resident()?;
        let limit = match settings.memory_limit {
            Some(limit) => limit,
            None => resident.saturating_add(system::free()?),
        };
        Some(Self { resident, peak, limit })
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::path::{Path, PathBuf};

    use procfs::Current;
    use procfs::process::Process;

    /// Returns the current and the peak resident memory of this process.
    pub(super) fn resident() -> Option<(u64, u64)> {
        let status = Process::myself().ok()?.status().ok()?;
        Some((status.vmrss? * 1024, status.vmhwm? * 1024))
    }

    /// Returns the memory available without swapping, on the machine and in this process's control groups.
    pub(super) fn free() -> Option<u64> {
        let machine = procfs::Meminfo::current().ok()?.mem_available?;
        Some(machine.min(control_groups().unwrap_or(u64::MAX)))
    }

    /// Returns the minimum of the memory left in any of this process's control groups; `None` if there is no limit.
    fn control_groups() -> Option<u64> {
        let groups = Process::myself().ok()?.cgroups().ok()?;
        let left = groups.into_iter().filter_map(|group| {
            let second = group.controllers.iter().all(String::is_empty);
            if !second && !group.controllers.iter().any(|controller| controller == "memory") {
                return None;
            }
            let root = Path::new(if second { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" });
            let folder: PathBuf = root.join(group.pathname.trim_start_matches('/'));
            folder.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(left).min()
        });
        left.min()
    }

    /// Returns the memory left in one control group, version 2 or 1.
    pub(super) fn left(folder: &Path) -> Option<u64> {
        let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
        let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
        // Cached file pages are reclaimed on demand.
        let statistics = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let cached =
            statistics.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse::<u64>().ok());
        Some(limit.saturating_sub(used.saturating_sub(cached.unwrap_or(0))))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub fn resident() -> Option<(u64, u64)> {
        None
    }
    pub fn free() -> Option<u64> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_left_by_a_control_group_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(system::left(folder.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "3000\n");
        assert_eq!(system::left(folder.path()), None);
        write("memory.max", "5000\n");
        assert_eq!(system::left(folder.path()), Some(2000));
        write("memory.stat", "anon 1\ninactive_file 500\n");
        assert_eq!(system::left(folder.path()), Some(2500));
        write("memory.current", "9000\n");
        assert_eq!(system::left(folder.path()), Some(0));
        for (old, new) in [("memory.max", "memory.limit_in_bytes"), ("memory.current", "memory.usage_in_bytes")] {
            std::fs::rename(folder.path().join(old), folder.path().join(new)).unwrap();
        }
        write("memory.usage_in_bytes", "3000\n");
        assert_eq!(system::left(folder.path()), Some(2500));
    }

    #[test]
    fn memory_of_this_process_and_free_memory_are_known() {
        let (resident, peak) = system::resident().unwrap();
        assert!(resident > MEBIBYTE && peak >= resident);
        assert!(system::free().unwrap() > MEBIBYTE);
    }
}
