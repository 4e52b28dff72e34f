//! Permutation importances (Breiman, "Random forests", 2001, section 10): by how much a tree's accuracy on the rows
//! that it did not see drops when the values of one column are shuffled among those rows, averaged over trees and
//! repetitions. Unlike the decrease of impurity, it does not favour columns with many values.

use rand::RngExt;
use rayon::prelude::*;

use super::tree::{LEAF, Tree};
use crate::classical::Rows;
use etcbench_storage::seed;

/// Returns the mean drop of accuracy per column; `bags` has a bit set for every row that a tree saw.
pub(super) fn permutation_importances(
    trees: &[Tree],
    bags: &[Vec<u64>],
    training: &Rows,
    repeats: usize,
    seed: u64,
) -> Vec<f64> {
    let columns = training.matrix.ncols();
    let drops: Vec<Vec<(u32, f64)>> = (0..trees.len())
        .into_par_iter()
        .map(|number| {
            let (tree, seen) = (&trees[number], &bags[number]);
            let rows: Vec<usize> =
                (0..training.targets.len()).filter(|row| seen[row / 64] >> (row % 64) & 1 == 0).collect();
            if rows.is_empty() {
                return Vec::new();
            }
            let mut generator = seed::generator(seed, &format!("permutation {number}"));
            let right = |value: &dyn Fn(usize, u32) -> f32| {
                let hits = rows.iter().enumerate().filter(|(at, row)| {
                    let class = tree.class(training.classes, |column| value(*at, column));
                    class == training.targets[**row]
                });
                hits.count() as f64
            };
            let unshuffled = |at: usize, column: u32| training.matrix[(rows[at], column as usize)];
            let before = right(&unshuffled);
            let mut used: Vec<u32> =
                tree.nodes.iter().map(|node| node.column).filter(|&column| column != LEAF).collect();
            used.sort_unstable();
            used.dedup();
            let mut order: Vec<usize> = (0..rows.len()).collect();
            used.into_iter()
                .map(|shuffled| {
                    let mut lost = 0.0;
                    for _ in 0..repeats {
                        for last in (1..order.len()).rev() {
                            order.swap(last, generator.random_range(0..=last as u64) as usize);
                        }
                        let value = |at: usize, column: u32| {
                            unshuffled(if column == shuffled { order[at] } else { at }, column)
                        };
                        lost += before - right(&value);
                    }
                    (shuffled, lost / (repeats * rows.len()) as f64)
                })
                .collect()
        })
        .collect();
    let mut importances = vec![0.0; columns];
    for (column, drop) in drops.into_iter().flatten() {
        importances[column as usize] += drop / trees.len() as f64;
    }
    importances
}
