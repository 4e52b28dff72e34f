//! ELMo (Peters et al. 2018) over the operations of a device. The right-to-left direction is the same program on
//! reversed packets: its state at step s has read s + 1 bytes from the end and predicts the next one.

use std::ops::Range;

use super::device::{Device, Dropout, LinearShape, LstmInput, LstmShape, LstmState, NO_TARGET, PairGradient, Trained};
use super::packing::Packing;
use super::weights::{Linear, Lstm, Optimiser, Weight};
use crate::feature::PAD;
use crate::model::ModelError;
use crate::model::deep::engine::{
    BatchLoss, DropoutPlace, LanguageModel, NOT_FINITE, OptimiserState, PRETRAINING, diverged,
};
use crate::model::deep::parameters::{Activation, ElmoOptions, MODEL, ParameterSet};
use crate::seed;

const DIRECTIONS: [&str; 2] = ["forward", "backward"];

/// One turn of both directions.
const TOGETHER: &[Range<usize>] = std::slice::from_ref(&(0..2));

struct Weights<D: Device> {
    embedding: Weight<D>,
    directions: [Vec<Lstm<D>>; 2],
    head: Linear<D>,
}

impl<D: Device> Weights<D> {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Weight<D>)) {
        visit(&mut self.embedding);
        self.directions.iter_mut().flatten().for_each(|layer| layer.visit(visit));
        self.head.visit(visit);
    }
}

/// What one layer of a direction computes.
struct Layer<V> {
    state: LstmState<V>,
    /// The states after dropout, where there is any.
    dropped: V,
}

impl<V> Layer<V> {
    /// What is read of the layer.
    fn output(&self, dropping: bool) -> &V {
        if dropping { &self.dropped } else { &self.state.hidden }
    }
}

/// What a layer reads: the one below, or the embedding.
fn input<'a, D: Device>(
    below: Option<&'a Layer<D::Values>>,
    dropping: bool,
    embedding: &'a D::Values,
    vocabulary: usize,
    ids: &'a D::Indices,
) -> LstmInput<'a, D> {
    match below {
        None => LstmInput::Embedded { embedding, vocabulary, ids },
        Some(below) => LstmInput::Rows(below.output(dropping)),
    }
}

/// A batch on the host and on the device.
struct Batch<D: Device> {
    packing: Packing,
    lengths: Vec<u32>,
    host: Vec<u32>,
    /// By direction: the token of each state, the one that it predicts, and where it stands in the batch.
    ids: [D::Indices; 2],
    targets: [D::Indices; 2],
    places: [D::Indices; 2],
    /// Number of targets of both directions.
    target_count: u64,
}

/// ELMo on a device.
pub(super) struct Elmo<D: Device> {
    device: D,
    options: ElmoOptions,
    vocabulary: usize,
    dropout_seed: u64,
    weights: Weights<D>,
    optimiser: Optimiser,
    batch: Batch<D>,
    /// Of each direction, where the device runs both together; else the first serves one after the other.
    layers: [Vec<Layer<D::Values>>; 2],
    logits: D::Values,
    dh: [D::Values; 2],
    dx: [D::Values; 2],
    pooled: D::Values,
    host: Vec<f32>,
}

fn invalid(problem: String) -> ModelError {
    ModelError::Data { model: MODEL.to_owned(), problem }
}

impl<D: Device> Elmo<D> {
    pub fn new(mut device: D, options: &ElmoOptions, set: &ParameterSet, seed: u64) -> Result<Self, ModelError> {
        let hidden = options.hidden;
        let vocabulary = set.shape("elmo.embedding.weight")?.first().copied().unwrap_or(0);
        let embedding =
            Weight::new(&mut device, set, "elmo.embedding.weight".to_owned(), &[vocabulary, options.embedding])?;
        let mut direction = |name: &str| {
            let layers = (0..options.layers).map(|layer| {
                let inputs = if layer == 0 { options.embedding } else { hidden };
                Lstm::new(&mut device, set, &format!("elmo.{name}.{layer}"), inputs, hidden)
            });
            layers.collect::<Result<Vec<_>, _>>()
        };
        let directions = [direction(DIRECTIONS[0])?, direction(DIRECTIONS[1])?];
        let head = Linear::new(&mut device, set, "elmo.head", vocabulary, hidden)?;
        device.check()?;
        let layers = || {
            let layer = |_| Layer { state: LstmState::default(), dropped: D::Values::default() };
            (0..options.layers).map(layer).collect()
        };
        Ok(Self {
            device,
            options: options.clone(),
            vocabulary,
            dropout_seed: seed::derive(seed, "dropout"),
            weights: Weights { embedding, directions, head },
            optimiser: Optimiser { clip_norm: options.clip_norm, weight_decay: 0.0, steps: 0 },
            batch: Batch {
                packing: Packing::default(),
                lengths: Vec::new(),
                host: Vec::new(),
                ids: Default::default(),
                targets: Default::default(),
                places: Default::default(),
                target_count: 0,
            },
            layers: [layers(), layers()],
            logits: D::Values::default(),
            dh: Default::default(),
            dx: Default::default(),
            pooled: D::Values::default(),
            host: Vec::new(),
        })
    }

