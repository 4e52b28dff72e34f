//! Gradient-boosted trees.
//!
//! `fast` uses the crate `hessboost` with histogram splits, as XGBoost with `tree_method = "hist"`: one tree per class
//! and round on the softmax cross-entropy (`multi:softprob`), or for two classes one tree per round on the logistic
//! loss (`binary:logistic`), as `XGBClassifier` also chooses. The bins are computed here (`bins.rs`). If no column has
//! more distinct values than bins, predictions match XGBoost's; otherwise XGBoost's bins differ, and a few percent of
//! the predictions differ at the same accuracy (measured in `tests/all/classical/peers.rs`).
//!
//! `reference` fits one boosted regressor of `smartcore` per class against the rest, to 0 and 1 by squared error; the
//! probabilities are the softmax of the regressors' outputs. The loss differs, so accuracies are comparable but
//! probabilities are not. It does not support `l1`, `column_sample`, `maximum_bins` and `early_stopping_rounds`, and
//! its `minimum_child_weight` counts rows.

mod bins;
mod flat;
mod parameters;
#[cfg(feature = "reference")]
mod reference;
#[cfg(not(feature = "reference"))]
#[path = "reference_left_out.rs"]
mod reference;
mod softmax;

use hessboost::model::{BoostedModel, ModelFormat};
use ndarray::Array2;

use self::bins::Bins;
use self::parameters::BoostingParameters;
use self::reference::OneAgainstRest;
use self::softmax::{SoftmaxTrees, failed, outputs, softmax_trees};
use super::classical::{Algorithm, AlgorithmMemory, Classical, MatrixSize, ReferenceLimit, Rows};
use super::input::{InputOptions, data};
use super::memory::{ROWS, TOKENS, matrix};
use super::{
    AgreementBound, ExpectedMemory, FitContext, FitReport, Implementation, Input, ModelArchive, ModelEntry, ModelError,
    stored,
};
use etcbench_storage::progress::Progress;

/// Gradient-boosted trees as a [`Classical`] model.
type GradientBoosting = Classical<Boosted>;

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry = ModelEntry {
    version: 7,
    usual: true,
    agreement: Some(AgreementBound {
        agreement: 0.85,
        macro_f1: 0.08,
        reason: "a different loss: squared error of one class against the rest",
    }),
    ..GradientBoosting::entry("Gradient-boosted trees with the softmax objective.")
};

/// Fitted trees.
#[allow(clippy::large_enum_variant, reason = "there is one of these per fitted model")]
pub(super) enum Boosted {
    /// hessboost's model.
    Softmax(SoftmaxTrees),
    /// smartcore's regressors.
    OneAgainstRest(OneAgainstRest),
}

impl Algorithm for Boosted {
    type Parameters = BoostingParameters;
    const NAME: &'static str = "gradient_boosting";
    const REFERENCE_LIMIT: Option<ReferenceLimit> = Some(ReferenceLimit {
        library: "smartcore",
        rows: 20_000,
        of_two_classes: false,
        reason: "it sorts every column again at every node",
    });

    fn check(parameters: &BoostingParameters, implementation: Implementation) -> Result<(), String> {
        parameters.check(implementation)
    }

    fn input(_: &BoostingParameters, input: Input) -> InputOptions {
        InputOptions::plain(input)
    }

    fn uses_validation(_: &BoostingParameters) -> bool {
        true
    }

    fn fit(
        parameters: &BoostingParameters,
        implementation: Implementation,
        training: Rows,
        validation: Option<Rows>,
        context: &FitContext<'_>,
        report: &mut FitReport,
    ) -> Result<Self, ModelError> {
        match implementation {
            Implementation::Fast => {
                let (model, bins) = softmax_trees(parameters, training, validation, context, report)?;
                SoftmaxTrees::new(model, bins).map(Self::Softmax).map_err(|problem| data(Self::NAME, problem))
            }
            Implementation::Reference => OneAgainstRest::fit(parameters, training, context).map(Self::OneAgainstRest),
        }
    }

