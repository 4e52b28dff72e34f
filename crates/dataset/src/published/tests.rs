//! Compares every layout with what its publisher's own loader reads (reproduced by `tests/fixtures/published/make.py`),
//! using the definitions in `data/`, and checks the messages for malformed files.

use std::path::PathBuf;

use serde::Deserialize;

use super::*;
use crate::load::{Dataset, load};
use crate::{DatasetDefinition, DatasetError, definition_path, open_folder};
use etcbench_flow::{FlowOptions, PacketDirection, STATISTIC_NAMES};
use etcbench_storage::progress::Silent;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[derive(Deserialize)]
struct Golden {
    file: String,
    fields: Vec<String>,
    lengths: Vec<f64>,
    times: Vec<i64>,
    start: i64,
    tuple: Option<String>,
    bytes: Option<Vec<String>>,
    push: Option<Vec<u8>>,
}

fn golden() -> IndexMap<String, Vec<Golden>> {
    let text = std::fs::read_to_string(project().join("tests/fixtures/published/golden.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn fixture(name: &str) -> Dataset {
    let definition = DatasetDefinition::read(&definition_path(&project(), name)).unwrap();
    let folder = open_folder(&definition, &project().join("tests/fixtures/published").join(name)).unwrap();
    Dataset { definition, folder }
}

/// Converts a flow read from a capture to the same form as the others.
fn as_packets(mut flow: PublishedFlow) -> PublishedFlow {
    let Some(made) = flow.flow.take() else { return flow };
    let packet = |packet: &etcbench_flow::FlowPacket| SequencePacket {
        direction: packet.direction,
        timestamp: packet.timestamp,
        length: packet.wire_length,
        flags: 0,
        bytes: packet.bytes.clone(),
        offsets: (packet.layout.transport_offset, packet.layout.payload_offset),
    };
    let packets = made.packets.iter().map(packet).collect();
    PublishedFlow { five_tuple: Some(made.five_tuple), packets, ..flow }
}

#[test]
fn every_layout_gives_what_its_own_loader_reads() {
    let golden = golden();
    let mut layouts: Vec<&str> = Vec::new();
    for (name, expected) in &golden {
        let dataset = fixture(name);
        let layout = dataset.definition.published.as_ref().unwrap().layout;
        layouts.push(layout.name);
        let mut flows = Vec::new();
        for file in &dataset.folder.captures {
            let options = FlowOptions { kept_packets: 8, kept_bytes: 8, ..FlowOptions::default() };
            let damage = std::cell::RefCell::default();
            let published = PublishedFile { root: &dataset.folder.root, file, layout, options: &options, damage };
            let mut sink = |flow: PublishedFlow| {
                flows.push((file.path.clone(), as_packets(flow)));
                Ok(())
            };
            (layout.read)(&published, &mut sink).unwrap_or_else(|fault| panic!("{}: {fault}", file.path));
        }
        let mut expected: Vec<&Golden> = expected.iter().collect();
        expected.sort_by(|a, b| a.file.cmp(&b.file));
        assert_eq!(flows.len(), expected.len(), "{name}");
        for ((path, flow), expected) in flows.iter().zip(expected) {
            assert_eq!(path, &expected.file);
            let fields: Vec<&str> = flow.fields.iter().map(String::as_str).take(expected.fields.len()).collect();
            assert_eq!(fields, expected.fields, "{path}");
            let sign = |packet: &SequencePacket| if packet.direction == PacketDirection::Forward { 1.0 } else { -1.0 };
            // Packets without a length still have a direction.
            let lengths: Vec<f64> = flow.packets.iter().map(|packet| sign(packet) * f64::from(packet.length)).collect();
            assert_eq!(lengths, expected.lengths, "{path}");
            let start = flow.packets.first().map_or(0, |packet| packet.timestamp);
            for (packet, time) in flow.packets.iter().zip(&expected.times) {
                // Sums of seconds as 64-bit floats differ in the last nanoseconds.
                assert!((packet.timestamp - start - time).abs() <= 2, "{path}: {} {time}", packet.timestamp - start);
            }
            if layout.holds.times == HeldTimes::Absolute {
                assert!((start - expected.start).abs() <= 1, "{path}: {start} {}", expected.start);
            }
            if let Some(tuple) = &expected.tuple {
                let found = flow.five_tuple.unwrap();
                let (from, to) = (found.source, found.destination);
                let text = format!("{},{},{},{}", from.ip(), from.port(), to.ip(), to.port());
                assert!(tuple.starts_with(&text), "{tuple} {text}");
            }
            if let Some(bytes) = &expected.bytes {
                let first = |packet: &SequencePacket| hex::encode(&packet.bytes[..packet.bytes.len().min(8)]);
                let found: Vec<String> = flow.packets.iter().map(first).collect();
                assert_eq!(&found, bytes, "{path}");
            }
            if let Some(push) = &expected.push {
                let found: Vec<u8> = flow.packets.iter().map(|packet| packet.flags >> 3).collect();
                assert_eq!(&found, push, "{path}");
            }
        }
    }
    for layout in LAYOUTS {
        assert!(layouts.contains(&layout.name), "no fixture has layout {}", layout.name);
    }
}

#[test]
fn definitions_give_every_flow_its_labels() {
    let labels = |name: &str| {
        let dataset = fixture(name);
        let columns = dataset.definition.label_columns.clone();
        let loaded = load(&[dataset], &FlowOptions::default(), &Silent).unwrap();
        assert!(loaded.unlabelled.is_empty(), "{name}");
        let of = |flow: &crate::LabelledFlow| {
            assert_eq!(flow.flow.statistics.len(), STATISTIC_NAMES.len());
            columns.iter().map(|column| flow.labels[column].clone()).collect::<Vec<_>>().join(" ")
        };
        loaded.flows.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(
        labels("ucdavis-icdm19"),
        [
            "Youtube Retraining(human-triggered)",
            "Google Search Retraining(script-triggered)",
            "Google Doc pretraining",
            "Youtube pretraining"
        ]
    );
    assert_eq!(labels("mirage19"), ["com.spotify.music Nexus7", "background Nexus7"]);
    assert_eq!(labels("mirage22"), ["us.zoom.videomeetings VideoCall", "background Unknown"]);
    assert_eq!(
        labels("appclassnet"),
        ["0 test", "1 test", "0 train", "1 train", "2 train", "0 train", "1 train", "0 valid", "1 valid"]
    );
    assert_eq!(labels("wflib")[..4], ["0 CW", "1 CW", "0 CW", "2 CW"]);
    assert_eq!(labels("cesnet-quic22")[1], "spotify Music");
    assert_eq!(labels("utmobilenet21")[0], "dropbox Action-Specific Wild Test Data");
    assert_eq!(labels("yatc"), ["Chat test ISCXVPN2016", "Chat train ISCXVPN2016", "Voip train ISCXVPN2016"]);
    assert_eq!(labels("session-images"), ["0 t10k", "0 train", "1 train", "2 train"]);
    assert_eq!(labels("et-bert")[3..], ["0 train USTC-TFC", "3 train USTC-TFC", "1 train USTC-TFC"]);
    assert_eq!(labels("tcbench-ucdavis-icdm19")[2], "youtube retraining-human-triggered");
    assert_eq!(labels("pcapml"), ["facebook", "facebook", "google", "curl", "firefox", "firefox"]);
}

#[test]
fn names_and_parts_of_definitions_without_fixtures_are_those_of_their_publishers() {
    let definition = |name: &str| DatasetDefinition::read(&definition_path(&project(), name)).unwrap();
    let vnat = definition("vnat");
    for (name, expected) in [
        ("nonvpn_rdp_capture1.pcap", "nonvpn rdp command_and_control"),
        ("vpn_skype-chat_capture20.pcap", "vpn skype chat"),
        ("nonvpn_netflix_capture1.pcap", "nonvpn netflix streaming"),
        ("vpn_voip_capture2.pcap", "vpn voip voip"),
        ("vpn_sftp_newcapture1.pcap", "vpn sftp file_transfer"),
    ] {
        let labels = vnat.capture_labels(name).unwrap();
        let found = ["tunnel", "application", "category"].map(|column| labels[column].as_str()).join(" ");
        assert_eq!(found, expected);
    }
    // The same layout and files as ET-BERT's others.
    let root = project().join("tests/fixtures/published/et-bert/USTC-TFC");
    let definition = definition("cstnet-tls13");
    let folder = open_folder(&definition, &root).unwrap();
    let parts = definition.parts.clone().unwrap();
    let loaded = load(&[Dataset { definition, folder }], &FlowOptions::default(), &Silent).unwrap();
    let of = |flow: &crate::LabelledFlow| (flow.labels["website"].clone(), parts.part_of(&flow.labels));
    let found: Vec<_> = loaded.flows.iter().map(of).collect();
    let one = |part: &'static str| ["0", "3", "1"].map(|website| (website.to_owned(), Some(part)));
    assert_eq!(found, [one("test"), one("train")].concat());
}

#[test]
fn samples_of_pcapml_are_groups_and_mixed_ones_are_refused() {
    let loaded = load(&[fixture("pcapml")], &FlowOptions::default(), &Silent).unwrap();
    let groups: Vec<&str> = loaded.flows.iter().map(|flow| flow.provenance.capture.as_str()).collect();
    let (first, second) = ("handshakes.pcapng!18205618432581910911", "handshakes.pcapng!9003219589747928972");
    let [curl, firefox] = ["processes.pcapng!0", "processes.pcapng!1"];
    assert_eq!(groups, [first, first, second, curl, firefox, firefox]);
    let numbers: Vec<u32> = loaded.flows.iter().map(|flow| flow.provenance.number).collect();
    assert_eq!(numbers, [0, 1, 2, 0, 1, 2]);

    let path = project().join("tests/fixtures/published/pcapml/handshakes.pcapng");
    let whole = std::fs::read(path).unwrap();
    // Replaces the comment of the first packet.
    let first_comment = |comment: &str| {
        let old = b"18205618432581910911,facebook";
        assert_eq!(comment.len(), old.len());
        let place = whole.windows(old.len()).position(|window| window == old).unwrap();
        [&whole[..place], comment.as_bytes(), &whole[place + old.len()..]].concat()
    };
    let plain = std::fs::read(project().join("tests/fixtures/capture/plain.pcap")).unwrap();
    for (content, words) in [
        (
            first_comment(",8205618432581910911,facebook"),
            "packet 1: its comment `,8205618432581910911,facebook` names no sample",
        ),
        (
            first_comment("18205618432581910911,facebooc"),
            "packet 2: sample 18205618432581910911 is `facebook` here but `facebooc` from packet 1 on",
        ),
        (
            [&whole[..], &whole].concat(),
            "packet 12: sample 18205618432581910911 began before another one; sort the file by sample with `pcapml sort`",
        ),
        (plain, "none of its packets has a comment; pcapML writes `sampleID,label`"),
        (b"hello, world, hello, world".to_vec(), "not a pcap or pcapng capture"),
    ] {
        let result = broken("pcapml", "", &[("a.pcapng", content)]);
        match result {
            Ok(flows) => panic!("{words}: {} flows", flows.len()),
            Err(error) => assert!(error.to_string().contains(words), "{words} is not in {error}"),
        }
    }
}

#[test]
fn what_is_before_the_end_of_a_cut_pcapml_file_is_used_and_the_damage_reported() {
    let path = project().join("tests/fixtures/published/pcapml/handshakes.pcapng");
    let whole = std::fs::read(path).unwrap();
    let read = |content: &[u8]| loaded_of("pcapml", "", &[("a.pcapng", content.to_vec())]).unwrap();
    let (all, cut) = (read(&whole), read(&whole[..whole.len() - 3]));
    assert_eq!(all.captures[0].summary.damage, None);
    let damage = cut.captures[0].summary.damage.as_ref().unwrap();
    assert!(damage.problem.contains("the file ends inside a block"), "{damage}");
    let packets =
        |loaded: &crate::Loaded| -> Vec<usize> { loaded.flows.iter().map(|flow| flow.flow.packets.len()).collect() };
    // The last block is the last packet of the last sample.
    let mut expected = packets(&all);
    *expected.last_mut().unwrap() -= 1;
    assert_eq!(packets(&cut), expected);
    assert_eq!(cut.captures[0].summary.packets + 1, all.captures[0].summary.packets);
}

/// Returns the flows of a dataset that consists of files in one layout.
fn broken(layout: &str, rest: &str, files: &[(&str, Vec<u8>)]) -> Result<Vec<crate::LabelledFlow>, DatasetError> {
    Ok(loaded_of(layout, rest, files)?.flows)
}

/// Loads a dataset that consists of files in one layout.
fn loaded_of(layout: &str, rest: &str, files: &[(&str, Vec<u8>)]) -> Result<crate::Loaded, DatasetError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.toml");
    let text = format!(
        "name = \"made\"\ntitle = \"t\"\nreference = \"none\"\nlabel_columns = [\"kind\"]\n{rest}\n[published_at]\nurl = \"u\"\n\
         how = \"h\"\n[files]\npatterns = [\"**/*\"]\n[[rule]]\npath = \"\"\nlabels = {{ kind = \"all\" }}\n[published]\nlayout = \
         \"{layout}\"\n"
    );
    std::fs::write(&path, text).unwrap();
    let root = folder.path().join("made");
    std::fs::create_dir(&root).unwrap();
    for (name, content) in files {
        std::fs::write(root.join(name), content).unwrap();
    }
    let definition = DatasetDefinition::read(&path)?;
    let folder = open_folder(&definition, &root)?;
    load(&[Dataset { definition, folder }], &FlowOptions::default(), &Silent)
}

fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), values].concat()
}