    /// Checks and packs a batch.
    fn prepare(&mut self, tokens: &[u16], packets: usize) -> Result<(), ModelError> {
        if packets == 0 || !tokens.len().is_multiple_of(packets) || tokens.is_empty() {
            return Err(invalid(format!("{} tokens are not {packets} packets of one length", tokens.len())));
        }
        if u32::try_from(tokens.len()).is_err() {
            return Err(invalid(format!("{} tokens are too many for one batch", tokens.len())));
        }
        if let Some(token) = tokens.iter().find(|&&token| usize::from(token) >= self.vocabulary) {
            return Err(invalid(format!("token {token} is not in the vocabulary of {}", self.vocabulary)));
        }
        let width = tokens.len() / packets;
        let batch = &mut self.batch;
        batch.lengths.clear();
        for (packet, row) in tokens.chunks_exact(width).enumerate() {
            let length = row.iter().position(|&token| token == PAD).unwrap_or(width);
            if length == 0 || row[length..].iter().any(|&token| token != PAD) {
                return Err(invalid(format!("packet {packet} of a batch has padding before a byte, or no byte")));
            }
            batch.lengths.push(length as u32);
        }
        batch.target_count = batch.lengths.iter().map(|&length| 2 * (u64::from(length) - 1)).sum();
        let rows_per_chunk = self.device.rows_per_chunk(self.options.hidden, packets);
        batch.packing.build(&batch.lengths, rows_per_chunk);
        for direction in 0..2 {
            let position = |length: usize, step: usize| if direction == 0 { step } else { length - 1 - step };
            let token = |row: usize, length: usize, step: usize| {
                if step < length { u32::from(tokens[row * width + position(length, step)]) } else { NO_TARGET }
            };
            let Batch { packing, host, ids, targets, places, .. } = &mut *batch;
            for (ahead, indices) in [(0, &mut ids[direction]), (1, &mut targets[direction])] {
                host.clear();
                packing.for_each_state(|row, length, step| host.push(token(row, length, step + ahead)));
                self.device.upload_indices(host, indices);
            }
            host.clear();
            packing.for_each_state(|row, length, step| host.push((row * width + position(length, step)) as u32));
            self.device.upload_indices(host, &mut places[direction]);
        }
        Ok(())
    }

    fn lstm_shape(&self, layer: usize) -> LstmShape {
        let inputs = if layer == 0 { self.options.embedding } else { self.options.hidden };
        LstmShape { inputs, hidden: self.options.hidden, activation: Activation::Tanh }
    }

    fn head_shape(&self) -> LinearShape {
        LinearShape { rows: self.batch.packing.states, inputs: self.options.hidden, outputs: self.vocabulary }
    }

    fn dropout(&self, direction: usize, layer: usize) -> Dropout {
        Dropout {
            seed: self.dropout_seed,
            step: self.optimiser.steps,
            place: DropoutPlace::Elmo { direction: direction as u32, layer: layer as u32 },
            rate: self.options.dropout,
        }
    }

