//! Datasets through the real binary: the content of a folder, the labels of flows, and comparing two copies.

use std::fs;
use std::io::Write;

use crate::common::{Project, small_experiment};

const SECOND: u32 = 1;

/// A little-endian microsecond pcap of raw IPv4: UDP flows of two packets each between `client`, from `first_port`
/// on, and 10.0.0.2:53, one flow every ten seconds from `start`.
fn capture(client: [u8; 4], first_port: u16, flows: u16, start: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 101] {
        bytes.extend(value.to_le_bytes());
    }
    for flow in 0..flows {
        for packet in 0..2_u8 {
            let mut ip = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0];
            ip.extend(client);
            ip.extend([10, 0, 0, 2]);
            ip.extend((first_port + flow).to_be_bytes());
            ip.extend(53_u16.to_be_bytes());
            ip.extend(12_u16.to_be_bytes());
            ip.extend([0, 0, packet, 1, 2, 3]);
            let time = start + 10 * u32::from(flow) + SECOND * u32::from(packet);
            for value in [time, 0, ip.len() as u32, ip.len() as u32] {
                bytes.extend(value.to_le_bytes());
            }
            bytes.extend(ip);
        }
    }
    bytes
}

fn usual(first_port: u16) -> Vec<u8> {
    capture([10, 0, 0, 1], first_port, 8, 1000)
}

fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn definition(name: &str, columns: &str, rest: &str) -> String {
    format!(
        "name = \"{name}\"\ntitle = \"Small\"\nreference = \"none\"\nlabel_columns = [{columns}]\n\
         [published_at]\nurl = \"https://example.org/{name}\"\nhow = \"nothing to download\"\n\
         [files]\npatterns = [\"**/*.pcap\", \"**/*.pcapng\"]\n{rest}"
    )
}

fn experiment(name: &str, label: &str) -> String {
    small_experiment(name, label, &["majority"], [2, 32])
}

/// Returns standard output and the exit code.
fn told(project: &Project, arguments: &[&str]) -> (String, Option<i32>) {
    let output = project.etcbench(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text + &String::from_utf8_lossy(&output.stderr), output.status.code())
}

#[track_caller]
fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

const TABLE: &str = "[table]\nfile = \"small.csv\"\nkey = \"stem\"\n";

#[test]
fn verify_reads_archives_and_tells_what_is_there_twice_damaged_missing_or_foreign() {
    let project = Project::new();
    project.write("data/small.toml", definition("small", "\"kind\"", TABLE));
    project.write("data/small.csv", "stem,kind\nOne,a\nTwo,b\nThree,b\nFour,a\nFive,a\n");
    project.write("data/small/one.PCAP", usual(1000));
    let mut damaged = usual(3000);
    damaged.truncate(damaged.len() - 20);
    project.write(
        "data/small/Publishers-01.zip",
        zipped(&[("sub/ONE.pcap", &usual(1000)), ("two.pcapng", &usual(2000)), ("README", b"text")]),
    );
    project.write("data/small/three.pcap", damaged);
    project.write("data/small/four.pcap.gz", gzipped(&usual(4000)));
    project.write("data/small/other.pcap", usual(5000));
    project.write("data/small/rest.tar.xz", b"anything");
    let (text, code) = told(&project, &["data", "verify", "small", "--manifest", "ours.json"]);
    assert_eq!(code, Some(1), "{text}");
    holds(
        &text,
        &[
            "used one.PCAP, 792 bytes, 16 packets, link type 101, sha256 ",
            "used Publishers-01.zip!two.pcapng, 792 bytes, 16 packets",
            "used four.pcap.gz, 792 bytes, 16 packets",
            "duplicate Publishers-01.zip!sub/ONE.pcap",
            "one.PCAP is used",
            "used three.pcap, 772 bytes, link type 101, DAMAGED after 15 whole packets: at byte 744: ",
            "without label other.pcap",
            "missing Five",
            "unexpected rest.tar.xz, 8 bytes, an archive whose members are not read in place; unpack it with",
            "4 captures used (1 damaged), 1 without label, 1 missing, 1 duplicate, 0 excluded",
        ],
    );
    // The same captures packed differently are the same data; a changed byte is reported.
    let other = Project::new();
    other.write("data/small.toml", definition("small", "\"kind\"", TABLE));
    other.write("data/small.csv", "stem,kind\nOne,a\nTwo,b\nThree,b\nFour,a\nFive,a\n");
    other.write("data/small/all.zip", zipped(&[("one.pcap", &usual(1000)), ("four.pcap", &usual(4000))]));
    other.write("data/small/two.pcap.gz", gzipped(&usual(2000)));
    other.write("data/small/three.pcap", {
        let mut damaged = usual(3000);
        damaged.truncate(damaged.len() - 20);
        damaged
    });
    other.write("data/small/other.pcap", usual(5000));
    let ours = project.path("ours.json");
    let against = ["data", "verify", "small", "--against", ours.to_str().unwrap(), "--manifest", "theirs.csv"];
    let (text, _) = told(&other, &against);
    holds(&text, &["here and the manifest contain the same data"]);
    let theirs = other.path("theirs.csv");
    let (text, code) = told(&other, &["data", "compare", ours.to_str().unwrap(), theirs.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
    let mut changed = usual(2000);
    *changed.last_mut().unwrap() ^= 1;
    other.write("data/small/two.pcap.gz", gzipped(&changed));
    let (text, code) = told(&other, &against);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["Two: different bytes: 792 bytes, 16 packets, sha256 ", "1 difference;"]);
    fs::remove_file(other.path("data/small/all.zip")).unwrap();
    let (text, code) = told(&other, &against);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["One: only in the second", "Four: only in the second"]);
}

