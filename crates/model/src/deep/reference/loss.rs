//! The loss of a batch, and the probabilities of its rows, from the logits of a classifier.

use dfdx::prelude::*;

use super::graph::{Graph, Matrix, Node, detached};
use crate::deep::engine::BatchLoss;
use crate::deep::loss::Loss;

/// Returns the loss of a batch, and the mean to minimise; `labels` are below the number of classes.
pub(super) fn mean_loss<D: Device<f32>>(
    graph: &Graph<'_, D>,
    logits: Matrix<D>,
    labels: &[u32],
    loss: &Loss,
) -> (BatchLoss, Node<(), D>) {
    let targets = labels.iter().map(|&label| label as usize).collect::<Vec<_>>();
    let count = targets.len();
    let summed = |losses: &Node<(usize,), D>| losses.as_vec().iter().map(|&value| f64::from(value)).sum::<f64>();
    let (sum, mean) = if loss.is_plain() {
        let losses = cross_entropy(graph, logits, targets);
        (summed(&losses), losses.sum() / count as f32)
    } else {
        let total = loss.total(labels);
        let losses = weighted_cross_entropy(graph, logits, &targets, loss);
        (summed(&losses) * count as f64 / total, losses.sum() / total as f32)
    };
    (BatchLoss { sum, targets: count as u64 }, mean)
}

/// Writes the softmax of each row of logits.
pub(super) fn probabilities(logits: &[f32], classes: usize, output: &mut [f32]) {
    for (row, logits) in output.chunks_exact_mut(classes).zip(logits.chunks_exact(classes)) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials = logits.iter().map(|logit| (logit - largest).exp()).collect::<Vec<_>>();
        let sum = exponentials.iter().sum::<f32>();
        row.iter_mut().zip(exponentials).for_each(|(value, exponential)| *value = exponential / sum);
    }
}

/// Returns the cross-entropy of each row in nats, given `logits`, shape `[rows, classes]`, and the index of each row's
/// class.
pub(super) fn cross_entropy<D: Device<f32>>(
    graph: &Graph<'_, D>,
    logits: Matrix<D>,
    targets: Vec<usize>,
) -> Node<(usize,), D> {
    let (logits, normaliser) = normalised(logits);
    let chosen: Node<(usize,), D> = logits.select(graph.indices(targets));
    normaliser - chosen
}

/// Returns the loss of each row as defined by [`Loss`], before division by the total weight of the batch's targets.
fn weighted_cross_entropy<D: Device<f32>>(
    graph: &Graph<'_, D>,
    logits: Matrix<D>,
    targets: &[usize],
    loss: &Loss,
) -> Node<(usize,), D> {
    let shape = *logits.shape();
    let (logits, normaliser) = normalised(logits);
    let spread = loss.weights.iter().map(|weight| loss.spread() * weight).collect::<Vec<_>>();
    let mut shares = targets.iter().flat_map(|_| spread.iter().copied()).collect::<Vec<_>>();
    for (row, &target) in shares.chunks_exact_mut(shape.1).zip(targets) {
        row[target] += loss.kept() * loss.weights[target];
    }
    let shares = graph.constant(shares, shape);
    (shares * (normaliser.broadcast_like::<_, Axis<1>>(&shape) - logits)).sum::<_, Axis<1>>()
}

/// Returns the logits minus the maximum of their row, and the logarithm of the sum of each row's exponentials.
fn normalised<D: Device<f32>>(logits: Matrix<D>) -> (Matrix<D>, Node<(usize,), D>) {
    let shape = *logits.shape();
    let largest = detached(&logits).max::<_, Axis<1>>().broadcast_like::<_, Axis<1>>(&shape);
    let logits = logits - largest;
    let normaliser = logits.clone().exp().sum::<_, Axis<1>>().ln();
    (logits, normaliser)
}
