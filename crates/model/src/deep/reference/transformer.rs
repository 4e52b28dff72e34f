//! The layers of transformers.

use dfdx::prelude::*;

use super::graph::{Graph, Matrix, Node};
use super::layers::softmax;
use crate::ModelError;
use crate::deep::engine::NORM_EPSILON;
use crate::deep::network::Size;

/// Added to the score of an absent step, so that its exponential is 0.
const ABSENT: f32 = -1e9;

/// Normalises each row by its own mean and variance. dfdx's `normalize` would compute these on a separate tape and lose
/// their gradients.
pub(super) fn layer_norm(graph: &mut Graph<'_, Cpu>, name: &str, x: Matrix<Cpu>) -> Result<Matrix<Cpu>, ModelError> {
    let shape = *x.shape();
    let weight = graph.parameter(&format!("{name}.weight"), (shape.1,))?.broadcast_like::<_, Axis<0>>(&shape);
    let bias = graph.parameter(&format!("{name}.bias"), (shape.1,))?.broadcast_like::<_, Axis<0>>(&shape);
    let mean = x.clone().sum::<_, Axis<1>>() / shape.1 as f32;
    let centred = x - mean.broadcast_like::<_, Axis<1>>(&shape);
    let variance = centred.clone().square().sum::<_, Axis<1>>() / shape.1 as f32;
    let deviation = (variance + NORM_EPSILON).sqrt().broadcast_like::<_, Axis<1>>(&shape);
    Ok(centred / deviation * weight + bias)
}

/// Attention of each head over the present steps of a flow; `x` is `[flows * steps, 3 * channels]`.
pub(super) fn attention_of_heads(
    graph: &Graph<'_, Cpu>,
    x: Matrix<Cpu>,
    Size { steps, channels }: Size,
    heads: usize,
    present: &[f32],
) -> Matrix<Cpu> {
    let (rows, columns) = *x.shape();
    let (flows, width) = (rows / steps, channels / heads);
    let values: Node<(usize,), Cpu> = x.reshape_like(&(rows * columns,));
    // Values of queries, keys or values: by flow, head and step.
    let part = |part: usize| -> Node<(usize, usize, usize), Cpu> {
        let of_head = (0..flows).flat_map(|flow| (0..heads).map(move |head| (flow, head)));
        let places = of_head.flat_map(|(flow, head)| {
            let first = part * channels + head * width;
            (0..steps).flat_map(move |step| (0..width).map(move |at| (flow * steps + step) * columns + first + at))
        });
        let gathered: Node<(usize,), Cpu> = values.clone().gather(graph.indices(places.collect()));
        gathered.reshape_like(&(flows * heads, steps, width))
    };
    let scores = part(0).matmul(part(1).permute::<_, Axes3<0, 2, 1>>()) / (width as f32).sqrt();
    let shape = (flows * heads, steps, steps);
    let by_key = present.chunks_exact(steps).flat_map(|marks| std::iter::repeat_n(marks, heads)).flatten();
    // The softmax of a flow without present steps is meaningless, but its steps do not affect later layers.
    let hide = by_key.map(|mark| if *mark > 0.0 { 0.0 } else { ABSENT }).collect();
    let hide = graph.constant(hide, (flows * heads, steps)).broadcast_like::<_, Axis<1>>(&shape);
    let attended = softmax(scores + hide).matmul(part(2));
    let attended: Node<(usize,), Cpu> = attended.reshape_like(&(rows * channels,));
    let back = (0..rows).flat_map(|row| {
        let (flow, step) = (row / steps, row % steps);
        (0..channels).map(move |channel| ((flow * heads + channel / width) * steps + step) * width + channel % width)
    });
    let attended: Node<(usize,), Cpu> = attended.gather(graph.indices(back.collect()));
    let marks = graph.constant(present.to_vec(), (rows,)).broadcast_like::<_, Axis<1>>(&(rows, channels));
    attended.reshape_like(&(rows, channels)) * marks
}
