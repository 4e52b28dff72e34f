//! Bundles of runs: what an honest run claims is found again whatever its settings were, and a bundle that was tampered with
//! is refused with the reason, although all hashes in it are right again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::common::external::{self, has_python};
use crate::common::{Project, every_stage, small_experiment, write_points};

/// The files of a bundle.
type Files = BTreeMap<String, Vec<u8>>;

const DATASET: &str = r#"
name = "many"
title = "Two classes, four captures each"
reference = "none"
label_columns = ["kind"]
[published_at]
url = "https://example.org/many"
how = "nothing to download"
[files]
patterns = ["*.pcap"]
[[rule]]
stem = "^(?<kind>[a-z]+)"
"#;

const PLAIN: &str = r#"
title = "Plain"
seeds = [0, 1, 2]
models = ["knn", "random_forest"]
[dataset]
names = ["many"]
[selection]
label = "kind"
classes = ["web", "mail"]
[feature]
packets = 1
bytes = 24
[model.knn]
input = ["bytes", "statistics"]
k = 3
[model.random_forest]
trees = 3
[variant.random.split]
method = "stratified"
train = 0.5
validation = 0.25
test = 0.25
[variant.captures.split]
method = "grouped"
train = 0.5
validation = 0.25
test = 0.25
"#;

/// Folds, and settings that are tried.
const TUNED: &str = r#"
title = "Tuned"
seeds = [0]
models = ["knn", "random_forest"]
[dataset]
names = ["many"]
[selection]
label = "kind"
[feature]
packets = 1
bytes = 24
[split]
method = "k_fold"
folds = 3
[tune]
search = "grid"
budget = 3
[tune.space.knn]
k = [1, 3, 9]
[model.knn]
k = 3
[model.random_forest]
trees = 3
[tune.space.random_forest]
trees = [1, 3]
"#;

fn project() -> Project {
    let project = every_stage::project();
    project.write("data/many.toml", DATASET);
    for capture in 0..4_u16 {
        for (class, length, port) in [("web", 60, 1000), ("mail", 61, 2000)] {
            let bytes = every_stage::capture(port + 20 * capture, length + capture % 2);
            project.write(&format!("data/many/{class}-{capture}.pcap"), bytes);
        }
    }
    project.write("experiments/plain.toml", PLAIN);
    project.write("experiments/tuned.toml", TUNED);
    project
}

/// The last line of standard error of a run says where its results are.
fn run(project: &Project, arguments: &[&str]) -> String {
    let output = project.done(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let folder = told.lines().rev().find_map(|line| Some(line.split_once("results in ")?.1.trim().to_owned()));
    folder.unwrap_or_else(|| panic!("{arguments:?} names no folder: {told}"))
}

fn pack(project: &Project, run: &str) -> PathBuf {
    let output = project.done(&["submission", "pack", run, "-o", "."]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    project.path(told.split_once(": ").unwrap_or_else(|| panic!("{told}")).0)
}

fn read(path: &Path) -> Files {
    let bytes = zstd::decode_all(fs::File::open(path).unwrap()).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (name, content)
    });
    entries.collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Writes files as a bundle with a right index, as anybody can.
fn write(path: &Path, files: &Files) {
    let mut files = files.clone();
    files.remove("bundle.json");
    let entry = |content: &Vec<u8>| serde_json::json!({ "bytes": content.len(), "sha256": sha256(content) });
    let entries: serde_json::Map<_, _> = files.iter().map(|(name, content)| (name.clone(), entry(content))).collect();
    let index = serde_json::json!({ "format": "etcbench-bundle-1", "files": entries });
    files.insert("bundle.json".to_owned(), serde_json::to_vec(&index).unwrap());
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in &files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    fs::write(path, zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap()).unwrap();
}

/// Exit code and standard output of a check.
fn check(project: &Project, bundle: &str) -> (Option<i32>, String) {
    let output = project.etcbench(&["submission", "check", bundle]);
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&told).into_owned())
}

/// A bundle's files that are changed.
struct Tampered(Files);

impl Tampered {
    fn text(&self, name: &str) -> String {
        let content = self.0.get(name).unwrap_or_else(|| panic!("{name} is not among {:?}", self.0.keys()));
        String::from_utf8(content.clone()).unwrap()
    }

    fn set(&mut self, name: &str, text: String) {
        self.0.insert(name.to_owned(), text.into_bytes());
    }

    /// Changes a file, which must change.
    fn edit(&mut self, name: &str, change: impl FnOnce(String) -> String) {
        let before = self.text(name);
        let after = change(before.clone());
        assert_ne!(before, after, "{name} is as it was");
        self.set(name, after);
    }

    fn replace(&mut self, name: &str, from: &str, to: &str) {
        self.edit(name, |text| text.replacen(from, to, 1));
    }

    fn edit_json(&mut self, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let mut value: serde_json::Value = serde_json::from_str(&self.text(name)).unwrap();
        change(&mut value);
        self.set(name, serde_json::to_string_pretty(&value).unwrap());
    }

    /// Keeps the lines of a file for which `kept` is true, and its header.
    fn retain_lines(&mut self, name: &str, kept: impl Fn(&str) -> bool) {
        self.edit(name, |text| {
            let lines = text.lines().enumerate().filter(|(number, line)| *number == 0 || kept(line));
            lines.map(|(_, line)| format!("{line}\n")).collect()
        });
    }

    /// Changes the last column of the first record that begins like one of a fit and has all of these words.
    fn edit_record(&mut self, words: &[&str], change: impl Fn(f64) -> f64) {
        self.edit("records.csv", |text| {
            let line = text.lines().find(|line| words.iter().all(|word| line.contains(word)));
            let line = line.unwrap_or_else(|| panic!("no record has {words:?}"));
            let (start, value) = line.rsplit_once(',').unwrap();
            text.replacen(line, &format!("{start},{}", change(value.parse().unwrap())), 1)
        });
    }

    /// All files whose names have these words.
    fn names(&self, words: &[&str]) -> Vec<String> {
        self.0.keys().filter(|name| words.iter().all(|word| name.contains(word))).cloned().collect()
    }

    /// Replaces in every text file.
    fn replace_everywhere(&mut self, from: &str, to: &str) {
        for name in self.0.keys().cloned().collect::<Vec<_>>() {
            let text = self.text(&name).replace(from, to);
            self.set(&name, text);
        }
    }