#[test]
fn a_damaged_archive_is_told_and_no_run_goes_on_without_it() {
    let project = Project::new();
    project.write("data/small.toml", definition("small", "\"kind\"", "[[rule]]\nstem = \"^(?<kind>[a-z]+)\"\n"));
    project.write("data/small/one.pcap", usual(1000));
    let mut archive = zipped(&[("two.pcap", &usual(2000))]);
    archive.truncate(archive.len() / 2);
    project.write("data/small/more.zip", archive);
    project.write("experiments/small.toml", experiment("small", "kind"));
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["damaged archive more.zip", "1 archive damaged"]);
    project.refused(&["run", "experiments/small.toml", "--device", "cpu"], &["more.zip", "captures would be missing"]);
}

#[test]
fn manifests_that_are_none_are_told() {
    let project = Project::new();
    project.write("a.json", "{\"format\": \"x\",\n \"entries\": 3}");
    project.write("b.csv", "format,dataset\nx,y\n");
    project.write("c.json", "{\"format\":\"later\",\"dataset\":\"d\",\"definition\":\"\",\"entries\":[]}");
    project.refused(&["data", "compare", "a.json", "a.json"], &["a.json, line 2: not a manifest"]);
    project.refused(&["data", "compare", "b.csv", "b.csv"], &["b.csv, line 1: not a manifest: its columns are not"]);
    project.refused(&["data", "compare", "c.json", "c.json"], &["its format is `later`"]);
    project.refused(&["data", "compare", "none.json", "c.json"], &["none.json"]);
}

