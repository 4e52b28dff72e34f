//! Classes that are too small for the experiment or for the method: reports an error, or drops them.

use std::collections::BTreeSet;

use super::grouped::{Folds, group_of};
use super::{Flows, SmallClasses, SplitError, SplitMethod, SplitOptions, datasets, stratified};
use etcbench_feature::FeatureSet;

/// A class that was left out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SmallClass {
    /// The class.
    pub class: String,
    /// Number of its flows.
    pub flows: usize,
    /// What it lacks, such as `it is in 1 capture, and needs 2`; empty in runs of older versions, which only counted
    /// flows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lacks: String,
}

/// Returns an error for the first class that has fewer flows than the options allow.
pub(super) fn check(flows: &Flows<'_>, options: &SplitOptions) -> Result<(), SplitError> {
    let minimum = options.minimum_class_flows.unwrap_or(0);
    match flows.classes.iter().position(|rows| rows.len() < minimum) {
        Some(class) => Err(SplitError::SmallClass {
            class: flows.class_names[class].clone(),
            flows: flows.classes[class].len(),
            minimum,
        }),
        None => Ok(()),
    }
}

/// With `small_classes = "leave_out"`, returns the flows of the classes that are large enough, and the classes that are
/// not; otherwise all flows. The order of flows and classes is preserved.
///
/// # Errors
/// Contradictory options, or fewer than two remaining classes.
pub fn leave_out_small_classes(
    features: FeatureSet,
    options: &SplitOptions,
) -> Result<(FeatureSet, Vec<SmallClass>), SplitError> {
    options.validate()?;
    if options.small_classes != Some(SmallClasses::LeaveOut) {
        return Ok((features, Vec::new()));
    }
    let classes = features.class_names.len();
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (row, &label) in features.labels.iter().enumerate() {
        let class_rows = rows.get_mut(label as usize);
        class_rows
            .ok_or_else(|| SplitError::Features(format!("a flow has label {label}, but there are {classes} classes")))?
            .push(row);
    }
    let lacks = rows.iter().map(|rows| lacks(&features, rows, options)).collect::<Result<Vec<_>, _>>()?;
    let kept: Vec<bool> = lacks.iter().map(Option::is_none).collect();
    let small: Vec<SmallClass> = lacks
        .into_iter()
        .enumerate()
        .filter_map(|(class, lacks)| {
            Some(SmallClass { class: features.class_names[class].clone(), flows: rows[class].len(), lacks: lacks? })
        })
        .collect();
    if small.is_empty() {
        return Ok((features, small));
    }
    let left = kept.iter().filter(|kept| **kept).count();
    if left < 2 {
        return Err(SplitError::Options {
            key: "small_classes",
            problem: format!(
                "\"leave_out\" leaves {left} of {classes} classes, and classification needs at least two ({}: {})",
                small[0].class, small[0].lacks
            ),
        });
    }
    Ok((features.with_classes(&kept), small))
}

/// Describes what a class with these rows lacks.
fn lacks(features: &FeatureSet, rows: &[usize], options: &SplitOptions) -> Result<Option<String>, SplitError> {
    let flows =
        |needed: usize| (rows.len() < needed).then(|| format!("it has {} flows, and needs {needed}", rows.len()));
    if let Some(lacks) = flows(options.minimum_class_flows.unwrap_or(0)) {
        return Ok(Some(lacks));
    }
    let groups = |needed: usize, by| {
        let found: BTreeSet<_> = rows.iter().map(|&row| group_of(&features.provenance[row], by)).collect();
        let problem = || {
            format!(
                "it is in {} {}{}, and needs {needed}",
                found.len(),
                by.name(),
                if found.len() == 1 { "" } else { "s" }
            )
        };
        (found.len() < needed).then(problem)
    };
    Ok(match (options.method, options.group) {
        (SplitMethod::Stratified | SplitMethod::Temporal, _) => flows(stratified::PARTS),
        (SplitMethod::Grouped, by) => groups(2, by.unwrap_or_default()),
        (SplitMethod::KFold, None) => flows(stratified::flows_of_folds(options.fold_count())),
        (SplitMethod::KFold, Some(by)) => {
            groups(Folds { count: options.fold_count(), few: options.few_groups.unwrap_or_default() }.needed(), by)
        }
        (SplitMethod::Dataset, _) => {
            let tested = datasets::tested(&features.provenance, &options.test_datasets)?;
            let test = rows.iter().filter(|&&row| tested[row]).count();
            let train = rows.len() - test;
            let enough = test > 0 && train >= datasets::TRAINING_FLOWS;
            (!enough).then(|| format!("it has {train} flows to train on and {test} to test on, and needs 2 and 1"))
        }
        (SplitMethod::File | SplitMethod::Published, _) => None,
    })
}
