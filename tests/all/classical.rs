//! Compares the classical models with scikit-learn and XGBoost, with their own reference implementations, and with
//! themselves under other numbers of threads and after saving and loading.
//!
//! `tests/fixtures/classical/make_golden.py` and `make_sequences.py` generated the tables and the golden predictions.

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
        let context = FitContext { seed: 11, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts };
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

#[test]
fn svm_predicts_as_scikit_learn() {
    for (name, table) in [("bytes", bytes_table()), ("statistics", statistics_table())] {
        let case = Case::new(&table);
        for (setting, parameters) in [
            ("rbf", ""),
            ("balanced", "cost = 10\nclass_weights = \"balanced\""),
            ("polynomial", "kernel = \"polynomial\"\ndegree = 2\ncoef0 = 1\ngamma = 0.02"),
            ("linear", "kernel = \"linear\"\ncost = 0.1"),
            ("auto", "cost = 3\ngamma = \"auto\""),
            ("weighted", "class_weights = { class0 = 4.0, class2 = 0.3 }"),
        ] {
            let wanted = golden(&format!("{name}_svm_{setting}"));
            let fast = case.predict("svm", Implementation::Fast, parameters);
            let share = agreement(&fast, &wanted);
            println!("{name} svm {setting}: {share}");
            assert!(share >= 0.995, "{name} {setting}: {share}");
            let reference = case.predict("svm", Implementation::Reference, parameters);
            let share = agreement(&reference, &fast);
            println!("{name} svm {setting}, linfa-svm: {share}");
            assert!(share >= 0.99, "{name} {setting}, linfa-svm: {share}");
        }
    }
}

/// Returns the mean negative logarithm of the true class's probability.
fn loss(probabilities: &Array2<f32>, truth: &[u32]) -> f64 {
    let terms =
        probabilities.outer_iter().zip(truth).map(|(row, &class)| -f64::from(row[class as usize].max(1e-9)).ln());
    terms.sum::<f64>() / truth.len() as f64
}

#[test]
fn platts_probabilities_are_calibrated_and_keep_the_predictions() {
    for (name, table) in [("bytes", bytes_table()), ("statistics", statistics_table())] {
        let case = Case::new(&table);
        let truth = case.truth();
        for implementation in [Implementation::Fast, Implementation::Reference] {
            let fitted = |parameters: &str| {
                let (model, _) = case.fit("svm", implementation, parameters).unwrap();
                case.probabilities(&*model)
            };
            let (softmax, platt) = (fitted(""), fitted("probabilities = \"platt\""));
            let same = agreement(&classes(&platt), &classes(&softmax));
            let accuracy = agreement(&classes(&platt), &truth);
            let confidence =
                platt.outer_iter().map(|row| f64::from(row.iter().copied().fold(0.0, f32::max))).sum::<f64>()
                    / truth.len() as f64;
            println!("{name} {implementation:?}: same {same}, accuracy {accuracy}, confidence {confidence}");
            assert!(same >= 0.9, "{name} {implementation:?}: {same}");
            assert!((confidence - accuracy).abs() < 0.06, "{name} {implementation:?}: {confidence} {accuracy}");
            assert!(loss(&platt, &truth) < loss(&softmax, &truth), "{name} {implementation:?}");
        }
    }
}

#[test]
fn a_reference_refuses_what_it_cannot_cope_with() {
    for (kind, rows, library) in [
        ("svm", 10_002, "linfa-svm"),
        ("random_forest", 20_001, "smartcore"),
        ("knn", 50_001, "linfa-nn"),
        ("gradient_boosting", 20_001, "smartcore"),
    ] {
        assert!(
            ModelKind::named(kind).and_then(|kind| kind.entry().reference_row_limit).is_some_and(|limit| limit < rows)
        );
        let statistics = Array2::from_shape_fn((rows, 1), |(row, _)| (row % 7) as f32);
        let table = features((0..rows).map(|row| row as u32 % 2).collect(), Vec::new(), statistics, 2);
        let case = Case { training: (0..rows).collect(), validation: Vec::new(), test: vec![0], features: &table };
        let problem = case.problem(kind, Implementation::Reference, "");
        assert!(problem.contains(library) && problem.contains("use implementation = \"fast\""), "{problem}");
    }
    // One against one, only the two largest classes count.
    let statistics = Array2::from_shape_fn((40, 1), |(row, _)| (row % 4) as f32);
    let table = features((0..40).map(|row| row % 4).collect(), Vec::new(), statistics, 4);
    let case = Case { training: (0..40).collect(), validation: Vec::new(), test: vec![0], features: &table };
    assert!(case.fit("svm", Implementation::Reference, "").is_ok());
}

