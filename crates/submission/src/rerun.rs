//! Reruns a bundle if its data and programs are available, to find what the check alone cannot.

use super::bundle::Bundle;
use super::claimed::Claimed;
use super::rules::Finding;
use super::{SubmissionError, io};
use etcbench_dataset::{compare_manifests, read_manifest};
use etcbench_experiment::{Experiment, Run};
use etcbench_report::{check as check_tolerances, proposed_tolerances};

/// A bundle to rerun.
pub struct Rerun {
    claimed: Claimed,
    /// Its experiment, including external models, which the project must have.
    pub experiment: Experiment,
}

impl Rerun {
    /// Reads a bundle, which must have been checked before.
    ///
    /// # Errors
    /// The bundle cannot be rerun: its predictions were imported, or the project lacks its models.
    pub fn new(bundle: &Bundle) -> Result<Self, SubmissionError> {
        let refused = |problem: String| SubmissionError::NoBundle { path: bundle.name.clone().into(), problem };
        let mut findings = Vec::new();
        let claimed = Claimed::read(bundle, &mut findings)?;
        let claimed = claimed.ok_or_else(|| refused("it cannot be read, so it cannot be rerun".to_owned()))?;
        if claimed.is_imported() {
            return Err(refused("its predictions were imported, so they cannot be recomputed".to_owned()));
        }
        let experiment =
            claimed.whole_experiment(bundle).map_err(|problem| refused(format!("cannot be rerun: {problem}")))?;
        Ok(Self { claimed, experiment })
    }

    /// Returns the differences between the bundle and the rerun: other data, and means beyond the tolerances computed
    /// from the bundle's records.
    ///
    /// # Errors
    /// A manifest cannot be read, or records contradict one another.
    pub fn findings(&self, again: &Run) -> Result<Vec<Finding>, SubmissionError> {
        let mut findings = Vec::new();
        let mut found = |place: &str, problem: String| findings.push(Finding::new("rerun", place, problem));
        for manifest in &again.manifests {
            let name = format!("manifests/{}.json", manifest.dataset);
            let path = self.claimed.folder().join(&name);
            let stated = read_manifest(&path).map_err(|error| io(&path)(std::io::Error::other(error.to_string())))?;
            let differences = compare_manifests(&stated, manifest);
            if let Some(first) = differences.first() {
                found(
                    &name,
                    format!(
                        "{} difference(s) from the data here, the first (bundle, then here): {first}",
                        differences.len()
                    ),
                );
            }
        }
        let records = again.records().map_err(|error| SubmissionError::Internal(error.to_string()))?;
        let expected = proposed_tolerances(&self.claimed.stored.records, None, false)?;
        for verdict in check_tolerances(&records, &expected)?.into_iter().filter(|verdict| !verdict.within) {
            let tolerance = verdict.tolerance;
            let measured = verdict.measured.map_or_else(|| "nothing".to_owned(), |measured| format!("{measured:.4}"));
            found(
                "records.csv",
                format!(
                    "{} of {} on {}, {}, is claimed as {} on average, within {}, but is {measured} in the rerun",
                    tolerance.metric,
                    tolerance.model,
                    tolerance.input,
                    tolerance.variant,
                    tolerance.expected,
                    tolerance.deviation
                ),
            );
        }
        Ok(findings)
    }
}
