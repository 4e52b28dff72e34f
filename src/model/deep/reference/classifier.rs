//! The classifier over a flow's encoded packets: layer mix, LSTM, normalisation, self-attention,
//! normalisation, mean over packets, two linear layers.

use dfdx::prelude::*;

use super::graph::{Graph, Matrix, NamedGradients};
use super::layers::{BatchStatistics, Mask, attention, batch_norm, cross_entropy, linear, lstm, running_norm};
use super::optimiser::{Adam, first_not_finite};
use crate::model::ModelError;
use crate::model::deep::engine::{
    BatchLoss, DropoutPlace, NORM_MOMENTUM, NOT_FINITE, OptimiserState, PacketBatch, SequenceClassifier, TRAINING,
    diverged, dropout_factor,
};
use crate::model::deep::parameters::{AttentionLstmOptions, MODEL, ParameterSet, classifier_shapes};
use crate::seed;

/// The classifier on the processor; `parameters` are taken as they are.
///
/// # Errors
/// Parameters whose shapes are not those of `options`.
pub(crate) fn classifier(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    seed: u64,
) -> Result<Box<dyn SequenceClassifier>, ModelError> {
    Ok(Box::new(Reference::new(Cpu::default(), options, parameters, seed)?))
}

/// The same on a device; a graphics card needs the Cargo feature `dfdx-cuda`.
///
/// # Errors
/// As of [`classifier`], and a device that is not there.
pub(crate) fn classifier_on(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    seed: u64,
    device: crate::model::Device,
) -> Result<Box<dyn SequenceClassifier>, ModelError> {
    match device {
        crate::model::Device::Cpu => classifier(options, parameters, seed),
        #[cfg(feature = "dfdx-cuda")]
        crate::model::Device::Cuda(card) => {
            Ok(Box::new(Reference::new(super::cuda(card)?, options, parameters, seed)?))
        }
        #[cfg(not(feature = "dfdx-cuda"))]
        crate::model::Device::Cuda(card) => Err(super::no_cuda(card)),
    }
}

/// The gradients of a batch's mean loss by name.
#[cfg(test)]
pub(crate) fn gradients(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    batch: &PacketBatch<'_>,
    labels: &[u32],
) -> Result<NamedGradients, ModelError> {
    Ok(Reference::new(Cpu::default(), options, parameters, 0)?.gradients(batch, labels)?.1)
}

struct Reference<D> {
    device: D,
    options: AttentionLstmOptions,
    classes: usize,
    parameters: ParameterSet,
    optimiser: Adam,
    dropout_seed: u64,
    dead: Vec<&'static str>,
}