#[test]
fn nearest_neighbours_predict_as_scikit_learn() {
    for (name, table) in [("bytes", bytes_table()), ("statistics", statistics_table())] {
        let case = Case::new(&table);
        for (setting, parameters) in [
            ("uniform", ""),
            ("distance", "k = 7\nweights = \"distance\""),
            ("manhattan", "k = 3\ndistance = \"manhattan\""),
            ("cosine", "distance = \"cosine\""),
            ("even", "k = 4"),
        ] {
            let wanted = golden(&format!("{name}_knn_{setting}"));
            for implementation in [Implementation::Fast, Implementation::Reference] {
                let predicted = case.predict("knn", implementation, parameters);
                assert_eq!(agreement(&predicted, &wanted), 1.0, "{name} {setting} {implementation:?}");
            }
        }
    }
}

/// Signed lengths and times of 12 packets, and the predictions of scikit-learn's one and five nearest neighbours for
/// the test rows in the scale of the transfer-learning study.
fn sequences_table() -> (FeatureSet, [Vec<u32>; 2]) {
    let table = fixture("sequences.csv");
    let column = |column: usize, from: usize| table[from..].iter().map(|row| row[column].parse().unwrap()).collect();
    let values: Vec<f32> = table.iter().flat_map(|row| row[3..].iter().map(|value| value.parse().unwrap())).collect();
    let rows = table.len();
    let mut set = features(column(0, 0), Vec::new(), Array2::zeros((rows, 0)), 3);
    set.sequences = Array2::from_shape_vec((rows, values.len() / rows), values).unwrap();
    (set, [column(1, SEQUENCE_TRAINING), column(2, SEQUENCE_TRAINING)])
}

const SEQUENCE_TRAINING: usize = 300;

#[test]
fn nearest_neighbours_in_the_scale_of_the_transfer_learning_study_predict_as_scikit_learn() {
    let (table, golden) = sequences_table();
    let mut case = Case::new(&table);
    (case.training, case.test) = ((0..SEQUENCE_TRAINING).collect(), (SEQUENCE_TRAINING..table.len()).collect());
    for (k, wanted) in [1, 5].into_iter().zip(&golden) {
        let parameters = format!("k = {k}\ndistance = \"manhattan\"\nscaling = \"transfer_learning\"");
        for implementation in [Implementation::Fast, Implementation::Reference] {
            let (model, _) = case.fit("knn", implementation, &parameters).unwrap();
            let predicted = case.probabilities(&*model);
            assert_eq!(agreement(&classes(&predicted), wanted), 1.0, "{k} {implementation:?}");
            let read = load(&ModelArchive::from_bytes(&model.save().unwrap().to_bytes().unwrap()).unwrap()).unwrap();
            assert_eq!(case.probabilities(&*read), predicted);
        }
    }
    // Logarithms, too few packets, and keys that contradict each other.
    let scaling = "scaling = \"transfer_learning\"";
    let mut changed = table.clone();
    changed.sequences.mapv_inplace(|value| value.signum() * value.abs().ln_1p());
    let refused =
        Case { training: case.training.clone(), ..Case::new(&changed) }.problem("knn", Implementation::Fast, scaling);
    assert!(refused.contains("feature.sequences.transformation = \"none\""), "{refused}");
    changed.sequences = table.sequences.slice(ndarray::s![.., ..18]).to_owned();
    let refused =
        Case { training: case.training.clone(), ..Case::new(&changed) }.problem("knn", Implementation::Fast, scaling);
    assert!(refused.contains("feature.sequences.packets is 9"), "{refused}");
    let both = format!("{scaling}\nstandardise = true");
    let refused = case.problem("knn", Implementation::Fast, &both);
    assert!(refused.contains("`scaling` and `standardise` exclude each other"), "{refused}");
    let parameters = scaling.parse().unwrap();
    let kind = ModelKind::named("knn").unwrap();
    let spec =
        ModelSpec { kind, input: Input::SequencesAndStatistics, implementation: Implementation::Fast, parameters };
    let refused = build(&spec).err().unwrap().to_string();
    assert!(refused.contains("use input = \"sequences\""), "{refused}");
}

