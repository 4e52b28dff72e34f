//! Launches of the LSTM: the whole layer in one kernel with its recurrent weights in registers, or, where the layer or
//! the batch is too large for that to be fast, a matrix product and a kernel for each step.

use super::launcher::{Argument, Buffer, Grid, Kernel, Product};
use super::layout::Address;
use super::{Cuda, Indices};
use crate::model::deep::fast::device::{LstmInput, LstmShape, LstmState, LstmWeights, Trained};
use crate::model::deep::fast::packing::Packing;
use crate::model::deep::parameters::Activation;

/// Terms of a sum that a thread of the whole-layer kernels takes, as in their source.
const DEPTH: usize = 32;
/// Threads of their blocks at most.
const THREADS: usize = 256;
/// Sequences that they multiply at once.
const TILE_ROWS: usize = 8;
/// The most sequences of a chunk: with more, a matrix product for each step keeps the card as busy.
const MOST_ROWS: usize = 4 * TILE_ROWS;
/// The largest state whose shared memory stays below 48 KiB.
const MOST_HIDDEN: usize = 512;
/// Layers that may run beside each other.
const JOBS: usize = 2;

/// How a layer is spread over blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Units of a block.
    units: usize,
    /// Threads that share a unit's sums.
    depths: usize,
    /// Blocks of a group.
    blocks: usize,
    /// Sequences of a chunk.
    pub chunk_rows: usize,
}

impl Plan {
    /// None where the layer goes step by step.
    pub fn new(hidden: usize, rows: usize, resident: usize) -> Option<Self> {
        if hidden > MOST_HIDDEN {
            return None;
        }
        let depths = hidden.div_ceil(DEPTH);
        // A multiple of 8, because in the backward pass 32 of a block's gates go together.
        let units = (THREADS / depths / 8 * 8).min(hidden.next_multiple_of(8));
        let blocks = hidden.div_ceil(units);
        let groups = resident / (JOBS * blocks);
        let chunk_rows = rows.div_ceil(groups.max(1)).next_multiple_of(TILE_ROWS);
        (groups > 0 && chunk_rows <= MOST_ROWS).then_some(Self { units, depths, blocks, chunk_rows })
    }

    fn grid(&self, groups: usize, jobs: usize, shared: usize) -> Grid {
        let threads = self.units * self.depths;
        Grid { blocks: [self.blocks, groups, jobs], threads, shared: 4 * shared, together: true }
    }

    /// Groups of blocks for so many chunks.
    fn groups(&self, chunks: usize, resident: usize) -> usize {
        chunks.min(resident / (JOBS * self.blocks))
    }
}

/// The working memory of one layer.
#[derive(Default)]
pub(super) struct Working {
    table: Buffer,
    carry: Buffer,
    exchange: Buffer,
    counters: Buffer,
}

/// A layer's forward pass.
pub(super) struct Forward<'a> {
    pub input: LstmInput<'a, Cuda>,
    pub weights: LstmWeights<&'a Buffer>,
    pub state: &'a mut LstmState<Buffer>,
}

/// A layer's backward pass as far as the gates; the products that follow are [`Cuda::lstm_gradients`].
pub(super) struct Backward<'a> {
    pub weight: &'a Buffer,
    pub state: &'a mut LstmState<Buffer>,
    pub dh: &'a Buffer,
}

fn tanh(shape: LstmShape) -> Argument {
    Argument::Number(u32::from(shape.activation == Activation::Tanh))
}

