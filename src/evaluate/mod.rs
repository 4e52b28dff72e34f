//! Evaluation: labels and predictions become metrics with exact definitions and zero-division rules.
//! No input or output happens here.
