//! ELMo (Peters et al. 2018) over the bytes of a packet as a language model: the uppermost state of each direction
//! predicts the byte that the direction reads next, through a shared head.

use dfdx::prelude::*;

use super::graph::{Graph, Matrix, NamedGradients};
use super::layers::{Mask, linear};
use super::loss::cross_entropy;
use super::optimiser::{Adam, first_not_finite};
use super::stacks::Stacks;
use crate::ModelError;
use crate::deep::engine::{
    BatchLoss, LanguageModel, NOT_FINITE, OptimiserState, PRETRAINING, PacketEncoder, Resumable, diverged,
};
use crate::deep::parameters::{ElmoOptions, ParameterSet, elmo_specifications};
use crate::deep::pooling::Pooling;

/// Creates an ELMo with a copy of `parameters`; a GPU requires the Cargo feature `dfdx-cuda`.
///
/// # Errors
/// The parameters' shapes do not match `options`, or the device is not available.
pub(crate) fn language_model(
    options: &ElmoOptions,
    parameters: &ParameterSet,
    seed: u64,
    device: crate::Device,
) -> Result<Box<dyn LanguageModel>, ModelError> {
    on_device!(device, |on| Reference::new(on, options, parameters, seed))
}

/// Returns the gradients of a batch's mean loss by name.
#[cfg(test)]
pub(crate) fn gradients(
    options: &ElmoOptions,
    parameters: &ParameterSet,
    tokens: &[u16],
    packets: usize,
) -> Result<NamedGradients, ModelError> {
    let found = Reference::new(Cpu::default(), options, parameters, 0)?.gradients(tokens, packets)?;
    Ok(found.expect("the batch has a target").1)
}

struct Reference<D> {
    device: D,
    stacks: Stacks,
    parameters: ParameterSet,
    optimiser: Adam,
}

impl<D: Device<f32>> Reference<D> {
    fn new(device: D, options: &ElmoOptions, parameters: &ParameterSet, seed: u64) -> Result<Self, ModelError> {
        let stacks = Stacks::new(options, parameters, seed)?;
        parameters.check(&elmo_specifications(options, stacks.vocabulary, stacks.positions))?;
        let optimiser = Adam::new(options.clip_norm, 0.0, None);
        Ok(Self { device, stacks, parameters: parameters.clone(), optimiser })
    }

    /// Returns the cross-entropy of every target, forward targets first, or `None` without targets.
    fn losses(
        &self,
        graph: &mut Graph<'_, D>,
        tokens: &[u16],
        mask: &Mask,
        step: Option<u64>,
    ) -> Result<Option<Node1<D>>, ModelError> {
        if mask.lengths.iter().all(|&length| length < 2) {
            return Ok(None);
        }
        let states = self.stacks.states(graph, tokens, mask, step)?;
        let packets = mask.rows();
        // A forward state at t predicts the token at t + 1, a backward state at t + 1 the one at t.
        let pairs = (0..mask.steps - 1)
            .flat_map(|step| (0..packets).map(move |packet| (step, packet)))
            .filter(|&(step, packet)| step + 1 < mask.lengths[packet])
            .collect::<Vec<_>>();
        let mut rows = Vec::new();
        let mut targets = Vec::new();
        for direction in 0..2 {
            let top = states.directions[direction].last().expect("at least one layer").clone();
            let source = pairs.iter().map(|(step, packet)| (step + direction) * packets + packet).collect();
            let picked: Matrix<D> = top.gather(graph.indices(source));
            rows.push(picked);
            targets.extend(
                pairs.iter().map(|(step, packet)| usize::from(tokens[packet * mask.steps + step + 1 - direction])),
            );
        }
        let rows = rows.stack().reshape_like(&(targets.len(), self.stacks.options.hidden));
        let logits = linear(graph, "elmo.head", rows, self.stacks.vocabulary)?;
        Ok(Some(cross_entropy(graph, logits, targets)))
    }

    /// Returns the loss and the gradients of its mean over targets, or `None` without targets.
    fn gradients(&self, tokens: &[u16], packets: usize) -> Result<Option<(BatchLoss, NamedGradients)>, ModelError> {
        let mask = self.stacks.mask(tokens, packets)?;
        let mut graph = Graph::recording(&self.device, &self.parameters);
        let Some(losses) = self.losses(&mut graph, tokens, &mask, Some(self.optimiser.steps))? else {
            return Ok(None);
        };
        let loss = batch_loss(&losses);
        Ok(Some((loss, graph.backward(losses.sum() / loss.targets as f32))))
    }
}

/// A vector of a graph.
type Node1<D> = super::graph::Node<(usize,), D>;

/// Sums in double precision, so that the sum of a large batch stays precise.
fn batch_loss<D: Device<f32>>(losses: &Node1<D>) -> BatchLoss {
    let values = losses.as_vec();
    BatchLoss { sum: values.iter().map(|&value| f64::from(value)).sum(), targets: values.len() as u64 }
}

impl<D: Device<f32>> LanguageModel for Reference<D> {
    fn train_step(&mut self, tokens: &[u16], packets: usize, learning_rate: f32) -> Result<BatchLoss, ModelError> {
        let Some((loss, gradients)) = self.gradients(tokens, packets)? else {
            return Ok(BatchLoss::default());
        };
        if !loss.sum.is_finite() {
            return Err(diverged(PRETRAINING, first_not_finite(&self.parameters, "elmo.head"), NOT_FINITE));
        }
        self.optimiser.update(PRETRAINING, &mut self.parameters, gradients, |_| learning_rate)?;
        Ok(loss)
    }

