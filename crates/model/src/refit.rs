//! Files of reference models whose crate does not expose the fitted state: they contain the training rows and the seed,
//! and loading refits to the same bits.

use ndarray::Array2;
use smartcore::linalg::basic::arrays::Array2 as _;
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::classical::Rows;
use super::{ModelArchive, ModelError, stored};

/// Converts a matrix to smartcore's type.
///
/// # Errors
/// The errors of smartcore.
pub(super) fn dense(matrix: &Array2<f32>) -> Result<DenseMatrix<f64>, String> {
    let (rows, columns) = matrix.dim();
    if rows == 0 || columns == 0 {
        return Err("there are no rows or no columns".to_owned());
    }
    Ok(DenseMatrix::from_iterator(matrix.iter().map(|&value| f64::from(value)), rows, columns, 0))
}

/// Stores the training rows and the seed.
pub(super) fn store(archive: &mut ModelArchive, training: &Rows, seed: u64) {
    stored::put_matrix(archive, "training", &training.matrix);
    stored::put_u32s(archive, "training_classes", &training.targets);
    archive.metadata.insert("seed".to_owned(), seed.to_string());
}

/// Restores the training rows and the seed.
///
/// # Errors
/// Missing or contradictory entries.
pub(super) fn restore(archive: &ModelArchive, columns: usize, classes: usize) -> Result<(Rows, u64), ModelError> {
    let matrix = stored::matrix(archive, "training", columns)?;
    let targets = stored::u32s(archive, "training_classes")?.to_vec();
    if targets.len() != matrix.nrows() || matrix.nrows() == 0 {
        return Err(stored::broken("tensor training_classes does not match the training rows"));
    }
    let mut seen = vec![false; classes];
    for &target in &targets {
        *seen
            .get_mut(target as usize)
            .ok_or_else(|| stored::broken("tensor training_classes contains an unknown class"))? = true;
    }
    if seen.contains(&false) || matrix.iter().any(|value| !value.is_finite()) {
        return Err(stored::broken("the training rows lack a class or contain a value that is not finite"));
    }
    Ok((Rows { matrix, targets, classes, names: Vec::new(), sequence_columns: 0 }, stored::json(archive, "seed")?))
}
