//! Joint training of classifier and ELMo: every step and every validation re-encodes its packets, since the ELMo has
//! changed.

use super::AttentionLstm;
use crate::deep::engine::{BatchLoss, ByteBatch, JointClassifier, Resumable};
use crate::deep::packets::{ByteFlows, EncodedFlows, Metadata};
use crate::deep::parameters::{AttentionLstmOptions, ParameterSet, classifier_specifications, encoder_specifications};
use crate::deep::pooling::Pooling;
use crate::deep::training::{Learner, TrainingContext, collect_statistics, fit_classifier, predict};
use crate::elmo::encode_flows;
use crate::{EpochRecord, Examples, ModelError};
use etcbench_feature::VOCABULARY;
use etcbench_storage::progress::Silent;

/// A classifier that learns from the bytes of flows.
struct OnBytes<'a> {
    model: Box<dyn JointClassifier>,
    pooling: Pooling,
    training: ByteFlows<'a>,
    /// N, the number of packets.
    packets: usize,
    examples: [Examples<'a>; 2],
    options: &'a AttentionLstmOptions,
    classes: usize,
}

impl OnBytes<'_> {
    /// Encodes flows with the current ELMo.
    fn encode(&mut self, Examples { features, rows }: Examples<'_>) -> Result<EncodedFlows, ModelError> {
        let reading = (&self.options.elmo, self.pooling);
        let encoded = encode_flows(&mut *self.model, reading, &features.tokens, rows, None, &Silent)?;
        Ok(encoded.flows.with_metadata(Metadata::of_rows(features, rows, &self.options.packet_metadata)))
    }
}

impl Learner for OnBytes<'_> {
    fn train_step(&mut self, flows: &[usize], labels: &[u32], learning_rate: f32) -> Result<BatchLoss, ModelError> {
        let (tokens, counts, metadata) = self.training.batch(flows);
        let Self { packets, pooling, .. } = *self;
        let batch = ByteBatch { tokens: &tokens, counts: &counts, metadata: &metadata, most: packets, pooling };
        self.model.train_step(&batch, labels, learning_rate)
    }

    fn validate(&mut self) -> Result<Vec<f32>, ModelError> {
        let flows = self.encode(self.examples[1])?;
        let Self { model, classes, .. } = self;
        predict(&mut |batch, output| model.probabilities(batch, output), &flows, *classes, &mut |_| ())
    }

    fn recompute_statistics(&mut self, order: &[usize]) -> Result<(), ModelError> {
        let flows = self.encode(self.examples[0])?;
        collect_statistics(&mut |batch, before| self.model.collect_statistics(batch, before), &flows, order)
    }

    fn dead_layers(&mut self) -> Vec<String> {
        self.model.dead_layers().into_iter().map(str::to_owned).collect()
    }

    fn state(&mut self) -> &mut dyn Resumable {
        &mut *self.model
    }
}

impl AttentionLstm {
    /// Trains an ELMo and the classifier together from these initial values; returns the training curve, the ELMo and
    /// the classifier. The language model's head does not change.
    pub(super) fn fit_together(
        &self,
        [mut elmo, classifier]: [ParameterSet; 2],
        [training, validation]: [Examples<'_>; 2],
        labels: &[Vec<u32>; 2],
        class_weights: &[f32],
        context: TrainingContext<'_, '_>,
    ) -> Result<(Vec<EpochRecord>, ParameterSet, ParameterSet), ModelError> {
        let classes = training.features.class_names.len();
        let encoder = encoder_specifications(&self.options.elmo, VOCABULARY, training.features.tokens.bytes);
        let mut both = classifier;
        both.extend(&elmo.only(&encoder)?);
        let tokens = &training.features.tokens;
        let mut learner = OnBytes {
            model: self.engine().joint_classifier(&self.options, &both, context.seed)?,
            options: &self.options,
            pooling: self.options.pooling_of(tokens.bytes),
            training: ByteFlows::of_rows(
                tokens,
                training.rows,
                Metadata::of_rows(training.features, training.rows, &self.options.packet_metadata),
            ),
            packets: tokens.packets,
            examples: [training, validation],
            classes,
        };
        learner.model.set_class_weights(class_weights)?;
        let epochs = fit_classifier(&mut learner, &self.options.training(), &labels[0], &labels[1], classes, context)?;
        let trained = learner.model.parameters();
        elmo.extend(&trained.only(&encoder)?);
        Ok((epochs, elmo, trained.only(&classifier_specifications(&self.options, classes))?))
    }
}
