use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::Duration;

use rand::RngExt;

use super::*;
use crate::deep::engine::PRETRAINING;
use crate::deep::parameters::initial_elmo;
use crate::{ArtifactStore, CudaDevice, NoArtifacts};
use etcbench_feature::TokenArray;
use etcbench_feature::{FeatureSet, PAD};
use etcbench_storage::progress::Silent;
use etcbench_storage::seed;

/// Flows of 1 to 3 packets of 4 to 10 random bytes, whose class is the most frequent byte at the packets' third
/// position.
fn toy(flows: usize) -> FeatureSet {
    let mut random = seed::generator(11, "toy");
    let (packets, bytes) = (3, 10);
    let mut values = Vec::new();
    let labels = (0..flows).map(|flow| (flow % 3) as u32).collect::<Vec<_>>();
    for label in &labels {
        let count = random.random_range(1..=packets);
        for packet in 0..packets {
            let length = if packet < count { random.random_range(4..=bytes) } else { 0 };
            values.extend((0..bytes).map(|position| match position {
                _ if position >= length => PAD,
                2 => 200 + *label as u16,
                _ => random.random_range(0..8u16),
            }));
        }
    }
    FeatureSet {
        tokens: TokenArray { packets, bytes, values },
        statistics: Array2::zeros((flows, 0)),
        statistic_names: Vec::new(),
        sequences: Array2::zeros((flows, 0)),
        flowpics: Array2::zeros((flows, 0)),
        labels,
        class_names: ["a", "b", "c"].map(str::to_owned).to_vec(),
        provenance: Vec::new(),
    }
}

fn model(implementation: Implementation, more: &str) -> AttentionLstm {
    let text = format!(
        "lstm = 24\ndense = 16\nepochs = 30\npatience = 30\nbatch = 8\nlearning_rate = 0.003\n\
         learning_rate_schedule = \"cosine\"\n\
         elmo = {{ embedding = 12, hidden = 12, layers = 2, epochs = 2, batch = 16, learning_rate = 0.01 }}\n{more}"
    );
    AttentionLstm::new(implementation, &text.parse().unwrap()).unwrap()
}

fn context(seed: u64) -> FitContext<'static> {
    FitContext { seed, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts, pretraining: None }
}

fn rows(from: usize, to: usize) -> Vec<usize> {
    (from..to).collect()
}

fn fit(model: &mut AttentionLstm, features: &FeatureSet, seed: u64) -> FitReport {
    let (training, validation) = (rows(0, 120), rows(120, 150));
    let examples = |rows| Examples { features, rows };
    model.fit(examples(&training), examples(&validation), &context(seed)).unwrap()
}

fn accuracy(model: &AttentionLstm, features: &FeatureSet, rows: &[usize]) -> f64 {
    let probabilities = model.predict_probabilities(Examples { features, rows }, &Silent).unwrap();
    let hits = probabilities.outer_iter().zip(rows).filter(|(row, index)| {
        assert!((row.sum() - 1.0).abs() < 1e-5);
        let best = (0..3).max_by(|&left, &right| row[left].total_cmp(&row[right])).unwrap();
        best == features.labels[**index] as usize
    });
    hits.count() as f64 / rows.len() as f64
}

fn learns(implementation: Implementation) {
    let features = toy(200);
    for more in [
        "",
        "activation = \"tanh\"\nattention = false",
        "dropout = 0.05\nweight_decay = 0.01",
        "weight_averaging = \"exponential\"\nwarm_up_steps = 20\nlabel_smoothing = 0.1\nclass_weights = \"balanced\"",
    ] {
        let mut model = model(implementation, more);
        let report = fit(&mut model, &features, 3);
        let accuracy = accuracy(&model, &features, &rows(150, 200));
        assert!(accuracy > 0.8, "{more}: {accuracy} {report:?}");
        let stages = report.stages.iter().map(|stage| stage.stage.as_str()).collect::<Vec<_>>();
        assert_eq!(stages, ["elmo_pretraining", "encoding", "classifier_training"]);
        let elmo = report.epochs.iter().filter(|epoch| epoch.stage == "elmo_pretraining").collect::<Vec<_>>();
        assert_eq!(elmo.len(), 2);
        assert!(elmo[1].validation_loss < elmo[0].validation_loss);
    }
}

