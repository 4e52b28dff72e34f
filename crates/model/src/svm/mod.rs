//! Multi-class support vector machine, one against one, as defined by libsvm and scikit-learn.
//!
//! A two-class machine is fitted for every pair of classes. Each gives its winner one vote, and the class with the most
//! votes is predicted; ties go to the lowest class.
//!
//! There are two kinds of probabilities. `softmax` computes one score per class: `votes + s / (3 (|s| + 1))`, where `s`
//! is the sum of the class's margins over its pairs (scikit-learn's `decision_function_shape = "ovr"`; the second term
//! stays within 1/3 of 0, so it never overturns a vote). The predicted class gets `votes + 1/3`, so that tied votes
//! keep their winner. The softmax of the scores is a ranking and not calibrated. `platt` fits a sigmoid to each pair's
//! margins on held-out rows of a five-fold cross-validation, and couples the pairs, as libsvm does; it predicts the
//! class of largest probability, which may differ from the one with the most votes.
//!
//! `fast` is this project's solver on kernel rows computed by matrix products; `reference` is `linfa-svm`.

mod cache;
mod kernel;
mod machine;
mod options;
mod probability;
#[cfg(feature = "reference")]
mod reference;
#[cfg(not(feature = "reference"))]
#[path = "reference_left_out.rs"]
mod reference;
mod solver;
mod working_set;

use ndarray::{Array2, Axis};
use rand::RngExt;
use rayon::prelude::*;

use self::kernel::{Kernel, KernelRows, PairRows};
use self::machine::{OneAgainstOne, pairs};
use self::options::{Probabilities, SvmParameters};
use self::probability::Sigmoid;
use self::solver::{Problem, Solution, solve};
use super::classical::{Algorithm, AlgorithmMemory, Classical, MatrixSize, ReferenceLimit, Rows};
use super::input::{Encoding, InputOptions, data};
use super::memory::{ROWS, TOKENS, matrix};
use super::{
    AgreementBound, ExpectedMemory, FitContext, FitReport, Implementation, Input, ModelArchive, ModelEntry, ModelError,
};
use etcbench_storage::progress::Progress;
use etcbench_storage::seed;

/// A support vector machine as a [`Classical`] model.
type Svm = Classical<OneAgainstOne>;

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry = ModelEntry {
    version: 7,
    agreement: Some(AgreementBound {
        agreement: 0.98,
        macro_f1: 0.02,
        reason: "the same optimum, reached within a tolerance",
    }),
    ..Svm::entry("Support vector machine, one against one.")
};

/// Folds of the cross-validation for Platt's probabilities.
const FOLDS: usize = 5;

/// Everything needed to solve a pair.
struct Fit<'a> {
    parameters: &'a SvmParameters,
    implementation: Implementation,
    kernel: Kernel,
    /// Training rows ordered by class.
    matrix: &'a Array2<f32>,
    /// First row of each class, and the end.
    starts: Vec<usize>,
    costs: Vec<f64>,
    seed: u64,
}

