//! The LSTM over packed sequences on the CPU. A task processes one chunk from its first step to its last: the input
//! product of several steps at once, then for each step the small recurrent product and the vectorised gates, while the
//! data are in the second-level cache.

use super::activation::{sigmoid, tanh};
use super::matmul::{Panels, Update, multiply};
use super::simd::{Level, fused, vectorised};
use crate::deep::fast::packing::{Chunk, Packing};

/// Packed states whose input product is computed at once.
const BLOCK_STATES: usize = 128;

/// Source of a chunk's gates before recurrence.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// Input rows `[states, inputs]` times these panels, plus the bias.
    Rows { rows: &'a [f32], inputs: usize, panels: &'a Panels, bias: &'a [f32] },
    /// Rows of a table `[vocabulary, 4 * hidden]` that already contains product and bias.
    Table { table: &'a [f32], ids: &'a [u32] },
}

/// Arguments shared by all chunks of a forward pass.
#[derive(Clone, Copy)]
pub(super) struct Forward<'a> {
    pub level: Level,
    pub packing: &'a Packing,
    pub hidden: usize,
    pub tanh: bool,
    pub source: Source<'a>,
    /// The recurrent weight as a right factor `[hidden, 4 * hidden]`.
    pub panels: &'a Panels,
}

/// Runs the forward pass of chunks on all available threads; the slices contain exactly the chunks' states.
pub(super) fn forward(shared: Forward<'_>, chunks: &[Chunk], gates: &mut [f32], cells: &mut [f32], hidden: &mut [f32]) {
    match chunks {
        [] => {}
        [chunk] => forward_chunk(shared, chunk, gates, cells, hidden),
        _ => {
            let (left, right) = chunks.split_at(chunks.len() / 2);
            let split = right[0].start - left[0].start;
            let (gates_left, gates_right) = gates.split_at_mut(split * 4 * shared.hidden);
            let (cells_left, cells_right) = cells.split_at_mut(split * shared.hidden);
            let (hidden_left, hidden_right) = hidden.split_at_mut(split * shared.hidden);
            rayon::join(
                || forward(shared, left, gates_left, cells_left, hidden_left),
                || forward(shared, right, gates_right, cells_right, hidden_right),
            );
        }
    }
}

fn forward_chunk(shared: Forward<'_>, chunk: &Chunk, gates: &mut [f32], cells: &mut [f32], hidden: &mut [f32]) {
    let (level, size) = (shared.level, shared.hidden);
    let width = 4 * size;
    let active = shared.packing.active(chunk);
    let (mut at, mut ready) = (0, 0);
    for (step, &count) in active.iter().enumerate() {
        let count = count as usize;
        if ready < at + count {
            let end = chunk.states.min((at + BLOCK_STATES).max(at + count));
            let place = &mut gates[ready * width..end * width];
            let first = chunk.start + ready;
            match shared.source {
                Source::Rows { rows, inputs, panels, bias } => {
                    let rows = &rows[first * inputs..];
                    multiply(level, end - ready, rows, inputs, panels, place, Update::Bias(bias));
                }
                Source::Table { table, ids } => {
                    for (row, &id) in place.chunks_exact_mut(width).zip(&ids[first..]) {
                        row.copy_from_slice(&table[id as usize * width..][..width]);
                    }
                }
            }
            ready = end;
        }
        let gates = &mut gates[at * width..(at + count) * width];
        let (cells_before, cells_after) = cells.split_at_mut(at * size);
        let (hidden_before, hidden_after) = hidden.split_at_mut(at * size);
        let cells = &mut cells_after[..count * size];
        let hidden = &mut hidden_after[..count * size];
        if step == 0 {
            cell_forward(level, size, shared.tanh, gates, None, cells, hidden);
        } else {
            let before = (at - active[step - 1] as usize) * size;
            multiply(level, count, &hidden_before[before..], size, shared.panels, gates, Update::Add);
            cell_forward(level, size, shared.tanh, gates, Some(&cells_before[before..]), cells, hidden);
        }
        at += count;
    }
}

/// Arguments shared by all chunks of a backward pass.
#[derive(Clone, Copy)]
pub(super) struct Backward<'a> {
    pub level: Level,
    pub packing: &'a Packing,
    pub hidden: usize,
    pub tanh: bool,
    /// The recurrent weight as a right factor `[4 * hidden, hidden]`.
    pub panels: &'a Panels,
    /// The input weight as a right factor `[4 * hidden, inputs]`, if the input's gradient is requested.
    pub input: Option<(&'a Panels, usize)>,
}

