//! Twenty training steps of whole models on a device and on the CPU.

use rand::RngExt;

use super::{Comparison, Extent, worse};
use crate::ModelError;
use crate::deep::engine::{ByteBatch, JointClassifier, LanguageModel, PacketEncoder, Resumable, SequenceClassifier};
use crate::deep::fast::backend::Backend;
use crate::deep::fast::classifier::AttentionLstm;
use crate::deep::fast::cpu::Cpu;
use crate::deep::fast::joint::Joint;
use crate::deep::fast::language_model::Elmo;
use crate::deep::packets::EncodedFlows;
use crate::deep::parameters::{
    Activation, AttentionLstmOptions, ElmoOptions, Encoder, Normalisation, ParameterSet, WeightAveraging,
    initial_classifier, initial_elmo,
};
use crate::deep::pooling::{Pooling, PoolingKind};
use etcbench_feature::PAD;
use etcbench_storage::seed;

/// Results of training whole models on a device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trained20 {
    /// The loss of every step, by model.
    pub losses: Vec<(String, Vec<f64>)>,
    /// All parameters after training, and the predictions.
    pub outcome: Vec<(ParameterSet, Vec<f32>)>,
}

const STEPS: u64 = 20;

fn train_elmo<B: Backend>(
    device: B,
    options: &ElmoOptions,
    packets: usize,
    width: usize,
) -> Result<(Vec<f64>, ParameterSet, Vec<f32>), ModelError> {
    let mut model = Elmo::new(device, options, &initial_elmo(options, 257, width, 1), 9)?;
    let mut losses = Vec::new();
    let mut tokens = Vec::new();
    for step in 0..STEPS {
        let mut generator = seed::generator(step, "tokens");
        tokens.clear();
        for packet in 0..packets {
            let length = 1 + (packet * 7 + 3) % width;
            tokens.extend((0..length).map(|_| generator.random_range(0..32u16)));
            tokens.resize((packet + 1) * width, PAD);
        }
        losses.push(model.train_step(&tokens, packets, 0.005)?.mean());
    }
    losses.push(model.loss(&tokens, packets)?.mean());
    let mut encoded = vec![0.0; packets * (options.layers + 1) * 2 * options.hidden];
    model.encode(&tokens, packets, Pooling::MEAN, &mut encoded)?;
    Ok((losses, model.parameters(), encoded))
}

fn train_classifier<B: Backend>(
    device: B,
    options: &AttentionLstmOptions,
    flows: usize,
) -> Result<(Vec<f64>, ParameterSet, Vec<f32>), ModelError> {
    const CLASSES: u32 = 4;
    const PACKETS: usize = 5;
    let mut model = AttentionLstm::new(device, options, &initial_classifier(options, CLASSES as usize, 1), 9)?;
    if options.label_smoothing > 0.0 {
        model.set_class_weights(&[0.5, 2.0, 1.0, 1.25])?;
    }
    let size = (options.elmo.layers + 1) * options.encoded_size();
    let counts: Vec<u32> = (0..flows).map(|flow| 1 + (flow * 3 % PACKETS) as u32).collect();
    let mut losses = Vec::new();
    let mut probabilities = vec![0.0; flows * CLASSES as usize];
    for step in 0..STEPS {
        let mut generator = seed::generator(step, "flows");
        let layers: Vec<f32> = (0..flows * PACKETS * size).map(|_| generator.random_range(-1.0..1.0f32)).collect();
        let labels: Vec<u32> = counts.iter().map(|_| generator.random_range(0..CLASSES)).collect();
        // A new table for each step, whose packets are in a different order from the flows'.
        let all = flows * PACKETS;
        let vector_of: Vec<Option<u32>> = (0..all)
            .map(|place| (place % PACKETS < counts[place / PACKETS] as usize).then_some((all - 1 - place) as u32))
            .collect();
        let encoded = EncodedFlows::new(PACKETS, size, layers, &vector_of);
        let chosen: Vec<usize> = (0..flows).collect();
        losses
            .push(encoded.with_batch(&chosen, |batch| model.train_step(batch, &labels, options.learning_rate))?.mean());
        if step + 1 == STEPS {
            // Uses averaged weights with their own statistics, if weights are averaged.
            let average = model.optimiser_state().average;
            if options.averaging().is_some() {
                let mut averaged = model.parameters();
                averaged.extend(&average);
                model.set_parameters(&averaged)?;
                encoded.with_batch(&chosen, |batch| model.collect_statistics(batch, 0))?;
            }
            encoded.with_batch(&chosen, |batch| model.probabilities(batch, &mut probabilities))?;
        }
    }
    if options.averaging().is_some() {
        losses.push(probabilities.chunks_exact(CLASSES as usize).map(|row| -f64::from(row[0]).ln()).sum());
    }
    Ok((losses, model.parameters(), probabilities))
}

