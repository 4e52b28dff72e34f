//! The flows of captures as separate capture files, one pcap per flow, as SplitCap writes them: the packets as captured,
//! in files named after the capture and the five-tuple.
//!
//! Only one file is open at a time: packets wait in memory and are appended to their files when a flow ends, or when
//! more than [`MOST_WAITING`] bytes wait. The number of flows is therefore not limited by that of open files.

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use etcbench_capture::{CaptureError, CaptureReader, CaptureSummary, SkipReason, Transport};
use etcbench_flow::{FiveTuple, FlowOptions, FlowOptionsError, FlowSorter, Sorted, SortedPacket};
use etcbench_storage as storage;

/// Maximum number of bytes of packets that wait to be written.
const MOST_WAITING: usize = 64 << 20;
/// Magic numbers of pcap files with times in microseconds and in nanoseconds.
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// The snap length that the files declare, the maximum of libpcap.
const SNAP_LENGTH: u32 = 262_144;
const NANOSECONDS_PER_SECOND: i64 = 1_000_000_000;

/// Which flows and packets to write.
#[derive(Debug, Clone)]
pub struct FlowCaptureOptions {
    /// How packets are grouped; numbers of kept packets and bytes have no effect.
    pub flow: FlowOptions,
    /// Flows with fewer packets are not written.
    pub minimum_packets: u64,
    /// Only this many first packets of a flow are written.
    pub maximum_packets: u64,
}

/// Why flows cannot be written as captures.
#[derive(Debug, Error)]
pub enum FlowCaptureError {
    /// A capture cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// An option is invalid.
    #[error(transparent)]
    Options(#[from] FlowOptionsError),
    /// A file cannot be written.
    #[error("{file}: {source}")]
    Write {
        /// The file or folder.
        file: String,
        /// The underlying error.
        source: std::io::Error,
    },
    /// A packet does not fit the pcap format.
    #[error("{capture}: packet {packet}: {problem}")]
    Packet {
        /// The capture.
        capture: String,
        /// Number of the packet, from 1.
        packet: u64,
        /// The problem and what to do.
        problem: String,
    },
    /// Two captures would give the same file names.
    #[error(
        "{capture}: another capture is also named `{stem}`, which file names begin with; write it to another folder"
    )]
    SameName {
        /// The second capture.
        capture: String,
        /// The common name.
        stem: String,
    },
}

/// Number of flows of a capture.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenFlows {
    /// What was read.
    pub summary: CaptureSummary,
    /// Number of flows written, one file each.
    pub flows: u64,
    /// Number of packets written.
    pub packets: u64,
    /// Number of flows with too few packets.
    pub too_short: u64,
}

/// A folder of flows that appears whole, or not at all.
pub struct FlowCaptureFolder {
    options: FlowCaptureOptions,
    folder: storage::WholeFolder,
    stems: HashSet<String>,
    place: PathBuf,
    most_waiting: usize,
}

impl FlowCaptureFolder {
    /// Begins the folder, which must not exist.
    ///
    /// # Errors
    /// The folder exists or cannot be created; an option is invalid.
    pub fn new(place: &Path, options: FlowCaptureOptions) -> Result<Self, FlowCaptureError> {
        options.flow.validate()?;
        let problem = |source| FlowCaptureError::Write { file: place.display().to_string(), source };
        if std::fs::symlink_metadata(place).is_ok() {
            let exists = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "already exists; choose a new folder");
            return Err(problem(exists));
        }
        let folder = storage::WholeFolder::new(place).map_err(problem)?;
        Ok(Self { options, folder, stems: HashSet::new(), place: place.to_owned(), most_waiting: MOST_WAITING })
    }

    /// Writes the flows of a capture. File names begin with `stem`, which must differ from those of other captures.
    /// `progress` is called from time to time with the number of packets read.
    ///
    /// # Errors
    /// The capture cannot be read, a file cannot be written, or a packet does not fit the pcap format. Damage is not an
    /// error: the packets before it are written, and the summary reports it.
    pub fn add(
        &mut self,
        mut reader: CaptureReader,
        stem: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<WrittenFlows, FlowCaptureError> {
        if !self.stems.insert(stem.to_lowercase()) {
            return Err(FlowCaptureError::SameName { capture: reader.name().to_owned(), stem: stem.to_owned() });
        }
        let mut files = FlowFiles {
            folder: self.folder.path(),
            stem,
            options: &self.options,
            nanoseconds_per_unit: reader.nanoseconds_per_unit(),
            open: HashMap::new(),
            names: HashMap::new(),
            waiting: 0,
            most_waiting: self.most_waiting,
            flows: 0,
            packets: 0,
            too_short: 0,
        };
        let mut sorter = FlowSorter::new(&self.options.flow)?;
        let name = reader.name().to_owned();
        let mut fault: Option<Fault> = None;
        while let Some(packet) = reader.next_packet()? {
            let number = packet.number;
            sorter.push(&packet, &mut |sorted| {
                if fault.is_none() {
                    fault = files.take(sorted).err();
                }
            });
            match fault.take() {
                Some(Fault::Packet(problem)) => {
                    return Err(FlowCaptureError::Packet { capture: name, packet: number, problem });
                }
                Some(Fault::Write(error)) => return Err(error),
                None => {}
            }
            if number.is_multiple_of(1 << 16) {
                progress(number);
            }
        }
        let lost = sorter.fragments_without_ports();
        sorter.finish(&mut |sorted| {
            if fault.is_none() {
                fault = files.take(sorted).err();
            }
        });
        if let Some(Fault::Write(error)) = fault {
            return Err(error);
        }
        let mut summary = reader.summary();
        summary.decoded -= lost;
        summary.add_skipped(SkipReason::FragmentWithoutPorts, lost);
        Ok(WrittenFlows { summary, flows: files.flows, packets: files.packets, too_short: files.too_short })
    }

    /// Writes everything to the disk and puts the folder in place.
    ///
    /// # Errors
    /// Something is there by now; any file system error.
    pub fn finish(self) -> Result<(), FlowCaptureError> {
        let Self { folder, place, .. } = self;
        let problem = |source| FlowCaptureError::Write { file: place.display().to_string(), source };
        folder.put_in_empty_place().map_err(problem)
    }
}

