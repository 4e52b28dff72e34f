//! The part of an ELMo (Peters et al. 2018) that encodes packets: a byte embedding, optionally with a position
//! embedding added to it, followed by a stack of LSTMs in each direction. The right-to-left direction is the same
//! program on reversed packets: its state at step s has read s + 1 bytes from the end. A packet's encoding consists of
//! the pooled states of each layer and direction. Gradients come either from above the last layer (pre-training) or
//! from the encodings (training together with the classifier).

mod bytes;
mod pooled;

use std::ops::Range;

use super::backend::{
    Backend, Dropout, LstmGradients, LstmInput, LstmPairGradients, LstmShape, LstmState, MatrixShape, PairGradient,
    Trained,
};
use super::packing::Packing;
use super::weights::{Lstm, Weight};
use crate::ModelError;
use crate::deep::engine::DropoutPlace;
use crate::deep::parameters::{Activation, ElmoOptions, MODEL, ParameterSet};
use bytes::{Batch, Positions, bytes};
use etcbench_storage::seed;
use pooled::Spread;

pub(super) use pooled::PooledGradient;

const DIRECTIONS: [&str; 2] = ["forward", "backward"];

/// Both directions in a single turn.
const TOGETHER: &[Range<usize>] = std::slice::from_ref(&(0..2));

/// Values of one layer in one direction.
struct Layer<V> {
    state: LstmState<V>,
    /// The states after dropout, if there is any.
    dropped: V,
}

impl<V> Layer<V> {
    /// Pairs each buffer with its length.
    fn sized(&mut self, states: usize, hidden: usize, dropping: bool) -> [(&mut V, usize); 4] {
        let Self { state, dropped } = self;
        let [gates, cells, outputs] = state.sized(states, hidden);
        [gates, cells, outputs, (dropped, if dropping { states * hidden } else { 0 })]
    }

    /// Returns the values read by the next layer.
    fn output(&self, dropping: bool) -> &V {
        if dropping { &self.dropped } else { &self.state.hidden }
    }
}

/// Returns a layer's input: the layer below, or the bytes.
fn input<'a, B: Backend>(
    below: Option<&'a Layer<B::Values>>,
    dropping: bool,
    bytes: LstmInput<'a, B>,
) -> LstmInput<'a, B> {
    below.map_or(bytes, |below| LstmInput::Rows(below.output(dropping)))
}

/// Embedding and stacks; the device belongs to their owner.
pub(super) struct Stacks<B: Backend> {
    options: ElmoOptions,
    vocabulary: usize,
    dropout_seed: u64,
    /// Whether the states of both directions are kept until the backward pass.
    keeps_both: bool,
    embedding: Weight<B>,
    positions: Option<Positions<B>>,
    directions: [Vec<Lstm<B>>; 2],
    batch: Batch<B>,
    /// By direction, if both are kept; otherwise both directions use the first in turn.
    layers: [Vec<Layer<B::Values>>; 2],
    dh: [B::Values; 2],
    dx: [B::Values; 2],
    /// One layer's pooled states of one direction, or their gradient, in sorted order.
    pooled: B::Values,
}

/// Returns the number of values that the stacks hold for each byte of a batch: in training, which needs gradients, with
/// both directions if they are kept until the backward pass; or without training, to encode packets.
pub(super) fn values_of_byte(options: &ElmoOptions, training: bool, keeps_both: bool) -> usize {
    let mut layer = Layer::<()> { state: LstmState::default(), dropped: () };
    let of_layer: usize =
        layer.sized(1, options.hidden, training && options.dropout > 0.0).iter().map(|(_, length)| length).sum();
    let embedded = if options.positions { options.embedding } else { 0 };
    // `dh` and `dx`.
    let gradients = if training { 2 * options.hidden } else { 0 };
    let directions = if keeps_both { 2 } else { 1 };
    directions * (options.layers * of_layer + embedded + gradients)
}

fn invalid(problem: String) -> ModelError {
    ModelError::Data { model: MODEL.to_owned(), problem }
}

