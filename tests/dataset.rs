//! Datasets through the real binary and the library.
