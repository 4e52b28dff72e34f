//! Operations on the rows of a matrix: softmax and its loss, dropout, rectifier, means and weighted sums. Rows are
//! distributed in blocks of fixed size, and sums over blocks form a tree of fixed shape.

use rayon::prelude::*;

use super::activation::exp;
use super::simd::{Level, fused, vectorised};
use crate::deep::engine::dropout_factor;
use crate::deep::fast::backend::{Dropout, NO_TARGET, Smoothing};
use crate::deep::fast::packing::Chunk;

/// Rows that one task processes.
const TASK_ROWS: usize = 64;

/// Sums `part` over blocks of at most `size` of `0..count`, as a tree whose shape only depends on `count`.
pub(super) fn tree_sum(start: usize, count: usize, size: usize, part: &(impl Fn(usize, usize) -> f64 + Sync)) -> f64 {
    if count <= size {
        return part(start, count);
    }
    let half = (count / 2).next_multiple_of(size);
    let (left, right) =
        rayon::join(|| tree_sum(start, half, size, part), || tree_sum(start + half, count - half, size, part));
    left + right
}

/// Dot product in eight lanes.
#[inline(always)]
pub(super) fn dot<const FUSED: bool>(left: &[f32], right: &[f32]) -> f32 {
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..8 {
            lanes[lane] = fused::<FUSED>(left[lane], right[lane], lanes[lane]);
        }
    }
    let rest = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum::<f32>();
    lanes.iter().sum::<f32>() + rest
}

/// `y += scale * x`.
#[inline(always)]
pub(super) fn add_scaled<const FUSED: bool>(y: &mut [f32], scale: f32, x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y = fused::<FUSED>(scale, *x, *y));
}

/// Replaces a row of scores by exponentials relative to the maximum; returns the maximum and the sum.
#[inline(always)]
fn exponentials<const FUSED: bool>(row: &mut [f32]) -> (f32, f32) {
    let (chunks, rest) = row.as_chunks_mut::<8>();
    let mut largest = [f32::NEG_INFINITY; 8];
    for chunk in chunks.iter() {
        for lane in 0..8 {
            largest[lane] = if chunk[lane] > largest[lane] { chunk[lane] } else { largest[lane] };
        }
    }
    let largest = largest.iter().chain(rest.iter()).fold(f32::NEG_INFINITY, |most, &value| most.max(value));
    let mut sums = [0.0; 8];
    for chunk in chunks {
        for lane in 0..8 {
            chunk[lane] = exp::<FUSED>(chunk[lane] - largest);
            sums[lane] += chunk[lane];
        }
    }
    let mut sum = sums.iter().sum::<f32>();
    for value in rest {
        *value = exp::<FUSED>(*value - largest);
        sum += *value;
    }
    (largest, sum)
}

vectorised! {
    /// Replaces scores by probabilities.
    pub(super) fn softmax_rows(classes: usize, logits: &mut [f32]) {
        for row in logits.chunks_exact_mut(classes) {
            let (_, sum) = exponentials::<FUSED>(row);
            row.iter_mut().for_each(|value| *value /= sum);
        }
    }
}

vectorised! {
    fn cross_entropy_rows(classes: usize, logits: &mut [f32], targets: &[u32], scale: f32) -> f64 {
        let mut loss = 0.0;
        for (row, &target) in logits.chunks_exact_mut(classes).zip(targets) {
            if target == NO_TARGET {
                row.fill(0.0);
                continue;
            }
            let of_target = row[target as usize];
            let (largest, sum) = exponentials::<FUSED>(row);
            loss += f64::from(sum).ln() - (f64::from(of_target) - f64::from(largest));
            let factor = scale / sum;
            row.iter_mut().for_each(|value| *value *= factor);
            row[target as usize] -= scale;
        }
        loss
    }
}

