//! Support vector machine for several classes, one against one, as libsvm and scikit-learn define it.
//!
//! For every pair of classes a two-class machine is fitted; each gives its winner one vote, and the class
//! with most votes is predicted, the lowest class of equals. Probabilities come from one score per class:
//! `votes + s / (3 (|s| + 1))`, where `s` is the sum of the class's margins over its pairs (scikit-learn's
//! `decision_function_shape = "ovr"`; the second term stays within 1/3 of 0, so it never overturns a vote);
//! the predicted class gets `votes + 1/3`, so that tied votes keep their winner. The probabilities are the
//! softmax of the scores: a ranking, not calibrated.
//!
//! `fast` is this project's solver on kernel blocks from matrix products; `reference` is `linfa-svm`.

mod kernel;
mod reference;
mod solver;

use ndarray::{Array2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::kernel::{Kernel, KernelRows};
use self::solver::{KernelSource, Problem, RowCache, Solution, solve};
use super::classical::{Algorithm, ClassWeights, Classical, Rows, softmax};
use super::input::{Encoding, InputOptions, data};
use super::{FitContext, FitReport, Implementation, Input, ModelArchive, ModelError, stored};
use crate::progress::Progress;

/// A support vector machine behind the trait of all models.
pub(super) type Svm = Classical<OneAgainstOne>;

/// Which kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KernelName {
    /// `exp(-gamma |x - y|^2)`.
    Rbf,
    /// `(gamma x.y + coef0)^degree`.
    Polynomial,
    /// `x.y`.
    Linear,
}

/// The factor in the kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Gamma {
    /// A number.
    Value(f64),
    /// `scale`: 1 / (columns * variance of all values of the training matrix), scikit-learn's default.
    Named(String),
}

/// `[model.svm]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SvmParameters {
    /// `rbf` (default), `polynomial` or `linear`.
    pub kernel: KernelName,
    /// The price of a training row on the wrong side of its margin; default 1.
    pub cost: f64,
    /// `"scale"` (default) or a positive number.
    pub gamma: Gamma,
    /// Degree of the polynomial kernel; default 3.
    pub degree: i32,
    /// Constant of the polynomial kernel; default 0.
    pub coef0: f64,
    /// `none` (default) or `balanced`.
    pub class_weights: ClassWeights,
    /// Largest violation of optimality at which the solver stops; default 0.001.
    pub tolerance: f64,
    /// Steps per pair after which the fast solver stops anyway, and says so; default 10 million.
    pub maximum_iterations: u64,
    /// Memory for the fast solver's kernel values, in MiB. Where the kernel of all training rows needs more
    /// (from 16,384 rows on, by default), every pair being solved computes its rows when it needs them and
    /// keeps the most recently used within this limit; default 1024.
    pub cache_mebibytes: usize,
    /// Whether columns are standardised on the training rows; default true.
    pub standardise: bool,
    /// Whether statistics pass the signed logarithm first; default true.
    pub log_scale: bool,
}

impl Default for SvmParameters {
    fn default() -> Self {
        Self {
            kernel: KernelName::Rbf,
            cost: 1.0,
            gamma: Gamma::Named("scale".to_owned()),
            degree: 3,
            coef0: 0.0,
            class_weights: ClassWeights::None,
            tolerance: 1e-3,
            maximum_iterations: 10_000_000,
            cache_mebibytes: 1024,
            standardise: true,
            log_scale: true,
        }
    }
}

/// A fitted machine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OneAgainstOne {
    kernel: Kernel,
    classes: usize,
    /// Rows with a coefficient in some pair, shape `[vectors, columns]`, ordered by class.
    vectors: Array2<f32>,
    /// First vector of each class, and the end.
    starts: Vec<usize>,
    /// Per pair (0,1), (0,2), ..., (1,2), ...: the coefficients of the first class's vectors, then the
    /// second's.
    coefficients: Vec<f64>,
    /// Per pair.
    offsets: Vec<f64>,
}

/// Most training rows of the reference, which holds a dense kernel of every pair.
pub(super) const REFERENCE_ROW_LIMIT: usize = 10_000;
/// Rows predicted at once by one thread.
const PREDICTION_BLOCK: usize = 64;

