//! Tamperings with answers under the conditions of `[evaluation]`, with licences, and with the flows that were drawn.

use super::{Tampered, Tampering, columns};

const ANSWERS: &str = "evaluation/default-knn-bytes-seed0.csv";

/// Changes a column of the first answer with this kind and condition.
fn edit_answer(tampered: &mut Tampered, start: &str, column: usize, change: impl Fn(&[String]) -> String) {
    tampered.edit(ANSWERS, |text| {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap();
        let mut parts = columns(line);
        parts[column] = change(&parts);
        text.replacen(line, &parts.join(","), 1)
    });
}

/// Multiplies the first measurement with these words, by which lines are known, by a factor, and adds one.
fn raise(tampered: &mut Tampered, words: &[&str], every: bool) {
    tampered.edit("evaluation.csv", |text| {
        let mut left = true;
        let raised = text.lines().map(|line| match words.iter().all(|word| line.contains(word)) && left {
            true => {
                left = every;
                let (start, value) = line.rsplit_once(',').unwrap();
                format!("{start},{}\n", value.parse::<f64>().unwrap() + 1.0)
            }
            false => format!("{line}\n"),
        });
        raised.collect()
    });
}

/// The other of the two known classes.
fn other(class: &str) -> String {
    if class == "web" { "mail" } else { "web" }.to_owned()
}

