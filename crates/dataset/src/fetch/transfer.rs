//! A single download: into a partial file next to its final path, resumed after interruptions, and moved into place
//! once size and checksum are verified.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::{Answer, Response};
use super::http::get;
use super::record::DownloadRecord;
use super::{FetchError, FetchOptions};
use crate::content::file_sha256;
use crate::definition_file::Download;
use crate::folder::PARTIAL_PREFIX;
use etcbench_storage as storage;
use etcbench_storage::progress::Progress;

/// Bytes read at a time.
const PIECE: usize = 1 << 17;
/// Maximum delay between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The version of the file on the server, stored next to the partial file: only the same version is resumed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    url: String,
    total: Option<u64>,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Version {
    /// Returns the validator for `If-Range`: a strong entity tag, otherwise the modification date (RFC 9110, 13.1.5).
    fn validator(&self) -> Option<&String> {
        self.etag.as_ref().filter(|etag| !etag.starts_with("W/")).or(self.last_modified.as_ref())
    }

    /// Returns whether an entity tag or date present in both differs: then the parts do not belong to the same file,
    /// whatever the server's range header claims.
    fn is_other_than(&self, known: &Self) -> bool {
        let differ = |one: &Option<String>, other: &Option<String>| one.is_some() && other.is_some() && one != other;
        differ(&self.etag, &known.etag) || differ(&self.last_modified, &known.last_modified)
    }
}

/// The result of one attempt.
enum Attempt {
    Whole,
    BrokeOff(String),
}

