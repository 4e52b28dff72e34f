//! A depth-limited, exact decision tree on one column: shows how much a single field reveals of the class.
//!
//! With rows sorted by the column, every node of the tree is a contiguous range, so no table of columns is needed, and
//! equal inputs produce equal trees (published crates count classes in maps with random order, or draw columns at
//! random). Splits maximise the information gain (Quinlan, 1986), which prefers even splits among equally pure ones, so
//! that a limited depth separates many classes.

/// Number of levels of splits: at most 256 leaves.
pub const FIELD_TREE_DEPTH: usize = 8;

/// Smaller gains are rounding errors.
const MINIMUM_GAIN: f64 = 1e-9;

/// A fitted tree: its leaves with their largest code, ascending, and their class.
pub(super) struct ColumnTree {
    leaves: Vec<(u32, u32)>,
}

struct Growing<'a> {
    /// Codes and labels of the training rows, sorted.
    rows: &'a [(u32, u32)],
    classes: usize,
    /// `n ln n` for n from 0 to the number of rows.
    products: Vec<f64>,
    leaves: Vec<(u32, u32)>,
}

impl ColumnTree {
    /// Fits a tree to at least one pair of code and label; labels are below `classes`.
    pub(crate) fn fit(mut rows: Vec<(u32, u32)>, classes: usize, depth: usize) -> Self {
        rows.sort_unstable();
        let products = (0..=rows.len()).map(|n| if n == 0 { 0.0 } else { n as f64 * (n as f64).ln() }).collect();
        let mut growing = Growing { rows: &rows, classes, products, leaves: Vec::new() };
        growing.grow(0, rows.len(), depth, u32::MAX);
        Self { leaves: growing.leaves }
    }

    /// Returns the class predicted for a code.
    pub(crate) fn predict(&self, code: u32) -> u32 {
        let leaf = self.leaves.partition_point(|&(largest, _)| largest < code);
        self.leaves[leaf].1
    }
}

impl Growing<'_> {
    /// Grows the node of rows `start..end`, whose codes go up to `largest`.
    fn grow(&mut self, start: usize, end: usize, depth: usize, largest: u32) {
        let mut counts = vec![0_usize; self.classes];
        for &(_, label) in &self.rows[start..end] {
            counts[label as usize] += 1;
        }
        match if depth > 0 { self.best_split(start, end, &counts) } else { None } {
            Some(middle) => {
                let (below, above) = (self.rows[middle - 1].0, self.rows[middle].0);
                self.grow(start, middle, depth - 1, below + (above - below) / 2);
                self.grow(middle, end, depth - 1, largest);
            }
            None => {
                let mut class = 0;
                for (other, &count) in counts.iter().enumerate() {
                    if count > counts[class] {
                        class = other;
                    }
                }
                self.leaves.push((largest, class as u32));
            }
        }
    }

    /// Returns the first row of the right child for the split with the largest gain; the leftmost on ties.
    fn best_split(&self, start: usize, end: usize, counts: &[usize]) -> Option<usize> {
        let products = &self.products;
        let (mut left, mut right) = (vec![0_usize; self.classes], counts.to_vec());
        let (mut left_sum, mut right_sum) = (0.0, counts.iter().map(|&count| products[count]).sum::<f64>());
        let whole = right_sum - products[end - start];
        let mut best: Option<(f64, usize)> = None;
        for row in start..end - 1 {
            let (code, label) = self.rows[row];
            let (label, done) = (label as usize, row + 1 - start);
            left_sum += products[left[label] + 1] - products[left[label]];
            right_sum += products[right[label] - 1] - products[right[label]];
            left[label] += 1;
            right[label] -= 1;
            if self.rows[row + 1].0 == code {
                continue;
            }
            let gain = left_sum + right_sum - products[done] - products[end - start - done] - whole;
            if gain > best.map_or(0.0, |(gain, _)| gain) + MINIMUM_GAIN {
                best = Some((gain, row + 1));
            }
        }
        best.map(|(_, middle)| middle)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computes the gain of a split by definition: entropies from probabilities.
    fn gain(left: &[u32], right: &[u32]) -> f64 {
        let entropy = |labels: &[u32]| {
            let share =
                |class: u32| labels.iter().filter(|&&label| label == class).count() as f64 / labels.len() as f64;
            (0..4).map(share).filter(|&share| share > 0.0).map(|share| -share * share.ln()).sum::<f64>()
        };
        let both = [left, right].concat();
        entropy(&both) * both.len() as f64 - entropy(left) * left.len() as f64 - entropy(right) * right.len() as f64
    }

    proptest! {
        #[test]
        fn one_split_is_the_best_of_all(rows in prop::collection::vec((0u32..12, 0u32..4), 2..40)) {
            let tree = ColumnTree::fit(rows.clone(), 4, 1);
            let gain_at = |largest: u32| {
                let side = |left: bool| -> Vec<u32> {
                    rows.iter().filter(|(code, _)| (*code <= largest) == left).map(|(_, label)| *label).collect()
                };
                let (left, right) = (side(true), side(false));
                if left.is_empty() || right.is_empty() { 0.0 } else { gain(&left, &right) }
            };
            let best = (0..12).map(gain_at).fold(0.0, f64::max);
            match tree.leaves.as_slice() {
                [_] => prop_assert!(best <= 1e-6),
                [(largest, _), _] => prop_assert!((gain_at(*largest) - best).abs() < 1e-6),
                more => prop_assert!(false, "{} leaves of one split", more.len()),
            }
        }

        #[test]
        fn a_deep_tree_knows_every_code_by_heart(labels in prop::collection::vec(0u32..4, 1..200)) {
            let rows: Vec<(u32, u32)> = labels.iter().enumerate().map(|(code, &label)| (code as u32 * 3, label)).collect();
            let tree = ColumnTree::fit(rows.clone(), 4, usize::MAX);
            for (code, label) in rows {
                prop_assert_eq!(tree.predict(code), label);
            }
            tree.predict(u32::MAX);
        }
    }

    #[test]
    fn the_depth_bounds_the_leaves() {
        let rows: Vec<(u32, u32)> = (0..1000).map(|code| (code, code % 2)).collect();
        assert!(ColumnTree::fit(rows, 2, 3).leaves.len() <= 8);
        // Sixteen classes in a row need four levels, not fifteen.
        let rows: Vec<(u32, u32)> = (0..160).map(|code| (code, code / 10)).collect();
        let tree = ColumnTree::fit(rows.clone(), 16, 4);
        assert!(rows.iter().all(|&(code, label)| tree.predict(code) == label));
    }
}
