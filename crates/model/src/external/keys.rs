//! The keys of an external model: the experiment's values override the manifest's.

use super::manifest::{bytes, check_seconds};
use super::package::Package;
use crate::ModelError;
use etcbench_storage::declarative;

/// The limits of a program.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub memory: Option<u64>,
    pub start: f64,
    pub fit: f64,
    pub predict: f64,
}

impl Limits {
    /// Takes the limits out of a model's table, with the manifest's values as defaults.
    pub(super) fn take(package: &Package, table: &mut toml::Table) -> Result<Self, ModelError> {
        let manifest = &package.manifest;
        let memory = match table.remove("memory") {
            None => manifest.needs.memory.as_deref().and_then(bytes),
            Some(value) => {
                let size = value.as_str().and_then(bytes);
                Some(size.ok_or_else(|| refused(package, format!("memory = {value} is not a size such as \"8G\"")))?)
            }
        };
        let mut seconds = |key: &str, default: f64| match table.remove(key) {
            None => Ok(default),
            Some(value) => {
                let number = value.as_float().or(value.as_integer().map(|number| number as f64)).unwrap_or(f64::NAN);
                check_seconds(number).map_err(|problem| refused(package, format!("{key} {problem}")))?;
                Ok(number)
            }
        };
        Ok(Self {
            memory,
            start: manifest.limits.start_seconds,
            fit: seconds("fit_seconds", manifest.limits.fit_seconds)?,
            predict: seconds("predict_seconds", manifest.limits.predict_seconds)?,
        })
    }
}

/// Merges the keys of an experiment into the manifest's defaults.
pub(super) fn parameters(package: &Package, table: toml::Table) -> Result<serde_json::Value, ModelError> {
    let merged = match &package.manifest.parameters {
        None => table,
        Some(defaults) => {
            let mut known: Vec<&str> = defaults.keys().map(String::as_str).collect();
            known.extend(["memory", "fit_seconds", "predict_seconds"]);
            for (key, value) in &table {
                let Some(default) = defaults.get(key) else {
                    return Err(refused(package, declarative::unknown("key", key, &known)));
                };
                let whole_for_float = default.is_float() && value.is_integer();
                if !default.same_type(value) && !whole_for_float {
                    let problem = format!("{key} = {value}: it must be a {}, such as {default}", default.type_str());
                    return Err(refused(package, problem));
                }
            }
            let mut merged = defaults.clone();
            declarative::merge(&mut merged, &table);
            merged
        }
    };
    serde_json::to_value(merged).map_err(|error| refused(package, error.to_string()))
}

/// Returns an error about the keys or the folder of a model.
pub(super) fn refused(package: &Package, problem: String) -> ModelError {
    ModelError::Parameters { model: package.name.clone(), problem }
}
