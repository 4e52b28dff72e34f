//! Splits: divides flows into train, validation and test rows by labels, groups and a seed.
//!
//! Every method first sorts the flows by flow id, so that the order in which files were read does not matter.
//! [`SplitSummary`] reports what a split leaks: which captures and hosts are in two parts at once.

mod assignment;
mod datasets;
mod draw;
mod file;
mod flows_file;
mod grouped;
mod options;
mod published;
mod sampling;
mod small_classes;
mod stratified;
mod summary;

use serde::{Deserialize, Serialize};

pub use file::{read_split, read_splits, write_split, write_splits};
pub use flows_file::{read_flows, write_flows};
pub use grouped::group_of;
pub use options::{FewGroups, Fractions, GroupBy, SmallClasses, SplitMethod, SplitOptions};
pub use published::split_as_published;
pub use sampling::{Sampling, sample_training};
pub use small_classes::{SmallClass, leave_out_small_classes};
pub use summary::{SharedProvenance, SplitSummary};

use etcbench_dataset::FlowProvenance;
use etcbench_feature::FeatureSet;
use etcbench_storage::seed;

/// The purpose of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Fitting.
    Train,
    /// Early stopping only.
    Validation,
    /// Evaluation.
    Test,
}

impl Part {
    /// The parts in the order of [`Part`]'s values.
    pub const ALL: [Part; 3] = [Part::Train, Part::Validation, Part::Test];

    /// Returns the name used in split files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Validation => "validation",
            Part::Test => "test",
        }
    }
}

/// Rows of a feature set by part; each list is sorted, and no row is in two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Rows to fit on.
    pub train: Vec<usize>,
    /// Rows for early stopping.
    pub validation: Vec<usize>,
    /// Rows to evaluate on.
    pub test: Vec<usize>,
}

impl Split {
    /// Returns the rows of one part.
    pub fn part(&self, part: Part) -> &[usize] {
        match part {
            Part::Train => &self.train,
            Part::Validation => &self.validation,
            Part::Test => &self.test,
        }
    }

    fn from_parts(parts: &[Part]) -> Self {
        let rows =
            |wanted: Part| parts.iter().enumerate().filter(|(_, part)| **part == wanted).map(|(row, _)| row).collect();
        Self { train: rows(Part::Train), validation: rows(Part::Validation), test: rows(Part::Test) }
    }
}

/// Why flows cannot be split.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// A key of `[split]` has an invalid value.
    #[error("[split] {key}: {problem}")]
    Options {
        /// The key.
        key: &'static str,
        /// The problem and how to fix it.
        problem: String,
    },
    /// The feature set is inconsistent.
    #[error("cannot split: {0}")]
    Features(String),
    /// Fewer than two classes.
    #[error("cannot split: the classes are `{}`; classification needs at least two", .0.join("`, `"))]
    Classes(Vec<String>),
    /// A class has too few flows for every part.
    #[error(
        "class {class} has {flows} flow(s) but split method {method} needs at least {needed}; add captures of it, \
         or leave the class out of the experiment"
    )]
    TooFewFlows {
        /// The class.
        class: String,
        /// Number of its flows.
        flows: usize,
        /// The requested method.
        method: &'static str,
        /// Number of flows the method needs of every class.
        needed: usize,
    },
    /// A class is smaller than the experiment allows.
    #[error(
        "class {class} has {flows} flow(s), fewer than [split] minimum_class_flows = {minimum}; add captures of it, \
         lower the minimum, or drop such classes with small_classes = \"leave_out\""
    )]
    SmallClass {
        /// The class.
        class: String,
        /// Number of its flows.
        flows: usize,
        /// The configured minimum.
        minimum: usize,
    },
    /// A class has fewer groups than folds.
    #[error(
        "class {class} has {groups} {by}(s), so it cannot be in each of {folds} folds of whole {by}s; use folds = \
         {groups} or fewer (at least 2), or leave the class out"
    )]
    TooFewGroups {
        /// The class.
        class: String,
        /// The kind of groups: `capture`, `host` or `connection`.
        by: &'static str,
        /// Number of its groups.
        groups: usize,
        /// The requested number of folds.
        folds: usize,
    },
    /// Every class has fewer groups than folds, so some folds would test nothing.
    #[error(
        "no class has more than {groups} {by}s, so {folds} folds of whole {by}s cannot all test something; use folds = \
         {groups} or fewer (at least 2)"
    )]
    TooManyFolds {
        /// The kind of groups: `capture`, `host` or `connection`.
        by: &'static str,
        /// Number of groups of the class with most.
        groups: usize,
        /// The requested number of folds.
        folds: usize,
    },
    /// All flows of a class come from one group.
    #[error(
        "class {class} has all its {flows} flows in one {by} ({group}), so a grouped split cannot have it in both \
         train and test; use method = \"stratified\", add captures of it, or leave the class out"
    )]
    OneGroup {
        /// The class.
        class: String,
        /// Number of its flows.
        flows: usize,
        /// The kind of groups: `capture`, `host` or `connection`.
        by: &'static str,
        /// The only group.
        group: String,
    },
    /// No assignment of the groups that several classes share works for all of them.
    #[error(
        "found no assignment of {by} groups with class {class} in {part} (its groups: {groups}); use method = \
         \"stratified\", or leave the class out"
    )]
    NoAssignment {
        /// The class.
        class: String,
        /// The part or fold without it.
        part: String,
        /// The kind of groups: `capture`, `host` or `connection`.
        by: &'static str,
        /// The class's groups.
        groups: String,
    },
    /// A class is missing from the datasets to test on, or from the others.
    #[error(
        "class {class} has {train} flow(s) in the training datasets and {test} in {datasets}, which method \"dataset\" \
         tests on; it needs at least 2 and 1; drop such classes with small_classes = \"leave_out\""
    )]
    NotInDatasets {
        /// The class.
        class: String,
        /// Number of its flows to train on.
        train: usize,
        /// Number of its flows to test on.
        test: usize,
        /// The datasets to test on.
        datasets: String,
    },
    /// A class is missing from a published part.
    #[error(
        "class {class} has {train} flow(s) in the published training part and {test} in the test part; it needs at least \
         {needed} and 1; name the other classes in selection.classes"
    )]
    NotInParts {
        /// The class.
        class: String,
        /// Number of its flows to train on.
        train: usize,
        /// Number of its flows to test on.
        test: usize,
        /// The least number of flows to train on.
        needed: usize,
    },
    /// A split file cannot be read or written.
    #[error("split file {path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// The problem and how to fix it.
        problem: String,
    },
}

