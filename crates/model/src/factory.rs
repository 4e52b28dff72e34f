//! From a model's name to the model: new from an experiment file's table, or fitted from its own file.

use serde::de::DeserializeOwned;

use super::attention_lstm::AttentionLstm;
use super::decision_tree::DecisionTree;
use super::elmo::ElmoSource;
use super::gradient_boosting::GradientBoosting;
use super::knn::Knn;
use super::logistic_regression::LogisticRegression;
use super::majority::Majority;
use super::random_forest::RandomForest;
use super::svm::Svm;
use super::{Classifier, Implementation, Input, ModelArchive, ModelError, ModelKind, ModelSpec, stored};

/// A model as an experiment file asks for it, not fitted yet.
///
/// # Errors
/// Unknown keys and values that cannot be used, named.
pub fn build(spec: &ModelSpec) -> Result<Box<dyn Classifier>, ModelError> {
    let ModelSpec { kind, input, implementation, parameters } = spec;
    let (input, implementation) = (*input, *implementation);
    Ok(match kind {
        ModelKind::AttentionLstm => attention_lstm(implementation, input, parameters)?,
        ModelKind::Svm => Box::new(Svm::new(implementation, input, parameters)?),
        ModelKind::RandomForest => Box::new(RandomForest::new(implementation, input, parameters)?),
        ModelKind::Knn => Box::new(Knn::new(implementation, input, parameters)?),
        ModelKind::GradientBoosting => Box::new(GradientBoosting::new(implementation, input, parameters)?),
        ModelKind::LogisticRegression => Box::new(LogisticRegression::new(implementation, input, parameters)?),
        ModelKind::DecisionTree => Box::new(DecisionTree::new(implementation, input, parameters)?),
        ModelKind::Majority => Box::new(Majority::new(implementation, parameters)?),
    })
}

/// As [`build`], with the ELMo from `source`, which only the deep model has.
///
/// # Errors
/// As [`build`].
pub fn build_on(spec: &ModelSpec, source: Option<ElmoSource>) -> Result<Box<dyn Classifier>, ModelError> {
    match (spec.kind, source) {
        (ModelKind::AttentionLstm, Some(source)) => {
            AttentionLstm::check_input(spec.input)?;
            Ok(Box::new(AttentionLstm::new(spec.implementation, &spec.parameters)?.with_elmo(source)))
        }
        _ => build(spec),
    }
}

/// A fitted model from its file; it predicts the same bits as the model that was saved.
///
/// # Errors
/// A file that is not complete or contradicts itself.
pub fn load(archive: &ModelArchive) -> Result<Box<dyn Classifier>, ModelError> {
    let implementation: Implementation = named(archive, "implementation")?;
    Ok(match named(archive, "model")? {
        ModelKind::AttentionLstm => Box::new(AttentionLstm::from_archive(archive)?),
        ModelKind::Svm => Box::new(Svm::from_archive(implementation, archive)?),
        ModelKind::RandomForest => Box::new(RandomForest::from_archive(implementation, archive)?),
        ModelKind::Knn => Box::new(Knn::from_archive(implementation, archive)?),
        ModelKind::GradientBoosting => Box::new(GradientBoosting::from_archive(implementation, archive)?),
        ModelKind::LogisticRegression => Box::new(LogisticRegression::from_archive(implementation, archive)?),
        ModelKind::DecisionTree => Box::new(DecisionTree::from_archive(implementation, archive)?),
        ModelKind::Majority => Box::new(Majority::from_archive(implementation, archive)?),
    })
}

/// Training rows above which the reference implementation of a model refuses to fit; of the support vector machine
/// the rows of any two classes together. None where the implementations are one or the reference has no such size.
pub fn reference_row_limit(kind: ModelKind) -> Option<usize> {
    match kind {
        ModelKind::Svm => Svm::reference_row_limit(),
        ModelKind::RandomForest => RandomForest::reference_row_limit(),
        ModelKind::Knn => Knn::reference_row_limit(),
        ModelKind::GradientBoosting => GradientBoosting::reference_row_limit(),
        ModelKind::AttentionLstm | ModelKind::LogisticRegression | ModelKind::DecisionTree | ModelKind::Majority => {
            None
        }
    }
}

/// The deep model reads bytes only.
fn attention_lstm(
    implementation: Implementation,
    input: Input,
    parameters: &toml::Table,
) -> Result<Box<dyn Classifier>, ModelError> {
    AttentionLstm::check_input(input)?;
    Ok(Box::new(AttentionLstm::new(implementation, parameters)?))
}

/// A name of the metadata as the enum it stands for.
fn named<T: DeserializeOwned>(archive: &ModelArchive, key: &str) -> Result<T, ModelError> {
    let name = stored::text(archive, key)?;
    serde_json::from_value(serde_json::Value::from(name))
        .map_err(|error| stored::broken(format!("metadata `{key}`: {error}")))
}
