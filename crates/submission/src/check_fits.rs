//! Checks fits: every model on every split, with predictions for its test flows. Reconstructs the state from which the
//! runner computed the records.

use std::collections::{BTreeMap, BTreeSet};

use super::claimed::{Claimed, FitFacts, stand_in};
use super::rules::Finding;
use etcbench_evaluate::{Metric, argmax};
use etcbench_experiment::{
    BatchCost, Cost, DECISION_BATCHES, DecisionCost, FitOutcome, FittedRow, Record, RunKey, SplitRun, Trial, Tuning,
    VariantRun, tried_settings,
};
use etcbench_model::{EpochRecord, FitReport, Implementation, ModelSpec};
use etcbench_report::{StoredPredictions, read_predictions};

/// Returns the fits with their predictions, or `None` if one cannot be read or is missing.
pub(super) fn check(
    claimed: &Claimed,
    variants: &[Option<VariantRun>],
    findings: &mut Vec<Finding>,
) -> Option<Vec<FittedRow>> {
    let before = findings.len();
    check_coverage(claimed, variants, findings);
    let complete = findings.len() == before;
    let mut records: BTreeMap<&RunKey, Vec<&Record>> = BTreeMap::new();
    for record in &claimed.stored.records {
        records.entry(&record.key).or_default().push(record);
    }
    let mut rows = Vec::new();
    let mut whole = complete && variants.iter().all(Option::is_some);
    for fit in &claimed.run.fits {
        let variant = variants.iter().flatten().find(|variant| variant.name == fit.key.variant);
        let Some(variant) = variant else { continue };
        let split = variant.splits.iter().find(|split| (split.seed, split.fold) == (fit.key.seed, fit.key.fold));
        let Some(split) = split else { continue };
        let fit_records = records.get(&fit.key).map(Vec::as_slice).unwrap_or_default();
        match check_fit(claimed, variant, split, fit, fit_records, findings) {
            Some(row) => rows.push(row),
            None => whole = false,
        }
    }
    whole.then_some(rows)
}

/// Returns the description of a fit for messages.
pub(super) fn fit_name(key: &RunKey) -> String {
    format!("{} on {}, {}, seed {}, fold {}", key.model, key.input, key.variant, key.seed, key.fold)
}

/// A model to fit on every split: model, input, implementation.
type Row = (String, String, String);

fn row(key: &RunKey) -> Row {
    (key.model.clone(), key.input.clone(), key.implementation.clone())
}

/// Checks that exactly the models of the experiment have one fit or failure on every split.
fn check_coverage(claimed: &Claimed, variants: &[Option<VariantRun>], findings: &mut Vec<Finding>) {
    let run = &claimed.run;
    let imported = claimed.is_imported();
    let mut found = |place: &str, problem: String| findings.push(Finding::new("fits", place, problem));
    let mut of_run: BTreeMap<&RunKey, usize> = BTreeMap::new();
    let keys = || run.fits.iter().map(|fit| &fit.key).chain(run.failures.iter().map(|failure| &failure.key));
    keys().for_each(|key| *of_run.entry(key).or_default() += 1);
    for (key, _) in of_run.iter().filter(|(_, count)| **count > 1) {
        found("run.json", format!("{} is duplicated", fit_name(key)));
    }
    let mut expected: BTreeSet<RunKey> = BTreeSet::new();
    for variant in variants.iter().flatten() {
        let specs = claimed.experiment.variants.iter().find(|own| own.name == variant.name);
        let named = |spec: &ModelSpec| {
            (spec.kind.name().to_owned(), spec.input.name().to_owned(), spec.implementation_name().to_owned())
        };
        let specs = specs.into_iter().flat_map(|own| &own.models).map(named);
        // An experiment with only external models was read with a built-in model instead.
        let is_stand_in =
            |row: &Row| !claimed.unknown.is_empty() && row.0 == stand_in() && !claimed.names_model(&row.0);
        let mut rows: BTreeSet<Row> = match imported {
            true => BTreeSet::new(),
            false => specs.filter(|row| !is_stand_in(row)).collect(),
        };
        // The rows of models unknown to this program are taken from the run; each must be in every variant.
        let of_others = keys().filter(|key| imported || claimed.unknown.contains(&key.model));
        rows.extend(of_others.map(row));
        for name in claimed.unknown.iter().filter(|name| !imported && rows.iter().all(|row| row.0 != **name)) {
            found("run.json", format!("the experiment names {name}, which has no fit"));
        }
        for split in &variant.splits {
            for (model, input, implementation) in &rows {
                expected.insert(RunKey {
                    experiment: run.experiment.clone(),
                    dataset: run.datasets.join("+"),
                    size: run.size.clone(),
                    variant: variant.name.clone(),
                    model: model.clone(),
                    input: input.clone(),
                    implementation: implementation.clone(),
                    seed: split.seed,
                    fold: split.fold,
                });
            }
        }
    }
    for key in expected.iter().filter(|key| !of_run.contains_key(key)) {
        found("run.json", format!("neither a fit nor a failure of {}", fit_name(key)));
    }
    let read = |key: &RunKey| variants.iter().flatten().any(|variant| variant.name == key.variant);
    let unread = variants.iter().any(Option::is_none);
    for key in of_run.keys().filter(|key| !expected.contains(key) && (read(key) || !unread)) {
        found("run.json", format!("{} is not part of the experiment", fit_name(key)));
    }
    // A file of predictions without a fit could be a result that was left out.
    let files: BTreeSet<String> = run.fits.iter().map(|fit| file_name(variants, &fit.key)).collect();
    for name in claimed.files_in("predictions") {
        if !files.contains(&name) && !unread {
            found(&name, "belongs to no fit of run.json".to_owned());
        }
    }
}

