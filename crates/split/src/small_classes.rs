//! Classes with fewer flows than an experiment allows: an error, or an experiment without them.

use super::{Flows, SmallClasses, SplitError, SplitOptions};
use etcbench_feature::FeatureSet;

/// A class that was left out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SmallClass {
    /// The class.
    pub class: String,
    /// Its flows, fewer than the minimum.
    pub flows: usize,
}

/// Errors for the first class that has fewer flows than the options allow.
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

/// With `small_classes = "leave_out"` the flows of the classes that are large enough, and the classes that are
/// not; otherwise all flows. The order of flows and classes stays.
///
/// # Errors
/// Options that contradict one another, or fewer than two classes left.
pub fn leave_out_small_classes(
    features: FeatureSet,
    options: &SplitOptions,
) -> Result<(FeatureSet, Vec<SmallClass>), SplitError> {
    options.validate()?;
    let Some(minimum) = options.minimum_class_flows else { return Ok((features, Vec::new())) };
    if options.small_classes != Some(SmallClasses::LeaveOut) {
        return Ok((features, Vec::new()));
    }
    let mut counts = vec![0_usize; features.class_names.len()];
    for &label in &features.labels {
        match counts.get_mut(label as usize) {
            Some(count) => *count += 1,
            None => {
                return Err(SplitError::Features(format!(
                    "a flow has class {label} of {}",
                    features.class_names.len()
                )));
            }
        }
    }
    let kept: Vec<bool> = counts.iter().map(|&count| count >= minimum).collect();
    let named = || features.class_names.iter().zip(&counts).zip(&kept);
    let small: Vec<SmallClass> = named()
        .filter(|(_, kept)| !**kept)
        .map(|((class, &flows), _)| SmallClass { class: class.clone(), flows })
        .collect();
    if small.is_empty() {
        return Ok((features, small));
    }
    let left: Vec<String> = named().filter(|(_, kept)| **kept).map(|((class, _), _)| class.clone()).collect();
    if left.len() < 2 {
        return Err(SplitError::Options {
            key: "minimum_class_flows",
            problem: format!(
                "is {minimum}, which leaves {} of {} classes; classification needs at least two",
                left.len(),
                kept.len()
            ),
        });
    }
    Ok((features.with_classes(&kept), small))
}