vectorised! {
    fn weighted_rows(weights: &[f32], smoothing: Smoothing, logits: &mut [f32], targets: &[u32], scale: f32) -> f64 {
        let Smoothing { kept, spread } = smoothing;
        let all = weights.iter().sum::<f32>();
        let mut loss = 0.0;
        for (row, &target) in logits.chunks_exact_mut(weights.len()).zip(targets) {
            let target_weight = kept * weights[target as usize];
            let share = target_weight + spread * all;
            let weighted = row.iter().zip(weights).map(|(logit, weight)| f64::from(*weight) * f64::from(*logit));
            let of_targets =
                f64::from(target_weight) * f64::from(row[target as usize]) + f64::from(spread) * weighted.sum::<f64>();
            let (largest, sum) = exponentials::<FUSED>(row);
            loss += f64::from(share) * (f64::from(sum).ln() + f64::from(largest)) - of_targets;
            let factor = scale * share / sum;
            row.iter_mut().zip(weights).for_each(|(value, weight)| *value = *value * factor - scale * spread * weight);
            row[target as usize] -= scale * target_weight;
        }
        loss
    }
}

/// Sums `part` over blocks of rows with their targets.
fn sum_of_rows(
    classes: usize,
    logits: &mut [f32],
    targets: &[u32],
    part: &(impl Fn(&mut [f32], &[u32]) -> f64 + Sync),
) -> f64 {
    if targets.len() <= TASK_ROWS {
        return part(logits, targets);
    }
    let half = (targets.len() / 2).next_multiple_of(TASK_ROWS);
    let (upper, lower) = logits.split_at_mut(half * classes);
    let (first, second) = targets.split_at(half);
    let (left, right) =
        rayon::join(|| sum_of_rows(classes, upper, first, part), || sum_of_rows(classes, lower, second, part));
    left + right
}

/// See [`crate::deep::fast::backend::Backend::cross_entropy`].
pub(super) fn cross_entropy(level: Level, classes: usize, logits: &mut [f32], targets: &[u32], scale: f32) -> f64 {
    sum_of_rows(classes, logits, targets, &|logits, targets| cross_entropy_rows(level, classes, logits, targets, scale))
}

/// See [`crate::deep::fast::backend::Backend::weighted_cross_entropy`].
pub(super) fn weighted_cross_entropy(
    level: Level,
    weights: &[f32],
    smoothing: Smoothing,
    logits: &mut [f32],
    targets: &[u32],
    scale: f32,
) -> f64 {
    sum_of_rows(weights.len(), logits, targets, &|logits, targets| {
        weighted_rows(level, weights, smoothing, logits, targets, scale)
    })
}

/// Multiplies rows by their dropout factors.
pub(super) fn dropout(columns: usize, dropout: Dropout, places: &[u32], x: &mut [f32]) {
    x.par_chunks_mut(columns * TASK_ROWS).zip(places.par_chunks(TASK_ROWS)).for_each(|(rows, places)| {
        for (row, &place) in rows.chunks_exact_mut(columns).zip(places) {
            let first = u64::from(place) * columns as u64;
            for (index, value) in (first..).zip(row) {
                *value *= dropout_factor(dropout.seed, dropout.step, dropout.place, index, dropout.rate);
            }
        }
    });
}

/// Adds the rows of x `[rows, columns]` to `sums`.
pub(super) fn column_sums(level: Level, columns: usize, x: &[f32], sums: &mut [f32]) {
    sums.par_chunks_mut(COLUMN_BLOCK).enumerate().for_each(|(block, sums)| {
        column_block_sums(level, columns, block * COLUMN_BLOCK, x, sums);
    });
}

const COLUMN_BLOCK: usize = 128;

vectorised! {
    fn column_block_sums(columns: usize, first: usize, x: &[f32], sums: &mut [f32]) {
        let width = sums.len();
        // Partial sums over few rows limit the error of a long sum.
        for rows in x.chunks(columns * TASK_ROWS) {
            let mut partial = [0.0; COLUMN_BLOCK];
            let partial = &mut partial[..width];
            for row in rows.chunks_exact(columns) {
                partial.iter_mut().zip(&row[first..first + width]).for_each(|(sum, value)| *sum += value);
            }
            sums.iter_mut().zip(partial).for_each(|(sum, partial)| *sum += *partial);
        }
    }
}

/// Runs `task` for every chunk with its part of a `[states, columns]` slice.
pub(super) fn for_chunks(
    chunks: &[Chunk],
    columns: usize,
    states: &mut [f32],
    task: &(impl Fn(&Chunk, &mut [f32]) + Sync),
) {
    match chunks {
        [] => {}
        [chunk] => task(chunk, &mut states[..chunk.states * columns]),
        _ => {
            let (left, right) = chunks.split_at(chunks.len() / 2);
            let (upper, lower) = states.split_at_mut((right[0].start - left[0].start) * columns);
            rayon::join(|| for_chunks(left, columns, upper, task), || for_chunks(right, columns, lower, task));
        }
    }
}