fn train_together<B: Backend>(
    device: B,
    options: &AttentionLstmOptions,
    flows: usize,
    width: usize,
) -> Result<(Vec<f64>, ParameterSet, Vec<f32>), ModelError> {
    const CLASSES: usize = 4;
    const PACKETS: usize = 5;
    let mut set = initial_classifier(options, CLASSES, 1);
    set.extend(&initial_elmo(&options.elmo, 257, width, 1));
    let mut model = Joint::new(device, options, &set, 9)?;
    let pooling = options.pooling_of(width);
    // One flow in seven has no packets.
    let counts: Vec<u32> =
        (0..flows).map(|flow| if flow % 7 == 5 { 0 } else { 1 + (flow * 3 % PACKETS) as u32 }).collect();
    let packets = counts.iter().sum::<u32>() as usize;
    let mut losses = Vec::new();
    let mut tokens = Vec::new();
    for step in 0..STEPS {
        let mut generator = seed::generator(step, "flows");
        tokens.clear();
        for packet in 0..packets {
            let length = 1 + (packet * 7 + 3) % width;
            tokens.extend((0..length).map(|_| generator.random_range(0..32u16)));
            tokens.resize((packet + 1) * width, PAD);
        }
        let labels: Vec<u32> = counts.iter().map(|_| generator.random_range(0..CLASSES as u32)).collect();
        let batch = ByteBatch { tokens: &tokens, counts: &counts, metadata: &[], most: PACKETS, pooling };
        losses.push(model.train_step(&batch, &labels, options.learning_rate)?.mean());
    }
    let mut encoded = vec![0.0; packets * (options.elmo.layers + 1) * options.encoded_size()];
    model.encode(&tokens, packets, pooling, &mut encoded)?;
    Ok((losses, model.parameters(), encoded))
}

