//! A second implementation of the deep model's losses, in double precision and as simple as possible: one sequence at a
//! time, no packing, no gradients. The engine's gradients are checked against finite differences of these losses.

use std::collections::BTreeMap;

use crate::deep::loss::Loss;
use crate::deep::parameters::{Activation, ParameterSet};
use crate::deep::pooling::{Pooling, PoolingKind};
use etcbench_feature::PAD;

/// Parameters by name.
pub(super) type Parameters = BTreeMap<String, Vec<f64>>;

pub(super) fn parameters(set: &ParameterSet) -> Parameters {
    let double = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect();
    set.iter().map(|(name, parameter)| (name.to_owned(), double(&parameter.values))).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn linear(parameters: &Parameters, weight: &str, bias: &str, x: &[f64]) -> Vec<f64> {
    let rows = parameters[weight].chunks_exact(x.len()).zip(&parameters[bias]);
    rows.map(|(row, bias)| bias + row.iter().zip(x).map(|(weight, x)| weight * x).sum::<f64>()).collect()
}

fn lstm(parameters: &Parameters, name: &str, inputs: &[Vec<f64>], activation: Activation) -> Vec<Vec<f64>> {
    let activate = |x: f64| if activation == Activation::Tanh { x.tanh() } else { x.max(0.0) };
    let size = parameters[&format!("{name}.bias")].len() / 4;
    let recurrent = &parameters[&format!("{name}.weight_hh")];
    let (mut hidden, mut cell) = (vec![0.0; size], vec![0.0; size]);
    let step = |x: &Vec<f64>| {
        let mut gates = linear(parameters, &format!("{name}.weight_ih"), &format!("{name}.bias"), x);
        for (gate, row) in gates.iter_mut().zip(recurrent.chunks_exact(size)) {
            *gate += row.iter().zip(&hidden).map(|(weight, hidden)| weight * hidden).sum::<f64>();
        }
        for unit in 0..size {
            let gate = |which: usize| gates[which * size + unit];
            cell[unit] = sigmoid(gate(1)) * cell[unit] + sigmoid(gate(0)) * activate(gate(2));
            hidden[unit] = sigmoid(gate(3)) * activate(cell[unit]);
        }
        hidden.clone()
    };
    inputs.iter().map(step).collect()
}

fn cross_entropy(logits: &[f64], target: usize) -> f64 {
    logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[target]
}

/// Returns each direction's input: the packet from its start, and from its end.
fn directions(tokens: &[u16]) -> [(&'static str, Vec<usize>); 2] {
    let packet: Vec<usize> = tokens.iter().filter(|&&token| token != PAD).map(|&token| token.into()).collect();
    let reversed = packet.iter().rev().copied().collect();
    [("forward", packet), ("backward", reversed)]
}

/// Returns the embedding of a packet in the order in which a direction reads it, followed by the states of its layers.
fn states(parameters: &Parameters, layers: usize, hidden: usize, name: &str, packet: &[usize]) -> Vec<Vec<Vec<f64>>> {
    let embedding = &parameters["elmo.embedding.weight"];
    let row = |table: &[f64], at: usize| table[at * hidden..(at + 1) * hidden].to_vec();
    let mut embedded: Vec<Vec<f64>> = packet.iter().map(|&token| row(embedding, token)).collect();
    if let Some(positions) = parameters.get("elmo.positions.weight") {
        for (step, row_of_byte) in embedded.iter_mut().enumerate() {
            let at = if name == "forward" { step } else { packet.len() - 1 - step };
            row_of_byte.iter_mut().zip(row(positions, at)).for_each(|(value, more)| *value += more);
        }
    }
    let mut found = vec![embedded];
    for layer in 0..layers {
        found.push(lstm(parameters, &format!("elmo.{name}.{layer}"), &found[layer], Activation::Tanh));
    }
    found
}

/// Computes the mean loss of ELMo on tokens `[packets, width]`.
pub(super) fn elmo_loss(parameters: &Parameters, layers: usize, hidden: usize, tokens: &[u16], width: usize) -> f64 {
    let (mut sum, mut targets) = (0.0, 0);
    for row in tokens.chunks_exact(width) {
        for (name, packet) in directions(row) {
            let top = &states(parameters, layers, hidden, name, &packet)[layers];
            for (state, &next) in top.iter().zip(&packet[1..]) {
                sum += cross_entropy(&linear(parameters, "elmo.head.weight", "elmo.head.bias", state), next);
                targets += 1;
            }
        }
    }
    sum / f64::from(targets)
}

/// Computes the encoding of a packet, `[layers + 1, 2, slots, hidden]`.
pub(super) fn encoding(
    parameters: &Parameters,
    layers: usize,
    hidden: usize,
    pooling: Pooling,
    tokens: &[u16],
) -> Vec<f64> {
    let of_direction = directions(tokens).map(|(name, packet)| states(parameters, layers, hidden, name, &packet));
    let mut found = Vec::new();
    for layer in 0..=layers {
        for (direction, states) in of_direction.iter().enumerate() {
            // By the bytes' positions in the packet.
            let mut states = states[layer].clone();
            if direction == 1 {
                states.reverse();
            }
            let parts: Vec<&[Vec<f64>]> = match pooling.kind {
                PoolingKind::Mean | PoolingKind::Maximum => vec![&states],
                PoolingKind::Last if direction == 0 => vec![&states[states.len() - 1..]],
                PoolingKind::Last => vec![&states[..1]],
                PoolingKind::Segments | PoolingKind::Attention | PoolingKind::States => {
                    let parts = states.chunks(pooling.slot_bytes).chain(std::iter::repeat(&[][..]));
                    parts.take(pooling.slots).collect()
                }
            };
            for (part, column) in parts.into_iter().flat_map(|part| (0..hidden).map(move |column| (part, column))) {
                let values = part.iter().map(|state| state[column]);
                found.push(match pooling.kind {
                    PoolingKind::Maximum => values.fold(f64::NEG_INFINITY, f64::max),
                    _ => values.sum::<f64>() / part.len().max(1) as f64,
                });
            }
        }
    }
    found
}

fn batch_norm(parameters: &Parameters, name: &str, flows: &mut [Vec<Vec<f64>>]) {
    let (weight, bias) = (&parameters[&format!("{name}.weight")], &parameters[&format!("{name}.bias")]);
    for column in 0..weight.len() {
        let values: Vec<f64> = flows.iter().flatten().map(|row| row[column]).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        for row in flows.iter_mut().flatten() {
            row[column] = (row[column] - mean) / (variance + 1e-5).sqrt() * weight[column] + bias[column];
        }
    }
}

/// A classifier's batch: layers `[flows, packets, mixed layers, columns]`.
pub(super) struct Flows<'a> {
    pub layers: &'a [f64],
    pub counts: &'a [u32],
    pub labels: &'a [u32],
    pub columns: usize,
    pub loss: &'a Loss,
    /// Pooling left to the classifier: its kind, the slots per packet, and how many of them have bytes, `[flows,
    /// packets]`.
    pub left: Option<(PoolingKind, usize, &'a [u32])>,
}

/// Returns a packet's steps for the LSTM, from its mixed layers `[2, slots, hidden]`.
fn steps_of(parameters: &Parameters, mixed: Vec<f64>, left: Option<(PoolingKind, usize, u32)>) -> Vec<Vec<f64>> {
    let Some((kind, slots, filled)) = left else { return vec![mixed] };
    let hidden = mixed.len() / (2 * slots);
    let half = |slot: usize, direction: usize| &mixed[(direction * slots + slot) * hidden..][..hidden];
    let rows: Vec<Vec<f64>> = (0..filled as usize).map(|slot| [half(slot, 0), half(slot, 1)].concat()).collect();
    if kind == PoolingKind::States {
        return rows;
    }
    let weight = &parameters["classifier.pooling.weight"];
    let score = |row: &Vec<f64>| row.iter().zip(weight).map(|(value, weight)| value * weight).sum::<f64>().exp();
    let scores: Vec<f64> = rows.iter().map(score).collect();
    let total = scores.iter().sum::<f64>();
    let column = |column: usize| rows.iter().zip(&scores).map(|(row, score)| score / total * row[column]).sum::<f64>();
    vec![(0..2 * hidden).map(column).collect()]
}

/// Computes the mean loss of the classifier.
pub(super) fn classifier_loss(parameters: &Parameters, activation: Activation, batch: &Flows<'_>) -> f64 {
    let weight = &parameters["classifier.mix.weight"];
    let gamma = parameters["classifier.mix.gamma"][0];
    let total = weight.iter().map(|weight| weight.exp()).sum::<f64>();
    let packets = batch.layers.len() / (batch.counts.len() * weight.len() * batch.columns);
    let mut flows = Vec::new();
    for (flow, &count) in batch.counts.iter().enumerate() {
        let mixed = |packet: usize| {
            let value = |layer: usize, column: usize| {
                let index = ((flow * packets + packet) * weight.len() + layer) * batch.columns + column;
                batch.layers[index]
            };
            let column = |column: usize| {
                gamma * (0..weight.len()).map(|layer| weight[layer].exp() / total * value(layer, column)).sum::<f64>()
            };
            (0..batch.columns).map(column).collect::<Vec<f64>>()
        };
        let left =
            |packet: usize| batch.left.map(|(kind, slots, filled)| (kind, slots, filled[flow * packets + packet]));
        let steps = (0..count as usize).flat_map(|packet| steps_of(parameters, mixed(packet), left(packet)));
        flows.push(steps.collect::<Vec<_>>());
    }
    if parameters.contains_key("classifier.norm_0.weight") {
        batch_norm(parameters, "classifier.norm_0", &mut flows);
    }
    for flow in &mut flows {
        *flow = lstm(parameters, "classifier.lstm", flow, activation);
    }
    batch_norm(parameters, "classifier.norm_1", &mut flows);
    if parameters.contains_key("classifier.norm_2.weight") {
        for flow in &mut flows {
            let project = |part: &str| {
                let name = |kind: &str| format!("classifier.attention.{part}.{kind}");
                flow.iter().map(|row| linear(parameters, &name("weight"), &name("bias"), row)).collect::<Vec<_>>()
            };
            let (query, key, value) = (project("query"), project("key"), project("value"));
            let root = (query[0].len() as f64).sqrt();
            *flow = query
                .iter()
                .map(|query| {
                    let dot =
                        |key: &Vec<f64>| query.iter().zip(key).map(|(query, key)| query * key).sum::<f64>() / root;
                    let scores: Vec<f64> = key.iter().map(|key| dot(key).exp()).collect();
                    let total = scores.iter().sum::<f64>();
                    let column = |column: usize| {
                        scores.iter().zip(&value).map(|(score, value)| score / total * value[column]).sum()
                    };
                    (0..query.len()).map(column).collect()
                })
                .collect();
        }
        batch_norm(parameters, "classifier.norm_2", &mut flows);
    }
    let loss_of = |(flow, &label): (&Vec<Vec<f64>>, &u32)| {
        let column = |column: usize| flow.iter().map(|row| row[column]).sum::<f64>() / flow.len() as f64;
        let pooled: Vec<f64> = (0..flow[0].len()).map(column).collect();
        let dense = linear(parameters, "classifier.dense.weight", "classifier.dense.bias", &pooled);
        let features: Vec<f64> = dense.into_iter().map(|value| value.max(0.0)).collect();
        let logits = linear(parameters, "classifier.output.weight", "classifier.output.bias", &features);
        let weight = |class: usize| f64::from(batch.loss.weights[class]);
        let smoothing = f64::from(batch.loss.smoothing);
        let others = (0..logits.len()).map(|class| weight(class) * cross_entropy(&logits, class)).sum::<f64>();
        let target = weight(label as usize) * cross_entropy(&logits, label as usize);
        (1.0 - smoothing) * target + smoothing / logits.len() as f64 * others
    };
    let weights = batch.labels.iter().map(|&label| f64::from(batch.loss.weights[label as usize]));
    flows.iter().zip(batch.labels).map(loss_of).sum::<f64>() / weights.sum::<f64>()
}

/// Computes central differences of `loss` for up to `most` values of a parameter, with the values' indices.
pub(super) fn differences(
    parameters: &mut Parameters,
    name: &str,
    most: usize,
    loss: &dyn Fn(&Parameters) -> f64,
) -> Vec<(usize, f64)> {
    let count = parameters[name].len();
    let step = 1e-6;
    let difference = |parameters: &mut Parameters, index: usize| {
        let mut at = |change: f64| {
            let values = parameters.get_mut(name).expect("the name is a parameter's");
            let value = values[index];
            values[index] = value + change;
            let found = loss(parameters);
            parameters.get_mut(name).expect("the name is a parameter's")[index] = value;
            found
        };
        (index, (at(step) - at(-step)) / (2.0 * step))
    };
    (0..count).step_by(count.div_ceil(most)).map(|index| difference(parameters, index)).collect()
}
