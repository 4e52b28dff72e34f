//! Code shared by the classical models: builds the matrix, maps the classes to those that occur in training, and stores
//! the fitted state. Each algorithm only fits and predicts on the matrix.

use std::time::Instant;

use ndarray::Array2;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::input::{Encoding, InputOptions, InputTransform, data};
use super::memory::{ROWS, TOKENS, matrix};
use super::{
    Classifier, Examples, ExpectedMemory, FitContext, FitReport, FitSize, Implementation, Input, ModelArchive,
    ModelEntry, ModelError, ModelSpec, StageTime, parameters, stored,
};
use etcbench_storage::progress::Progress;

/// Rows to fit: a matrix and the class of each row.
pub(super) struct Rows {
    /// Shape `[rows, columns]`, finite, row-major.
    pub matrix: Array2<f32>,
    /// Class of each row, an index into the classes that occur in training.
    pub targets: Vec<u32>,
    /// Number of classes that occur in training; at least 2.
    pub classes: usize,
    /// Names of these classes; empty if the rows were restored from a model's file.
    pub names: Vec<String>,
    /// How many of the last columns are packet sequences.
    pub sequence_columns: usize,
}

impl Rows {
    /// Returns the number of rows of each class.
    pub(crate) fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &target in &self.targets {
            counts[target as usize] += 1;
        }
        counts
    }
}

/// The sizes of a fit on a matrix.
pub(super) struct MatrixSize<'a> {
    /// Training rows of each class.
    pub class_counts: &'a [usize],
    /// Training rows.
    pub rows: usize,
    /// Rows for early stopping, if the algorithm reads them.
    pub validation: usize,
    /// Columns of the matrix.
    pub columns: usize,
    /// How many of the last columns are packet sequences.
    pub sequence_columns: usize,
    /// Number of threads.
    pub threads: usize,
}

impl MatrixSize<'_> {
    /// Returns the bytes of a matrix of all training rows with numbers of `size` bytes.
    pub(crate) fn matrix(&self, size: usize) -> f64 {
        matrix(self.rows, self.columns, size)
    }
}

/// Memory an algorithm uses in addition to the matrix of its training rows.
pub(super) struct AlgorithmMemory {
    /// At the peak of fitting.
    pub fitting: ExpectedMemory,
    /// The fitted state.
    pub fitted: ExpectedMemory,
}

/// The size above which a reference implementation is impractical; measured, see `benches/README.md`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReferenceLimit {
    /// The crate.
    pub library: &'static str,
    /// Maximum number of training rows; for the SVM, those of any two classes together.
    pub rows: usize,
    /// Whether `rows` counts any two classes together.
    pub of_two_classes: bool,
    /// What happens above the limit.
    pub reason: &'static str,
}

impl ReferenceLimit {
    /// Rejects more rows than the limit.
    fn check(&self, model: &str, rows: &Rows) -> Result<(), ModelError> {
        let mut found = rows.targets.len();
        if self.of_two_classes {
            let mut counts = rows.class_counts();
            counts.sort_unstable_by(|a, b| b.cmp(a));
            found = counts.iter().take(2).sum();
        }
        if found <= self.rows {
            return Ok(());
        }
        let restriction = if self.of_two_classes { " of two classes" } else { "" };
        Err(data(
            model,
            format!(
                "the reference implementation ({}) supports up to {} training rows{restriction}, but there are \
                 {found}: {}; use implementation = \"{}\"",
                self.library,
                self.rows,
                self.reason,
                Implementation::default().name()
            ),
        ))
    }
}

/// Number of columns that a note on importances lists.
const NAMED_COLUMNS: usize = 10;

/// Returns a note with the columns of largest importance.
fn largest(kind: &str, names: &[String], importances: &[f64]) -> String {
    let mut order: Vec<usize> = (0..importances.len()).filter(|&column| importances[column] > 0.0).collect();
    order.sort_by(|&a, &b| importances[b].total_cmp(&importances[a]).then(a.cmp(&b)));
    let named: Vec<String> = order
        .iter()
        .take(NAMED_COLUMNS)
        .map(|&column| format!("{} {:.4}", names.get(column).map_or("?", String::as_str), importances[column]))
        .collect();
    format!("{kind}, largest of {} columns: {}", importances.len(), named.join(", "))
}

