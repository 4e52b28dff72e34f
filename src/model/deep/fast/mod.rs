//! The fast engine: layers of our own with explicit forward and backward passes.
