//! The classifier over a flow's encoded packets: layer mix, LSTM, normalisation, self-attention,
//! normalisation, mean over packets, two linear layers.

use std::collections::BTreeMap;

use dfdx::prelude::*;

use super::graph::{Graph, Matrix, NamedGradients, Node};
use super::layers::{
    BatchStatistics, Mask, attention, batch_norm, cross_entropy, linear, lstm, running_norm, softmax,
    weighted_cross_entropy,
};
use super::optimiser::{Adam, first_not_finite};
use super::stacks::Stacks;
use crate::ModelError;
use crate::deep::engine::{
    BatchLoss, ByteBatch, DropoutPlace, JointClassifier, NORM_MOMENTUM, NOT_FINITE, OptimiserState, PacketBatch,
    PacketEncoder, Resumable, SequenceClassifier, TRAINING, diverged, dropout_factor, statistics_share,
};
use crate::deep::loss::Loss;
use crate::deep::parameters::{
    AttentionLstmOptions, MODEL, Normalisation, ParameterSet, classifier_specifications, encoder_specifications,
    rate_factors,
};
use crate::deep::pooling::{Pooling, PoolingKind};
use etcbench_feature::PAD;
use etcbench_storage::seed;

/// Creates the classifier on the CPU with a copy of `parameters`.
///
/// # Errors
/// The parameters' shapes do not match `options`.
pub(crate) fn classifier(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    seed: u64,
) -> Result<Box<dyn SequenceClassifier>, ModelError> {
    Ok(Box::new(Reference::new(Cpu::default(), options, parameters, seed)?))
}

/// Same as [`classifier`] on any device; a GPU requires the Cargo feature `dfdx-cuda`.
///
/// # Errors
/// Same as [`classifier`], or the device is not available.
pub(crate) fn classifier_on(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    seed: u64,
    device: crate::Device,
) -> Result<Box<dyn SequenceClassifier>, ModelError> {
    match device {
        crate::Device::Cpu => classifier(options, parameters, seed),
        #[cfg(feature = "dfdx-cuda")]
        crate::Device::Cuda(card) => Ok(Box::new(Reference::new(super::cuda(card)?, options, parameters, seed)?)),
        #[cfg(not(feature = "dfdx-cuda"))]
        crate::Device::Cuda(card) => Err(super::no_cuda(card)),
    }
}

/// Creates the classifier with its ELMo, to be trained together, on the CPU; `parameters` are those of both.
///
/// # Errors
/// Same as [`classifier`].
pub(crate) fn joint_classifier(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    seed: u64,
) -> Result<Box<dyn JointClassifier>, ModelError> {
    Ok(Box::new(Reference::joint(Cpu::default(), options, parameters, seed)?))
}

/// Same as [`joint_classifier`] on any device; a GPU requires the Cargo feature `dfdx-cuda`.
///
/// # Errors
/// Same as [`classifier_on`].
pub(crate) fn joint_classifier_on(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    seed: u64,
    device: crate::Device,
) -> Result<Box<dyn JointClassifier>, ModelError> {
    match device {
        crate::Device::Cpu => joint_classifier(options, parameters, seed),
        #[cfg(feature = "dfdx-cuda")]
        crate::Device::Cuda(card) => Ok(Box::new(Reference::joint(super::cuda(card)?, options, parameters, seed)?)),
        #[cfg(not(feature = "dfdx-cuda"))]
        crate::Device::Cuda(card) => Err(super::no_cuda(card)),
    }
}

/// Returns the gradients of a batch's mean loss by name.
#[cfg(test)]
pub(crate) fn gradients(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    batch: &PacketBatch<'_>,
    labels: &[u32],
    class_weights: &[f32],
) -> Result<NamedGradients, ModelError> {
    let mut model = Reference::new(Cpu::default(), options, parameters, 0)?;
    model.weigh(class_weights)?;
    Ok(model.gradients(&Packets::Encoded(batch), labels)?.1)
}

/// Returns the gradients of classifier and ELMo.
#[cfg(test)]
pub(crate) fn joint_gradients(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    batch: &ByteBatch<'_>,
    labels: &[u32],
) -> Result<NamedGradients, ModelError> {
    let model = Reference::joint(Cpu::default(), options, parameters, 0)?;
    Ok(model.gradients(&Packets::Bytes(batch), labels)?.1)
}

