//! The output of `etcbench features` through the real binary: compared with that of other tools for the same capture,
//! restated in Python (tests/fixtures/written/make.py), and every format compared with the CSV file. Also flows of an
//! experiment with their class and part.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use crate::common::Project;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/written");

fn project() -> Project {
    let project = Project::new();
    project.write("small.pcap", fs::read(Path::new(FIXTURES).join("small.pcap")).unwrap());
    project
}

/// Returns the rows of a CSV file, by column, in the order of flows.
fn rows(project: &Project, name: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(project.path(name)).unwrap();
    let header = reader.headers().unwrap().clone();
    let row = |record: csv::StringRecord| {
        header.iter().map(str::to_owned).zip(record.iter().map(str::to_owned)).collect::<BTreeMap<_, _>>()
    };
    let mut rows: Vec<BTreeMap<String, String>> = reader.records().map(|record| row(record.unwrap())).collect();
    rows.sort_by_key(|row| (row["capture"].clone(), row["number"].parse::<u32>().unwrap()));
    rows
}

#[test]
fn columns_of_other_tools_have_their_values() {
    let project = project();
    let golden: serde_json::Value =
        serde_json::from_slice(&fs::read(Path::new(FIXTURES).join("golden.json")).unwrap()).unwrap();
    for (tool, flows) in golden.as_object().unwrap() {
        project.done(&["features", "small.pcap", "--columns", tool, "-o", "flows.csv"]);
        let rows = rows(&project, "flows.csv");
        assert_eq!(rows.len(), flows.as_array().unwrap().len());
        for (row, expected) in rows.iter().zip(flows.as_array().unwrap()) {
            let expected = expected.as_object().unwrap();
            // Ours name the flow, and all others are the tool's.
            let names: Vec<&String> =
                row.keys().filter(|name| !["dataset", "capture", "number"].contains(&name.as_str())).collect();
            let mut known: Vec<&String> = expected.keys().collect();
            known.sort();
            assert_eq!(names, known, "{tool}");
            for (name, value) in expected {
                let found = &row[name];
                match value.as_f64() {
                    None => assert_eq!(found, value.as_str().unwrap(), "{tool}: {name}"),
                    Some(value) => {
                        let found: f64 = found.parse().unwrap();
                        // Theirs are in nanoseconds, ours in seconds, which are rounded once more.
                        assert!((found - value).abs() <= 1e-12 * value.abs(), "{tool}: {name}: {found}, not {value}");
                    }
                }
            }
        }
    }
}

#[test]
fn bits_are_those_of_nprint() {
    let project = project();
    let arguments = ["features", "small.pcap", "--format", "nprint", "--payload-bytes", "16", "-o", "bits.csv"];
    project.done(&arguments);
    let lines = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // Flows are in the order in which they end.
        lines[1..].sort_by_key(|line| line.split(',').next().map(str::to_owned));
        lines
    };
    let expected = lines(fs::read_to_string(Path::new(FIXTURES).join("nprint.csv")).unwrap());
    let found = lines(fs::read_to_string(project.path("bits.csv")).unwrap());
    assert_eq!(found.len(), expected.len());
    for (line, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!(found == expected, "line {}", line + 1);
    }
    project.refused(&["features", "small.pcap", "--payload-bytes", "16", "-o", "flows.csv"], &["--format nprint"]);
    let compressed = |codec: &'static str, file| ["features", "small.pcap", "--compression", codec, "-o", file];
    let length = |codec| {
        project.done(&compressed(codec, "flows.parquet"));
        fs::metadata(project.path("flows.parquet")).unwrap().len()
    };
    let [none, snappy, zstd, small] = ["none", "snappy", "zstd", "zstd:19"].map(length);
    // Of so few flows not even the order is certain.
    assert!(none != snappy && snappy != zstd && zstd != small, "{none} {snappy} {zstd} {small}");
    project.done(&["features", "small.pcap", "-o", "flows.parquet"]);
    assert_eq!(fs::metadata(project.path("flows.parquet")).unwrap().len(), zstd);
    project.refused(&compressed("zstd", "flows.csv"), &["--compression is for Parquet"]);
    for codec in ["zstd:0", "zstd:23", "gzip", "snappy:1"] {
        let output = project.etcbench(&compressed(codec, "flows.parquet"));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && told.contains("none, snappy, zstd, or zstd:LEVEL"),
            "{codec}: {told}"
        );
    }
    let told = ["HDF5 is not written", "pandas.read_parquet('flows.parquet')", "key='flows', format='table')"];
    project.refused(&["features", "small.pcap", "-o", "flows.h5"], &told);
    project.refused(&["features", "small.pcap", "--format", "hdf5", "-o", "flows"], &told);
}

