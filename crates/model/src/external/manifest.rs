//! `model.toml`, the manifest in a model's folder: how the model is started, what it reads, needs and may use, where it
//! comes from, and what its weights were pre-trained on.

use serde::{Deserialize, Serialize};

use super::PROTOCOL;
use crate::Input;
use etcbench_storage::declarative::{self, first_repeated};

/// The value of `pretraining` for a model without any.
pub(super) const NO_PRETRAINING: &str = "none";

/// The content of `model.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The protocol that the program speaks: `etcbench-model-1`.
    pub protocol: String,
    /// One-line description of the model.
    pub title: String,
    /// The model's own version; results of different versions are never mixed.
    pub version: String,
    /// Its licence, as an SPDX identifier.
    pub licence: String,
    /// What to cite.
    #[serde(default)]
    pub citation: Option<String>,
    /// The data of any pre-training; `none` if there was none.
    pub pretraining: String,
    /// The inputs it supports, named as in an experiment's `input`; the first is the default.
    pub inputs: Vec<Input>,
    /// The program and its arguments, started in the model's folder.
    pub run: Vec<String>,
    /// The command that prints the versions of the interpreter and libraries that the program uses; they are part of
    /// every cache key.
    #[serde(default)]
    pub versions: Vec<String>,
    /// The command that builds the program from its sources, run once in the model's folder, with the user's own
    /// permissions.
    #[serde(default)]
    pub build: Vec<String>,
    /// Names of files and folders that are not part of the model, such as what `build` creates.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// What the program needs.
    #[serde(default)]
    pub needs: Needs,
    /// Its time limits.
    #[serde(default)]
    pub limits: Limits,
    /// Its keys and their defaults; an experiment can set only these. If missing, any key is passed on.
    #[serde(default)]
    pub parameters: Option<toml::Table>,
    /// Files that are too large for the folder's hash or come from elsewhere; each is checked before use.
    #[serde(default)]
    pub weights: Vec<Weights>,
}

/// Whether a model uses a GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gpu {
    /// It does not use a GPU, and cannot see one.
    #[default]
    None,
    /// It uses a GPU if one is available.
    Optional,
    /// It only runs on a GPU.
    Required,
}

/// `[needs]` of a model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Needs {
    /// Maximum memory, such as `4G`; by default, the free memory of the machine.
    pub memory: Option<String>,
    /// Maximum number of threads that it can use.
    pub threads: Option<usize>,
    /// Whether it uses a GPU.
    pub gpu: Gpu,
    /// Environment variables passed to it in addition to PATH, HOME, LANG and those that limit threads.
    pub environment: Vec<String>,
    /// Folders and files outside its own folder that it reads, absolute or beginning with `~/`.
    pub read: Vec<String>,
}

/// `[limits]` of a model, in seconds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// From the start to the answer to `describe`.
    pub start_seconds: f64,
    /// For a fit.
    pub fit_seconds: f64,
    /// For predicting all rows of one call, and for saving and loading.
    pub predict_seconds: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { start_seconds: 120.0, fit_seconds: 24.0 * 3600.0, predict_seconds: 3600.0 }
    }
}

/// A weight file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Its name in the model's folder.
    pub file: String,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
}

impl Manifest {
    /// Parses the text of a `model.toml`; `origin` identifies it in messages.
    ///
    /// # Errors
    /// Unknown or missing keys, and unusable values, on one line.
    pub fn parse(text: &str, origin: &str) -> Result<Self, String> {
        let manifest: Self = declarative::parse(text, origin).map_err(|error| error.to_string())?;
        manifest.validate().map_err(|problem| format!("{origin}: {problem}"))?;
        Ok(manifest)
    }

