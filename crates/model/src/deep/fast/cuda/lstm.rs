//! Launches of the LSTM: the whole layer in one kernel with its recurrent weights in registers, or, where the layer or
//! the batch is too large for that to be fast, a matrix product and a kernel for each step.

use super::launcher::{Argument, Buffer, Grid, Kernel, Product};
use super::layout::Address;
use super::{Cuda, Indices};
use crate::deep::fast::device::{LstmInput, LstmShape, LstmState, LstmWeights, Trained};
use crate::deep::fast::packing::Packing;
use crate::deep::parameters::Activation;

/// Terms of a sum that a thread of the whole-layer kernels takes, as in their source.
const DEPTH: usize = 32;
/// Their place in shared memory.
const PART: usize = DEPTH + 4;
/// Threads of their blocks.
const THREADS: usize = 128;
/// The most sequences of a chunk: with more, a matrix product for each step keeps the card as busy.
const MOST_ROWS: usize = 32;
/// Sequences of a chunk are a multiple of this, as many as lanes share sums.
const ROW_STEP: usize = 8;
/// Layers that may run beside each other.
const JOBS: usize = 2;

/// The kernels for states up to a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Whole {
    /// Threads that share a unit's sums; the largest state is so many times [`DEPTH`].
    depths: usize,
    forward: Kernel,
    backward: Kernel,
}

/// From small to large.
const WHOLE: [Whole; 2] = [
    Whole { depths: 4, forward: Kernel::LstmForward128, backward: Kernel::LstmBackward128 },
    Whole { depths: 8, forward: Kernel::LstmForward256, backward: Kernel::LstmBackward256 },
];

/// How a layer is spread over blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    whole: Whole,
    /// Blocks of a group.
    blocks: usize,
    /// Sequences of a chunk.
    pub chunk_rows: usize,
}

impl Plan {
    /// None where the layer goes step by step.
    pub(super) fn new(hidden: usize, rows: usize, resident: usize) -> Option<Self> {
        let whole = WHOLE.into_iter().find(|whole| hidden <= whole.depths * DEPTH)?;
        let blocks = hidden.div_ceil(THREADS / whole.depths);
        let groups = resident / (JOBS * blocks);
        let chunk_rows = rows.div_ceil(groups.max(1)).next_multiple_of(ROW_STEP);
        (groups > 0 && chunk_rows <= MOST_ROWS).then_some(Self { whole, blocks, chunk_rows })
    }

    /// States with what fills them up.
    fn padded(&self) -> usize {
        self.whole.depths * DEPTH
    }

    /// Lanes of the backward pass that share a sum.
    fn parts(&self) -> usize {
        4 * THREADS / self.whole.depths / DEPTH
    }

    /// The chunk's states, the tokens of two steps and the block's biases are in shared memory.
    fn forward_grid(&self, groups: usize, jobs: usize) -> Grid {
        let biases = 4 * THREADS / self.whole.depths;
        self.grid(groups, jobs, MOST_ROWS * self.whole.depths * PART + 2 * MOST_ROWS + biases)
    }

    /// The gradients of the block's gates and the cells that its threads carry are in shared memory.
    fn backward_grid(&self, groups: usize, jobs: usize) -> Grid {
        self.grid(groups, jobs, MOST_ROWS * (self.parts() * PART + THREADS / self.whole.depths))
    }

    fn grid(&self, groups: usize, jobs: usize, shared: usize) -> Grid {
        Grid { blocks: [self.blocks, groups, jobs], threads: THREADS, shared: 4 * shared, together: true }
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
        let arguments = [
            Argument::Addresses(jobs[0]),
            Argument::Addresses(jobs[1]),
            self.layout.chunk_table().into(),
            self.layout.active().into(),
            self.layout.offsets().into(),
            self.layout.chunks.into(),
            shape.hidden.into(),
            tanh(shape),
        ];
        self.core.launch(plan.whole.forward, plan.forward_grid(groups, layers.len()), &arguments);
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
        match Plan::new(shape.hidden, packing.rows(), self.core.resident_blocks()) {
            Some(plan) => self.backward_whole(shape, plan, layers),
            None => {
                self.core.reserve(&mut self.carry, packing.rows() * shape.hidden);
                for layer in &*layers {
                    self.backward_steps(shape, packing, layer);
                }
            }
        }
    }

    fn backward_whole(&mut self, shape: LstmShape, plan: Plan, layers: &[Backward<'_>]) {
        let groups = plan.groups(self.layout.chunks, self.core.resident_blocks());
        let mut jobs = [[0; 8]; JOBS];
        for ((layer, working), job) in layers.iter().zip(&mut self.lstm).zip(&mut jobs) {
            let exchanged = groups * 2 * plan.blocks * self.layout.chunk_rows * plan.padded();
            self.core.reserve(&mut working.exchange, exchanged);
            self.core.reserve(&mut working.counters, groups);
            self.core.zero(&working.counters, groups);
            *job = [
                layer.weight.address,
                layer.state.gates.address,
                layer.state.cells.address,
                layer.dh.address,
                working.exchange.address,
                working.counters.address,
                0,
                0,
            ];
        }
        let arguments = [
            Argument::Addresses(jobs[0]),
            Argument::Addresses(jobs[1]),
            self.layout.chunk_table().into(),
            self.layout.active().into(),
            self.layout.offsets().into(),
            self.layout.chunks.into(),
            self.layout.chunk_rows.into(),
            shape.hidden.into(),
            tanh(shape),
        ];
        self.core.launch(plan.whole.backward, plan.backward_grid(groups, layers.len()), &arguments);
    }

    fn backward_steps(&mut self, shape: LstmShape, packing: &Packing, layer: &Backward<'_>) {
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
                    Address(self.carry.at(chunk.first_row * hidden)).into(),
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
        for hidden in 1..=256 {
            for resident in [4, 12, 40, 264] {
                let Some(plan) = Plan::new(hidden, 64, resident) else { continue };
                let depths = plan.whole.depths;
                assert!(plan.padded() >= hidden && THREADS / depths * plan.blocks >= hidden, "{hidden} {plan:?}");
                assert!(plan.groups(64_usize.div_ceil(plan.chunk_rows), resident) * plan.blocks * JOBS <= resident);
                for grid in [plan.forward_grid(1, 1), plan.backward_grid(1, 1)] {
                    assert!(grid.shared <= 48 << 10, "{hidden} {plan:?}");
                }
                for parts in [depths, plan.parts()] {
                    // Lanes that share sums take as many rows at once.
                    assert!(
                        parts.is_power_of_two() && ROW_STEP.is_multiple_of(parts) && parts <= 32,
                        "{hidden} {plan:?}"
                    );
                }
            }
        }
        // The published sizes on a card of 132 multiprocessors.
        let elmo = Plan::new(128, 1024, 264).unwrap();
        assert_eq!((elmo.whole.depths, elmo.blocks, elmo.chunk_rows), (4, 4, 32));
        assert_eq!(Plan::new(256, 64, 264).map(|plan| (plan.whole.depths, plan.blocks)), Some((8, 16)));
        assert_eq!(Plan::new(256, 1024, 264), None);
        assert_eq!(Plan::new(257, 8, 264), None);
    }
}
