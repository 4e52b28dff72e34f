//! Checks an external model on a small generated task before it is trusted with data: it must follow the protocol,
//! answer the same however the rows are passed, be wrong if its training labels are wrong, not keep answers to look fast,
//! and leave no processes behind. On a split of real data, permuted training labels must reduce its accuracy to chance.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use ndarray::Array2;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::classifier::External;
use super::package::Package;
use crate::{
    Classifier, Device, Examples, FitContext, Implementation, Input, ModelArchive, ModelError, ModelKind, ModelSpec,
    NoArtifacts, factory,
};
use etcbench_capture::Transport;
use etcbench_dataset::FlowProvenance;
use etcbench_feature::{FeatureSet, PAD, TokenArray};
use etcbench_flow::FiveTuple;
use etcbench_storage::progress::Progress;
use etcbench_storage::seed;

/// Number of flows in each part of the task, and number of classes.
const TRAINING: usize = 240;
const VALIDATION: usize = 60;
const TEST: usize = 150;
const CLASSES: usize = 3;
/// Packets, bytes per packet, statistics, and packets of a sequence.
const PACKETS: usize = 3;
const BYTES: usize = 16;
const STATISTICS: usize = 8;
const SEQUENCE: usize = 6;
const SEED: u64 = 7;
/// Number of flows that are predicted one at a time to measure a claimed latency.
const TIMED: usize = 31;
/// Maximum number of fits with permuted labels.
const PERMUTATIONS: usize = 6;
/// How much faster repeated rows may be answered than new ones.
const MOST_FASTER: f64 = 2.0;

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The check passed.
    Good,
    /// For information.
    Note,
    /// The check failed.
    Bad,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Short name of the check.
    pub check: &'static str,
    /// The outcome.
    pub standing: Standing,
    /// What was observed.
    pub text: String,
}

/// Checks a model with each of its inputs; a failed fit ends the checks of that input.
pub fn check(kind: ModelKind, device: Device, progress: &dyn Progress) -> Vec<Finding> {
    let mut findings = Vec::new();
    for &input in kind.entry().inputs {
        let mut of_input = Checks { kind, input, device, progress, findings: Vec::new() };
        if let Err(error) = of_input.all() {
            of_input.add("protocol and answers", Standing::Bad, error.to_string());
        }
        findings.extend(of_input.findings);
    }
    findings
}

/// The rows of a real split, to check for labels that a model knows in advance.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// Features of all flows.
    pub features: &'a FeatureSet,
    /// The training rows.
    pub training: &'a [usize],
    /// The validation rows.
    pub validation: &'a [usize],
    /// The test rows.
    pub test: &'a [usize],
    /// Seed of the fit.
    pub seed: u64,
}

/// Checks a model on a split of real data, where it may know labels that the generated task does not have, such as in
/// its weights.
pub fn check_on(spec: &ModelSpec, task: Task<'_>, device: Device, progress: &dyn Progress) -> Vec<Finding> {
    let mut checks = Checks { kind: spec.kind, input: spec.input, device, progress, findings: Vec::new() };
    if let Err(error) = checks.on(spec, task) {
        checks.add("protocol and answers", Standing::Bad, error.to_string());
    }
    checks.findings
}

/// The checks of one input.
struct Checks<'a> {
    kind: ModelKind,
    input: Input,
    device: Device,
    progress: &'a dyn Progress,
    findings: Vec<Finding>,
}

