//! The reference: the tree of the crate `linfa-trees`, converted to this project's tree.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_trees::{DecisionTree as LinfaTree, TreeNode};
use ndarray::Array1;

use super::{SingleTree, TreeParameters};
use crate::ModelError;
use crate::classical::{Algorithm, Rows};
use crate::input::data;
use crate::random_forest::Trees;
use crate::random_forest::tree::{Node, Tree};

/// Fits the tree with `linfa-trees`.
///
/// # Errors
/// The errors of `linfa-trees`.
pub(super) fn fit(parameters: &TreeParameters, training: &Rows) -> Result<Trees, ModelError> {
    let targets: Array1<usize> = training.targets.iter().map(|&target| target as usize).collect();
    let fitted = LinfaTree::<f32, usize>::params()
        .max_depth(parameters.maximum_depth)
        .min_weight_split(parameters.minimum_samples_split as f32)
        .min_weight_leaf(parameters.minimum_samples_leaf as f32)
        .fit(&Dataset::new(training.matrix.clone(), targets))
        .map_err(|error| data(SingleTree::NAME, format!("linfa-trees: {error}")))?;
    let mut tree = Tree::default();
    flatten(fitted.root_node(), training.classes, &mut tree);
    let mut importances = vec![0.0; training.matrix.ncols()];
    for (importance, decrease) in importances.iter_mut().zip(fitted.mean_impurity_decrease()) {
        *importance = f64::from(decrease);
    }
    Ok(Trees { trees: vec![tree], classes: training.classes, importances, permutation_importances: Vec::new() })
}

/// Appends a node and its descendants in preorder; in a leaf the predicted class has share 1.
fn flatten(node: &TreeNode<f32, usize>, classes: usize, tree: &mut Tree) {
    let index = tree.nodes.len();
    let mut children = node.children().into_iter().flatten();
    match (node.prediction(), children.next(), children.next()) {
        (None, Some(left), Some(right)) => {
            let (column, threshold, _) = node.split();
            tree.nodes.push(Node { column: column as u32, threshold, right: 0 });
            flatten(left, classes, tree);
            tree.nodes[index].right = tree.nodes.len() as u32;
            flatten(right, classes, tree);
        }
        (prediction, ..) => {
            tree.push_leaf(classes);
            let start = tree.shares.len();
            tree.shares.resize(start + classes, 0.0);
            tree.shares[start + prediction.unwrap_or(0)] = 1.0;
        }
    }
}
