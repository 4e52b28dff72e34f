//! Splits released as arrays: `.npz` files with arrays named like `X_train` and `y_test`, or `.npy` files with such
//! names, with rows and classes in separate arrays.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Budget, ReleasedPart, fault, part_of, words};
use crate::DatasetError;
use crate::foreign::foreign_to_arrays;
use crate::published::npy::{Classes, NpyReader, read_classes};
use etcbench_capture::archive::members;
use etcbench_capture::{CaptureSource, ExpansionLimits};

/// An array in a file: the words of its name, and its source.
struct Array {
    words: Vec<String>,
    source: CaptureSource,
    text: String,
}

impl Array {
    fn new(name: &str, source: CaptureSource, text: String) -> Self {
        let stem = name.rsplit(['/', '\\']).next().unwrap_or(name);
        Self { words: words(stem.strip_suffix(".npy").unwrap_or(stem)), source, text }
    }

    fn open(&self) -> Result<impl BufRead + use<>, DatasetError> {
        let stream = self.source.open(ExpansionLimits::default());
        let stream = stream.map_err(|error| fault(&self.text, error.to_string()))?;
        Ok(BufReader::with_capacity(1 << 18, stream))
    }

    /// Returns whether the array contains rows (true) or classes (false), or `None` if its name does not indicate
    /// either.
    fn holds_rows(&self) -> Option<bool> {
        let rows = ["x", "data", "datagram", "features", "input", "inputs"];
        let labels = ["y", "label", "labels", "target", "targets", "class"];
        let any = |words: &[&str]| self.words.iter().any(|word| words.contains(&word.as_str()));
        match (any(&rows), any(&labels)) {
            (_, true) => Some(false),
            (true, false) => Some(true),
            (false, false) => None,
        }
    }
}

/// Reads the parts in array files.
pub(super) fn read(files: &[PathBuf], budget: &mut Budget) -> Result<Vec<ReleasedPart>, DatasetError> {
    let mut pairs: BTreeMap<&'static str, [Vec<Array>; 2]> = BTreeMap::new();
    for file in files {
        for array in arrays(file)? {
            let holds_rows = array.holds_rows().ok_or_else(|| {
                let problem = "its name does not indicate rows (X, data) or classes (y, labels); rename it, such as to \
                               X_train.npy or y_train.npy";
                fault(&array.text, problem.to_owned())
            })?;
            // Arrays of one part may be spread over several files.
            pairs.entry(part_of(&array.words)).or_default()[usize::from(!holds_rows)].push(array);
        }
    }
    let mut parts: Vec<ReleasedPart> = Vec::new();
    for (name, [rows, labels]) in pairs {
        if rows.len() != labels.len() {
            let array = rows.first().or(labels.first()).map_or(String::new(), |array| array.text.clone());
            let problem = format!(
                "part {name} has {} array(s) of rows and {} of classes; give equally many, as X_{name} and y_{name}",
                rows.len(),
                labels.len()
            );
            return Err(fault(&array, problem));
        }
        for (rows, labels) in rows.iter().zip(&labels) {
            parts.push(read_part(name, rows, labels, budget)?);
        }
    }
    Ok(parts)
}

/// Lists the arrays in a file.
fn arrays(file: &Path) -> Result<Vec<Array>, DatasetError> {
    let text = file.display().to_string();
    let start = super::start_of(file)?;
    if let Some(told) = foreign_to_arrays(&start) {
        return Err(fault(&text, told.to_owned()));
    }
    if start != *b"PK\x03\x04" {
        let name = file.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
        return Ok(vec![Array::new(&name, CaptureSource::file(file), text)]);
    }
    let members = members(file).map_err(|error| fault(&text, error.to_string()))?;
    let arrays = members.into_iter().filter(|member| member.name.ends_with(".npy"));
    Ok(arrays
        .map(|member| {
            let text = format!("{text}: {}", member.name);
            Array::new(&member.name, CaptureSource::member(file, member.name.clone()), text)
        })
        .collect())
}

fn read_part(
    name: &'static str,
    rows: &Array,
    labels: &Array,
    budget: &mut Budget,
) -> Result<ReleasedPart, DatasetError> {
    let of_rows = |message: String| fault(&rows.text, message);
    let mut reader = NpyReader::new(rows.open()?).map_err(of_rows)?;
    let width = reader.columns;
    budget.take(usize::try_from(reader.rows).unwrap_or(usize::MAX).saturating_mul(width)).map_err(of_rows)?;
    let of_labels = |message: String| fault(&labels.text, message);
    let labels = named(read_classes(labels.open()?, reader.rows).map_err(of_labels)?).map_err(of_labels)?;
    if labels.len() as u64 != reader.rows {
        return Err(of_labels(format!("{} classes for {} rows", labels.len(), reader.rows)));
    }
    let (mut values, mut row) = (Vec::new(), Vec::new());
    while reader.next_row(&mut row).map_err(of_rows)? {
        values.extend(row.iter().map(|&value| value as f32));
    }
    if let Some(place) = values.iter().position(|value| !value.is_finite()) {
        return Err(of_rows(format!("row {}: a value is {}", place / width.max(1), values[place])));
    }
    Ok(ReleasedPart { name, width, values, labels })
}

/// Returns the names of classes; those of numbers are the numbers.
fn named(classes: Classes) -> Result<Vec<Arc<str>>, String> {
    let numbers = match classes {
        Classes::Names(names) => return Ok(names),
        Classes::Numbers(numbers) => numbers,
    };
    let mut names: BTreeMap<i64, Arc<str>> = BTreeMap::new();
    let mut name_of = |(row, class): (usize, f64)| {
        if class.fract() != 0.0 || !class.is_finite() {
            return Err(format!("row {row}: {class} is not a class; classes are integers or text"));
        }
        let class = class as i64;
        Ok(Arc::clone(names.entry(class).or_insert_with(|| class.to_string().into())))
    };
    numbers.into_iter().enumerate().map(&mut name_of).collect()
}