fn file_name(variants: &[Option<VariantRun>], key: &RunKey) -> String {
    let folds =
        variants.iter().flatten().find(|variant| variant.name == key.variant).map_or(1, |variant| variant.folds);
    let split = Claimed::split_name(folds, key.seed, key.fold);
    format!("predictions/{}-{}-{}-{split}.csv", key.variant, key.model, key.input)
}

/// Checks a fit, and reconstructs it as the runner had it.
fn check_fit(
    claimed: &Claimed,
    variant: &VariantRun,
    split: &SplitRun,
    fit: &FitFacts,
    records: &[&Record],
    findings: &mut Vec<Finding>,
) -> Option<FittedRow> {
    let key = &fit.key;
    let name = format!(
        "predictions/{}-{}-{}-{}.csv",
        key.variant,
        key.model,
        key.input,
        variant.split_name(key.seed, key.fold)
    );
    let mut found = |rule, problem: String| findings.push(Finding::new(rule, &name, problem));
    let path = claimed.folder().join(&name);
    if !path.is_file() {
        found("fits", "is missing".to_owned());
        return None;
    }
    let predictions = match read_predictions(&path) {
        Ok(predictions) => predictions,
        Err(error) => {
            let folder = format!("{}/", claimed.folder().display());
            found("predictions", error.to_string().replace(&folder, ""));
            return None;
        }
    };
    if predictions.classes != variant.features.class_names {
        let (own, stated) = (predictions.classes.join(", "), variant.features.class_names.join(", "));
        found("classes", format!("the classes are {own}, but those of the flows {stated}"));
        return None;
    }
    let test_rows = check_predictions(variant, split, &predictions, &mut found)?;
    let imported = key.implementation == Implementation::IMPORTED;
    let nothing = Cost { wall_seconds: 0.0, cpu_seconds: None, peak_memory_bytes: None };
    if imported == fit.fit.is_some() || fit.fit.is_some() != fit.predict.is_some() {
        findings.push(Finding::new(
            "costs",
            "run.json",
            format!("{}: costs must be stated for fits that were measured, and only for those", fit_name(key)),
        ));
        return None;
    }
    // Impossibly large counts would overflow sums.
    let most = 1 << 53;
    let counted = fit.pretraining.iter().flat_map(|seen| &seen.parts).map(|part| part.packets);
    let counted = counted.chain(fit.stages.iter().map(|stage| stage.samples));
    if counted.fold(0, u64::saturating_add) > most {
        findings.push(Finding::new("format", "run.json", format!("{}: it has impossibly large counts", fit_name(key))));
        return None;
    }
    let value = |metric: Metric| {
        let of_fit = |record: &&&Record| record.metric == metric.key && record.class.is_none();
        records.iter().find(of_fit).and_then(|record| record.value)
    };
    let (training_flows, validation_flows) = match imported {
        true => (0, 0),
        false => (split.training.len(), split.split.validation.len()),
    };
    let outcome = FitOutcome {
        report: FitReport {
            stages: fit.stages.clone(),
            epochs: epochs(records),
            notes: fit.notes.clone(),
            pretraining: fit.pretraining.clone(),
            claims: fit.claims,
        },
        fit: fit.fit.unwrap_or(nothing),
        predict: fit.predict.unwrap_or(nothing),
        training_flows,
        validation_flows,
        // Only the record contains the size of a model.
        model_bytes: value(Metric::MODEL_BYTES).unwrap_or_default() as usize,
        test_rows,
        labels: predictions.labels,
        probabilities: predictions.probabilities.into_raw_vec_and_offset().0,
    };
    let tuning = check_tuning(claimed, variant, fit, records, findings);
    check_costs(fit, findings);
    Some(FittedRow {
        key: key.clone(),
        outcome,
        cache_key: fit.cache_key.clone(),
        reused: fit.reused,
        tuning,
        answers: Vec::new(),
        decision_cost: decision_cost(key, &value, findings),
    })
}

