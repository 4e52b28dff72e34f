//! Pooling of sequences. One task pools the sequences of a chunk, state by state in memory order, so that a slot's
//! states are added from its first step to its last.

use rayon::prelude::*;

use super::Cpu;
use super::rows::for_chunks;
use crate::deep::fast::backend::{PoolInput, PoolShape};
use crate::deep::fast::packing::{Chunk, Packing};
use crate::deep::pooling::PoolingKind;

/// Returns a function that maps a packed state to its row.
pub(super) fn rows<'a>(x: &PoolInput<'a, Cpu>, columns: usize) -> impl Fn(usize) -> &'a [f32] + Sync {
    let (values, ids) = match *x {
        PoolInput::Rows(values) => (values, None),
        PoolInput::Embedded { embedding, ids } => (embedding, Some(ids)),
    };
    move |state| {
        let row = ids.map_or(state, |ids| ids[state] as usize);
        &values[row * columns..(row + 1) * columns]
    }
}

/// Calls `visit` with the state, sequence (from 0 within the chunk), length and step of each of a chunk's packed
/// states.
fn for_states(packing: &Packing, chunk: &Chunk, mut visit: impl FnMut(usize, usize, usize, usize)) {
    for (step, (&active, &offset)) in packing.active(chunk).iter().zip(packing.offsets(chunk)).enumerate() {
        for row in 0..active as usize {
            visit(offset as usize + row, row, packing.lengths[chunk.first_row + row] as usize, step);
        }
    }
}

/// See [`crate::deep::fast::backend::Backend::pool`].
pub(super) fn forward<'a>(
    packing: &Packing,
    shape: PoolShape,
    row_of: &(impl Fn(usize) -> &'a [f32] + Sync),
    y: &mut [f32],
) {
    let PoolShape { columns, pooling, reversed } = shape;
    let Some(first) = packing.chunks.first() else { return };
    let size = pooling.slots * columns;
    y[..packing.rows() * size].par_chunks_mut(first.rows * size).zip(&packing.chunks).for_each(|(y, chunk)| {
        let largest = pooling.kind == PoolingKind::Maximum;
        y.fill(if largest { f32::NEG_INFINITY } else { 0.0 });
        for_states(packing, chunk, |state, row, length, step| {
            let Some(slot) = pooling.slot(reversed, length, step) else { return };
            let pooled = y[row * size + slot * columns..][..columns].iter_mut().zip(row_of(state));
            if largest {
                pooled.for_each(|(most, &value)| *most = if value > *most { value } else { *most });
            } else {
                pooled.for_each(|(sum, value)| *sum += value);
            }
        });
        if largest {
            return;
        }
        for (row, slots) in y.chunks_exact_mut(size).enumerate() {
            let length = packing.lengths[chunk.first_row + row] as usize;
            for (slot, sums) in slots.chunks_exact_mut(columns).enumerate() {
                let count = pooling.steps(reversed, length, slot).len().max(1) as f32;
                sums.iter_mut().for_each(|sum| *sum /= count);
            }
        }
    });
}

/// See [`crate::deep::fast::backend::Backend::pool_backward`].
pub(super) fn backward<'a>(
    packing: &Packing,
    shape: PoolShape,
    row_of: &(impl Fn(usize) -> &'a [f32] + Sync),
    dy: &[f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    let PoolShape { columns, pooling, reversed } = shape;
    let size = pooling.slots * columns;
    for_chunks(&packing.chunks, columns, dx, &|chunk, dx| {
        if !accumulate {
            dx.fill(0.0);
        }
        if pooling.kind == PoolingKind::Maximum {
            return largest_backward(packing, chunk, columns, row_of, dy, dx);
        }
        for_states(packing, chunk, |state, row, length, step| {
            let Some(slot) = pooling.slot(reversed, length, step) else { return };
            let count = pooling.steps(reversed, length, slot).len() as f32;
            let dy = &dy[(chunk.first_row + row) * size + slot * columns..][..columns];
            let dx = &mut dx[(state - chunk.start) * columns..][..columns];
            dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy / count);
        });
    });
}

/// Columns whose maximum is searched at once.
const BLOCK: usize = 64;

/// The gradient of a maximum goes to the first state that has that value.
fn largest_backward<'a>(
    packing: &Packing,
    chunk: &Chunk,
    columns: usize,
    row_of: &impl Fn(usize) -> &'a [f32],
    dy: &[f32],
    dx: &mut [f32],
) {
    for row in 0..chunk.rows {
        let length = packing.lengths[chunk.first_row + row] as usize;
        let states = packing.offsets(chunk)[..length].iter().map(|&offset| offset as usize + row);
        let dy = &dy[(chunk.first_row + row) * columns..][..columns];
        for (block, dy) in dy.chunks(BLOCK).enumerate() {
            let mut most = [f32::NEG_INFINITY; BLOCK];
            let mut at = [chunk.start; BLOCK];
            for state in states.clone() {
                let values = row_of(state)[block * BLOCK..].iter().zip(&mut most).zip(&mut at);
                for ((&value, most), at) in values.take(dy.len()) {
                    if value > *most {
                        (*most, *at) = (value, state);
                    }
                }
            }
            for (column, (dy, at)) in dy.iter().zip(at).enumerate() {
                dx[(at - chunk.start) * columns + block * BLOCK + column] += dy;
            }
        }
    }
}
