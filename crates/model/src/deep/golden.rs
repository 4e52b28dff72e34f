//! Golden values from PyTorch in double precision (`tests/fixtures/deep/make_golden.py`), and the checks that both
//! engines must pass.

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use super::engine::{ByteBatch, JointClassifier, LanguageModel, PacketBatch, SequenceClassifier};
use super::parameters::{
    Activation, AttentionLstmOptions, ElmoOptions, Encoder, Normalisation, PacketMetadata, ParameterSet,
    WeightAveraging,
};
use super::pooling::{Pooling, PoolingKind};
use crate::ModelError;
use etcbench_feature::PAD;

/// Constructor of an engine's language model.
pub(crate) type NewLanguageModel<'a> =
    &'a dyn Fn(&ElmoOptions, &ParameterSet, u64) -> Result<Box<dyn LanguageModel>, ModelError>;

/// Constructor of an engine's classifier.
pub(crate) type NewClassifier<'a> =
    &'a dyn Fn(&AttentionLstmOptions, &ParameterSet, u64) -> Result<Box<dyn SequenceClassifier>, ModelError>;

/// Constructor of an engine's classifier with its ELMo.
pub(crate) type NewJoint<'a> =
    &'a dyn Fn(&AttentionLstmOptions, &ParameterSet, u64) -> Result<Box<dyn JointClassifier>, ModelError>;

/// M in the fixture.
pub(crate) const BYTES: usize = 12;

