//! Checks the fast engine against PyTorch's golden values, the reference engine and finite differences.

mod double;
mod layers;
mod together;
mod transformer;

use rand::RngExt;

use super::*;
use crate::deep::engine::PacketBatch;
use crate::deep::loss::Loss;
use crate::deep::parameters::{
    Activation, Normalisation, PacketMetadata, WeightAveraging, initial_classifier, initial_elmo,
};
use crate::deep::pooling::{Pooling, PoolingKind};
use crate::deep::{Engine, golden, reference};
use crate::{CudaDevice, Implementation};
use etcbench_feature::PAD;
use etcbench_storage::seed;

/// Generates packets of these lengths, padded to `width`.
fn packets(lengths: &[usize], width: usize, vocabulary: u16, seed: u64) -> Vec<u16> {
    let mut generator = seed::generator(seed, "tokens");
    let mut tokens = Vec::new();
    for &length in lengths {
        tokens.extend((0..length).map(|_| generator.random_range(0..vocabulary)));
        tokens.resize(tokens.len().next_multiple_of(width).max(width), PAD);
    }
    tokens
}

/// Generates encoded packets and labels; padded packets contain noise that must not affect results.
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
        // Relative to the parameter's largest gradient; for a gradient that is 0 in theory, relative to the largest of
        // all.
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
    for (layers, hidden, positions, lengths) in [
        (2, 9, false, vec![5, 1, 7, 3, 7]),
        (1, 16, false, vec![2]),
        (3, 4, false, [4, 2].repeat(20)),
        (2, 9, true, vec![5, 1, 7, 3, 7]),
        (1, 4, true, [4, 2].repeat(20)),
    ] {
        let options = ElmoOptions { embedding: hidden, hidden, layers, positions, ..ElmoOptions::default() };
        let set = initial_elmo(&options, 257, 7, 5);
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
    use Normalisation::Batch;
    const AS_IT_IS: Normalisation = Normalisation::None;
    for (activation, attention, normalisation, counts) in [
        (Activation::Tanh, true, AS_IT_IS, vec![3, 1, 4, 2, 4]),
        (Activation::Relu, true, AS_IT_IS, vec![4, 2, 1]),
        (Activation::Relu, false, AS_IT_IS, vec![1, 1, 3, 2]),
        (Activation::Tanh, false, AS_IT_IS, vec![4]),
        (Activation::Relu, true, AS_IT_IS, vec![3]),
        (Activation::Tanh, true, AS_IT_IS, vec![1, 1, 1]),
        (Activation::Tanh, true, Batch, vec![3, 1, 4, 2, 4]),
        (Activation::Relu, false, Batch, vec![4, 2, 1]),
    ] {
        let elmo = ElmoOptions { embedding: 5, hidden: 5, ..ElmoOptions::default() };
        let options = AttentionLstmOptions {
            lstm: 11,
            dense: 6,
            activation,
            attention,
            normalisation,
            elmo,
            ..AttentionLstmOptions::default()
        };
        let set = initial_classifier(&options, 3, 5);
        let (layers, labels) = flows(&counts, 4, 10, 3, 2);
        let batch = PacketBatch::whole(&layers, &counts);
        let wide: Vec<f64> = layers.iter().map(|&value| value.into()).collect();
        for loss_of in [
            Loss::unweighted(3, 0.0),
            Loss::unweighted(3, 0.25),
            Loss { weights: vec![0.5, 3.0, 1.25], smoothing: 0.0 },
            Loss { weights: vec![0.5, 3.0, 1.25], smoothing: 0.25 },
        ] {
            let options = AttentionLstmOptions { label_smoothing: loss_of.smoothing, ..options.clone() };
            let mut model = classifier::AttentionLstm::new(cpu::Cpu::new(), &options, &set, 0).unwrap();
            model.set_class_weights(&loss_of.weights).unwrap();
            let loss = model.gradients(&batch, &labels).unwrap();
            let mut parameters = double::parameters(&set);
            let (layers, counts, labels, loss_of) = (&wide, &counts, &labels, &loss_of);
            let flows = double::Flows { layers, counts, labels, columns: 10, loss: loss_of, left: None };
            let exact = |parameters: &double::Parameters| double::classifier_loss(parameters, activation, &flows);
            assert!((loss.mean() - exact(&parameters)).abs() < 1e-5);
            check_gradients(&model.named_gradients(), &mut parameters, &exact);
        }
    }
}

/// Checks every gradient to within 1e-5 of the largest of all: the reference also computes in single precision, and a
/// normalisation over few rows amplifies its rounding errors.
fn check_same(case: &str, found: &[(String, Vec<f32>)], expected: &[(String, Vec<f32>)]) {
    let largest_of = |values: &[f32]| values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let all = expected.iter().map(|(_, values)| largest_of(values)).fold(0f32, f32::max);
    assert!(all > 1e-3 && found.len() == expected.len());
    for (name, expected) in expected {
        let (_, found) = found.iter().find(|(found, _)| found == name).unwrap();
        let tolerance = 1e-5 * all;
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() <= tolerance, "{case} {name}[{index}]: {found} is not {expected}");
        }
    }
}

