//! Reads answers back from the files of a run, so that what was measured from them can be measured again.

use std::collections::BTreeMap;

use super::super::Variant;
use super::query::TrainingDistances;
use super::{Answers, Condition, EvaluationOptions};
use etcbench_evaluate::argmax;
use etcbench_model::ModelSpec;
use ndarray::ArrayView2;

/// Number of columns before the probabilities.
const COLUMNS: [&str; 5] = ["kind", "condition", "class", "predicted", "training_distance"];
/// Largest difference of the sum of probabilities from 1.
const ROUNDING: f64 = 1e-3;

/// Number of conditions that a message lists.
const LISTED: usize = 40;

/// What is known about a fit whose answers are read.
pub struct AnswerFacts<'a> {
    /// `[evaluation]` of the experiment.
    pub options: &'a EvaluationOptions,
    /// The variant.
    pub variant: &'a Variant,
    /// The model; `None` if only its name is known, as for external models.
    pub spec: Option<&'a ModelSpec>,
    /// The classes, in the order of the probabilities.
    pub class_names: &'a [String],
    /// The classes of the test flows, in the order of the predictions.
    pub test_labels: &'a [u32],
    /// The predictions, row-major.
    pub test_probabilities: &'a [f32],
    /// The classes of the validation flows, in the order of the split.
    pub validation_labels: &'a [u32],
}

/// The values of a condition that `evaluation.csv` has and the answers have not.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StatedValues {
    /// Rows with nothing left to read.
    pub empty_rows: usize,
    /// Median seconds until the packets seen had arrived.
    pub median_wait_seconds: Option<f64>,
}

/// One part of a file of answers.
struct Part {
    kind: String,
    condition: String,
    classes: Vec<String>,
    predicted: Vec<String>,
    distances: Vec<Option<f64>>,
    probabilities: Vec<f32>,
}

/// Reads the answers of a fit; `stated` has the values that only `evaluation.csv` states.
///
/// # Errors
/// Describes what is not as the runner writes it: conditions, their order, flows and classes, and probabilities that are no
/// distributions.
pub fn read_answers(
    content: &[u8],
    facts: &AnswerFacts<'_>,
    stated: &BTreeMap<(String, String), StatedValues>,
) -> Result<Vec<Answers>, String> {
    if facts.class_names.is_empty() {
        return Err("there are no classes".to_owned());
    }
    let mut parts = read_parts(content, facts.class_names)?;
    let named = |part: &Part| match part.condition.is_empty() {
        true => part.kind.clone(),
        false => format!("{} {}", part.kind, part.condition),
    };
    for part in &parts {
        check_part(part, facts.class_names).map_err(|problem| format!("{}: {problem}", named(part)))?;
    }
    // Only where distances were measured, the test flows are there as they are.
    let test = parts.first().is_some_and(|part| part.kind == "test").then(|| parts.remove(0));
    if let Some(test) = &test {
        same_classes(&test.classes, facts.test_labels, facts.class_names)
            .map_err(|problem| format!("test: {problem}"))?;
        if test.probabilities != facts.test_probabilities {
            return Err("test: the probabilities differ from the predictions".to_owned());
        }
    }
    let conditions = conditions(facts, &parts)?;
    let distances = |part: &Part| part.distances.iter().copied().collect::<Option<Vec<f64>>>();
    let mut answers = Vec::new();
    for (condition, part) in conditions.iter().zip(&parts) {
        let problem = |problem: String| format!("{}: {problem}", named(part));
        let unknown = &facts.options.unknown_classes;
        let labels = match condition {
            Condition::Unknown => labels_of(&part.classes, unknown).map_err(problem)?,
            Condition::Validation => {
                same_classes(&part.classes, facts.validation_labels, facts.class_names).map_err(problem)?;
                facts.validation_labels.to_vec()
            }
            _ => {
                same_classes(&part.classes, facts.test_labels, facts.class_names).map_err(problem)?;
                facts.test_labels.to_vec()
            }
        };
        let may_be_far = matches!(condition, Condition::Unknown | Condition::Validation) && test.is_some();
        if part.distances.iter().any(|distance| distance.is_some() != may_be_far) {
            return Err(problem(
                "training_distance must be stated for the test, validation and unknown flows, or for none".to_owned(),
            ));
        }
        let known = stated.get(&(part.kind.clone(), part.condition.clone())).copied().unwrap_or_default();
        let even = part.probabilities.chunks(facts.class_names.len()).filter(|row| row.iter().all(|p| *p == row[0]));
        if known.empty_rows > even.count() {
            return Err(problem(format!(
                "{} flows are stated to have nothing to read, but not as many have equal probabilities",
                known.empty_rows
            )));
        }
        answers.push(Answers {
            condition: *condition,
            labels,
            probabilities: part.probabilities.clone(),
            empty_rows: known.empty_rows,
            distances: None,
            median_wait_seconds: known.median_wait_seconds,
        });
    }
    if let Some(test) = &test {
        let of = |wanted: Condition| {
            let place = conditions.iter().position(|condition| *condition == wanted)?;
            distances(&parts[place])
        };
        let all = distances(test).zip(of(Condition::Validation)).zip(of(Condition::Unknown));
        let ((test, validation), unknown) =
            all.ok_or("training distances are stated, but not for test, validation and unknown flows")?;
        if let Some(own) = answers.iter_mut().find(|answers| answers.condition == Condition::Unknown) {
            own.distances = Some(TrainingDistances { test, validation, unknown });
        }
    }
    Ok(answers)
}

