//! One two-class problem by decomposition: of the many coefficients a working set is optimised at a time, by
//! sequential minimal optimisation with the second-order choice of pairs (Fan, Chen and Lin, "Working set
//! selection using second order information", JMLR 6, 2005, WSS 2), as libsvm does on all rows.
//!
//! Minimises `1/2 b'Kb - y'b` over `b` with `sum(b) = 0` and `b_i` between 0 and `y_i C_i`, where `b_i = y_i a_i`
//! of the usual dual, until the largest violation of the optimality conditions over all rows is under the
//! tolerance: libsvm's criterion. The working set takes the rows that violate most in either direction (Joachims,
//! "Making large-scale SVM learning practical", 1998) and keeps the newer half of the last one. A step costs as
//! many operations as the working set has rows, not the problem, and kernel rows are computed many at a time, by
//! matrix products; that is what makes this fast, and why it needs no shrinking.

use rayon::prelude::*;

use super::cache::{PairRows, RowCache};
use super::kernel::Kernel;
use crate::model::deep::fast::cpu::simd::{Level, vectorised};

/// A two-class problem.
pub(super) struct Problem<'a> {
    /// Rows of the class +1, then of the class -1.
    pub rows: &'a PairRows<'a>,
    /// Upper bound of the coefficients of either class.
    pub costs: (f64, f64),
    /// Largest violation at which to stop.
    pub tolerance: f64,
    /// Steps after which to stop anyway.
    pub maximum_iterations: u64,
    /// Memory for kernel rows.
    pub cache_bytes: usize,
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
/// Most rows of a working set.
const LARGEST_SET: usize = 512;
/// Fewest, where the problem and the memory have as many.
const SMALLEST_SET: usize = 64;
/// Rows whose decision values one task changes; fixed, so that bits do not depend on the threads.
const SLICE: usize = 4096;

/// The coefficients and what they give.
struct State {
    coefficients: Vec<f64>,
    lowest: Vec<f64>,
    highest: Vec<f64>,
    /// `y_i - sum_j b_j K_ij`: by how much raising `b_i` lowers the objective.
    gains: Vec<f64>,
}

impl State {
    fn may_rise(&self, row: usize) -> bool {
        self.coefficients[row] < self.highest[row]
    }

    fn may_fall(&self, row: usize) -> bool {
        self.coefficients[row] > self.lowest[row]
    }

    /// The largest violation of the optimality conditions.
    fn violation(&self) -> f64 {
        let rows = 0..self.gains.len();
        let rise = rows.clone().filter(|&row| self.may_rise(row)).map(|row| self.gains[row]);
        let fall = rows.filter(|&row| self.may_fall(row)).map(|row| self.gains[row]);
        rise.fold(f64::NEG_INFINITY, f64::max) - fall.fold(f64::INFINITY, f64::min)
    }

    /// The offset: the mean gain, negative, of the coefficients strictly between their bounds; without any, the
    /// middle of the interval that the others leave.
    fn offset(&self) -> f64 {
        let (mut upper, mut lower) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut sum, mut free) = (0.0, 0_u64);
        for (row, &gain) in self.gains.iter().enumerate() {
            match (self.may_rise(row), self.may_fall(row)) {
                (true, true) => {
                    sum -= gain;
                    free += 1;
                }
                (false, _) => lower = lower.max(-gain),
                (true, false) => upper = upper.min(-gain),
            }
        }
        if free > 0 { sum / free as f64 } else { (upper + lower) / 2.0 }
    }
}

/// Solves one problem.
pub(super) fn solve(problem: &Problem<'_>, kernel: Kernel) -> Solution {
    let level = Level::detect();
    let rows = problem.rows;
    let (size, boundary) = (rows.len(), rows.first.len());
    let of = |first: f64, second: f64| (0..size).map(|row| if row < boundary { first } else { second }).collect();
    let mut state = State {
        coefficients: vec![0.0; size],
        lowest: of(0.0, -problem.costs.1),
        highest: of(problem.costs.0, 0.0),
        gains: of(1.0, -1.0),
    };
    let diagonal: Vec<f64> = [rows.first, rows.second].into_iter().flat_map(|rows| kernel.diagonal(rows)).collect();
    let mut cache = RowCache::new(kernel, rows, problem.cache_bytes);
    let most = (size / 4).clamp(SMALLEST_SET, LARGEST_SET).min(cache.capacity()).min(size);
    let mut set: Vec<usize> = Vec::new();
    let mut iterations = 0;
    let mut converged = false;
    while iterations < problem.maximum_iterations {
        let violation = state.violation();
        if violation < problem.tolerance {
            converged = true;
            break;
        }
        choose(&state, most, boundary, &mut set);
        cache.load(&set);
        // Far from the end, solving a working set exactly is wasted on the next one.
        let tolerance = if most == size { problem.tolerance } else { problem.tolerance.max(0.1 * violation) };
        let mut local = Local::new(&state, &set, &diagonal, &cache);
        iterations += local.solve(level, tolerance, problem.maximum_iterations - iterations);
        let mut changes: Vec<(f64, &[f32])> = Vec::with_capacity(set.len());
        for (&row, &coefficient) in set.iter().zip(&local.coefficients) {
            let change = coefficient - state.coefficients[row];
            state.coefficients[row] = coefficient;
            if change != 0.0 {
                changes.push((change, cache.row(row)));
            }
        }
        if changes.is_empty() {
            // Steps too small for a 64-bit float: no working set gets any further.
            break;
        }
        state.gains.par_chunks_mut(SLICE).enumerate().for_each(|(slice, gains)| {
            subtract(level, &changes, slice * SLICE, gains);
        });
    }
    let rho = state.offset();
    Solution { coefficients: state.coefficients, rho, iterations, converged }
}

