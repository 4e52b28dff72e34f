//! Networks as models: fitted through the [`Classifier`] trait on small flows.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ndarray::Array2;

use super::same;
use crate::{
    ArtifactStore, CudaDevice, Device, Examples, FitContext, FitReport, Implementation, Input, ModelArchive, ModelKind,
    ModelSpec, NoArtifacts, build, load,
};
use etcbench_feature::{FeatureSet, PAD, TokenArray};
use etcbench_storage::progress::{Progress, Silent};

/// Flows of three classes that bytes, statistics and sequences distinguish.
pub(crate) fn flows(count: usize) -> FeatureSet {
    let (packets, bytes, known) = (3, 10, 14);
    let class = |row: usize| row % 3;
    let noise = |row: usize, index: usize| (row * 7919 + index * 104_729) % 11;
    let tokens = (0..count).flat_map(|row| {
        (0..packets * bytes).map(move |index| {
            let last = index % bytes >= 6 + row % 4;
            if last { PAD } else { (60 * class(row) + noise(row, index)) as u16 }
        })
    });
    let sequences = Array2::from_shape_fn((count, 2 * known), |(row, column)| {
        let packet = column / 2;
        if packet >= 9 + row % 5 {
            return 0.0;
        }
        if column % 2 == 1 {
            return 1.0 + noise(row, column) as f32 / 11.0;
        }
        let sign = if packet % (class(row) + 2) == 0 { 1.0 } else { -1.0 };
        sign * (4.0 + noise(row, column) as f32 / 22.0)
    });
    let statistics = Array2::from_shape_fn((count, 4), |(row, column)| {
        (class(row) * (column + 1)) as f32 + noise(row, column) as f32 / 9.0
    });
    FeatureSet {
        tokens: TokenArray { packets, bytes, values: tokens.collect() },
        statistics,
        statistic_names: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
        sequences,
        flowpics: Array2::from_shape_fn((count, 16 * 16), |(row, pixel)| {
            let (length, time) = (pixel / 16, pixel % 16);
            let filled = (length + 5 * class(row)) % 15 < 4 && noise(row, pixel) > 3;
            if filled { (100 + 10 * noise(row, time)) as u8 } else { 0 }
        }),
        labels: (0..count).map(|row| class(row) as u32).collect(),
        class_names: ["x", "y", "z"].map(str::to_owned).to_vec(),
        provenance: Vec::new(),
    }
}

/// Small networks of every kind.
fn small(implementation: Implementation) -> Vec<ModelSpec> {
    let training = "epochs = 12\nbatch = 16\nlearning_rate = 0.01\n";
    let spec = |name: &str, input, keys: &str| ModelSpec {
        kind: ModelKind::named(name).unwrap(),
        input,
        implementation,
        parameters: format!("{training}{keys}").parse().unwrap(),
    };
    let sequences = "channels = [6, 8, 8]\nblocks = 1\nstatistics = 5\nstatistics_layers = 1\nshared = 12";
    let fingerprinting = "channels = [8, 8, 8, 8]\nkernel = 5\ndense = 24\ndropout = 0.0\ndense_dropout = [0.1, 0.1]\n\
                          reads = \"signed_lengths\"";
    vec![
        spec("sequence_cnn", Input::Sequences, sequences),
        spec("sequence_cnn", Input::SequencesAndStatistics, sequences),
        spec("byte_cnn", Input::Bytes, "channels = [4, 6]\nkernel = 5\ndense = 16"),
        spec(
            "byte_transformer",
            Input::Bytes,
            "patch = 4\nembedding = 8\nlayers = 2\nheads = 2\nfeed_forward = 16\npretraining_epochs = 2\npretraining_batch = 16\n\
             warm_up_steps = 4",
        ),
        spec("deep_fingerprinting", Input::Sequences, fingerprinting),
        spec(
            "flowpic_cnn",
            Input::Flowpic,
            "channels = [4, 6]\ndense = [24, 12]\ndropout = 0.1\nchannel_dropout = 0.1",
        ),
    ]
}

const ROWS: usize = 90;

fn fit(spec: &ModelSpec, artifacts: &dyn ArtifactStore, progress: &dyn Progress) -> (Array2<f32>, FitReport, Vec<u8>) {
    let features = flows(ROWS);
    let rows: Vec<usize> = (0..ROWS).collect();
    let part = |range: std::ops::Range<usize>| Examples { features: &features, rows: &rows[range] };
    let mut model = build(spec).unwrap();
    let context = FitContext { seed: 5, device: Device::Cpu, progress, artifacts, pretraining: None };
    let report = model.fit(part(0..60), part(60..75), &context).unwrap();
    let found = model.predict_probabilities(part(75..ROWS), &Silent).unwrap();
    (found, report, model.save().unwrap().to_bytes().unwrap())
}

