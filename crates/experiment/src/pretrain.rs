//! Pre-trains an ELMo separately, for storage in a file: on whole datasets or, for a split of an experiment, on what a
//! run would pre-train it on.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::cache::FitArtifacts;
use super::corpus::{Drawn, HeldOut, draw};
use super::datasets::require_data;
use super::flows::{flow_options, load_flows};
use super::prepare::prepare;
use super::pretraining::{Divided, ElmoSources};
use super::run::{Settings, device_name};
use super::{Experiment, ExperimentError, Provenance, Variant};
use etcbench_feature::TokenOptions;
use etcbench_flow::FlowOptions;
use etcbench_model::elmo::{ElmoCard, ElmoFile, ElmoOptions, HeldOutSplit, MODEL, PacketRows, pretrain_rows};
use etcbench_model::{FitContext, Implementation, ModelError, elmo_options};
use etcbench_storage::declarative::{self, DeclarativeError};
use etcbench_storage::progress::Progress;

/// How an ELMo is pre-trained.
#[derive(Debug, Clone)]
pub struct Recipe {
    flow: FlowOptions,
    tokens: TokenOptions,
    elmo: ElmoOptions,
    implementation: Implementation,
}

/// The keys that determine the pre-training of an ELMo outside experiments.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    flow: FlowOptions,
    feature: TokenOptions,
    /// By the model's name; only one model has an ELMo.
    model: BTreeMap<String, DeepModel>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct DeepModel {
    elmo: ElmoOptions,
    implementation: Implementation,
}

impl Recipe {
    /// Returns the recipe of an experiment's single variant.
    ///
    /// # Errors
    /// There are several variants, or no model with a pre-trained ELMo.
    pub fn of_experiment(experiment: &Experiment) -> Result<Self, ExperimentError> {
        let variant = only_variant(experiment)?;
        let deep = variant.models.iter().find(|spec| spec.kind.name() == MODEL);
        let elmo = deep.map(elmo_options).transpose()?.flatten();
        let (Some(deep), Some(elmo)) = (deep, elmo) else {
            return Err(problem(experiment, format!("it has no {MODEL} with a pre-trained encoder")));
        };
        Ok(Self {
            flow: flow_options(experiment, variant),
            tokens: variant.feature.clone(),
            elmo,
            implementation: deep.implementation,
        })
    }

    /// Returns the default recipe, with assignments such as `feature.bytes=64`.
    ///
    /// # Errors
    /// Unknown keys or invalid values.
    pub fn of_assignments(assignments: &[String]) -> Result<Self, ExperimentError> {
        let mut table = toml::Table::new();
        for text in assignments {
            declarative::merge(&mut table, &declarative::parse_assignment(text)?);
        }
        let fault = |problem: String| DeclarativeError::Content { origin: "--set".to_owned(), problem };
        let Keys { mut flow, feature, mut model } = declarative::typed(table, "--set")?;
        let DeepModel { elmo, implementation } = model.remove(MODEL).unwrap_or_default();
        if let Some(other) = model.keys().next() {
            let unknown = format!("unknown field `{other}`, expected `{MODEL}`");
            return Err(fault(declarative::with_nearest_key(&unknown)).into());
        }
        elmo.validate()?;
        flow.kept_packets = flow.kept_packets.max(feature.packets);
        flow.kept_bytes = flow.kept_bytes.max(feature.needed_bytes());
        flow.validate().map_err(|error| fault(error.to_string()))?;
        feature.validate(&flow).map_err(|error| fault(error.to_string()))?;
        Ok(Self { flow, tokens: feature, elmo, implementation })
    }
}

/// A pre-trained ELMo, ready to be written.
pub struct PretrainedElmo(ElmoFile);

impl PretrainedElmo {
    /// Returns the file's bytes.
    ///
    /// # Errors
    /// None, except for a bug.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ExperimentError> {
        Ok(self.0.to_bytes()?)
    }

    /// Summarizes what it was trained on, in one line.
    pub fn summary(&self) -> String {
        let card = &self.0.card;
        let parts: Vec<String> = card.parts.iter().map(|part| format!("{} {}", part.packets, part.name)).collect();
        let loss = card.epochs.last().map_or(0.0, |epoch| epoch.training_loss);
        let held_out = card.held_out.as_ref().map_or(String::new(), |split| {
            let excluded = split.excluded;
            format!(
                "; excluded: {} flows by their captures, {} packets by their bytes",
                excluded.flows, excluded.packets
            )
        });
        format!("pre-trained on these packets: {}; loss {loss:.4}{held_out}", parts.join(", "))
    }
}

/// Returns the card of a pre-trained ELMo's file, as JSON.
///
/// # Errors
/// The file is not a pre-trained ELMo, or is damaged.
pub fn show_elmo(path: &Path) -> Result<String, ExperimentError> {
    let (file, _) = ElmoFile::read(path)?;
    serde_json::to_string_pretty(&file.card)
        .map_err(|error| ExperimentError::Internal { problem: format!("card: {error}") })
}