struct Reference<D> {
    device: D,
    options: AttentionLstmOptions,
    /// The stacks of the ELMo if it is trained too.
    stacks: Option<Stacks>,
    /// Factors for the learning rates of the ELMo's parameters.
    rates: BTreeMap<String, f32>,
    classes: usize,
    loss: Loss,
    parameters: ParameterSet,
    optimiser: Adam,
    dropout_seed: u64,
    dead: Vec<&'static str>,
}

/// Statistics of the batch by name of the normalisation, for the update of the running statistics.
type Statistics = Vec<(&'static str, BatchStatistics)>;

/// The LSTM's input for a batch.
struct Steps<D: Device<f32>> {
    /// `[steps * flows, packet_size]`.
    values: Matrix<D>,
    /// Which of the values are valid.
    mask: Mask,
    /// The packet of each valid step, by flow.
    packet_of: Vec<Vec<usize>>,
}

/// The packets of a batch: encoded, or as bytes in training together with the ELMo.
enum Packets<'a> {
    Encoded(&'a PacketBatch<'a>),
    Bytes(&'a ByteBatch<'a>),
}

impl Packets<'_> {
    fn counts(&self) -> &[u32] {
        match self {
            Self::Encoded(batch) => batch.counts,
            Self::Bytes(batch) => batch.counts,
        }
    }
}

fn invalid<T>(problem: String) -> Result<T, ModelError> {
    Err(ModelError::Data { model: MODEL.to_owned(), problem })
}

impl<D: Device<f32>> Reference<D> {
    fn new(
        device: D,
        options: &AttentionLstmOptions,
        parameters: &ParameterSet,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let classes = parameters.shape("classifier.output.bias")?[0];
        parameters.check(&classifier_specifications(options, classes))?;
        Ok(Self {
            device,
            options: options.clone(),
            stacks: None,
            rates: BTreeMap::new(),
            classes,
            loss: Loss::unweighted(classes, options.label_smoothing),
            parameters: parameters.clone(),
            optimiser: Adam::new(options.clip_norm, options.weight_decay, options.averaging()),
            dropout_seed: seed::derive(seed, "dropout"),
            dead: Vec::new(),
        })
    }

    /// Creates the classifier with an ELMo; `parameters` are those of both.
    fn joint(
        device: D,
        options: &AttentionLstmOptions,
        parameters: &ParameterSet,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let stacks = Stacks::new(&options.elmo, parameters, seed)?;
        let encoder = encoder_specifications(&options.elmo, stacks.vocabulary, stacks.positions);
        parameters.check(&encoder)?;
        let rates = rate_factors(options, &encoder);
        Ok(Self { stacks: Some(stacks), rates, ..Self::new(device, options, parameters, seed)? })
    }

    /// Returns the layers of every packet position of a batch, shape `[N * flows, layers * size]`, and a mask of the
    /// positions with a packet. [`Packets::Bytes`] occurs only in training.
    fn layers(&self, graph: &mut Graph<'_, D>, packets: &Packets<'_>) -> Result<(Matrix<D>, Mask), ModelError> {
        let size = (self.options.elmo.layers + 1) * self.options.encoded_size();
        let flows = packets.counts().len();
        let counts = packets.counts().iter().map(|&count| count as usize).collect::<Vec<_>>();
        match packets {
            Packets::Encoded(batch) => {
                let most = batch.most(size)?;
                let mut values = vec![0.0; most * flows * size];
                for (flow, &count) in counts.iter().enumerate() {
                    for packet in 0..count {
                        let (from, to) = (batch.place(most, flow, packet) * size, (packet * flows + flow) * size);
                        values[to..to + size].copy_from_slice(&batch.layers[from..from + size]);
                    }
                }
                Ok((graph.constant(values, (most * flows, size)), Mask { steps: most, lengths: counts }))
            }
            Packets::Bytes(batch) => {
                let (most, all) = (batch.most.max(1), batch.packets());
                if flows == 0 || counts.iter().any(|&count| count > batch.most) {
                    return invalid(format!("the packets do not fill a batch of {flows} flows"));
                }
                let lengths = counts.iter().map(|&count| count.max(1)).collect();
                let Some(stacks) = self.stacks.as_ref().filter(|_| all > 0) else {
                    let zeros = graph.constant(vec![0.0; most * flows * size], (most * flows, size));
                    return Ok((zeros, Mask { steps: most, lengths }));
                };
                let mask = stacks.mask(batch.tokens, all)?;
                let encodings =
                    stacks.encodings(graph, batch.tokens, &mask, batch.pooling, Some(self.optimiser.steps))?;
                let mut starts = vec![0];
                starts.extend(counts.iter().scan(0, |next, count| {
                    *next += count;
                    Some(*next)
                }));
                // Positions without a packet read any packet and are multiplied by 0.
                let places = (0..most).flat_map(|packet| (0..flows).map(move |flow| (flow, packet)));
                let packet_of = |(flow, packet): (usize, usize)| (packet < counts[flow]).then(|| starts[flow] + packet);
                let sources = places.map(packet_of).collect::<Vec<_>>();
                let present = sources.iter().map(|source| if source.is_some() { 1.0 } else { 0.0 }).collect();
                let present = graph.constant(present, (most * flows,));
                let sources = graph.indices(sources.into_iter().map(Option::unwrap_or_default).collect());
                let layers: Matrix<D> = encodings.gather(sources);
                let layers = layers * present.broadcast_like::<_, Axis<1>>(&(most * flows, size));
                Ok((layers, Mask { steps: most, lengths }))
            }
        }
    }

