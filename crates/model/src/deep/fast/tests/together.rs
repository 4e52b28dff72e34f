//! Checks classifier and ELMo trained together against PyTorch's golden values, the reference engine and finite
//! differences.

use super::*;
use crate::deep::engine::ByteBatch;
use crate::deep::loss::Loss;
use crate::deep::parameters::{Encoder, WeightAveraging, initial_classifier, initial_elmo};

/// Returns the options of a small model.
fn options(hidden: usize, encoder: Encoder, dropout: f32) -> AttentionLstmOptions {
    AttentionLstmOptions {
        lstm: 11,
        dense: 6,
        encoder,
        dropout,
        elmo: ElmoOptions { embedding: hidden, hidden, dropout, ..ElmoOptions::default() },
        ..AttentionLstmOptions::default()
    }
}

fn parameters(options: &AttentionLstmOptions, classes: usize, seed: u64) -> ParameterSet {
    let mut set = initial_classifier(options, classes, seed);
    let elmo = initial_elmo(&options.elmo, 257, 19, seed);
    set.extend(&elmo.only(&crate::deep::parameters::encoder_specifications(&options.elmo, 257, 19)).unwrap());
    set
}

/// Generates the packets and classes of one flow per count.
fn byte_flows(counts: &[u32], width: usize, vocabulary: u16, classes: u32, seed: u64) -> (Vec<u16>, Vec<u32>) {
    let packets_of_all = counts.iter().sum::<u32>() as usize;
    let lengths: Vec<usize> = (0..packets_of_all).map(|packet| 1 + (packet * 5 + 2) % width).collect();
    let mut generator = seed::generator(seed, "labels");
    let labels = counts.iter().map(|_| generator.random_range(0..classes)).collect();
    (packets(&lengths, width, vocabulary, seed), labels)
}

#[test]
fn joint_training_equals_that_of_pytorch() {
    golden::check_joint(&|options, parameters, seed| joint_classifier(options, parameters, seed, Device::Cpu));
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
        let mut model = joint::Joint::new(cpu::Cpu::new(), &options, &golden.classifier_parameters(case), 0).unwrap();
        model.gradients(&batch, &labels).unwrap();
        golden.check_gradients(case, &model.named_gradients());
    }
}

#[test]
fn gradients_are_finite_differences() {
    for (positions, (layers, hidden, counts, activation, pooling, normalisation)) in [
        (2, 5, vec![3, 1, 0, 2], Activation::Tanh, PoolingKind::Mean, Normalisation::None),
        (1, 7, vec![2, 2, 1], Activation::Relu, PoolingKind::Mean, Normalisation::None),
        (3, 4, vec![1, 4, 2, 3], Activation::Tanh, PoolingKind::Mean, Normalisation::None),
        (2, 5, vec![3, 1, 0, 2], Activation::Tanh, PoolingKind::Segments, Normalisation::None),
        (1, 4, vec![3, 1, 4, 2], Activation::Tanh, PoolingKind::Segments, Normalisation::Batch),
        (2, 4, vec![3, 1, 2], Activation::Tanh, PoolingKind::Maximum, Normalisation::None),
        (2, 4, vec![3, 0, 1, 2], Activation::Tanh, PoolingKind::Last, Normalisation::Batch),
        (2, 4, vec![3, 0, 1, 2], Activation::Tanh, PoolingKind::Attention, Normalisation::None),
        (1, 4, vec![3, 2], Activation::Relu, PoolingKind::Attention, Normalisation::Batch),
        (2, 4, vec![3, 0, 1, 2], Activation::Tanh, PoolingKind::States, Normalisation::None),
        (1, 5, vec![2, 4], Activation::Tanh, PoolingKind::States, Normalisation::Batch),
    ]
    .into_iter()
    .enumerate()
    .flat_map(|(index, case)| {
        [(false, case.clone()), (true, case)].into_iter().take(if index % 3 == 0 { 2 } else { 1 })
    }) {
        let mut options = options(hidden, Encoder::FineTuned, 0.0);
        (options.elmo.layers, options.elmo.positions, options.activation) = (layers, positions, activation);
        (options.pooling, options.segments, options.normalisation) = (pooling, 4, normalisation);
        let pooling = options.pooling_of(6);
        let loss_of = Loss::unweighted(3, 0.0);
        let set = parameters(&options, 3, 5);
        let (tokens, labels) = byte_flows(&counts, 6, 20, 3, 2);
        let batch = ByteBatch { tokens: &tokens, counts: &counts, metadata: &[], most: 4, pooling };
        let mut model = joint::Joint::new(cpu::Cpu::new(), &options, &set, 0).unwrap();
        let loss = model.gradients(&batch, &labels).unwrap();
        let exact = |parameters: &double::Parameters| {
            let size = (layers + 1) * options.encoded_size();
            let mut packets = tokens.chunks_exact(6).peekable();
            let (mut layers_of, mut filled) = (Vec::new(), Vec::new());
            for &count in &counts {
                for packet in 0..4 {
                    match packets.next_if(|_| packet < count) {
                        Some(packet) => {
                            layers_of.extend(double::encoding(parameters, layers, hidden, pooling, packet));
                            filled.push(pooling.filled(packet.iter().filter(|&&token| token != PAD).count()));
                        }
                        None => {
                            layers_of.extend(vec![0.0; size]);
                            filled.push(1);
                        }
                    }
                }
            }
            let left = pooling.kind.leaves_slots().then_some((pooling.kind, pooling.slots, filled.as_slice()));
            let counts: Vec<u32> = counts.iter().map(|&count| count.max(1)).collect();
            let flows = double::Flows {
                layers: &layers_of,
                counts: &counts,
                labels: &labels,
                columns: options.encoded_size(),
                loss: &loss_of,
                left,
            };
            double::classifier_loss(parameters, activation, &flows)
        };
        let mut parameters = double::parameters(&set);
        assert!((loss.mean() - exact(&parameters)).abs() < 1e-5);
        let gradients = model.named_gradients();
        let largest = |prefix: &str| {
            let of_part = gradients.iter().filter(|(name, _)| name.starts_with(prefix));
            of_part.flat_map(|(_, values)| values).fold(0f32, |largest, value| largest.max(value.abs()))
        };
        assert!(largest("elmo.embedding") > 1e-4 && largest("elmo.backward.0") > 1e-4);
        check_gradients(&gradients, &mut parameters, &exact);
    }
}

