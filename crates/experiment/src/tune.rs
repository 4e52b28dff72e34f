//! Tuning: determines which settings of a model are tried, and which one is used. Every model gets the same budget of
//! trials, every trial is fitted on the training part and scored by macro F1 on the validation part, and the test part
//! is never used. The settings tried depend only on the experiment file, so they are the same for all seeds, folds and
//! variants.

use indexmap::IndexMap;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use etcbench_model::{ModelKind, ModelSpec};
use etcbench_storage::declarative::{self, DeclarativeError};
use etcbench_storage::seed;

/// Draws per trial before a space counts as exhausted.
const DRAWS_PER_TRIAL: usize = 200;
/// Maximum number of trials of one model; more is a mistake.
const LARGEST_BUDGET: usize = 10_000;

/// How settings are chosen from a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// Every combination.
    Grid,
    /// Combinations drawn at random, each at most once.
    Random,
}

/// The values of one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a list of values, or a range { low = ..., high = ..., scale = \"linear\" | \"logarithmic\" }"
)]
pub enum Dimension {
    /// One of these values.
    Values(Vec<toml::Value>),
    /// A number in a range, for random search; an integer if both ends are.
    Range(Range),
}

/// Numbers from `low` to `high`, inclusive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    low: toml::Value,
    high: toml::Value,
    #[serde(default)]
    scale: Scale,
}

/// The quantity that is uniform over a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The number.
    #[default]
    Linear,
    /// The logarithm of the number.
    Logarithmic,
}

/// `[tune]` of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneOptions {
    /// `grid` or `random`.
    pub search: Search,
    /// Number of trials per model and input; the first uses the file's own values.
    pub budget: usize,
    /// Per model: its keys and their values. A model with an empty table keeps its own values.
    pub space: IndexMap<String, IndexMap<String, Dimension>>,
}

/// A setting of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Setting {
    /// The values, for display and records: `cost = 10.0, gamma = "scale"`.
    pub name: String,
    /// The model with these values.
    pub spec: ModelSpec,
}

impl TuneOptions {
    /// Validates the options against the experiment's models; `origin` is the file name for errors.
    ///
    /// # Errors
    /// The budget is 0 or too large, a model has no space, or a space contains invalid values.
    pub(super) fn validate(&self, models: &[String], origin: &str) -> Result<(), DeclarativeError> {
        let problem = |problem: String| DeclarativeError::Content { origin: format!("{origin}: [tune]"), problem };
        if self.budget == 0 || self.budget > LARGEST_BUDGET {
            return Err(problem(format!("`budget` is {}; it must be 1 to {LARGEST_BUDGET}", self.budget)));
        }
        if let Some(model) = models.iter().find(|model| !self.space.contains_key(*model)) {
            return Err(problem(format!(
                "{model} has no space, so it would be tuned less than the others; add [tune.space.{model}] (without \
                 keys if there is nothing to tune)"
            )));
        }
        for (model, space) in &self.space {
            for (key, dimension) in space {
                let fault = |text: &str| problem(format!("space.{model}.{key}: {text}"));
                match dimension {
                    Dimension::Values(values) if values.is_empty() => return Err(fault("the list is empty")),
                    Dimension::Values(values) => {
                        if declarative::first_repeated(values).is_some() {
                            return Err(fault("a value is listed twice"));
                        }
                    }
                    Dimension::Range(_) if self.search == Search::Grid => {
                        return Err(fault("a grid requires a list of values; ranges are for search = \"random\""));
                    }
                    Dimension::Range(range) => {
                        range.ends().map_err(|text| fault(&text))?;
                    }
                }
            }
            let size = space.values().try_fold(1_usize, |size, dimension| match dimension {
                Dimension::Values(values) => size.checked_mul(values.len()),
                Dimension::Range(_) => Some(size),
            });
            // The file's own values are an additional trial unless the grid contains them; if it does, the budget need
            // not be used up.
            if self.search == Search::Grid && !space.is_empty() && size.is_none_or(|size| size > self.budget) {
                return Err(problem(format!(
                    "the grid of {model} has more than budget = {} combinations; raise the budget for all models, \
                     shorten the lists, or use search = \"random\"",
                    self.budget
                )));
            }
        }
        Ok(())
    }

