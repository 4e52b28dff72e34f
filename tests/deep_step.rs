//! Memory of the deep models: a training step allocates nothing once its buffers have grown, and a fit needs about what
//! is expected before it starts. A separate program, because it counts every allocation.

// An allocator that counts.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcbench::feature::{FeatureSet, TokenArray};
use etcbench::model::benchmark::{AttentionLstm, Elmo, FineTuned, Reading};
use etcbench::model::{
    ArtifactStore, Device, Examples, FitContext, FitSize, Implementation, Input, ModelKind, ModelSpec, build,
};
use etcbench::progress::Silent;
use ndarray::Array2;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Allocated bytes, and their maximum since it was last set.
static BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Held by each test: the counts are of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

// SAFETY: every call is passed to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        let bytes = BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(bytes, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `dealloc`, and `alloc` is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        let bytes = BYTES.fetch_add(size, Ordering::Relaxed) + size;
        PEAK.fetch_max(bytes, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `realloc`, and `alloc` is the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(mut step: impl FnMut()) -> usize {
    // The first step allocates the buffers, the second the last ones of the optimiser.
    (0..2).for_each(|_| step());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..3).for_each(|_| step());
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn steps_and_encoding_allocate_nothing() {
    let _alone = ALONE.lock().unwrap();
    // One thread: with more, it is chance which of them first sees the largest block of a product.
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| {
        let mut elmo = Elmo::new(40, 33, 32, 2, 257, Device::Cpu).unwrap();
        let mut classifier = AttentionLstm::new(150, 5, 160, 24, Reading::Mean, Device::Cpu).unwrap();
        let mut fine_tuned = FineTuned::new(15, 3, 33, 40, 32, Device::Cpu).unwrap();
        assert_eq!(allocations(|| assert!(elmo.train_step().unwrap().is_finite())), 0);
        assert_eq!(allocations(|| assert!(elmo.encode().unwrap().is_finite())), 0);
        assert_eq!(allocations(|| assert!(classifier.train_step().unwrap().is_finite())), 0);
        assert_eq!(allocations(|| assert!(fine_tuned.train_step().unwrap().is_finite())), 0);
        // Checks that the counter works.
        assert!(allocations(|| drop(vec![0u8; 100])) >= 3);
    });
}

const PACKETS: usize = 5;
const BYTES_PER_PACKET: usize = 40;

/// Flows of full packets that are all distinct, with sequences and FlowPics.
fn flows(count: usize) -> FeatureSet {
    let hash = |index: usize| (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let (sequences, pixels) = (2 * 30, 32 * 32);
    FeatureSet {
        tokens: TokenArray {
            packets: PACKETS,
            bytes: BYTES_PER_PACKET,
            values: (0..count * PACKETS * BYTES_PER_PACKET).map(|index| (hash(index) % 256) as u16).collect(),
        },
        statistics: Array2::zeros((count, 0)),
        statistic_names: Vec::new(),
        sequences: Array2::from_shape_fn((count, sequences), |(row, column)| (hash(row * 100 + column) % 1500) as f32),
        flowpics: Array2::from_shape_fn((count, pixels), |(row, column)| (hash(row * 2000 + column) % 3) as u8),
        labels: (0..count).map(|row| row as u32 % 3).collect(),
        class_names: ["a", "b", "c"].map(str::to_owned).to_vec(),
        provenance: Vec::new(),
    }
}

/// Writes a checkpoint in every step, as the largest moments of a fit do, and keeps none.
struct Checkpoints;

impl ArtifactStore for Checkpoints {
    fn get(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
    fn put(&self, _: &str, _: &[u8]) {}
    fn checkpoint_interval(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

/// The ratio of expected to measured memory of a fit may be between this and its inverse.
const FACTOR: f64 = 1.75;

#[test]
fn a_fit_needs_about_the_memory_that_is_expected() {
    let _alone = ALONE.lock().unwrap();
    let features = flows(700);
    let rows: Vec<usize> = (0..features.len()).collect();
    let (training, validation) = rows.split_at(600);
    let elmo = "elmo = { hidden = 64, embedding = 64, batch = 512, epochs = 1 }";
    let pretrained = |rest: &str| format!("epochs = 1\nlstm = 96\nbatch = 128\n{elmo}\n{rest}");
    // Without pre-training, the classifier needs the most.
    let classifier = |rest: &str| format!("epochs = 1\nencoder = \"none\"\nlstm = 256\nbatch = 600\n{elmo}\n{rest}");
    let states = "pooling = \"states\"\nsegments = 4";
    let mut failed = Vec::new();
    for (model, input, parameters) in [
        ("attention_lstm", Input::Bytes, pretrained("")),
        ("attention_lstm", Input::Bytes, pretrained("encoder = \"fine_tuned\"")),
        ("attention_lstm", Input::Bytes, classifier("")),
        ("attention_lstm", Input::Bytes, classifier("attention = false")),
        ("attention_lstm", Input::Bytes, classifier(states)),
        ("byte_cnn", Input::Bytes, "epochs = 1".to_owned()),
        ("byte_transformer", Input::Bytes, "epochs = 1\npretraining_epochs = 1".to_owned()),
        ("sequence_cnn", Input::Sequences, "epochs = 1".to_owned()),
        ("deep_fingerprinting", Input::Sequences, "epochs = 1".to_owned()),
        ("flowpic_cnn", Input::Flowpic, "epochs = 1".to_owned()),
    ] {
        let kind = ModelKind::named(model).unwrap();
        let spec =
            ModelSpec { kind, input, implementation: Implementation::Fast, parameters: parameters.parse().unwrap() };
        let mut fitted = build(&spec).unwrap();
        let expected = fitted.expected_memory(&FitSize {
            class_counts: vec![200; 3],
            validation: validation.len(),
            predicted: training.len(),
            packets: PACKETS,
            bytes: BYTES_PER_PACKET,
            statistics: 0,
            sequence_columns: features.sequences.ncols(),
            pixels: features.flowpics.ncols(),
            device: Device::Cpu,
            threads: rayon::current_num_threads(),
        });
        let context =
            FitContext { seed: 3, device: Device::Cpu, progress: &Silent, artifacts: &Checkpoints, pretraining: None };
        let before = BYTES.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let examples = |rows| Examples { features: &features, rows };
        fitted.fit(examples(training), examples(validation), &context).unwrap();
        drop(fitted.predict_probabilities(examples(training), &Silent).unwrap());
        drop(fitted.save().unwrap().to_bytes().unwrap());
        let needed = PEAK.load(Ordering::Relaxed) - before;
        let ratio = expected.bytes() as f64 / needed as f64;
        let told = format!(
            "{model} {parameters:?}: {} KiB expected, {} KiB needed, {ratio:.2}",
            expected.bytes() >> 10,
            needed >> 10
        );
        println!("{told}");
        if !(1.0 / FACTOR..=FACTOR).contains(&ratio) {
            failed.push(told);
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