fn right(found: &Array2<f32>) -> usize {
    let best = |row: ndarray::ArrayView1<'_, f32>| (0..3).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    found.outer_iter().enumerate().filter(|(row, found)| best(*found) == (75 + row) % 3).count()
}

#[test]
fn networks_learn_to_separate_classes_and_round_trip_through_their_file() {
    for spec in small(Implementation::Fast) {
        let name = format!("{} on {}", spec.kind.name(), spec.input.name());
        let (found, report, file) = fit(&spec, &NoArtifacts, &Silent);
        assert!(right(&found) >= 13, "{name}: {} of 15 are right", right(&found));
        assert!(found.outer_iter().all(|row| (row.sum() - 1.0).abs() < 1e-5), "{name}");
        assert_eq!(report.stages.last().unwrap().stage, "classifier_training", "{name}");
        let classes: Vec<_> = report.epochs.iter().filter(|epoch| epoch.stage == "classifier_training").collect();
        assert!(classes.len() <= 12 && classes[0].validation_macro_f1.is_some(), "{name}");
        // Pre-training only records losses.
        let pretrained = spec.parameters.get("pretraining_epochs").and_then(toml::Value::as_integer).unwrap_or(0);
        assert_eq!(report.epochs.len() - classes.len(), pretrained as usize, "{name}");
        let again = load(&ModelArchive::from_bytes(&file).unwrap()).unwrap();
        let features = flows(ROWS);
        let rows: Vec<usize> = (75..ROWS).collect();
        let read = again.predict_probabilities(Examples { features: &features, rows: &rows }, &Silent).unwrap();
        assert_eq!(read, found, "{name}");
        // The same bits again, on other threads.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert!(pool.install(|| fit(&spec, &NoArtifacts, &Silent)).2 == file, "{name}");
    }
}

#[cfg(feature = "reference")]
#[test]
fn both_implementations_train_to_the_same_accuracy() {
    for (fast, reference) in small(Implementation::Fast).iter().zip(&small(Implementation::Reference)) {
        let name = fast.kind.name();
        let (fast, ..) = fit(fast, &NoArtifacts, &Silent);
        let (reference, ..) = fit(reference, &NoArtifacts, &Silent);
        let (left, right) = (right(&fast), right(&reference));
        assert!(left.abs_diff(right) <= 1, "{name}: {left} {right}");
    }
}

/// Keeps artifacts in memory, and requests a checkpoint after every step.
#[derive(Default)]
struct Kept {
    files: Mutex<HashMap<String, Vec<u8>>>,
    /// Once set, the process counts as killed: nothing more is stored.
    dead: AtomicBool,
}

impl ArtifactStore for Kept {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.files.lock().unwrap().get(key).cloned()
    }
    fn put(&self, key: &str, bytes: &[u8]) {
        if !self.dead.load(Ordering::Relaxed) {
            self.files.lock().unwrap().insert(key.to_owned(), bytes.to_vec());
        }
    }
    fn remove(&self, key: &str) {
        if !self.dead.load(Ordering::Relaxed) {
            self.files.lock().unwrap().remove(key);
        }
    }
    fn checkpoint_interval(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

/// Kills after this many steps.
struct Killer<'a>(&'a Kept, AtomicUsize);

impl Progress for Killer<'_> {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {
        if self.1.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.dead.store(true, Ordering::Relaxed);
        }
    }
    fn note(&self, _: &str) {}
    fn warn(&self, _: &str) {}
    fn end(&self) {}
}

