//! Shared model code for networks over numeric rows: converts rows of the matrix that all column-based models read into
//! what the network reads, trains the network with the common training loop, and stores its weights as the fitted
//! state. Each network is defined in its own file, with its keys and the layers they produce ([`NetworkModel`]).
//!
//! These networks train on the CPU. They have no GPU kernels yet, and a fit that was asked to use a GPU says so in its
//! notes.

use std::marker::PhantomData;

use ndarray::{Array2, ArrayView1};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::class_weights::ClassWeights;
use super::classical::{Algorithm, AlgorithmMemory, MatrixSize, Rows};
use super::deep::checkpoint::Checkpoints;
use super::deep::engine::{BatchLoss, NetworkClassifier, Resumable, TRAINING, of_model};
use super::deep::fast;
use super::deep::network::Network;
use super::deep::parameters::ParameterSet;
use super::deep::pretrained::Pretrained;
use super::deep::training::{
    Learner, PREDICTION_BATCH, TrainingContext, TrainingOptions, fit_classifier, still_rising,
};
use super::deep::{Engine, NetworkOptions, OptimiserKind};
use super::input::{InputOptions, InputTransform, data};
use super::masked::Masked;
use super::memory::{ROWS, TOKENS, matrix};
use super::pretraining::{PretrainingKeys, PretrainingSource, TokenRows};
use super::{
    Device, ExpectedMemory, FitContext, FitReport, Implementation, Input, ModelArchive, ModelError, ModelSpec,
    StageTime, parameters, stored,
};
use etcbench_storage::Determinants;
use etcbench_storage::progress::Progress;

/// Copies of a network's parameters in a fit: the parameters, gradients, two moments, the initial and the best ones,
/// and a checkpoint of all of these while it is written.
const COPIES: f64 = 12.0;

/// What dfdx keeps per batch in addition to the values of all layers: the result and gradient of every operation, and
/// the inputs of convolutions as separate matrices.
const TAPE: f64 = 12.0;

/// A network's training options, from its keys.
pub(super) struct Training<'a> {
    /// Options of the training loop.
    pub options: TrainingOptions,
    /// The optimiser.
    pub optimiser: OptimiserKind,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Share of each target that is spread over all classes.
    pub label_smoothing: f32,
    /// The weights of the classes' rows.
    pub class_weights: &'a ClassWeights,
}

/// Builds a network's [`Training`] from the fields of these names in its parameters. serde cannot flatten a shared
/// struct into one that denies unknown fields, so each network declares these keys itself.
macro_rules! training_of {
    ($parameters:expr) => {
        $crate::network_model::Training {
            options: $crate::deep::training::TrainingOptions {
                epochs: $parameters.epochs,
                batch: $parameters.batch,
                patience: $parameters.patience,
                learning_rate: $parameters.learning_rate,
                schedule: $parameters.learning_rate_schedule,
                warm_up_steps: 0,
                averages: false,
            },
            optimiser: $parameters.optimiser,
            weight_decay: $parameters.weight_decay,
            label_smoothing: $parameters.label_smoothing,
            class_weights: &$parameters.class_weights,
        }
    };
}
pub(super) use training_of;

impl Training<'_> {
    /// Rejects unusable values.
    fn check(&self) -> Result<(), String> {
        let TrainingOptions { epochs, batch, patience, learning_rate, warm_up_steps, .. } = self.options;
        if warm_up_steps > 1 << 30 {
            return Err(format!("warm_up_steps = {warm_up_steps} must be at most {}", 1 << 30));
        }
        for (key, value) in [("epochs", epochs), ("batch", batch), ("patience", patience)] {
            if !(1..=1 << 20).contains(&value) {
                return Err(format!("{key} = {value} must be between 1 and {}", 1 << 20));
            }
        }
        if !(learning_rate > 0.0 && learning_rate.is_finite()) {
            return Err(format!("learning_rate = {learning_rate} must be a positive number"));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(format!("weight_decay = {} must be 0 or a positive number", self.weight_decay));
        }
        check_shares(&[("label_smoothing", self.label_smoothing)])?;
        self.class_weights.check()
    }
}

/// Rejects shares that are not at least 0 and less than 1.
pub(super) fn check_shares(shares: &[(&str, f32)]) -> Result<(), String> {
    match shares.iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
        Some((key, value)) => Err(format!("{key} = {value} must be at least 0 and less than 1")),
        None => Ok(()),
    }
}

