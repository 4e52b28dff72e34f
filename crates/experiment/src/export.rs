//! Exports model inputs as arrays for notebooks, and imports predictions made elsewhere, scored on the same split.
//! Exports are for users: unlike an external model, they also receive the labels of test flows and the flow IDs.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::json;

use super::assembly::{assembled, sha256};
use super::fit::FitOutcome;
use super::measure::Cost;
use super::prepare::{PreparedAll, prepare_all};
use super::run::{FittedRow, Run, Settings, VariantRun};
use super::{Experiment, ExperimentError, RunKey, current_variant};
use etcbench_evaluate::Metrics;
use etcbench_feature::PAD;
use etcbench_model::external::write_array;
use etcbench_model::{FitReport, Implementation, ModelKind};
use etcbench_storage as storage;
use etcbench_storage::declarative;
use etcbench_storage::progress::Progress;

/// The text at the top of every export.
const READ_ME: &str =
    "The inputs of an experiment's models, one folder per variant. Row i is the same flow in every array.

bytes.npy        u2, rows x N x M: the first M bytes of the first N packets; 256 for missing bytes
statistics.npy   f8, rows x columns: flow statistics, in the order of statistic_names
sequences.npy    f4, rows x K x 2: signed length and inter-arrival time, if a model of the experiment reads them
flowpics.npy     u1, rows x R x R: packets by length and time, if a model of the experiment reads them
labels.npy       u4, rows: indices into class_names
flow_ids.txt     one line per row
description.json class_names, statistic_names and the sizes
splits/          one folder per seed (and fold): train.npy, validation.npy and test.npy, rows as u8; training.npy has the
                 training rows after sampling, which models are fitted on

THE LABELS OF TEST ROWS ARE INCLUDED. Select nothing by them: fit on train, select on validation, and predict test once.
`etcbench import` scores predictions made from these arrays.
";

/// Writes the arrays, labels, names and splits of every variant into `folder`, which the caller moves into place.
///
/// # Errors
/// Any I/O error.
pub fn export(variants: &[VariantRun], folder: &Path) -> Result<(), ExperimentError> {
    write(&folder.join("README.txt"), |file| file.write_all(READ_ME.as_bytes()))?;
    variants.iter().try_for_each(|variant| export_variant(variant, &folder.join(&variant.name)))
}

fn export_variant(variant: &VariantRun, folder: &Path) -> Result<(), ExperimentError> {
    let features = &variant.features;
    let rows = features.len();
    let (packets, bytes) = (features.tokens.packets, features.tokens.bytes);
    if packets * bytes > 0 {
        write(&folder.join("bytes.npy"), |file| {
            let shape = [rows, packets, bytes];
            write_array(file, "<u2", &shape, features.tokens.values.iter().map(|value| value.to_le_bytes()))
        })?;
    }
    write(&folder.join("statistics.npy"), |file| {
        let shape = [rows, features.statistic_names.len()];
        write_array(file, "<f8", &shape, features.statistics.iter().map(|&value| f64::from(value).to_le_bytes()))
    })?;
    let columns = features.sequences.ncols();
    if columns > 0 {
        write(&folder.join("sequences.npy"), |file| {
            write_array(
                file,
                "<f4",
                &[rows, columns / 2, 2],
                features.sequences.iter().map(|value| value.to_le_bytes()),
            )
        })?;
    }
    let pixels = features.flowpics.ncols();
    if pixels > 0 {
        write(&folder.join("flowpics.npy"), |file| {
            let shape = [rows, pixels.isqrt(), pixels.isqrt()];
            write_array(file, "|u1", &shape, features.flowpics.iter().map(|value| value.to_le_bytes()))
        })?;
    }
    write(&folder.join("labels.npy"), |file| {
        write_array(file, "<u4", &[rows], features.labels.iter().map(|value| value.to_le_bytes()))
    })?;
    write(&folder.join("flow_ids.txt"), |file| {
        features.provenance.iter().try_for_each(|flow| writeln!(file, "{}", flow.flow_id()))
    })?;
    let description = json!({
        "class_names": features.class_names,
        "statistic_names": features.statistic_names,
        "rows": rows,
        "packets": packets,
        "bytes": bytes,
        "sequence_packets": columns / 2,
        "flowpic_resolution": pixels.isqrt(),
        "pad": PAD,
        "test_labels_are_inside": true,
    });
    write(&folder.join("description.json"), |file| writeln!(file, "{description:#}"))?;
    for run in &variant.splits {
        let folder = folder.join("splits").join(variant.split_name(run.seed, run.fold));
        let parts = [
            ("train", &run.split.train),
            ("validation", &run.split.validation),
            ("test", &run.split.test),
            ("training", &run.training),
        ];
        for (name, rows) in parts {
            write(&folder.join(format!("{name}.npy")), |file| {
                write_array(file, "<u8", &[rows.len()], rows.iter().map(|&row| (row as u64).to_le_bytes()))
            })?;
        }
    }
    Ok(())
}

fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), ExperimentError> {
    let problem = |error: std::io::Error| ExperimentError::Store { path: path.to_owned(), problem: error.to_string() };
    let mut file = BufWriter::with_capacity(1 << 20, storage::create_file(path).map_err(problem)?);
    fill(&mut file).and_then(|()| file.flush()).map_err(problem)
}

/// A line of a predictions file.
struct Line {
    number: usize,
    flow_id: String,
    probabilities: Vec<f32>,
}

/// Identifies the test set of lines.
type TestSet = (String, u64, usize);

/// Scores the predictions in the file `path` under the name `model`, on the splits of the experiment's variants and
/// seeds that occur in the file. `stored` is the folder of the experiment's run; if it exists, its splits must be the
/// same.
///
/// # Errors
/// The file lacks a required column, contains flows that are not in the test part, or lacks some that are; and same as
/// [`super::run`] until training.
pub fn import(
    experiment: &Experiment,
    settings: &Settings,
    path: &Path,
    model: &str,
    stored: &Path,
    progress: &dyn Progress,
) -> Result<Run, ExperimentError> {
    let problem = |problem: String| ExperimentError::Store { path: path.to_owned(), problem };
    if model.is_empty() || !model.chars().all(|character| character.is_ascii_alphanumeric() || "_-".contains(character))
    {
        return Err(problem(format!("--model {model}: use only letters, digits, `_` and `-`")));
    }
    if ModelKind::named(model).is_some() {
        return Err(problem(format!("--model {model}: etcbench has a model with this name; choose another")));
    }
    let PreparedAll { mut loaded, variants: prepared, .. } = prepare_all(experiment, settings, progress)?;
    let variants: Vec<VariantRun> = prepared.into_iter().map(|(_, _, variant)| variant).collect();
    let mut lines = read_lines(path, experiment, &variants)?;
    let mut rows = Vec::new();
    for variant in &variants {
        for split in &variant.splits {
            let Some(lines) = lines.remove(&(variant.name.clone(), split.seed, split.fold)) else { continue };
            check_stored(stored, variant, split)?;
            let key = RunKey {
                experiment: experiment.name.clone(),
                dataset: experiment.datasets.join("+"),
                size: experiment.size.clone(),
                variant: variant.name.clone(),
                model: model.to_owned(),
                input: "unknown".to_owned(),
                implementation: Implementation::IMPORTED.to_owned(),
                seed: split.seed,
                fold: split.fold,
            };
            let outcome = outcome(variant, &split.split.test, lines, path).map_err(problem)?;
            rows.push(FittedRow {
                key,
                outcome,
                cache_key: String::new(),
                reused: false,
                tuning: None,
                answers: Vec::new(),
                decision_cost: None,
            });
        }
    }
    if let Some(((variant, seed, fold), lines)) = lines.into_iter().next() {
        let line = lines.first().map_or(0, |line| line.number);
        return Err(problem(format!(
            "line {line}: {} has no variant {variant} with seed {seed} and fold {fold}",
            experiment.name
        )));
    }
    // Variants without predictions would be empty rows.
    let named: Vec<String> = rows.iter().map(|row| row.key.variant.clone()).collect();
    let variants = variants.into_iter().filter(|variant| named.contains(&variant.name)).collect();
    Ok(assembled(experiment, settings, &mut loaded, variants, rows))
}

