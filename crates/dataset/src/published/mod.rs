//! Flows published without captures: tables, arrays and folders with the lengths, directions, times or bytes of
//! packets. [`LAYOUTS`] lists the supported layouts and what each contains; to add a layout, add a module here and an
//! entry there.
//!
//! A reader streams a file and emits its flows one by one, holding at most one flow in memory (or one table, if all
//! packets of a capture are in one table). The results are [`LabelledFlow`]s, the same as from captures, so selection,
//! splits, features, caches and models handle both alike.

mod arrays;
mod cesnet;
pub(super) mod images;
mod line;
mod load;
mod mirage;
pub(super) mod npy;
mod pcapml;
mod table;
mod ucdavis;
mod utmobilenet;
pub(super) mod words;

use std::cell::RefCell;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;

use indexmap::IndexMap;
use serde::Deserialize;

use super::folder::CaptureFile;
use super::foreign::foreign_kind;
use super::holds::{HeldBytes, HeldFlags, HeldLengths, HeldTimes, Holds};
use super::rules::{known_column, without_compression};
use etcbench_capture::{Damage, ExpansionLimits, decompress};
use etcbench_flow::{FiveTuple, Flow, FlowOptions, SequencePacket};
use etcbench_storage::declarative::nearest;

pub(super) use load::load_published;

/// Maximum number of packets read per flow; published flows have fewer.
const MOST_PACKETS: usize = 1 << 22;

/// A format of published flows.
pub struct Layout {
    /// The name in `[published] layout`.
    pub name: &'static str,
    /// Description of its files.
    pub what: &'static str,
    /// The fields of each flow that labels can be taken from.
    pub fields: &'static [&'static str],
    /// The information its flows contain.
    pub holds: Holds,
    /// If labels are in a separate file: the suffixes of the data file and of the label file.
    pub beside: Option<(&'static str, &'static str)>,
    read: fn(&PublishedFile<'_>, &mut Sink<'_>) -> Result<(), Fault>,
}

/// Only lengths and directions, of flows truncated to their first packets.
const SIGNED_LENGTHS: Holds = Holds {
    bytes: HeldBytes::None,
    lengths: HeldLengths::Packets,
    times: HeldTimes::None,
    flags: HeldFlags::None,
    addresses: false,
    cut: true,
};