/// Rejects sizes that are 0 or larger than a layer supports, so that a mistyped number is an error rather than
/// exhausted memory.
pub(super) fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), String> {
    match sizes.iter().find(|(_, value)| !(1..=8192).contains(value)) {
        Some((key, value)) => Err(format!("{key} = {value} must be between 1 and 8192")),
        None => Ok(()),
    }
}

/// Returns the steps of padding before and after a sequence that produce an output for every `stride`th step:
/// TensorFlow's `SAME`.
pub(super) fn same(steps: usize, size: usize, stride: usize) -> [usize; 2] {
    let all = (steps.div_ceil(stride).saturating_sub(1) * stride + size).saturating_sub(steps);
    [all / 2, all - all / 2]
}

/// Columns of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    /// Number of packet sequence columns; these come last.
    pub sequences: usize,
    /// Number of columns before them.
    pub others: usize,
}

impl Columns {
    fn new(all: usize, sequences: usize) -> Self {
        Self { sequences, others: all.saturating_sub(sequences) }
    }
}

/// A network as a model.
pub(super) trait NetworkModel: Sized + Send + Sync + 'static {
    /// The keys of its table; all optional.
    type Parameters: Serialize + DeserializeOwned + Clone + Send + Sync;
    /// Name in files and messages.
    const NAME: &'static str;
    /// Same version as in its entry.
    const VERSION: u32;

    /// Rejects unusable values, except those of the training.
    fn check(parameters: &Self::Parameters) -> Result<(), String>;

    /// Returns its training options.
    fn training(parameters: &Self::Parameters) -> Training<'_>;

    /// Returns how the columns it reads are built.
    fn input(input: Input) -> InputOptions;

    /// Returns its layers for these columns.
    fn network(parameters: &Self::Parameters, columns: Columns, classes: usize) -> Network;

    /// The message if a flow has too few columns for the layers.
    const TOO_SHORT: &'static str;
    /// The keys that determine the number of parameters.
    const SIZES: &'static str;
    /// The key that determines the size of a batch.
    const BATCH: &'static str;
    /// The key that determines the size of a corpus.
    const CORPUS: &'static str = "";

    /// Learns the scaling of rows from the training rows.
    fn scaling(parameters: &Self::Parameters, training: &Array2<f32>, columns: Columns) -> Vec<f64>;

    /// Returns the number of values in the scaling.
    fn scaling_size(columns: Columns) -> usize;

    /// Returns how the network is pre-trained on flows without their labels; `None` if it is not.
    fn masked(_: &Self::Parameters, _: Columns) -> Option<Masked> {
        None
    }

    /// Returns what the network is pre-trained on besides the training part.
    fn pretraining(_: &Self::Parameters) -> PretrainingKeys {
        PretrainingKeys::default()
    }

    /// Returns the factor of the learning rate of a parameter of the classification network.
    fn rate_factor(_: &Self::Parameters, _parameter: &str) -> f32 {
        1.0
    }

    /// Converts a row to what the network reads.
    fn scale(scaling: &[f64], columns: Columns, network: &Network, row: ArrayView1<'_, f32>, scaled: &mut [f32]);
}

/// A fitted network.
pub(super) struct Fitted<M: NetworkModel> {
    implementation: Implementation,
    columns: Columns,
    network: Network,
    scaling: Vec<f64>,
    weights: ParameterSet,
    model: PhantomData<M>,
}

/// Training and validation rows of a network.
struct OnRows<'a> {
    model: &'a mut dyn NetworkClassifier,
    network: &'a Network,
    training: &'a [f32],
    validation: &'a [f32],
    batch: Vec<f32>,
}

impl Learner for OnRows<'_> {
    fn train_step(&mut self, flows: &[usize], labels: &[u32], learning_rate: f32) -> Result<BatchLoss, ModelError> {
        let Self { batch, training, network, .. } = self;
        let size = network.columns();
        batch.clear();
        flows.iter().for_each(|&flow| batch.extend_from_slice(&training[flow * size..(flow + 1) * size]));
        self.model.train_step(&self.batch, labels, learning_rate)
    }

    fn validate(&mut self) -> Result<Vec<f32>, ModelError> {
        predict(&mut *self.model, self.network, self.validation)
    }

    fn dead_layers(&mut self) -> Vec<String> {
        self.model.dead_layers()
    }

    fn state(&mut self) -> &mut dyn Resumable {
        &mut *self.model
    }
}

