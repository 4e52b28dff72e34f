//! Files of a run's evaluations: `evaluation.csv`, one value per line, and `evaluation/*.csv` with every answer.

use ndarray::{ArrayView2, Axis};

use super::super::run::{FittedRow, VariantRun};
use super::super::{ExperimentError, FitOutcome};
use super::query::Answers;
use super::{Condition, EvaluationKind, EvaluationOptions, MEDIAN_WAIT_SECONDS, TEMPERATURE};
use etcbench_dataset::FlowProvenance;
use etcbench_evaluate::{
    Metric, Metrics, OpenPart, OpenSet, ProbabilisticMetrics, argmax, brier_score, temperature, with_temperature,
};

/// Measured values of one condition.
struct Measured {
    kind: EvaluationKind,
    condition: String,
    rows: usize,
    values: Vec<(&'static str, f64)>,
}

fn matrix<'a>(probabilities: &'a [f32], rows: usize, classes: usize) -> Result<ArrayView2<'a, f32>, ExperimentError> {
    ArrayView2::from_shape((rows, classes), probabilities)
        .map_err(|error| ExperimentError::Internal { problem: format!("answers of a model: {error}") })
}

fn scores(labels: &[u32], probabilities: ArrayView2<'_, f32>) -> Result<Vec<(&'static str, f64)>, ExperimentError> {
    let metrics = Metrics::from_predictions(labels, &argmax(probabilities), probabilities.ncols())?;
    let highest = |row: ndarray::ArrayView1<'_, f32>| f64::from(row.iter().copied().fold(0.0, f32::max));
    let confidence = probabilities.rows().into_iter().map(highest).sum::<f64>() / labels.len().max(1) as f64;
    Ok(vec![
        (Metric::ACCURACY.key, metrics.accuracy),
        (Metric::MACRO_F1.key, metrics.macro_average.f1),
        ("mean_confidence", confidence),
    ])
}

/// Confidence thresholds for deciding before all packets have arrived.
const THRESHOLDS: [f64; 6] = [0.5, 0.7, 0.8, 0.9, 0.95, 0.99];

/// Measures decisions that are made as soon as the highest probability reaches a threshold, and at the latest after the
/// last packet: their quality, and the number of packets they need.
fn early_decisions(answers: &[Answers], classes: usize) -> Result<Vec<Measured>, ExperimentError> {
    let after = |answers: &'_ Answers| match answers.condition {
        Condition::FirstPackets { packets } => Some(packets),
        _ => None,
    };
    let mut asked: Vec<(usize, &Answers)> =
        answers.iter().filter_map(|answers| Some((after(answers)?, answers))).collect();
    asked.sort_by_key(|(packets, _)| *packets);
    let Some((_, first)) = asked.first() else { return Ok(Vec::new()) };
    let rows = first.labels.len();
    let of_threshold = |threshold: f64| {
        let (mut predicted, mut packets) = (Vec::with_capacity(rows), 0);
        for row in 0..rows {
            let own = |answers: &Answers| answers.probabilities[row * classes..(row + 1) * classes].to_vec();
            let sure = |probabilities: &[f32]| probabilities.iter().any(|&value| f64::from(value) >= threshold);
            let mut decided = asked.iter().map(|(packets, answers)| (*packets, own(answers)));
            let found = decided.clone().find(|(_, probabilities)| sure(probabilities));
            let (at, probabilities) = found.or_else(|| decided.next_back()).unwrap_or_default();
            predicted.extend(argmax(matrix(&probabilities, 1, classes)?));
            packets += at;
        }
        let metrics = Metrics::from_predictions(&first.labels, &predicted, classes)?;
        let values = vec![
            (Metric::ACCURACY.key, metrics.accuracy),
            (Metric::MACRO_F1.key, metrics.macro_average.f1),
            ("mean_packets", packets as f64 / rows.max(1) as f64),
        ];
        Ok(Measured { kind: EvaluationKind::EarlyDecision, condition: threshold.to_string(), rows, values })
    };
    THRESHOLDS.into_iter().map(of_threshold).collect()
}

