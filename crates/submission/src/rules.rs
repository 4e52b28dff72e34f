//! The rules of the benchmark that a bundle is held to, said once: the check names them in its findings, and the table in
//! `leaderboard/RULES.md` is made from here.

use std::fmt;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its name in findings.
    pub name: &'static str,
    /// What is asked.
    pub asks: &'static str,
    /// How a bundle alone shows it.
    pub shown_by: &'static str,
}

/// The rules, in the order in which they are checked.
pub const RULES: [Rule; 19] = [
    Rule {
        name: "files",
        asks: "A bundle is the files of its index, and nothing else.",
        shown_by: "Sizes and SHA-256 of all files; the digits in the bundle's name against its identity; the files of one run \
                   by their names.",
    },
    Rule {
        name: "format",
        asks: "Every file is what its name says.",
        shown_by: "Reading each in full; unknown keys, columns and metrics are refused.",
    },
    Rule {
        name: "experiment",
        asks: "All is of one experiment, which is published whole.",
        shown_by: "Name, datasets, size and seeds of `experiment.toml`, `run.json` and every record.",
    },
    Rule {
        name: "seeds",
        asks: "Seeds are 0, 1, 2, ... without a gap, and no fewer than the experiment of that name in etcbench states: none is \
               dropped and none chosen.",
        shown_by: "The seeds of the experiment, of splits, predictions and records; etcbench's own experiment of the name, \
                   dataset and size.",
    },
    Rule {
        name: "manifests",
        asks: "The data is that of the manifests.",
        shown_by: "The SHA-256 of each manifest in `run.json`; every capture of the run with its SHA-256 in a manifest, and \
                   every used capture of a manifest in the run.",
    },
    Rule {
        name: "classes",
        asks: "The classes are those that the experiment lists, in its order; what is left out is said, and allowed.",
        shown_by: "`[selection]` against `run.json`, the flows and every file of predictions.",
    },
    Rule {
        name: "flows",
        asks: "No flow is there twice, and each is of a capture of the data and within its flows.",
        shown_by: "Ids of the flows against the captures of `run.json` and their numbers of flows; the counts of flows.",
    },
    Rule {
        name: "labels",
        asks: "Each flow has the class that the data gives it.",
        shown_by: "The labels of its capture in the manifest, where captures have the labels, and of those what the dataset's \
                   definition gives, where it is the one here.",
    },
    Rule {
        name: "splits",
        asks: "Flows are divided by the method that is stated, with the seeds that are stated.",
        shown_by: "Drawing every split again from flows, classes, method and seed: every flow is in the same part. (Of \
                   `method = \"file\"` that cannot be had.)",
    },
    Rule {
        name: "separation",
        asks: "No tested flow is trained or validated on; of grouped splits no group is tested and trained on; of folds every \
               flow is tested once.",
        shown_by: "The parts of every split.",
    },
    Rule {
        name: "fits",
        asks: "Every model is fitted on every split: failures are shown, and no result is left out or picked.",
        shown_by: "Predictions and records of every variant, seed, fold, model and input, and no other.",
    },
    Rule {
        name: "predictions",
        asks: "There is one prediction per tested flow, and it is the likeliest class.",
        shown_by: "Ids and classes against the split; probabilities that are distributions; the class of the highest.",
    },
    Rule {
        name: "budget",
        asks: "Every model is tuned with the same budget, on the validation part, and the best setting is taken.",
        shown_by: "The settings tried against those of `[tune]`, their scores, and the one chosen.",
    },
    Rule {
        name: "records",
        asks: "Every metric is that of the predictions.",
        shown_by: "Computing every record again, bootstrap intervals included, and comparing all digits.",
    },
    Rule {
        name: "costs",
        asks: "Times, rates and sizes agree with one another.",
        shown_by: "Costs in `run.json` against those of the records; rates against times; the stage of a fit against the fit.",
    },
    Rule {
        name: "comparisons",
        asks: "Tests of difference are those of the predictions.",
        shown_by: "Making every test again.",
    },
    Rule {
        name: "leaks",
        asks: "What a split gives away is told.",
        shown_by: "Shared captures, hosts, connections and times, captures per class, and the score of the most frequent \
                 one, computed again \
                   from the flows; what needs the captures is not.",
    },
    Rule {
        name: "tables",
        asks: "Tables and model cards are those of the records and the run.",
        shown_by: "Making all of them again and comparing every byte.",
    },
    Rule {
        name: "rerun",
        asks: "Whoever has the data and the programs gets the same.",
        shown_by: "On request (`--rerun`): running it again, and holding the manifests and, within tolerances, accuracy and macro \
                   F1 of every row against it.",
    },
];

/// Something that is not as a rule asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule, one of [`RULES`].
    pub rule: &'static str,
    /// The file, or what of the run.
    pub place: String,
    /// What is wrong.
    pub problem: String,
}

impl Finding {
    pub(super) fn new(rule: &'static str, place: impl Into<String>, problem: impl Into<String>) -> Self {
        debug_assert!(RULES.iter().any(|known| known.name == rule), "{rule} is no rule");
        Self { rule, place: place.into(), problem: problem.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A file from elsewhere can have anything in a name.
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(formatter, "{}: {}: {}", self.rule, line(&self.place), line(&self.problem))
    }
}

/// The rules as a table in Markdown.
pub fn rules_table() -> String {
    let mut table = String::from("| rule | what it asks | what shows it |\n|---|---|---|\n");
    for Rule { name, asks, shown_by } in RULES {
        table += &format!("| `{name}` | {asks} | {shown_by} |\n");
    }
    table
}