    /// Returns the number of slots with bytes of each packet of a batch, by flow.
    fn slots(&self, packets: &Packets<'_>) -> Result<Vec<Vec<usize>>, ModelError> {
        let counts = packets.counts().iter().map(|&count| count as usize);
        match packets {
            Packets::Encoded(batch) => {
                let size = (self.options.elmo.layers + 1) * self.options.encoded_size();
                if batch.slots.len() * size != batch.layers.len() {
                    return invalid(format!("slot counts of {} packets do not fit the batch", batch.slots.len()));
                }
                let most = batch.most(size)?;
                let slots = |flow, packet| batch.slots[batch.place(most, flow, packet)] as usize;
                let of_flow =
                    |(flow, count): (usize, usize)| (0..count).map(|packet| slots(flow, packet)).collect::<Vec<_>>();
                Ok(counts.enumerate().map(of_flow).collect())
            }
            Packets::Bytes(batch) => {
                let width = batch.tokens.len() / batch.packets().max(1);
                let length = |packet: &[u16]| packet.iter().filter(|&&token| token != PAD).count();
                let mut lengths = batch.tokens.chunks_exact(width.max(1)).map(length);
                let mut next = || batch.pooling.filled(lengths.next().unwrap_or_default()) as usize;
                // A flow without packets counts as one packet whose vector is 0.
                Ok(counts
                    .map(|count| if count == 0 { vec![1] } else { (0..count).map(|_| next()).collect() })
                    .collect())
            }
        }
    }

    /// Computes the part of the pooling that is left to the classifier.
    fn pool(
        &self,
        graph: &mut Graph<'_, D>,
        packets: &Packets<'_>,
        mixed: Matrix<D>,
        mask: Mask,
    ) -> Result<Steps<D>, ModelError> {
        let (slots, hidden) = (self.options.slots(), self.options.elmo.hidden);
        let (most, flows) = (mask.steps, mask.rows());
        let packet_of = mask.lengths.iter().map(|&length| (0..length).collect()).collect();
        if !self.options.pooling.leaves_slots() {
            return Ok(Steps { values: mixed, mask, packet_of });
        }
        let filled = self.slots(packets)?;
        // Rows with both directions of a slot, by packet position and then by slot.
        let by_direction = mixed.reshape_like(&(most * flows, 2, slots * hidden));
        let by_slot = by_direction.reshape_like(&(most * flows, 2, slots, hidden)).permute::<_, Axes4<0, 2, 1, 3>>();
        let rows: Matrix<D> = by_slot.reshape_like(&(most * flows * slots, 2 * hidden));
        if self.options.pooling == PoolingKind::States {
            let lengths = filled.iter().map(|slots| slots.iter().sum()).collect::<Vec<usize>>();
            let steps = most * slots;
            let in_order = |filled: &Vec<usize>| {
                filled
                    .iter()
                    .enumerate()
                    .flat_map(|(packet, &slots)| (0..slots).map(move |slot| (packet, slot)))
                    .collect()
            };
            let order: Vec<Vec<(usize, usize)>> = filled.iter().map(in_order).collect();
            let places = (0..steps).flat_map(|step| (0..flows).map(move |flow| (step, flow)));
            let source = |(step, flow): (usize, usize)| {
                order[flow].get(step).map_or(0, |&(packet, slot)| (packet * flows + flow) * slots + slot)
            };
            let mask = Mask { steps, lengths };
            let gathered: Matrix<D> = rows.gather(graph.indices(places.map(source).collect()));
            let packet_of = order.iter().map(|steps| steps.iter().map(|&(packet, _)| packet).collect()).collect();
            return Ok(Steps { values: gathered * mask.matrix(graph, 2 * hidden), mask, packet_of });
        }
        let weight = graph.parameter("classifier.pooling.weight", (2 * hidden,))?;
        let scores = rows.clone().matmul(weight.reshape_like(&(2 * hidden, 1))).reshape_like(&(most * flows, slots));
        // Positions without a packet have one slot of 0, like packets without bytes.
        let mut hide = vec![f32::NEG_INFINITY; most * flows * slots];
        for packet in 0..most {
            for (flow, filled) in filled.iter().enumerate() {
                let first = (packet * flows + flow) * slots;
                hide[first..first + filled.get(packet).copied().unwrap_or(1)].fill(0.0);
            }
        }
        let scores = scores + graph.constant(hide, (most * flows, slots));
        let shares = softmax(scores.reshape_like(&(most * flows, 1, slots)));
        let pooled = shares.matmul(rows.reshape_like(&(most * flows, slots, 2 * hidden)));
        Ok(Steps { values: pooled.reshape_like(&(most * flows, 2 * hidden)), mask, packet_of })
    }