#[test]
fn gradients_are_those_of_the_reference() {
    for (hidden, counts) in [(20, vec![3, 0, 4, 2, 4]), (33, vec![4]), (9, [4, 1, 0, 3].repeat(12))] {
        for (dropout, pooling, normalisation) in [
            (0.0, PoolingKind::Mean, Normalisation::None),
            (0.25, PoolingKind::Mean, Normalisation::None),
            (0.25, PoolingKind::Segments, Normalisation::Batch),
            (0.0, PoolingKind::Maximum, Normalisation::None),
            (0.25, PoolingKind::Maximum, Normalisation::Batch),
            (0.25, PoolingKind::Last, Normalisation::None),
            (0.25, PoolingKind::Attention, Normalisation::Batch),
            (0.0, PoolingKind::Attention, Normalisation::None),
            (0.25, PoolingKind::States, Normalisation::Batch),
            (0.0, PoolingKind::States, Normalisation::None),
        ] {
            let mut options = options(hidden, Encoder::FineTuned, dropout);
            (options.pooling, options.segments, options.normalisation) = (pooling, 3, normalisation);
            options.elmo.positions = dropout > 0.0;
            let set = parameters(&options, 5, 5);
            let (tokens, labels) = byte_flows(&counts, 7, 256, 5, 1);
            let batch =
                ByteBatch { tokens: &tokens, counts: &counts, metadata: &[], most: 4, pooling: options.pooling_of(7) };
            let expected = reference::joint_gradients(&options, &set, &batch, &labels).unwrap();
            for cpu in [cpu::Cpu::new(), cpu::Cpu::portable()] {
                let mut model = joint::Joint::new(cpu, &options, &set, 0).unwrap();
                model.gradients(&batch, &labels).unwrap();
                check_same(&format!("{hidden} {counts:?} {pooling:?} {dropout}"), &model.named_gradients(), &expected);
            }
        }
    }
}

/// Runs training steps; returns the losses and the resulting parameters.
fn train(model: &mut dyn JointClassifier, steps: u64) -> (Vec<f64>, ParameterSet) {
    let counts: Vec<u32> = (0..70).map(|flow| flow * 3 % 6).collect();
    let mut losses = Vec::new();
    for step in 0..steps {
        let (tokens, labels) = byte_flows(&counts, 19, 256, 4, step);
        let batch = ByteBatch { tokens: &tokens, counts: &counts, metadata: &[], most: 5, pooling: Pooling::MEAN };
        losses.push(model.train_step(&batch, &labels, 0.005).unwrap().mean());
    }
    (losses, model.parameters())
}

