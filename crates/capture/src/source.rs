//! Location of a capture's bytes: a file, or a member of a zip archive, either of them compressed or not.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::archive;
use super::compression::ExpansionLimits;
use super::error::CaptureError;

/// Separates an archive's path from a member's name in `archive.zip!folder/capture.pcap`.
const SEPARATOR: char = '!';

/// Location of a capture, written as the file's path, or `archive.zip!member`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CaptureSource {
    /// The file, or the archive.
    pub file: PathBuf,
    /// The member of the archive.
    pub member: Option<String>,
}

impl CaptureSource {
    /// Refers to a whole file.
    pub fn file(file: impl Into<PathBuf>) -> CaptureSource {
        CaptureSource { file: file.into(), member: None }
    }

    /// Refers to a member of an archive.
    pub fn member(archive: impl Into<PathBuf>, member: impl Into<String>) -> CaptureSource {
        CaptureSource { file: archive.into(), member: Some(member.into()) }
    }

    /// Opens the bytes: of a file as stored, of a member extracted from its archive. A compression of the capture
    /// itself is not removed.
    ///
    /// # Errors
    /// The file or the member cannot be opened.
    pub fn open(&self, limits: ExpansionLimits) -> Result<Box<dyn Read + Send>, CaptureError> {
        match &self.member {
            Some(member) => Ok(Box::new(archive::open_member_with(&self.file, member, limits)?)),
            None => match File::open(&self.file) {
                Ok(file) => Ok(Box::new(file)),
                Err(source) => Err(CaptureError::Open { name: self.to_string(), source }),
            },
        }
    }
}

impl From<&Path> for CaptureSource {
    /// Parses `archive.zip!member` if no file has that whole name but one has the part before an exclamation mark.
    fn from(path: &Path) -> CaptureSource {
        if let Some(text) = path.to_str().filter(|_| !path.exists()) {
            for (place, _) in text.match_indices(SEPARATOR) {
                let archive = Path::new(&text[..place]);
                if archive.is_file() {
                    return CaptureSource::member(archive, &text[place + SEPARATOR.len_utf8()..]);
                }
            }
        }
        CaptureSource::file(path)
    }
}

impl fmt::Display for CaptureSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Some(member) => write!(formatter, "{}{SEPARATOR}{member}", self.file.display()),
            None => write!(formatter, "{}", self.file.display()),
        }
    }
}
