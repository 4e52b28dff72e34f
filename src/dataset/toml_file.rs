//! Declarative files: TOML read into a typed value, with errors that name the file, the line, the
//! key and the nearest known key.

use std::path::Path;

use serde::de::DeserializeOwned;

/// Why a TOML file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TomlError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// The file.
        file: String,
        /// The file system's reason.
        source: std::io::Error,
    },
    /// A key that nothing reads.
    #[error("{file}:{line}: unknown key `{key}`; {advice}")]
    UnknownKey {
        /// The file.
        file: String,
        /// Line of the key, from 1.
        line: usize,
        /// The key as written.
        key: String,
        /// The nearest known key, and all of them.
        advice: String,
    },
    /// Not TOML, a key missing, or a value of the wrong kind.
    #[error("{file}:{line}: {message}")]
    Invalid {
        /// The file.
        file: String,
        /// Line of the fault, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// Reads the TOML file at `path` into a value whose type denies unknown fields.
///
/// # Errors
/// [`TomlError`], naming the file, the line and, for an unknown key, the nearest known one.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, TomlError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| TomlError::Read { file: file.clone(), source })?;
    parse_toml(&file, &text)
}

/// As [`read_toml`], from `text`; `file` is only named in errors.
///
/// # Errors
/// As [`read_toml`].
pub fn parse_toml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, TomlError> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count();
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        match unknown_field(&message) {
            Some((key, known)) => {
                let advice = match nearest(&key, known.iter().map(String::as_str)) {
                    Some(near) => format!("the nearest known key is `{near}` (known here: {})", known.join(", ")),
                    None => "no key is known here".to_owned(),
                };
                TomlError::UnknownKey { file: file.to_owned(), line, key, advice }
            }
            None => TomlError::Invalid { file: file.to_owned(), line, message },
        }
    })
}

/// Takes serde's message for an unknown field apart: the field and the known ones.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((key.to_owned(), known))
}

/// The candidate most like `name` (Damerau-Levenshtein distance in any letter case, the first on a
/// tie); none when there is no candidate.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates.into_iter().min_by_key(|candidate| strsim::damerau_levenshtein(&name, &candidate.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Settings {
        title: String,
        #[serde(default)]
        epochs: u32,
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_key() {
        let error = parse_toml::<Settings>("x.toml", "title = \"a\"\nepoch = 3\n").unwrap_err().to_string();
        assert!(error.starts_with("x.toml:2: unknown key `epoch`; the nearest known key is `epochs`"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn a_missing_key_and_a_wrong_type_are_told() {
        let missing = parse_toml::<Settings>("x.toml", "epochs = 1\n").unwrap_err().to_string();
        assert!(missing.contains("missing field `title`"), "{missing}");
        let wrong = parse_toml::<Settings>("x.toml", "title = \"a\"\nepochs = \"many\"\n").unwrap_err().to_string();
        assert!(wrong.starts_with("x.toml:2:"), "{wrong}");
    }

    #[test]
    fn nearest_ignores_case_and_takes_the_first_of_equals() {
        assert_eq!(nearest("Catgory", ["tunnel", "category"]), Some("category"));
        assert_eq!(nearest("x", ["a", "b"]), Some("a"));
        assert_eq!(nearest("x", []), None);
    }
}