impl<B: Backend> Stacks<B> {
    /// Creates the stacks with these parameters; `keeps_both` if the backward pass follows the forward passes of both
    /// directions.
    pub(super) fn new(
        device: &mut B,
        options: &ElmoOptions,
        set: &ParameterSet,
        seed: u64,
        keeps_both: bool,
    ) -> Result<Self, ModelError> {
        let hidden = options.hidden;
        let vocabulary = set.shape("elmo.embedding.weight")?.first().copied().unwrap_or(0);
        let embedding = Weight::new(device, set, "elmo.embedding.weight".to_owned(), &[vocabulary, options.embedding])?;
        let positions = if options.positions { Some(Positions::new(device, options, set)?) } else { None };
        let keeps_both = keeps_both || device.runs_pairs();
        let mut direction = |name: &str| {
            let layers = (0..options.layers).map(|layer| {
                let inputs = if layer == 0 { options.embedding } else { hidden };
                Lstm::new(device, set, &format!("elmo.{name}.{layer}"), inputs, hidden)
            });
            layers.collect::<Result<Vec<_>, _>>()
        };
        let directions = [direction(DIRECTIONS[0])?, direction(DIRECTIONS[1])?];
        let layers = || {
            let layer = |_| Layer { state: LstmState::default(), dropped: B::Values::default() };
            (0..options.layers).map(layer).collect()
        };
        Ok(Self {
            options: options.clone(),
            vocabulary,
            dropout_seed: seed::derive(seed, "dropout"),
            keeps_both,
            embedding,
            positions,
            directions,
            batch: Batch {
                packing: Packing::default(),
                lengths: Vec::new(),
                host: Vec::new(),
                ids: Default::default(),
                places: Default::default(),
                placed: [false; 2],
                width: 0,
                order: B::Indices::default(),
            },
            layers: [layers(), layers()],
            dh: Default::default(),
            dx: Default::default(),
            pooled: B::Values::default(),
        })
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&mut Weight<B>)) {
        visit(&mut self.embedding);
        if let Some(positions) = &mut self.positions {
            visit(&mut positions.weight);
        }
        self.directions.iter_mut().flatten().for_each(|layer| layer.visit(visit));
    }

    /// Copies all values to a set.
    pub(super) fn store(&self, device: &B, set: &mut ParameterSet) {
        let lstm = self.directions.iter().flatten().flat_map(|layer| [&layer.input, &layer.hidden, &layer.bias]);
        let embeddings = std::iter::once(&self.embedding).chain(self.positions.iter().map(|known| &known.weight));
        embeddings.chain(lstm).for_each(|weight| weight.store(device, set));
    }

    /// Returns the number of rows of the embedding.
    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Returns the number of positions with an embedding; 0 without a position embedding.
    pub(super) fn positions(&self) -> usize {
        self.positions.as_ref().map_or(0, |positions| positions.count)
    }

    /// Returns the number of states of one direction of the current batch.
    pub(super) fn states(&self) -> usize {
        self.batch.packing.states
    }

    /// Returns the lengths of the current batch's packets.
    pub(super) fn lengths(&self) -> &[u32] {
        &self.batch.lengths
    }

    /// Returns the sizes of a layer's states in one direction.
    fn state_shape(&self) -> MatrixShape {
        MatrixShape { rows: self.batch.packing.states, columns: self.options.hidden }
    }

    fn lstm_shape(&self, layer: usize) -> LstmShape {
        let inputs = if layer == 0 { self.options.embedding } else { self.options.hidden };
        LstmShape { inputs, hidden: self.options.hidden, activation: Activation::Tanh }
    }

    fn dropout(&self, direction: usize, layer: usize, step: u64) -> Dropout {
        Dropout {
            seed: self.dropout_seed,
            step,
            place: DropoutPlace::Elmo { direction: direction as u32, layer: layer as u32 },
            rate: self.options.dropout,
        }
    }

    /// Returns the training step if dropout is enabled.
    pub(super) fn dropping(&self, step: u64) -> Option<u64> {
        (self.options.dropout > 0.0).then_some(step)
    }

    /// Returns how the directions are grouped: both at once, or one after the other.
    pub(super) fn turns(device: &B) -> &'static [Range<usize>] {
        if device.runs_pairs() { TOGETHER } else { &[0..1, 1..2] }
    }

    /// Returns the index in `layers` that a direction uses.
    fn slot(&self, direction: usize) -> usize {
        if self.keeps_both { direction } else { 0 }
    }

    /// Computes the states of all layers of these directions; `dropping` is the training step if dropout is enabled.
    pub(super) fn forward(&mut self, device: &mut B, directions: Range<usize>, dropping: Option<u64>) {
        let states = self.state_shape();
        let dropped = dropping.is_some();
        for direction in directions.clone() {
            self.embed(device, direction);
            let slot = self.slot(direction);
            for (buffer, length) in
                self.layers[slot].iter_mut().flat_map(|layer| layer.sized(states.rows, states.columns, dropped))
            {
                device.reserve(buffer, length);
            }
        }
        for layer in 0..self.options.layers {
            let shape = self.lstm_shape(layer);
            let slot = self.slot(directions.start);
            let Self { embedding, positions, directions: lstm, batch, layers, vocabulary, .. } = self;
            let Batch { packing, ids, .. } = &*batch;
            let (embedding, positions, vocabulary) = (embedding.value(), positions.as_ref(), *vocabulary);
            if directions.len() == 2 {
                let [(first_below, first), (second_below, second)] =
                    layers.each_mut().map(|layers| layers.split_at_mut(layer));
                let inputs = [
                    input(first_below.last(), dropped, bytes(embedding, vocabulary, positions, &ids[0], 0)),
                    input(second_below.last(), dropped, bytes(embedding, vocabulary, positions, &ids[1], 1)),
                ];
                let weights = [lstm[0][layer].values(), lstm[1][layer].values()];
                device.lstm_pair(shape, packing, inputs, weights, [&mut first[0].state, &mut second[0].state]);
            } else {
                let direction = directions.start;
                let (below, rest) = layers[slot].split_at_mut(layer);
                let weights = lstm[direction][layer].values();
                let bytes = bytes(embedding, vocabulary, positions, &ids[direction], slot);
                let input = input(below.last(), dropped, bytes);
                device.lstm(shape, packing, input, weights, &mut rest[0].state);
            }
            for direction in directions.clone().filter(|_| dropped) {
                self.place(device, direction);
                let dropout = self.dropout(direction, layer, dropping.unwrap_or_default());
                let slot = self.slot(direction);
                let Layer { state, dropped } = &mut self.layers[slot][layer];
                device.dropout(states, dropout, &self.batch.places[direction], &state.hidden, dropped);
            }
        }
    }

    /// Returns the head's input in a direction after its forward pass, and a buffer for its gradient.
    pub(super) fn top(
        &mut self,
        device: &mut B,
        direction: usize,
        dropping: Option<u64>,
    ) -> (&B::Values, &mut B::Values) {
        let slot = self.slot(direction);
        self.reserve_gradients(device, slot);
        let top = self.layers[slot].last().expect("at least one layer").output(dropping.is_some());
        (top, &mut self.dh[slot])
    }

    fn reserve_gradients(&mut self, device: &mut B, slot: usize) {
        let values = self.batch.packing.states * self.options.hidden;
        device.reserve(&mut self.dh[slot], values);
        device.reserve(&mut self.dx[slot], values);
    }

    /// Computes the gradients of these directions from that of the encodings or, without one, from the buffer returned
    /// by [`Stacks::top`].
    pub(super) fn backward(
        &mut self,
        device: &mut B,
        directions: Range<usize>,
        dropping: Option<u64>,
        encodings: Option<&PooledGradient<'_, B>>,
    ) {
        let (states, count) = (self.state_shape(), self.options.layers);
        let dropped = dropping.is_some();
        if encodings.is_some() {
            directions.clone().for_each(|direction| self.reserve_gradients(device, self.slot(direction)));
        }
        for layer in (0..count).rev() {
            for direction in directions.clone() {
                if let Some(encodings) = encodings {
                    let to = if layer + 1 == count { Spread::Written } else { Spread::Added };
                    self.pool_backward(device, layer + 1, direction, dropped, encodings, to);
                }
                if let Some(step) = dropping {
                    let (dropout, slot) = (self.dropout(direction, layer, step), self.slot(direction));
                    let places = &self.batch.places[direction];
                    device.dropout_in_place(states, dropout, places, &mut self.dh[slot]);
                }
            }
            let shape = self.lstm_shape(layer);
            let slot = self.slot(directions.start);
            let Self { embedding, positions, directions: lstm, batch, layers, vocabulary, dh, dx, .. } = self;
            let Batch { packing, ids, .. } = &*batch;
            let Trained { value: embedding, gradient: embedding_gradient, .. } = &mut embedding.trained;
            let (embedding, positions, vocabulary) = (&*embedding, positions.as_ref(), *vocabulary);
            let looks_up = layer == 0 && positions.is_none();
            if directions.len() == 2 {
                let [(first_below, first), (second_below, second)] =
                    layers.each_mut().map(|layers| layers.split_at_mut(layer));
                let inputs = [
                    input(first_below.last(), dropped, bytes(embedding, vocabulary, positions, &ids[0], 0)),
                    input(second_below.last(), dropped, bytes(embedding, vocabulary, positions, &ids[1], 1)),
                ];
                let [left, right] = lstm;
                let weights = [left[layer].trained(), right[layer].trained()];
                let states = [&mut first[0].state, &mut second[0].state];
                let [first_dx, second_dx] = &mut *dx;
                let to = match looks_up {
                    true => PairGradient::Shared(embedding_gradient),
                    false => PairGradient::Each([first_dx, second_dx]),
                };
                let gradients = LstmPairGradients { outputs: dh.each_mut(), inputs: to };
                device.lstm_pair_backward(shape, packing, inputs, weights, states, gradients);
            } else {
                let direction = directions.start;
                let (below, rest) = layers[slot].split_at_mut(layer);
                let bytes = bytes(embedding, vocabulary, positions, &ids[direction], slot);
                let input = input(below.last(), dropped, bytes);
                let weights = lstm[direction][layer].trained();
                let to = if looks_up { embedding_gradient } else { &mut dx[slot] };
                let gradients = LstmGradients { output: &mut dh[slot], input: to };
                device.lstm_backward(shape, packing, input, weights, &mut rest[0].state, gradients);
            }
            if layer > 0 {
                std::mem::swap(dh, dx);
            }
        }
        for direction in directions {
            if self.positions.is_some() {
                self.embed_backward(device, direction);
            }
            if let Some(encodings) = encodings {
                self.pool_backward(device, 0, direction, dropped, encodings, Spread::Aside);
                self.embed_backward(device, direction);
            }
        }
    }
}
