//! Data cards: what the definition of each dataset states about it, the licence above all. The check holds them against the
//! project's definitions.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::bundle::Bundle;
use super::check_flows::own_definition;
use super::claimed::Claimed;
use super::rules::Finding;
use etcbench_dataset::read_manifest;

/// The file of a bundle's data cards. Bundles of earlier versions have none.
pub(super) const DATA: &str = "data.json";

/// A dataset of a run; everything but its name is unknown if the project that packed the run had another definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DataCard {
    /// Its name.
    pub dataset: String,
    /// SHA-256 of its definition, as in the manifest.
    pub definition: String,
    /// A one-line description.
    pub title: Option<String>,
    /// The publication.
    pub reference: Option<String>,
    /// Where it is published.
    pub published_at: Option<String>,
    /// The licence of the published files, as an SPDX identifier where there is one; `None` if the definition states none.
    pub licence: Option<String>,
}

/// Returns the cards of datasets, from the definitions in a project; `manifests` is the folder of their manifests.
pub(super) fn data_cards(datasets: &[String], manifests: &Path, project: &Path) -> Vec<DataCard> {
    let card = |dataset: &String| {
        let manifest = read_manifest(&manifests.join(format!("{dataset}.json"))).ok()?;
        let own = own_definition(project, dataset, &manifest);
        let stated = |text: &dyn Fn(&etcbench_dataset::DatasetDefinition) -> String| own.as_ref().map(text);
        Some(DataCard {
            dataset: dataset.clone(),
            definition: manifest.definition.clone(),
            title: stated(&|own| own.title.clone()),
            reference: stated(&|own| own.reference.clone()),
            published_at: stated(&|own| own.published_at.url.clone()),
            licence: own.as_ref().and_then(|own| own.licence.clone()),
        })
    };
    datasets.iter().filter_map(card).collect()
}

/// Returns a bundle's data cards; `None` if it has none, or they cannot be read.
pub(super) fn read(bundle: &Bundle) -> Option<Vec<DataCard>> {
    serde_json::from_slice(bundle.files.get(DATA)?).ok()
}

/// Checks that a bundle's data cards are of its datasets, and those of the project's definitions.
pub(super) fn check(bundle: &Bundle, claimed: &Claimed, project: &Path, findings: &mut Vec<Finding>) {
    let Some(content) = bundle.files.get(DATA) else { return };
    let stated: Vec<DataCard> = match serde_json::from_slice(content) {
        Ok(stated) => stated,
        Err(error) => {
            findings.push(Finding::new("format", DATA, error.to_string()));
            return;
        }
    };
    let mut found = |problem: String| findings.push(Finding::new("licences", DATA, problem));
    let datasets: Vec<String> = claimed.run.manifests.iter().map(|manifest| manifest.dataset.clone()).collect();
    let known = data_cards(&datasets, &claimed.folder().join("manifests"), project);
    let identities = |cards: &[DataCard]| -> Vec<(String, String)> {
        cards.iter().map(|card| (card.dataset.clone(), card.definition.clone())).collect()
    };
    if identities(&stated) != identities(&known) {
        found("the datasets and their definitions are not those of the manifests".to_owned());
        return;
    }
    for (stated, known) in stated.iter().zip(&known).filter(|(_, known)| known.title.is_some()) {
        let shown = |licence: &Option<String>| licence.clone().unwrap_or_else(|| "none".to_owned());
        // Packed where there was no such definition.
        if stated.title.is_none() && stated.licence.is_none() {
            continue;
        }
        if stated.licence != known.licence {
            let (licence, by_definition) = (shown(&stated.licence), shown(&known.licence));
            found(format!(
                "the licence of {} is stated as {licence}, but its definition states {by_definition}",
                known.dataset
            ));
        } else if stated != known {
            found(format!("the card of {} differs from its definition", known.dataset));
        }
    }
}
