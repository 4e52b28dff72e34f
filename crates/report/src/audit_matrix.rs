//! Checks whether any confusion matrix is consistent with the printed numbers, by linear programs over the share of
//! flows in each cell, for unknown class supports.
//!
//! With the shares of the cells as unknowns, the support, the predictions and the correct predictions of a class are
//! sums, so an accuracy, precision, recall or F1 that is known up to rounding is a linear constraint. The classes that
//! the table does not print are merged into one class; any part of its diagonal cell may be correct.

use microlp::{ComparisonOp, Error, OptimizationDirection, Problem, Variable};

use super::ReportError;

/// How much each constraint is relaxed, from the first attempt to the last. The solver may cycle if many constraints
/// meet in one point, as ratios do at 0; relaxing each by a slightly different amount avoids this. A table that is
/// infeasible with relaxed constraints is infeasible without.
const EASINGS: [f64; 4] = [1e-7, 3e-7, 1e-6, 1e-5];

/// The range of values that round to a printed number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rounded {
    pub low: f64,
    pub high: f64,
}

/// The printed numbers of one class.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ClassNumbers {
    pub precision: Option<Rounded>,
    pub recall: Option<Rounded>,
    pub f1: Option<Rounded>,
    /// Its share of the test flows, if supports are printed.
    pub share: Option<f64>,
}

/// The constraints on a confusion matrix.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions<'a> {
    pub classes: &'a [ClassNumbers],
    /// Whether some classes are not printed.
    pub others: bool,
    pub accuracy: Option<Rounded>,
    /// Whether precision and F1 are constrained in addition to recall.
    pub jointly: bool,
    /// Upper bound on the recall of the classes that are not printed.
    pub largest_other_recall: Option<f64>,
}

/// A sum of cells.
type Cells = Vec<(Variable, f64)>;

impl Conditions<'_> {
    /// Returns whether some confusion matrix satisfies the constraints.
    ///
    /// # Errors
    /// The solver cannot decide the linear program.
    pub(crate) fn possible(&self) -> Result<bool, ReportError> {
        Ok(self.solve(None)?.is_some())
    }

    /// Returns the smallest share of the test flows that a class can have, or `None` if no matrix satisfies the
    /// constraints. The classes that are not printed come after the printed ones.
    ///
    /// # Errors
    /// Same as [`Self::possible`].
    pub(crate) fn smallest_share(&self, class: usize) -> Result<Option<f64>, ReportError> {
        self.solve(Some(class))
    }

    fn solve(&self, minimised: Option<usize>) -> Result<Option<f64>, ReportError> {
        let mut problem = String::new();
        for easing in EASINGS {
            match self.solve_eased(minimised, easing) {
                Ok(solution) => return Ok(Some(solution)),
                Err(Error::Infeasible) => return Ok(None),
                Err(error) => problem = error.to_string(),
            }
        }
        Err(undecided(&problem))
    }

    fn solve_eased(&self, minimised: Option<usize>, easing: f64) -> Result<f64, Error> {
        let printed = self.classes.len();
        let size = printed + usize::from(self.others);
        let mut problem = Problem::new(OptimizationDirection::Minimize);
        // Each constraint has its own amount, between one and two times `easing`.
        let mut conditions = 0_u32;
        let mut eased = |operator: ComparisonOp| {
            conditions += 1;
            let slack = easing * (1.0 + (f64::from(conditions) * 0.618_033_988_749_895).fract());
            if matches!(operator, ComparisonOp::Le) { slack } else { -slack }
        };
        let mut cells = Vec::with_capacity(size * size);
        for index in 0..size * size {
            let cost = if minimised == Some(index / size) { 1.0 } else { 0.0 };
            cells.push(problem.add_var(cost, (0.0, 1.0)));
        }
        let cell = |label: usize, prediction: usize| cells[label * size + prediction];
        let right: Vec<Variable> = (0..size)
            .map(|class| if class < printed { cell(class, class) } else { problem.add_var(0.0, (0.0, 1.0)) })
            .collect();
        let support = |class: usize| -> Cells { (0..size).map(|other| (cell(class, other), 1.0)).collect() };
        let predicted = |class: usize| -> Cells { (0..size).map(|other| (cell(other, class), 1.0)).collect() };

        problem.add_constraint(cells.iter().map(|&cell| (cell, 1.0)), ComparisonOp::Eq, 1.0);
        for (class, numbers) in self.classes.iter().enumerate() {
            let mut ratio = |whole: Cells, range: Rounded, times: f64| {
                for (bound, operator) in [(range.high, ComparisonOp::Le), (range.low, ComparisonOp::Ge)] {
                    problem.add_constraint(fraction(right[class], times, &whole, bound), operator, eased(operator));
                }
            };
            if let Some(recall) = numbers.recall {
                ratio(support(class), recall, 1.0);
            }
            if self.jointly {
                if let Some(precision) = numbers.precision {
                    ratio(predicted(class), precision, 1.0);
                }
                if let Some(f1) = numbers.f1 {
                    ratio([support(class), predicted(class)].concat(), f1, 2.0);
                }
            }
            if let Some(share) = numbers.share {
                for operator in [ComparisonOp::Le, ComparisonOp::Ge] {
                    problem.add_constraint(support(class), operator, share + eased(operator));
                }
            }
        }
        if self.others {
            // Correct predictions are on the diagonal, but the merged cell of these classes contains wrong ones too.
            let class = printed;
            problem.add_constraint(
                [(right[class], 1.0), (cell(class, class), -1.0)],
                ComparisonOp::Le,
                eased(ComparisonOp::Le),
            );
            if let Some(largest) = self.largest_other_recall {
                let part = fraction(right[class], 1.0, &support(class), largest);
                problem.add_constraint(part, ComparisonOp::Le, eased(ComparisonOp::Le));
            }
        }
        if let Some(accuracy) = self.accuracy {
            for (bound, operator) in [(accuracy.high, ComparisonOp::Le), (accuracy.low, ComparisonOp::Ge)] {
                problem.add_constraint(right.iter().map(|&right| (right, 1.0)), operator, bound + eased(operator));
            }
        }
        Ok(problem.solve()?.objective())
    }
}

fn undecided(problem: &str) -> ReportError {
    ReportError::Records(format!("audit: the linear program over confusion matrices was not decided: {problem}"))
}

/// Returns `times * right - bound * whole` with each variable once.
fn fraction(right: Variable, times: f64, whole: &Cells, bound: f64) -> Cells {
    let mut cells: Cells = Vec::with_capacity(whole.len() + 1);
    for &(cell, weight) in [(right, -times / bound.max(1e-9))].iter().chain(whole) {
        match cells.iter_mut().find(|(known, _)| *known == cell) {
            Some((_, sum)) => *sum += weight,
            None => cells.push((cell, weight)),
        }
    }
    // Coefficients are scaled by the bound and their sign restored, so that they stay near 1.
    cells.iter_mut().for_each(|(_, weight)| *weight *= -bound.max(1e-9));
    cells
}
