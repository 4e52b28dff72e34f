//! Solves one two-class problem by decomposition: a small working set of the coefficients is optimised at a time, by
//! sequential minimal optimisation with second-order selection of pairs (Fan, Chen and Lin, "Working set selection
//! using second order information", JMLR 6, 2005, WSS 2), as libsvm does on all rows.
//!
//! Minimises `1/2 b'Kb - y'b` over `b` with `sum(b) = 0` and `b_i` between 0 and `y_i C_i`, where `b_i = y_i a_i` of
//! the usual dual, until the largest violation of the optimality conditions over all rows is below the tolerance:
//! libsvm's criterion. The working set consists of the rows with the largest violation in either direction (Joachims,
//! "Making large-scale SVM learning practical", 1998) and the newer half of the previous set. The cost of a step
//! depends on the number of rows in the working set rather than in the problem, and kernel rows are computed many at a
//! time, by matrix products.
//!
//! If the kernel rows of a problem do not fit into memory, rows whose coefficient is at its bound and likely to stay
//! there are shelved (Joachims; "shrinking"): kernel rows are then shorter, and more of them fit. Near the end, and
//! again at the end, the gains of the shelved rows are brought up to date, so that the criterion covers all rows.

use rayon::prelude::*;

use super::cache::RowCache;
use super::kernel::{Columns, Kernel, PairRows, Wanted};
use super::working_set::WorkingSet;
use crate::deep::fast::cpu::simd::Level;

/// A two-class problem.
pub(super) struct Problem<'a> {
    /// Rows of the class +1, then of the class -1.
    pub rows: &'a PairRows<'a>,
    /// Upper bounds of the coefficients of each class.
    pub costs: (f64, f64),
    /// Maximum violation at which to stop.
    pub tolerance: f64,
    /// Maximum number of steps.
    pub maximum_iterations: u64,
    /// Memory for kernel rows, in bytes.
    pub cache_bytes: usize,
}

/// The solution of a two-class problem: `f(x) = sum_i coefficients_i K(x_i, x) - rho`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Solution {
    /// `y_i a_i` per row.
    pub coefficients: Vec<f64>,
    /// The offset.
    pub rho: f64,
    /// Number of steps taken.
    pub iterations: u64,
    /// Whether the tolerance was reached.
    pub converged: bool,
}

/// Maximum number of rows in a working set.
const LARGEST_SET: usize = 512;
/// Minimum number, if the problem and the memory have as many.
const SMALLEST_SET: usize = 64;
/// Rows are shelved once at least one in this many can be.
const WORTH_SHELVING: usize = 8;
/// The shelved rows are reconsidered when the violation is below this many times the tolerance.
const NEAR: f64 = 10.0;

/// The coefficients of some rows, with their bounds and gains.
#[derive(Debug, Default)]
pub(super) struct State {
    pub coefficients: Vec<f64>,
    pub lowest: Vec<f64>,
    pub highest: Vec<f64>,
    /// `y_i - sum_j b_j K_ij`: by how much raising `b_i` lowers the objective.
    pub gains: Vec<f64>,
    /// The kernel of every row with itself.
    pub diagonal: Vec<f64>,
    /// Indices in the problem, ascending.
    rows: Vec<u32>,
}

/// Rows whose coefficients are frozen for now.
struct Shelf {
    rows: State,
    /// The coefficients of all rows of the problem when the gains were computed.
    coefficients: Vec<f64>,
}

impl State {
    /// Returns the state of all rows of a problem, with coefficients of 0.
    fn new(problem: &Problem<'_>, kernel: Kernel) -> Self {
        let rows = problem.rows;
        let (size, boundary) = (rows.len(), rows.first.len());
        let by_side =
            |first: f64, second: f64| (0..size).map(|row| if row < boundary { first } else { second }).collect();
        Self {
            coefficients: vec![0.0; size],
            lowest: by_side(0.0, -problem.costs.1),
            highest: by_side(problem.costs.0, 0.0),
            gains: by_side(1.0, -1.0),
            diagonal: [rows.first, rows.second].into_iter().flat_map(|rows| kernel.diagonal(rows)).collect(),
            rows: (0..size as u32).collect(),
        }
    }

    /// Returns the number of rows.
    fn len(&self) -> usize {
        self.gains.len()
    }

    fn may_rise(&self, row: usize) -> bool {
        self.coefficients[row] < self.highest[row]
    }

