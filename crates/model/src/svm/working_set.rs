//! A working set: the few coefficients of a two-class problem that are optimised at a time, by sequential minimal
//! optimisation with second-order selection of pairs. Everything that a step reads is contiguous.

use super::cache::RowCache;
use super::solver::State;
use crate::deep::fast::cpu::simd::{Level, vectorised};

/// Replaces a curvature that is not positive, as in libsvm.
const SMALLEST_CURVATURE: f64 = 1e-12;

/// A working set and everything that its optimisation reads.
pub(super) struct WorkingSet {
    coefficients: Vec<f64>,
    lowest: Vec<f64>,
    highest: Vec<f64>,
    gains: Vec<f64>,
    diagonal: Vec<f64>,
    /// Kernel values of all pairs, row-major.
    kernel: Vec<f32>,
    /// Gains of coefficients that may rise, otherwise minus infinity.
    rising: Vec<f64>,
    /// Gains of coefficients that may fall, otherwise infinity.
    falling: Vec<f64>,
}

impl WorkingSet {
    /// Builds the working set of these rows, which the cache must have just loaded.
    pub(super) fn new(state: &State, set: &[usize], cache: &RowCache<'_>) -> Self {
        let select = |values: &[f64]| set.iter().map(|&row| values[row]).collect::<Vec<f64>>();
        let mut local = Self {
            coefficients: select(&state.coefficients),
            lowest: select(&state.lowest),
            highest: select(&state.highest),
            gains: select(&state.gains),
            diagonal: select(&state.diagonal),
            kernel: cache.pairs(set),
            rising: vec![0.0; set.len()],
            falling: vec![0.0; set.len()],
        };
        (0..set.len()).for_each(|row| local.mark(row));
        local
    }

    /// Returns the coefficients, in the order of the set.
    pub(super) fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    fn mark(&mut self, row: usize) {
        let (coefficient, gain) = (self.coefficients[row], self.gains[row]);
        self.rising[row] = if coefficient < self.highest[row] { gain } else { f64::NEG_INFINITY };
        self.falling[row] = if coefficient > self.lowest[row] { gain } else { f64::INFINITY };
    }

    /// Takes steps until the violation is below the tolerance, and returns their number.
    pub(super) fn solve(&mut self, level: Level, tolerance: f64, limit: u64) -> u64 {
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
            // A coefficient that reaches its bound equals the bound exactly.
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
    /// Returns the largest value.
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

/// Returns twice the amount by which the step of `i` with this row lowers the objective; 0 if there is no such step.
#[inline(always)]
fn improvement(largest: f64, diagonal_i: f64, kernel: f32, diagonal: f64, falling: f64) -> f64 {
    let curvature = diagonal_i + diagonal - 2.0 * f64::from(kernel);
    let curvature = if curvature > 0.0 { curvature } else { SMALLEST_CURVATURE };
    let difference = largest - falling;
    let difference = if difference > 0.0 { difference } else { 0.0 };
    difference * difference / curvature
}

vectorised! {
    /// Returns the smallest gain among coefficients that may fall, and the largest improvement.
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
    /// Subtracts a step's change from the gains and updates the marks (infinities stay).
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
