//! Code shared by the command line and the Python module: finding stored runs, the settings of a run, and writing its
//! folder.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::experiment::{self, Cache, Record, Settings, UnitRecord};
use crate::model::{CudaDevice, Device, Precision};
use crate::progress::Progress;
use crate::report;
use crate::storage::WholeFolder;
use crate::synth::{self, SynthOptions};

/// Generates the captures of the dataset `synth` for experiments that use it.
///
/// # Errors
/// A folder that cannot be written to.
pub fn generate_captures(folder: &Path, progress: &dyn Progress) -> Result<(), String> {
    synth::generate(&SynthOptions::default(), folder, progress).map(drop).map_err(|error| error.to_string())
}

/// Returns the project's cache.
pub fn cache(project: &Path) -> Cache {
    Cache::new(experiment::results_folder(project).join("cache"))
}

/// Returns the settings for work without training, on the CPU.
pub fn plain_settings(project: &Path, cache: Cache) -> Settings {
    Settings {
        project: project.to_owned(),
        device: Device::Cpu,
        device_reason: None,
        cache,
        generator: generate_captures,
        take_failures: false,
        memory_limit: None,
    }
}

/// The device selected by `--device`.
#[derive(Clone, Copy)]
pub enum DeviceChoice {
    /// The first GPU if one is available, otherwise the CPU.
    Auto,
    /// This device.
    Chosen(Device),
}

impl DeviceChoice {
    /// Returns the device, checked to be usable, and if a GPU was looked for but not used, the reason.
    ///
    /// # Errors
    /// A GPU that is not available, or a precision that the device does not support.
    pub fn resolve(self, precision: Precision) -> anyhow::Result<(Device, Option<String>)> {
        let (device, reason) = match self {
            Self::Auto => {
                let (device, reason) = Device::best();
                (device, reason.map(|reason| reason.to_string()))
            }
            Self::Chosen(device) => (device, None),
        };
        match device {
            Device::Cpu if precision != Precision::F32 => {
                anyhow::bail!("--precision {} requires a CUDA device; the CPU computes in f32", precision.name())
            }
            Device::Cpu => Ok((device, reason)),
            Device::Cuda(card) => {
                let device = Device::Cuda(CudaDevice { precision, ..card });
                device.check()?;
                Ok((device, reason))
            }
        }
    }
}

/// Parses a device name from the command line.
///
/// # Errors
/// An unknown name.
pub fn parse_device(text: &str) -> Result<DeviceChoice, String> {
    match text {
        "auto" => Ok(DeviceChoice::Auto),
        // The precision has its own option.
        _ if text.contains(' ') => Err("unknown device; use auto, cpu, cuda or cuda:N".to_owned()),
        _ => text.parse().map(DeviceChoice::Chosen),
    }
}

/// Returns the settings of a run on a device, given by the names that the command line and plans use.
///
/// # Errors
/// A device that is not available.
pub fn settings(project: &Path, device: &str, precision: &str, cache: Cache) -> anyhow::Result<Settings> {
    let choice = parse_device(device).map_err(anyhow::Error::msg)?;
    let (device, device_reason) = choice.resolve(precision.parse().map_err(anyhow::Error::msg)?)?;
    Ok(Settings { device, device_reason, ..plain_settings(project, cache) })
}

/// Finds a run by its folder, or by the folder's name under `results`.
///
/// # Errors
/// There is no such run; the message suggests the nearest name.
pub fn find_run(results: &Path, run: &Path) -> anyhow::Result<PathBuf> {
    let named = results.join(run);
    if let Some(folder) =
        [named.as_path(), run].into_iter().find(|folder| report::StoredRun::is_at(folder, "records.jsonl"))
    {
        return Ok(folder.to_owned());
    }
    let known = run_names(results)?;
    let nearest = crate::declarative::did_you_mean(&run.display().to_string(), known.iter().map(String::as_str));
    let advice = match known.as_slice() {
        [] => " (there are none yet; `etcbench run` creates one)",
        _ => " (see `etcbench list runs`)",
    };
    anyhow::bail!("{}: no stored run{nearest}{advice}", named.display())
}

/// Returns the names of the stored runs.
///
/// # Errors
/// A results folder that cannot be read.
pub fn run_names(results: &Path) -> anyhow::Result<Vec<String>> {
    let folders = report::StoredRun::folders(results)?;
    Ok(folders.iter().filter_map(|folder| Some(folder.file_name()?.to_string_lossy().into_owned())).collect())
}

/// What was written for a run.
pub struct Written {
    /// The tables to print.
    pub tables: Vec<report::Table>,
    /// The records.
    pub records: Vec<Record>,
    /// Where an older run with different results is kept now; `None` if there was none.
    pub kept: Option<PathBuf>,
}

/// Writes a run's folder atomically: into a temporary folder next to it, which then replaces it. `units` records which
/// process computed which unit, if the run was divided into units; with `models`, the trained models are written too.
/// Files that others put into the folder stay, and an older run with different results is kept next to it unless
/// `overwrite` is set.
///
/// # Errors
/// A folder that cannot be written to; predictions that are not distributions over the classes.
pub fn write_results(
    project: &Path,
    run: &experiment::Run,
    folder: &Path,
    units: &[UnitRecord],
    models: Option<(&Settings, &dyn Progress)>,
    overwrite: bool,
) -> anyhow::Result<Written> {
    let staging = WholeFolder::new(folder).with_context(|| format!("{}: cannot write here", folder.display()))?;
    let records = run.records()?;
    experiment::store(run, &records, staging.path())?;
    if !units.is_empty() {
        crate::storage::write_whole(&staging.path().join("units.json"), &serde_json::to_vec_pretty(units)?)?;
    }
    if let Some((settings, progress)) = models {
        experiment::save_models(run, settings, &staging.path().join("models"), progress)?;
    }
    for name in ["records.jsonl", "records.csv"] {
        report::write_records(&staging.path().join(name), &records)?;
    }
    let heading = report::RunHeading::of(&run.experiment);
    let tables = staging.path().join("tables");
    let (printed, _) = report::write_run_tables(&published_folder(project), &heading, &records, &tables)?;
    report::RunFiles::of(staging.path())?.write(staging.path())?;
    let kept = staging
        .succeed(|old, new| anyhow::Ok(report::succession(old, new, overwrite)?))
        .with_context(|| folder.display().to_string())?;
    Ok(Written { tables: printed, records, kept })
}

/// Returns the project's folder of published tables.
pub fn published_folder(project: &Path) -> PathBuf {
    project.join("paper/published")
}