/// Pre-trains an ELMo on all captures of these datasets.
///
/// # Errors
/// Data is missing or unusable, or training diverged.
pub fn pretrain_datasets(
    recipe: &Recipe,
    datasets: &[String],
    seed: u64,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<PretrainedElmo, ExperimentError> {
    let mut sources = ElmoSources::default();
    sources.load_corpus(datasets, &recipe.flow, settings, progress)?;
    let parts = sources.datasets(datasets, &recipe.flow)?;
    let drawn = draw(&parts, &HeldOut::default(), &recipe.tokens, recipe.elmo.corpus_packets, seed)
        .map_err(etcbench_feature::SelectionError::from)?;
    let none = etcbench_feature::TokenArray { packets: 1, bytes: recipe.tokens.bytes, values: Vec::new() };
    train(recipe, drawn, PacketRows { tokens: &none, rows: &[] }, (seed, None), settings, progress)
}

/// Pre-trains the ELMo of one split of an experiment's single variant: on the training part and its corpus, without
/// held-out data.
///
/// # Errors
/// Same as [`super::run`]; also if the fold does not exist.
pub fn pretrain_experiment(
    experiment: &Experiment,
    fold: usize,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<PretrainedElmo, ExperimentError> {
    let recipe = Recipe::of_experiment(experiment)?;
    require_data(experiment, &settings.project)?;
    let one = Experiment { seeds: experiment.seeds[..1].to_vec(), ..experiment.clone() };
    let variant = only_variant(&one)?;
    let flows = load_flows(&one, recipe.flow.clone(), settings, progress)?;
    let prepared = prepare(&one, variant, &flows, settings, progress)?;
    let run = prepared.splits.iter().find(|run| run.fold == fold).ok_or_else(|| {
        problem(experiment, format!("no such fold: {fold}; each seed has {} folds, numbered from 0", prepared.folds))
    })?;
    let mut sources = ElmoSources::default();
    sources.load_corpus(&recipe.elmo.corpus, &recipe.flow, settings, progress)?;
    let (features, seed) = (&prepared.features, run.seed);
    let divided = Divided { flows: &flows, features, split: &run.split, training: &run.training, seed };
    let drawn = sources.draw(variant, &recipe.elmo, divided)?;
    let held_out = HeldOutSplit {
        experiment: experiment.name.clone(),
        datasets: experiment.datasets.clone(),
        size: experiment.size.clone(),
        variant: variant.name.clone(),
        seed,
        fold,
        excluded: drawn.corpus.pretraining.excluded,
    };
    let validation = PacketRows { tokens: &features.tokens, rows: &run.split.validation };
    train(&recipe, drawn, validation, (seed, Some(held_out)), settings, progress)
}

fn train(
    recipe: &Recipe,
    drawn: Drawn,
    validation: PacketRows<'_>,
    (seed, held_out): (u64, Option<HeldOutSplit>),
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<PretrainedElmo, ExperimentError> {
    let Recipe { flow, tokens, elmo, implementation } = recipe;
    let Drawn { corpus, captures, seen } = drawn;
    let rows: Vec<usize> = (0..corpus.tokens.values.len() / tokens.bytes).collect();
    let training = PacketRows { tokens: &corpus.tokens, rows: &rows };
    let artifacts = FitArtifacts::new(&settings.cache, None);
    let context = FitContext { seed, device: settings.device, progress, artifacts: &artifacts };
    let (parameters, epochs) = pretrain_rows(*implementation, elmo, training, validation, &context)?;
    artifacts.remove_not_needed();
    let Provenance { version, commit, .. } = Provenance::collect(&settings.project, &settings.device.name());
    let card = ElmoCard {
        format: ElmoCard::FORMAT,
        version,
        commit,
        seed,
        implementation: *implementation,
        device: device_name(settings.device),
        held_out,
        parts: corpus.pretraining.parts,
        captures,
        flow: flow.clone(),
        tokens: tokens.clone(),
        elmo: elmo.without_source(),
        epochs,
    };
    Ok(PretrainedElmo(ElmoFile { card, parameters, seen }))
}

fn only_variant(experiment: &Experiment) -> Result<&Variant, ExperimentError> {
    match &experiment.variants[..] {
        [one] => Ok(one),
        several => {
            let names: Vec<&str> = several.iter().map(|variant| variant.name.as_str()).collect();
            Err(problem(
                experiment,
                format!("it has {} variants; choose one with --variants ({})", names.len(), names.join(", ")),
            ))
        }
    }
}

fn problem(experiment: &Experiment, problem: String) -> ExperimentError {
    ModelError::Data { model: MODEL.to_owned(), problem: format!("{}: {problem}", experiment.name) }.into()
}