#[test]
fn what_is_broken_is_told_with_its_place() {
    let told = |layout: &str, content: &str| {
        broken(layout, "", &[("a.txt", content.as_bytes().to_vec())]).unwrap_err().to_string()
    };
    let header =
        "frame.time,ip.src,ip.dst,ip.proto,tcp.srcport,tcp.dstport,tcp.len,udp.srcport,udp.dstport,udp.length\n";
    let row = "\"Apr 12, 2019 16:34:07.5 CDT\",10.0.0.1,10.0.0.2,6,1,2,3,,,\n";
    assert_eq!(broken("utmobilenet21", "", &[("a", format!("{header}{row}").into_bytes())]).unwrap().len(), 1);
    for (layout, content, words) in [
        ("ucdavis_icdm19", "", "a.txt: it contains no packets"),
        ("ucdavis_icdm19", "1\t0\t60\n", "a.txt: line 1: 3 tab-separated fields, expected 4"),
        ("ucdavis_icdm19", "1\t0\t60\t0\n2\t1\t60\t2\n", "line 2: `2` is not a valid direction (0 or 1)"),
        ("ucdavis_icdm19", "1\t0\t60.5\t0\n", "`60.5` is not a valid size in bytes"),
        ("ucdavis_icdm19", "x\t0\t60\t0\n", "`x` is not a valid time"),
        ("ucdavis_icdm19", "1\t1e99\t60\t0\n", "`1e99` is not a valid time"),
        ("mirage19", "[]", "line 1, column 1: invalid type: sequence, expected an object of flows"),
        ("mirage19", "{\"x\": {}}", "missing field `packet_data`"),
        (
            "mirage19",
            "{\"a,1,b,2,6\": {\"packet_data\": {\"packet_dir\": [], \"L4_payload_bytes\": [], \"iat\": []}, \"flow_metadata\": {}}}",
            "flow `a,1,b,2,6`: its key is not source,port,destination,port,protocol",
        ),
        (
            "mirage19",
            "{\"10.0.0.1,1,10.0.0.2,2,6\": {\"packet_data\": {\"packet_dir\": [0], \"L4_payload_bytes\": [], \"iat\": []}, \"flow_metadata\": {}}}",
            "1 directions, 0 lengths and 0 times; the counts must be equal",
        ),
        ("mirage19", "{\"10.0.0.1,1", "EOF while parsing"),
        ("tcbench", "PAR1", "a.txt: "),
        ("wflib", "PK", "a.txt: "),
        ("cesnet", "APP,ppi\nx,y\n", "line 1: column `PPI` is missing; the most similar is `ppi`"),
        ("cesnet", "APP,PPI\nx,\"[[0],[1]]\"\n", "line 2: `PPI`: 2 lists, expected 3 or 4"),
        ("cesnet", "APP,PPI\nx,\"[[0],[1],[1,2]]\"\n", "line 2: `PPI`: its lists have [1, 1, 2] values"),
        ("cesnet", "APP,PPI\nx,nan\n", "line 2: `PPI`: `nan` is not a list of lists of numbers"),
        ("cesnet", "APP,PPI\nx,\"[[0],[1],[5.5]]\"\n", "5.5 is not a length in bytes"),
        ("utmobilenet21", "frame.time\n", "line 1: column `ip.src` is missing"),
        ("utmobilenet21", &format!("{header}{}", row.replace("CDT", "PDT")), "is in time zone `PDT`; known are CDT"),
        (
            "utmobilenet21",
            &format!("{header}{}", row.replace("Apr", "apr")),
            "line 2: `apr 12, 2019 16:34:07.5 CDT` is not a time",
        ),
        ("utmobilenet21", &format!("{header}{}", row.replace(",1,2,", ",1,x,")), "`x` is not a port"),
    ] {
        let message = told(layout, content);
        assert!(message.contains(words), "{words} is not in {message}");
        assert!(message.contains("a.txt") && !message.contains('\n'), "{message}");
    }
    let unknown = broken("ucdavis_icdm", "", &[]).unwrap_err().to_string();
    assert!(
        unknown.contains("the most similar supported one is `ucdavis_icdm19` (supported: ucdavis_icdm19, mirage19,"),
        "{unknown}"
    );

    let values = npy("<i2", "(2, 2)", &[1, 0, 2, 0, 3, 0, 0, 0]);
    let labels = npy("|u1", "(2,)", &[5, 6]);
    let flows = broken("appclassnet", "", &[("a_x.npy", values.clone()), ("a_y.npy", labels.clone())]).unwrap();
    assert_eq!(flows.iter().map(|flow| flow.flow.packets.len()).collect::<Vec<_>>(), [2, 1]);
    for (x, y, words) in [
        (values.clone(), vec![], "a_x.npy: its labels are in a_y.npy: it is not a .npy array: it is too short"),
        (values.clone(), npy("|u1", "(1,)", &[5]), "a_x.npy: 2 rows of x and 1 labels"),
        (values.clone(), npy("|u1", "(2, 3)", &[5; 6]), "it has 3 values per row, expected 1"),
        (
            values.clone(),
            npy("<f4", "(2,)", &[0, 0, 192, 127, 0, 0, 192, 127]),
            "row 0: its label NaN is not an integer",
        ),
        (values[..values.len() - 1].to_vec(), labels.clone(), "it ends in row 1 of 2"),
        (
            npy("|O", "(2, 2)", &[]),
            labels.clone(),
            "a_x.npy: it contains pickled Python objects, which can run programs",
        ),
        (b"\x80\x03cos\nsystem\n.".to_vec(), labels.clone(), "a_x.npy: it is a pickle, which can run programs"),
        (b"\x89HDF\r\n\x1a\n".to_vec(), labels.clone(), "a_x.npy: it is an HDF5 file, which is not read"),
        (npy("<f2", "(2, 2)", &[]), labels.clone(), "its type is <f2"),
        (npy("<i2", "(2, 99999999)", &[]), labels.clone(), "its rows have more than"),
        (npy("<f4", "(2, 1)", &[0, 0, 192, 127, 0, 0, 192, 127]), labels.clone(), "row 0: NaN is not a length"),
        (b"hello, world".to_vec(), labels, "a_x.npy: it is not a .npy array"),
    ] {
        let error = broken("appclassnet", "", &[("a_x.npy", x), ("a_y.npy", y)]).unwrap_err().to_string();
        assert!(error.contains(words), "{words} is not in {error}");
    }
    let small =
        std::fs::read(project().join("tests/fixtures/published/session-images/train-images-idx3-ubyte")).unwrap();
    let labels = |count: u8| [&[0, 0, 8, 1, 0, 0, 0, count][..], &vec![1; usize::from(count)]].concat();
    for (images, labels, words) in [
        (small.clone(), labels(2), "its labels are in a-labels-idx1-ubyte: 2 labels for 3 images"),
        (small[..2000].to_vec(), labels(3), "image 2: it ends before the last of its 3"),
        (
            [&[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28][..], &[7; 784]].concat(),
            labels(1),
            "image 0: it does not start like a pcap",
        ),
        (b"\0\0\x0d\x01".to_vec(), labels(1), "it is not an idx file of bytes"),
        ([&[0, 0, 8, 3][..], &[255; 12]].concat(), labels(1), "its images have"),
        (small.clone(), Vec::new(), "its labels are in a-labels-idx1-ubyte: it is too short"),
    ] {
        let files = [("a-images-idx3-ubyte", images), ("a-labels-idx1-ubyte", labels)];
        let error = broken("session_images", "", &files).unwrap_err().to_string();
        assert!(error.contains(words), "{words} is not in {error}");
    }
    for (text, words) in [
        ("label\ttext\n", "line 1: the header lacks columns `label` and `text_a`"),
        ("label\ttext_a\n0\n", "line 2: 1 values"),
        ("label\ttext_a\n0\t4500 00zz\n", "line 2: `00zz` is not a word of four hexadecimal digits"),
    ] {
        let error = told("et_bert", text);
        assert!(error.contains(words), "{words} is not in {error}");
    }
    let image =
        std::fs::read(project().join("tests/fixtures/published/yatc/ISCXVPN2016_MFR/test/Chat/Chat-1.png")).unwrap();
    for (content, words) in
        [(image[..100].to_vec(), "it is not a PNG image, or it is damaged"), (b"GIF89a".to_vec(), "it is not a PNG")]
    {
        let error = broken("yatc", "", &[("a.png", content)]).unwrap_err().to_string();
        assert!(error.contains(words), "{words} is not in {error}");
    }
    let alone = broken("appclassnet", "", &[("a_x.npy", values)]).unwrap_err().to_string();
    assert!(alone.contains("its labels are in a_y.npy"), "{alone}");
}

