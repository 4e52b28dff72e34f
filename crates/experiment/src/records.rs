//! Fits become records: one line per measured value.

use super::run::{FittedRow, Run};
use super::{ExperimentError, Record};
use etcbench_evaluate::{ConfusionMatrix, bootstrap_intervals};

/// Test sets drawn for a bootstrap interval: its ends then vary by about a fiftieth of its width.
const RESAMPLES: usize = 2000;

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
            key: row.key.clone(),
            class: value.class.map(|class| class_names[class].clone()),
            predicted: value.predicted.map(|class| class_names[class].clone()),
            setting: None,
            metric: value.metric.to_owned(),
            value: value.value,
        });
    }
    let mut whole = |metric: String, value: Option<f64>| {
        records.push(Record { key: row.key.clone(), class: None, predicted: None, setting: None, metric, value });
    };
    let macro_f1 = |matrix: &ConfusionMatrix| matrix.macro_average().f1;
    let intervals =
        bootstrap_intervals(&metrics.confusion, RESAMPLES, row.key.seed, [ConfusionMatrix::accuracy, macro_f1]);
    for (metric, interval) in ["accuracy", "macro_f1"].into_iter().zip(intervals) {
        whole(format!("{metric}_bootstrap_low"), Some(interval.low));
        whole(format!("{metric}_bootstrap_high"), Some(interval.high));
    }
    let tests = outcome.test_rows.len() as f64;
    whole("training_flows".to_owned(), Some(outcome.training_flows as f64));
    whole("validation_flows".to_owned(), Some(outcome.validation_flows as f64));
    whole("test_flows".to_owned(), Some(tests));
    whole("model_bytes".to_owned(), Some(outcome.model_bytes as f64));
    for (stage, cost) in [("fit", &outcome.fit), ("predict", &outcome.predict)] {
        whole(format!("{stage}_wall_seconds"), Some(cost.wall_seconds));
        whole(format!("{stage}_cpu_seconds"), cost.cpu_seconds);
        whole(format!("{stage}_peak_memory_bytes"), cost.peak_memory_bytes.map(|bytes| bytes as f64));
    }
    // An elapsed time of zero gives no rate.
    let rate = |samples: f64, seconds: f64| (seconds > 0.0).then(|| samples / seconds);
    whole("predict_flows_per_second".to_owned(), rate(tests, outcome.predict.wall_seconds));
    // A model of one stage calls it `fit`, which is measured above.
    for stage in outcome.report.stages.iter().filter(|stage| stage.stage != "fit") {
        whole(format!("{}_wall_seconds", stage.stage), Some(stage.wall_seconds));
        whole(format!("{}_samples_per_second", stage.stage), rate(stage.samples as f64, stage.wall_seconds));
    }
    if let Some(pretraining) = &outcome.report.pretraining {
        let mut count = |metric: String, value: u64| whole(format!("pretraining_{metric}"), Some(value as f64));
        count("packets".to_owned(), pretraining.packets());
        for part in &pretraining.parts {
            count(format!("packets_{}", part.name.replace(' ', "_")), part.packets);
        }
        count("excluded_flows".to_owned(), pretraining.excluded.flows);
        count("excluded_packets".to_owned(), pretraining.excluded.packets);
        if let Some((_, seen)) = &pretraining.file {
            count("seen_test_flows".to_owned(), seen.test_flows);
            count("seen_validation_flows".to_owned(), seen.validation_flows);
        }
    }
    Ok(())
}

/// Appends what was tried in tuning: the score of every setting on the validation part, and the one chosen again.
pub(super) fn tuning_records(run: &Run, records: &mut Vec<Record>) {
    for row in &run.rows {
        let Some(tuning) = &row.tuning else { continue };
        let mut add = |setting: Option<&str>, metric: &str, value: Option<f64>| {
            records.push(Record {
                key: row.key.clone(),
                class: None,
                predicted: None,
                setting: setting.map(str::to_owned),
                metric: metric.to_owned(),
                value,
            });
        };
        for trial in &tuning.trials {
            add(Some(&trial.setting), "tuning_macro_f1", trial.macro_f1);
        }
        let chosen = &tuning.trials[tuning.chosen];
        add(Some(&chosen.setting), "tuning_chosen_macro_f1", chosen.macro_f1);
        add(None, "tuning_trials", Some(tuning.trials.len() as f64));
        add(None, "tuning_wall_seconds", Some(tuning.trials.iter().map(|trial| trial.wall_seconds).sum()));
    }
}

/// Appends the training curves: one record per epoch and value, with the epoch in the metric's name.
pub(super) fn curve_records(run: &Run, records: &mut Vec<Record>) {
    for row in &run.rows {
        for epoch in &row.outcome.report.epochs {
            let values = [
                ("training_loss", Some(epoch.training_loss)),
                ("validation_loss", epoch.validation_loss),
                ("validation_macro_f1", epoch.validation_macro_f1),
            ];
            for (name, value) in values {
                if let Some(value) = value {
                    records.push(Record {
                        key: row.key.clone(),
                        class: None,
                        predicted: None,
                        setting: None,
                        metric: format!("{}_epoch_{}_{name}", epoch.stage, epoch.epoch),
                        value: Some(value),
                    });
                }
            }
        }
    }
}
