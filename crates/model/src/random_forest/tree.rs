//! One classification tree: the best Gini split over a random subset of columns, grown depth first, stored as flat
//! arrays.
//!
//! The rules are scikit-learn's: at a node, columns are drawn without replacement until `candidates` have been drawn
//! and at least one of them was not constant in the node; every boundary between two different values of a column is
//! tried; the threshold is the midpoint of the two values; among equal gains the first one found wins. Row counts
//! (`minimum_samples_split`, `minimum_samples_leaf`) are of distinct rows; repetitions in a bootstrap are weights.

use std::hint::select_unpredictable;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::columns::Column;
use crate::classical::MatrixSize;

/// The limits of a tree's growth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Maximum depth; the root has depth 0.
    pub depth: usize,
    /// Minimum number of rows to split a node.
    pub samples_split: usize,
    /// Minimum number of rows in a child.
    pub samples_leaf: usize,
    /// Number of columns drawn at a node.
    pub candidates: usize,
}

/// Marks a leaf in [`Node::column`].
pub(crate) const LEAF: u32 = u32::MAX;

/// Number of rows that descend a tree together.
const TOGETHER: usize = 8;

/// What a descent reads at a node, side by side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Node {
    /// The column that the node splits on, or [`LEAF`].
    pub column: u32,
    /// Rows with a value up to this go left.
    pub threshold: f32,
    /// Index of the right child; in a leaf, the index of its class shares.
    pub right: u32,
}

/// A grown tree; nodes are in preorder, so a node's left child follows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tree {
    pub nodes: Vec<Node>,
    /// Class shares of the leaves, shape `[leaves, classes]`.
    pub shares: Vec<f32>,
}

impl Tree {
    /// Appends a leaf; the caller appends its shares.
    pub(crate) fn push_leaf(&mut self, classes: usize) {
        self.nodes.push(Node { column: LEAF, threshold: 0.0, right: (self.shares.len() / classes) as u32 });
    }

    /// Returns the class shares of the leaf that a row reaches.
    pub(crate) fn shares(&self, row: &[f32], classes: usize) -> &[f32] {
        self.leaf_shares(self.leaf(|column| row[column as usize]), classes)
    }

    /// Returns the class with the largest share in the leaf of a row that is read column by column; the lowest class if
    /// tied.
    pub(crate) fn class(&self, classes: usize, value: impl Fn(u32) -> f32) -> u32 {
        let shares = self.leaf_shares(self.leaf(value), classes);
        (0..classes).fold(0, |best, class| if shares[class] > shares[best] { class } else { best }) as u32
    }

    /// Adds the class shares of each row's leaf to the row's sums; `rows` has shape `[rows, columns]`, `sums` has shape
    /// `[rows, classes]`. Several rows descend together: a descent waits for memory at every node, and this overlaps
    /// the waits.
    pub(crate) fn add_shares(&self, rows: &[f32], columns: usize, sums: &mut [f64], classes: usize) {
        for (rows, sums) in rows.chunks(TOGETHER * columns).zip(sums.chunks_mut(TOGETHER * classes)) {
            let mut places = [0; TOGETHER];
            let places = &mut places[..sums.len() / classes];
            let mut walking = true;
            while walking {
                walking = false;
                for (place, row) in places.iter_mut().zip(rows.chunks_exact(columns)) {
                    let node = self.nodes[*place];
                    if node.column != LEAF {
                        *place = node.child(*place, row[node.column as usize]);
                        walking = true;
                    }
                }
            }
            for (&place, sums) in places.iter().zip(sums.chunks_exact_mut(classes)) {
                let shares = self.leaf_shares(self.nodes[place].right, classes);
                sums.iter_mut().zip(shares).for_each(|(sum, &share)| *sum += f64::from(share));
            }
        }
    }

    /// Returns the index, in preorder, of the leaf that a row reaches.
    pub(crate) fn leaf(&self, value: impl Fn(u32) -> f32) -> u32 {
        let mut place = 0;
        loop {
            let node = self.nodes[place];
            if node.column == LEAF {
                return node.right;
            }
            place = node.child(place, value(node.column));
        }
    }

    fn leaf_shares(&self, leaf: u32, classes: usize) -> &[f32] {
        let leaf = leaf as usize;
        &self.shares[leaf * classes..(leaf + 1) * classes]
    }
}

impl Node {
    /// Returns the index of the child that a row with this value goes to; `place` is this node's index. Branchless,
    /// because the branch would be unpredictable.
    fn child(self, place: usize, value: f32) -> usize {
        select_unpredictable(value <= self.threshold, place + 1, self.right as usize)
    }
}

/// Returns the bytes of the columns that trees are grown on, and of a tree: it has one leaf per four rows unless its
/// depth allows fewer.
pub(crate) fn memory(size: &MatrixSize<'_>, depth: Option<usize>) -> (f64, f64) {
    let most = 2_f64.powi(depth.unwrap_or(64).min(64) as i32);
    let leaves = (size.rows as f64 / 4.0).clamp(1.0, most);
    (size.matrix(2), leaves * (24.0 + 4.0 * size.class_counts.len() as f64))
}

