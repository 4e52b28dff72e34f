//! Tolerance files: the expected measurements of an experiment and their allowed deviations
//! (`results/tolerances/<experiment>-<dataset>-<size>.toml`), read and written.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::aggregate::RowKey;
use super::{ReportError, file_error};
use etcbench_evaluate::Metric;
use etcbench_experiment::{current_variant, has_current_variant};
use etcbench_model::Implementation;
use etcbench_storage::declarative::unknown;

/// The expectations of one experiment on one dataset in one size.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToleranceFile {
    /// The experiment's name.
    pub experiment: String,
    /// The dataset's name.
    pub dataset: String,
    /// The size's name.
    pub size: String,
    /// The expectations.
    #[serde(default)]
    pub tolerance: Vec<Tolerance>,
}

/// One expectation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// The variant of the experiment.
    pub variant: String,
    /// The model's name.
    pub model: String,
    /// What the model reads.
    pub input: String,
    /// `fast`, the default, or `reference`.
    #[serde(default = "default_implementation")]
    pub implementation: String,
    /// The class, for a metric of one class.
    #[serde(default)]
    pub class: Option<String>,
    /// The metric's name.
    pub metric: String,
    /// The expected mean over seeds.
    pub expected: f64,
    /// The largest allowed difference of the measured mean; 0 for a time.
    #[serde(default)]
    pub deviation: f64,
    /// For times only: the largest allowed ratio of measured to expected mean, from 1. Times depend on the machine; a
    /// faster one is always within.
    #[serde(default)]
    pub ratio: Option<f64>,
    /// Number of seeds from which the expectation was computed.
    pub seeds: usize,
}

fn default_implementation() -> String {
    Implementation::default().name().to_owned()
}

/// A tolerance file as written: optional keys are omitted.
#[derive(Serialize)]
struct Written<'a> {
    experiment: &'a str,
    dataset: &'a str,
    size: &'a str,
    tolerance: Vec<WrittenTolerance<'a>>,
}

#[derive(Serialize)]
struct WrittenTolerance<'a> {
    variant: &'a str,
    model: &'a str,
    input: &'a str,
    implementation: Option<&'a str>,
    class: Option<&'a str>,
    metric: &'a str,
    expected: f64,
    deviation: Option<f64>,
    ratio: Option<f64>,
    seeds: usize,
}

impl<'a> From<&'a Tolerance> for WrittenTolerance<'a> {
    fn from(tolerance: &'a Tolerance) -> Self {
        Self {
            variant: &tolerance.variant,
            model: &tolerance.model,
            input: &tolerance.input,
            implementation: Some(tolerance.implementation.as_str()).filter(|name| !Implementation::is_default(name)),
            class: tolerance.class.as_deref(),
            metric: &tolerance.metric,
            expected: tolerance.expected,
            deviation: tolerance.ratio.is_none().then_some(tolerance.deviation),
            ratio: tolerance.ratio,
            seeds: tolerance.seeds,
        }
    }
}

const FILE_KEYS: [&str; 4] = ["experiment", "dataset", "size", "tolerance"];
const KEYS: [&str; 10] =
    ["variant", "model", "input", "implementation", "class", "metric", "expected", "deviation", "ratio", "seeds"];

impl ToleranceFile {
    /// Returns the path of an experiment's tolerances: `<folder>/<experiment>-<dataset>-<size>.toml`.
    pub fn path(folder: &Path, experiment: &str, dataset: &str, size: &str) -> PathBuf {
        folder.join(format!("{experiment}-{dataset}-{size}.toml"))
    }

