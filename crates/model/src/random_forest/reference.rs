//! The reference: smartcore's forest. It predicts a class and no probabilities, so its probabilities are 1 for that
//! class and 0 for the others, and it draws its bootstrap within each class. smartcore does not expose its trees, so a
//! model file contains the training rows, and loading refits with the same seed.

use ndarray::Array2;
use smartcore::ensemble::random_forest_classifier::{RandomForestClassifier, RandomForestClassifierParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::{Forest, ForestParameters};
use crate::classical::{Algorithm, Rows};
use crate::input::data;
use crate::{ModelArchive, ModelError, refit};

/// smartcore's forest and its training rows.
pub(crate) struct SmartcoreForest {
    forest: RandomForestClassifier<f64, u32, DenseMatrix<f64>, Vec<u32>>,
    training: Rows,
    seed: u64,
}

impl SmartcoreForest {
    /// Fits the forest.
    ///
    /// # Errors
    /// The errors of smartcore.
    pub(crate) fn fit(parameters: &ForestParameters, training: Rows, seed: u64) -> Result<Self, ModelError> {
        let matrix = refit::dense(&training.matrix).map_err(|error| data(Forest::NAME, error))?;
        let mut settings = RandomForestClassifierParameters::default()
            .with_n_trees(parameters.trees as u16)
            .with_m(parameters.candidates(training.matrix.ncols()))
            .with_min_samples_split(parameters.minimum_samples_split)
            .with_min_samples_leaf(parameters.minimum_samples_leaf)
            .with_seed(seed);
        if let Some(depth) = parameters.maximum_depth {
            settings = settings.with_max_depth(depth as u16);
        }
        let forest = RandomForestClassifier::fit(&matrix, &training.targets, settings)
            .map_err(|error| data(Forest::NAME, format!("smartcore: {error}")))?;
        Ok(Self { forest, training, seed })
    }

    /// Returns one-hot predictions, shape `[rows, classes]`.
    ///
    /// # Errors
    /// The errors of smartcore.
    pub(crate) fn predict(&self, matrix: &Array2<f32>) -> Result<Array2<f32>, ModelError> {
        let rows = refit::dense(matrix).map_err(|error| data(Forest::NAME, error))?;
        let predicted =
            self.forest.predict(&rows).map_err(|error| data(Forest::NAME, format!("smartcore: {error}")))?;
        let mut probabilities = Array2::zeros((matrix.nrows(), self.training.classes));
        for (row, class) in predicted.into_iter().enumerate() {
            probabilities[(row, class as usize)] = 1.0;
        }
        Ok(probabilities)
    }

    /// Stores what is needed to refit.
    pub(crate) fn store(&self, archive: &mut ModelArchive) {
        refit::store(archive, &self.training, self.seed);
    }

    /// Refits from a file.
    ///
    /// # Errors
    /// A broken file, and the errors of smartcore.
    pub(crate) fn restore(
        parameters: &ForestParameters,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        let (training, seed) = refit::restore(archive, columns, classes)?;
        Self::fit(parameters, training, seed)
    }
}
