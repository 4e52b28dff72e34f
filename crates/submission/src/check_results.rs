//! Checks results: recomputes records, tests of difference, leak reports, tables and model cards from what was checked
//! before, and compares them with the claims.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::bundle::Bundle;
use super::card::{Card, cards};
use super::check_fits::fit_name;
use super::claimed::{Claimed, PUBLISHED};
use super::rules::Finding;
use super::{SubmissionError, io};
use etcbench_evaluate::Metric;
use etcbench_experiment::{
    BestScore, FailedFit, FittedRow, Record, Run, RunKey, VariantRun, comparisons, comparisons_csv,
};
use etcbench_leaks::{LeakReport, Shared, leak_reports};
use etcbench_model::external::Failure;
use etcbench_report::{RunHeading, run_table_texts};
use etcbench_storage as storage;

/// What earlier steps recomputed from a bundle.
pub(super) struct MadeAgain {
    /// The variants with their flows and splits.
    pub variants: Vec<Option<VariantRun>>,
    /// The fits with their predictions.
    pub rows: Option<Vec<FittedRow>>,
    /// Whether the bundle is from this version, which has the same metrics and tables.
    pub same_version: bool,
}

/// Checks everything that is derived from predictions and splits. If not all fits are available, only leaks, cards and
/// published numbers are checked.
pub(super) fn check(
    bundle: &Bundle,
    claimed: &Claimed,
    made_again: MadeAgain,
    project: &Path,
    findings: &mut Vec<Finding>,
) -> Result<(), SubmissionError> {
    let MadeAgain { variants, rows, same_version } = made_again;
    for variant in variants.iter().flatten() {
        check_leaks(claimed, variant, findings);
    }
    check_cards(bundle, claimed, findings)?;
    check_published(bundle, claimed, project, findings);
    let (Some(variants), Some(rows)) = (variants.into_iter().collect::<Option<Vec<_>>>(), rows) else { return Ok(()) };
    let run = rebuilt(claimed, variants, rows);
    let records = match run.records() {
        Ok(records) => records,
        Err(error) => {
            findings.push(Finding::new("predictions", "predictions", error.to_string()));
            return Ok(());
        }
    };
    check_records(&claimed.stored.records, &records, same_version, findings);
    if let Some(stated) = &claimed.stored.facts.best
        && BestScore::of(&records).as_ref() != Some(stated)
    {
        let problem = format!("the best score is stated as {stated}, which differs from the records");
        findings.push(Finding::new("records", "run.json", problem));
    }
    let again = match comparisons(&run).and_then(|comparisons| comparisons_csv(&comparisons)) {
        Ok(again) => again,
        Err(error) => {
            findings.push(Finding::new("comparisons", "comparisons.csv", error.to_string()));
            return Ok(());
        }
    };
    let stored = bundle.files.get("comparisons.csv").map(Vec::as_slice).unwrap_or_default();
    if let Some(difference) = first_difference(stored, &again) {
        findings.push(Finding::new("comparisons", "comparisons.csv", difference));
    }
    if same_version { check_tables(bundle, claimed, &records, &again, findings) } else { Ok(()) }
}

/// Reconstructs the run as the runner had it, from flows, splits and predictions.
fn rebuilt(claimed: &Claimed, variants: Vec<VariantRun>, rows: Vec<FittedRow>) -> Run {
    let facts = &claimed.stored.facts;
    let failures = claimed.run.failures.iter().map(|failure| FailedFit {
        key: failure.key.clone(),
        failure: Failure {
            model: failure.key.model.clone(),
            kind: failure.kind,
            problem: failure.problem.clone(),
            standard_error: failure.standard_error.clone(),
        },
    });
    Run {
        experiment: claimed.experiment.clone(),
        invocation: facts.invocation.clone(),
        provenance: facts.provenance.clone(),
        captures: claimed.run.captures.clone(),
        manifests: Vec::new(),
        without_label: String::new(),
        data_notes: facts.data_notes.clone(),
        flows_reused: false,
        stages: BTreeMap::new(),
        variants,
        rows,
        failures: failures.collect(),
        left_out: claimed.run.left_out.clone(),
    }
}

/// The key that identifies a value.
type ValueKey<'a> = (&'a RunKey, Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<usize>, &'a str);

fn by_key(records: &[Record]) -> BTreeMap<ValueKey<'_>, Vec<Option<f64>>> {
    let mut values: BTreeMap<ValueKey<'_>, Vec<Option<f64>>> = BTreeMap::new();
    for record in records {
        let Record { key, class, predicted, setting, epoch, metric, value } = record;
        let key = (key, class.as_deref(), predicted.as_deref(), setting.as_deref(), *epoch, metric.as_str());
        values.entry(key).or_default().push(*value);
    }
    values
}

