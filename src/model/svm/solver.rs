//! Sequential minimal optimisation of one two-class problem: the algorithm of libsvm (Chang and Lin, 2011)
//! with the second-order choice of working set (Fan, Chen and Lin, "Working set selection using second
//! order information", JMLR 6, 2005, WSS 2), without shrinking.
//!
//! Minimises `1/2 a'Qa - sum(a)` with `Q_ij = y_i y_j K_ij`, `0 <= a_i <= C_i`, `y'a = 0`, until the largest
//! violation of the optimality conditions is under the tolerance.

use std::collections::HashMap;
use std::rc::Rc;

use super::kernel::{Kernel, KernelRows};

/// Where the solver finds rows of the kernel matrix of its pair of classes.
pub(super) enum KernelSource<'a> {
    /// The whole matrix, row-major.
    Whole(Vec<f32>),
    /// Rows computed when asked for; the most recently used are kept within a limit.
    Cached(RowCache<'a>),
}

impl KernelSource<'_> {
    fn row(&mut self, row: usize, size: usize) -> KernelRow<'_> {
        match self {
            Self::Whole(matrix) => KernelRow::Borrowed(&matrix[row * size..(row + 1) * size]),
            Self::Cached(cache) => KernelRow::Shared(cache.row(row)),
        }
    }
}

enum KernelRow<'a> {
    Borrowed(&'a [f32]),
    Shared(Rc<[f32]>),
}

impl std::ops::Deref for KernelRow<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Self::Borrowed(values) => values,
            Self::Shared(values) => values,
        }
    }
}

/// Kernel rows of a problem too large to hold whole.
pub(super) struct RowCache<'a> {
    kernel: Kernel,
    rows: &'a KernelRows<'a>,
    /// The problem's rows, as indices into `rows`.
    members: &'a [usize],
    capacity: usize,
    clock: u64,
    kept: HashMap<usize, (u64, Rc<[f32]>)>,
}

impl<'a> RowCache<'a> {
    /// Keeps at most `bytes` of rows, and never fewer than two rows.
    pub fn new(kernel: Kernel, rows: &'a KernelRows<'a>, members: &'a [usize], bytes: usize) -> Self {
        let capacity = (bytes / (4 * members.len().max(1))).max(2);
        Self { kernel, rows, members, capacity, clock: 0, kept: HashMap::new() }
    }

    fn row(&mut self, row: usize) -> Rc<[f32]> {
        self.clock += 1;
        if let Some((used, values)) = self.kept.get_mut(&row) {
            *used = self.clock;
            return Rc::clone(values);
        }
        if self.kept.len() >= self.capacity {
            // Every time of use is different, so which row leaves does not depend on the map's order.
            if let Some(&oldest) = self.kept.iter().min_by_key(|(_, (used, _))| *used).map(|(row, _)| row) {
                self.kept.remove(&oldest);
            }
        }
        let mut values = vec![0.0; self.members.len()];
        self.kernel.row(self.rows, self.members[row], self.members, &mut values);
        let values: Rc<[f32]> = values.into();
        self.kept.insert(row, (self.clock, Rc::clone(&values)));
        values
    }
}

/// A two-class problem.
pub(super) struct Problem<'a> {
    /// +1 or -1 per row.
    pub signs: &'a [f64],
    /// Upper bound of each coefficient.
    pub bounds: &'a [f64],
    /// Kernel of each row with itself.
    pub diagonal: &'a [f64],
    /// Largest violation at which to stop.
    pub tolerance: f64,
    /// Steps after which to stop anyway.
    pub maximum_iterations: u64,
}

/// The solution of a two-class problem: `f(x) = sum_i coefficients_i K(x_i, x) - rho`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Solution {
    /// `y_i a_i` per row.
    pub coefficients: Vec<f64>,
    /// The offset.
    pub rho: f64,
    /// Steps taken.
    pub iterations: u64,
    /// Whether the tolerance was reached.
    pub converged: bool,
}

/// Stands in for a curvature that is not positive, as in libsvm.
const SMALLEST_CURVATURE: f64 = 1e-12;

/// Solves one problem.
pub(super) fn solve(problem: &Problem<'_>, kernel: &mut KernelSource<'_>) -> Solution {
    let size = problem.signs.len();
    let (signs, bounds) = (problem.signs, problem.bounds);
    let mut alpha = vec![0.0_f64; size];
    // With every coefficient 0 the gradient of the objective is -1 everywhere.
    let mut gradient = vec![-1.0_f64; size];
    let mut iterations = 0;
    let mut converged = false;
    while iterations < problem.maximum_iterations {
        let Some((i, largest)) = first_of_pair(signs, bounds, &alpha, &gradient) else {
            converged = true;
            break;
        };
        let row_i: Vec<f32> = kernel.row(i, size).to_vec();
        let (second, violation) = second_of_pair(problem, &alpha, &gradient, i, largest, &row_i);
        let Some(j) = second.filter(|_| violation >= problem.tolerance) else {
            converged = true;
            break;
        };
        iterations += 1;
        let row_j = kernel.row(j, size);
        let step_before = (alpha[i], alpha[j]);
        let kernel_ij = f64::from(row_i[j]);
        take_step(problem, &mut alpha, &gradient, i, j, kernel_ij);
        let change_i = (alpha[i] - step_before.0) * signs[i];
        let change_j = (alpha[j] - step_before.1) * signs[j];
        for (((gradient, &sign), &k_i), &k_j) in gradient.iter_mut().zip(signs).zip(&row_i).zip(row_j.iter()) {
            *gradient += sign * (change_i * f64::from(k_i) + change_j * f64::from(k_j));
        }
    }
    let rho = offset(signs, bounds, &alpha, &gradient);
    let coefficients = alpha.iter().zip(signs).map(|(alpha, sign)| alpha * sign).collect();
    Solution { coefficients, rho, iterations, converged }
}

