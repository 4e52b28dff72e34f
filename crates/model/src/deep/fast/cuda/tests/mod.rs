//! Checks the kernels on the CPU against the CPU's own operations and PyTorch's golden values, and on a GPU if there is
//! one.

mod emulator;

use super::check::{self, Comparison, Extent};
use super::{Cuda, is_usable};
use crate::deep::fast::{classifier::AttentionLstm, joint::Joint, language_model::Elmo};
use crate::deep::golden;
use crate::{CudaDevice, Device as Place, Precision};
use emulator::Emulator;

/// Maximum difference between a device and the CPU, relative to the largest value of an array.
const TOLERANCE: f64 = 1e-4;

fn assert_close(comparisons: &[Comparison], tolerance: f64) {
    assert!(comparisons.len() > 1);
    for Comparison { name, error } in comparisons {
        assert!(*error < tolerance, "{name}: relative error {error}");
    }
    let worst = comparisons.iter().max_by(|left, right| left.error.total_cmp(&right.error)).unwrap();
    println!("{} arrays, the worst is {} with a relative error of {:.1e}", comparisons.len(), worst.name, worst.error);
}

fn emulated(resident: usize, backwards: bool) -> Option<Cuda> {
    Some(Cuda::on(Box::new(Emulator::new(resident, backwards)?), "emulated".to_owned()))
}

/// Groups of several blocks, one group, and no room for a group so that layers run step by step; threads in either
/// order.
#[test]
fn emulated_operations_are_those_of_the_processor() {
    for (resident, backwards) in [(40, false), (12, false), (4, true), (1, false)] {
        let Some(mut device) = emulated(resident, backwards) else { return };
        assert_close(&check::operations(&mut device, Extent::Small).unwrap(), 1e-5);
    }
}

#[test]
fn the_order_of_threads_does_not_change_a_bit() {
    if emulated(1, false).is_none() {
        return;
    }
    for resident in [40, 1] {
        let mut backwards = false;
        let mut new = || {
            backwards = !backwards;
            Ok(emulated(resident, backwards).unwrap())
        };
        assert!(check::repeats(&mut new, Extent::Small).unwrap());
    }
}

#[test]
fn emulated_training_is_that_of_the_processor() {
    if emulated(1, false).is_none() {
        return;
    }
    for resident in [8, 1] {
        let found = check::train(&mut || Ok(emulated(resident, false).unwrap()), Extent::Small).unwrap();
        assert_close(&check::losses(&found, Extent::Small).unwrap(), TOLERANCE);
    }
}

#[test]
fn emulated_models_are_those_of_pytorch() {
    if emulated(1, false).is_none() {
        return;
    }
    let new = || emulated(6, false).unwrap();
    golden::check_language_model(&|options, set, seed| Ok(Box::new(Elmo::new(new(), options, set, seed)?)));
    golden::check_classifier(&|options, set, seed| Ok(Box::new(AttentionLstm::new(new(), options, set, seed)?)));
    golden::check_joint(&|options, set, seed| Ok(Box::new(Joint::new(new(), options, set, seed)?)));
}

/// A device that fails reports an error and returns no values.
#[test]
fn failures_are_reported() {
    use crate::deep::engine::LanguageModel;
    use crate::deep::parameters::{ElmoOptions, initial_elmo};
    if emulated(1, false).is_none() {
        return;
    }
    let options = ElmoOptions { embedding: 8, hidden: 8, ..ElmoOptions::default() };
    let mut model = Elmo::new(emulated(4, false).unwrap(), &options, &initial_elmo(&options, 257, 128, 1), 0).unwrap();
    assert!(model.train_step(&[1, 2, 3, 4], 2, 0.1).is_ok());
    model.device_mut().core.exhaust();
    let error = model.train_step(&[1, 2, 3, 4, 5, 6], 2, 0.1).unwrap_err().to_string();
    assert!(error.starts_with("device emulated: ") && error.contains("memory"), "{error}");
}

#[test]
fn absent_devices_are_errors() {
    let absent = CudaDevice { number: 999, precision: Precision::F32 };
    let error = Cuda::new(absent).err().expect("no machine has a thousand cards").to_string();
    assert!(error.starts_with("device cuda:999: "), "{error}");
    let (best, reason) = Place::best();
    assert_eq!(best == Place::Cpu, reason.is_some());
}

/// Runs only if there is a GPU.
#[test]
fn a_graphics_card_computes_what_the_processor_does() {
    let device = CudaDevice::default();
    if let Err(reason) = is_usable(device) {
        println!("skipped: {reason}");
        return;
    }
    for finding in check::all(device).unwrap() {
        println!("{}", finding.text);
        assert!(finding.passed, "{}", finding.text);
    }
}