impl Cuda {
    /// The forward passes of up to two layers of one shape.
    pub(super) fn lstm_layers(&mut self, shape: LstmShape, packing: &Packing, layers: &mut [Forward<'_>]) {
        let LstmShape { inputs, hidden, .. } = shape;
        let (states, width) = (packing.states, 4 * hidden);
        self.layout.set(&mut self.core, packing);
        for (layer, working) in layers.iter_mut().zip(&mut self.lstm) {
            let core = &mut self.core;
            core.reserve(&mut layer.state.gates, states * width);
            core.reserve(&mut layer.state.cells, states * hidden);
            core.reserve(&mut layer.state.hidden, states * hidden);
            let (rows, left, out) = match &layer.input {
                LstmInput::Rows(x) => (states, x.address, layer.state.gates.address),
                LstmInput::Embedded { embedding, vocabulary, .. } => {
                    core.reserve(&mut working.table, vocabulary * width);
                    (*vocabulary, embedding.address, working.table.address)
                }
            };
            core.multiply(Product {
                rows,
                columns: width,
                depth: inputs,
                left,
                left_transposed: false,
                right: layer.weights.input.address,
                right_transposed: true,
                out,
                accumulate: false,
            });
        }
        match Plan::new(hidden, packing.rows(), self.core.resident_blocks()) {
            Some(plan) => self.forward_whole(shape, plan, layers),
            None => {
                for (index, layer) in layers.iter().enumerate() {
                    self.forward_steps(shape, packing, index, layer);
                }
            }
        }
    }

    fn forward_whole(&mut self, shape: LstmShape, plan: Plan, layers: &[Forward<'_>]) {
        let groups = plan.groups(self.layout.chunks, self.core.resident_blocks());
        let mut jobs = [[0; 8]; JOBS];
        for ((layer, working), job) in layers.iter().zip(&mut self.lstm).zip(&mut jobs) {
            self.core.reserve(&mut working.counters, groups);
            self.core.zero(&working.counters, groups);
            let (table, ids) = match &layer.input {
                LstmInput::Rows(_) => (0, 0),
                LstmInput::Embedded { ids, .. } => (working.table.address, ids.buffer.address),
            };
            let LstmState { gates, cells, hidden } = &*layer.state;
            *job = [
                layer.weights.hidden.address,
                layer.weights.bias.address,
                table,
                ids,
                gates.address,
                cells.address,
                hidden.address,
                working.counters.address,
            ];
        }
        let padded = plan.depths * DEPTH;
        let shared = TILE_ROWS * (padded + 4 * plan.units * plan.depths);
        let arguments = [
            Argument::Addresses(jobs[0]),
            Argument::Addresses(jobs[1]),
            self.layout.chunk_table().into(),
            self.layout.active().into(),
            self.layout.offsets().into(),
            self.layout.chunks.into(),
            shape.hidden.into(),
            plan.units.into(),
            plan.depths.into(),
            tanh(shape),
        ];
        self.core.launch(Kernel::LstmForward, plan.grid(groups, layers.len(), shared), &arguments);
    }

    fn forward_steps(&mut self, shape: LstmShape, packing: &Packing, index: usize, layer: &Forward<'_>) {
        let hidden = shape.hidden;
        let width = 4 * hidden;
        let LstmState { gates, cells, hidden: output } = &*layer.state;
        if let LstmInput::Embedded { ids, .. } = &layer.input {
            let arguments =
                [width.into(), (&self.lstm[index].table).into(), (&ids.buffer).into(), Argument::from(gates)];
            self.core.launch(Kernel::Gather, Grid::blocks([packing.states, 1, 1], 0), &arguments);
        }
        for chunk in &packing.chunks {
            let mut before = None;
            for (&count, &at) in packing.active(chunk).iter().zip(packing.offsets(chunk)) {
                let (count, at) = (count as usize, at as usize);
                if let Some(before) = before {
                    self.core.multiply(Product {
                        rows: count,
                        columns: width,
                        depth: hidden,
                        left: output.at(before * hidden),
                        left_transposed: false,
                        right: layer.weights.hidden.address,
                        right_transposed: true,
                        out: gates.at(at * width),
                        accumulate: true,
                    });
                }
                let arguments = [
                    count.into(),
                    hidden.into(),
                    tanh(shape),
                    layer.weights.bias.into(),
                    Argument::Address(before.map_or(0, |before| cells.at(before * hidden))),
                    Address(gates.at(at * width)).into(),
                    Address(cells.at(at * hidden)).into(),
                    Address(output.at(at * hidden)).into(),
                ];
                self.core.launch(Kernel::LstmCellForward, Grid::over(count * hidden), &arguments);
                before = Some(at);
            }
        }
    }

    /// Turns the gates of up to two layers into their gradients before activation.
    pub(super) fn lstm_gates_backward(&mut self, shape: LstmShape, packing: &Packing, layers: &mut [Backward<'_>]) {
        self.layout.set(&mut self.core, packing);
        for working in self.lstm.iter_mut().take(layers.len()) {
            self.core.reserve(&mut working.carry, packing.rows() * shape.hidden);
        }
        match Plan::new(shape.hidden, packing.rows(), self.core.resident_blocks()) {
            Some(plan) => self.backward_whole(shape, plan, layers),
            None => {
                for (index, layer) in layers.iter().enumerate() {
                    self.backward_steps(shape, packing, index, layer);
                }
            }
        }
    }

    fn backward_whole(&mut self, shape: LstmShape, plan: Plan, layers: &[Backward<'_>]) {
        let groups = plan.groups(self.layout.chunks, self.core.resident_blocks());
        let mut jobs = [[0; 8]; JOBS];
        for ((layer, working), job) in layers.iter().zip(&mut self.lstm).zip(&mut jobs) {
            let exchanged = groups * 2 * plan.blocks * self.layout.chunk_rows * shape.hidden;
            self.core.reserve(&mut working.exchange, exchanged);
            self.core.reserve(&mut working.counters, groups);
            self.core.zero(&working.counters, groups);
            *job = [
                layer.weight.address,
                layer.state.gates.address,
                layer.state.cells.address,
                layer.dh.address,
                working.carry.address,
                working.exchange.address,
                working.counters.address,
                0,
            ];
        }
        let padded = plan.depths * DEPTH;
        let shared = TILE_ROWS * (4 * plan.units + plan.units / 8 * padded);
        let arguments = [
            Argument::Addresses(jobs[0]),
            Argument::Addresses(jobs[1]),
            self.layout.chunk_table().into(),
            self.layout.active().into(),
            self.layout.offsets().into(),
            self.layout.chunks.into(),
            self.layout.chunk_rows.into(),
            shape.hidden.into(),
            plan.units.into(),
            plan.depths.into(),
            tanh(shape),
        ];
        self.core.launch(Kernel::LstmBackward, plan.grid(groups, layers.len(), shared), &arguments);
    }

    fn backward_steps(&mut self, shape: LstmShape, packing: &Packing, index: usize, layer: &Backward<'_>) {
        let hidden = shape.hidden;
        let width = 4 * hidden;
        let LstmState { gates, cells, .. } = &*layer.state;
        for chunk in &packing.chunks {
            let (active, offsets) = (packing.active(chunk), packing.offsets(chunk));
            for step in (0..chunk.steps).rev() {
                let (count, at) = (active[step] as usize, offsets[step] as usize);
                let later = active.get(step + 1).copied().unwrap_or(0);
                let before = (step > 0).then(|| offsets[step - 1] as usize);
                let arguments = [
                    count.into(),
                    later.into(),
                    hidden.into(),
                    tanh(shape),
                    Address(gates.at(at * width)).into(),
                    Address(cells.at(at * hidden)).into(),
                    Argument::Address(before.map_or(0, |before| cells.at(before * hidden))),
                    Address(layer.dh.at(at * hidden)).into(),
                    Address(self.lstm[index].carry.at(chunk.first_row * hidden)).into(),
                ];
                self.core.launch(Kernel::LstmCellBackward, Grid::over(count * hidden), &arguments);
                if let Some(before) = before {
                    self.core.multiply(Product {
                        rows: count,
                        columns: hidden,
                        depth: width,
                        left: gates.at(at * width),
                        left_transposed: false,
                        right: layer.weight.address,
                        right_transposed: false,
                        out: layer.dh.at(before * hidden),
                        accumulate: true,
                    });
                }
            }
        }
    }

    /// From the gates' gradients those of the weights (added), and of the input: of an embedding's rows it is added,
    /// else it is written.
    pub(super) fn lstm_gradients(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        input: &LstmInput<'_, Self>,
        weights: LstmWeights<&mut Trained<Buffer>>,
        state: &LstmState<Buffer>,
        dx: &Buffer,
    ) {
        let LstmShape { inputs, hidden, .. } = shape;
        let width = 4 * hidden;
        let states = packing.states;
        self.core.reserve(&mut self.rows, states * hidden);
        let arguments =
            [hidden.into(), (&state.hidden).into(), (&self.layout.previous).into(), Argument::from(&self.rows)];
        self.core.launch(Kernel::Gather, Grid::blocks([states, 1, 1], 0), &arguments);
        let previous = self.rows.address;
        self.weight_gradient(states, width, hidden, state.gates.address, previous, &weights.hidden.gradient);
        let (rows, gradient, x) = match input {
            LstmInput::Rows(x) => (states, state.gates.address, *x),
            LstmInput::Embedded { embedding, vocabulary, ids } => {
                let table = &mut self.lstm[0].table;
                self.core.reserve(table, vocabulary * width);
                let (ids, gates): (&Indices, u64) = (ids, state.gates.address);
                let ids = &ids.host[..states];
                self.scatter.sum(&mut self.core, width, gates, ids, *vocabulary, table.address);
                (*vocabulary, table.address, *embedding)
            }
        };
        self.weight_gradient(rows, width, inputs, gradient, x.address, &weights.input.gradient);
        self.column_sums(rows, width, gradient, &weights.bias.gradient);
        self.core.multiply(Product {
            rows,
            columns: inputs,
            depth: width,
            left: gradient,
            left_transposed: false,
            right: weights.input.value.address,
            right_transposed: false,
            out: dx.address,
            accumulate: matches!(input, LstmInput::Embedded { .. }),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_fit_their_blocks() {
        for hidden in 1..=MOST_HIDDEN {
            for resident in [4, 12, 132] {
                let Some(plan) = Plan::new(hidden, 64, resident) else { continue };
                assert!(plan.units * plan.depths <= THREADS && plan.units % 8 == 0, "{hidden} {plan:?}");
                assert!(plan.depths * DEPTH >= hidden && plan.units * plan.blocks >= hidden, "{hidden} {plan:?}");
                assert!(plan.groups(64_usize.div_ceil(plan.chunk_rows), resident) * plan.blocks * JOBS <= resident);
                let forward = TILE_ROWS * (plan.depths * DEPTH + 4 * plan.units * plan.depths);
                let backward = TILE_ROWS * (4 * plan.units + plan.units / 8 * plan.depths * DEPTH);
                assert!(4 * forward.max(backward) <= 48 << 10, "{hidden} {plan:?}");
                // The threads of the product cover the block's gates and all columns exactly.
                assert_eq!(plan.units / 8 * plan.depths * DEPTH / 4, plan.units * plan.depths);
            }
        }
        // The published sizes on a card of 132 multiprocessors.
        let elmo = Plan::new(128, 1024, 132).unwrap();
        assert_eq!((elmo.units, elmo.depths, elmo.blocks, elmo.chunk_rows), (64, 4, 2, 32));
        assert_eq!(Plan::new(256, 64, 132).map(|plan| (plan.units, plan.blocks)), Some((32, 8)));
        assert_eq!(Plan::new(256, 1024, 132), None);
        assert_eq!(Plan::new(513, 8, 132), None);
    }
}