fn may_rise(sign: f64, alpha: f64, bound: f64) -> bool {
    if sign > 0.0 { alpha < bound } else { alpha > 0.0 }
}

fn may_fall(sign: f64, alpha: f64, bound: f64) -> bool {
    if sign > 0.0 { alpha > 0.0 } else { alpha < bound }
}

/// The row that violates optimality most from above; the last of equals.
fn first_of_pair(signs: &[f64], bounds: &[f64], alpha: &[f64], gradient: &[f64]) -> Option<(usize, f64)> {
    let mut best = None;
    let mut largest = f64::NEG_INFINITY;
    for (t, ((&sign, &bound), (&alpha, &gradient))) in
        signs.iter().zip(bounds).zip(alpha.iter().zip(gradient)).enumerate()
    {
        let value = -sign * gradient;
        if value >= largest && may_rise(sign, alpha, bound) {
            largest = value;
            best = Some(t);
        }
    }
    best.map(|row| (row, largest))
}

/// The row whose step with `i` lowers the objective most, and the largest violation.
fn second_of_pair(
    problem: &Problem<'_>,
    alpha: &[f64],
    gradient: &[f64],
    i: usize,
    largest: f64,
    row_i: &[f32],
) -> (Option<usize>, f64) {
    let mut best = None;
    let mut lowest = f64::INFINITY;
    let mut other_largest = f64::NEG_INFINITY;
    for (t, (&alpha, &gradient)) in alpha.iter().zip(gradient).enumerate() {
        let sign = problem.signs[t];
        if !may_fall(sign, alpha, problem.bounds[t]) {
            continue;
        }
        let value = sign * gradient;
        other_largest = other_largest.max(value);
        let difference = largest + value;
        if difference > 0.0 {
            let curvature = problem.diagonal[i] + problem.diagonal[t] - 2.0 * f64::from(row_i[t]);
            let curvature = if curvature > 0.0 { curvature } else { SMALLEST_CURVATURE };
            let change = -(difference * difference) / curvature;
            if change <= lowest {
                lowest = change;
                best = Some(t);
            }
        }
    }
    (best, largest + other_largest)
}

/// Moves two coefficients to the lowest point of the objective on their line, within their bounds.
fn take_step(problem: &Problem<'_>, alpha: &mut [f64], gradient: &[f64], i: usize, j: usize, kernel_ij: f64) {
    let (bound_i, bound_j) = (problem.bounds[i], problem.bounds[j]);
    let curvature = problem.diagonal[i] + problem.diagonal[j] - 2.0 * kernel_ij;
    let curvature = if curvature > 0.0 { curvature } else { SMALLEST_CURVATURE };
    if problem.signs[i] == problem.signs[j] {
        let sum = alpha[i] + alpha[j];
        let step = (gradient[i] - gradient[j]) / curvature;
        alpha[i] -= step;
        alpha[j] += step;
        if sum > bound_i {
            if alpha[i] > bound_i {
                alpha[i] = bound_i;
                alpha[j] = sum - bound_i;
            }
        } else if alpha[j] < 0.0 {
            alpha[j] = 0.0;
            alpha[i] = sum;
        }
        if sum > bound_j {
            if alpha[j] > bound_j {
                alpha[j] = bound_j;
                alpha[i] = sum - bound_j;
            }
        } else if alpha[i] < 0.0 {
            alpha[i] = 0.0;
            alpha[j] = sum;
        }
    } else {
        let difference = alpha[i] - alpha[j];
        let step = (-gradient[i] - gradient[j]) / curvature;
        alpha[i] += step;
        alpha[j] += step;
        if difference > 0.0 {
            if alpha[j] < 0.0 {
                alpha[j] = 0.0;
                alpha[i] = difference;
            }
        } else if alpha[i] < 0.0 {
            alpha[i] = 0.0;
            alpha[j] = -difference;
        }
        if difference > bound_i - bound_j {
            if alpha[i] > bound_i {
                alpha[i] = bound_i;
                alpha[j] = bound_i - difference;
            }
        } else if alpha[j] > bound_j {
            alpha[j] = bound_j;
            alpha[i] = bound_j + difference;
        }
    }
}

/// The mean of `y_i G_i` over the coefficients strictly between their bounds; without any, the middle of
/// the interval that the others leave.
fn offset(signs: &[f64], bounds: &[f64], alpha: &[f64], gradient: &[f64]) -> f64 {
    let (mut upper, mut lower) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut sum, mut free) = (0.0, 0_u64);
    for ((&sign, &bound), (&alpha, &gradient)) in signs.iter().zip(bounds).zip(alpha.iter().zip(gradient)) {
        let value = sign * gradient;
        if alpha > 0.0 && alpha < bound {
            sum += value;
            free += 1;
        } else if (alpha > 0.0) == (sign > 0.0) {
            lower = lower.max(value);
        } else {
            upper = upper.min(value);
        }
    }
    if free > 0 { sum / free as f64 } else { (upper + lower) / 2.0 }
}
