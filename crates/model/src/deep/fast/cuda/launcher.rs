//! Interface between the operations and the implementation that runs kernels: memory, copies, launches and matrix
//! products. A GPU is one implementation (`driver`); tests have another, which runs the same sources on the CPU.

use std::ptr;

/// Description of a failure, in one line.
pub(super) type Problem = String;

/// A buffer of 4-byte words on the device, freed when dropped.
#[derive(Default)]
pub(crate) struct Buffer {
    /// Start address on the device.
    pub address: u64,
    /// Size in 4-byte words.
    pub words: usize,
    /// Frees the memory when dropped.
    owner: Option<Box<dyn Send>>,
}

impl Buffer {
    /// Creates a buffer for memory that `owner` frees when dropped.
    pub(crate) fn new(address: u64, words: usize, owner: Box<dyn Send>) -> Self {
        Self { address, words, owner: Some(owner) }
    }

    /// Returns the address of the word at `index`.
    pub(crate) fn at(&self, index: usize) -> u64 {
        debug_assert!(index <= self.words && (self.owner.is_some() || index == 0));
        self.address + 4 * index as u64
    }
}

/// One argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Argument {
    /// A pointer.
    Address(u64),
    /// `u32`.
    Number(u32),
    /// `u64`.
    Long(u64),
    /// `float`.
    Real(f32),
    /// A structure of eight pointers.
    Addresses([u64; 8]),
}

impl Argument {
    /// Returns a pointer to the argument's bytes.
    pub(super) fn bytes(&self) -> *const u8 {
        match self {
            Self::Address(value) | Self::Long(value) => ptr::from_ref(value).cast(),
            Self::Number(value) => ptr::from_ref(value).cast(),
            Self::Real(value) => ptr::from_ref(value).cast(),
            Self::Addresses(values) => ptr::from_ref(values).cast(),
        }
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Self {
        Self::Number(value)
    }
}

impl From<usize> for Argument {
    /// Sizes are checked to fit when a batch is packed.
    fn from(value: usize) -> Self {
        Self::Number(u32::try_from(value).unwrap_or(u32::MAX))
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::Real(value)
    }
}

impl From<&Buffer> for Argument {
    fn from(buffer: &Buffer) -> Self {
        Self::Address(buffer.address)
    }
}

/// Blocks and threads that run a kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// Blocks in x, y and z.
    pub blocks: [usize; 3],
    /// Threads per block.
    pub threads: usize,
    /// Shared memory per block in bytes, at most 48 KiB.
    pub shared: usize,
    /// Whether all blocks must be resident at once, because they wait for each other.
    pub together: bool,
}

impl Grid {
    /// Creates a grid with blocks of 256 threads for at least `count` threads.
    pub(super) fn over(count: usize) -> Self {
        Self::blocks([count.div_ceil(THREADS), 1, 1], 0)
    }

    /// Creates a grid with these blocks of 256 threads.
    pub(super) fn blocks(blocks: [usize; 3], shared: usize) -> Self {
        Self { blocks, threads: THREADS, shared, together: false }
    }
}

/// Threads per block for kernels that accept any number.
pub(super) const THREADS: usize = 256;

/// `C = op(A) op(B)`, plus the previous C with `accumulate`; all row-major: C `[rows, columns]`, inner size `depth`.
/// A is `[rows, depth]`, or `[depth, rows]` if transposed; B is `[depth, columns]`, or `[columns, depth]` if
/// transposed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub left: u64,
    pub left_transposed: bool,
    pub right: u64,
    pub right_transposed: bool,
    pub out: u64,
    /// Whether the product is added to C.
    pub accumulate: bool,
}

macro_rules! kernels {
    ($($variant:ident $name:literal)*) => {
        /// The kernels, named as in their sources.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Kernel { $($variant),* }

        impl Kernel {
            /// All kernels, in the order of their discriminants.
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the name in the source.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

kernels! {
    DescribeStates "describe_states"
    Gather "gather"
    SegmentSums "segment_sums"
    SegmentTotals "segment_totals"
    Pool "pool"
    PoolBackward "pool_backward"
    AddLookedUp "add_looked_up"
    PutRows "put_rows"
    TakeRows "take_rows"
    PutColumns "put_columns"
    TakeColumns "take_columns"
    Add "add"
    LstmForward128 "lstm_forward_128"
    LstmForward256 "lstm_forward_256"
    LstmBackward128 "lstm_backward_128"
    LstmBackward256 "lstm_backward_256"
    LstmCellForward "lstm_cell_forward"
    LstmCellBackward "lstm_cell_backward"
    FillRows "fill_rows"
    ColumnSums "column_sums"
    AddColumnTotals "add_column_totals"
    Softmax "softmax"
    CrossEntropy "cross_entropy"
    WeightedCrossEntropy "weighted_cross_entropy"
    Total "total"
    Dropout "dropout"
    Relu "relu"
    ReluBackward "relu_backward"
    Mix "mix"
    MixLayersBackward "mix_layers_backward"
    MixProducts "mix_products"
    MixGradients "mix_gradients"
    NormSums "norm_sums"
    NormCentre "norm_centre"
    NormStatistics "norm_statistics"
    NormFixedScale "norm_fixed_scale"
    NormApply "norm_apply"
    NormGradientSums "norm_gradient_sums"
    NormGradientTotals "norm_gradient_totals"
    NormBackward "norm_backward"
    Attention "attention"
    AttentionBackward "attention_backward"
    SlotAttention "slot_attention"
    SlotAttentionBackward "slot_attention_backward"
    Squares "squares"
    Adam "adam"
    Average "average"
}

/// Runs kernels one after the other, in the order of the calls.
pub(super) trait Launcher: Send {
    /// Allocates this many 4-byte words, with unspecified content.
    fn allocate(&mut self, words: usize) -> Result<Buffer, Problem>;
    /// Copies to the start of a buffer that is large enough.
    fn copy_in(&mut self, from: &[u32], to: &Buffer) -> Result<(), Problem>;
    /// Copies from the start of a buffer that is large enough, after all earlier launches have completed.
    fn copy_out(&self, from: &Buffer, to: &mut [u32]) -> Result<(), Problem>;
    /// Zeroes the first words of a buffer.
    fn zero(&mut self, buffer: &Buffer, words: usize) -> Result<(), Problem>;
    /// Runs a kernel with these arguments, which must match its source.
    fn launch(&mut self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<(), Problem>;
    /// Computes a matrix product.
    fn multiply(&mut self, product: Product) -> Result<(), Problem>;
    /// Returns how many blocks of the LSTM's kernels can be resident at once.
    fn resident_blocks(&self) -> usize;
    /// Returns how many 4-byte words of memory are free.
    fn free_words(&self) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_of_the_sources_is_known() {
        let source = super::super::source::whole();
        let mut found: Vec<&str> = source
            .split("extern \"C\" __global__ void ")
            .skip(1)
            .map(|rest| rest.strip_prefix("__launch_bounds__(LSTM_THREADS, 2) ").unwrap_or(rest))
            .map(|rest| &rest[..rest.find('(').unwrap()])
            .collect();
        let mut known: Vec<&str> = Kernel::ALL.iter().map(|kernel| kernel.name()).collect();
        found.sort_unstable();
        known.sort_unstable();
        assert_eq!(found, known);
    }
}
