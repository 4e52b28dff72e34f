//! Splits between datasets: models train on the flows of some datasets and are tested on those of others. With several
//! datasets, a flow's capture is named `<dataset>/<path>`, so the name identifies the dataset.

use rand::seq::SliceRandom;

use super::{Flows, Fractions, Part, Split, SplitError};
use etcbench_dataset::FlowProvenance;
use etcbench_storage::{declarative, seed};

/// Number of flows that training needs of every class: one to fit on and one to validate on.
pub(super) const TRAINING_FLOWS: usize = 2;

/// Returns whether each flow belongs to one of the datasets to test on.
///
/// # Errors
/// A dataset without flows, or no dataset to train on.
pub(super) fn tested(provenance: &[FlowProvenance], test_datasets: &[String]) -> Result<Vec<bool>, SplitError> {
    let dataset = |flow: &FlowProvenance| flow.capture.split_once('/').map_or("", |(dataset, _)| dataset).to_owned();
    let datasets: Vec<String> = provenance.iter().map(dataset).collect();
    let mut known: Vec<&str> = datasets.iter().map(String::as_str).collect();
    known.sort_unstable();
    known.dedup();
    let problem = |problem: String| SplitError::Options { key: "test_datasets", problem };
    if let Some(unknown) = test_datasets.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(problem(format!(
            "no flow is from `{unknown}`{}; name one of the experiment's datasets, of which there must be at least two",
            declarative::did_you_mean(unknown, known.iter().copied())
        )));
    }
    if known.len() == test_datasets.len() {
        return Err(problem("names every dataset, so none is left to train on".to_owned()));
    }
    Ok(datasets.iter().map(|dataset| test_datasets.contains(dataset)).collect())
}

/// Tests on the flows of `test_datasets`; some of each class's other flows, drawn at random, are used for validation.
pub(super) fn by_dataset(
    flows: &Flows<'_>,
    fractions: Fractions,
    test_datasets: &[String],
    provenance: &[FlowProvenance],
    seed: u64,
) -> Result<Split, SplitError> {
    let tested = tested(provenance, test_datasets)?;
    let mut parts = vec![Part::Train; flows.rows];
    for (class, rows) in flows.classes.iter().enumerate() {
        let (test, mut training): (Vec<usize>, Vec<usize>) = rows.iter().partition(|&&row| tested[row]);
        if test.is_empty() || training.len() < TRAINING_FLOWS {
            return Err(SplitError::NotInDatasets {
                class: flows.class_names[class].clone(),
                train: training.len(),
                test: test.len(),
                datasets: test_datasets.join(", "),
            });
        }
        test.iter().for_each(|&row| parts[row] = Part::Test);
        training.shuffle(&mut seed::generator(seed::derive(seed, "split"), &flows.class_names[class]));
        let share = fractions.validation / (fractions.train + fractions.validation);
        let validated = ((share * training.len() as f64).round() as usize).clamp(1, training.len() - 1);
        training[..validated].iter().for_each(|&row| parts[row] = Part::Validation);
    }
    Ok(Split::from_parts(&parts))
}