vectorised! {
    /// Subtracts every change times its kernel row, from element `start` on, from the gains.
    fn subtract(changes: &[(f64, &[f32])], start: usize, gains: &mut [f64]) {
        let end = start + gains.len();
        let mut fours = changes.chunks_exact(4);
        for four in &mut fours {
            let (a, b) = (&four[0].1[start..end], &four[1].1[start..end]);
            let (c, d) = (&four[2].1[start..end], &four[3].1[start..end]);
            for ((gain, (&a, &b)), (&c, &d)) in gains.iter_mut().zip(a.iter().zip(b)).zip(c.iter().zip(d)) {
                *gain -= (four[0].0 * f64::from(a) + four[1].0 * f64::from(b))
                    + (four[2].0 * f64::from(c) + four[3].0 * f64::from(d));
            }
        }
        for &(change, row) in fours.remainder() {
            for (gain, &value) in gains.iter_mut().zip(&row[start..end]) {
                *gain -= change * f64::from(value);
            }
        }
    }
}

/// Puts the next working set in place of the last, oldest rows first.
fn choose(state: &State, most: usize, boundary: usize, set: &mut Vec<usize>) {
    let size = state.gains.len();
    if most == size {
        *set = (0..size).collect();
        return;
    }
    if set.is_empty() {
        // All rows of a class violate alike: spread over both.
        for (start, count) in [(0, boundary), (boundary, size - boundary)] {
            let wanted = (most / 2).min(count);
            set.extend((0..wanted).map(|index| start + index * count / wanted));
        }
        return;
    }
    let kept = set.len().min(most / 2);
    set.drain(..set.len() - kept);
    let mut taken = vec![false; size];
    for &row in set.iter() {
        taken[row] = true;
    }
    // Half of the room for each direction; the most violating row of each is in the set, then.
    let mut rising: Vec<u32> = (0..size as u32).filter(|&row| state.may_rise(row as usize)).collect();
    let mut falling: Vec<u32> = (0..size as u32).filter(|&row| state.may_fall(row as usize)).collect();
    let gain = |row: u32| state.gains[row as usize];
    let room = most - kept;
    for (candidates, wanted, sign) in [(&mut rising, room.div_ceil(2), -1.0), (&mut falling, room / 2, 1.0)] {
        candidates.retain(|&row| !taken[row as usize]);
        let order = |a: &u32, b: &u32| (sign * gain(*a)).total_cmp(&(sign * gain(*b))).then(a.cmp(b));
        if candidates.len() > wanted && wanted > 0 {
            candidates.select_nth_unstable_by(wanted - 1, order);
        }
        candidates.truncate(wanted);
        candidates.sort_unstable_by(order);
        for &row in candidates.iter() {
            taken[row as usize] = true;
            set.push(row as usize);
        }
    }
}

/// A working set with everything that its optimisation reads, side by side.
struct Local {
    coefficients: Vec<f64>,
    lowest: Vec<f64>,
    highest: Vec<f64>,
    gains: Vec<f64>,
    diagonal: Vec<f64>,
    /// Kernel of all pairs, row-major.
    kernel: Vec<f32>,
    /// Gains where the coefficient may rise, else minus infinity.
    rising: Vec<f64>,
    /// Gains where the coefficient may fall, else infinity.
    falling: Vec<f64>,
}

impl Local {
    fn new(state: &State, set: &[usize], diagonal: &[f64], cache: &RowCache<'_>) -> Self {
        let select = |values: &[f64]| set.iter().map(|&row| values[row]).collect::<Vec<f64>>();
        let mut kernel = Vec::with_capacity(set.len() * set.len());
        for &row in set {
            let values = cache.row(row);
            kernel.extend(set.iter().map(|&other| values[other]));
        }
        let mut local = Self {
            coefficients: select(&state.coefficients),
            lowest: select(&state.lowest),
            highest: select(&state.highest),
            gains: select(&state.gains),
            diagonal: select(diagonal),
            kernel,
            rising: vec![0.0; set.len()],
            falling: vec![0.0; set.len()],
        };
        (0..set.len()).for_each(|row| local.mark(row));
        local
    }

    fn mark(&mut self, row: usize) {
        let (coefficient, gain) = (self.coefficients[row], self.gains[row]);
        self.rising[row] = if coefficient < self.highest[row] { gain } else { f64::NEG_INFINITY };
        self.falling[row] = if coefficient > self.lowest[row] { gain } else { f64::INFINITY };
    }

