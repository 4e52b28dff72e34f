//! The labels of flows: from tables, rules and files of labels, and definitions that cannot work.

use std::fs;

use super::{capture, definition, experiment, gzipped, holds, told, two_classes, usual};
use crate::common::Project;

/// The examples that ship with the project, each with its captures.
fn example(project: &Project, name: &str) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/examples");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        if file.starts_with(name) {
            project.write(&format!("data/{file}"), fs::read(path).unwrap());
        }
    }
}

#[test]
fn a_table_of_captures_and_classes_labels_them() {
    let project = Project::new();
    example(&project, "capture-table");
    project.write("data/capture-table/monday/one.pcap", usual(1000));
    project.write("data/capture-table/tuesday/one.pcapng.gz", gzipped(&usual(2000)));
    let (text, code) = told(&project, &["data", "verify", "capture-table"]);
    assert_eq!(code, Some(0), "{text}");
    project.write("experiments/table.toml", experiment("capture-table", "application"));
    let output = project.done(&["run", "experiments/table.toml"]);
    holds(&String::from_utf8_lossy(&output.stdout), &["majority"]);
    let (text, _) = told(&project, &["data", "labels", "capture-table"]);
    holds(&text, &["8 flows of application=chat", "8 flows of application=mail"]);
}

#[test]
fn a_table_of_five_tuples_times_and_classes_labels_flows() {
    let project = Project::new();
    example(&project, "flow-table");
    project.write("data/flow-table/one.pcap", usual(1000));
    let mut text =
        "capture,source_address,source_port,destination_address,destination_port,transport,start,end,application\n"
            .to_owned();
    for flow in 0..6 {
        let start = 1000 + 10 * flow;
        let class = ["chat", "mail"][flow % 2];
        let time = |seconds: usize| format!("1970-01-01T00:{:02}:{:02}Z", seconds / 60, seconds % 60);
        // Every third line has the opposite direction.
        let (source, destination) = ((String::from("10.0.0.1"), 1000 + flow), (String::from("10.0.0.2"), 53));
        let (source, destination) = if flow % 3 == 0 { (destination, source) } else { (source, destination) };
        text += &format!(
            "one.pcap,{},{},{},{},udp,{},{},{class}\n",
            source.0,
            source.1,
            destination.0,
            destination.1,
            time(start),
            time(start + 1)
        );
    }
    project.write("data/flow-table/labels.csv", text + "one.pcap,nonsense,1,10.0.0.2,53,udp,1970-01-01T00:20:00Z,,x\n");
    let (text, code) = told(&project, &["data", "labels", "flow-table", "--list", "list.csv"]);
    assert_eq!(code, Some(0), "{text}");
    holds(
        &text,
        &[
            "one.pcap: 6 flows with labels, 2 unmatched",
            "1 line could not be parsed (line 8: its end is not a time: it is empty)",
            "3 flows of application=chat",
            "list.csv: 2 flows without label",
        ],
    );
    let list = fs::read_to_string(project.path("list.csv")).unwrap();
    holds(&list, &["flow-table,one.pcap#6,unmatched,udp,10.0.0.1,1006,10.0.0.2,53,1060.000000000,1061.000000000"]);
    project.write("experiments/flows.toml", experiment("flow-table", "application"));
    let output = project.done(&["run", "experiments/flows.toml"]);
    holds(&String::from_utf8_lossy(&output.stderr), &["2 flows without a label", "line 8"]);
    let stored = fs::read_to_string(project.path("results/flows-flow-table-full/flows_without_label.csv")).unwrap();
    assert_eq!(stored, list);
}

/// CTU-13's clock is two hours ahead: 2011-08-10 09:46:53 there.
const CTU_START: u32 = 1_312_962_413;