/// Returns the header and the bytes of the values of a file in an `.npz`.
fn array(archive: &mut zip::ZipArchive<fs::File>, name: &str) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    archive.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!((10 + length) % 64, 0);
    (String::from_utf8(bytes[10..10 + length].to_vec()).unwrap(), bytes[10 + length..].to_vec())
}

#[test]
fn arrays_of_numpy_are_the_table() {
    let project = project();
    project.done(&["features", "small.pcap", "--packets", "3", "--bytes", "64", "-o", "flows.csv"]);
    project.done(&["features", "small.pcap", "--packets", "3", "--bytes", "64", "-o", "flows.npz"]);
    let once = fs::read(project.path("flows.npz")).unwrap();
    project.done(&["features", "small.pcap", "--packets", "3", "--bytes", "64", "-o", "flows.npz"]);
    assert!(once == fs::read(project.path("flows.npz")).unwrap(), "the same flows give the same bytes");
    let mut reader = csv::Reader::from_path(project.path("flows.csv")).unwrap();
    let header = reader.headers().unwrap().clone();
    let table: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let cell = |row: usize, name: &str| &table[row][header.iter().position(|column| column == name).unwrap()];
    let mut archive = zip::ZipArchive::new(fs::File::open(project.path("flows.npz")).unwrap()).unwrap();

    let (described, numbers) = array(&mut archive, "number");
    assert!(described.starts_with("{'descr': '<u4', 'fortran_order': False, 'shape': (3,), }"), "{described}");
    let (described, statistics) = array(&mut archive, "statistics");
    let names: Vec<&str> = header.iter().filter_map(|column| column.strip_prefix("statistic_")).collect();
    assert!(
        described.contains(&format!("'<f8', 'fortran_order': False, 'shape': (3, {},)", names.len())),
        "{described}"
    );
    let (described, addresses) = array(&mut archive, "source_address");
    // As wide as the longest of the three.
    assert!(described.contains("'<U11'"), "{described}");
    let (described, bytes) = array(&mut archive, "packet_bytes");
    assert!(described.contains("'|u1', 'fortran_order': False, 'shape': (3, 3, 64,)"), "{described}");
    let (_, counts) = array(&mut archive, "packet_byte_count");
    let (_, directions) = array(&mut archive, "packet_direction");
    let (_, known_names) = array(&mut archive, "statistic_names");
    assert_eq!(known_names.len() % names.len(), 0);
    for row in 0..3 {
        assert_eq!(numbers[4 * row..][..4], cell(row, "number").parse::<u32>().unwrap().to_le_bytes());
        for (place, name) in names.iter().enumerate() {
            let value = f64::from_le_bytes(statistics[8 * (row * names.len() + place)..][..8].try_into().unwrap());
            assert_eq!(value.to_string(), cell(row, &format!("statistic_{name}")), "{name}");
        }
        let text: String = addresses[44 * row..][..44]
            .chunks(4)
            .map(|letter| char::from_u32(u32::from_le_bytes(letter.try_into().unwrap())).unwrap())
            .filter(|&letter| letter != '\0')
            .collect();
        assert_eq!(text, cell(row, "source_address"));
        for packet in 0..3 {
            let place = 3 * row + packet;
            let count = u32::from_le_bytes(counts[4 * place..][..4].try_into().unwrap()) as usize;
            assert_eq!(hex::encode(&bytes[64 * place..][..count]), cell(row, &format!("packet_{packet}_bytes")));
            assert!(bytes[64 * place..][count..64].iter().all(|&byte| byte == 0));
            let direction = match cell(row, &format!("packet_{packet}_direction")) {
                "forward" => 1,
                "backward" => 0xff,
                _ => 0,
            };
            assert_eq!(directions[place], direction);
        }
    }
    // Each column of a tool is a separate array.
    project.done(&["features", "small.pcap", "--columns", "argus", "--format", "npz", "-o", "argus.npz"]);
    let mut archive = zip::ZipArchive::new(fs::File::open(project.path("argus.npz")).unwrap()).unwrap();
    assert!(array(&mut archive, "SAppBytes").0.contains("'<f8'"));
    assert!(archive.by_name("statistics.npy").is_err());
}