/// The fixture.
pub(crate) struct Golden {
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Golden {
    pub(super) fn read() -> Self {
        let bytes =
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/deep/golden.safetensors"));
        let file = SafeTensors::deserialize(bytes).unwrap();
        let tensors = file.iter().map(|(name, view)| {
            let words = view.data().chunks_exact(4).map(|word| <[u8; 4]>::try_from(word).unwrap());
            let values = match view.dtype() {
                Dtype::F32 => words.map(f32::from_le_bytes).collect(),
                Dtype::I32 => words.map(|word| i32::from_le_bytes(word) as f32).collect(),
                Dtype::U8 => view.data().iter().map(|&byte| byte.into()).collect(),
                other => panic!("{name}: {other:?}"),
            };
            (name.to_owned(), view.shape().to_vec(), values)
        });
        let mut tensors = tensors.collect::<Vec<_>>();
        tensors.sort_by(|left, right| left.0.cmp(&right.0));
        Self { tensors }
    }

    pub(super) fn tensor(&self, name: &str) -> (&[usize], &[f32]) {
        let found = self.tensors.iter().find(|tensor| tensor.0 == name);
        found.map(|(_, shape, values)| (shape.as_slice(), values.as_slice())).unwrap_or_else(|| panic!("{name}"))
    }

    /// Returns all parameters whose names start with `prefix`, with the prefix removed.
    pub(super) fn parameters(&self, prefix: &str) -> ParameterSet {
        let mut set = ParameterSet::default();
        for (name, shape, values) in &self.tensors {
            if let Some(name) = name.strip_prefix(prefix) {
                set.insert(name, shape, values.clone());
            }
        }
        assert!(set.iter().next().is_some(), "{prefix}");
        set
    }

    /// Returns the classifier's initial parameters with fresh running statistics.
    pub(super) fn classifier_parameters(&self, case: &str) -> ParameterSet {
        let mut set = self.parameters(&format!("{case}/before/"));
        for norm in ["classifier.norm_0", "classifier.norm_1", "classifier.norm_2"] {
            if let Ok(&[size]) = set.shape(&format!("{norm}.weight")) {
                set.insert(format!("{norm}.running_mean"), &[size], vec![0.0; size]);
                set.insert(format!("{norm}.running_var"), &[size], vec![1.0; size]);
            }
        }
        set
    }

    /// Returns the class weights of a case, if it has any.
    pub(super) fn class_weights(&self, case: &str) -> Option<&[f32]> {
        let name = format!("{case}/class_weights");
        self.tensors.iter().find(|tensor| tensor.0 == name).map(|tensor| tensor.2.as_slice())
    }

    /// Returns the packets of a step of the language model and their number.
    pub(super) fn tokens(&self, step: usize) -> (Vec<u16>, usize) {
        self.tokens_of("elmo", step)
    }

    pub(super) fn tokens_of(&self, case: &str, step: usize) -> (Vec<u16>, usize) {
        let (shape, values) = self.tensor(&format!("{case}/tokens.{step}"));
        (values.iter().map(|&token| token as u16).collect(), shape[0])
    }

    fn numbers(&self, case: &str, name: &str, step: usize) -> Vec<u32> {
        self.tensor(&format!("{case}/{name}.{step}")).1.iter().map(|&value| value as u32).collect()
    }

    /// Returns the encoded packets, counts, labels and packet metadata of a step.
    pub(super) fn flows(&self, case: &str, step: usize) -> (Vec<f32>, Vec<u32>, Vec<u32>, Vec<f32>) {
        let layers = self.tensor(&format!("{case}/layers.{step}")).1.to_vec();
        let name = format!("{case}/metadata.{step}");
        let beside = self.tensors.iter().find(|tensor| tensor.0 == name).map(|tensor| tensor.2.clone());
        let (counts, labels) = (self.numbers(case, "counts", step), self.numbers(case, "labels", step));
        (layers, counts, labels, beside.unwrap_or_default())
    }

    /// Returns the packets' bytes, counts and labels of a step.
    pub(super) fn byte_flows(&self, case: &str, step: usize) -> (Vec<u16>, Vec<u32>, Vec<u32>) {
        let tokens = self.numbers(case, "tokens", step).into_iter().map(|token| token as u16).collect();
        (tokens, self.numbers(case, "counts", step), self.numbers(case, "labels", step))
    }

    /// Checks every gradient to within 1e-5 of the largest of its parameter plus 1e-6 of the largest of all.
    pub(super) fn check_gradients(&self, case: &str, gradients: &[(String, Vec<f32>)]) {
        let largest_of = |values: &[f32]| values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let all = gradients.iter().map(|(_, values)| largest_of(values)).fold(0f32, f32::max);
        for (name, found) in gradients {
            let (_, expected) = self.tensor(&format!("{case}/gradient/{name}"));
            let tolerance = 1e-5 * largest_of(expected) + 1e-6 * all;
            check(&format!("{case} gradient of {name}"), found, expected, tolerance);
        }
        let trained = self.parameters(&format!("{case}/gradient/")).iter().count();
        assert_eq!(gradients.len(), trained, "{case}: every parameter has a gradient");
    }

    /// Checks trained parameters to within a hundredth of a step of the learning rate, except where their values depend
    /// on rounding. The fixture marks the values to compare: Adam divides a gradient by its own magnitude, so a
    /// gradient that is exactly 0 in theory yields steps determined by rounding errors. Examples are a key's bias,
    /// which shifts all scores of a query alike, and a value's bias, which the normalisation after the attention
    /// removes.
    fn check_parameters(&self, case: &str, found: &ParameterSet, learning_rate: f32) {
        let (mut all, mut left_out) = (0, 0);
        for (name, expected) in self.parameters(&format!("{case}/after/")).iter() {
            let values = found.get(name, &expected.shape).unwrap();
            let (_, settled) = self.tensor(&format!("{case}/settled/{name}"));
            assert_eq!(settled.len(), values.len(), "{case} {name}");
            let pairs = values.iter().zip(&expected.values).zip(settled);
            let compared = pairs.map(|((&value, &expected), &settled)| if settled == 1.0 { value } else { expected });
            check(&format!("{case} {name}"), &compared.collect::<Vec<_>>(), &expected.values, 0.01 * learning_rate);
            all += settled.len();
            left_out += settled.iter().filter(|settled| **settled == 0.0).count();
            if !name.contains(".running_") {
                let (_, before) = self.tensor(&format!("{case}/before/{name}"));
                assert!(values != before || !settled.contains(&1.0), "{case} {name} was trained");
                // No value moves by more than five steps (plus weight decay).
                check(&format!("{case} {name}, from where it was"), values, before, 6.0 * learning_rate);
            }
        }
        assert!(left_out * 20 < all, "{case}: {left_out} of {all} entries are not compared");
    }
}

impl Golden {
    /// Checks the averages of weights after five steps, and the running statistics recomputed over the training batches
    /// with these averages, which the model keeps.
    fn check_averages(&self, case: &str, model: &mut dyn SequenceClassifier, learning_rate: f32) {
        let average = model.optimiser_state().average;
        let mut averaged = model.parameters();
        for (name, expected) in self.parameters(&format!("{case}/averaged/")).iter() {
            let (_, settled) = self.tensor(&format!("{case}/settled/{name}"));
            let pairs = average.get(name, &expected.shape).unwrap().iter().zip(&expected.values).zip(settled);
            let compared = pairs.map(|((&value, &expected), &settled)| if settled == 1.0 { value } else { expected });
            let compared = compared.collect::<Vec<_>>();
            check(&format!("{case} average of {name}"), &compared, &expected.values, 0.01 * learning_rate);
            averaged.insert(name, &expected.shape, expected.values.clone());
        }
        model.set_parameters(&averaged).unwrap();
        let mut rows = 0;
        for step in 0..5 {
            let (layers, counts, _, metadata) = self.flows(case, step);
            let batch = PacketBatch { metadata: &metadata, ..PacketBatch::whole(&layers, &counts) };
            rows += model.collect_statistics(&batch, rows).unwrap();
        }
        for (name, expected) in self.parameters(&format!("{case}/recomputed/")).iter() {
            let found = model.parameters().get(name, &expected.shape).unwrap().to_vec();
            check(&format!("{case} recomputed {name}"), &found, &expected.values, 1e-5);
        }
    }
}

fn check(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= tolerance;
        assert!(close, "{what}[{index}]: {found} is not {expected} to within {tolerance}");
    }
}

