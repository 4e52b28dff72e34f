//! Joins flows with flow-label files: streamed in order, and out of order.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::*;
use crate::definition_file::FlowLabelRuleSection;
use etcbench_capture::Transport;
use etcbench_flow::{FiveTuple, Flow};

const SECOND: i64 = 1_000_000_000;
const HEADER: &str = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,Label\n";

fn rules(label: &str, offset: &str) -> FlowLabelRules {
    let section = FlowLabelsSection {
        pattern: "**/*.binetflow".to_owned(),
        format: "ctu_binetflow".to_owned(),
        scope: LabelFileScope::Capture,
        time: None,
        utc_offset: Some(offset.to_owned()),
        tolerance_seconds: 1.0,
        columns: None,
        rule: vec![FlowLabelRuleSection {
            label: label.to_owned(),
            capture: None,
            labels: Labels::from([("traffic".to_owned(), "botnet".to_owned())]),
        }],
    };
    FlowLabelRules::new(&["traffic".to_owned()], &section).unwrap()
}

fn flow(source: &str, destination: &str, start: i64, end: i64) -> Flow {
    let five_tuple = FiveTuple {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        transport: Transport::Tcp,
    };
    Flow { five_tuple, start, end, packets: Vec::new(), statistics: Vec::new() }
}

fn written(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("a.binetflow");
    std::fs::write(&path, text).unwrap();
    path
}

/// Describes the results of joining flows.
fn joined(join: &mut FlowLabelJoin<'_>, flows: &[Flow]) -> Vec<String> {
    let words = |joined: Joined<'_>| match joined {
        Joined::Labels(labels) => labels.values().cloned().collect::<Vec<_>>().join("+"),
        other => format!("{other:?}"),
    };
    flows.iter().map(|flow| words(join.join(flow).unwrap())).collect()
}

#[test]
fn flows_join_in_either_direction_within_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let text = HEADER.to_owned()
        + "1970/01/01 02:00:10.5,2.0,tcp,10.0.0.1,1000,   ->,10.0.0.2,80,S,flow=From-Botnet-V42\n\
           1970/01/01 02:05:00.0,2.0,tcp,10.0.0.1,1000,   ->,10.0.0.2,80,S,flow=Background\n\
           1970/01/01 02:05:00.0,2.0,tcp,nonsense,1000,   ->,10.0.0.2,80,S,flow=Background\n\
           1970/01/01 02:05:00.0,2.0,icmp,10.0.0.1,0x0008,   ->,10.0.0.2,,S,flow=Background\n\
           1970/01/01 02:05:00.0,-1,tcp,10.0.0.1,1000,   ->,10.0.0.2,80,S,flow=Background\n\
           1970/01/01 02:05\n";
    let path = written(folder.path(), &text);
    let rules = rules("From-Botnet", "+02:00");
    let (client, server) = ("10.0.0.1:1000", "10.0.0.2:80");
    let flows = [
        flow(client, server, 10 * SECOND, 11 * SECOND),
        flow(client, server, 11 * SECOND, 302 * SECOND),
        flow(client, "10.0.0.9:80", 11 * SECOND, 12 * SECOND),
        flow(server, client, 13 * SECOND, 20 * SECOND),
        flow(server, client, 14 * SECOND, 20 * SECOND),
        flow(client, server, 301 * SECOND, 302 * SECOND),
    ];
    for order in [Order::ByTime, Order::Any] {
        let mut join = FlowLabelJoin::open(&path, &rules, "a.pcap", order).unwrap();
        let expected = ["botnet", "Ambiguous", "Unmatched", "botnet", "Unmatched", "Unused"];
        assert_eq!(joined(&mut join, &flows), expected, "{order:?}");
        join.finish().unwrap();
        let numbers: Vec<u64> = join.malformed().first.iter().map(|(line, _)| *line).collect();
        // Line 6 has a negative duration, which counts as zero; line 7 has too few columns.
        assert_eq!((join.malformed().count, numbers), (2, vec![4, 7]));
        assert!(!join.disorder());
    }
}

