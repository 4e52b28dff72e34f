//! Whether a device can be used, and what to call it in records.

use super::deep::fast::cuda;
use super::{CudaDevice, Device, ModelError};

impl Device {
    /// The first graphics card where one can be used, else the processor with the reason.
    pub fn best() -> (Self, Option<ModelError>) {
        let card = CudaDevice::default();
        match cuda::is_usable(card) {
            Ok(()) => (Self::Cuda(card), None),
            Err(reason) => (Self::Cpu, Some(reason)),
        }
    }

    /// Checks that the device can be used now.
    ///
    /// # Errors
    /// A driver, a card or a library that is missing, by name.
    pub fn check(self) -> Result<(), ModelError> {
        match self {
            Self::Cpu => Ok(()),
            Self::Cuda(device) => cuda::is_usable(device),
        }
    }

    /// The name on the command line: `cpu`, or `cuda:N` with the precision of products unless it is the default.
    pub fn name(self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(device) => format!("cuda:{device}"),
        }
    }

    /// For the record: the name, and of a graphics card its own name, driver and the precision of products.
    ///
    /// # Errors
    /// A card that is not there.
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