fn same_bits_at_any_number_of_threads_and_from_a_file(implementation: Implementation, more: &str) {
    let features = toy(200);
    let test = rows(150, 200);
    let examples = Examples { features: &features, rows: &test };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut model = model(implementation, more);
            model.options.lstm = 96;
            model.options.epochs = 2;
            model.options.elmo.positions = more.is_empty();
            fit(&mut model, &features, 3);
            (model.save().unwrap().to_bytes().unwrap(), model.predict_probabilities(examples, &Silent).unwrap())
        })
    };
    let (bytes, probabilities) = run(1);
    for threads in [2, 4] {
        let (other_bytes, other_probabilities) = run(threads);
        assert!(bytes == other_bytes, "{more}: the same file at 1 and {threads} threads");
        assert_eq!(probabilities, other_probabilities);
    }

    let loaded = AttentionLstm::from_archive(&ModelArchive::from_bytes(&bytes).unwrap()).unwrap();
    assert_eq!(loaded.predict_probabilities(examples, &Silent).unwrap(), probabilities);
    assert_eq!(loaded.save().unwrap().to_bytes().unwrap(), bytes);
}

#[test]
fn the_reference_learns_classes_from_a_byte() {
    learns(Implementation::Reference);
}

#[test]
fn the_reference_gives_the_same_bits_at_any_number_of_threads_and_from_a_file() {
    for more in ["", "encoder = \"fine_tuned\"\nweight_averaging = \"exponential\"\nclass_weights = { a = 2.0 }"] {
        same_bits_at_any_number_of_threads_and_from_a_file(Implementation::Reference, more);
    }
}

#[test]
fn the_fast_engine_learns_classes_from_a_byte() {
    learns(Implementation::Fast);
}

#[test]
fn the_fast_engine_gives_the_same_bits_at_any_number_of_threads_and_from_a_file() {
    for more in ["", "encoder = \"fine_tuned\"\nweight_averaging = \"exponential\"\nclass_weights = { a = 2.0 }"] {
        same_bits_at_any_number_of_threads_and_from_a_file(Implementation::Fast, more);
    }
}

#[test]
fn a_file_of_one_engine_predicts_the_same_in_the_other() {
    let features = toy(200);
    let test = rows(150, 200);
    let examples = Examples { features: &features, rows: &test };
    for (from, to) in
        [(Implementation::Fast, Implementation::Reference), (Implementation::Reference, Implementation::Fast)]
    {
        let mut model = model(from, "");
        fit(&mut model, &features, 3);
        let expected = model.predict_probabilities(examples, &Silent).unwrap();
        let loaded = AttentionLstm::from_archive(&model.save().unwrap()).unwrap();
        let found = loaded.with_implementation(to).predict_probabilities(examples, &Silent).unwrap();
        let largest = (&found - &expected).iter().fold(0f32, |largest, value| largest.max(value.abs()));
        assert!(largest < 1e-4, "{from:?} to {to:?}: {largest}");
    }
}

#[test]
fn an_elmo_learns_together_with_the_classifier() {
    let features = toy(200);
    let test = rows(150, 200);
    let examples = Examples { features: &features, rows: &test };
    for (implementation, other) in
        [(Implementation::Fast, Implementation::Reference), (Implementation::Reference, Implementation::Fast)]
    {
        let mut frozen = model(implementation, "");
        frozen.options.epochs = 1;
        fit(&mut frozen, &features, 3);
        let pretrained = frozen.fitted().unwrap().elmo.clone();
        let initial = initial_elmo(&frozen.options.elmo, VOCABULARY, 10, 3);
        for (encoder, before, stages) in
            [("fine_tuned", &pretrained, &[PRETRAINING, TRAINING][..]), ("from_scratch", &initial, &[TRAINING])]
        {
            let mut model = model(implementation, &format!("encoder = \"{encoder}\""));
            let report = fit(&mut model, &features, 3);
            assert_eq!(report.stages.iter().map(|stage| stage.stage.as_str()).collect::<Vec<_>>(), stages);
            let accuracy = accuracy(&model, &features, &test);
            assert!(accuracy > 0.8, "{encoder}: {accuracy} {report:?}");
            // All of the ELMo changed except the language model's head.
            for (name, parameter) in before.iter() {
                let after = model.fitted().unwrap().elmo.get(name, &parameter.shape).unwrap();
                assert_eq!(after == parameter.values, name.starts_with("elmo.head."), "{encoder} {name}");
            }
            // The file contains what was learnt, for either engine.
            let expected = model.predict_probabilities(examples, &Silent).unwrap();
            let loaded = AttentionLstm::from_archive(&model.save().unwrap()).unwrap();
            assert_eq!(loaded.predict_probabilities(examples, &Silent).unwrap(), expected);
            let found = loaded.with_implementation(other).predict_probabilities(examples, &Silent).unwrap();
            let largest = (&found - &expected).iter().fold(0f32, |largest, value| largest.max(value.abs()));
            assert!(largest < 1e-4, "{encoder}, {implementation:?} to {other:?}: {largest}");
        }
    }
}

