//! Reads a capture in either format and lends its packets one at a time.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::ahead::Ahead;
use super::archive;
use super::buffer::StreamBuffer;
use super::compression::{CompressionFault, Decompressed, ExpansionLimits, decompress};
use super::datagram::Datagrams;
use super::error::CaptureError;
use super::network::{self, Headers};
use super::packet::Packet;
use super::pcap::{FILE_HEADER, PcapFormat, Record, Step};
use super::pcapng::PcapNgFormat;
use super::skip::{Protocol, Skip, SkipCounters, SkipReason};
use super::source::CaptureSource;
use super::summary::{CaptureInterface, CaptureSummary, Damage};
use super::tunnel::Tunnels;

/// Options for reading captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReaderOptions {
    /// Which of several nested packets to return.
    pub tunnels: Tunnels,
    /// How far compressed captures may expand.
    pub expansion: ExpansionLimits,
    /// Whether compressed captures are decompressed in a thread of their own, ahead of what is read. The packets are the
    /// same.
    pub decompress_ahead: bool,
}

enum Format {
    Pcap(PcapFormat),
    PcapNg(PcapNgFormat),
}

/// A capture being read.
///
/// Memory use is one window on the file (half a megabyte, or the size of the longest record) and the window of a
/// compression (at most 128 MiB), and some two megabytes if it is decompressed ahead. Packets longer than 262,144 bytes and pcapng blocks longer than 16 MiB are damage, as
/// in libpcap.
///
/// ```no_run
/// # fn main() -> Result<(), etcbench_capture::CaptureError> {
/// let mut reader = etcbench_capture::CaptureReader::open("traffic.pcap".as_ref())?;
/// while let Some(packet) = reader.next_packet()? {
///     println!("{}: {} -> {}", packet.number, packet.source, packet.destination);
/// }
/// if let Some(damage) = reader.summary().damage {
///     eprintln!("{}: {damage}", reader.name());
/// }
/// # Ok(())
/// # }
/// ```
pub struct CaptureReader {
    name: String,
    buffer: StreamBuffer,
    format: Format,
    tunnels: Tunnels,
    interfaces: BTreeSet<CaptureInterface>,
    packets: u64,
    decoded: u64,
    partial_transport_headers: u64,
    first_fragments: u64,
    /// The latest time of a packet so far.
    latest: i64,
    out_of_order: u64,
    datagrams: Datagrams,
    skipped: SkipCounters,
    /// The first unsupported link type of a record.
    unknown_link_type: Option<u32>,
    damage: Option<Damage>,
    finished: bool,
}

impl CaptureReader {
    /// Opens a pcap or pcapng file: plain, compressed with gzip, bzip2, xz or zstd (detected by its first bytes), or a
    /// member of a zip archive, written `archive.zip!member`.
    ///
    /// # Errors
    /// The file cannot be opened or read, is empty, is not a capture, or is a pcap with an unsupported link type; its
    /// compressed data is damaged from the start; its archive cannot be read.
    pub fn open(path: &Path) -> Result<CaptureReader, CaptureError> {
        CaptureReader::open_with(&CaptureSource::from(path), &ReaderOptions::default())
    }

    /// Like [`CaptureReader::open`], with options.
    ///
    /// # Errors
    /// Those of [`CaptureReader::open`].
    pub fn open_with(source: &CaptureSource, options: &ReaderOptions) -> Result<CaptureReader, CaptureError> {
        let mut stream = source.open(options.expansion)?;
        if options.decompress_ahead && source.member.is_some() {
            stream = Box::new(Ahead::start(stream).map_err(|error| read_error(source.to_string(), 0, error))?);
        }
        let result = CaptureReader::from_reader_with(stream, source.to_string(), options);
        match result {
            Err(CaptureError::NotACapture { name, .. }) if source.member.is_none() && is_archive_file(&source.file) => {
                let members = archive::members(&source.file)?;
                let example = members.first().map_or(String::new(), |member| member.name.clone());
                Err(CaptureError::IsAnArchive { name, count: members.len(), example })
            }
            result => result,
        }
    }

    /// Reads a capture, compressed or not, from a stream; messages refer to it by `name`.
    ///
    /// # Errors
    /// Those of [`CaptureReader::open`].
    pub fn from_reader(
        stream: impl Read + Send + 'static,
        name: impl Into<String>,
    ) -> Result<CaptureReader, CaptureError> {
        CaptureReader::from_reader_with(stream, name, &ReaderOptions::default())
    }