#[test]
fn logs_of_zeek_label_flows() {
    let name = |text: &str| text.to_owned();
    let columns = FlowLabelColumns {
        source_address: name("id.orig_h"),
        source_port: name("id.orig_p"),
        destination_address: name("id.resp_h"),
        destination_port: name("id.resp_p"),
        transport: name("proto"),
        start: name("ts"),
        end: None,
        duration: Some(name("duration")),
        label: Some(name("label")),
        capture: None,
    };
    let rule = |label: &str| FlowLabelRuleSection {
        label: label.to_owned(),
        capture: None,
        labels: Labels::from([("traffic".to_owned(), label.to_lowercase())]),
    };
    let section = FlowLabelsSection {
        pattern: name("**/conn.log"),
        format: name("csv"),
        scope: LabelFileScope::Dataset,
        time: Some(name("epoch_seconds")),
        utc_offset: None,
        tolerance_seconds: 1.0,
        columns: Some(columns),
        rule: vec![rule("Benign"), rule("Malicious")],
    };
    let rules = FlowLabelRules::new(&["traffic".to_owned()], &section).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let comments = "#separator \\x09\n#set_separator\t,\n#unset_field\t-\n#path\tconn\n";
    let fields = "#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration\tlabel\n#types\ttime\n";
    let row = |start: u32, port: u16, duration: &str, label: &str| {
        format!("{start}.5\tCx\t10.0.0.1\t{port}\t10.0.0.2\t80\ttcp\t{duration}\t{label}\n")
    };
    let rows = [row(10, 1000, "2.0", "Benign"), row(20, 1001, "-", "Malicious"), row(30, 1002, "x", "Benign")].concat();
    let path = written(folder.path(), &format!("{comments}{fields}{rows}#close\t1970-01-01-00-01-00\n"));
    let flow =
        |port: u16, start: i64| flow(&format!("10.0.0.1:{port}"), "10.0.0.2:80", start * SECOND, (start + 1) * SECOND);
    let mut join = FlowLabelJoin::open(&path, &rules, "a.pcap", Order::ByTime).unwrap();
    let flows = [flow(1000, 11), flow(1001, 20), flow(1002, 30)];
    assert_eq!(joined(&mut join, &flows), ["benign", "malicious", "Unmatched"]);
    join.finish().unwrap();
    // The comments count as lines.
    assert_eq!(join.malformed().first, [(9, "its duration is not a number of seconds, `x`".to_owned())]);
    let path = written(folder.path(), &format!("{comments}{rows}"));
    let error = FlowLabelJoin::open(&path, &rules, "a.pcap", Order::ByTime).err().unwrap().to_string();
    assert!(error.contains("no line before the first row has #fields"), "{error}");
    // A table below the comments of another: the header is not the one that was meant.
    let path = written(folder.path(), "#separator \\x09\n#fields\tts\nts,id.orig_h,label\n10,10.0.0.1,Benign\n");
    let error = FlowLabelJoin::open(&path, &rules, "a.pcap", Order::ByTime).err().unwrap().to_string();
    let expected = ":2: its first line is that of Zeek's logs, so line 2, `#fields`, is the header: `ts`; no ";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn rules_can_be_for_some_captures_only() {
    let mut with_capture = rules("From-Botnet", "+00:00");
    with_capture.rules[0].capture = Some(Regex::new("^one$").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let text = HEADER.to_owned() + "1970/01/01 00:00:10,2.0,tcp,10.0.0.1,1000,->,10.0.0.2,80,S,From-Botnet\n";
    let path = written(folder.path(), &text);
    let flows = [flow("10.0.0.1:1000", "10.0.0.2:80", 10 * SECOND, 11 * SECOND)];
    for (capture, expected) in [("x/one.pcap.gz", "botnet"), ("two.pcap", "Unused")] {
        let mut join = FlowLabelJoin::open(&path, &with_capture, capture, Order::ByTime).unwrap();
        assert_eq!(joined(&mut join, &flows), [expected], "{capture}");
    }
}

/// Generates flows two seconds apart with one line each; every third is labelled as a bot's.
fn long_text(count: i64) -> (String, Vec<Flow>) {
    let mut text = HEADER.to_owned();
    let mut flows = Vec::new();
    for index in 0..count {
        let seconds = 2 * index;
        let label = if index % 3 == 0 { "From-Botnet" } else { "Background" };
        let (source, destination) = (format!("10.0.{}.1", index % 7), "10.9.9.9");
        let (day, hour) = (1 + seconds / 86_400, seconds / 3600 % 24);
        let (minute, second) = (seconds / 60 % 60, seconds % 60);
        writeln!(
            text,
            "1970/01/{day:02} {hour:02}:{minute:02}:{second:02},5,tcp,{source},{},->,{destination},80,S,{label}",
            1000 + index % 50
        )
        .unwrap();
        let ends = (format!("{destination}:80"), format!("{source}:{}", 1000 + index % 50));
        flows.push(flow(&ends.0, &ends.1, seconds * SECOND, (seconds + 5) * SECOND));
    }
    (text, flows)
}

#[test]
fn a_stream_gives_what_the_whole_file_gives_and_holds_a_window_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (text, flows) = long_text(60_000);
    let path = written(folder.path(), &text);
    let rules = rules("From-Botnet", "+00:00");
    let mut stream = FlowLabelJoin::open(&path, &rules, "a.pcap", Order::ByTime).unwrap();
    let mut whole = FlowLabelJoin::open(&path, &rules, "a.pcap", Order::Any).unwrap();
    assert!(joined(&mut stream, &flows) == joined(&mut whole, &flows));
    assert!(!stream.disorder());
    assert_eq!(whole.most_held, 60_000);
    assert!(stream.most_held < 20_000, "{}", stream.most_held);
}

#[test]
fn disorder_that_could_lose_a_line_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (text, flows) = long_text(2000);
    let rules = rules("From-Botnet", "+00:00");
    // The first line comes last, an hour late.
    let mut lines: Vec<&str> = text.lines().collect();
    let first = lines.remove(1);
    lines.push(first);
    let path = written(folder.path(), &(lines.join("\n") + "\n"));
    let mut stream = FlowLabelJoin::open(&path, &rules, "a.pcap", Order::ByTime).unwrap();
    assert_eq!(joined(&mut stream, &flows)[0], "Unmatched");
    stream.finish().unwrap();
    assert!(stream.disorder());
    let mut whole = FlowLabelJoin::open(&path, &rules, "a.pcap", Order::Any).unwrap();
    assert_eq!(joined(&mut whole, &flows)[0], "botnet");

    // Half a minute late is within the read-ahead.
    let mut lines: Vec<&str> = text.lines().collect();
    let first = lines.remove(1);
    lines.insert(16, first);
    let path = written(folder.path(), &(lines.join("\n") + "\n"));
    let mut stream = FlowLabelJoin::open(&path, &rules, "a.pcap", Order::ByTime).unwrap();
    assert_eq!(joined(&mut stream, &flows)[0], "botnet");
    assert!(!stream.disorder());
}

