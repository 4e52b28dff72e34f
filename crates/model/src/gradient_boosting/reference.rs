//! The reference: smartcore's boosted regressors, one per class against the rest. smartcore does not expose its trees,
//! so a model file contains the training rows, and loading refits them with the same seeds to bit-identical trees.

use ndarray::Array2;
use rayon::prelude::*;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::xgboost::{XGRegressor, XGRegressorParameters};

use super::{Boosted, BoostingParameters};
use crate::classical::{Algorithm, Rows, softmax};
use crate::input::data;
use crate::{FitContext, ModelArchive, ModelError, refit};
use etcbench_storage::seed;

type Regressor = XGRegressor<f64, f64, DenseMatrix<f64>, Vec<f64>>;

/// One regressor per class, and the training rows.
pub(crate) struct OneAgainstRest {
    regressors: Vec<Regressor>,
    training: Rows,
    seed: u64,
}

impl OneAgainstRest {
    /// Fits one regressor per class.
    ///
    /// # Errors
    /// The errors of smartcore.
    pub(crate) fn fit(
        parameters: &BoostingParameters,
        training: Rows,
        context: &FitContext<'_>,
    ) -> Result<Self, ModelError> {
        let seed = seed::derive(context.seed, "gradient_boosting");
        context.progress.begin("gradient_boosting", training.classes as u64);
        let model = Self::with_seed(parameters, training, seed)?;
        context.progress.end();
        Ok(model)
    }

    fn with_seed(parameters: &BoostingParameters, training: Rows, seed: u64) -> Result<Self, ModelError> {
        let matrix = refit::dense(&training.matrix).map_err(|error| data(Boosted::NAME, error))?;
        let settings = XGRegressorParameters::default()
            .with_n_estimators(parameters.rounds)
            .with_max_depth(parameters.depth as u16)
            .with_learning_rate(parameters.learning_rate)
            .with_subsample(parameters.subsample)
            .with_lambda(parameters.l2)
            .with_gamma(parameters.minimum_split_loss)
            .with_min_child_weight(parameters.minimum_child_weight as usize)
            .with_base_score(1.0 / training.classes as f64);
        let regressors: Result<Vec<Regressor>, ModelError> = (0..training.classes)
            .into_par_iter()
            .map(|class| {
                let wanted: Vec<f64> =
                    training.targets.iter().map(|&target| f64::from(u8::from(target as usize == class))).collect();
                let settings = settings.clone().with_seed(seed::derive(seed, &format!("class {class}")));
                Regressor::fit(&matrix, &wanted, settings)
                    .map_err(|error| data(Boosted::NAME, format!("smartcore: {error}")))
            })
            .collect();
        Ok(Self { regressors: regressors?, training, seed })
    }

    /// Returns probabilities, shape `[rows, classes]`.
    ///
    /// # Errors
    /// The errors of smartcore.
    pub(crate) fn predict(&self, matrix: &Array2<f32>) -> Result<Array2<f32>, ModelError> {
        let rows = refit::dense(matrix).map_err(|error| data(Boosted::NAME, error))?;
        let outputs: Result<Vec<Vec<f64>>, ModelError> = self
            .regressors
            .iter()
            .map(|regressor| {
                regressor.predict(&rows).map_err(|error| data(Boosted::NAME, format!("smartcore: {error}")))
            })
            .collect();
        let outputs = outputs?;
        let mut probabilities = Array2::zeros((matrix.nrows(), outputs.len()));
        for (row, mut probabilities) in probabilities.outer_iter_mut().enumerate() {
            let scores: Vec<f64> = outputs.iter().map(|class| class[row]).collect();
            softmax(&scores, probabilities.as_slice_mut().expect("rows are contiguous"));
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
        parameters: &BoostingParameters,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        let (training, seed) = refit::restore(archive, columns, classes)?;
        Self::with_seed(parameters, training, seed)
    }
}
