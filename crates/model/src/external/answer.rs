//! Checks a program's answers before they count: every row must get a distribution over the classes, and it must not
//! depend on which other rows are in the request.

use std::path::Path;

use ndarray::Array2;

use super::array;
use super::failure::FailureKind;

/// Maximum deviation of a row's sum from 1.
const SUM_TOLERANCE: f64 = 1e-6;
/// Maximum change of a row's answer with the rows around it.
const BATCH_TOLERANCE: f64 = 1e-6;

/// Why an answer is rejected.
type Refusal = (FailureKind, String);

/// Reads the answer for `rows` rows, shape `[rows, classes]`.
pub(super) fn read(path: &Path, rows: usize, classes: usize) -> Result<Array2<f64>, Refusal> {
    let answer = array::read_matrix(path, [rows, classes])
        .map_err(|problem| (FailureKind::InvalidAnswer, format!("the answer of `predict`: {problem}")))?;
    for (index, row) in answer.outer_iter().enumerate() {
        let refuse = |problem: String| {
            Err((FailureKind::InvalidAnswer, format!("row {index} of an answer of {rows} rows {problem}")))
        };
        if let Some(value) = row.iter().find(|value| !value.is_finite()) {
            return refuse(format!("has {value} as a probability"));
        }
        if let Some(value) = row.iter().find(|value| **value < 0.0) {
            return refuse(format!("has the negative probability {value}"));
        }
        let sum: f64 = row.sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return refuse(format!("sums to {sum}; it must sum to 1 within {SUM_TOLERANCE:e}"));
        }
    }
    Ok(answer)
}

/// Compares answers for some rows with answers for the same rows in another order and other batches.
pub(super) fn compare(first: &Array2<f64>, second: &Array2<f64>) -> Result<(), Refusal> {
    let differences = first.iter().zip(second).map(|(first, second)| (first - second).abs());
    let largest = differences.fold(0.0, f64::max);
    if largest <= BATCH_TOLERANCE {
        return Ok(());
    }
    Err((
        FailureKind::DependsOnBatch,
        format!(
            "the same rows in another order and other batches got probabilities that differ by up to \
             {largest:.2e} (allowed: {BATCH_TOLERANCE:e}); is batch normalisation or dropout still in training mode, \
             or is anything drawn at random?"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn answer(values: &[f64]) -> Result<Array2<f64>, Refusal> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        array::write(file.path(), "<f8", &[values.len() / 2, 2], |file| file.write_all(&bytes)).unwrap();
        read(file.path(), values.len() / 2, 2)
    }

    #[test]
    fn only_distributions_count() {
        assert_eq!(answer(&[0.25, 0.75, 1.0, 0.0]).unwrap().dim(), (2, 2));
        let problem = |values: &[f64]| answer(values).unwrap_err().1;
        assert!(problem(&[0.5, 0.5, f64::NAN, 1.0]).contains("row 1 of an answer of 2 rows has NaN"));
        assert!(problem(&[0.5, f64::INFINITY]).contains("has inf"));
        assert!(problem(&[1.5, -0.5]).contains("negative probability -0.5"));
        assert!(problem(&[0.5, 0.50001]).contains("must sum to 1"));
    }

    #[test]
    fn rows_do_not_depend_on_their_batch() {
        let first = ndarray::array![[0.5, 0.5]];
        compare(&first, &ndarray::array![[0.5 + 1e-7, 0.5 - 1e-7]]).unwrap();
        let (kind, problem) = compare(&first, &ndarray::array![[0.6, 0.4]]).unwrap_err();
        assert_eq!(kind, FailureKind::DependsOnBatch);
        assert!(problem.contains("batch normalisation") && problem.contains("1.00e-1"), "{problem}");
    }
}