/// Measures the test flows of a temporal split in consecutive periods. Each class is divided separately, so that every
/// period has the same class distribution as the whole.
fn over_time(
    parts: usize,
    outcome: &FitOutcome,
    provenance: &[FlowProvenance],
    classes: usize,
) -> Result<Vec<Measured>, ExperimentError> {
    let probabilities = outcome.probability_matrix(classes)?;
    let start = |row: usize| provenance[outcome.test_rows[row]].start;
    let mut part_of = vec![0; outcome.labels.len()];
    for class in 0..classes as u32 {
        let mut own: Vec<usize> = (0..outcome.labels.len()).filter(|&row| outcome.labels[row] == class).collect();
        own.sort_by_key(|&row| (start(row), row));
        let count = own.len();
        own.iter().enumerate().for_each(|(place, &row)| part_of[row] = place * parts / count);
    }
    let mut measured = Vec::new();
    for part in 0..parts {
        let rows: Vec<usize> = (0..outcome.labels.len()).filter(|&row| part_of[row] == part).collect();
        if rows.is_empty() {
            continue;
        }
        let labels: Vec<u32> = rows.iter().map(|&row| outcome.labels[row]).collect();
        let own = probabilities.select(Axis(0), &rows);
        let values = scores(&labels, own.view())?;
        measured.push(Measured {
            kind: EvaluationKind::Drift,
            condition: (part + 1).to_string(),
            rows: rows.len(),
            values,
        });
    }
    Ok(measured)
}

/// Returns all measurements of one fit.
fn measured(
    options: &EvaluationOptions,
    outcome: &FitOutcome,
    answers: &[Answers],
    provenance: &[FlowProvenance],
    classes: usize,
) -> Result<Vec<Measured>, ExperimentError> {
    let of = |wanted: Condition| answers.iter().find(|answers| answers.condition == wanted);
    let test = outcome.probability_matrix(classes)?;
    let mut all = Vec::new();
    if let Some(validation) = of(Condition::Validation) {
        let probabilities = matrix(&validation.probabilities, validation.labels.len(), classes)?;
        if options.calibration {
            let fitted = temperature(&validation.labels, probabilities)?;
            let scaled = with_temperature(test, fitted);
            for condition in ["before", "after"] {
                let probabilities = if condition == "after" { scaled.view() } else { test.view() };
                let probabilistic = ProbabilisticMetrics::new(&outcome.labels, probabilities)?;
                let mut values = vec![
                    (Metric::LOG_LOSS.key, probabilistic.log_loss),
                    (Metric::EXPECTED_CALIBRATION_ERROR.key, probabilistic.expected_calibration_error),
                    ("brier_score", brier_score(&outcome.labels, probabilities)?),
                ];
                if condition == "after" {
                    values.push((TEMPERATURE, fitted));
                }
                let condition = condition.to_owned();
                all.push(Measured { kind: EvaluationKind::Calibration, condition, rows: outcome.labels.len(), values });
            }
        }
        if let Some(unknown) = of(Condition::Unknown) {
            let unknown_probabilities = matrix(&unknown.probabilities, unknown.labels.len(), classes)?;
            let distances = unknown.distances.as_ref();
            let known = OpenPart { probabilities: test, distances: distances.map(|all| all.test.as_slice()) };
            let other = OpenPart {
                probabilities: unknown_probabilities,
                distances: distances.map(|all| all.unknown.as_slice()),
            };
            let held_out = OpenPart { probabilities, distances: distances.map(|all| all.validation.as_slice()) };
            for (score, found) in OpenSet::measure(&outcome.labels, &known, &other, &held_out)? {
                let values = vec![
                    (Metric::ROC_AUC.key, found.roc_auc),
                    ("false_positive_rate_at_95", found.false_positive_rate),
                    ("oscr", found.oscr),
                    ("macro_f1_with_reject", found.macro_f1_with_reject),
                    ("rejected_known", found.rejected_known),
                    ("rejected_unknown", found.rejected_unknown),
                ];
                let rows = outcome.labels.len() + unknown.labels.len();
                all.push(Measured { kind: EvaluationKind::Unknown, condition: score.name().to_owned(), rows, values });
            }
        }
    }
    // The first entry of each kind has the scores without any change.
    let whole = scores(&outcome.labels, test)?;
    let mut kinds: Vec<EvaluationKind> = Vec::new();
    for answer in answers {
        let kind = answer.condition.kind();
        if matches!(answer.condition, Condition::Validation | Condition::Unknown) {
            continue;
        }
        if !kinds.contains(&kind) {
            kinds.push(kind);
            all.push(Measured {
                kind,
                condition: "none".to_owned(),
                rows: outcome.labels.len(),
                values: whole.clone(),
            });
        }
        let mut values = scores(&answer.labels, matrix(&answer.probabilities, answer.labels.len(), classes)?)?;
        values.push(("empty_flows", answer.empty_rows as f64));
        values.extend(answer.median_wait_seconds.map(|seconds| (MEDIAN_WAIT_SECONDS, seconds)));
        all.push(Measured { kind, condition: answer.condition.name(), rows: answer.labels.len(), values });
    }
    all.extend(early_decisions(answers, classes)?);
    if let Some(parts) = options.drift {
        all.extend(over_time(parts, outcome, provenance, classes)?);
    }
    Ok(all)
}