    fn loss(&mut self, tokens: &[u16], packets: usize) -> Result<BatchLoss, ModelError> {
        let mask = self.stacks.mask(tokens, packets)?;
        let mut graph = Graph::inference(&self.device, &self.parameters);
        let losses = self.losses(&mut graph, tokens, &mask, None)?;
        Ok(losses.as_ref().map_or_else(BatchLoss::default, batch_loss))
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
        let mask = self.stacks.mask(tokens, packets)?;
        let mut graph = Graph::inference(&self.device, &self.parameters);
        output.copy_from_slice(&self.stacks.encodings(&mut graph, tokens, &mask, pooling, None)?.as_vec());
        Ok(())
    }
}

impl<D: Device<f32>> Resumable for Reference<D> {
    fn optimiser_state(&mut self) -> OptimiserState {
        self.optimiser.state(&self.parameters)
    }

    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError> {
        self.optimiser.set_state(&self.parameters, state)
    }

    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError> {
        let Stacks { options, vocabulary, positions, .. } = &self.stacks;
        parameters.check(&elmo_specifications(options, *vocabulary, *positions))?;
        self.parameters = parameters.clone();
        Ok(())
    }

    fn parameters(&self) -> ParameterSet {
        self.parameters.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deep::golden;
    use etcbench_feature::PAD;

    #[test]
    fn losses_and_parameters_are_those_of_pytorch() {
        golden::check_language_model(&|options, parameters, seed| {
            language_model(options, parameters, seed, crate::Device::Cpu)
        });
    }

    #[test]
    fn gradients_are_those_of_pytorch() {
        let golden = golden::Golden::read();
        for (case, positions) in [("elmo", false), ("elmo_positions", true)] {
            let parameters = golden.parameters(&format!("{case}/before/"));
            let options = ElmoOptions { positions, ..golden::elmo_options() };
            let model = Reference::new(Cpu::default(), &options, &parameters, 0).unwrap();
            let (tokens, packets) = golden.tokens_of(case, 0);
            let (_, gradients) = model.gradients(&tokens, packets).unwrap().unwrap();
            golden.check_gradients(case, &gradients);
        }
    }

    #[test]
    fn padding_a_batch_further_changes_nothing() {
        let golden = golden::Golden::read();
        let parameters = golden.parameters("elmo/before/");
        let mut model = Reference::new(Cpu::default(), &golden::elmo_options(), &parameters, 0).unwrap();
        let (tokens, packets) = golden.tokens(1);
        let wider = tokens.chunks_exact(9).flat_map(|row| row.iter().copied().chain([PAD; 3])).collect::<Vec<_>>();
        assert_eq!(wider.len(), packets * 12);
        let (narrow, wide) = (model.loss(&tokens, packets).unwrap(), model.loss(&wider, packets).unwrap());
        assert_eq!(narrow.targets, wide.targets);
        assert!((narrow.sum - wide.sum).abs() < 1e-5 * narrow.sum);
        let mut outputs = [vec![0.0; packets * 48], vec![0.0; packets * 48]];
        model.encode(&tokens, packets, Pooling::MEAN, &mut outputs[0]).unwrap();
        model.encode(&wider, packets, Pooling::MEAN, &mut outputs[1]).unwrap();
        assert!(outputs[0].iter().zip(&outputs[1]).all(|(narrow, wide)| (narrow - wide).abs() < 1e-6));
    }

    #[test]
    fn packets_without_targets_and_without_bytes_are_distinguished() {
        let golden = golden::Golden::read();
        let parameters = golden.parameters("elmo/before/");
        let mut model = Reference::new(Cpu::default(), &golden::elmo_options(), &parameters, 0).unwrap();
        assert_eq!(model.train_step(&[1, PAD, 2, PAD], 2, 0.1).unwrap(), BatchLoss::default());
        assert_eq!(model.parameters(), parameters);
        assert!(model.train_step(&[1, 2, PAD, PAD], 2, 0.1).is_err());
        assert!(model.loss(&[300, 2], 1).is_err());
        assert!(model.loss(&[], 0).is_err());
    }

    #[test]
    fn dropout_changes_training_and_nothing_else() {
        let golden = golden::Golden::read();
        let parameters = golden.parameters("elmo/before/");
        let options = ElmoOptions { dropout: 0.5, ..golden::elmo_options() };
        let mut with = Reference::new(Cpu::default(), &options, &parameters, 0).unwrap();
        let mut without = Reference::new(Cpu::default(), &golden::elmo_options(), &parameters, 0).unwrap();
        let (tokens, packets) = golden.tokens(0);
        assert_eq!(with.loss(&tokens, packets).unwrap(), without.loss(&tokens, packets).unwrap());
        let first = with.gradients(&tokens, packets).unwrap().unwrap().0;
        assert_ne!(first, without.gradients(&tokens, packets).unwrap().unwrap().0);
        assert_eq!(first, with.gradients(&tokens, packets).unwrap().unwrap().0);
        with.optimiser.steps += 1;
        assert_ne!(first, with.gradients(&tokens, packets).unwrap().unwrap().0);
    }
}
