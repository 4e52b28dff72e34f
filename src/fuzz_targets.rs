//! The fuzz targets for the fuzzers in `fuzz/` and for the replay of their seeds in `tests/fuzz_seeds.rs`: one function
//! per kind of input, which must return for any bytes. Errors are fine; panics, endless loops and allocations sized by
//! an untrusted length field are not.

use std::cell::RefCell;
use std::io::{Cursor, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ndarray::Array2;

use crate::capture::{CaptureReader, CaptureSource, ExpansionLimits, ReaderOptions, Transport, Tunnels, archive};
use crate::dataset::{Dataset, DatasetDefinition, FlowProvenance, LAYOUTS, open_folder};
use crate::experiment::{Overrides, read_experiment};
use crate::feature::{FeatureSet, StoreReader, TokenArray};
use crate::flow::{FiveTuple, FlowOptions};
use crate::model::ModelArchive;
use crate::report::ToleranceFile;
use crate::submission::{Bundle, check};

/// A target and its name, which is also the name of its seed folder.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 11] = [
    ("capture", capture),
    ("packet", packet),
    ("zip", zip_archive),
    ("labels", labels),
    ("toml", declarative_file),
    ("split", split),
    ("model", model),
    ("store", store),
    ("arff", arff),
    ("published", published),
    ("bundle", bundle),
];

/// Small enough that decompression bombs cost no time.
const EXPANSION: ExpansionLimits = ExpansionLimits { most_bytes: 1 << 24, most_ratio: 200, free_bytes: 1 << 20 };

thread_local! {
    /// A folder for targets that read files, in memory if the system supports it.
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
    /// The definition of the flow labels' dataset, read once: its expressions take longer than everything else here.
    static FLOWS: DatasetDefinition =
        DatasetDefinition::read(&file("flows.toml", FLOWS_DEFINITION.as_bytes())).expect("it is sound");
    /// One definition per layout, and one for features.
    static PUBLISHED: Vec<DatasetDefinition> = published_definitions();
}

/// Writes a file into this thread's folder.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    FOLDER.with_borrow_mut(|folder| {
        let memory = Path::new("/dev/shm");
        let folder = folder.get_or_insert_with(|| {
            let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
            made.expect("a temporary folder can be made")
        });
        let path = folder.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a folder can be made");
        }
        std::fs::write(&path, bytes).expect("a file can be written");
        path
    })
}

/// Reads a capture to its end and checks the invariants of every packet.
fn read_all(reader: Result<CaptureReader, crate::capture::CaptureError>) {
    let Ok(mut reader) = reader else { return };
    let mut number = 0;
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(_) => return,
        };
        assert!(packet.number > number && packet.timestamp >= 0);
        number = packet.number;
        let length = packet.bytes.len();
        assert!(length >= 20 && length as u32 <= packet.network_length);
        assert!(packet.bytes[0] >> 4 == if packet.source.is_ipv4() { 4 } else { 6 });
        let later = packet.fragment.is_some_and(|fragment| fragment.offset > 0);
        let (transport, payload) = (packet.layout.transport_offset, packet.layout.payload_offset);
        assert!(if later {
            transport == payload
        } else {
            payload - transport >= 8 && length >= usize::from(transport) + 4
        });
        assert!(packet.payload_length < packet.network_length);
        assert!(packet.layout.transport == Transport::Tcp || (packet.tcp_flags, packet.tcp_window) == (0, 0));
    }
    let summary = reader.summary();
    assert_eq!(summary.packets, summary.decoded + summary.skipped.iter().map(|(_, count)| count).sum::<u64>());
}

/// Reads a whole capture file, compressed or not.
pub fn capture(bytes: &[u8]) {
    for tunnels in [Tunnels::Outer, Tunnels::Inner] {
        let options = ReaderOptions { tunnels, expansion: EXPANSION, decompress_ahead: false };
        read_all(CaptureReader::from_reader_with(Cursor::new(bytes.to_vec()), "fuzz", &options));
    }
}

/// Reads a frame, preceded by two bytes of link type and one byte for the number of bytes that the capture truncated.
pub fn packet(bytes: &[u8]) {
    let [low, high, cut, frame @ ..] = bytes else { return };
    let link_type = u32::from(u16::from_le_bytes([*low, *high]));
    let length = frame.len() as u32;
    let mut file = Vec::with_capacity(frame.len() + 40);
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0, link_type, 0, 0, length, length + u32::from(*cut)] {
        file.extend(u32::to_le_bytes(word));
    }
    file.extend(frame);
    for tunnels in [Tunnels::Outer, Tunnels::Inner] {
        let options = ReaderOptions { tunnels, expansion: EXPANSION, decompress_ahead: false };
        read_all(CaptureReader::from_reader_with(Cursor::new(file.clone()), "fuzz", &options));
    }
}