#[test]
fn joint_training_accepts_flows_without_bytes() {
    let mut features = toy(150);
    features.tokens.values[..30].fill(PAD);
    features.tokens.values[30..40].fill(PAD);
    for implementation in [Implementation::Fast, Implementation::Reference] {
        let mut model = model(implementation, "encoder = \"from_scratch\"\nlayer_rate_divisor = 1.0");
        (model.options.epochs, model.options.batch) = (1, 1);
        fit(&mut model, &features, 0);
        let examples = Examples { features: &features, rows: &[0, 1] };
        let probabilities = model.predict_probabilities(examples, &Silent).unwrap();
        assert!(probabilities.iter().all(|value| value.is_finite()));
    }
}

#[test]
fn seeds_matter() {
    let features = toy(150);
    let mut models = [1, 2].map(|seed| {
        let mut model = model(Implementation::Reference, "");
        model.options.epochs = 1;
        model.options.elmo.epochs = 1;
        fit(&mut model, &features, seed);
        model.save().unwrap()
    });
    assert_ne!(models[0], models[1]);
    models[0].metadata.insert("model".to_owned(), "svm".to_owned());
    assert!(AttentionLstm::from_archive(&models[0]).unwrap_err().to_string().contains("svm"));
    models[1].tensors.remove("classifier.mix.gamma");
    assert!(AttentionLstm::from_archive(&models[1]).unwrap_err().to_string().contains("classifier.mix.gamma"));
}

#[test]
fn a_learning_rate_far_too_high_is_reported_as_divergence() {
    let features = toy(150);
    let mut model = model(Implementation::Reference, "");
    model.options.learning_rate = 1e38;
    let (training, validation) = (rows(0, 120), rows(120, 150));
    let examples = |rows| Examples { features: &features, rows };
    let error = model.fit(examples(&training), examples(&validation), &context(0)).unwrap_err();
    assert!(matches!(&error, ModelError::Diverged { place, .. } if place.starts_with("classifier.")), "{error}");
    assert!(
        error.to_string().contains("of epoch 1") && error.to_string().contains("lower the learning rate"),
        "{error}"
    );
    assert!(model.save().is_err());

    let mut together = self::model(Implementation::Fast, "encoder = \"fine_tuned\"");
    together.options.learning_rate = 1e38;
    let error = together.fit(examples(&training), examples(&validation), &context(0)).unwrap_err().to_string();
    assert!(error.contains("classifier_training diverged in") && error.contains("of epoch 1"), "{error}");
}

#[test]
fn what_cannot_be_fitted_or_read_is_an_error() {
    let features = toy(150);
    let examples = |rows| Examples { features: &features, rows };
    let mut model = model(Implementation::Reference, "");
    assert!(model.predict_probabilities(examples(&[0]), &Silent).unwrap_err().to_string().contains("not fitted"));
    assert!(model.fit(examples(&[]), examples(&[]), &context(0)).is_err());
    let cuda = FitContext { device: Device::Cuda(CudaDevice { number: 1, ..CudaDevice::default() }), ..context(0) };
    let error = model.fit(examples(&[0, 1]), examples(&[]), &cuda).unwrap_err().to_string();
    assert!(error.contains("cuda:1"), "{error}");

    let mut mislabelled = features.clone();
    mislabelled.labels[1] = 3;
    let wrong = Examples { features: &mislabelled, rows: &[0, 1] };
    assert!(model.fit(examples(&[0]), wrong, &context(0)).unwrap_err().to_string().contains("label 3"));

    model.options.epochs = 1;
    let report = model.fit(examples(&[0, 1, 2, 3]), examples(&[]), &context(0)).unwrap();
    assert!(report.notes[0].contains("no validation flows"));
    let mut wider = features.clone();
    wider.tokens.bytes = 5;
    wider.tokens.packets = 6;
    let error = model.predict_probabilities(Examples { features: &wider, rows: &[0] }, &Silent).unwrap_err();
    assert!(error.to_string().contains("fitted on 3 packets of 10 bytes"), "{error}");
}