#[test]
fn a_flow_that_comes_after_its_lines_were_dropped_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (text, mut flows) = long_text(60_000);
    let path = written(folder.path(), &text);
    let rules = rules("From-Botnet", "+00:00");
    let late = flows.remove(0);
    flows.push(late);
    let mut stream = FlowLabelJoin::open(&path, &rules, "a.pcap", Order::ByTime).unwrap();
    joined(&mut stream, &flows);
    assert!(stream.disorder());
}

#[test]
fn csv_files_name_their_own_columns_and_may_hold_the_labels_themselves() {
    let columns = || FlowLabelColumns {
        source_address: "src".to_owned(),
        source_port: "sport".to_owned(),
        destination_address: "dst".to_owned(),
        destination_port: "dport".to_owned(),
        transport: "proto".to_owned(),
        start: "from".to_owned(),
        end: Some("to".to_owned()),
        duration: None,
        label: None,
        capture: Some("file".to_owned()),
    };
    let section = FlowLabelsSection {
        pattern: "labels.csv".to_owned(),
        format: "csv".to_owned(),
        scope: LabelFileScope::Dataset,
        time: Some("epoch_seconds".to_owned()),
        utc_offset: None,
        tolerance_seconds: 0.0,
        columns: Some(columns()),
        rule: Vec::new(),
    };
    let names = ["application".to_owned(), "kind".to_owned()];
    let rules = FlowLabelRules::new(&names, &section).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.csv");
    let text = "\u{feff}file;proto;src;sport;dst;dport;from;to;kind;application\r\n\
        one.pcap;6;10.0.0.1;1000;10.0.0.2;80;10.5;20;web;\"chat; voice\"\r\n\
        two.pcap;TCP;10.0.0.1;1000;10.0.0.2;80;10.5;20;web;mail\r\n\
        one.pcap;tcp;10.0.0.1;1000;10.0.0.2;80;30;40;web;\r\n\
        one.pcap;tcp;10.0.0.1;1000;10.0.0.2;80;60;50;web;mail\r\n";
    std::fs::write(&path, text).unwrap();
    let flows = [
        flow("10.0.0.1:1000", "10.0.0.2:80", 12 * SECOND, 13 * SECOND),
        flow("10.0.0.1:1000", "10.0.0.2:80", 35 * SECOND, 36 * SECOND),
    ];
    for (capture, expected) in
        [("a/one.pcap", ["chat; voice+web", "Unused"]), ("two.pcap.gz", ["mail+web", "Unmatched"])]
    {
        let mut join = FlowLabelJoin::open(&path, &rules, capture, Order::ByTime).unwrap();
        assert_eq!(joined(&mut join, &flows), expected, "{capture}");
    }

    let fault = |section: FlowLabelsSection| FlowLabelRules::new(&names, &section).unwrap_err();
    let with_offset = FlowLabelsSection { utc_offset: Some("+01:00".to_owned()), ..section.clone() };
    assert!(fault(with_offset).contains("has no effect with"));
    let without = FlowLabelsSection { columns: None, ..section.clone() };
    assert!(fault(without).contains("name its columns"));
    let iso =
        FlowLabelsSection { time: Some("iso".to_owned()), utc_offset: Some("+01:00".to_owned()), ..section.clone() };
    assert!(fault(iso).contains("known: netflow, iso8601, epoch_seconds"));
    let half =
        FlowLabelsSection { columns: Some(FlowLabelColumns { label: Some("l".to_owned()), ..columns() }), ..section };
    assert!(fault(half).contains("belong together"));
}

