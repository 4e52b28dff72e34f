//! Unpacks archives (zip, and tar with or without compression) without trusting their contents: no path outside the
//! target, no links, no devices, no expansion past limits, and no file in place before the whole archive has been read.
//! An interrupted process leaves a marker (see [`super::unpacking`]); running the same command again completes the
//! work.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::names;
use super::sparse::sparse_member;
use super::unpacking::{Unpacking, same_content};
use etcbench_capture::{ExpansionLimits, archive, decompress};
use etcbench_storage as storage;
use etcbench_storage::WholeFolder;

/// Bytes copied at a time.
const PIECE: usize = 1 << 18;
/// Mask for a file's type in its mode bits, and the types of regular files and folders (POSIX `sys/stat.h`).
const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

/// Limits on the size of an unpacked archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Limits on the total bytes of all members, and on their ratio to the archive's size, which applies above
    /// `free_bytes`.
    pub expansion: ExpansionLimits,
    /// Maximum number of members.
    pub most_members: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { expansion: ExpansionLimits::default(), most_members: 1_000_000 }
    }
}

/// Contents of an unpacked archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// The files, relative to the target, sorted.
    pub files: Vec<String>,
    /// Total size of the files in bytes.
    pub bytes: u64,
    /// Number of files skipped because macOS or Windows created them.
    pub system_files: u64,
}

/// Reason an archive was not unpacked. Nothing of the archive remains in the target.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The underlying I/O error.
        source: std::io::Error,
    },
    /// The archive is damaged or its format is unknown.
    #[error("{}: {problem}; check that the download is complete", archive.display())]
    Damaged {
        /// The archive.
        archive: PathBuf,
        /// Description of the problem.
        problem: String,
    },
    /// The file is not an archive that etcbench can unpack.
    #[error("{}: {problem}", archive.display())]
    Unusable {
        /// The file.
        archive: PathBuf,
        /// Description of the file and what to do.
        problem: String,
    },
    /// A member that archives of data never contain.
    #[error("{}: member `{member}` {problem}; nothing was unpacked", archive.display())]
    Refused {
        /// The archive.
        archive: PathBuf,
        /// The member.
        member: String,
        /// Description of the problem.
        problem: String,
    },
    /// The archive expands past the limits.
    #[error(
        "{}: {problem}: most likely a decompression bomb; nothing was unpacked; if you trust it, unpack it with another \
         program",
        archive.display()
    )]
    Expands {
        /// The archive.
        archive: PathBuf,
        /// The limit that was exceeded.
        problem: String,
    },
    /// A file already exists.
    #[error(
        "{}: already exists, and the archive contains a file of that name; remove it, or overwrite it with --force",
        path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

