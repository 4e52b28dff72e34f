//! Queries a fitted model under every condition that applies to it, or loads its answers from the cache.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::super::flows::{Content, LoadedFlows};
use super::super::run::{Settings, SplitRun, VariantRun};
use super::super::variant_fits::put_json;
use super::super::{ExperimentError, Variant};
use super::cost::{DecisionCost, decision_cost};
use super::{COST_VERSION, Condition, EVALUATION_VERSION, EvaluationOptions};
use etcbench_dataset::LabelledFlow;
use etcbench_feature::FeatureSet;
use etcbench_model::{Examples, Input, ModelArchive, ModelSpec, load, neighbour_distances};
use etcbench_storage::progress::Progress;
use etcbench_storage::{Determinants, Turn};

/// A model's answers under one condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// The condition.
    pub condition: Condition,
    /// True classes, as indices into the classes that the model knows; for unknown classes, into the unknown ones.
    pub labels: Vec<u32>,
    /// Class probabilities, row-major, shape `[rows, classes]`.
    pub probabilities: Vec<f32>,
    /// Number of rows with nothing left to read; all classes get equal probabilities for them.
    pub empty_rows: usize,
    /// For flows of unknown classes: the distances to the training flows, if the model reads an input of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distances: Option<TrainingDistances>,
    /// Median over the rows of the seconds from a flow's first packet to the last one seen, if packets have times.
    pub median_wait_seconds: Option<f64>,
}

/// Distances to the training flows, row by row, in the columns that a model reads
/// ([`etcbench_model::neighbour_distances`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingDistances {
    /// Of the test flows.
    pub test: Vec<f64>,
    /// Of the validation flows.
    pub validation: Vec<f64>,
    /// Of the flows of unknown classes.
    pub unknown: Vec<f64>,
}

/// Neighbour whose distance is measured: as many as k-nearest neighbours has by default.
const NEIGHBOUR: usize = 5;

/// The subject of an evaluation.
pub(in super::super) struct EvaluatedModel<'a> {
    pub options: &'a EvaluationOptions,
    pub variant: &'a Variant,
    pub flows: &'a LoadedFlows,
    pub prepared: &'a VariantRun,
    pub split: &'a SplitRun,
    pub spec: &'a ModelSpec,
    /// The cache key of the fit.
    pub cache_key: &'a str,
}

