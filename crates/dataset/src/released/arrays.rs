//! Splits released as arrays: `.npz` files with arrays named like `X_train` and `y_test`, or `.npy` files with such
//! names, with rows and classes in separate arrays.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Budget, ReleasedPart, fault, is_of_part, part_of, words};
use crate::DatasetError;
use crate::foreign::foreign_to_arrays;
use crate::published::npy::{Classes, NpyReader, read_classes};
use etcbench_capture::archive::members;
use etcbench_capture::{CaptureSource, ExpansionLimits};

/// An array in a file: the words of its name, those of the archive's name if it is in one, and its source.
struct Array {
    words: Vec<String>,
    archive_words: Vec<String>,
    source: CaptureSource,
    text: String,
    /// The archive, or the folder of a file of its own.
    place: PathBuf,
}

/// Words of the names of rows and of classes.
const OF_ROWS: [&str; 6] = ["x", "data", "datagram", "features", "input", "inputs"];
const OF_CLASSES: [&str; 6] = ["y", "label", "labels", "target", "targets", "class"];

impl Array {
    fn of_file(file: &Path) -> Self {
        Self {
            words: words(&stem(file)),
            archive_words: Vec::new(),
            source: CaptureSource::file(file),
            text: file.display().to_string(),
            place: file.parent().unwrap_or(Path::new("")).to_owned(),
        }
    }

    fn of_member(archive: &Path, name: &str) -> Self {
        let own = name.rsplit(['/', '\\']).next().unwrap_or(name);
        Self {
            words: words(own.strip_suffix(".npy").unwrap_or(own)),
            archive_words: words(&stem(archive)),
            source: CaptureSource::member(archive, name.to_owned()),
            text: format!("{}: {name}", archive.display()),
            place: archive.to_owned(),
        }
    }

    /// Returns the part that its name states, or else that of its archive.
    fn part(&self) -> &'static str {
        match part_of(&self.words) {
            "all" => part_of(&self.archive_words),
            part => part,
        }
    }

    /// Returns what its name says apart from part and kind: equal for rows and their classes, as in `X_train_2` and
    /// `y_train_2`.
    fn rest(&self) -> String {
        let known = |word: &&String| {
            OF_ROWS.contains(&word.as_str()) || OF_CLASSES.contains(&word.as_str()) || is_of_part(word)
        };
        let rest: Vec<&str> = self.words.iter().filter(|word| !known(word)).map(String::as_str).collect();
        rest.join("_")
    }

    fn open(&self) -> Result<impl BufRead + use<>, DatasetError> {
        let stream = self.source.open(ExpansionLimits::default());
        let stream = stream.map_err(|error| fault(&self.text, error.to_string()))?;
        Ok(BufReader::with_capacity(1 << 18, stream))
    }

    /// Returns whether the array contains rows (true) or classes (false), or `None` if its name does not indicate
    /// either.
    fn holds_rows(&self) -> Option<bool> {
        let any = |known: &[&str]| self.words.iter().any(|word| known.contains(&word.as_str()));
        match (any(&OF_ROWS), any(&OF_CLASSES)) {
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
            pairs.entry(array.part()).or_default()[usize::from(!holds_rows)].push(array);
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
        for rows_array in &rows {
            let labels = classes_of(rows_array, &rows, &labels).map_err(|problem| fault(&rows_array.text, problem))?;
            parts.push(read_part(name, rows_array, labels, budget)?);
        }
    }
    Ok(parts)
}

/// Returns the array with the classes of `own`, one of the arrays of rows of a part: the one named alike, and of several
/// named alike the one in the same archive or folder.
fn classes_of<'a>(own: &Array, rows: &[Array], labels: &'a [Array]) -> Result<&'a Array, String> {
    let rest = own.rest();
    if let ([_], [only]) = (rows, labels) {
        let other = only.rest();
        // Names like `X_payload_train` and `y_train` are clear, since there are no others.
        return if rest == other || rest.is_empty() || other.is_empty() {
            Ok(only)
        } else {
            Err(format!("its classes would be in {}, whose name ends otherwise; name both alike", only.text))
        };
    }
    let alike = |arrays: &'a [Array]| arrays.iter().filter(|array| array.rest() == rest).collect::<Vec<_>>();
    let labels = alike(labels);
    let beside = |array: &&Array| array.rest() == rest && array.place == own.place;
    let matching = match labels[..] {
        [only] if rows.iter().filter(|array| array.rest() == rest).count() == 1 => vec![only],
        _ => labels.into_iter().filter(|array| beside(array)).collect(),
    };
    match matching[..] {
        [only] if rows.iter().filter(beside).count() <= 1 => Ok(only),
        [] => Err("no array of classes is named alike; name them as in X_train_2 and y_train_2".to_owned()),
        _ => Err("several arrays of its part are named alike; number them, as in X_train_2 and y_train_2".to_owned()),
    }
}

/// Lists the arrays in a file.
fn arrays(file: &Path) -> Result<Vec<Array>, DatasetError> {
    let text = file.display().to_string();
    let start = super::start_of(file)?;
    if let Some(told) = foreign_to_arrays(&start) {
        return Err(fault(&text, told.to_owned()));
    }
    if start != *b"PK\x03\x04" {
        return Ok(vec![Array::of_file(file)]);
    }
    let members = members(file).map_err(|error| fault(&text, error.to_string()))?;
    let arrays = members.into_iter().filter(|member| member.name.ends_with(".npy"));
    Ok(arrays.map(|member| Array::of_member(file, &member.name)).collect())
}

/// Returns a file's name without its extension.
fn stem(file: &Path) -> String {
    file.file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned())
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