    /// Which directions go together: both at once, or one after the other.
    fn turns(&self) -> &'static [Range<usize>] {
        if self.device.runs_pairs() { TOGETHER } else { &[0..1, 1..2] }
    }

    /// Which of `layers` a direction uses.
    fn slot(&self, direction: usize) -> usize {
        if self.device.runs_pairs() { direction } else { 0 }
    }

    /// The states of all layers of these directions.
    fn forward(&mut self, directions: Range<usize>, dropping: bool) {
        let (states, hidden) = (self.batch.packing.states, self.options.hidden);
        for layer in 0..self.options.layers {
            let shape = self.lstm_shape(layer);
            let Self { device, weights, batch, layers, vocabulary, .. } = self;
            let Weights { embedding, directions: lstm, .. } = &*weights;
            let Batch { packing, ids, .. } = &*batch;
            let (embedding, vocabulary) = (embedding.value(), *vocabulary);
            let [first, second] = layers;
            let (first_below, first) = first.split_at_mut(layer);
            if directions.len() == 2 {
                let (second_below, second) = second.split_at_mut(layer);
                let inputs = [
                    input(first_below.last(), dropping, embedding, vocabulary, &ids[0]),
                    input(second_below.last(), dropping, embedding, vocabulary, &ids[1]),
                ];
                let weights = [lstm[0][layer].values(), lstm[1][layer].values()];
                device.lstm_pair(shape, packing, inputs, weights, [&mut first[0].state, &mut second[0].state]);
            } else {
                let direction = directions.start;
                let weights = lstm[direction][layer].values();
                let input = input(first_below.last(), dropping, embedding, vocabulary, &ids[direction]);
                device.lstm(shape, packing, input, weights, &mut first[0].state);
            }
            for direction in directions.clone().filter(|_| dropping) {
                let (dropout, slot) = (self.dropout(direction, layer), self.slot(direction));
                let Layer { state, dropped } = &mut self.layers[slot][layer];
                self.device.reserve(dropped, states * hidden);
                let places = &self.batch.places[direction];
                self.device.dropout(states, hidden, dropout, places, &state.hidden, dropped);
            }
        }
    }

    /// The loss of a direction after its forward pass; leaves its gradient in the logits.
    fn cross_entropy(&mut self, direction: usize, dropping: bool) -> f64 {
        let shape = self.head_shape();
        self.device.reserve(&mut self.logits, shape.rows * shape.outputs);
        let top = self.layers[self.slot(direction)].last().expect("at least one layer").output(dropping);
        let head = &self.weights.head;
        self.device.linear(shape, top, head.weight.value(), head.bias.value(), &mut self.logits);
        let scale = 1.0 / self.batch.target_count as f32;
        let targets = &self.batch.targets[direction];
        self.device.cross_entropy(shape.rows, shape.outputs, &mut self.logits, targets, scale)
    }

    /// The gradients of the head, and of the states below it, after the loss of a direction.
    fn head_backward(&mut self, direction: usize, dropping: bool) {
        let (states, hidden) = (self.batch.packing.states, self.options.hidden);
        let (shape, slot) = (self.head_shape(), self.slot(direction));
        self.device.reserve(&mut self.dh[slot], states * hidden);
        self.device.reserve(&mut self.dx[slot], states * hidden);
        let top = self.layers[slot].last().expect("at least one layer").output(dropping);
        let head = &mut self.weights.head;
        let (weight, bias) = (&mut head.weight.trained, &mut head.bias.trained);
        self.device.linear_backward(shape, top, &self.logits, weight, bias, &mut self.dh[slot], false);
    }

    /// The gradients of these directions below the head.
    fn backward(&mut self, directions: Range<usize>, dropping: bool) {
        let (states, hidden) = (self.batch.packing.states, self.options.hidden);
        for layer in (0..self.options.layers).rev() {
            for direction in directions.clone().filter(|_| dropping) {
                let (dropout, slot) = (self.dropout(direction, layer), self.slot(direction));
                let places = &self.batch.places[direction];
                self.device.dropout_in_place(states, hidden, dropout, places, &mut self.dh[slot]);
            }
            let shape = self.lstm_shape(layer);
            let Self { device, weights, batch, layers, vocabulary, dh, dx, .. } = self;
            let Weights { embedding, directions: lstm, .. } = weights;
            let Batch { packing, ids, .. } = &*batch;
            let Trained { value: embedding, gradient: embedding_gradient, .. } = &mut embedding.trained;
            let (embedding, vocabulary) = (&*embedding, *vocabulary);
            let [first, second] = layers;
            let (first_below, first) = first.split_at_mut(layer);
            if directions.len() == 2 {
                let (second_below, second) = second.split_at_mut(layer);
                let inputs = [
                    input(first_below.last(), dropping, embedding, vocabulary, &ids[0]),
                    input(second_below.last(), dropping, embedding, vocabulary, &ids[1]),
                ];
                let [left, right] = lstm;
                let weights = [left[layer].trained(), right[layer].trained()];
                let states = [&mut first[0].state, &mut second[0].state];
                let [first_dx, second_dx] = &mut *dx;
                let to = match layer {
                    0 => PairGradient::Shared(embedding_gradient),
                    _ => PairGradient::Each([first_dx, second_dx]),
                };
                device.lstm_pair_backward(shape, packing, inputs, weights, states, dh.each_mut(), to);
            } else {
                let direction = directions.start;
                let input = input(first_below.last(), dropping, embedding, vocabulary, &ids[direction]);
                let weights = lstm[direction][layer].trained();
                let to = if layer == 0 { embedding_gradient } else { &mut dx[0] };
                device.lstm_backward(shape, packing, input, weights, &mut first[0].state, &mut dh[0], to);
            }
            if layer > 0 {
                std::mem::swap(dh, dx);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// The gradients by name, as they are now.
    pub(super) fn named_gradients(&mut self) -> Vec<(String, Vec<f32>)> {
        let Self { device, weights, .. } = self;
        let mut found = Vec::new();
        weights.visit(&mut |weight| found.push(weight.gradient(device)));
        found
    }

    /// The loss of a batch, and the gradients added to the weights'.
    pub(super) fn gradients(&mut self, tokens: &[u16], packets: usize) -> Result<BatchLoss, ModelError> {
        self.prepare(tokens, packets)?;
        let mut loss = BatchLoss { sum: 0.0, targets: self.batch.target_count };
        if loss.targets > 0 {
            let dropping = self.options.dropout > 0.0;
            for directions in self.turns() {
                self.forward(directions.clone(), dropping);
                for direction in directions.clone() {
                    loss.sum += self.cross_entropy(direction, dropping);
                    self.head_backward(direction, dropping);
                }
                self.backward(directions.clone(), dropping);
            }
        }
        self.device.check()?;
        Ok(loss)
    }
}

impl<D: Device> LanguageModel for Elmo<D> {
    fn train_step(&mut self, tokens: &[u16], packets: usize, learning_rate: f32) -> Result<BatchLoss, ModelError> {
        let loss = self.gradients(tokens, packets)?;
        if !loss.sum.is_finite() {
            let parameters = self.parameters();
            return Err(diverged(PRETRAINING, parameters.first_non_finite().unwrap_or("elmo.head"), NOT_FINITE));
        }
        if loss.targets > 0 {
            let Self { device, weights, optimiser, .. } = self;
            optimiser.step(PRETRAINING, device, learning_rate, |visit| weights.visit(visit))?;
        }
        Ok(loss)
    }

    fn loss(&mut self, tokens: &[u16], packets: usize) -> Result<BatchLoss, ModelError> {
        self.prepare(tokens, packets)?;
        let mut loss = BatchLoss { sum: 0.0, targets: self.batch.target_count };
        if loss.targets > 0 {
            for directions in self.turns() {
                self.forward(directions.clone(), false);
                for direction in directions.clone() {
                    loss.sum += self.cross_entropy(direction, false);
                }
            }
        }
        self.device.check()?;
        Ok(loss)
    }

    fn encode(&mut self, tokens: &[u16], packets: usize, output: &mut [f32]) -> Result<(), ModelError> {
        self.prepare(tokens, packets)?;
        let (hidden, layers) = (self.options.hidden, self.options.layers);
        if output.len() != packets * (layers + 1) * 2 * hidden {
            return Err(invalid(format!("{} values do not hold the vectors of {packets} packets", output.len())));
        }
        self.device.reserve(&mut self.pooled, packets * hidden);
        self.host.resize(packets * hidden, 0.0);
        for (turn, direction) in
            self.turns().iter().flat_map(|turn| turn.clone().map(move |direction| (turn, direction)))
        {
            if direction == turn.start {
                self.forward(turn.clone(), false);
            }
            let slot = self.slot(direction);
            for layer in 0..=layers {
                let packing = &self.batch.packing;
                match layer.checked_sub(1) {
                    None => {
                        let (embedding, ids) = (self.weights.embedding.value(), &self.batch.ids[direction]);
                        self.device.embedding_mean(packing, hidden, embedding, ids, &mut self.pooled);
                    }
                    Some(below) => {
                        self.device.mean(packing, hidden, &self.layers[slot][below].state.hidden, &mut self.pooled);
                    }
                }
                self.device.download(&self.pooled, &mut self.host);
                for (&packet, row) in packing.order.iter().zip(self.host.chunks_exact(hidden)) {
                    let start = ((packet as usize * (layers + 1) + layer) * 2 + direction) * hidden;
                    output[start..start + hidden].copy_from_slice(row);
                }
            }
        }
        self.device.check()
    }

    fn optimiser_state(&mut self) -> OptimiserState {
        let Self { device, weights, optimiser, .. } = self;
        optimiser.state(device, |visit| weights.visit(visit))
    }

    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError> {
        let Self { device, weights, optimiser, .. } = self;
        optimiser.set_state(device, state, |visit| weights.visit(visit))
    }

    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError> {
        let Self { device, weights, .. } = self;
        let mut result = Ok(());
        weights.visit(&mut |weight| {
            if result.is_ok() {
                result = weight.load(device, parameters);
            }
        });
        result
    }

    fn parameters(&self) -> ParameterSet {
        let mut set = ParameterSet::default();
        let Weights { embedding, directions, head } = &self.weights;
        let lstm = directions.iter().flatten().flat_map(|layer| [&layer.input, &layer.hidden, &layer.bias]);
        for weight in std::iter::once(embedding).chain(lstm).chain([&head.weight, &head.bias]) {
            weight.store(&self.device, &mut set);
        }
        set
    }
}
