//! Split files: CSV with a line per flow (and seed and fold), so that others can train and evaluate on the same flows,
//! with this program or another.
//!
//! A flow's id consists of its capture's path within the dataset's folder and its number among the capture's flows in
//! the order of first packets. It is the same on every machine with the same captures and `[flow]` options. Endpoints
//! and start time are included for other programs; if present, they are compared on reading, so that a split of
//! differently assembled flows is detected.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::{Part, Split, SplitError, canonical_order};
use etcbench_capture::Transport;
use etcbench_dataset::FlowProvenance;
use etcbench_feature::FeatureSet;
use etcbench_storage::declarative;
use etcbench_storage::write_whole_with;

const IDENTITY: [&str; 5] = ["flow_id", "source", "destination", "transport", "start"];
const KNOWN: [&str; 8] = ["flow_id", "source", "destination", "transport", "start", "seed", "fold", "part"];

pub(super) fn error(path: &Path, problem: impl std::fmt::Display) -> SplitError {
    SplitError::File { path: path.display().to_string(), problem: problem.to_string() }
}

/// Writes which part each flow of `features` is in, in the order of flow ids.
///
/// # Errors
/// A split that omits flows of `features`, or any error of the file system.
pub fn write_split(path: &Path, features: &FeatureSet, split: &Split) -> Result<(), SplitError> {
    write(path, features, &[(None, split)])
}

/// Writes several splits of `features` one after the other, each with its seed and its fold (from 0; numbering
/// continues over repeats).
///
/// # Errors
/// Those of [`write_split`].
pub fn write_splits(path: &Path, features: &FeatureSet, splits: &[(u64, usize, &Split)]) -> Result<(), SplitError> {
    let splits: Vec<_> = splits.iter().map(|&(seed, fold, split)| (Some((seed, fold)), split)).collect();
    write(path, features, &splits)
}

type Named<'a> = (Option<(u64, usize)>, &'a Split);

