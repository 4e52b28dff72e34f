//! Expected memory of a fit, from sizes that are known before it starts: rows, columns, classes and the model's own
//! keys. Every model counts its peak (fitting, predicting or storing) and records the keys that each part grows with,
//! so that a fit too large for memory is refused with the keys to lower. Sizes that depend on the data, such as the
//! number of leaves of a tree, are counted as values that measurements rarely exceeded.

use super::Device;

/// The keys that determine the number of rows and columns.
pub(super) const ROWS: &str = "selection.maximum_flows_per_class";
pub(super) const TOKENS: &str = "selection.maximum_flows_per_class, feature.packets or feature.bytes";

/// The sizes of a fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FitSize {
    /// Training rows of each class, after sampling.
    pub class_counts: Vec<usize>,
    /// Rows for early stopping.
    pub validation: usize,
    /// Maximum number of rows per prediction.
    pub predicted: usize,
    /// N, the number of packets.
    pub packets: usize,
    /// M, the number of bytes per packet.
    pub bytes: usize,
    /// Number of flow statistics.
    pub statistics: usize,
    /// Number of packet sequence columns.
    pub sequence_columns: usize,
    /// Number of FlowPic pixels.
    pub pixels: usize,
    /// Where deep models train.
    pub device: Device,
    /// Number of threads.
    pub threads: usize,
}

impl FitSize {
    /// Returns the number of training rows.
    pub fn training(&self) -> usize {
        self.class_counts.iter().sum()
    }
}

/// What is in memory at the same time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExpectedMemory {
    parts: Vec<(&'static str, f64)>,
}

impl ExpectedMemory {
    /// Adds `bytes`, which grow with `keys`.
    #[must_use]
    pub(super) fn and(mut self, keys: &'static str, bytes: f64) -> Self {
        self.parts.push((keys, bytes));
        self
    }

    /// Multiplies every part by `count`.
    #[must_use]
    pub(super) fn times(mut self, count: f64) -> Self {
        self.parts.iter_mut().for_each(|(_, bytes)| *bytes *= count);
        self
    }

    /// Returns the larger of two alternatives that are not in memory at the same time.
    #[must_use]
    pub(super) fn or(self, other: Self) -> Self {
        if self.sum() >= other.sum() { self } else { other }
    }

    fn sum(&self) -> f64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Returns the sum of all parts, in bytes.
    pub fn bytes(&self) -> u64 {
        self.sum().ceil() as u64
    }

    /// Returns the keys that the largest part grows with.
    pub fn keys(&self) -> &'static str {
        let largest = self.parts.iter().max_by(|left, right| left.1.total_cmp(&right.1));
        largest.map_or(ROWS, |(keys, _)| keys)
    }
}

/// Returns the bytes of a matrix with numbers of `size` bytes.
pub(super) fn matrix(rows: usize, columns: usize, size: usize) -> f64 {
    rows as f64 * columns as f64 * size as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Implementation, Input, ModelKind, ModelSpec, build};

    fn expected(model: &str, parameters: &str, size: &FitSize) -> ExpectedMemory {
        let kind = ModelKind::named(model).unwrap();
        let parameters = parameters.parse().unwrap();
        let spec = ModelSpec { kind, input: Input::default_of(kind), implementation: Implementation::Fast, parameters };
        build(&spec).unwrap().expected_memory(size)
    }

    fn size() -> FitSize {
        FitSize {
            class_counts: vec![5000; 4],
            validation: 2500,
            predicted: 2500,
            packets: 6,
            bytes: 128,
            statistics: 30,
            sequence_columns: 60,
            pixels: 1024,
            device: Device::Cpu,
            threads: 2,
        }
    }

    #[test]
    fn every_model_grows_with_its_rows_and_no_size_is_too_large_to_count() {
        let alone = |kind: &ModelKind| kind.entry().reads_input && kind.entry().inputs != [Input::Members];
        for kind in ModelKind::all().filter(alone).map(ModelKind::name) {
            let small = expected(kind, "", &size());
            let twice = FitSize { class_counts: vec![10_000; 4], validation: 5000, predicted: 5000, ..size() };
            let twice = expected(kind, "", &twice).bytes();
            // At least the matrix, or the encoded packets.
            let columns = if ModelKind::named(kind).unwrap().entry().inputs.contains(&Input::Bytes) { 768 } else { 60 };
            let matrix = 20_000 * columns * 4;
            assert!(small.bytes() > matrix, "{kind:?}: {}", small.bytes());
            assert!(twice > small.bytes() + matrix, "{kind:?}: {} {twice}", small.bytes());
            let endless = FitSize { class_counts: vec![usize::MAX / 8; 4], ..size() };
            assert!(expected(kind, "", &endless).bytes() > 1 << 60, "{kind:?}");
        }
        assert_eq!(expected("majority", "", &size()).bytes(), 0);
    }

    #[test]
    fn the_keys_named_are_those_of_the_largest_part() {
        let few =
            FitSize { class_counts: vec![300; 4], validation: 100, predicted: 100, packets: 1, bytes: 4, ..size() };
        assert_eq!(expected("knn", "", &size()).keys(), TOKENS);
        let deep = expected("attention_lstm", "lstm = 8192", &few);
        assert_eq!(deep.keys(), "model.attention_lstm.lstm");
        let longer = FitSize { bytes: 16, ..few.clone() };
        let deep = expected("attention_lstm", "batch = 1048576\nelmo = { batch = 1048576 }", &longer);
        assert_eq!(deep.keys(), "model.attention_lstm.elmo.batch");
        let boosted = expected("gradient_boosting", "rounds = 100000", &few);
        assert_eq!(boosted.keys(), "model.gradient_boosting.rounds or depth");
        let forest = expected("random_forest", "trees = 65535", &few);
        assert_eq!(forest.keys(), "model.random_forest.trees");
        let none = ExpectedMemory::default();
        assert_eq!((none.bytes(), none.keys()), (0, ROWS));
    }
}