    /// Like [`CaptureReader::from_reader`], with options.
    ///
    /// # Errors
    /// Those of [`CaptureReader::open`].
    pub fn from_reader_with(
        stream: impl Read + Send + 'static,
        name: impl Into<String>,
        options: &ReaderOptions,
    ) -> Result<CaptureReader, CaptureError> {
        let name = name.into();
        let opened = decompress(stream, options.expansion).and_then(|Decompressed { stream, layers }| {
            Ok(match options.decompress_ahead && !layers.is_empty() {
                true => StreamBuffer::new(Box::new(Ahead::start(stream)?)),
                false => StreamBuffer::new(stream),
            })
        });
        let mut buffer = match opened {
            Ok(buffer) => buffer,
            Err(source) => return Err(read_error(name, 0, source)),
        };
        if let Err(source) = buffer.fill(FILE_HEADER) {
            return Err(read_error(name, buffer.read_offset(), source));
        }
        let mut interfaces = BTreeSet::new();
        let head = &buffer.data()[..buffer.data().len().min(FILE_HEADER)];
        if head.is_empty() {
            return Err(CaptureError::Empty { name });
        }
        let format = if head.starts_with(&pcap_parser::SHB_MAGIC.to_be_bytes()) {
            Format::PcapNg(PcapNgFormat::default())
        } else if let Some(format) = PcapFormat::new(head) {
            if super::link::LinkLayer::from_link_type(format.link_type).is_none() {
                return Err(CaptureError::UnsupportedLinkType { name, link_type: format.link_type });
            }
            interfaces.insert(CaptureInterface { link_type: format.link_type, snap_length: format.snap_length });
            buffer.consume(FILE_HEADER);
            Format::Pcap(format)
        } else {
            let first_bytes = hex::encode(&head[..head.len().min(16)]);
            return Err(CaptureError::NotACapture { name, first_bytes, advice: advice(head) });
        };
        Ok(CaptureReader {
            name,
            buffer,
            format,
            tunnels: options.tunnels,
            interfaces,
            packets: 0,
            decoded: 0,
            partial_transport_headers: 0,
            first_fragments: 0,
            latest: i64::MIN,
            out_of_order: 0,
            datagrams: Datagrams::default(),
            skipped: SkipCounters::default(),
            unknown_link_type: None,
            damage: None,
            finished: false,
        })
    }

    /// Returns the name given when the capture was opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the smallest difference of times that the file's format can express, in nanoseconds: 1000 for a pcap with
    /// microseconds, otherwise 1, the resolution of [`Packet::timestamp`].
    pub fn nanoseconds_per_unit(&self) -> i64 {
        match &self.format {
            Format::Pcap(format) => format.nanoseconds_per_unit,
            Format::PcapNg(_) => 1,
        }
    }

