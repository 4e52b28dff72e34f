//! Tamperings with captures and flows.

use super::{KNN, RANDOM, Tampering, columns, wrong_line};

pub(super) const TAMPERINGS: &[Tampering] = &[
    (
        "a capture in the manifest is another one",
        |t| {
            t.edit_json("manifests/many.json", |manifest| {
                manifest["entries"][0]["sha256"] = "0".repeat(64).into();
            });
        },
        &["manifests: manifests/many.json: mail-0.pcap: its SHA-256 differs between run.json and the manifest"],
    ),
    (
        "the manifest has a capture more",
        |t| {
            t.edit_json("manifests/many.json", |manifest| {
                let mut more = manifest["entries"][0].clone();
                (more["path"], more["name"]) = ("mail-9.pcap".into(), "mail-9.pcap".into());
                manifest["entries"].as_array_mut().unwrap().push(more);
            });
        },
        &["manifests: manifests/many.json: mail-9.pcap: is used in the manifest but not in run.json"],
    ),
    (
        "the manifest gives a capture another class",
        |t| {
            t.edit_json("manifests/many.json", |manifest| {
                manifest["entries"][0]["labels"]["kind"] = "web".into();
            });
        },
        &[
            "labels: flows/captures.csv: 10 flow(s) have a class other than in the manifest, the first: mail-0.pcap#0 is mail, but its capture web",
        ],
    ),
    (
        "a capture is of another class in all files",
        |t| {
            t.edit_json("manifests/many.json", |manifest| {
                manifest["entries"][0]["labels"]["kind"] = "web".into();
            });
            for name in [t.names(&["flows/"]), t.names(&["predictions/"])].concat() {
                let changed = |line: &str| {
                    let mut own = columns(line);
                    if own[0].starts_with("mail-0.pcap#") {
                        let place = if name.starts_with("flows/") { own.len() - 1 } else { 1 };
                        own[place] = "web".to_owned();
                    }
                    own.join(",") + "\n"
                };
                let text = t.text(&name).lines().map(changed).collect();
                t.set(&name, text);
            }
        },
        &["labels: manifests/many.json: mail-0.pcap has kind = web, but by the dataset's definition kind = mail"],
    ),
    (
        "a flow is there twice",
        |t| {
            t.edit("flows/random.csv", |text| format!("{text}{}\n", text.lines().nth(1).unwrap()));
        },
        &[
            "flows: flows/random.csv: 1 flow(s) are duplicated, the first mail-0.pcap#0",
            "has 81 flows, but 80 in run.json",
        ],
    ),
    (
        "a flow is in a split twice",
        |t| {
            t.edit(RANDOM, |text| format!("{text}{}\n", text.lines().last().unwrap()));
        },
        &["splits: splits/random-seed0.csv: ", "1 flow(s) are listed twice"],
    ),
    (
        "a flow that was predicted right is counted twice",
        |t| {
            t.edit(KNN, |text| {
                let line = text.lines().skip(1).find(|line| columns(line)[1] == columns(line)[2]).unwrap();
                format!("{text}{line}\n")
            });
        },
        &["predictions: predictions/random-knn-bytes-seed0.csv: 1 flow(s) are predicted twice"],
    ),
    (
        "a flow that was predicted wrong is left out",
        |t| {
            let name =
                t.names(&["predictions/random-"]).into_iter().find(|name| wrong_line(&t.text(name)).is_some()).unwrap();
            let wrong = wrong_line(&t.text(&name)).unwrap();
            t.retain_lines(&name, |line| line != wrong);
        },
        &["predictions: predictions/random-", "1 test flow(s) have no prediction"],
    ),
    (
        "a flow is of no capture",
        |t| t.replace_everywhere("web-3.pcap#9", "web-4.pcap#9"),
        &["flows: flows/captures.csv: 1 flow(s) belong to no capture of run.json, the first web-4.pcap#9"],
    ),
    (
        "a flow has a number that its capture has not",
        |t| t.replace_everywhere("web-3.pcap#9", "web-3.pcap#10"),
        &[
            "flows: flows/captures.csv: 1 flow(s) have numbers beyond the number of flows of their captures, the first web-3.pcap#10",
        ],
    ),
    (
        "flows of a capture are left out",
        |t| t.edit_json("run.json", |run| run["captures"][0]["flows"] = 12.into()),
        &[
            "flows: flows/captures.csv: 2 flow(s) of class mail of those that the selection keeps are missing, the first mail-0.pcap#10",
        ],
    ),
    (
        "a capture has more flows than any",
        |t| t.edit_json("run.json", |run| run["captures"][0]["flows"] = 4_000_000_000_u64.into()),
        &["flows: flows/captures.csv: has 40 flows of class mail, but its captures have 4000000030"],
    ),
    (
        "a flow has other endpoints in a split",
        |t| t.replace(RANDOM, "10.0.0.2:53,udp", "10.0.0.3:53,udp"),
        &["1 flow(s) have different endpoints or start times"],
    ),
    (
        "flows have other times",
        |t| {
            t.edit("flows/random.csv", |text| text.replacen("udp,9000000000,", "udp,8999999999,", 1));
        },
        &["flow(s) have different endpoints or start times"],
    ),
];
