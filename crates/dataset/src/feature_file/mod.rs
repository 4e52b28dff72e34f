//! Feature files: datasets whose flows are published as rows of features (ARFF or CSV) instead of captures. Labels come
//! from columns of the file, directly or by rules on their values, and from rules on the file name; every other column
//! that is not excluded is a feature.
//!
//! Numbers are used as they are, including sentinels such as -1 for "no such time". A nominal attribute becomes one 0/1
//! column per value. A missing value (`?` in ARFF; empty, `?` or not finite in CSV) is an error unless the definition's
//! `missing` specifies a replacement.

mod arff;
mod arff_rows;
mod arff_text;
mod csv;
mod csv_row;
mod csv_text;
mod number;
mod rows;
mod rules;
mod zeek;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexSet;
use rayon::prelude::*;

use super::error::DatasetError;
use super::folder::CaptureFile;
use super::labelled::{FlowProvenance, Labels};
use super::load::Dataset;
use etcbench_storage::progress::Progress;
use rows::{OneFile, Rows};

pub use arff::{ArffAttribute, ArffError, ArffTable, ArffType, ArffValue, parse_arff};
pub use rules::{EndpointColumns, FeatureFileRules, FeatureFormat, ValueRule};

/// One row of a feature file.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow {
    /// The file and the index of the row in it; endpoints are 0 unless the definition specifies columns for them, and
    /// times are always 0.
    pub provenance: FlowProvenance,
    /// The row's labels, shared by rows with the same label values.
    pub labels: Arc<Labels>,
    /// One value per name of the table, rounded to single precision; NaN if the row's file lacks the column.
    pub values: Vec<f32>,
}

/// The rows of all feature files of one or several datasets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FeatureTable {
    /// Names of the features: all columns of all files, in order of first appearance.
    pub names: Vec<String>,
    /// The rows: datasets in the given order, files by path, rows in file order.
    pub rows: Vec<FeatureRow>,
    /// One entry per file: the dataset's name, the file's name in rows, the file, and its number of rows.
    pub files: Vec<(String, String, CaptureFile, u64)>,
    /// Irregularities that were ignored, such as artifacts of spreadsheets and pandas, one line each.
    pub notes: Vec<String>,
}

/// Reads the feature files of all datasets that have `[features]`, several files at a time. With several datasets,
/// files are named `<dataset>/<path>`.
///
/// # Errors
/// A file does not follow its format (with the line), values are missing, or labels are contradictory or incomplete.
pub fn load_features(datasets: &[Dataset], progress: &dyn Progress) -> Result<FeatureTable, DatasetError> {
    let jobs: Vec<(&Dataset, &FeatureFileRules, &CaptureFile)> = datasets
        .iter()
        .filter_map(|dataset| Some((dataset, dataset.definition.features.as_ref()?)))
        .flat_map(|(dataset, rules)| dataset.folder.captures.iter().map(move |file| (dataset, rules, file)))
        .collect();
    progress.begin("feature files", jobs.len() as u64);
    let read: Vec<Result<(String, OneFile), DatasetError>> = jobs
        .par_iter()
        .with_max_len(1)
        .map(|(dataset, rules, file)| {
            let name = if datasets.len() > 1 {
                format!("{}/{}", dataset.definition.name, file.path)
            } else {
                file.path.clone()
            };
            let fault = |message: String| DatasetError::Labels {
                dataset: dataset.definition.name.clone(),
                capture: file.path.clone(),
                message,
            };
            let labels = dataset.definition.rules.labels_of(&file.path).map_err(&fault)?;
            let missing = dataset
                .definition
                .label_columns
                .iter()
                .find(|column| !labels.contains_key(*column) && !rules.gives(column));
            if let Some(column) = missing {
                return Err(fault(format!("no value for label column `{column}`; add a rule that sets it")));
            }
            let path = dataset.folder.root.join(&file.path);
            let input =
                File::open(&path).map_err(|source| DatasetError::Io { path: path.display().to_string(), source })?;
            let input = BufReader::with_capacity(BUFFER, input);
            let result = read_file(input, &path, rules, &dataset.definition.label_columns, &labels, &name);
            progress.advance(1);
            result.map(|file| (name, file))
        })
        .collect();
    progress.end();
    let files: Vec<(String, OneFile)> = read.into_iter().collect::<Result<_, _>>()?;
    let names: IndexSet<&String> = files.iter().flat_map(|(_, one)| &one.names).collect();
    let mut table = FeatureTable { names: names.into_iter().cloned().collect(), ..FeatureTable::default() };
    for ((name, one), (dataset, _, file)) in files.into_iter().zip(jobs) {
        let told = one.notes.iter().map(|note| format!("{}: {}: {note}", dataset.definition.name, file.path));
        table.notes.extend(told);
        table.files.push((dataset.definition.name.clone(), name, file.clone(), one.rows.len() as u64));
        if one.names == table.names {
            if table.rows.is_empty() {
                table.rows = one.rows;
            } else {
                table.rows.extend(one.rows);
            }
            continue;
        }
        let own: IndexSet<&String> = one.names.iter().collect();
        let places: Vec<Option<usize>> = table.names.iter().map(|name| own.get_index_of(name)).collect();
        table.rows.extend(one.rows.into_iter().map(|row| {
            let values = places.iter().map(|place| place.map_or(f32::NAN, |place| row.values[place])).collect();
            FeatureRow { values, ..row }
        }));
    }
    Ok(table)
}

/// Size of the read buffer in bytes.
const BUFFER: usize = 1 << 18;

fn read_file(
    input: BufReader<File>,
    path: &Path,
    rules: &FeatureFileRules,
    label_columns: &[String],
    labels: &Labels,
    name: &str,
) -> Result<OneFile, DatasetError> {
    let fault =
        |(line, message): (u64, String)| DatasetError::FlowLabels { file: path.display().to_string(), line, message };
    let rows = Rows::new(rules, label_columns, labels, name).map_err(|problem| fault((0, problem)))?;
    match rules.format {
        FeatureFormat::Arff => arff_rows::read(input, rows),
        FeatureFormat::Csv | FeatureFormat::Zeek => csv::read(input, rows),
    }
    .map_err(fault)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod table_tests;
