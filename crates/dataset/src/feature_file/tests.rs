//! Feature files as a dataset: from definition and folder to rows.

use std::net::SocketAddr;

use super::super::{DatasetDefinition, open_folder};
use super::*;
use etcbench_capture::Transport;
use etcbench_flow::FiveTuple;
use etcbench_storage::progress::Silent;

fn definition(features: &str) -> String {
    format!(
        "name = \"table\"\ntitle = \"t\"\nreference = \"none\"\nlabel_columns = [\"tunnel\", \"timeout\"]\n\
         [published_at]\nurl = \"https://example.org\"\nhow = \"nothing\"\n[files]\npatterns = [\"*.arff\", \"*.csv\"]\n\
         [[rule]]\nstem = \"-(?<timeout>[0-9]+s)$\"\n[features]\n{features}\n"
    )
}

fn load(features: &str, files: &[(&str, &str)]) -> Result<FeatureTable, DatasetError> {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (*name, content.as_bytes())).collect();
    load_bytes(features, &files)
}

fn load_bytes(features: &str, files: &[(&str, &[u8])]) -> Result<FeatureTable, DatasetError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.toml");
    std::fs::write(&path, definition(features)).unwrap();
    let root = folder.path().join("table");
    std::fs::create_dir(&root).unwrap();
    for (name, content) in files {
        std::fs::write(root.join(name), content).unwrap();
    }
    let definition = DatasetDefinition::read(&path)?;
    let folder = open_folder(&definition, &root)?;
    load_features(&[Dataset { definition, folder }], &Silent)
}

const ARFF: &str = "@relation r\n@attribute duration numeric\n@attribute flag {no,yes}\n@attribute id string\n\
                    @attribute class1 {Non-VPN,VPN}\n@data\n12,yes,a,VPN\n-1,no,b,Non-VPN\n";

