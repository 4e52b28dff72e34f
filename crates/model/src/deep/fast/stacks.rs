//! The part of an ELMo (Peters et al. 2018) that encodes packets: a byte embedding, optionally with a position
//! embedding added to it, followed by a stack of LSTMs in each direction. The right-to-left direction is the same
//! program on reversed packets: its state at step s has read s + 1 bytes from the end. A packet's encoding consists of
//! the pooled states of each layer and direction. Gradients come either from above the last layer (pre-training) or
//! from the encodings (training together with the classifier).

use std::ops::Range;

use super::backend::{
    Backend, Dropout, Lookup, LstmGradients, LstmInput, LstmPairGradients, LstmShape, LstmState, MatrixShape,
    NO_TARGET, PairGradient, PoolInput, PoolShape, RowsAt, Trained,
};
use super::packing::Packing;
use super::weights::{Lstm, Weight};
use crate::ModelError;
use crate::deep::engine::DropoutPlace;
use crate::deep::parameters::{Activation, ElmoOptions, MODEL, POSITIONS, ParameterSet};
use crate::deep::pooling::Pooling;
use etcbench_feature::PAD;
use etcbench_storage::seed;

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

/// The position embedding.
struct Positions<B: Backend> {
    weight: Weight<B>,
    /// Number of positions.
    count: usize,
    /// By direction: the position of each state's byte.
    ids: [B::Indices; 2],
    /// By slot: the sum of both embeddings, `[states, embedding]`.
    embedded: [B::Values; 2],
}

impl<B: Backend> Positions<B> {
    fn new(device: &mut B, options: &ElmoOptions, set: &ParameterSet) -> Result<Self, ModelError> {
        let count = set.shape(POSITIONS)?.first().copied().unwrap_or(0);
        let weight = Weight::new(device, set, POSITIONS.to_owned(), &[count, options.embedding])?;
        Ok(Self { weight, count, ids: Default::default(), embedded: Default::default() })
    }
}

/// Returns the bytes of a direction as input of the lowest layer.
fn bytes<'a, B: Backend>(
    embedding: &'a B::Values,
    vocabulary: usize,
    positions: Option<&'a Positions<B>>,
    ids: &'a B::Indices,
    slot: usize,
) -> LstmInput<'a, B> {
    match positions {
        None => LstmInput::Embedded { embedding, vocabulary, ids },
        Some(positions) => LstmInput::Rows(&positions.embedded[slot]),
    }
}

/// A batch on the host and on the device.
struct Batch<B: Backend> {
    packing: Packing,
    lengths: Vec<u32>,
    host: Vec<u32>,
    /// Tokens per packet.
    width: usize,
    /// By direction: the token of each state; its index in the batch, and whether that has been computed.
    ids: [B::Indices; 2],
    places: [B::Indices; 2],
    placed: [bool; 2],
    /// Index of each packet in the batch, in sorted order.
    order: B::Indices,
}