/// All supported layouts.
pub static LAYOUTS: &[Layout] = &[
    Layout {
        name: "ucdavis_icdm19",
        what: "one tab-separated file per flow, without a header: Unix time, time since the first packet, length, \
               direction 0 or 1 (Rezaei and Liu 2019)",
        fields: &[],
        holds: Holds { times: HeldTimes::Absolute, cut: false, ..SIGNED_LENGTHS },
        beside: None,
        read: ucdavis::read,
    },
    Layout {
        name: "mirage19",
        what: "JSON, one object per flow, keyed by \"source,port,destination,port,protocol\", with packet_data and \
               flow_metadata; app is the second part of the file name, or background if BF_label differs (Aceto et al. \
               2019)",
        fields: &["app", "BF_label"],
        holds: mirage::HOLDS,
        beside: None,
        read: mirage::read,
    },
    Layout {
        name: "mirage22",
        what: "like mirage19, with BF_activity: app is background if it is Unknown (Guarino et al. 2022)",
        fields: &["app", "BF_label", "BF_activity"],
        holds: mirage::HOLDS,
        beside: None,
        read: mirage::read_with_activities,
    },
    Layout {
        name: "tcbench",
        what: "Parquet, one row per flow: app, lists pkts_size, pkts_dir (0 or 1) and timetofirst, and optionally \
               partition or flow_id (Finamore et al. 2023)",
        fields: &["app", "partition", "flow_id"],
        holds: Holds { times: HeldTimes::Relative, cut: false, ..SIGNED_LENGTHS },
        beside: None,
        read: table::read,
    },
    Layout {
        name: "wflib",
        what: "npz with X, one row of direction times time per trace (0 after its end), and y, its class (Deng et al. \
               2024)",
        fields: &["y"],
        holds: Holds { lengths: HeldLengths::None, times: HeldTimes::Relative, cut: false, ..SIGNED_LENGTHS },
        beside: None,
        read: arrays::read_traces,
    },
    Layout {
        name: "appclassnet",
        what: "NAME_x.npy, one row of signed lengths per flow, padded with 0, and NAME_y.npy, its class (Wang et al. \
               2022)",
        fields: &["y"],
        holds: SIGNED_LENGTHS,
        beside: Some(("_x.npy", "_y.npy")),
        read: arrays::read_lengths,
    },
    Layout {
        name: "cesnet",
        what: "CSV, one row per flow: PPI, lists of inter-packet times in milliseconds, directions 1 and -1, payload \
               lengths and, if published, push flags of the first 30 packets; APP, CATEGORY and more (Luxemburk et al. \
               2022 to 2024)",
        fields: &["APP", "CATEGORY", "TLS_SNI", "QUIC_SNI"],
        holds: Holds {
            lengths: HeldLengths::Payloads,
            times: HeldTimes::Relative,
            flags: HeldFlags::Push,
            ..SIGNED_LENGTHS
        },
        beside: None,
        read: cesnet::read,
    },
    Layout {
        name: "utmobilenet21",
        what: "CSV, one row per packet with tshark's names (frame.time in US Central time, ip.src, tcp.len, \
               udp.length, ...); packets with the same five-tuple form a flow (Heng, Chandrasekhar and Andrews 2021)",
        fields: &["location"],
        holds: Holds {
            lengths: HeldLengths::Payloads,
            times: HeldTimes::Absolute,
            addresses: true,
            cut: false,
            ..SIGNED_LENGTHS
        },
        beside: None,
        read: utmobilenet::read,
    },
    Layout {
        name: "yatc",
        what: "one 40 x 40 greyscale PNG per flow: five packets with 80 bytes of headers, from the IP header on, and \
               240 bytes of payload, both zero-padded (Zhao et al. 2023; NetMamba uses the same)",
        fields: &[],
        holds: Holds { bytes: HeldBytes::IpHeader, ..SIGNED_LENGTHS },
        beside: None,
        read: images::read_packets,
    },
    Layout {
        name: "session_images",
        what: "idx3-ubyte with images of 784 bytes, each the start of a session's pcap file, and a separate idx1-ubyte \
               with their classes (Wang et al. 2017)",
        fields: &["y"],
        holds: Holds { cut: true, ..Holds::CAPTURE },
        beside: Some(("-images-idx3-ubyte", "-labels-idx1-ubyte")),
        read: images::read_sessions,
    },
    Layout {
        name: "et_bert",
        what: "TSV with a header: label, and text_a, with a word of four hexadecimal digits for every two consecutive \
               bytes; a word that does not start with the previous word's last byte begins the next packet (Lin et al. \
               2022)",
        fields: &["label"],
        holds: Holds { bytes: HeldBytes::AsPublished, lengths: HeldLengths::None, ..SIGNED_LENGTHS },
        beside: None,
        read: words::read,
    },
    Layout {
        name: "pcapml",
        what: "pcapng captures of pcapML: the comment of each packet is \"sampleID,label\", or \
               \"s=sampleID,proc=label,dst=name\"; the packets of a sample follow one another (Holland et al. 2022)",
        fields: &["label", "sample", "dst"],
        holds: Holds::CAPTURE,
        beside: None,
        read: pcapml::read,
    },
];

/// `[published]` of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishedSection {
    layout: String,
    #[serde(default)]
    labels: IndexMap<String, String>,
    most_flows_per_class: Option<u32>,
    #[serde(default)]
    sampling_seed: u64,
}

/// Rules for reading a dataset whose files are in a published layout.
#[derive(Clone)]
pub struct PublishedRules {
    /// The layout of all files.
    pub layout: &'static Layout,
    /// Label column to the field that contains its values.
    labels: IndexMap<String, String>,
    /// Maximum number of flows with the same labels per file, and the seed for sampling them.
    most_flows_per_class: Option<(u32, u64)>,
}

impl fmt::Debug for PublishedRules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("PublishedRules").field(&self.layout.name).field(&self.labels).finish()
    }
}

impl PublishedRules {
    /// Validates a section.
    ///
    /// # Errors
    /// An unknown layout, field or label column.
    pub(super) fn new(section: &PublishedSection, label_columns: &[String]) -> Result<Self, String> {
        let name = &section.layout;
        let Some(layout) = LAYOUTS.iter().find(|layout| layout.name == name) else {
            let known: Vec<&str> = LAYOUTS.iter().map(|layout| layout.name).collect();
            let near = nearest(name, known.iter().copied()).unwrap_or_default();
            return Err(format!(
                "`published.layout` is `{name}`; the most similar supported one is `{near}` (supported: {})",
                known.join(", ")
            ));
        };
        for (column, field) in &section.labels {
            known_column(column, label_columns)?;
            if !layout.fields.contains(&field.as_str()) {
                let known =
                    if layout.fields.is_empty() { "none; use [[rule]]".to_owned() } else { layout.fields.join(", ") };
                return Err(format!(
                    "`published.labels`: files of layout `{name}` have no `{field}` (fields: {known})"
                ));
            }
        }
        if section.most_flows_per_class == Some(0) {
            return Err("`published.most_flows_per_class` is 0; omit it to use all flows".to_owned());
        }
        let most_flows_per_class = section.most_flows_per_class.map(|most| (most, section.sampling_seed));
        Ok(Self { layout, labels: section.labels.clone(), most_flows_per_class })
    }

