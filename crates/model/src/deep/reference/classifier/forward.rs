//! The forward pass of the classifier: layer mix, pooling, metadata, LSTM, normalisation, self-attention, normalisation,
//! mean over packets, two linear layers.

use dfdx::prelude::*;

use super::super::graph::{Graph, Matrix};
use super::super::layers::{BatchStatistics, Mask, attention, batch_norm, linear, lstm, running_norm, softmax};
use super::{Reference, invalid};
use crate::ModelError;
use crate::deep::engine::{ByteBatch, DropoutPlace, PacketBatch, dropout_factor};
use crate::deep::parameters::{AttentionLstmOptions, Normalisation};
use crate::deep::pooling::PoolingKind;
use etcbench_feature::PAD;

/// Statistics of the batch by name of the normalisation, for the update of the running statistics.
pub(super) type Statistics = Vec<(&'static str, BatchStatistics)>;

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
pub(super) enum Packets<'a> {
    Encoded(&'a PacketBatch<'a>),
    Bytes(&'a ByteBatch<'a>),
}

impl Packets<'_> {
    pub(super) fn counts(&self) -> &[u32] {
        match self {
            Self::Encoded(batch) => batch.counts,
            Self::Bytes(batch) => batch.counts,
        }
    }
}

impl<D: Device<f32>> Reference<D> {
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
    pub(super) fn slots(&self, packets: &Packets<'_>) -> Result<Vec<Vec<usize>>, ModelError> {
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
    pub(super) fn logits(
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
}
