//! A dataset's folder: where it is, and which of its files and zip members are captures.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::definition::DatasetDefinition;
use super::error::DatasetError;
use super::names;
use super::rules::without_compression;
use etcbench_capture::{CaptureSource, ExpansionLimits, archive, decompress};

/// The environment variable for the folder that contains the dataset folders.
pub const DATA_VARIABLE: &str = "ETCBENCH_DATA";
/// Name of the file that records what was downloaded into a dataset's folder.
pub(super) const DOWNLOADS_FILE: &str = "downloads.json";
/// Prefix of the names of unfinished files and folders.
pub(super) const PARTIAL_PREFIX: &str = ".partial-";
/// Prefix of the marker file that exists while an archive is unpacked into a folder.
pub(super) const UNPACKING_PREFIX: &str = ".unpacking-";
/// Maximum number of expected files named in an error.
const NAMED_FILES: usize = 3;

/// A file of a dataset, or a member of one of its zip archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureFile {
    /// Path relative to the dataset's folder, with `/` as separator; `archive.zip!member` for a member.
    pub path: String,
    /// Size in bytes; the unpacked size for members.
    pub size: u64,
    /// The archive that contains this member, relative to the dataset's folder.
    pub archive: Option<String>,
}

impl CaptureFile {
    /// Returns the source of the file's bytes, given the dataset's folder.
    pub fn source(&self, root: &Path) -> CaptureSource {
        match &self.archive {
            Some(archive) => CaptureSource::member(root.join(archive), self.member()),
            None => CaptureSource::file(root.join(&self.path)),
        }
    }

    /// The path that patterns are matched against: an archive counts as a folder.
    pub(super) fn pattern_path(&self) -> String {
        match &self.archive {
            Some(archive) => format!("{archive}/{}", self.member()),
            None => self.path.clone(),
        }
    }

    /// The path that rules use: members are treated as unpacked next to their archive.
    pub(super) fn location(&self) -> String {
        match self.archive.as_deref().map(|archive| archive.rsplit_once('/')) {
            None => self.path.clone(),
            Some(None) => self.member().to_owned(),
            Some(Some((folder, _))) => format!("{folder}/{}", self.member()),
        }
    }

    /// Paths where an unpacked copy may be: next to the archive, or in a folder named after the archive.
    pub(super) fn unpacked_places(&self) -> Vec<String> {
        let mut places = vec![without_compression(&self.location()).to_owned()];
        if let Some(archive) = &self.archive {
            let folder = archive.rsplit_once('.').map_or(archive.as_str(), |(stem, _)| stem);
            places.push(format!("{folder}/{}", without_compression(self.member())));
        }
        places
    }

    fn member(&self) -> &str {
        let archive = self.archive.as_ref().map_or(0, |archive| archive.len() + 1);
        self.path.get(archive..).unwrap_or_default()
    }
}

/// A dataset's folder and its contents, with every list sorted by path.
#[derive(Debug, Clone)]
pub struct DatasetFolder {
    /// The folder.
    pub root: PathBuf,
    /// The captures.
    pub captures: Vec<CaptureFile>,
    /// Files that match a pattern but are excluded, with the reason.
    pub excluded: Vec<(CaptureFile, String)>,
    /// Files with per-flow labels.
    pub flow_label_files: Vec<CaptureFile>,
    /// All other files.
    pub unexpected: Vec<CaptureFile>,
    /// Zip archives whose members cannot be listed, with the reason.
    pub damaged_archives: Vec<(CaptureFile, String)>,
    /// Files that are named like captures but match no pattern, each with the pattern that would match.
    pub ignored: Vec<(CaptureFile, String)>,
    /// Files created by macOS or Windows that match a pattern; those that match none are not listed.
    pub system_files: Vec<CaptureFile>,
    /// Entries that cannot be read or have a name that is not valid UTF-8, with the reason, in walk order.
    pub unreadable: Vec<(String, String)>,
}

/// Finds the folder of a dataset: `$ETCBENCH_DATA/<name>` if the variable is set, then `data/<name>` under the
/// project's root (`<name>` is the definition's `folder`, if it has one).
///
/// # Errors
/// [`DatasetError::NotHere`] lists the folders tried, the files expected, where they are published, and `hint`, the
/// command that runs the same table on embedded data.
pub fn locate(definition: &DatasetDefinition, project_root: &Path, hint: &str) -> Result<DatasetFolder, DatasetError> {
    let set = std::env::var_os(DATA_VARIABLE).filter(|value| !value.is_empty());
    let roots: Vec<PathBuf> = set
        .map(PathBuf::from)
        .into_iter()
        .chain([project_root.join("data")])
        .map(|root| root.join(&definition.folder))
        .collect();
    locate_in(definition, &roots, hint)
}

