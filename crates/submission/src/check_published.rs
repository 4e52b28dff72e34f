//! The published parts of flows, for `method = "published"`: those that manifests and definitions state. Where they belong
//! to single flows, which a bundle has no labels of, the split of the first seed stands for them: every other seed has to
//! have the same tested flows, and validation flows that are drawn have to be those of the draw.

use std::collections::HashMap;
use std::path::Path;

use super::check_flows::{manifest, of_capture, own_definition, used_captures};
use super::claimed::Claimed;
use super::rules::Finding;
use etcbench_feature::FeatureSet;
use etcbench_split::{Part, Split, SplitOptions, split_as_published};

/// What is known about the published parts of a variant's flows.
pub(super) struct StatedParts {
    /// The part of each flow; `None` where it is not stated for its capture.
    rows: Vec<Option<Part>>,
    /// Whether a dataset may publish a validation part.
    may_validate: bool,
}

/// Returns what the manifests say, with the definitions that this project has; flows of captures in no part are findings.
pub(super) fn stated_parts(
    claimed: &Claimed,
    project: &Path,
    variant: &str,
    features: &FeatureSet,
    findings: &mut Vec<Finding>,
) -> StatedParts {
    let mut parts_of: HashMap<&str, Option<Part>> = HashMap::new();
    let mut may_validate = false;
    for dataset in &claimed.run.datasets {
        let manifest = manifest(claimed, dataset);
        let definition = manifest.as_ref().and_then(|manifest| own_definition(project, dataset, manifest));
        let Some((manifest, parts)) = manifest.zip(definition.and_then(|definition| definition.parts)) else {
            may_validate = true;
            continue;
        };
        may_validate = may_validate || parts.has_validation();
        for (capture, labels) in used_captures(claimed, dataset, &manifest) {
            if parts.is_stated_by(&labels) {
                let name = parts.part_of(&labels);
                parts_of.insert(capture, Part::ALL.into_iter().find(|part| Some(part.name()) == name));
            }
        }
    }
    let part_of = |capture: &str| of_capture(&parts_of, capture).map(|(_, part)| *part);
    let stated: Vec<Option<Option<Part>>> = features.provenance.iter().map(|flow| part_of(&flow.capture)).collect();
    let unused: Vec<usize> = (0..stated.len()).filter(|&row| stated[row] == Some(None)).collect();
    if let Some(&first) = unused.first() {
        let id = features.provenance[first].flow_id();
        let problem = format!("{} flow(s) are in none of the published parts, the first {id}", unused.len());
        findings.push(Finding::new("splits", format!("flows/{variant}.csv"), problem));
    }
    StatedParts { rows: stated.into_iter().map(Option::flatten).collect(), may_validate }
}

impl StatedParts {
    /// Returns how many flows have a part that nothing states.
    pub(super) fn unknown(&self) -> usize {
        self.rows.iter().filter(|part| part.is_none()).count()
    }

    /// Returns the part of every flow: as stated, or else as implied by `first`, the claimed split of the seed `seed`.
    /// `None` if some are not stated and there is no such split.
    pub(super) fn complete(
        &self,
        features: &FeatureSet,
        first: Option<&Split>,
        options: &SplitOptions,
        seed: u64,
    ) -> Option<Vec<Part>> {
        let Some(first) = first else { return self.rows.iter().copied().collect() };
        let implied = |published_validation: bool| {
            let mut parts = vec![Part::Train; features.len()];
            first.test.iter().for_each(|&row| parts[row] = Part::Test);
            if published_validation {
                first.validation.iter().for_each(|&row| parts[row] = Part::Validation);
            }
            self.rows.iter().zip(parts).map(|(stated, implied)| stated.unwrap_or(implied)).collect::<Vec<Part>>()
        };
        let drawn_validation = implied(false);
        let is_first =
            |parts: &Vec<Part>| split_as_published(features, parts, options, seed).is_ok_and(|drawn| drawn == *first);
        if is_first(&drawn_validation) || !self.may_validate || options.validation.is_some() {
            return Some(drawn_validation);
        }
        let published_validation = implied(true);
        Some(if is_first(&published_validation) { published_validation } else { drawn_validation })
    }
}