fn pairs(classes: usize) -> Vec<(usize, usize)> {
    (0..classes).flat_map(|first| (first + 1..classes).map(move |second| (first, second))).collect()
}

impl SvmParameters {
    fn cache_bytes(&self) -> usize {
        self.cache_mebibytes.saturating_mul(1 << 20)
    }

    fn kernel(&self, matrix: &Array2<f32>) -> Kernel {
        let gamma = match self.gamma {
            Gamma::Value(gamma) => gamma,
            Gamma::Named(_) => scale_gamma(matrix),
        };
        match self.kernel {
            KernelName::Rbf => Kernel::Rbf { gamma },
            KernelName::Polynomial => Kernel::Polynomial { gamma, coef0: self.coef0, degree: self.degree },
            KernelName::Linear => Kernel::Linear,
        }
    }
}

/// scikit-learn's `gamma = "scale"`: 1 / (columns * variance over all values), 1 for constant data.
fn scale_gamma(matrix: &Array2<f32>) -> f64 {
    let count = matrix.len() as f64;
    let mean = matrix.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = matrix.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    if variance == 0.0 { 1.0 } else { 1.0 / (matrix.ncols() as f64 * variance) }
}

impl Algorithm for OneAgainstOne {
    type Parameters = SvmParameters;
    const NAME: &'static str = "svm";

    fn check(parameters: &SvmParameters, _: Implementation) -> Result<(), String> {
        let positive = |name: &str, value: f64| {
            if value.is_finite() && value > 0.0 { Ok(()) } else { Err(format!("`{name}` is {value}; it must be > 0")) }
        };
        positive("cost", parameters.cost)?;
        positive("tolerance", parameters.tolerance)?;
        match &parameters.gamma {
            Gamma::Value(gamma) => positive("gamma", *gamma)?,
            Gamma::Named(name) if name == "scale" => {}
            Gamma::Named(name) => {
                return Err(format!("`gamma` is \"{name}\"; it must be \"scale\" or a number > 0"));
            }
        }
        if parameters.degree < 1 {
            return Err(format!("`degree` is {}; it must be at least 1", parameters.degree));
        }
        if !parameters.coef0.is_finite() {
            return Err("`coef0` must be a finite number".to_owned());
        }
        if parameters.maximum_iterations == 0 {
            return Err("`maximum_iterations` must be at least 1".to_owned());
        }
        Ok(())
    }

    fn input(parameters: &SvmParameters, input: Input) -> InputOptions {
        InputOptions {
            input,
            encoding: Encoding::Scaled,
            log_scale: parameters.log_scale,
            standardise: parameters.standardise,
        }
    }

    fn fit(
        parameters: &SvmParameters,
        implementation: Implementation,
        training: Rows,
        _: Option<Rows>,
        context: &FitContext<'_>,
        report: &mut FitReport,
    ) -> Result<Self, ModelError> {
        if implementation == Implementation::Reference && training.targets.len() > REFERENCE_ROW_LIMIT {
            return Err(data(
                Self::NAME,
                format!(
                    "the reference implementation holds a dense kernel and refuses over {REFERENCE_ROW_LIMIT} training \
                     rows, here {}; use implementation = \"fast\" or fewer rows",
                    training.targets.len()
                ),
            ));
        }
        let kernel = parameters.kernel(&training.matrix);
        let costs: Vec<f64> =
            parameters.class_weights.of(&training).iter().map(|weight| weight * parameters.cost).collect();
        let mut members = vec![Vec::new(); training.classes];
        for (row, &target) in training.targets.iter().enumerate() {
            members[target as usize].push(row);
        }
        let pairs = pairs(training.classes);
        context.progress.begin("svm", pairs.len() as u64);
        let depth = training.matrix.ncols();
        let values = training.matrix.as_slice().expect("matrices are row-major");
        let rows = KernelRows::new(values, depth);
        let shared = match implementation {
            Implementation::Fast => SharedKernel::new(parameters, kernel, &training.matrix, &members),
            Implementation::Reference => None,
        };
        let solutions: Result<Vec<Solution>, ModelError> = pairs
            .par_iter()
            .map(|&(first, second)| {
                let both: Vec<usize> = members[first].iter().chain(&members[second]).copied().collect();
                let boundary = members[first].len();
                let costs = (costs[first], costs[second]);
                let solution = match implementation {
                    Implementation::Fast => {
                        solve_pair(parameters, kernel, &rows, shared.as_ref(), &both, boundary, costs)
                    }
                    Implementation::Reference => {
                        let matrix = training.matrix.select(Axis(0), &both).mapv(f64::from);
                        reference::solve(matrix, boundary, kernel, costs, parameters.tolerance).map_err(|error| {
                            data(Self::NAME, format!("linfa-svm on classes {first} and {second}: {error}"))
                        })?
                    }
                };
                context.progress.advance(1);
                Ok(solution)
            })
            .collect();
        let solutions = solutions?;
        context.progress.end();
        let stopped = solutions.iter().filter(|solution| !solution.converged).count();
        if stopped > 0 {
            report.notes.push(format!(
                "{stopped} of {} pairs stopped at maximum_iterations = {} before reaching the tolerance",
                pairs.len(),
                parameters.maximum_iterations
            ));
        }
        if solutions.iter().any(|s| !s.rho.is_finite() || s.coefficients.iter().any(|c| !c.is_finite())) {
            return Err(ModelError::Diverged {
                model: Self::NAME.to_owned(),
                stage: "fit".to_owned(),
                place: "the kernel expansion".to_owned(),
                problem: "a coefficient is not finite; lower `degree` or `gamma`, or standardise".to_owned(),
            });
        }
        Ok(assemble(kernel, &training, &members, &pairs, &solutions))
    }

