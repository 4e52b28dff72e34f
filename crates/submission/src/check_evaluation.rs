//! Checks answers under the conditions of `[evaluation]`: that every model was asked under every condition, that the flows are
//! those of the split, and that every measurement follows from the answers.

use std::collections::BTreeMap;

use super::bundle::Bundle;
use super::check_fits::fit_name;
use super::check_results::first_difference;
use super::claimed::Claimed;
use super::rules::Finding;
use etcbench_experiment::{
    AnswerFacts, Answers, Condition, FittedRow, MEDIAN_WAIT_SECONDS, RunKey, StatedValues, Variant, VariantRun,
    evaluation_csv, is_evaluated, read_answers,
};
use etcbench_model::ModelSpec;
use etcbench_report::{EvaluationLine, read_evaluation};

/// The file of all measurements under conditions.
pub(super) const EVALUATION: &str = "evaluation.csv";
/// The folder with the answers of every fit.
pub(super) const EVALUATION_FOLDER: &str = "evaluation";

/// Adds the answers to the fits, and measures everything again.
pub(super) fn check(
    bundle: &Bundle,
    claimed: &Claimed,
    variants: &[Option<VariantRun>],
    rows: &mut [FittedRow],
    findings: &mut Vec<Finding>,
    notes: &mut Vec<String>,
) {
    let options = &claimed.experiment.evaluation;
    let mut files = claimed.files_in(EVALUATION_FOLDER);
    let stated = bundle.files.get(EVALUATION);
    let own: Vec<&VariantRun> = variants.iter().flatten().collect();
    if stated.is_none() && files.is_empty() {
        let is_asked = |row: &FittedRow| {
            spec(claimed, &row.key).is_some_and(|(variant, spec)| is_evaluated(options, variant, spec))
        };
        if options.drift.is_some() || rows.iter().any(is_asked) {
            notes.push(
                "it has no answers under [evaluation], as bundles of earlier versions: they are not checked".to_owned(),
            );
        }
        return;
    }
    let before = findings.len();
    let lines = match read_evaluation(&claimed.folder()) {
        Ok(lines) => lines,
        Err(error) => {
            let folder = format!("{}/", claimed.folder().display());
            findings.push(Finding::new("format", EVALUATION, error.to_string().replace(&folder, "")));
            return;
        }
    };
    let mut seen = Seen::default();
    for row in rows.iter_mut() {
        let Some(variant) = own.iter().find(|variant| variant.name == row.key.variant) else { continue };
        let key = &row.key;
        let split = variant.split_name(key.seed, key.fold);
        let name = format!("{EVALUATION_FOLDER}/{}-{}-{}-{split}.csv", key.variant, key.model, key.input);
        files.retain(|file| *file != name);
        let content = bundle.files.get(&name);
        match answers(claimed, variant, row, content.map(Vec::as_slice), &lines) {
            Ok(answers) => {
                findings.extend(
                    seen.problems(variant, row, &answers).map(|problem| Finding::new("evaluation", &name, problem)),
                );
                row.answers = answers;
            }
            Err(problem) => findings.push(Finding::new("evaluation", &name, problem)),
        }
    }
    for name in files {
        findings.push(Finding::new("evaluation", name, "belongs to no fit of run.json"));
    }
    if findings.len() > before {
        return;
    }
    if options.drift.is_none() && rows.iter().all(|row| row.answers.is_empty()) {
        findings.push(Finding::new("evaluation", EVALUATION, "is there, but the experiment has no conditions"));
        return;
    }
    match evaluation_csv(options, own, rows) {
        Ok(again) => {
            let difference = first_difference(stated.map(Vec::as_slice).unwrap_or_default(), &again);
            findings.extend(difference.map(|difference| Finding::new("evaluation", EVALUATION, difference)));
        }
        Err(error) => findings.push(Finding::new("evaluation", EVALUATION, error.to_string())),
    }
}

/// Returns the model of a fit in the experiment; `None` if it is external or imported.
fn spec<'a>(claimed: &'a Claimed, key: &RunKey) -> Option<(&'a Variant, &'a ModelSpec)> {
    let variant = claimed.experiment.variants.iter().find(|variant| variant.name == key.variant)?;
    let names = (key.model.as_str(), key.input.as_str());
    let spec = variant.models.iter().find(|spec| (spec.kind.name(), spec.input.name()) == names)?;
    Some((variant, spec))
}

/// Reads the answers of a fit.
fn answers(
    claimed: &Claimed,
    variant: &VariantRun,
    row: &FittedRow,
    content: Option<&[u8]>,
    lines: &[EvaluationLine],
) -> Result<Vec<Answers>, String> {
    let key = &row.key;
    let own = spec(claimed, key).map(|(_, spec)| spec);
    let of_experiment = claimed.experiment.variants.iter().find(|own| own.name == key.variant);
    let Some(stated) = of_experiment else { return Ok(Vec::new()) };
    let Some(content) = content else {
        return match own.is_some_and(|own| is_evaluated(&claimed.experiment.evaluation, stated, own)) {
            true => Err("is missing".to_owned()),
            false => Ok(Vec::new()),
        };
    };
    let split = variant.splits.iter().find(|split| (split.seed, split.fold) == (key.seed, key.fold));
    let validation: Vec<u32> = split
        .map(|split| split.split.validation.iter().map(|&row| variant.features.labels[row]).collect())
        .unwrap_or_default();
    let facts = AnswerFacts {
        options: &claimed.experiment.evaluation,
        variant: stated,
        spec: own,
        class_names: &variant.features.class_names,
        test_labels: &row.outcome.labels,
        test_probabilities: &row.outcome.probabilities,
        validation_labels: &validation,
    };
    read_answers(content, &facts, &stated_values(key, lines))
}

