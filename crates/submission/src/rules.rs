//! The rules of the benchmark for bundles: the check names them in its findings, and the table in
//! `leaderboard/RULES.md` is generated from here.

use std::fmt;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its name in findings.
    pub name: &'static str,
    /// The requirement.
    pub asks: &'static str,
    /// How the check verifies it from the bundle.
    pub shown_by: &'static str,
}

/// The rules, in the order in which they are checked.
pub const RULES: [Rule; 21] = [
    Rule {
        name: "files",
        asks: "A bundle contains exactly the files of its index.",
        shown_by: "Sizes and SHA-256 of all files; the digits in the bundle's name against its identity; the file \
                   names of one run.",
    },
    Rule {
        name: "format",
        asks: "Every file has the format that its name implies.",
        shown_by: "Reading each file in full; unknown keys, columns and metrics are refused.",
    },
    Rule {
        name: "experiment",
        asks: "Everything belongs to one experiment, which is included in full.",
        shown_by: "Name, datasets, size and seeds of `experiment.toml`, `run.json` and every record.",
    },
    Rule {
        name: "seeds",
        asks: "Seeds are 0, 1, 2, ... without a gap, and at least as many as etcbench's experiment of that name \
               states: none is dropped or chosen.",
        shown_by: "The seeds of the experiment, of splits, predictions and records; etcbench's own experiment of \
                   the name, dataset and size.",
    },
    Rule {
        name: "manifests",
        asks: "The data is that of the manifests.",
        shown_by: "The SHA-256 of each manifest in `run.json`; every capture of the run with its SHA-256 in a \
                   manifest, and every used capture of a manifest in the run.",
    },
    Rule {
        name: "classes",
        asks: "The classes are those that the experiment lists, in its order; left-out classes are stated and \
               allowed.",
        shown_by: "`[selection]` against `run.json`, the flows and every file of predictions.",
    },
    Rule {
        name: "flows",
        asks: "Flows are distinct, each belongs to a capture of the data and is within its flows, and they are those \
               that `[selection]` keeps.",
        shown_by: "Ids of the flows against the captures of `run.json` and their numbers of flows; the counts of \
                   flows; drawing the flows of each class again, if labels apply to captures and nothing else left \
                   out flows.",
    },
    Rule {
        name: "labels",
        asks: "Each flow has the class that the data assigns to it.",
        shown_by: "The labels of its capture in the manifest, if labels apply to captures, and these against the \
                   dataset's definition, if this project has the same one.",
    },
    Rule {
        name: "splits",
        asks: "Flows are split by the stated method with the stated seeds.",
        shown_by: "Drawing every split again from flows, classes, method and seed: every flow is in the same part. \
                   (Not possible for `method = \"file\"`; with `\"published\"` the parts are those of the captures in \
                   the manifest, if this project has the definition, else those of the first seed.)",
    },
    Rule {
        name: "separation",
        asks: "No tested flow is used for training or validation; no group of a grouped split is both tested and \
               trained on; every flow is tested once over the folds.",
        shown_by: "The parts of every split.",
    },
    Rule {
        name: "fits",
        asks: "Every model is fitted on every split: failures are shown, and no result is left out or picked.",
        shown_by: "Predictions and records of every variant, seed, fold, model and input, and no others.",
    },
    Rule {
        name: "predictions",
        asks: "There is one prediction per tested flow, and it is the most probable class.",
        shown_by: "Ids and classes against the split; probabilities that are distributions; the class with the \
                   highest one.",
    },
    Rule {
        name: "budget",
        asks: "Every model is tuned with the same budget, on the validation part, and the best setting is used.",
        shown_by: "The settings tried against those of `[tune]`, their scores, and the one chosen.",
    },
    Rule {
        name: "records",
        asks: "Every metric follows from the predictions.",
        shown_by: "Recomputing every record, including bootstrap intervals, and comparing all digits.",
    },
    Rule {
        name: "costs",
        asks: "Times, rates and sizes are consistent.",
        shown_by: "Costs in `run.json` against those of the records; rates against times; the stage of a fit \
                   against the fit.",
    },
    Rule {
        name: "comparisons",
        asks: "Tests of difference follow from the predictions.",
        shown_by: "Recomputing every test.",
    },
    Rule {
        name: "evaluation",
        asks: "Every measurement under a condition of `[evaluation]` follows from the answers.",
        shown_by: "The conditions of every model against `[evaluation]`; the flows of every answer and their classes \
                   against the split; recomputing `evaluation.csv` and comparing every byte; times to wait against \
                   the durations of flows.",
    },
    Rule {
        name: "leaks",
        asks: "The leaks of every split are reported.",
        shown_by: "Shared captures, hosts, connections and times, captures per class, and the score of the most \
                   frequent class, recomputed from the flows; not what needs the captures.",
    },
    Rule {
        name: "tables",
        asks: "Tables and model cards follow from the records and the run.",
        shown_by: "Generating all of them again and comparing every byte.",
    },
    Rule {
        name: "licences",
        asks: "The licences of data and code are those that definitions and models state.",
        shown_by: "`data.json` against the datasets' definitions, if this project has the same ones; `cards.json` \
                   against the models of `run.json`. Licences of weights, and of imported models, are as the bundle \
                   states.",
    },
    Rule {
        name: "rerun",
        asks: "Anyone with the data and the programs gets the same results.",
        shown_by: "On request (`--rerun`): running the experiment again and comparing the manifests and, within \
                   tolerances, accuracy and macro F1 of every row.",
    },
];

/// A violation of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule, one of [`RULES`].
    pub rule: &'static str,
    /// The file, or the part of the run.
    pub place: String,
    /// Description of the problem.
    pub problem: String,
}

impl Finding {
    pub(super) fn new(rule: &'static str, place: impl Into<String>, problem: impl Into<String>) -> Self {
        debug_assert!(RULES.iter().any(|known| known.name == rule), "{rule} is not a rule");
        Self { rule, place: place.into(), problem: problem.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names in untrusted files can contain any characters.
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(formatter, "{}: {}: {}", self.rule, line(&self.place), line(&self.problem))
    }
}

/// Returns the rules as a Markdown table.
pub fn rules_table() -> String {
    let mut table = String::from("| rule | requirement | how it is checked |\n|---|---|---|\n");
    for Rule { name, asks, shown_by } in RULES {
        table += &format!("| `{name}` | {asks} | {shown_by} |\n");
    }
    table
}