#[test]
fn logistic_regression_predicts_as_scikit_learn() {
    let table = statistics_table();
    let predicted = Case::new(&table).predict("logistic_regression", Implementation::Fast, "");
    let share = agreement(&predicted, &golden("statistics_logistic_regression"));
    println!("logistic regression: {share}");
    assert!(share >= 0.995, "{share}");
}

/// Measured with XGBoost 3.2.0: where every value has its own bin, all predictions are equal and probabilities
/// differ by 1.2e-7 at most. Two things break that: more distinct values than bins (the statistics have 500,
/// and 2.5 % of the predictions differ at 256 bins), and a leaf whose weight is the limit itself
/// (`minimum_child_weight = 3` is 8 rows of the first round's 0.375, and 1 % differ).
#[test]
fn gradient_boosting_predicts_as_xgboost() {
    for (name, table) in [("bytes", bytes_table()), ("statistics", statistics_table())] {
        let case = Case::new(&table);
        for (setting, parameters) in [
            ("", "rounds = 30"),
            ("_exact", "rounds = 30\nmaximum_bins = 1024"),
            (
                "_regularised",
                "rounds = 40\ndepth = 3\nlearning_rate = 0.1\nl1 = 0.5\nl2 = 2\nminimum_child_weight = 2\n\
                 maximum_bins = 1024",
            ),
        ] {
            let wanted = golden(&format!("{name}_gradient_boosting{setting}"));
            let predicted = case.predict("gradient_boosting", Implementation::Fast, parameters);
            let share = agreement(&predicted, &wanted);
            let truth = case.truth();
            let (own, peer) = (agreement(&predicted, &truth), agreement(&wanted, &truth));
            println!("{name} gradient boosting{setting}: {share}, accuracy {own}, XGBoost {peer}");
            let binned = (name, setting) == ("statistics", "");
            assert!(share >= if binned { 0.96 } else { 0.995 }, "{name}{setting}: {share}");
            assert!((own - peer).abs() <= 0.02, "{name}{setting}: accuracy {own}, XGBoost {peer}");
        }
        // For two classes, both sides fit one tree per round on the logistic loss.
        let two = two_classes(table);
        let case = Case::new(&two);
        let predicted = case.predict("gradient_boosting", Implementation::Fast, "rounds = 30\nmaximum_bins = 1024");
        let share = agreement(&predicted, &golden(&format!("{name}_gradient_boosting_two_classes")));
        println!("{name} gradient boosting of two classes: {share}");
        assert!(share >= 0.995, "{name}, two classes: {share}");
    }
}

#[test]
fn forests_and_boosting_score_as_their_peers_and_references() {
    for (name, table) in [("bytes", bytes_table()), ("statistics", statistics_table())] {
        let case = Case::new(&table);
        let truth = case.truth();
        let peer = macro_f1(&truth, &golden(&format!("{name}_random_forest")), 4);
        // The spread of a forest's score over seeds is larger than its distance to the peer's: a forest with several
        // times as many trees approximates the mean.
        let fast = case.predict("random_forest", Implementation::Fast, "trees = 600");
        let fast = macro_f1(&truth, &fast, 4);
        let reference = case.predict("random_forest", Implementation::Reference, "trees = 60");
        let reference = macro_f1(&truth, &reference, 4);
        println!("{name} forest macro F1: {fast}, smartcore {reference}, scikit-learn {peer}");
        assert!((fast - peer).abs() <= 0.02, "{name}: {fast}, scikit-learn {peer}");
        assert!((fast - reference).abs() <= 0.05, "{name}: {fast}, smartcore {reference}");
        let boosted = "rounds = 20\ndepth = 4";
        let fast = case.predict("gradient_boosting", Implementation::Fast, boosted);
        let reference = case.predict("gradient_boosting", Implementation::Reference, boosted);
        let (fast, reference) = (agreement(&fast, &truth), agreement(&reference, &truth));
        println!("{name} boosting accuracy: {fast}, smartcore {reference}");
        assert!((fast - reference).abs() <= 0.05, "{name}: {fast}, smartcore {reference}");
        let fast = case.predict("decision_tree", Implementation::Fast, "");
        let reference = case.predict("decision_tree", Implementation::Reference, "");
        let (fast, reference) = (agreement(&fast, &truth), agreement(&reference, &truth));
        println!("{name} tree accuracy: {fast}, linfa-trees {reference}");
        assert!((fast - reference).abs() <= 0.08, "{name}: {fast}, linfa-trees {reference}");
    }
}