    fn memory(parameters: &BoostingParameters, implementation: Implementation, size: &MatrixSize) -> AlgorithmMemory {
        let outputs = outputs(size.class_counts.len().max(2));
        let trees = parameters.rounds as f64 * outputs as f64;
        let nodes = 2_f64.powi(parameters.depth as i32 + 1).min(size.rows as f64);
        let fitted = ExpectedMemory::default().and("model.gradient_boosting.rounds or depth", trees * nodes * 96.0);
        let fitting = match implementation {
            Implementation::Fast => {
                // The bin number of every value, at most two bytes each: by rows, by columns, and for the losses; two
                // 64-bit sums for every bin of the nodes that are open at once.
                let bins = size.columns as f64 * parameters.maximum_bins.min(size.rows) as f64;
                let histograms = bins * 16.0 * (parameters.depth as f64 + 6.0);
                let rows = matrix(size.rows.saturating_add(size.validation), outputs, 24);
                fitted
                    .clone()
                    .and(TOKENS, size.matrix(6))
                    .and("model.gradient_boosting.maximum_bins or depth", histograms)
                    .and(ROWS, rows)
            }
            // The matrix in 64 bits, and each tree's order of every column.
            Implementation::Reference => fitted.clone().and(TOKENS, 2.0 * size.matrix(8)),
        };
        AlgorithmMemory { fitting, fitted }
    }

    fn predict(&self, matrix: &Array2<f32>, _: &dyn Progress) -> Result<Array2<f32>, ModelError> {
        match self {
            Self::Softmax(trees) => {
                let margins = trees.flat.margins(matrix);
                let values = margins.as_slice().expect("matrices are row-major");
                let mut outputs = Array2::zeros(margins.dim());
                let target = outputs.as_slice_mut().expect("matrices are row-major");
                trees.model.transform_margins_into(values, target).map_err(|error| failed(&error))?;
                if outputs.ncols() > 1 {
                    return Ok(outputs);
                }
                let second = |row: usize| outputs[(row, 0)];
                Ok(Array2::from_shape_fn((outputs.nrows(), 2), |(row, class)| match class {
                    0 => 1.0 - second(row),
                    _ => second(row),
                }))
            }
            Self::OneAgainstRest(model) => model.predict(matrix),
        }
    }

    fn store(&self, archive: &mut ModelArchive) -> Result<(), ModelError> {
        match self {
            Self::Softmax(trees) => {
                let bytes = trees.model.encode(ModelFormat::Binary).map_err(|error| failed(&error))?;
                archive.tensors.insert("hessboost".to_owned(), super::Tensor::u8(bytes));
                trees.bins.store(archive);
                Ok(())
            }
            Self::OneAgainstRest(model) => {
                model.store(archive);
                Ok(())
            }
        }
    }

    fn restore(
        parameters: &BoostingParameters,
        implementation: Implementation,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        if implementation == Implementation::Reference {
            return OneAgainstRest::restore(parameters, archive, columns, classes).map(Self::OneAgainstRest);
        }
        let bytes = stored::bytes(archive, "hessboost")?;
        let model = BoostedModel::decode(bytes, ModelFormat::Binary)
            .map_err(|error| stored::broken(format!("tensor hessboost: {error}")))?;
        if model.n_features() != columns || model.prediction_width() != outputs(classes) {
            return Err(stored::broken("the trees have a different number of columns or classes than the file"));
        }
        let bins = Bins::restore(archive, columns)?;
        let trees =
            SoftmaxTrees::new(model, bins).map_err(|problem| stored::broken(format!("tensor hessboost: {problem}")))?;
        Ok(Self::Softmax(trees))
    }

    fn importances(&self) -> Vec<(&'static str, &[f64])> {
        match self {
            Self::Softmax(trees) => vec![("importances (share of the total gain)", &trees.importances)],
            Self::OneAgainstRest(_) => Vec::new(),
        }
    }
}
