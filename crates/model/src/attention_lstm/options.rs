//! Parses `[model.attention_lstm]`, and suggests the nearest key for an unknown one.

use crate::ModelError;
use crate::deep::parameters::{AttentionLstmOptions, MODEL};
use etcbench_storage::declarative;

/// Parses the options of a table; every key is optional.
///
/// # Errors
/// An unknown key, with the nearest known one; a value of the wrong type or out of range.
pub(super) fn parse(table: &toml::Table) -> Result<AttentionLstmOptions, ModelError> {
    let problem = |problem: String| ModelError::Parameters { model: MODEL.to_owned(), problem };
    check_keys(table, &to_table(&AttentionLstmOptions::default()), "").map_err(problem)?;
    let options: AttentionLstmOptions =
        table.clone().try_into().map_err(|error: toml::de::Error| problem(one_line(&error)))?;
    options.validate()?;
    Ok(options)
}

/// Returns the problem on one line, with the nearest known value if a value is unknown, and the key it is in.
fn one_line(error: &toml::de::Error) -> String {
    let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    match text.rsplit_once(" in `") {
        Some((problem, key)) => format!("{} in `{key}", declarative::with_nearest_key(problem)),
        None => text,
    }
}

/// Returns the options as a table with all keys.
pub(super) fn to_table(options: &AttentionLstmOptions) -> toml::Table {
    toml::Table::try_from(options).expect("options are TOML values")
}

fn check_keys(table: &toml::Table, known: &toml::Table, prefix: &str) -> Result<(), String> {
    for (key, value) in table {
        match (known.get(key), value) {
            (Some(toml::Value::Table(known)), toml::Value::Table(table)) => {
                check_keys(table, known, &format!("{prefix}{key}."))?;
            }
            (Some(_), _) => {}
            (None, _) => {
                let nearest = declarative::nearest(key, known.keys().map(String::as_str))
                    .map(|nearest| format!("; did you mean {prefix}{nearest}?"))
                    .unwrap_or_default();
                return Err(format!("unknown key {prefix}{key}{nearest}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deep::parameters::Activation;

    fn parse_text(text: &str) -> Result<AttentionLstmOptions, String> {
        parse(&text.parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn tables_are_read_and_written() {
        assert_eq!(parse_text("").unwrap(), AttentionLstmOptions::default());
        let options = parse_text("activation = \"tanh\"\nlearning_rate = 1\nelmo = { epochs = 3 }").unwrap();
        assert_eq!((options.activation, options.learning_rate, options.elmo.epochs), (Activation::Tanh, 1.0, 3));
        assert_eq!(options.elmo.hidden, 128);
        assert_eq!(parse(&to_table(&options)).unwrap(), options);
    }

    #[test]
    fn errors_name_the_key() {
        for (text, expected) in [
            ("atention = false", "unknown key atention; did you mean attention?"),
            ("elmo = { hiden = 3 }", "unknown key elmo.hiden; did you mean elmo.hidden?"),
            (
                "encoder = \"fine-tuned\"",
                "unknown value `fine-tuned`, did you mean `fine_tuned`? \
                 (known: frozen, fine_tuned, from_scratch, none) in `encoder`",
            ),
            ("layer_rate_divisor = 0.5", "layer_rate_divisor = 0.5 must be a number of at least 1"),
            ("epochs = -1", "epochs"),
            ("elmo = 3", "elmo"),
            ("batch = 0", "batch = 0 must be between 1"),
        ] {
            let error = parse_text(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
            assert!(error.starts_with("[model.attention_lstm]: "), "{error}");
        }
    }
}