/// Statistics of the batch by the name of the normalisation, to be worked into the running ones.
type Statistics = Vec<(&'static str, BatchStatistics)>;

impl<D: Device<f32>> Reference<D> {
    fn new(
        device: D,
        options: &AttentionLstmOptions,
        parameters: &ParameterSet,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let classes = parameters.shape("classifier.output.bias")?[0];
        for (name, shape) in classifier_shapes(options, classes) {
            parameters.get(&name, &shape)?;
        }
        Ok(Self {
            device,
            options: options.clone(),
            classes,
            parameters: parameters.clone(),
            optimiser: Adam::new(options.clip_norm, options.weight_decay),
            dropout_seed: seed::derive(seed, "dropout"),
            dead: Vec::new(),
        })
    }

    /// The logits, shape `[flows, classes]`; `statistics` is given while training.
    fn logits(
        &self,
        graph: &mut Graph<'_, D>,
        batch: &PacketBatch<'_>,
        mut statistics: Option<&mut Statistics>,
    ) -> Result<Matrix<D>, ModelError> {
        let AttentionLstmOptions { lstm: hidden, dense, .. } = self.options;
        let size = 2 * self.options.elmo.hidden;
        let layers = self.options.elmo.layers + 1;
        let packets = batch.layers.len() / (batch.flows * layers * size).max(1);
        let lengths = batch.counts.iter().map(|&count| count as usize).collect::<Vec<_>>();
        if lengths.len() != batch.flows
            || batch.flows * packets * layers * size != batch.layers.len()
            || lengths.iter().any(|&length| length == 0 || length > packets)
        {
            let problem = format!("a batch of {} flows whose packets do not fill it", batch.flows);
            return Err(ModelError::Data { model: MODEL.to_owned(), problem });
        }
        let mask = Mask { steps: packets, lengths };
        let training = statistics.is_some();

        let mut values = self.mix(graph, batch, packets)?;
        if training {
            values = values * self.dropout(graph, DropoutPlace::Packets, (packets, batch.flows, size));
        }
        let name = "classifier.lstm";
        values = lstm(graph, name, values, hidden, &mask, false, self.options.activation)?;
        let mut normalise = |graph: &mut Graph<'_, D>, name: &'static str, values| match &mut statistics {
            Some(statistics) => {
                let (values, found) = batch_norm(graph, name, values, &mask)?;
                statistics.push((name, found));
                Ok::<_, ModelError>(values)
            }
            None => running_norm(graph, name, values, &mask),
        };
        values = normalise(graph, "classifier.norm_1", values)?;
        if self.options.attention {
            values = attention(graph, "classifier.attention", values, &mask)?;
            values = normalise(graph, "classifier.norm_2", values)?;
        }
        let inverse = mask.lengths.iter().map(|&length| 1.0 / length as f32).collect();
        let inverse = graph.constant(inverse, (batch.flows,)).broadcast_like::<_, Axis<1>>(&(batch.flows, hidden));
        let pooled = values.reshape_like(&(packets, batch.flows, hidden)).sum::<_, Axis<0>>() * inverse;
        let mut features = linear(graph, "classifier.dense", pooled, dense)?.relu();
        if training {
            features = features * self.dropout(graph, DropoutPlace::Dense, (1, batch.flows, dense));
        }
        linear(graph, "classifier.output", features, self.classes)
    }

    /// `gamma * sum_j softmax(weight)_j * layer_j`, shape `[N * flows, size]` (Peters et al. 2018, equation 1).
    fn mix(&self, graph: &mut Graph<'_, D>, batch: &PacketBatch<'_>, packets: usize) -> Result<Matrix<D>, ModelError> {
        let size = 2 * self.options.elmo.hidden;
        let layers = self.options.elmo.layers + 1;
        let shape = (packets * batch.flows, size);
        let weight = graph.parameter("classifier.mix.weight", (layers,))?;
        let gamma = graph.parameter("classifier.mix.gamma", (1,))?;
        let exponentials = weight.exp();
        let sum = exponentials.clone().sum::<(), _>().broadcast_like::<_, Axis<0>>(&(layers,));
        let share = exponentials / sum * gamma.sum::<(), _>().broadcast_like::<_, Axis<0>>(&(layers,));
        // One column for each layer, so that the mix is a product of a matrix with the shares.
        let mut columns = Vec::with_capacity(batch.layers.len());
        for packet in 0..packets {
            for flow in 0..batch.flows {
                let start = (flow * packets + packet) * layers * size;
                for index in 0..size {
                    columns.extend((0..layers).map(|layer| batch.layers[start + layer * size + index]));
                }
            }
        }
        let columns = graph.constant(columns, (shape.0 * size, layers));
        Ok(columns.matmul(share.reshape_like(&(layers, 1))).reshape_like(&shape))
    }

    /// Dropout factors of a tensor `[rows, steps, size]`, laid out as `[steps * rows, size]`.
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

    /// The loss, the gradients of its mean over flows, and the statistics of the normalisations.
    fn gradients(
        &self,
        batch: &PacketBatch<'_>,
        labels: &[u32],
    ) -> Result<(BatchLoss, NamedGradients, Statistics), ModelError> {
        let targets = labels.iter().map(|&label| label as usize).collect::<Vec<_>>();
        if targets.len() != batch.flows || targets.iter().any(|&label| label >= self.classes) {
            let problem = format!("labels of {} flows must be below {}", batch.flows, self.classes);
            return Err(ModelError::Data { model: MODEL.to_owned(), problem });
        }
        let mut statistics = Vec::new();
        let mut graph = Graph::recording(&self.device, &self.parameters);
        let logits = self.logits(&mut graph, batch, Some(&mut statistics))?;
        let losses = cross_entropy(&graph, logits, targets);
        let sum = losses.as_vec().iter().map(|&value| f64::from(value)).sum();
        let gradients = graph.backward(losses.sum() / batch.flows as f32);
        Ok((BatchLoss { sum, targets: batch.flows as u64 }, gradients, statistics))
    }

    fn update_running(&mut self, statistics: &Statistics, rows: usize) {
        let unbiased = rows as f32 / (rows.max(2) - 1) as f32;
        for (name, found) in statistics {
            for (part, new, factor) in [("running_mean", &found.mean, 1.0), ("running_var", &found.variance, unbiased)]
            {
                let values = self.parameters.values_mut(&format!("{name}.{part}")).expect("checked when built");
                for (value, new) in values.iter_mut().zip(new) {
                    *value = (1.0 - NORM_MOMENTUM) * *value + NORM_MOMENTUM * new * factor;
                }
            }
        }
    }
}

impl<D: Device<f32>> SequenceClassifier for Reference<D> {
    fn train_step(
        &mut self,
        batch: &PacketBatch<'_>,
        labels: &[u32],
        learning_rate: f32,
    ) -> Result<BatchLoss, ModelError> {
        let (loss, gradients, statistics) = self.gradients(batch, labels)?;
        if !loss.sum.is_finite() {
            return Err(diverged(TRAINING, first_not_finite(&self.parameters, "classifier.output"), NOT_FINITE));
        }
        // No gradient reaches the weights in front of a rectifier that gives nothing but 0.
        let dead = |layer: &str, weight: &str| {
            let name = format!("{layer}.{weight}");
            gradients.iter().any(|(found, values)| *found == name && values.iter().all(|&value| value == 0.0))
        };
        // None reaches those before it either, nor any where every flow is told with certainty.
        let layers = [("classifier.dense", "weight"), ("classifier.lstm", "weight_ih")];
        let nearest = layers.into_iter().find(|(layer, weight)| loss.sum > 0.0 && dead(layer, weight));
        self.dead = nearest.map(|(layer, _)| layer).into_iter().collect();
        self.optimiser.update(TRAINING, &mut self.parameters, gradients, learning_rate)?;
        self.update_running(&statistics, batch.counts.iter().map(|&count| count as usize).sum());
        Ok(loss)
    }

    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError> {
        let mut graph = Graph::inference(&self.device, &self.parameters);
        let logits = self.logits(&mut graph, batch, None)?;
        for (row, logits) in output.chunks_exact_mut(self.classes).zip(logits.as_vec().chunks_exact(self.classes)) {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exponentials = logits.iter().map(|logit| (logit - largest).exp()).collect::<Vec<_>>();
            let sum = exponentials.iter().sum::<f32>();
            row.iter_mut().zip(exponentials).for_each(|(value, exponential)| *value = exponential / sum);
        }
        Ok(())
    }

    fn parameters(&self) -> ParameterSet {
        self.parameters.clone()
    }

    fn optimiser_state(&mut self) -> OptimiserState {
        self.optimiser.state(&self.parameters)
    }

    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError> {
        self.optimiser.set_state(&self.parameters, state)
    }

    fn dead_layers(&mut self) -> Vec<&'static str> {
        self.dead.clone()
    }

    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError> {
        for (name, shape) in classifier_shapes(&self.options, self.classes) {
            parameters.get(&name, &shape)?;
        }
        self.parameters = parameters.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::deep::golden;

    #[test]
    fn losses_parameters_and_probabilities_are_those_of_pytorch() {
        golden::check_classifier(&classifier);
    }

    #[test]
    fn gradients_are_those_of_pytorch() {
        let golden = golden::Golden::read();
        for (case, options) in golden::classifier_cases() {
            let parameters = golden.classifier_parameters(case);
            let model = Reference::new(Cpu::default(), &options, &parameters, 0).unwrap();
            let (layers, counts, labels) = golden.flows(case, 0);
            let batch = PacketBatch { layers: &layers, counts: &counts, flows: labels.len() };
            let (_, gradients, _) = model.gradients(&batch, &labels).unwrap();
            golden.check_gradients(case, &gradients);
        }
    }

    #[test]
    fn what_padded_packets_hold_does_not_matter_and_bad_batches_are_errors() {
        let golden = golden::Golden::read();
        let (case, options) = golden::classifier_cases().remove(0);
        let mut model = classifier(&options, &golden.classifier_parameters(case), 0).unwrap();
        let (mut layers, counts, labels) = golden.flows(case, 0);
        let mut outputs = [vec![0.0; labels.len() * 3], vec![0.0; labels.len() * 3]];
        for output in &mut outputs {
            let batch = PacketBatch { layers: &layers, counts: &counts, flows: labels.len() };
            model.probabilities(&batch, output).unwrap();
            // The first flow has one packet: fill its second.
            layers[48..96].fill(7.0);
        }
        assert_eq!(outputs[0], outputs[1]);
        assert!(outputs[0].chunks_exact(3).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-6));
        let batch = PacketBatch { layers: &layers, counts: &counts, flows: labels.len() };
        assert!(model.train_step(&batch, &[0, 1, 3, 0], 0.1).is_err());
        let no_packets = vec![0; counts.len()];
        assert!(model.probabilities(&PacketBatch { counts: &no_packets, ..batch }, &mut outputs[0]).is_err());
    }
}
