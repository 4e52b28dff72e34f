//! Self-attention within each sequence (Vaswani et al. 2017, one head) on the CPU. Sequences are flows of a few
//! packets, so scores are plain dot products; the large products for query, key and value are linear layers.

use super::rows::{add_scaled, dot, softmax_rows};
use super::simd::{Level, vectorised};
use crate::deep::fast::packing::{Chunk, Packing};

/// Arguments shared by all chunks: query, key and value are `[states, columns]` over the whole batch.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub level: Level,
    pub packing: &'a Packing,
    pub columns: usize,
    /// Values stored per sequence: the square of the maximum length.
    pub stride: usize,
    pub query: &'a [f32],
    pub key: &'a [f32],
    pub value: &'a [f32],
}

/// Runs the forward pass of chunks whose states are exactly `y` and whose sequences' scores are `scores`.
pub(super) fn forward(shared: Shared<'_>, chunks: &[Chunk], scores: &mut [f32], y: &mut [f32]) {
    match chunks {
        [] => {}
        [chunk] => forward_chunk(shared.level, shared, chunk, scores, y),
        _ => {
            let (left, right) = chunks.split_at(chunks.len() / 2);
            let rows = right[0].first_row - left[0].first_row;
            let states = right[0].start - left[0].start;
            let (scores_left, scores) = scores.split_at_mut(rows * shared.stride);
            let (y_left, y) = y.split_at_mut(states * shared.columns);
            rayon::join(|| forward(shared, left, scores_left, y_left), || forward(shared, right, scores, y));
        }
    }
}

vectorised! {
    fn forward_chunk(shared: Shared<'_>, chunk: &Chunk, scores: &mut [f32], y: &mut [f32]) {
        let Shared { packing, columns, query, key, value, .. } = shared;
        let offsets = packing.offsets(chunk);
        let scale = 1.0 / (columns as f32).sqrt();
        for (row, scores) in scores.chunks_exact_mut(shared.stride).take(chunk.rows).enumerate() {
            let length = packing.lengths[chunk.first_row + row] as usize;
            let range_of =
                |step: usize| (offsets[step] as usize + row) * columns..(offsets[step] as usize + row + 1) * columns;
            for (step, scores) in scores.chunks_exact_mut(length).take(length).enumerate() {
                for (other, score) in scores.iter_mut().enumerate() {
                    *score = scale * dot::<FUSED>(&query[range_of(step)], &key[range_of(other)]);
                }
                softmax_rows(shared.level, length, scores);
                let start = range_of(step).start - chunk.start * columns;
                let y = &mut y[start..start + columns];
                y.fill(0.0);
                for (other, &score) in scores.iter().enumerate() {
                    add_scaled::<FUSED>(y, score, &value[range_of(other)]);
                }
            }
        }
    }
}

/// The gradients of some chunks, for exactly their states.
pub(super) struct Gradients<'a> {
    pub query: &'a mut [f32],
    pub key: &'a mut [f32],
    pub value: &'a mut [f32],
}

/// Runs the backward pass of chunks; `scores` and `dy` belong to the whole batch.
pub(super) fn backward(shared: Shared<'_>, chunks: &[Chunk], scores: &[f32], dy: &[f32], gradients: Gradients<'_>) {
    match chunks {
        [] => {}
        [chunk] => backward_chunk(shared.level, shared, chunk, scores, dy, gradients),
        _ => {
            let (left, right) = chunks.split_at(chunks.len() / 2);
            let split = (right[0].start - left[0].start) * shared.columns;
            let (query_left, query) = gradients.query.split_at_mut(split);
            let (key_left, key) = gradients.key.split_at_mut(split);
            let (value_left, value) = gradients.value.split_at_mut(split);
            let first = Gradients { query: query_left, key: key_left, value: value_left };
            let second = Gradients { query, key, value };
            rayon::join(|| backward(shared, left, scores, dy, first), || backward(shared, right, scores, dy, second));
        }
    }
}

vectorised! {
    fn backward_chunk(shared: Shared<'_>, chunk: &Chunk, scores: &[f32], dy: &[f32], gradients: Gradients<'_>) {
        let Shared { packing, columns, query, key, value, stride, .. } = shared;
        let offsets = packing.offsets(chunk);
        let scale = 1.0 / (columns as f32).sqrt();
        let size = chunk.states * columns;
        gradients.query[..size].fill(0.0);
        gradients.key[..size].fill(0.0);
        gradients.value[..size].fill(0.0);
        for row in 0..chunk.rows {
            let length = packing.lengths[chunk.first_row + row] as usize;
            let scores = &scores[(chunk.first_row + row) * stride..][..length * length];
            let range_of =
                |step: usize| (offsets[step] as usize + row) * columns..(offsets[step] as usize + row + 1) * columns;
            let within =
                |step: usize| range_of(step).start - chunk.start * columns..range_of(step).end - chunk.start * columns;
            for (step, scores) in scores.chunks_exact(length).enumerate() {
                let dy = &dy[range_of(step)];
                // Loops instead of closures, which would be compiled without the vector instructions.
                let mut mean = 0.0;
                for (other, &score) in scores.iter().enumerate() {
                    mean += score * dot::<FUSED>(dy, &value[range_of(other)]);
                }
                for (other, &score) in scores.iter().enumerate() {
                    add_scaled::<FUSED>(&mut gradients.value[within(other)], score, dy);
                    let slope = scale * score * (dot::<FUSED>(dy, &value[range_of(other)]) - mean);
                    add_scaled::<FUSED>(&mut gradients.query[within(step)], slope, &key[range_of(other)]);
                    add_scaled::<FUSED>(&mut gradients.key[within(other)], slope, &query[range_of(step)]);
                }
            }
        }
    }
}
