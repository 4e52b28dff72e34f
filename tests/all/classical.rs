//! The classical models on tables of generated rows: what a fit reports, and the same bits with other numbers of threads
//! and after saving and loading.
//!
//! `tests/fixtures/classical/make_golden.py` and `make_sequences.py` generated the tables and the golden predictions.

mod peers;
mod refusals;

use std::path::PathBuf;

use etcbench::feature::{FeatureSet, TokenArray};
use etcbench::model::{
    Classifier, Device, Examples, FitContext, FitReport, Implementation, Input, ModelArchive, ModelError, ModelKind,
    ModelSpec, NoArtifacts, TensorData, build, load,
};
use etcbench::progress::Silent;
use ndarray::Array2;

const PACKETS: usize = 3;
const BYTES: usize = 16;
const TRAINING: usize = 500;

fn fixture(name: &str) -> Vec<Vec<String>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/classical").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn features(labels: Vec<u32>, tokens: Vec<u16>, statistics: Array2<f32>, classes: usize) -> FeatureSet {
    let empty = tokens.is_empty();
    FeatureSet {
        tokens: TokenArray {
            packets: if empty { 0 } else { PACKETS },
            bytes: if empty { 0 } else { BYTES },
            values: tokens,
        },
        statistic_names: (1..=statistics.ncols()).map(|column| format!("statistic{column}")).collect(),
        sequences: Array2::zeros((labels.len(), 0)),
        flowpics: Array2::zeros((labels.len(), 0)),
        statistics,
        labels,
        class_names: (0..classes).map(|class| format!("class{class}")).collect(),
        provenance: Vec::new(),
    }
}

fn bytes_table() -> FeatureSet {
    let table = fixture("bytes.csv");
    let labels = table.iter().map(|row| row[0].parse().unwrap()).collect();
    let tokens = table.iter().flat_map(|row| row[1..].iter().map(|token| token.parse().unwrap())).collect();
    features(labels, tokens, Array2::zeros((table.len(), 0)), 4)
}

fn statistics_table() -> FeatureSet {
    let table = fixture("statistics.csv");
    let labels = table.iter().map(|row| row[0].parse().unwrap()).collect();
    let statistics = table.iter().flat_map(|row| row[1..].iter().map(|value| value.parse().unwrap())).collect();
    features(labels, Vec::new(), Array2::from_shape_vec((table.len(), table[0].len() - 1), statistics).unwrap(), 4)
}

fn both_tables() -> FeatureSet {
    let bytes = bytes_table();
    FeatureSet {
        statistics: statistics_table().statistics,
        statistic_names: statistics_table().statistic_names,
        ..bytes
    }
}

/// Returns the classes modulo two, as in the golden predictions for two classes.
fn two_classes(mut table: FeatureSet) -> FeatureSet {
    table.labels.iter_mut().for_each(|label| *label %= 2);
    table.class_names.truncate(2);
    table
}

fn golden(column: &str) -> Vec<u32> {
    let table = fixture("predictions.csv");
    let index = table[0].iter().position(|name| name == column).unwrap();
    table[1..].iter().map(|row| row[index].parse().unwrap()).collect()
}

struct Case<'a> {
    features: &'a FeatureSet,
    training: Vec<usize>,
    validation: Vec<usize>,
    test: Vec<usize>,
}

impl<'a> Case<'a> {
    fn new(features: &'a FeatureSet) -> Self {
        Self {
            features,
            training: (0..TRAINING).collect(),
            validation: Vec::new(),
            test: (TRAINING..features.len()).collect(),
        }
    }

    fn examples<'b>(&'b self, rows: &'b [usize]) -> Examples<'b> {
        Examples { features: self.features, rows }
    }

    fn input(&self) -> Input {
        match (self.features.tokens.bytes, self.features.statistics.ncols()) {
            (0, 0) => Input::Sequences,
            (0, _) => Input::Statistics,
            (_, 0) => Input::Bytes,
            _ => Input::BytesAndStatistics,
        }
    }

    fn fit(
        &self,
        model: &str,
        implementation: Implementation,
        parameters: &str,
    ) -> Result<(Box<dyn Classifier>, FitReport), ModelError> {
        let parameters = parameters.parse().unwrap();
        let kind = ModelKind::named(model).expect("a model of the table");
        let mut model = build(&ModelSpec { kind, input: self.input(), implementation, parameters })?;
        let context =
            FitContext { seed: 11, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts, pretraining: None };
        let report = model.fit(self.examples(&self.training), self.examples(&self.validation), &context)?;
        Ok((model, report))
    }

    fn problem(&self, kind: &str, implementation: Implementation, parameters: &str) -> String {
        match self.fit(kind, implementation, parameters) {
            Ok(_) => panic!("{kind} {implementation:?} was fitted"),
            Err(error) => error.to_string(),
        }
    }