pub(super) struct Transfer<'a> {
    download: &'a Download,
    path: &'a Path,
    partial: PathBuf,
    version_path: PathBuf,
    options: &'a FetchOptions,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(download: &'a Download, path: &'a Path, options: &'a FetchOptions) -> Self {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("download");
        let partial = path.with_file_name(format!("{PARTIAL_PREFIX}{name}"));
        let version_path = path.with_file_name(format!("{PARTIAL_PREFIX}{name}.json"));
        Self { download, path, partial, version_path, options }
    }

    fn refused(&self, problem: String) -> FetchError {
        FetchError::Refused { url: self.download.url.clone(), problem }
    }

    /// Downloads the file, verifies it and moves it into place; calls `whole` just before the move.
    pub(super) fn run(
        &self,
        progress: &dyn Progress,
        whole: impl FnOnce() -> std::io::Result<()>,
    ) -> Result<DownloadRecord, FetchError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        storage::create_folder(folder).map_err(|source| FetchError::Io { path: folder.to_owned(), source })?;
        let mut attempts = 0;
        let mut fruitless = 0;
        let version = loop {
            let before = self.received();
            attempts += 1;
            let mut version = Version::default();
            match self.attempt(&mut version, progress)? {
                Attempt::Whole => break version,
                Attempt::BrokeOff(problem) => {
                    let received = self.received();
                    fruitless = if received > before { 1 } else { fruitless + 1 };
                    if fruitless > self.options.retries {
                        let url = self.download.url.clone();
                        return Err(FetchError::BrokeOff { url, problem, attempts, received });
                    }
                    progress.warn(&format!("{}: {problem}; retrying", self.download.url));
                    let wait = self.options.backoff * 2_u32.saturating_pow((fruitless - 1).min(16));
                    std::thread::sleep(wait.min(LONGEST_WAIT));
                }
            }
        };
        let size = self.received();
        let sha256 = file_sha256(&self.partial)?;
        if let Some(expected) = self.download.sha256.as_ref().filter(|expected| !expected.eq_ignore_ascii_case(&sha256))
        {
            return Err(self.wrong(format!("its SHA-256 is {sha256}, not the definition's {expected}")));
        }
        if let Some(expected) = self.download.size.filter(|&expected| expected != size) {
            return Err(self.wrong(format!("it has {size} bytes, but the definition specifies {expected}")));
        }
        File::open(&self.partial)
            .and_then(|file| file.sync_all())
            .and_then(|()| whole())
            .and_then(|()| storage::rename(&self.partial, self.path))
            .map_err(|source| FetchError::Io { path: self.path.to_owned(), source })?;
        self.forget(&self.version_path);
        let Version { url, etag, last_modified, .. } = version;
        Ok(DownloadRecord { url, size, sha256, etag, last_modified, unpacked: false })
    }

    fn wrong(&self, problem: String) -> FetchError {
        self.forget(&self.partial);
        self.forget(&self.version_path);
        FetchError::Wrong { url: self.download.url.clone(), problem }
    }

    /// Removes one of our own files; ignores a missing file.
    fn forget(&self, path: &Path) {
        if let Err(error) = std::fs::remove_file(path) {
            debug_assert!(error.kind() == ErrorKind::NotFound, "{}: {error}", path.display());
        }
    }

    fn received(&self) -> u64 {
        std::fs::metadata(&self.partial).map_or(0, |metadata| metadata.len())
    }

    /// Returns the version of the partial file, or `None` if it cannot be resumed.
    fn unfinished(&self) -> Option<Version> {
        let version: Version = serde_json::from_slice(&std::fs::read(&self.version_path).ok()?).ok()?;
        let same = version.url == self.download.url && version.validator().is_some() && self.received() > 0;
        same.then_some(version)
    }

    fn attempt(&self, version: &mut Version, progress: &dyn Progress) -> Result<Attempt, FetchError> {
        let unfinished = self.unfinished();
        let mut offset = 0;
        let mut headers = Vec::new();
        if let Some(validator) = unfinished.as_ref().and_then(Version::validator) {
            offset = self.received();
            headers.push(("Range", format!("bytes={offset}-")));
            headers.push(("If-Range", validator.clone()));
        }
        let response = match get(&self.download.url, &headers, self.options.stall) {
            Answer::Response(response) => response,
            Answer::Refused(problem) => return Err(self.refused(problem)),
            Answer::BrokeOff(problem) => return Ok(Attempt::BrokeOff(problem)),
        };
        *version = Version {
            url: self.download.url.clone(),
            total: None,
            etag: response.header("etag"),
            last_modified: response.header("last-modified"),
        };
        let length = response.header("content-length").and_then(|text| text.trim().parse::<u64>().ok());
        match response.status {
            // The whole file: the server does not support ranges or has another version.
            200 => {
                offset = 0;
                version.total = length;
            }
            206 => {
                let range = response.header("content-range").and_then(|text| content_range(&text));
                let known = unfinished.as_ref().and_then(|version| version.total);
                match range {
                    Some((start, total))
                        if start == offset && (known.is_none() || total.is_none() || known == total) =>
                    {
                        version.total = total.or(known);
                    }
                    _ => {
                        self.forget(&self.partial);
                        return Ok(Attempt::BrokeOff("the server sent a different range than requested".to_owned()));
                    }
                }
                if let Some(known) = &unfinished {
                    if version.is_other_than(known) {
                        self.forget(&self.partial);
                        let problem = "the server continued with another version of the file; starting over";
                        return Ok(Attempt::BrokeOff(problem.to_owned()));
                    }
                    if version.validator().is_none() {
                        (version.etag, version.last_modified) = (known.etag.clone(), known.last_modified.clone());
                    }
                }
            }
            416 => {
                let total = response.header("content-range").and_then(|text| text.rsplit('/').next()?.parse().ok());
                if total == Some(offset) && offset > 0 {
                    version.total = total;
                    return Ok(Attempt::Whole);
                }
                self.forget(&self.partial);
                return Ok(Attempt::BrokeOff("the server does not have the requested range; starting over".to_owned()));
            }
            408 | 425 | 429 | 500..=599 => {
                return Ok(Attempt::BrokeOff(format!("the server responded with status {}", response.status)));
            }
            401 | 403 => return Err(self.refused(format!("status {}: not openly accessible", response.status))),
            404 | 410 => {
                let problem = format!("status {}: no longer available; see the publisher's page", response.status);
                return Err(self.refused(problem));
            }
            status => return Err(self.refused(format!("the server responded with status {status}"))),
        }
        if let (Some(expected), Some(total)) = (self.download.size, version.total)
            && expected != total
        {
            return Err(self.wrong(format!("the server has {total} bytes, but the definition specifies {expected}")));
        }
        self.receive(response, offset, version, progress)
    }

    fn receive(
        &self,
        mut response: Response,
        offset: u64,
        version: &Version,
        progress: &dyn Progress,
    ) -> Result<Attempt, FetchError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| FetchError::Io { path, source }
        };
        if offset == 0 {
            // Never keep bytes of an earlier version under this version's name.
            self.forget(&self.partial);
        }
        // Write the version before its bytes: bytes without a version are not resumed.
        let json = serde_json::to_vec(version).map_err(|error| io(&self.version_path)(error.into()))?;
        storage::write_whole(&self.version_path, &json).map_err(io(&self.version_path))?;
        let mut file: File = OpenOptions::new()
            .create(true)
            .append(offset > 0)
            .write(true)
            .truncate(offset == 0)
            .open(&self.partial)
            .map_err(io(&self.partial))?;
        progress.begin(&format!("{} (bytes)", self.download.path), version.total.unwrap_or(0));
        progress.advance(offset);
        // More bytes than announced are as wrong as fewer; this also keeps a server from filling the disk.
        let announced = version.total.or(self.download.size);
        let most = announced.unwrap_or(self.options.most_bytes);
        let mut received = offset;
        let mut buffer = vec![0; PIECE];
        let ended = loop {
            match response.body.read(&mut buffer) {
                Ok(0) => break None,
                Ok(count) if received + count as u64 > most => {
                    progress.end();
                    let problem = match announced {
                        Some(_) => format!("the server sent more than the {most} bytes of the file"),
                        None => format!(
                            "the server did not announce the file's size and sent more than {most} bytes; set `size` \
                             in the definition's [[download]] if it may be this large"
                        ),
                    };
                    return Err(self.wrong(problem));
                }
                Ok(count) => {
                    if let Err(error) = file.write_all(&buffer[..count]) {
                        progress.end();
                        return Err(io(&self.partial)(error));
                    }
                    received += count as u64;
                    progress.advance(count as u64);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Some(error.to_string()),
            }
        };
        progress.end();
        file.sync_all().map_err(io(&self.partial))?;
        Ok(match (ended, version.total) {
            (Some(problem), _) => {
                Attempt::BrokeOff(format!("the connection was interrupted after {received} bytes ({problem})"))
            }
            (None, Some(total)) if received < total => {
                Attempt::BrokeOff(format!("the server closed the connection after {received} of {total} bytes"))
            }
            (None, _) => Attempt::Whole,
        })
    }
}

/// Parses start and total of `bytes 100-199/1000`; the total may be unknown.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 100-199/1000"), Some((100, Some(1000))));
        assert_eq!(content_range("bytes 0-9/*"), Some((0, None)));
        for bad in ["bytes */1000", "100-199/1000", "bytes x-1/2", ""] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_weak_entity_tag_does_not_resume() {
        let mut version = Version { etag: Some("W/\"1\"".to_owned()), ..Version::default() };
        assert_eq!(version.validator(), None);
        version.last_modified = Some("Mon, 01 Jan 2024 00:00:00 GMT".to_owned());
        assert_eq!(version.validator(), version.last_modified.as_ref());
    }
}