impl Checks<'_> {
    fn add(&mut self, check: &'static str, standing: Standing, text: impl Into<String>) {
        let text = format!("{}: {}", self.input.name(), text.into());
        self.findings.push(Finding { check, standing, text });
    }

    fn holds(&mut self, check: &'static str, held: bool, good: impl Into<String>, bad: impl Into<String>) {
        match held {
            true => self.add(check, Standing::Good, good),
            false => self.add(check, Standing::Bad, bad),
        }
    }

    fn model(&self) -> Result<External, ModelError> {
        let parameters = toml::Table::new();
        let implementation = Implementation::default();
        External::new(&ModelSpec { kind: self.kind, input: self.input, implementation, parameters })
    }

    fn fit(&self, model: &mut External, features: &FeatureSet) -> Result<(), ModelError> {
        let rows: Vec<usize> = (0..TRAINING + VALIDATION).collect();
        let (training, validation) = rows.split_at(TRAINING);
        let examples = |rows| Examples { features, rows };
        let context = FitContext {
            seed: SEED,
            device: self.device,
            progress: self.progress,
            artifacts: &NoArtifacts,
            pretraining: None,
        };
        model.fit(examples(training), examples(validation), &context).map(drop)
    }

    fn all(&mut self) -> Result<(), ModelError> {
        let features = task();
        let rows: Vec<usize> = (TRAINING + VALIDATION..features.len()).collect();
        let test = Examples { features: &features, rows: &rows };
        let mut model = self.model()?;
        self.fit(&mut model, &features)?;
        let probabilities = model.predict_probabilities(test, self.progress)?;
        self.add("protocol and answers", Standing::Good, "describe, fit and predict; every row a distribution");
        let accuracy = accuracy(&probabilities, test);
        let standing = if accuracy > chance_bound() { Standing::Good } else { Standing::Note };
        self.add("learns", standing, format!("accuracy {accuracy:.3} on an easy task with {CLASSES} classes"));
        match model.check_answers(test, self.progress) {
            Ok(()) => self.add("order and batches", Standing::Good, "a row's answer does not depend on the others"),
            Err(error) => {
                self.add("order and batches", Standing::Bad, error.to_string());
                // A failure ends the program.
                model = self.model()?;
                self.fit(&mut model, &features)?;
            }
        }
        self.save(&model, test, &probabilities)?;
        self.latency(&model, test)?;
        let is_deterministic = model.is_deterministic()?;
        self.add("confinement", Standing::Note, model.confinement()?.to_string());
        if let Some(Ok(versions)) = self.kind.entry().external.map(Package::versions) {
            let told = if versions.is_empty() { "none reported; set `versions` in model.toml" } else { &versions };
            self.add("versions", Standing::Note, told.lines().collect::<Vec<_>>().join(", "));
        }
        drop(model);
        self.again(&features, test, &probabilities, is_deterministic)?;
        self.smuggling(&features, test)?;
        self.leftovers(&features)
    }

    /// Checks that a saved and loaded model predicts the same.
    fn save(&mut self, model: &External, test: Examples<'_>, before: &Array2<f32>) -> Result<(), ModelError> {
        let bytes = model.save()?.to_bytes()?;
        let loaded = factory::load(&ModelArchive::from_bytes(&bytes)?)?;
        let after = loaded.predict_probabilities(test, self.progress)?;
        let good = format!("{} bytes; the loaded model answers the same", bytes.len());
        self.holds("save and load", *before == after, good, "the loaded model answers differently from the saved one");
        Ok(())
    }

    /// Checks that repeating the fit gives the same result, unless the program has declared that it may not.
    fn again(
        &mut self,
        features: &FeatureSet,
        test: Examples<'_>,
        before: &Array2<f32>,
        is_deterministic: bool,
    ) -> Result<(), ModelError> {
        let mut model = self.model()?;
        self.fit(&mut model, features)?;
        let same = model.predict_probabilities(test, self.progress)? == *before;
        match (same, is_deterministic) {
            (true, _) => self.add("same seed", Standing::Good, "a second fit answers the same"),
            (false, false) => {
                self.add("same seed", Standing::Note, "a second fit answers differently, as its description allows")
            }
            (false, true) => {
                let text = "a second fit with the same seed answers differently, but `describe` promised determinism";
                self.add("same seed", Standing::Bad, text);
            }
        }
        Ok(())
    }

    /// Compares a claimed latency with what is measured, and checks that rows are not answered faster when they are
    /// repeated.
    fn latency(&mut self, model: &External, test: Examples<'_>) -> Result<(), ModelError> {
        let Some(claimed) = model.claimed_microseconds()? else { return Ok(()) };
        // Training rows, which were not predicted before.
        let new: Vec<usize> = (0..TIMED).collect();
        let asked = |rows: &[usize]| {
            let mut times = Vec::with_capacity(rows.len());
            for row in rows {
                let start = Instant::now();
                model.predict_probabilities(Examples { rows: std::slice::from_ref(row), ..test }, self.progress)?;
                times.push(1e6 * start.elapsed().as_secs_f64());
            }
            times.sort_by(f64::total_cmp);
            Ok::<f64, ModelError>(times[times.len() / 2])
        };
        let (first, again) = (asked(&new)?, asked(&new)?);
        let told = format!(
            "by its own account {claimed} µs per flow, one at a time; measured from outside {first:.0} µs, with its \
             arrays as files"
        );
        self.add("latency", Standing::Note, told);
        let bad = format!(
            "repeated rows take {again:.0} µs, new ones {first:.0} µs: it keeps answers, which no user's rows have"
        );
        let good = format!("repeated rows are not answered faster ({again:.0} µs)");
        self.holds("repeated rows", first <= MOST_FASTER * again, good, bad);
        Ok(())
    }

    /// Fits on a real split as it is, and with permuted training labels until accuracy falls to chance.
    fn on(&mut self, spec: &ModelSpec, task: Task<'_>) -> Result<(), ModelError> {
        let test = Examples { features: task.features, rows: task.test };
        let (device, progress) = (self.device, self.progress);
        let fitted_accuracy = |features: &FeatureSet| {
            let mut model = External::new(spec)?;
            let context = FitContext { seed: task.seed, device, progress, artifacts: &NoArtifacts, pretraining: None };
            let examples = |rows| Examples { features, rows };
            model.fit(examples(task.training), examples(task.validation), &context)?;
            let probabilities = model.predict_probabilities(test, progress)?;
            model.check_answers(test, progress)?;
            Ok::<f64, ModelError>(accuracy(&probabilities, test))
        };
        let honest = fitted_accuracy(task.features)?;
        let count = test.rows.len();
        let bound = guessing(largest_share(test), count);
        self.add("accuracy", Standing::Note, format!("{honest:.3} on {count} test flows"));
        if bound >= 1.0 {
            let told = format!(
                "cannot be told: the largest class is {:.0} % of {count} test flows; choose a task with more flows or \
                 more even classes",
                100.0 * largest_share(test)
            );
            self.add("labels smuggled", Standing::Note, told);
            return Ok(());
        }
        // Flows that look alike get one answer, so an honest model may be right about many by luck, but not every time.
        let rows: Vec<usize> = task.training.iter().chain(task.validation).copied().collect();
        let mut permuted = task.features.clone();
        let mut generator = seed::generator(task.seed, "check/permuted labels");
        let mut right = f64::INFINITY;
        for _ in 0..PERMUTATIONS {
            let mut labels: Vec<u32> = rows.iter().map(|&row| task.features.labels[row]).collect();
            labels.shuffle(&mut generator);
            rows.iter().zip(labels).for_each(|(&row, label)| permuted.labels[row] = label);
            right = right.min(fitted_accuracy(&permuted)?);
            if right <= bound {
                break;
            }
        }
        let bad = format!(
            "with permuted training labels, accuracy is at least {right:.3} in {PERMUTATIONS} fits (chance: at most \
             {bound:.3}): it knows labels that it was not given, such as from its weights or its folder"
        );
        let good = format!("with permuted training labels, accuracy falls to {right:.3}");
        self.holds("labels smuggled", right <= bound, good, bad);
        Ok(())
    }

    /// If every label it gets is changed to another class, an honest model is always wrong. A model that is still right
    /// knows the labels from elsewhere.
    fn smuggling(&mut self, features: &FeatureSet, test: Examples<'_>) -> Result<(), ModelError> {
        let mut permuted = features.clone();
        for label in &mut permuted.labels[..TRAINING + VALIDATION] {
            *label = (*label + 1) % CLASSES as u32;
        }
        let mut model = self.model()?;
        self.fit(&mut model, &permuted)?;
        let right = accuracy(&model.predict_probabilities(test, self.progress)?, test);
        let bound = chance_bound();
        let bad = format!(
            "with all training labels permuted, accuracy is still {right:.3} (chance: at most {bound:.3}): it \
             knows labels that it was not given"
        );
        let good = format!("with all training labels permuted, accuracy falls to {right:.3}");
        self.holds("labels smuggled", right <= bound, good, bad);
        Ok(())
    }

    /// Checks that a program exits when asked to, together with everything that it started.
    fn leftovers(&mut self, features: &FeatureSet) -> Result<(), ModelError> {
        let mut model = self.model()?.with_processes_of_the_machine();
        self.fit(&mut model, features)?;
        let Some(ending) = model.end() else { return Ok(()) };
        let text = ending.word.unwrap_or_default();
        self.holds("end", text.is_empty(), "it exits when asked to", text);
        let left = ending.left;
        let bad = format!("{left} of the processes it started outlived it; end them at `quit`");
        self.holds("left-over children", left == 0, "nothing it started outlives it", bad);
        Ok(())
    }
}