#[test]
fn an_arrow_file_is_the_table() {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, Int64Type, UInt16Type, UInt32Type};
    use arrow_array::{Array, RecordBatch};
    use arrow_schema::DataType;

    let project = project();
    for columns in ["own", "nfstream"] {
        project.done(&["features", "small.pcap", "--columns", columns, "-o", "flows.csv"]);
        project.done(&["features", "small.pcap", "--columns", columns, "-o", "flows.arrow"]);
        let mut reader = csv::Reader::from_path(project.path("flows.csv")).unwrap();
        let header = reader.headers().unwrap().clone();
        let table: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let file = fs::File::open(project.path("flows.arrow")).unwrap();
        let batches: Vec<RecordBatch> =
            arrow_ipc::reader::FileReader::try_new(file, None).unwrap().map(Result::unwrap).collect();
        let [batch] = batches.as_slice() else { panic!("one batch") };
        assert_eq!((batch.num_rows(), batch.num_columns()), (table.len(), header.len()));
        for (place, name) in header.iter().enumerate() {
            let array = batch.column(place);
            assert_eq!(batch.schema().field(place).name(), name);
            for (row, record) in table.iter().enumerate() {
                let value = match array.data_type() {
                    _ if array.is_null(row) => String::new(),
                    DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
                    DataType::Binary => hex::encode(array.as_binary::<i32>().value(row)),
                    DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
                    DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
                    DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).to_string(),
                    DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).to_string(),
                    other => panic!("{name} is {other}"),
                };
                assert_eq!(value, record[place], "{name}");
            }
        }
    }
}

const DATASET: &str = r#"
name = "small"
title = "Three applications"
reference = "none"
label_columns = ["application"]
[published_at]
url = "https://example.org/small"
how = "nothing to download"
[files]
patterns = ["**/*.pcap"]
[[rule]]
stem = "^(?<application>[a-z]+)"
"#;

const EXPERIMENT: &str = r#"
title = "Two of three applications"
seeds = [0, 1]
models = ["majority"]
[dataset]
names = ["small"]
[selection]
label = "application"
classes = ["chat", "video"]
[split]
method = "stratified"
train = 0.5
validation = 0.25
test = 0.25
"#;

/// Generated captures of three applications in two folders.
fn with_experiment() -> Project {
    let project = Project::new();
    project.write("data/small.toml", DATASET);
    project.write("experiments/small.toml", EXPERIMENT);
    for (seed, name) in [("1", "a/chat1"), ("2", "a/video1"), ("3", "b/chat2"), ("4", "b/other")] {
        let output = format!("data/small/{name}.pcap");
        project.write(&output, "");
        project.done(&["data", "synth", "--packets", "400", "--seed", seed, "-o", &output]);
    }
    project
}

