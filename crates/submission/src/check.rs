//! The check of a bundle, from its index to its tables. Each step reports findings and passes on what it recomputed; if
//! it cannot recompute something, dependent checks are skipped, and the bundle is refused anyway.

use std::collections::BTreeSet;
use std::path::Path;

use super::bundle::{Bundle, INDEX};
use super::check_evaluation::EVALUATION;
use super::claimed::{Claimed, PUBLISHED};
use super::data_card::{self, DATA};
use super::rules::Finding;
use super::{SubmissionError, check_draw, check_evaluation, check_fits, check_flows, check_results, check_splits};
use etcbench_experiment::{Overrides, read_experiment};
use etcbench_storage as storage;

/// Files that every bundle contains, in addition to those whose names depend on the run.
pub(super) const FIXED: [&str; 6] =
    ["experiment.toml", "run.json", "records.csv", "comparisons.csv", "leaks.json", "cards.json"];

/// The result of a check.
#[derive(Debug, Default)]
pub struct Checked {
    /// The problems found; empty if the bundle passes.
    pub findings: Vec<Finding>,
    /// What was not checked, one sentence each.
    pub notes: Vec<String>,
}

/// Checks a bundle. `project` is the folder of the project whose experiments and published tables it is compared with;
/// those built into etcbench are used if the project has none.
///
/// # Errors
/// A temporary folder cannot be written.
pub fn check(bundle: &Bundle, project: &Path) -> Result<Checked, SubmissionError> {
    Ok(check_claims(bundle, project)?.0)
}

/// Same as [`check`], but also returns what the bundle claims, if it can be read.
pub(super) fn check_claims(bundle: &Bundle, project: &Path) -> Result<(Checked, Option<Claimed>), SubmissionError> {
    let Checked { mut findings, mut notes } = Checked::default();
    bundle.differences(&mut findings);
    let Some(claimed) = Claimed::read(bundle, &mut findings)? else {
        return Ok((Checked { findings, notes }, None));
    };
    check_names(bundle, &claimed, &mut findings);
    check_experiment(&claimed, &mut findings);
    check_seeds(&claimed, project, &mut findings, &mut notes);
    check_flows::check_manifests(bundle, &claimed, &mut findings);
    check_flows::check_definitions(&claimed, project, &mut findings, &mut notes);
    data_card::check(bundle, &claimed, project, &mut findings);
    let flows = check_flows::check_flows(&claimed, &mut findings);
    check_draw::check(&claimed, &flows, &mut findings, &mut notes);
    let variants = check_splits::check(&claimed, project, flows, &mut findings, &mut notes);
    let mut rows = check_fits::check(&claimed, &variants, &mut findings);
    if let Some(rows) = &mut rows {
        check_evaluation::check(bundle, &claimed, &variants, rows, &mut findings, &mut notes);
    }
    let current = env!("CARGO_PKG_VERSION");
    let version = &claimed.stored.facts.provenance.version;
    let same_version = version == current;
    if !same_version {
        notes.push(format!(
            "the bundle is from etcbench {version}, and this is {current}: its tables are not compared, and metrics \
             that none of its records has are not required"
        ));
    }
    let made_again = check_results::MadeAgain { variants, rows, same_version };
    check_results::check(bundle, &claimed, made_again, project, &mut findings)?;
    Ok((Checked { findings, notes }, Some(claimed)))
}

/// Checks that a bundle contains only the files of a run, by their names. Files that are required by others are checked
/// where they are read.
fn check_names(bundle: &Bundle, claimed: &Claimed, findings: &mut Vec<Finding>) {
    let ends = |name: &str, ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    for name in bundle.files.keys() {
        let known = match name.split_once('/') {
            None => FIXED.contains(&name.as_str()) || [INDEX, PUBLISHED, DATA, EVALUATION].contains(&name.as_str()),
            Some(("manifests", name)) => ends(name, &[".json"]),
            Some(("flows" | "splits" | "predictions" | "evaluation", name)) => ends(name, &[".csv"]),
            Some(("tables", name)) => ends(name, &[".csv", ".md"]),
            Some(_) => false,
        };
        if !known {
            findings.push(Finding::new("files", name, "is not a file of a bundle"));
        }
    }
    for name in FIXED.iter().filter(|name| !bundle.files.contains_key(**name)) {
        findings.push(Finding::new("files", *name, "is missing"));
    }
    // Files that the run does not refer to could hide results that were left out.
    let mut referenced: BTreeSet<String> = BTreeSet::new();
    let imported = claimed.is_imported();
    for variant in &claimed.run.variants {
        referenced.insert(format!("flows/{}.csv", variant.name));
    }
    referenced.extend(claimed.run.manifests.iter().map(|manifest| format!("manifests/{}.json", manifest.dataset)));
    for name in bundle.files.keys().filter(|name| name.starts_with("flows/") || name.starts_with("manifests/")) {
        if !referenced.contains(name) {
            let rule = if name.starts_with("flows/") { "experiment" } else { "manifests" };
            findings.push(Finding::new(rule, name, "belongs to nothing in run.json"));
        }
    }
    let left_out = |name: &String| claimed.run.left_out.iter().any(|left| left.variant == *name);
    for variant in claimed.experiment.variants.iter().map(|variant| &variant.name) {
        let present = claimed.run.variants.iter().any(|own| own.name == *variant);
        if !present && !left_out(variant) && !imported {
            let problem = format!("variant {variant} of the experiment is missing");
            findings.push(Finding::new("experiment", "run.json", problem));
        }
    }
    if !claimed.run.left_out.is_empty() && claimed.experiment.ladder.is_none() {
        let problem = "variants are left out, which is allowed only for the rungs of a ladder";
        findings.push(Finding::new("experiment", "run.json", problem));
    }
}

