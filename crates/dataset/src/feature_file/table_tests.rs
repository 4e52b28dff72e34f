//! Compares tables in the layouts of flow meters with what pandas reads from them (`tests/fixtures/tables/make.py`),
//! using the definitions in `data/examples/`, and checks messages for tables that are something else.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Deserialize;

use super::super::{DatasetDefinition, open_folder};
use super::*;
use etcbench_storage::progress::Silent;

#[derive(Deserialize)]
struct Golden {
    file: String,
    names: Vec<String>,
    labels: Vec<Vec<String>>,
    values: Vec<Vec<f32>>,
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Reads files as those of a definition in `data/examples` or, if it is of a dataset, in `data`.
fn load(name: &str, root: &Path) -> Result<FeatureTable, DatasetError> {
    let example = project().join(format!("data/examples/{name}.toml"));
    let path = if example.exists() { example } else { project().join(format!("data/{name}.toml")) };
    let definition = DatasetDefinition::read(&path)?;
    let folder = open_folder(&definition, root)?;
    load_features(&[Dataset { definition, folder }], &Silent)
}

#[test]
fn tables_of_flow_meters_have_the_values_that_pandas_reads() {
    let fixtures = project().join("tests/fixtures/tables");
    let text = std::fs::read_to_string(fixtures.join("golden.json")).unwrap();
    let golden: IndexMap<String, Vec<Golden>> = serde_json::from_str(&text).unwrap();
    assert_eq!(golden.len(), 8);
    for (name, files) in &golden {
        let table = load(name, &fixtures.join(name)).unwrap();
        assert_eq!(table.files.len(), files.len(), "{name}");
        let mut rows = 0;
        for golden in files {
            let of_file = |row: &&FeatureRow| {
                let capture = &row.provenance.capture;
                *capture == golden.file || capture.starts_with(&format!("{}!", golden.file))
            };
            let found: Vec<&FeatureRow> = table.rows.iter().filter(of_file).collect();
            assert_eq!(found.len(), golden.values.len(), "{}", golden.file);
            rows += found.len();
            let place = |name: &String| table.names.iter().position(|other| other == name);
            let places: Vec<usize> = golden.names.iter().map(|name| place(name).expect(name)).collect();
            for (row, (labels, values)) in found.iter().zip(golden.labels.iter().zip(&golden.values)) {
                let read: Vec<f32> = places.iter().map(|&place| row.values[place]).collect();
                assert_eq!(&read, values, "{} {}", golden.file, row.provenance.number);
                assert!(row.labels.values().eq(labels), "{:?} {labels:?}", row.labels);
                let others = row.values.iter().enumerate().filter(|(place, _)| !places.contains(place));
                assert!(others.map(|(_, value)| value).all(|value| value.is_nan()), "{}", golden.file);
            }
        }
        assert_eq!(rows, table.rows.len(), "{name}");
    }
}

#[test]
fn what_was_ignored_in_them_is_told() {
    let notes = |name: &str| load(name, &project().join("tests/fixtures/tables").join(name)).unwrap().notes;
    assert_eq!(notes("nfdump"), ["nfdump: web/flows.csv: the lines from `Summary` on are totals and ignored"]);
    assert_eq!(
        notes("cicflowmeter3"),
        [
            "cicflowmeter3: Thursday-WebAttacks.pcap_ISCX.csv: 2 rows without values, ignored",
            "cicflowmeter3: Thursday-WebAttacks.pcap_ISCX.csv: 2 values not UTF-8, read as windows-1252",
        ]
    );
    assert_eq!(
        notes("cicflowmeter4"),
        [
            "cicflowmeter4: Tuesday-20-02-2018.csv: 1 line repeating the header, ignored",
            "cicflowmeter4: again/with-index.csv: the first column has no name and is ignored as a pandas index",
        ]
    );
    for name in ["nprint", "nfstream", "zeek-conn", "argus"] {
        assert!(notes(name).is_empty(), "{name}");
    }
}

/// Argus leaves the label empty of what nothing has labelled; the example says what to do.
#[test]
fn rows_of_argus_without_a_label_are_refused_or_used_by_a_rule() {
    let folder = tempfile::tempdir().unwrap();
    let source = project().join("data/examples/argus.toml");
    let text = std::fs::read_to_string(source).unwrap();
    let table = std::fs::read_to_string(project().join("tests/fixtures/tables/argus/capture.binetflow")).unwrap();
    let table = table.replace("flow=Normal-V42-HTTP-windowsupdate", "");
    std::fs::create_dir(folder.path().join("argus")).unwrap();
    std::fs::write(folder.path().join("argus/capture.binetflow"), table).unwrap();
    let read = |definition: &str| {
        let path = folder.path().join("argus.toml");
        std::fs::write(&path, definition).unwrap();
        let definition = DatasetDefinition::read(&path).unwrap();
        let folder = open_folder(&definition, &folder.path().join("argus")).unwrap();
        load_features(&[Dataset { definition, folder }], &Silent)
    };
    let told = read(&text).unwrap_err().to_string();
    assert!(
        told.contains("label column `traffic` has no value: no [[features.rule]] that sets it matches ``"),
        "{told}"
    );
    let rule = "\n[[features.rule]]\ncolumn = \"Label\"\nvalue = \"^$\"\nlabels = { traffic = \"background\" }\n";
    let read = read(&(text + rule)).unwrap();
    assert_eq!(read.rows.last().unwrap().labels["traffic"], "background");
}

/// The option that the example of CICFlowMeter 4 has in a comment, for tables with addresses.
#[test]
fn rows_of_cicflowmeter_4_with_addresses_can_be_grouped() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(project().join("data/examples/cicflowmeter4.toml")).unwrap();
    let shipped = r#"["Flow ID*", "Src IP*", "Src Port*", "Dst IP*", "Dst Port", "Protocol", "Timestamp*"]"#;
    assert!(text.contains(shipped) && text.contains("\n# group = ["));
    let grouped = text.replace(shipped, r#"["Flow ID*", "Timestamp*"]"#).replace("\n# group = [", "\ngroup = [");
    let path = folder.path().join("cicflowmeter4.toml");
    std::fs::write(&path, grouped).unwrap();
    let root = folder.path().join("cicflowmeter4");
    std::fs::create_dir(&root).unwrap();
    let name = "Tuesday-20-02-2018.csv";
    std::fs::copy(project().join("tests/fixtures/tables/cicflowmeter4").join(name), root.join(name)).unwrap();
    let definition = DatasetDefinition::read(&path).unwrap();
    let folder = open_folder(&definition, &root).unwrap();
    let grouped = load_features(&[Dataset { definition, folder }], &Silent).unwrap();
    assert!(grouped.rows[0].provenance.capture.contains(".csv!18.221.219.4 40000 172.31.69.25 80 6"));
    let plain = load("cicflowmeter4", &project().join("tests/fixtures/tables/cicflowmeter4")).unwrap();
    assert_eq!(grouped.names, plain.names);
}

#[test]
fn tables_that_are_something_else_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |name: &str, file: &str, content: &str| {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        let message = load(name, folder.path()).unwrap_err().to_string();
        std::fs::remove_file(path).unwrap();
        assert!(message.contains(file) && !message.contains('\n'), "{message}");
        message
    };
    let log = "#separator \\x09\n#fields\tts\tid.orig_h\n1.5\t10.0.0.1\n";
    let addresses: String = (0..=10_000).map(|host| format!("{{\"{host}\": 1}}\n")).collect();
    for (name, file, content, words) in [
        ("nfdump", "chat/a.csv", log, ":1: it is a log of Zeek; set format = \"zeek\""),
        ("zeek-conn", "chat/conn.log", "ts,uid\n1,2\n", ":1: it does not begin with #separator or a JSON object"),
        ("zeek-conn", "chat/conn.log", log, ":1: column `uid` is missing"),
        (
            "zeek-conn",
            "chat/conn.log",
            "#separator \\x09\n1.5\n",
            ":1: no line before the first row begins with #fields",
        ),
        (
            "zeek-conn",
            "chat/conn.log",
            "{\"ts\": 1.5}\n{\"ts\": \n",
            ":2: it is not a JSON object: EOF while parsing a value",
        ),
        ("zeek-conn", "chat/conn.log", "{\"ts\": 1.5}\n[1]\n", ":2: it is not a JSON object: invalid type"),
        (
            "zeek-conn",
            "chat/conn.log",
            "{\"ts\": 1.5, \"more\": \"x\"}\n",
            ":1: `more`: `\"x\"` is not a number; list the column",
        ),
        ("zeek-conn", "chat/conn.log", "{\"ts\": 1.5}\n", ":1: column `uid` is missing"),
        ("nfdump", "chat/a.csv", "sa,da\n10.0.0.1,10.0.0.2\n", ":1: column `ts` is missing"),
        ("zeek-conn", "chat/conn.log", &addresses, ":10001: `10000` is key 10001 of the file; keys must be names"),
    ] {
        let message = problem(name, file, content);
        assert!(message.contains(words), "{words} is not in {message}");
    }
}

/// Logs that were appended to one another, as by `cat`: the header comes again.
#[test]
fn a_header_of_zeek_among_the_rows_is_the_same_or_refused() {
    let path = project().join("tests/fixtures/tables/zeek-conn/chat/conn.log");
    let log = std::fs::read_to_string(path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let read = |content: String| {
        let file = folder.path().join("chat/conn.log");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
        load("zeek-conn", folder.path())
    };
    let once = read(log.clone()).unwrap().rows;
    assert_eq!(read(format!("{log}{log}")).unwrap().rows.len(), 2 * once.len());
    for (from, to, header_line) in [
        ("orig_bytes\tresp_bytes", "resp_bytes\torig_bytes", 7),
        ("#unset_field\t-", "#unset_field\t?", 4),
        ("#empty_field\t(empty)", "#empty_field\t-", 3),
    ] {
        let told = read(format!("{log}{}", log.replacen(from, to, 1))).unwrap_err().to_string();
        let line = log.lines().count() + header_line;
        let words = format!("conn.log:{line}: columns change here; split the file");
        assert!(told.contains(&words), "{words} is not in {told}");
    }
}
