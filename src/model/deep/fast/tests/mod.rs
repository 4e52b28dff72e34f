//! The fast engine against PyTorch's golden values, the reference engine and finite differences.

mod double;

use rand::RngExt;

use super::*;
use crate::feature::PAD;
use crate::model::CudaDevice;
use crate::model::deep::engine::PacketBatch;
use crate::model::deep::parameters::{Activation, initial_classifier, initial_elmo};
use crate::model::deep::{golden, reference};
use crate::seed;

/// Packets of these lengths, padded to `width`.
fn packets(lengths: &[usize], width: usize, vocabulary: u16, seed: u64) -> Vec<u16> {
    let mut generator = seed::generator(seed, "tokens");
    let mut tokens = Vec::new();
    for &length in lengths {
        tokens.extend((0..length).map(|_| generator.random_range(0..vocabulary)));
        tokens.resize(tokens.len().next_multiple_of(width).max(width), PAD);
    }
    tokens
}

/// Encoded packets and labels; what stands at padded packets is noise that must not matter.
fn flows(counts: &[u32], width: usize, columns: usize, classes: u32, seed: u64) -> (Vec<f32>, Vec<u32>) {
    let mut generator = seed::generator(seed, "flows");
    let layers = (0..counts.len() * width * 3 * columns).map(|_| generator.random_range(-1.0..1.0f32)).collect();
    (layers, counts.iter().map(|_| generator.random_range(0..classes)).collect())
}

fn check_gradients(
    found: &[(String, Vec<f32>)],
    parameters: &mut double::Parameters,
    loss: &dyn Fn(&double::Parameters) -> f64,
) {
    let largest_of = |values: &[f32]| values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let all = found.iter().map(|(_, values)| largest_of(values)).fold(0f32, f32::max);
    assert!(all > 1e-3);
    for (name, values) in found {
        // Relative to the parameter's largest gradient; a gradient that is zero in theory, to the largest of all.
        let scale = f64::from(largest_of(values)).max(1e-2 * f64::from(all));
        for (index, expected) in double::differences(parameters, name, 40, loss) {
            let error = (f64::from(values[index]) - expected).abs() / scale;
            assert!(error < 1e-4, "{name}[{index}]: {} is not {expected}, relative error {error}", values[index]);
        }
    }
}

#[test]
fn elmo_is_that_of_pytorch() {
    golden::check_language_model(&|options, parameters, seed| language_model(options, parameters, seed, Device::Cpu));
}

#[test]
fn classifiers_are_those_of_pytorch() {
    golden::check_classifier(&|options, parameters, seed| classifier(options, parameters, seed, Device::Cpu));
}

#[test]
fn elmo_gradients_are_finite_differences() {
    for (layers, hidden, lengths) in [(2, 9, vec![5, 1, 7, 3, 7]), (1, 16, vec![2]), (3, 4, [4, 2].repeat(20))] {
        let options = ElmoOptions { embedding: hidden, hidden, layers, ..ElmoOptions::default() };
        let set = initial_elmo(&options, 257, 5);
        let tokens = packets(&lengths, 7, 20, 1);
        let mut model = language_model::Elmo::new(cpu::Cpu::new(), &options, &set, 0).unwrap();
        let loss = model.gradients(&tokens, lengths.len()).unwrap();
        let mut parameters = double::parameters(&set);
        let exact = |parameters: &double::Parameters| double::elmo_loss(parameters, layers, hidden, &tokens, 7);
        assert!((loss.mean() - exact(&parameters)).abs() < 1e-5);
        check_gradients(&model.named_gradients(), &mut parameters, &exact);
    }
}

#[test]
fn classifier_gradients_are_finite_differences() {
    for (activation, attention, counts) in [
        (Activation::Tanh, true, vec![3, 1, 4, 2, 4]),
        (Activation::Relu, true, vec![4, 2, 1]),
        (Activation::Relu, false, vec![1, 1, 3, 2]),
        (Activation::Tanh, false, vec![4]),
    ] {
        let elmo = ElmoOptions { embedding: 5, hidden: 5, ..ElmoOptions::default() };
        let options =
            AttentionLstmOptions { lstm: 11, dense: 6, activation, attention, elmo, ..AttentionLstmOptions::default() };
        let set = initial_classifier(&options, 3, 5);
        let (layers, labels) = flows(&counts, 4, 10, 3, 2);
        let batch = PacketBatch { layers: &layers, counts: &counts, flows: counts.len() };
        let mut model = classifier::AttentionLstm::new(cpu::Cpu::new(), &options, &set, 0).unwrap();
        let loss = model.gradients(&batch, &labels).unwrap();
        let mut parameters = double::parameters(&set);
        let flows = double::Flows { layers: &layers, counts: &counts, labels: &labels, columns: 10 };
        let exact = |parameters: &double::Parameters| double::classifier_loss(parameters, activation, &flows);
        assert!((loss.mean() - exact(&parameters)).abs() < 1e-5);
        check_gradients(&model.named_gradients(), &mut parameters, &exact);
    }
}