    fn validate(&self) -> Result<(), String> {
        if self.protocol != PROTOCOL {
            return Err(format!("protocol = \"{}\": this version speaks {PROTOCOL}", self.protocol));
        }
        for (key, text) in [
            ("title", &self.title),
            ("version", &self.version),
            ("licence", &self.licence),
            ("pretraining", &self.pretraining),
        ] {
            if text.trim().is_empty() {
                return Err(format!("`{key}` is empty; describe it in a line"));
            }
        }
        if self.inputs.is_empty() {
            return Err("`inputs` is empty; list at least one, such as \"bytes\"".to_owned());
        }
        if self.inputs.contains(&Input::Flowpic) {
            return Err(
                "`inputs` lists \"flowpic\", which the protocol has no array for; use \"sequences\", which cover the \
                        same packets"
                    .to_owned(),
            );
        }
        if let Some(twice) = first_repeated(&self.inputs) {
            return Err(format!("`inputs` lists \"{}\" twice", twice.name()));
        }
        if self.run.first().is_none_or(String::is_empty) {
            return Err(
                "`run` is empty; give the program and its arguments, such as [\"python3\", \"main.py\"]".to_owned()
            );
        }
        if self.versions.first().is_some_and(String::is_empty) {
            return Err("`versions` has no program; remove it, or give a program and its arguments".to_owned());
        }
        if let Some(memory) = &self.needs.memory
            && bytes(memory).is_none()
        {
            return Err(format!("needs.memory = \"{memory}\" is not a size such as \"500M\" or \"8G\""));
        }
        if self.needs.threads == Some(0) {
            return Err("needs.threads = 0: it must be at least 1".to_owned());
        }
        let Limits { start_seconds, fit_seconds, predict_seconds } = self.limits;
        for (key, seconds) in
            [("start_seconds", start_seconds), ("fit_seconds", fit_seconds), ("predict_seconds", predict_seconds)]
        {
            check_seconds(seconds).map_err(|problem| format!("limits.{key} {problem}"))?;
        }
        for weights in &self.weights {
            let digits = weights.sha256.len() == 64 && weights.sha256.bytes().all(|digit| digit.is_ascii_hexdigit());
            if !digits {
                return Err(format!("weights {}: sha256 is not 64 hexadecimal digits", weights.file));
            }
        }
        Ok(())
    }
}

/// Rejects a limit that is not a valid duration.
pub(super) fn check_seconds(seconds: f64) -> Result<(), String> {
    if seconds.is_finite() && seconds > 0.0 && seconds <= 1e9 {
        return Ok(());
    }
    Err(format!("= {seconds}: it must be above 0 and at most 1e9"))
}

/// Parses a size in bytes, such as `500M` or `8G`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let unit = text.chars().last().and_then(|unit| "KMGT".find(unit.to_ascii_uppercase()))?;
    let count: u64 = text[..text.len() - 1].parse().ok()?;
    count.checked_mul(1 << (10 * (unit + 1))).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "protocol = \"etcbench-model-1\"\ntitle = \"Forest\"\nversion = \"1\"\nlicence = \"MIT\"\n\
                         pretraining = \"none\"\ninputs = [\"bytes\"]\nrun = [\"python3\", \"main.py\"]\n";

    #[test]
    fn what_is_not_said_has_a_default() {
        let manifest = Manifest::parse(SOUND, "model.toml").unwrap();
        assert_eq!(manifest.limits, Limits::default());
        assert_eq!(manifest.needs, Needs::default());
        assert!(manifest.parameters.is_none() && manifest.build.is_empty());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let problem = |from: &str, to: &str| Manifest::parse(&SOUND.replace(from, to), "model.toml").unwrap_err();
        assert!(problem("licence", "license").contains("did you mean `licence`?"));
        assert!(problem("model-1", "model-9").contains("this version speaks etcbench-model-1"));
        assert!(problem("[\"bytes\"]", "[\"byte\"]").contains("did you mean `bytes`?"));
        assert!(problem("[\"bytes\"]", "[]").contains("`inputs` is empty"));
        assert!(problem("licence", "versions = [\"\"]\nlicence").contains("`versions` has no program"));
        assert!(problem("\"MIT\"", "\" \"").contains("`licence` is empty"));
        let more = |text: &str| Manifest::parse(&format!("{SOUND}{text}"), "model.toml").unwrap_err();
        assert!(more("[needs]\nmemory = \"much\"").contains("is not a size"));
        assert!(more("[limits]\nfit_seconds = 0").contains("above 0"));
        assert!(more("[[weights]]\nfile = \"w\"\nsha256 = \"12\"").contains("64 hexadecimal digits"));
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(bytes("500M"), Some(500 << 20));
        assert_eq!(bytes("8g"), Some(8 << 30));
        assert!(["", "8", "G", "0G", "-1G", "1.5G", "99999999999999T"].iter().all(|text| bytes(text).is_none()));
    }
}