    fn predict(&self, matrix: &Array2<f32>, _: &dyn Progress) -> Result<Array2<f32>, ModelError> {
        let depth = matrix.ncols();
        let mut probabilities = Array2::zeros((matrix.nrows(), self.classes));
        let vectors = self.vectors.as_slice().expect("matrices are row-major");
        let vectors = KernelRows::new(vectors, depth);
        let rows = matrix.as_slice().expect("matrices are row-major");
        let target = probabilities.as_slice_mut().expect("matrices are row-major");
        target.par_chunks_mut(PREDICTION_BLOCK * self.classes).zip(rows.par_chunks(PREDICTION_BLOCK * depth)).for_each(
            |(target, rows)| {
                let rows = KernelRows::new(rows, depth);
                let mut kernel = vec![0.0; rows.len() * vectors.len()];
                self.kernel.block(&rows, &vectors, &mut kernel);
                let mut margins = vec![0.0; self.offsets.len()];
                let mut scores = vec![0.0; self.classes];
                for (row, target) in target.chunks_exact_mut(self.classes).enumerate() {
                    self.margins(&kernel[row * vectors.len()..(row + 1) * vectors.len()], &mut margins);
                    self.scores(&margins, &mut scores);
                    softmax(&scores, target);
                }
            },
        );
        Ok(probabilities)
    }

    fn store(&self, archive: &mut ModelArchive) -> Result<(), ModelError> {
        let gamma = match self.kernel {
            Kernel::Rbf { gamma } | Kernel::Polynomial { gamma, .. } => gamma,
            Kernel::Linear => 1.0,
        };
        stored::put_f64s(archive, "gamma", &[gamma]);
        stored::put_matrix(archive, "vectors", &self.vectors);
        let starts: Vec<u32> = self.starts.iter().map(|&start| start as u32).collect();
        stored::put_u32s(archive, "class_starts", &starts);
        stored::put_f64s(archive, "coefficients", &self.coefficients);
        stored::put_f64s(archive, "offsets", &self.offsets);
        Ok(())
    }

    fn restore(
        parameters: &SvmParameters,
        _: Implementation,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        let gamma = match stored::f64s(archive, "gamma")? {
            [gamma] => Gamma::Value(*gamma),
            _ => return Err(stored::broken("tensor gamma does not hold one number")),
        };
        let vectors = stored::matrix(archive, "vectors", columns)?;
        let kernel = SvmParameters { gamma, ..parameters.clone() }.kernel(&vectors);
        let starts: Vec<usize> = stored::u32s(archive, "class_starts")?.iter().map(|&start| start as usize).collect();
        let ordered = starts.windows(2).all(|pair| pair[0] <= pair[1]);
        if starts.len() != classes + 1 || !ordered || starts[0] != 0 || starts[classes] != vectors.nrows() {
            return Err(stored::broken("tensor class_starts does not divide the support vectors"));
        }
        let coefficients = stored::f64s(archive, "coefficients")?.to_vec();
        let offsets = stored::f64s(archive, "offsets")?.to_vec();
        if offsets.len() != pairs(classes).len() || coefficients.len() != (classes - 1) * vectors.nrows() {
            return Err(stored::broken("the coefficients do not fit the support vectors"));
        }
        Ok(Self { kernel, classes, vectors, starts, coefficients, offsets })
    }
}