    fn may_fall(&self, row: usize) -> bool {
        self.coefficients[row] > self.lowest[row]
    }

    /// Returns the largest gain of a coefficient that may rise and the smallest of one that may fall. Their difference
    /// is the largest violation of the optimality conditions.
    fn extremes(&self) -> (f64, f64) {
        let rows = 0..self.len();
        let rise = rows.clone().filter(|&row| self.may_rise(row)).map(|row| self.gains[row]);
        let fall = rows.filter(|&row| self.may_fall(row)).map(|row| self.gains[row]);
        (rise.fold(f64::NEG_INFINITY, f64::max), fall.fold(f64::INFINITY, f64::min))
    }

    /// Returns whether a coefficient is at a bound and no other gain would move it away, by libsvm's rule.
    fn is_settled(&self, row: usize, (rise, fall): (f64, f64)) -> bool {
        !self.may_rise(row) && self.gains[row] > rise || !self.may_fall(row) && self.gains[row] < fall
    }

    /// Returns the offset: the negated mean gain of the coefficients strictly between their bounds; if there are none,
    /// the middle of the interval that the others allow.
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

    /// Returns the state of some of the rows.
    fn select(&self, places: &[u32]) -> Self {
        let selected = |values: &[f64]| places.iter().map(|&place| values[place as usize]).collect::<Vec<f64>>();
        Self {
            coefficients: selected(&self.coefficients),
            lowest: selected(&self.lowest),
            highest: selected(&self.highest),
            gains: selected(&self.gains),
            diagonal: selected(&self.diagonal),
            rows: places.iter().map(|&place| self.rows[place as usize]).collect(),
        }
    }

    /// Merges these rows with others, in the order of their indices.
    fn join(self, others: Self) -> Self {
        let mut all = self;
        all.coefficients.extend(others.coefficients);
        all.lowest.extend(others.lowest);
        all.highest.extend(others.highest);
        all.gains.extend(others.gains);
        all.diagonal.extend(others.diagonal);
        all.rows.extend(others.rows);
        let mut order: Vec<u32> = (0..all.rows.len() as u32).collect();
        order.sort_unstable_by_key(|&place| all.rows[place as usize]);
        all.select(&order)
    }
}

/// The state of solving a problem.
struct Search<'a> {
    problem: &'a Problem<'a>,
    kernel: Kernel,
    level: Level,
    /// The rows that are not shelved.
    state: State,
    shelves: Vec<Shelf>,
    cache: RowCache<'a>,
    /// The working set, oldest rows first, as indices into `state`.
    set: Vec<usize>,
    /// All coefficients by row index; for rows that are not shelved, the values when rows were last shelved.
    coefficients: Vec<f64>,
}

/// Solves one problem.
pub(super) fn solve(problem: &Problem<'_>, kernel: Kernel) -> Solution {
    let mut search = Search::new(problem, kernel);
    let mut iterations = 0;
    let mut converged = false;
    let mut looked_again = false;
    while iterations < problem.maximum_iterations {
        let extremes = search.state.extremes();
        let violation = extremes.0 - extremes.1;
        if violation < problem.tolerance && search.shelves.is_empty() {
            converged = true;
            break;
        }
        if violation < problem.tolerance || violation < NEAR * problem.tolerance && !looked_again {
            looked_again = true;
            if search.unshelve() {
                continue;
            }
        }
        if search.shelve(extremes) {
            continue;
        }
        search.choose();
        match search.optimise(violation, problem.maximum_iterations - iterations) {
            Some(steps) => iterations += steps,
            // The steps are too small for a 64-bit float: no working set makes progress, except with shelved rows.
            None if search.unshelve() => {}
            None => break,
        }
    }
    search.unshelve();
    let rho = search.state.offset();
    Solution { coefficients: search.state.coefficients, rho, iterations, converged }
}

impl<'a> Search<'a> {
    fn new(problem: &'a Problem<'a>, kernel: Kernel) -> Self {
        let state = State::new(problem, kernel);
        Self {
            problem,
            kernel,
            level: Level::detect(),
            coefficients: vec![0.0; state.len()],
            state,
            shelves: Vec::new(),
            cache: RowCache::new(kernel, problem.rows, problem.cache_bytes),
            set: Vec::new(),
        }
    }

