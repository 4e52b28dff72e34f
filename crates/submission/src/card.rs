//! Model cards: everything that a run knows about each of its models, including the program and library versions of an
//! external model, the corpus of a pre-training, the SHA-256 of saved weights, and the licences of both.

use serde::{Deserialize, Serialize};

use super::claimed::RunFile;
use etcbench_model::Implementation;

/// A model of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Card {
    /// Its name.
    pub model: String,
    /// Its inputs, each a row of the tables.
    pub inputs: Vec<String>,
    /// `fast`, `reference`, `external` or `imported`.
    pub implementation: String,
    /// A one-line description; `None` for an imported model.
    pub summary: Option<String>,
    /// The version of its algorithm.
    pub version: Option<u32>,
    /// Its keys as set in the experiment; other keys have the defaults of the version.
    pub parameters: serde_json::Value,
    /// Keys set in single variants.
    pub in_variants: serde_json::Value,
    /// Its search space and the budget, if it was tuned.
    pub tuning: Option<serde_json::Value>,
    /// For an external model: the digest of its folder, its version, library versions, and commands.
    pub program: Option<serde_json::Value>,
    /// The corpora of its pre-training, if they are more than the training parts; one value per distinct corpus.
    pub pretraining: Vec<serde_json::Value>,
    /// Distinct notes of its fits.
    pub notes: Vec<String>,
    /// The SHA-256 of each saved model, by file.
    pub weights: Vec<Weights>,
    /// Its licences; `None` in bundles of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<Licences>,
}

/// Licences of a model, as SPDX identifiers where there is one; `None` if nobody stated them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licences {
    /// Of its code.
    pub code: Option<String>,
    /// Of its weights.
    pub weights: Option<String>,
}

/// A saved model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Weights {
    pub file: String,
    pub sha256: String,
}

/// Returns the cards of a run's models, without weights, in the order in which they were fitted.
pub(super) fn cards(run: &RunFile, experiment: &toml::Table) -> Vec<Card> {
    let mut cards: Vec<Card> = Vec::new();
    let keys = run.fits.iter().map(|fit| &fit.key).chain(run.failures.iter().map(|failure| &failure.key));
    for key in keys {
        let place = cards.iter().position(|card| card.model == key.model).unwrap_or_else(|| {
            cards.push(card(run, experiment, &key.model, &key.implementation));
            cards.len() - 1
        });
        if !cards[place].inputs.contains(&key.input) {
            cards[place].inputs.push(key.input.clone());
        }
    }
    for fit in &run.fits {
        let Some(card) = cards.iter_mut().find(|card| card.model == fit.key.model) else { continue };
        for note in fit.notes.iter().filter(|note| !card.notes.contains(note)).cloned().collect::<Vec<_>>() {
            card.notes.push(note);
        }
        let pretraining = fit.pretraining.as_ref().and_then(|seen| serde_json::to_value(seen).ok());
        let new: Vec<_> = pretraining.into_iter().filter(|seen| !card.pretraining.contains(seen)).collect();
        card.pretraining.extend(new);
    }
    cards
}

fn card(run: &RunFile, experiment: &toml::Table, model: &str, implementation: &str) -> Card {
    let facts = run.models.iter().find(|facts| facts.name == model);
    let parameters_in = |table: &toml::Table| table.get("model")?.get(model).cloned();
    let json = |value: Option<toml::Value>| value.and_then(|value| serde_json::to_value(value).ok());
    let empty = || serde_json::Value::Object(serde_json::Map::new());
    let imported = implementation == Implementation::IMPORTED;
    let variants = experiment.get("variant").and_then(toml::Value::as_table);
    let in_variants: serde_json::Map<String, serde_json::Value> = variants
        .into_iter()
        .flatten()
        .filter_map(|(name, variant)| Some((name.clone(), json(parameters_in(variant.as_table()?))?)))
        .collect();
    let tuning = experiment.get("tune").and_then(toml::Value::as_table).and_then(|tune| {
        let space = tune.get("space")?.get(model)?.clone();
        let kept = ["search", "budget"].into_iter().filter_map(|key| Some((key.to_owned(), tune.get(key)?.clone())));
        let mut kept: toml::Table = kept.collect();
        kept.insert("space".to_owned(), space);
        json(Some(toml::Value::Table(kept)))
    });
    let external = facts.and_then(|facts| facts.external.as_ref());
    let licence_of_external = |external: &serde_json::Value| Some(external.get("licence")?.as_str()?.to_owned());
    let code = match external {
        Some(external) => licence_of_external(external),
        None => (!imported).then(|| env!("CARGO_PKG_LICENSE").to_owned()),
    };
    Card {
        model: model.to_owned(),
        inputs: Vec::new(),
        implementation: implementation.to_owned(),
        summary: facts.map(|facts| facts.summary.clone()),
        version: facts.map(|facts| facts.version),
        parameters: json(parameters_in(experiment)).filter(|_| !imported).unwrap_or_else(empty),
        in_variants: serde_json::Value::Object(if imported { serde_json::Map::new() } else { in_variants }),
        tuning: tuning.filter(|_| !imported),
        program: facts.and_then(|facts| facts.external.clone()),
        pretraining: Vec::new(),
        notes: Vec::new(),
        weights: Vec::new(),
        licence: Some(Licences { code, weights: None }),
    }
}