fn write(path: &Path, features: &FeatureSet, splits: &[Named<'_>]) -> Result<(), SplitError> {
    let mut parts_of_splits = Vec::with_capacity(splits.len());
    for (_, split) in splits {
        let mut parts = vec![None; features.len()];
        for part in Part::ALL {
            for &row in split.part(part) {
                *parts.get_mut(row).ok_or_else(|| error(path, format!("row {row} is not in the feature set")))? =
                    Some(part);
            }
        }
        parts_of_splits.push(parts);
    }
    let order = canonical_order(&features.provenance);
    for parts in &parts_of_splits {
        if let Some(&row) = order.iter().find(|&&row| parts[row].is_none()) {
            let id = features.provenance[row].flow_id();
            return Err(error(path, format!("flow {id} is in no part of the split")));
        }
    }
    let fill = |file: &mut dyn std::io::Write| -> Result<(), csv::Error> {
        let mut writer = csv::Writer::from_writer(file);
        let numbered = splits.iter().any(|(numbers, _)| numbers.is_some());
        let numbers: &[&str] = if numbered { &["seed", "fold"] } else { &[] };
        writer.write_record([&IDENTITY[..], numbers, &["part"]].concat())?;
        for ((numbers, _), parts) in splits.iter().zip(&parts_of_splits) {
            for &row in &order {
                let flow = &features.provenance[row];
                for field in identity(flow) {
                    writer.write_field(field)?;
                }
                if let Some((seed, fold)) = numbers {
                    writer.write_field(seed.to_string())?;
                    writer.write_field(fold.to_string())?;
                }
                writer.write_field(parts[row].map_or("", Part::name))?;
                writer.write_record(None::<&[u8]>)?;
            }
        }
        writer.flush()?;
        Ok(())
    };
    write_whole_with(path, |file| fill(file).map_err(std::io::Error::other)).map_err(|problem| error(path, problem))
}

/// Returns the values of [`IDENTITY`].
pub(super) fn identity(flow: &FlowProvenance) -> [String; 5] {
    let transport = match flow.five_tuple.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    [
        flow.flow_id(),
        flow.five_tuple.source.to_string(),
        flow.five_tuple.destination.to_string(),
        transport.to_owned(),
        flow.start.to_string(),
    ]
}

/// Reads a file with one split of exactly the flows of `features`.
///
/// # Errors
/// Those of [`read_splits`], and a file with several splits.
pub fn read_split(path: &Path, features: &FeatureSet) -> Result<Split, SplitError> {
    let mut splits = read_splits(path, features, 0)?;
    match (splits.pop(), splits.len()) {
        (Some(split), 0) => Ok(split),
        (_, others) => Err(error(path, format!("it has {} folds, but one split was expected", others + 1))),
    }
}

/// Reads the splits of exactly the flows of `features`, fold by fold. From a file with a `seed` column, those of `seed`
/// are returned; a file without one applies to every seed.
///
/// # Errors
/// A file that is not a split file or has no split for the seed; flow ids that are unknown, missing or duplicated, or
/// whose flows have different endpoints or start times (each counted, with the first one); a split with nothing to
/// train or to test on.
pub fn read_splits(path: &Path, features: &FeatureSet, seed: u64) -> Result<Vec<Split>, SplitError> {
    let mut reader = csv::Reader::from_path(path).map_err(|problem| error(path, problem))?;
    let header = reader.headers().map_err(|problem| error(path, problem))?.clone();
    if let Some(unknown) = header.iter().find(|column| !KNOWN.contains(column)) {
        return Err(error(path, declarative::unknown("column", unknown, &KNOWN)));
    }
    let column = |name: &str| header.iter().position(|column| column == name);
    let required = |name: &str| column(name).ok_or_else(|| error(path, format!("there is no column `{name}`")));
    let (id_column, part_column) = (required("flow_id")?, required("part")?);
    let (seed_column, fold_column) = (column("seed"), column("fold"));
    let compared: Vec<(usize, usize)> =
        (1..IDENTITY.len()).filter_map(|field| column(IDENTITY[field]).map(|column| (field, column))).collect();

    let identities: Vec<[String; 5]> = features.provenance.iter().map(identity).collect();
    let rows: HashMap<&str, usize> =
        identities.iter().enumerate().map(|(row, identity)| (identity[0].as_str(), row)).collect();
    let mut faults = Faults::default();
    let mut folds: BTreeMap<usize, Vec<Option<Part>>> = BTreeMap::new();
    let mut seeds: BTreeSet<u64> = BTreeSet::new();
    for record in reader.records() {
        let record = record.map_err(|problem| error(path, problem))?;
        let line = record.position().map_or(0, csv::Position::line);
        let number = |column: usize| {
            record[column].parse::<u64>().map_err(|_| {
                let name = &header[column];
                error(path, format!("line {line}: {name} {:?} is not a non-negative integer", &record[column]))
            })
        };
        if let Some(column) = seed_column {
            let stated = number(column)?;
            seeds.insert(stated);
            if stated != seed {
                continue;
            }
        }
        let fold = fold_column.map_or(Ok(0), number)? as usize;
        let name = &record[part_column];
        let part = Part::ALL.into_iter().find(|part| part.name() == name).ok_or_else(|| {
            error(path, format!("line {line}: part {name:?} is not one of train, validation and test"))
        })?;
        let id = &record[id_column];
        let Some(&row) = rows.get(id) else {
            faults.unknown.add(|| format!("line {line}: {id}"));
            continue;
        };
        if compared.iter().any(|&(field, column)| record[column] != identities[row][field]) {
            faults.different.add(|| format!("line {line}: {id}"));
        }
        if folds.entry(fold).or_insert_with(|| vec![None; features.len()])[row].replace(part).is_some() {
            faults.repeated.add(|| format!("line {line}: {id}"));
        }
    }
    if folds.is_empty() && faults.unknown.count == 0 {
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        return Err(error(
            path,
            match seeds.is_empty() {
                true => "it contains no flows".to_owned(),
                false => format!("there is no split for seed {seed}; the seeds in the file are: {}", seeds.join(", ")),
            },
        ));
    }
    for parts in folds.values() {
        for (row, _) in parts.iter().enumerate().filter(|(_, part)| part.is_none()) {
            faults.missing.add(|| identities[row][0].clone());
        }
    }
    faults.check(path)?;
    if let Some(absent) = (0..folds.len()).find(|fold| !folds.contains_key(fold)) {
        return Err(error(path, format!("fold {absent} is missing; folds are numbered from 0 without a gap")));
    }
    let mut splits = Vec::with_capacity(folds.len());
    for (fold, parts) in folds {
        let parts: Vec<Part> = parts.into_iter().flatten().collect();
        let split = Split::from_parts(&parts);
        for part in [Part::Train, Part::Test] {
            if split.part(part).is_empty() {
                return Err(error(path, format!("fold {fold} has no flow in part {}", part.name())));
            }
        }
        splits.push(split);
    }
    Ok(splits)
}

/// How often a fault occurred, and where first.
#[derive(Default)]
struct Fault {
    count: usize,
    first: String,
}

impl Fault {
    fn add(&mut self, place: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = place();
        }
        self.count += 1;
    }
}

/// Why a file is not a split of the given flows.
#[derive(Default)]
struct Faults {
    unknown: Fault,
    different: Fault,
    repeated: Fault,
    missing: Fault,
}

impl Faults {
    fn check(&self, path: &Path) -> Result<(), SplitError> {
        let kinds = [
            (&self.unknown, "flow id(s) are not among the experiment's flows"),
            (&self.different, "flow(s) have different endpoints or start times"),
            (&self.repeated, "flow(s) are listed twice"),
            (&self.missing, "flow(s) are missing"),
        ];
        let problems: Vec<String> = kinds
            .iter()
            .filter(|(fault, _)| fault.count > 0)
            .map(|(fault, what)| format!("{} {what} (the first: {})", fault.count, fault.first))
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(error(
            path,
            format!(
                "{}; a split file belongs to one selection of flows: use its captures, [flow] and [selection]",
                problems.join("; ")
            ),
        ))
    }
}