/// `evaluation.csv`: `variant,model,input,implementation,seed,fold,kind,condition,flows,metric,value`.
///
/// # Errors
/// Answers are not distributions over the classes.
pub fn evaluation_csv<'a>(
    options: &EvaluationOptions,
    variants: impl IntoIterator<Item = &'a VariantRun>,
    rows: &[FittedRow],
) -> Result<Vec<u8>, ExperimentError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |problem: csv::Error| ExperimentError::Internal { problem: format!("evaluation.csv: {problem}") };
    let header = [
        "variant",
        "model",
        "input",
        "implementation",
        "seed",
        "fold",
        "kind",
        "condition",
        "flows",
        "metric",
        "value",
    ];
    writer.write_record(header).map_err(failed)?;
    for variant in variants {
        let classes = variant.features.class_names.len();
        for row in rows.iter().filter(|row| row.key.variant == variant.name) {
            let key = &row.key;
            let (seed, fold) = (key.seed.to_string(), key.fold.to_string());
            for measured in measured(options, &row.outcome, &row.answers, &variant.features.provenance, classes)? {
                for (metric, value) in measured.values {
                    let (rows, value) = (measured.rows.to_string(), value.to_string());
                    let line = [
                        &key.variant,
                        &key.model,
                        &key.input,
                        &key.implementation,
                        &seed,
                        &fold,
                        measured.kind.name(),
                        &measured.condition,
                        &rows,
                        metric,
                        &value,
                    ];
                    writer.write_record(line).map_err(failed)?;
                }
            }
        }
    }
    writer.into_inner().map_err(|problem| ExperimentError::Internal { problem: problem.to_string() })
}

/// Writes the answers of a fit: `kind,condition,class,predicted,training_distance,probability_CLASS...`, the flows of each
/// condition in the order of the predictions (validation flows as in the split file, unknown flows by ID). If distances to
/// the training flows were measured, the test flows come first, as kind `test`.
///
/// # Errors
/// Answers with the wrong shape.
pub(in super::super) fn answers_csv(variant: &VariantRun, row: &FittedRow) -> Result<Vec<u8>, ExperimentError> {
    let names = &variant.features.class_names;
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |problem: csv::Error| ExperimentError::Internal { problem: format!("answers: {problem}") };
    let mut header: Vec<String> =
        ["kind", "condition", "class", "predicted", "training_distance"].map(str::to_owned).to_vec();
    header.extend(names.iter().map(|name| format!("probability_{name}")));
    writer.write_record(&header).map_err(failed)?;
    let mut write = |part: &AnsweredPart<'_>| {
        let predicted = argmax(part.probabilities);
        for (place, (row, &label)) in part.probabilities.rows().into_iter().zip(part.labels).enumerate() {
            let distance = part.distances.map_or(String::new(), |distances| distances[place].to_string());
            let mut line = vec![
                part.kind.to_owned(),
                part.condition.clone(),
                part.classes[label as usize].clone(),
                names[predicted[place] as usize].clone(),
                distance,
            ];
            line.extend(row.iter().map(f32::to_string));
            writer.write_record(&line).map_err(failed)?;
        }
        Ok::<_, ExperimentError>(())
    };
    let distances = row.answers.iter().find_map(|answers| answers.distances.as_ref());
    if let Some(distances) = distances {
        write(&AnsweredPart {
            kind: "test",
            condition: String::new(),
            classes: names,
            labels: &row.outcome.labels,
            probabilities: row.outcome.probability_matrix(names.len())?,
            distances: Some(&distances.test),
        })?;
    }
    for answers in &row.answers {
        let (classes, distances) = match (answers.condition, &variant.unknown) {
            (Condition::Unknown, Some(unknown)) => (&unknown.class_names, distances.map(|all| &all.unknown)),
            (Condition::Validation, _) => (names, distances.map(|all| &all.validation)),
            _ => (names, None),
        };
        write(&AnsweredPart {
            kind: answers.condition.kind().name(),
            condition: answers.condition.name(),
            classes,
            labels: &answers.labels,
            probabilities: matrix(&answers.probabilities, answers.labels.len(), names.len())?,
            distances,
        })?;
    }
    writer.into_inner().map_err(|problem| ExperimentError::Internal { problem: problem.to_string() })
}

/// Flows of one condition, as written to a file of answers.
struct AnsweredPart<'a> {
    kind: &'static str,
    condition: String,
    /// Names of the classes that `labels` refer to.
    classes: &'a [String],
    labels: &'a [u32],
    probabilities: ArrayView2<'a, f32>,
    /// Distance of each flow to the training flows.
    distances: Option<&'a Vec<f64>>,
}