/// Unpacks an archive into `target`, which is created if missing. Calls `advance` with the size of each piece of
/// unpacked data. Existing files with different content are an error unless `force` is set.
///
/// Everything is first unpacked into a temporary folder inside `target`, then moved into place file by file. Until that
/// is done, or if it is interrupted, a marker in the target shows that it is incomplete.
///
/// # Errors
/// See [`UnpackError`].
pub fn unpack(
    archive: &Path,
    target: &Path,
    limits: &UnpackLimits,
    force: bool,
    advance: &dyn Fn(u64),
) -> Result<Unpacked, UnpackError> {
    let archive_size = std::fs::metadata(archive).map_err(io(archive))?.len();
    storage::create_folder(target).map_err(io(target))?;
    // An earlier, interrupted attempt may have moved some of the files.
    let unpacking = Unpacking::begin(archive, target).map_err(io(target))?;
    // Never renamed as a whole: its files are moved into the target one by one.
    let staging = WholeFolder::new(&target.join("unpacked")).map_err(io(target))?;
    let mut work = Work {
        archive,
        archive_size,
        target,
        staging: staging.path(),
        limits,
        force,
        advance,
        members: 0,
        spellings: BTreeMap::new(),
        folders: BTreeSet::new(),
        result: Unpacked::default(),
    };
    let result = work.read_archive().and_then(|()| {
        work.result.files.sort();
        work.refuse_conflicts()
    });
    if let Err(error) = result {
        // Files that an earlier attempt moved into place are still incomplete.
        if !unpacking.resumed {
            unpacking.end().map_err(io(target))?;
        }
        return Err(error);
    }
    let result = work.result;
    for file in &result.files {
        put_in_place(&staging.path().join(file), &target.join(file))?;
    }
    unpacking.end().map_err(io(target))?;
    Ok(result)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> UnpackError {
    let path = path.to_owned();
    move |source| UnpackError::Io { path, source }
}

fn put_in_place(from: &Path, to: &Path) -> Result<(), UnpackError> {
    if let Some(parent) = to.parent() {
        storage::create_folder(parent).map_err(io(parent))?;
    }
    File::open(from).and_then(|file| file.sync_all()).and_then(|()| storage::rename(from, to)).map_err(io(to))
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

struct Work<'a> {
    archive: &'a Path,
    archive_size: u64,
    target: &'a Path,
    staging: &'a Path,
    limits: &'a UnpackLimits,
    force: bool,
    advance: &'a dyn Fn(u64),
    members: u64,
    /// File paths by folded form: some file systems treat names that differ only in letter case or Unicode form as
    /// equal.
    spellings: BTreeMap<String, Vec<String>>,
    /// The folders created so far.
    folders: BTreeSet<String>,
    result: Unpacked,
}

impl Work<'_> {
    fn damaged(&self, problem: impl std::fmt::Display) -> UnpackError {
        UnpackError::Damaged { archive: self.archive.to_owned(), problem: problem.to_string() }
    }

    fn refused(&self, member: &str, problem: &str) -> UnpackError {
        let member = member.escape_debug().to_string();
        UnpackError::Refused { archive: self.archive.to_owned(), member, problem: problem.to_owned() }
    }

    fn unusable(&self, problem: impl Into<String>) -> UnpackError {
        UnpackError::Unusable { archive: self.archive.to_owned(), problem: problem.into() }
    }

    fn archive_error(&self, error: archive::ArchiveError) -> UnpackError {
        use archive::ArchiveError;
        match error {
            ArchiveError::Encrypted { member, .. } => {
                self.refused(&member, "is encrypted; unpack the archive with another program and its password")
            }
            ArchiveError::DuplicateNames { name: Some(name), .. } => self.refused(&name, TWICE),
            ArchiveError::DuplicateNames { name: None, .. } => self.unusable(format!("a member {TWICE}")),
            ArchiveError::UnsupportedMethod { member, method, .. } => {
                let problem = format!("is compressed by method {method}, which is not supported; use another program");
                self.refused(&member, &problem)
            }
            ArchiveError::Damaged { problem, .. } => self.damaged(problem),
            ArchiveError::Open { source, .. } => UnpackError::Io { path: self.archive.to_owned(), source },
            ArchiveError::NoSuchMember { .. } => self.damaged(error),
        }
    }

    /// Unpacks everything into the temporary folder.
    fn read_archive(&mut self) -> Result<(), UnpackError> {
        let mut head = Vec::new();
        File::open(self.archive).and_then(|file| file.take(HEAD).read_to_end(&mut head)).map_err(io(self.archive))?;
        match (archive::is_archive(&head), other_kind(&head)) {
            (true, _) => self.zip(),
            (false, Some(problem)) => Err(self.unusable(problem)),
            (false, None) => self.tar(),
        }
    }

    /// Refuses existing files with different content (unless forced), and links on the path to a file.
    fn refuse_conflicts(&self) -> Result<(), UnpackError> {
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

    fn zip(&mut self) -> Result<(), UnpackError> {
        // Check the types of all members first, so that nothing is written if the archive is refused.
        let file =
            File::open(self.archive).map_err(|source| UnpackError::Io { path: self.archive.to_owned(), source })?;
        let mut zip = zip::ZipArchive::new(std::io::BufReader::new(file)).map_err(|error| self.damaged(error))?;
        for index in 0..zip.len() {
            let entry = zip.by_index_raw(index).map_err(|error| self.damaged(error))?;
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            let kind = entry.unix_mode().map_or(0, |mode| mode & TYPE_MASK);
            let is_link = entry.is_symlink();
            drop(entry);
            if is_link || !matches!(kind, 0 | REGULAR | FOLDER) {
                return Err(self.refused(&name, &format!("is a link or a device, not a file; {LINK_ADVICE}")));
            }
        }
        drop(zip);
        let members = archive::members(self.archive).map_err(|error| self.archive_error(error))?;
        for member in members {
            let limits = ExpansionLimits { most_bytes: u64::MAX, most_ratio: u64::MAX, free_bytes: u64::MAX };
            let path = self.admit(&member.name, member.size)?;
            let stream = archive::open_member_with(self.archive, &member.name, limits);
            let stream = stream.map_err(|error| self.archive_error(error))?;
            self.write(&member.name, &path, stream)?;
        }
        Ok(())
    }

    fn tar(&mut self) -> Result<(), UnpackError> {
        let file =
            File::open(self.archive).map_err(|source| UnpackError::Io { path: self.archive.to_owned(), source })?;
        // The limits on members apply to the total; bytes between members count towards the limits of the stream.
        let stream = decompress(file, self.limits.expansion).map_err(|error| self.stream_error(&error))?.stream;
        let headers = Rc::new(Cell::new(u64::MAX));
        let mut tar = tar::Archive::new(HeaderLimit { stream, left: Rc::clone(&headers) });
        let mut entries = tar.entries().map_err(|error| self.stream_error(&error))?;
        let mut any = false;
        loop {
            headers.set(MOST_HEADER_BYTES);
            let entry = entries.next();
            headers.set(u64::MAX);
            let Some(entry) = entry else { break };
            let mut entry = match entry {
                Ok(entry) => entry,
                Err(error) if !any => {
                    let problem = format!("neither a zip nor a tar archive ({error})");
                    return Err(match self.stream_error(&error) {
                        UnpackError::Damaged { .. } => self.damaged(problem),
                        other => other,
                    });
                }
                Err(error) => return Err(self.stream_error(&error)),
            };
            any = true;
            let mut name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let kind = entry.header().entry_type();
            if kind.is_pax_global_extensions() {
                continue;
            }
            if kind.is_dir() {
                self.count_member()?;
                self.safe_path(&name)?;
                continue;
            }
            if !kind.is_file() && !kind.is_contiguous() && !kind.is_gnu_sparse() {
                let problem = format!("is a link, a device or another special file; {LINK_ADVICE}");
                return Err(self.refused(&name, &problem));
            }
            let sparse = sparse_member(&mut entry).map_err(|problem| self.refused(&name, &problem))?;
            match sparse {
                Some(sparse) => {
                    if let Some(own) = sparse.name {
                        name = String::from_utf8_lossy(&own).into_owned();
                    }
                    let path = self.admit(&name, sparse.map.size())?;
                    self.write(&name, &path, sparse.map.expand(entry))?;
                }
                None => {
                    let path = self.admit(&name, entry.size())?;
                    self.write(&name, &path, entry)?;
                }
            }
        }
        if any { Ok(()) } else { Err(self.damaged("it is empty")) }
    }

    fn stream_error(&self, error: &std::io::Error) -> UnpackError {
        // `tar` wraps the stream's errors and preserves only their text.
        let text = error.to_string();
        let expands = etcbench_capture::CompressionFault::of(error).map_or_else(
            || text.contains("decompression bomb"),
            |fault| matches!(fault, etcbench_capture::CompressionFault::Expands { .. }),
        );
        if expands {
            UnpackError::Expands { archive: self.archive.to_owned(), problem: "it expands past its limits".to_owned() }
        } else {
            self.damaged(text)
        }
    }

    fn count_member(&mut self) -> Result<(), UnpackError> {
        self.members += 1;
        if self.members > self.limits.most_members {
            let problem = format!("it has more than {} members", self.limits.most_members);
            return Err(UnpackError::Expands { archive: self.archive.to_owned(), problem });
        }
        Ok(())
    }

    /// Returns the member's path relative to the target.
    fn safe_path(&self, name: &str) -> Result<String, UnpackError> {
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
    fn admit(&mut self, name: &str, size: u64) -> Result<String, UnpackError> {
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

    fn write(&mut self, name: &str, path: &str, mut stream: impl Read) -> Result<(), UnpackError> {
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
                return Err(UnpackError::Expands { archive: self.archive.to_owned(), problem });
            }
            if bytes > free_bytes && bytes / self.archive_size.max(1) > most_ratio {
                let problem = format!("its members exceed {most_ratio} times the archive's size");
                return Err(UnpackError::Expands { archive: self.archive.to_owned(), problem });
            }
        }
        Ok(self.result.bytes - before)
    }
}

/// Maximum bytes from the end of one member to the start of the next one's content: `tar` holds extended headers in
/// memory.
const MOST_HEADER_BYTES: u64 = 4 << 20;

/// A stream that fails after a given number of bytes.
struct HeaderLimit<R> {
    stream: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for HeaderLimit<R> {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            let problem = format!("the headers of a member exceed {} MiB", MOST_HEADER_BYTES >> 20);
            return Err(std::io::Error::other(problem));
        }
        let most = target.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.stream.read(&mut target[..most])?;
        self.left.set(left - count as u64);
        Ok(count)
    }
}

