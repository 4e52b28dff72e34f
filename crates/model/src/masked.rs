//! Masked pre-training: some of a flow's steps are hidden, and the network learns to give what they hold (Devlin et al. 2019;
//! the squared error of values over hidden patches alone, He et al. 2022). No label is read. What is hidden is drawn anew for
//! every flow in every epoch; of a validation flow it is always the same.

use rand::seq::index;

use super::deep::engine::{BatchLoss, MASKED_PRETRAINING, MaskedModel, Resumable, of_model};
use super::deep::network::Network;
use super::deep::pretrained::{Pretrained, Task};
use super::deep::training::Run;
use super::deep::unlabelled::{PretrainingOptions, Unlabelled, fit_unlabelled};
use super::deep::{Engine, NetworkOptions, OptimiserKind};
use super::{Device, FitContext, Implementation, ModelError};
use etcbench_storage::{Determinants, seed};

/// Changes whenever the result is kept in another form than before.
const FORMAT: &str = "masked artifact 1";

/// How a network is pre-trained.
pub(super) struct Masked {
    /// With a branch that has both marks, and a last layer that gives what the first one reads.
    pub network: Network,
    /// Passes over the flows.
    pub epochs: usize,
    /// Flows per step.
    pub batch: usize,
    /// Learning rate of AdamW.
    pub learning_rate: f32,
    /// Its decoupled weight decay.
    pub weight_decay: f32,
    /// Share of a flow's steps that is hidden.
    pub hidden: f64,
}

/// Flows as the network that classifies reads them: values and the marks of the steps that are there.
#[derive(Clone, Copy)]
struct Rows<'a> {
    rows: &'a [f32],
    /// Columns of a row.
    columns: usize,
    /// Steps of a flow.
    steps: usize,
}

impl Rows<'_> {
    fn count(&self) -> usize {
        self.rows.len() / self.columns
    }

    /// Adds a flow's row to a batch, with the marks of what is hidden behind it: at least one of the steps that are there.
    fn add_hidden(&self, number: usize, share: f64, stream: (u64, usize), batch: &mut Vec<f32>) {
        let row = &self.rows[number * self.columns..(number + 1) * self.columns];
        batch.extend_from_slice(row);
        let first = batch.len();
        batch.resize(first + self.steps, 0.0);
        let present = &row[self.columns - self.steps..];
        let there: Vec<usize> = (0..self.steps).filter(|&step| present[step] > 0.0).collect();
        if there.is_empty() {
            return;
        }
        let count = ((share * there.len() as f64).round() as usize).clamp(1, there.len());
        let (seed, epoch) = stream;
        let mut generator = seed::generator(seed, &format!("hidden {epoch} {number}"));
        for chosen in index::sample(&mut generator, there.len(), count) {
            batch[first + there[chosen]] = 1.0;
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
    /// Pre-trains on these rows, or takes the result from the artifact store if the very same was trained before.
    ///
    /// # Errors
    /// Training that diverged, an artifact that cannot be read, a network that is too short.
    pub(super) fn pretrain(
        &self,
        model: (&'static str, u32),
        implementation: Implementation,
        [training, validation]: [&[f32]; 2],
        context: &FitContext<'_>,
    ) -> Result<Pretrained, ModelError> {
        let Self { network, epochs, batch, learning_rate, weight_decay, hidden } = self;
        let specifications = network.specifications().unwrap_or_default();
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
            let run = Run { seed, checkpoints, progress: context.progress };
            let epochs = fit_unlabelled(&mut on_flows, pretraining, &training, &validation, run)?;
            Ok((model.parameters(), epochs))
        });
        result.map_err(|error| of_model(error, name))
    }
}