#[test]
fn what_is_wrong_with_a_line_is_said_with_its_text_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let rules = rules("From-Botnet", "+02:00");
    let text = HEADER.to_owned()
        + "2011-08-10 09:46:53,2.0,tcp,10.0.0.1,1000,->,10.0.0.2,80,S,From-Botnet\n\
           1970/01/01 02:00:10,long,tcp,10.0.0.1,1000,->,10.0.0.2,80,S,From-Botnet\n\
           1970/01/01 02:00:10,1,tcp,010.000.000.001,1000,->,10.0.0.2,80,S,From-Botnet\n\
           1970/01/01 02:00:10,1,tcp,10.0.0.1,1000,->,10.0.0.2,http,S,From-Botnet\n\
           1970/01/01 02:00:10,-0.5,rtp,10.0.0.1,0x03e8,->,10.0.0.2,80.0,S,From-Botnet\n";
    let path = written(folder.path(), &text);
    let mut join = FlowLabelJoin::open(&path, &rules, "a.pcap", Order::Any).unwrap();
    let told = join.malformed().to_string();
    for part in [
        "4 lines could not be parsed",
        "line 2: its start is not a time, `2011-08-10 09:46:53` (expected 2011/08/10 09:46:53",
        "line 3: its duration is not a number of seconds, `long`",
        "line 4: its source is not an address, `010.000.000.001`",
        "line 5: its destination port is not a number, `http`",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let mut udp = flow("10.0.0.1:1000", "10.0.0.2:80", 10 * SECOND, 11 * SECOND);
    udp.five_tuple.transport = etcbench_capture::Transport::Udp;
    assert_eq!(joined(&mut join, &[udp]), ["botnet"]);
}

#[test]
fn lines_of_unknown_protocols_are_counted_by_word() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = HEADER.to_owned();
    // Known others and a repeated header are passed over.
    for word in ["tcp", "quic", "icmp", "QUIC", "2", "Proto", "quic", "", "arp"] {
        let line = format!("1970/01/01 02:00:10,2,{word},10.0.0.1,1000,->,10.0.0.2,80,S,From-Botnet\n");
        text += if word == "Proto" { HEADER } else { &line };
    }
    let path = written(folder.path(), &text);
    let rules = rules("From-Botnet", "+02:00");
    for order in [Order::ByTime, Order::Any] {
        let mut join = FlowLabelJoin::open(&path, &rules, "a.pcap", order).unwrap();
        assert_eq!(joined(&mut join, &[flow("10.0.0.1:1000", "10.0.0.2:80", 10 * SECOND, 11 * SECOND)]), ["botnet"]);
        join.finish().unwrap();
        let told = "4 lines not used, since the protocol is unknown (`quic`: 2, ``: 1, `QUIC`: 1)";
        assert_eq!(join.unknown_protocols().to_string(), told);
        assert_eq!(join.malformed().count, 0);
    }
}

