//! A matrix as trees split it: per column the distinct values in order, and for every row the number of its
//! value, so that a node can count instead of sort.

use ndarray::Array2;
use rayon::prelude::*;

/// One column.
pub(super) struct Column {
    /// The distinct values, ascending.
    pub values: Vec<f32>,
    /// Per row, the index of its value.
    pub codes: Codes,
}

/// Indices of values, as narrow as they can be.
pub(super) enum Codes {
    /// Up to 65,536 distinct values.
    Narrow(Vec<u16>),
    /// More.
    Wide(Vec<u32>),
}

/// The columns of a matrix of finite values.
pub(super) fn columns(matrix: &Array2<f32>) -> Vec<Column> {
    (0..matrix.ncols())
        .into_par_iter()
        .map(|column| {
            // -0 and 0 are one value.
            let column: Vec<f32> = matrix.column(column).iter().map(|&value| value + 0.0).collect();
            let mut values = column.clone();
            values.sort_unstable_by(f32::total_cmp);
            values.dedup();
            let code = |value: &f32| values.partition_point(|other| other < value);
            let codes = if values.len() <= 1 << 16 {
                Codes::Narrow(column.iter().map(|value| code(value) as u16).collect())
            } else {
                Codes::Wide(column.iter().map(|value| code(value) as u32).collect())
            };
            Column { values, codes }
        })
        .collect()
}

impl Codes {
    /// The index of a row's value.
    pub fn get(&self, row: u32) -> u32 {
        match self {
            Self::Narrow(codes) => u32::from(codes[row as usize]),
            Self::Wide(codes) => codes[row as usize],
        }
    }

    /// The indices of some rows' values.
    pub fn gather(&self, rows: &[u32], out: &mut Vec<u32>) {
        out.clear();
        match self {
            Self::Narrow(codes) => out.extend(rows.iter().map(|&row| u32::from(codes[row as usize]))),
            Self::Wide(codes) => out.extend(rows.iter().map(|&row| codes[row as usize])),
        }
    }
}
