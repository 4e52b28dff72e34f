//! The part of an ELMo (Peters et al. 2018) that encodes the bytes of packets: two independent stacks of LSTMs that
//! share the embedding, one reading from the left and one from the right. A packet's encoding consists of its pooled
//! states, layer by layer.

use dfdx::prelude::*;

use super::graph::{Graph, Matrix};
use super::layers::{Mask, lstm};
use crate::ModelError;
use crate::deep::engine::{DropoutPlace, dropout_factor};
use crate::deep::parameters::{Activation, ElmoOptions, MODEL, POSITIONS, ParameterSet};
use crate::deep::pooling::{Pooling, PoolingKind};
use etcbench_feature::PAD;
use etcbench_storage::seed;

/// Sizes and dropout of embedding and stacks; their parameters are those of the graph.
pub(super) struct Stacks {
    pub options: ElmoOptions,
    pub vocabulary: usize,
    /// Number of positions with an embedding; 0 without a position embedding.
    pub positions: usize,
    dropout_seed: u64,
}

/// The states of both directions by layer, each `[M * packets, hidden]`.
pub(super) struct States<D: Device<f32>> {
    pub embedded: Matrix<D>,
    pub directions: [Vec<Matrix<D>>; 2],
}

const DIRECTIONS: [&str; 2] = ["forward", "backward"];

impl Stacks {
    /// Creates stacks with the sizes of the embeddings in these parameters.
    pub(super) fn new(options: &ElmoOptions, parameters: &ParameterSet, seed: u64) -> Result<Self, ModelError> {
        let vocabulary = parameters.shape("elmo.embedding.weight")?[0];
        let positions = if options.positions { parameters.shape(POSITIONS)?[0] } else { 0 };
        Ok(Self { options: options.clone(), vocabulary, positions, dropout_seed: seed::derive(seed, "dropout") })
    }

    pub(super) fn mask(&self, tokens: &[u16], packets: usize) -> Result<Mask, ModelError> {
        let problem = |problem: String| Err(ModelError::Data { model: MODEL.to_owned(), problem });
        if packets == 0 || !tokens.len().is_multiple_of(packets) {
            return problem(format!("{} tokens are not {packets} packets of equal length", tokens.len()));
        }
        if let Some(token) = tokens.iter().find(|&&token| usize::from(token) >= self.vocabulary) {
            return problem(format!("token {token} is not in the vocabulary of {}", self.vocabulary));
        }
        let steps = tokens.len() / packets;
        if self.options.positions && steps > self.positions {
            return problem(format!(
                "packets of {steps} bytes exceed the {} positions with an embedding",
                self.positions
            ));
        }
        let length = |packet: &[u16]| packet.iter().position(|&token| token == PAD).unwrap_or(packet.len());
        let lengths = tokens.chunks_exact(steps.max(1)).map(length).collect::<Vec<_>>();
        if lengths.len() != packets || lengths.contains(&0) {
            return problem("a packet without bytes reached the language model".to_owned());
        }
        Ok(Mask { steps, lengths })
    }

    /// Runs both stacks; `step` is the training step for dropout.
    pub(super) fn states<D: Device<f32>>(
        &self,
        graph: &mut Graph<'_, D>,
        tokens: &[u16],
        mask: &Mask,
        step: Option<u64>,
    ) -> Result<States<D>, ModelError> {
        let ElmoOptions { embedding, hidden, layers, .. } = self.options;
        let packets = mask.rows();
        let by_step = (0..mask.steps)
            .flat_map(|step| (0..packets).map(move |packet| usize::from(tokens[packet * mask.steps + step])))
            .collect();
        let table = graph.parameter("elmo.embedding.weight", (self.vocabulary, embedding))?;
        let mut embedded: Matrix<D> = table.gather(graph.indices(by_step));
        if self.options.positions {
            let positions = graph.parameter(POSITIONS, (self.positions, embedding))?;
            let by_step = (0..mask.steps).flat_map(|step| std::iter::repeat_n(step, packets)).collect();
            let positions: Matrix<D> = positions.gather(graph.indices(by_step));
            embedded = embedded + positions;
        }
        let mut directions = [Vec::new(), Vec::new()];
        for (direction, states) in directions.iter_mut().enumerate() {
            let mut input = embedded.clone();
            for layer in 0..layers {
                let name = format!("elmo.{}.{layer}", DIRECTIONS[direction]);
                let output = lstm(graph, &name, input, hidden, mask, direction == 1, Activation::Tanh)?;
                let place = DropoutPlace::Elmo { direction: direction as u32, layer: layer as u32 };
                input = match step {
                    Some(step) if self.options.dropout > 0.0 => output * self.dropout(graph, mask, place, step),
                    _ => output,
                };
                states.push(input.clone());
            }
        }
        Ok(States { embedded, directions })
    }

