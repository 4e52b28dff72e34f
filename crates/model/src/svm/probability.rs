//! Probabilities from margins: Platt's sigmoid for every pair of classes, and the class probabilities that agree best
//! with those of the pairs.

/// `p(first class | margin) = 1 / (1 + exp(slope * margin + shift))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sigmoid {
    /// Negative if a larger margin favours the first class.
    pub slope: f64,
    /// 0 if a margin of 0 means one half.
    pub shift: f64,
}

impl Sigmoid {
    /// Fits the sigmoid to margins of rows that the machine was not fitted on, by Newton's method with backtracking
    /// (Lin, Lin and Weng, "A note on Platt's probabilistic outputs for support vector machines", Machine Learning 68,
    /// 2007), with Platt's targets `(n + 1) / (n + 2)` and `1 / (m + 2)`.
    pub(super) fn fit(margins: &[f64], is_first: &[bool]) -> Self {
        let firsts = is_first.iter().filter(|first| **first).count() as f64;
        let seconds = is_first.len() as f64 - firsts;
        let (high, low) = ((firsts + 1.0) / (firsts + 2.0), 1.0 / (seconds + 2.0));
        let targets: Vec<f64> = is_first.iter().map(|&first| if first { high } else { low }).collect();
        // The cross entropy, written so that no exponential overflows.
        let loss = |sigmoid: Self| -> f64 {
            let terms = margins.iter().zip(&targets).map(|(margin, target)| {
                let z = sigmoid.slope * margin + sigmoid.shift;
                if z >= 0.0 { target * z + (-z).exp().ln_1p() } else { (target - 1.0) * z + z.exp().ln_1p() }
            });
            terms.sum()
        };
        let mut sigmoid = Self { slope: 0.0, shift: ((seconds + 1.0) / (firsts + 1.0)).ln() };
        let mut value = loss(sigmoid);
        for _ in 0..100 {
            // A small ridge keeps the Hessian regular.
            let (mut aa, mut bb, mut ab, mut a, mut b) = (1e-12, 1e-12, 0.0, 0.0, 0.0);
            for (margin, target) in margins.iter().zip(&targets) {
                let p = sigmoid.of(*margin);
                let curvature = p * (1.0 - p);
                let difference = target - p;
                aa += margin * margin * curvature;
                bb += curvature;
                ab += margin * curvature;
                a += margin * difference;
                b += difference;
            }
            if a.abs() < 1e-5 && b.abs() < 1e-5 {
                break;
            }
            let determinant = aa * bb - ab * ab;
            let (step_a, step_b) = (-(bb * a - ab * b) / determinant, -(aa * b - ab * a) / determinant);
            let descent = a * step_a + b * step_b;
            let mut length = 1.0;
            loop {
                let next = Self { slope: sigmoid.slope + length * step_a, shift: sigmoid.shift + length * step_b };
                let next_value = loss(next);
                if next_value < value + 1e-4 * length * descent {
                    (sigmoid, value) = (next, next_value);
                    break;
                }
                length /= 2.0;
                if length < 1e-10 {
                    return sigmoid;
                }
            }
        }
        sigmoid
    }

    /// Returns the probability of the first class.
    pub(super) fn of(self, margin: f64) -> f64 {
        let z = self.slope * margin + self.shift;
        if z >= 0.0 { (-z).exp() / (1.0 + (-z).exp()) } else { 1.0 / (1.0 + z.exp()) }
    }
}

/// Computes the class probabilities: the minimum of `sum_{i != j} (r_ji p_i - r_ij p_j)^2` with sum 1, where `r_ij` is
/// the pair's probability of i (Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise
/// coupling", JMLR 5, 2004, the second method), by their iteration.
pub(super) fn couple(pairs: &[(usize, usize)], sigmoids: &[Sigmoid], margins: &[f64], probabilities: &mut [f32]) {
    const MINIMUM: f64 = 1e-7;
    let classes = probabilities.len();
    let mut pairwise = vec![0.0; classes * classes];
    for ((&(first, second), sigmoid), &margin) in pairs.iter().zip(sigmoids).zip(margins) {
        let p = sigmoid.of(margin).clamp(MINIMUM, 1.0 - MINIMUM);
        pairwise[first * classes + second] = p;
        pairwise[second * classes + first] = 1.0 - p;
    }
    let r = |i: usize, j: usize| pairwise[i * classes + j];
    let mut quadratic = vec![0.0; classes * classes];
    for i in 0..classes {
        for j in 0..classes {
            quadratic[i * classes + j] = if i == j {
                (0..classes).filter(|&other| other != i).map(|other| r(other, i) * r(other, i)).sum()
            } else {
                -r(j, i) * r(i, j)
            };
        }
    }
    let mut p = vec![1.0 / classes as f64; classes];
    let rounds = classes.max(100);
    let stop = 0.005 / classes as f64;
    for _ in 0..rounds {
        let mut product: Vec<f64> =
            quadratic.chunks_exact(classes).map(|row| row.iter().zip(&p).map(|(q, p)| q * p).sum()).collect();
        let mut whole: f64 = p.iter().zip(&product).map(|(p, product)| p * product).sum();
        if product.iter().all(|product| (product - whole).abs() < stop) {
            break;
        }
        for t in 0..classes {
            let diagonal = quadratic[t * classes + t];
            let change = (whole - product[t]) / diagonal;
            p[t] += change;
            whole = (whole + change * (change * diagonal + 2.0 * product[t])) / (1.0 + change) / (1.0 + change);
            for j in 0..classes {
                product[j] = (product[j] + change * quadratic[t * classes + j]) / (1.0 + change);
                p[j] /= 1.0 + change;
            }
        }
    }
    let sum: f64 = p.iter().sum();
    for (probability, p) in probabilities.iter_mut().zip(p) {
        *probability = (p / sum) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sigmoid_recovers_the_line_behind_the_labels() {
        // Labels drawn with p = 1 / (1 + exp(-2 m + 1)), at quantiles instead of at random.
        let (mut margins, mut is_first) = (Vec::new(), Vec::new());
        for step in -40..=40 {
            let margin = f64::from(step) / 10.0;
            let p = 1.0 / (1.0 + (-2.0 * margin + 1.0).exp());
            for draw in 0..200 {
                margins.push(margin);
                is_first.push((f64::from(draw) + 0.5) / 200.0 < p);
            }
        }
        let sigmoid = Sigmoid::fit(&margins, &is_first);
        assert!((sigmoid.slope + 2.0).abs() < 0.02 && (sigmoid.shift - 1.0).abs() < 0.02, "{sigmoid:?}");
        assert!((sigmoid.of(0.5) - 0.5).abs() < 0.01 && sigmoid.of(1e9) == 1.0 && sigmoid.of(-1e9) == 0.0);
    }

    #[test]
    fn coupling_recovers_the_probabilities_behind_the_pairs() {
        let wanted = [0.5, 0.3, 0.15, 0.05];
        let pairs = super::super::machine::pairs(4);
        let unit = Sigmoid { slope: -1.0, shift: 0.0 };
        let margins: Vec<f64> = pairs.iter().map(|&(i, j)| f64::ln(wanted[i] / wanted[j])).collect();
        let mut found = [0.0; 4];
        couple(&pairs, &[unit; 6], &margins, &mut found);
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((f64::from(*found) - wanted).abs() < 5e-3, "{found} {wanted}");
        }
    }
}
