//! Learning rates: constant, cosine or one cycle, with warm-up.

use super::TrainingOptions;
use crate::deep::parameters::LearningRateSchedule;

/// Returns the learning rate of step `step` (from 0) of an epoch with `batches` steps: that of the schedule, scaled up
/// linearly during warm-up (Goyal et al. 2017, section 2.2).
pub(super) fn learning_rate(options: &TrainingOptions, epoch: usize, step: usize, batches: usize) -> f32 {
    let steps = (epoch - 1) * batches + step;
    let scheduled = match options.schedule {
        LearningRateSchedule::Constant => options.learning_rate,
        LearningRateSchedule::Cosine => {
            let share = (epoch - 1) as f64 / options.epochs as f64;
            annealed(f64::from(options.learning_rate), 0.0, share) as f32
        }
        LearningRateSchedule::OneCycle => one_cycle(options.learning_rate, steps, options.epochs * batches),
    };
    if steps < options.warm_up_steps {
        (f64::from(scheduled) * (steps + 1) as f64 / options.warm_up_steps as f64) as f32
    } else {
        scheduled
    }
}

/// Returns a rate on half a cosine from `from` to `to`, after a `share` of it.
fn annealed(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) * (0.5 * (1.0 + (std::f64::consts::PI * share).cos()))
}

/// Returns the rate of step `step` (from 0) out of `all`: up to `largest` over the first 30 %, then down almost to 0
/// (Smith and Topin 2018, with the constants of PyTorch's `OneCycleLR`; the decay of Adam's moments is unchanged).
fn one_cycle(largest: f32, step: usize, all: usize) -> f32 {
    let largest = f64::from(largest);
    let (initial, last) = (largest / 25.0, all as f64 - 1.0);
    let (step, turn) = (step as f64, 0.3 * all as f64 - 1.0);
    let rate = if turn > 0.0 && step <= turn {
        annealed(initial, largest, step / turn)
    } else {
        annealed(largest, initial / 1e4, ((step - turn) / (last - turn).max(1.0)).clamp(0.0, 1.0))
    };
    rate as f32
}

#[cfg(test)]
mod tests {
    use super::super::tests::training;
    use super::*;

    #[test]
    fn cosine_schedule_falls_from_the_full_rate() {
        let options = TrainingOptions { schedule: LearningRateSchedule::Cosine, ..training(4) };
        let rates = (1..=4).map(|epoch| learning_rate(&options, epoch, 0, 9)).collect::<Vec<_>>();
        assert_eq!(rates[0], 0.5);
        assert!((rates[2] - 0.25).abs() < 1e-7);
        assert!(rates.windows(2).all(|pair| pair[0] > pair[1]) && rates[3] > 0.0);
    }

    #[test]
    fn warm_up_is_that_of_pytorch() {
        // torch.optim.lr_scheduler.LinearLR(optimiser, 1 / 5, 1.0, 4), at a learning rate of 0.5
        let constant = TrainingOptions { warm_up_steps: 5, ..training(4) };
        let rate = |options: &TrainingOptions, step: usize| learning_rate(options, 1 + step / 3, step % 3, 3);
        let rates = (0..7).map(|step| rate(&constant, step)).collect::<Vec<_>>();
        assert_eq!(rates, [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5]);
        // With a schedule, the warm-up factor multiplies its rate: three steps per epoch.
        let cosine = TrainingOptions { schedule: LearningRateSchedule::Cosine, ..constant };
        for (step, factor) in [(0, 0.2), (3, 0.8), (4, 1.0), (11, 1.0)] {
            let scheduled = rate(&TrainingOptions { warm_up_steps: 0, ..cosine }, step);
            let found = rate(&cosine, step);
            assert!((found - factor * scheduled).abs() < 1e-7, "{step}: {found}");
        }
    }

    #[test]
    fn one_cycle_is_that_of_pytorch() {
        // torch.optim.lr_scheduler.OneCycleLR(torch.optim.AdamW([p]), max_lr=0.5, steps_per_epoch=5, epochs=4)
        let options = TrainingOptions { schedule: LearningRateSchedule::OneCycle, ..training(4) };
        let rates = (0..20).map(|step| learning_rate(&options, 1 + step / 5, step % 5, 5)).collect::<Vec<_>>();
        let pytorch =
            [(0, 0.02), (1, 0.065_835_92), (4, 0.454_164_1), (5, 0.5), (6, 0.493_732), (12, 0.250_001), (19, 2e-6)];
        for (step, expected) in pytorch {
            assert!((rates[step] - expected).abs() < 1e-7, "{step}: {} {expected}", rates[step]);
        }
        // A training too short to rise.
        let only = learning_rate(&TrainingOptions { epochs: 1, ..options }, 1, 0, 1);
        assert!(only > 0.0 && only <= 0.5, "{only}");
    }
}
