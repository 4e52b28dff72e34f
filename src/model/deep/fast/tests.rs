//! The fast engine against PyTorch's golden values, the reference engine and finite differences.

use super::*;
use crate::model::deep::golden;

#[test]
fn elmo_is_that_of_pytorch() {
    golden::check_language_model(&|options, parameters, seed| language_model(options, parameters, seed, Device::Cpu));
}

#[test]
fn classifiers_are_those_of_pytorch() {
    golden::check_classifier(&|options, parameters, seed| classifier(options, parameters, seed, Device::Cpu));
}
