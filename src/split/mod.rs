//! Splits: labels, groups and a seed become train, validation and test rows.
