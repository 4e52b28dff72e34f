//! Files of a run in addition to its records: the resolved experiment, provenance, predictions and splits, in portable
//! formats.

use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::cache::StageCounts;
use super::capture_facts::CaptureFacts;
use super::comparisons::{comparisons, comparisons_csv};
use super::evaluation::{answers_csv, evaluation_csv};
use super::run::{FailedFit, FittedRow, LeftOutVariant, Run, VariantRun};
use super::{BestScore, Cost, ExperimentError, Invocation, Provenance, Record, RunKey};
use etcbench_feature::Unselected;
use etcbench_model::external::FailureKind;
use etcbench_model::{Claims, Implementation, ModelKind, Pretraining, StageTime};
use etcbench_split::SmallClass;
use etcbench_storage as storage;

/// `run.json`: everything about a run that is not a metric.
#[derive(Serialize)]
struct RunFile<'a> {
    experiment: &'a str,
    title: &'a str,
    datasets: &'a [String],
    size: &'a str,
    seeds: &'a [u64],
    /// The command that started the run, and when.
    invocation: Invocation,
    /// The highest score.
    #[serde(skip_serializing_if = "Option::is_none")]
    best: Option<BestScore>,
    provenance: &'a Provenance,
    manifests: Vec<ManifestFile<'a>>,
    models: Vec<ModelFile<'a>>,
    captures: &'a [CaptureFacts],
    data_notes: &'a [String],
    stages: &'a StageCounts,
    variants: Vec<VariantFile<'a>>,
    fits: Vec<FitFile<'a>>,
    /// Rungs of a ladder for which the data could not be divided.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    left_out: &'a [LeftOutVariant],
    /// Fits of external models that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<FailureFile<'a>>,
}

/// Identifies a manifest of the run.
#[derive(Serialize)]
struct ManifestFile<'a> {
    dataset: &'a str,
    /// SHA-256 of `manifests/DATASET.json`.
    sha256: String,
}

/// Description of a model, in addition to its keys.
#[derive(Serialize)]
struct ModelFile<'a> {
    name: &'a str,
    summary: &'a str,
    /// Version of what a fit computes.
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<ExternalFile<'a>>,
}

/// Identifies the program of an external model.
#[derive(Serialize)]
struct ExternalFile<'a> {
    /// Hash of its folder's contents.
    digest: &'a str,
    version: &'a str,
    /// Versions of its dependencies, as reported by its program.
    versions: String,
    run: &'a [String],
    build: &'a [String],
    licence: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    citation: Option<&'a str>,
    /// What any pre-training saw, in the words of its author.
    pretraining: &'a str,
}

impl<'a> ModelFile<'a> {
    fn of(kind: ModelKind) -> Self {
        let entry = kind.entry();
        let external = entry.external.map(|package| {
            let [_, _, versions] = package.identity();
            let manifest = &package.manifest;
            ExternalFile {
                digest: &package.digest,
                version: &manifest.version,
                versions,
                run: &manifest.run,
                build: &manifest.build,
                licence: &manifest.licence,
                citation: manifest.citation.as_deref(),
                pretraining: &manifest.pretraining,
            }
        });
        ModelFile { name: entry.name, summary: entry.summary, version: entry.version, external }
    }
}

#[derive(Serialize)]
struct FailureFile<'a> {
    #[serde(flatten)]
    key: &'a RunKey,
    kind: FailureKind,
    problem: &'a str,
    standard_error: &'a [String],
}

#[derive(Serialize)]
struct VariantFile<'a> {
    name: &'a str,
    flows: usize,
    flows_per_class: Vec<(&'a str, usize)>,
    unselected: Unselected,
    small_classes: &'a [SmallClass],
    shared_captures: Vec<SharedCaptures>,
}

/// Number of captures that two parts of a split share.
#[derive(Serialize)]
struct SharedCaptures {
    seed: u64,
    fold: usize,
    first: &'static str,
    second: &'static str,
    captures: usize,
}

#[derive(Serialize)]
struct FitFile<'a> {
    #[serde(flatten)]
    key: &'a RunKey,
    /// Whether the fit came from the cache; its costs are those of the original computation.
    reused: bool,
    /// The setting chosen by tuning; `None` if the model was not tuned.
    setting: Option<&'a str>,
    cache_key: &'a str,
    /// `None` for imported predictions.
    fit: Option<Cost>,
    predict: Option<Cost>,
    stages: &'a [StageTime],
    notes: &'a [String],
    /// What the program of an external model says of its own speed.
    #[serde(skip_serializing_if = "Claims::are_none")]
    claims: Claims,
    /// The pre-training data of the model, if it is not the training part alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pretraining: Option<&'a Pretraining>,
}

