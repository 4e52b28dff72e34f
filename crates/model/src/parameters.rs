//! Parses a model's table of an experiment file into its parameter struct: every key is optional, and unknown keys are
//! rejected with the nearest known one.

use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer, Visitor, value::Error as Refusal};

use super::ModelError;
use etcbench_storage::declarative;

/// Parses `table` into the parameters of `model`.
///
/// # Errors
/// A key that the model does not have, or a value of the wrong type; the message names the key.
pub(super) fn parse<P: DeserializeOwned>(model: &str, table: &toml::Table) -> Result<P, ModelError> {
    let known = field_names::<P>();
    for key in table.keys() {
        if known.contains(&key.as_str()) {
            continue;
        }
        return Err(refused(model, declarative::unknown("key", key, &known)));
    }
    for (key, value) in table {
        let mut alone = toml::Table::new();
        alone.insert(key.clone(), value.clone());
        P::deserialize(alone).map_err(|error| refused(model, format!("key `{key}`: {}", error.message())))?;
    }
    P::deserialize(table.clone()).map_err(|error| refused(model, error.message().to_owned()))
}

/// Serializes the parameters as TOML for a model's file.
pub(super) fn write<P: Serialize>(model: &str, parameters: &P) -> Result<String, ModelError> {
    toml::to_string(parameters).map_err(|error| refused(model, error.to_string()))
}

/// Returns an error about the parameters of `model`.
pub(super) fn refused(model: &str, problem: impl Into<String>) -> ModelError {
    ModelError::Parameters { model: model.to_owned(), problem: problem.into() }
}

/// Returns the field names of a struct, as its `Deserialize` implementation requests them.
fn field_names<P: DeserializeOwned>() -> Vec<&'static str> {
    let mut names: &'static [&'static str] = &[];
    // The probe always returns an error after recording the fields, so the result carries no information.
    let _ = P::deserialize(Probe(&mut names));
    names.to_vec()
}

/// A deserializer that only records the field names of a struct.
struct Probe<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Refusal;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Refusal> {
        *self.0 = fields;
        Err(serde::de::Error::custom("only the field names are needed"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refusal> {
        Err(serde::de::Error::custom("parameters must be a struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        trees: usize,
        learning_rate: f64,
    }

    impl Default for Example {
        fn default() -> Self {
            Self { trees: 100, learning_rate: 0.3 }
        }
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest_known_one() {
        let parse = |text: &str| parse::<Example>("random_forest", &text.parse().unwrap());
        assert_eq!(parse("trees = 3").unwrap(), Example { trees: 3, learning_rate: 0.3 });
        let message = parse("tree = 3").unwrap_err().to_string();
        assert_eq!(
            message,
            "[model.random_forest]: unknown key `tree`, did you mean `trees`? (known: trees, learning_rate)"
        );
        let message = parse("trees = 3\nlearning_rate = \"fast\"").unwrap_err().to_string();
        assert!(message.contains("key `learning_rate`"), "{message}");
    }
}