/// One algorithm behind [`Classical`].
pub(super) trait Algorithm: Sized + Send + Sync {
    /// The keys of its table; all optional.
    type Parameters: Serialize + DeserializeOwned + Clone + Send + Sync;
    /// Name in files and messages.
    const NAME: &'static str;
    /// Size above which its reference implementation is impractical, if there is such a limit.
    const REFERENCE_LIMIT: Option<ReferenceLimit> = None;

    /// Rejects unusable values and keys that this implementation does not support.
    fn check(parameters: &Self::Parameters, implementation: Implementation) -> Result<(), String>;

    /// Rejects an input that does not match these keys.
    fn check_input(_: &Self::Parameters, _: Input) -> Result<(), String> {
        Ok(())
    }

    /// Returns how the columns it reads are built.
    fn input(parameters: &Self::Parameters, input: Input) -> InputOptions;

    /// Fits to `training`; `validation` is used for early stopping only and may be empty.
    fn fit(
        parameters: &Self::Parameters,
        implementation: Implementation,
        training: Rows,
        validation: Option<Rows>,
        context: &FitContext<'_>,
        report: &mut FitReport,
    ) -> Result<Self, ModelError>;

    /// Returns probabilities, shape `[rows, classes]`.
    fn predict(&self, matrix: &Array2<f32>, progress: &dyn Progress) -> Result<Array2<f32>, ModelError>;

    /// Stores the fitted state.
    fn store(&self, archive: &mut ModelArchive) -> Result<(), ModelError>;

    /// Restores the fitted state of a model with `columns` columns and `classes` classes.
    fn restore(
        parameters: &Self::Parameters,
        implementation: Implementation,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
    ) -> Result<Self, ModelError>;

    /// Returns the peak memory of fitting in addition to the matrices, and the memory of the fitted state.
    fn memory(parameters: &Self::Parameters, implementation: Implementation, size: &MatrixSize) -> AlgorithmMemory;

    /// Returns the importance of each column, with the name of the measure; recorded in the notes of the fit's report.
    fn importances(&self) -> Vec<(&'static str, &[f64])> {
        Vec::new()
    }

    /// Returns whether the validation rows are read.
    fn uses_validation(_: &Self::Parameters) -> bool {
        false
    }
}

struct Fitted<A> {
    transform: InputTransform,
    /// The classes that occur in training, ascending.
    present: Vec<u32>,
    /// Number of classes in the experiment.
    class_count: usize,
    algorithm: A,
}

/// A classical model: adapts an algorithm on a matrix to the [`Classifier`] trait.
pub(super) struct Classical<A: Algorithm> {
    parameters: A::Parameters,
    implementation: Implementation,
    input: Input,
    fitted: Option<Fitted<A>>,
}

impl<A: Algorithm + 'static> Classical<A> {
    /// Returns the model's entry with defaults: the algorithm's name and reference limit, version 1, all classical
    /// inputs, and no agreement bound. Each model's file overrides what differs.
    pub(crate) const fn entry(summary: &'static str) -> ModelEntry {
        ModelEntry {
            name: A::NAME,
            summary,
            version: 1,
            inputs: &Input::CLASSICAL,
            reads_input: true,
            deep: false,
            proposed: false,
            usual: false,
            agreement: None,
            reference_row_limit: match A::REFERENCE_LIMIT {
                Some(limit) => Some(limit.rows),
                None => None,
            },
            sequences: |_, _| Ok(()),
            pretraining: None,
            external: None,
            build: |ModelSpec { input, implementation, parameters, .. }| {
                Ok(Box::new(Self::new(*implementation, *input, parameters)?))
            },
            load: |implementation, archive| Ok(Box::new(Self::from_archive(implementation, archive)?)),
        }
    }

    /// Creates an unfitted model.
    ///
    /// # Errors
    /// Unknown keys and unusable values.
    pub(crate) fn new(implementation: Implementation, input: Input, table: &toml::Table) -> Result<Self, ModelError> {
        let parameters: A::Parameters = parameters::parse(A::NAME, table)?;
        A::check(&parameters, implementation)
            .and_then(|()| A::check_input(&parameters, input))
            .map_err(|problem| parameters::refused(A::NAME, problem))?;
        Ok(Self { parameters, implementation, input, fitted: None })
    }

    /// Loads a fitted model from its file.
    ///
    /// # Errors
    /// A file that is incomplete or inconsistent.
    pub(crate) fn from_archive(implementation: Implementation, archive: &ModelArchive) -> Result<Self, ModelError> {
        let table = stored::text(archive, "parameters")?
            .parse()
            .map_err(|error: toml::de::Error| stored::broken(format!("metadata `parameters`: {}", error.message())))?;
        let transform = InputTransform::restore(archive)?;
        if stored::json::<Vec<String>>(archive, "columns")? != transform.column_names() {
            return Err(stored::broken("metadata `columns` does not list the columns that the model reads"));
        }
        let mut model = Self::new(implementation, transform.options().input, &table)?;
        let class_count = stored::class_count(archive)?;
        let present = stored::u32s(archive, "present_classes")?.to_vec();
        let ascending = present.windows(2).all(|pair| pair[0] < pair[1]);
        if present.len() < 2 || !ascending || present.iter().any(|&class| class as usize >= class_count) {
            return Err(stored::broken("tensor present_classes does not list two or more classes in ascending order"));
        }
        let algorithm = A::restore(&model.parameters, implementation, archive, transform.columns(), present.len())?;
        model.fitted = Some(Fitted { transform, present, class_count, algorithm });
        Ok(model)
    }
}