/// The slices of some chunks in a backward pass.
pub(super) struct BackwardSlices<'a> {
    pub gates: &'a mut [f32],
    pub cells: &'a [f32],
    pub dh: &'a mut [f32],
    /// Gradient of the input; empty if it is not requested.
    pub dx: &'a mut [f32],
    /// Gradient of the cell, carried back over steps, `[sequences, hidden]`.
    pub carry: &'a mut [f32],
}

/// Replaces gates by the gradients before activation, and computes the input's gradient.
pub(super) fn backward(shared: Backward<'_>, chunks: &[Chunk], slices: BackwardSlices<'_>) {
    match chunks {
        [] => {}
        [chunk] => backward_chunk(shared, chunk, slices),
        _ => {
            let (left, right) = chunks.split_at(chunks.len() / 2);
            let split = right[0].start - left[0].start;
            let rows = right[0].first_row - left[0].first_row;
            let size = shared.hidden;
            let (gates_left, gates) = slices.gates.split_at_mut(split * 4 * size);
            let (cells_left, cells) = slices.cells.split_at(split * size);
            let (dh_left, dh) = slices.dh.split_at_mut(split * size);
            let (dx_left, dx) = slices.dx.split_at_mut(shared.input.map_or(0, |(_, inputs)| split * inputs));
            let (carry_left, carry) = slices.carry.split_at_mut(rows * size);
            let first =
                BackwardSlices { gates: gates_left, cells: cells_left, dh: dh_left, dx: dx_left, carry: carry_left };
            let second = BackwardSlices { gates, cells, dh, dx, carry };
            rayon::join(|| backward(shared, left, first), || backward(shared, right, second));
        }
    }
}

fn backward_chunk(shared: Backward<'_>, chunk: &Chunk, slices: BackwardSlices<'_>) {
    let (level, size) = (shared.level, shared.hidden);
    let width = 4 * size;
    let active = shared.packing.active(chunk);
    let BackwardSlices { gates, cells, dh, dx, carry } = slices;
    carry[..chunk.rows * size].fill(0.0);
    // The input's gradient has been computed for the states from `done` on.
    let (mut end, mut done) = (chunk.states, chunk.states);
    for step in (0..active.len()).rev() {
        let count = active[step] as usize;
        let at = end - count;
        let before = (step > 0).then(|| at - active[step - 1] as usize);
        let previous = before.map(|before| &cells[before * size..]);
        let step_gates = &mut gates[at * width..end * width];
        let read = BackwardStep { cells: &cells[at * size..], previous, dh: &dh[at * size..] };
        cell_backward(level, size, shared.tanh, step_gates, read, carry);
        if let Some(before) = before {
            let place = &mut dh[before * size..(before + count) * size];
            multiply(level, count, step_gates, width, shared.panels, place, Update::Add);
        }
        if let Some((panels, inputs)) = shared.input
            && (done - at >= BLOCK_STATES || step == 0)
        {
            let place = &mut dx[at * inputs..done * inputs];
            multiply(level, done - at, &gates[at * width..], width, panels, place, Update::Replace);
            done = at;
        }
        end = at;
    }
}

vectorised! {
    /// Activates the gates of one step and computes cells and outputs (Hochreiter and Schmidhuber 1997 with the forget
    /// gate of Gers et al. 2000). Makes several passes over a row, which is in the cache, because the compiler only
    /// vectorises loops over few slices.
    fn cell_forward(
        size: usize,
        with_tanh: bool,
        gates: &mut [f32],
        previous: Option<&[f32]>,
        cells: &mut [f32],
        hidden: &mut [f32],
    ) {
        let rows = gates.chunks_exact_mut(4 * size).zip(cells.chunks_exact_mut(size)).zip(hidden.chunks_exact_mut(size));
        for (row, ((gates, cells), hidden)) in rows.enumerate() {
            gates[..2 * size].iter_mut().for_each(|gate| *gate = sigmoid::<FUSED>(*gate));
            let candidate = gates[2 * size..3 * size].iter_mut();
            if with_tanh {
                candidate.for_each(|gate| *gate = tanh::<FUSED>(*gate));
            } else {
                candidate.for_each(|gate| *gate = rectify(*gate));
            }
            gates[3 * size..].iter_mut().for_each(|gate| *gate = sigmoid::<FUSED>(*gate));
            let (input, rest) = gates.split_at(size);
            let (forget, rest) = rest.split_at(size);
            let (candidate, output) = rest.split_at(size);
            for ((cell, input), candidate) in cells.iter_mut().zip(input).zip(candidate) {
                *cell = input * candidate;
            }
            if let Some(previous) = previous {
                let previous = &previous[row * size..(row + 1) * size];
                for ((cell, forget), previous) in cells.iter_mut().zip(forget).zip(previous) {
                    *cell = fused::<FUSED>(*forget, *previous, *cell);
                }
            }
            let outputs = hidden.iter_mut().zip(output).zip(cells.iter());
            if with_tanh {
                outputs.for_each(|((hidden, output), cell)| *hidden = output * tanh::<FUSED>(*cell));
            } else {
                outputs.for_each(|((hidden, output), cell)| *hidden = output * rectify(*cell));
            }
        }
    }
}