#[test]
fn trees_keep_their_limits_and_predict_as_scikit_learn() {
    let limits = "maximum_depth = 7\nminimum_samples_split = 12\nminimum_samples_leaf = 4";
    for (name, table) in [("bytes", bytes_table()), ("statistics", statistics_table())] {
        let case = Case::new(&table);
        for (kind, parameters) in
            [("decision_tree", limits.to_owned()), ("random_forest", format!("trees = 6\n{limits}"))]
        {
            let (model, _) = case.fit(kind, Implementation::Fast, &parameters).unwrap();
            let archive = model.save().unwrap();
            let u32s = |name: &str| {
                let TensorData::U32(values) = &archive.tensors[name].data else { panic!() };
                values.iter().map(|&value| value as usize).collect::<Vec<usize>>()
            };
            let (starts, columns, right) = (u32s("tree_starts"), u32s("columns"), u32s("right"));
            let TensorData::F32(thresholds) = &archive.tensors["thresholds"].data else { panic!() };
            let mut deepest = 0;
            for bounds in starts.windows(2) {
                let mut rows_at = vec![0; bounds[1] - bounds[0]];
                for &row in &case.training {
                    let (mut node, mut depth) = (bounds[0], 0);
                    rows_at[0] += 1;
                    while columns[node] != u32::MAX as usize {
                        let column = columns[node];
                        let value = if name == "bytes" {
                            f32::from(table.tokens.flow(row)[column])
                        } else {
                            table.statistics[(row, column)]
                        };
                        node = if value <= thresholds[node] { node + 1 } else { bounds[0] + right[node] };
                        rows_at[node - bounds[0]] += 1;
                        depth += 1;
                    }
                    deepest = deepest.max(depth);
                }
                // A tree of the forest was fitted on a subset of these rows, so a node has at least as many here.
                for (&rows, &column) in rows_at.iter().zip(&columns[bounds[0]..]) {
                    assert!(rows >= if column == u32::MAX as usize { 4 } else { 12 }, "{kind}: {rows}");
                }
            }
            assert_eq!(deepest, 7, "{kind}");
            if kind == "decision_tree" {
                let predicted = classes(&case.probabilities(&*model));
                let wanted = golden(&format!("{name}_decision_tree"));
                let (own, peer) = (agreement(&predicted, &case.truth()), agreement(&wanted, &case.truth()));
                let share = agreement(&predicted, &wanted);
                println!("{name} tree: {share}, accuracy {own}, scikit-learn {peer}");
                // Both choose one of several equal splits at random.
                assert!(share >= 0.9 && (own - peer).abs() <= 0.03, "{name}: {share}, {own}, {peer}");
            }
        }
    }
}

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