#[test]
fn flows_of_an_experiment_have_class_and_part_and_join_with_its_split() {
    let project = with_experiment();
    project.done(&["features", "--experiment", "small", "-o", "flows.csv"]);
    project.done(&["split", "small", "-o", "split.csv"]);
    let flows = rows(&project, "flows.csv");
    let mut parts: BTreeMap<(String, String), String> = BTreeMap::new();
    for record in csv::Reader::from_path(project.path("split.csv")).unwrap().into_records().map(Result::unwrap) {
        parts.insert((record[0].to_owned(), record[5].to_owned()), record[7].to_owned());
    }
    assert_eq!(parts.len(), 2 * flows.len());
    let mut classes: Vec<&str> = Vec::new();
    for row in &flows {
        let id = format!("{}#{}", row["capture"], row["number"]);
        for seed in ["0", "1"] {
            assert_eq!(parts[&(id.clone(), seed.to_owned())], row[&format!("part_seed{seed}")], "{id}");
        }
        assert_eq!(row["label_application"], row["class"]);
        assert_eq!(row["dataset"], "small");
        classes.push(&row["class"]);
    }
    classes.sort_unstable();
    classes.dedup();
    assert_eq!(classes, ["chat", "video"]);

    // Captures that are named from their dataset's folder on join with them, and hold the same.
    let captures = ["data/small/a/chat1.pcap", "data/small/b/chat2.pcap", "data/small/a/video1.pcap"];
    project.done(&[&["features"], &captures[..], &["--relative-to", "data/small", "-o", "named.csv"]].concat());
    let named = rows(&project, "named.csv");
    assert_eq!(named.len(), flows.len());
    for (one, other) in named.iter().zip(&flows) {
        for (column, value) in one.iter().filter(|(column, _)| *column != "dataset") {
            assert_eq!(value, &other[column], "{column}");
        }
    }
    project.refused(&["features", captures[0], "--relative-to", "experiments", "-o", "x.csv"], &["not in experiments"]);

    // A table of one split has the column `part`, and a tool's columns can be combined with labels.
    project.done(&["features", "--experiment", "small", "--seeds", "1", "--columns", "argus", "-o", "argus.csv"]);
    let argus = rows(&project, "argus.csv");
    assert_eq!(argus.len(), flows.len());
    assert!(
        argus
            .iter()
            .zip(&flows)
            .all(|(one, other)| one["part"] == other["part_seed0"] && one["class"] == other["class"])
    );
    // The store of it is read back.
    project.done(&["features", "--experiment", "small", "--seeds", "1", "-o", "flows.parquet"]);
    let store = etcbench::feature::StoreReader::open(&project.path("flows.parquet")).unwrap();
    assert_eq!(store.header().added_columns, ["class", "part"]);
    let key = etcbench::feature::added_key("part");
    let read: Vec<String> = store.map(|flow| flow.unwrap().labels[&key].clone()).collect();
    assert_eq!(read.len(), flows.len());
    assert!(read.iter().all(|part| ["train", "validation", "test"].contains(&part.as_str())));
}

#[test]
fn images_are_those_that_the_layout_yatc_reads() {
    let project = with_experiment();
    project.done(&["features", "--experiment", "small", "--seeds", "1", "--format", "png", "-o", "data/images"]);
    project.done(&["features", "--experiment", "small", "--seeds", "1", "--bytes", "360", "-o", "flows.csv"]);
    for row in rows(&project, "flows.csv") {
        let name = format!("data/images/{}/{}/{}/{}.png", row["part"], row["class"], row["capture"], row["number"]);
        let mut reader = png::Decoder::new(std::io::BufReader::new(fs::File::open(project.path(&name)).unwrap()))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; 1600];
        reader.next_frame(&mut pixels).unwrap();
        for packet in 0..5 {
            let bytes = hex::decode(&row[&format!("packet_{packet}_bytes")]).unwrap();
            let payload_at = row[&format!("packet_{packet}_payload_offset")].parse().unwrap_or(0);
            let (headers, payload) = bytes.split_at(payload_at);
            let mut expected = headers.to_vec();
            expected.resize(80, 0);
            expected.extend(payload.iter().take(240));
            expected.resize(320, 0);
            assert!(pixels[320 * packet..][..320] == expected, "{name}: packet {packet}");
        }
    }
    // The files form a dataset of the layout.
    project.write(
        "data/images.toml",
        DATASET
            .replace("\"small\"", "\"images\"")
            .replace("*.pcap", "*.png")
            .replace("stem = \"^", "path = \"^[a-z]+/")
            .replace("label_columns = [\"application\"]", "label_columns = [\"application\"]\n")
            + "[published]\nlayout = \"yatc\"\n",
    );
    let told = String::from_utf8_lossy(&project.done(&["data", "labels", "images"]).stdout).into_owned();
    assert!(told.contains("chat") && told.contains("video"), "{told}");
    let again = ["features", "--experiment", "small", "--seeds", "1", "--format", "png", "-o", "data/images"];
    project.refused(&again, &["data/images: already exists"]);
    project.refused(&["features", "--experiment", "small", "--format", "png", "-o", "more"], &["2 splits", "--seeds"]);
}
