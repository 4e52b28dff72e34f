//! Boosted trees laid out for prediction: the nodes of a tree are contiguous and ordered by depth, the two children of
//! a node are adjacent, and a leaf is its own child. Rows descend a tree in groups, a fixed number of steps without a
//! branch, so that the CPU works on several rows at once.
//!
//! The sums are bit-identical to hessboost's: tree by tree in 32-bit floats.

use hessboost::model::BoostedModel;
use ndarray::Array2;
use rayon::prelude::*;

use super::bins::{Bins, Numbers};

/// One node.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// The column to compare; 0 in a leaf.
    column: u32,
    /// Rows with a smaller value go to the first child; infinity in a leaf.
    threshold: f32,
    /// Index of the first child, followed by the second; a leaf points to itself.
    child: u32,
    /// What a leaf adds to the output.
    value: f32,
}

/// One tree.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Index of its root.
    start: u32,
    /// Steps from the root to the deepest leaf.
    depth: u32,
    /// The output that it adds to.
    output: u32,
}

/// The trees used for prediction.
#[derive(Debug, Clone)]
pub(super) struct FlatTrees {
    columns: usize,
    base: Vec<f32>,
    nodes: Vec<Node>,
    trees: Vec<Span>,
}

/// Number of rows per task: what they read stays in the cache while every tree passes over them.
const BLOCK: usize = 64;
/// Number of parts that rows are divided into for their losses: enough for the threads of a large machine.
const PARTS: usize = 64;
/// Number of rows that descend a tree together.
const GROUP: usize = 8;

impl FlatTrees {
    /// Lays out the trees of the rounds used for prediction: up to the best round if fitting stopped early. The trees
    /// of the model split bin numbers; these split values.
    ///
    /// # Errors
    /// Kinds of trees that this project does not fit: with weights, categories, linear or vector leaves.
    pub(super) fn new(model: &BoostedModel, bins: &Bins) -> Result<Self, String> {
        let used = model.best_iteration().map_or(model.num_trees(), |best| (best + 1) * model.trees_per_iteration());
        Self::lay_out(model, used, |column, number| bins.bound(column, number))
    }

    /// Lays out the trees of all rounds, which split bin numbers.
    ///
    /// # Errors
    /// See [`FlatTrees::new`].
    pub(super) fn of_numbers(model: &BoostedModel) -> Result<Self, String> {
        Self::lay_out(model, model.num_trees(), |_, number| Some(number))
    }

    /// Lays out the first `used` trees, with `threshold` mapping their split conditions.
    fn lay_out(
        model: &BoostedModel,
        used: usize,
        threshold: impl Fn(usize, f32) -> Option<f32>,
    ) -> Result<Self, String> {
        if model.linear().is_some()
            || model.has_vector_leaves()
            || model.shrinkage().is_some()
            || used > model.num_trees()
        {
            return Err("the trees are not those of softmax boosting".to_owned());
        }
        let columns = model.n_features();
        let mut flat = Self { columns, base: model.base_scores().to_vec(), nodes: Vec::new(), trees: Vec::new() };
        let described = model.trees().iter().zip(model.tree_outputs()).zip(model.tree_weights()).take(used);
        for ((tree, output), weight) in described {
            if weight != 1.0 || tree.has_categorical_splits() || tree.linear_leaves().is_some() {
                return Err("a tree has a weight, categories or linear leaves".to_owned());
            }
            let (source, start) = (tree.nodes(), flat.nodes.len());
            let mut depth = 0;
            // Pairs of a node of the source and its depth, in order of depth; the node's place is `start` plus its
            // index here.
            let mut order = vec![(0_usize, 0_u32)];
            let mut next = 0;
            while next < order.len() {
                let (number, level) = order[next];
                let node = source.get(number).ok_or("a child is missing")?;
                depth = depth.max(level);
                let place = (start + next) as u32;
                if node.is_leaf() {
                    let value = node.leaf_value;
                    flat.nodes.push(Node { column: 0, threshold: f32::INFINITY, child: place, value });
                } else {
                    let (left, right) = (usize::try_from(node.left), usize::try_from(node.right));
                    let (Ok(left), Ok(right)) = (left, right) else { return Err("a child is missing".to_owned()) };
                    if node.split_feature as usize >= columns || order.len() + 2 > source.len() {
                        return Err("a tree does not match its columns or is not a tree".to_owned());
                    }
                    let child = (start + order.len()) as u32;
                    order.extend([(left, level + 1), (right, level + 1)]);
                    let column = node.split_feature;
                    let threshold = threshold(column as usize, node.split_cond)
                        .ok_or("a tree splits at a value that is not a bin")?;
                    flat.nodes.push(Node { column, threshold, child, value: 0.0 });
                }
                next += 1;
            }
            let output = output.start as u32;
            flat.trees.push(Span { start: start as u32, depth, output });
        }
        Ok(flat)
    }