/// Checks that every record appears once, with the recomputed value, and that there are no others.
fn check_records(claimed: &[Record], measured: &[Record], same_version: bool, findings: &mut Vec<Finding>) {
    let has_metric = |name: &str| claimed.iter().any(|record| record.metric == name);
    let missed: BTreeSet<&str> =
        measured.iter().map(|record| record.metric.as_str()).filter(|name| same_version || has_metric(name)).collect();
    let (claimed, measured) = (by_key(claimed), by_key(measured));
    let shown = |value: Option<f64>| value.map_or_else(|| "undefined".to_owned(), |value| value.to_string());
    let name = |&(key, class, predicted, setting, epoch, metric): &ValueKey<'_>| {
        let parts =
            [class.map(|class| format!(" of {class}")), predicted.map(|class| format!(" predicted as {class}"))];
        let more = [setting.map(|setting| format!(" with {setting}")), epoch.map(|epoch| format!(" in epoch {epoch}"))];
        let parts: String = parts.into_iter().chain(more).flatten().collect();
        format!("{metric}{parts} ({})", fit_name(key))
    };
    let mut problems: Vec<(&'static str, String)> = Vec::new();
    let rule = |key: &ValueKey<'_>| {
        let of_machine = Metric::named(key.5).is_some_and(|metric| metric.of_machine);
        if of_machine { "costs" } else { "records" }
    };
    for (key, values) in &claimed {
        let problem = match (values.as_slice(), measured.get(key).map(Vec::as_slice)) {
            (_, None) => format!("{} is claimed, but not derivable from the bundle", name(key)),
            (claimed, Some(measured)) if claimed == measured => continue,
            ([claimed], Some([measured])) => {
                format!("{} is claimed as {}, but is {}", name(key), shown(*claimed), shown(*measured))
            }
            _ => format!("{} is claimed more than once", name(key)),
        };
        problems.push((rule(key), problem));
    }
    for key in measured.keys().filter(|key| !claimed.contains_key(*key) && missed.contains(key.5)) {
        problems.push((rule(key), format!("{} is missing", name(key))));
    }
    // One edit can change hundreds of values; the first few of each rule are enough to see its kind.
    for of in ["records", "costs"] {
        let all: Vec<&String> = problems.iter().filter(|(rule, _)| *rule == of).map(|(_, problem)| problem).collect();
        for problem in all.iter().take(MAXIMUM_LISTED) {
            findings.push(Finding::new(of, "records.csv", (*problem).clone()));
        }
        if let Some(more) = all.len().checked_sub(MAXIMUM_LISTED).filter(|more| *more > 0) {
            findings.push(Finding::new(of, "records.csv", format!("{more} more values differ from those recomputed")));
        }
    }
}

/// Number of wrong values of each rule that are listed individually.
const MAXIMUM_LISTED: usize = 3;

/// Checks the parts of a leak report that follow from flows, classes and splits; the rest needs the captures.
fn check_leaks(claimed: &Claimed, variant: &VariantRun, findings: &mut Vec<Finding>) {
    let mut found = |problem: String| findings.push(Finding::new("leaks", "leaks.json", problem));
    let splits: Vec<_> = variant.splits.iter().map(|run| &run.split).collect();
    let measured = leak_reports(&variant.features, None, &splits);
    let of_variant = claimed.stored.leaks.iter().filter(|leaks| leaks.variant == variant.name);
    let stated: BTreeMap<(u64, usize), &LeakReport> =
        of_variant.map(|leaks| ((leaks.seed, leaks.fold), &leaks.report)).collect();
    if stated.len() != variant.splits.len() {
        found(format!(
            "{}: {} splits have a report, but there are {}",
            variant.name,
            stated.len(),
            variant.splits.len()
        ));
    }
    for (run, measured) in variant.splits.iter().zip(&measured) {
        let place = format!("{}, seed {}, fold {}", variant.name, run.seed, run.fold);
        let Some(stated) = stated.get(&(run.seed, run.fold)) else {
            found(format!("{place}: no report"));
            continue;
        };
        let counts = |report: &LeakReport| (report.training_flows, report.test_flows);
        if counts(stated) != counts(measured) {
            found(format!(
                "{place}: training and test flows are {:?}, but those of the split {:?}",
                counts(stated),
                counts(measured)
            ));
        }
        if stated.majority_macro_f1 != measured.majority_macro_f1 {
            let (claimed_score, of_split) = (stated.majority_macro_f1, measured.majority_macro_f1);
            found(format!("{place}: the most frequent class scores {claimed_score}, but in the split {of_split}"));
        }
        // If times were not measured, the report has no flows shared in time.
        let timeless = Shared { concurrent_flows: 0, within_training_time_flows: 0, ..measured.shared.clone() };
        if stated.shared != measured.shared && stated.shared != timeless {
            found(format!("{place}: what training and test part share differs from the split"));
        }
        if stated.classes != measured.classes {
            found(format!("{place}: the captures of the classes differ from those of the flows"));
        }
    }
}