    /// Returns the metadata of all steps of a batch, shape `[steps * flows, metadata]`; 0 at padded steps.
    fn metadata(
        &self,
        graph: &Graph<'_, D>,
        packets: &Packets<'_>,
        mask: &Mask,
        packet_of: &[Vec<usize>],
    ) -> Result<Matrix<D>, ModelError> {
        let metadata = match packets {
            Packets::Encoded(batch) => batch.metadata,
            Packets::Bytes(batch) => batch.metadata,
        };
        let (beside, steps, flows) = (self.options.packet_metadata.len(), mask.steps, mask.rows());
        let most = if self.options.pooling == PoolingKind::States { steps / self.options.slots() } else { steps };
        if metadata.len() != flows * most * beside {
            return invalid(format!("{} metadata values do not fit a batch of {flows} flows", metadata.len()));
        }
        let mut values = vec![0.0; steps * flows * beside];
        for (flow, packets) in packet_of.iter().enumerate() {
            for (step, packet) in packets.iter().enumerate() {
                let (from, to) = ((flow * most + packet) * beside, (step * flows + flow) * beside);
                values[to..to + beside].copy_from_slice(&metadata[from..from + beside]);
            }
        }
        Ok(graph.constant(values, (steps * flows, beside)))
    }

    /// Computes the logits, shape `[flows, classes]`. Normalises by the batch's statistics and collects them if
    /// `statistics` is given, else by the running statistics; `dropping` enables dropout.
    fn logits(
        &self,
        graph: &mut Graph<'_, D>,
        given: &Packets<'_>,
        mut statistics: Option<&mut Statistics>,
        dropping: bool,
    ) -> Result<Matrix<D>, ModelError> {
        let AttentionLstmOptions { lstm: hidden, dense, .. } = self.options;
        let size = self.options.step_size();
        let (layers, mask) = self.layers(graph, given)?;

        let mut normalise = |graph: &mut Graph<'_, D>, name: &'static str, values, mask: &Mask| match &mut statistics {
            Some(statistics) => {
                let (values, found) = batch_norm(graph, name, values, mask)?;
                statistics.push((name, found));
                Ok::<_, ModelError>(values)
            }
            None => running_norm(graph, name, values, mask),
        };
        let mixed = self.mix(graph, layers)?;
        let Steps { mut values, mask, packet_of } = self.pool(graph, given, mixed, mask)?;
        let (packets, flows) = (mask.steps, mask.rows());
        if !self.options.packet_metadata.is_empty() {
            values = (values, self.metadata(graph, given, &mask, &packet_of)?).concat_along(Axis::<1>);
        }
        if self.options.normalisation == Normalisation::Batch {
            values = normalise(graph, "classifier.norm_0", values, &mask)?;
        }
        if dropping {
            values = values * self.dropout(graph, DropoutPlace::Packets, (packets, flows, size));
        }
        let name = "classifier.lstm";
        values = lstm(graph, name, values, hidden, &mask, false, self.options.activation)?;
        values = normalise(graph, "classifier.norm_1", values, &mask)?;
        if self.options.attention {
            values = attention(graph, "classifier.attention", values, &mask)?;
            values = normalise(graph, "classifier.norm_2", values, &mask)?;
        }
        let inverse = mask.lengths.iter().map(|&length| 1.0 / length as f32).collect();
        let inverse = graph.constant(inverse, (flows,)).broadcast_like::<_, Axis<1>>(&(flows, hidden));
        let pooled = values.reshape_like(&(packets, flows, hidden)).sum::<_, Axis<0>>() * inverse;
        let mut features = linear(graph, "classifier.dense", pooled, dense)?.relu();
        if dropping {
            features = features * self.dropout(graph, DropoutPlace::Dense, (1, flows, dense));
        }
        linear(graph, "classifier.output", features, self.classes)
    }