#[test]
fn flows_and_packets_without_bytes_are_predicted_too() {
    let mut features = toy(150);
    features.tokens.values[..30].fill(PAD);
    features.tokens.values[30..40].fill(PAD);
    let mut model = model(Implementation::Reference, "");
    model.options.epochs = 1;
    model.options.elmo.epochs = 1;
    fit(&mut model, &features, 0);
    let probabilities = model.predict_probabilities(Examples { features: &features, rows: &[0, 1] }, &Silent).unwrap();
    assert!(probabilities.iter().all(|value| value.is_finite()));
}

/// Stores everything, and requests a checkpoint after every step.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

impl ArtifactStore for Memory {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(key).cloned()
    }
    fn put(&self, key: &str, bytes: &[u8]) {
        self.0.lock().unwrap().insert(key.to_owned(), bytes.to_vec());
    }
    fn remove(&self, key: &str) {
        self.0.lock().unwrap().remove(key);
    }
    fn checkpoint_interval(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

/// Kills the fit after some steps of a stage, as a signal would; records the warnings.
struct Killer {
    stage: &'static str,
    steps: u64,
    seen: Mutex<(bool, u64)>,
    warnings: Mutex<Vec<String>>,
}

impl Progress for Killer {
    fn begin(&self, stage: &str, _: u64) {
        *self.seen.lock().unwrap() = (stage == self.stage, 0);
    }
    fn advance(&self, steps: u64) {
        let mut seen = self.seen.lock().unwrap();
        seen.1 += steps;
        if *seen == (true, self.steps) {
            drop(seen);
            std::panic::resume_unwind(Box::new("killed"));
        }
    }
    fn note(&self, _: &str) {}
    fn warn(&self, text: &str) {
        self.warnings.lock().unwrap().push(text.to_owned());
    }
    fn end(&self) {}
}

/// A fit that is killed at each of these places and resumed each time ends with the same bytes as one that never was.
#[test]
fn a_killed_training_resumes_to_the_same_bits() {
    let features = toy(150);
    let (training, validation) = (rows(0, 100), rows(100, 150));
    let examples = |rows| Examples { features: &features, rows };
    for (implementation, encoder) in [
        (Implementation::Fast, "frozen"),
        (Implementation::Fast, "fine_tuned"),
        (Implementation::Reference, "frozen"),
        (Implementation::Reference, "fine_tuned"),
    ] {
        let fit = |artifacts: &dyn ArtifactStore, progress: &dyn Progress, threads: usize| {
            let more = format!(
                "dropout = 0.1\nweight_decay = 0.01\nencoder = \"{encoder}\"\nweight_averaging = \"exponential\"\n\
                 normalisation = \"batch\"\nwarm_up_steps = 20\nlabel_smoothing = 0.1\nclass_weights = {{ a = 2.0 }}"
            );
            let mut model = model(implementation, &more);
            (model.options.epochs, model.options.patience) = (4, 2);
            (model.options.elmo.dropout, model.options.elmo.positions) = (0.1, true);
            let context = FitContext { seed: 5, device: Device::Cpu, progress, artifacts, pretraining: None };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let report = model.fit(examples(&training), examples(&validation), &context).unwrap();
                (model.save().unwrap().to_bytes().unwrap(), report.epochs)
            })
        };
        let expected = fit(&NoArtifacts, &Silent, 1);
        let store = Memory::default();
        // 100 flows of up to three packets are about 12 batches of 16 packets; 100 flows are 13 batches of 8.
        let kills = [(PRETRAINING, 3), (PRETRAINING, 14), (TRAINING, 5), (TRAINING, 13), (TRAINING, 30)];
        for (turn, (stage, steps)) in kills.into_iter().enumerate() {
            let killer = Killer { stage, steps, seen: Mutex::default(), warnings: Mutex::default() };
            let killed = std::panic::catch_unwind(AssertUnwindSafe(|| fit(&store, &killer, 1 + turn % 2)));
            assert!(killed.is_err(), "{stage} has {steps} steps");
            let keys = store.0.lock().unwrap().keys().filter(|key| key.ends_with(".checkpoint")).count();
            assert_eq!(keys, 1, "{stage} {steps}");
            let warnings = killer.warnings.lock().unwrap().join(";");
            assert_eq!(warnings.contains("continuing from epoch"), turn > 0, "{warnings}");
        }
        let found = fit(&store, &Silent, 2);
        assert!(found.0 == expected.0, "{implementation:?} {encoder}: the same file");
        assert_eq!(found.1, expected.1);
        assert!(!store.0.lock().unwrap().keys().any(|key| key.ends_with(".checkpoint")));
    }
}