/// Why a packet cannot be written.
enum Fault {
    Packet(String),
    Write(FlowCaptureError),
}

/// The file of an active flow.
struct FlowFile {
    name: String,
    link_type: u32,
    nanoseconds_per_unit: i64,
    /// Packets of the flow, also those beyond the maximum.
    packets: u64,
    /// Bytes that are not in the file yet.
    waiting: Vec<u8>,
    begun: bool,
}

/// The files of a capture's flows.
struct FlowFiles<'a> {
    folder: &'a Path,
    stem: &'a str,
    options: &'a FlowCaptureOptions,
    nanoseconds_per_unit: i64,
    /// Active flows by number.
    open: HashMap<u64, FlowFile>,
    /// Number of flows by name without number.
    names: HashMap<String, u32>,
    /// Number of bytes that wait in all flows, and the number from which all are written.
    waiting: usize,
    most_waiting: usize,
    flows: u64,
    packets: u64,
    too_short: u64,
}

impl FlowFiles<'_> {
    fn take(&mut self, sorted: Sorted<'_>) -> Result<(), Fault> {
        match sorted {
            Sorted::Packet(packet) => self.add(&packet),
            Sorted::End(number) => self.end(number).map_err(Fault::Write),
        }
    }

    fn add(&mut self, packet: &SortedPacket<'_>) -> Result<(), Fault> {
        let Self { folder, stem, options, nanoseconds_per_unit, open, names, waiting, most_waiting, .. } = self;
        let file = open.entry(packet.flow).or_insert_with(|| {
            let waiting = file_header(*nanoseconds_per_unit, packet.link_type);
            FlowFile {
                name: file_name(stem, &packet.five_tuple, names),
                link_type: packet.link_type,
                nanoseconds_per_unit: *nanoseconds_per_unit,
                packets: 0,
                waiting: waiting.to_vec(),
                begun: false,
            }
        });
        file.packets += 1;
        if file.packets > options.maximum_packets {
            return Ok(());
        }
        if file.link_type != packet.link_type {
            return Err(Fault::Packet(format!(
                "its link type is {}, but the flow began with {}, and a pcap file has one; write the interfaces of the \
                 capture to separate files first, such as with `tshark -Y frame.interface_id==0 -w`",
                packet.link_type, file.link_type
            )));
        }
        let seconds = u32::try_from(packet.timestamp.div_euclid(NANOSECONDS_PER_SECOND));
        let Ok(seconds) = seconds else {
            return Err(Fault::Packet(
                "its time is after the year 2106, which pcap files cannot express; correct it with `editcap -t`"
                    .to_owned(),
            ));
        };
        let nanoseconds = packet.timestamp.rem_euclid(NANOSECONDS_PER_SECOND);
        // The header of a capture may state microseconds although it has nanoseconds.
        if nanoseconds % file.nanoseconds_per_unit != 0 {
            file.change_to_nanoseconds(folder).map_err(Fault::Write)?;
        }
        let fraction = nanoseconds / file.nanoseconds_per_unit;
        let before = file.waiting.len();
        for word in [seconds, fraction as u32, packet.frame.len() as u32, packet.wire_length] {
            file.waiting.extend_from_slice(&word.to_le_bytes());
        }
        file.waiting.extend_from_slice(packet.frame);
        *waiting += file.waiting.len() - before;
        if *waiting > *most_waiting {
            self.write_waiting().map_err(Fault::Write)?;
        }
        Ok(())
    }

    /// Writes all waiting bytes.
    fn write_waiting(&mut self) -> Result<(), FlowCaptureError> {
        for file in self.open.values_mut() {
            file.write(self.folder)?;
        }
        self.waiting = 0;
        Ok(())
    }

    fn end(&mut self, number: u64) -> Result<(), FlowCaptureError> {
        let Some(mut file) = self.open.remove(&number) else { return Ok(()) };
        let header = if file.begun { 0 } else { FILE_HEADER };
        self.waiting = self.waiting.saturating_sub(file.waiting.len().saturating_sub(header));
        if file.packets < self.options.minimum_packets {
            self.too_short += 1;
            return if file.begun { file.remove(self.folder) } else { Ok(()) };
        }
        self.flows += 1;
        self.packets += file.packets.min(self.options.maximum_packets);
        file.write(self.folder)
    }
}

