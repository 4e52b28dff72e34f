//! Pre-trains a model separately, for storage in a file: on whole datasets or, for a split of an experiment, on what a
//! run would pre-train it on.

use std::path::Path;

use serde::Deserialize;

use super::cache::FitArtifacts;
use super::corpus::{Drawn, HeldOut, Reading, draw};
use super::datasets::require_data;
use super::flows::{flow_options, load_flows};
use super::format::validate::model_specs;
use super::prepare::prepare;
use super::pretraining::{Divided, PretrainingSources};
use super::run::{Settings, device_name};
use super::{Experiment, ExperimentError, Provenance, Variant};
use etcbench_feature::TokenOptions;
use etcbench_flow::FlowOptions;
use etcbench_model::pretraining::{
    HeldOutSplit, Pretrainable, PretrainedFile, PretrainingCard, PretrainingKeys, TokenRows, pretraining_keys,
};
use etcbench_model::{FitContext, ModelError, ModelKind, ModelSpec};
use etcbench_storage::declarative::{self, DeclarativeError};
use etcbench_storage::progress::Progress;

/// How a model is pre-trained.
#[derive(Debug, Clone)]
pub struct Recipe {
    flow: FlowOptions,
    tokens: TokenOptions,
    spec: ModelSpec,
    model: Pretrainable,
    keys: PretrainingKeys,
}

/// The keys that determine a pre-training outside experiments.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    flow: FlowOptions,
    feature: TokenOptions,
    /// By the models' names.
    model: toml::Table,
}

impl Recipe {
    /// Returns the recipe of an experiment's single variant, for the model of this name or, without a name, the only one
    /// that is pre-trained.
    ///
    /// # Errors
    /// There are several variants, no such model, or several.
    pub fn of_experiment(experiment: &Experiment, model: Option<&str>) -> Result<Self, ExperimentError> {
        let variant = only_variant(experiment)?;
        let mut found = Vec::new();
        for spec in variant.models.iter().filter(|spec| model.is_none_or(|name| spec.kind.name() == name)) {
            if let (Some(of_kind), Some(keys)) = (Pretrainable::of(spec.kind), pretraining_keys(spec)?) {
                found.push((spec, of_kind, keys));
            }
        }
        if found.len() > 1 {
            let names: Vec<&str> = found.iter().map(|(spec, ..)| spec.kind.name()).collect();
            let several = "several of its models are pre-trained; choose one with --model";
            return Err(problem(experiment, &format!("{several} ({})", names.join(", "))));
        }
        let Some((spec, model, keys)) = found.pop() else {
            return Err(problem(
                experiment,
                &format!("it has no {} that its keys pre-train", model.unwrap_or("model")),
            ));
        };
        let flow = flow_options(experiment, variant);
        Ok(Self { flow, tokens: variant.feature.clone(), spec: spec.clone(), model, keys })
    }

    /// Returns the default recipe of a model, with assignments such as `feature.bytes=64`; of the paper's without a
    /// name.
    ///
    /// # Errors
    /// A model that is not pre-trained, unknown keys or invalid values.
    pub fn of_assignments(model: Option<&str>, assignments: &[String]) -> Result<Self, ExperimentError> {
        let mut table = toml::Table::new();
        for text in assignments {
            declarative::merge(&mut table, &declarative::parse_assignment(text)?);
        }
        let fault = |problem: String| DeclarativeError::Content { origin: "--set".to_owned(), problem };
        let known: Vec<&str> = Pretrainable::all().map(|known| known.kind().name()).collect();
        let name = model.unwrap_or_else(|| ModelKind::proposed().name());
        let of_kind = ModelKind::named(name).and_then(Pretrainable::of);
        let model = of_kind.ok_or_else(|| DeclarativeError::Content {
            origin: "--model".to_owned(),
            problem: declarative::unknown("model", name, &known),
        })?;
        let Keys { mut flow, feature, model: tables } = declarative::typed(table, "--set")?;
        if let Some(other) = tables.keys().find(|other| *other != name) {
            let text =
                format!("model.{other} is set, but {name} is pre-trained; choose with --model ({})", known.join(", "));
            return Err(fault(text).into());
        }
        let spec = model_specs(name, tables.get(name), "--set")?.swap_remove(0);
        let keys = pretraining_keys(&spec)?;
        let keys = keys.ok_or_else(|| fault(format!("these keys of {name} leave out its pre-training")))?;
        flow.kept_packets = flow.kept_packets.max(feature.packets);
        flow.kept_bytes = flow.kept_bytes.max(feature.needed_bytes());
        flow.validate().map_err(|error| fault(error.to_string()))?;
        feature.validate(&flow).map_err(|error| fault(error.to_string()))?;
        Ok(Self { flow, tokens: feature, spec, model, keys })
    }

    fn reading(&self) -> Reading<'_> {
        Reading { tokens: &self.tokens, sample: self.model.sample() }
    }
}

/// A pre-trained model, ready to be written.
pub struct PretrainedModel(PretrainedFile);

