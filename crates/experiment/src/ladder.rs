//! The ladder: runs the same flows and models with one division of the data after another, from random packets to
//! another dataset, to show how much each step changes a score. A ladder is an experiment with generated variants: one
//! with and one without masks per rung. [`RUNGS`] is the table of rungs.
//!
//! Every rung except the last two is a k-fold cross-validation, so that every flow (capture, host) is tested once per
//! repetition and rungs differ only in what is kept together.

use serde::{Deserialize, Serialize};

use etcbench_feature::Mask;
use etcbench_storage::declarative;

/// Suffix of the name of an experiment whose ladder is run.
pub const LADDER: &str = "-ladder";

/// Suffix of the names of variants with masks.
const MASKED: &str = "-masked";

/// The division of the data on one step of the ladder.
#[derive(Debug)]
pub struct Rung {
    /// The name in experiment files, `--rungs`, variants and tables.
    pub name: &'static str,
    /// What is divided and how, for tables and figures.
    pub heading: &'static str,
    /// What the rung keeps together or excludes.
    pub about: &'static str,
    /// The rung from which its step starts.
    pub from: &'static str,
    /// Returns the keys of its variants.
    keys: fn(&LadderOptions) -> toml::Table,
}

/// The rungs in order.
pub const RUNGS: [Rung; 8] = [
    Rung {
        name: "packets",
        heading: "packets at random",
        about: "each packet is a sample; packets of one flow train and test",
        from: "",
        keys: |options| keys("packet", "keep", folds(options, None)),
    },
    Rung {
        name: "flows",
        heading: "flows at random",
        about: "a flow's packets stay together",
        from: "packets",
        keys: |options| keys("flow", "keep", folds(options, None)),
    },
    Rung {
        name: "distinct_flows",
        heading: "distinct flows at random",
        about: "of flows that differ in identifiers at most, one stays",
        from: "flows",
        keys: |options| keys("flow", "drop_near", folds(options, None)),
    },
    Rung {
        name: "connections",
        heading: "whole connections",
        about: "flows between the same endpoints, cut by timeouts, stay together",
        from: "flows",
        keys: |options| keys("flow", "keep", folds(options, Some("connection"))),
    },
    Rung {
        name: "captures",
        heading: "whole captures",
        about: "the flows of a capture stay together",
        from: "connections",
        keys: |options| keys("flow", "keep", folds(options, Some("capture"))),
    },
    Rung {
        name: "hosts",
        heading: "whole hosts",
        about: "the flows to a host stay together",
        from: "captures",
        keys: |options| keys("flow", "keep", folds(options, Some("host"))),
    },
    Rung {
        name: "time",
        heading: "by time",
        about: "the earliest flows of each class train, the latest test; one split",
        from: "flows",
        keys: |_| keys("flow", "keep", table([("method", "temporal".into())])),
    },
    Rung {
        name: "datasets",
        heading: "another dataset",
        about: "trained on some datasets, tested on others; one split",
        from: "captures",
        keys: |options| {
            let tested = options.test_datasets.iter().map(|name| toml::Value::from(name.as_str())).collect();
            let split = [("method", "dataset".into()), ("test_datasets", toml::Value::Array(tested))];
            keys("flow", "keep", table(split))
        },
    },
];

impl Rung {
    /// Returns the rung of a ladder's variant, and whether it is masked; `None` if the name belongs to no rung.
    pub fn of_variant(variant: &str) -> Option<(&'static Rung, bool)> {
        let (name, masked) = variant.strip_suffix(MASKED).map_or((variant, false), |name| (name, true));
        Some((RUNGS.iter().find(|rung| rung.name == name)?, masked))
    }

    /// Returns the rung from which the step to this one starts, among the available ones: its own, or else the nearest
    /// one before it.
    pub fn start(&self, present: &[&str]) -> Option<&'static Rung> {
        let stated = RUNGS.iter().find(|rung| rung.name == self.from && present.contains(&rung.name));
        let before = RUNGS.iter().take_while(|rung| rung.name != self.name);
        stated.or_else(|| before.filter(|rung| present.contains(&rung.name)).last())
    }

    fn named(name: &str) -> Result<&'static Rung, String> {
        let names: Vec<&str> = RUNGS.iter().map(|rung| rung.name).collect();
        RUNGS.iter().find(|rung| rung.name == name).ok_or_else(|| declarative::unknown("rung", name, &names))
    }
}

fn table<const N: usize>(keys: [(&str, toml::Value); N]) -> toml::Table {
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn folds(options: &LadderOptions, group: Option<&str>) -> toml::Table {
    let number = |count: usize| toml::Value::from(i64::try_from(count).unwrap_or(i64::MAX));
    let mut split =
        table([("method", "k_fold".into()), ("folds", number(options.folds)), ("repeats", number(options.repeats))]);
    if let Some(group) = group {
        split.extend(table([("group", group.into()), ("few_groups", "spread".into())]));
    }
    split
}

fn keys(sample: &str, duplicates: &str, mut split: toml::Table) -> toml::Table {
    split.insert("small_classes".to_owned(), "leave_out".into());
    let selection = table([("sample", sample.into()), ("duplicates", duplicates.into())]);
    table([("selection", selection.into()), ("split", split.into())])
}

/// `[ladder]` of an experiment: its rungs, and their repetitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LadderOptions {
    /// The rungs, by their names in [`RUNGS`]; by default all, but `datasets` only if `test_datasets` are given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<String>,
    /// Number of folds of a rung, at least 2; 5 by default.
    pub folds: usize,
    /// Number of times the flows are divided into folds; once by default.
    pub repeats: usize,
    /// The masks of the masked variants; all by default.
    pub masks: Vec<Mask>,
    /// The datasets for testing on the last rung.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test_datasets: Vec<String>,
}