#[test]
fn a_broken_file_is_an_error_and_never_a_panic() {
    let table = statistics_table();
    let case = Case { training: (0..120).collect(), validation: (120..160).collect(), ..Case::new(&table) };
    for (kind, parameters) in EVERY {
        let (model, _) = case.fit(kind, Implementation::Fast, parameters).unwrap();
        let whole = model.save().unwrap();
        let present = case.probabilities(&*model);
        for name in whole.tensors.keys() {
            let mut without = whole.clone();
            without.tensors.remove(name);
            // Only tensors that explain the model, such as importances, may be unused.
            let error = load(&without).err().unwrap_or_else(|| panic!("{kind} loads without {name}"));
            assert!(error.to_string().contains(name), "{kind}: {error}");
            let mut emptied = whole.clone();
            emptied.tensors.insert(name.clone(), etcbench::model::Tensor::u8(vec![1, 2, 3]));
            assert!(load(&emptied).is_err(), "{kind} loads with a broken {name}");
        }
        for name in whole.metadata.keys().filter(|name| *name != "columns") {
            let mut without = whole.clone();
            without.metadata.remove(name);
            assert!(load(&without).is_err(), "{kind} loads without {name}");
        }
        for (name, value) in
            [("classes", "99999999999"), ("statistic_names", "[]"), ("packets", "18446744073709551615")]
        {
            let mut altered = whole.clone();
            if altered.metadata.insert(name.to_owned(), value.to_owned()).is_some() {
                assert!(load(&altered).is_err(), "{kind} loads with {name} = {value}");
            }
        }
        assert_eq!(case.probabilities(&*load(&whole).unwrap()), present);
    }
}

#[test]
fn data_that_cannot_be_fitted_is_named() {
    let table = statistics_table();
    let one_class: Vec<usize> = (0..TRAINING).filter(|&row| table.labels[row] == 2).collect();
    let mut broken = table.clone();
    broken.statistics[(7, 3)] = f32::NAN;
    let mut infinite = table.clone();
    infinite.statistics[(TRAINING + 1, 3)] = f32::INFINITY;
    for (kind, _) in EVERY {
        for implementation in [Implementation::Fast, Implementation::Reference] {
            let empty = Case { training: Vec::new(), ..Case::new(&table) };
            assert!(empty.problem(kind, implementation, "").contains("no training rows"));
            if kind == "majority" {
                continue;
            }
            let single = Case { training: one_class.clone(), ..Case::new(&table) };
            assert!(single.problem(kind, implementation, "").contains("class `class2`"));
            let problem = Case::new(&broken).problem(kind, implementation, "");
            assert!(problem.contains("`statistic4` of flow 7"), "{problem}");
        }
        if kind != "majority" {
            let case = Case { training: (0..60).collect(), ..Case::new(&infinite) };
            let (model, _) = case.fit(kind, Implementation::Fast, "").unwrap();
            let problem = model.predict_probabilities(case.examples(&case.test), &Silent).unwrap_err().to_string();
            assert!(problem.contains("`statistic4` of flow 501 is inf"), "{problem}");
            let other = bytes_table();
            let problem = model.predict_probabilities(Examples { features: &other, rows: &[0] }, &Silent);
            assert!(problem.is_err(), "{kind} predicts on other columns");
        }
        let unfitted = ModelSpec {
            kind: ModelKind::named(kind).unwrap(),
            input: Input::Statistics,
            implementation: Implementation::Fast,
            parameters: toml::Table::new(),
        };
        assert!(build(&unfitted).unwrap().save().is_err());
    }
    let weighted = Case { training: (0..60).collect(), ..Case::new(&table) };
    for kind in ["svm", "random_forest", "decision_tree"] {
        let problem = weighted.problem(kind, Implementation::Fast, "class_weights = { clas1 = 2.0 }");
        assert!(problem.contains("`clas1`") && problem.contains("did you mean `class"), "{problem}");
    }
    let few = Case { training: (0..4).collect(), ..Case::new(&table) };
    for implementation in [Implementation::Fast, Implementation::Reference] {
        let problem = few.problem("knn", implementation, "");
        assert!(problem.contains("k = 5") && problem.contains("4 training rows"), "{problem}");
    }
    let problem = few.problem("gradient_boosting", Implementation::Fast, "early_stopping_rounds = 2").to_string();
    assert!(problem.contains("validation"), "{problem}");
}