impl Fit<'_> {
    fn class_rows(&self, class: usize) -> &[f32] {
        let depth = self.matrix.ncols();
        let values = self.matrix.as_slice().expect("matrices are row-major");
        &values[self.starts[class] * depth..self.starts[class + 1] * depth]
    }

    /// Solves one pair on some of its rows.
    fn solve(&self, pair: (usize, usize), first: &[f32], second: &[f32], cache: usize) -> Result<Solution, ModelError> {
        let depth = self.matrix.ncols();
        let costs = (self.costs[pair.0], self.costs[pair.1]);
        match self.implementation {
            Implementation::Fast => {
                let (first, second) = (KernelRows::new(first, depth), KernelRows::new(second, depth));
                let problem = Problem {
                    rows: &PairRows { first: &first, second: &second },
                    costs,
                    tolerance: self.parameters.tolerance,
                    maximum_iterations: self.parameters.maximum_iterations,
                    cache_bytes: cache,
                };
                Ok(solve(&problem, self.kernel))
            }
            Implementation::Reference => {
                let values = first.iter().chain(second).map(|&value| f64::from(value)).collect();
                let rows = (first.len() + second.len()) / depth;
                let matrix = Array2::from_shape_vec((rows, depth), values).expect("whole rows");
                reference::solve(matrix, first.len() / depth, self.kernel, costs, self.parameters.tolerance).map_err(
                    |error| {
                        data(OneAgainstOne::NAME, format!("linfa-svm on classes {} and {}: {error}", pair.0, pair.1))
                    },
                )
            }
        }
    }

    /// Solves one pair, and fits its sigmoid if requested.
    fn pair(&self, pair: (usize, usize), cache: usize) -> Result<(Solution, Option<Sigmoid>), ModelError> {
        let (first, second) = (self.class_rows(pair.0), self.class_rows(pair.1));
        let solution = self.solve(pair, first, second, cache)?;
        let sigmoid = match self.parameters.probabilities {
            Probabilities::Softmax => None,
            Probabilities::Platt => Some(self.sigmoid(pair, first, second, cache)?),
        };
        Ok((solution, sigmoid))
    }

    /// Fits Platt's sigmoid to margins of held-out rows. If the remaining rows of a fold belong to one class, the
    /// fold's margin is 1 for that class, as in libsvm.
    fn sigmoid(
        &self,
        pair: (usize, usize),
        first: &[f32],
        second: &[f32],
        cache: usize,
    ) -> Result<Sigmoid, ModelError> {
        let depth = self.matrix.ncols();
        let firsts = first.len() / depth;
        let size = firsts + second.len() / depth;
        let row = |row: usize| match row.checked_sub(firsts) {
            None => &first[row * depth..(row + 1) * depth],
            Some(row) => &second[row * depth..(row + 1) * depth],
        };
        let mut order: Vec<usize> = (0..size).collect();
        let mut generator = seed::generator(self.seed, &format!("platt {} {}", pair.0, pair.1));
        for last in (1..size).rev() {
            order.swap(last, generator.random_range(0..=last as u64) as usize);
        }
        let mut margins = vec![0.0; size];
        for fold in 0..FOLDS.min(size) {
            let folds = FOLDS.min(size);
            let out = fold * size / folds..(fold + 1) * size / folds;
            let mut kept: Vec<usize> = order[..out.start].iter().chain(&order[out.end..]).copied().collect();
            kept.sort_unstable();
            let boundary = kept.partition_point(|&row| row < firsts);
            if boundary == 0 || boundary == kept.len() {
                let margin = if kept.is_empty() {
                    0.0
                } else if boundary == 0 {
                    -1.0
                } else {
                    1.0
                };
                order[out].iter().for_each(|&row| margins[row] = margin);
                continue;
            }
            let gather = |rows: &[usize]| rows.iter().flat_map(|&number| row(number)).copied().collect::<Vec<f32>>();
            let (of_first, of_second) = (gather(&kept[..boundary]), gather(&kept[boundary..]));
            let solution = self.solve(pair, &of_first, &of_second, cache)?;
            let used: Vec<usize> = (0..kept.len()).filter(|&row| solution.coefficients[row] != 0.0).collect();
            let vectors = gather(&used.iter().map(|&index| kept[index]).collect::<Vec<usize>>());
            let vectors = KernelRows::new(&vectors, depth);
            for rows in order[out].chunks(PLATT_BLOCK) {
                let queries = gather(rows);
                let mut kernel = vec![0.0; rows.len() * used.len()];
                self.kernel.block(&KernelRows::new(&queries, depth), &vectors, &mut kernel);
                for (at, &row) in rows.iter().enumerate() {
                    let values = &kernel[at * used.len()..(at + 1) * used.len()];
                    let terms = used.iter().zip(values).map(|(&v, &k)| solution.coefficients[v] * f64::from(k));
                    margins[row] = terms.sum::<f64>() - solution.rho;
                }
            }
        }
        let is_first: Vec<bool> = (0..size).map(|row| row < firsts).collect();
        Ok(Sigmoid::fit(&margins, &is_first))
    }
}

/// Number of rows whose margins the cross-validation computes at once.
const PLATT_BLOCK: usize = 256;
/// Pairs that are solved at the same time share the memory for kernel rows: this many, or more if they are small.
const TOGETHER: usize = 8;
const SMALL_TOGETHER: usize = 64;

impl Algorithm for OneAgainstOne {
    type Parameters = SvmParameters;
    const NAME: &'static str = "svm";
    const REFERENCE_LIMIT: Option<ReferenceLimit> = Some(ReferenceLimit {
        library: "linfa-svm",
        rows: 10_000,
        of_two_classes: true,
        reason: "it stores every kernel value of the two classes in 64 bits and searches all rows at every step",
    });

    fn check(parameters: &SvmParameters, _: Implementation) -> Result<(), String> {
        parameters.check()
    }