/// The kernel of all training rows, where it fits into the limit: every pair of classes reads its block of
/// it, so that no value is computed twice.
struct SharedKernel {
    /// Row-major, the lower triangle.
    values: Vec<f32>,
    /// Place in `values` of each training row; the rows are ordered by class.
    places: Vec<usize>,
}

impl SharedKernel {
    fn new(parameters: &SvmParameters, kernel: Kernel, matrix: &Array2<f32>, members: &[Vec<usize>]) -> Option<Self> {
        let size = matrix.nrows();
        if size.saturating_mul(size).saturating_mul(size_of::<f32>()) > parameters.cache_bytes() {
            return None;
        }
        let order: Vec<usize> = members.iter().flatten().copied().collect();
        let mut places = vec![0; size];
        for (place, &row) in order.iter().enumerate() {
            places[row] = place;
        }
        let ordered = matrix.select(Axis(0), &order);
        let rows = KernelRows::new(ordered.as_slice().expect("matrices are row-major"), matrix.ncols());
        let mut values = vec![0.0; size * size];
        kernel.lower_triangle(&rows, &mut values);
        Some(Self { values, places })
    }

    /// The kernel matrix of some rows, in order of their classes.
    fn pair(&self, rows: &[usize]) -> Vec<f32> {
        let size = rows.len();
        let mut block = vec![0.0; size * size];
        for (i, &row) in rows.iter().enumerate() {
            let start = self.places[row] * self.places.len();
            for (j, &other) in rows[..=i].iter().enumerate() {
                let value = self.values[start + self.places[other]];
                block[i * size + j] = value;
                block[j * size + i] = value;
            }
        }
        block
    }
}

/// Solves one pair with this project's solver.
fn solve_pair(
    parameters: &SvmParameters,
    kernel: Kernel,
    rows: &KernelRows<'_>,
    shared: Option<&SharedKernel>,
    both: &[usize],
    boundary: usize,
    costs: (f64, f64),
) -> Solution {
    let size = both.len();
    let signs: Vec<f64> = (0..size).map(|row| if row < boundary { 1.0 } else { -1.0 }).collect();
    let bounds: Vec<f64> = (0..size).map(|row| if row < boundary { costs.0 } else { costs.1 }).collect();
    let diagonal = kernel.diagonal(rows, both);
    let problem = Problem {
        signs: &signs,
        bounds: &bounds,
        diagonal: &diagonal,
        tolerance: parameters.tolerance,
        maximum_iterations: parameters.maximum_iterations,
    };
    let mut source = match shared {
        Some(shared) => KernelSource::Whole(shared.pair(both)),
        None => KernelSource::Cached(RowCache::new(kernel, rows, both, parameters.cache_bytes())),
    };
    solve(&problem, &mut source)
}

/// Keeps the rows with a coefficient in any pair.
fn assemble(
    kernel: Kernel,
    training: &Rows,
    members: &[Vec<usize>],
    pairs: &[(usize, usize)],
    solutions: &[Solution],
) -> OneAgainstOne {
    let mut used: Vec<Vec<bool>> = members.iter().map(|rows| vec![false; rows.len()]).collect();
    for (&(first, second), solution) in pairs.iter().zip(solutions) {
        let (of_first, of_second) = solution.coefficients.split_at(members[first].len());
        for (class, coefficients) in [(first, of_first), (second, of_second)] {
            for (used, &coefficient) in used[class].iter_mut().zip(coefficients) {
                *used |= coefficient != 0.0;
            }
        }
    }
    let mut kept = Vec::new();
    let mut starts = vec![0];
    for (rows, used) in members.iter().zip(&used) {
        kept.extend(rows.iter().zip(used).filter(|(_, used)| **used).map(|(&row, _)| row));
        starts.push(kept.len());
    }
    let mut coefficients = Vec::new();
    for (&(first, second), solution) in pairs.iter().zip(solutions) {
        let used = used[first].iter().chain(&used[second]);
        coefficients.extend(solution.coefficients.iter().zip(used).filter(|(_, used)| **used).map(|(&c, _)| c));
    }
    OneAgainstOne {
        kernel,
        classes: training.classes,
        vectors: training.matrix.select(Axis(0), &kept),
        starts,
        coefficients,
        offsets: solutions.iter().map(|solution| solution.rho).collect(),
    }
}

