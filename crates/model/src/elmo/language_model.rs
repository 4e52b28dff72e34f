//! Pre-training of an ELMo as a byte language model, or the stored artifact of the same pre-training.

use crate::attention_lstm::AttentionLstm;
use crate::deep::Engine;
use crate::deep::engine::PRETRAINING;
use crate::deep::packets::PacketList;
use crate::deep::parameters::{ElmoOptions, ParameterSet, elmo_specifications, initial_elmo};
use crate::deep::pretrained::{Pretrained, Task};
use crate::deep::training::TrainingContext;
use crate::deep::unlabelled::{OnPackets, PretrainingOptions, fit_unlabelled};
use crate::pretraining::{PretrainingEntry, Sample, TokenRows, differences_of};
use crate::stored::broken;
use crate::{FitContext, ModelError};
use etcbench_feature::VOCABULARY;

/// Bump whenever the storage format of an ELMo changes.
const FORMAT: &str = "elmo artifact 3";

/// How the paper's model is pre-trained.
pub(crate) static PRETRAINING_ENTRY: PretrainingEntry = PretrainingEntry {
    kind: "elmo",
    sample: Sample::Packet,
    prefix: PREFIX,
    keys: |table| {
        let options = AttentionLstm::pretraining_options(table)?;
        Ok(options.map(|options| options.source()))
    },
    settings: |table| {
        let options = AttentionLstm::elmo_options(table)?;
        Ok(serde_json::to_value(options.without_source()).expect("options are JSON"))
    },
    specifications: |settings, tokens| Ok(elmo_specifications(&of_settings(settings)?, VOCABULARY, tokens.bytes)),
    differences: |table, settings| {
        let shape = |ElmoOptions { embedding, hidden, layers, positions, .. }: ElmoOptions| {
            [embedding.to_string(), hidden.to_string(), layers.to_string(), positions.to_string()]
        };
        let both = [shape(AttentionLstm::elmo_options(table)?), shape(of_settings(settings)?)];
        Ok(differences_of(["embedding", "hidden", "layers", "positions"], PREFIX, both))
    },
    pretrain: |spec, [training, validation], context| {
        let engine = Engine { implementation: spec.implementation, device: context.device };
        let packets = |TokenRows { tokens, rows }| PacketList::of_rows(tokens, rows);
        let (bytes, options) = (training.tokens.bytes, AttentionLstm::elmo_options(&spec.parameters)?);
        pretrain(engine, &options, bytes, &packets(training), &packets(validation), context)
    },
};

/// What the names of an ELMo's keys begin with.
const PREFIX: &str = "elmo.";

/// Returns the options of a card.
fn of_settings(settings: &serde_json::Value) -> Result<ElmoOptions, ModelError> {
    let options: ElmoOptions =
        serde_json::from_value(settings.clone()).map_err(|error| broken(format!("card: {error}")))?;
    options.validate()?;
    Ok(options)
}

/// Pre-trains an ELMo on `training`, or returns the stored artifact if the same pre-training was done before.
/// `validation` is only used to measure the loss.
///
/// # Errors
/// Packets that nothing can be learnt from, training that diverged, a missing device, or an unreadable artifact.
pub(crate) fn pretrain(
    engine: Engine,
    options: &ElmoOptions,
    bytes: usize,
    training: &PacketList<'_>,
    validation: &PacketList<'_>,
    context: &FitContext<'_>,
) -> Result<Pretrained, ModelError> {
    let key = key(engine, options, bytes, training, validation, context.seed);
    let task = Task {
        stage: PRETRAINING,
        format: FORMAT,
        key: &key,
        specifications: &elmo_specifications(options, VOCABULARY, bytes),
        samples: (training.numbers.len() * options.epochs) as u64,
    };
    task.result(context, |checkpoints| {
        let initial = initial_elmo(options, VOCABULARY, bytes, context.seed);
        let mut model = engine.language_model(options, &initial, context.seed)?;
        let training_context = TrainingContext { seed: context.seed, checkpoints, progress: context.progress };
        let ElmoOptions { epochs, batch, learning_rate, .. } = *options;
        let pretraining = PretrainingOptions { stage: PRETRAINING, samples: "packets", epochs, batch, learning_rate };
        let mut on_packets = OnPackets::new(&mut *model, training, validation)?;
        let epochs =
            fit_unlabelled(&mut on_packets, pretraining, &training.numbers, &validation.numbers, training_context)?;
        Ok((model.parameters(), epochs))
    })
}