fn chance_bound() -> f64 {
    guessing(1.0 / CLASSES as f64, TEST)
}

/// Returns the highest accuracy of guessing, exceeded about once in ten thousand times: chance plus four standard
/// deviations.
fn guessing(chance: f64, count: usize) -> f64 {
    chance + 4.0 * (chance * (1.0 - chance) / count as f64).sqrt()
}

/// Returns the share of the most frequent class, which is the best that can be guessed.
fn largest_share(examples: Examples<'_>) -> f64 {
    let labels = examples.labels();
    let count = |class: u32| labels.iter().filter(|&&label| label == class).count();
    let largest = (0..examples.features.class_names.len() as u32).map(count).max().unwrap_or_default();
    largest as f64 / labels.len().max(1) as f64
}

fn accuracy(probabilities: &Array2<f32>, examples: Examples<'_>) -> f64 {
    let predicted = etcbench_evaluate::argmax(probabilities.view());
    let right = predicted.iter().zip(examples.labels()).filter(|(predicted, label)| **predicted == *label).count();
    right as f64 / examples.rows.len() as f64
}

/// Generates flows whose class shows in a few bytes, statistics and lengths, among noise.
fn task() -> FeatureSet {
    let count = TRAINING + VALIDATION + TEST;
    let mut generator = seed::generator(SEED, "check/task");
    let mut labels: Vec<u32> = (0..count).map(|row| (row % CLASSES) as u32).collect();
    labels.shuffle(&mut generator);
    let mut tokens = Vec::with_capacity(count * PACKETS * BYTES);
    let mut statistics = Array2::zeros((count, STATISTICS));
    let mut sequences = Array2::zeros((count, 2 * SEQUENCE));
    for (row, &label) in labels.iter().enumerate() {
        for packet in 0..PACKETS {
            // The last packet is truncated or absent.
            let present = if packet + 1 == PACKETS { generator.random_range(0..BYTES) } else { BYTES };
            tokens.extend((0..BYTES).map(|byte| match byte {
                _ if byte >= present => PAD,
                2 | 3 => 20 + 60 * label as u16 + generator.random_range(0..30),
                _ => generator.random_range(0..256),
            }));
        }
        for (column, value) in statistics.row_mut(row).iter_mut().enumerate() {
            let signal = if column < 2 { 3.0 * label as f32 } else { 0.0 };
            *value = signal + generator.random::<f32>();
        }
        for (column, value) in sequences.row_mut(row).iter_mut().enumerate() {
            let signal = if column % 4 == 0 { 2.0 * label as f32 } else { 0.0 };
            *value = signal + generator.random::<f32>();
        }
    }
    let endpoint = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let provenance = |number: usize| FlowProvenance {
        capture: "generated".to_owned(),
        number: number as u32,
        five_tuple: FiveTuple { source: endpoint(1), destination: endpoint(2), transport: Transport::Tcp },
        start: 0,
        end: 0,
        packet: None,
    };
    FeatureSet {
        tokens: TokenArray { packets: PACKETS, bytes: BYTES, values: tokens },
        statistics,
        statistic_names: (1..=STATISTICS).map(|number| format!("statistic{number}")).collect(),
        sequences,
        flowpics: Array2::zeros((count, 0)),
        labels,
        class_names: (0..CLASSES).map(|class| format!("class{class}")).collect(),
        provenance: (0..count).map(provenance).collect(),
    }
}