/// Runs twenty steps of language models, of classifiers, and of both together: with dropout and weight decay, with
/// packets of one byte, batches of one, tanh and ReLU, with and without attention. Classifiers use their default
/// learning rate: at twice that rate, rounding alone makes the losses of the CPU with and without vector instructions
/// differ by 4e-5.
///
/// # Errors
/// A device fails.
pub(crate) fn train<B: Backend>(
    new: &mut dyn FnMut() -> Result<B, ModelError>,
    extent: Extent,
) -> Result<Trained20, ModelError> {
    let mut found = Trained20 { losses: Vec::new(), outcome: Vec::new() };
    let mut keep = |name: String, (losses, parameters, predicted): (Vec<f64>, ParameterSet, Vec<f32>)| {
        found.losses.push((name, losses));
        found.outcome.push((parameters, predicted));
    };
    let elmo = |hidden| ElmoOptions { embedding: hidden, hidden, dropout: 0.1, ..ElmoOptions::default() };
    let mut elmos = vec![
        (elmo(20), 13, 9),
        (ElmoOptions { layers: 1, dropout: 0.0, ..elmo(9) }, 1, 5),
        (ElmoOptions { positions: true, ..elmo(20) }, 13, 9),
    ];
    let classifier = |lstm, activation, attention| AttentionLstmOptions {
        lstm,
        dense: 10,
        activation,
        attention,
        dropout: 0.1,
        weight_decay: 0.01,
        elmo: ElmoOptions { embedding: 6, hidden: 6, ..ElmoOptions::default() },
        ..AttentionLstmOptions::default()
    };
    let mut classifiers = vec![
        (classifier(24, Activation::Relu, true), 17),
        (classifier(35, Activation::Tanh, true), 7),
        (classifier(8, Activation::Tanh, false), 1),
        (
            AttentionLstmOptions {
                normalisation: Normalisation::Batch,
                weight_averaging: WeightAveraging::Exponential,
                label_smoothing: 0.1,
                ..classifier(24, Activation::Tanh, true)
            },
            17,
        ),
    ];
    let mut together = vec![
        (
            AttentionLstmOptions {
                elmo: elmo(20),
                encoder: Encoder::FineTuned,
                ..classifier(24, Activation::Relu, true)
            },
            8,
            9,
        ),
        (
            AttentionLstmOptions {
                elmo: ElmoOptions { layers: 1, positions: true, dropout: 0.0, ..elmo(9) },
                encoder: Encoder::FromScratch,
                ..classifier(8, Activation::Tanh, false)
            },
            1,
            5,
        ),
    ];
    let others =
        [PoolingKind::Segments, PoolingKind::Maximum, PoolingKind::Last, PoolingKind::Attention, PoolingKind::States];
    together.extend(others.map(|pooling| {
        let options = AttentionLstmOptions {
            pooling,
            segments: 3,
            normalisation: Normalisation::Batch,
            elmo: elmo(9),
            encoder: Encoder::FineTuned,
            ..classifier(8, Activation::Tanh, true)
        };
        (options, 7, 9)
    }));
    if extent == Extent::Published {
        let options = AttentionLstmOptions { elmo: elmo(128), encoder: Encoder::FineTuned, ..Default::default() };
        together.push((options, 64, 128));
        elmos.push((ElmoOptions { dropout: 0.0, ..elmo(128) }, 64, 128));
        classifiers.push((AttentionLstmOptions { elmo: elmo(128), ..AttentionLstmOptions::default() }, 256));
    }
    for (options, packets, width) in elmos {
        let name = format!("elmo {}x{}, {packets} packets of up to {width}", options.layers, options.hidden);
        keep(name, train_elmo(new()?, &options, packets, width)?);
    }
    for (options, flows) in classifiers {
        let AttentionLstmOptions { lstm, activation, attention, normalisation, .. } = options;
        let name = format!(
            "classifier {lstm} {activation:?} attention {attention} normalisation {normalisation:?}, {flows} flows"
        );
        keep(name, train_classifier(new()?, &options, flows)?);
    }
    for (options, flows, width) in together {
        let (layers, hidden) = (options.elmo.layers, options.elmo.hidden);
        let (encoder, pooling) = (options.encoder, options.pooling);
        let name = format!("elmo {layers}x{hidden} {encoder:?} {pooling:?}, {flows} flows of packets of up to {width}");
        keep(name, train_together(new()?, &options, flows, width)?);
    }
    Ok(found)
}

/// Returns the maximum relative difference of the losses of [`train`] from the CPU's, by model.
///
/// # Errors
/// A device fails.
pub(crate) fn losses(found: &Trained20, extent: Extent) -> Result<Vec<Comparison>, ModelError> {
    let expected = train(&mut || Ok(Cpu::new()), extent)?;
    let mut comparisons = Vec::new();
    for ((name, found), (_, expected)) in found.losses.iter().zip(&expected.losses) {
        let errors = found.iter().zip(expected).map(|(found, expected)| ((found - expected) / expected).abs());
        comparisons.push(Comparison { name: name.clone(), error: errors.fold(0.0, worse) });
    }
    Ok(comparisons)
}
