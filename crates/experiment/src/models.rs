//! Writes the models of a run as self-contained files: each with its flow and feature options and its classes, ready
//! for `etcbench classify`.

use std::path::Path;

use super::fit::{FitRequest, fit};
use super::flows::{flow_options, load_flows};
use super::pretraining::{Divided, PretrainingSources};
use super::run::{FittedRow, Run, Settings, SplitRun, VariantRun};
use super::variant_fits::settings_of;
use super::{ExperimentError, Variant};
use etcbench_dataset::{DatasetDefinition, definition_path};
use etcbench_flow::STATISTIC_NAMES;
use etcbench_model::pretraining::{PretrainingSource, pretraining_keys};
use etcbench_model::{ModelDescription, ModelError, ModelSpec, trained_model_bytes};
use etcbench_storage::progress::Progress;
use etcbench_storage::write_whole;

/// Writes every model of a run to `folder`, with the same names as its predictions:
/// `<variant>-<model>-<input>-seed<n>.safetensors`. Models no longer in the cache are fitted again; models trained on a
/// table of features cannot read captures and are skipped with a warning.
///
/// # Errors
/// Any error of a fit, and any I/O error.
pub fn save_models(
    run: &Run,
    settings: &Settings,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<(), ExperimentError> {
    let is_published = |name: &&String| {
        let definition = DatasetDefinition::read(&definition_path(&settings.project, name));
        definition.is_ok_and(|definition| definition.published.is_some())
    };
    if let Some(name) = run.experiment.datasets.iter().find(is_published) {
        progress.warn(&format!(
            "no model is saved, because {name} is published without captures; packets of captures may have other \
             lengths and bytes"
        ));
        return Ok(());
    }
    for (variant, prepared) in run.experiment.variants.iter().zip(&run.variants) {
        if prepared.features.tokens.packets == 0 {
            progress.warn(&format!(
                "{}: no model is saved, because the dataset is a table of features, which differ from those of \
                 captures",
                variant.name
            ));
            continue;
        }
        for row in run.rows.iter().filter(|row| row.key.variant == variant.name) {
            let reads_statistics = spec_of(variant, row)?.reads_statistics();
            if reads_statistics && prepared.features.statistic_names != STATISTIC_NAMES {
                progress.warn(&format!(
                    "{}: {} on {} is not saved, because it was trained without time statistics, which captures have",
                    variant.name, row.key.model, row.key.input
                ));
                continue;
            }
            let model = match settings.cache.get("models", &row.cache_key) {
                Some(model) => model,
                None => fit_again(run, variant, prepared, row, settings, progress)?,
            };
            let bytes = trained_model_bytes(&model, &description(run, variant, prepared, row)?)?;
            let split = prepared.split_name(row.key.seed, row.key.fold);
            let key = &row.key;
            let path = folder.join(format!("{}-{}-{}-{split}.safetensors", key.variant, key.model, key.input));
            write_whole(&path, &bytes)
                .map_err(|error| ExperimentError::Store { path: path.clone(), problem: error.to_string() })?;
        }
    }
    Ok(())
}

fn description(
    run: &Run,
    variant: &Variant,
    prepared: &VariantRun,
    row: &FittedRow,
) -> Result<ModelDescription, ExperimentError> {
    let spec = spec_of(variant, row)?;
    let provenance = &run.provenance;
    Ok(ModelDescription {
        format: ModelDescription::FORMAT,
        version: provenance.version.clone(),
        commit: provenance.commit.clone(),
        experiment: row.key.experiment.clone(),
        dataset: row.key.dataset.clone(),
        size: row.key.size.clone(),
        variant: row.key.variant.clone(),
        model: spec.kind,
        input: spec.input,
        implementation: spec.implementation,
        seed: row.key.seed,
        fold: row.key.fold,
        training_flows: row.outcome.training_flows,
        classes: prepared.features.class_names.clone(),
        minimum_packets: variant.selection.minimum_packets,
        flow: flow_options(&run.experiment, variant),
        tokens: variant.feature.clone(),
        sequences: variant.used_sequences().cloned(),
        flowpic: variant.used_flowpic().cloned(),
        // A model that reads no statistics may have been trained with fewer.
        statistic_names: STATISTIC_NAMES.iter().map(|name| (*name).to_owned()).collect(),
    })
}

/// Returns the experiment's specification of a row's model, before tuning.
fn spec_of<'a>(variant: &'a Variant, row: &FittedRow) -> Result<&'a ModelSpec, ExperimentError> {
    let key = &row.key;
    let same = |spec: &&ModelSpec| {
        let names = [spec.kind.name(), spec.input.name(), spec.implementation_name()];
        names == [key.model.as_str(), key.input.as_str(), key.implementation.as_str()]
    };
    variant.models.iter().find(same).ok_or_else(|| ExperimentError::Internal {
        problem: format!("{} of {} is in the results but not in the experiment", key.model, key.variant),
    })
}

fn fit_again(
    run: &Run,
    variant: &Variant,
    prepared: &VariantRun,
    row: &FittedRow,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Vec<u8>, ExperimentError> {
    let requested = spec_of(variant, row)?;
    let spec = match &row.tuning {
        Some(tuning) => settings_of(&run.experiment, requested)?.swap_remove(tuning.chosen).spec,
        None => requested.clone(),
    };
    let of_row = |split: &&SplitRun| (split.seed, split.fold) == (row.key.seed, row.key.fold);
    let split = prepared.splits.iter().find(of_row).ok_or_else(|| ExperimentError::Internal {
        problem: format!("{}: no split of seed {} and fold {}", variant.name, row.key.seed, row.key.fold),
    })?;
    let request = FitRequest {
        spec: &spec,
        features: &prepared.features,
        split: &split.split,
        training: &split.training,
        seed: split.seed,
        device: settings.device,
    };
    progress.begin(&format!("{} {}: fitted again to be saved", row.key.model, row.key.input), 0);
    let fitted = source_again(run, variant, &spec, prepared, split, settings, progress)
        .and_then(|source| fit(&request, source, &settings.cache, progress));
    progress.end();
    let (outcome, model) = fitted?;
    if outcome.probabilities != row.outcome.probabilities {
        return Err(ExperimentError::Model(ModelError::File {
            path: None,
            problem: format!(
                "{} {}: the cached fit cannot be reproduced bit by bit on this machine or device; delete \
                 results/cache/fits/{} and run again",
                row.key.model, row.key.input, row.cache_key
            ),
        }));
    }
    Ok(model)
}

/// Returns what a fit's model is pre-trained on, loaded again.
fn source_again(
    run: &Run,
    variant: &Variant,
    spec: &ModelSpec,
    prepared: &VariantRun,
    split: &SplitRun,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Option<PretrainingSource>, ExperimentError> {
    if pretraining_keys(spec)?.is_none_or(|keys| keys.is_training_only()) {
        return Ok(None);
    }
    let sources = PretrainingSources::load(&run.experiment, std::slice::from_ref(variant), settings, progress)?;
    let flows = &load_flows(&run.experiment, flow_options(&run.experiment, variant), settings, progress)?;
    let (features, seed) = (&prepared.features, split.seed);
    sources.source(variant, spec, Divided { flows, features, split: &split.split, training: &split.training, seed })
}