    /// Steps until the violation is under the tolerance; returns how many.
    fn solve(&mut self, level: Level, tolerance: f64, limit: u64) -> u64 {
        let size = self.gains.len();
        for step in 0..limit {
            let largest = greatest(level, &self.rising);
            let Some(i) = self.rising.iter().position(|&gain| gain == largest) else { return step };
            let row = &self.kernel[i * size..(i + 1) * size];
            let (smallest, best) = second(level, largest, self.diagonal[i], row, &self.diagonal, &self.falling);
            if largest.is_infinite() || smallest.is_infinite() || largest - smallest < tolerance {
                return step;
            }
            let improvement =
                |t: usize| improvement(largest, self.diagonal[i], row[t], self.diagonal[t], self.falling[t]);
            let Some(j) = (0..size).find(|&t| improvement(t) == best) else { return step };
            let curvature = self.diagonal[i] + self.diagonal[j] - 2.0 * f64::from(row[j]);
            let curvature = if curvature > 0.0 { curvature } else { SMALLEST_CURVATURE };
            let wanted = (self.gains[i] - self.gains[j]) / curvature;
            let (room_i, room_j) = (self.highest[i] - self.coefficients[i], self.coefficients[j] - self.lowest[j]);
            let length = wanted.min(room_i).min(room_j);
            // A coefficient that meets its bound is the bound, to the last bit.
            self.coefficients[i] = if length >= room_i { self.highest[i] } else { self.coefficients[i] + length };
            self.coefficients[j] = if length >= room_j { self.lowest[j] } else { self.coefficients[j] - length };
            let (row_i, row_j) = (&self.kernel[i * size..(i + 1) * size], &self.kernel[j * size..(j + 1) * size]);
            advance(level, length, row_i, row_j, &mut self.gains, &mut self.rising, &mut self.falling);
            self.mark(i);
            self.mark(j);
        }
        limit
    }
}

vectorised! {
    /// The largest value.
    fn greatest(values: &[f64]) -> f64 {
        let mut lanes = [f64::NEG_INFINITY; 8];
        let chunks = values.chunks_exact(8);
        let rest = chunks.remainder().iter().fold(f64::NEG_INFINITY, |a, &b| if b > a { b } else { a });
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane = if value > *lane { value } else { *lane };
            }
        }
        lanes.iter().fold(rest, |a, &b| if b > a { b } else { a })
    }
}

/// Twice by how much the step of `i` with this row lowers the objective; 0 where there is no such step.
#[inline(always)]
fn improvement(largest: f64, diagonal_i: f64, kernel: f32, diagonal: f64, falling: f64) -> f64 {
    let curvature = diagonal_i + diagonal - 2.0 * f64::from(kernel);
    let curvature = if curvature > 0.0 { curvature } else { SMALLEST_CURVATURE };
    let difference = largest - falling;
    let difference = if difference > 0.0 { difference } else { 0.0 };
    difference * difference / curvature
}

vectorised! {
    /// The smallest gain among coefficients that may fall, and the largest improvement.
    fn second(largest: f64, diagonal_i: f64, row: &[f32], diagonal: &[f64], falling: &[f64]) -> (f64, f64) {
        let mut smallest = [f64::INFINITY; 8];
        let mut best = [0.0_f64; 8];
        let whole = falling.len() / 8 * 8;
        for start in (0..whole).step_by(8) {
            let (row, diagonal) = (&row[start..start + 8], &diagonal[start..start + 8]);
            let falling = &falling[start..start + 8];
            for lane in 0..8 {
                let gain = falling[lane];
                smallest[lane] = if gain < smallest[lane] { gain } else { smallest[lane] };
                let value = improvement(largest, diagonal_i, row[lane], diagonal[lane], gain);
                best[lane] = if value > best[lane] { value } else { best[lane] };
            }
        }
        for at in whole..falling.len() {
            smallest[0] = smallest[0].min(falling[at]);
            best[0] = best[0].max(improvement(largest, diagonal_i, row[at], diagonal[at], falling[at]));
        }
        (smallest.iter().copied().fold(f64::INFINITY, f64::min), best.iter().copied().fold(0.0, f64::max))
    }
}

vectorised! {
    /// Takes a step's change from the gains and from what is marked of them (infinities stay).
    fn advance(
        length: f64,
        row_i: &[f32],
        row_j: &[f32],
        gains: &mut [f64],
        rising: &mut [f64],
        falling: &mut [f64],
    ) {
        let kernels = row_i.iter().zip(row_j);
        for (((&i, &j), gain), (rising, falling)) in kernels.zip(gains).zip(rising.iter_mut().zip(falling)) {
            let change = length * (f64::from(i) - f64::from(j));
            *gain -= change;
            *rising = if *rising == f64::NEG_INFINITY { *rising } else { *gain };
            *falling = if *falling == f64::INFINITY { *falling } else { *gain };
        }
    }
}