/// Reads a zip archive: every member as bytes and as a capture.
pub fn zip_archive(bytes: &[u8]) {
    let path = file("archive.zip", bytes);
    let Ok(members) = archive::members(&path) else { return };
    for member in members.iter().take(20) {
        if let Ok(reader) = archive::open_member_with(&path, &member.name, EXPANSION) {
            let _ = std::io::copy(&mut reader.take(1 << 25), &mut std::io::sink());
        }
        let options = ReaderOptions { tunnels: Tunnels::Inner, expansion: EXPANSION, decompress_ahead: false };
        read_all(CaptureReader::open_with(&CaptureSource::member(&path, &member.name), &options));
    }
}

const TABLE_DEFINITION: &str = r#"
name = "table"
title = "t"
reference = "r"
label_columns = ["tunnel", "category"]
published_at = { url = "u", how = "h" }
files = { patterns = ["**/*.pcap"] }
table = { file = "table.csv", key = "capture_stem" }
"#;

const FLOWS_DEFINITION: &str = r#"
name = "flows"
title = "t"
reference = "r"
label_columns = ["traffic"]
published_at = { url = "u", how = "h" }
files = { patterns = ["**/*.pcap"] }
[flow_labels]
pattern = "**/*.binetflow"
format = "ctu_binetflow"
utc_offset = "+02:00"
tolerance_seconds = 1.0
[[flow_labels.rule]]
label = "From-Botnet"
labels = { traffic = "botnet" }
[[flow_labels.rule]]
label = "From-Normal"
labels = { traffic = "normal" }
"#;

/// Reads a label table or, if the first byte is odd, a file of flow labels joined to a capture.
pub fn labels(bytes: &[u8]) {
    let Some((kind, content)) = bytes.split_first() else { return };
    if kind & 1 == 0 {
        let path = file("table.toml", TABLE_DEFINITION.as_bytes());
        file("table.csv", content);
        if let Ok(definition) = DatasetDefinition::read(&path) {
            definition.expected_stems();
        }
        return;
    }
    let definition = FLOWS.with(DatasetDefinition::clone);
    let capture = file("flows/one.pcap", &one_flow());
    file("flows/one.binetflow", content);
    let root = capture.parent().unwrap_or(Path::new("."));
    let folder = open_folder(&definition, root).expect("it is there");
    let dataset = Dataset { definition, folder };
    let _ = crate::dataset::load(&[dataset], &FlowOptions::default(), &crate::progress::Silent);
}