    /// Returns the settings to try for a model, the file's own values first; only those if the model has no space. At
    /// most `budget`, or fewer if the space is smaller.
    ///
    /// # Errors
    /// A grid leaves no room for the file's own values.
    pub(super) fn settings(&self, spec: &ModelSpec) -> Result<Vec<Setting>, DeclarativeError> {
        let model = spec.kind.name();
        let empty = IndexMap::new();
        let space = self.space.get(model).unwrap_or(&empty);
        let keys: Vec<&str> = space.keys().map(String::as_str).collect();
        let mut settings = vec![Setting { name: name(&keys, &spec.parameters), spec: spec.clone() }];
        let mut add = |values: Vec<toml::Value>| {
            let mut spec = spec.clone();
            for (key, value) in keys.iter().zip(values) {
                declarative::merge(&mut spec.parameters, &nested(key, value));
            }
            // Compare names: the same values with keys in another order are the same setting.
            let name = name(&keys, &spec.parameters);
            if settings.iter().all(|other| other.name != name) {
                settings.push(Setting { name, spec });
            }
            settings.len()
        };
        if space.is_empty() {
            return Ok(settings);
        }
        match self.search {
            Search::Grid => {
                for combination in combinations(space) {
                    add(combination);
                }
                if settings.len() > self.budget {
                    return Err(DeclarativeError::Content {
                        origin: "[tune]".to_owned(),
                        problem: format!(
                            "the grid of {model} and its own values ({}) are {} trials, which exceeds budget = {}; \
                             raise the budget for all models, or put the own values into the grid",
                            settings[0].name,
                            settings.len(),
                            self.budget
                        ),
                    });
                }
            }
            Search::Random => {
                let mut generator = seed::generator(0, &format!("tune/{model}"));
                let mut count = 1;
                for _ in 0..DRAWS_PER_TRIAL * self.budget {
                    if count >= self.budget {
                        break;
                    }
                    count = add(space.values().map(|dimension| dimension.draw(&mut generator)).collect());
                }
            }
        }
        Ok(settings)
    }
}

impl Range {
    /// Returns the ends as numbers, and whether both are integers.
    fn ends(&self) -> Result<(f64, f64, bool), String> {
        let number = |value: &toml::Value| match value {
            toml::Value::Integer(number) => Some((*number as f64, true)),
            toml::Value::Float(number) if number.is_finite() => Some((*number, false)),
            _ => None,
        };
        let (Some((low, first)), Some((high, second))) = (number(&self.low), number(&self.high)) else {
            return Err("`low` and `high` must be finite numbers".to_owned());
        };
        if low >= high {
            return Err("`low` must be below `high`".to_owned());
        }
        if self.scale == Scale::Logarithmic && low <= 0.0 {
            return Err("a logarithmic range must begin above 0".to_owned());
        }
        Ok((low, high, first && second))
    }
}

impl Dimension {
    fn draw(&self, generator: &mut ChaCha8Rng) -> toml::Value {
        match self {
            Dimension::Values(values) => values[generator.random_range(0..values.len())].clone(),
            Dimension::Range(range) => {
                let (low, high, whole) = range.ends().expect("checked when the experiment was read");
                let share: f64 = generator.random();
                let number = match range.scale {
                    Scale::Linear => low + share * (high - low),
                    Scale::Logarithmic => (low.ln() + share * (high.ln() - low.ln())).exp(),
                };
                if whole {
                    toml::Value::Integer(number.round() as i64)
                } else {
                    // Four significant digits are precise enough and readable in tables.
                    toml::Value::Float(format!("{number:.3e}").parse().unwrap_or(number))
                }
            }
        }
    }
}

/// Returns every combination of a space of lists, the last key changing fastest.
fn combinations(space: &IndexMap<String, Dimension>) -> Vec<Vec<toml::Value>> {
    let mut all = vec![Vec::new()];
    for dimension in space.values() {
        let Dimension::Values(values) = dimension else { continue };
        all = all
            .into_iter()
            .flat_map(|start: Vec<toml::Value>| {
                values.iter().map(move |value| [&start[..], std::slice::from_ref(value)].concat())
            })
            .collect();
    }
    all
}

