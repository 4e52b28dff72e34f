//! The classifier's parameters on a device.

use super::backend::{Backend, MixWeights};
use super::weights::{Linear, Lstm, Norm, Weight};
use crate::ModelError;
use crate::deep::parameters::{AttentionLstmOptions, Normalisation, ParameterSet};
use crate::deep::pooling::PoolingKind;

/// Self-attention and the normalisation after it.
pub(super) struct AttentionWeights<B: Backend> {
    pub query: Linear<B>,
    pub key: Linear<B>,
    pub value: Linear<B>,
    pub norm: Norm<B>,
}

/// All parameters of the classifier.
pub(super) struct Weights<B: Backend> {
    pub mix: Weight<B>,
    pub gamma: Weight<B>,
    /// Weights of the scores of a packet's slots.
    pub pooling: Option<Weight<B>>,
    /// Normalisation of the packet vectors that the LSTM reads.
    pub packets: Option<Norm<B>>,
    pub lstm: Lstm<B>,
    pub norm: Norm<B>,
    pub attention: Option<AttentionWeights<B>>,
    pub dense: Linear<B>,
    pub output: Linear<B>,
}

impl<B: Backend> Weights<B> {
    /// Creates weights with the values and running statistics of a set.
    pub(super) fn new(
        device: &mut B,
        options: &AttentionLstmOptions,
        classes: usize,
        set: &ParameterSet,
    ) -> Result<Self, ModelError> {
        let lstm = options.lstm;
        let attention =
            |device: &mut B, part: &str| Linear::new(device, set, &format!("classifier.attention.{part}"), lstm, lstm);
        Ok(Self {
            mix: Weight::new(device, set, "classifier.mix.weight".to_owned(), &[options.elmo.layers + 1])?,
            gamma: Weight::new(device, set, "classifier.mix.gamma".to_owned(), &[1])?,
            pooling: match options.pooling {
                PoolingKind::Attention => {
                    let name = "classifier.pooling.weight".to_owned();
                    Some(Weight::new(device, set, name, &[2 * options.elmo.hidden])?)
                }
                _ => None,
            },
            packets: match options.normalisation {
                Normalisation::None => None,
                Normalisation::Batch => Some(Norm::new(device, set, "classifier.norm_0", options.step_size())?),
            },
            lstm: Lstm::new(device, set, "classifier.lstm", options.step_size(), lstm)?,
            norm: Norm::new(device, set, "classifier.norm_1", lstm)?,
            attention: if options.attention {
                Some(AttentionWeights {
                    query: attention(device, "query")?,
                    key: attention(device, "key")?,
                    value: attention(device, "value")?,
                    norm: Norm::new(device, set, "classifier.norm_2", lstm)?,
                })
            } else {
                None
            },
            dense: Linear::new(device, set, "classifier.dense", options.dense, lstm)?,
            output: Linear::new(device, set, "classifier.output", classes, options.dense)?,
        })
    }

    /// Returns the weights of a packet's layers.
    pub(super) fn mix(&self) -> MixWeights<&B::Values> {
        MixWeights { weight: self.mix.value(), gamma: self.gamma.value() }
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&mut Weight<B>)) {
        visit(&mut self.mix);
        visit(&mut self.gamma);
        if let Some(weight) = &mut self.pooling {
            visit(weight);
        }
        if let Some(norm) = &mut self.packets {
            norm.visit(visit);
        }
        self.lstm.visit(visit);
        self.norm.visit(visit);
        if let Some(AttentionWeights { query, key, value, norm }) = &mut self.attention {
            query.visit(visit);
            key.visit(visit);
            value.visit(visit);
            norm.visit(visit);
        }
        self.dense.visit(visit);
        self.output.visit(visit);
    }

    /// Returns values and running statistics, in the order of the specifications.
    pub(super) fn store(&self, device: &B) -> ParameterSet {
        let mut set = ParameterSet::default();
        let Self { mix, gamma, pooling, packets, lstm, norm, attention, dense, output } = self;
        mix.store(device, &mut set);
        gamma.store(device, &mut set);
        if let Some(weight) = pooling {
            weight.store(device, &mut set);
        }
        if let Some(norm) = packets {
            norm.store(device, &mut set);
        }
        for weight in [&lstm.input, &lstm.hidden, &lstm.bias] {
            weight.store(device, &mut set);
        }
        norm.store(device, &mut set);
        if let Some(AttentionWeights { query, key, value, norm }) = attention {
            for linear in [query, key, value] {
                linear.weight.store(device, &mut set);
                linear.bias.store(device, &mut set);
            }
            norm.store(device, &mut set);
        }
        for linear in [dense, output] {
            linear.weight.store(device, &mut set);
            linear.bias.store(device, &mut set);
        }
        set
    }

    /// Replaces values and running statistics; gradients and moments are unchanged.
    pub(super) fn load(&mut self, device: &mut B, set: &ParameterSet) -> Result<(), ModelError> {
        let mut result = Ok(());
        self.visit(&mut |weight| {
            if result.is_ok() {
                result = weight.load(device, set);
            }
        });
        result?;
        if let Some(norm) = &mut self.packets {
            norm.load_statistics(device, set)?;
        }
        self.norm.load_statistics(device, set)?;
        match &mut self.attention {
            Some(attention) => attention.norm.load_statistics(device, set),
            None => Ok(()),
        }
    }
}