    /// `gamma * sum_j softmax(weight)_j * layer_j`, shape `[N * flows, size]` (Peters et al. 2018, equation 1).
    fn mix(&self, graph: &mut Graph<'_, D>, values: Matrix<D>) -> Result<Matrix<D>, ModelError> {
        let (size, layers) = (self.options.encoded_size(), self.options.elmo.layers + 1);
        let places = values.shape().0;
        let weight = graph.parameter("classifier.mix.weight", (layers,))?;
        let gamma = graph.parameter("classifier.mix.gamma", (1,))?;
        let exponentials = weight.exp();
        let sum = exponentials.clone().sum::<(), _>().broadcast_like::<_, Axis<0>>(&(layers,));
        let share = exponentials / sum * gamma.sum::<(), _>().broadcast_like::<_, Axis<0>>(&(layers,));
        // One column per layer, so that the mix is a matrix product with the shares.
        let by_layer = values.reshape_like(&(places, layers, size)).permute::<_, Axes3<0, 2, 1>>();
        let columns = by_layer.reshape_like(&(places * size, layers));
        Ok(columns.matmul(share.reshape_like(&(layers, 1))).reshape_like(&(places, size)))
    }

    /// Returns the dropout factors of a tensor `[rows, steps, size]`, laid out as `[steps * rows, size]`.
    fn dropout(
        &self,
        graph: &Graph<'_, D>,
        place: DropoutPlace,
        (steps, rows, size): (usize, usize, usize),
    ) -> Matrix<D> {
        let (seed, step, rate) = (self.dropout_seed, self.optimiser.steps, self.options.dropout);
        let factors = (0..steps)
            .flat_map(|step| (0..rows).map(move |row| (row * steps + step) * size))
            .flat_map(|start| start..start + size)
            .map(|index| dropout_factor(seed, step, place, index as u64, rate))
            .collect();
        graph.constant(factors, (steps * rows, size))
    }

    /// Returns the loss, the gradients of its mean over flows, and the statistics of the normalisations.
    fn gradients(
        &self,
        packets: &Packets<'_>,
        labels: &[u32],
    ) -> Result<(BatchLoss, NamedGradients, Statistics), ModelError> {
        let targets = labels.iter().map(|&label| label as usize).collect::<Vec<_>>();
        let flows = packets.counts().len();
        if targets.len() != flows || targets.iter().any(|&label| label >= self.classes) {
            return invalid(format!("a batch of {flows} flows needs as many labels, each below {}", self.classes));
        }
        let mut statistics = Vec::new();
        let mut graph = Graph::recording(&self.device, &self.parameters);
        let logits = self.logits(&mut graph, packets, Some(&mut statistics), true)?;
        let summed = |losses: &Node<(usize,), D>| losses.as_vec().iter().map(|&value| f64::from(value)).sum::<f64>();
        let (sum, mean) = if self.loss.is_plain() {
            let losses = cross_entropy(&graph, logits, targets);
            (summed(&losses), losses.sum() / flows as f32)
        } else {
            let total = self.loss.total(labels);
            let losses = weighted_cross_entropy(&graph, logits, &targets, &self.loss);
            (summed(&losses) * flows as f64 / total, losses.sum() / total as f32)
        };
        let gradients = graph.backward(mean);
        Ok((BatchLoss { sum, targets: flows as u64 }, gradients, statistics))
    }