/// Losses over some steps, with dropout, and what the model then gives.
fn train(
    language_model: &mut dyn LanguageModel,
    classifier: &mut dyn SequenceClassifier,
    steps: u64,
) -> (Vec<f64>, Vec<f32>) {
    let lengths: Vec<usize> = (0..70).map(|packet| 1 + packet * 7 % 19).collect();
    let counts: Vec<u32> = (0..70).map(|flow| 1 + flow * 3 % 5).collect();
    let mut losses = Vec::new();
    for step in 0..steps {
        let tokens = packets(&lengths, 19, 256, step);
        losses.push(language_model.train_step(&tokens, lengths.len(), 0.005).unwrap().mean());
        let (layers, labels) = flows(&counts, 5, 40, 4, step);
        let batch = PacketBatch { layers: &layers, counts: &counts, flows: counts.len() };
        losses.push(classifier.train_step(&batch, &labels, 0.005).unwrap().mean());
    }
    let tokens = packets(&lengths, 19, 256, 0);
    let mut found = vec![0.0; lengths.len() * 3 * 40];
    language_model.encode(&tokens, lengths.len(), &mut found).unwrap();
    let (layers, _) = flows(&counts, 5, 40, 4, 0);
    let batch = PacketBatch { layers: &layers, counts: &counts, flows: counts.len() };
    let mut probabilities = vec![0.0; counts.len() * 4];
    classifier.probabilities(&batch, &mut probabilities).unwrap();
    found.extend(probabilities);
    (losses, found)
}

fn options() -> AttentionLstmOptions {
    let elmo = ElmoOptions { embedding: 20, hidden: 20, dropout: 0.2, ..ElmoOptions::default() };
    AttentionLstmOptions {
        lstm: 24,
        dense: 10,
        dropout: 0.2,
        weight_decay: 0.01,
        elmo,
        ..AttentionLstmOptions::default()
    }
}

#[test]
fn training_follows_the_reference() {
    let options = options();
    let (elmo, set) = (initial_elmo(&options.elmo, 257, 1), initial_classifier(&options, 4, 1));
    let fast = train(
        &mut *language_model(&options.elmo, &elmo, 9, Device::Cpu).unwrap(),
        &mut *classifier(&options, &set, 9, Device::Cpu).unwrap(),
        20,
    );
    let portable = train(
        &mut language_model::Elmo::new(cpu::Cpu::portable(), &options.elmo, &elmo, 9).unwrap(),
        &mut classifier::AttentionLstm::new(cpu::Cpu::portable(), &options, &set, 9).unwrap(),
        20,
    );
    let reference = train(
        &mut *reference::language_model(&options.elmo, &elmo, 9).unwrap(),
        &mut *reference::classifier(&options, &set, 9).unwrap(),
        20,
    );
    for found in [fast, portable] {
        for (step, (found, reference)) in found.0.iter().zip(&reference.0).enumerate() {
            assert!((found - reference).abs() < 1e-4 * reference, "step {step}: {found} is not {reference}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let options = options();
    let (elmo, set) = (initial_elmo(&options.elmo, 257, 1), initial_classifier(&options, 4, 1));
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let mut language_model = language_model(&options.elmo, &elmo, 9, Device::Cpu).unwrap();
            let mut classifier = classifier(&options, &set, 9, Device::Cpu).unwrap();
            let (losses, found) = train(&mut *language_model, &mut *classifier, 3);
            (losses, found, language_model.parameters(), classifier.parameters())
        })
    };
    let one = run(1);
    assert!(one.0.iter().all(|loss| loss.is_finite()));
    assert_eq!(one, run(2));
    assert_eq!(one, run(4));
}

#[test]
fn bad_batches_and_devices_are_errors() {
    let options = options();
    let (elmo, set) = (initial_elmo(&options.elmo, 257, 1), initial_classifier(&options, 4, 1));
    let absent = Device::Cuda(CudaDevice { number: 999, ..CudaDevice::default() });
    assert!(language_model(&options.elmo, &elmo, 9, absent).is_err());
    let mut model = language_model(&options.elmo, &elmo, 9, Device::Cpu).unwrap();
    let before = model.parameters();
    assert_eq!(before, elmo);
    assert_eq!(model.train_step(&[1, PAD, 2, PAD], 2, 0.1).unwrap().targets, 0);
    assert_eq!(model.parameters(), before);
    assert!(model.train_step(&[1, 2, PAD, PAD], 2, 0.1).is_err());
    assert!(model.train_step(&[1, PAD, 2], 1, 0.1).is_err());
    assert!(model.loss(&[300, 2], 1).is_err());
    assert!(model.loss(&[], 0).is_err());
    assert!(model.encode(&[1, 2], 1, &mut [0.0; 7]).is_err());

    let mut model = classifier(&options, &set, 9, Device::Cpu).unwrap();
    assert_eq!(model.parameters(), set);
    let (layers, labels) = flows(&[1, 2], 2, 40, 4, 0);
    for (counts, labels) in
        [(vec![1, 3], &labels), (vec![0, 1], &labels), (vec![1, 2], &vec![0, 4]), (vec![1, 2], &vec![0])]
    {
        let batch = PacketBatch { layers: &layers, counts: &counts, flows: 2 };
        assert!(model.train_step(&batch, labels, 0.1).is_err(), "{counts:?} {labels:?}");
    }
}
