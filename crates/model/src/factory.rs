//! From a model's name to the model: an unfitted one from an experiment file's table, or a fitted one from its file.

use serde::de::DeserializeOwned;

use super::elmo::{ElmoOptions, ElmoSource};
use super::{Classifier, Implementation, ModelArchive, ModelError, ModelKind, ModelSpec, left_out, stored};

/// Builds an unfitted model from its specification in an experiment file.
///
/// # Errors
/// Unknown keys and unusable values, by name; an input that the model does not read.
pub fn build(spec: &ModelSpec) -> Result<Box<dyn Classifier>, ModelError> {
    build_on(spec, None)
}

/// Same as [`build`], with the ELMo from `source` if the model uses one.
///
/// # Errors
/// See [`build`].
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

/// Returns how the model's ELMo is pre-trained; `None` if it has no ELMo or its encoder is not pre-trained.
///
/// # Errors
/// See [`build`].
pub fn elmo_options(spec: &ModelSpec) -> Result<Option<ElmoOptions>, ModelError> {
    spec.kind.entry().elmo.map_or(Ok(None), |elmo| (elmo.options)(&spec.parameters))
}

/// Loads a fitted model from its file; its predictions are bit-identical to those of the model that was saved.
///
/// # Errors
/// A file that is incomplete or inconsistent.
pub fn load(archive: &ModelArchive) -> Result<Box<dyn Classifier>, ModelError> {
    let implementation: Implementation = named(archive, "implementation")?;
    let kind: ModelKind = named(archive, "model")?;
    left_out::check(kind.name(), implementation)?;
    (kind.entry().load)(implementation, archive)
}

/// Parses a name in the metadata.
fn named<T: DeserializeOwned>(archive: &ModelArchive, key: &str) -> Result<T, ModelError> {
    let name = stored::text(archive, key)?;
    serde_json::from_value(serde_json::Value::from(name))
        .map_err(|error| stored::broken(format!("metadata `{key}`: {error}")))
}