impl FlowFile {
    /// Appends what waits.
    fn write(&mut self, folder: &Path) -> Result<(), FlowCaptureError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let path = folder.join(&self.name);
        let opened = match self.begun {
            true => OpenOptions::new().append(true).open(&path),
            false => storage::create_file(&path),
        };
        let written = opened.and_then(|mut file| file.write_all(&self.waiting));
        written.map_err(|source| FlowCaptureError::Write { file: self.name.clone(), source })?;
        self.begun = true;
        self.waiting = Vec::new();
        Ok(())
    }

    /// Changes microseconds to nanoseconds in what is written and in what waits.
    fn change_to_nanoseconds(&mut self, folder: &Path) -> Result<(), FlowCaptureError> {
        let factor = self.nanoseconds_per_unit as u32;
        let path = folder.join(&self.name);
        let changed = match self.begun {
            true => OpenOptions::new().read(true).write(true).open(path).and_then(|mut file| {
                file.write_all(&NANOSECONDS.to_le_bytes())?;
                multiply_fractions(&mut file, FILE_HEADER as u64, factor)?;
                multiply_fractions(&mut Cursor::new(&mut self.waiting[..]), 0, factor)
            }),
            false => {
                self.waiting[..4].copy_from_slice(&NANOSECONDS.to_le_bytes());
                multiply_fractions(&mut Cursor::new(&mut self.waiting[..]), FILE_HEADER as u64, factor)
            }
        };
        self.nanoseconds_per_unit = 1;
        changed.map_err(|source| FlowCaptureError::Write { file: self.name.clone(), source })
    }

    fn remove(&self, folder: &Path) -> Result<(), FlowCaptureError> {
        std::fs::remove_file(folder.join(&self.name))
            .map_err(|source| FlowCaptureError::Write { file: self.name.clone(), source })
    }
}

/// Multiplies the fractions of a second of all records from `start` on.
fn multiply_fractions(file: &mut (impl Read + Write + Seek), start: u64, factor: u32) -> std::io::Result<()> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut place = start;
    while place < end {
        let mut header = [0; RECORD_HEADER];
        file.seek(SeekFrom::Start(place))?;
        file.read_exact(&mut header)?;
        let [_, fraction, length, _] = std::array::from_fn(|word| {
            let bytes = &header[4 * word..];
            bytes.first_chunk().map_or(0, |word: &[u8; 4]| u32::from_le_bytes(*word))
        });
        file.seek(SeekFrom::Start(place + 4))?;
        file.write_all(&(fraction * factor).to_le_bytes())?;
        place += (RECORD_HEADER as u64) + u64::from(length);
    }
    Ok(())
}

/// Lengths of the header of a file and of a record.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// Returns the header of a pcap file (draft-ietf-opsawg-pcap, section 4).
fn file_header(nanoseconds_per_unit: i64, link_type: u32) -> [u8; FILE_HEADER] {
    let magic = if nanoseconds_per_unit == 1 { NANOSECONDS } else { MICROSECONDS };
    let mut header = [0; FILE_HEADER];
    for (place, word) in header.chunks_exact_mut(4).zip([magic, 0x0004_0002, 0, 0, SNAP_LENGTH, link_type]) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    header
}

/// Returns the name of a flow's file, such as `chat.pcap.TCP_10-0-0-1_40000_10-0-0-2_443.pcap`; the second flow with
/// this name gets `_2` before the last extension.
fn file_name(stem: &str, five_tuple: &FiveTuple, names: &mut HashMap<String, u32>) -> String {
    let transport = match five_tuple.transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    };
    let address = |end: std::net::SocketAddr| end.ip().to_string().replace(['.', ':'], "-");
    let (source, destination) = (five_tuple.source, five_tuple.destination);
    let name = format!(
        "{stem}.pcap.{transport}_{}_{}_{}_{}",
        address(source),
        source.port(),
        address(destination),
        destination.port()
    );
    let count = names.entry(name.clone()).or_default();
    *count += 1;
    if *count == 1 { format!("{name}.pcap") } else { format!("{name}_{count}.pcap") }
}

#[cfg(test)]
#[path = "flow_captures_tests.rs"]
mod tests;
