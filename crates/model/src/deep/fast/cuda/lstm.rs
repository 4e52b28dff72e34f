//! Kernel launches for the LSTM. Either a single kernel runs the whole layer with the recurrent weights in registers
//! or, if the layer or the batch is too large for that to be fast, each step is a matrix product and a kernel.

use super::launcher::{Argument, Buffer, Grid, Kernel, Product};
use super::layout::Address;
use super::{Cuda, Indices};
use crate::deep::fast::backend::{LinearShape, LstmInput, LstmShape, LstmState, LstmWeights, Trained};
use crate::deep::fast::packing::Packing;
use crate::deep::parameters::Activation;

/// Terms of a sum per thread of the whole-layer kernels, as in their source.
const DEPTH: usize = 32;
/// Space for these terms in shared memory.
const PART: usize = DEPTH + 4;
/// Threads per block of the whole-layer kernels.
const THREADS: usize = 128;
/// Maximum number of sequences per chunk: with more, a matrix product per step keeps the GPU equally busy.
const MOST_ROWS: usize = 32;
/// The sequences of a chunk are a multiple of this number, which is also a multiple of the lanes that share a sum.
const ROW_STEP: usize = 8;
/// Maximum number of layers run concurrently.
const JOBS: usize = 2;

/// The whole-layer kernels for states up to a certain size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Whole {
    /// Threads that share a unit's sums; the largest supported state has this many times [`DEPTH`] values.
    depths: usize,
    forward: Kernel,
    backward: Kernel,
}

/// Sorted by size.
const WHOLE: [Whole; 2] = [
    Whole { depths: 4, forward: Kernel::LstmForward128, backward: Kernel::LstmBackward128 },
    Whole { depths: 8, forward: Kernel::LstmForward256, backward: Kernel::LstmBackward256 },
];

/// Distribution of a layer over blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    whole: Whole,
    /// Blocks per group.
    blocks: usize,
    /// Sequences per chunk.
    pub chunk_rows: usize,
}

impl Plan {
    /// Creates a plan, or returns `None` if the layer should run step by step.
    pub(super) fn new(hidden: usize, rows: usize, resident: usize) -> Option<Self> {
        let whole = WHOLE.into_iter().find(|whole| hidden <= whole.depths * DEPTH)?;
        let blocks = hidden.div_ceil(THREADS / whole.depths);
        let groups = resident / (JOBS * blocks);
        let chunk_rows = rows.div_ceil(groups.max(1)).next_multiple_of(ROW_STEP);
        (groups > 0 && chunk_rows <= MOST_ROWS).then_some(Self { whole, blocks, chunk_rows })
    }

    /// Returns the size of a state including padding.
    fn padded(&self) -> usize {
        self.whole.depths * DEPTH
    }

    /// Returns the number of lanes that share a sum in the backward pass.
    fn parts(&self) -> usize {
        4 * THREADS / self.whole.depths / DEPTH
    }

    /// Returns the grid of the forward pass. Shared memory contains the chunk's states, the tokens of two steps and the
    /// block's biases.
    fn forward_grid(&self, groups: usize, jobs: usize) -> Grid {
        let biases = 4 * THREADS / self.whole.depths;
        self.grid(groups, jobs, MOST_ROWS * self.whole.depths * PART + 2 * MOST_ROWS + biases)
    }

    /// Returns the grid of the backward pass. Shared memory contains the gradients of the block's gates and the cells
    /// carried by its threads.
    fn backward_grid(&self, groups: usize, jobs: usize) -> Grid {
        self.grid(groups, jobs, MOST_ROWS * (self.parts() * PART + THREADS / self.whole.depths))
    }

    fn grid(&self, groups: usize, jobs: usize, shared: usize) -> Grid {
        Grid { blocks: [self.blocks, groups, jobs], threads: THREADS, shared: 4 * shared, together: true }
    }

    /// Returns the number of groups of blocks for this many chunks.
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

/// A layer's backward pass up to the gates; [`Cuda::lstm_gradients`] computes the products that follow.
pub(super) struct Backward<'a> {
    pub weight: &'a Buffer,
    pub state: &'a mut LstmState<Buffer>,
    pub dh: &'a Buffer,
}

fn tanh(shape: LstmShape) -> Argument {
    Argument::Number(u32::from(shape.activation == Activation::Tanh))
}

impl Cuda {
    /// Runs the forward passes of up to two layers of the same shape.
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

    /// Replaces the gates of up to two layers by their gradients before activation.
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

    /// Computes, from the gradients of the gates, those of the weights (added) and of the input, which is added for an
    /// embedding and overwritten otherwise.
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
        let shape = LinearShape { rows: states, inputs: hidden, outputs: width };
        self.weight_gradient(shape, state.gates.address, previous, &weights.hidden.gradient);
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
        let shape = LinearShape { rows, inputs, outputs: width };
        self.weight_gradient(shape, gradient, x.address, &weights.input.gradient);
        self.column_sums(shape.output(), gradient, &weights.bias.gradient);
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
                    // Lanes that share sums process the same number of rows at once.
                    assert!(
                        parts.is_power_of_two() && ROW_STEP.is_multiple_of(parts) && parts <= 32,
                        "{hidden} {plan:?}"
                    );
                }
            }
        }
        // The published sizes on a GPU with 132 multiprocessors.
        let elmo = Plan::new(128, 1024, 264).unwrap();
        assert_eq!((elmo.whole.depths, elmo.blocks, elmo.chunk_rows), (4, 4, 32));
        assert_eq!(Plan::new(256, 64, 264).map(|plan| (plan.whole.depths, plan.blocks)), Some((8, 16)));
        assert_eq!(Plan::new(256, 1024, 264), None);
        assert_eq!(Plan::new(257, 8, 264), None);
    }
}