#[test]
fn a_folder_per_class_becomes_a_dataset_and_a_run_stores_its_manifest() {
    let project = Project::new();
    for (class, port) in [("chat", 1000), ("mail", 2000)] {
        project.write(&format!("mine/{class}/1.pcap"), usual(port));
        project.write(&format!("mine/{class}/deep/2.pcap.gz"), gzipped(&usual(port + 100)));
    }
    // Members of an archive count as unpacked in the folder to which it was downloaded.
    project.write("mine/more.zip", zipped(&[("chat/3.pcap", &usual(3000)), ("chat/1.pcap", &usual(1000))]));
    let (text, code) = told(&project, &["data", "init", "mine", "--folder", "mine", "--column", "kind"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["chat: 3 captures", "mail: 2 captures", "dataset mine with 2 classes", "data/mine is a link to "]);
    assert!(!fs::read_to_string(project.path("data/mine.toml")).unwrap().contains("folder ="));
    project.write("empty/readme.txt", "");
    project.refused(&["data", "init", "nothing", "--folder", "empty"], &["create one folder per class"]);
    assert!(project.path("data/nothing").symlink_metadata().is_err());
    project.refused(&["data", "init", "mine", "--folder", "mine"], &["already exists"]);
    project.refused(&["data", "init", "bad/name", "--folder", "mine"], &["use letters, digits"]);
    assert!(!project.path("data/bad").exists());
    project.refused(&["data", "init", "other", "--folder", "nowhere"], &["no such folder"]);
    project.write("experiments/mine.toml", experiment("mine", "kind"));
    project.done(&["run", "experiments/mine.toml"]);
    let manifest = fs::read_to_string(project.path("results/mine-mine-full/manifests/mine.json")).unwrap();
    holds(
        &manifest,
        &["\"state\": \"used\"", "more.zip!chat/3.pcap", "\"state\": \"duplicate\"", "\"kind\": \"mail\""],
    );
    // The run's manifest equals that of `verify`, also if the flows come from the cache.
    let stored = project.path("results/mine-mine-full/manifests/mine.json");
    let (text, code) = told(&project, &["data", "verify", "mine", "--against", stored.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
    project.done(&["run", "experiments/mine.toml"]);
    assert_eq!(fs::read_to_string(&stored).unwrap(), manifest);
}

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

#[cfg(unix)]
#[test]
fn a_generated_capture_goes_through_a_pipe() {
    let project = Project::new();
    let capture = project.done(&["data", "synth", "--packets", "2000", "-o", "/dev/stdout"]);
    holds(&String::from_utf8_lossy(&capture.stderr), &["standard output: 2000 packets of "]);
    project.write("piped.pcap", capture.stdout);
    let told = project.done(&["features", "piped.pcap"]);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    holds(&told, &["2000 packets, 2000 of TCP or UDP"]);
    assert!(!told.contains("damaged"), "{told}");
}

/// A dataset of two folders, one per class, and `more` next to them.
fn two_classes() -> Project {
    let project = Project::new();
    project.write("data/small.toml", definition("small", "\"kind\"", "[folders]\ncolumns = [\"kind\"]\n"));
    project.write("data/small/chat/1.pcap", usual(1000));
    project.write("data/small/mail/1.pcap", usual(2000));
    project.write("experiments/small.toml", experiment("small", "kind"));
    project
}

const RUN: [&str; 2] = ["run", "experiments/small.toml"];

#[cfg(unix)]
#[test]
fn one_entry_that_cannot_be_read_is_left_out_with_a_word() {
    use std::os::unix::ffi::OsStringExt;
    let project = two_classes();
    let folder = project.path("data/small");
    std::os::unix::fs::symlink("/nowhere/old", folder.join("old")).unwrap();
    std::os::unix::fs::symlink("/nowhere/2.pcap", folder.join("chat/2.pcap")).unwrap();
    std::os::unix::fs::symlink("..", folder.join("mail/up")).unwrap();
    std::os::unix::fs::symlink("self", folder.join("self")).unwrap();
    let name = std::ffi::OsString::from_vec(b"readme-\xe9.txt".to_vec());
    fs::write(folder.join(name), "text").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(folder.join("chat/pipe.pcap")).status().unwrap().success());
    let words = [
        "old is skipped: it is a link to /nowhere/old, which does not exist",
        "chat/2.pcap is skipped: it is a link to /nowhere/2.pcap",
        "mail/up is skipped: it is a link to ",
        "a folder that contains it",
        "its name is not UTF-8; rename it",
        "chat/pipe.pcap is skipped: it is not a regular file",
    ];
    let (text, code) = told(&project, &[&RUN[..], &["--device", "cpu"]].concat());
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["small: 1 more cannot be read (`etcbench data verify small` lists them)"]);
    let (text, code) = told(&project, &["data", "labels", "small"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["8 flows of kind=chat", "8 flows of kind=mail"]);
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &words.map(|word| word.replace(" is skipped", ", skipped")).each_ref().map(String::as_str));
    holds(&text, &["2 captures used (0 damaged)", "6 other files"]);
    let (text, code) = told(&project, &["list"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["small: Small [2 captures in "]);
}

/// Runs as a user who may not read a folder; tests that run as root, who may, switch to `nobody`.
#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_read_is_left_out_with_a_word() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let project = two_classes();
    let set = |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let closed = project.path("data/small/lost+found");
    fs::create_dir(&closed).unwrap();
    project.write("data/small/mail/2.pcap", usual(3000));
    set(&closed, 0o000);
    set(&project.path("data/small/mail/2.pcap"), 0o000);
    set(&project.path(""), 0o755);
    let binary = project.path("etcbench");
    fs::copy(env!("CARGO_BIN_EXE_etcbench"), &binary).unwrap();
    let mut command = std::process::Command::new(&binary);
    command.current_dir(project.path("")).args(["data", "labels", "small"]).env_remove("ETCBENCH_DATA");
    if fs::metadata(&binary).unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    set(&closed, 0o755);
    assert_eq!(output.status.code(), Some(0), "{text}");
    holds(
        &text,
        &[
            "small: lost+found is skipped: Permission denied",
            "small: mail/2.pcap is skipped: Permission denied",
            "8 flows of kind=chat",
            "8 flows of kind=mail",
        ],
    );
}

#[test]
fn a_listing_does_not_stop_at_what_is_broken() {
    let project = two_classes();
    project.write("data/broken.toml", "name = \"broken\"\ntitle = [\n");
    fs::create_dir(project.path("data/folder.toml")).unwrap();
    project.write("experiments/broken.toml", "title = \"x\"\nseeds = [\n");
    project.write("data/stopped.toml", definition("stopped", "\"kind\"", "[folders]\ncolumns = [\"kind\"]\n"));
    project.write("data/stopped/chat/1.pcap", usual(1000));
    project.write("data/stopped/.unpacking-rest.zip-12345678", "/downloads/rest.zip");
    let (text, code) = told(&project, &["list"]);
    assert_eq!(code, Some(0), "{text}");
    holds(
        &text,
        &[
            "broken: cannot be read (",
            "folder: cannot be read (",
            "small: Small [2 captures in ",
            "stopped: Small [cannot be used: ",
            "ctu13: ",
            "table2: ",
        ],
    );
    assert_eq!(text.matches("broken: cannot be read").count(), 2, "{text}");
    assert_eq!(told(&project, &["data", "list"]).1, Some(0));
    project.refused(&["data", "verify", "broken"], &["broken.toml"]);
    project.done(&RUN);
}

#[test]
fn captures_by_other_names_are_told_of_and_used_where_a_definition_is_written() {
    let project = two_classes();
    project.write("data/small/chat/1.pcap1", usual(1100));
    project.write("data/small/chat/1.pcap2.gz", gzipped(&usual(1200)));
    project.write("data/small/mail/2.cap", usual(2100));
    project.write("data/small/mail/3.PCAP", usual(2200));
    project.write("data/small/mail/memory.dmp", b"MDMP, a dump of another kind");
    project.write("data/small/more.zip", zipped(&[("mail/4.dmp", &usual(2300)), ("mail/5.pcap", &usual(2400))]));
    let warning = "small: 4 files (chat/1.pcap1, ...) look like captures and are not used; to use such files, add \
                   \"**/*.cap\", \"**/*.dmp\", \"**/*.pcap[0-9]*\" to `patterns`";
    for _ in 0..2 {
        // Both from the captures and with flows from the cache.
        let output = project.done(&RUN);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        holds(&text, &[warning]);
        assert_eq!(text.matches("look like captures").count(), 1, "{text}");
    }
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(1), "{text}");
    holds(
        &text,
        &[
            "unexpected mail/2.cap, 792 bytes, looks like a capture, but no pattern matches it; add \"**/*.cap\"",
            "unexpected more.zip!mail/4.dmp",
            "4 captures used",
        ],
    );
    // A definition written for these files uses all of them.
    fs::remove_file(project.path("data/small/mail/memory.dmp")).unwrap();
    fs::remove_file(project.path("data/small.toml")).unwrap();
    let (text, code) = told(&project, &["data", "init", "small", "--folder", "data/small", "--column", "kind"]);
    assert_eq!(code, Some(0), "{text}");
    holds(
        &text,
        &["chat: 3 captures", "mail: 5 captures", "captures with other names are used too: **/*.cap, **/*.dmp"],
    );
    let (text, _) = told(&project, &["data", "labels", "small"]);
    holds(&text, &["24 flows of kind=chat", "40 flows of kind=mail"]);
}