#[test]
fn training_follows_the_reference() {
    for encoder in [Encoder::FineTuned, Encoder::FromScratch] {
        let options = AttentionLstmOptions { weight_decay: 0.01, ..options(12, encoder, 0.2) };
        let set = parameters(&options, 4, 1);
        let reference = train(&mut *reference::joint_classifier(&options, &set, 9, Device::Cpu).unwrap(), 8);
        let fast = train(&mut *joint_classifier(&options, &set, 9, Device::Cpu).unwrap(), 8);
        let portable = train(&mut joint::Joint::new(cpu::Cpu::portable(), &options, &set, 9).unwrap(), 8);
        for found in [&fast, &portable] {
            for (step, (found, reference)) in found.0.iter().zip(&reference.0).enumerate() {
                assert!((found - reference).abs() < 1e-4 * reference, "step {step}: {found} is not {reference}");
            }
        }
        // Every part of the ELMo changed, and if it is fine-tuned, lower layers changed less.
        let moved = |name: &str| {
            let (_, before) = set.iter().find(|(found, _)| *found == name).unwrap();
            let after = fast.1.get(name, &before.shape).unwrap();
            after.iter().zip(&before.values).fold(0f32, |most, (after, before)| most.max((after - before).abs()))
        };
        let names = ["classifier.lstm.bias", "elmo.forward.1.bias", "elmo.forward.0.bias", "elmo.embedding.weight"];
        let moves = names.map(moved);
        assert!(moves.iter().all(|&moved| moved > 1e-4), "{moves:?}");
        let falling = moves.windows(2).all(|pair| pair[1] < 0.6 * pair[0]);
        assert_eq!(falling, encoder == Encoder::FineTuned, "{moves:?}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let mut options = options(20, Encoder::FineTuned, 0.2);
    options.weight_averaging = WeightAveraging::Exponential;
    options.elmo.positions = true;
    let set = parameters(&options, 4, 1);
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let mut model = joint_classifier(&options, &set, 9, Device::Cpu).unwrap();
            let found = train(&mut *model, 3);
            (found, model.optimiser_state())
        })
    };
    let one = run(1);
    assert!(one.0.0.iter().all(|loss| loss.is_finite()));
    assert_eq!(one, run(2));
    assert_eq!(one, run(4));
}

#[test]
fn training_that_leaves_the_finite_numbers_stops_in_that_step_and_bad_batches_are_errors() {
    let options = options(20, Encoder::FineTuned, 0.0);
    let set = parameters(&options, 4, 1);
    let counts = [1, 2];
    let (tokens, labels) = byte_flows(&counts, 9, 256, 4, 0);
    let batch = ByteBatch { tokens: &tokens, counts: &counts, metadata: &[], most: 2, pooling: Pooling::MEAN };
    for implementation in [Implementation::Fast, Implementation::Reference] {
        let engine = Engine { implementation, device: Device::Cpu };
        let new = |set: &ParameterSet| engine.joint_classifier(&options, set, 9).unwrap();
        for name in ["elmo.backward.1.weight_hh", "classifier.dense.weight"] {
            let mut broken = set.clone();
            broken.values_mut(name).unwrap()[3] = f32::NAN;
            let mut model = new(&broken);
            let error = model.train_step(&batch, &labels, 0.1).unwrap_err().to_string();
            let place = name.strip_suffix(".weight").unwrap_or(name);
            assert!(error.contains(&format!("classifier_training diverged in {place}")), "{error}");
            for (other, parameter) in set.iter().filter(|(other, _)| !other.contains("running") && *other != name) {
                assert_eq!(model.parameters().get(other, &parameter.shape).unwrap(), parameter.values, "{other}");
            }
        }
        let mut model = new(&set);
        for (counts, most, labels) in
            [(&[1, 2], 1, &labels), (&[2, 2], 2, &labels), (&[1, 2], 2, &vec![0, 4]), (&[1, 2], 2, &vec![0])]
        {
            let batch = ByteBatch { counts, most, ..batch };
            assert!(model.train_step(&batch, labels, 0.1).is_err(), "{counts:?} {most} {labels:?}");
        }
        // A batch in which no flow has bytes does not change the ELMo.
        let nothing = ByteBatch { tokens: &[], counts: &[0, 0], metadata: &[], most: 2, pooling: Pooling::MEAN };
        assert!(model.train_step(&nothing, &labels, 0.1).is_ok());
        let after = model.parameters();
        for (name, parameter) in set.iter().filter(|(name, _)| name.starts_with("elmo.")) {
            assert_eq!(after.get(name, &parameter.shape).unwrap(), parameter.values, "{name}");
        }
        assert!(model.train_step(&batch, &labels, 0.1).is_ok());
    }
}