pub(super) const TAMPERINGS: &[Tampering] = &[
    (
        "a measurement under a condition is edited",
        |t| raise(t, &["masked,ports,", "macro_f1"], false),
        &["evaluation: evaluation.csv: line ", ", but recomputed default,knn,"],
    ),
    (
        "an answer under a condition is improved, with its probabilities",
        |t| {
            t.edit(ANSWERS, |text| {
                let is_wrong = |line: &&str| {
                    let parts = columns(line);
                    parts[0] == "zeroed_bytes" && parts[2] != parts[3]
                };
                // Whichever way: a right one is made wrong if none is wrong.
                let line = text.lines().skip(1).find(is_wrong);
                let line = line.or_else(|| text.lines().find(|line| line.starts_with("zeroed_bytes,"))).unwrap();
                let mut parts = columns(line);
                parts[3] = other(&parts[3]);
                let web = if parts[3] == "web" { ["1", "0"] } else { ["0", "1"] };
                parts[5..].clone_from_slice(&web.map(str::to_owned));
                text.replacen(line, &parts.join(","), 1)
            });
        },
        &["evaluation: evaluation.csv: line "],
    ),
    (
        "an answer is not the most probable class",
        |t| edit_answer(t, "masked,ports,", 3, |parts| other(&parts[3])),
        &[
            "evaluation: evaluation/default-knn-bytes-seed0.csv: masked ports: the class predicted for flow 1 does not have",
        ],
    ),
    (
        "probabilities of an answer are no distribution",
        |t| edit_answer(t, "masked,ports,", 5, |parts| (parts[5].parse::<f32>().unwrap() / 2.0 + 0.25).to_string()),
        &["evaluation/default-knn-bytes-seed0.csv: masked ports: the probabilities of flow 1 sum to "],
    ),
    (
        "a flow has another class in an answer",
        |t| edit_answer(t, "first_packets,2,", 2, |parts| other(&parts[2])),
        &["first_packets 2: flow 1 has another class than in the split"],
    ),
    (
        "a validation flow has another class in an answer",
        |t| edit_answer(t, "validation,", 2, |parts| other(&parts[2])),
        &["validation: flow 1 has another class than in the split"],
    ),
    (
        "a flow is left out of the answers",
        |t| {
            let text = t.text(ANSWERS);
            let line = text.lines().find(|line| line.starts_with("disturbed,drop 0.3,")).unwrap();
            t.replace(ANSWERS, &format!("{line}\n"), "");
        },
        &["disturbed drop 0.3: has ", " answers for "],
    ),
    (
        "a condition is left out",
        |t| {
            for name in t.names(&["evaluation/"]) {
                if t.text(&name).contains("\nmasked,") {
                    t.retain_lines(&name, |line| !line.starts_with("masked,"));
                }
            }
            t.retain_lines("evaluation.csv", |line| !line.contains(",masked,"));
        },
        &["the conditions are not those of the experiment: validation, unknown, first_packets 1, "],
    ),
    (
        "the answers of a fit are left out",
        |t| {
            t.0.remove(ANSWERS).unwrap();
            t.retain_lines("evaluation.csv", |line| !line.starts_with("default,knn,bytes,fast,0,"));
        },
        &["evaluation: evaluation/default-knn-bytes-seed0.csv: is missing"],
    ),
    (
        "answers are of no fit",
        |t| {
            let text = t.text(ANSWERS);
            t.set("evaluation/default-knn-bytes-seed7.csv", text);
        },
        &["evaluation: evaluation/default-knn-bytes-seed7.csv: belongs to no fit of run.json"],
    ),
    (
        "test flows look more certain among the answers",
        |t| {
            t.edit(ANSWERS, |text| {
                let line = text.lines().find(|line| line.starts_with("test,")).unwrap();
                let mut parts = columns(line);
                let sure = if parts[3] == "web" { ["0.9", "0.1"] } else { ["0.1", "0.9"] };
                parts[5..].clone_from_slice(&sure.map(str::to_owned));
                text.replacen(line, &parts.join(","), 1)
            });
        },
        &["test: the probabilities differ from the predictions"],
    ),
    (
        "packets arrive later than flows end",
        |t| raise(t, &["first_packets,4,", "median_wait_seconds"], true),
        &[
            "the median wait for 4 packets is 4 s, which is not between that for fewer packets, 2 s, and the median duration",
        ],
    ),
    (
        "one model waits for longer than another",
        |t| raise(t, &["default,knn,sequences,fast,0,", "first_packets,1,", "median_wait_seconds"], false),
        &["the wait for 1 packets differs from that of another model"],
    ),
    (
        "flows are said to have nothing to read",
        |t| raise(t, &["knn,bytes,fast,0,0,masked,ports,", "empty_flows"], false),
        &["masked ports: 1 flows are stated to have nothing to read, but not as many have equal probabilities"],
    ),
    (
        "an unknown flow is said to be near",
        |t| edit_answer(t, "unknown,", 4, |_| "0".to_owned()),
        &["evaluation: evaluation.csv: line "],
    ),
    (
        "unknown flows are of a known class",
        |t| edit_answer(t, "unknown,", 2, |_| "web".to_owned()),
        &["unknown: web is none of chat"],
    ),
    (
        "a model has another licence",
        |t| t.edit_json("cards.json", |cards| cards[0]["licence"]["code"] = "proprietary".into()),
        &["licences: cards.json: the licence of knn is stated as proprietary, but is MIT OR Apache-2.0"],
    ),
    (
        "the data has another licence",
        |t| t.edit_json("data.json", |data| data[0]["licence"] = "CC0-1.0".into()),
        &["licences: data.json: the licence of three is stated as CC0-1.0, but its definition states CC-BY-4.0"],
    ),
    (
        "the data has another title",
        |t| t.edit_json("data.json", |data| data[0]["title"] = "Everything".into()),
        &["licences: data.json: the card of three differs from its definition"],
    ),
    (
        "a flow that was drawn is replaced by one that was not",
        |t| {
            let flows = t.text("flows/default.csv");
            let is_in = |number: &usize| flows.contains(&format!("web-2.pcap#{number},"));
            let (own, free) = ((0..10).find(is_in).unwrap(), (0..10).find(|number| !is_in(number)).unwrap());
            t.replace_everywhere(&format!("web-2.pcap#{own},"), &format!("web-2.pcap#{free},"));
        },
        &[
            "flows: flows/default.csv: 1 flow(s) of class web are not among those that the selection keeps, the first web-2.pcap#",
        ],
    ),
];
