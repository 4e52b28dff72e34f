//! Fit and predict times of the classical models on the synthetic matrix that
//! `benches/peers/classical.py` also makes, so that the two can be run in turn and compared.
//!
//! `cargo bench --bench classical [model ...]` prints per model: seconds to fit, seconds to predict, accuracy.
//! Whole fits take seconds, so each is timed once per run instead of sampled; run both programs in turn.

use std::time::Instant;

use etcbench::feature::{FeatureSet, TokenArray};
use etcbench::model::{Device, Examples, FitContext, Implementation, Input, ModelKind, ModelSpec, NoArtifacts, build};
use etcbench::progress::Silent;
use ndarray::Array2;

const ROWS: usize = 5000;
const TRAINING: usize = 4000;
const CLASSES: usize = 10;
const PACKETS: usize = 6;
const BYTES: usize = 128;

/// Output `index` of SplitMix64 from state `start` (Steele, Lea and Flood, 2014).
fn splitmix(start: u64, index: usize) -> u64 {
    let z = start.wrapping_add((index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A byte is its class's template's with probability 3/8, else random; a tenth of the labels is wrong.
fn flows() -> FeatureSet {
    let width = PACKETS * BYTES;
    let mut values = Vec::with_capacity(ROWS * width);
    for row in 0..ROWS {
        for column in 0..width {
            let noise = splitmix(2, row * width + column);
            let own = (noise >> 32) % 8 < 3;
            let byte = if own { splitmix(1, row % CLASSES * width + column) } else { noise } % 256;
            values.push(byte as u16);
        }
    }
    let label = |row: usize| {
        let wrong = splitmix(3, row);
        if wrong.is_multiple_of(10) { ((wrong >> 8) % CLASSES as u64) as u32 } else { (row % CLASSES) as u32 }
    };
    FeatureSet {
        tokens: TokenArray { packets: PACKETS, bytes: BYTES, values },
        statistics: Array2::zeros((ROWS, 0)),
        statistic_names: Vec::new(),
        sequences: Array2::zeros((ROWS, 0)),
        labels: (0..ROWS).map(label).collect(),
        class_names: (0..CLASSES).map(|class| format!("class{class}")).collect(),
        provenance: Vec::new(),
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let features = flows();
    let rows: Vec<usize> = (0..ROWS).collect();
    let training = Examples { features: &features, rows: &rows[..TRAINING] };
    let test = Examples { features: &features, rows: &rows[TRAINING..] };
    let none = Examples { features: &features, rows: &[] };
    let context = FitContext { seed: 0, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts };
    for (name, kind, parameters) in [
        ("svm", ModelKind::Svm, ""),
        ("random_forest", ModelKind::RandomForest, ""),
        ("knn", ModelKind::Knn, ""),
        ("gradient_boosting", ModelKind::GradientBoosting, "rounds = 5"),
    ] {
        if !wanted.is_empty() && !wanted.iter().any(|model| model == name) {
            continue;
        }
        let parameters = parameters.parse().expect("a table");
        let spec = ModelSpec { kind, input: Input::Bytes, implementation: Implementation::Fast, parameters };
        let mut model = build(&spec).expect("known keys");
        let started = Instant::now();
        model.fit(training, none, &context).expect("the data can be fitted");
        let fitted = Instant::now();
        let probabilities = model.predict_probabilities(test, &Silent).expect("the same columns");
        let done = Instant::now();
        let right = probabilities.outer_iter().zip(test.labels()).filter(|(row, label)| {
            let best = (0..CLASSES).fold(0, |best, class| if row[class] > row[best] { class } else { best });
            best == *label as usize
        });
        println!(
            "{name} {:.3} {:.3} {:.4}",
            (fitted - started).as_secs_f64(),
            (done - fitted).as_secs_f64(),
            right.count() as f64 / test.rows.len() as f64
        );
    }
}