    /// Makes `run.json` name the manifests that are there.
    fn settle(&mut self) {
        let sums: Vec<(String, String)> = self
            .names(&["manifests/"])
            .into_iter()
            .map(|name| {
                let sum = sha256(&self.0[&name]);
                (name, sum)
            })
            .collect();
        self.edit_json_quietly("run.json", |run| {
            for manifest in run.get_mut("manifests").and_then(|all| all.as_array_mut()).into_iter().flatten() {
                let name = format!("manifests/{}.json", manifest["dataset"].as_str().unwrap());
                if let Some((_, sum)) = sums.iter().find(|(own, _)| *own == name) {
                    manifest["sha256"] = sum.as_str().into();
                }
            }
        });
    }

    /// As [`edit_json`](Self::edit_json), of a file that may be gone or broken.
    fn edit_json_quietly(&mut self, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
        if let Some(mut value) = self.0.get(name).and_then(|text| serde_json::from_slice(text).ok()) {
            change(&mut value);
            self.set(name, serde_json::to_string_pretty(&value).unwrap());
        }
    }
}

/// The columns of a line.
fn columns(line: &str) -> Vec<String> {
    line.split(',').map(str::to_owned).collect()
}

/// Puts the first flow of a part of a split into another part; gives its id.
fn move_flow(tampered: &mut Tampered, split: &str, from: &str, to: &str) -> String {
    let text = tampered.text(split);
    let line = text.lines().find(|line| line.ends_with(&format!(",{from}"))).unwrap().to_owned();
    tampered.replace(split, &line, &format!("{},{to}", line.rsplit_once(',').unwrap().0));
    line.split(',').next().unwrap().to_owned()
}

const RANDOM: &str = "splits/random-seed0.csv";
const KNN: &str = "predictions/random-knn-bytes-seed0.csv";