/// Number of leading bytes that identify a file's format.
const HEAD: u64 = 512;
const TWICE: &str = "is duplicated; unpack the archive with another program and keep one of the two";
const ALIKE: &str = "differs from another only in letter case or Unicode form, which this file system ignores; \
                     unpack the archive elsewhere";
const LINK_ADVICE: &str = "unpack the archive with another program, such as tar or unzip";

/// Describes a file that is not an archive of a supported kind.
fn other_kind(head: &[u8]) -> Option<&'static str> {
    let text = head.trim_ascii_start().to_ascii_lowercase();
    let is_page = ["<!doctype html", "<html", "<head"].iter().any(|start| text.starts_with(start.as_bytes()));
    if is_page {
        Some(
            "it is a web page, most likely the publisher's form or login page, not the archive; download the \
             archive in a browser",
        )
    } else if head.starts_with(b"Rar!\x1a\x07") {
        Some("it is a RAR archive, which is not supported; unpack it with unrar")
    } else if head.starts_with(b"7z\xbc\xaf\x27\x1c") {
        Some("it is a 7z archive, which is not supported; unpack it with 7z")
    } else if head.first_chunk().is_some_and(|head| names::is_capture(*head)) {
        Some("it is a capture, not an archive; put it into the dataset's folder as it is")
    } else {
        None
    }
}