    /// Returns the next packet, or `None` at the end of the file or where damage begins (reported by
    /// [`CaptureReader::summary`]).
    ///
    /// # Errors
    /// Reading fails, or all packets of the file have unsupported link types.
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        if self.finished {
            return Ok(None);
        }
        let (record, timestamp, ip_offset, headers) = loop {
            let step = match &mut self.format {
                Format::Pcap(format) => format.next(&mut self.buffer),
                Format::PcapNg(format) => {
                    let interfaces = &mut self.interfaces;
                    format.next(&mut self.buffer, &mut |interface| {
                        interfaces.insert(interface);
                    })
                }
            };
            match step {
                Ok(Step::Record(record)) => {
                    self.packets += 1;
                    match self.decode(&record) {
                        Ok((timestamp, ip_offset, headers)) => break (record, timestamp, ip_offset, headers),
                        Err(skip) => {
                            if skip.reason == SkipReason::UnknownLinkType && record.link_layer.is_none() {
                                self.unknown_link_type.get_or_insert(record.link_type);
                            }
                            self.skipped.add(skip);
                        }
                    }
                }
                Ok(Step::End) => return self.finish(),
                Ok(Step::Damage(problem)) => {
                    self.damage = Some(Damage { offset: self.buffer.offset(), problem });
                    return self.finish();
                }
                Err(source) => match CompressionFault::of(&source) {
                    Some(fault @ CompressionFault::Damaged { .. }) => {
                        self.damage = Some(Damage { offset: self.buffer.offset(), problem: fault.to_string() });
                        return self.finish();
                    }
                    _ => {
                        self.finished = true;
                        return Err(read_error(self.name.clone(), self.buffer.read_offset(), source));
                    }
                },
            }
        };
        self.decoded += 1;
        self.partial_transport_headers += u64::from(headers.partial_transport_header);
        self.first_fragments += u64::from(headers.fragment.is_some_and(|fragment| fragment.offset == 0));
        self.out_of_order += u64::from(timestamp < self.latest);
        self.latest = self.latest.max(timestamp);
        let start = record.frame.start + ip_offset;
        Ok(Some(Packet {
            number: self.packets,
            timestamp,
            wire_length: record.wire_length,
            fragment: headers.fragment,
            source: headers.source,
            destination: headers.destination,
            bytes: self.buffer.bytes_at(start..start + headers.captured_length),
            network_length: headers.network_length,
            payload_length: headers.payload_length,
            layout: headers.layout,
            tcp_flags: headers.tcp_flags,
            tcp_window: headers.tcp_window,
            frame: self.buffer.bytes_at(record.frame.clone()),
            link_type: record.link_type,
            comment: self.buffer.bytes_at(record.comment.clone()),
        }))
    }

    /// Returns the counters so far; final once [`CaptureReader::next_packet`] has returned `None`.
    pub fn summary(&self) -> CaptureSummary {
        CaptureSummary {
            packets: self.packets,
            decoded: self.decoded,
            partial_transport_headers: self.partial_transport_headers,
            first_fragments: self.first_fragments,
            out_of_order: self.out_of_order,
            fractions_out_of_range: match &self.format {
                Format::Pcap(format) => format.fractions_out_of_range,
                Format::PcapNg(_) => 0,
            },
            skipped: self.skipped.list(),
            skipped_protocols: self.skipped.protocols(),
            damage: self.damage.clone(),
            interfaces: self.interfaces.iter().copied().collect(),
        }
    }

    fn decode(&mut self, record: &Record) -> Result<(i64, usize, Headers), Skip> {
        let timestamp = record.timestamp?;
        let link_layer = record.link_layer.ok_or(Protocol::LinkType(record.link_type))?;
        let frame = self.buffer.bytes_at(record.frame.clone());
        let ip_offset = link_layer.ip_offset(frame)?;
        let packet = frame.get(ip_offset..).ok_or(SkipReason::HeadersTruncated)?;
        let wire_length = record.wire_length as usize - ip_offset;
        let (inner, headers) = network::decode(packet, wire_length, self.tunnels, &mut self.datagrams)?;
        Ok((timestamp, ip_offset + inner, headers))
    }

    fn finish(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        self.finished = true;
        match self.unknown_link_type {
            Some(link_type) if self.skipped.of(SkipReason::UnknownLinkType) == self.packets => {
                Err(CaptureError::UnsupportedLinkType { name: self.name.clone(), link_type })
            }
            _ => Ok(None),
        }
    }
}

/// Converts an error of the stream.
fn read_error(name: String, offset: u64, source: std::io::Error) -> CaptureError {
    match CompressionFault::of(&source) {
        Some(fault) => CaptureError::Compressed { name, fault: fault.clone() },
        None if source.kind() == std::io::ErrorKind::IsADirectory => CaptureError::IsAFolder { name },
        None => CaptureError::Read { name, offset, source },
    }
}

fn is_archive_file(path: &Path) -> bool {
    let mut head = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && archive::is_archive(&head)
}

/// Guesses from its first bytes what a file that is not a capture may be.
fn advice(head: &[u8]) -> &'static str {
    const PCAP_MAGICS: [&[u8]; 6] = [
        &[0xd4, 0xc3, 0xb2, 0xa1],
        &[0xa1, 0xb2, 0xc3, 0xd4],
        &[0x4d, 0x3c, 0xb2, 0xa1],
        &[0xa1, 0xb2, 0x3c, 0x4d],
        &[0x34, 0xcd, 0xb2, 0xa1],
        &[0xa1, 0xb2, 0xcd, 0x34],
    ];
    if PCAP_MAGICS.iter().any(|magic| head.starts_with(magic)) {
        "it is a pcap that ends inside its 24-byte header; get the whole file"
    } else if archive::is_archive(head) {
        "it is a zip archive inside another file: unpack the outer file"
    } else if head.starts_with(b"version https://git-lfs") {
        "it is a Git LFS pointer: fetch the file itself with git lfs pull"
    } else {
        "check that this is the file you meant, or convert it with editcap"
    }
}
