//! Writes the rows of a feature set as array files.

use std::io::Write;
use std::path::PathBuf;

use super::array;
use super::message::Arrays;
use super::package::Package;
use crate::input::data;
use crate::{Examples, Input, ModelError};

/// The columns that a program was fitted on.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Shape {
    pub packets: usize,
    pub bytes: usize,
    pub statistic_names: Vec<String>,
    pub sequence_columns: usize,
}

impl Shape {
    pub(super) fn of(examples: Examples<'_>, input: Input) -> Self {
        let features = examples.features;
        let read = |reads: bool, size: usize| if reads { size } else { 0 };
        Self {
            packets: read(input.reads_bytes(), features.tokens.packets),
            bytes: read(input.reads_bytes(), features.tokens.bytes),
            statistic_names: if input.reads_statistics() { features.statistic_names.clone() } else { Vec::new() },
            sequence_columns: read(input.reads_sequences(), features.sequences.ncols()),
        }
    }
}

/// Writes the arrays of an input for some rows.
pub(super) fn write_arrays(
    package: &Package,
    examples: Examples<'_>,
    input: Input,
    path: impl Fn(&str) -> PathBuf,
) -> Result<Arrays, ModelError> {
    let (features, rows) = (examples.features, examples.rows);
    let mut arrays = Arrays::default();
    let problem = |error: std::io::Error| data(&package.name, format!("cannot write its arrays: {error}"));
    if input.reads_bytes() {
        let (packets, bytes) = (features.tokens.packets, features.tokens.bytes);
        if packets * bytes == 0 {
            return Err(data(&package.name, "the features contain no bytes; choose input = \"statistics\""));
        }
        let file = path("bytes");
        let mut line = Vec::with_capacity(2 * packets * bytes);
        array::write(&file, "<u2", &[rows.len(), packets, bytes], |out| {
            rows.iter().try_for_each(|&row| {
                line.clear();
                line.extend(features.tokens.flow(row).iter().flat_map(|token| token.to_le_bytes()));
                out.write_all(&line)
            })
        })
        .map_err(problem)?;
        arrays.bytes = Some(file);
    }
    if input.reads_statistics() {
        let file = path("statistics");
        let mut unusable = None;
        array::write(&file, "<f8", &[rows.len(), features.statistic_names.len()], |out| {
            for &row in rows {
                for (column, &value) in features.statistics.row(row).iter().enumerate() {
                    if !value.is_finite() {
                        unusable = Some((row, column, value));
                    }
                    out.write_all(&f64::from(value).to_le_bytes())?;
                }
            }
            Ok(())
        })
        .map_err(problem)?;
        if let Some((row, column, value)) = unusable {
            let name = &features.statistic_names[column];
            return Err(data(
                &package.name,
                format!("statistic `{name}` of flow {row} is {value}; repair or drop the flow"),
            ));
        }
        arrays.statistics = Some(file);
    }
    if input.reads_sequences() {
        let file = path("sequences");
        array::write(&file, "<f4", &[rows.len(), features.sequences.ncols() / 2, 2], |out| {
            rows.iter().try_for_each(|&row| {
                features.sequences.row(row).iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
            })
        })
        .map_err(problem)?;
        arrays.sequences = Some(file);
    }
    Ok(arrays)
}
