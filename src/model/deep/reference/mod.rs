//! The reference engine: the deep model composed from the tensor operations of the crate `dfdx`, whose
//! automatic differentiation gives the gradients. Short rather than fast, it is the definition of what the
//! fast engine computes, and is itself held to PyTorch by golden values.

mod classifier;
mod graph;
mod language_model;
mod layers;
mod optimiser;

pub(crate) use classifier::classifier;
pub(crate) use language_model::language_model;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::model::deep::parameters::{ElmoOptions, initial_elmo};

    /// `cargo test --release reference::tests::time -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement, not a check"]
    fn time_of_a_pretraining_step() {
        let options = ElmoOptions::default();
        let mut model = super::language_model(&options, &initial_elmo(&options, 260, 0), 0).unwrap();
        let tokens = (0..64 * 128).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u16);
        let tokens = tokens.collect::<Vec<_>>();
        for _ in 0..4 {
            let start = Instant::now();
            let loss = model.train_step(&tokens, 64, 0.001).unwrap();
            println!("{:.3} s, loss {:.4}", start.elapsed().as_secs_f64(), loss.mean());
        }
    }
}