    /// Reads a tolerance file.
    ///
    /// # Errors
    /// The file cannot be read, or it has an unknown key, a negative deviation, a deviation for a time, a ratio for
    /// anything else, or two expectations for one value.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = std::fs::read_to_string(path).map_err(|problem| file_error(path, problem))?;
        let not_toml = |error: toml::de::Error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            file_error(path, format!("line {line}: {}", error.message().replace('\n', " ")))
        };
        let raw: toml::Table = toml::from_str(&text).map_err(not_toml)?;
        for key in raw.keys() {
            known(path, key, &FILE_KEYS)?;
        }
        let entries = raw.get("tolerance").and_then(toml::Value::as_array).into_iter().flatten();
        for key in entries.filter_map(toml::Value::as_table).flat_map(toml::Table::keys) {
            known(path, key, &KEYS)?;
        }
        let file: Self = toml::from_str(&text).map_err(not_toml)?;
        let has_deviation = |index: usize| {
            raw.get("tolerance").and_then(|all| all.get(index)).is_some_and(|entry| entry.get("deviation").is_some())
        };
        for (index, tolerance) in file.tolerance.iter().enumerate() {
            let place = format!("[[tolerance]] {} ({} of {})", index + 1, tolerance.metric, tolerance.model);
            if !(tolerance.expected.is_finite() && tolerance.deviation.is_finite() && tolerance.deviation >= 0.0) {
                let problem = format!("{place}: `expected` must be a number and `deviation` a number from 0");
                return Err(file_error(path, problem));
            }
            match (tolerance.is_time(), tolerance.ratio) {
                (true, Some(ratio)) if ratio.is_finite() && ratio >= 1.0 && !has_deviation(index) => {}
                (true, _) => {
                    let problem = "times depend on the machine: give `ratio`, the largest allowed multiple of the \
                                   expected time (from 1), instead of `deviation`";
                    return Err(file_error(path, format!("{place}: {problem}")));
                }
                (false, Some(_)) => {
                    return Err(file_error(path, format!("{place}: `ratio` is for times; give `deviation`")));
                }
                (false, None) if !has_deviation(index) => {
                    return Err(file_error(path, format!("{place}: `deviation` is missing")));
                }
                (false, None) => {}
            }
            if file.tolerance[..index].iter().any(|other| other.same_value(tolerance)) {
                return Err(file_error(path, format!("{place}: the same value has an expectation above; keep one")));
            }
        }
        Ok(file)
    }

    /// Returns the content of the file.
    ///
    /// # Errors
    /// None expected: every field can be represented in TOML.
    pub fn to_toml(&self) -> Result<String, ReportError> {
        let written = Written {
            experiment: &self.experiment,
            dataset: &self.dataset,
            size: &self.size,
            tolerance: self.tolerance.iter().map(WrittenTolerance::from).collect(),
        };
        let body = toml::to_string(&written).map_err(|problem| ReportError::Records(problem.to_string()))?;
        Ok(format!(
            "# What this experiment is expected to measure: means over seeds, and how far off they may be.\n\n{body}"
        ))
    }

    /// Returns the expectations with today's names of variants.
    pub(super) fn current(&self) -> Vec<Tolerance> {
        let mut tolerances = self.tolerance.clone();
        if !has_current_variant(tolerances.iter().map(|tolerance| tolerance.variant.as_str())) {
            tolerances.iter_mut().for_each(|own| own.variant = current_variant(&own.variant).into_owned());
        }
        tolerances
    }
}

fn known(path: &Path, key: &str, keys: &[&str]) -> Result<(), ReportError> {
    if keys.contains(&key) {
        return Ok(());
    }
    Err(file_error(path, unknown("key", key, keys)))
}

impl Tolerance {
    pub(super) fn row(&self) -> RowKey {
        RowKey {
            model: self.model.clone(),
            input: self.input.clone(),
            implementation: self.implementation.clone(),
            variant: self.variant.clone(),
        }
    }

    fn is_time(&self) -> bool {
        Metric::named(&self.metric).is_some_and(|metric| metric.is_time())
    }

    /// Returns how far a mean exceeds what is allowed; 0 or less if it is within.
    pub(super) fn outside(&self, mean: f64) -> f64 {
        match self.ratio {
            Some(ratio) => mean - self.expected * ratio,
            None => (mean - self.expected).abs() - self.deviation,
        }
    }

    pub(super) fn same_value(&self, other: &Self) -> bool {
        self.row() == other.row() && self.class == other.class && self.metric == other.metric
    }
}

#[cfg(test)]
mod tests {
    use super::super::tolerance::proposed_tolerances;
    use super::super::tolerance::tests::records;
    use super::*;

    #[test]
    fn broken_files_are_errors_that_name_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        let good = proposed_tolerances(&records(), None, false).unwrap().to_toml().unwrap();
        let problem = |text: String| {
            std::fs::write(&path, text).unwrap();
            ToleranceFile::read(&path).unwrap_err().to_string()
        };
        let unknown = problem(good.replacen("deviation", "deviaton", 1));
        assert!(unknown.contains("t.toml: unknown key `deviaton`, did you mean `deviation`?"), "{unknown}");
        assert!(problem(good.replacen("size", "sizes", 1)).contains("did you mean `size`"));
        assert!(problem(good.replacen("deviation = 0", "deviation = -0", 1)).contains("a number from 0"));
        assert!(problem(good.replacen("\"macro_f1\"", "\"accuracy\"", 1)).contains("the same value"));
        assert!(problem(good.replacen("\"macro_f1\"", "\"fit_wall_seconds\"", 1)).contains("times depend"));
        assert!(problem(good.replacen("deviation = 0.0424\n", "", 1)).contains("`deviation` is missing"));
        assert!(problem(good.replacen("deviation = 0.0424", "ratio = 2.0", 1)).contains("`ratio` is for times"));
        assert!(problem(good.replacen("expected = 0.91\n", "", 1)).contains("missing field `expected`"));
    }
}
