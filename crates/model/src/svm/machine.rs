//! A fitted machine: support vectors and, for every pair of classes, coefficients and an offset. Turns margins into
//! votes, scores and probabilities, and stores the machine in a model's file.

use ndarray::Array2;
use rayon::prelude::*;

use super::kernel::{Kernel, KernelRows};
use super::options::{Gamma, SvmParameters};
use super::probability::{Sigmoid, couple};
use crate::classical::softmax;
use crate::{ModelArchive, ModelError, stored};

/// A fitted machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OneAgainstOne {
    pub(super) kernel: Kernel,
    pub(super) classes: usize,
    /// Rows with a coefficient in at least one pair, shape `[vectors, columns]`, ordered by class.
    pub(super) vectors: Array2<f32>,
    /// Index of the first vector of each class, and the end.
    pub(super) starts: Vec<usize>,
    /// For each pair (0,1), (0,2), ..., (1,2), ...: the coefficients of the first class's vectors, then of the
    /// second's.
    pub(super) coefficients: Vec<f64>,
    /// One offset per pair.
    pub(super) offsets: Vec<f64>,
    /// One sigmoid per pair; empty if probabilities are the softmax of scores.
    pub(super) sigmoids: Vec<Sigmoid>,
}

/// Number of rows that one task predicts.
const PREDICTION_BLOCK: usize = 64;

/// Returns all pairs of classes in order.
pub(super) fn pairs(classes: usize) -> Vec<(usize, usize)> {
    (0..classes).flat_map(|first| (first + 1..classes).map(move |second| (first, second))).collect()
}

/// Returns the inner product of coefficients and kernel values, in eight lanes, in a fixed order.
fn expansion(coefficients: &[f64], kernel: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; 8];
    let (heads, tails) = (coefficients.chunks_exact(8), kernel.chunks_exact(8));
    let rest: f64 = heads.remainder().iter().zip(tails.remainder()).map(|(&c, &k)| c * f64::from(k)).sum();
    for (c, k) in heads.zip(tails) {
        for (lane, (&c, &k)) in lanes.iter_mut().zip(c.iter().zip(k)) {
            *lane += c * f64::from(k);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

impl OneAgainstOne {
    /// Returns probabilities, shape `[rows, classes]`.
    pub(crate) fn probabilities(&self, matrix: &Array2<f32>) -> Array2<f32> {
        let depth = matrix.ncols();
        let mut probabilities = Array2::zeros((matrix.nrows(), self.classes));
        let vectors = self.vectors.as_slice().expect("matrices are row-major");
        let vectors = KernelRows::new(vectors, depth);
        let rows = matrix.as_slice().expect("matrices are row-major");
        let target = probabilities.as_slice_mut().expect("matrices are row-major");
        let pairs = pairs(self.classes);
        target.par_chunks_mut(PREDICTION_BLOCK * self.classes).zip(rows.par_chunks(PREDICTION_BLOCK * depth)).for_each(
            |(target, rows)| {
                let rows = KernelRows::new(rows, depth);
                let mut kernel = vec![0.0; rows.len() * vectors.len()];
                self.kernel.block(&rows, &vectors, &mut kernel);
                let mut margins = vec![0.0; self.offsets.len()];
                let mut scores = vec![0.0; self.classes];
                for (row, target) in target.chunks_exact_mut(self.classes).enumerate() {
                    self.margins(&pairs, &kernel[row * vectors.len()..(row + 1) * vectors.len()], &mut margins);
                    if self.sigmoids.is_empty() {
                        self.scores(&pairs, &margins, &mut scores);
                        softmax(&scores, target);
                    } else {
                        couple(&pairs, &self.sigmoids, &margins, target);
                    }
                }
            },
        );
        probabilities
    }

    /// Computes the margin of every pair from one row's kernel values with all vectors; positive for the first class.
    fn margins(&self, pairs: &[(usize, usize)], kernel: &[f32], margins: &mut [f64]) {
        let mut coefficients = self.coefficients.as_slice();
        for ((margin, &offset), &(first, second)) in margins.iter_mut().zip(&self.offsets).zip(pairs) {
            let mut sum = 0.0;
            for class in [first, second] {
                let vectors = &kernel[self.starts[class]..self.starts[class + 1]];
                let (own, rest) = coefficients.split_at(vectors.len());
                coefficients = rest;
                sum += expansion(own, vectors);
            }
            *margin = sum - offset;
        }
    }

    /// Computes one score per class; see the module's documentation.
    fn scores(&self, pairs: &[(usize, usize)], margins: &[f64], scores: &mut [f64]) {
        let mut votes = vec![0_u32; self.classes];
        let mut sums = vec![0.0; self.classes];
        for (&margin, &(first, second)) in margins.iter().zip(pairs) {
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

    /// Stores the fitted state.
    pub(crate) fn write(&self, archive: &mut ModelArchive) {
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
        let sigmoids: Vec<f64> = self.sigmoids.iter().flat_map(|sigmoid| [sigmoid.slope, sigmoid.shift]).collect();
        stored::put_f64s(archive, "sigmoids", &sigmoids);
    }

    /// Restores a machine stored by [`OneAgainstOne::write`].
    ///
    /// # Errors
    /// Missing or contradictory entries.
    pub(crate) fn read(
        parameters: &SvmParameters,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
        with_sigmoids: bool,
    ) -> Result<Self, ModelError> {
        let gamma = match stored::f64s(archive, "gamma")? {
            [gamma] => Gamma::Value(*gamma),
            _ => return Err(stored::broken("tensor gamma must be a single number")),
        };
        let vectors = stored::matrix(archive, "vectors", columns)?;
        let kernel = SvmParameters { gamma, ..parameters.clone() }.kernel(&vectors);
        let starts: Vec<usize> = stored::u32s(archive, "class_starts")?.iter().map(|&start| start as usize).collect();
        let ordered = starts.windows(2).all(|pair| pair[0] <= pair[1]);
        if starts.len() != classes + 1 || !ordered || starts[0] != 0 || starts[classes] != vectors.nrows() {
            return Err(stored::broken("tensor class_starts does not match the support vectors"));
        }
        let coefficients = stored::f64s(archive, "coefficients")?.to_vec();
        let offsets = stored::f64s(archive, "offsets")?.to_vec();
        let count = pairs(classes).len();
        if offsets.len() != count || coefficients.len() != (classes - 1) * vectors.nrows() {
            return Err(stored::broken("the coefficients do not match the support vectors"));
        }
        let sigmoids = stored::f64s(archive, "sigmoids")?;
        if sigmoids.len() != if with_sigmoids { 2 * count } else { 0 } {
            return Err(stored::broken("tensor sigmoids does not match the pairs of classes"));
        }
        let sigmoids = sigmoids.chunks_exact(2).map(|pair| Sigmoid { slope: pair[0], shift: pair[1] }).collect();
        Ok(Self { kernel, classes, vectors, starts, coefficients, offsets, sigmoids })
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
            sigmoids: Vec::new(),
        };
        // 0 beats 1, 2 beats 0, and 1 beats 2 by far: one vote each.
        let mut scores = vec![0.0; 3];
        machine.scores(&pairs(3), &[0.1, -0.2, 9.0], &mut scores);
        let mut probabilities = vec![0.0; 3];
        softmax(&scores, &mut probabilities);
        assert!(probabilities[0] > probabilities[1] && probabilities[1] > probabilities[2]);
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