/// Checks that the model cards are those of the run.
fn check_cards(bundle: &Bundle, claimed: &Claimed, findings: &mut Vec<Finding>) -> Result<(), SubmissionError> {
    let bytes = bundle.files.get("cards.json").map(Vec::as_slice).unwrap_or_default();
    let stated: Vec<Card> = match serde_json::from_slice(bytes) {
        Ok(cards) => cards,
        Err(error) => {
            findings.push(Finding::new("format", "cards.json", error.to_string()));
            return Ok(());
        }
    };
    let again = cards(&claimed.run, &claimed.stored.experiment);
    for (place, card) in again.iter().enumerate() {
        // The weights are not in the bundle; their hashes are for those who have the weights.
        let same = stated.get(place).is_some_and(|stated| {
            let (weights, licence) = (card.weights.clone(), card.licence.clone());
            Card { weights, licence, ..stated.clone() } == *card
        });
        if !same {
            let problem = format!("the card of {} differs from run.json and experiment.toml", card.model);
            findings.push(Finding::new("tables", "cards.json", problem));
        }
        // Cards of earlier versions state no licences.
        let code = |card: &Card| card.licence.as_ref().and_then(|licence| licence.code.clone());
        let states = stated.get(place).filter(|stated| stated.licence.is_some());
        if let Some(stated) = states.filter(|stated| code(card).is_some() && code(stated) != code(card)) {
            let shown = |code: Option<String>| code.unwrap_or_else(|| "none".to_owned());
            let (licence, known) = (shown(code(stated)), shown(code(card)));
            let problem = format!("the licence of {} is stated as {licence}, but is {known}", card.model);
            findings.push(Finding::new("licences", "cards.json", problem));
        }
    }
    if stated.len() != again.len() {
        let problem = format!("has {} cards, but the run {} models", stated.len(), again.len());
        findings.push(Finding::new("tables", "cards.json", problem));
    }
    Ok(())
}

/// Checks that published numbers are those that the project has for the experiment, if any.
fn check_published(bundle: &Bundle, claimed: &Claimed, project: &Path, findings: &mut Vec<Finding>) {
    let path = project.join("paper/published").join(format!("{}.csv", claimed.run.experiment));
    let Ok(known) = storage::or_stock(&path, std::fs::read(&path)) else { return };
    if bundle.files.get(PUBLISHED) != Some(&known) {
        let problem = format!("differs from the {}.csv of published numbers in this project", claimed.run.experiment);
        findings.push(Finding::new("tables", PUBLISHED, problem));
    }
}

/// Checks that the tables are those of the records.
fn check_tables(
    bundle: &Bundle,
    claimed: &Claimed,
    records: &[Record],
    comparisons: &[u8],
    findings: &mut Vec<Finding>,
) -> Result<(), SubmissionError> {
    let folder = claimed.folder();
    std::fs::write(folder.join("comparisons.csv"), comparisons).map_err(io(&folder))?;
    let heading = RunHeading::of_stored(&claimed.stored);
    let made = match run_table_texts(&claimed.published(), &heading, records, &folder) {
        Ok(texts) => texts,
        Err(error) => {
            findings.push(Finding::new("tables", "tables", error.to_string()));
            return Ok(());
        }
    };
    let made: BTreeMap<String, String> =
        made.into_iter().map(|(name, content)| (format!("tables/{name}"), content)).collect();
    let tables = || bundle.files.iter().filter(|(name, _)| name.starts_with("tables/"));
    for (name, content) in tables() {
        match made.get(name) {
            None => findings.push(Finding::new("tables", name, "is not a table of the run")),
            Some(again) => {
                let difference = first_difference(content, again.as_bytes());
                findings.extend(difference.map(|difference| Finding::new("tables", name, difference)));
            }
        }
    }
    for name in made.keys().filter(|name| !bundle.files.contains_key(*name)) {
        findings.push(Finding::new("tables", name, "is missing"));
    }
    Ok(())
}

/// Describes the first line in which two texts differ.
pub(super) fn first_difference(stored: &[u8], again: &[u8]) -> Option<String> {
    if stored == again {
        return None;
    }
    let (stored, again) = (String::from_utf8_lossy(stored), String::from_utf8_lossy(again));
    let (mut ours, mut theirs) = (stored.lines(), again.lines());
    for line in 1.. {
        match (ours.next(), theirs.next()) {
            (None, None) => return Some("differs in its line endings".to_owned()),
            (stored, again) if stored != again => {
                let shown = |line: Option<&str>| {
                    line.map_or_else(|| "nothing".to_owned(), |line| line.chars().take(200).collect())
                };
                return Some(format!("line {line} is {}, but recomputed {}", shown(stored), shown(again)));
            }
            _ => {}
        }
    }
    None
}
