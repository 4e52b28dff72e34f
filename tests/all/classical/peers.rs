//! The predictions of the classical models, compared with those of scikit-learn and XGBoost and of their own reference
//! implementations.

use super::{
    Case, agreement, bytes_table, classes, features, fixture, golden, macro_f1, statistics_table, two_classes,
};
use etcbench::feature::FeatureSet;
use etcbench::model::{Implementation, Input, ModelArchive, ModelKind, ModelSpec, TensorData, build, load};
use ndarray::Array2;

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
