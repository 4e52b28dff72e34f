//! Masked pre-training: hides some of a flow's steps and trains the network to reconstruct them (Devlin et al. 2019;
//! the squared error over hidden patches alone follows He et al. 2022). Labels are not used. The hidden steps are drawn
//! anew for every flow in every epoch; for a validation flow they are always the same.

use rand::seq::index;

use super::deep::engine::{BatchLoss, MASKED_PRETRAINING, MaskedModel, Resumable, of_model};
use super::deep::network::Network;
use super::deep::parameters::Specification;
use super::deep::pretrained::{Pretrained, Task};
use super::deep::training::TrainingContext;
use super::deep::unlabelled::{PretrainingOptions, Unlabelled, fit_unlabelled};
use super::deep::{Engine, NetworkOptions, OptimiserKind};
use super::{Device, FitContext, Implementation, ModelError};
use etcbench_storage::{Determinants, seed};

/// Bump whenever the result's storage format changes.
const FORMAT: &str = "masked artifact 1";

/// How a network is pre-trained.
pub(super) struct Masked {
    /// Has a branch with both marks, and a last layer that outputs what the first one reads.
    pub network: Network,
    /// Passes over the flows.
    pub epochs: usize,
    /// Flows per step.
    pub batch: usize,
    /// Learning rate of AdamW.
    pub learning_rate: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Share of a flow's steps that are hidden.
    pub hidden: f64,
}

/// Flows as the classification network reads them: values, then the marks of the steps that are present.
#[derive(Clone, Copy)]
struct Rows<'a> {
    rows: &'a [f32],
    /// Number of columns per row.
    columns: usize,
    /// Number of steps per flow.
    steps: usize,
}

impl Rows<'_> {
    fn count(&self) -> usize {
        self.rows.len() / self.columns
    }

    /// Appends a flow's row to a batch, followed by the marks of its hidden steps: at least one of those present.
    fn add_hidden(&self, number: usize, share: f64, stream: (u64, usize), batch: &mut Vec<f32>) {
        let row = &self.rows[number * self.columns..(number + 1) * self.columns];
        batch.extend_from_slice(row);
        let first = batch.len();
        batch.resize(first + self.steps, 0.0);
        let present = &row[self.columns - self.steps..];
        let occupied: Vec<usize> = (0..self.steps).filter(|&step| present[step] > 0.0).collect();
        if occupied.is_empty() {
            return;
        }
        let count = ((share * occupied.len() as f64).round() as usize).clamp(1, occupied.len());
        let (seed, epoch) = stream;
        let mut generator = seed::generator(seed, &format!("hidden {epoch} {number}"));
        for chosen in index::sample(&mut generator, occupied.len(), count) {
            batch[first + occupied[chosen]] = 1.0;
        }
    }
}

/// Training and validation flows of a network.
struct OnFlows<'a> {
    model: &'a mut dyn MaskedModel,
    parts: [Rows<'a>; 2],
    seed: u64,
    hidden: f64,
    batch: Vec<f32>,
}

impl OnFlows<'_> {
    fn fill(&mut self, part: usize, epoch: usize, numbers: &[usize]) {
        self.batch.clear();
        for &number in numbers {
            self.parts[part].add_hidden(number, self.hidden, (self.seed, epoch), &mut self.batch);
        }
    }
}

impl Unlabelled for OnFlows<'_> {
    fn train_step(&mut self, epoch: usize, numbers: &[usize], learning_rate: f32) -> Result<BatchLoss, ModelError> {
        self.fill(0, epoch, numbers);
        self.model.train_step(&self.batch, learning_rate)
    }

    fn loss(&mut self, numbers: &[usize]) -> Result<BatchLoss, ModelError> {
        self.fill(1, 0, numbers);
        self.model.loss(&self.batch)
    }

    fn state(&mut self) -> &mut dyn Resumable {
        &mut *self.model
    }
}

impl Masked {
    /// Returns the parameters that it trains; none if the network is too short.
    pub(super) fn specifications(&self) -> Vec<Specification> {
        self.network.specifications().unwrap_or_default()
    }

    /// Pre-trains on these rows, or returns the stored artifact if the same pre-training was done before.
    ///
    /// # Errors
    /// Training that diverged, an unreadable artifact, or a network that is too short.
    pub(super) fn pretrain(
        &self,
        model: (&'static str, u32),
        implementation: Implementation,
        [training, validation]: [&[f32]; 2],
        context: &FitContext<'_>,
    ) -> Result<Pretrained, ModelError> {
        let Self { network, epochs, batch, learning_rate, weight_decay, hidden } = self;
        let specifications = self.specifications();
        let steps = network.branches.first().map_or(0, |branch| branch.input.steps);
        let rows = |rows| Rows { rows, columns: network.columns() - steps, steps };
        let parts = [rows(training), rows(validation)];
        let (name, version) = model;
        let facts = Determinants::of("masked", version)
            .and("model", name)
            .and("format", FORMAT)
            .and("implementation", &implementation)
            .and("network", &format!("{network:?}"))
            .and("options", &format!("{epochs} {batch} {learning_rate} {weight_decay} {hidden}"))
            .and("seed", &context.seed)
            .and_data("training", |add| add(bytemuck::cast_slice(training)))
            .and_data("validation", |add| add(bytemuck::cast_slice(validation)));
        let key = format!("masked-{}", Device::Cpu.add_to(facts).key());
        let task = Task {
            stage: MASKED_PRETRAINING,
            format: FORMAT,
            key: &key,
            specifications: &specifications,
            samples: (parts[0].count() * epochs) as u64,
        };
        let (optimiser, label_smoothing) = (OptimiserKind::Adamw, 0.0);
        let pretraining = PretrainingOptions {
            stage: MASKED_PRETRAINING,
            samples: "flows",
            epochs: *epochs,
            batch: *batch,
            learning_rate: *learning_rate,
        };
        let result = task.result(context, |checkpoints| {
            let options =
                NetworkOptions { seed: context.seed, optimiser, weight_decay: *weight_decay, label_smoothing };
            let initial = network.initial(context.seed).unwrap_or_default();
            let mut model = Engine::masked_model(implementation, network, &initial, options)?;
            let seed = context.seed;
            let mut on_flows = OnFlows { model: &mut *model, parts, seed, hidden: *hidden, batch: Vec::new() };
            let [training, validation] = parts.map(|part| (0..part.count()).collect::<Vec<_>>());
            let training_context = TrainingContext { seed, checkpoints, progress: context.progress };
            let epochs = fit_unlabelled(&mut on_flows, pretraining, &training, &validation, training_context)?;
            Ok((model.parameters(), epochs))
        });
        result.map_err(|error| of_model(error, name))
    }
}