impl PretrainedModel {
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

/// Returns the card of a pre-trained model's file, as JSON.
///
/// # Errors
/// The file is not a pre-trained model, or is damaged.
pub fn show_pretrained(path: &Path) -> Result<String, ExperimentError> {
    let (file, _) = PretrainedFile::read(path)?;
    serde_json::to_string_pretty(&file.card)
        .map_err(|error| ExperimentError::Internal { problem: format!("card: {error}") })
}

/// Pre-trains a model on all captures of these datasets.
///
/// # Errors
/// Data is missing or unusable, or training diverged.
pub fn pretrain_datasets(
    recipe: &Recipe,
    datasets: &[String],
    seed: u64,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<PretrainedModel, ExperimentError> {
    let mut sources = PretrainingSources::default();
    sources.load_corpus(datasets, &recipe.flow, settings, progress)?;
    let parts = sources.datasets(datasets, &recipe.flow)?;
    let drawn = draw(&parts, &HeldOut::default(), recipe.reading(), recipe.keys.samples, seed)
        .map_err(etcbench_feature::SelectionError::from)?;
    let TokenOptions { packets, bytes, .. } = recipe.tokens;
    let none = etcbench_feature::TokenArray { packets, bytes, values: Vec::new() };
    train(recipe, drawn, TokenRows { tokens: &none, rows: &[] }, (seed, None), settings, progress)
}

/// Pre-trains the model of this name, or the only one that is pre-trained, for one split of an experiment's single
/// variant: on the training part and its corpus, without held-out data.
///
/// # Errors
/// Same as [`super::run`]; also if the fold does not exist.
pub fn pretrain_experiment(
    experiment: &Experiment,
    model: Option<&str>,
    fold: usize,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<PretrainedModel, ExperimentError> {
    let recipe = Recipe::of_experiment(experiment, model)?;
    require_data(experiment, &settings.project)?;
    let one = Experiment { seeds: experiment.seeds[..1].to_vec(), ..experiment.clone() };
    let variant = only_variant(&one)?;
    let flows = load_flows(&one, recipe.flow.clone(), settings, progress)?;
    let prepared = prepare(&one, variant, &flows, settings, progress)?;
    let run = prepared.splits.iter().find(|run| run.fold == fold).ok_or_else(|| {
        problem(experiment, &format!("no such fold: {fold}; each seed has {} folds, numbered from 0", prepared.folds))
    })?;
    let mut sources = PretrainingSources::default();
    sources.load_corpus(&recipe.keys.corpus, &recipe.flow, settings, progress)?;
    let (features, seed) = (&prepared.features, run.seed);
    let divided = Divided { flows: &flows, features, split: &run.split, training: &run.training, seed };
    let drawn = sources.draw(variant, recipe.model.sample(), &recipe.keys, divided, true)?;
    let held_out = HeldOutSplit {
        experiment: experiment.name.clone(),
        datasets: experiment.datasets.clone(),
        size: experiment.size.clone(),
        variant: variant.name.clone(),
        seed,
        fold,
        excluded: drawn.corpus.pretraining.excluded,
    };
    let validation = TokenRows { tokens: &features.tokens, rows: &run.split.validation };
    train(&recipe, drawn, validation, (seed, Some(held_out)), settings, progress)
}

fn train(
    recipe: &Recipe,
    drawn: Drawn,
    validation: TokenRows<'_>,
    (seed, held_out): (u64, Option<HeldOutSplit>),
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<PretrainedModel, ExperimentError> {
    let Recipe { flow, tokens, spec, model, .. } = recipe;
    let Drawn { corpus, captures, seen } = drawn;
    let rows: Vec<usize> = (0..corpus.tokens.rows()).collect();
    let training = TokenRows { tokens: &corpus.tokens, rows: &rows };
    let artifacts = FitArtifacts::new(&settings.cache, None);
    let context = FitContext { seed, device: settings.device, progress, artifacts: &artifacts, pretraining: None };
    let (parameters, epochs) = model.pretrain(spec, [training, validation], &context)?;
    artifacts.remove_not_needed();
    let Provenance { version, commit, .. } = Provenance::collect(&settings.project, &settings.device.name());
    let card = PretrainingCard {
        format: PretrainingCard::FORMAT,
        version,
        commit,
        seed,
        implementation: spec.implementation,
        device: device_name(settings.device),
        held_out,
        parts: corpus.pretraining.parts,
        captures,
        flow: flow.clone(),
        tokens: tokens.clone(),
        settings: model.settings(&spec.parameters)?,
        epochs,
    };
    Ok(PretrainedModel(PretrainedFile { model: *model, card, parameters, seen }))
}

fn only_variant(experiment: &Experiment) -> Result<&Variant, ExperimentError> {
    match &experiment.variants[..] {
        [one] => Ok(one),
        several => {
            let names: Vec<&str> = several.iter().map(|variant| variant.name.as_str()).collect();
            Err(problem(
                experiment,
                &format!("it has {} variants; choose one with --variants ({})", names.len(), names.join(", ")),
            ))
        }
    }
}

fn problem(experiment: &Experiment, problem: &str) -> ExperimentError {
    ModelError::Data { model: "pretrain".to_owned(), problem: format!("{}: {problem}", experiment.name) }.into()
}