/// Converts `a.b` and a value to `{ a = { b = value } }`.
fn nested(key: &str, value: toml::Value) -> toml::Table {
    match key.split_once('.') {
        Some((first, rest)) => toml::Table::from_iter([(first.to_owned(), toml::Value::Table(nested(rest, value)))]),
        None => toml::Table::from_iter([(key.to_owned(), value)]),
    }
}

/// Formats the values of `keys` in a model's table, with `default` for missing ones.
fn name(keys: &[&str], parameters: &toml::Table) -> String {
    if keys.is_empty() {
        return "its own values".to_owned();
    }
    let value = |key: &str| {
        let mut parts = key.split('.');
        let first = parameters.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    };
    let setting = |key: &&str| match value(key) {
        Some(value) => format!("{key} = {value}"),
        None => format!("{key} = default"),
    };
    keys.iter().map(setting).collect::<Vec<_>>().join(", ")
}

/// Returns the settings of a model that an experiment tries, by their names in records and in order; `None` if it is
/// not tuned.
///
/// # Errors
/// A grid leaves no room for the file's own values.
pub fn tried_settings(tune: Option<&TuneOptions>, spec: &ModelSpec) -> Result<Option<Vec<String>>, DeclarativeError> {
    let Some(tune) = tune.filter(|tune| is_tuned(Some(tune), spec.kind)) else { return Ok(None) };
    Ok(Some(tune.settings(spec)?.into_iter().map(|setting| setting.name).collect()))
}

/// A setting that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its values.
    pub setting: String,
    /// Macro F1 on the validation part; `None` if training diverged to non-finite numbers.
    pub macro_f1: Option<f64>,
    /// Elapsed seconds for fitting and scoring.
    pub wall_seconds: f64,
}

/// The trials for one model, input, seed and fold.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    /// The trials, the file's own values first.
    pub trials: Vec<Trial>,
    /// Index of the trial with the highest score, the first of equal ones.
    pub chosen: usize,
}

impl Tuning {
    /// Chooses the best trial; returns `None` if no trial has a score.
    pub fn choose(trials: Vec<Trial>) -> Option<Self> {
        let mut chosen: Option<(usize, f64)> = None;
        for (index, trial) in trials.iter().enumerate() {
            if let Some(score) = trial.macro_f1
                && chosen.is_none_or(|(_, best)| score > best)
            {
                chosen = Some((index, score));
            }
        }
        chosen.map(|(chosen, _)| Self { trials, chosen })
    }
}