#[test]
fn ctu13_is_labelled_by_netflow_files_with_families_and_by_hosts() {
    let project = Project::new();
    let root = "data/ctu13/9";
    let bots = capture([147, 32, 84, 191], 1000, 4, CTU_START);
    project.write(&format!("{root}/capture20110817.truncated.pcap.gz"), gzipped(&bots));
    let mut text =
        "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,TotPkts,TotBytes,SrcBytes,Label\n"
            .to_owned();
    for (second, port, label) in [
        (53, 1000, "flow=From-Botnet-V50-1-UDP-DNS"),
        (3, 1001, "flow=From-Normal-V50-Grill"),
        (13, 1002, "flow=Background"),
    ] {
        let minute = if second == 53 { 46 } else { 47 };
        text += &format!(
            "2011/08/10 09:{minute}:{second:02}.000000,1.000000,udp,147.32.84.191,{port},  <->,10.0.0.2,53,CON,0,0,2,64,64,{label}\n"
        );
    }
    // A word that is no protocol is counted, ICMP is not.
    for word in ["icmp", "quic"] {
        text += &format!(
            "2011/08/10 09:46:53.000000,1.000000,{word},147.32.84.191,1000,  <->,10.0.0.2,53,CON,0,0,2,64,64,flow=Background\n"
        );
    }
    project.write(&format!("{root}/capture20110817.binetflow"), text);
    let (text, code) = told(&project, &["data", "labels", "ctu13"]);
    assert_eq!(code, Some(0), "{text}");
    holds(
        &text,
        &[
            "2 flows with labels, 1 without a class, 1 unmatched (labels of 9/capture20110817.binetflow, \
             at most 3 lines in memory)",
            "; 9/capture20110817.binetflow: 1 line not used, since the protocol is unknown (`quic`: 1)",
            "1 flow of scenario=9 content=headers traffic=botnet family=neris",
            "1 flow of scenario=9 content=headers traffic=normal family=none",
        ],
    );
    // The same captures by their hosts: .191 is a bot in scenario 9.
    let (text, code) = told(&project, &["data", "labels", "ctu13-hosts"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["4 flows of scenario=9 content=headers traffic=botnet family=neris"]);
    // In scenario 2 it is not a bot, and .170 is normal.
    fs::remove_dir_all(project.path(root)).unwrap();
    project.write("data/ctu13/2/capture20110811.truncated.pcap", bots);
    let normal = capture([147, 32, 84, 170], 1000, 3, CTU_START);
    project.write("data/ctu13/3/capture20110812.truncated.pcap", normal);
    let (text, _) = told(&project, &["data", "labels", "ctu13-hosts"]);
    holds(
        &text,
        &[
            "capture20110811.truncated.pcap: 0 flows with labels, 4 without a class",
            "3 flows of scenario=3 content=headers traffic=normal family=none",
        ],
    );
    // Without its netflow file the capture has no labels, which is reported.
    project.refused(&["data", "labels", "ctu13"], &["add its flow-label file, named capture20110811.*"]);
    let (text, code) = told(&project, &["data", "fetch", "ctu13", "--part", "13", "--dry-run"]);
    assert_eq!(code, Some(0), "{text}");
    holds(
        &text,
        &["CTU-Malware-Capture-Botnet-54/capture20110815-3.truncated.pcap.bz2", "capture20110815-3.binetflow"],
    );
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn what_is_behind_a_form_is_told_and_definitions_that_cannot_work_are() {
    let project = Project::new();
    let (text, code) = told(&project, &["data", "fetch", "iscxvpn2016"]);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["https://www.unb.ca/cic/datasets/vpn.html", "NonVPN-PCAPs-01.zip", "fill in the form"]);
    project.refused(&["data", "fetch", "ctu13", "--part", "14"], &["has no part `14`", "known: 1, 2, 3"]);
    project.refused(&["data", "fetch", "ctu13", "--part", "14", "--dry-run"], &["has no part `14`"]);
    project.refused(&["data", "verify", "ctu14"], &["did you mean `ctu13`?"]);

    let rule = "[[rule]]\nstem = \"^(?<kind>[a-z]+)\"\n";
    let cases: [(&str, &[&str]); 9] = [
        ("[folders]\ncolumns = [\"kin\"]\n", &["[folders]: `kin` is not in `label_columns`"]),
        (
            "[table]\nfile = \"small.csv\"\nkey = \"stem\"\nby = \"name\"\n",
            &["small.toml, line", "unknown value `name`"],
        ),
        (
            "[[host_labels.rule]]\naddresses = [\"10.0.0\"]\nlabels = { kind = \"a\" }\n",
            &["[[host_labels.rule]] number 1: `10.0.0` is not an address"],
        ),
        (
            "[flow_labels]\npattern = \"*.x\"\nformat = \"netflow\"\ntolerance_seconds = 1\nrule = []\n",
            &["`flow_labels.format` is `netflow`", "known: ctu_binetflow, csv"],
        ),
        (
            "[flow_labels]\npattern = \"*.x\"\nformat = \"ctu_binetflow\"\ntolerance_seconds = 1\nrule = []\n",
            &["`flow_labels.utc_offset` is missing"],
        ),
        (
            "[[rule]]\nstem = \"x\"\nlabels = { kind = \"a\" }\n[[download]]\nurl = \"ftp://x\"\npath = \"x\"\n",
            &["[[download]] number 1: `url` is `ftp://x`"],
        ),
        (
            "[[rule]]\nstem = \"x\"\nlabels = { kind = \"a\" }\n[[download]]\nurl = \"https://x\"\npath = \"../x\"\n",
            &["[[download]] number 1: `path` is `../x`"],
        ),
        (
            "[[rule]]\nstem = \"x\"\nlabels = { kind = \"a\" }\n[[download]]\nurl = \"https://x\"\npath = \"x\"\nsha256 = \"12\"\n",
            &["`sha256` is not 64 hexadecimal digits"],
        ),
        ("", &["no flow can get a label"]),
    ];
    for (rest, words) in cases {
        project.write("data/small.toml", definition("small", "\"kind\"", rest));
        project.write("data/small.csv", "stem,kind\na,b\n");
        project.refused(&["data", "verify", "small"], words);
    }
    project.write("data/small.toml", definition("small", "\"kind\"", rule));
    project.refused(&["data", "verify", "small"], &["looked in", "no such folder"]);
    let with_path = "[table]\nfile = \"small.csv\"\nkey = \"stem\"\n";
    project.write("data/small.toml", definition("small", "\"kind\"", with_path));
    project.write("data/small.csv", "stem,kind\na/1.pcap,b\n");
    project.refused(&["data", "verify", "small"], &["small.csv: line 2: `a/1` is a path", "by = \"path\""]);
    project.write("data/small.csv", "stem,kind\na,b,c\n");
    project.refused(&["data", "verify", "small"], &["small.csv", "line: 2"]);
}

#[test]
fn a_table_without_statistics_has_all_else() {
    let project = Project::new();
    project.write("one.pcap", usual(1000));
    let table = |arguments: &[&str]| -> Vec<Vec<String>> {
        project.done(&[&["features", "one.pcap", "-o", "flows.csv"][..], arguments].concat());
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(project.path("flows.csv")).unwrap();
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
    };
    let (whole, bare) = (table(&[]), table(&["--no-statistics"]));
    let others: Vec<usize> = (0..whole[0].len()).filter(|&place| !whole[0][place].starts_with("statistic_")).collect();
    assert_eq!(whole[0].len() - others.len(), etcbench::flow::STATISTIC_NAMES.len());
    let expected: Vec<Vec<String>> =
        whole.iter().map(|row| others.iter().map(|&place| row[place].clone()).collect()).collect();
    assert_eq!(bare.len(), 1 + 8);
    assert_eq!(bare, expected);
}

#[test]
fn tables_name_captures_as_find_and_spreadsheets_write_them() {
    let project = two_classes();
    let table = "[table]\nfile = \"small.csv\"\nkey = \"capture\"\nby = \"path\"\n";
    project.write("data/small.toml", definition("small", "\"kind\"", table));
    for rows in ["./chat/1.pcap,a\n./mail/1.pcap,b\n", ".\\chat\\1.pcap,a\nmail//1,b\n"] {
        project.write("data/small.csv", format!("capture,kind\n{rows}"));
        let (text, code) = told(&project, &["data", "labels", "small"]);
        assert_eq!(code, Some(0), "{text}");
        holds(&text, &["8 flows of kind=a", "8 flows of kind=b"]);
    }
    for (row, words) in [
        ("/data/chat/1.pcap,a", "line 2: `/data/chat/1.pcap` is an absolute path"),
        ("C:\\chat\\1.pcap,a", "is an absolute path"),
        ("../small/chat/1.pcap,a", "points outside the dataset's folder"),
    ] {
        project.write("data/small.csv", format!("capture,kind\n{row}\n"));
        project.refused(&["data", "verify", "small"], &["small.csv", words]);
    }
    let text: Vec<u8> = "\u{feff}capture,kind\nchat/1,a\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    project.write("data/small.csv", text);
    project.refused(&["data", "verify", "small"], &["small.csv: it is UTF-16; save it as CSV in UTF-8"]);
}
