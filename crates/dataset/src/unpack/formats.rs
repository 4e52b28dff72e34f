//! The formats of archives: reads the members of a zip or tar archive, and says what other files are.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::rc::Rc;

use super::members::{TWICE, Work};
use super::{UnpackError, io};
use crate::names;
use crate::sparse::sparse_member;
use etcbench_capture::{ExpansionLimits, archive, decompress};

/// Number of leading bytes that identify a file's format.
const HEAD: u64 = 512;

const LINK_ADVICE: &str = "unpack the archive with another program, such as tar or unzip";

/// Mask for a file's type in its mode bits, and the types of regular files and folders (POSIX `sys/stat.h`).
const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

impl Work<'_> {
    /// Unpacks everything into the temporary folder.
    pub(super) fn read_archive(&mut self) -> Result<(), UnpackError> {
        let mut head = Vec::new();
        File::open(self.archive).and_then(|file| file.take(HEAD).read_to_end(&mut head)).map_err(io(self.archive))?;
        match (archive::is_archive(&head), other_kind(&head)) {
            (true, _) => self.zip(),
            (false, Some(problem)) => Err(self.unusable(problem)),
            (false, None) => self.tar(),
        }
    }

    fn zip(&mut self) -> Result<(), UnpackError> {
        // Check the types of all members first, so that nothing is written if the archive is refused.
        let file = File::open(self.archive).map_err(io(self.archive))?;
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
        let file = File::open(self.archive).map_err(io(self.archive))?;
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

    pub(super) fn stream_error(&self, error: &std::io::Error) -> UnpackError {
        // `tar` wraps the stream's errors and preserves only their text.
        let text = error.to_string();
        let expands = etcbench_capture::CompressionFault::of(error).map_or_else(
            || text.contains("decompression bomb"),
            |fault| matches!(fault, etcbench_capture::CompressionFault::Expands { .. }),
        );
        if expands { self.expands("it expands past its limits".to_owned()) } else { self.damaged(text) }
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