#[test]
fn a_killed_training_resumes_to_the_same_bits() {
    for spec in small(Implementation::Fast) {
        let undisturbed = fit(&spec, &NoArtifacts, &Silent);
        for steps in [2, 7, 20] {
            let kept = Kept::default();
            fit(&spec, &kept, &Killer(&kept, AtomicUsize::new(steps)));
            let files = || kept.files.lock().unwrap().keys().cloned().collect::<Vec<_>>();
            // A checkpoint, and the pre-trained artifact if there was pre-training.
            let (pretrained, checkpoints): (Vec<_>, Vec<_>) =
                files().into_iter().partition(|name| name.starts_with("masked-") && !name.contains("checkpoint"));
            assert!(checkpoints.len() == 1 && pretrained.len() <= 1, "{}: {:?}", spec.kind.name(), files());
            kept.dead.store(false, Ordering::Relaxed);
            let again = fit(&spec, &kept, &Silent);
            assert!(again.2 == undisturbed.2, "{} after {steps}", spec.kind.name());
            assert_eq!(again.1.epochs, undisturbed.1.epochs);
            assert!(
                files().iter().all(|name| name.starts_with("masked-") && !name.contains("checkpoint")),
                "{:?}",
                files()
            );
        }
    }
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    for (model, key, problem) in [
        ("sequence_cnn", "channels = [0, 1, 1]", "channels = 0 must be between 1 and 8192"),
        ("sequence_cnn", "chanels = [0, 1, 1]", "did you mean `channels`"),
        ("sequence_cnn", "dropout = 1.0", "dropout = 1 must be at least 0 and less than 1"),
        ("sequence_cnn", "blocks = 65", "blocks = 65 must be at most 64"),
        ("byte_cnn", "batch = 0", "batch = 0 must be between 1"),
        ("byte_cnn", "learning_rate = 0.0", "learning_rate = 0 must be a positive number"),
        ("byte_cnn", "optimiser = \"sgd\"", "optimiser"),
        ("deep_fingerprinting", "dense_dropout = [0.1, 2.0]", "dense_dropout = 2 must be at least 0"),
        ("flowpic_cnn", "channel_dropout = 1.0", "channel_dropout = 1 must be at least 0"),
        ("byte_transformer", "heads = 3", "embedding = 128 must be a multiple of heads = 3"),
        ("byte_transformer", "mask_ratio = 0.0", "mask_ratio = 0 must be above 0 and at most 1"),
        ("byte_transformer", "warm_up_steps = 2000000000", "warm_up_steps = 2000000000 must be at most"),
        ("byte_transformer", "patch = 0", "patch = 0 must be between 1 and 8192"),
        ("deep_fingerprinting", "weight_decay = -1.0", "weight_decay = -1 must be 0 or a positive number"),
    ] {
        let kind = ModelKind::named(model).unwrap();
        let parameters = key.parse().unwrap();
        let implementation = Implementation::Fast;
        let spec = ModelSpec { kind, input: kind.entry().inputs[0], implementation, parameters };
        let error = build(&spec).err().unwrap().to_string();
        assert!(error.contains(problem) && !error.contains('\n'), "{key}: {error}");
    }
}

#[test]
fn short_sequences_are_refused_and_training_on_the_cpu_is_noted() {
    let mut spec = small(Implementation::Fast).remove(0);
    let mut features = flows(60);
    let rows: Vec<usize> = (0..60).collect();
    let card = Device::Cuda(CudaDevice::default());
    let context = FitContext { seed: 5, device: card, progress: &Silent, artifacts: &NoArtifacts, pretraining: None };
    spec.parameters.insert("epochs".to_owned(), 1.into());
    let fitted = |features: &FeatureSet| {
        let part = |range: std::ops::Range<usize>| Examples { features, rows: &rows[range] };
        build(&spec).unwrap().fit(part(0..40), part(40..60), &context)
    };
    let report = fitted(&features).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("trained on the CPU: sequence_cnn")), "{:?}", report.notes);
    features.sequences = features.sequences.slice(ndarray::s![.., ..20]).to_owned();
    let error = fitted(&features).unwrap_err();
    assert!(error.to_string().contains("at least 12 packets"), "{error}");
}

#[test]
fn a_diverging_training_reports_where_and_what_to_do() {
    let mut spec = small(Implementation::Fast).remove(2);
    spec.parameters.insert("learning_rate".to_owned(), 1e20.into());
    let features = flows(60);
    let rows: Vec<usize> = (0..60).collect();
    let part = |range: std::ops::Range<usize>| Examples { features: &features, rows: &rows[range] };
    let context =
        FitContext { seed: 5, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts, pretraining: None };
    let error = build(&spec).unwrap().fit(part(0..40), part(40..60), &context).unwrap_err().to_string();
    assert!(error.starts_with("byte_cnn: classifier_training diverged in "), "{error}");
    assert!(error.ends_with("lower learning_rate"), "{error}");
}

#[test]
fn paddings_are_those_of_tensorflow() {
    // Those of keras.layers.MaxPooling1D(8, 4, padding="same") and Conv1D(kernel_size=8, padding="same").
    assert_eq!([same(5000, 8, 4), same(1250, 8, 4), same(5000, 8, 1)], [[2, 2], [3, 3], [3, 4]]);
    assert_eq!([same(784, 3, 3), same(262, 3, 3), same(784, 25, 1)], [[1, 1], [1, 1], [12, 12]]);
}
