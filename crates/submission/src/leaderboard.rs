//! The leaderboard of a folder of bundles: checks each, adds those that pass as entries, and lists the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::bundle::{Bundle, ENDING, sha256};
use super::card::Card;
use super::check::{Checked, check_claims};
use super::claimed::Claimed;
use super::data_card::{self, DataCard};
use super::rules::Finding;
use super::{SubmissionError, io};
use etcbench_report::{BoardCard, BoardEntry, Leaderboard, RefusedEntry};

/// Number of digits of the identity that name a bundle on the leaderboard.
const DIGITS: usize = 8;

/// Returns the bundles in a folder, sorted by name.
///
/// # Errors
/// The folder cannot be read.
pub fn bundles_in(folder: &Path) -> Result<Vec<PathBuf>, SubmissionError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ENDING)) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Checks bundles and builds a leaderboard of those that pass; also returns the number of those that do not.
///
/// # Errors
/// A temporary folder cannot be written, or records contradict one another, which a check rules out.
pub fn leaderboard(bundles: &[PathBuf], project: &Path) -> Result<(Leaderboard, usize), SubmissionError> {
    let (mut entries, mut refused) = (Vec::new(), Vec::new());
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for path in bundles {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let bundle = match Bundle::open(path) {
            Ok(bundle) => bundle,
            Err(SubmissionError::NoBundle { problem, .. }) => {
                refused.push(RefusedEntry { name, findings: vec![problem] });
                continue;
            }
            Err(error) => return Err(error),
        };
        // Identical content under two names is one entry.
        if let Some(first) = known.get(&bundle.identity) {
            refused.push(RefusedEntry { name, findings: vec![format!("is the same bundle as {first}")] });
            continue;
        }
        let (Checked { findings, .. }, claimed) = check_claims(&bundle, project)?;
        match claimed {
            Some(claimed) if findings.is_empty() => {
                known.insert(bundle.identity.clone(), name);
                entries.push(entry(&bundle, &claimed));
            }
            _ => refused.push(RefusedEntry { name, findings: findings.iter().map(Finding::to_string).collect() }),
        }
    }
    let left_out = refused.len();
    Ok((Leaderboard::new(entries, refused)?, left_out))
}

fn entry(bundle: &Bundle, claimed: &Claimed) -> BoardEntry {
    let cards: Vec<Card> =
        bundle.files.get("cards.json").and_then(|cards| serde_json::from_slice(cards).ok()).unwrap_or_default();
    let data = data_card::read(bundle).unwrap_or_default();
    let divisions = claimed.run.variants.iter().map(|variant| (variant.name.clone(), division(bundle, &variant.name)));
    BoardEntry {
        bundle: bundle.identity[..DIGITS].to_owned(),
        run: claimed.stored.clone(),
        divisions: divisions.collect(),
        cards: cards.iter().map(|card| board_card(card, &data)).collect(),
    }
}

/// Returns the hash of a variant's flows, classes and splits, whatever the variant's name.
fn division(bundle: &Bundle, variant: &str) -> String {
    let splits = format!("splits/{variant}-seed");
    let mut sums = String::new();
    for (name, content) in &bundle.files {
        let part = match name.strip_prefix(&splits) {
            Some(split) => format!("split {split}"),
            None if *name == format!("flows/{variant}.csv") => "flows".to_owned(),
            None => continue,
        };
        sums += &format!("{part} {}\n", sha256(content));
    }
    sha256(sums.as_bytes())
}

/// Returns a card as pairs of name and text.
fn board_card(card: &Card, data: &[DataCard]) -> BoardCard {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| facts.push((name.to_owned(), value));
    let unknown = || "unknown".to_owned();
    add("Description", card.summary.clone().unwrap_or_else(unknown));
    add("Reads", card.inputs.join(", "));
    add("Implementation", card.implementation.clone());
    add("Version", card.version.map_or_else(unknown, |version| version.to_string()));
    let is_empty = |value: &serde_json::Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    add(
        "Keys",
        if is_empty(&card.parameters) { "the defaults of its version".to_owned() } else { card.parameters.to_string() },
    );
    if !is_empty(&card.in_variants) {
        add("Keys in variants", card.in_variants.to_string());
    }
    if let Some(tuning) = &card.tuning {
        add("Tuning", tuning.to_string());
    }
    for (name, value) in card.program.iter().filter_map(serde_json::Value::as_object).flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        add(&format!("Program: {name}"), value);
    }
    for seen in &card.pretraining {
        add("Pre-training", seen.to_string());
    }
    for note in &card.notes {
        add("Note", note.clone());
    }
    let weights: Vec<String> =
        card.weights.iter().map(|weights| format!("{} {}", weights.sha256, weights.file)).collect();
    if let Some(licence) = &card.licence {
        let shown = |licence: &Option<String>| licence.clone().unwrap_or_else(|| "not stated".to_owned());
        add("Licence of the code", shown(&licence.code));
        add("Licence of the weights", shown(&licence.weights));
    }
    for data in data {
        let licence = data.licence.as_deref().unwrap_or("licence not stated by its definition");
        add("Data", format!("{}: {licence}", data.dataset));
    }
    add("Weights", if weights.is_empty() { "not saved".to_owned() } else { weights.join(", ") });
    BoardCard { model: card.model.clone(), facts }
}
