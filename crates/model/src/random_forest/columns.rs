//! A matrix in the form that trees split: the sorted distinct values of each column, and for every row the index of its
//! value, so that a node can count instead of sort.

use ndarray::Array2;
use rayon::prelude::*;

/// One column.
pub(super) struct Column {
    /// The distinct values, ascending.
    pub values: Vec<f32>,
    /// The index of each row's value.
    pub codes: Codes,
}

/// Indices of values, as narrow as possible: a tree reads them out of order, so it is faster the more of them fit in
/// the cache.
pub(super) enum Codes {
    /// Up to 256 distinct values.
    Narrow(Vec<u8>),
    /// Up to 65,536.
    Middle(Vec<u16>),
    /// More.
    Wide(Vec<u32>),
}

/// Returns the columns of a matrix of finite values.
pub(super) fn columns(matrix: &Array2<f32>) -> Vec<Column> {
    (0..matrix.ncols())
        .into_par_iter()
        .map(|column| {
            // -0 and 0 are the same value.
            let column: Vec<f32> = matrix.column(column).iter().map(|&value| value + 0.0).collect();
            tokens(&column).unwrap_or_else(|| numbers(&column))
        })
        .collect()
}

/// Builds a column of byte tokens or other small integers, by counting instead of sorting; `None` for other values.
fn tokens(column: &[f32]) -> Option<Column> {
    const VALUES: usize = 512;
    let mut present = [false; VALUES];
    for &value in column {
        let token = value as usize;
        if token >= VALUES || token as f32 != value {
            return None;
        }
        present[token] = true;
    }
    let mut codes = [0_u32; VALUES];
    let mut values = Vec::new();
    for (token, _) in present.iter().enumerate().filter(|(_, present)| **present) {
        codes[token] = values.len() as u32;
        values.push(token as f32);
    }
    let codes = Codes::new(values.len(), column, |&value| codes[value as usize]);
    Some(Column { values, codes })
}

/// Builds any column.
fn numbers(column: &[f32]) -> Column {
    let mut values = column.to_vec();
    values.sort_unstable_by(f32::total_cmp);
    values.dedup();
    values.shrink_to_fit();
    let codes = Codes::new(values.len(), column, |value| values.partition_point(|other| other < value) as u32);
    Column { values, codes }
}

impl Codes {
    /// Encodes a column with this many distinct values.
    fn new(values: usize, column: &[f32], code: impl Fn(&f32) -> u32) -> Self {
        match values {
            0..=0x100 => Self::Narrow(column.iter().map(|value| code(value) as u8).collect()),
            0x101..=0x1_0000 => Self::Middle(column.iter().map(|value| code(value) as u16).collect()),
            _ => Self::Wide(column.iter().map(code).collect()),
        }
    }

    /// Returns the index of a row's value.
    pub(super) fn get(&self, row: u32) -> u32 {
        match self {
            Self::Narrow(codes) => u32::from(codes[row as usize]),
            Self::Middle(codes) => u32::from(codes[row as usize]),
            Self::Wide(codes) => codes[row as usize],
        }
    }

    /// Collects the indices of the given rows' values.
    pub(super) fn gather(&self, rows: &[u32], out: &mut Vec<u32>) {
        out.clear();
        match self {
            Self::Narrow(codes) => out.extend(rows.iter().map(|&row| u32::from(codes[row as usize]))),
            Self::Middle(codes) => out.extend(rows.iter().map(|&row| u32::from(codes[row as usize]))),
            Self::Wide(codes) => out.extend(rows.iter().map(|&row| codes[row as usize])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_width_name_their_values() {
        for distinct in [1, 2, 255, 256, 257, 600, 65_536, 65_537] {
            for step in [1.0_f32, 0.5] {
                let rows = (2 * distinct).max(7);
                let value = |row: usize| (row * 7919 % distinct) as f32 * step - if distinct == 2 { 0.0 } else { step };
                let matrix = Array2::from_shape_fn((rows, 1), |(row, _)| value(row));
                let column = columns(&matrix).pop().unwrap();
                assert_eq!(column.values.len(), distinct);
                assert!(column.values.windows(2).all(|pair| pair[0] < pair[1]));
                let mut gathered = Vec::new();
                column.codes.gather(&(0..rows as u32).collect::<Vec<u32>>(), &mut gathered);
                for (row, code) in gathered.into_iter().enumerate() {
                    assert_eq!(column.values[code as usize], value(row));
                    assert_eq!(column.codes.get(row as u32), code);
                }
            }
        }
        let zeros = columns(&Array2::from_shape_vec((3, 1), vec![0.0, -0.0, 1.0]).unwrap()).pop().unwrap();
        assert_eq!(zeros.values, [0.0, 1.0]);
    }
}