/// Returns the folder for downloads of the dataset: the first one that [`locate`] tries.
pub fn download_folder(definition: &DatasetDefinition, project_root: &Path) -> PathBuf {
    let set = std::env::var_os(DATA_VARIABLE).filter(|value| !value.is_empty());
    set.map_or_else(|| project_root.join("data"), PathBuf::from).join(&definition.folder)
}

/// Like [`locate`], but searches `roots` and returns the first that contains a capture.
///
/// # Errors
/// Like [`locate`].
pub fn locate_in(definition: &DatasetDefinition, roots: &[PathBuf], hint: &str) -> Result<DatasetFolder, DatasetError> {
    let mut tried = Vec::new();
    for root in roots {
        if !root.is_dir() {
            tried.push(format!("{} (no such folder)", root.display()));
            continue;
        }
        let folder = open_folder(definition, root)?;
        if !folder.captures.is_empty() {
            return Ok(folder);
        }
        let foreign = super::foreign::foreign_files(root).map_or(String::new(), |told| format!("; {told}"));
        tried.push(format!("{} (no capture in it{foreign})", root.display()));
    }
    let stems = definition.expected_stems();
    let patterns = definition.file_patterns.join(", ");
    let expected = match stems.len() {
        0 => format!("files {patterns}"),
        count => format!(
            "{count} captures ({patterns}) such as {}",
            stems.iter().take(NAMED_FILES).copied().collect::<Vec<_>>().join(", ")
        ),
    };
    Err(DatasetError::NotHere {
        name: definition.name.clone(),
        tried: tried.join(" and "),
        expected,
        published: definition.published_at.told(),
        hint: hint.to_owned(),
    })
}

/// Lists the contents of `root` and of its zip archives, following links. Skips etcbench's own files (unfinished
/// downloads, the list of downloads); entries that cannot be read are listed in [`DatasetFolder::unreadable`].
///
/// # Errors
/// The folder itself cannot be listed, or an archive is being unpacked into it or was unpacked only in part.
pub fn open_folder(definition: &DatasetDefinition, root: &Path) -> Result<DatasetFolder, DatasetError> {
    let mut folder = DatasetFolder {
        root: root.to_owned(),
        captures: Vec::new(),
        excluded: Vec::new(),
        flow_label_files: Vec::new(),
        unexpected: Vec::new(),
        damaged_archives: Vec::new(),
        ignored: Vec::new(),
        system_files: Vec::new(),
        unreadable: Vec::new(),
    };
    // Temporary files and folders of other processes come and go.
    let is_temporary = |name: Option<&std::ffi::OsStr>| {
        name.is_some_and(|name| name.as_encoded_bytes().starts_with(PARTIAL_PREFIX.as_bytes()))
    };
    let finished = |entry: &walkdir::DirEntry| entry.depth() == 0 || !is_temporary(Some(entry.file_name()));
    for entry in walkdir::WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter().filter_entry(finished) {
        match entry {
            Ok(entry) => folder.add(definition, &entry)?,
            Err(error) if error.depth() == 0 => {
                let path = error.path().unwrap_or(root).display().to_string();
                return Err(DatasetError::Io { path, source: error.into() });
            }
            Err(error) => {
                let path = error.path().unwrap_or(root).to_owned();
                // Skip entries that vanished during the walk.
                if !is_temporary(path.file_name()) && path.symlink_metadata().is_ok() {
                    folder.cannot_read(&path, why_unreadable(&error, &path));
                }
            }
        }
    }
    folder.captures.sort_by(|a, b| a.path.cmp(&b.path));
    folder.excluded.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    folder.flow_label_files.sort_by(|a, b| a.path.cmp(&b.path));
    folder.unexpected.sort_by(|a, b| a.path.cmp(&b.path));
    folder.ignored.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    folder.system_files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(folder)
}

/// Describes why an entry of a folder cannot be read.
fn why_unreadable(error: &walkdir::Error, path: &Path) -> String {
    if let Some(ancestor) = error.loop_ancestor() {
        return format!("it is a link to {}, a folder that contains it", ancestor.display());
    }
    let missing = error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    match std::fs::read_link(path) {
        Ok(target) if missing => format!("it is a link to {}, which does not exist", target.display()),
        _ => error.io_error().map_or_else(|| error.to_string(), ToString::to_string),
    }
}