/// Returns what only `evaluation.csv` states about the conditions of a fit, by kind and name.
fn stated_values(key: &RunKey, lines: &[EvaluationLine]) -> BTreeMap<(String, String), StatedValues> {
    let mut stated: BTreeMap<(String, String), StatedValues> = BTreeMap::new();
    let is_of_fit = |line: &&EvaluationLine| {
        (&line.variant, &line.model, &line.input, &line.implementation)
            == (&key.variant, &key.model, &key.input, &key.implementation)
            && (line.seed, line.fold) == (key.seed, key.fold)
    };
    for line in lines.iter().filter(is_of_fit) {
        let values = stated.entry((line.kind.name().to_owned(), line.condition.clone())).or_default();
        match line.metric.as_str() {
            "empty_flows" => values.empty_rows = line.value as usize,
            MEDIAN_WAIT_SECONDS => values.median_wait_seconds = Some(line.value),
            _ => {}
        }
    }
    stated
}

/// What the answers of several fits must have in common.
#[derive(Default)]
struct Seen {
    /// The classes of the unknown flows, by variant.
    unknown: BTreeMap<String, Vec<u32>>,
    /// Conditions, by variant, model and input.
    conditions: BTreeMap<(String, String, String), Vec<String>>,
    /// Median waits, by variant, seed, fold and packets.
    waits: BTreeMap<(String, u64, usize, usize), Option<f64>>,
    /// Distances to the training flows, by variant, seed, fold and input.
    distances: BTreeMap<(String, u64, usize, String), Vec<f64>>,
}

impl Seen {
    /// Returns what contradicts the answers of earlier fits, or the durations of flows.
    fn problems(&mut self, variant: &VariantRun, row: &FittedRow, answers: &[Answers]) -> impl Iterator<Item = String> {
        let key = &row.key;
        let mut problems = Vec::new();
        let conditions: Vec<String> = answers
            .iter()
            .map(|answers| format!("{} {}", answers.condition.kind().name(), answers.condition.name()))
            .collect();
        let of_model = (key.variant.clone(), key.model.clone(), key.input.clone());
        if *self.conditions.entry(of_model).or_insert_with(|| conditions.clone()) != conditions {
            problems.push("the conditions differ from those of another seed or fold".to_owned());
        }
        let longest = median_duration(variant, &row.outcome.test_rows);
        let mut last = 0.0;
        for answers in answers {
            if answers.condition == Condition::Unknown {
                let labels = self.unknown.entry(key.variant.clone()).or_insert_with(|| answers.labels.clone());
                if *labels != answers.labels {
                    problems.push("the flows of unknown classes differ from those of another fit".to_owned());
                }
            }
            if let Some(distances) = &answers.distances {
                let all = [&distances.test[..], &distances.validation, &distances.unknown].concat();
                let of_input = (key.variant.clone(), key.seed, key.fold, key.input.clone());
                if *self.distances.entry(of_input).or_insert_with(|| all.clone()) != all {
                    problems
                        .push("training distances differ from those of another model with the same input".to_owned());
                }
            }
            if let Condition::FirstPackets { packets } = answers.condition {
                let wait = answers.median_wait_seconds;
                let of_packets = (key.variant.clone(), key.seed, key.fold, packets);
                if *self.waits.entry(of_packets).or_insert(wait) != wait {
                    problems.push(format!("the wait for {packets} packets differs from that of another model"));
                }
                if wait.is_some_and(|wait| !(last..=longest).contains(&wait)) {
                    problems.push(format!(
                        "the median wait for {packets} packets is {} s, which is not between that for fewer packets, {last} s, \
                         and the median duration of the flows, {longest} s",
                        wait.unwrap_or_default()
                    ));
                }
                last = wait.unwrap_or(last);
            }
        }
        let name = fit_name(key);
        problems.into_iter().map(move |problem| format!("{name}: {problem}"))
    }
}

/// Returns the median duration of flows in seconds.
fn median_duration(variant: &VariantRun, rows: &[usize]) -> f64 {
    let flows = &variant.features.provenance;
    let mut durations: Vec<i64> = rows.iter().map(|&row| flows[row].end.saturating_sub(flows[row].start)).collect();
    durations.sort_unstable();
    let middle = durations.get(durations.len() / 2).copied().unwrap_or_default();
    let other = durations.get(durations.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    (middle as f64 + other as f64) / 2.0 / 1e9
}
