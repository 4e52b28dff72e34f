//! The CPU as a device: vectorised code if AVX2 and FMA are available, otherwise portable code, with threads from
//! rayon. Work is split into blocks of fixed size and sums have a fixed order, so results are bitwise identical for any
//! number of threads. Buffers grow to the largest batch and are kept; a step allocates nothing.

// The compiler vectorises loops over the lanes of several arrays at once; these need the index.
#![allow(clippy::needless_range_loop)]

pub(crate) mod activation;
mod attention;
mod backend;
mod convolution;
mod heads;
mod layer_norm;
mod layers;
mod lstm;
pub(crate) mod matmul;
mod normalise;
mod optimiser;
mod picture;
mod pool;
mod rows;
pub(crate) mod simd;
mod slots;
mod transformer;
mod windows;

use matmul::Panels;
use simd::Level;

/// Values per task in element-wise operations.
const TASK: usize = 16_384;

/// The CPU and its working memory.
pub(crate) struct Cpu {
    level: Level,
    input_panels: Panels,
    hidden_panels: Panels,
    /// An embedding's input products, or their gradients; also the working memory of slot attention, padded
    /// convolutions and generalised means.
    table: Vec<f32>,
    /// The gradient of cells that an LSTM carries back.
    carry: Vec<f32>,
    /// The previous state of each state after the first step.
    previous: Vec<f32>,
    /// Per-column values of a normalisation.
    columns: Vec<f32>,
    /// Sum of squared gradients.
    squares: f64,
}

impl Cpu {
    /// Creates a device with the instructions that this CPU supports.
    pub(crate) fn new() -> Self {
        Self::with_level(Level::detect())
    }

    /// Creates a device without vector instructions.
    #[cfg(test)]
    pub(crate) fn portable() -> Self {
        Self::with_level(Level::portable())
    }

    fn with_level(level: Level) -> Self {
        Self {
            level,
            input_panels: Panels::default(),
            hidden_panels: Panels::default(),
            table: Vec::new(),
            carry: Vec::new(),
            previous: Vec::new(),
            columns: Vec::new(),
            squares: 0.0,
        }
    }
}

fn grow(values: &mut Vec<f32>, length: usize) {
    if values.len() < length {
        values.resize(length, 0.0);
    }
}