#[test]
fn arff_and_rules_give_rows_with_all_labels() {
    let rules = "format = \"arff\"\nlabels = { tunnel = \"class1\" }\nleave_out = [\"id\"]";
    let table = load(rules, &[("a-15s.arff", ARFF), ("a-60s.arff", ARFF)]).unwrap();
    assert_eq!(table.names, ["duration", "flag=no", "flag=yes"]);
    assert_eq!(table.rows.len(), 4);
    assert_eq!(table.rows[0].values, [12.0, 0.0, 1.0]);
    assert_eq!(table.rows[3].values, [-1.0, 1.0, 0.0]);
    assert_eq!(table.rows[3].provenance.flow_id(), "a-60s.arff#1");
    let expected = Labels::from([("timeout", "60s"), ("tunnel", "Non-VPN")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert_eq!(*table.rows[3].labels, expected);
}

#[test]
fn csv_gives_the_same_and_what_is_missing_is_said_or_replaced() {
    let text = "duration, id ,class1\r\n12,a,VPN\r\nInfinity,b,\"Non-VPN\"\r\n,c,VPN\r\n";
    let rules = "format = \"csv\"\nlabels = { tunnel = \"class1\" }\nleave_out = [\"id\"]";
    let error = load(rules, &[("a-15s.csv", text)]).unwrap_err().to_string();
    assert!(error.contains("a-15s.csv:3: `duration` is not finite"), "{error}");
    let table = load(&format!("{rules}\nmissing = -2.5"), &[("a-15s.csv", text)]).unwrap();
    let values: Vec<f32> = table.rows.iter().map(|row| row.values[0]).collect();
    assert_eq!(values, [12.0, -2.5, -2.5]);
    assert_eq!(table.rows[1].labels["tunnel"], "Non-VPN");
}

#[test]
fn what_does_not_fit_is_told_with_file_line_and_column() {
    let rules = "format = \"arff\"\nlabels = { tunnel = \"class1\" }\nleave_out = [\"id\"]";
    let problem = |rules: &str, files: &[(&str, &str)]| load(rules, files).unwrap_err().to_string();
    let no_text = rules.replace("leave_out", "#");
    assert!(problem(&no_text, &[("a-1s.arff", ARFF)]).contains("`id` is text"));
    assert!(problem(&rules.replace("class1", "class"), &[("a-1s.arff", ARFF)]).contains("most similar is `class1`"));
    assert!(problem(&rules.replace("tunnel", "tunel"), &[]).contains("the most similar is `tunnel`"));
    assert!(problem(&rules.replace("arff", "arf"), &[]).contains("unknown value `arf`, did you mean `arff`?"));
    assert!(problem(rules, &[("a.arff", ARFF)]).contains("no value for label column `timeout`"));
    let wrong = ARFF.replace("12,yes,a,VPN", "12,yes,a");
    assert!(problem(rules, &[("a-1s.arff", &wrong)]).contains("a-1s.arff:7: 3 values for 4 attributes"));
    let header = &ARFF[..ARFF.find("12,").unwrap()];
    assert!(problem(rules, &[("a-1s.arff", header)]).contains("no row is below its header"));
    // Of two files, the one without rows is named.
    assert!(problem(rules, &[("a-1s.arff", ARFF), ("b-1s.arff", header)]).contains("b-1s.arff:1: no row"));
    let large = ARFF.replace("12,", "1e60,");
    assert!(problem(rules, &[("a-1s.arff", &large)]).contains("too large"));
    let other = ARFF.replace("duration", "length");
    let table = load(rules, &[("a-1s.arff", ARFF), ("b-1s.arff", &other)]).unwrap();
    assert_eq!(table.names, ["duration", "flag=no", "flag=yes", "length"]);
    assert!(table.rows[0].values[3].is_nan() && table.rows[2].values[0].is_nan());
    assert_eq!((table.rows[0].values[0], table.rows[2].values[3]), (12.0, 12.0));
    let rules = "format = \"csv\"\nlabels = { tunnel = \"class1\" }";
    assert!(problem(rules, &[("a-1s.csv", "a,class1\nx,VPN\n")]).contains("a-1s.csv:2: `a`: `x` is not a number"));
    assert!(problem(rules, &[("a-1s.csv", "a,class1\n1,VPN,2\n")]).contains("a-1s.csv:2:"));
    assert!(problem(rules, &[("a-1s.csv", "a,class1\n1,\n")]).contains("`tunnel` is empty"));
}

#[test]
fn traces_of_spreadsheets_pandas_and_flow_meters_are_read_around_and_said() {
    let rules = "format = \"csv\"\nlabels = { tunnel = \"class1\" }\n";
    let read = |content: &[u8]| {
        let table = load_bytes(rules, &[("a-1s.csv", content)]).unwrap();
        let rows: Vec<(String, Vec<f32>)> =
            table.rows.iter().map(|row| (row.labels["tunnel"].clone(), row.values.clone())).collect();
        (table.names, rows, table.notes.join("; "))
    };
    let plain = read(b"a,b,class1\n1,2.5,VPN\n3,4,Non-VPN\n");
    assert_eq!(plain.2, "");
    for (content, told) in [
        (&b"\xef\xbb\xbf\"a\", b ,\"class1\"\r\n1,2.5,VPN\r\n\r\n3,4,Non-VPN\r\n"[..], ""),
        (b",a,b,class1\n0,1,2.5,VPN\n1,3,4,Non-VPN\n", "the first column has no name and is ignored"),
        (b"a;b;class1\n1;2,5;VPN\n3;4;Non-VPN\n", "1 number with a decimal comma"),
        (b"a\tb\tclass1\n1\t2,5\tVPN\n3\t4\tNon-VPN\n", "1 number with a decimal comma"),
        (b"a,b,class1\n1,2.5,VPN\na,b,class1\n3,4,Non-VPN\n", "1 line repeating the header"),
        (b"a,b,class1\n1,2.5,VPN\n,,\n3,4,Non-VPN\n,,\n", "2 rows without values"),
        (b"a,b,class1,,\n1,2.5,VPN,,\n3,4,Non-VPN,,\n", "2 rows with trailing separators"),
        (b"a,b,class1\n1,2.5,VPN,\n3,4,Non-VPN\n", "1 row with trailing separators"),
    ] {
        let (names, rows, notes) = read(content);
        assert_eq!((&names, &rows), (&plain.0, &plain.1), "{}", String::from_utf8_lossy(content));
        assert!(notes.contains(told) && notes.is_empty() == told.is_empty(), "{told} is not in {notes}");
        assert!(told.is_empty() || notes.starts_with("table: a-1s.csv: "), "{notes}");
    }
    let (_, rows, notes) = read(b"a,class1\n1,Web Attack \x96 XSS\n");
    assert_eq!(rows[0].0, "Web Attack – XSS");
    assert!(notes.contains("1 value not UTF-8, read as windows-1252"), "{notes}");
    // A duplicate name gets a suffix, and the renamed column can be excluded.
    let twice = load(&format!("{rules}leave_out = [\"length.1\"]"), &[("a-1s.csv", "length,length,class1\n1,2,VPN\n")]);
    assert_eq!(twice.unwrap().names, ["length"]);

    // A quoted name may contain a line break.
    assert_eq!(read(b"\"a\r\nb\",class1\r\n1,VPN\r\n").1.len(), 1);

    let problem = |content: &str| load(rules, &[("a-1s.csv", content)]).unwrap_err().to_string();
    for (content, told) in [
        ("a,class1\n\"1,5\",VPN\n", "`1,5` is not a number (a decimal comma? use a point)"),
        ("a,class1\n1,VPN,3\n", "a-1s.csv:2: 3 values for 2 named columns: `3` has no column"),
        ("a,class1\n1\n", "a-1s.csv:2: 1 values for 2 columns"),
        ("a;class1\n1,234,5;VPN\n", "`1,234,5` is not a number"),
        ("a\0b,class1\n1,VPN\n", "UTF-16"),
        ("", "a-1s.csv:1: the file is empty"),
        ("a,class1\r1,VPN\r2,Non-VPN\r", "a-1s.csv:1: its line ends are CR only; convert them to LF"),
        ("a,class1\r\n", "a-1s.csv:1: no row is below its header"),
        ("a,class1\n,\n\n", "a-1s.csv:1: no row is below its header"),
    ] {
        assert!(problem(content).contains(told), "{told} is not in {}", problem(content));
    }
}

#[test]
fn arff_that_a_spreadsheet_padded_with_commas_is_read() {
    let padded = "@RELATION r,,,\n,,,\n@ATTRIBUTE duration NUMERIC,,,\n@ATTRIBUTE flag {no,yes},,,\n@ATTRIBUTE id string,,,\n\
                  @ATTRIBUTE class1 {Non-VPN,VPN},,,\n,,,\n@DATA,,,\n12,yes,a,VPN,\n-1,no,b,Non-VPN\n";
    let rules = "format = \"arff\"\nlabels = { tunnel = \"class1\" }\nleave_out = [\"id\"]";
    let values = |content: &str| {
        let rows = load(rules, &[("a-15s.arff", content)]).unwrap().rows;
        rows.into_iter().map(|row| (row.labels, row.values)).collect::<Vec<_>>()
    };
    assert_eq!(values(padded), values(ARFF));
    let notes = load(rules, &[("a-15s.arff", padded)]).unwrap().notes;
    assert_eq!(notes, ["table: a-15s.arff: ignored trailing commas, as written by spreadsheets, in 9 lines"]);
    let error = load(rules, &[("a-15s.arff", &padded.replace("yes,a,VPN,", "yes,a,VPN,?"))]).unwrap_err();
    assert!(error.to_string().contains("5 values for 4 attributes"), "{error}");
    let latin = ARFF.replace("Non-VPN,VPN", "Non-VPN,VPN,D-0").into_bytes();
    let latin: Vec<u8> = latin.into_iter().map(|byte| if byte == b'D' { 0xd6 } else { byte }).collect();
    assert!(load_bytes(rules, &[("a-15s.arff", &latin)]).unwrap().notes[0].contains("windows-1252"));
}

#[test]
fn labels_are_parts_of_a_value_and_rows_are_grouped_by_columns() {
    let rules = "format = \"csv\"\ngroup = [\"from\", \"to\"]\n[[features.rule]]\ncolumn = \"class1\"\n\
                 value = \"^(?<tunnel>VPN)-(?<timeout>[A-Z]+)$\"\n[[features.rule]]\ncolumn = \"class1\"\n\
                 value = \"^(?<timeout>[A-Z]+)$\"\nlabels = { tunnel = \"Non-VPN\" }";
    let csv = "from,to,a,class1\n10.0.0.1,10.0.0.2,1,VPN-CHAT\n10.0.0.1,10.0.0.3,2,CHAT\n10.0.0.1,10.0.0.2,3,MAIL\n";
    let table = load(rules, &[("a.csv", csv)]).unwrap();
    let row = |row: usize| (table.rows[row].labels["tunnel"].as_str(), table.rows[row].labels["timeout"].as_str());
    assert_eq!((row(0), row(1), row(2)), (("VPN", "CHAT"), ("Non-VPN", "CHAT"), ("Non-VPN", "MAIL")));
    assert_eq!(table.names, ["a"]);
    let captures: Vec<&str> = table.rows.iter().map(|row| row.provenance.capture.as_str()).collect();
    assert_eq!(captures, ["a.csv!10.0.0.1 10.0.0.2", "a.csv!10.0.0.1 10.0.0.3", "a.csv!10.0.0.1 10.0.0.2"]);

    let problem = |rules: &str, csv: &str| load(rules, &[("a.csv", csv)]).unwrap_err().to_string();
    assert!(problem(rules, &csv.replace("MAIL", "mail")).contains("a.csv:4: label column `tunnel` has no value"));
    assert!(
        problem(rules, &csv.replace("to,a", "two,a")).contains("column `to` is missing; the most similar is `two`")
    );
    for (from, to, told) in [
        ("?<tunnel>", "?<tunel>", "`tunel` is not in `label_columns`"),
        ("(?<tunnel>", "((?<tunnel>", "[[features.rule]]: `"),
        ("\"to\"]", "\"class1\"]", "column `class1` of `features.group` is used twice"),
        ("\"to\"]", "\"from\"]", "column `from` of `features.group` is used twice"),
    ] {
        assert!(problem(&rules.replace(from, to), csv).contains(told), "{}", problem(&rules.replace(from, to), csv));
    }
}

#[test]
fn endpoints_come_out_of_columns_and_are_no_features() {
    let rules = "format = \"csv\"\nlabels = { tunnel = \"class1\" }\n[features.endpoints]\nsource_address = \"from\"\n\
                 source_port = \"from port\"\ndestination_address = \"to\"\ndestination_port = \"to port\"\n\
                 transport = \"protocol\"";
    let csv = "from, from port, to, to port, protocol, duration, class1\n10.0.2.15,57188,82.161.239.177,110,6,7,VPN\n\
               ::1,53,10.0.2.15,57188,UDP,8,Non-VPN\n";
    let table = load(rules, &[("a-15s.csv", csv)]).unwrap();
    assert_eq!(table.names, ["duration"]);
    let tuples: Vec<FiveTuple> = table.rows.iter().map(|row| row.provenance.five_tuple).collect();
    let endpoint = |text: &str| text.parse::<SocketAddr>().unwrap();
    let (client, guard) = (endpoint("10.0.2.15:57188"), endpoint("82.161.239.177:110"));
    assert_eq!(tuples[0], FiveTuple { source: client, destination: guard, transport: Transport::Tcp });
    assert_eq!(tuples[1], FiveTuple { source: endpoint("[::1]:53"), destination: client, transport: Transport::Udp });

    let problem = |rules: &str, csv: &str| load(rules, &[("a-15s.csv", csv)]).unwrap_err().to_string();
    assert!(problem(rules, &csv.replace("57188,82", "70000,82")).contains("`from port`: `70000` is not a valid port"));
    assert!(problem(rules, &csv.replace("::1", "host")).contains(":3: `from`: `host` is not a valid IP address"));
    assert!(problem(rules, &csv.replace("UDP", "1")).contains("`protocol`: `1` is not a valid transport"));
    assert!(problem(rules, &csv.replace("from port", "port")).contains("column `from port` is missing"));
    let twice = rules.replace("\"to\"", "\"from\"");
    assert!(problem(&twice, csv).contains("column `from` of `features.endpoints` is used twice"));
    assert!(problem(&rules.replace("\"csv\"", "\"arff\""), csv).contains("requires format \"csv\""));
}

/// A table of several blocks with all supported irregularities, and optionally an error at a known place.
fn long_table(fault: bool) -> String {
    let mut text = String::from("duration,rate,note,class1,\n");
    for row in 0..60_000_u32 {
        match row % 1_000 {
            7 => text.push_str("duration,rate,note,class1,\n"),
            8 => text.push_str(",,,,\n\n"),
            9 => text.push_str("1e3,Infinity,x,VPN\r\n"),
            10 => text.push_str("+5, -2.5e-3 ,x,Non-VPN,,\r\n"),
            11 => text.push_str("123456789012345678,?,x,VPN\n"),
            _ if fault && row == 45_678 => text.push_str("1,two,x,VPN\n"),
            _ => {
                let kind = if row % 3 == 0 { "VPN" } else { "Non-VPN" };
                text.push_str(&format!("{row},-{}.{row:06},a longer note of row {row},{kind}\n", row % 97));
            }
        }
    }
    text
}

#[test]
fn blocks_give_the_rows_that_lines_one_after_another_give() {
    let rules = "format = \"csv\"\nlabels = { tunnel = \"class1\" }\nleave_out = [\"note\"]\nmissing = -1.0";
    let text = long_table(false);
    assert!(text.len() > 2 << 20, "several blocks");
    let plain = load(rules, &[("a-15s.csv", &text)]).unwrap();
    // With a quote in the header, everything is read as quoted; with a late quote, everything from there on.
    let quoted = text.replacen("class1", "\"class1\"", 1);
    let late = text.replacen("a longer note of row 30000", "\"a longer note,\nof row 30000\"", 1);
    for other in [quoted, late] {
        let other = load(rules, &[("a-15s.csv", &other)]).unwrap();
        assert!(plain.rows == other.rows);
        assert_eq!(plain.notes, other.notes);
    }
    assert_eq!(plain.rows.len(), 60_000 - 2 * 60);
    assert_eq!(plain.notes.len(), 3, "{:?}", plain.notes);
    let last = plain.rows.last().unwrap();
    assert_eq!((last.provenance.number, last.values[0]), (59_879, 59_999.0));
    assert_eq!(last.values[1].to_bits(), "-53.059999".parse::<f32>().unwrap().to_bits());

    let text = long_table(true);
    let line = 1 + text.lines().position(|line| line.starts_with("1,two")).unwrap();
    for text in [text.clone(), text.replacen("class1", "\"class1\"", 1)] {
        let error = load(rules, &[("a-15s.csv", &text)]).unwrap_err().to_string();
        assert!(error.contains(&format!("a-15s.csv:{line}: `rate`: `two` is not a number")), "{error}");
    }
}

#[test]
fn names_that_are_numbers_are_still_a_header() {
    let rules = "format = \"csv\"\nlabels = { tunnel = \"class1\" }";
    let table = load(rules, &[("a-15s.csv", "1,2,class1\n3,4,VPN\n1,2,class1\n1,2,VPN\n")]).unwrap();
    let values: Vec<&[f32]> = table.rows.iter().map(|row| &row.values[..]).collect();
    assert_eq!(values, [[3.0, 4.0], [1.0, 2.0]]);
    assert!(table.notes[0].ends_with("1 line repeating the header, ignored"), "{:?}", table.notes);
}

/// Rows in the layout of CIC-Darknet2020: CICFlowMeter's columns, with `Label` twice.
#[test]
fn the_darknet_table_is_read_by_its_definition() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let definition = DatasetDefinition::read(&super::super::definition_path(&project, "cic-darknet2020")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = "Flow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Flow Bytes/s,Label,Label\n\
                10.0.0.1-1.2.3.4-57158-443-6,10.0.0.1,57158,1.2.3.4,443,6,24/07/2015 04:09:48 PM,229,NaN,Non-Tor,AUDIO-STREAMING\n\
                x,10.0.0.1,57158,1.2.3.4,443,6,24/07/2015 04:10:48 PM,12.5,Infinity,VPN,Audio-Streaming\n\
                y,8.0.0.1,0,8.0.0.2,0,0,24/07/2015 04:11:48 PM,0,3,Tor,P2P\n";
    std::fs::write(folder.path().join("Darknet.CSV"), text).unwrap();
    let folder = open_folder(&definition, folder.path()).unwrap();
    let table = load_features(&[Dataset { definition, folder }], &Silent).unwrap();
    assert_eq!(table.names, ["Flow Duration", "Flow Bytes/s"]);
    let values: Vec<&[f32]> = table.rows.iter().map(|row| &row.values[..]).collect();
    assert_eq!(values, [[229.0, -1.0], [12.5, -1.0], [0.0, 3.0]]);
    assert_eq!(table.rows[1].labels["network"], "VPN");
    assert_eq!(table.rows[0].labels["category"], "AUDIO-STREAMING");
    // Slices of a connection belong to the same group.
    assert_eq!(table.rows[0].provenance.capture, table.rows[1].provenance.capture);
    assert_ne!(table.rows[0].provenance.capture, table.rows[2].provenance.capture);
}

#[test]
fn columns_without_a_name_are_left_out_by_an_empty_one() {
    let rules = "format = \"csv\"\nlabels = { tunnel = \"class1\" }\n";
    // The first column and others; where every column has a name, an empty one is a mistake.
    let unnamed = format!("{rules}leave_out = [\"\"]");
    let table = load(&unnamed, &[("a-1s.csv", ",length,,class1\n0,1,x,VPN\n")]).unwrap();
    assert_eq!((table.names, table.notes), (vec!["length".to_owned()], vec![]));
    let told = load(&unnamed, &[("a-1s.csv", "length,class1\n1,VPN\n")]).unwrap_err().to_string();
    assert!(told.contains("column `` is missing"), "{told}");
}