/// Returns whether a model has any settings to try.
pub(super) fn is_tuned(tune: Option<&TuneOptions>, kind: ModelKind) -> bool {
    tune.and_then(|tune| tune.space.get(kind.name())).is_some_and(|space| !space.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcbench_model::{Implementation, Input};

    fn options(text: &str) -> TuneOptions {
        toml::from_str(text).unwrap()
    }

    fn svm(parameters: &str) -> ModelSpec {
        ModelSpec {
            kind: ModelKind::named("svm").unwrap(),
            input: Input::Bytes,
            implementation: Implementation::Fast,
            parameters: parameters.parse().unwrap(),
        }
    }

    fn names(options: &TuneOptions, spec: &ModelSpec) -> Vec<String> {
        options.settings(spec).unwrap().into_iter().map(|setting| setting.name).collect()
    }

    #[test]
    fn a_grid_tries_every_combination_and_the_own_values_first() {
        let options =
            options("search = \"grid\"\nbudget = 5\n[space.svm]\ncost = [1.0, 10.0]\ngamma = [\"scale\", 0.1]");
        options.validate(&["svm".to_owned()], "x.toml").unwrap();
        let spec = svm("cost = 10.0\nkernel = \"rbf\"");
        assert_eq!(
            names(&options, &spec),
            [
                "cost = 10.0, gamma = default",
                "cost = 1.0, gamma = \"scale\"",
                "cost = 1.0, gamma = 0.1",
                "cost = 10.0, gamma = \"scale\"",
                "cost = 10.0, gamma = 0.1",
            ]
        );
        let settings = options.settings(&spec).unwrap();
        assert_eq!(settings[2].spec.parameters["kernel"].as_str(), Some("rbf"));
        assert_eq!(settings[2].spec.parameters["cost"].as_float(), Some(1.0));
        // Own values contained in the grid count as one of its trials.
        assert_eq!(names(&options, &svm("cost = 10.0\ngamma = 0.1")).len(), 4);
        let small = TuneOptions { budget: 4, ..options };
        small.validate(&["svm".to_owned()], "x.toml").unwrap();
        assert!(small.settings(&spec).unwrap_err().to_string().contains("5 trials, which exceeds budget = 4"));
    }

    #[test]
    fn random_settings_are_distinct_within_the_budget_and_always_the_same() {
        let text = "search = \"random\"\nbudget = 12\n[space.svm]\n\
                    cost = { low = 0.1, high = 100.0, scale = \"logarithmic\" }\n\
                    degree = { low = 2, high = 5 }\nkernel = [\"rbf\", \"polynomial\"]";
        let options = options(text);
        options.validate(&["svm".to_owned()], "x.toml").unwrap();
        let spec = svm("cost = 1.0");
        let settings = options.settings(&spec).unwrap();
        assert_eq!(settings, options.settings(&spec).unwrap());
        assert_eq!(settings.len(), 12);
        for setting in &settings[1..] {
            let table = &setting.spec.parameters;
            assert!((0.1..=100.0).contains(&table["cost"].as_float().unwrap()));
            assert!((2..=5).contains(&table["degree"].as_integer().unwrap()));
        }
        // A space smaller than the budget is tried completely.
        let few = super::tests::options("search = \"random\"\nbudget = 50\n[space.svm]\ncost = [1.0, 2.0, 3.0]");
        assert_eq!(few.settings(&spec).unwrap().len(), 3);
    }

    #[test]
    fn keys_may_be_nested() {
        let options = options("search = \"grid\"\nbudget = 3\n[space.attention_lstm]\n\"elmo.hidden\" = [8, 16]");
        let spec = ModelSpec { kind: ModelKind::named("attention_lstm").unwrap(), ..svm("elmo = { layers = 2 }") };
        let settings = options.settings(&spec).unwrap();
        assert_eq!(settings[2].name, "elmo.hidden = 16");
        let elmo = settings[2].spec.parameters["elmo"].as_table().unwrap();
        assert_eq!((elmo["layers"].as_integer(), elmo["hidden"].as_integer()), (Some(2), Some(16)));
    }

    #[test]
    fn invalid_search_spaces_are_refused() {
        let problem = |text: &str| {
            let options: Result<TuneOptions, _> = declarative::parse(text, "x.toml");
            options.and_then(|options| options.validate(&["svm".to_owned()], "x.toml")).unwrap_err().to_string()
        };
        assert!(problem("search = \"grid\"\nbudget = 0\n[space.svm]").contains("`budget` is 0"));
        assert!(problem("search = \"grid\"\nbudget = 3\n[space.knn]").contains("svm has no space"));
        assert!(problem("search = \"grid\"\nbudget = 2\n[space.svm]\ncost = [1, 2, 3]").contains("more than budget"));
        assert!(
            problem("search = \"grid\"\nbudget = 2\n[space.svm]\ncost = []").contains("svm.cost: the list is empty")
        );
        assert!(problem("search = \"grid\"\nbudget = 2\n[space.svm]\ncost = [1, 1]").contains("twice"));
        assert!(
            problem("search = \"grid\"\nbudget = 2\n[space.svm]\ncost = { low = 1, high = 2 }")
                .contains("a grid requires")
        );
        let range = |range: &str| problem(&format!("search = \"random\"\nbudget = 2\n[space.svm]\ncost = {range}"));
        assert!(range("{ low = 2, high = 1 }").contains("`low` must be below"));
        assert!(range("{ low = 0, high = 1, scale = \"logarithmic\" }").contains("must begin above 0"));
        assert!(range("{ low = \"a\", high = 1 }").contains("finite numbers"));
        assert!(problem("search = \"halving\"\nbudget = 2\n[space.svm]").contains("unknown value `halving`"));
    }

    #[test]
    fn ties_go_to_the_first_trial_and_undefined_scores_lose() {
        let trial = |macro_f1| Trial { setting: String::new(), macro_f1, wall_seconds: 0.0 };
        let choose = |scores: &[Option<f64>]| Tuning::choose(scores.iter().map(|&score| trial(score)).collect());
        assert_eq!(choose(&[None, Some(0.5), Some(0.7), Some(0.7)]).unwrap().chosen, 2);
        assert!(choose(&[None, None]).is_none());
    }
}