fn read_parts(content: &[u8], class_names: &[String]) -> Result<Vec<Part>, String> {
    let mut reader = csv::Reader::from_reader(content);
    let header: Vec<String> = reader.headers().map_err(|error| error.to_string())?.iter().map(str::to_owned).collect();
    let probabilities = class_names.iter().map(|name| format!("probability_{name}"));
    let expected: Vec<String> = COLUMNS.map(str::to_owned).into_iter().chain(probabilities).collect();
    if header != expected {
        return Err(format!("the columns are {}, but must be {}", header.join(", "), expected.join(", ")));
    }
    let mut parts: Vec<Part> = Vec::new();
    for (number, record) in reader.records().enumerate() {
        let record = record.map_err(|error| error.to_string())?;
        let place = |problem: &str| format!("line {}: {problem}", number + 2);
        let [kind, condition, class, predicted, distance] = [0, 1, 2, 3, 4].map(|column| &record[column]);
        if parts.last().is_none_or(|part| (part.kind.as_str(), part.condition.as_str()) != (kind, condition)) {
            let (kind, condition) = (kind.to_owned(), condition.to_owned());
            let (classes, predicted, distances, probabilities) = Default::default();
            parts.push(Part { kind, condition, classes, predicted, distances, probabilities });
        }
        let Some(part) = parts.last_mut() else { continue };
        part.classes.push(class.to_owned());
        part.predicted.push(predicted.to_owned());
        part.distances.push(match distance {
            "" => None,
            text => {
                let value = text.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
                Some(value.ok_or_else(|| place("training_distance is not a number from 0 on"))?)
            }
        });
        for text in record.iter().skip(COLUMNS.len()) {
            let value = text.parse::<f32>().ok().filter(|value| (0.0..=1.0).contains(value));
            part.probabilities.push(value.ok_or_else(|| place("a probability is not a number from 0 to 1"))?);
        }
    }
    Ok(parts)
}