#[test]
fn what_macos_and_windows_leave_behind_is_no_data() {
    let apple: &[u8] = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ";
    let project = two_classes();
    project.write("data/small/chat/._1.pcap", apple);
    project.write("data/small/chat/.DS_Store", b"\0\0\0\x01Bud1");
    project.write("data/small/__MACOSX/chat/._1.pcap", apple);
    project.write("data/small/mail/Thumbs.db", b"x");
    project.write("data/small/mail/desktop.ini", b"x");
    project.write("data/small/$RECYCLE.BIN/old.pcap", usual(1));
    // A capture may have such a name.
    project.write("data/small/mail/._own.pcap", usual(3000));
    project.write(
        "data/small/all.zip",
        zipped(&[
            ("chat/2.pcap", &usual(4000)),
            ("__MACOSX/chat/._2.pcap", apple),
            ("__MACOSX/._chat", apple),
            ("chat/._2.pcap", apple),
        ]),
    );
    let output = project.done(&RUN);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    holds(&text, &["small: 5 files ($RECYCLE.BIN/old.pcap, ...) are skipped: created by macOS or Windows"]);
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["4 captures used", "5 other files"]);
    fs::remove_file(project.path("data/small.toml")).unwrap();
    let (text, code) = told(&project, &["data", "init", "small", "--folder", "data/small", "--column", "kind"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["chat: 2 captures", "mail: 2 captures", "dataset small with 2 classes"]);
}

