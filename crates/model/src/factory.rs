//! From a model's name to the model: an unfitted one from an experiment file's table, or a fitted one from its file.

use serde::de::DeserializeOwned;

use super::{Classifier, Implementation, ModelArchive, ModelError, ModelKind, ModelSpec, left_out, stored};

/// Builds an unfitted model from its specification in an experiment file.
///
/// # Errors
/// Unknown keys and unusable values, by name; an input that the model does not read.
pub fn build(spec: &ModelSpec) -> Result<Box<dyn Classifier>, ModelError> {
    let entry = spec.kind.entry();
    left_out::check(entry.name, spec.implementation)?;
    if !entry.inputs.contains(&spec.input) {
        let inputs: Vec<String> = entry.inputs.iter().map(|input| format!("\"{}\"", input.name())).collect();
        return Err(ModelError::Parameters {
            model: entry.name.to_owned(),
            problem: format!("this model does not read {}; use input = {}", spec.input.name(), inputs.join(" or ")),
        });
    }
    (entry.build)(spec)
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