/// What is changed, and the reason for which the bundle is refused.
type Tampering = (&'static str, fn(&mut Tampered), &'static [&'static str]);

/// Of the plain run.
const PLAIN_TAMPERINGS: &[Tampering] = &[
    (
        "a predicted class is changed",
        |t| {
            t.edit(KNN, |text| {
                let line = text.lines().nth(1).unwrap();
                let mut own = columns(line);
                own[2] = if own[2] == "web" { "mail".into() } else { "web".into() };
                text.replacen(line, &own.join(","), 1)
            });
        },
        &["predictions: ", "the predicted class is not that of the highest probability"],
    ),
    (
        "a wrong prediction is made right, with its probabilities",
        |t| {
            let name =
                t.names(&["predictions/random-", "seed"]).into_iter().find(|name| wrong_line(&t.text(name)).is_some());
            let name = name.expect("some prediction is wrong");
            t.edit(&name, |text| {
                let line = wrong_line(&text).unwrap();
                let mut own = columns(&line);
                own.swap(3, 4);
                own[2] = own[1].clone();
                text.replacen(&line, &own.join(","), 1)
            });
        },
        &["records: records.csv: ", "accuracy (", " is claimed as ", ", and is "],
    ),
    (
        "probabilities are made a little surer",
        |t| {
            t.edit("predictions/random-random_forest-bytes-seed0.csv", |text| {
                let sharper = |line: &str| {
                    let mut own = columns(line);
                    let sure: f32 = own[3].parse().unwrap();
                    if (0.5..1.0).contains(&sure) {
                        (own[3], own[4]) = ((sure + 0.01).to_string(), (1.0 - sure - 0.01).to_string());
                    }
                    own.join(",") + "\n"
                };
                let (header, rest) = text.split_once('\n').unwrap();
                format!("{header}\n{}", rest.lines().map(sharper).collect::<String>())
            });
        },
        &["records: records.csv: ", "(random_forest on bytes, random, seed 0, fold 0) is claimed as"],
    ),
    (
        "a tested flow is put into the training part",
        |t| {
            let id = move_flow(t, RANDOM, "test", "train");
            for name in t.names(&["predictions/random-", "-seed0"]) {
                t.retain_lines(&name, |line| !line.starts_with(&format!("{id},")));
            }
        },
        &[
            "splits: splits/random-seed0.csv: 1 flow(s) are in another part than is drawn, the first: ",
            " is in train and drawn for test",
        ],
    ),
    (
        "a training flow is tested",
        |t| {
            move_flow(t, RANDOM, "train", "test");
        },
        &["is in test and drawn for train (method stratified, seed 0, fold 0)", "test flow(s) have no prediction"],
    ),
    (
        "a flow is put from training to validation",
        |t| {
            move_flow(t, RANDOM, "train", "validation");
        },
        &["is in validation and drawn for train"],
    ),
    (
        "a captured group is on both sides",
        |t| {
            move_flow(t, "splits/captures-seed1.csv", "test", "train");
        },
        &[
            "separation: splits/captures-seed1.csv: 1 capture(s) are tested and trained on, the first ",
            "splits: splits/captures-seed1.csv",
        ],
    ),
    (
        "random splits are called grouped",
        |t| {
            for seed in 0..3 {
                let random = t.text(&format!("splits/random-seed{seed}.csv"));
                t.set(&format!("splits/captures-seed{seed}.csv"), random);
            }
        },
        &["capture(s) are tested and trained on", "(method grouped, seed 2, fold 0)"],
    ),
    (
        "another method is stated",
        |t| t.replace("experiment.toml", "\"stratified\"", "\"temporal\""),
        &["(method temporal, seed 0, fold 0)"],
    ),
    (
        "another share is stated",
        |t| {
            t.edit("experiment.toml", |text| {
                text.replace("validation = 0.25", "validation = 0.2").replace("train = 0.5", "train = 0.55")
            })
        },
        &["flow(s) are in another part than is drawn"],
    ),
    (
        "a seed in the middle is dropped",
        |t| drop_seed(t, 1, "[0, 2]"),
        &["seeds: experiment.toml: the seeds are 0, 2; 2 seeds are 0, 1"],
    ),
    (
        "the last seed is dropped",
        |t| drop_seed(t, 2, "[0, 1]"),
        &["seeds: experiment.toml: there are 2 seeds, and plain on many at size full states 0, 1, 2"],
    ),
    (
        "the best of the seeds is published alone",
        |t| {
            drop_seed(t, 0, "[1, 2]");
            drop_seed(t, 2, "[1]");
        },
        &["seeds: experiment.toml: the seeds are 1; 1 seeds are 0"],
    ),
    (
        "a seed's results stand for another's",
        |t| {
            for name in t.names(&["-seed2.csv"]) {
                let other = t.text(&name);
                t.set(&name.replace("-seed2", "-seed1"), other);
            }
        },
        &["(method stratified, seed 1, fold 0)"],
    ),
    (
        "a seed is dropped from the files alone",
        |t| t.0.retain(|name, _| !name.contains("-seed2.csv")),
        &["seeds: splits/random-seed2.csv: is missing: there is no split of seed 2, fold 0"],
    ),
    (
        "classes change names in a file of predictions",
        |t| {
            t.edit(KNN, |text| {
                text.replacen("probability_web,probability_mail", "probability_mail,probability_web", 1)
            });
        },
        &[
            "classes: predictions/random-knn-bytes-seed0.csv: the classes are mail, web, and those of the flows web, mail",
        ],
    ),
    (
        "classes change names in all files of results",
        |t| {
            for name in t.names(&[".csv"]).into_iter().chain(t.names(&["run.json"])) {
                let swap = |text: String| {
                    let text = text.replace("web-", "\u{1}").replace("mail-", "\u{2}");
                    let text = text.replace("web", "\u{3}").replace("mail", "web").replace('\u{3}', "mail");
                    text.replace('\u{1}', "web-").replace('\u{2}', "mail-")
                };
                let text = swap(t.text(&name));
                t.set(&name, text);
            }
        },
        &[
            "classes: run.json: random: the classes are mail, web, and the experiment lists web, mail",
            "labels: flows/random.csv: ",
        ],
    ),
    (
        "a tested flow gets the class that was predicted",
        |t| {
            let name =
                t.names(&["predictions/random-"]).into_iter().find(|name| wrong_line(&t.text(name)).is_some()).unwrap();
            let own = columns(&wrong_line(&t.text(&name)).unwrap());
            let (id, from, to) = (format!("{},", own[0]), own[1].clone(), own[2].clone());
            for file in [t.names(&["predictions/"]), t.names(&["flows/"])].concat() {
                let changed = |line: &str| {
                    let mut own = columns(line);
                    let place = if file.starts_with("flows/") { own.len() - 1 } else { 1 };
                    if line.starts_with(&id) && own[place] == from {
                        own[place].clone_from(&to);
                    }
                    own.join(",") + "\n"
                };
                let text = t.text(&file).lines().map(changed).collect();
                t.set(&file, text);
            }
        },
        &["labels: flows/random.csv: 1 flow(s) have another class than the manifest gives, the first: "],
    ),
    (
        "a metric is edited",
        |t| t.edit_record(&[",random,knn,bytes,", "macro_f1,"], |value| value + 0.03),
        &["records: records.csv: macro_f1 (knn on bytes, random, seed 0, fold 0) is claimed as"],
    ),
    (
        "a bootstrap interval is made narrow",
        |t| t.edit_record(&["accuracy_bootstrap_low,"], |value| value + 0.001),
        &["records: records.csv: accuracy_bootstrap_low ("],
    ),
    (
        "a count of confusions is edited",
        |t| t.edit_record(&[",confusion,"], |value| value + 1.0),
        &["records: records.csv: confusion of web predicted as web ("],
    ),
    (
        "the number of training flows is edited",
        |t| t.edit_record(&[",training_flows,"], |value| value - 1.0),
        &["training_flows (knn on bytes, random, seed 0, fold 0) is claimed as 39, and is 40"],
    ),
    (
        "all accuracies are rounded up",
        |t| {
            t.edit("records.csv", |text| {
                let rounded = |line: &str| match line.rsplit_once(",accuracy,") {
                    Some((start, value)) => {
                        format!("{start},accuracy,{}\n", (value.parse::<f64>().unwrap() * 10.0).ceil() / 10.0)
                    }
                    None => format!("{line}\n"),
                };
                text.lines().map(rounded).collect()
            });
        },
        &["records: records.csv: accuracy ("],
    ),
    (
        "a number is rounded up in a table",
        |t| {
            let name = t.names(&["tables/plain.md"]).remove(0);
            t.edit(&name, |text| {
                let row = text.lines().find(|line| line.starts_with("| knn")).unwrap();
                let place = row.rfind("0.").unwrap();
                text.replacen(row, &format!("{}1.000{}", &row[..place], &row[place + 5..]), 1)
            });
        },
        &["tables: tables/plain.md: line ", ", and made again it is "],
    ),
    (
        "a record is left out",
        |t| t.retain_lines("records.csv", |line| !line.contains(",log_loss,")),
        &["records: records.csv: log_loss (knn on bytes, captures, seed 0, fold 0) is missing"],
    ),
    (
        "a record is added",
        |t| {
            t.edit("records.csv", |text| {
                let line = text.lines().find(|line| line.contains(",accuracy,")).unwrap();
                text.clone() + &line.replace(",accuracy,", ",earliness,") + "\n"
            });
        },
        &["records: records.csv: earliness (", "is claimed, and nothing of the bundle gives it"],
    ),
    (
        "a record is there twice",
        |t| {
            t.edit("records.csv", |text| {
                let line = text.lines().find(|line| line.contains(",macro_f1,")).unwrap();
                format!("{text}{line}\n")
            });
        },
        &["is claimed several times"],
    ),
    (
        "records are of another dataset",
        |t| t.edit("records.csv", |text| text.replace("plain,many,", "plain,iscxvpn2016,")),
        &["experiment: records.csv: has values of plain on iscxvpn2016, full; the run is of plain on many, full"],
    ),
    (
        "a capture in the manifest is another one",
        |t| {
            t.edit_json("manifests/many.json", |manifest| {
                manifest["entries"][0]["sha256"] = "0".repeat(64).into();
            });
        },
        &["manifests: manifests/many.json: mail-0.pcap: has another SHA-256 in run.json than in the manifest"],
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
        &["manifests: manifests/many.json: mail-9.pcap: is used in the manifest and not in run.json"],
    ),
    (
        "the manifest gives a capture another class",
        |t| {
            t.edit_json("manifests/many.json", |manifest| {
                manifest["entries"][0]["labels"]["kind"] = "web".into();
            });
        },
        &[
            "labels: flows/captures.csv: 10 flow(s) have another class than the manifest gives, the first: mail-0.pcap#0 is mail, and its capture web",
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
        &["labels: manifests/many.json: mail-0.pcap has kind = web, and by the dataset's definition kind = mail"],
    ),
    (
        "a flow is there twice",
        |t| {
            t.edit("flows/random.csv", |text| format!("{text}{}\n", text.lines().nth(1).unwrap()));
        },
        &[
            "flows: flows/random.csv: 1 flow(s) are there twice, the first mail-0.pcap#0",
            "has 81 flows, and run.json says 80",
        ],
    ),
    (
        "a flow is in a split twice",
        |t| {
            t.edit(RANDOM, |text| format!("{text}{}\n", text.lines().last().unwrap()));
        },
        &["splits: splits/random-seed0.csv: ", "1 flow(s) are named a second time"],
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
        &["flows: flows/captures.csv: 1 flow(s) are of no capture of run.json, the first web-4.pcap#9"],
    ),
    (
        "a flow has a number that its capture has not",
        |t| t.replace_everywhere("web-3.pcap#9", "web-3.pcap#10"),
        &[
            "flows: flows/captures.csv: 1 flow(s) have numbers beyond the flows of their captures, the first web-3.pcap#10",
        ],
    ),
    (
        "a flow has other endpoints in a split",
        |t| t.replace(RANDOM, "10.0.0.2:53,udp", "10.0.0.3:53,udp"),
        &["1 flow(s) have other endpoints or another start"],
    ),
    (
        "flows have other times",
        |t| {
            t.edit("flows/random.csv", |text| text.replacen("udp,9000000000,", "udp,8999999999,", 1));
        },
        &["flow(s) have other endpoints or another start"],
    ),
    (
        "the time of a fit is edited in the records",
        |t| t.edit_record(&[",fit_wall_seconds,"], |value| value / 10.0),
        &["costs: records.csv: fit_wall_seconds (knn on bytes, "],
    ),
    (
        "times are edited in all files, and rates are not",
        |t| {
            let mut wall = 0.0;
            t.edit_json("run.json", |run| {
                let predict = &mut run["fits"][0]["predict"]["wall_seconds"];
                wall = predict.as_f64().unwrap();
                *predict = (wall / 4.0).into();
            });
            t.edit("records.csv", |text| {
                text.replacen(
                    &format!("predict_wall_seconds,{wall}"),
                    &format!("predict_wall_seconds,{}", wall / 4.0),
                    1,
                )
            });
        },
        &["costs: records.csv: predict_flows_per_second ("],
    ),
    (
        "a fit takes less than its only stage",
        |t| {
            t.edit_json("run.json", |run| {
                run["fits"][0]["stages"] = serde_json::json!([{"stage": "fit", "wall_seconds": 9.5, "samples": 40}])
            });
        },
        &["costs: run.json: knn on bytes, random, seed 0, fold 0: its stage took 9.5 s, and the whole fit "],
    ),
    (
        "a p-value is edited",
        |t| {
            t.edit("comparisons.csv", |text| {
                let line = text.lines().nth(1).unwrap();
                let (start, _) = line.rsplit_once(',').unwrap();
                text.replacen(line, &format!("{start},0.001"), 1)
            });
        },
        &["comparisons: comparisons.csv: line 2 is ", ", and made again it is "],
    ),
    (
        "a comparison is left out",
        |t| t.edit("comparisons.csv", |text| text.lines().take(4).map(|line| format!("{line}\n")).collect()),
        &["comparisons: comparisons.csv: line 5 is nothing, and made again it is "],
    ),
    (
        "captures on both sides are not told",
        |t| {
            t.edit_json("leaks.json", |leaks| {
                for report in leaks.as_array_mut().unwrap() {
                    (report["shared"]["captures"], report["shared"]["capture_flows"]) = (0.into(), 0.into());
                }
            });
        },
        &["leaks: leaks.json: random, seed 0, fold 0: what training and test part share is not that of the split"],
    ),
    (
        "the score of the most frequent class is edited",
        |t| t.edit_json("leaks.json", |leaks| leaks[0]["majority_macro_f1"] = 0.1.into()),
        &["leaks: leaks.json: random, seed 0, fold 0: the most frequent class scores 0.1, and in the split 0.333"],
    ),
    (
        "a model is left out",
        |t| {
            t.0.retain(|name, _| !name.contains("-random_forest-"));
            t.retain_lines("records.csv", |line| !line.contains(",random_forest,"));
            t.edit_json("run.json", |run| {
                run["fits"].as_array_mut().unwrap().retain(|fit| fit["model"] != "random_forest")
            });
        },
        &["fits: run.json: there is neither a fit nor a failure of random_forest on bytes, captures, seed 0, fold 0"],
    ),
    (
        "a variant is left out",
        |t| {
            t.0.retain(|name, _| !name.contains("/captures"));
            t.retain_lines("records.csv", |line| !line.contains(",captures,"));
            t.edit_json("run.json", |run| {
                run["fits"].as_array_mut().unwrap().retain(|fit| fit["variant"] != "captures");
                run["variants"].as_array_mut().unwrap().retain(|variant| variant["name"] != "captures");
            });
        },
        &["experiment: run.json: variant captures of the experiment is not in it"],
    ),
    (
        "a class is said to be too small",
        |t| {
            t.edit_json("run.json", |run| {
                run["variants"][0]["small_classes"] = serde_json::json!([{"class": "chat", "flows": 1}]);
            });
        },
        &["classes: run.json: random: chat is left out as too small, and the experiment does not say"],
    ),
    (
        "a key of a model is edited",
        |t| t.replace("experiment.toml", "k = 3", "k = 1"),
        &["tables: cards.json: the card of knn is not that of run.json and experiment.toml"],
    ),
    (
        "a model's version is edited",
        |t| t.edit_json("cards.json", |cards| cards[0]["version"] = 99.into()),
        &["the card of knn is not that of"],
    ),
    (
        "the title is another",
        |t| t.replace("run.json", "\"Plain\"", "\"Plainer\""),
        &["experiment: run.json: is titled \"Plainer\""],
    ),
    (
        "a file is hidden in it",
        |t| t.set("notes/hidden.csv", "x\n".to_owned()),
        &["files: notes/hidden.csv: is no file of a bundle"],
    ),
    (
        "predictions are in it that nothing names",
        |t| {
            let more = t.text(KNN);
            t.set("predictions/random-knn-bytes-seed7.csv", more);
        },
        &["fits: predictions/random-knn-bytes-seed7.csv: is of no fit of run.json"],
    ),
    ("a file cannot be read", |t| t.set("run.json", "{}".to_owned()), &["format: run.json: missing field"]),
];

/// Of the run with folds and tuning.
const TUNED_TAMPERINGS: &[Tampering] = &[
    (
        "a flow is tested in two folds",
        |t| {
            let first = t.text("splits/default-seed0-fold0.csv");
            t.set("splits/default-seed0-fold1.csv", first);
        },
        &["separation: default: seed 0: ", " times in the folds, and not 1", "(method k_fold, seed 0, fold 1)"],
    ),
    (
        "a fold is left out",
        |t| {
            t.0.retain(|name, _| !name.contains("-fold2"));
            t.retain_lines("records.csv", |line| !line.contains(",0,2,"));
            t.edit_json("run.json", |run| run["fits"].as_array_mut().unwrap().retain(|fit| fit["fold"] != 2));
        },
        &["seeds: splits/default-seed0-fold2.csv: is missing: there is no split of seed 0, fold 2"],
    ),
    (
        "another setting is said to be chosen",
        |t| {
            t.edit_json("run.json", |run| {
                let own = run["fits"][0]["setting"].as_str().unwrap().to_owned();
                run["fits"][0]["setting"] = if own == "k = 1" { "k = 9" } else { "k = 1" }.into();
            });
        },
        &[
            "budget: knn on bytes, default, seed 0, fold 0: the setting chosen is k = ",
            ", and the best on the validation part is k = ",
        ],
    ),
    (
        "a setting is tried beyond the budget",
        |t| {
            t.edit("records.csv", |text| {
                let line =
                    text.lines().find(|line| line.contains("tuning_macro_f1") && line.contains(",k = 9,")).unwrap();
                format!("{text}{}\n", line.replace("k = 9", "k = 27"))
            });
        },
        &[
            "budget: knn on bytes, default, seed 0, fold 0: 4 settings were tried, and the experiment's are 3: k = 3; k = 1; k = 9",
        ],
    ),
    (
        "a setting that was tried is not told",
        |t| t.retain_lines("records.csv", |line| !(line.contains("tuning_macro_f1") && line.contains(",k = 9,"))),
        &["2 settings were tried, and the experiment's are 3"],
    ),
    (
        "one model has a larger space",
        |t| t.replace("experiment.toml", "trees = [1, 3]", "trees = [1, 3, 5]"),
        &["budget: random_forest on bytes, default, seed 0, fold 0: 2 settings were tried, and the experiment's are 3"],
    ),
];

/// The first line of a file of predictions whose class is not the one predicted.
fn wrong_line(text: &str) -> Option<String> {
    text.lines().skip(1).find(|line| columns(line)[1] != columns(line)[2]).map(str::to_owned)
}

/// Removes a seed from every file, and states the others.
fn drop_seed(tampered: &mut Tampered, seed: u64, left: &str) {
    let name = format!("-seed{seed}");
    tampered.0.retain(|file, _| !file.contains(&name));
    tampered.retain_lines("records.csv", |line| !line.contains(&format!(",fast,{seed},0,")));
    tampered.edit("experiment.toml", |text| {
        let line = text.lines().find(|line| line.starts_with("seeds = ")).unwrap();
        text.replacen(line, &format!("seeds = {left}"), 1)
    });
    let stated: serde_json::Value = serde_json::from_str(left).unwrap();
    tampered.edit_json("run.json", |run| {
        run["seeds"] = stated;
        run["fits"].as_array_mut().unwrap().retain(|fit| fit["seed"] != seed);
        for variant in run["variants"].as_array_mut().unwrap() {
            variant["shared_captures"].as_array_mut().unwrap().retain(|shared| shared["seed"] != seed);
        }
    });
    tampered.edit_json("leaks.json", |leaks| leaks.as_array_mut().unwrap().retain(|report| report["seed"] != seed));
}

#[test]
fn a_bundle_that_was_tampered_with_is_refused_with_the_reason() {
    let project = project();
    let (mut tried, mut failed) = (0, Vec::new());
    for (experiment, tamperings) in [("plain", PLAIN_TAMPERINGS), ("tuned", TUNED_TAMPERINGS)] {
        let folder = run(&project, &["run", experiment]);
        let honest = read(&pack(&project, &folder));
        write(&project.path("honest.etcbundle"), &honest);
        let (code, told) = check(&project, "honest.etcbundle");
        assert_eq!(code, Some(0), "{experiment}: {told}");
        for (what, change, reasons) in tamperings {
            let mut tampered = Tampered(honest.clone());
            change(&mut tampered);
            tampered.settle();
            write(&project.path("tampered.etcbundle"), &tampered.0);
            let (code, told) = check(&project, "tampered.etcbundle");
            let missing: Vec<_> = reasons.iter().filter(|reason| !told.contains(**reason)).collect();
            if code != Some(1) || !missing.is_empty() {
                failed.push(format!("{what}: {code:?}, {missing:?} is not in: {told}"));
            }
            tried += 1;
        }
    }
    assert!(failed.is_empty(), "{} of {tried}:\n{}", failed.len(), failed.join("\n"));
    assert!(tried >= 40, "{tried}");
}

/// Packs a run, twice to the same bytes, and expects nothing to be found in it.
#[track_caller]
fn passes(project: &Project, what: &str, arguments: &[&str]) -> PathBuf {
    let folder = run(project, arguments);
    passes_as_it_is(project, what, &folder)
}

#[track_caller]
fn passes_as_it_is(project: &Project, what: &str, run: &str) -> PathBuf {
    let bundle = pack(project, run);
    let first = fs::read(&bundle).unwrap();
    assert!(fs::read(pack(project, run)).unwrap() == first, "{what}: the same run is packed to other bytes");
    let name = bundle.file_name().unwrap().to_str().unwrap().to_owned();
    let (code, told) = check(project, &name);
    assert!(code == Some(0) && told.contains(": nothing found; identity "), "{what}: {told}");
    bundle
}

#[test]
fn bundles_of_all_kinds_of_settings_pass() {
    let project = project();
    let mut passed = 0;
    let mut passes = |what: &str, arguments: &[&str]| {
        passes(&project, what, arguments);
        passed += 1;
    };
    let plain = ["run", "plain"];
    let with = |more: &[&'static str]| [&plain[..], more].concat();
    passes("plain", &plain);
    passes("one thread", &with(&["--threads", "1", "--no-cache"]));
    passes("three threads and processes", &with(&["--threads", "3", "--jobs", "2", "--overwrite"]));
    passes("more seeds, saved models", &with(&["--seeds", "5", "--save-models"]));
    passes("one variant", &with(&["--variants", "captures"]));
    // One seed is enough to see what a key does.
    project.write("experiments/quick.toml", PLAIN.replace("[0, 1, 2]", "[0]"));
    let quick = |more: &[&'static str]| [&["run", "quick"][..], more].concat();
    passes("other packets", &quick(&["--set", "feature.packets=2", "--set", "selection.maximum_flows_per_class=30"]));
    passes("by time", &quick(&["--variants", "random", "--set", "split.method=temporal"]));
    passes("by connection", &quick(&["--variants", "captures", "--set", "split.group=connection"]));
    passes(
        "few examples",
        &quick(&["--set", "split.training_flows_per_class=7", "--set", "split.sampling=oversample"]),
    );
    passes("packets alone", &quick(&["--set", "selection.sample=packet", "--set", "model.knn.input=bytes"]));
    passes("pauses", &quick(&["--set", "flow.idle_timeout=0.5"]));
    passes(
        "directions",
        &quick(&["--set", "flow.direction=unidirectional", "--set", "selection.duplicates=drop_identical"]),
    );
    passes("folds and tuning", &["run", "tuned"]);
    passes(
        "grouped folds, repeated",
        &[
            "run",
            "tuned",
            "--set",
            "split.group=capture",
            "--set",
            "split.repeats=2",
            "--set",
            "split.few_groups=spread",
        ],
    );
    passes(
        "a random search",
        &["run", "tuned", "--set", "tune.search=random", "--set", "tune.budget=2", "--seeds", "2"],
    );
    passes("a ladder", &["ladder", "quick", "--folds", "2", "--rungs", "packets,captures"]);
    passes("a sweep", &["run", "quick", "--set", "sweep.feature.packets=[1, 2]", "--variants", "random"]);
    assert!(passed >= 16, "{passed}");
}

#[test]
fn bundles_of_all_kinds_of_data_and_models_pass() {
    let project = project();
    let mut passed = 0;
    let mut passes = |what: &str, arguments: &[&str]| {
        passes(&project, what, arguments);
        passed += 1;
    };
    project.write("experiments/deep.toml", deep(&["attention_lstm", "ensemble", "majority"]));
    passes("a deep model and a mean of models", &["run", "deep", "--device", "cpu"]);
    project.write("experiments/small.toml", every_stage::EXPERIMENT);
    passes("every stage", &["run", "small", "--device", "cpu"]);
    project.write("data/lone/chat-0.pcap", every_stage::capture(3000, 70));
    for name in ["web-0", "web-1", "mail-0", "mail-1"] {
        fs::copy(project.path(&format!("data/many/{name}.pcap")), project.path(&format!("data/lone/{name}.pcap")))
            .unwrap();
    }
    project.write("data/lone.toml", DATASET.replace("\"many\"", "\"lone\""));
    let left_out =
        "[split]\nmethod = \"grouped\"\ntrain = 0.4\nvalidation = 0.2\ntest = 0.4\nsmall_classes = \"leave_out\"\n";
    let small = small_experiment("lone", "kind", &["knn"], [1, 24]);
    let (small, _) = small.split_once("[split]").unwrap();
    project.write("experiments/lone.toml", format!("{small}{left_out}"));
    passes("a class that is left out", &["run", "lone"]);
    let two =
        small.replace("[\"lone\"]", "[\"many\", \"lone\"]").replace("kind\"", "kind\"\nclasses = [\"web\", \"mail\"]");
    project.write("experiments/two.toml", format!("{two}[split]\nmethod = \"dataset\"\ntest_datasets = [\"lone\"]\n"));
    passes("another dataset", &["run", "two"]);
    write_points(&project);
    let points = small_experiment("points", "kind", &["knn"], [1, 24]).replace("packets = 1\nbytes = 24\n", "");
    project.write("experiments/points.toml", points + "[model.knn]\ninput = \"statistics\"\n");
    passes("a feature file", &["run", "points"]);
    project.done(&["split", "plain", "--variants", "random", "-o", "split.csv"]);
    let (head, _) = PLAIN.split_once("[variant.random.split]").unwrap();
    project.write("experiments/given.toml", format!("{head}[split]\nmethod = \"file\"\npath = \"split.csv\"\n"));
    passes("a split file", &["run", "given"]);
    assert!(passed >= 6, "{passed}");
    // Flows that are published without captures.
    let published = crate::published::project();
    let folder = run(&published, &["run", "small", "--models", "knn,random_forest"]);
    passes_as_it_is(&published, "a published layout", &folder);
}

fn deep(models: &[&str]) -> String {
    small_experiment("many", "kind", models, [2, 24]).replace("seeds = [0]", "seeds = [0, 1]")
        + "[model.attention_lstm]\nlstm = 4\ndense = 4\nepochs = 2\nbatch = 8\n\
           elmo = { embedding = 4, hidden = 4, layers = 1, epochs = 1, batch = 8 }\n\
           [model.ensemble]\nof = [\"majority\", \"attention_lstm\"]\n"
}

#[test]
fn external_and_imported_models_pass_and_their_cards_say_what_they_are() {
    if !has_python() {
        return;
    }
    let project = external::project();
    let folder = run(&project, &["run", "points"]);
    let bundle = passes_as_it_is(&project, "external", &folder);
    let files = read(&bundle);
    let cards: serde_json::Value = serde_json::from_slice(&files["cards.json"]).unwrap();
    assert_eq!((&cards[0]["model"], &cards[0]["implementation"]), (&"faulty".into(), &"external".into()));
    let program = &cards[0]["program"];
    assert_eq!(program["digest"].as_str().unwrap().len(), 64, "{program}");
    assert!(program["versions"].as_str().unwrap().contains("Python") && program["run"][0] == "python3", "{program}");
    // Whoever checks need not have the model.
    let elsewhere = Project::new();
    fs::copy(&bundle, elsewhere.path("there.etcbundle")).unwrap();
    let (code, told) = check(&elsewhere, "there.etcbundle");
    assert_eq!(code, Some(0), "{told}");
    // A seed of it that is missing is.
    let mut tampered = Tampered(files);
    tampered.edit_json("run.json", |run| run["fits"].as_array_mut().unwrap().retain(|fit| fit["model"] != "faulty"));
    tampered.retain_lines("records.csv", |line| !line.contains(",faulty,"));
    tampered.0.retain(|name, _| !name.contains("-faulty-"));
    write(&elsewhere.path("there.etcbundle"), &tampered.0);
    let (code, told) = check(&elsewhere, "there.etcbundle");
    assert!(code == Some(1) && told.contains("fits: run.json: there is no fit of faulty"), "{told}");

    let predictions =
        fs::read_to_string(project.path(&format!("{folder}/predictions/default-majority-statistics-seed0.csv")))
            .unwrap();
    project.write("mine.csv", predictions);
    let folder = run(&project, &["import", "mine.csv", "--experiment", "points", "--model", "notebook"]);
    let files = read(&passes_as_it_is(&project, "imported", &folder));
    let cards: serde_json::Value = serde_json::from_slice(&files["cards.json"]).unwrap();
    assert_eq!((&cards[0]["model"], &cards[0]["version"]), (&"notebook".into(), &serde_json::Value::Null));
    assert!(cards[0]["notes"][0].as_str().unwrap().starts_with("imported: predicted elsewhere, SHA-256 of the file "));
}

#[test]
fn what_is_no_bundle_or_cannot_be_packed_is_refused() {
    let project = project();
    project.write("other.etcbundle", "no archive");
    project.refused(
        &["submission", "check", "other.etcbundle"],
        &["other.etcbundle: it is no bundle, which `etcbench submission pack`"],
    );
    project.refused(&["submission", "check", "missing.etcbundle"], &["missing.etcbundle: "]);
    let folder = run(&project, &["run", "plain", "--variants", "random", "--seeds", "3"]);
    let bundle = pack(&project, &folder);
    // The name holds the identity, which is told too.
    let name = bundle.file_name().unwrap().to_str().unwrap();
    let identity = sha256(&read(&bundle)["bundle.json"]);
    assert_eq!(name, format!("plain-many-full-{}.etcbundle", &identity[..16]));
    fs::copy(&bundle, project.path("plain-many-full-0123456789abcdef.etcbundle")).unwrap();
    let (code, told) = check(&project, "plain-many-full-0123456789abcdef.etcbundle");
    assert!(
        code == Some(1) && told.contains("is named 0123456789abcdef, and the content's identity begins with"),
        "{told}"
    );
    let cut = fs::read(&bundle).unwrap();
    project.write("cut.etcbundle", &cut[..cut.len() / 2]);
    project.refused(&["submission", "check", "cut.etcbundle"], &["cut.etcbundle: "]);
    let records = fs::read_to_string(project.path(&format!("{folder}/records.csv"))).unwrap();
    project.write(&format!("{folder}/records.csv"), records.replacen("0.", "1.", 1));
    project.refused(
        &["submission", "pack", &folder, "-o", "."],
        &["it is not as it was written, and is not packed: records.csv: was changed"],
    );
    project.write(&format!("{folder}/records.csv"), records);
    fs::remove_file(project.path(&format!("{folder}/flows/random.csv"))).unwrap();
    fs::remove_file(project.path(&format!("{folder}/SHA256SUMS"))).unwrap();
    project.refused(&["submission", "pack", &folder, "-o", "."], &["there are no flows/*.csv", "run it again"]);
}

#[test]
fn a_bundle_of_another_version_is_held_to_what_it_has() {
    let project = project();
    let folder = run(&project, &["run", "plain", "--variants", "random"]);
    let mut older = Tampered(read(&pack(&project, &folder)));
    older.edit_json("run.json", |run| run["provenance"]["version"] = "0.0.9".into());
    older.retain_lines("records.csv", |line| !line.contains(",log_loss,"));
    older.replace("tables/plain.md", "| knn", "| KNN");
    write(&project.path("older.etcbundle"), &older.0);
    let (code, told) = check(&project, "older.etcbundle");
    assert!(code == Some(0) && told.contains("it was made by etcbench 0.0.9, and this is "), "{told}");
    older.edit_record(&[",macro_f1,"], |value| value + 0.01);
    let mut first = true;
    older.edit("records.csv", |text| {
        let kept = text.lines().filter(|line| !line.contains(",balanced_accuracy,") || !std::mem::take(&mut first));
        kept.map(|line| format!("{line}\n")).collect()
    });
    write(&project.path("older.etcbundle"), &older.0);
    let (code, told) = check(&project, "older.etcbundle");
    assert!(code == Some(1) && told.contains("records: records.csv: macro_f1 ("), "{told}");
    assert!(told.contains("balanced_accuracy (knn on bytes, random, seed 0, fold 0) is missing"), "{told}");
}

#[test]
fn a_leaderboard_is_of_the_bundles_that_pass_and_is_the_same_bytes_again() {
    let project = project();
    let (plain, more) =
        (run(&project, &["run", "plain"]), run(&project, &["run", "plain", "--models", "decision_tree"]));
    let ladder = run(&project, &["ladder", "plain", "--folds", "3", "--rungs", "flows,captures"]);
    fs::create_dir(project.path("bundles")).unwrap();
    for run in [&plain, &more, &ladder] {
        let bundle = pack(&project, run);
        fs::rename(&bundle, project.path("bundles").join(bundle.file_name().unwrap())).unwrap();
    }
    let site = |folder: &str| -> (Option<i32>, String, String) {
        let output = project.etcbench(&["leaderboard", "bundles", "-o", folder]);
        let read = |name: &str| fs::read_to_string(project.path(&format!("{folder}/{name}"))).unwrap();
        (output.status.code(), read("index.html"), read("leaderboard.csv"))
    };
    let (code, page, table) = site("site");
    assert_eq!(code, Some(0));
    assert!(site("again") == (code, page.clone(), table.clone()), "the same bundles give other bytes");
    // Models of two bundles stand in one table, since they are of the same splits; each rung is a table of its own.
    let rows: Vec<BTreeMap<String, String>> =
        csv::Reader::from_reader(table.as_bytes()).deserialize().map(Result::unwrap).collect();
    let of = |experiment: &str, variant: &str| {
        let wanted = |row: &&BTreeMap<String, String>| row["experiment"] == experiment && row["variant"] == variant;
        rows.iter().filter(wanted).collect::<Vec<_>>()
    };
    let random = of("plain", "random");
    assert_eq!(random.len(), 4, "{table}");
    assert_eq!(random.iter().map(|row| &row["division"]).collect::<std::collections::BTreeSet<_>>().len(), 1);
    assert_eq!(random.iter().map(|row| &row["bundle"]).collect::<std::collections::BTreeSet<_>>().len(), 2);
    let score = |row: &BTreeMap<String, String>| row["macro_f1"].parse::<f64>().unwrap();
    assert!(random.is_sorted_by(|left, right| score(left) >= score(right)), "{table}");
    assert!(
        random.iter().all(|row| !row["mean_rank"].is_empty() && !row["interval_low"].is_empty() && row["fits"] == "3")
    );
    assert_eq!(of("plain-ladder", "captures-masked").len(), 3);
    for word in [
        "plain-ladder on many, full: captures",
        "critical difference",
        "Cost against score",
        "id=\"cards\"",
        "id=\"history\"",
    ] {
        assert!(page.contains(word), "{word}");
    }
    // A bundle in which something is found is named, and is no entry.
    let first = fs::read_dir(project.path("bundles")).unwrap().next().unwrap().unwrap().path();
    let mut tampered = Tampered(read(&first));
    tampered.edit_record(&[",macro_f1,"], |value| value + 0.01);
    write(&project.path("bundles/better.etcbundle"), &tampered.0);
    project.write("bundles/none.etcbundle", "no archive");
    let (code, page, refused) = site("site");
    assert!(code == Some(1) && refused == table);
    for word in
        ["<b>better.etcbundle</b>", "records: records.csv: macro_f1", "<b>none.etcbundle</b>", "it is no bundle"]
    {
        assert!(page.contains(word), "{word}");
    }
    project.refused(&["leaderboard", "data", "-o", "site"], &["data: there is no bundle (*.etcbundle) in it"]);
}

#[test]
fn a_bundle_is_run_again_where_its_data_is() {
    let project = project();
    let folder = run(&project, &["run", "plain"]);
    let bundle = pack(&project, &folder);
    let name = bundle.file_name().unwrap().to_str().unwrap().to_owned();
    let again = |name: &str| {
        let output = project.etcbench(&["submission", "check", "--rerun", name]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, told) = again(&name);
    assert!(code == Some(0) && told.contains("nothing found, and the same when it is run again"), "{told}");
    // Results of other settings, with all that follows from them: nothing but running it again shows it.
    let other = run(&project, &["run", "plain", "--set", "model.knn.k=25"]);
    let invented = project.path("results/invented");
    for path in every_stage::files(&project.path(&other)) {
        let target = invented.join(path.strip_prefix(project.path(&other)).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, target).unwrap();
    }
    fs::remove_file(invented.join("SHA256SUMS")).unwrap();
    let experiment = fs::read_to_string(invented.join("experiment.toml")).unwrap();
    assert!(experiment.contains("k = 25"), "{experiment}");
    fs::write(invented.join("experiment.toml"), experiment.replace("k = 25", "k = 3")).unwrap();
    let name = pack(&project, "invented").file_name().unwrap().to_str().unwrap().to_owned();
    let (code, told) = check(&project, &name);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = again(&name);
    assert!(
        code == Some(1) && told.contains("rerun: records.csv: accuracy of knn on bytes, random: is claimed as"),
        "{told}"
    );
    // Other data under the same name.
    project.write("data/many/web-0.pcap", every_stage::capture(7000, 66));
    let (code, told) = again(&name);
    assert!(
        code == Some(1) && told.contains("rerun: manifests/many.json: 1 difference(s) from the data here"),
        "{told}"
    );
}

#[test]
fn an_appendix_says_what_the_run_knows_and_nothing_else() {
    let project = project();
    let folder = run(&project, &["run", "tuned"]);
    project.done(&["appendix", &folder, "-o", "appendix.md"]);
    let text = fs::read_to_string(project.path("appendix.md")).unwrap();
    for line in [
        "# Reproducibility: Tuned",
        "- **Experiment**: tuned on many, size full",
        "- **many: what it is**: Two classes, four captures each",
        "- **many: licence**: Unknown to the run",
        "- **Flows of default**: 80: mail 40; web 40",
        "- **Seeds**: 0",
        "- **knn: search**: {\"search\":\"grid\",\"budget\":3,\"space\":{\"k\":\\[1,3,9\\]}}",
        "- **Artifacts Available**: Unknown to the run; the author says it here.",
        "- **Broader impacts**: Unknown to the run; the author says it here.",
        "- **Weights**: Not saved with the run",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let latex = String::from_utf8(project.done(&["appendix", &folder, "--format", "latex", "-o", "-"]).stdout).unwrap();
    assert!(latex.starts_with("\\section{Reproducibility: Tuned}\n") && latex.contains("random\\_forest"), "{latex}");
    assert_eq!(latex.matches("\\begin{description}").count(), latex.matches("\\end{description}").count());
    // Both forms say the same.
    assert_eq!(latex.matches("\\item[").count(), text.matches("\n- **").count());
}

#[test]
fn the_rules_in_the_repository_are_those_that_are_checked() {
    let rules = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("leaderboard/RULES.md")).unwrap();
    assert!(
        rules.contains(&etcbench::submission::rules_table()),
        "leaderboard/RULES.md lacks\n{}",
        etcbench::submission::rules_table()
    );
    for rule in etcbench::submission::RULES {
        assert!(!rule.asks.is_empty() && rule.shown_by.trim_end_matches(')').ends_with('.'), "{}", rule.name);
    }
}