#[test]
fn gradients_are_those_of_the_reference() {
    // Sizes below and above the widths of a register and a panel, to cover every path of the kernels.
    for (layers, hidden, lengths) in
        [(2, 20, vec![5, 1, 7, 3, 7]), (1, 33, vec![2]), (2, 8, vec![7]), (1, 40, [6, 2, 1].repeat(13))]
    {
        for (dropout, positions) in [(0.0, false), (0.25, false), (0.25, true)] {
            let sizes = ElmoOptions { embedding: hidden, hidden, layers, ..ElmoOptions::default() };
            let options = ElmoOptions { dropout, positions, ..sizes };
            let set = initial_elmo(&options, 257, 7, 5);
            let tokens = packets(&lengths, 7, 256, 1);
            let expected = reference::language_model_gradients(&options, &set, &tokens, lengths.len()).unwrap();
            for cpu in [cpu::Cpu::new(), cpu::Cpu::portable()] {
                let mut model = language_model::Elmo::new(cpu, &options, &set, 0).unwrap();
                model.gradients(&tokens, lengths.len()).unwrap();
                check_same(&format!("{layers} x {hidden} {positions}"), &model.named_gradients(), &expected);
            }
        }
    }
    // Not two rows in total: their normalised values would be plus and minus one, leaving only rounding errors in the
    // gradient.
    let counts = [vec![3, 1, 4, 2, 4], vec![4], vec![1, 1, 1], [4, 1, 3].repeat(14)];
    let cases = [Activation::Tanh, Activation::Relu].into_iter().flat_map(|activation| {
        [
            (true, Normalisation::None, 0),
            (false, Normalisation::None, 0),
            (true, Normalisation::Batch, 0),
            (true, Normalisation::None, 1),
            (false, Normalisation::Batch, 3),
        ]
        .map(|(attention, normalisation, beside)| (activation, attention, normalisation, beside))
    });
    let all = [PacketMetadata::Length, PacketMetadata::Direction, PacketMetadata::Time];
    for ((activation, attention, normalisation, beside), counts) in
        cases.flat_map(|case| counts.iter().map(move |counts| (case, counts)))
    {
        let elmo = ElmoOptions { embedding: 9, hidden: 9, ..ElmoOptions::default() };
        let options = AttentionLstmOptions {
            lstm: 21,
            dense: 17,
            dropout: 0.1,
            activation,
            attention,
            normalisation,
            packet_metadata: all[..beside].to_vec(),
            elmo,
            ..AttentionLstmOptions::default()
        };
        let set = initial_classifier(&options, 5, 5);
        let (layers, labels) = flows(counts, 4, 18, 5, 2);
        let metadata: Vec<f32> = (0..counts.len() * 4 * beside).map(|at| (at * 7 % 11) as f32 / 5.0 - 1.0).collect();
        let batch = PacketBatch { metadata: &metadata, ..PacketBatch::whole(&layers, counts) };
        for (weights, label_smoothing) in [([1.0; 5], 0.0), ([0.5, 3.0, 1.0, 1.25, 0.75], 0.1)] {
            let options = AttentionLstmOptions { label_smoothing, ..options.clone() };
            let expected = reference::classifier_gradients(&options, &set, &batch, &labels, &weights).unwrap();
            for cpu in [cpu::Cpu::new(), cpu::Cpu::portable()] {
                let mut model = classifier::AttentionLstm::new(cpu, &options, &set, 0).unwrap();
                model.set_class_weights(&weights).unwrap();
                model.gradients(&batch, &labels).unwrap();
                check_same(
                    &format!("{activation:?} {attention} {normalisation:?} {beside} {counts:?} {label_smoothing}"),
                    &model.named_gradients(),
                    &expected,
                );
            }
        }
    }
}

/// Runs training steps with dropout; returns the losses, and the results of the model with averaged weights and
/// recomputed statistics.
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
        let batch = PacketBatch::whole(&layers, &counts);
        losses.push(classifier.train_step(&batch, &labels, 0.005).unwrap().mean());
    }
    let tokens = packets(&lengths, 19, 256, 0);
    let mut found = vec![0.0; lengths.len() * 3 * 40];
    language_model.encode(&tokens, lengths.len(), Pooling::MEAN, &mut found).unwrap();
    let (layers, _) = flows(&counts, 5, 40, 4, 0);
    let batch = PacketBatch::whole(&layers, &counts);
    let mut averaged = classifier.parameters();
    averaged.extend(&classifier.optimiser_state().average);
    classifier.set_parameters(&averaged).unwrap();
    let rows = classifier.collect_statistics(&batch, 0).unwrap();
    assert_eq!(rows, counts.iter().map(|&count| u64::from(count)).sum::<u64>());
    classifier.collect_statistics(&PacketBatch::whole(&layers[..5 * 3 * 40], &counts[..1]), rows).unwrap();
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
        weight_averaging: WeightAveraging::Exponential,
        elmo,
        ..AttentionLstmOptions::default()
    }
}