/// Returns a capture of one UDP packet from 10.0.0.1:1000 to 10.0.0.2:53 on 2011-08-10 at 07:46:53 UTC.
fn one_flow() -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 101, 1_312_962_413, 0, 32, 32] {
        file.extend(u32::to_le_bytes(word));
    }
    file.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    file.extend([0x03, 0xe8, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
    file
}

/// Reads an experiment, a dataset definition or a tolerance file, depending on the first byte.
pub fn declarative_file(bytes: &[u8]) {
    let Some((kind, content)) = bytes.split_first() else { return };
    let path = file("fuzz.toml", content);
    match kind % 3 {
        0 => drop(read_experiment(&path, &Overrides::default())),
        1 => drop(DatasetDefinition::read(&path)),
        _ => drop(ToleranceFile::read(&path)),
    }
}

/// Reads a split file of three flows.
pub fn split(bytes: &[u8]) {
    let end = |port| SocketAddr::from(([10, 0, 0, 1], port));
    let provenance = |number| FlowProvenance {
        capture: "one.pcap".to_owned(),
        number,
        five_tuple: FiveTuple { source: end(1000), destination: end(53), transport: Transport::Udp },
        start: i64::from(number),
        end: i64::from(number),
        packet: None,
    };
    let features = FeatureSet {
        sequences: Array2::zeros((3, 0)),
        flowpics: Array2::zeros((3, 0)),
        tokens: TokenArray { packets: 1, bytes: 1, values: vec![0; 3] },
        statistics: Array2::zeros((3, 1)),
        statistic_names: vec!["packets".to_owned()],
        labels: vec![0, 1, 0],
        class_names: vec!["a".to_owned(), "b".to_owned()],
        provenance: (0..3).map(provenance).collect(),
    };
    let path = file("split.csv", bytes);
    let _ = crate::split::read_split(&path, &features);
    let _ = crate::split::read_splits(&path, &features, 0);
}

/// Reads a fitted model's file and builds the model.
pub fn model(bytes: &[u8]) {
    if let Ok(archive) = ModelArchive::from_bytes(bytes) {
        let _ = crate::model::load(&archive);
    }
}

/// Reads a feature file.
pub fn arff(bytes: &[u8]) {
    if let Ok(table) = crate::dataset::parse_arff(bytes) {
        assert!(table.rows.iter().all(|row| row.len() == table.attributes.len()));
    }
}

/// Reads a file in a published layout, a CSV file of features or a log of Zeek, depending on the first byte.
pub fn published(bytes: &[u8]) {
    let Some((&kind, content)) = bytes.split_first() else { return };
    let place = usize::from(kind) % (LAYOUTS.len() + TABLES.len());
    let name = LAYOUTS.get(place).map_or_else(|| TABLES[place - LAYOUTS.len()].0, |layout| layout.name);
    let dataset = PUBLISHED.with(|known| known[place].clone());
    let (own, labels) = LAYOUTS.get(place).and_then(|layout| layout.beside).unwrap_or(("a_b", ""));
    let input = file(&format!("published/{name}/a{own}"), content);
    let root = input.parent().unwrap_or(Path::new("."));
    if !labels.is_empty() {
        // Three rows of class 1.
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }";
        let array = [b"\x93NUMPY\x01\x00\x39\x00", header.as_bytes(), &[1; 3]].concat();
        let content = if labels.ends_with("ubyte") { vec![0, 0, 8, 1, 0, 0, 0, 3, 1, 1, 1] } else { array };
        file(&format!("published/{name}/a{labels}"), &content);
    }
    let folder = open_folder(&dataset, root).expect("it is there");
    let dataset = Dataset { definition: dataset, folder };
    let silent = &crate::progress::Silent;
    if dataset.definition.features.is_some() {
        let _ = crate::dataset::load_features(&[dataset], silent);
    } else if let Ok(loaded) = crate::dataset::load(&[dataset], &FlowOptions::default(), silent) {
        assert!(loaded.flows.iter().all(|flow| flow.flow.statistics.iter().all(|value| value.is_finite())));
    }
}

/// Names and rules of the tables of features that [`published`] reads.
const TABLES: [(&str, &str); 2] = [
    ("features", "format = \"csv\"\nlabels = { kind = \"class\" }"),
    (
        "zeek",
        "format = \"zeek\"\nlabels = { kind = \"conn_state\" }\nleave_out = [\"*uid\", \"history*\", \"tunnel*\", \"service*\"]\n\
         group = [\"id.orig_h\", \"id.resp_h\", \"proto\"]\nmissing = -1.0",
    ),
];

/// Returns the definitions of the datasets that [`published`] reads.
fn published_definitions() -> Vec<DatasetDefinition> {
    let layouts = LAYOUTS.iter().map(|layout| {
        let rest =
            format!("[[rule]]\npath = \"\"\nlabels = {{ kind = \"a\" }}\n[published]\nlayout = \"{}\"", layout.name);
        (layout.name, rest)
    });
    let tables = TABLES.map(|(name, features)| (name, format!("[features]\n{features}")));
    let definition = |(name, rest): (&str, String)| {
        let text = format!(
            "name = \"{name}\"\ntitle = \"t\"\nreference = \"r\"\nlabel_columns = [\"kind\"]\npublished_at = {{ url = \"u\", how = \"h\" }}\n\
             files = {{ patterns = [\"*\"] }}\n{rest}\n"
        );
        DatasetDefinition::read(&file(&format!("{name}.toml"), text.as_bytes())).expect("it is sound")
    };
    layouts.chain(tables).map(definition).collect()
}

/// Reads a feature store.
pub fn store(bytes: &[u8]) {
    if let Ok(reader) = StoreReader::open(&file("flows.parquet", bytes)) {
        reader.take(100_000).for_each(drop);
    }
}

/// Reads an uncompressed bundle of a run; the rest is checked even if its index is wrong.
pub fn bundle(bytes: &[u8]) {
    if let Ok(bundle) = Bundle::from_tar(Path::new("fuzz.etcbundle"), bytes) {
        let checked = check(&bundle, Path::new("nowhere")).expect("a temporary folder can be written");
        checked.findings.iter().for_each(|finding| assert!(!finding.to_string().contains('\n')));
    }
}