impl Default for LadderOptions {
    fn default() -> Self {
        Self { rungs: Vec::new(), folds: 5, repeats: 1, masks: Mask::ALL.to_vec(), test_datasets: Vec::new() }
    }
}

/// Command-line overrides of a ladder; absent values keep those of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LadderOverrides {
    /// Rungs to use instead of the file's.
    pub rungs: Vec<String>,
    /// Number of folds to use instead of the file's.
    pub folds: Option<usize>,
    /// Number of repetitions to use instead of the file's.
    pub repeats: Option<usize>,
    /// Test datasets to use instead of the file's.
    pub test_datasets: Vec<String>,
}

impl LadderOptions {
    /// Applies the overrides and resolves the list of rungs.
    ///
    /// # Errors
    /// An unknown or duplicate rung, or `datasets` without a test dataset.
    pub(super) fn with(mut self, overrides: &LadderOverrides) -> Result<Self, String> {
        let LadderOverrides { rungs, folds, repeats, test_datasets } = overrides.clone();
        self.folds = folds.unwrap_or(self.folds);
        self.repeats = repeats.unwrap_or(self.repeats);
        if !rungs.is_empty() {
            self.rungs = rungs;
        }
        if !test_datasets.is_empty() {
            self.test_datasets = test_datasets;
        }
        if self.rungs.is_empty() {
            let all =
                RUNGS.iter().map(|rung| rung.name).filter(|name| *name != "datasets" || !self.test_datasets.is_empty());
            self.rungs = all.map(str::to_owned).collect();
        }
        for rung in &self.rungs {
            Rung::named(rung)?;
        }
        if let Some(rung) = declarative::first_repeated(&self.rungs) {
            return Err(format!("`rungs` lists {rung:?} twice; list each once"));
        }
        if self.rungs.iter().any(|rung| rung == "datasets") && self.test_datasets.is_empty() {
            return Err("rung `datasets` requires `test_datasets` (`--test-data NAME`) to test on".to_owned());
        }
        // Keep the order of the ladder, regardless of the order listed.
        self.rungs.sort_by_key(|name| RUNGS.iter().position(|rung| rung.name == name));
        Ok(self)
    }

    /// Returns the variants: for each rung one without and one with masks.
    pub(super) fn variants(&self) -> toml::Table {
        let mut variants = toml::Table::new();
        let masks = toml::Value::try_from(&self.masks).unwrap_or_else(|_| toml::Value::Array(Vec::new()));
        for rung in self.rungs.iter().filter_map(|name| Rung::named(name).ok()) {
            for (name, masks) in [
                (rung.name.to_owned(), toml::Value::Array(Vec::new())),
                (format!("{}{MASKED}", rung.name), masks.clone()),
            ] {
                let mut keys = (rung.keys)(self);
                keys.insert("feature".to_owned(), table([("masks", masks)]).into());
                variants.insert(name, keys.into());
            }
        }
        variants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_stand_in_the_order_of_the_ladder_and_lead_back_to_their_rungs() {
        let overrides =
            LadderOverrides { rungs: ["captures", "packets"].map(str::to_owned).to_vec(), ..Default::default() };
        let options = LadderOptions::default().with(&overrides).unwrap();
        let variants = options.variants();
        let names: Vec<&String> = variants.keys().collect();
        assert_eq!(names, ["packets", "packets-masked", "captures", "captures-masked"]);
        let (rung, masked) = Rung::of_variant("captures-masked").unwrap();
        assert_eq!((rung.name, masked), ("captures", true));
        assert!(Rung::of_variant("random_split").is_none());
        // Every step starts from an earlier rung.
        for (place, rung) in RUNGS.iter().enumerate() {
            let all: Vec<&str> = RUNGS.iter().map(|rung| rung.name).collect();
            let start = rung.start(&all).map(|start| RUNGS.iter().position(|other| other.name == start.name).unwrap());
            assert!(start.map_or(place == 0, |start| start < place), "{}", rung.name);
        }
        assert_eq!(RUNGS[4].start(&["packets", "flows", "captures"]).unwrap().name, "flows");
        assert_eq!(variants["packets"]["selection"]["sample"].as_str(), Some("packet"));
        assert_eq!(variants["captures"]["split"]["few_groups"].as_str(), Some("spread"));
        assert_eq!(variants["captures-masked"]["feature"]["masks"].as_array().map(Vec::len), Some(Mask::ALL.len()));
    }

    #[test]
    fn impossible_rungs_are_refused() {
        let with = |rungs: &[&str]| {
            let rungs = rungs.iter().map(|name| (*name).to_owned()).collect();
            LadderOptions::default().with(&LadderOverrides { rungs, ..Default::default() })
        };
        assert!(with(&["capture"]).unwrap_err().contains("did you mean `captures`"));
        assert!(with(&["time", "time"]).unwrap_err().contains("lists \"time\" twice"));
        assert!(with(&["datasets"]).unwrap_err().contains("--test-data NAME"));
        assert_eq!(with(&[]).unwrap().rungs.len(), 7);
    }
}