    /// Returns the sums of the leaves' values, shape `[rows, outputs]`; the matrix must be finite.
    pub(super) fn margins(&self, matrix: &Array2<f32>) -> Array2<f32> {
        let (columns, outputs) = (self.columns, self.base.len());
        let mut margins = Array2::zeros((matrix.nrows(), outputs));
        let rows = matrix.as_slice().expect("matrices are row-major");
        let target = margins.as_slice_mut().expect("matrices are row-major");
        target.par_chunks_mut(BLOCK * outputs).zip(rows.par_chunks(BLOCK * columns)).for_each(|(target, rows)| {
            target.chunks_exact_mut(outputs).for_each(|target| target.copy_from_slice(&self.base));
            for tree in &self.trees {
                let groups = rows.chunks(GROUP * columns).zip(target.chunks_mut(GROUP * outputs));
                for (rows, target) in groups {
                    self.descend(*tree, rows, target);
                }
            }
        });
        margins
    }

    /// Returns the mean loss after each round for trees laid out by [`FlatTrees::of_numbers`]: the softmax
    /// cross-entropy, or the logistic loss if there is one output. `numbers` contains bin numbers, shape `[rows,
    /// columns]`; `targets` are the rows' classes.
    pub(super) fn losses(&self, numbers: &Numbers, targets: &[u32]) -> Vec<f64> {
        let (columns, outputs) = (self.columns, self.base.len());
        let rounds = self.trees.len() / outputs;
        let of_part = |part: usize| {
            let mut losses = vec![0.0; rounds];
            let end = targets.len() * (part + 1) / PARTS;
            for start in (targets.len() * part / PARTS..end).step_by(BLOCK) {
                let targets = &targets[start..end.min(start + BLOCK)];
                let rows = numbers.values(start * columns..(start + targets.len()) * columns);
                let mut margins = self.base.repeat(targets.len());
                for (trees, sum) in self.trees.chunks(outputs).zip(&mut losses) {
                    for tree in trees {
                        let groups = rows.chunks(GROUP * columns).zip(margins.chunks_mut(GROUP * outputs));
                        groups.for_each(|(rows, margins)| self.descend(*tree, rows, margins));
                    }
                    let margins = margins.chunks_exact(outputs).zip(targets);
                    *sum += margins.map(|(margins, &target)| loss(margins, target as usize)).sum::<f64>();
                }
            }
            losses
        };
        // Sum part after part, so that the number of threads does not change a bit.
        let parts: Vec<Vec<f64>> = (0..PARTS).into_par_iter().map(of_part).collect();
        let mean = |round: usize| parts.iter().map(|losses| losses[round]).sum::<f64>() / targets.len() as f64;
        (0..rounds).map(mean).collect()
    }

    /// Adds one tree's values for up to [`GROUP`] rows.
    fn descend(&self, tree: Span, rows: &[f32], target: &mut [f32]) {
        let (columns, outputs) = (self.columns, self.base.len());
        let count = rows.len() / columns;
        let mut places = [tree.start as usize; GROUP];
        if count == GROUP {
            for _ in 0..tree.depth {
                for (row, place) in places.iter_mut().enumerate() {
                    let node = &self.nodes[*place];
                    let value = rows[row * columns + node.column as usize];
                    *place = node.child as usize + usize::from(value >= node.threshold);
                }
            }
        } else {
            for _ in 0..tree.depth {
                for (row, place) in places.iter_mut().take(count).enumerate() {
                    let node = &self.nodes[*place];
                    let value = rows[row * columns + node.column as usize];
                    *place = node.child as usize + usize::from(value >= node.threshold);
                }
            }
        }
        for (target, &place) in target.chunks_exact_mut(outputs).zip(&places) {
            target[tree.output as usize] += self.nodes[place].value;
        }
    }
}

/// Returns the loss of one row whose class is `target`.
fn loss(margins: &[f32], target: usize) -> f64 {
    let value = |margin: &f32| f64::from(*margin);
    if let [margin] = margins {
        let wrong = if target == 0 { value(margin) } else { -value(margin) };
        return wrong.max(0.0) + (-wrong.abs()).exp().ln_1p();
    }
    let largest = margins.iter().map(value).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = margins.iter().map(|margin| (value(margin) - largest).exp()).sum();
    sum.ln() + largest - value(&margins[target])
}