#[test]
fn few_rows_constant_columns_and_absent_classes_are_fine() {
    // As many classes as rows, one class without rows, and columns of which all but one are constant.
    let mut statistics = Array2::from_elem((12, 3), 5.0_f32);
    for row in 0..12 {
        statistics[(row, 1)] = (row % 6) as f32 * 10.0;
    }
    let labels = (0..12).map(|row| row % 6).collect();
    let table = features(labels, Vec::new(), statistics, 7);
    for (kind, _) in EVERY {
        for implementation in [Implementation::Fast, Implementation::Reference] {
            let parameters = match kind {
                "knn" => "k = 1",
                "gradient_boosting" => "minimum_child_weight = 0\nl2 = 0.01",
                "svm" => "cost = 100",
                _ => "",
            };
            let case =
                Case { training: (0..6).collect(), validation: Vec::new(), test: (6..12).collect(), features: &table };
            let (model, report) = case.fit(kind, implementation, parameters).unwrap();
            let probabilities = case.probabilities(&*model);
            assert!(probabilities.column(6).iter().all(|&value| value == 0.0));
            let right = agreement(&classes(&probabilities), &case.truth());
            let wanted = match (kind, implementation) {
                ("majority", _) => 1.0 / 6.0,
                // smartcore does not split a node if the only column that it drew is constant.
                ("random_forest", Implementation::Reference) => 1.0 / 6.0,
                // Bootstraps of six rows, and regressors on one row per class, do not see every class.
                ("random_forest", _) | ("gradient_boosting", Implementation::Reference) => 0.5,
                // Regularised linear scores cannot separate six classes along one line.
                ("logistic_regression", _) => 0.3,
                _ => 1.0,
            };
            assert!(right >= wanted, "{kind} {implementation:?}: {right}");
            assert!(kind == "majority" || report.notes.iter().any(|note| note.contains("never predicted")));
        }
    }
}

#[test]
fn unknown_keys_and_unusable_values_are_named() {
    let problem = |kind, implementation, parameters: &str| {
        let parameters = parameters.parse().unwrap();
        let kind = ModelKind::named(kind).unwrap();
        let spec = ModelSpec { kind, input: Input::Bytes, implementation, parameters };
        build(&spec).err().map(|error| error.to_string()).unwrap_or_else(|| panic!("accepted"))
    };
    let fast = Implementation::Fast;
    for (kind, parameters, wanted) in [
        ("svm", "gama = 1", "[model.svm]: unknown key `gama`, did you mean `gamma`?"),
        ("svm", "gamma = \"automatic\"", "it must be \"scale\", \"auto\" or a number > 0"),
        ("svm", "gamma = -0.5", "`gamma` is -0.5"),
        ("svm", "class_weights = \"even\"", "\"none\", \"balanced\" or a table"),
        ("svm", "class_weights = { a = 0.0 }", "`class_weights` of `a` is 0"),
        ("random_forest", "class_weights = { a = -1.0 }", "`class_weights` of `a` is -1"),
        ("svm", "cache_mebibytes = 0", "`cache_mebibytes` is 0"),
        ("svm", "cost = -1", "`cost` is -1"),
        ("svm", "kernel = \"sigmoid\"", "`kernel`"),
        ("random_forest", "tree = 3", "did you mean `trees`?"),
        ("random_forest", "maximum_features = 1.5", "`maximum_features` is 1.5"),
        ("random_forest", "trees = 0", "`trees` is 0"),
        ("knn", "neighbours = 3", "unknown key `neighbours`"),
        ("knn", "k = 0", "`k` is 0"),
        ("gradient_boosting", "subsample = 0.0", "`subsample` is 0"),
        ("logistic_regression", "l2 = -1", "`l2` is -1"),
        ("decision_tree", "minimum_samples_split = 1", "at least 2"),
        ("majority", "k = 1", "unknown key `k`"),
    ] {
        let problem = problem(kind, fast, parameters);
        assert!(problem.contains(wanted), "{problem}");
    }
    for (kind, parameters) in [
        ("random_forest", "class_weights = \"balanced\""),
        ("random_forest", "permutation_repeats = 1"),
        ("gradient_boosting", "l1 = 0.5"),
        ("gradient_boosting", "early_stopping_rounds = 3"),
        ("decision_tree", "class_weights = \"balanced\""),
    ] {
        let problem = problem(kind, Implementation::Reference, parameters);
        assert!(problem.contains("reference implementation"), "{problem}");
    }
}