#[test]
fn files_that_are_none_are_told_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let rules = rules("From-Botnet", "+02:00");
    let fault = |text: &[u8]| {
        let path = folder.path().join("a.binetflow");
        std::fs::write(&path, text).unwrap();
        let error = FlowLabelJoin::open(&path, &rules, "a.pcap", Order::ByTime).map(|_| ()).unwrap_err();
        error.to_string()
    };
    assert!(fault(b"StartTime,Dur,Proto,SrcAdr,Sport,DstAddr,Dport,Label\n").contains("the most similar is `SrcAdr`"));
    assert!(fault(b"").contains("a.binetflow:1: the header line is missing"));
    assert!(fault(b"\xff\xfe\x00").contains("not UTF-8"));
    assert!(fault(&vec![b'x'; 2 << 20]).contains("longer than 1 MiB"));
    // A line without a terminator is skipped in bounded memory and reported.
    let mut text = HEADER.as_bytes().to_vec();
    text.extend(std::iter::repeat_n(b'y', 3 << 20));
    text.extend(b"\n1970/01/01 02:00:10,2,tcp,10.0.0.1,1000,->,10.0.0.2,80,S,From-Botnet\n");
    let path = folder.path().join("b.binetflow");
    std::fs::write(&path, text).unwrap();
    let mut join = FlowLabelJoin::open(&path, &rules, "b.pcap", Order::ByTime).unwrap();
    assert_eq!(joined(&mut join, &[flow("10.0.0.1:1000", "10.0.0.2:80", 10 * SECOND, 11 * SECOND)]), ["botnet"]);
    assert_eq!(join.malformed().to_string(), "1 line could not be parsed (line 2: it is longer than 1 MiB)");
}

#[test]
fn published_files_of_every_variant_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ctu-binetflow");
    if !folder.is_dir() {
        eprintln!("skipped: {} is missing", folder.display());
        return;
    }
    let rules = rules("Malware", "+01:00");
    let counts: Vec<(usize, usize)> = ["test2-malicious", "test3-mixed", "test4-malicious", "test5-mixed"]
        .into_iter()
        .map(|name| {
            let path = folder.join(format!("{name}.binetflow"));
            let mut reader = reader::LabelReader::open(&path, &rules, "x.pcap").unwrap();
            let (mut lines, mut labelled) = (0, 0);
            while let Some(line) = reader.next_line().unwrap() {
                lines += 1;
                labelled += usize::from(line.labels != line::NO_LABELS);
            }
            (lines, labelled)
        })
        .collect();
    // Labels counted with awk, over the TCP and UDP lines.
    assert_eq!(counts[3].1, 277);
    assert_eq!((counts[0].1, counts[1].1, counts[2].1), (0, 0, 0));
    assert!(counts[0].0 > 6000 && counts[1].0 > 50 && counts[2].0 > 300, "{counts:?}");
}

#[test]
fn files_in_another_time_zone_say_which() {
    let folder = tempfile::tempdir().unwrap();
    let text = HEADER.to_owned()
        + "1970/01/01 02:00:10,2.0,tcp,10.0.0.1,1000,->,10.0.0.2,80,S,From-Botnet\n\
           1970/01/01 02:05:00,2.0,tcp,10.0.0.1,1001,->,10.0.0.2,80,S,From-Botnet\n\
           1970/01/01 02:05:30,2.0,tcp,10.0.0.1,1002,->,10.0.0.2,80,S,Background\n";
    let path = written(folder.path(), &text);
    let mut without = WithoutLine::default();
    for (port, start) in [(1000, 10), (1001, 300), (1002, 330)] {
        without.add(&flow("10.0.0.2:80", &format!("10.0.0.1:{port}"), start * SECOND, (start + 1) * SECOND));
    }
    let advice = |offset: &str| without.advice(&path, &rules("From-Botnet", offset), "a.pcap").unwrap();
    let told = advice("+00:00").unwrap();
    assert_eq!(
        told,
        "3 of its flows have a line that starts 7200 s later: set `utc_offset = \"+02:00\"` in [flow_labels]"
    );
    assert!(advice("+09:30").unwrap().contains("starts 27000 s earlier: set `utc_offset = \"+02:00\"`"));
    // No advice without an offset, or with one that is not a time-zone difference.
    assert_eq!(advice("+02:00"), None);
    let mut other = WithoutLine::default();
    for (port, start) in [(1000, 500), (1001, 1000), (1002, 4000)] {
        other.add(&flow("10.0.0.2:80", &format!("10.0.0.1:{port}"), start * SECOND, (start + 1) * SECOND));
    }
    assert_eq!(other.advice(&path, &rules("From-Botnet", "+02:00"), "a.pcap").unwrap(), None);
}