#[test]
fn training_follows_the_reference() {
    let options = options();
    let (elmo, set) = (initial_elmo(&options.elmo, 257, 19, 1), initial_classifier(&options, 4, 1));
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
        &mut *reference::language_model(&options.elmo, &elmo, 9, Device::Cpu).unwrap(),
        &mut *reference::classifier(&options, &set, 9, Device::Cpu).unwrap(),
        20,
    );
    for found in [fast, portable] {
        for (step, (found, reference)) in found.0.iter().zip(&reference.0).enumerate() {
            assert!((found - reference).abs() < 1e-4 * reference, "step {step}: {found} is not {reference}");
        }
        for (found, reference) in found.1.iter().zip(&reference.1) {
            assert!((found - reference).abs() < 5e-3, "{found} is not {reference}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let options = options();
    let (elmo, set) = (initial_elmo(&options.elmo, 257, 19, 1), initial_classifier(&options, 4, 1));
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let mut language_model = language_model(&options.elmo, &elmo, 9, Device::Cpu).unwrap();
            let mut classifier = classifier(&options, &set, 9, Device::Cpu).unwrap();
            let (losses, found) = train(&mut *language_model, &mut *classifier, 3);
            (losses, found, language_model.parameters(), classifier.parameters(), classifier.optimiser_state())
        })
    };
    let one = run(1);
    assert!(one.0.iter().all(|loss| loss.is_finite()));
    assert_eq!(one, run(2));
    assert_eq!(one, run(4));
}

#[test]
fn training_that_leaves_the_finite_numbers_stops_in_that_step() {
    let options = options();
    let set = initial_classifier(&options, 4, 1);
    let (layers, labels) = flows(&[1, 2], 2, 40, 4, 0);
    let batch = PacketBatch::whole(&layers, &[1, 2]);
    let elmo = initial_elmo(&options.elmo, 257, 19, 1);
    for implementation in [Implementation::Fast, Implementation::Reference] {
        let engine = Engine { implementation, device: Device::Cpu };
        let new = |set: &ParameterSet| engine.classifier(&options, set, 9).unwrap();
        // The loss is NaN, the parameters do not change, and the error contains the place.
        let mut broken = set.clone();
        broken.values_mut("classifier.dense.weight").unwrap()[3] = f32::NAN;
        let mut model = new(&broken);
        let error = model.train_step(&batch, &labels, 0.1).unwrap_err().to_string();
        assert!(error.contains("classifier_training diverged in classifier.dense"), "{error}");
        let after = model.parameters();
        for (name, parameter) in
            set.iter().filter(|(name, _)| !name.contains("running") && *name != "classifier.dense.weight")
        {
            assert_eq!(after.get(name, &parameter.shape).unwrap(), parameter.values, "{name}");
        }
        assert!(new(&set).train_step(&batch, &labels, 0.1).is_ok());
    }
    let mut broken = elmo.clone();
    broken.values_mut("elmo.forward.1.weight_hh").unwrap()[0] = f32::NAN;
    let tokens = packets(&[5, 4], 5, 256, 0);
    for mut model in [
        language_model(&options.elmo, &broken, 9, Device::Cpu).unwrap(),
        reference::language_model(&options.elmo, &broken, 9, Device::Cpu).unwrap(),
    ] {
        let error = model.train_step(&tokens, 2, 0.1).unwrap_err().to_string();
        assert!(error.contains("elmo_pretraining diverged in elmo.forward.1.weight_hh"), "{error}");
    }
}

#[test]
fn bad_batches_and_devices_are_errors() {
    let options = options();
    let (elmo, set) = (initial_elmo(&options.elmo, 257, 19, 1), initial_classifier(&options, 4, 1));
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
    assert!(model.encode(&[1, 2], 1, Pooling::MEAN, &mut [0.0; 7]).is_err());
    // Neither engine accepts positions beyond those with an embedding.
    let positions = ElmoOptions { positions: true, ..options.elmo.clone() };
    let known = initial_elmo(&positions, 257, 3, 1);
    for mut model in [
        language_model(&positions, &known, 9, Device::Cpu).unwrap(),
        reference::language_model(&positions, &known, 9, Device::Cpu).unwrap(),
    ] {
        assert!(model.loss(&[1, 2, 3], 1).is_ok());
        let error = model.loss(&[1, 2, 3, 4], 1).unwrap_err().to_string();
        assert!(error.contains("packets of 4 bytes exceed the 3 positions with an embedding"), "{error}");
    }

    let mut model = classifier(&options, &set, 9, Device::Cpu).unwrap();
    assert_eq!(model.parameters(), set);
    assert!(model.set_class_weights(&[1.0; 3]).is_err());
    let (layers, labels) = flows(&[1, 2], 2, 40, 4, 0);
    for (counts, labels) in
        [(vec![1, 3], &labels), (vec![0, 1], &labels), (vec![1, 2], &vec![0, 4]), (vec![1, 2], &vec![0])]
    {
        let batch = PacketBatch::whole(&layers, &counts);
        assert!(model.train_step(&batch, labels, 0.1).is_err(), "{counts:?} {labels:?}");
    }
}
