//! Multi-head attention over the present steps of a flow (Vaswani et al. 2017). Each task processes a flow and gathers
//! the present rows of a head, so that absent steps cost nothing and need no mask.

use std::cell::RefCell;

use rayon::prelude::*;

use super::grow;
use super::matmul::{Layout, Panels, Update, multiply, multiply_transposed};
use super::rows::{dot, softmax_rows};
use super::simd::{Level, vectorised};
use crate::deep::fast::transformer::HeadsShape;

thread_local! {
    /// A task's working memory. It is taken while in use, so that another task that runs on this thread in the meantime
    /// has its own.
    static WORKING: RefCell<Working> = RefCell::default();
}

#[derive(Default)]
struct Working {
    places: Vec<usize>,
    panels: Panels,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    result: Vec<f32>,
    gradient: Vec<f32>,
    scores: Vec<f32>,
}

fn working(task: impl FnOnce(&mut Working)) {
    let mut taken = WORKING.take();
    task(&mut taken);
    WORKING.set(taken);
}

/// Location of the rows of one head within those of a flow.
#[derive(Clone, Copy)]
struct Part {
    /// Columns per row.
    stride: usize,
    first: usize,
    width: usize,
}

impl Part {
    /// Copies the present rows.
    fn gather(self, x: &[f32], places: &[usize], rows: &mut Vec<f32>) {
        let Self { stride, first, width } = self;
        grow(rows, places.len() * width);
        for (row, place) in rows.chunks_exact_mut(width).zip(places) {
            row.copy_from_slice(&x[place * stride + first..][..width]);
        }
    }

    /// Copies rows back to their places.
    fn scatter(self, rows: &[f32], places: &[usize], x: &mut [f32]) {
        let Self { stride, first, width } = self;
        for (row, place) in rows.chunks_exact(width).zip(places) {
            x[place * stride + first..][..width].copy_from_slice(row);
        }
    }
}

impl HeadsShape {
    /// Returns the location of query, key and value of a head.
    fn projected(&self, head: usize) -> [Part; 3] {
        let (channels, width) = (self.output.channels, self.of_head());
        [0, 1, 2].map(|part| Part { stride: 3 * channels, first: part * channels + head * width, width })
    }

    /// Returns the location of a head's output.
    fn attended(&self, head: usize) -> Part {
        Part { stride: self.output.channels, first: head * self.of_head(), width: self.of_head() }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.of_head() as f32).sqrt()
    }
}

fn present_places(present: &[f32], places: &mut Vec<usize>) {
    places.clear();
    places.extend(present.iter().enumerate().filter(|(_, mark)| **mark > 0.0).map(|(place, _)| place));
}

/// See [`crate::deep::fast::transformer::TransformerBackend::heads`].
pub(super) fn forward(level: Level, shape: HeadsShape, x: &[f32], present: &[f32], shares: &mut [f32], y: &mut [f32]) {
    let (steps, size) = (shape.output.steps, shape.output.of_flow());
    let flows = y.par_chunks_mut(size).zip(shares.par_chunks_mut(shape.shares())).take(shape.output.flows);
    flows.zip(x.par_chunks(3 * size)).zip(present.par_chunks(steps)).for_each(|(((y, shares), x), present)| {
        working(|working| forward_of_flow(level, shape, x, present, shares, y, working));
    });
}

fn forward_of_flow(
    level: Level,
    shape: HeadsShape,
    x: &[f32],
    present: &[f32],
    shares: &mut [f32],
    y: &mut [f32],
    working: &mut Working,
) {
    let Working { places, panels, query, key, value, result, .. } = working;
    present_places(present, places);
    y.fill(0.0);
    let (count, width) = (places.len(), shape.of_head());
    if count == 0 {
        return;
    }
    for (head, shares) in shares.chunks_exact_mut(shape.output.steps * shape.output.steps).enumerate() {
        let shares = &mut shares[..count * count];
        for (part, rows) in shape.projected(head).into_iter().zip([&mut *query, &mut *key, &mut *value]) {
            part.gather(x, places, rows);
        }
        query[..count * width].iter_mut().for_each(|value| *value *= shape.scale());
        panels.pack(&key[..count * width], width, count, Layout::Transposed);
        multiply(level, count, query, width, panels, shares, Update::Replace);
        softmax_rows(level, count, shares);
        panels.pack(&value[..count * width], count, width, Layout::Plain);
        grow(result, count * width);
        multiply(level, count, shares, count, panels, &mut result[..count * width], Update::Replace);
        shape.attended(head).scatter(&result[..count * width], places, y);
    }
}

/// See [`crate::deep::fast::transformer::TransformerBackend::heads_backward`].
pub(super) fn backward(level: Level, shape: HeadsShape, [x, present, shares, dy]: [&[f32]; 4], dx: &mut [f32]) {
    let (steps, size) = (shape.output.steps, shape.output.of_flow());
    let inputs = x.par_chunks(3 * size).zip(present.par_chunks(steps));
    let kept = shares.par_chunks(shape.shares()).zip(dy.par_chunks(size)).take(shape.output.flows);
    dx.par_chunks_mut(3 * size).zip(inputs.zip(kept)).for_each(|(dx, ((x, present), (shares, dy)))| {
        working(|working| backward_of_flow(level, shape, [x, present, shares, dy], dx, working));
    });
}

vectorised! {
    /// Replaces the gradient of the softmax by that of the scores before it.
    fn of_scores(count: usize, scale: f32, shares: &[f32], gradient: &mut [f32]) {
        for (gradient, shares) in gradient.chunks_exact_mut(count).zip(shares.chunks_exact(count)) {
            let mean = dot::<FUSED>(gradient, shares);
            gradient.iter_mut().zip(shares).for_each(|(gradient, share)| *gradient = scale * share * (*gradient - mean));
        }
    }
}

fn backward_of_flow(
    level: Level,
    shape: HeadsShape,
    [x, present, shares, dy]: [&[f32]; 4],
    dx: &mut [f32],
    working: &mut Working,
) {
    let Working { places, panels, query, key, value, result, gradient, scores } = working;
    present_places(present, places);
    dx.fill(0.0);
    let (count, width) = (places.len(), shape.of_head());
    if count == 0 {
        return;
    }
    let size = count * width;
    grow(scores, count * count);
    grow(result, size);
    let (scores, result) = (&mut scores[..count * count], &mut result[..size]);
    for (head, shares) in shares.chunks_exact(shape.output.steps * shape.output.steps).enumerate() {
        let shares = &shares[..count * count];
        let [of_query, of_key, of_value] = shape.projected(head);
        for (part, rows) in [(of_query, &mut *query), (of_key, &mut *key), (of_value, &mut *value)] {
            part.gather(x, places, rows);
        }
        shape.attended(head).gather(dy, places, gradient);
        let gradient = &gradient[..size];

        result.fill(0.0);
        multiply_transposed(level, count, count, width, shares, gradient, result);
        of_value.scatter(result, places, dx);

        panels.pack(&value[..size], width, count, Layout::Transposed);
        multiply(level, count, gradient, width, panels, scores, Update::Replace);
        of_scores(level, count, shape.scale(), shares, scores);

        panels.pack(&key[..size], count, width, Layout::Plain);
        multiply(level, count, scores, count, panels, result, Update::Replace);
        of_query.scatter(result, places, dx);

        result.fill(0.0);
        multiply_transposed(level, count, count, width, scores, &query[..size], result);
        of_key.scatter(result, places, dx);
    }
}
