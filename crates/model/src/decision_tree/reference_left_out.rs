//! In place of `reference` in a build without that feature; models that ask for it are refused before.

use super::{SingleTree, TreeParameters};
use crate::classical::{Algorithm, Rows};
use crate::random_forest::Trees;
use crate::{ModelError, left_out};

pub(super) fn fit(_: &TreeParameters, _: &Rows) -> Result<Trees, ModelError> {
    Err(left_out::reference(SingleTree::NAME))
}