/// Returns the first four bytes of a file, or `None` if it is shorter or cannot be read.
fn head_of(path: &Path) -> Option<[u8; 4]> {
    let mut head = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).ok()?;
    Some(head)
}

/// The role of a file in a dataset, determined from its path alone.
enum Place {
    Capture,
    Excluded(String),
    FlowLabels,
    /// Named like a capture but not matched; contains the pattern that would match it.
    Ignored(String),
    Nowhere,
}

impl Place {
    fn of(definition: &DatasetDefinition, file: &CaptureFile) -> Self {
        let path = file.pattern_path();
        let path = names::composed(&path);
        let excluded = || definition.excluded.matches(&*path).first().copied();
        // Label files that belong to another file are read together with it, even if a pattern matches them.
        if definition.published.as_ref().is_some_and(|published| published.is_beside(&path)) && excluded().is_none() {
            return Place::FlowLabels;
        }
        if definition.files.is_match(&*path) {
            return match excluded() {
                Some(index) => Place::Excluded(definition.exclusions[index].reason.clone()),
                None => Place::Capture,
            };
        }
        let labels = |rules: &super::flow_labels::FlowLabelRules| rules.files.is_match(&*path);
        if file.archive.is_none() && definition.flow_labels.as_ref().is_some_and(labels) {
            return Place::FlowLabels;
        }
        // Datasets of feature files have no captures, whatever else is in their folder.
        let name = names::capture_name(&path).filter(|_| definition.is_captures() && excluded().is_none());
        // Report only names that would match as `.pcap` or `.pcapng`: other captures are not part of the dataset.
        let is_meant =
            |stem: &str| ["pcap", "pcapng"].iter().any(|end| definition.files.is_match(format!("{stem}.{end}")));
        match name {
            Some(name) if is_meant(&name.stem) => Place::Ignored(name.pattern),
            _ => Place::Nowhere,
        }
    }
}

impl DatasetFolder {
    fn add(&mut self, definition: &DatasetDefinition, entry: &walkdir::DirEntry) -> Result<(), DatasetError> {
        if entry.file_type().is_dir() {
            return Ok(());
        }
        let parts: Option<Vec<&str>> = entry
            .path()
            .strip_prefix(&self.root)
            .ok()
            .and_then(|relative| relative.components().map(|part| part.as_os_str().to_str()).collect());
        let Some(parts) = parts else {
            self.cannot_read(entry.path(), "its name is not UTF-8; rename it".to_owned());
            return Ok(());
        };
        let path = parts.join("/");
        let name = parts.last().copied().unwrap_or_default();
        if name == DOWNLOADS_FILE {
            return Ok(());
        }
        let is_regular = entry.file_type().is_file();
        if is_regular && name.starts_with(UNPACKING_PREFIX) {
            let marker = entry.path().to_owned();
            let archive = std::fs::read_to_string(&marker).unwrap_or_default().trim().to_owned();
            return Err(DatasetError::Unpacking { marker, archive });
        }
        let file = CaptureFile { size: entry.metadata().map_or(0, |metadata| metadata.len()), path, archive: None };
        let place = Place::of(definition, &file);
        if names::is_system_file(&file.path, || if is_regular { head_of(entry.path()) } else { None }) {
            if matches!(place, Place::Capture | Place::FlowLabels) {
                self.system_files.push(file);
            }
            return Ok(());
        }
        if !is_regular {
            // Reading a pipe or a device would never end.
            if !matches!(place, Place::Nowhere) {
                self.cannot_read(entry.path(), "it is not a regular file".to_owned());
            }
            return Ok(());
        }
        if matches!(place, Place::Capture | Place::FlowLabels)
            && let Err(error) = File::open(entry.path())
        {
            self.cannot_read(entry.path(), error.to_string());
            return Ok(());
        }
        match place {
            Place::Ignored(pattern) if self.is_capture(&file) => {
                self.ignored.push((file.clone(), pattern));
                self.unexpected.push(file);
            }
            Place::Ignored(_) | Place::Nowhere => {
                if !self.open_archive(definition, &file) {
                    self.unexpected.push(file);
                }
            }
            place => self.put(place, file),
        }
        Ok(())
    }

