//! Checks that a device computes the same as the CPU: every operation forward and backward on generated data, and the
//! losses of whole models over twenty training steps. Packing only affects the order of rows and is undone before
//! comparison.

mod operations;
mod recorder;
mod training;

use super::Cuda;
use crate::deep::fast::backend::Backend;
use crate::deep::fast::cpu::Cpu;
use crate::device::Finding;
use crate::{CudaDevice, ModelError};
use operations::run;

pub(crate) use training::{losses, train};

/// One array computed on both devices.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    /// Name of operation and array.
    pub name: String,
    /// Maximum difference relative to the largest value; NaN if the device returned NaN.
    pub error: f64,
}

/// Returns the larger error; NaN counts as largest.
fn worse(left: f64, right: f64) -> f64 {
    if left.is_nan() || left > right { left } else { right }
}

fn compare(name: &str, found: &[f32], expected: &[f32]) -> Comparison {
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(1e-6, |largest, value| f64::from(value.abs()).max(largest));
    let differences = found.iter().zip(expected).map(|(&found, &expected)| f64::from(found) - f64::from(expected));
    Comparison { name: name.to_owned(), error: differences.map(f64::abs).fold(0.0, worse) / largest }
}

/// Size of the generated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Sizes that are not multiples of any tile, for a device that runs on the CPU.
    #[cfg(test)]
    Small,
    /// The published sizes in addition.
    Published,
}

/// Compares every operation with the CPU.
///
/// # Errors
/// The device fails.
pub(crate) fn operations<B: Backend>(device: &mut B, extent: Extent) -> Result<Vec<Comparison>, ModelError> {
    let found = run(device, extent);
    device.check()?;
    let expected = run(&mut Cpu::new(), extent);
    let pairs = found.iter().zip(&expected);
    Ok(pairs.map(|((name, found), (_, expected))| compare(name, found, expected)).collect())
}

/// Whether two runs of every operation, each on a new device, give identical bits.
///
/// # Errors
/// The device fails.
pub(crate) fn repeats<B: Backend>(
    new: &mut dyn FnMut() -> Result<B, ModelError>,
    extent: Extent,
) -> Result<bool, ModelError> {
    let mut once = || {
        let mut device = new()?;
        let found = run(&mut device, extent);
        device.check()?;
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        Ok::<_, ModelError>(found.iter().map(|(_, values)| bits(values)).collect::<Vec<_>>())
    };
    Ok(once()? == once()?)
}

/// Maximum difference between a GPU and the CPU.
const TOLERANCE: f64 = 1e-4;

fn summary(what: &str, comparisons: &[Comparison]) -> Finding {
    let worst =
        comparisons.iter().reduce(|left, right| if left.error.total_cmp(&right.error).is_lt() { right } else { left });
    let (name, error) = worst.map_or(("nothing", f64::NAN), |worst| (worst.name.as_str(), worst.error));
    let text = format!(
        "{what} against the processor, {} of them: largest relative error {error:.1e} ({name})",
        comparisons.len()
    );
    Finding { text, passed: error < TOLERANCE }
}

/// Runs all checks on a GPU.
///
/// # Errors
/// The GPU cannot be used, or fails.
pub(crate) fn all(card: CudaDevice) -> Result<Vec<Finding>, ModelError> {
    let extent = Extent::Published;
    let found = train(&mut || Cuda::new(card), extent)?;
    Ok(vec![
        summary("arrays of every operation", &operations(&mut Cuda::new(card)?, extent)?),
        Finding {
            text: "two runs of every operation give the same bits".to_owned(),
            passed: repeats(&mut || Cuda::new(card), extent)?,
        },
        summary("losses of twenty training steps", &losses(&found, extent)?),
        Finding {
            text: "two trainings give the same bits".to_owned(),
            passed: train(&mut || Cuda::new(card), extent)? == found,
        },
    ])
}