    /// Returns the number of rows that the normalisations cover.
    fn rows(&self, packets: &Packets<'_>) -> Result<usize, ModelError> {
        if self.options.pooling == PoolingKind::States {
            return Ok(self.slots(packets)?.into_iter().flatten().sum());
        }
        Ok(packets.counts().iter().map(|&count| count.max(1) as usize).sum())
    }

    /// Moves the running statistics towards those of a batch by `share` of the difference.
    fn update_running(&mut self, statistics: &Statistics, rows: usize, share: f32) {
        let unbiased = rows as f32 / (rows.max(2) - 1) as f32;
        for (name, found) in statistics {
            for (part, new, factor) in [("running_mean", &found.mean, 1.0), ("running_var", &found.variance, unbiased)]
            {
                let values = self.parameters.values_mut(&format!("{name}.{part}")).expect("checked when built");
                for (value, new) in values.iter_mut().zip(new) {
                    *value = (1.0 - share) * *value + share * new * factor;
                }
            }
        }
    }

    fn step(&mut self, packets: &Packets<'_>, labels: &[u32], learning_rate: f32) -> Result<BatchLoss, ModelError> {
        let (loss, gradients, statistics) = self.gradients(packets, labels)?;
        let rows = self.rows(packets)?;
        if !loss.sum.is_finite() {
            return Err(diverged(TRAINING, first_not_finite(&self.parameters, "classifier.output"), NOT_FINITE));
        }
        // No gradient reaches the weights before a rectifier that outputs only 0.
        let dead = |layer: &str, weight: &str| {
            let name = format!("{layer}.{weight}");
            gradients.iter().any(|(found, values)| *found == name && values.iter().all(|&value| value == 0.0))
        };
        // Gradients are then 0 for all earlier layers too, and everywhere if every flow is classified with certainty.
        let layers = [("classifier.dense", "weight"), ("classifier.lstm", "weight_ih")];
        let nearest = layers.into_iter().find(|(layer, weight)| loss.sum > 0.0 && dead(layer, weight));
        self.dead = nearest.map(|(layer, _)| layer).into_iter().collect();
        let rate = |name: &str| learning_rate * self.rates.get(name).copied().unwrap_or(1.0);
        self.optimiser.update(TRAINING, &mut self.parameters, gradients, rate)?;
        self.update_running(&statistics, rows, NORM_MOMENTUM);
        self.optimiser.average(&self.parameters);
        Ok(loss)
    }

    fn weigh(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        if weights.len() != self.classes {
            return invalid(format!("{} weights for {} classes", weights.len(), self.classes));
        }
        self.loss.weights = weights.to_vec();
        Ok(())
    }

    fn collect(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError> {
        let packets = Packets::Encoded(batch);
        let rows = self.rows(&packets)?;
        let mut statistics = Vec::new();
        let mut graph = Graph::inference(&self.device, &self.parameters);
        self.logits(&mut graph, &packets, Some(&mut statistics), false)?;
        self.update_running(&statistics, rows, statistics_share(rows as u64, before));
        Ok(rows as u64)
    }

    fn probabilities_of(&self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError> {
        let mut graph = Graph::inference(&self.device, &self.parameters);
        let logits = self.logits(&mut graph, &Packets::Encoded(batch), None, false)?;
        for (row, logits) in output.chunks_exact_mut(self.classes).zip(logits.as_vec().chunks_exact(self.classes)) {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exponentials = logits.iter().map(|logit| (logit - largest).exp()).collect::<Vec<_>>();
            let sum = exponentials.iter().sum::<f32>();
            row.iter_mut().zip(exponentials).for_each(|(value, exponential)| *value = exponential / sum);
        }
        Ok(())
    }
}

impl<D: Device<f32>> SequenceClassifier for Reference<D> {
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        self.weigh(weights)
    }

    fn train_step(&mut self, batch: &PacketBatch<'_>, labels: &[u32], rate: f32) -> Result<BatchLoss, ModelError> {
        self.step(&Packets::Encoded(batch), labels, rate)
    }

    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError> {
        self.probabilities_of(batch, output)
    }

    fn collect_statistics(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError> {
        self.collect(batch, before)
    }

    fn dead_layers(&mut self) -> Vec<&'static str> {
        self.dead.clone()
    }
}

impl<D: Device<f32>> JointClassifier for Reference<D> {
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        self.weigh(weights)
    }