/// The data that trees are grown on.
pub(super) struct Ground<'a> {
    pub columns: &'a [Column],
    pub targets: &'a [u32],
    pub classes: usize,
}

struct Split {
    column: u32,
    /// Rows whose value has an index up to this go left.
    code: u32,
    threshold: f32,
    score: f64,
    left_weights: Vec<f64>,
}

struct Pending {
    start: usize,
    end: usize,
    depth: usize,
    /// Number of columns at the front of the order that are known to be constant here.
    constant: usize,
    weights: Vec<f64>,
    /// The node whose right child this is.
    right_of: Option<usize>,
}

/// Buffers for growing one tree.
struct Grower<'a> {
    ground: &'a Ground<'a>,
    row_weights: &'a [f64],
    limits: Limits,
    generator: ChaCha8Rng,
    order: Vec<u32>,
    codes: Vec<u32>,
    histogram: Vec<f64>,
    counts: Vec<u32>,
    sorted: Vec<(u32, u32)>,
    values: Vec<(u32, u32)>,
}

/// Grows a tree on the rows of positive weight; also returns the impurity decrease of every column, weighted by each
/// node's share of the total weight.
pub(super) fn grow(
    ground: &Ground<'_>,
    row_weights: &[f64],
    limits: Limits,
    generator: ChaCha8Rng,
) -> (Tree, Vec<f64>) {
    let mut rows: Vec<u32> = (0..row_weights.len() as u32).filter(|&row| row_weights[row as usize] > 0.0).collect();
    let mut weights = vec![0.0; ground.classes];
    for &row in &rows {
        weights[ground.targets[row as usize] as usize] += row_weights[row as usize];
    }
    let total: f64 = weights.iter().sum();
    let most = ground.columns.iter().map(|column| column.values.len()).max().unwrap_or(0);
    let mut grower = Grower {
        ground,
        row_weights,
        limits,
        generator,
        order: (0..ground.columns.len() as u32).collect(),
        codes: Vec::new(),
        histogram: vec![0.0; most * ground.classes],
        counts: vec![0; most],
        sorted: Vec::new(),
        values: Vec::new(),
    };
    let mut importances = vec![0.0; ground.columns.len()];
    let mut tree = Tree::default();
    let mut pending = vec![Pending { start: 0, end: rows.len(), depth: 0, constant: 0, weights, right_of: None }];
    while let Some(mut node) = pending.pop() {
        let index = tree.nodes.len();
        if let Some(parent) = node.right_of {
            tree.nodes[parent].right = index as u32;
        }
        let split = grower.split(&rows[node.start..node.end], &node.weights, node.depth, &mut node.constant);
        let Some(split) = split else {
            tree.push_leaf(ground.classes);
            let sum: f64 = node.weights.iter().sum();
            tree.shares.extend(node.weights.iter().map(|weight| (weight / sum) as f32));
            continue;
        };
        tree.nodes.push(Node { column: split.column, threshold: split.threshold, right: 0 });
        let codes = &ground.columns[split.column as usize].codes;
        let boundary = node.start + partition(&mut rows[node.start..node.end], |row| codes.get(row) <= split.code);
        let right_weights: Vec<f64> =
            node.weights.iter().zip(&split.left_weights).map(|(all, left)| (all - left).max(0.0)).collect();
        importances[split.column as usize] +=
            (spread(&node.weights) - spread(&split.left_weights) - spread(&right_weights)) / total;
        let depth = node.depth + 1;
        pending.push(Pending {
            start: boundary,
            end: node.end,
            depth,
            constant: node.constant,
            weights: right_weights,
            right_of: Some(index),
        });
        pending.push(Pending {
            start: node.start,
            end: boundary,
            depth,
            constant: node.constant,
            weights: split.left_weights,
            right_of: None,
        });
    }
    (tree, importances)
}

/// Returns the weight times the Gini impurity.
fn spread(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    if sum <= 0.0 { 0.0 } else { sum - weights.iter().map(|weight| weight * weight).sum::<f64>() / sum }
}

/// Moves the rows that go left to the front and returns their number.
fn partition(rows: &mut [u32], goes_left: impl Fn(u32) -> bool) -> usize {
    let mut left = 0;
    for index in 0..rows.len() {
        if goes_left(rows[index]) {
            rows.swap(left, index);
            left += 1;
        }
    }
    left
}

