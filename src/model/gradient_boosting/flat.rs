//! Boosted trees laid out for prediction: the nodes of a tree side by side in order of depth, the two children of
//! a node next to each other, a leaf its own child. Rows go down a tree in groups, a fixed number of steps
//! without a branch, so that the processor works on several rows at once.
//!
//! The sums are hessboost's, tree by tree in 32-bit floats, to the last bit.

use hessboost::model::BoostedModel;
use ndarray::Array2;
use rayon::prelude::*;

/// One node.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// The column that is compared; 0 in a leaf.
    column: u32,
    /// Rows with a smaller value go to the first child; infinity in a leaf.
    threshold: f32,
    /// The first child, the second follows it; a leaf's is the leaf.
    child: u32,
    /// What a leaf adds.
    value: f32,
}

/// One tree.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Its root.
    start: u32,
    /// Steps from the root to the deepest leaf.
    depth: u32,
    /// The output that it adds to.
    output: u32,
}

/// All trees that predict.
#[derive(Debug, Clone)]
pub(super) struct FlatTrees {
    columns: usize,
    base: Vec<f32>,
    nodes: Vec<Node>,
    trees: Vec<Span>,
}

/// Rows that one task predicts: what they read stays in its cache while every tree passes over them.
const BLOCK: usize = 64;
/// Rows that go down a tree together.
const GROUP: usize = 8;

impl FlatTrees {
    /// Lays out the trees of the rounds that predict: up to the best round, where fitting stopped early.
    ///
    /// # Errors
    /// Trees of another kind than this project fits: weights, categories, linear or vector leaves.
    pub fn new(model: &BoostedModel) -> Result<Self, String> {
        let per_round = model.trees_per_iteration();
        let used = model.best_iteration().map_or(model.num_trees(), |best| (best + 1) * per_round);
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
            // (node of the source, its depth), in order of depth; its place is `start` plus its index here.
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
                        return Err("a tree does not fit its columns or is not a tree".to_owned());
                    }
                    let child = (start + order.len()) as u32;
                    order.extend([(left, level + 1), (right, level + 1)]);
                    flat.nodes.push(Node { column: node.split_feature, threshold: node.split_cond, child, value: 0.0 });
                }
                next += 1;
            }
            let output = output.start as u32;
            flat.trees.push(Span { start: start as u32, depth, output });
        }
        Ok(flat)
    }

    /// The sums of the leaves' values, shape `[rows, outputs]`; the matrix is finite.
    pub fn margins(&self, matrix: &Array2<f32>) -> Array2<f32> {
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
