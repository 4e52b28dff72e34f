//! The classifier's loss: cross-entropy with class weights and label smoothing (Szegedy et al. 2016, section 7), in the
//! form of PyTorch's `cross_entropy`.

/// What the flows of each class count, and how much of every target is shared out over all classes. Of logits whose
/// logarithmic softmax is `p`, a flow of class `y` gives `-(1 - smoothing) w_y p_y - smoothing / classes sum_c w_c p_c`;
/// a batch's loss is the sum over its flows divided by that of their `w_y`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loss {
    /// One for each class.
    pub weights: Vec<f32>,
    /// At least 0, less than 1.
    pub smoothing: f32,
}

impl Loss {
    /// A loss in which all classes count 1.
    pub(crate) fn unweighted(classes: usize, smoothing: f32) -> Self {
        Self { weights: vec![1.0; classes], smoothing }
    }

    /// Whether this is the cross-entropy itself.
    pub(crate) fn is_plain(&self) -> bool {
        self.smoothing == 0.0 && self.weights.iter().all(|&weight| weight == 1.0)
    }

    /// What these labels count together.
    pub(crate) fn total(&self, labels: &[u32]) -> f64 {
        labels.iter().map(|&label| f64::from(self.weights[label as usize])).sum()
    }

    /// What is left of its own class's target, before weights.
    pub(crate) fn kept(&self) -> f32 {
        1.0 - self.smoothing
    }

    /// What each class's target gets of every flow, before weights.
    pub(crate) fn spread(&self) -> f32 {
        self.smoothing / self.weights.len() as f32
    }
}