/// Returns the number of columns of the matrix that a model reads; same as [`InputTransform::columns`], before the
/// transform exists.
fn columns(options: &InputOptions, size: &FitSize) -> usize {
    let of_packet = size.bytes.saturating_add(usize::from(options.encoding == Encoding::Scaled));
    let bytes = size.packets.saturating_mul(of_packet);
    let if_read = |read: bool, columns: usize| if read { columns } else { 0 };
    if_read(options.input.reads_bytes(), bytes)
        .saturating_add(if_read(options.input.reads_statistics(), size.statistics))
        .saturating_add(if_read(options.input.reads_flowpic(), size.pixels))
        .saturating_add(if_read(options.input.reads_sequences(), sequence_columns(options, size)))
}

/// Returns the number of packet sequence columns, if the model reads them.
fn sequence_columns(options: &InputOptions, size: &FitSize) -> usize {
    options.sequence_scaling.columns(size.sequence_columns)
}

/// Returns the classes of `examples`, checked against the class names.
pub(super) fn checked_labels(model: &str, examples: Examples<'_>) -> Result<Vec<u32>, ModelError> {
    let labels = examples.labels();
    let classes = examples.features.class_names.len();
    match labels.iter().find(|&&label| label as usize >= classes) {
        Some(label) => Err(data(model, format!("class {label} is not among the {classes} class names"))),
        None => Ok(labels),
    }
}

impl<A: Algorithm> Classifier for Classical<A> {
    fn fit(
        &mut self,
        training: Examples<'_>,
        validation: Examples<'_>,
        context: &FitContext<'_>,
    ) -> Result<FitReport, ModelError> {
        let started = Instant::now();
        let labels = checked_labels(A::NAME, training)?;
        let mut present = labels.clone();
        present.sort_unstable();
        present.dedup();
        let (transform, matrix) = InputTransform::fit(A::NAME, A::input(&self.parameters, self.input), training)?;
        if present.len() < 2 {
            let name = &training.features.class_names[present[0] as usize];
            return Err(data(
                A::NAME,
                format!("all training rows are of class `{name}`; at least two classes are needed"),
            ));
        }
        let index = |label: &u32| present.binary_search(label).ok().map(|index| index as u32);
        let targets = labels.iter().filter_map(index).collect();
        let names = present.iter().map(|&class| training.features.class_names[class as usize].clone()).collect();
        let sequence_columns = transform.sequence_columns();
        let rows = Rows { matrix, targets, classes: present.len(), names, sequence_columns };
        let mut held_out = None;
        if A::uses_validation(&self.parameters) {
            // A class without training rows has no column, so its validation rows cannot be scored.
            let known: Vec<usize> = checked_labels(A::NAME, validation)?
                .iter()
                .zip(validation.rows)
                .filter(|(label, _)| index(label).is_some())
                .map(|(_, &row)| row)
                .collect();
            let known = Examples { features: validation.features, rows: &known };
            if !known.rows.is_empty() {
                let matrix = transform.apply(A::NAME, known)?;
                let targets = known.labels().iter().filter_map(index).collect();
                let names = Vec::new();
                held_out = Some(Rows { matrix, targets, classes: present.len(), names, sequence_columns });
            }
        }
        let mut report = FitReport::default();
        let samples = training.rows.len() as u64;
        if let (Implementation::Reference, Some(limit)) = (self.implementation, A::REFERENCE_LIMIT) {
            limit.check(A::NAME, &rows)?;
        }
        let algorithm = A::fit(&self.parameters, self.implementation, rows, held_out, context, &mut report)?;
        let names = transform.column_names();
        for (kind, importances) in algorithm.importances() {
            report.notes.push(largest(kind, &names, importances));
        }
        let class_count = training.features.class_names.len();
        if present.len() < class_count {
            report.notes.push(format!(
                "{} of {class_count} classes have no training rows and are never predicted",
                class_count - present.len()
            ));
        }
        self.fitted = Some(Fitted { transform, present, class_count, algorithm });
        if report.stages.is_empty() {
            let wall_seconds = started.elapsed().as_secs_f64();
            report.stages.push(StageTime { stage: "fit".to_owned(), wall_seconds, samples });
        }
        Ok(report)
    }