/// Returns the softmax of a few weights as a function of the index.
fn shares(weight: &[f32]) -> impl Fn(usize) -> f32 {
    let largest = weight.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum = weight.iter().map(|value| (value - largest).exp()).sum::<f32>();
    move |layer| (weight[layer] - largest).exp() / sum
}

/// See [`crate::deep::fast::backend::Backend::mix`].
pub(super) fn mix(columns: usize, x: &[f32], places: &[u32], weight: &[f32], gamma: f32, y: &mut [f32]) {
    let share = shares(weight);
    y.par_chunks_mut(columns * TASK_ROWS).zip(places.par_chunks(TASK_ROWS)).for_each(|(rows, places)| {
        for (row, &place) in rows.chunks_exact_mut(columns).zip(places) {
            row.fill(0.0);
            let layers = x[place as usize * weight.len() * columns..].chunks_exact(columns);
            for (layer, values) in layers.take(weight.len()).enumerate() {
                let scale = gamma * share(layer);
                row.iter_mut().zip(values).for_each(|(sum, value)| *sum += scale * value);
            }
        }
    });
}

/// See [`crate::deep::fast::backend::Backend::mix_layers_backward`].
pub(super) fn mix_layers_backward(
    columns: usize,
    sums: &[u32],
    weight: &[f32],
    gamma: f32,
    dy: &[f32],
    dx: &mut [f32],
) {
    let share = shares(weight);
    dx.par_chunks_mut(weight.len() * columns).zip(sums).for_each(|(layers, &sum)| {
        let dy = &dy[sum as usize * columns..][..columns];
        for (layer, dx) in layers.chunks_exact_mut(columns).enumerate() {
            let scale = gamma * share(layer);
            dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = scale * dy);
        }
    });
}

vectorised! {
    fn dots(columns: usize, stride: usize, x: &[f32], places: &[u32], dy: &[f32]) -> f64 {
        let mut sum = 0.0;
        for (dy, &place) in dy.chunks_exact(columns).zip(places) {
            sum += f64::from(dot::<FUSED>(dy, &x[place as usize * stride..][..columns]));
        }
        sum
    }
}

/// Adds the gradients of the mix's weights and of gamma.
pub(super) fn mix_backward(
    level: Level,
    columns: usize,
    x: &[f32],
    places: &[u32],
    weight: (&[f32], &mut [f32]),
    gamma: (f32, &mut f32),
    dy: &[f32],
) {
    let (weight, weight_gradient) = weight;
    let share = shares(weight);
    let stride = weight.len() * columns;
    let of_layer = |layer: usize| {
        let part = |start: usize, count: usize| {
            let dy = &dy[start * columns..(start + count) * columns];
            dots(level, columns, stride, &x[layer * columns..], &places[start..start + count], dy)
        };
        tree_sum(0, places.len(), TASK_ROWS, &part)
    };
    let mut mean = 0.0;
    // Each gradient first contains its layer's own dot product, until the mean of all is known.
    for (layer, gradient) in weight_gradient.iter_mut().enumerate() {
        let found = of_layer(layer);
        mean += f64::from(share(layer)) * found;
        *gradient += gamma.0 * share(layer) * found as f32;
    }
    for (layer, gradient) in weight_gradient.iter_mut().enumerate() {
        *gradient -= gamma.0 * share(layer) * mean as f32;
    }
    *gamma.1 += mean as f32;
}

/// Sums rows of x `[states, columns]` by index into `table`, which is overwritten, in the order of the states. Rows of
/// the table are distributed over threads, each of which scans all indices.
pub(super) fn scatter(columns: usize, x: &[f32], ids: &[u32], table: &mut [f32]) {
    table.par_chunks_mut(columns * TABLE_ROWS).enumerate().for_each(|(block, rows)| {
        rows.fill(0.0);
        let first = block * TABLE_ROWS;
        for (x, &id) in x.chunks_exact(columns).zip(ids) {
            if let Some(row) = (id as usize).checked_sub(first).filter(|&row| row < TABLE_ROWS) {
                rows[row * columns..][..columns].iter_mut().zip(x).for_each(|(sum, value)| *sum += value);
            }
        }
    });
}

/// Rows of a table that one task sums.
const TABLE_ROWS: usize = 16;