/// Writes `experiment.toml`, `run.json`, `leaks.json`, `leaks.csv`, `comparisons.csv`, `manifests/*.json`,
/// `predictions/*.csv`, `splits/*.csv`, `flows/*.csv` and, if there are any, `flows_without_label.csv` into `folder`,
/// which the caller moves into place when everything has been written. `records` are the run's records.
///
/// # Errors
/// Any I/O error.
pub fn store(run: &Run, records: &[Record], folder: &Path) -> Result<(), ExperimentError> {
    let write = |name: &Path, fill: &mut dyn FnMut(&mut dyn Write) -> std::io::Result<()>| {
        let path = folder.join(name);
        let problem = |error: std::io::Error| ExperimentError::Store { path: path.clone(), problem: error.to_string() };
        let mut file = BufWriter::new(storage::create_file(&path).map_err(problem)?);
        fill(&mut file).and_then(|()| file.flush()).map_err(problem)
    };
    write(Path::new("experiment.toml"), &mut |file| {
        writeln!(file, "# The experiment as it was run, with everything it extends.")?;
        file.write_all(run.experiment.resolved.to_string().as_bytes())
    })?;
    let mut manifests = Vec::new();
    for manifest in &run.manifests {
        let path = folder.join("manifests").join(format!("{}.json", manifest.dataset));
        let problem = |problem: String| ExperimentError::Store { path: path.clone(), problem };
        etcbench_dataset::write_manifest(&path, manifest).map_err(|error| problem(error.to_string()))?;
        let sha256 = etcbench_dataset::file_sha256(&path).map_err(|error| problem(error.to_string()))?;
        manifests.push(ManifestFile { dataset: &manifest.dataset, sha256 });
    }
    let json = serde_json::to_vec_pretty(&run_file(run, records, manifests))
        .map_err(|error| ExperimentError::Internal { problem: format!("run.json: {error}") })?;
    write(Path::new("run.json"), &mut |file| file.write_all(&json))?;
    let comparisons = comparisons(run)?;
    let leaks = super::split_leaks(&run.variants);
    let json = serde_json::to_vec_pretty(&leaks)
        .map_err(|error| ExperimentError::Internal { problem: format!("leaks.json: {error}") })?;
    write(Path::new("leaks.json"), &mut |file| file.write_all(&json))?;
    let lines = super::leaks::to_csv(&leaks)
        .map_err(|error| ExperimentError::Internal { problem: format!("leaks.csv: {error}") })?;
    write(Path::new("leaks.csv"), &mut |file| file.write_all(&lines))?;
    let lines = comparisons_csv(&comparisons)?;
    write(Path::new("comparisons.csv"), &mut |file| file.write_all(&lines))?;
    let evaluation = &run.experiment.evaluation;
    if evaluation.drift.is_some() || run.rows.iter().any(|row| !row.answers.is_empty()) {
        let lines = evaluation_csv(evaluation, &run.variants, &run.rows)?;
        write(Path::new("evaluation.csv"), &mut |file| file.write_all(&lines))?;
    }
    if !run.without_label.is_empty() {
        write(Path::new("flows_without_label.csv"), &mut |file| file.write_all(run.without_label.as_bytes()))?;
    }
    for variant in &run.variants {
        for row in run.rows.iter().filter(|row| row.key.variant == variant.name) {
            let key = &row.key;
            let split = variant.split_name(key.seed, key.fold);
            let name = format!("predictions/{}-{}-{}-{split}.csv", key.variant, key.model, key.input);
            write(Path::new(&name), &mut |file| predictions(variant, row, file))?;
            if !row.answers.is_empty() {
                let name = name.replacen("predictions/", "evaluation/", 1);
                let lines = answers_csv(variant, row)?;
                write(Path::new(&name), &mut |file| file.write_all(&lines))?;
            }
        }
        for run in &variant.splits {
            let name = format!("splits/{}-{}.csv", variant.name, variant.split_name(run.seed, run.fold));
            etcbench_split::write_split(&folder.join(name), &variant.features, &run.split)?;
        }
        let name = format!("flows/{}.csv", variant.name);
        etcbench_split::write_flows(&folder.join(name), &variant.features)?;
    }
    Ok(())
}

