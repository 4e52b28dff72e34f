//! Checks whether a device is usable and computes correctly, and names devices in records.

use std::str::FromStr;

use super::deep::fast::cuda;
use super::{CudaDevice, Device, ModelError, Precision};
use etcbench_storage::Determinants;

/// Versions of the operations on the CPU and the GPU. Bump whenever a change to them changes a bit of the results.
const CPU_KERNELS: u32 = 1;
const CUDA_KERNELS: u32 = 2;

impl FromStr for Device {
    type Err = String;

    /// Parses [`Device::name`], and `cuda` as the first GPU.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(CudaDevice::default())),
            _ => {}
        }
        let Some(card) = text.strip_prefix("cuda:") else {
            return Err("unknown device; use auto, cpu, cuda or cuda:N".to_owned());
        };
        let (number, precision) = card.split_once(' ').unwrap_or((card, Precision::F32.name()));
        let number = number.parse().map_err(|_| format!("`{number}` is not a device number; write cuda:0"))?;
        Ok(Self::Cuda(CudaDevice { number, precision: precision.parse()? }))
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|precision| precision.name() == text);
        found.ok_or_else(|| "unknown precision; use f32, tf32 or bf16".to_owned())
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was checked, and the deviation.
    pub text: String,
    /// Whether the result is correct.
    pub passed: bool,
}

impl CudaDevice {
    /// Checks that the GPU computes what the CPU does, for every operation and whole trainings, and the same bits
    /// twice. Takes a minute or two.
    ///
    /// # Errors
    /// A GPU that is unusable or fails.
    pub fn check_against_processor(self) -> Result<Vec<Finding>, ModelError> {
        cuda::check::all(self)
    }
}

impl Device {
    /// Returns the first GPU if it is usable, or else the CPU and the reason.
    pub fn best() -> (Self, Option<ModelError>) {
        let card = CudaDevice::default();
        match cuda::is_usable(card) {
            Ok(()) => (Self::Cuda(card), None),
            Err(reason) => (Self::Cpu, Some(reason)),
        }
    }

    /// Checks that the device is usable now.
    ///
    /// # Errors
    /// The missing driver, GPU or library, by name.
    pub fn check(self) -> Result<(), ModelError> {
        match self {
            Self::Cpu => Ok(()),
            Self::Cuda(device) => cuda::is_usable(device),
        }
    }

    /// Returns the name on the command line: `cpu`, or `cuda:N` with the precision of products if it is not the
    /// default.
    pub fn name(self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(device) => format!("cuda:{device}"),
        }
    }

    /// Adds the facts about the device that determine a result: its name with the precision of products, and the
    /// version of its kernels.
    #[must_use]
    pub fn add_to(self, facts: Determinants) -> Determinants {
        let kernels = match self {
            Self::Cpu => CPU_KERNELS,
            Self::Cuda(_) => CUDA_KERNELS,
        };
        facts.and("device", &self.name()).and("kernels", &kernels)
    }

    /// Returns the description for records: the name and, for a GPU, its model name, driver and the precision of
    /// products.
    ///
    /// # Errors
    /// A GPU that is not available.
    pub fn describe(self) -> Result<String, ModelError> {
        match self {
            Self::Cpu => Ok("cpu".to_owned()),
            Self::Cuda(device) => {
                let card = cuda::describe(device)?;
                Ok(format!("cuda:{} ({card}, {} products)", device.number, device.precision.name()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for precision in Precision::ALL {
            let device = Device::Cuda(CudaDevice { number: 3, precision });
            assert_eq!(device.name().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(CudaDevice::default())));
        assert_eq!(Device::Cpu.name().parse(), Ok(Device::Cpu));
        for wrong in ["gpu", "cuda:", "cuda:x", "cuda:0 f16", "cuda:-1"] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
        // Results of different precisions must never share a key.
        let names: Vec<_> =
            Precision::ALL.map(|precision| Device::Cuda(CudaDevice { number: 0, precision }).name()).into();
        assert_eq!(names, ["cuda:0", "cuda:0 tf32", "cuda:0 bf16"]);
        let key = |device: Device| device.add_to(Determinants::of("fit", 1)).key();
        let card = |precision| key(Device::Cuda(CudaDevice { number: 0, precision }));
        let mut keys = [key(Device::Cpu), card(Precision::F32), card(Precision::Tf32), card(Precision::Bf16)].to_vec();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 4);
    }
}
