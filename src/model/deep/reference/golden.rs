//! The reference engine against PyTorch.