impl OneAgainstOne {
    /// The margin of every pair from one row's kernel with all vectors; positive for the first class.
    fn margins(&self, kernel: &[f32], margins: &mut [f64]) {
        let mut coefficients = self.coefficients.as_slice();
        for ((margin, &offset), (first, second)) in margins.iter_mut().zip(&self.offsets).zip(pairs(self.classes)) {
            let mut sum = 0.0;
            for class in [first, second] {
                let vectors = &kernel[self.starts[class]..self.starts[class + 1]];
                let (own, rest) = coefficients.split_at(vectors.len());
                coefficients = rest;
                sum += own.iter().zip(vectors).map(|(c, &k)| c * f64::from(k)).sum::<f64>();
            }
            *margin = sum - offset;
        }
    }

    /// One score per class; see the module's documentation.
    fn scores(&self, margins: &[f64], scores: &mut [f64]) {
        let mut votes = vec![0_u32; self.classes];
        let mut sums = vec![0.0; self.classes];
        for (&margin, (first, second)) in margins.iter().zip(pairs(self.classes)) {
            votes[if margin > 0.0 { first } else { second }] += 1;
            sums[first] += margin;
            sums[second] -= margin;
        }
        let mut winner = 0;
        for (class, score) in scores.iter_mut().enumerate() {
            *score = f64::from(votes[class]) + sums[class] / (3.0 * (sums[class].abs() + 1.0));
            if votes[class] > votes[winner] {
                winner = class;
            }
        }
        scores[winner] = f64::from(votes[winner]) + 1.0 / 3.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tied_votes_go_to_the_lowest_class_whatever_the_margins() {
        let machine = OneAgainstOne {
            kernel: Kernel::Linear,
            classes: 3,
            vectors: Array2::zeros((0, 1)),
            starts: vec![0; 4],
            coefficients: Vec::new(),
            offsets: vec![0.0; 3],
        };
        // 0 beats 1, 2 beats 0, 1 beats 2 by far: one vote each.
        let mut scores = vec![0.0; 3];
        machine.scores(&[0.1, -0.2, 9.0], &mut scores);
        let mut probabilities = vec![0.0; 3];
        softmax(&scores, &mut probabilities);
        assert!(probabilities[0] > probabilities[1] && probabilities[1] > probabilities[2]);
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_small_row_cache_solves_to_the_same_margins() {
        let (rows, depth) = (60, 5);
        let values: Vec<f32> = (0..rows * depth).map(|i| ((i * 7919 % 1013) as f32 / 500.0) - 1.0).collect();
        let matrix = Array2::from_shape_vec((rows, depth), values).unwrap();
        let whole = SvmParameters::default();
        let cached = SvmParameters { cache_mebibytes: 0, ..SvmParameters::default() };
        let kernel = whole.kernel(&matrix);
        let kernel_rows = KernelRows::new(matrix.as_slice().unwrap(), depth);
        let both: Vec<usize> = (0..rows).collect();
        let members = vec![(0..25).collect(), (25..rows).collect()];
        let [a, b] = [&whole, &cached].map(|parameters| {
            let shared = SharedKernel::new(parameters, kernel, &matrix, &members);
            assert_eq!(shared.is_some(), parameters.cache_mebibytes > 0);
            solve_pair(parameters, kernel, &kernel_rows, shared.as_ref(), &both, 25, (1.0, 1.0))
        });
        assert!(a.converged && b.converged && a.iterations > 10);
        assert!((a.rho - b.rho).abs() < 2e-3, "{} {}", a.rho, b.rho);
    }
}
