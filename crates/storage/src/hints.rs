//! Names that scikit-learn, XGBoost, PyTorch and the field's papers use for things that are named differently here. If
//! a user gives such a name, the message suggests ours; the name nearest in spelling would often be the wrong one.

/// Our names, each with the names used elsewhere.
const HINTS: &[(&str, &[&str])] = &[
    // Models.
    ("svm", &["svc", "SupportVectorMachine", "libsvm"]),
    ("random_forest", &["rf", "RandomForestClassifier", "forest"]),
    (
        "knn",
        &["k_nearest_neighbours", "k_nearest_neighbors", "KNeighborsClassifier", "nearest_neighbours", "kneighbors"],
    ),
    (
        "gradient_boosting",
        &["xgboost", "xgb", "XGBClassifier", "lightgbm", "lgbm", "gbdt", "gbm", "boosting", "catboost"],
    ),
    ("attention_lstm", &["lstm", "elmo", "bilstm", "attention", "deep"]),
    ("decision_tree", &["dt", "tree", "DecisionTreeClassifier", "c45", "cart"]),
    ("logistic_regression", &["lr", "logreg", "LogisticRegression", "logistic"]),
    ("majority", &["dummy", "DummyClassifier", "most_frequent", "zeror"]),
    // Keys of models.
    ("cost", &["C", "regularisation", "regularization"]),
    ("trees", &["n_estimators", "num_trees", "ntree", "estimators"]),
    ("rounds", &["n_estimators", "num_boost_round", "num_rounds", "nrounds", "iterations"]),
    ("k", &["n_neighbors", "n_neighbours", "neighbors", "neighbours"]),
    ("distance", &["metric"]),
    ("maximum_depth", &["max_depth", "depth"]),
    ("depth", &["max_depth", "maximum_depth"]),
    ("maximum_features", &["max_features", "mtry"]),
    ("minimum_samples_split", &["min_samples_split"]),
    ("minimum_samples_leaf", &["min_samples_leaf", "min_leaf"]),
    ("minimum_child_weight", &["min_child_weight"]),
    ("minimum_split_loss", &["gamma", "min_split_loss", "min_split_gain"]),
    ("maximum_bins", &["max_bin", "max_bins"]),
    ("column_sample", &["colsample_bytree", "feature_fraction"]),
    ("subsample", &["bagging_fraction"]),
    ("l1", &["reg_alpha", "alpha"]),
    ("l2", &["reg_lambda", "lambda", "C"]),
    ("early_stopping_rounds", &["early_stopping"]),
    ("learning_rate", &["lr", "eta", "step_size"]),
    ("class_weights", &["class_weight", "scale_pos_weight"]),
    ("maximum_iterations", &["max_iter"]),
    ("tolerance", &["tol", "epsilon"]),
    ("cache_mebibytes", &["cache_size"]),
    ("probabilities", &["probability"]),
    ("standardise", &["standardize", "scale", "StandardScaler", "normalize"]),
    ("out_of_bag", &["oob_score", "oob"]),
    ("batch", &["batch_size", "minibatch"]),
    ("epochs", &["num_epochs", "n_epochs", "max_epochs"]),
    ("hidden", &["hidden_size", "hidden_dim", "units"]),
    ("lstm", &["hidden_size", "lstm_units", "units"]),
    ("layers", &["num_layers", "n_layers"]),
    ("dropout", &["dropout_rate", "p"]),
    ("clip_norm", &["max_grad_norm", "grad_clip", "gradient_clipping"]),
    ("warm_up_steps", &["warmup_steps", "warmup", "num_warmup_steps"]),
    ("learning_rate_schedule", &["scheduler", "lr_scheduler"]),
    ("weight_averaging", &["ema", "swa"]),
    // Keys and values of experiments.
    ("packets", &["n", "num_packets", "n_packets", "packet_num"]),
    ("bytes", &["m", "num_bytes", "n_bytes", "payload", "byte_num"]),
    ("statistics", &["stats", "features", "flow_features", "tabular"]),
    ("sequences", &["sequence", "packet_sequences", "time_series", "timeseries", "lengths"]),
    ("input", &["inputs", "reads"]),
    ("models", &["model_names", "classifiers", "algorithms"]),
    ("seeds", &["seed", "random_state", "random_seed"]),
    ("masks", &["mask", "anonymize", "anonymise", "anonymization"]),
    ("train", &["training", "train_size", "train_ratio"]),
    ("test", &["testing", "test_size", "test_ratio"]),
    ("validation", &["val", "valid", "val_size", "dev"]),
    ("folds", &["n_splits", "k", "cv"]),
    ("k_fold", &["kfold", "cross_validation", "cv", "StratifiedKFold"]),
    ("grouped", &["group", "GroupKFold", "by_capture", "per_file"]),
    ("stratified", &["random", "train_test_split", "StratifiedShuffleSplit"]),
    ("temporal", &["time", "chronological", "by_time"]),
    ("sampling", &["resampling", "balance", "balancing"]),
    ("oversample", &["over_sampling", "RandomOverSampler", "smote"]),
    ("undersample", &["under_sampling", "RandomUnderSampler"]),
    ("budget", &["n_iter", "trials", "n_trials"]),
    ("idle_timeout", &["inactive_timeout", "flow_timeout", "timeout"]),
];

/// Returns the candidate that `name` stands for elsewhere in the field; the first match in the table.
pub(super) fn meant<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let name = plain(name);
    let known = |ours: &str| candidates.iter().copied().find(|candidate| *candidate == ours);
    HINTS.iter().filter(|(_, others)| others.iter().any(|other| plain(other) == name)).find_map(|(ours, _)| known(ours))
}

/// Normalises a name: drops separators and case.
fn plain(name: &str) -> String {
    name.chars().filter(|character| !"_- ".contains(*character)).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_from_elsewhere_map_to_ours() {
        for (name, candidates, ours) in [
            ("C", &["cost", "gamma"][..], Some("cost")),
            ("n_estimators", &["trees", "maximum_depth"], Some("trees")),
            ("nEstimators", &["rounds", "depth"], Some("rounds")),
            ("n_neighbors", &["k", "weights"], Some("k")),
            ("rf", &["svm", "random_forest"], Some("random_forest")),
            ("XGBoost", &["svm", "gradient_boosting"], Some("gradient_boosting")),
            ("max-depth", &["maximum_depth"], Some("maximum_depth")),
            ("rf", &["svm"], None),
            ("pakets", &["packets"], None),
        ] {
            assert_eq!(meant(name, candidates), ours, "{name}");
        }
    }

    #[test]
    fn no_name_is_listed_twice() {
        for (place, (ours, others)) in HINTS.iter().enumerate() {
            assert!(HINTS[..place].iter().all(|(before, _)| before != ours), "{ours}");
            for (place, other) in others.iter().enumerate() {
                assert!(other != ours && !others[..place].contains(other), "{ours}: {other}");
            }
        }
    }
}
