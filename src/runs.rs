//! What the command line and the Python module share: where a stored run is, the settings of a
//! run, and how its folder is written.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::experiment::{self, Cache, Record, Settings, UnitRecord};
use crate::model::{CudaDevice, Device, Precision};
use crate::progress::Progress;
use crate::report;
use crate::storage::WholeFolder;
use crate::synth::{self, SynthOptions};

/// The captures of the dataset `synth`, for experiments that use it.
///
/// # Errors
/// A folder that cannot be written.
pub fn generate_captures(folder: &Path, progress: &dyn Progress) -> Result<(), String> {
    synth::generate(&SynthOptions::default(), folder, progress).map(drop).map_err(|error| error.to_string())
}

/// The project's cache.
pub fn cache(project: &Path) -> Cache {
    Cache::new(experiment::results_folder(project).join("cache"))
}

/// Settings of what trains nothing, on the processor.
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

/// What `--device` names.
#[derive(Clone, Copy)]
pub enum DeviceChoice {
    /// A graphics card where there is one, else the processor.
    Auto,
    /// This one.
    Chosen(Device),
}

impl DeviceChoice {
    /// The device, which can be used, and why it is not a graphics card where one was looked for.
    ///
    /// # Errors
    /// A card that is not there, or a precision that the device does not have.
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
                anyhow::bail!("--precision {} is for CUDA devices; the cpu computes in f32", precision.name())
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

/// A device by its name on the command line.
///
/// # Errors
/// A name of none.
pub fn parse_device(text: &str) -> Result<DeviceChoice, String> {
    match text {
        "auto" => Ok(DeviceChoice::Auto),
        // The precision has an option of its own.
        _ if text.contains(' ') => Err("the devices are auto, cpu, cuda and cuda:N".to_owned()),
        _ => text.parse().map(DeviceChoice::Chosen),
    }
}

/// The settings of a run on a device by the names that the command line and plans have for it.
///
/// # Errors
/// A device that is not there.
pub fn settings(project: &Path, device: &str, precision: &str, cache: Cache) -> anyhow::Result<Settings> {
    let choice = parse_device(device).map_err(anyhow::Error::msg)?;
    let (device, device_reason) = choice.resolve(precision.parse().map_err(anyhow::Error::msg)?)?;
    Ok(Settings { device, device_reason, ..plain_settings(project, cache) })
}

/// A run by the name of its folder under `results`, or by its folder.
///
/// # Errors
/// No such run; names the nearest.
pub fn find_run(results: &Path, run: &Path) -> anyhow::Result<PathBuf> {
    let named = results.join(run);
    if let Some(folder) = [named.as_path(), run].into_iter().find(|folder| folder.join("records.jsonl").is_file()) {
        return Ok(folder.to_owned());
    }
    let known = run_names(results)?;
    let nearest = crate::declarative::did_you_mean(&run.display().to_string(), known.iter().map(String::as_str));
    let advice = match known.as_slice() {
        [] => " (there is none yet: `etcbench run` makes one)",
        _ => " (`etcbench list runs` names them)",
    };
    anyhow::bail!("{}: there is no stored run{nearest}{advice}", named.display())
}

/// The names of the stored runs.
///
/// # Errors
/// A folder of results that cannot be read.
pub fn run_names(results: &Path) -> anyhow::Result<Vec<String>> {
    let folders = report::StoredRun::folders(results)?;
    Ok(folders.iter().filter_map(|folder| Some(folder.file_name()?.to_string_lossy().into_owned())).collect())
}

/// What was written of a run.
pub struct Written {
    /// The tables that are printed.
    pub tables: Vec<report::Table>,
    /// The records.
    pub records: Vec<Record>,
    /// Where an older run with other results is kept now; none where there was none.
    pub kept: Option<PathBuf>,
}

/// Writes a run's folder whole: into a temporary folder beside it, then in its place. `units` say who computed what,
/// where other processes did; with `models` the trained models are written too. Files that others put into the folder stay, and
/// an older run with other results is kept beside it, unless with `overwrite`.
///
/// # Errors
/// A folder that cannot be written; predictions that are not distributions over the classes.
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

/// Where the project has published tables.
pub fn published_folder(project: &Path) -> PathBuf {
    project.join("paper/published")
}