    fn dropout<D: Device<f32>>(&self, graph: &Graph<'_, D>, mask: &Mask, place: DropoutPlace, step: u64) -> Matrix<D> {
        let hidden = self.options.hidden;
        let mut factors = Vec::with_capacity(mask.steps * mask.rows() * hidden);
        for position in 0..mask.steps {
            for packet in 0..mask.rows() {
                let start = (packet * mask.steps + position) * hidden;
                factors.extend(
                    (start..start + hidden).map(|index| {
                        dropout_factor(self.dropout_seed, step, place, index as u64, self.options.dropout)
                    }),
                );
            }
        }
        graph.constant(factors, (mask.steps * mask.rows(), hidden))
    }

    /// Returns the pooled vectors of packets, shape `[packets, (layers + 1) * 2 * slots * hidden]`; `step` is the
    /// training step for dropout.
    pub(super) fn encodings<D: Device<f32>>(
        &self,
        graph: &mut Graph<'_, D>,
        tokens: &[u16],
        mask: &Mask,
        pooling: Pooling,
        step: Option<u64>,
    ) -> Result<Matrix<D>, ModelError> {
        let (hidden, packets) = (self.options.hidden, mask.rows());
        let States { embedded, directions: [left, right] } = self.states(graph, tokens, mask, step)?;
        let layers = std::iter::once((embedded.clone(), embedded)).chain(left.into_iter().zip(right));
        let mut pooled = Vec::new();
        for (left, right) in layers {
            for (reversed, states) in [(false, left), (true, right)] {
                for slot in 0..pooling.slots {
                    pooled.push(self.pool(graph, states.clone(), mask, pooling, reversed, slot));
                }
            }
        }
        let size = pooled.len() * hidden;
        Ok(pooled.stack().permute::<_, Axes3<1, 0, 2>>().reshape_like(&(packets, size)))
    }

    /// Returns one slot of the pooled states of a direction, `[packets, hidden]`. States are stored at the positions of
    /// their bytes in either reading direction.
    fn pool<D: Device<f32>>(
        &self,
        graph: &Graph<'_, D>,
        states: Matrix<D>,
        mask: &Mask,
        pooling: Pooling,
        reversed: bool,
        slot: usize,
    ) -> Matrix<D> {
        let (hidden, packets) = (self.options.hidden, mask.rows());
        // Positions in the packet; the reversed direction starts at the last one.
        let positions = |packet: usize| {
            let length = mask.lengths[packet];
            let steps = pooling.steps(reversed, length, slot);
            if reversed { length - steps.end..length - steps.start } else { steps }
        };
        if pooling.kind == PoolingKind::Maximum {
            let values = states.as_vec();
            let at = |position: usize, packet: usize, column: usize| (position * packets + packet) * hidden + column;
            let largest = |packet: usize, column: usize| {
                let mut steps = positions(packet).map(|position| at(position, packet, column)).collect::<Vec<_>>();
                if reversed {
                    steps.reverse();
                }
                let first = steps[0];
                steps.into_iter().fold(first, |most, other| if values[other] > values[most] { other } else { most })
            };
            let picked = (0..packets).flat_map(|packet| (0..hidden).map(move |column| (packet, column)));
            let picked = picked.map(|(packet, column)| largest(packet, column)).collect();
            let column: Matrix<D> = states.reshape_like(&(mask.steps * packets * hidden, 1));
            let found: Matrix<D> = column.gather(graph.indices(picked));
            return found.reshape_like(&(packets, hidden));
        }
        let mut weights = vec![0.0; mask.steps * packets];
        for packet in 0..packets {
            let positions = positions(packet);
            let weight = 1.0 / positions.len().max(1) as f32;
            positions.for_each(|position| weights[position * packets + packet] = weight);
        }
        let weights = graph.constant(weights, (mask.steps * packets,));
        let weighted = states * weights.broadcast_like::<_, Axis<1>>(&(mask.steps * packets, hidden));
        weighted.reshape_like(&(mask.steps, packets, hidden)).sum::<_, Axis<0>>()
    }
}
