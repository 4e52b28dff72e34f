//! Pre-training without labels, shared by language models and models that reconstruct hidden bytes, on both engines:
//! batches in a new order each epoch, with validation after each epoch.

use rand::seq::SliceRandom;

use super::checkpoint::{EngineState, Position};
use super::engine::{BatchLoss, LanguageModel, Resumable};
use super::pace::Pace;
use super::packets::PacketList;
use super::parameters::MODEL;
use super::training::{TrainingContext, after_epoch, in_epoch, report_resumed, require_finite};
use crate::{EpochRecord, ModelError};
use etcbench_storage::seed;

/// A model together with its training and validation samples, which are addressed by index.
pub(crate) trait Unlabelled {
    /// Takes one optimiser step on these training samples; returns the loss before the step.
    fn train_step(&mut self, epoch: usize, numbers: &[usize], learning_rate: f32) -> Result<BatchLoss, ModelError>;

    /// Computes the loss on these validation samples.
    fn loss(&mut self, numbers: &[usize]) -> Result<BatchLoss, ModelError>;

    /// Returns the state that checkpoints store.
    fn state(&mut self) -> &mut dyn Resumable;
}

/// Settings of a pre-training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PretrainingOptions {
    /// Name of the stage in records, errors and progress.
    pub stage: &'static str,
    /// What samples are called in progress messages.
    pub samples: &'static str,
    /// Passes over the training samples.
    pub epochs: usize,
    /// Samples per step.
    pub batch: usize,
    /// The learning rate.
    pub learning_rate: f32,
}

/// Pre-trains on the samples `training` in a new order each epoch; `validation` samples are only evaluated. Resumes
/// from a checkpoint if the same training was interrupted.
///
/// # Errors
/// The training diverged.
pub(crate) fn fit_unlabelled(
    model: &mut dyn Unlabelled,
    options: PretrainingOptions,
    training: &[usize],
    validation: &[usize],
    context: TrainingContext<'_, '_>,
) -> Result<Vec<EpochRecord>, ModelError> {
    let PretrainingOptions { stage, samples, epochs, batch, learning_rate } = options;
    let TrainingContext { seed, checkpoints, progress } = context;
    let mut order = training.to_vec();
    let mut shuffle = seed::generator(seed, &format!("shuffle {stage}"));
    let batches = order.len().div_ceil(batch);
    progress.begin(stage, (epochs * batches) as u64);
    let mut position = match checkpoints.load() {
        Some((position, engine)) => {
            model.state().set_parameters(&engine.parameters)?;
            model.state().set_optimiser_state(&engine.optimiser)?;
            report_resumed(&position, batches, progress);
            position
        }
        None => Position::default(),
    };
    let mut pace = Pace::new(epochs, order.len(), samples, &position, batch);
    for epoch in 1..=epochs {
        order.shuffle(&mut shuffle);
        if epoch <= position.epochs.len() {
            continue;
        }
        for numbers in order.chunks(batch).skip(position.batches) {
            let loss = in_epoch(model.train_step(epoch, numbers, learning_rate), stage, epoch)?;
            position.trained.add(loss);
            position.batches += 1;
            progress.advance(1);
            pace.advance(numbers.len(), epoch, position.trained, progress);
            checkpoints.save_if_due(&position, || {
                let state = model.state();
                EngineState { parameters: state.parameters(), optimiser: state.optimiser_state() }
            })?;
        }
        let mut validated = BatchLoss::default();
        for numbers in validation.chunks(batch) {
            let loss = model.loss(numbers);
            validated.add(after_epoch(loss, stage, epoch, || model.state().parameters())?);
        }
        require_finite(&model.state().parameters(), stage, epoch)?;
        let validation_loss = (validated.targets > 0).then(|| validated.mean());
        let trained = std::mem::take(&mut position.trained);
        position.batches = 0;
        progress.note(&match validation_loss {
            Some(loss) => format!("epoch {epoch}: loss {:.4}, validation {loss:.4}", trained.mean()),
            None => format!("epoch {epoch}: loss {:.4}", trained.mean()),
        });
        position.epochs.push(EpochRecord {
            stage: stage.to_owned(),
            epoch,
            training_loss: trained.mean(),
            validation_loss,
            validation_macro_f1: None,
        });
    }
    progress.end();
    Ok(position.epochs)
}

/// A language model over packets.
pub(crate) struct OnPackets<'a> {
    model: &'a mut dyn LanguageModel,
    training: &'a PacketList<'a>,
    validation: &'a PacketList<'a>,
}

impl<'a> OnPackets<'a> {
    /// # Errors
    /// No training packet has two bytes, so there is nothing to predict.
    pub(crate) fn new(
        model: &'a mut dyn LanguageModel,
        training: &'a PacketList<'a>,
        validation: &'a PacketList<'a>,
    ) -> Result<Self, ModelError> {
        if training.numbers.iter().all(|&number| training.bytes(number).len() < 2) {
            let problem = "no training packet has two bytes, so ELMo has nothing to predict; check the feature's bytes";
            return Err(ModelError::Data { model: MODEL.to_owned(), problem: problem.to_owned() });
        }
        Ok(Self { model, training, validation })
    }
}

impl Unlabelled for OnPackets<'_> {
    fn train_step(&mut self, _: usize, numbers: &[usize], learning_rate: f32) -> Result<BatchLoss, ModelError> {
        self.model.train_step(&self.training.batch(numbers), numbers.len(), learning_rate)
    }

    fn loss(&mut self, numbers: &[usize]) -> Result<BatchLoss, ModelError> {
        self.model.loss(&self.validation.batch(numbers), numbers.len())
    }

    fn state(&mut self) -> &mut dyn Resumable {
        &mut *self.model
    }
}