/// Returns how many rows pass through the network at once in prediction: as many as keep its values at about a
/// gigabyte.
fn predicted_at_once(network: &Network) -> usize {
    ((1 << 27) / network.values().max(1)).clamp(1, PREDICTION_BATCH)
}

/// Returns the probabilities of all rows.
fn predict(model: &mut dyn NetworkClassifier, network: &Network, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
    let (size, classes, at_once) = (network.columns(), network.classes, predicted_at_once(network));
    let mut found = vec![0.0; rows.len() / size * classes];
    for (rows, output) in rows.chunks(at_once * size).zip(found.chunks_mut(at_once * classes)) {
        model.probabilities(rows, output)?;
    }
    Ok(found)
}

/// Pre-trains a network that reads bytes alone, on flows without labels.
///
/// # Errors
/// Unusable keys, keys without pre-training, training that diverged, or an unreadable artifact.
pub(super) fn pretrain<M: NetworkModel>(
    spec: &ModelSpec,
    parts: [TokenRows<'_>; 2],
    context: &FitContext<'_>,
) -> Result<Pretrained, ModelError> {
    let parameters: M::Parameters = parameters::parse(M::NAME, &spec.parameters)?;
    let refused = |problem| parameters::refused(M::NAME, problem);
    Fitted::<M>::check(&parameters, spec.implementation).map_err(refused)?;
    let tokens = parts[0].tokens;
    let columns = Columns { sequences: 0, others: tokens.packets * tokens.bytes };
    let masked = M::masked(&parameters, columns);
    let masked = masked.ok_or_else(|| refused("these keys leave out its pre-training".to_owned()))?;
    // Rows are read alike whatever the classes.
    let network = M::network(&parameters, columns, 1);
    let [training, validation] = parts.map(|rows| scaled_tokens::<M>(columns, &network, rows));
    masked.pretrain((M::NAME, M::VERSION), spec.implementation, [&training, &validation], context)
}

/// Returns rows of tokens as the network reads them.
fn scaled_tokens<M: NetworkModel>(columns: Columns, network: &Network, rows: TokenRows<'_>) -> Vec<f32> {
    let size = network.columns();
    let mut scaled = vec![0.0; rows.rows.len() * size];
    for (row, scaled) in rows.rows.iter().zip(scaled.chunks_exact_mut(size)) {
        let numbers: Vec<f32> = rows.tokens.flow(*row).iter().map(|&token| f32::from(token)).collect();
        M::scale(&[], columns, network, ArrayView1::from(&numbers), scaled);
    }
    scaled
}

impl<M: NetworkModel> Fitted<M> {
    /// Returns the pre-trained parameters, and adds what is known about them to the report; `None` if these keys do not
    /// pre-train the network.
    fn pretrained(
        &self,
        parameters: &M::Parameters,
        [training, validation]: [&[f32]; 2],
        context: &FitContext<'_>,
        report: &mut FitReport,
    ) -> Result<Option<ParameterSet>, ModelError> {
        let Some(masked) = M::masked(parameters, self.columns) else { return Ok(None) };
        let corpus = match context.pretraining {
            Some(PretrainingSource::File(file, facts)) => {
                report.notes.extend(facts.notes());
                report.pretraining = Some(facts.clone());
                file.parameters.check(&masked.specifications())?;
                return Ok(Some(file.parameters.clone()));
            }
            Some(PretrainingSource::Corpus(corpus)) => {
                report.notes.extend(corpus.pretraining.notes());
                report.pretraining = Some(corpus.pretraining.clone());
                let tokens = &corpus.tokens;
                let rows: Vec<usize> = (0..tokens.rows()).collect();
                Some(scaled_tokens::<M>(self.columns, &self.network, TokenRows { tokens, rows: &rows }))
            }
            None if M::pretraining(parameters).is_training_only() => None,
            None => return Err(data(M::NAME, "corpus and pretrained need the captures of a run")),
        };
        let rows = [corpus.as_deref().unwrap_or(training), validation];
        let Pretrained { parameters, epochs, stage } =
            masked.pretrain((M::NAME, M::VERSION), self.implementation, rows, context)?;
        report.epochs.extend(epochs);
        report.stages.push(stage);
        Ok(Some(parameters))
    }

    fn scaled(&self, rows: &Array2<f32>) -> Vec<f32> {
        let size = self.network.columns();
        let mut scaled = vec![0.0; rows.nrows() * size];
        for (row, scaled) in rows.outer_iter().zip(scaled.chunks_exact_mut(size)) {
            M::scale(&self.scaling, self.columns, &self.network, row, scaled);
        }
        scaled
    }

    /// Returns a key of everything that determines the trained weights.
    fn training_key(&self, parameters: &M::Parameters, rows: [(&[f32], &[u32]); 2], seed: u64) -> String {
        let table = toml::to_string(parameters).unwrap_or_default();
        let mut facts = Determinants::of("network", M::VERSION)
            .and("model", M::NAME)
            .and("implementation", &self.implementation)
            .and("parameters", &table)
            .and("classes", &self.network.classes)
            .and("seed", &seed);
        for (part, (rows, labels)) in ["training", "validation"].into_iter().zip(rows) {
            facts = facts.and_data(part, |add| {
                add(bytemuck::cast_slice(rows));
                add(bytemuck::cast_slice(labels));
            });
        }
        format!("network-{}", Device::Cpu.add_to(facts).key())
    }
}

impl<M: NetworkModel> Algorithm for Fitted<M> {
    type Parameters = M::Parameters;
    const NAME: &'static str = M::NAME;

    fn check(parameters: &M::Parameters, _: Implementation) -> Result<(), String> {
        M::training(parameters).check()?;
        M::check(parameters)
    }

    fn input(_: &M::Parameters, input: Input) -> InputOptions {
        M::input(input)
    }

    fn uses_validation(_: &M::Parameters) -> bool {
        true
    }

    fn fit(
        parameters: &M::Parameters,
        implementation: Implementation,
        training: Rows,
        validation: Option<Rows>,
        context: &FitContext<'_>,
        report: &mut FitReport,
    ) -> Result<Self, ModelError> {
        let columns = Columns::new(training.matrix.ncols(), training.sequence_columns);
        let network = M::network(parameters, columns, training.classes);
        let Some(initial) = network.initial(context.seed) else { return Err(data(M::NAME, M::TOO_SHORT)) };
        let scaling = M::scaling(parameters, &training.matrix, columns);
        let model = PhantomData;
        let mut fitted = Self { implementation, columns, network, scaling, weights: initial, model };

        let Training { options, optimiser, weight_decay, label_smoothing, class_weights } = M::training(parameters);
        let weights = class_weights.of(M::NAME, &training)?.into_iter().map(|weight| weight as f32).collect::<Vec<_>>();
        let rows = fitted.scaled(&training.matrix);
        let (held_out, held_out_labels) =
            validation.map_or_else(Default::default, |rows| (fitted.scaled(&rows.matrix), rows.targets));
        let key =
            fitted.training_key(parameters, [(&rows, &training.targets), (&held_out, &held_out_labels)], context.seed);
        drop(training.matrix);
        if let Some(pretrained) = fitted.pretrained(parameters, [&rows, &held_out], context, report)? {
            let kept = fitted.network.specifications().unwrap_or_default();
            let kept = kept.into_iter().filter(|known| pretrained.shape(&known.name).is_ok());
            fitted.weights.extend(&pretrained.only(&kept.collect::<Vec<_>>())?);
        }

        let network_options = NetworkOptions { seed: context.seed, optimiser, weight_decay, label_smoothing };
        let mut model = Engine::network(implementation, &fitted.network, &fitted.weights, network_options)?;
        model.set_class_weights(&weights)?;
        model.set_rate_factors(&|name| M::rate_factor(parameters, name));
        let mut checkpoints = Checkpoints::new(context.artifacts, &key);
        let training_context =
            TrainingContext { seed: context.seed, checkpoints: &mut checkpoints, progress: context.progress };
        let mut learner = OnRows {
            model: &mut *model,
            network: &fitted.network,
            training: &rows,
            validation: &held_out,
            batch: Vec::new(),
        };
        let classes = training.classes;
        let epochs =
            fit_classifier(&mut learner, &options, &training.targets, &held_out_labels, classes, training_context)
                .map_err(|error| of_model(error, M::NAME))?;
        fitted.weights = model.parameters();
        if held_out_labels.is_empty() {
            report.notes.push("no validation flows: trained for all epochs, without early stopping".to_owned());
        }
        if context.device != Device::Cpu {
            report.notes.push(format!("trained on the CPU: {} has no GPU kernels", M::NAME));
        }
        report.notes.extend(still_rising(M::NAME, &epochs, options.epochs));
        report.stages.push(StageTime {
            stage: TRAINING.to_owned(),
            wall_seconds: checkpoints.seconds(),
            samples: (training.targets.len() * epochs.len()) as u64,
        });
        report.epochs.extend(epochs);
        checkpoints.remove();
        Ok(fitted)
    }

    fn predict(&self, matrix: &Array2<f32>, progress: &dyn Progress) -> Result<Array2<f32>, ModelError> {
        progress.begin("prediction", 1);
        // Prediction uses neither dropout nor the optimiser.
        let optimiser = OptimiserKind::Adamw;
        let options = NetworkOptions { seed: 0, optimiser, weight_decay: 0.0, label_smoothing: 0.0 };
        let mut model = Engine::network(self.implementation, &self.network, &self.weights, options)?;
        let found = predict(&mut *model, &self.network, &self.scaled(matrix));
        let found = found.map_err(|error| of_model(error, M::NAME))?;
        progress.end();
        Ok(Array2::from_shape_vec((matrix.nrows(), self.network.classes), found).expect("one row for each flow"))
    }

    fn store(&self, archive: &mut ModelArchive) -> Result<(), ModelError> {
        stored::put_f64s(archive, "scaling", &self.scaling);
        self.weights.store(archive);
        Ok(())
    }

    fn restore(
        parameters: &M::Parameters,
        implementation: Implementation,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        let columns = Columns::new(columns, InputTransform::restore(archive)?.sequence_columns());
        let network = M::network(parameters, columns, classes);
        let Some(known) = network.specifications() else { return Err(stored::broken(M::TOO_SHORT)) };
        let weights = ParameterSet::load(archive, &known)?;
        if let Some(name) = weights.first_non_finite() {
            return Err(stored::broken(format!("tensor {name} has a value that is not finite")));
        }
        let scaling = stored::f64s(archive, "scaling")?.to_vec();
        if scaling.len() != M::scaling_size(columns) || !scaling.iter().all(|value| value.is_finite()) {
            return Err(stored::broken("tensor scaling does not match the columns"));
        }
        Ok(Self { implementation, columns, network, scaling, weights, model: PhantomData })
    }

    fn memory(parameters: &M::Parameters, implementation: Implementation, size: &MatrixSize<'_>) -> AlgorithmMemory {
        let columns = Columns::new(size.columns, size.sequence_columns);
        let network = M::network(parameters, columns, size.class_counts.len());
        let known = network.specifications().unwrap_or_default();
        let weights = known.iter().map(|known| known.count() as f64).sum::<f64>() * 4.0;
        let training = M::training(parameters).options;
        let of_flow = match implementation {
            Implementation::Fast => fast::network_values(&network) as f64,
            Implementation::Reference => network.values() as f64 * TAPE,
        };
        let pretrained_at_once = M::masked(parameters, columns).map_or(0, |masked| masked.batch);
        let at_once = size.rows.min(training.batch.max(pretrained_at_once).max(predicted_at_once(&network)));
        let rows = matrix(size.rows.saturating_add(size.validation), network.columns(), 4);
        let keys = if columns.sequences == 0 { TOKENS } else { ROWS };
        // Tokens, rows as the network reads them and, during the draw, hashes.
        let source = M::pretraining(parameters);
        let drawn = if source.corpus.is_empty() && !source.unlabelled { 0 } else { source.samples };
        let drawn = matrix(drawn, columns.others, 2) + matrix(drawn, network.columns(), 4) + matrix(drawn, 1, 64);
        let fitting = ExpectedMemory::default()
            .and(M::SIZES, weights * COPIES)
            .and(M::BATCH, at_once as f64 * of_flow * 4.0)
            .and(M::CORPUS, drawn)
            .and(keys, rows);
        AlgorithmMemory { fitting, fitted: ExpectedMemory::default().and(M::SIZES, weights) }
    }
}

#[cfg(test)]
#[path = "network_model_tests.rs"]
pub(crate) mod tests;
