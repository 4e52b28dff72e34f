//! Converts fits to records: one record per measured value.

use super::run::{FittedRow, Run};
use super::{ExperimentError, Record, RunKey};
use etcbench_evaluate::{Metric, bootstrap_intervals};
use etcbench_model::Implementation;

/// Number of bootstrap resamples of the test set: the ends of an interval then vary by about a fiftieth of its width.
const RESAMPLES: usize = 2000;

/// Creates a record of a whole fit.
fn of_fit(key: &RunKey, metric: impl Into<String>, value: Option<f64>) -> Record {
    Record { key: key.clone(), class: None, predicted: None, setting: None, epoch: None, metric: metric.into(), value }
}

/// Appends the records of one fit: metrics, costs, samples per second.
pub(super) fn outcome_records(
    row: &FittedRow,
    class_names: &[String],
    records: &mut Vec<Record>,
) -> Result<(), ExperimentError> {
    let outcome = &row.outcome;
    let metrics = outcome.metrics(class_names.len())?;
    for value in metrics.records() {
        records.push(Record {
            class: value.class.map(|class| class_names[class].clone()),
            predicted: value.predicted.map(|class| class_names[class].clone()),
            ..of_fit(&row.key, value.metric, value.value)
        });
    }
    let mut whole = |metric: String, value: Option<f64>| records.push(of_fit(&row.key, metric, value));
    let of_counts: Vec<_> = Metric::resampled().map(|(_, of_counts)| of_counts).collect();
    let intervals = bootstrap_intervals(&metrics.confusion, RESAMPLES, row.key.seed, &of_counts);
    for ((metric, _), interval) in Metric::resampled().zip(intervals) {
        let [low, high] = metric.bootstrap_names();
        whole(low, Some(interval.low));
        whole(high, Some(interval.high));
    }
    let mut add = |metric: Metric, value: Option<f64>| whole(metric.key.to_owned(), value);
    let tests = outcome.test_rows.len() as f64;
    // Imported predictions have no measured costs.
    if row.key.implementation == Implementation::IMPORTED {
        add(Metric::TEST_FLOWS, Some(tests));
        return Ok(());
    }
    add(Metric::TRAINING_FLOWS, Some(outcome.training_flows as f64));
    add(Metric::VALIDATION_FLOWS, Some(outcome.validation_flows as f64));
    add(Metric::TEST_FLOWS, Some(tests));
    add(Metric::MODEL_BYTES, Some(outcome.model_bytes as f64));
    let memory = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    add(Metric::FIT_WALL_SECONDS, Some(outcome.fit.wall_seconds));
    add(Metric::FIT_CPU_SECONDS, outcome.fit.cpu_seconds);
    add(Metric::FIT_PEAK_MEMORY_BYTES, memory(outcome.fit.peak_memory_bytes));
    add(Metric::PREDICT_WALL_SECONDS, Some(outcome.predict.wall_seconds));
    add(Metric::PREDICT_CPU_SECONDS, outcome.predict.cpu_seconds);
    add(Metric::PREDICT_PEAK_MEMORY_BYTES, memory(outcome.predict.peak_memory_bytes));
    // No rate for an elapsed time of zero.
    let rate = |samples: f64, seconds: f64| (seconds > 0.0).then(|| samples / seconds);
    add(Metric::PREDICT_FLOWS_PER_SECOND, rate(tests, outcome.predict.wall_seconds));
    if let Some(cost) = &row.decision_cost {
        for (batch, metrics) in cost.batches.iter().zip(Metric::DECISIONS) {
            let values = [Some(batch.median_microseconds), Some(batch.tail_microseconds), batch.joules];
            metrics.into_iter().zip(values).for_each(|(metric, value)| add(metric, value));
        }
        add(Metric::DECISION_MEMORY_BYTES, memory(cost.memory_bytes));
    }
    // Models with a single stage name it `fit`, which is measured above.
    for stage in outcome.report.stages.iter().filter(|stage| stage.stage != "fit") {
        whole(Metric::WALL_SECONDS.of_stage(&stage.stage), Some(stage.wall_seconds));
        let rate = rate(stage.samples as f64, stage.wall_seconds);
        whole(Metric::SAMPLES_PER_SECOND.of_stage(&stage.stage), rate);
    }
    if let Some(pretraining) = &outcome.report.pretraining {
        let mut count = |metric: String, value: u64| whole(metric, Some(value as f64));
        count(Metric::PRETRAINING_PACKETS.key.to_owned(), pretraining.packets());
        for part in &pretraining.parts {
            count(Metric::PRETRAINING_PACKETS_OF_PART.of_part(&part.name.replace(' ', "_")), part.packets);
        }
        count(Metric::PRETRAINING_EXCLUDED_FLOWS.key.to_owned(), pretraining.excluded.flows);
        count(Metric::PRETRAINING_EXCLUDED_PACKETS.key.to_owned(), pretraining.excluded.packets);
        if let Some((_, seen)) = &pretraining.file {
            count(Metric::PRETRAINING_SEEN_TEST_FLOWS.key.to_owned(), seen.test_flows);
            count(Metric::PRETRAINING_SEEN_VALIDATION_FLOWS.key.to_owned(), seen.validation_flows);
        }
    }
    Ok(())
}

/// Appends one record per failed fit with the kind of failure.
pub(super) fn failure_records(run: &Run, records: &mut Vec<Record>) {
    for failed in &run.failures {
        records.push(of_fit(&failed.key, Metric::FAILED.of_part(failed.failure.kind.name()), Some(1.0)));
    }
}

/// Appends the tuning results: the validation score of every setting, and the chosen setting's score again.
pub(super) fn tuning_records(run: &Run, records: &mut Vec<Record>) {
    for row in &run.rows {
        let Some(tuning) = &row.tuning else { continue };
        let mut add = |setting: Option<&str>, metric: Metric, value: Option<f64>| {
            let record = of_fit(&row.key, metric.key, value);
            records.push(Record { setting: setting.map(str::to_owned), ..record });
        };
        for trial in &tuning.trials {
            add(Some(&trial.setting), Metric::TUNING_MACRO_F1, trial.macro_f1);
        }
        let chosen = &tuning.trials[tuning.chosen];
        add(Some(&chosen.setting), Metric::TUNING_CHOSEN_MACRO_F1, chosen.macro_f1);
        add(None, Metric::TUNING_TRIALS, Some(tuning.trials.len() as f64));
        let seconds = tuning.trials.iter().map(|trial| trial.wall_seconds).sum();
        add(None, Metric::TUNING_WALL_SECONDS, Some(seconds));
    }
}

/// Appends the training curves: one record per stage, epoch and value.
pub(super) fn curve_records(run: &Run, records: &mut Vec<Record>) {
    for row in &run.rows {
        for epoch in &row.outcome.report.epochs {
            let values = [
                (Metric::TRAINING_LOSS, Some(epoch.training_loss)),
                (Metric::VALIDATION_LOSS, epoch.validation_loss),
                (Metric::VALIDATION_MACRO_F1, epoch.validation_macro_f1),
            ];
            for (metric, value) in values.into_iter().filter(|(_, value)| value.is_some()) {
                let record = of_fit(&row.key, metric.of_stage(&epoch.stage), value);
                records.push(Record { epoch: Some(epoch.epoch), ..record });
            }
        }
    }
}
