//! Compressed streams: gzip, bzip2, xz and zstd are detected by their first bytes, never by file name, and decompressed
//! as streams, nested if need be, up to fixed limits.

use std::fmt;
use std::io::{BufReader, Cursor, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use thiserror::Error;

/// Maximum number of nested compressions to open (a `.pcap.gz` in a zip archive counts as one).
const MOST_LAYERS: usize = 3;
/// Largest window to allocate for xz and zstd, as a power of two: 128 MiB, zstd's own limit, and twice what `xz -9`
/// needs.
const LARGEST_WINDOW: u32 = 27;
/// Number of bytes to read from a compressed stream at a time.
const READ_SIZE: usize = 1 << 16;

/// Limits on the expansion of a compressed stream. Streams are never held in memory, so these limit time, and the disk
/// space of those who unpack to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpansionLimits {
    /// Maximum decompressed bytes of one stream.
    pub most_bytes: u64,
    /// Maximum decompressed bytes per compressed byte, once there are more than `free_bytes`.
    pub most_ratio: u64,
    /// Number of decompressed bytes up to which the ratio is not checked: small streams of zeros are harmless.
    pub free_bytes: u64,
}

impl Default for ExpansionLimits {
    /// At most 1 TiB, and at most 200 times the compressed size beyond 1 GiB. The largest capture of the known datasets
    /// is below 100 GB, and captures rarely shrink to less than a twentieth.
    fn default() -> ExpansionLimits {
        ExpansionLimits { most_bytes: 1 << 40, most_ratio: 200, free_bytes: 1 << 30 }
    }
}

/// A supported compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// RFC 1952, including several concatenated members.
    Gzip,
    /// As written by bzip2, including several concatenated streams.
    Bzip2,
    /// The .xz file format 1.2, including several streams and padding.
    Xz,
    /// RFC 8878, including several frames and skippable frames.
    Zstd,
}

impl Compression {
    /// Detects the compression of a stream from its first bytes.
    pub fn of(head: &[u8]) -> Option<Compression> {
        match head {
            [0x1f, 0x8b, 8, ..] => Some(Compression::Gzip),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Compression::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Compression::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// Returns the name used in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Bzip2 => "bzip2",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
        }
    }

    pub(super) fn decoder(self, stream: Box<dyn Read + Send>) -> std::io::Result<Box<dyn Read + Send>> {
        let stream = BufReader::with_capacity(READ_SIZE, stream);
        Ok(match self {
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
            Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(stream)),
            // In KiB: the window, and the decoder's other memory.
            Compression::Xz => {
                Box::new(lzma_rust2::XzReader::new_mem_limit(stream, true, (1 << (LARGEST_WINDOW - 10)) + 1024))
            }
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(stream)?;
                decoder.window_log_max(LARGEST_WINDOW)?;
                Box::new(decoder)
            }
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a compressed stream stops early; wrapped in the [`std::io::Error`] that such a stream returns.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompressionFault {
    /// The compressed data is damaged or cut.
    #[error("the {kind} data is damaged or cut after {given} decompressed bytes ({problem})")]
    Damaged {
        /// The compression, or "zip".
        kind: &'static str,
        /// Number of decompressed bytes before the fault.
        given: u64,
        /// Error reported by the decoder.
        problem: String,
    },
    /// The stream expands further than [`ExpansionLimits`] allow.
    #[error(
        "the {kind} data expands past {given} bytes from {compressed} compressed ones, more than {limit}: most likely a \
         decompression bomb; if you trust it, unpack it with another program"
    )]
    Expands {
        /// The compression, or "zip".
        kind: &'static str,
        /// Number of decompressed bytes at that point.
        given: u64,
        /// Number of compressed bytes read for them.
        compressed: u64,
        /// Description of the limit.
        limit: String,
    },
}

impl CompressionFault {
    /// Returns the fault wrapped in an error of a stream.
    pub fn of(error: &std::io::Error) -> Option<&CompressionFault> {
        error.get_ref()?.downcast_ref()
    }
}

/// A stream with all its compressions removed.
pub struct Decompressed {
    /// The plain bytes. Its errors wrap a [`CompressionFault`], unless they come from the source itself.
    pub stream: Box<dyn Read + Send>,
    /// The removed compressions, outermost first.
    pub layers: Vec<Compression>,
}