    fn train_step(&mut self, batch: &ByteBatch<'_>, labels: &[u32], rate: f32) -> Result<BatchLoss, ModelError> {
        self.step(&Packets::Bytes(batch), labels, rate)
    }

    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError> {
        self.probabilities_of(batch, output)
    }

    fn collect_statistics(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError> {
        self.collect(batch, before)
    }

    fn dead_layers(&mut self) -> Vec<&'static str> {
        self.dead.clone()
    }
}

impl<D: Device<f32>> PacketEncoder for Reference<D> {
    fn encode(
        &mut self,
        tokens: &[u16],
        packets: usize,
        pooling: Pooling,
        output: &mut [f32],
    ) -> Result<(), ModelError> {
        let Some(stacks) = &self.stacks else {
            return invalid("a classifier without an ELMo cannot encode packets".to_owned());
        };
        let mask = stacks.mask(tokens, packets)?;
        let mut graph = Graph::inference(&self.device, &self.parameters);
        output.copy_from_slice(&stacks.encodings(&mut graph, tokens, &mask, pooling, None)?.as_vec());
        Ok(())
    }
}

impl<D: Device<f32>> Resumable for Reference<D> {
    fn parameters(&self) -> ParameterSet {
        self.parameters.clone()
    }

    fn optimiser_state(&mut self) -> OptimiserState {
        self.optimiser.state(&self.parameters)
    }

    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError> {
        self.optimiser.set_state(&self.parameters, state)
    }

    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError> {
        parameters.check(&classifier_specifications(&self.options, self.classes))?;
        if let Some(Stacks { options, vocabulary, positions, .. }) = &self.stacks {
            parameters.check(&encoder_specifications(options, *vocabulary, *positions))?;
        }
        self.parameters = parameters.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deep::golden;

    #[test]
    fn losses_parameters_and_probabilities_are_those_of_pytorch() {
        golden::check_classifier(&classifier);
    }

    #[test]
    fn joint_training_equals_that_of_pytorch() {
        golden::check_joint(&joint_classifier);
        let golden = golden::Golden::read();
        for (case, options) in golden::joint_cases() {
            let (tokens, counts, labels) = golden.byte_flows(case, 0);
            let batch = ByteBatch {
                tokens: &tokens,
                counts: &counts,
                metadata: &[],
                most: 3,
                pooling: options.pooling_of(golden::BYTES),
            };
            let gradients = joint_gradients(&options, &golden.classifier_parameters(case), &batch, &labels).unwrap();
            golden.check_gradients(case, &gradients);
        }
    }

    #[test]
    fn gradients_are_those_of_pytorch() {
        let golden = golden::Golden::read();
        for (case, options) in golden::classifier_cases() {
            let parameters = golden.classifier_parameters(case);
            let mut model = Reference::new(Cpu::default(), &options, &parameters, 0).unwrap();
            if let Some(weights) = golden.class_weights(case) {
                model.weigh(weights).unwrap();
            }
            let (layers, counts, labels, metadata) = golden.flows(case, 0);
            let batch = PacketBatch { metadata: &metadata, ..PacketBatch::whole(&layers, &counts) };
            let (_, gradients, _) = model.gradients(&Packets::Encoded(&batch), &labels).unwrap();
            golden.check_gradients(case, &gradients);
        }
    }

    #[test]
    fn padded_packets_are_ignored_and_bad_batches_are_errors() {
        let golden = golden::Golden::read();
        let (case, options) = golden::classifier_cases().remove(0);
        let mut model = classifier(&options, &golden.classifier_parameters(case), 0).unwrap();
        let (mut layers, counts, labels, _) = golden.flows(case, 0);
        let mut outputs = [vec![0.0; labels.len() * 3], vec![0.0; labels.len() * 3]];
        for output in &mut outputs {
            let batch = PacketBatch::whole(&layers, &counts);
            model.probabilities(&batch, output).unwrap();
            // The first flow has one packet: overwrite its second.
            layers[48..96].fill(7.0);
        }
        assert_eq!(outputs[0], outputs[1]);
        assert!(outputs[0].chunks_exact(3).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-6));
        let batch = PacketBatch::whole(&layers, &counts);
        assert!(model.train_step(&batch, &[0, 1, 3, 0], 0.1).is_err());
        let no_packets = vec![0; counts.len()];
        assert!(model.probabilities(&PacketBatch { counts: &no_packets, ..batch }, &mut outputs[0]).is_err());
    }
}