impl Grower<'_> {
    /// Returns the best split of a node, or `None` if it becomes a leaf. Columns found constant move to the front of
    /// the order, where all descendants find them: growing depth first leaves them in place.
    fn split(&mut self, rows: &[u32], weights: &[f64], depth: usize, constant: &mut usize) -> Option<Split> {
        let limits = self.limits;
        let pure = weights.iter().filter(|weight| **weight > 0.0).count() < 2;
        if pure || depth >= limits.depth || rows.len() < limits.samples_split || rows.len() < 2 * limits.samples_leaf {
            return None;
        }
        let known = *constant;
        let columns = self.order.len();
        // The order is [known constants | found constant here | not drawn yet | drawn and searched].
        let mut undrawn_known = known;
        let mut undrawn_end = columns;
        let mut drawn = 0;
        let mut searched = 0;
        let mut best: Option<Split> = None;
        while drawn < limits.candidates || searched == 0 {
            let left = undrawn_known + (undrawn_end - *constant);
            if left == 0 || undrawn_end == *constant {
                break;
            }
            drawn += 1;
            let chosen = self.generator.random_range(0..left as u64) as usize;
            if chosen < undrawn_known {
                // A column known to be constant was drawn; which one does not matter.
                undrawn_known -= 1;
                continue;
            }
            let position = *constant + chosen - undrawn_known;
            let column = self.order[position];
            self.ground.columns[column as usize].codes.gather(rows, &mut self.codes);
            let first = self.codes[0];
            if self.codes.iter().all(|&code| code == first) {
                self.order.swap(position, *constant);
                *constant += 1;
                continue;
            }
            undrawn_end -= 1;
            self.order.swap(position, undrawn_end);
            searched += 1;
            self.search(column, rows, weights, &mut best);
        }
        best
    }

    /// Tries every boundary of one column.
    fn search(&mut self, column: u32, rows: &[u32], weights: &[f64], best: &mut Option<Split>) {
        let classes = self.ground.classes;
        let (lowest, highest) =
            self.codes.iter().fold((u32::MAX, 0), |(low, high), &code| (low.min(code), high.max(code)));
        let range = (highest - lowest) as usize + 1;
        // Counting walks the whole range of values once; sorting is cheaper in small nodes.
        let counting = range <= 4 * rows.len();
        self.values.clear();
        let mut left = vec![0.0; classes];
        let total: f64 = weights.iter().sum();
        if counting {
            for (&row, &code) in rows.iter().zip(&self.codes) {
                let slot = (code - lowest) as usize;
                self.counts[slot] += 1;
                let target = self.ground.targets[row as usize] as usize;
                self.histogram[slot * classes + target] += self.row_weights[row as usize];
            }
            for slot in 0..range {
                if self.counts[slot] > 0 {
                    self.values.push((lowest + slot as u32, self.counts[slot]));
                }
            }
        } else {
            self.sorted.clear();
            self.sorted.extend(self.codes.iter().zip(rows).map(|(&code, &row)| (code, row)));
            self.sorted.sort_unstable();
            for group in self.sorted.chunk_by(|a, b| a.0 == b.0) {
                self.values.push((group[0].0, group.len() as u32));
            }
        }
        let mut state = Sides {
            left_squares: 0.0,
            right_squares: weights.iter().map(|weight| weight * weight).sum(),
            left_total: 0.0,
        };
        let mut left_rows = 0_usize;
        let mut next_sorted = 0;
        for index in 0..self.values.len() - 1 {
            let (code, count) = self.values[index];
            if counting {
                let slot = (code - lowest) as usize * classes;
                let here = &self.histogram[slot..slot + classes];
                for ((&weight, left), &all) in here.iter().zip(&mut left).zip(weights) {
                    if weight > 0.0 {
                        state.move_left(weight, left, all);
                    }
                }
            } else {
                for &(_, row) in &self.sorted[next_sorted..next_sorted + count as usize] {
                    let target = self.ground.targets[row as usize] as usize;
                    state.move_left(self.row_weights[row as usize], &mut left[target], weights[target]);
                }
                next_sorted += count as usize;
            }
            left_rows += count as usize;
            if left_rows < self.limits.samples_leaf || rows.len() - left_rows < self.limits.samples_leaf {
                continue;
            }
            let score = state.left_squares / state.left_total + state.right_squares / (total - state.left_total);
            if score.is_finite() && best.as_ref().is_none_or(|best| score > best.score) {
                let values = &self.ground.columns[column as usize].values;
                let (below, above) = (values[code as usize], values[self.values[index + 1].0 as usize]);
                let middle = below / 2.0 + above / 2.0;
                let threshold = if middle < above && middle >= below { middle } else { below };
                *best = Some(Split { column, code, threshold, score, left_weights: left.clone() });
            }
        }
        if counting {
            for &(code, _) in &self.values {
                let slot = (code - lowest) as usize;
                self.counts[slot] = 0;
                self.histogram[slot * classes..(slot + 1) * classes].fill(0.0);
            }
        }
    }
}

/// Sums of squared class weights on both sides of a boundary.
struct Sides {
    left_squares: f64,
    right_squares: f64,
    left_total: f64,
}

impl Sides {
    /// Moves `weight` of one class to the left side, which already has `left` of the node's `all`.
    fn move_left(&mut self, weight: f64, left: &mut f64, all: f64) {
        let right = all - *left;
        self.left_squares += weight * (2.0 * *left + weight);
        self.right_squares -= weight * (2.0 * right - weight);
        *left += weight;
        self.left_total += weight;
    }
}
