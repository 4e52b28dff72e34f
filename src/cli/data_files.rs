//! `etcbench data fetch`, `unpack` and `init`: bring captures into a dataset's folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::data_verify::read_definition;
use super::output::count;
use super::{Verdict, progress};
use crate::dataset::{self, DatasetDefinition, DatasetFolder, FetchOptions, LabelPlan, UnpackLimits};
use crate::storage;

/// `etcbench data fetch`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench data fetch ctu13 --part 9 --dry-run              what would be downloaded, and where to
  etcbench data fetch ctu13 --part 1,9
  etcbench data fetch iscxvpn2016                           behind a form: where to go and what to download

Repeat the command to resume an interrupted download. Its SHA-256 is compared with the definition's, or stored in
downloads.json for the next time.")]
pub(super) struct FetchArguments {
    /// The dataset.
    name: String,
    /// Parts of the dataset to download, such as 1,9; all by default.
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    part: Vec<String>,
    /// The folder to download into; data/NAME or $ETCBENCH_DATA/NAME by default.
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
    /// Show what would be downloaded, and download nothing.
    #[arg(long)]
    dry_run: bool,
    /// Download files again that already exist.
    #[arg(long)]
    force: bool,
    /// How often a download is retried without progress.
    #[arg(long, value_name = "N", default_value_t = FetchOptions::default().retries)]
    retries: u32,
    /// Seconds without a byte after which a server counts as stalled.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    stall: u64,
}

/// `etcbench data unpack`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench data unpack Tor.tar.xz --into data/iscxtor2016
  etcbench data unpack Session.zip --into data/mine --force

Nothing is put in place before the whole archive has been read, and a run refuses a folder where this was
interrupted: repeat the command to complete it. Files that macOS and Windows leave in archives (__MACOSX, ._*,
Thumbs.db) are skipped. Rejected: members that lead out of the folder, links and devices, and archives that expand to
more than 200 times their size (beyond 1 GiB), 1 TiB or a million members.")]
pub(super) struct UnpackArguments {
    /// The archive.
    archive: PathBuf,
    /// The folder to unpack into.
    #[arg(long, value_name = "FOLDER")]
    into: PathBuf,
    /// Overwrite existing files.
    #[arg(long)]
    force: bool,
}

/// `etcbench data init`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench data init mine --folder captures                 captures/chat/*.pcap have class chat, and so on
  etcbench data init mine --folder captures --column application

Then use the dataset in an experiment: [dataset] names = [\"mine\"], [selection] label = \"class\".")]
pub(super) struct InitArguments {
    /// The dataset's name; its definition becomes data/NAME.toml.
    name: String,
    /// The folder that contains one folder of captures per class.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// Name of the label column.
    #[arg(long, value_name = "COLUMN", default_value = "class")]
    column: String,
}

/// `etcbench data fetch`.
pub(super) fn fetch(project: &Path, arguments: &FetchArguments) -> anyhow::Result<Verdict> {
    let definition = read_definition(project, &arguments.name)?;
    let folder = arguments.into.clone().unwrap_or_else(|| dataset::download_folder(&definition, project));
    if definition.downloads.is_empty() {
        let publication = &definition.published_at;
        match publication.url.as_str() {
            "" => say!("{} is not openly downloadable: {}.", definition.title, publication.how),
            url => {
                say!("{} is not openly downloadable. Go to {url}", definition.title);
                say!("and {}.", publication.how);
            }
        }
        say!(
            "Put the files into {}; then check them with `etcbench data verify {}`.",
            folder.display(),
            definition.name
        );
        return Ok(Verdict::CheckFailed);
    }
    if arguments.dry_run {
        for download in dataset::downloads(&definition, &arguments.part)? {
            let part = download.part.as_ref().map_or(String::new(), |part| format!("part {part}: "));
            say!("{part}{} -> {}", download.url, folder.join(&download.path).display());
        }
        return Ok(Verdict::Done);
    }
    let options = FetchOptions {
        parts: arguments.part.clone(),
        force: arguments.force,
        retries: arguments.retries,
        stall: Duration::from_secs(arguments.stall),
        ..FetchOptions::default()
    };
    let fetched = dataset::fetch(&definition, &folder, &options, progress::for_standard_error().as_ref())?;
    for file in fetched {
        let state = if file.already { "already there" } else { "downloaded" };
        let (path, size) = (folder.join(&file.path), storage::counted(file.size, "byte"));
        say!("{state} {}, {size}, sha256 {}", path.display(), file.sha256);
        if !file.unpacked.is_empty() {
            say!("unpacked {} of it", count(file.unpacked.len(), "file"));
        }
    }
    Ok(Verdict::Done)
}

/// `etcbench data unpack`.
pub(super) fn unpack(arguments: &UnpackArguments) -> anyhow::Result<Verdict> {
    let progress = progress::for_standard_error();
    progress.begin(&format!("unpacking {}", arguments.archive.display()), 0);
    let advance = |bytes: u64| progress.advance(bytes);
    let limits = UnpackLimits::default();
    let result = dataset::unpack(&arguments.archive, &arguments.into, &limits, arguments.force, &advance);
    progress.end();
    let unpacked = result?;
    let (files, bytes) = (count(unpacked.files.len(), "file"), storage::counted(unpacked.bytes, "byte"));
    say!("{}: {files}, {bytes}", arguments.into.display());
    if unpacked.system_files > 0 {
        say!(
            "skipped, created automatically by macOS or Windows: {}",
            storage::counted(unpacked.system_files as u64, "file")
        );
    }
    Ok(Verdict::Done)
}