/// Returns the claimed costs of decisions, which only the records contain.
fn decision_cost(
    key: &RunKey,
    value: &dyn Fn(Metric) -> Option<f64>,
    findings: &mut Vec<Finding>,
) -> Option<DecisionCost> {
    let of_batch = |(&flows, [median, tail, joules]): (&usize, [Metric; 3])| {
        let (median_microseconds, tail_microseconds) = (value(median)?, value(tail)?);
        Some(BatchCost { flows, calls: 0, median_microseconds, tail_microseconds, joules: value(joules) })
    };
    let batches = DECISION_BATCHES.iter().zip(Metric::DECISIONS).map(of_batch).collect::<Option<Vec<_>>>()?;
    let sound =
        |batch: &BatchCost| batch.median_microseconds > 0.0 && batch.tail_microseconds >= batch.median_microseconds;
    if !batches.iter().all(sound) {
        let name = fit_name(key);
        findings.push(Finding::new(
            "costs",
            "records.csv",
            format!("{name}: decisions take no time, or their 99th percentile is below their median"),
        ));
    }
    let memory_bytes = value(Metric::DECISION_MEMORY_BYTES).map(|bytes| bytes as u64);
    Some(DecisionCost { batches, memory_bytes })
}

/// Checks that each test flow has one prediction and its own class; returns the rows of the flows.
fn check_predictions(
    variant: &VariantRun,
    split: &SplitRun,
    predictions: &StoredPredictions,
    found: &mut dyn FnMut(&'static str, String),
) -> Option<Vec<usize>> {
    let features = &variant.features;
    let ids: BTreeMap<String, usize> =
        split.split.test.iter().map(|&row| (features.provenance[row].flow_id(), row)).collect();
    let mut seen = BTreeSet::new();
    let (mut twice, mut others, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = Vec::new();
    for (id, &label) in predictions.flows.iter().zip(&predictions.labels) {
        let Some(&row) = ids.get(id) else {
            others.push(id);
            continue;
        };
        if !seen.insert(id) {
            twice.push(id);
        }
        if features.labels[row] != label {
            wrong.push(id);
        }
        rows.push(row);
    }
    let missing: Vec<&String> = ids.keys().filter(|id| !seen.contains(id)).collect();
    let mut fine = true;
    for (rule, ids, problem) in [
        ("predictions", twice, "flow(s) are predicted twice"),
        ("predictions", others, "flow(s) are not in the test part"),
        ("predictions", missing, "test flow(s) have no prediction"),
        ("labels", wrong, "flow(s) have a class that differs from the flows file"),
    ] {
        if let Some(first) = ids.first() {
            found(rule, format!("{} {problem}, the first {first}", ids.len()));
            fine = false;
        }
    }
    let likeliest = argmax(predictions.probabilities.view());
    if let Some(line) = (0..likeliest.len()).find(|&line| likeliest[line] != predictions.predicted[line]) {
        let id = &predictions.flows[line];
        found("predictions", format!("{id}: the predicted class does not have the highest probability"));
    }
    fine.then_some(rows)
}

/// Returns the training curves, which only the records contain.
fn epochs(records: &[&Record]) -> Vec<EpochRecord> {
    let mut epochs: Vec<EpochRecord> = Vec::new();
    for record in records {
        let (Some(epoch), Some(value)) = (record.epoch, record.value) else { continue };
        let metrics = [Metric::TRAINING_LOSS, Metric::VALIDATION_LOSS, Metric::VALIDATION_MACRO_F1];
        let parsed = metrics.into_iter().find_map(|metric| Some((metric, metric.stage_in(&record.metric)?.to_owned())));
        let Some((metric, stage)) = parsed else { continue };
        let place = epochs.iter().position(|known| known.stage == stage && known.epoch == epoch).unwrap_or_else(|| {
            let (validation_loss, validation_macro_f1) = (None, None);
            epochs.push(EpochRecord { stage, epoch, training_loss: f64::NAN, validation_loss, validation_macro_f1 });
            epochs.len() - 1
        });
        let known = &mut epochs[place];
        if metric == Metric::TRAINING_LOSS {
            known.training_loss = value;
        } else if metric == Metric::VALIDATION_LOSS {
            known.validation_loss = Some(value);
        } else {
            known.validation_macro_f1 = Some(value);
        }
    }
    epochs
}

/// Checks that the settings of the experiment were tried and the best was chosen.
fn check_tuning(
    claimed: &Claimed,
    variant: &VariantRun,
    fit: &FitFacts,
    records: &[&Record],
    findings: &mut Vec<Finding>,
) -> Option<Tuning> {
    let key = &fit.key;
    let mut found = |problem: String| findings.push(Finding::new("budget", fit_name(key), problem));
    let records_of = |metric: Metric| records.iter().filter(move |record| record.metric == metric.key);
    let seconds = records_of(Metric::TUNING_WALL_SECONDS).next().and_then(|record| record.value);
    let trials: Vec<Trial> = records_of(Metric::TUNING_MACRO_F1)
        .enumerate()
        .map(|(place, record)| Trial {
            setting: record.setting.clone().unwrap_or_default(),
            macro_f1: record.value,
            // Only the sum of the times is stored.
            wall_seconds: if place == 0 { seconds.unwrap_or_default() } else { 0.0 },
        })
        .collect();
    let tried: Vec<&str> = trials.iter().map(|trial| trial.setting.as_str()).collect();
    let specs = claimed.experiment.variants.iter().find(|stated| stated.name == variant.name);
    let same = |spec: &&ModelSpec| (spec.kind.name(), spec.input.name()) == (key.model.as_str(), key.input.as_str());
    match specs.and_then(|stated| stated.models.iter().find(same)) {
        Some(spec) => match tried_settings(claimed.experiment.tune.as_ref(), spec) {
            Ok(stated) => {
                let stated = stated.unwrap_or_default();
                if tried != stated.iter().map(String::as_str).collect::<Vec<_>>() {
                    found(format!(
                        "{} settings were tried, but the experiment has {}: {}",
                        tried.len(),
                        stated.len(),
                        stated.join("; ")
                    ));
                }
            }
            Err(error) => found(error.to_string()),
        },
        // For a model unknown to this program, only the budget can be checked.
        None => {
            let budget = claimed.experiment.tune.as_ref().map_or(0, |tune| tune.budget);
            if tried.len() > budget {
                found(format!("{} settings were tried, but the budget is {budget}", tried.len()));
            }
        }
    }
    if trials.is_empty() {
        if fit.setting.is_some() {
            found("a setting was chosen, but none was tried".to_owned());
        }
        return None;
    }
    let Some(tuning) = Tuning::choose(trials) else {
        found("no setting that was tried has a score".to_owned());
        return None;
    };
    let best = &tuning.trials[tuning.chosen].setting;
    if fit.setting.as_ref() != Some(best) {
        let chosen = fit.setting.as_deref().unwrap_or("none");
        found(format!("the setting chosen is {chosen}, but the best on the validation part is {best}"));
    }
    Some(tuning)
}

/// Tolerance between clocks in seconds: the resolution at which CPU time is counted.
const CLOCK_STEP: f64 = 0.1;

/// Reports inconsistent times.
fn check_costs(fit: &FitFacts, findings: &mut Vec<Finding>) {
    let mut found = |problem: String| {
        findings.push(Finding::new("costs", "run.json", format!("{}: {problem}", fit_name(&fit.key))))
    };
    for (what, cost) in [("fit", fit.fit), ("predict", fit.predict)] {
        let Some(cost) = cost else { continue };
        let seconds = [Some(cost.wall_seconds), cost.cpu_seconds];
        if seconds.into_iter().flatten().any(|seconds| !seconds.is_finite() || seconds < 0.0) {
            found(format!("{what} has a negative or infinite time"));
        }
    }
    let Some(cost) = fit.fit else { return };
    // Only the stage `fit` is compared: an ELMo from the cache has the time of its first computation.
    let longest =
        fit.stages.iter().filter(|stage| stage.stage == "fit").map(|stage| stage.wall_seconds).fold(0.0, f64::max);
    if longest > cost.wall_seconds + CLOCK_STEP {
        found(format!("its stage took {longest} s, but the whole fit {} s", cost.wall_seconds));
    }
}