#[test]
fn an_elmo_without_pre_training_has_its_initial_values() {
    let features = toy(150);
    let mut model = model(Implementation::Fast, "encoder = \"none\"");
    let report = fit(&mut model, &features, 3);
    assert_eq!(report.stages.iter().map(|stage| stage.stage.as_str()).collect::<Vec<_>>(), ["encoding", TRAINING]);
    let initial = initial_elmo(&model.options.elmo, VOCABULARY, 10, 3);
    assert_eq!(model.fitted().unwrap().elmo, initial);
    assert!(accuracy(&model, &features, &rows(120, 150)) > 0.4);
}

#[test]
fn a_dead_rectifier_is_reported_with_its_layer() {
    let features = toy(150);
    for implementation in [Implementation::Fast, Implementation::Reference] {
        let mut model = model(implementation, "clip_norm = 1e9");
        model.options.learning_rate = 30.0;
        model.options.learning_rate_schedule = crate::deep::parameters::LearningRateSchedule::Constant;
        let (training, validation) = (rows(0, 120), rows(120, 150));
        let examples = |rows| Examples { features: &features, rows };
        let error = model.fit(examples(&training), examples(&validation), &context(0)).unwrap_err().to_string();
        assert!(error.contains("nothing but 0") || error.contains("not finite"), "{error}");
        assert!(error.contains("diverged in classifier."), "{error}");
    }
}

/// Without early stopping, a fit with averaged weights ends with the averages and the training part's statistics
/// computed with them, and predicts differently from the weights of its last step.
#[test]
fn a_fit_ends_with_averaged_weights() {
    let features = toy(150);
    let (first, rest) = (rows(0, 100), rows(100, 150));
    for (implementation, encoder) in [
        (Implementation::Fast, "frozen"),
        (Implementation::Fast, "fine_tuned"),
        (Implementation::Reference, "frozen"),
        (Implementation::Reference, "fine_tuned"),
    ] {
        let fit = |averaging: &str, validation: &[usize]| {
            let more =
                format!("encoder = \"{encoder}\"\nweight_averaging = \"{averaging}\"\nweight_averaging_decay = 0.8");
            let mut model = model(implementation, &more);
            model.options.epochs = 1;
            let [training, validation] = [&first, validation].map(|rows| Examples { features: &features, rows });
            model.fit(training, validation, &context(5)).unwrap();
            model.save().unwrap()
        };
        let [validated, all, last] = [fit("exponential", &rest), fit("exponential", &[]), fit("none", &[])];
        assert_eq!(validated.tensors, all.tensors, "{implementation:?} {encoder}: the averages of the one epoch");
        for name in ["classifier.output.weight", "classifier.norm_1.running_mean"] {
            assert_ne!(all.tensors[name], last.tensors[name], "{implementation:?} {encoder} {name}");
        }
    }
}

#[test]
fn class_weights_are_those_of_the_training_part() {
    let mut features = toy(120);
    // Of 120 flows, 100 are of the first class, 20 of the second and none of the third.
    features.labels = (0..120).map(|flow| u32::from(flow >= 100)).collect();
    let balanced = model(Implementation::Fast, "class_weights = \"balanced\"");
    let names = &features.class_names;
    assert_eq!(balanced.class_weights(&features.labels, names).unwrap(), [0.6, 3.0, 1.0]);
    assert_eq!(model(Implementation::Fast, "").class_weights(&features.labels, names).unwrap(), [1.0; 3]);
    let unknown = model(Implementation::Fast, "class_weights = { c = 2.0 }");
    let error = unknown.class_weights(&features.labels, names).unwrap_err().to_string();
    assert!(error.contains("`class_weights` lists `c`, which has no training rows"), "{error}");
    // A class of negligible weight is not predicted.
    for (implementation, encoder) in [(Implementation::Fast, "fine_tuned"), (Implementation::Reference, "frozen")] {
        let more = format!("encoder = \"{encoder}\"\nclass_weights = {{ a = 1e-6 }}");
        let mut model = model(implementation, &more);
        model.options.epochs = 4;
        let rows = rows(0, 120);
        let examples = Examples { features: &features, rows: &rows };
        model.fit(examples, Examples { rows: &[], ..examples }, &context(1)).unwrap();
        let probabilities = model.predict_probabilities(examples, &Silent).unwrap();
        assert!(probabilities.column(1).iter().all(|&probability| probability > 0.5), "{encoder}");
    }
}