/// Options of the fixture's language model.
pub(crate) fn elmo_options() -> ElmoOptions {
    ElmoOptions { embedding: 8, hidden: 8, layers: 2, clip_norm: 0.5, ..ElmoOptions::default() }
}

/// Options of the fixture's classifiers.
pub(crate) fn classifier_cases() -> Vec<(&'static str, AttentionLstmOptions)> {
    let options = |activation, attention, weight_decay| AttentionLstmOptions {
        lstm: 8,
        dense: 6,
        clip_norm: 1.0,
        elmo: elmo_options(),
        activation,
        attention,
        weight_decay,
        ..AttentionLstmOptions::default()
    };
    vec![
        ("relu_attention", options(Activation::Relu, true, 0.0)),
        ("tanh_attention", options(Activation::Tanh, true, 0.0)),
        ("relu_plain", options(Activation::Relu, false, 0.05)),
        ("tanh_plain", options(Activation::Tanh, false, 0.0)),
        ("relu_dropout", AttentionLstmOptions { dropout: 0.3, ..options(Activation::Relu, true, 0.0) }),
        (
            "tanh_normalised",
            AttentionLstmOptions {
                normalisation: Normalisation::Batch,
                dropout: 0.3,
                ..options(Activation::Tanh, true, 0.0)
            },
        ),
        (
            "tanh_metadata",
            AttentionLstmOptions {
                normalisation: Normalisation::Batch,
                packet_metadata: vec![PacketMetadata::Length, PacketMetadata::Time],
                ..options(Activation::Tanh, true, 0.0)
            },
        ),
        ("weighted", AttentionLstmOptions { label_smoothing: 0.125, ..options(Activation::Tanh, true, 0.0) }),
        (
            "averaged",
            AttentionLstmOptions {
                normalisation: Normalisation::Batch,
                dropout: 0.3,
                weight_averaging: WeightAveraging::Exponential,
                weight_averaging_decay: 0.6,
                ..options(Activation::Tanh, true, 0.0)
            },
        ),
    ]
}

