//! Splits released as arrays: `.npz` files with arrays named like `X_train` and `y_test`, or `.npy` files with such
//! names, with rows and classes in separate arrays.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::DatasetError;
use super::published::npy::{NpyReader, read_column};
use etcbench_capture::archive::members;
use etcbench_capture::{CaptureSource, ExpansionLimits};

/// The rows of one part of a released split.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleasedPart {
    /// `train`, `validation` or `test`, from the array's name; `all` if the name contains none of these.
    pub name: String,
    /// Number of values per row.
    pub width: usize,
    /// All values, row by row.
    pub values: Vec<f32>,
    /// The class of each row.
    pub labels: Vec<i64>,
}

/// Maximum number of values of all parts together (8 GiB).
const MOST_VALUES: usize = 1 << 31;

/// An array in a file: the words of its name, and its source.
struct Array {
    words: Vec<String>,
    source: CaptureSource,
    text: String,
}

impl Array {
    fn new(name: &str, source: CaptureSource, text: String) -> Self {
        let stem = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let stem = stem.strip_suffix(".npy").unwrap_or(stem).to_lowercase();
        Self { words: stem.split(['_', '-', '.', ' ']).map(str::to_owned).collect(), source, text }
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

    fn part(&self) -> String {
        let known = [
            ("train", "train"),
            ("training", "train"),
            ("valid", "validation"),
            ("validation", "validation"),
            ("val", "validation"),
            ("dev", "validation"),
            ("test", "test"),
            ("testing", "test"),
        ];
        let of = |word: &String| known.iter().find(|(name, _)| name == word).map(|(_, part)| (*part).to_owned());
        self.words.iter().find_map(of).unwrap_or_else(|| "all".to_owned())
    }
}

fn fault(what: &str, message: String) -> DatasetError {
    DatasetError::Definition { file: what.to_owned(), message }
}

/// Reads the parts in these files; parts with the same name are concatenated in file order.
///
/// # Errors
/// A file is not an array or an archive of arrays, rows lack classes or vice versa, parts differ in width, or there are
/// more than 2^31 values.
pub fn read_released(files: &[PathBuf]) -> Result<Vec<ReleasedPart>, DatasetError> {
    let mut pairs: BTreeMap<String, [Vec<Array>; 2]> = BTreeMap::new();
    for file in files {
        for array in arrays(file)? {
            let holds_rows = array.holds_rows().ok_or_else(|| {
                let problem = "its name does not indicate rows (X, data) or classes (y, labels); rename it, such as to \
                               X_train.npy or y_train.npy";
                fault(&array.text, problem.to_owned())
            })?;
            // Arrays of one part may be spread over several files.
            pairs.entry(array.part()).or_default()[usize::from(!holds_rows)].push(array);
        }
    }
    let mut parts: Vec<ReleasedPart> = Vec::new();
    let mut values = 0;
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
            let part = read_part(&name, rows, labels, &mut values)?;
            match parts.iter_mut().find(|other| other.name == name) {
                Some(other) if other.width == part.width => {
                    other.values.extend(part.values);
                    other.labels.extend(part.labels);
                }
                Some(other) => {
                    let problem = format!(
                        "it has {} values per row, but another file of its part has {}",
                        part.width, other.width
                    );
                    return Err(fault(&rows.text, problem));
                }
                None => parts.push(part),
            }
        }
    }
    let order = ["train", "validation", "test"];
    parts.sort_by_key(|part| order.iter().position(|name| *name == part.name).unwrap_or(order.len()));
    match parts.first().map(|first| first.width) {
        None => Err(fault("audit-data", "these files contain no array".to_owned())),
        Some(width) => match parts.iter().find(|part| part.width != width) {
            Some(other) => Err(fault(
                &other.name,
                format!(
                    "part {} has {} values per row, but part {} has {width}",
                    other.name, other.width, parts[0].name
                ),
            )),
            None => Ok(parts),
        },
    }
}

/// Lists the arrays in a file.
fn arrays(file: &Path) -> Result<Vec<Array>, DatasetError> {
    let text = file.display().to_string();
    let start = File::open(file).and_then(|mut opened| {
        let mut start = [0; 4];
        let read = std::io::Read::read(&mut opened, &mut start)?;
        Ok(start[..read].to_vec())
    });
    let start = start.map_err(|error| fault(&text, error.to_string()))?;
    if start != *b"PK\x03\x04" {
        let name = file.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
        return Ok(vec![Array::new(&name, CaptureSource::file(file), text)]);
    }
    let members = members(file).map_err(|error| fault(&text, error.to_string()))?;
    let arrays = members.into_iter().filter(|member| member.name.ends_with(".npy"));
    Ok(arrays
        .map(|member| {
            let told = format!("{text}: {}", member.name);
            Array::new(&member.name, CaptureSource::member(file, member.name.clone()), told)
        })
        .collect())
}

fn read_part(name: &str, rows: &Array, labels: &Array, read: &mut usize) -> Result<ReleasedPart, DatasetError> {
    let of_rows = |message: String| fault(&rows.text, message);
    let mut reader = NpyReader::new(rows.open()?).map_err(of_rows)?;
    let width = reader.columns;
    *read = read.saturating_add(usize::try_from(reader.rows).unwrap_or(usize::MAX).saturating_mul(width));
    if *read > MOST_VALUES {
        return Err(of_rows(format!("more than {MOST_VALUES} values; use a subset of the rows")));
    }
    let classes = read_column(labels.open()?, reader.rows).map_err(|message| fault(&labels.text, message))?;
    if classes.len() as u64 != reader.rows {
        return Err(fault(&labels.text, format!("{} classes for {} rows", classes.len(), reader.rows)));
    }
    if let Some(place) = classes.iter().position(|class| class.fract() != 0.0 || !class.is_finite()) {
        return Err(fault(
            &labels.text,
            format!("row {place}: {} is not a class; classes are integers", classes[place]),
        ));
    }
    let (mut values, mut row) = (Vec::new(), Vec::new());
    while reader.next_row(&mut row).map_err(of_rows)? {
        values.extend(row.iter().map(|&value| value as f32));
    }
    if let Some(place) = values.iter().position(|value| !value.is_finite()) {
        return Err(of_rows(format!("row {}: a value is {}", place / width.max(1), values[place])));
    }
    let labels = classes.into_iter().map(|class| class as i64).collect();
    Ok(ReleasedPart { name: name.to_owned(), width, values, labels })
}
