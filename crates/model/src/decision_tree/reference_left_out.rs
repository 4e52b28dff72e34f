//! Stub for `reference` in a build without that feature; models that request it are rejected earlier.

use super::{SingleTree, TreeParameters};
use crate::classical::{Algorithm, Rows};
use crate::random_forest::Trees;
use crate::{ModelError, left_out};

pub(super) fn fit(_: &TreeParameters, _: &Rows) -> Result<Trees, ModelError> {
    Err(left_out::reference(SingleTree::NAME))
}
