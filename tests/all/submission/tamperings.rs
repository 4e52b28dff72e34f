//! Tamperings with bundles, and the expected reasons for refusal. Hashes are updated after each.

use super::tampered::Tampered;

/// Splits a line into columns.
fn columns(line: &str) -> Vec<String> {
    line.split(',').map(str::to_owned).collect()
}

/// Moves the first flow of a part of a split to another part; returns its id.
fn move_flow(tampered: &mut Tampered, split: &str, from: &str, to: &str) -> String {
    let text = tampered.text(split);
    let line = text.lines().find(|line| line.ends_with(&format!(",{from}"))).unwrap().to_owned();
    tampered.replace(split, &line, &format!("{},{to}", line.rsplit_once(',').unwrap().0));
    line.split(',').next().unwrap().to_owned()
}

const RANDOM: &str = "splits/random-seed0.csv";
const KNN: &str = "predictions/random-knn-bytes-seed0.csv";

/// A description, the change, and the expected parts of the reason.
pub(super) type Tampering = (&'static str, fn(&mut Tampered), &'static [&'static str]);

/// Tamperings with the plain run.
pub(super) const PLAIN_TAMPERINGS: &[Tampering] = &[
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
        &["predictions: ", "the predicted class does not have the highest probability"],
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
        &["records: records.csv: ", "accuracy (", " is claimed as ", ", but is "],
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
            "splits: splits/random-seed0.csv: 1 flow(s) are in a different part than drawn, the first: ",
            " is in train but drawn for test",
        ],
    ),
    (
        "a training flow is tested",
        |t| {
            move_flow(t, RANDOM, "train", "test");
        },
        &["is in test but drawn for train (method stratified, seed 0, fold 0)", "test flow(s) have no prediction"],
    ),
    (
        "a flow is put from training to validation",
        |t| {
            move_flow(t, RANDOM, "train", "validation");
        },
        &["is in validation but drawn for train"],
    ),
    (
        "a captured group is on both sides",
        |t| {
            move_flow(t, "splits/captures-seed1.csv", "test", "train");
        },
        &[
            "separation: splits/captures-seed1.csv: 1 capture(s) are both tested and trained on, the first ",
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
        &["capture(s) are both tested and trained on", "(method grouped, seed 2, fold 0)"],
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
        &["flow(s) are in a different part than drawn"],
    ),
    (
        "a seed in the middle is dropped",
        |t| drop_seed(t, 1, "[0, 2]"),
        &["seeds: experiment.toml: the seeds are 0, 2; 2 seeds must be 0, 1"],
    ),
    (
        "the last seed is dropped",
        |t| drop_seed(t, 2, "[0, 1]"),
        &["seeds: experiment.toml: there are 2 seeds, but plain on many at size full states 0, 1, 2"],
    ),
    (
        "the best of the seeds is published alone",
        |t| {
            drop_seed(t, 0, "[1, 2]");
            drop_seed(t, 2, "[1]");
        },
        &["seeds: experiment.toml: the seeds are 1; 1 seeds must be 0"],
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
        &["seeds: splits/random-seed2.csv: is missing: no split of seed 2, fold 0"],
    ),
    (
        "classes change names in a file of predictions",
        |t| {
            t.edit(KNN, |text| {
                text.replacen("probability_web,probability_mail", "probability_mail,probability_web", 1)
            });
        },
        &[
            "classes: predictions/random-knn-bytes-seed0.csv: the classes are mail, web, but those of the flows web, mail",
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
            "classes: run.json: random: the classes are mail, web, but the experiment lists web, mail",
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
        &["labels: flows/random.csv: 1 flow(s) have a class other than in the manifest, the first: "],
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
        &["training_flows (knn on bytes, random, seed 0, fold 0) is claimed as 39, but is 40"],
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
        &["tables: tables/plain.md: line ", ", but recomputed "],
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
        &["records: records.csv: earliness (", "is claimed, but not derivable from the bundle"],
    ),
    (
        "a record is there twice",
        |t| {
            t.edit("records.csv", |text| {
                let line = text.lines().find(|line| line.contains(",macro_f1,")).unwrap();
                format!("{text}{line}\n")
            });
        },
        &["is claimed more than once"],
    ),
    (
        "records are of another dataset",
        |t| t.edit("records.csv", |text| text.replace("plain,many,", "plain,iscxvpn2016,")),
        &["experiment: records.csv: has values of plain on iscxvpn2016, full; the run is of plain on many, full"],
    ),
    (
        "the best score of run.json is a better one",
        |t| t.edit_json("run.json", |run| run["best"]["mean"] = 1.0.into()),
        &["records: run.json: the best score is stated as"],
    ),
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
        &["costs: run.json: knn on bytes, random, seed 0, fold 0: its stage took 9.5 s, but the whole fit "],
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
        &["comparisons: comparisons.csv: line 2 is ", ", but recomputed "],
    ),
    (
        "a comparison is left out",
        |t| t.edit("comparisons.csv", |text| text.lines().take(4).map(|line| format!("{line}\n")).collect()),
        &["comparisons: comparisons.csv: line 5 is nothing, but recomputed "],
    ),
    (
        "captures on both sides are not stated",
        |t| {
            t.edit_json("leaks.json", |leaks| {
                for report in leaks.as_array_mut().unwrap() {
                    (report["shared"]["captures"], report["shared"]["capture_flows"]) = (0.into(), 0.into());
                }
            });
        },
        &["leaks: leaks.json: random, seed 0, fold 0: what training and test part share differs from the split"],
    ),
    (
        "the score of the most frequent class is edited",
        |t| t.edit_json("leaks.json", |leaks| leaks[0]["majority_macro_f1"] = 0.1.into()),
        &["leaks: leaks.json: random, seed 0, fold 0: the most frequent class scores 0.1, but in the split 0.333"],
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
        &["fits: run.json: neither a fit nor a failure of random_forest on bytes, captures, seed 0, fold 0"],
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
        &["experiment: run.json: variant captures of the experiment is missing"],
    ),
    (
        "a class is said to be too small",
        |t| {
            t.edit_json("run.json", |run| {
                run["variants"][0]["small_classes"] = serde_json::json!([{"class": "chat", "flows": 1}]);
            });
        },
        &["classes: run.json: random: chat is left out as too small, but the experiment does not set"],
    ),
    (
        "a key of a model is edited",
        |t| t.replace("experiment.toml", "k = 3", "k = 1"),
        &["tables: cards.json: the card of knn differs from run.json and experiment.toml"],
    ),
    (
        "a model's version is edited",
        |t| t.edit_json("cards.json", |cards| cards[0]["version"] = 99.into()),
        &["the card of knn differs from"],
    ),
    (
        "the title is another",
        |t| t.replace("run.json", "\"Plain\"", "\"Plainer\""),
        &["experiment: run.json: is titled \"Plainer\""],
    ),
    (
        "a file is hidden in it",
        |t| t.set("notes/hidden.csv", "x\n".to_owned()),
        &["files: notes/hidden.csv: is not a file of a bundle"],
    ),
    (
        "predictions are in it that nothing names",
        |t| {
            let more = t.text(KNN);
            t.set("predictions/random-knn-bytes-seed7.csv", more);
        },
        &["fits: predictions/random-knn-bytes-seed7.csv: belongs to no fit of run.json"],
    ),
    ("a file cannot be read", |t| t.set("run.json", "{}".to_owned()), &["format: run.json: missing field"]),
];

/// Tamperings with the run with folds and tuning.
pub(super) const TUNED_TAMPERINGS: &[Tampering] = &[
    (
        "decisions come sooner than they did",
        |t| t.edit_record(&["knn,", "decision_1_tail_microseconds"], |_| 1e-6),
        &["costs: records.csv: knn on ", "their 99th percentile is below their median"],
    ),
    (
        "decisions cost nothing",
        |t| t.edit_record(&["random_forest,", "decision_1000_microseconds"], |_| 0.0),
        &["costs: records.csv: random_forest on ", "decisions take no time"],
    ),
    (
        "a flow is tested in two folds",
        |t| {
            let first = t.text("splits/default-seed0-fold0.csv");
            t.set("splits/default-seed0-fold1.csv", first);
        },
        &["separation: default: seed 0: ", " times in the folds instead of 1", "(method k_fold, seed 0, fold 1)"],
    ),
    (
        "a fold is left out",
        |t| {
            t.0.retain(|name, _| !name.contains("-fold2"));
            t.retain_lines("records.csv", |line| !line.contains(",0,2,"));
            t.edit_json("run.json", |run| run["fits"].as_array_mut().unwrap().retain(|fit| fit["fold"] != 2));
        },
        &["seeds: splits/default-seed0-fold2.csv: is missing: no split of seed 0, fold 2"],
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
            ", but the best on the validation part is k = ",
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
            "budget: knn on bytes, default, seed 0, fold 0: 4 settings were tried, but the experiment has 3: k = 3; k = 1; k = 9",
        ],
    ),
    (
        "a setting that was tried is not stated",
        |t| t.retain_lines("records.csv", |line| !(line.contains("tuning_macro_f1") && line.contains(",k = 9,"))),
        &["2 settings were tried, but the experiment has 3"],
    ),
    (
        "one model has a larger space",
        |t| t.replace("experiment.toml", "trees = [1, 3]", "trees = [1, 3, 5]"),
        &["budget: random_forest on bytes, default, seed 0, fold 0: 2 settings were tried, but the experiment has 3"],
    ),
];

/// Returns the first line of a file of predictions whose prediction is wrong.
fn wrong_line(text: &str) -> Option<String> {
    text.lines().skip(1).find(|line| columns(line)[1] != columns(line)[2]).map(str::to_owned)
}

/// Removes a seed from every file, and updates the stated seeds.
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