    /// Returns whether a file, decompressed if necessary, starts like a capture.
    fn is_capture(&self, file: &CaptureFile) -> bool {
        let limits = ExpansionLimits::default();
        let mut head = [0; 4];
        let stream = file.source(&self.root).open(limits).ok().and_then(|stream| decompress(stream, limits).ok());
        stream.is_some_and(|mut content| content.stream.read_exact(&mut head).is_ok() && names::is_capture(head))
    }

    fn put(&mut self, place: Place, file: CaptureFile) {
        match place {
            Place::Capture => self.captures.push(file),
            Place::Excluded(reason) => self.excluded.push((file, reason)),
            Place::FlowLabels => self.flow_label_files.push(file),
            Place::Ignored(pattern) if self.is_capture(&file) => self.ignored.push((file, pattern)),
            Place::Ignored(_) | Place::Nowhere => {}
        }
    }

    fn cannot_read(&mut self, path: &Path, reason: String) {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        self.unreadable.push((relative.to_string_lossy().into_owned(), reason));
    }

    /// Sorts the members of a zip archive, whatever its file name, by their role. Returns false if the file is not a
    /// zip archive or contains nothing of the dataset.
    fn open_archive(&mut self, definition: &DatasetDefinition, file: &CaptureFile) -> bool {
        let path = self.root.join(&file.path);
        let is_called_so = file.path.to_ascii_lowercase().ends_with(".zip");
        // Feature files are not unpacked.
        if definition.features.is_some()
            || !(is_called_so || head_of(&path).is_some_and(|head| archive::is_archive(&head)))
        {
            return false;
        }
        let members = match archive::members(&path) {
            Ok(members) => members,
            Err(error) if is_called_so => {
                self.damaged_archives.push((file.clone(), error.to_string()));
                return true;
            }
            // Other formats start with the same bytes as zip archives.
            Err(_) => return false,
        };
        let mut used = false;
        for member in members {
            let path = format!("{}!{}", file.path, member.name);
            let in_archive = CaptureFile { path, size: member.size, archive: Some(file.path.clone()) };
            let place = Place::of(definition, &in_archive);
            let is_capture = matches!(place, Place::Capture);
            if names::is_system_file(&member.name, || None) {
                if is_capture {
                    self.system_files.push(in_archive);
                }
            } else if is_capture && member.is_link {
                self.unreadable
                    .push((in_archive.path, "it is a symbolic link inside an archive; unpack it".to_owned()));
            } else if is_capture && member.leads_out() {
                let reason = "its name points outside the archive; unpack it with another program".to_owned();
                self.unreadable.push((in_archive.path, reason));
            } else {
                used |= !matches!(place, Place::Nowhere | Place::Ignored(_));
                self.put(place, in_archive);
            }
        }
        used
    }

    /// Returns warnings about the folder to show before its captures are used, one line each.
    pub fn warnings(&self, dataset: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        for (path, reason) in self.unreadable.iter().take(MOST_TOLD) {
            warnings.push(format!("{dataset}: {} is skipped: {reason}", path.escape_debug()));
        }
        if self.unreadable.len() > MOST_TOLD {
            let more = self.unreadable.len() - MOST_TOLD;
            warnings
                .push(format!("{dataset}: {more} more cannot be read (`etcbench data verify {dataset}` lists them)"));
        }
        if let Some((first, _)) = self.ignored.first() {
            let mut patterns: Vec<&str> = self.ignored.iter().map(|(_, pattern)| pattern.as_str()).collect();
            patterns.sort_unstable();
            patterns.dedup();
            let patterns: Vec<String> = patterns.iter().map(|pattern| format!("\"{pattern}\"")).collect();
            let files =
                counted(self.ignored.len(), &first.path, "looks like a capture and is", "look like captures and are");
            warnings.push(format!(
                "{dataset}: {files} not used; to use such files, add {} to `patterns` in [files] of data/{dataset}.toml, or to \
                 `exclude` with a reason",
                patterns.join(", ")
            ));
        }
        if let Some(first) = self.system_files.first() {
            let files = counted(self.system_files.len(), &first.path, "is", "are");
            warnings.push(format!("{dataset}: {files} skipped: created by macOS or Windows"));
        }
        warnings
    }
}

/// Maximum number of unreadable entries that a run lists individually.
const MOST_TOLD: usize = 5;

/// `a.pcap is`, or `3 files (a.pcap, ...) are`.
fn counted(count: usize, first: &str, one: &str, several: &str) -> String {
    match count {
        1 => format!("{} {one}", first.escape_debug()),
        _ => format!("{count} files ({}, ...) {several}", first.escape_debug()),
    }
}