/// Decompresses a stream according to its first bytes. A plain stream is returned unchanged.
///
/// # Errors
/// The first bytes cannot be read, or more than three compressions are nested.
pub fn decompress(stream: impl Read + Send + 'static, limits: ExpansionLimits) -> std::io::Result<Decompressed> {
    let meter = Arc::new(Meter::default());
    let metered = Metered { stream: Box::new(stream), meter: Arc::clone(&meter) };
    let mut layers: Vec<Compression> = Vec::new();
    let mut stream: Box<dyn Read + Send> = Box::new(metered);
    loop {
        let head = read_head(&mut stream).map_err(|error| match layers.last() {
            Some(kind) if !meter.failed.load(Ordering::Relaxed) => {
                let (kind, problem) = (kind.name(), error.to_string());
                fault(CompressionFault::Damaged { kind, given: 0, problem })
            }
            _ => error,
        })?;
        let compression = Compression::of(&head);
        stream = Box::new(Cursor::new(head).chain(stream));
        let Some(compression) = compression else { break };
        if layers.len() == MOST_LAYERS {
            return Err(fault(CompressionFault::Damaged {
                kind: compression.name(),
                given: 0,
                problem: format!("more than {MOST_LAYERS} nested compressions"),
            }));
        }
        layers.push(compression);
        stream = compression.decoder(stream)?;
    }
    if let Some(outermost) = layers.first() {
        stream = Box::new(Guarded::new(stream, outermost.name(), meter, limits));
    }
    Ok(Decompressed { stream, layers })
}

/// Reads the first bytes of a stream, at most six.
fn read_head(stream: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let mut head = vec![0; 6];
    let mut length = 0;
    while length < head.len() {
        match stream.read(&mut head[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    head.truncate(length);
    Ok(head)
}

fn fault(fault: CompressionFault) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, fault)
}

/// State of a compressed stream below its decoders.
#[derive(Default)]
pub(super) struct Meter {
    /// Number of compressed bytes read.
    read: AtomicU64,
    /// Whether the source itself failed: such errors are not faults of the data.
    failed: AtomicBool,
}

/// Counts the bytes read.
pub(super) struct Metered {
    stream: Box<dyn Read + Send>,
    meter: Arc<Meter>,
}

impl Metered {
    pub(super) fn new(stream: impl Read + Send + 'static) -> (Metered, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        (Metered { stream: Box::new(stream), meter: Arc::clone(&meter) }, meter)
    }
}

impl Read for Metered {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let result = self.stream.read(target);
        match &result {
            Ok(count) => {
                self.meter.read.fetch_add(*count as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A nested stream (a compressed member of an archive) has already reported its fault.
            Err(_) => self.meter.failed.store(true, Ordering::Relaxed),
        }
        result
    }
}

/// Ends a decompressed stream at the limits and turns its decoder's errors into faults.
pub(super) struct Guarded {
    stream: Box<dyn Read + Send>,
    kind: &'static str,
    meter: Arc<Meter>,
    limits: ExpansionLimits,
    given: u64,
    /// Decoders guarantee nothing after an error, so this repeats it.
    fault: Option<CompressionFault>,
}

impl Guarded {
    pub(super) fn new(
        stream: Box<dyn Read + Send>,
        kind: &'static str,
        meter: Arc<Meter>,
        limits: ExpansionLimits,
    ) -> Guarded {
        Guarded { stream, kind, meter, limits, given: 0, fault: None }
    }

    fn fail(&mut self, found: CompressionFault) -> std::io::Error {
        self.fault = Some(found.clone());
        fault(found)
    }

    fn check(&mut self) -> std::io::Result<()> {
        let (given, kind) = (self.given, self.kind);
        let compressed = self.meter.read.load(Ordering::Relaxed);
        let ExpansionLimits { most_bytes, most_ratio, free_bytes } = self.limits;
        let limit = if given > most_bytes {
            format!("the allowed {most_bytes} bytes")
        } else if given > free_bytes && given / compressed.max(1) > most_ratio {
            format!("the allowed ratio of {most_ratio}")
        } else {
            return Ok(());
        };
        Err(self.fail(CompressionFault::Expands { kind, given, compressed, limit }))
    }
}

impl Read for Guarded {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        if let Some(found) = &self.fault {
            return Err(fault(found.clone()));
        }
        match self.stream.read(target) {
            Ok(count) => {
                self.given += count as u64;
                self.check()?;
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) if self.meter.failed.load(Ordering::Relaxed) => Err(error),
            Err(error) => {
                let (kind, given) = (self.kind, self.given);
                Err(self.fail(CompressionFault::Damaged { kind, given, problem: error.to_string() }))
            }
        }
    }
}