#[test]
fn archives_are_read_in_place_whatever_made_them() {
    let project = two_classes();
    fs::remove_dir_all(project.path("data/small")).unwrap();
    project.write("data/small/windows.zip", zipped(&[("chat\\1.pcap", &usual(1000)), ("mail\\1.pcap", &usual(2000))]));
    project.write("data/small/dots.zip", zipped(&[("./chat/2.pcap", &usual(1100)), ("mail//2.pcap", &usual(2100))]));
    // Downloaded twice by a browser, or without a name.
    project.write("data/small/more.zip.1", zipped(&[("chat/3.pcap", &usual(1200))]));
    project.write("data/small/download", zipped(&[("mail/3.pcap", &usual(2200))]));
    project.write("data/small/report.docx", zipped(&[("word/document.xml", b"text")]));
    project.write("data/small/out.zip", zipped(&[("../chat/4.pcap", &usual(1300)), ("mail/4.pcap", &usual(2300))]));
    project.write("data/small/page.bin", b"PK\x03\x04 and no archive");
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(0), "{text}");
    holds(
        &text,
        &[
            "used windows.zip!chat/1.pcap, 792 bytes, 16 packets",
            "used more.zip.1!chat/3.pcap",
            "used download!mail/3.pcap",
            "kind=chat",
            "unexpected out.zip!../chat/4.pcap, skipped: its name points outside the archive",
            "unexpected report.docx",
            "7 captures used",
        ],
    );
    let (text, _) = told(&project, &["data", "labels", "small"]);
    holds(&text, &["24 flows of kind=chat", "32 flows of kind=mail"]);
    assert!(!text.contains("kind=.") && !text.contains('\\'), "{text}");
    // Two spellings of one path.
    project.write("data/small/twice.zip", zipped(&[("chat\\9.pcap", &usual(1)), ("chat/9.pcap", &usual(2))]));
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["damaged archive twice.zip", "two members have the same name, chat/9.pcap"]);
}