    fn input(parameters: &SvmParameters, input: Input) -> InputOptions {
        InputOptions {
            encoding: Encoding::Scaled,
            log_scale: parameters.log_scale,
            standardise: parameters.standardise,
            ..InputOptions::plain(input)
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
        let weights = parameters.class_weights.of(Self::NAME, &training)?;
        let kernel = parameters.kernel(&training.matrix);
        let classes = training.classes;
        let mut order: Vec<usize> = (0..training.targets.len()).collect();
        order.sort_by_key(|&row| training.targets[row]);
        let mut starts = vec![0];
        for count in training.class_counts() {
            starts.push(starts[starts.len() - 1] + count);
        }
        let matrix = training.matrix.select(Axis(0), &order);
        drop(training);
        let fit = Fit {
            parameters,
            implementation,
            kernel,
            matrix: &matrix,
            costs: weights.iter().map(|weight| weight * parameters.cost).collect(),
            seed: seed::derive(context.seed, Self::NAME),
            starts,
        };
        let pairs = pairs(classes);
        context.progress.begin("svm", pairs.len() as u64);
        let size = |pair: &(usize, usize)| {
            (fit.starts[pair.0 + 1] - fit.starts[pair.0]) + (fit.starts[pair.1 + 1] - fit.starts[pair.1])
        };
        let whole = |pair: &(usize, usize)| size(pair).saturating_mul(size(pair)).saturating_mul(size_of::<f32>());
        let share = parameters.cache_bytes() / SMALL_TOGETHER.min(pairs.len());
        let (small, large): (Vec<usize>, Vec<usize>) = (0..pairs.len()).partition(|&pair| whole(&pairs[pair]) <= share);
        let mut solved: Vec<Option<(Solution, Option<Sigmoid>)>> = vec![None; pairs.len()];
        for (numbers, together) in [(small, SMALL_TOGETHER), (large, TOGETHER)] {
            let together = together.min(numbers.len()).max(1);
            let cache = parameters.cache_bytes() / together;
            for numbers in numbers.chunks(together) {
                let found: Result<Vec<_>, ModelError> = numbers
                    .par_iter()
                    .map(|&number| {
                        let found = fit.pair(pairs[number], cache)?;
                        context.progress.advance(1);
                        Ok((number, found))
                    })
                    .collect();
                for (number, found) in found? {
                    solved[number] = Some(found);
                }
            }
        }
        let (solutions, sigmoids): (Vec<Solution>, Vec<Option<Sigmoid>>) =
            solved.into_iter().map(|solved| solved.expect("every pair is small or large")).unzip();
        let sigmoids: Vec<Sigmoid> = sigmoids.into_iter().flatten().collect();
        context.progress.end();
        let stopped = solutions.iter().filter(|solution| !solution.converged).count();
        if stopped > 0 {
            report.notes.push(format!(
                "{stopped} of {} pairs stopped before reaching the tolerance, at maximum_iterations = {} or where \
                 steps fell below rounding",
                pairs.len(),
                parameters.maximum_iterations
            ));
        }
        let finite =
            |solution: &Solution| solution.rho.is_finite() && solution.coefficients.iter().all(|c| c.is_finite());
        if !solutions.iter().all(finite) {
            return Err(ModelError::Diverged {
                model: Self::NAME.to_owned(),
                stage: "fit".to_owned(),
                place: "the kernel expansion".to_owned(),
                problem: "a coefficient is not finite; lower `degree` or `gamma`, or standardise".to_owned(),
            });
        }
        Ok(assemble(&fit, &pairs, &solutions, sigmoids))
    }

    fn memory(parameters: &SvmParameters, implementation: Implementation, size: &MatrixSize) -> AlgorithmMemory {
        let classes = size.class_counts.len();
        let pairs = (classes * classes.saturating_sub(1) / 2).max(1);
        let mut counts = size.class_counts.to_vec();
        counts.sort_unstable_by(|left, right| right.cmp(left));
        let largest = counts.iter().take(2).fold(0_usize, |sum, &count| sum.saturating_add(count));
        let kernel = match implementation {
            Implementation::Fast => {
                // At most about twice as many pairs are in progress as there are threads.
                let together = pairs.min(2 * size.threads);
                let rows = matrix(largest, cache::most_kept(largest), 4) * together as f64;
                rows.min(parameters.cache_bytes() as f64) + matrix(largest, together, 64)
            }
            // Every kernel value in 64 bits, and the rows too.
            Implementation::Reference => matrix(largest, largest, 8) + 2.0 * size.matrix(8),
        };
        let copies = if parameters.probabilities == Probabilities::Platt { size.threads as f64 } else { 0.0 };
        let gathered = matrix(largest, size.columns, 4) * copies;
        let coefficients = matrix(size.rows, classes.saturating_sub(1), 8);
        let fitted = ExpectedMemory::default().and(TOKENS, size.matrix(4)).and(ROWS, coefficients);
        let fitting = fitted.clone().and("model.svm.cache_mebibytes", kernel).and(TOKENS, gathered);
        AlgorithmMemory { fitting, fitted }
    }

    fn predict(&self, matrix: &Array2<f32>, _: &dyn Progress) -> Result<Array2<f32>, ModelError> {
        Ok(self.probabilities(matrix))
    }

    fn store(&self, archive: &mut ModelArchive) -> Result<(), ModelError> {
        self.write(archive);
        Ok(())
    }

    fn restore(
        parameters: &SvmParameters,
        _: Implementation,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        let with_sigmoids = parameters.probabilities == Probabilities::Platt;
        Self::read(parameters, archive, columns, classes, with_sigmoids)
    }
}

/// Assembles the machine from the rows that have a coefficient in any pair.
fn assemble(fit: &Fit<'_>, pairs: &[(usize, usize)], solutions: &[Solution], sigmoids: Vec<Sigmoid>) -> OneAgainstOne {
    let classes = fit.starts.len() - 1;
    let range = |class: usize| fit.starts[class]..fit.starts[class + 1];
    let mut used = vec![false; fit.matrix.nrows()];
    for (&(first, second), solution) in pairs.iter().zip(solutions) {
        for (row, &coefficient) in range(first).chain(range(second)).zip(&solution.coefficients) {
            used[row] |= coefficient != 0.0;
        }
    }
    let mut kept = Vec::new();
    let mut starts = vec![0];
    for class in 0..classes {
        kept.extend(range(class).filter(|&row| used[row]));
        starts.push(kept.len());
    }
    let mut coefficients = Vec::new();
    for (&(first, second), solution) in pairs.iter().zip(solutions) {
        let rows = range(first).chain(range(second)).zip(&solution.coefficients);
        coefficients.extend(rows.filter(|(row, _)| used[*row]).map(|(_, &coefficient)| coefficient));
    }
    OneAgainstOne {
        kernel: fit.kernel,
        classes,
        vectors: fit.matrix.select(Axis(0), &kept),
        starts,
        coefficients,
        offsets: solutions.iter().map(|solution| solution.rho).collect(),
        sigmoids,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_memory_solves_to_the_same_margins() {
        let (first, second, depth) = (180, 260, 5);
        let values: Vec<f32> =
            (0..(first + second) * depth).map(|i| ((i * 7919 % 1013) as f32 / 500.0) - 1.0).collect();
        let (a, b) = values.split_at(first * depth);
        let (a, b) = (KernelRows::new(a, depth), KernelRows::new(b, depth));
        let rows = PairRows { first: &a, second: &b };
        let kernel = Kernel::Rbf { gamma: 0.3 };
        let [much, little] = [1 << 24, 9 * 4 * rows.len()].map(|cache_bytes| {
            let problem =
                Problem { rows: &rows, costs: (1.0, 2.0), tolerance: 1e-7, maximum_iterations: 1 << 40, cache_bytes };
            solve(&problem, kernel)
        });
        assert!(much.converged && little.converged && much.iterations > 100);
        // Kernel values are rounded at 6e-8, and a gradient sums 440 of them at a cost of up to 2.
        assert!((much.rho - little.rho).abs() < 1e-4, "{} {}", much.rho, little.rho);
        let objective = |solution: &Solution| {
            let mut kernel_rows = vec![0.0; rows.len() * rows.len()];
            let all = KernelRows::new(&values, depth);
            kernel.block(&all, &all, &mut kernel_rows);
            let c = &solution.coefficients;
            let quadratic: f64 = (0..rows.len())
                .flat_map(|i| (0..rows.len()).map(move |j| (i, j)))
                .map(|(i, j)| c[i] * c[j] * f64::from(kernel_rows[i * rows.len() + j]))
                .sum();
            let linear: f64 = c.iter().enumerate().map(|(row, c)| if row < first { *c } else { -c }).sum();
            assert!(c.iter().sum::<f64>().abs() < 1e-9);
            0.5 * quadratic - linear
        };
        let (a, b) = (objective(&much), objective(&little));
        assert!((a - b).abs() < 1e-6 * a.abs(), "{a} {b}");
    }
}