/// Options of the fixture's classifiers that are trained together with their ELMo.
pub(crate) fn joint_cases() -> Vec<(&'static str, AttentionLstmOptions)> {
    let options = |activation, encoder, dropout| AttentionLstmOptions {
        lstm: 8,
        dense: 6,
        clip_norm: 1.0,
        elmo: ElmoOptions { dropout, ..elmo_options() },
        activation,
        encoder,
        dropout,
        ..AttentionLstmOptions::default()
    };
    vec![
        (
            "fine_tuned",
            AttentionLstmOptions { weight_decay: 0.05, ..options(Activation::Relu, Encoder::FineTuned, 0.2) },
        ),
        ("from_scratch", options(Activation::Tanh, Encoder::FromScratch, 0.0)),
        (
            "segments",
            AttentionLstmOptions {
                pooling: PoolingKind::Segments,
                segments: 5,
                normalisation: Normalisation::Batch,
                ..options(Activation::Tanh, Encoder::FineTuned, 0.2)
            },
        ),
        (
            "positions",
            AttentionLstmOptions {
                pooling: PoolingKind::Segments,
                segments: 4,
                elmo: ElmoOptions { positions: true, ..elmo_options() },
                ..options(Activation::Tanh, Encoder::FineTuned, 0.0)
            },
        ),
        (
            "maximum",
            AttentionLstmOptions {
                pooling: PoolingKind::Maximum,
                ..options(Activation::Tanh, Encoder::FromScratch, 0.0)
            },
        ),
        (
            "last",
            AttentionLstmOptions { pooling: PoolingKind::Last, ..options(Activation::Tanh, Encoder::FromScratch, 0.2) },
        ),
        (
            "attention",
            AttentionLstmOptions {
                pooling: PoolingKind::Attention,
                segments: BYTES,
                ..options(Activation::Tanh, Encoder::FineTuned, 0.0)
            },
        ),
        (
            "states",
            AttentionLstmOptions {
                pooling: PoolingKind::States,
                segments: 4,
                ..options(Activation::Tanh, Encoder::FromScratch, 0.2)
            },
        ),
    ]
}

/// Checks the loss under dropout, five steps of pre-training without dropout, the loss after them, and encodings.
pub(crate) fn check_language_model(new: NewLanguageModel<'_>) {
    let golden = Golden::read();
    for (case, positions) in [("elmo", false), ("elmo_positions", true)] {
        let options = ElmoOptions { positions, ..elmo_options() };
        let before = golden.parameters(&format!("{case}/before/"));
        let tensor = |name: &str| golden.tensor(&format!("{case}/{name}"));
        let dropping = ElmoOptions { dropout: 0.3, ..options.clone() };
        let mut model = new(&dropping, &before, 0).unwrap();
        let (tokens, packets) = golden.tokens_of(case, 0);
        let expected = tensor("dropout_loss").1;
        let loss = model.train_step(&tokens, packets, 0.01).unwrap().mean() as f32;
        check(&format!("{case} loss under dropout"), &[loss], expected, 1e-5 * expected[0]);
        let mut model = new(&options, &before, 0).unwrap();
        for (step, expected) in tensor("losses").1.iter().enumerate() {
            let (tokens, packets) = golden.tokens_of(case, step);
            let loss = model.train_step(&tokens, packets, 0.01).unwrap().mean() as f32;
            check(&format!("{case} loss {step}"), &[loss], &[*expected], 1e-5 * expected);
        }
        golden.check_parameters(case, &model.parameters(), 0.01);
        let (tokens, packets) = golden.tokens_of(case, 0);
        let expected = tensor("loss_after").1;
        let loss = model.loss(&tokens, packets).unwrap().mean() as f32;
        check(&format!("{case} loss after"), &[loss], expected, 1e-5 * expected[0]);
        let (shape, expected) = tensor("encodings");
        assert_eq!(shape, [packets, 3, 16]);
        let mut found = vec![f32::NAN; expected.len()];
        model.encode(&tokens, packets, Pooling::MEAN, &mut found).unwrap();
        check(&format!("{case} encodings"), &found, expected, 1e-5);
    }
}

