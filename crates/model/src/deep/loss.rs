//! The classifier's loss: cross-entropy with class weights and label smoothing (Szegedy et al. 2016, section 7), in the
//! form of PyTorch's `cross_entropy`.

/// Class weights and label smoothing of the loss. With `p` the log-softmax of the logits, a flow of class `y`
/// contributes `-(1 - smoothing) w_y p_y - smoothing / classes sum_c w_c p_c`; a batch's loss is the sum over its flows
/// divided by the sum of their `w_y`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loss {
    /// The weight of each class.
    pub weights: Vec<f32>,
    /// Share of each target that is spread over all classes: at least 0, less than 1.
    pub smoothing: f32,
}

impl Loss {
    /// Creates a loss with weight 1 for every class.
    pub(crate) fn unweighted(classes: usize, smoothing: f32) -> Self {
        Self { weights: vec![1.0; classes], smoothing }
    }

    /// Whether this is the plain cross-entropy.
    pub(crate) fn is_plain(&self) -> bool {
        self.smoothing == 0.0 && self.weights.iter().all(|&weight| weight == 1.0)
    }

    /// Returns the total weight of these labels.
    pub(crate) fn total(&self, labels: &[u32]) -> f64 {
        labels.iter().map(|&label| f64::from(self.weights[label as usize])).sum()
    }

    /// Returns the share of a target that its own class keeps, before weights.
    pub(crate) fn kept(&self) -> f32 {
        1.0 - self.smoothing
    }

    /// Returns the share of a target that each class receives, before weights.
    pub(crate) fn spread(&self) -> f32 {
        self.smoothing / self.weights.len() as f32
    }
}