/// Evaluates a fitted model; `model` returns its bytes.
///
/// # Errors
/// Flows cannot be rebuilt, or the model cannot be loaded or queried.
pub(in super::super) fn evaluate(
    evaluated: &EvaluatedModel<'_>,
    model: impl FnOnce() -> Result<Vec<u8>, ExperimentError>,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Vec<Answers>, ExperimentError> {
    let conditions = evaluated.options.conditions(evaluated.variant);
    let conditions: Vec<Condition> = conditions
        .into_iter()
        .filter(|condition| condition.concerns(evaluated.spec, evaluated.variant, &evaluated.prepared.features))
        .collect();
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    let key = Determinants::of("evaluation", EVALUATION_VERSION)
        .and("fit", &evaluated.cache_key)
        .and("conditions", &conditions)
        .and("unknown", &evaluated.options.unknown_classes)
        .key();
    let _claim = match settings.cache.look_up_json::<Vec<Answers>>("evaluations", &key, progress) {
        Turn::Ready(answers) => return Ok(answers),
        Turn::Ours(claim) => claim,
    };
    let classifier = load(&ModelArchive::from_bytes(&model()?)?)?;
    progress.begin(
        &format!("{}: evaluating {} conditions", evaluated.spec.kind.name(), conditions.len()),
        conditions.len() as u64,
    );
    let test = evaluated.prepared.features.with_rows(&evaluated.split.split.test);
    let trained = trained_rows(evaluated);
    let made = std::cell::OnceCell::new();
    let training = || made.get_or_init(|| evaluated.prepared.features.with_rows(&trained));
    let flows = test_flows(evaluated, &conditions)?;
    let mut answers = Vec::new();
    for condition in conditions {
        let features = match condition {
            Condition::Validation => evaluated.prepared.features.with_rows(&evaluated.split.split.validation),
            Condition::Unknown => evaluated.prepared.unknown.clone().ok_or_else(|| ExperimentError::Internal {
                problem: "no flow of an unknown class was kept".to_owned(),
            })?,
            _ => condition.features(
                &flows,
                &test,
                &training,
                &evaluated.variant.feature,
                evaluated.variant.packet_columns(),
            )?,
        };
        let classes = evaluated.prepared.features.class_names.len();
        let readable: Vec<usize> =
            (0..features.len()).filter(|&row| is_readable(evaluated.spec, &features, row)).collect();
        // Rows without anything to read get equal probabilities.
        let mut probabilities = vec![1.0 / classes as f32; features.len() * classes];
        if !readable.is_empty() {
            let found =
                classifier.predict_probabilities(Examples { features: &features, rows: &readable }, progress)?;
            for (row, found) in readable.iter().zip(found.rows()) {
                for (out, &probability) in probabilities[row * classes..(row + 1) * classes].iter_mut().zip(found) {
                    *out = probability;
                }
            }
        }
        answers.push(Answers {
            labels: features.labels.clone(),
            probabilities,
            empty_rows: features.len() - readable.len(),
            median_wait_seconds: median_wait(&condition, &flows, evaluated.flows.invented_times),
            distances: training_distances(evaluated, condition, &trained)?,
            condition,
        });
        progress.advance(1);
    }
    progress.end();
    put_json(&settings.cache, "evaluations", &key, &answers)?;
    Ok(answers)
}

/// Returns the flows that the model was fitted on, each once, however often sampling repeats it.
fn trained_rows(evaluated: &EvaluatedModel<'_>) -> Vec<usize> {
    let mut rows = evaluated.split.training.clone();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Measures the distances of known and unknown flows to the training flows; `None` for other conditions, and for models
/// without an input of their own.
fn training_distances(
    evaluated: &EvaluatedModel<'_>,
    condition: Condition,
    trained: &[usize],
) -> Result<Option<TrainingDistances>, ExperimentError> {
    let (Condition::Unknown, Some(unknown)) = (condition, &evaluated.prepared.unknown) else { return Ok(None) };
    if evaluated.spec.input == Input::Members || !evaluated.spec.kind.entry().reads_input {
        return Ok(None);
    }
    let (features, split) = (&evaluated.prepared.features, &evaluated.split.split);
    let of = |rows| Examples { features, rows };
    let all: Vec<usize> = (0..unknown.len()).collect();
    let queries = [of(&split.test), of(&split.validation), Examples { features: unknown, rows: &all }];
    let mut found = neighbour_distances(evaluated.spec.input, of(trained), &queries, NEIGHBOUR)?.into_iter();
    let (test, validation, unknown) = (found.next(), found.next(), found.next());
    let (Some(test), Some(validation), Some(unknown)) = (test, validation, unknown) else { return Ok(None) };
    Ok(Some(TrainingDistances { test, validation, unknown }))
}

/// Measures the cost of a fitted model's decisions, if requested; cached measurements are reused.
///
/// # Errors
/// The model cannot be loaded or queried.
pub(in super::super) fn costs(
    evaluated: &EvaluatedModel<'_>,
    model: impl FnOnce() -> Result<Vec<u8>, ExperimentError>,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Option<DecisionCost>, ExperimentError> {
    if !evaluated.options.cost {
        return Ok(None);
    }
    let key = Determinants::of("decision cost", COST_VERSION).and("fit", &evaluated.cache_key).key();
    let _claim = match settings.cache.look_up_json::<Option<DecisionCost>>("costs", &key, progress) {
        Turn::Ready(cost) => return Ok(cost),
        Turn::Ours(claim) => claim,
    };
    let archive = ModelArchive::from_bytes(&model()?)?;
    let test = evaluated.prepared.features.with_rows(&evaluated.split.split.test);
    let is_external = evaluated.spec.kind.entry().external.is_some();
    progress.begin(&format!("{}: measuring decision costs", evaluated.spec.kind.name()), 0);
    let cost = decision_cost(&test, is_external, || Ok(load(&archive)?))?;
    progress.end();
    put_json(&settings.cache, "costs", &key, &cost)?;
    Ok(cost)
}

/// Returns whether a row has anything to read.
fn is_readable(spec: &ModelSpec, features: &FeatureSet, row: usize) -> bool {
    let bytes = || features.tokens.flow(row).iter().any(|&token| token < 256);
    let sequence = || features.sequences.row(row).iter().any(|&value| value != 0.0);
    let flowpic = || features.flowpics.row(row).iter().any(|&count| count > 0);
    spec.reads_statistics()
        || (spec.reads_bytes() && bytes())
        || (spec.reads_sequences() && sequence())
        || (spec.reads_flowpic() && flowpic())
        || !spec.kind.entry().reads_input
}

/// Returns the flows of the test rows, row by row; empty if no condition rebuilds them.
fn test_flows<'a>(
    evaluated: &EvaluatedModel<'a>,
    conditions: &[Condition],
) -> Result<Vec<&'a LabelledFlow>, ExperimentError> {
    let from_packets = |condition: &Condition| {
        !matches!(condition, Condition::Validation | Condition::Unknown | Condition::Occluded { .. })
    };
    if !conditions.iter().any(from_packets) {
        return Ok(Vec::new());
    }
    let Content::Flows(labelled) = &evaluated.flows.content else {
        return Err(ExperimentError::Internal { problem: "rows of feature files have no packets".to_owned() });
    };
    let flows: HashMap<(&str, u32), &LabelledFlow> =
        labelled.iter().map(|flow| ((flow.provenance.capture.as_str(), flow.provenance.number), flow)).collect();
    let provenance = &evaluated.prepared.features.provenance;
    let of_row = |&row: &usize| {
        let flow = &provenance[row];
        flows.get(&(flow.capture.as_str(), flow.number)).copied().ok_or_else(|| ExperimentError::Internal {
            problem: format!("flow {} of the features was not loaded", flow.flow_id()),
        })
    };
    evaluated.split.split.test.iter().map(of_row).collect()
}

/// Returns the median time until the packets available to the model have arrived.
fn median_wait(condition: &Condition, flows: &[&LabelledFlow], invented: bool) -> Option<f64> {
    let Condition::FirstPackets { packets } = *condition else { return None };
    if invented {
        return None;
    }
    let mut waits: Vec<i64> = flows
        .iter()
        .filter_map(|flow| {
            let seen = flow.flow.packets.iter().take(packets);
            Some(seen.map(|packet| packet.timestamp).max()?.saturating_sub(flow.flow.start))
        })
        .collect();
    waits.sort_unstable();
    let middle = waits.get(waits.len() / 2)?;
    let other = waits.get((waits.len() - 1) / 2)?;
    Some((*middle as f64 + *other as f64) / 2.0 / 1e9)
}