    fn predict_probabilities(
        &self,
        examples: Examples<'_>,
        progress: &dyn Progress,
    ) -> Result<Array2<f32>, ModelError> {
        let fitted = self.fitted.as_ref().ok_or_else(|| unfitted(A::NAME))?;
        let matrix = fitted.transform.apply(A::NAME, examples)?;
        let present = if matrix.nrows() == 0 {
            Array2::zeros((0, fitted.present.len()))
        } else {
            fitted.algorithm.predict(&matrix, progress)?
        };
        let mut all = Array2::zeros((matrix.nrows(), fitted.class_count));
        for (mut all, present) in all.outer_iter_mut().zip(present.outer_iter()) {
            for (&class, &probability) in fitted.present.iter().zip(present) {
                all[class as usize] = probability;
            }
        }
        Ok(all)
    }

    fn expected_memory(&self, size: &FitSize) -> ExpectedMemory {
        let options = A::input(&self.parameters, self.input);
        let columns = columns(&options, size);
        let validation = if A::uses_validation(&self.parameters) { size.validation } else { 0 };
        let rows = size.training();
        let sizes = MatrixSize {
            class_counts: &size.class_counts,
            rows,
            validation,
            columns,
            sequence_columns: if options.input.reads_sequences() { sequence_columns(&options, size) } else { 0 },
            threads: size.threads,
        };
        let keys = if options.input.reads_bytes() { TOKENS } else { ROWS };
        let AlgorithmMemory { fitting, fitted } = A::memory(&self.parameters, self.implementation, &sizes);
        let fitting = fitting.and(keys, matrix(rows, columns, 4) + matrix(validation, columns, 4));
        let outputs = matrix(size.predicted, size.class_counts.len(), 20);
        let predicting = fitted.clone().and(keys, matrix(size.predicted, columns, 4)).and(ROWS, outputs);
        // The model, its archive and the archive's bytes.
        fitting.or(predicting).or(fitted.times(3.0))
    }

    fn save(&self) -> Result<ModelArchive, ModelError> {
        let fitted = self.fitted.as_ref().ok_or_else(|| unfitted(A::NAME))?;
        let mut archive = ModelArchive::default();
        archive.metadata.insert("model".to_owned(), A::NAME.to_owned());
        archive.metadata.insert("implementation".to_owned(), self.implementation.name().to_owned());
        archive.metadata.insert("parameters".to_owned(), parameters::write(A::NAME, &self.parameters)?);
        fitted.transform.store(&mut archive);
        stored::put_json(&mut archive, "columns", &fitted.transform.column_names());
        stored::put_json(&mut archive, "classes", &fitted.class_count);
        stored::put_u32s(&mut archive, "present_classes", &fitted.present);
        fitted.algorithm.store(&mut archive)?;
        Ok(archive)
    }
}

/// Returns the error of a model that is used before it is fitted.
pub(super) fn unfitted(model: &str) -> ModelError {
    data(model, "the model is not fitted; call fit first")
}

/// Turns scores into probabilities: `exp(score - largest) / sum`, summed in order in 64 bits. Preserves the order of
/// the scores, including ties.
pub(super) fn softmax(scores: &[f64], probabilities: &mut [f32]) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
    for (probability, score) in probabilities.iter_mut().zip(scores) {
        *probability = ((score - largest).exp() / sum) as f32;
    }
}
