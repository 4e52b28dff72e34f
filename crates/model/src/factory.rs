//! From a model's name to the model: new from an experiment file's table, or fitted from its own file.

use serde::de::DeserializeOwned;

use super::elmo::{ElmoOptions, ElmoSource};
use super::{Classifier, Implementation, ModelArchive, ModelError, ModelKind, ModelSpec, left_out, stored};

/// A model as an experiment file asks for it, not fitted yet.
///
/// # Errors
/// Unknown keys and values that cannot be used, named; an input that the model does not read.
pub fn build(spec: &ModelSpec) -> Result<Box<dyn Classifier>, ModelError> {
    build_on(spec, None)
}

/// As [`build`], with the ELMo from `source`, where the model has one.
///
/// # Errors
/// As [`build`].
pub fn build_on(spec: &ModelSpec, source: Option<ElmoSource>) -> Result<Box<dyn Classifier>, ModelError> {
    let entry = spec.kind.entry();
    left_out::check(entry.name, spec.implementation)?;
    if !entry.inputs.contains(&spec.input) {
        let inputs: Vec<String> = entry.inputs.iter().map(|input| format!("\"{}\"", input.name())).collect();
        return Err(ModelError::Parameters {
            model: entry.name.to_owned(),
            problem: format!("this model does not read {}; use input = {}", spec.input.name(), inputs.join(" or ")),
        });
    }
    match (entry.elmo, source) {
        (Some(elmo), Some(source)) => (elmo.build)(spec, source),
        _ => (entry.build)(spec),
    }
}

/// How the ELMo of a model is pre-trained; none where it has none, or one without pre-training.
///
/// # Errors
/// As [`build`].
pub fn elmo_options(spec: &ModelSpec) -> Result<Option<ElmoOptions>, ModelError> {
    spec.kind.entry().elmo.map_or(Ok(None), |elmo| (elmo.options)(&spec.parameters))
}

/// A fitted model from its file; it predicts the same bits as the model that was saved.
///
/// # Errors
/// A file that is not complete or contradicts itself.
pub fn load(archive: &ModelArchive) -> Result<Box<dyn Classifier>, ModelError> {
    let implementation: Implementation = named(archive, "implementation")?;
    let kind: ModelKind = named(archive, "model")?;
    left_out::check(kind.name(), implementation)?;
    (kind.entry().load)(implementation, archive)
}

/// A name of the metadata as what it stands for.
fn named<T: DeserializeOwned>(archive: &ModelArchive, key: &str) -> Result<T, ModelError> {
    let name = stored::text(archive, key)?;
    serde_json::from_value(serde_json::Value::from(name))
        .map_err(|error| stored::broken(format!("metadata `{key}`: {error}")))
}
