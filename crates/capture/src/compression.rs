//! Compressed streams: gzip, bzip2, xz and zstd, told by their first bytes and never by a file's name,
//! are read as streams, one inside another if need be, and never past stated limits.

use std::fmt;
use std::io::{BufReader, Cursor, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use thiserror::Error;

/// Layers of compression that are opened, one inside the other (a `.pcap.gz` in a zip archive is one).
const MOST_LAYERS: usize = 3;
/// The largest window of xz and zstd that is allocated, as a power of two: 128 MiB, zstd's own limit, and twice
/// what `xz -9` needs.
const LARGEST_WINDOW: u32 = 27;
/// Bytes read of a compressed stream at a time.
const READ_SIZE: usize = 1 << 16;

/// How far a compressed stream may expand. Streams are never held in memory, so these bound time, and the
/// disk of those who unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpansionLimits {
    /// The most decompressed bytes of one stream.
    pub most_bytes: u64,
    /// The most decompressed bytes per compressed byte, once there are more than `free_bytes`.
    pub most_ratio: u64,
    /// Decompressed bytes up to which the ratio is not looked at: small streams of zeros are harmless.
    pub free_bytes: u64,
}

impl Default for ExpansionLimits {
    /// At most 1 TiB, and at most 200 times the compressed size beyond 1 GiB. The largest capture of the
    /// known datasets is below 100 GB, and captures rarely shrink to less than a twentieth.
    fn default() -> ExpansionLimits {
        ExpansionLimits { most_bytes: 1 << 40, most_ratio: 200, free_bytes: 1 << 30 }
    }
}

/// A compression that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// RFC 1952, several members one after another included.
    Gzip,
    /// As bzip2 writes it, several streams one after another included.
    Bzip2,
    /// The .xz file format 1.2, several streams and padding included.
    Xz,
    /// RFC 8878, several and skippable frames included.
    Zstd,
}

impl Compression {
    /// The compression of a stream that begins so.
    pub fn of(head: &[u8]) -> Option<Compression> {
        match head {
            [0x1f, 0x8b, 8, ..] => Some(Compression::Gzip),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Compression::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Compression::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// The name for messages.
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
            // The window, and what the decoder keeps beside it, in KiB.
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

/// Why a compressed stream ends before its end; found inside a [`std::io::Error`] that such a stream gives.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompressionFault {
    /// The compressed data is damaged or cut.
    #[error("the {kind} data is damaged or cut after {given} decompressed bytes ({problem})")]
    Damaged {
        /// The compression, or "zip".
        kind: &'static str,
        /// Decompressed bytes given before it.
        given: u64,
        /// What the decoder says.
        problem: String,
    },
    /// It expands further than [`ExpansionLimits`] allow.
    #[error(
        "the {kind} data expands past {given} bytes from {compressed} compressed ones, more than {limit}: most likely a \
         decompression bomb; if you trust it, unpack it with another program"
    )]
    Expands {
        /// The compression, or "zip".
        kind: &'static str,
        /// Decompressed bytes at that point.
        given: u64,
        /// Compressed bytes that were read for them.
        compressed: u64,
        /// The limit in words.
        limit: String,
    },
}

impl CompressionFault {
    /// The fault inside an error that a stream gave.
    pub fn of(error: &std::io::Error) -> Option<&CompressionFault> {
        error.get_ref()?.downcast_ref()
    }
}

/// A stream with its compressions, if it has any, taken off.
pub struct Decompressed {
    /// The plain bytes. An error of it that is not the source's own holds a [`CompressionFault`].
    pub stream: Box<dyn Read + Send>,
    /// What was taken off, from the outside in.
    pub layers: Vec<Compression>,
}

/// Takes the compressions off a stream, as its first bytes tell them. A plain stream is given back as it was.
///
/// # Errors
/// The first bytes cannot be read, or there are more than three compressions one inside the other.
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
                problem: format!("more than {MOST_LAYERS} compressions one inside the other"),
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

/// The first bytes of a stream, at most six.
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

/// What is known of a compressed stream below its decoders.
#[derive(Default)]
pub(super) struct Meter {
    /// Compressed bytes read.
    read: AtomicU64,
    /// The source itself failed: its errors are no fault of the data.
    failed: AtomicBool,
}

/// Counts what is read.
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
            // A stream inside another (a compressed member of an archive) has already reported its fault.
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
    /// Decoders promise nothing after an error, so it is repeated here.
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
            format!("the {most_bytes} bytes that are allowed")
        } else if given > free_bytes && given / compressed.max(1) > most_ratio {
            format!("{most_ratio} times as many, which is allowed")
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
