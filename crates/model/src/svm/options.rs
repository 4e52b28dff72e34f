//! The keys of `[model.svm]`.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::kernel::Kernel;
use crate::class_weights::ClassWeights;

/// The kernel function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KernelName {
    /// `exp(-gamma |x - y|^2)`.
    Rbf,
    /// `(gamma x.y + coef0)^degree`.
    Polynomial,
    /// `x.y`.
    Linear,
}

/// The factor gamma of the kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "it must be \"scale\", \"auto\" or a number > 0")]
pub(crate) enum Gamma {
    /// A fixed number.
    Value(f64),
    /// A rule, by name.
    Rule(GammaRule),
}

/// A rule for gamma, as defined by scikit-learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GammaRule {
    /// 1 / (columns * variance of all values of the training matrix); 1 for constant data.
    Scale,
    /// 1 / columns.
    Auto,
}

/// How probabilities are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Probabilities {
    /// The softmax of one score per class; predicts the class with the most votes.
    Softmax,
    /// Platt's sigmoid for every pair, fitted by cross-validation, and pairwise coupling.
    Platt,
}

/// `[model.svm]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SvmParameters {
    /// `rbf` (default), `polynomial` or `linear`.
    pub kernel: KernelName,
    /// Cost of a training row on the wrong side of its margin; default 1.
    pub cost: f64,
    /// `"scale"` (default), `"auto"` or a positive number.
    pub gamma: Gamma,
    /// Degree of the polynomial kernel; default 3.
    pub degree: i32,
    /// Constant of the polynomial kernel; default 0.
    pub coef0: f64,
    /// `none` (default), `balanced` or a table of weights by class name: factors on `cost`.
    pub class_weights: ClassWeights,
    /// Maximum violation of the optimality conditions at which the solver stops; default 0.001.
    pub tolerance: f64,
    /// Maximum steps of the fast solver per pair, after which it stops with a note; default 10 million.
    pub maximum_iterations: u64,
    /// Memory in MiB for the fast solver's kernel rows, shared by all pairs that are solved at the same time; default
    /// 200.
    pub cache_mebibytes: usize,
    /// `softmax` (default) or `platt`.
    pub probabilities: Probabilities,
    /// Whether columns are standardised on the training rows; default true.
    pub standardise: bool,
    /// Whether statistics are transformed by the signed logarithm first; default true.
    pub log_scale: bool,
}

impl Default for SvmParameters {
    fn default() -> Self {
        Self {
            kernel: KernelName::Rbf,
            cost: 1.0,
            gamma: Gamma::Rule(GammaRule::Scale),
            degree: 3,
            coef0: 0.0,
            class_weights: ClassWeights::default(),
            tolerance: 1e-3,
            maximum_iterations: 10_000_000,
            cache_mebibytes: 200,
            probabilities: Probabilities::Softmax,
            standardise: true,
            log_scale: true,
        }
    }
}

/// 1 TiB.
const MAXIMUM_CACHE_MEBIBYTES: usize = 1 << 20;

impl SvmParameters {
    /// Returns the memory for kernel rows, in bytes.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.cache_mebibytes.saturating_mul(1 << 20)
    }

    /// Returns the kernel for this training matrix.
    pub(super) fn kernel(&self, matrix: &Array2<f32>) -> Kernel {
        let gamma = match self.gamma {
            Gamma::Value(gamma) => gamma,
            Gamma::Rule(GammaRule::Scale) => scale_gamma(matrix),
            Gamma::Rule(GammaRule::Auto) => 1.0 / matrix.ncols() as f64,
        };
        match self.kernel {
            KernelName::Rbf => Kernel::Rbf { gamma },
            KernelName::Polynomial => Kernel::Polynomial { gamma, coef0: self.coef0, degree: self.degree },
            KernelName::Linear => Kernel::Linear,
        }
    }

    /// Rejects unusable values.
    pub(crate) fn check(&self) -> Result<(), String> {
        let positive = |name: &str, value: f64| {
            if value.is_finite() && value > 0.0 { Ok(()) } else { Err(format!("`{name}` is {value}; it must be > 0")) }
        };
        positive("cost", self.cost)?;
        positive("tolerance", self.tolerance)?;
        if let Gamma::Value(gamma) = self.gamma {
            positive("gamma", gamma)?;
        }
        if self.degree < 1 {
            return Err(format!("`degree` is {}; it must be at least 1", self.degree));
        }
        if !self.coef0.is_finite() {
            return Err("`coef0` must be a finite number".to_owned());
        }
        if self.maximum_iterations == 0 {
            return Err("`maximum_iterations` must be at least 1".to_owned());
        }
        if self.cache_mebibytes == 0 || self.cache_mebibytes > MAXIMUM_CACHE_MEBIBYTES {
            return Err(format!(
                "`cache_mebibytes` is {}; it must be 1 to {MAXIMUM_CACHE_MEBIBYTES}",
                self.cache_mebibytes
            ));
        }
        self.class_weights.check()
    }
}

/// Computes scikit-learn's `gamma = "scale"`: 1 / (columns * variance over all values), 1 for constant data.
fn scale_gamma(matrix: &Array2<f32>) -> f64 {
    let count = matrix.len() as f64;
    let mean = matrix.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = matrix.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    if variance == 0.0 { 1.0 } else { 1.0 / (matrix.ncols() as f64 * variance) }
}
