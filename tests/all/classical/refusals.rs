//! Data, keys and files that the classical models cannot use, and small data that they can.

use super::{Case, EVERY, TRAINING, agreement, bytes_table, classes, features, statistics_table};
use etcbench::model::{Examples, Implementation, Input, ModelKind, ModelSpec, build, load};
use etcbench::progress::Silent;
use ndarray::Array2;

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