/// Splits the flows of `features`: returns one split, or as many as there are folds, repeat by repeat. The same seed
/// and flows produce the same split, in whatever order the flows come.
///
/// # Errors
/// Contradictory options, fewer than two classes, a class with too few flows or groups, two flows with the same id, a
/// split file that does not match these flows.
pub fn split(features: &FeatureSet, options: &SplitOptions, seed: u64) -> Result<Vec<Split>, SplitError> {
    options.validate()?;
    let classes = rows_by_class(features)?;
    let flows = Flows { labels: &features.labels, class_names: &features.class_names, rows: features.len(), classes };
    small_classes::check(&flows, options)?;
    if options.method == SplitMethod::File {
        return read_splits(options.path()?, features, seed);
    }
    if options.method == SplitMethod::Published {
        return Err(published::without_parts());
    }
    let fractions = options.fractions()?;
    let provenance = &features.provenance;
    match options.method {
        SplitMethod::Stratified => stratified::stratified(&flows, fractions, seed).map(|split| vec![split]),
        SplitMethod::Dataset => {
            datasets::by_dataset(&flows, fractions, &options.test_datasets, provenance, seed).map(|split| vec![split])
        }
        SplitMethod::Temporal => stratified::temporal(&flows, fractions, provenance).map(|split| vec![split]),
        SplitMethod::Grouped => {
            let by = options.group.unwrap_or_default();
            grouped::grouped(&flows, fractions, by, provenance, seed).map(|split| vec![split])
        }
        SplitMethod::KFold | SplitMethod::File | SplitMethod::Published => {
            let mut splits = Vec::new();
            for repeat in 0..options.repeat_count() {
                // The first repeat equals a run without repeats.
                let seed = if repeat == 0 { seed } else { seed::derive(seed, &format!("repeat {repeat}")) };
                splits.extend(match options.group {
                    None => stratified::k_fold(&flows, options.fold_count(), fractions.validation, seed)?,
                    Some(by) => {
                        let few = options.few_groups.unwrap_or_default();
                        let folds = grouped::Folds { count: options.fold_count(), few };
                        grouped::grouped_folds(&flows, folds, fractions, by, provenance, seed)?
                    }
                });
            }
            Ok(splits)
        }
    }
}

/// Input of all methods.
struct Flows<'a> {
    labels: &'a [u32],
    class_names: &'a [String],
    /// Number of flows.
    rows: usize,
    /// Rows of each class, sorted by flow id.
    classes: Vec<Vec<usize>>,
}

impl Flows<'_> {
    /// Returns an error for the first class that has fewer flows than `needed`.
    fn require(&self, needed: usize, method: SplitMethod) -> Result<(), SplitError> {
        match self.classes.iter().position(|rows| rows.len() < needed) {
            Some(class) => Err(SplitError::TooFewFlows {
                class: self.class_names[class].clone(),
                flows: self.classes[class].len(),
                method: method.name(),
                needed,
            }),
            None => Ok(()),
        }
    }
}

/// Returns the rows sorted by flow id: by capture, then by number, then by packet.
fn canonical_order(provenance: &[FlowProvenance]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..provenance.len()).collect();
    order.sort_by(|&left, &right| {
        let key = |row: usize| (provenance[row].capture.as_str(), provenance[row].number, provenance[row].packet);
        key(left).cmp(&key(right))
    });
    order
}

fn rows_by_class(features: &FeatureSet) -> Result<Vec<Vec<usize>>, SplitError> {
    if features.provenance.len() != features.labels.len() {
        return Err(SplitError::Features(format!(
            "{} labels but {} provenances",
            features.labels.len(),
            features.provenance.len()
        )));
    }
    let mut classes = vec![Vec::new(); features.class_names.len()];
    let mut last: Option<&FlowProvenance> = None;
    for row in canonical_order(&features.provenance) {
        let provenance = &features.provenance[row];
        let id = |flow: &FlowProvenance| (flow.number, flow.packet);
        if last.is_some_and(|last| last.capture == provenance.capture && id(last) == id(provenance)) {
            return Err(SplitError::Features(format!("two flows have the id {}", provenance.flow_id())));
        }
        last = Some(provenance);
        let label = features.labels[row];
        classes
            .get_mut(label as usize)
            .ok_or_else(|| {
                SplitError::Features(format!(
                    "flow {} has label {label}, but there are {} classes",
                    provenance.flow_id(),
                    features.class_names.len()
                ))
            })?
            .push(row);
    }
    if classes.len() < 2 {
        return Err(SplitError::Classes(features.class_names.clone()));
    }
    Ok(classes)
}

#[cfg(test)]
mod grouped_tests;
#[cfg(test)]
mod tests;

// Run the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