/// Returns an ELMo with its initial values: the baseline for measuring pre-training.
pub(crate) fn untrained(options: &ElmoOptions, bytes: usize, seed: u64) -> ParameterSet {
    initial_elmo(options, VOCABULARY, bytes, seed)
}

/// Returns a key of everything that determines the result.
fn key(
    engine: Engine,
    options: &ElmoOptions,
    bytes: usize,
    training: &PacketList<'_>,
    validation: &PacketList<'_>,
    seed: u64,
) -> String {
    let data = |packets: &PacketList<'_>, add: &mut dyn FnMut(&[u8])| {
        for &number in &packets.numbers {
            add(bytemuck::cast_slice::<u16, u8>(packets.bytes(number)));
        }
    };
    let facts = engine
        .determinants("elmo")
        .and("format", FORMAT)
        .and("parameters", &options.without_source())
        .and("seed", &seed)
        .and("vocabulary", &VOCABULARY)
        .and("bytes", &bytes)
        .and_data("training", |add| data(training, add))
        .and_data("validation", |add| data(validation, add));
    format!("elmo-{}", facts.key())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;
    use crate::{ArtifactStore, Device, Implementation};
    use etcbench_feature::TokenArray;
    use etcbench_storage::progress::Silent;

    #[derive(Default)]
    struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

    impl ArtifactStore for Memory {
        fn get(&self, key: &str) -> Option<Vec<u8>> {
            self.0.lock().unwrap().get(key).cloned()
        }
        fn put(&self, key: &str, bytes: &[u8]) {
            self.0.lock().unwrap().insert(key.to_owned(), bytes.to_vec());
        }
    }

    #[test]
    fn artifacts_are_reused_only_for_the_same_pre_training() {
        let options = ElmoOptions { embedding: 4, hidden: 4, layers: 1, epochs: 1, ..ElmoOptions::default() };
        let values = (0..6 * 2 * 4).map(|index| (index * 7 % 11) as u16).collect();
        let tokens = TokenArray { packets: 2, bytes: 4, values };
        let artifacts = Memory::default();
        let engine = Engine { implementation: Implementation::Reference, device: Device::Cpu };
        let run = |options: &ElmoOptions, seed, training: &[usize], validation: &[usize]| {
            let (training, validation) =
                (PacketList::of_rows(&tokens, training), PacketList::of_rows(&tokens, validation));
            let context =
                FitContext { seed, device: Device::Cpu, progress: &Silent, artifacts: &artifacts, pretraining: None };
            pretrain(engine, options, 4, &training, &validation, &context)
        };
        let count = || artifacts.0.lock().unwrap().len();
        let first = run(&options, 1, &[0, 1, 2], &[3]).unwrap();
        assert_eq!(count(), 1);
        assert_eq!(run(&options, 1, &[0, 1, 2], &[3]).unwrap(), first);
        assert_eq!(count(), 1);
        assert_eq!((first.stage.samples, first.epochs.len()), (6, 1));
        assert!(first.epochs[0].validation_loss.is_some());

        assert_ne!(run(&options, 2, &[0, 1, 2], &[3]).unwrap().parameters, first.parameters);
        run(&options, 1, &[0, 2, 1], &[3]).unwrap();
        run(&options, 1, &[0, 1, 2], &[4]).unwrap();
        run(&ElmoOptions { learning_rate: 0.01, ..options.clone() }, 1, &[0, 1, 2], &[3]).unwrap();
        assert_eq!(count(), 5);

        artifacts.0.lock().unwrap().values_mut().for_each(|bytes| bytes.truncate(100));
        let error = run(&options, 1, &[0, 1, 2], &[3]).unwrap_err().to_string();
        assert!(error.contains("delete it and run again"), "{error}");
    }
}
