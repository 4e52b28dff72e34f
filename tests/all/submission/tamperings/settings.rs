//! Tamperings with models, variants and settings, and files that do not belong to a bundle.

use super::{KNN, Tampering};

pub(super) const TAMPERINGS: &[Tampering] = &[
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

/// Tamperings with a run with folds and tuning: costs of decisions, folds, and the settings that were tried.
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