    /// Returns the maximum number of rows in a working set.
    fn most(&self) -> usize {
        let size = self.state.len();
        (size / 4).clamp(SMALLEST_SET, LARGEST_SET).min(self.cache.capacity()).min(size)
    }

    /// Shelves the settled rows if there are enough, and returns whether it did.
    fn shelve(&mut self, extremes: (f64, f64)) -> bool {
        let size = self.state.len();
        if self.cache.capacity() >= size || size <= LARGEST_SET {
            return false;
        }
        let settled = (0..size).filter(|&row| self.state.is_settled(row, extremes)).count();
        if settled < size.div_ceil(WORTH_SHELVING) {
            return false;
        }
        let (leaving, staying): (Vec<u32>, Vec<u32>) =
            (0..size as u32).partition(|&row| self.state.is_settled(row as usize, extremes));
        self.record();
        self.shelves.push(Shelf { rows: self.state.select(&leaving), coefficients: self.coefficients.clone() });
        let in_set: Vec<u32> = self.set.iter().map(|&place| self.state.rows[place]).collect();
        self.state = self.state.select(&staying);
        self.set = in_set.iter().filter_map(|row| self.state.rows.binary_search(row).ok()).collect();
        self.cache.narrow(&staying);
        true
    }

    /// Records the coefficients of the rows that are not shelved.
    fn record(&mut self) {
        for (&row, &coefficient) in self.state.rows.iter().zip(&self.state.coefficients) {
            self.coefficients[row as usize] = coefficient;
        }
    }

    /// Returns all shelved rows to the state after bringing their gains up to date; returns whether there were any.
    fn unshelve(&mut self) -> bool {
        if self.shelves.is_empty() {
            return false;
        }
        self.record();
        let in_set: Vec<u32> = self.set.iter().map(|&place| self.state.rows[place]).collect();
        for mut shelf in std::mem::take(&mut self.shelves) {
            let changed: Vec<u32> = (0..self.coefficients.len() as u32)
                .filter(|&row| self.coefficients[row as usize] != shelf.coefficients[row as usize])
                .collect();
            let change = |row: u32| self.coefficients[row as usize] - shelf.coefficients[row as usize];
            let changes: Vec<f64> = changed.iter().map(|&row| change(row)).collect();
            let wanted = Wanted::new(self.problem.rows, &changed);
            let width = Columns::width(self.problem.rows.first.depth());
            shelf.rows.gains.par_chunks_mut(width).zip(shelf.rows.rows.par_chunks(width)).for_each_init(
                Columns::default,
                |columns, (gains, rows)| {
                    columns.take(self.problem.rows, rows);
                    self.kernel.rows(self.level, &wanted, columns, |row, values| {
                        for (gain, &value) in gains.iter_mut().zip(values) {
                            *gain -= changes[row] * f64::from(value);
                        }
                    });
                },
            );
            self.state = std::mem::take(&mut self.state).join(shelf.rows);
        }
        self.set = in_set.iter().filter_map(|row| self.state.rows.binary_search(row).ok()).collect();
        self.cache.restart(self.state.rows.clone());
        true
    }

    /// Optimises the working set and updates every gain; returns the number of steps, or `None` if nothing changed.
    fn optimise(&mut self, violation: f64, limit: u64) -> Option<u64> {
        self.cache.load(self.level, &self.set);
        let wanted = self.problem.tolerance;
        // Far from the end, solving a working set exactly is wasted on the next one.
        let tolerance = if self.set.len() == self.problem.rows.len() { wanted } else { wanted.max(0.1 * violation) };
        let mut local = WorkingSet::new(&self.state, &self.set, &self.cache);
        let steps = local.solve(self.level, tolerance, limit);
        let mut changes = Vec::with_capacity(self.set.len());
        for (&row, &coefficient) in self.set.iter().zip(local.coefficients()) {
            let change = coefficient - self.state.coefficients[row];
            self.state.coefficients[row] = coefficient;
            if change != 0.0 {
                changes.push((change, row));
            }
        }
        self.cache.subtract(self.level, &changes, &mut self.state.gains);
        (!changes.is_empty()).then_some(steps)
    }

