//! Splits that a publisher states: every flow is in the part of its file or row. If none is for validation, some of each
//! class's training flows are drawn for it.

use rand::seq::SliceRandom;

use super::{Flows, Part, Split, SplitError, SplitMethod, SplitOptions, rows_by_class};
use etcbench_feature::FeatureSet;
use etcbench_storage::seed;

/// Splits the flows of `features` as published; `parts` has the part of each.
///
/// # Errors
/// Contradictory options, a fraction for validation although a validation part is published, a class without flows to
/// train on or to test on.
pub fn split_as_published(
    features: &FeatureSet,
    parts: &[Part],
    options: &SplitOptions,
    seed: u64,
) -> Result<Split, SplitError> {
    options.validate()?;
    if parts.len() != features.len() {
        return Err(SplitError::Features(format!("{} parts for {} flows", parts.len(), features.len())));
    }
    let classes = rows_by_class(features)?;
    let flows = Flows { labels: &features.labels, class_names: &features.class_names, rows: features.len(), classes };
    super::small_classes::check(&flows, options)?;
    let fractions = options.fractions()?;
    let is_validated = parts.contains(&Part::Validation);
    if is_validated && options.validation.is_some() {
        let problem = "is given, but the dataset publishes a validation part; remove it".to_owned();
        return Err(SplitError::Options { key: "validation", problem });
    }
    let mut split = Split { train: Vec::new(), validation: Vec::new(), test: Vec::new() };
    for (class, rows) in flows.classes.iter().enumerate() {
        let of = |part: Part| rows.iter().copied().filter(|&row| parts[row] == part).collect::<Vec<usize>>();
        let [mut train, mut validation, test] = Part::ALL.map(of);
        let needed = if is_validated { 1 } else { 2 };
        if train.len() < needed || test.is_empty() {
            return Err(SplitError::NotInParts {
                class: flows.class_names[class].clone(),
                train: train.len(),
                test: test.len(),
                needed,
            });
        }
        if !is_validated {
            train.shuffle(&mut seed::generator(seed::derive(seed, "split"), &flows.class_names[class]));
            let share = fractions.validation / (fractions.train + fractions.validation);
            let validated = ((share * train.len() as f64).round() as usize).clamp(1, train.len() - 1);
            validation = train.drain(..validated).collect();
        }
        split.train.extend(train);
        split.validation.extend(validation);
        split.test.extend(test);
    }
    for rows in [&mut split.train, &mut split.validation, &mut split.test] {
        rows.sort_unstable();
    }
    Ok(split)
}

/// The error of a caller that has no parts.
pub(super) fn without_parts() -> SplitError {
    let problem =
        format!("is {:?}, which needs the parts that a dataset's definition states", SplitMethod::Published.name());
    SplitError::Options { key: "method", problem }
}