/// Returns the position of the byte that a direction reads at a step of a packet with this length.
fn position(direction: usize, length: usize, step: usize) -> usize {
    if direction == 0 { step } else { length - 1 - step }
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

    /// Checks and packs a batch.
    pub(super) fn prepare(&mut self, device: &mut B, tokens: &[u16], packets: usize) -> Result<(), ModelError> {
        if packets == 0 || !tokens.len().is_multiple_of(packets) || tokens.is_empty() {
            return Err(invalid(format!("{} tokens are not {packets} packets of equal length", tokens.len())));
        }
        if u32::try_from(tokens.len()).is_err() {
            return Err(invalid(format!("{} tokens are too many for one batch", tokens.len())));
        }
        if let Some(token) = tokens.iter().find(|&&token| usize::from(token) >= self.vocabulary) {
            return Err(invalid(format!("token {token} is not in the vocabulary of {}", self.vocabulary)));
        }
        let width = tokens.len() / packets;
        if let Some(known) = self.positions.as_ref().map(|positions| positions.count).filter(|&count| count < width) {
            return Err(invalid(format!("packets of {width} bytes exceed the {known} positions with an embedding")));
        }
        let batch = &mut self.batch;
        batch.lengths.clear();
        for (packet, row) in tokens.chunks_exact(width).enumerate() {
            let length = row.iter().position(|&token| token == PAD).unwrap_or(width);
            if length == 0 || row[length..].iter().any(|&token| token != PAD) {
                return Err(invalid(format!("packet {packet} of a batch has padding before a byte, or no bytes")));
            }
            batch.lengths.push(length as u32);
        }
        let rows_per_chunk = device.rows_per_chunk(self.options.hidden, packets);
        batch.packing.build(&batch.lengths, rows_per_chunk);
        device.upload_indices(&batch.packing.order, &mut batch.order);
        batch.width = width;
        batch.placed = [false; 2];
        let mut ids = std::mem::take(&mut self.batch.ids);
        for (direction, ids) in ids.iter_mut().enumerate() {
            self.upload_tokens(device, tokens, direction, 0, ids);
        }
        self.batch.ids = ids;
        if let Some(Positions { ids, .. }) = &mut self.positions {
            let Batch { packing, host, .. } = &mut self.batch;
            for (direction, ids) in ids.iter_mut().enumerate() {
                host.clear();
                packing.for_each_state(|_, length, step| host.push(position(direction, length, step) as u32));
                device.upload_indices(host, ids);
            }
        }
        Ok(())
    }

    /// Returns the sizes of the embedded bytes of a direction.
    fn embedded_shape(&self) -> MatrixShape {
        MatrixShape { rows: self.batch.packing.states, columns: self.options.embedding }
    }

    /// Adds the embeddings of a direction's bytes and positions, if there is a position embedding.
    fn embed(&mut self, device: &mut B, direction: usize) {
        let (shape, slot) = (self.embedded_shape(), self.slot(direction));
        let Self { embedding, positions, batch, .. } = self;
        if let Some(Positions { weight, ids, embedded, .. }) = positions {
            let embedded = &mut embedded[slot];
            device.reserve(embedded, shape.values());
            let bytes = Lookup { table: embedding.value(), ids: &batch.ids[direction] };
            let positions = Lookup { table: weight.value(), ids: &ids[direction] };
            device.add_looked_up(shape, [bytes, positions], embedded);
        }
    }

    /// Adds the gradient of a direction's embedded bytes, in `dx`, to those of both embeddings.
    fn embed_backward(&mut self, device: &mut B, direction: usize) {
        let (shape, slot) = (self.embedded_shape(), self.slot(direction));
        let Self { embedding, positions, batch, dx, vocabulary, .. } = self;
        let (dx, gradient) = (&dx[slot], &mut embedding.trained.gradient);
        device.scatter_add(shape, dx, &batch.ids[direction], *vocabulary, gradient);
        if let Some(Positions { weight, count, ids, .. }) = positions {
            device.scatter_add(shape, dx, &ids[direction], *count, &mut weight.trained.gradient);
        }
    }

    /// Uploads the indices of a direction's states in the batch if they are not on the device yet. Only dropout needs
    /// them.
    fn place(&mut self, device: &mut B, direction: usize) {
        let Batch { packing, host, places, placed, width, .. } = &mut self.batch;
        if !std::mem::replace(&mut placed[direction], true) {
            host.clear();
            packing.for_each_state(|row, length, step| {
                host.push((row * *width + position(direction, length, step)) as u32);
            });
            device.upload_indices(host, &mut places[direction]);
        }
    }

    /// Uploads, for each state of a direction of the prepared batch, its token or the one `ahead` steps later.
    pub(super) fn upload_tokens(
        &mut self,
        device: &mut B,
        tokens: &[u16],
        direction: usize,
        ahead: usize,
        to: &mut B::Indices,
    ) {
        let Batch { packing, host, .. } = &mut self.batch;
        let width = tokens.len() / packing.rows();
        host.clear();
        packing.for_each_state(|row, length, step| {
            let step = step + ahead;
            host.push(if step < length {
                u32::from(tokens[row * width + position(direction, length, step)])
            } else {
                NO_TARGET
            });
        });
        device.upload_indices(host, to);
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
        directions.clone().for_each(|direction| self.embed(device, direction));
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
                device.reserve(dropped, states.values());
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

    /// Returns the rows of a layer's pooled states of a direction in encodings `[packets, layers + 1, 2, slots,
    /// hidden]` that start with `before` other packets.
    fn rows_at(&self, layer: usize, direction: usize, before: usize) -> RowsAt<'_, B::Indices> {
        let stride = (self.options.layers + 1) * 2;
        RowsAt { places: &self.batch.order, stride, offset: (before * stride) + layer * 2 + direction }
    }

    /// Returns the sizes of one layer's pooled states of one direction.
    fn pooled_shape(&self, pooling: Pooling) -> MatrixShape {
        MatrixShape { rows: self.batch.packing.rows(), columns: pooling.slots * self.options.hidden }
    }

    fn pool_shape(&self, direction: usize, pooling: Pooling) -> PoolShape {
        PoolShape { columns: self.options.hidden, pooling, reversed: direction == 1 }
    }

    /// Returns the input of a layer's pooling: the embedding of its bytes, or the states of an LSTM.
    fn pool_input(&self, layer: usize, direction: usize, dropping: bool) -> PoolInput<'_, B> {
        match layer.checked_sub(1) {
            None => match &self.positions {
                None => PoolInput::Embedded { embedding: self.embedding.value(), ids: &self.batch.ids[direction] },
                Some(positions) => PoolInput::Rows(&positions.embedded[self.slot(direction)]),
            },
            Some(below) => PoolInput::Rows(self.layers[self.slot(direction)][below].output(dropping)),
        }
    }

    /// Writes the pooled states of all layers of a direction after its forward pass to `encodings`, `[before + packets,
    /// layers + 1, 2, slots, hidden]`.
    pub(super) fn pool(
        &mut self,
        device: &mut B,
        direction: usize,
        dropping: Option<u64>,
        pooling: Pooling,
        before: usize,
        encodings: &mut B::Values,
    ) {
        let (shape, size) = (self.pool_shape(direction, pooling), self.pooled_shape(pooling));
        let mut pooled = std::mem::take(&mut self.pooled);
        device.reserve(&mut pooled, size.values());
        for layer in 0..=self.options.layers {
            let input = self.pool_input(layer, direction, dropping.is_some());
            device.pool(&self.batch.packing, shape, input, &mut pooled);
            device.put_rows(size, &pooled, self.rows_at(layer, direction, before), encodings);
        }
        self.pooled = pooled;
    }

    /// Computes the encodings of a batch without dropout, shape `[packets, layers + 1, 2, slots, hidden]`; `encodings`
    /// is a buffer on the device.
    pub(super) fn encode(
        &mut self,
        device: &mut B,
        tokens: &[u16],
        packets: usize,
        pooling: Pooling,
        encodings: &mut B::Values,
        output: &mut [f32],
    ) -> Result<(), ModelError> {
        self.prepare(device, tokens, packets)?;
        let values = packets * (self.options.layers + 1) * 2 * pooling.slots * self.options.hidden;
        if output.len() != values {
            return Err(invalid(format!(
                "a buffer of {} values does not fit the vectors of {packets} packets",
                output.len()
            )));
        }
        device.reserve(encodings, values);
        for turn in Self::turns(device) {
            self.forward(device, turn.clone(), None);
            turn.clone().for_each(|direction| self.pool(device, direction, None, pooling, 0, encodings));
        }
        device.download(encodings, output);
        device.check()
    }

    /// Distributes the gradient of one layer's pooled states of a direction to its states.
    fn pool_backward(
        &mut self,
        device: &mut B,
        layer: usize,
        direction: usize,
        dropping: bool,
        gradient: &PooledGradient<'_, B>,
        to: Spread,
    ) {
        let PooledGradient { pooling, encodings } = *gradient;
        let slot = self.slot(direction);
        let (shape, size) = (self.pool_shape(direction, pooling), self.pooled_shape(pooling));
        let mut pooled = std::mem::take(&mut self.pooled);
        device.take_rows(size, encodings, self.rows_at(layer, direction, 0), &mut pooled);
        let (states, accumulate) = match to {
            Spread::Written => (&mut self.dh[slot], false),
            Spread::Added => (&mut self.dh[slot], true),
            Spread::Aside => (&mut self.dx[slot], false),
        };
        let mut states = std::mem::take(states);
        let input = self.pool_input(layer, direction, dropping);
        device.pool_backward(&self.batch.packing, shape, input, &pooled, &mut states, accumulate);
        match to {
            Spread::Written | Spread::Added => self.dh[slot] = states,
            Spread::Aside => self.dx[slot] = states,
        }
        self.pooled = pooled;
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

/// The gradient of the encodings of a batch.
pub(super) struct PooledGradient<'a, B: Backend> {
    /// The pooling of its packets.
    pub pooling: Pooling,
    /// `[packets, layers + 1, 2, slots, hidden]`.
    pub encodings: &'a B::Values,
}

/// Where the gradient of pooled states goes.
#[derive(Clone, Copy)]
enum Spread {
    /// It is the gradient of the layer's output, which nothing else reads.
    Written,
    /// It is added to the gradient from the layer above.
    Added,
    /// It is stored separately, for the embedding.
    Aside,
}