/// Checks five steps of every classifier, and the probabilities after them.
pub(crate) fn check_classifier(new: NewClassifier<'_>) {
    let golden = Golden::read();
    for (case, options) in classifier_cases() {
        let mut model = new(&options, &golden.classifier_parameters(case), 0).unwrap();
        if let Some(weights) = golden.class_weights(case) {
            model.set_class_weights(weights).unwrap();
        }
        for (step, expected) in golden.tensor(&format!("{case}/losses")).1.iter().enumerate() {
            let (layers, counts, labels, metadata) = golden.flows(case, step);
            let batch = PacketBatch { metadata: &metadata, ..PacketBatch::whole(&layers, &counts) };
            let loss = model.train_step(&batch, &labels, 0.01).unwrap().mean() as f32;
            check(&format!("{case} loss {step}"), &[loss], &[*expected], 1e-5 * expected);
        }
        golden.check_parameters(case, &model.parameters(), 0.01);
        model.set_parameters(&golden.parameters(&format!("{case}/after/"))).unwrap();
        if options.averaging().is_some() {
            golden.check_averages(case, &mut *model, 0.01);
        }
        let (layers, counts, _, metadata) = golden.flows(case, 0);
        let batch = PacketBatch { metadata: &metadata, ..PacketBatch::whole(&layers, &counts) };
        let (_, expected) = golden.tensor(&format!("{case}/probabilities"));
        let mut found = vec![f32::NAN; expected.len()];
        model.probabilities(&batch, &mut found).unwrap();
        check(&format!("{case} probabilities"), &found, expected, 1e-5);
    }
}

/// Checks five steps of classifier and ELMo together, then encodings and probabilities.
pub(crate) fn check_joint(new: NewJoint<'_>) {
    let golden = Golden::read();
    for (case, options) in joint_cases() {
        let mut model = new(&options, &golden.classifier_parameters(case), 0).unwrap();
        for (step, expected) in golden.tensor(&format!("{case}/losses")).1.iter().enumerate() {
            let (tokens, counts, labels) = golden.byte_flows(case, step);
            let batch = ByteBatch {
                tokens: &tokens,
                counts: &counts,
                metadata: &[],
                most: 3,
                pooling: options.pooling_of(BYTES),
            };
            let loss = model.train_step(&batch, &labels, 0.001).unwrap().mean() as f32;
            check(&format!("{case} loss {step}"), &[loss], &[*expected], 1e-5 * expected);
        }
        golden.check_parameters(case, &model.parameters(), 0.001);
        model.set_parameters(&golden.parameters(&format!("{case}/after/"))).unwrap();
        let (tokens, counts, _) = golden.byte_flows(case, 0);
        let (shape, expected) = golden.tensor(&format!("{case}/encodings"));
        let mut encodings = vec![f32::NAN; expected.len()];
        model.encode(&tokens, shape[0], options.pooling_of(BYTES), &mut encodings).unwrap();
        check(&format!("{case} encodings"), &encodings, expected, 1e-5);
        // The same grouped by flow, each with room for three packets.
        let size = 3 * options.encoded_size();
        let mut packets = encodings.chunks_exact(size);
        let mut place = |present: bool| if present { packets.next().unwrap().to_vec() } else { vec![0.0; size] };
        let places = counts.iter().flat_map(|&count| (0..3).map(move |packet| packet < count));
        let layers = places.map(&mut place).collect::<Vec<_>>().concat();
        let (_, expected) = golden.tensor(&format!("{case}/probabilities"));
        let mut found = vec![f32::NAN; expected.len()];
        let pooling = options.pooling_of(BYTES);
        let lengths = tokens.chunks_exact(tokens.len() / shape[0]);
        let mut filled = lengths.map(|row| pooling.filled(row.iter().filter(|&&token| token != PAD).count()));
        let places = counts.iter().flat_map(|&count| (0..3).map(move |packet| packet < count));
        let slots = places.map(|present| if present { filled.next().unwrap() } else { 1 }).collect::<Vec<_>>();
        let batch = PacketBatch { slots: &slots, ..PacketBatch::whole(&layers, &counts) };
        model.probabilities(&batch, &mut found).unwrap();
        check(&format!("{case} probabilities"), &found, expected, 1e-5);
    }
}