/// `etcbench data init`.
pub(super) fn init(project: &Path, arguments: &InitArguments) -> anyhow::Result<Verdict> {
    let InitArguments { name, folder, column } = arguments;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        anyhow::bail!("`{name}` is not a valid name for a dataset: use letters, digits, `-` and `_` only");
    }
    let path = dataset::definition_path(project, name);
    if path.symlink_metadata().is_ok() {
        anyhow::bail!("{} already exists; remove it or choose another name", path.display());
    }
    if !folder.is_dir() {
        anyhow::bail!("{}: no such folder", folder.display());
    }
    let whole = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let link = Link::to(&whole, &project.join("data").join(name))?;
    let column_value = toml::Value::from(column.as_str());
    let write = |patterns: &[String]| -> anyhow::Result<(DatasetFolder, LabelPlan)> {
        let patterns: Vec<String> =
            patterns.iter().map(|pattern| toml::Value::from(pattern.as_str()).to_string()).collect();
        let text = format!(
            "name = {name_value}\n\
             title = {name_value}\n\
             # What to cite.\n\
             reference = \"none\"\n\
             label_columns = [{column_value}]\n\
             \n\
             [published_at]\n\
             url = \"none\"\n\
             how = \"put the captures into a folder per class\"\n\
             \n\
             [files]\n\
             patterns = [{patterns}]\n\
             \n\
             # The first folder of a capture's path is its class.\n\
             [folders]\n\
             columns = [{column_value}]\n",
            name_value = toml::Value::from(name.as_str()),
            patterns = patterns.join(", "),
        );
        storage::write_whole(&path, text.as_bytes()).with_context(|| path.display().to_string())?;
        let definition = DatasetDefinition::read(&path)?;
        let opened = dataset::open_folder(&definition, &whole)?;
        let plan = dataset::plan(&definition, &opened)?;
        Ok((opened, plan))
    };
    let mut patterns = vec!["**/*.pcap".to_owned(), "**/*.pcapng".to_owned()];
    let result = write(&patterns).and_then(|(opened, plan)| {
        if opened.ignored.is_empty() {
            return Ok((opened, plan));
        }
        // Captures with other names, such as those that tcpdump numbers, are included too.
        patterns.extend(opened.ignored.into_iter().map(|(_, pattern)| pattern).collect::<BTreeSet<String>>());
        write(&patterns)
    });
    // Remove a definition that labels nothing.
    let (opened, plan) = match result {
        Ok((opened, plan)) if !plan.captures.is_empty() => (opened, plan),
        other => {
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
            link.remove();
            other?;
            anyhow::bail!(
                "{}: no folder in it contains a .pcap or .pcapng file; create one folder per class",
                folder.display()
            );
        }
    };
    opened.warnings(name).iter().for_each(|warning| tell!("{warning}"));
    dataset::labels_alike(plan.captures.iter().map(|capture| &capture.labels)).iter().for_each(|text| tell!("{text}"));
    let mut classes: BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for capture in &plan.captures {
        *classes.entry(capture.labels.get(column).map_or("", String::as_str)).or_default() += 1;
    }
    for (class, captures) in &classes {
        say!("{class}: {}", count(*captures, "capture"));
    }
    if patterns.len() > 2 {
        say!("captures with other names are used too: {}", patterns[2..].join(", "));
    }
    if !plan.unlabelled.is_empty() {
        say!("not in a folder, so without class: {}", count(plan.unlabelled.len(), "capture"));
    }
    say!("{}: dataset {name} with {}; label column `{column}`", path.display(), count(classes.len(), "class"));
    if let Link(Some(link)) = link {
        say!("{} is a link to {}", link.display(), whole.display());
    }
    Ok(Verdict::Done)
}

/// The link that makes captures elsewhere part of a dataset, because definitions only refer to files in `data/`. `None`
/// if the captures are already there.
struct Link(Option<PathBuf>);

impl Link {
    fn to(folder: &Path, place: &Path) -> anyhow::Result<Self> {
        if place.canonicalize().is_ok_and(|place| place == folder) {
            return Ok(Self(None));
        }
        if place.symlink_metadata().is_ok() {
            anyhow::bail!("{} already exists; remove it or choose another name", place.display());
        }
        let above = place.parent().unwrap_or(Path::new("."));
        storage::create_folder(above).with_context(|| above.display().to_string())?;
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder, place).with_context(|| place.display().to_string())?;
        #[cfg(not(unix))]
        anyhow::bail!("{}: put the captures there, or a link to them, and remove --folder", place.display());
        Ok(Self(Some(place.to_owned())))
    }

    fn remove(&self) {
        if let Some(link) = &self.0 {
            let _ = std::fs::remove_file(link);
        }
    }
}
