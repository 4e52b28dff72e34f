//! Attention over the slots of rows `[2, slots, columns]`, with one task per row.

use rayon::prelude::*;

use super::rows::{add_scaled, column_sums, dot};
use super::simd::{Level, vectorised};
use crate::deep::fast::backend::SlotShape;

/// Returns both directions of a slot.
fn halves(shape: SlotShape, row: &[f32], slot: usize) -> [&[f32]; 2] {
    [0, 1].map(|direction| &row[(direction * shape.slots + slot) * shape.columns..][..shape.columns])
}

vectorised! {
    fn forward_row(shape: SlotShape, x: &[f32], length: usize, weight: &[f32], shares: &mut [f32], y: &mut [f32]) {
        let (left, right) = weight.split_at(shape.columns);
        shares.fill(0.0);
        let shares = &mut shares[..length];
        for (slot, share) in shares.iter_mut().enumerate() {
            let [first, second] = halves(shape, x, slot);
            *share = dot::<FUSED>(first, left) + dot::<FUSED>(second, right);
        }
        let largest = shares.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        shares.iter_mut().for_each(|share| *share = (*share - largest).exp());
        let sum = shares.iter().sum::<f32>();
        y.fill(0.0);
        let (left, right) = y.split_at_mut(shape.columns);
        for (slot, share) in shares.iter_mut().enumerate() {
            *share /= sum;
            let [first, second] = halves(shape, x, slot);
            add_scaled::<FUSED>(left, *share, first);
            add_scaled::<FUSED>(right, *share, second);
        }
    }
}

/// See [`crate::deep::fast::backend::Backend::slot_attention`].
pub(super) fn forward(
    level: Level,
    shape: SlotShape,
    x: &[f32],
    lengths: &[u32],
    weight: &[f32],
    shares: &mut [f32],
    y: &mut [f32],
) {
    let size = 2 * shape.slots * shape.columns;
    let rows = x[..shape.rows * size].par_chunks(size).zip(shares.par_chunks_mut(shape.slots));
    rows.zip(y.par_chunks_mut(2 * shape.columns)).zip(lengths).for_each(|(((x, shares), y), &length)| {
        forward_row(level, shape, x, length as usize, weight, shares, y);
    });
}

/// What the backward pass reads, over the whole batch.
pub(super) struct Pass<'a> {
    /// `[rows, 2, slots, columns]`.
    pub x: &'a [f32],
    /// The used slots of each row.
    pub lengths: &'a [u32],
    /// The result of the softmax, `[rows, slots]`.
    pub shares: &'a [f32],
    /// `[rows, 2, columns]`.
    pub dy: &'a [f32],
}

/// What the backward pass reads of one row.
struct Row<'a> {
    x: &'a [f32],
    length: usize,
    shares: &'a [f32],
    dy: &'a [f32],
}

vectorised! {
    fn backward_row(
        shape: SlotShape,
        row: Row<'_>,
        weight: &[f32],
        dx: &mut [f32],
        slopes: &mut [f32],
        partial: &mut [f32],
    ) {
        let Row { x, length, shares, dy } = row;
        let (dy_left, dy_right) = dy.split_at(shape.columns);
        let mut mean = 0.0;
        for slot in 0..length {
            let [first, second] = halves(shape, x, slot);
            slopes[slot] = dot::<FUSED>(first, dy_left) + dot::<FUSED>(second, dy_right);
            mean += shares[slot] * slopes[slot];
        }
        dx.fill(0.0);
        partial.fill(0.0);
        for slot in 0..length {
            let slope = shares[slot] * (slopes[slot] - mean);
            let values = halves(shape, x, slot);
            for direction in 0..2 {
                let at = direction * shape.columns..(direction + 1) * shape.columns;
                let dx = &mut dx[(direction * shape.slots + slot) * shape.columns..][..shape.columns];
                add_scaled::<FUSED>(dx, shares[slot], &dy[at.clone()]);
                add_scaled::<FUSED>(dx, slope, &weight[at.clone()]);
                add_scaled::<FUSED>(&mut partial[at], slope, values[direction]);
            }
        }
    }
}

/// See [`crate::deep::fast::backend::Backend::slot_attention_backward`]; `working` has room for `slots + 2 * columns`
/// values per row.
pub(super) fn backward(
    level: Level,
    shape: SlotShape,
    pass: Pass<'_>,
    weight: (&[f32], &mut [f32]),
    dx: &mut [f32],
    working: &mut [f32],
) {
    let Pass { x, lengths, shares, dy } = pass;
    let (size, columns) = (2 * shape.slots * shape.columns, 2 * shape.columns);
    let (slopes, partial) = working.split_at_mut(shape.rows * shape.slots);
    let rows = x[..shape.rows * size].par_chunks(size).zip(shares.par_chunks(shape.slots));
    let rows = rows.zip(dy.par_chunks(columns)).zip(dx.par_chunks_mut(size));
    let rows = rows.zip(slopes.par_chunks_mut(shape.slots)).zip(partial.par_chunks_mut(columns)).zip(lengths);
    rows.for_each(|((((((x, shares), dy), dx), slopes), partial), &length)| {
        let row = Row { x, length: length as usize, shares, dy };
        backward_row(level, shape, row, weight.0, dx, slopes, partial);
    });
    column_sums(level, columns, &partial[..shape.rows * columns], weight.1);
}