#[test]
fn names_that_differ_in_unicode_form_are_one_and_in_letter_case_are_told() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let project = two_classes();
    for (number, class) in ["Chat", composed, decomposed].into_iter().enumerate() {
        let port = 3000 + 1000 * number as u16;
        project.write(&format!("data/small/{class}/1.pcap"), usual(port));
    }
    let alike = "label column `kind`: `Chat` and `chat` differ only in letter case and are 2 classes";
    for _ in 0..2 {
        let output = project.done(&RUN);
        holds(&String::from_utf8_lossy(&output.stderr), &[alike]);
    }
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &[alike, "5 captures used"]);
    let (text, _) = told(&project, &["data", "labels", "small"]);
    holds(&text, &[&format!("16 flows of kind={composed}"), alike]);
    // An experiment may spell the class either way.
    for class in [composed, decomposed] {
        let classes = format!("selection.classes=[\"{class}\", \"mail\"]");
        project.done(&[&RUN[..], &["--set", &classes]].concat());
    }
    // A table may also name captures in either form, and captures in archives.
    project.write("data/small.toml", definition("small", "\"kind\"", TABLE));
    project.write("data/small.csv", format!("stem,kind\n{composed},a\n{decomposed}-2,b\n"));
    fs::remove_dir_all(project.path("data/small")).unwrap();
    project.write(&format!("data/small/{decomposed}.pcap"), usual(1000));
    project.write("data/small/all.zip", zipped(&[(&format!("{composed}-2.pcap"), &usual(2000))]));
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["2 captures used", "0 without label, 0 missing"]);
    project.write("data/small.csv", format!("stem,kind\n{composed},a\n{decomposed},b\n"));
    project.refused(&["data", "verify", "small"], &["small.csv: line 3", "ignoring letter case and Unicode form"]);
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

#[test]
fn captures_with_times_out_of_order_or_range_are_told() {
    let project = Project::new();
    let definition = definition("unsorted", "\"kind\"", "[[rule]]\nstem = \"^(?<kind>[a-z]+)\"\n");
    project.write("data/unsorted.toml", definition);
    project.write("experiments/unsorted.toml", experiment("unsorted", "kind"));
    project.write("data/unsorted/one.pcap", usual(1000));
    // The answer of the first flow comes before its request.
    let mut swapped = usual(2000);
    let record = 16 + 32;
    let (first, second) = swapped[24..24 + 2 * record].split_at_mut(record);
    first.swap_with_slice(second);
    project.write("data/unsorted/two.pcap", swapped);
    // Nanoseconds in a file of microseconds.
    let mut nanoseconds = usual(3000);
    nanoseconds[28..32].copy_from_slice(&900_000_000_u32.to_le_bytes());
    project.write("data/unsorted/three.pcap", nanoseconds);

    let (text, code) = told(&project, &["data", "verify", "unsorted"]);
    assert_eq!(code, Some(0), "{text}");
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(line("two.pcap").contains("1 packet out of order (reordercap sorts them)"), "{text}");
    assert!(!line("one.pcap").contains("out of order"), "{text}");
    assert!(line("three.pcap").contains("1 packet with a fraction of a second beyond the file's resolution"), "{text}");
    let advice = "1 packet is earlier than a packet before";
    let (text, _) = told(&project, &["features", "data/unsorted/two.pcap"]);
    holds(&text, &[advice, "sort the capture by time with reordercap"]);
    // A run tells it once for a dataset, also when its flows come from the cache.
    for _ in 0..2 {
        let (text, code) = told(&project, &["run", "experiments/unsorted.toml"]);
        assert_eq!(code, Some(0), "{text}");
        holds(&text, &["unsorted: 1 capture (two.pcap): ", advice]);
        holds(&text, &["unsorted: 1 capture (three.pcap): 1 packet has a fraction of a second beyond the file's"]);
    }
}