fn run_file<'a>(run: &'a Run, records: &[Record], manifests: Vec<ManifestFile<'a>>) -> RunFile<'a> {
    RunFile {
        experiment: &run.experiment.name,
        title: &run.experiment.title,
        datasets: &run.experiment.datasets,
        size: &run.experiment.size,
        seeds: &run.experiment.seeds,
        invocation: run.invocation.ended(),
        best: BestScore::of(records),
        provenance: &run.provenance,
        manifests,
        models: models(run),
        captures: &run.captures,
        data_notes: &run.data_notes,
        left_out: &run.left_out,
        stages: &run.stages,
        variants: run.variants.iter().map(variant_file).collect(),
        fits: run
            .rows
            .iter()
            .map(|row| FitFile {
                key: &row.key,
                reused: row.reused,
                setting: row.tuning.as_ref().map(|tuning| tuning.trials[tuning.chosen].setting.as_str()),
                cache_key: &row.cache_key,
                fit: Some(row.outcome.fit).filter(|_| row.key.implementation != Implementation::IMPORTED),
                predict: Some(row.outcome.predict).filter(|_| row.key.implementation != Implementation::IMPORTED),
                stages: &row.outcome.report.stages,
                notes: &row.outcome.report.notes,
                claims: row.outcome.report.claims,
                pretraining: row.outcome.report.pretraining.as_ref(),
            })
            .collect(),
        failures: run
            .failures
            .iter()
            .map(|FailedFit { key, failure }| FailureFile {
                key,
                kind: failure.kind,
                problem: &failure.problem,
                standard_error: &failure.standard_error,
            })
            .collect(),
    }
}

/// Returns the fitted models, in order of fitting.
fn models(run: &Run) -> Vec<ModelFile<'_>> {
    let fitted = run.rows.iter().map(|row| &row.key).chain(run.failures.iter().map(|failed| &failed.key));
    let names: Vec<&str> = fitted.map(|key| key.model.as_str()).collect();
    let mut kinds: Vec<ModelKind> = Vec::new();
    for spec in run.experiment.variants.iter().flat_map(|variant| &variant.models) {
        let members = spec.members();
        for kind in std::iter::once(spec.kind).chain(members.iter().map(|member| member.kind)) {
            if names.contains(&spec.kind.name()) && !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    kinds.into_iter().map(ModelFile::of).collect()
}

fn variant_file(variant: &VariantRun) -> VariantFile<'_> {
    let features = &variant.features;
    let count = |class: usize| features.labels.iter().filter(|&&label| label as usize == class).count();
    VariantFile {
        name: &variant.name,
        flows: features.len(),
        flows_per_class: features
            .class_names
            .iter()
            .enumerate()
            .map(|(class, name)| (name.as_str(), count(class)))
            .collect(),
        unselected: variant.unselected,
        small_classes: &variant.small_classes,
        shared_captures: variant
            .splits
            .iter()
            .flat_map(|run| {
                run.summary.shared.iter().map(|shared| SharedCaptures {
                    seed: run.seed,
                    fold: run.fold,
                    first: shared.first.name(),
                    second: shared.second.name(),
                    captures: shared.captures.len(),
                })
            })
            .collect(),
    }
}

/// Writes `flow_id,class,predicted,probability_CLASS...`, one line per test flow.
fn predictions(variant: &VariantRun, row: &FittedRow, file: &mut dyn Write) -> std::io::Result<()> {
    let names = &variant.features.class_names;
    let mut writer = csv::Writer::from_writer(file);
    let mut header = vec!["flow_id".to_owned(), "class".to_owned(), "predicted".to_owned()];
    header.extend(names.iter().map(|name| format!("probability_{name}")));
    writer.write_record(&header)?;
    let probabilities = row.outcome.probability_matrix(names.len()).map_err(std::io::Error::other)?;
    let predicted = etcbench_evaluate::argmax(probabilities);
    for (index, &test_row) in row.outcome.test_rows.iter().enumerate() {
        let mut line = vec![
            variant.features.provenance[test_row].flow_id(),
            names[row.outcome.labels[index] as usize].clone(),
            names[predicted[index] as usize].clone(),
        ];
        line.extend(probabilities.row(index).iter().map(f32::to_string));
        writer.write_record(&line)?;
    }
    writer.flush()
}
