//! The members of an archive: checks their names and sizes, writes them to a temporary folder, and checks the files
//! that exist in the target.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Component, Path};

use super::{UnpackError, UnpackLimits, Unpacked, io};
use crate::names;
use crate::unpacking::same_content;
use etcbench_capture::ExpansionLimits;
use etcbench_storage as storage;

/// Bytes copied at a time.
const PIECE: usize = 1 << 18;

const ALIKE: &str = "differs from another only in letter case or Unicode form, which this file system ignores; \
                     unpack the archive elsewhere";

pub(super) const TWICE: &str = "is duplicated; unpack the archive with another program and keep one of the two";

/// An archive while it is unpacked.
pub(super) struct Work<'a> {
    pub archive: &'a Path,
    pub archive_size: u64,
    pub target: &'a Path,
    pub staging: &'a Path,
    pub limits: &'a UnpackLimits,
    pub force: bool,
    pub advance: &'a dyn Fn(u64),
    pub members: u64,
    /// File paths by folded form: some file systems treat names that differ only in letter case or Unicode form as
    /// equal.
    pub spellings: BTreeMap<String, Vec<String>>,
    /// The folders created so far.
    pub folders: BTreeSet<String>,
    pub result: Unpacked,
}

impl Work<'_> {
    pub(super) fn damaged(&self, problem: impl std::fmt::Display) -> UnpackError {
        UnpackError::Damaged { archive: self.archive.to_owned(), problem: problem.to_string() }
    }

    pub(super) fn refused(&self, member: &str, problem: &str) -> UnpackError {
        let member = member.escape_debug().to_string();
        UnpackError::Refused { archive: self.archive.to_owned(), member, problem: problem.to_owned() }
    }

    pub(super) fn unusable(&self, problem: impl Into<String>) -> UnpackError {
        UnpackError::Unusable { archive: self.archive.to_owned(), problem: problem.into() }
    }

    pub(super) fn expands(&self, problem: String) -> UnpackError {
        UnpackError::Expands { archive: self.archive.to_owned(), problem }
    }

    /// Refuses existing files with different content (unless forced), and links on the path to a file.
    pub(super) fn refuse_conflicts(&self) -> Result<(), UnpackError> {
        for file in &self.result.files {
            refuse_link_on_the_way(self.archive, self.target, file)?;
            let to = self.target.join(file);
            let Ok(found) = to.symlink_metadata() else { continue };
            let is_same = found.is_file() && same_content(&self.staging.join(file), &to).map_err(io(&to))?;
            if !is_same && !self.force {
                return Err(UnpackError::Exists { path: to });
            }
        }
        Ok(())
    }

    pub(super) fn count_member(&mut self) -> Result<(), UnpackError> {
        self.members += 1;
        if self.members > self.limits.most_members {
            let problem = format!("it has more than {} members", self.limits.most_members);
            return Err(self.expands(problem));
        }
        Ok(())
    }

    /// Returns the member's path relative to the target.
    pub(super) fn safe_path(&self, name: &str) -> Result<String, UnpackError> {
        if name.contains(['\\', '\0', '\u{fffd}']) || name.chars().any(char::is_control) {
            return Err(self.refused(name, "has a name with a backslash, a control character or an unknown encoding"));
        }
        // On Windows, a colon denotes a drive or a stream.
        if name.contains(':') && cfg!(windows) {
            return Err(self.refused(name, "has a name with a colon"));
        }
        let mut parts = Vec::new();
        for part in Path::new(name).components() {
            match part {
                Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
                Component::CurDir => {}
                _ => return Err(self.refused(name, "points outside the folder it is unpacked into")),
            }
        }
        Ok(parts.join("/"))
    }

    /// Checks a member's name and that it conflicts with no other member or existing file.
    pub(super) fn admit(&mut self, name: &str, size: u64) -> Result<String, UnpackError> {
        self.count_member()?;
        let path = self.safe_path(name)?;
        if path.is_empty() || name.ends_with('/') {
            return Err(self.refused(name, "has no name"));
        }
        let spellings = self.spellings.entry(names::folded(&path)).or_default();
        if spellings.contains(&path) {
            return Err(self.refused(name, TWICE));
        }
        spellings.push(path.clone());
        let mut folder = path.as_str();
        while let Some((above, _)) = folder.rsplit_once('/') {
            folder = above;
            // A folder that exists but was not created under this name has another spelling.
            if self.folders.insert(folder.to_owned()) && self.staging.join(folder).is_dir() {
                return Err(self.refused(name, &format!("is in a folder that {ALIKE}")));
            }
        }
        let target = self.target.join(&path);
        // Files of equal size are compared after unpacking.
        let may_be_same = |found: std::fs::Metadata| found.is_file() && found.len() == size;
        if !self.force && target.symlink_metadata().is_ok_and(|found| !may_be_same(found)) {
            return Err(UnpackError::Exists { path: target });
        }
        Ok(path)
    }

    pub(super) fn write(&mut self, name: &str, path: &str, mut stream: impl Read) -> Result<(), UnpackError> {
        let mut head = Vec::new();
        stream.by_ref().take(4).read_to_end(&mut head).map_err(|error| self.stream_error(&error))?;
        let is_system_file = names::is_system_file(path, || head.as_slice().try_into().ok());
        if is_system_file {
            // Read to the end anyway: the checksum and the rest of the stream follow.
            let bytes = self.copy(std::io::Cursor::new(head).chain(stream), &mut std::io::sink(), path)?;
            self.result.bytes -= bytes;
            self.result.system_files += 1;
            return Ok(());
        }
        let to = self.staging.join(path);
        let mut file = match storage::create_file(&to) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let alike = self.spellings.get(&names::folded(path)).is_some_and(|spellings| spellings.len() > 1);
                let problem = if alike { ALIKE } else { "is a file and a folder at once" };
                return Err(self.refused(name, problem));
            }
            Err(error) => return Err(io(&to)(error)),
        };
        self.copy(std::io::Cursor::new(head).chain(stream), &mut file, path)?;
        file.sync_all().map_err(io(&to))?;
        self.result.files.push(path.to_owned());
        Ok(())
    }

    /// Copies a member within the limits and returns its size.
    fn copy(&mut self, mut stream: impl Read, file: &mut impl std::io::Write, path: &str) -> Result<u64, UnpackError> {
        let before = self.result.bytes;
        let mut buffer = vec![0; PIECE];
        loop {
            let count = match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.stream_error(&error)),
            };
            file.write_all(&buffer[..count]).map_err(io(&self.staging.join(path)))?;
            self.result.bytes += count as u64;
            (self.advance)(count as u64);
            let ExpansionLimits { most_bytes, most_ratio, free_bytes } = self.limits.expansion;
            let bytes = self.result.bytes;
            if bytes > most_bytes {
                let problem = format!("its members exceed {most_bytes} bytes in total");
                return Err(self.expands(problem));
            }
            if bytes > free_bytes && bytes / self.archive_size.max(1) > most_ratio {
                let problem = format!("its members exceed {most_ratio} times the archive's size");
                return Err(self.expands(problem));
            }
        }
        Ok(self.result.bytes - before)
    }
}

/// Refuses to write through an existing link inside the target, which could lead outside it.
fn refuse_link_on_the_way(archive: &Path, target: &Path, file: &str) -> Result<(), UnpackError> {
    let mut path = target.to_owned();
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in parts {
        path.push(part);
        if path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_symlink()) {
            return Err(UnpackError::Refused {
                archive: archive.to_owned(),
                member: file.to_owned(),
                problem: format!("would be written through the link {}", path.display()),
            });
        }
    }
    Ok(())
}
