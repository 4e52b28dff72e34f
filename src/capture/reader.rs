//! Reads a capture of either format and lends its packets one at a time.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::buffer::StreamBuffer;
use super::error::CaptureError;
use super::network::{self, Headers};
use super::packet::Packet;
use super::pcap::{FILE_HEADER, PcapFormat, Record, Step};
use super::pcapng::PcapNgFormat;
use super::summary::{CaptureInterface, CaptureSummary, Damage, SkipCounters, SkipReason};

enum Format {
    Pcap(PcapFormat),
    PcapNg(PcapNgFormat),
}

/// A capture being read.
///
/// Memory is one window on the file: half a megabyte, or what the longest record takes. Packets longer than
/// 262,144 bytes and pcapng blocks longer than 16 MiB are damage, as in libpcap.
///
/// ```no_run
/// # fn main() -> Result<(), etcbench::capture::CaptureError> {
/// let mut reader = etcbench::capture::CaptureReader::open("traffic.pcap".as_ref())?;
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
    interfaces: BTreeSet<CaptureInterface>,
    packets: u64,
    decoded: u64,
    partial_transport_headers: u64,
    first_fragments: u64,
    skipped: SkipCounters,
    /// Link type of the first record whose link type is not supported.
    unknown_link_type: Option<u32>,
    damage: Option<Damage>,
    finished: bool,
}

impl CaptureReader {
    /// Opens a pcap or pcapng file.
    ///
    /// # Errors
    /// The file cannot be opened or read, is empty, is no capture, or is a pcap whose link type is not
    /// supported.
    pub fn open(path: &Path) -> Result<CaptureReader, CaptureError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => CaptureReader::from_reader(file, name),
            Err(source) => Err(CaptureError::Open { name, source }),
        }
    }

    /// Reads a capture from a stream; `name` is what messages call it.
    ///
    /// # Errors
    /// As [`CaptureReader::open`].
    pub fn from_reader(
        stream: impl Read + Send + 'static,
        name: impl Into<String>,
    ) -> Result<CaptureReader, CaptureError> {
        let name = name.into();
        let mut buffer = StreamBuffer::new(Box::new(stream));
        if let Err(source) = buffer.fill(FILE_HEADER) {
            return Err(CaptureError::Read { name, offset: buffer.read_offset(), source });
        }
        let mut interfaces = BTreeSet::new();
        let head = &buffer.data()[..buffer.data().len().min(FILE_HEADER)];
        if head.is_empty() {
            return Err(CaptureError::Empty { name });
        }
        let format = if head.starts_with(&pcap_parser::SHB_MAGIC.to_be_bytes()) {
            Format::PcapNg(PcapNgFormat::default())
        } else if let Ok((_, header)) = pcap_parser::parse_pcap_header(head) {
            let format = PcapFormat::new(&header);
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
            interfaces,
            packets: 0,
            decoded: 0,
            partial_transport_headers: 0,
            first_fragments: 0,
            skipped: SkipCounters::default(),
            unknown_link_type: None,
            damage: None,
            finished: false,
        })
    }

    /// The name given when the capture was opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next packet, or nothing at the end of the file or where damage begins
    /// (then [`CaptureReader::summary`] tells of it).
    ///
    /// # Errors
    /// Reading fails, or the whole file has packets of unsupported link types only.
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
                        Err(reason) => {
                            if reason == SkipReason::UnknownLinkType {
                                self.unknown_link_type.get_or_insert(record.link_type);
                            }
                            self.skipped.add(reason);
                        }
                    }
                }
                Ok(Step::End) => return self.finish(),
                Ok(Step::Damage(problem)) => {
                    self.damage = Some(Damage { offset: self.buffer.offset(), problem });
                    return self.finish();
                }
                Err(source) => {
                    self.finished = true;
                    return Err(CaptureError::Read {
                        name: self.name.clone(),
                        offset: self.buffer.read_offset(),
                        source,
                    });
                }
            }
        };
        self.decoded += 1;
        self.partial_transport_headers += u64::from(headers.partial_transport_header);
        self.first_fragments += u64::from(headers.fragment.is_some_and(|fragment| fragment.offset == 0));
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
        }))
    }

    /// The counters so far; final once [`CaptureReader::next_packet`] has given nothing.
    pub fn summary(&self) -> CaptureSummary {
        CaptureSummary {
            packets: self.packets,
            decoded: self.decoded,
            partial_transport_headers: self.partial_transport_headers,
            first_fragments: self.first_fragments,
            skipped: self.skipped.list(),
            damage: self.damage.clone(),
            interfaces: self.interfaces.iter().copied().collect(),
        }
    }

    fn decode(&self, record: &Record) -> Result<(i64, usize, Headers), SkipReason> {
        let timestamp = record.timestamp?;
        let link_layer = record.link_layer.ok_or(SkipReason::UnknownLinkType)?;
        let frame = self.buffer.bytes_at(record.frame.clone());
        let ip_offset = link_layer.ip_offset(frame)?;
        let packet = frame.get(ip_offset..).ok_or(SkipReason::HeadersTruncated)?;
        let headers = network::decode(packet, record.wire_length as usize - ip_offset)?;
        Ok((timestamp, ip_offset, headers))
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

/// What a file that is no capture may be, by its first bytes.
fn advice(head: &[u8]) -> &'static str {
    const PCAP_MAGICS: [&[u8]; 5] = [
        &[0xd4, 0xc3, 0xb2, 0xa1],
        &[0xa1, 0xb2, 0xc3, 0xd4],
        &[0x4d, 0x3c, 0xb2, 0xa1],
        &[0xa1, 0xb2, 0x3c, 0x4d],
        &[0x34, 0xcd, 0xb2, 0xa1],
    ];
    if PCAP_MAGICS.iter().any(|magic| head.starts_with(magic)) {
        "it is a pcap that ends inside its 24-byte header; get the whole file"
    } else if head.starts_with(&[0x1f, 0x8b]) {
        "it looks gzip-compressed: decompress it with gunzip"
    } else if head.starts_with(b"BZh") {
        "it looks bzip2-compressed: decompress it with bunzip2"
    } else if head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        "it looks xz-compressed: decompress it with unxz"
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        "it looks zstd-compressed: decompress it with unzstd"
    } else if head.starts_with(b"PK\x03\x04") {
        "it looks like a zip archive: unpack it"
    } else if head.starts_with(b"version https://git-lfs") {
        "it is a Git LFS pointer: fetch the file itself with git lfs pull"
    } else {
        "check that this is the file you meant, or convert it with editcap"
    }
}