#[test]
fn invented_times_are_not_read_and_classes_are_sampled_by_a_seed() {
    let text = "10\t0\t60\t0\n11\t1\t70\t1\n".as_bytes().to_vec();
    let flow = &broken("ucdavis_icdm19", "times = \"invented\"", &[("a.txt", text.clone())]).unwrap()[0].flow;
    assert_eq!((flow.start, flow.end, flow.packets[1].timestamp), (0, 0, 0));
    assert_eq!(broken("ucdavis_icdm19", "", &[("a.txt", text)]).unwrap()[0].flow.end, 11_000_000_000);

    let rows: String = (0..300).map(|row| format!("{},\"[[0],[1],[{row}]]\"\n", ["a", "b", "b"][row % 3])).collect();
    let folder = tempfile::tempdir().unwrap();
    let sample = |rest: &str| {
        let path = folder.path().join("made.toml");
        let text = format!(
            "name = \"made\"\ntitle = \"t\"\nreference = \"none\"\nlabel_columns = [\"kind\"]\n[published_at]\nurl = \"u\"\nhow = \
             \"h\"\n[files]\npatterns = [\"*.csv\"]\n[published]\nlayout = \"cesnet\"\nlabels = {{ kind = \"APP\" }}\n{rest}"
        );
        std::fs::write(&path, text).unwrap();
        std::fs::create_dir_all(folder.path().join("made")).unwrap();
        std::fs::write(folder.path().join("made/a.csv"), format!("APP,PPI\n{rows}")).unwrap();
        let definition = DatasetDefinition::read(&path).unwrap();
        let opened = open_folder(&definition, &folder.path().join("made")).unwrap();
        let loaded = load(&[Dataset { definition, folder: opened }], &FlowOptions::default(), &Silent).unwrap();
        let unused = loaded.captures[0].unused;
        let flows = loaded.flows;
        (flows.iter().map(|flow| (flow.labels["kind"].clone(), flow.provenance.number)).collect::<Vec<_>>(), unused)
    };
    assert_eq!(sample("").0.len(), 300);
    let (flows, unused) = sample("most_flows_per_class = 10");
    assert_eq!((flows.len(), unused), (20, 280));
    assert_eq!(flows.iter().filter(|(kind, _)| kind == "a").count(), 10);
    assert!(flows.iter().all(|(kind, number)| kind == ["a", "b", "b"][*number as usize % 3]));
    assert!(flows.is_sorted_by_key(|(_, number)| *number));
    // The sample spans the whole file and is reproducible; another seed selects other flows.
    assert!(flows.iter().any(|(_, number)| *number < 150) && flows.iter().any(|(_, number)| *number >= 150));
    assert_eq!(sample("most_flows_per_class = 10").0, flows);
    assert_ne!(sample("most_flows_per_class = 10\nsampling_seed = 1").0, flows);
}
