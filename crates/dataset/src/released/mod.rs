//! Splits that others released, without captures: arrays ([`arrays`]), tables of hexadecimal words ([`table`]) and
//! folders of images ([`images`]). The names of files, arrays and folders state which part a row belongs to.

mod arrays;
mod images;
mod table;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DatasetError;

/// The rows of one part of a released split.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleasedPart {
    /// `train`, `validation` or `test`, from a name; `all` if no name contains any of these.
    pub name: &'static str,
    /// Number of values per row.
    pub width: usize,
    /// All values, row by row.
    pub values: Vec<f32>,
    /// The class of each row.
    pub labels: Vec<Arc<str>>,
}

impl ReleasedPart {
    /// Extends every row to `width` values by zeros.
    fn pad(&mut self, width: usize) {
        if self.width < width {
            let mut values = Vec::with_capacity(width * self.labels.len());
            for row in 0..self.labels.len() {
                values.extend(&self.values[row * self.width..(row + 1) * self.width]);
                values.resize((row + 1) * width, 0.0);
            }
            (self.width, self.values) = (width, values);
        }
    }
}

/// Maximum number of values of all parts together (8 GiB).
const MOST_VALUES: usize = 1 << 31;

/// Counts the values read so far.
#[derive(Default)]
struct Budget(usize);

impl Budget {
    fn take(&mut self, values: usize) -> Result<(), String> {
        self.0 = self.0.saturating_add(values);
        if self.0 > MOST_VALUES {
            return Err(format!("more than {MOST_VALUES} values; use a subset of the rows"));
        }
        Ok(())
    }
}

fn fault(what: &str, message: String) -> DatasetError {
    DatasetError::Definition { file: what.to_owned(), message }
}

/// Splits a name into words, in lower case.
fn words(name: &str) -> Vec<String> {
    name.to_lowercase().split(['_', '-', '.', ' ']).map(str::to_owned).collect()
}

/// The parts, and the words of names that state them.
const PARTS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["valid", "validation", "val", "dev"]),
    ("test", &["test", "testing"]),
];

/// Returns the part that the words of a name state.
fn part_of(words: &[String]) -> &'static str {
    let of = |word: &String| PARTS.iter().find(|(_, names)| names.contains(&word.as_str())).map(|(part, _)| *part);
    words.iter().find_map(of).unwrap_or("all")
}

/// Returns whether a word states a part.
fn is_of_part(word: &str) -> bool {
    PARTS.iter().any(|(_, names)| names.contains(&word))
}

/// Reads the first four bytes of a file, or fewer if it is shorter.
fn start_of(file: &Path) -> Result<Vec<u8>, DatasetError> {
    let mut start = Vec::new();
    let read = File::open(file).and_then(|opened| opened.take(4).read_to_end(&mut start));
    read.map_err(|error| fault(&file.display().to_string(), error.to_string()))?;
    Ok(start)
}

/// Reads the parts in these files and folders; parts with the same name are concatenated in this order.
///
/// # Errors
/// A file is neither an array, an archive of arrays nor a table of words, a folder has no images, rows lack classes or
/// vice versa, a part has no rows or no values, parts differ in width, or there are more than 2^31 values.
pub fn read_released(paths: &[PathBuf]) -> Result<Vec<ReleasedPart>, DatasetError> {
    let mut budget = Budget::default();
    let is_table = |path: &PathBuf| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = paths.iter().cloned().partition(|path| path.is_dir());
    let (tables, files): (Vec<PathBuf>, Vec<PathBuf>) = files.into_iter().partition(is_table);
    let mut read = arrays::read(&files, &mut budget)?;
    for table in &tables {
        read.push(table::read(table, &mut budget)?);
    }
    for folder in &folders {
        read.extend(images::read(folder, &mut budget)?);
    }
    // Tables have as many bytes per row as their longest row.
    if files.is_empty() && folders.is_empty() {
        let width = read.iter().map(|part| part.width).max().unwrap_or_default();
        for (part, table) in read.iter_mut().zip(&tables) {
            let added = (width - part.width).saturating_mul(part.labels.len());
            budget.take(added).map_err(|problem| fault(&table.display().to_string(), problem))?;
            part.pad(width);
        }
    }
    let Some(width) = read.first().map(|first| first.width) else {
        return Err(fault("audit-data", "these files contain no array".to_owned()));
    };
    if let Some(other) = read.iter().find(|part| part.width != width) {
        let problem = format!(
            "part {} has {} values per row, but part {} has {width}; give files of one kind and size",
            other.name, other.width, read[0].name
        );
        return Err(fault("audit-data", problem));
    }
    let mut parts: Vec<ReleasedPart> = Vec::new();
    for part in read {
        match parts.iter_mut().find(|other| other.name == part.name) {
            Some(other) => {
                other.values.extend(part.values);
                other.labels.extend(part.labels);
            }
            None => parts.push(part),
        }
    }
    if let Some(part) = parts.iter().find(|part| part.labels.is_empty() || part.width == 0) {
        let lacks = if part.labels.is_empty() { "rows" } else { "values" };
        let problem = format!("part {} has no {lacks}; check that its files are complete", part.name);
        return Err(fault("audit-data", problem));
    }
    let order = ["train", "validation", "test"];
    parts.sort_by_key(|part| order.iter().position(|name| *name == part.name).unwrap_or(order.len()));
    Ok(parts)
}

#[cfg(test)]
mod tests;