    fn probabilities(&self, model: &dyn Classifier) -> Array2<f32> {
        let probabilities = model.predict_probabilities(self.examples(&self.test), &Silent).unwrap();
        assert_eq!(probabilities.dim(), (self.test.len(), self.features.class_names.len()));
        for row in probabilities.outer_iter() {
            assert!((row.sum() - 1.0).abs() < 1e-5 && row.iter().all(|value| (0.0..=1.0).contains(value)), "{row}");
        }
        probabilities
    }

    fn predict(&self, kind: &str, implementation: Implementation, parameters: &str) -> Vec<u32> {
        let (model, _) = self.fit(kind, implementation, parameters).unwrap();
        classes(&self.probabilities(&*model))
    }

    fn truth(&self) -> Vec<u32> {
        self.examples(&self.test).labels()
    }
}

/// Returns the most probable class of each row, the lowest on ties.
fn classes(probabilities: &Array2<f32>) -> Vec<u32> {
    let best = |row: ndarray::ArrayView1<'_, f32>| {
        (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best }) as u32
    };
    probabilities.outer_iter().map(best).collect()
}

fn agreement(a: &[u32], b: &[u32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64
}

fn macro_f1(truth: &[u32], predicted: &[u32], classes: u32) -> f64 {
    let f1 = |class: u32| {
        let hits = truth.iter().zip(predicted).filter(|(t, p)| **t == class && **p == class).count() as f64;
        let either = truth.iter().chain(predicted).filter(|label| **label == class).count() as f64;
        2.0 * hits / either
    };
    (0..classes).map(f1).sum::<f64>() / f64::from(classes)
}

const EVERY: [(&str, &str); 9] = [
    ("svm", ""),
    ("svm", "probabilities = \"platt\"\nclass_weights = { class1 = 2.0 }\ncache_mebibytes = 1"),
    ("random_forest", "trees = 12\nclass_weights = \"balanced\"\nout_of_bag = true"),
    ("random_forest", "trees = 5\nclass_weights = { class1 = 2.0 }\npermutation_repeats = 2"),
    ("knn", "weights = \"distance\""),
    ("gradient_boosting", "rounds = 8\nsubsample = 0.7\ncolumn_sample = 0.6\nearly_stopping_rounds = 3"),
    ("logistic_regression", "l2 = 30"),
    ("decision_tree", ""),
    ("majority", ""),
];

#[test]
fn boosting_stops_at_the_lowest_validation_loss() {
    let table = statistics_table();
    let rows = (TRAINING..TRAINING + 200, TRAINING + 200..table.len());
    let case = Case { validation: rows.0.collect(), test: rows.1.collect(), ..Case::new(&table) };
    let stopping = "rounds = 200\nlearning_rate = 0.4\nearly_stopping_rounds = 4";
    let (model, report) = case.fit("gradient_boosting", Implementation::Fast, stopping).unwrap();
    let losses: Vec<f64> = report.epochs.iter().map(|epoch| epoch.validation_loss.unwrap()).collect();
    let best = (0..losses.len()).fold(0, |best, round| if losses[round] < losses[best] { round } else { best });
    assert!(best > 0 && losses.len() == best + 1 + 4 && losses.len() < 200, "{losses:?}");
    let note = format!("predicts with the first {} of {} rounds", best + 1, losses.len());
    assert!(report.notes.contains(&note), "{:?}", report.notes);
    // What it predicts with is a model of that many rounds.
    let (short, _) = case
        .fit("gradient_boosting", Implementation::Fast, &format!("rounds = {}\nlearning_rate = 0.4", best + 1))
        .unwrap();
    assert_eq!(case.probabilities(&*model), case.probabilities(&*short));
}

#[test]
fn an_svm_that_is_stopped_early_says_so() {
    let table = statistics_table();
    let case = Case::new(&table);
    let note = |parameters: &str| {
        let (_, report) = case.fit("svm", Implementation::Fast, parameters).unwrap();
        report.notes.into_iter().find(|note| note.contains("stopped before reaching the tolerance"))
    };
    assert_eq!(note(""), None);
    assert!(note("maximum_iterations = 3").unwrap().starts_with("6 of 6 pairs"));
    // A looser tolerance takes fewer steps.
    let steps = "maximum_iterations = 60\ntolerance = ";
    assert!(note(&format!("{steps}1.5")).is_none() && note(&format!("{steps}1e-3")).is_some());
}

#[test]
fn a_forest_reports_its_out_of_bag_accuracy_and_importances() {
    let table = statistics_table();
    let case = Case::new(&table);
    let parameters = "out_of_bag = true\nmaximum_features = 0.5\nminimum_samples_leaf = 2";
    let (model, report) = case.fit("random_forest", Implementation::Fast, parameters).unwrap();
    let note = report.notes.iter().find(|note| note.starts_with("out-of-bag accuracy")).unwrap();
    let accuracy: f64 = note.split(' ').nth(2).unwrap().parse().unwrap();
    let on_test = agreement(&classes(&case.probabilities(&*model)), &case.truth());
    assert!((accuracy - on_test).abs() < 0.05, "{note}, {on_test} on the test rows");
    let archive = model.save().unwrap();
    let TensorData::F64(importances) = &archive.tensors["importances"].data else { panic!() };
    assert!((importances.iter().sum::<f64>() - 1.0).abs() < 1e-9 && importances.iter().all(|&value| value >= 0.0));
    // The sixth column is the constant one.
    assert_eq!(importances.iter().position(|&value| value == 0.0), Some(5));
    assert!(report.notes.iter().any(|note| note.starts_with("impurity importances, largest of 8 columns: statistic")));
}

#[test]
fn importances_find_the_columns_that_determine_the_classes() {
    // Columns 2 and 5 together determine the class; the others are noise, one with many distinct values, some with few.
    // SplitMix64: multiples alone would leave neighbouring columns related.
    let hash = |i: usize| {
        let mut z = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 1009
    };
    let statistics = Array2::from_shape_fn((600, 7), |(row, column)| {
        let value = hash(row * 7 + column);
        if column % 2 == 0 { value as f32 } else { (value % 3) as f32 }
    });
    let label = |row: usize| u32::from(statistics[(row, 2)] > 500.0) + 2 * u32::from(statistics[(row, 5)] > 1.0);
    let labels = (0..600).map(label).collect();
    let table = features(labels, Vec::new(), statistics, 4);
    let case = Case { training: (0..500).collect(), ..Case::new(&table) };
    for (kind, parameters, tensors) in [
        ("random_forest", "permutation_repeats = 3", &["importances", "permutation_importances"][..]),
        ("decision_tree", "", &["importances"][..]),
        ("gradient_boosting", "rounds = 10", &[][..]),
    ] {
        let (model, report) = case.fit(kind, Implementation::Fast, parameters).unwrap();
        let notes: Vec<&String> = report.notes.iter().filter(|note| note.contains("importances")).collect();
        assert_eq!(notes.len(), tensors.len().max(1), "{notes:?}");
        for note in notes {
            let first = note.split(": ").nth(1).unwrap();
            let named: Vec<&str> = first.split(", ").map(|entry| entry.split(' ').next().unwrap()).collect();
            assert!(named[..2].contains(&"statistic3") && named[..2].contains(&"statistic6"), "{kind}: {note}");
        }
        let archive = model.save().unwrap();
        for tensor in tensors {
            let TensorData::F64(values) = &archive.tensors[*tensor].data else { panic!() };
            let noise = values.iter().enumerate().filter(|(column, _)| ![2, 5].contains(column));
            let noise = noise.map(|(_, value)| value.abs()).fold(0.0, f64::max);
            // Impurity also counts splits on noise with many values, deep in the trees; permutation does not.
            let most = values[2].min(values[5]) / if tensor.starts_with("permutation") { 4.0 } else { 1.0 };
            assert!(noise < most, "{values:?}");
        }
    }
}

#[test]
fn any_number_of_threads_and_a_file_give_the_same_bits() {
    let (table, two) = (both_tables(), two_classes(both_tables()));
    // Boosting with two classes has a different objective.
    let boosting = EVERY.into_iter().filter(|(kind, _)| *kind == "gradient_boosting").map(|case| (&two, case));
    for (table, (kind, parameters)) in EVERY.into_iter().map(|case| (&table, case)).chain(boosting) {
        let case = Case { training: (0..260).collect(), validation: (260..360).collect(), ..Case::new(table) };
        let outcome = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (model, report) = case.fit(kind, Implementation::Fast, parameters).unwrap();
                let archive = model.save().unwrap().to_bytes().unwrap();
                (case.probabilities(&*model), archive, report.notes)
            })
        };
        let (probabilities, archive, notes) = outcome(1);
        for threads in [2, 4] {
            let (again, archive_again, notes_again) = outcome(threads);
            assert_eq!(probabilities, again, "{kind}");
            assert!(archive == archive_again, "{kind}: the files differ");
            assert_eq!(notes, notes_again, "{kind}");
        }
        let loaded = load(&ModelArchive::from_bytes(&archive).unwrap()).unwrap();
        assert_eq!(case.probabilities(&*loaded), probabilities, "{kind}");
        assert!(loaded.save().unwrap().to_bytes().unwrap() == archive, "{kind}: saved again, the file differs");
    }
}

#[test]
fn references_predict_the_same_bits_from_their_files() {
    let table = statistics_table();
    let case = Case { training: (0..200).collect(), ..Case::new(&table) };
    for (kind, parameters) in [
        ("svm", "kernel = \"polynomial\""),
        ("random_forest", "trees = 8"),
        ("knn", ""),
        ("gradient_boosting", "rounds = 5\nsubsample = 0.8"),
        ("logistic_regression", ""),
        ("decision_tree", ""),
        ("majority", ""),
    ] {
        let (model, _) = case.fit(kind, Implementation::Reference, parameters).unwrap();
        let bytes = model.save().unwrap().to_bytes().unwrap();
        let loaded = load(&ModelArchive::from_bytes(&bytes).unwrap()).unwrap();
        assert_eq!(case.probabilities(&*loaded), case.probabilities(&*model), "{kind}");
    }
}
