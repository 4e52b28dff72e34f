//! The LSTM over packed sequences on the processor. A task runs one chunk from its first step to its last: the
//! input product of a few steps at once, then, step by step, the small recurrent product and the
//! vectorised gates, all while they are in the second-level cache.

use super::activation::{sigmoid, tanh};
use super::matmul::{Panels, Update, multiply};
use super::simd::{Level, fused, vectorised};
use crate::model::deep::fast::packing::{Chunk, Packing};

/// Packed states whose input product is taken at once.
const BLOCK_STATES: usize = 128;

/// Where a chunk's gates before recurrence come from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// Input rows `[states, inputs]` times these panels, plus the bias.
    Rows { rows: &'a [f32], inputs: usize, panels: &'a Panels, bias: &'a [f32] },
    /// Rows of a table `[vocabulary, 4 * hidden]` that already holds product and bias.
    Table { table: &'a [f32], ids: &'a [u32] },
}

/// What all chunks of a forward pass share.
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

/// Runs chunks, whose states are exactly these slices, over the available threads.
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

/// What all chunks of a backward pass share.
#[derive(Clone, Copy)]
pub(super) struct Backward<'a> {
    pub level: Level,
    pub packing: &'a Packing,
    pub hidden: usize,
    pub tanh: bool,
    /// The recurrent weight as a right factor `[4 * hidden, hidden]`.
    pub panels: &'a Panels,
    /// The input weight as a right factor `[4 * hidden, inputs]`, where the input's gradient is wanted.
    pub input: Option<(&'a Panels, usize)>,
}

/// The slices of some chunks in a backward pass.
pub(super) struct BackwardSlices<'a> {
    pub gates: &'a mut [f32],
    pub cells: &'a [f32],
    pub dh: &'a mut [f32],
    /// Gradient of the input, empty where it is not wanted.
    pub dx: &'a mut [f32],
    /// Gradient of the cell that is carried back, `[sequences, hidden]`.
    pub carry: &'a mut [f32],
}

/// Turns gates into the gradients before activation, and makes the input's gradient.
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
    // States from here on have their input's gradient.
    let (mut end, mut done) = (chunk.states, chunk.states);
    for step in (0..active.len()).rev() {
        let count = active[step] as usize;
        let at = end - count;
        let before = (step > 0).then(|| at - active[step - 1] as usize);
        let previous = before.map(|before| &cells[before * size..]);
        let step_gates = &mut gates[at * width..end * width];
        cell_backward(level, size, shared.tanh, step_gates, &cells[at * size..], previous, &dh[at * size..], carry);
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
    /// Activates the gates of one step and makes cells and outputs; Hochreiter and Schmidhuber 1997 with the forget
    /// gate of Gers et al. 2000.
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
            let (input, gates) = gates.split_at_mut(size);
            let (forget, gates) = gates.split_at_mut(size);
            let (candidate, output) = gates.split_at_mut(size);
            match previous {
                Some(previous) => cells.copy_from_slice(&previous[row * size..(row + 1) * size]),
                None => cells.fill(0.0),
            }
            let gates = input.iter_mut().zip(forget).zip(candidate).zip(output).zip(cells.iter_mut()).zip(hidden);
            if with_tanh {
                for (((((input, forget), candidate), output), cell), hidden) in gates {
                    *input = sigmoid::<FUSED>(*input);
                    *forget = sigmoid::<FUSED>(*forget);
                    *candidate = tanh::<FUSED>(*candidate);
                    *output = sigmoid::<FUSED>(*output);
                    *cell = fused::<FUSED>(*forget, *cell, *input * *candidate);
                    *hidden = *output * tanh::<FUSED>(*cell);
                }
            } else {
                for (((((input, forget), candidate), output), cell), hidden) in gates {
                    *input = sigmoid::<FUSED>(*input);
                    *forget = sigmoid::<FUSED>(*forget);
                    *candidate = rectify(*candidate);
                    *output = sigmoid::<FUSED>(*output);
                    *cell = fused::<FUSED>(*forget, *cell, *input * *candidate);
                    *hidden = *output * rectify(*cell);
                }
            }
        }
    }
}

vectorised! {
    /// Replaces one step's activated gates by the gradients before activation.
    fn cell_backward(
        size: usize,
        with_tanh: bool,
        gates: &mut [f32],
        cells: &[f32],
        previous: Option<&[f32]>,
        dh: &[f32],
        carry: &mut [f32],
    ) {
        let rows = gates.chunks_exact_mut(4 * size).zip(cells.chunks_exact(size)).zip(dh.chunks_exact(size));
        for (row, (((gates, cells), dh), carry)) in rows.zip(carry.chunks_exact_mut(size)).enumerate() {
            let (input, gates) = gates.split_at_mut(size);
            let (forget, gates) = gates.split_at_mut(size);
            let (candidate, output) = gates.split_at_mut(size);
            // The gradient of the forget gate is that times the cell before, which is zero at the first step.
            let gates = input.iter_mut().zip(forget.iter_mut()).zip(candidate).zip(output).zip(cells).zip(dh).zip(carry);
            for ((((((input, forget), candidate), output), &cell), &dh), carry) in gates {
                let (activated, slope, candidate_slope) = if with_tanh {
                    let activated = tanh::<FUSED>(cell);
                    (activated, 1.0 - activated * activated, 1.0 - *candidate * *candidate)
                } else {
                    (rectify(cell), positive(cell), positive(*candidate))
                };
                let (i, f, g, o) = (*input, *forget, *candidate, *output);
                let dcell = fused::<FUSED>(dh * o, slope, *carry);
                *output = dh * activated * o * (1.0 - o);
                *input = dcell * g * i * (1.0 - i);
                *forget = dcell * f * (1.0 - f);
                *candidate = dcell * i * candidate_slope;
                *carry = dcell * f;
            }
            match previous {
                Some(previous) => {
                    let previous = &previous[row * size..(row + 1) * size];
                    forget.iter_mut().zip(previous).for_each(|(forget, previous)| *forget *= previous);
                }
                None => forget.fill(0.0),
            }
        }
    }
}

/// `max(x, 0)` that keeps not-a-number.
#[inline(always)]
fn rectify(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// 1 where `x` is positive, else 0.
#[inline(always)]
fn positive(x: f32) -> f32 {
    if x > 0.0 { 1.0 } else { 0.0 }
}