/// States per iteration of the backward pass, in local arrays, which the compiler knows not to overlap.
const LANES: usize = 16;

/// Loads up to [`LANES`] values; the rest is 0.
#[inline(always)]
fn load(values: &[f32], at: usize, width: usize) -> [f32; LANES] {
    if width == LANES {
        values[at..at + LANES].try_into().expect("the slice has this width")
    } else {
        let mut lanes = [0.0; LANES];
        lanes[..width].copy_from_slice(&values[at..at + width]);
        lanes
    }
}

/// Stores up to [`LANES`] values.
#[inline(always)]
fn store(lanes: [f32; LANES], values: &mut [f32], at: usize, width: usize) {
    if width == LANES {
        let place: &mut [f32; LANES] = (&mut values[at..at + LANES]).try_into().expect("the slice has this width");
        *place = lanes;
    } else {
        values[at..at + width].copy_from_slice(&lanes[..width]);
    }
}

/// What the backward pass reads of one step's states.
struct BackwardStep<'a> {
    cells: &'a [f32],
    /// The cells of the previous step, if there is one.
    previous: Option<&'a [f32]>,
    /// The gradients of the outputs.
    dh: &'a [f32],
}

vectorised! {
    /// Replaces one step's activated gates by the gradients before activation.
    fn cell_backward(
        size: usize,
        with_tanh: bool,
        gates: &mut [f32],
        read: BackwardStep<'_>,
        carry: &mut [f32],
    ) {
        let BackwardStep { cells, previous, dh } = read;
        for (row, gates) in gates.chunks_exact_mut(4 * size).enumerate() {
            for column in (0..size).step_by(LANES) {
                let width = LANES.min(size - column);
                let at = row * size + column;
                let i = load(gates, column, width);
                let f = load(gates, size + column, width);
                let g = load(gates, 2 * size + column, width);
                let o = load(gates, 3 * size + column, width);
                let cell = load(cells, at, width);
                let before = previous.map_or([0.0; LANES], |previous| load(previous, at, width));
                let dh = load(dh, at, width);
                let mut carried = load(carry, at, width);
                let mut activated = cell;
                let mut slope = [0.0; LANES];
                let mut candidate_slope = [0.0; LANES];
                if with_tanh {
                    for lane in 0..LANES {
                        activated[lane] = tanh::<FUSED>(cell[lane]);
                        slope[lane] = 1.0 - activated[lane] * activated[lane];
                        candidate_slope[lane] = 1.0 - g[lane] * g[lane];
                    }
                } else {
                    for lane in 0..LANES {
                        activated[lane] = rectify(cell[lane]);
                        slope[lane] = positive(cell[lane]);
                        candidate_slope[lane] = positive(g[lane]);
                    }
                }
                let (mut di, mut df, mut dg, mut d_o) = (i, f, g, o);
                for lane in 0..LANES {
                    let dcell = fused::<FUSED>(dh[lane] * o[lane], slope[lane], carried[lane]);
                    d_o[lane] = dh[lane] * activated[lane] * o[lane] * (1.0 - o[lane]);
                    di[lane] = dcell * g[lane] * i[lane] * (1.0 - i[lane]);
                    df[lane] = dcell * before[lane] * f[lane] * (1.0 - f[lane]);
                    dg[lane] = dcell * i[lane] * candidate_slope[lane];
                    carried[lane] = dcell * f[lane];
                }
                store(di, gates, column, width);
                store(df, gates, size + column, width);
                store(dg, gates, 2 * size + column, width);
                store(d_o, gates, 3 * size + column, width);
                store(carried, carry, at, width);
            }
        }
    }
}

/// `max(x, 0)` that propagates NaN.
#[inline(always)]
fn rectify(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// 1 if `x` is positive, else 0.
#[inline(always)]
fn positive(x: f32) -> f32 {
    if x > 0.0 { 1.0 } else { 0.0 }
}