    /// Replaces the working set with the next one.
    fn choose(&mut self) {
        let (most, size) = (self.most(), self.state.len());
        let (state, set) = (&self.state, &mut self.set);
        if most == size {
            *set = (0..size).collect();
            return;
        }
        if set.is_empty() {
            // At the start, all rows of a class have the same violation: spread the choice over both classes.
            let boundary = state.rows.partition_point(|&row| (row as usize) < self.problem.rows.first.len());
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
        // Half of the room for each direction; this way the most violating row of each is in the set.
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
}

#[cfg(test)]
mod tests {
    use super::super::kernel::KernelRows;
    use super::*;

    const DEPTH: usize = 4;
    const KERNEL: Kernel = Kernel::Rbf { gamma: 0.8 };

    /// Rows of two overlapping classes, so that many coefficients end at their bound.
    fn overlapping(first: usize, second: usize) -> Vec<f32> {
        let hash = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let value = |i: usize| hash(i) as f32 / (1 << 23) as f32 - 1.0;
        let shift = |row: usize| if row < first { 0.0 } else { 0.5 };
        (0..(first + second) * DEPTH).map(|i| value(i + 1) + shift(i / DEPTH)).collect()
    }

    /// Returns the gains of all rows, computed from the definition.
    fn gains(values: &[f32], first: usize, coefficients: &[f64]) -> Vec<f64> {
        let rows = KernelRows::new(values, DEPTH);
        let mut kernel = vec![0.0; rows.len() * rows.len()];
        KERNEL.block(&rows, &rows, &mut kernel);
        let gain = |(row, kernel): (usize, &[f32])| {
            let sum: f64 = kernel.iter().zip(coefficients).map(|(&k, c)| f64::from(k) * c).sum();
            if row < first { 1.0 - sum } else { -1.0 - sum }
        };
        kernel.chunks_exact(rows.len()).enumerate().map(gain).collect()
    }

    #[test]
    fn shelved_rows_return_with_the_changes_made_meanwhile() {
        let (first, second) = (900, 1100);
        let values = overlapping(first, second);
        let (a, b) = values.split_at(first * DEPTH);
        let (a, b) = (KernelRows::new(a, DEPTH), KernelRows::new(b, DEPTH));
        let rows = PairRows { first: &a, second: &b };
        let problem = Problem {
            rows: &rows,
            costs: (2.0, 1.0),
            tolerance: 1e-3,
            maximum_iterations: 1 << 40,
            cache_bytes: 100 * 4 * rows.len(),
        };
        let mut search = Search::new(&problem, KERNEL);
        let mut shelved = 0;
        for _ in 0..1000 {
            let extremes = search.state.extremes();
            shelved += usize::from(search.shelve(extremes));
            if shelved == 3 {
                break;
            }
            search.choose();
            search.optimise(extremes.0 - extremes.1, u64::MAX);
        }
        assert_eq!((shelved, search.shelves.len()), (3, 3));
        assert!(search.state.len() < rows.len() * 7 / 10, "{}", search.state.len());
        search.choose();
        search.optimise(1.0, u64::MAX);
        assert!(search.unshelve() && !search.unshelve());
        assert_eq!(search.state.rows, (0..rows.len() as u32).collect::<Vec<u32>>());
        let wanted = gains(&values, first, &search.state.coefficients);
        for (found, wanted) in search.state.gains.iter().zip(&wanted) {
            assert!((found - wanted).abs() < 1e-4, "{found} {wanted}");
        }
    }

    #[test]
    fn all_rows_meet_the_criterion_whatever_the_memory_and_the_threads() {
        let (first, second, tolerance) = (1000, 1300, 1e-3);
        let values = overlapping(first, second);
        let (a, b) = values.split_at(first * DEPTH);
        let (a, b) = (KernelRows::new(a, DEPTH), KernelRows::new(b, DEPTH));
        let rows = PairRows { first: &a, second: &b };
        for kept in [6, 150, 100_000] {
            let costs = (1.5, 3.0);
            let cache_bytes = kept * 4 * rows.len();
            let problem = Problem { rows: &rows, costs, tolerance, maximum_iterations: 1 << 40, cache_bytes };
            let [one, three] = [1, 3].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| solve(&problem, KERNEL))
            });
            assert!(one.converged);
            assert_eq!(one, three);
            let mut state = State::new(&problem, KERNEL);
            state.gains = gains(&values, first, &one.coefficients);
            state.coefficients = one.coefficients;
            let (rise, fall) = state.extremes();
            assert!(rise - fall < tolerance + 1e-4, "{rise} {fall}");
            assert!((state.offset() - one.rho).abs() < 1e-4);
        }
    }
}