/// Checks that probabilities are distributions, and that the predicted class has the highest.
fn check_part(part: &Part, class_names: &[String]) -> Result<(), String> {
    let classes = class_names.len();
    for (row, probabilities) in part.probabilities.chunks(classes).enumerate() {
        let total: f64 = probabilities.iter().map(|&value| f64::from(value)).sum();
        if (total - 1.0).abs() > ROUNDING {
            return Err(format!("the probabilities of flow {} sum to {total}", row + 1));
        }
    }
    let matrix = ArrayView2::from_shape((part.classes.len(), classes), &part.probabilities);
    let matrix = matrix.map_err(|error| error.to_string())?;
    let likeliest = argmax(matrix);
    let is_wrong = |row: &usize| part.predicted[*row] != class_names[likeliest[*row] as usize];
    match (0..likeliest.len()).find(is_wrong) {
        Some(row) => Err(format!("the class predicted for flow {} does not have the highest probability", row + 1)),
        None => Ok(()),
    }
}

fn labels_of(classes: &[String], names: &[String]) -> Result<Vec<u32>, String> {
    let label = |class: &String| {
        let place = names.iter().position(|name| name == class);
        place.map(|place| place as u32).ok_or_else(|| format!("{class} is none of {}", names.join(", ")))
    };
    classes.iter().map(label).collect()
}

/// Checks that flows have the classes of a part of the split, in its order.
fn same_classes(classes: &[String], labels: &[u32], names: &[String]) -> Result<(), String> {
    if classes.len() != labels.len() {
        return Err(format!("has {} answers for {} flows", classes.len(), labels.len()));
    }
    match classes.iter().zip(labels).position(|(class, &label)| names.get(label as usize) != Some(class)) {
        Some(row) => Err(format!("flow {} has another class than in the split", row + 1)),
        None => Ok(()),
    }
}

/// Returns the condition of every part. Which conditions there must be follows from the experiment and the model; of a
/// model that is known only by name they must be some of the experiment's, in its order.
fn conditions(facts: &AnswerFacts<'_>, parts: &[Part]) -> Result<Vec<Condition>, String> {
    let all = facts.options.conditions(facts.variant);
    let is_of =
        |part: &Part, condition: &Condition| part.kind == condition.kind().name() && part.condition == condition.name();
    let listed = |conditions: &[Condition]| {
        let names = conditions.iter().map(|condition| format!("{} {}", condition.kind().name(), condition.name()));
        let shown: Vec<String> = names.take(LISTED).map(|name| name.trim_end().to_owned()).collect();
        shown.join(", ") + if conditions.len() > LISTED { ", ..." } else { "" }
    };
    if let Some(spec) = facts.spec {
        let expected: Vec<Condition> =
            all.into_iter().filter(|condition| condition.concerns_model(spec, facts.variant)).collect();
        let mut left = parts.iter().peekable();
        let mut found = Vec::new();
        for condition in &expected {
            if left.next_if(|part| is_of(part, condition)).is_some() {
                found.push(*condition);
            } else if !may_be_missing(condition, spec) {
                return Err(format!("the conditions are not those of the experiment: {}", listed(&expected)));
            }
        }
        return match left.next() {
            None => Ok(found),
            Some(_) => Err(format!("the conditions are not those of the experiment: {}", listed(&expected))),
        };
    }
    let mut left = all.iter();
    let found: Option<Vec<Condition>> =
        parts.iter().map(|part| left.find(|condition| is_of(part, condition)).copied()).collect();
    found.ok_or_else(|| format!("the conditions are not among those of the experiment: {}", listed(&all)))
}

/// Returns whether a condition depends on the data: of flows that were published with few statistics, none may depend on the
/// quantity.
fn may_be_missing(condition: &Condition, spec: &ModelSpec) -> bool {
    matches!(condition, Condition::Occluded { .. }) && !spec.reads_sequences()
}

/// Returns whether a model is queried under any condition, whatever the data.
pub fn is_evaluated(options: &EvaluationOptions, variant: &Variant, spec: &ModelSpec) -> bool {
    let is_certain =
        |condition: &Condition| condition.concerns_model(spec, variant) && !may_be_missing(condition, spec);
    options.conditions(variant).iter().any(is_certain)
}