/// Checks that all files are of one experiment.
fn check_experiment(claimed: &Claimed, findings: &mut Vec<Finding>) {
    let Claimed { run, experiment, stored, .. } = claimed;
    let mut found = |place: &str, problem: String| findings.push(Finding::new("experiment", place, problem));
    if experiment.datasets != run.datasets {
        let (of_run, stated) = (run.datasets.join(", "), experiment.datasets.join(", "));
        found("run.json", format!("is on {of_run}, but the experiment on {stated}"));
    }
    if experiment.title != run.title {
        found("run.json", format!("is titled {:?}, but the experiment {:?}", run.title, experiment.title));
    }
    let dataset = run.datasets.join("+");
    let expected = (run.experiment.as_str(), dataset.as_str(), run.size.as_str());
    let of_record = stored.records.iter().map(|record| ("records.csv", &record.key));
    let of_fit = run.fits.iter().map(|fit| ("run.json", &fit.key));
    let of_failure = run.failures.iter().map(|failure| ("run.json", &failure.key));
    let mut reported = BTreeSet::new();
    for (place, key) in of_record.chain(of_fit).chain(of_failure) {
        let actual = (key.experiment.as_str(), key.dataset.as_str(), key.size.as_str());
        if actual != expected && reported.insert((place, actual)) {
            found(
                place,
                format!(
                    "has values of {} on {}, {}; the run is of {} on {}, {}",
                    actual.0, actual.1, actual.2, expected.0, expected.1, expected.2
                ),
            );
        }
    }
}

/// Checks that the seeds were not hand-picked.
fn check_seeds(claimed: &Claimed, project: &Path, findings: &mut Vec<Finding>, notes: &mut Vec<String>) {
    let Claimed { run, experiment, .. } = claimed;
    let list = |seeds: &[u64]| seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let mut found = |place: &str, problem: String| findings.push(Finding::new("seeds", place, problem));
    if experiment.seeds != run.seeds {
        let (of_run, stated) = (list(&run.seeds), list(&experiment.seeds));
        found("run.json", format!("has the seeds {of_run}, but the experiment states {stated}"));
    }
    let count = experiment.seeds.len() as u64;
    if experiment.seeds.iter().copied().ne(0..count) {
        let stated_seeds = list(&experiment.seeds);
        found(
            "experiment.toml",
            format!("the seeds are {stated_seeds}; {count} seeds must be {}", list(&(0..count).collect::<Vec<_>>())),
        );
    }
    // A ladder uses one seed, with folds and repetitions instead.
    if experiment.ladder.is_some() {
        return;
    }
    let stated = match own_seeds(claimed, project) {
        Ok(stated) => stated,
        Err(problem) => {
            notes.push(format!("its seeds are not compared with the experiment here, which cannot be read: {problem}"));
            return;
        }
    };
    if let Some(stated) = stated.filter(|stated| stated.len() as u64 > count) {
        let problem = format!(
            "there are {count} seeds, but {} on {} at size {} states {}",
            run.experiment,
            run.datasets.join(", "),
            run.size,
            list(&stated)
        );
        found("experiment.toml", problem);
    }
}

/// Returns the seeds of the project's own experiment with this name, dataset and size; `None` if it has no such
/// experiment, an error if that cannot be read.
fn own_seeds(claimed: &Claimed, project: &Path) -> Result<Option<Vec<u64>>, String> {
    let run = &claimed.run;
    if storage::declarative::as_file_name(&run.experiment).is_err() {
        return Ok(None);
    }
    let path = project.join("experiments").join(format!("{}.toml", run.experiment));
    let size = Some(run.size.clone()).filter(|size| size != "full");
    let overrides = Overrides { data: run.datasets.clone(), size, ..Overrides::default() };
    if !storage::is_file_or_stock(&path) {
        return Ok(None);
    }
    read_experiment(&path, &overrides).map(|own| Some(own.seeds)).map_err(|error| error.to_string())
}
