//! The uncompressed bytes of a capture: their checksum, and a summary of the packets.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use sha2::{Digest, Sha256};

use super::error::DatasetError;
use super::folder::CaptureFile;
use etcbench_capture::{CaptureReader, CaptureSummary, CompressionFault, ExpansionLimits, decompress};

/// Bytes read at a time.
const PIECE: usize = 1 << 18;
/// Packets between two reports of progress.
const REPORT_EVERY: u64 = 4096;

/// Contents of a capture.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptureContent {
    /// Bytes without archive and compression, as far as they could be read.
    pub size: u64,
    /// SHA-256 of those bytes in hexadecimal; `None` if reading failed for a reason other than damaged data.
    pub sha256: Option<String>,
    /// Packets, link types and damage; `None` if the file is not a capture.
    pub summary: Option<CaptureSummary>,
    /// Why the file is not a capture or cannot be read to the end.
    pub fault: Option<String>,
}

/// Returns the SHA-256 of a file in hexadecimal, read in pieces.
///
/// # Errors
/// The file cannot be read.
pub fn file_sha256(path: &Path) -> Result<String, DatasetError> {
    let io = |source| DatasetError::Io { path: path.display().to_string(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    hash(file).map_err(io)
}

/// Returns the SHA-256 of a capture's bytes in hexadecimal, without archive and compression: the value is the same
/// however the capture is packed. If the compressed data is damaged, covers the bytes before the damage.
///
/// # Errors
/// The capture cannot be read, or expands past the limits.
pub fn capture_sha256(root: &Path, file: &CaptureFile) -> Result<String, DatasetError> {
    let io = |source| DatasetError::Io { path: root.join(&file.path).display().to_string(), source };
    let limits = ExpansionLimits::default();
    let stream = file.source(root).open(limits).map_err(|error| io(std::io::Error::other(error.to_string())))?;
    hash(decompress(stream, limits).map_err(io)?.stream).map_err(io)
}

fn hash(mut stream: impl Read) -> std::io::Result<String> {
    let mut buffer = vec![0; PIECE];
    let mut hasher = Sha256::new();
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(hex::encode(hasher.finalize())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if is_damage(&error) => return Ok(hex::encode(hasher.finalize())),
            Err(error) => return Err(error),
        }
    }
}

/// Returns whether the error is damage to the compressed data, as opposed to a failing disk or a decompression bomb.
fn is_damage(error: &std::io::Error) -> bool {
    matches!(CompressionFault::of(error), Some(CompressionFault::Damaged { .. }))
}

/// A stream that is hashed as it is read. Clones share it, so reading can continue after the first reader stops.
#[derive(Clone)]
struct Hashed(Arc<Mutex<HashedStream>>);

struct HashedStream {
    stream: Box<dyn Read + Send>,
    hasher: Sha256,
    size: u64,
    /// The error that ended the stream, and whether it is damage to the data.
    fault: Option<(String, bool)>,
}

impl Hashed {
    fn lock(&self) -> MutexGuard<'_, HashedStream> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Read for Hashed {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let mut inner = self.lock();
        match inner.stream.read(target) {
            Ok(count) => {
                inner.hasher.update(&target[..count]);
                inner.size += count as u64;
                Ok(count)
            }
            Err(error) => {
                if error.kind() != std::io::ErrorKind::Interrupted {
                    inner.fault.get_or_insert_with(|| (error.to_string(), is_damage(&error)));
                }
                Err(error)
            }
        }
    }
}

/// Reads a capture once, to its end, for its packets and its checksum; calls `advance` with the size of each piece.
/// Problems with the capture are part of the result.
pub fn examine(root: &Path, file: &CaptureFile, advance: &dyn Fn(u64)) -> CaptureContent {
    let limits = ExpansionLimits::default();
    let unread = |fault: String| CaptureContent { size: 0, sha256: None, summary: None, fault: Some(fault) };
    let stream = match file.source(root).open(limits) {
        Ok(stream) => stream,
        Err(error) => return unread(error.to_string()),
    };
    let stream = match decompress(stream, limits) {
        Ok(decompressed) => decompressed.stream,
        Err(error) => return unread(error.to_string()),
    };
    let hashed = Hashed(Arc::new(Mutex::new(HashedStream { stream, hasher: Sha256::new(), size: 0, fault: None })));
    let mut told = 0;
    let mut tell = || {
        let size = hashed.lock().size;
        advance(size - told);
        told = size;
    };
    let mut summary = None;
    let mut fault = None;
    match CaptureReader::from_reader(hashed.clone(), file.path.clone()) {
        Err(error) => fault = Some(error.to_string()),
        Ok(mut reader) => {
            let mut packets = 0_u64;
            loop {
                match reader.next_packet() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        fault = Some(error.to_string());
                        break;
                    }
                }
                packets += 1;
                if packets.is_multiple_of(REPORT_EVERY) {
                    tell();
                }
            }
            summary = Some(reader.summary());
        }
    }
    // Read what the packet reader did not consume: data after the damage counts for the checksum too.
    let mut rest = hashed.clone();
    let mut buffer = vec![0; PIECE];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => tell(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    tell();
    let inner = hashed.lock();
    let whole = inner.fault.as_ref().is_none_or(|(_, damage)| *damage);
    CaptureContent {
        size: inner.size,
        sha256: whole.then(|| hex::encode(inner.hasher.clone().finalize())),
        summary,
        fault: fault.or_else(|| inner.fault.as_ref().map(|(text, _)| text.clone())),
    }
}