/// Reads a predictions file, by test set.
fn read_lines(
    path: &Path,
    experiment: &Experiment,
    variants: &[VariantRun],
) -> Result<BTreeMap<TestSet, Vec<Line>>, ExperimentError> {
    let problem = |problem: String| ExperimentError::Store { path: path.to_owned(), problem };
    let mut reader = csv::Reader::from_path(path).map_err(|error| problem(error.to_string()))?;
    let header = reader.headers().map_err(|error| problem(error.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|column| column == name);
    let flow_id = column("flow_id").ok_or_else(|| {
        let known: Vec<&str> = header.iter().collect();
        problem(format!("column `flow_id` is missing (columns: {})", known.join(", ")))
    })?;
    let (variant, seed, fold) = (column("variant"), column("seed"), column("fold"));
    let class = column("predicted").or_else(|| column("class"));
    let mut found: BTreeMap<TestSet, Vec<Line>> = BTreeMap::new();
    for (index, record) in reader.records().enumerate() {
        let number = index + 2;
        let record = record.map_err(|error| problem(format!("line {number}: {error}")))?;
        let fault = |text: String| problem(format!("line {number}: {text}"));
        let field = |column: usize| record.get(column).unwrap_or_default();
        let name = match (variant, variants) {
            (Some(column), _) => {
                let named = field(column);
                let is_known = variants.iter().any(|variant| variant.name == named);
                if is_known { named.to_owned() } else { current_variant(named).into_owned() }
            }
            (None, [only]) => only.name.clone(),
            (None, _) => {
                let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
                return Err(fault(format!(
                    "column `variant` is missing, but there are several variants ({}); add it, or use --variants",
                    names.join(", ")
                )));
            }
        };
        let seed = match (seed, experiment.seeds.as_slice()) {
            (Some(column), _) => {
                field(column).parse().map_err(|_| fault(format!("the seed `{}` is not a number", field(column))))?
            }
            (None, [only]) => *only,
            (None, _) => {
                return Err(fault(
                    "column `seed` is missing, but there are several seeds; add it, or use --seeds".to_owned(),
                ));
            }
        };
        let fold = match fold {
            Some(column) => {
                field(column).parse().map_err(|_| fault(format!("the fold `{}` is not a number", field(column))))?
            }
            None => 0,
        };
        let of_variant = variants.iter().find(|variant| variant.name == name).ok_or_else(|| {
            fault(format!(
                "no such variant: `{name}`{}",
                declarative::did_you_mean(&name, variants.iter().map(|variant| variant.name.as_str()))
            ))
        })?;
        let classes = &of_variant.features.class_names;
        let columns: Vec<Option<usize>> = classes.iter().map(|class| column(&format!("probability_{class}"))).collect();
        let probabilities = if columns.iter().any(Option::is_some) {
            let value = |(class, column): (&String, &Option<usize>)| {
                let column = column.ok_or_else(|| fault(format!("column probability_{class} is missing")))?;
                field(column)
                    .parse::<f32>()
                    .map_err(|_| fault(format!("probability_{class} is `{}`, which is not a number", field(column))))
            };
            classes.iter().zip(&columns).map(value).collect::<Result<Vec<f32>, _>>()?
        } else {
            let column = class
                .ok_or_else(|| fault("neither column `class` nor columns `probability_CLASS` exist".to_owned()))?;
            let predicted = classes.iter().position(|class| class == field(column)).ok_or_else(|| {
                fault(declarative::unknown(
                    "class",
                    field(column),
                    &classes.iter().map(String::as_str).collect::<Vec<_>>(),
                ))
            })?;
            (0..classes.len()).map(|class| if class == predicted { 1.0 } else { 0.0 }).collect()
        };
        let line = Line { number, flow_id: field(flow_id).to_owned(), probabilities };
        found.entry((name, seed, fold)).or_default().push(line);
    }
    if found.is_empty() {
        return Err(problem("it has no predictions".to_owned()));
    }
    Ok(found)
}

/// Converts the predictions of a test set to the outcome of a fit; they must contain each of its flows exactly once,
/// and no others.
fn outcome(variant: &VariantRun, test: &[usize], lines: Vec<Line>, path: &Path) -> Result<FitOutcome, String> {
    let features = &variant.features;
    let mut by_flow: HashMap<String, Line> = HashMap::new();
    for line in lines {
        let number = line.number;
        if let Some(before) = by_flow.insert(line.flow_id.clone(), line) {
            return Err(format!("line {number}: flow {} is also predicted in line {}", before.flow_id, before.number));
        }
    }
    let mut probabilities = Vec::with_capacity(test.len() * features.class_names.len());
    let mut missing = Vec::new();
    for &row in test {
        match by_flow.remove(&features.provenance[row].flow_id()) {
            Some(line) => probabilities.extend(line.probabilities),
            None => missing.push(features.provenance[row].flow_id()),
        }
    }
    if let Some(first) = missing.first() {
        return Err(format!(
            "{} of the {} test flows of {} have no prediction, starting with {first}",
            missing.len(),
            test.len(),
            variant.name
        ));
    }
    if let Some(line) = by_flow.values().min_by_key(|line| line.number) {
        return Err(format!("line {}: flow {} is not in the test part of {}", line.number, line.flow_id, variant.name));
    }
    let nothing = Cost { wall_seconds: 0.0, cpu_seconds: None, peak_memory_bytes: None };
    let content = std::fs::read(path).map_err(|error| error.to_string())?;
    let note = format!("imported: predicted elsewhere, SHA-256 of the file {}", sha256(&content));
    let outcome = FitOutcome {
        report: FitReport { notes: vec![note], ..FitReport::default() },
        fit: nothing,
        predict: nothing,
        training_flows: 0,
        validation_flows: 0,
        model_bytes: 0,
        test_rows: test.to_vec(),
        labels: test.iter().map(|&row| features.labels[row]).collect(),
        probabilities,
    };
    let matrix = outcome.probability_matrix(features.class_names.len()).map_err(|error| error.to_string())?;
    Metrics::from_probabilities(&outcome.labels, matrix).map_err(|error| error.to_string())?;
    Ok(outcome)
}

/// Refuses a split that differs from the one stored by the experiment's run.
fn check_stored(stored: &Path, variant: &VariantRun, split: &super::SplitRun) -> Result<(), ExperimentError> {
    let name = format!("{}-{}.csv", variant.name, variant.split_name(split.seed, split.fold));
    let path = stored.join("splits").join(name);
    let Ok(before) = std::fs::read(&path) else { return Ok(()) };
    let folder = tempfile::tempdir()
        .map_err(|error| ExperimentError::Store { path: std::env::temp_dir(), problem: error.to_string() })?;
    let now = folder.path().join("split.csv");
    etcbench_split::write_split(&now, &variant.features, &split.split)?;
    if std::fs::read(&now).ok().as_ref() == Some(&before) {
        return Ok(());
    }
    let problem =
        "the experiment now divides its flows differently; run it again, or restore the earlier version".to_owned();
    Err(ExperimentError::Store { path, problem })
}