    /// Returns whether the files provide any label column.
    pub(super) fn gives_any(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Returns whether the files provide this label column.
    pub(super) fn gives(&self, column: &str) -> bool {
        self.labels.contains_key(column)
    }

    /// Returns whether a file contains the labels of another file.
    pub(super) fn is_beside(&self, path: &str) -> bool {
        self.layout.beside.is_some_and(|(_, labels)| without_compression(path).ends_with(labels))
    }
}

/// A file in a published layout.
pub(super) struct PublishedFile<'a> {
    root: &'a Path,
    file: &'a CaptureFile,
    layout: &'a Layout,
    /// Limits on the packets and bytes kept per flow.
    options: &'a FlowOptions,
    /// Where a capture ends early; the flows before it are used.
    damage: RefCell<Option<Damage>>,
}

impl PublishedFile<'_> {
    /// Opens the file without archive and compression.
    fn open(&self) -> Result<Box<dyn BufRead + Send>, Fault> {
        self.open_source(&self.file.source(self.root))
    }

    fn open_source(&self, source: &etcbench_capture::CaptureSource) -> Result<Box<dyn BufRead + Send>, Fault> {
        let limits = ExpansionLimits::default();
        let stream = source.open(limits).map_err(|error| Fault::of_file(error.to_string()))?;
        let stream = decompress(stream, limits).map_err(|error| Fault::of_file(error.to_string()))?.stream;
        let mut input = BufReader::with_capacity(1 << 18, stream);
        match foreign_kind(input.fill_buf().map_err(|error| Fault::of_file(error.to_string()))?) {
            Some(told) => Err(Fault::of_file(told.to_owned())),
            None => Ok(Box::new(input)),
        }
    }

    /// Opens the file with this file's labels; also returns its path.
    fn open_beside(&self) -> Result<(String, Box<dyn BufRead + Send>), Fault> {
        let (plain, compression) = self.file.path.split_at(without_compression(&self.file.path).len());
        let path = self
            .layout
            .beside
            .and_then(|(own, labels)| Some(format!("{}{labels}{compression}", plain.strip_suffix(own)?)));
        let path = path.ok_or_else(|| {
            let (own, _) = self.layout.beside.unwrap_or_default();
            Fault::of_file(format!("its name does not end in {own}, so its labels cannot be found; correct `patterns`"))
        })?;
        let file = CaptureFile { path: path.clone(), size: 0, archive: self.file.archive.clone() };
        let stream = self.open_source(&file.source(self.root));
        let stream = stream.map_err(|fault| Fault::of_file(format!("its labels are in {path}: {}", fault.message)))?;
        Ok((path, stream))
    }
}

/// A flow as read from a file.
pub(super) struct PublishedFlow {
    /// Values of the layout's fields, in order.
    fields: Vec<String>,
    five_tuple: Option<FiveTuple>,
    packets: Vec<SequencePacket>,
    /// The complete flow, if the file contains a capture of it; then `packets` is empty.
    flow: Option<Flow>,
    /// Flows with the same group come from one sample, and are kept together by `split.group = "capture"`.
    group: Option<String>,
}

impl PublishedFlow {
    /// A sequence of packets without addresses.
    fn sequence(fields: Vec<String>, packets: Vec<SequencePacket>) -> Self {
        Self { fields, five_tuple: None, packets, flow: None, group: None }
    }

    /// A complete flow.
    fn whole(fields: Vec<String>, flow: Flow) -> Self {
        Self { flow: Some(flow), ..Self::sequence(fields, Vec::new()) }
    }
}

/// Receives flows; returning an error stops the reader.
type Sink<'a> = dyn FnMut(PublishedFlow) -> Result<(), String> + 'a;

/// A problem in a file, with its location.
#[derive(Debug)]
pub(super) struct Fault {
    /// `line 3`, `row 7`, or empty for the whole file.
    place: String,
    message: String,
}

impl Fault {
    fn of_file(message: String) -> Self {
        Self { place: String::new(), message }
    }

    fn at(place: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { place: place.to_string(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.place.is_empty() { "" } else { ": " };
        write!(formatter, "{}{separator}{}", self.place, self.message)
    }
}

/// Converts seconds to nanoseconds; returns `None` if out of range.
fn nanoseconds(seconds: f64) -> Option<i64> {
    let nanoseconds = (seconds * 1e9).round();
    (nanoseconds.abs() < 9.0e18).then_some(nanoseconds as i64)
}

/// Returns the absolute value as a length in bytes, or `None` if it is not an integer in range.
fn length(number: f64) -> Option<u32> {
    let magnitude = number.abs();
    (magnitude.fract() == 0.0 && magnitude <= f64::from(u32::MAX)).then_some(magnitude as u32)
}

/// Returns the start of a text, for a one-line message.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    start.escape_debug().to_string()
}

#[cfg(test)]
mod tests;
