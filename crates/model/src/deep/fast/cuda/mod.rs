//! A CUDA GPU as a device. The kernels are CUDA C in `kernels/`, compiled at run time by NVRTC for the GPU at hand;
//! matrix products use cuBLAS. The libraries are located at run time (`libraries`), so the same binary runs with and
//! without a GPU. Only `driver`, `source` and `libraries` call foreign code.
//!
//! Everything runs in one stream and sums have a fixed order, so two runs on the same GPU give identical bits. The
//! first failure (such as exhausted memory) stops all further operations and is reported by [`Backend::check`].

mod attention;
pub(crate) mod check;
mod core;
mod driver;
mod launcher;
mod layout;
mod libraries;
mod lstm;
mod normalise;
mod pool;
mod rows;
mod source;

#[cfg(test)]
mod tests;

pub(crate) use launcher::Buffer;
pub(crate) use layout::Indices;

use self::core::Core;
use super::backend::{
    AdamStep, Attended, Backend, ColumnsAt, Dropout, LinearShape, LinearWeights, Lookup, LstmGradients, LstmInput,
    LstmPairGradients, LstmShape, LstmState, LstmWeights, MatrixShape, MixShape, MixWeights, NormState, NormWeights,
    PairGradient, PoolInput, PoolShape, RowsAt, SlotShape, Slots, Smoothing, Trained,
};
use super::packing::Packing;
use crate::{CudaDevice, ModelError};
use driver::Driver;
use launcher::{Launcher, Product};
use layout::{Layout, Scatter};

/// A GPU and the working memory of its operations.
pub(crate) struct Cuda {
    name: String,
    core: Core,
    layout: Layout,
    scatter: Scatter,
    /// Working memory of the layers that run concurrently.
    lstm: [lstm::Working; 2],
    /// The gradients of cells for layers that run step by step.
    carry: Buffer,
    /// Rows gathered by an operation.
    rows: Buffer,
    /// Partial sums, in single or double precision.
    sums: Buffer,
    /// Totals of partial sums in double precision.
    totals: Buffer,
    /// Per-column values of a normalisation.
    columns: Buffer,
    /// The gradients of attention's scores.
    slopes: Buffer,
    /// Sums of squared gradients in double precision, one for each array.
    squares: Buffer,
    /// Number of arrays summed into `squares`, and the total of the sums fetched earlier.
    squared: (usize, f64),
}

fn missing(device: CudaDevice, problem: String) -> ModelError {
    ModelError::Device { device: format!("cuda:{}", device.number), problem }
}

/// Returns the name and driver of a GPU, for the records.
///
/// # Errors
/// There is no driver, or no GPU with this number.
pub(crate) fn describe(device: CudaDevice) -> Result<String, ModelError> {
    let info = driver::info(device.number).map_err(|problem| missing(device, problem))?;
    Ok(format!("{}, driver {}", info.name, info.driver))
}

/// Checks whether this GPU can be used.
///
/// # Errors
/// The driver, the GPU or a library is missing.
pub(crate) fn is_usable(device: CudaDevice) -> Result<(), ModelError> {
    describe(device)?;
    [libraries::Library::RuntimeCompiler, libraries::Library::MatrixProducts]
        .into_iter()
        .try_for_each(libraries::find)
        .map_err(|problem| missing(device, problem))
}

impl Cuda {
    /// Opens a GPU.
    ///
    /// # Errors
    /// There is no driver or GPU, or a library is missing, which the error names.
    pub(crate) fn new(device: CudaDevice) -> Result<Self, ModelError> {
        let driver = Driver::new(device.number, device.precision).map_err(|problem| missing(device, problem))?;
        Ok(Self::on(Box::new(driver), format!("cuda:{}", device.number)))
    }

    /// Creates a device with any launcher.
    fn on(launcher: Box<dyn Launcher>, name: String) -> Self {
        Self {
            name,
            core: Core::new(launcher),
            layout: Layout::default(),
            scatter: Scatter::default(),
            lstm: Default::default(),
            carry: Buffer::default(),
            rows: Buffer::default(),
            sums: Buffer::default(),
            totals: Buffer::default(),
            columns: Buffer::default(),
            slopes: Buffer::default(),
            squares: Buffer::default(),
            squared: (0, 0.0),
        }
    }

    /// Adds `left^T right` to a weight's gradient: left `[rows, outputs]`, right `[rows, inputs]`.
    fn weight_gradient(&mut self, shape: LinearShape, left: u64, right: u64, to: &Buffer) {
        let LinearShape { rows, inputs, outputs } = shape;
        self.core.multiply(Product {
            rows: outputs,
            columns: inputs,
            depth: rows,
            left,
            left_transposed: true,
            right,
            right_transposed: false,
            out: to.address,
            accumulate: true,
        });
    }
}

impl Backend for Cuda {
    type Values = Buffer;
    type Indices = Indices;

    fn check(&self) -> Result<(), ModelError> {
        match self.core.failure() {
            None => Ok(()),
            Some(problem) => Err(ModelError::Device { device: self.name.clone(), problem }),
        }
    }

    fn rows_per_chunk(&self, hidden: usize, rows: usize) -> usize {
        lstm::Plan::new(hidden, rows, self.core.resident_blocks()).map_or(rows.max(1), |plan| plan.chunk_rows)
    }

    fn prefers_resident(&self, length: usize) -> bool {
        // The rest is reserved for batches.
        length <= self.core.free_words() / 2
    }

    fn reserve(&mut self, values: &mut Buffer, length: usize) {
        self.core.reserve(values, length);
    }

    fn upload(&mut self, from: &[f32], to: &mut Buffer) {
        self.core.upload(bytemuck::cast_slice(from), to);
    }

    fn upload_indices(&mut self, from: &[u32], to: &mut Indices) {
        to.host.clear();
        to.host.extend_from_slice(from);
        self.core.upload(from, &mut to.buffer);
    }

    fn download(&self, from: &Buffer, to: &mut [f32]) {
        self.core.download(from, bytemuck::cast_slice_mut(to));
    }

    fn linear(&mut self, shape: LinearShape, x: &Buffer, weights: LinearWeights<&Buffer>, y: &mut Buffer) {
        let LinearShape { rows, inputs, outputs } = shape;
        self.fill_rows(shape.output(), weights.bias, y);
        self.core.multiply(Product {
            rows,
            columns: outputs,
            depth: inputs,
            left: x.address,
            left_transposed: false,
            right: weights.weight.address,
            right_transposed: true,
            out: y.address,
            accumulate: true,
        });
    }

    fn linear_backward(
        &mut self,
        shape: LinearShape,
        x: &Buffer,
        dy: &Buffer,
        weights: LinearWeights<&mut Trained<Buffer>>,
        dx: &mut Buffer,
        accumulate: bool,
    ) {
        let LinearShape { rows, inputs, outputs } = shape;
        let LinearWeights { weight, bias } = weights;
        self.weight_gradient(shape, dy.address, x.address, &weight.gradient);
        self.column_sums(shape.output(), dy.address, &bias.gradient);
        self.core.multiply(Product {
            rows,
            columns: inputs,
            depth: outputs,
            left: dy.address,
            left_transposed: false,
            right: weight.value.address,
            right_transposed: false,
            out: dx.address,
            accumulate,
        });
    }

    fn lstm(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        input: LstmInput<'_, Self>,
        weights: LstmWeights<&Buffer>,
        state: &mut LstmState<Buffer>,
    ) {
        self.lstm_layers(shape, packing, &mut [lstm::Forward { input, weights, state }]);
    }

    fn lstm_backward(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        input: LstmInput<'_, Self>,
        weights: LstmWeights<&mut Trained<Buffer>>,
        state: &mut LstmState<Buffer>,
        gradients: LstmGradients<'_, Buffer>,
    ) {
        let LstmGradients { output: dh, input: dx } = gradients;
        let mut layer = [lstm::Backward { weight: &weights.hidden.value, state, dh }];
        self.lstm_gates_backward(shape, packing, &mut layer);
        self.lstm_gradients(shape, packing, &input, weights, state, dx);
    }

    fn runs_pairs(&self) -> bool {
        true
    }

    fn lstm_pair(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        inputs: [LstmInput<'_, Self>; 2],
        weights: [LstmWeights<&Buffer>; 2],
        states: [&mut LstmState<Buffer>; 2],
    ) {
        let ([first, second], [first_weights, second_weights]) = (inputs, weights);
        let [first_state, second_state] = states;
        let mut layers = [
            lstm::Forward { input: first, weights: first_weights, state: first_state },
            lstm::Forward { input: second, weights: second_weights, state: second_state },
        ];
        self.lstm_layers(shape, packing, &mut layers);
    }

    fn lstm_pair_backward(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        inputs: [LstmInput<'_, Self>; 2],
        weights: [LstmWeights<&mut Trained<Buffer>>; 2],
        states: [&mut LstmState<Buffer>; 2],
        gradients: LstmPairGradients<'_, Buffer>,
    ) {
        let LstmPairGradients { outputs: dh, inputs: dx } = gradients;
        let [first_state, second_state] = states;
        let mut layers = [
            lstm::Backward { weight: &weights[0].hidden.value, state: &mut *first_state, dh: dh[0] },
            lstm::Backward { weight: &weights[1].hidden.value, state: &mut *second_state, dh: dh[1] },
        ];
        self.lstm_gates_backward(shape, packing, &mut layers);
        let dx: [&Buffer; 2] = match &dx {
            PairGradient::Each([first, second]) => [&**first, &**second],
            PairGradient::Shared(both) => [&**both, &**both],
        };
        let states = [&*first_state, &*second_state];
        for (((input, weights), state), dx) in inputs.iter().zip(weights).zip(states).zip(dx) {
            self.lstm_gradients(shape, packing, input, weights, state, dx);
        }
    }

    fn cross_entropy(&mut self, shape: MatrixShape, logits: &mut Buffer, targets: &Indices, scale: f32) -> f64 {
        self.cross_entropy_rows(shape, logits, &targets.buffer, scale)
    }

    fn weighted_cross_entropy(
        &mut self,
        shape: MatrixShape,
        logits: &mut Buffer,
        targets: &Indices,
        weights: &Buffer,
        smoothing: Smoothing,
        scale: f32,
    ) -> f64 {
        self.weighted_cross_entropy_rows(shape, logits, &targets.buffer, weights, smoothing, scale)
    }

    fn softmax(&mut self, shape: MatrixShape, logits: &mut Buffer) {
        self.softmax_rows(shape, logits);
    }

    fn dropout(&mut self, shape: MatrixShape, dropout: Dropout, places: &Indices, x: &Buffer, y: &mut Buffer) {
        self.dropout_rows(shape, dropout, &places.buffer, x, y);
    }

    fn dropout_in_place(&mut self, shape: MatrixShape, dropout: Dropout, places: &Indices, x: &mut Buffer) {
        self.dropout_rows(shape, dropout, &places.buffer, x, x);
    }

    fn relu(&mut self, count: usize, x: &mut Buffer) {
        self.core.each(launcher::Kernel::Relu, count, [(&*x).into()]);
    }

    fn relu_backward(&mut self, count: usize, y: &Buffer, dy: &mut Buffer) {
        self.core.each(launcher::Kernel::ReluBackward, count, [y.into(), (&*dy).into()]);
    }

    fn batch_norm(
        &mut self,
        shape: MatrixShape,
        x: &Buffer,
        weights: NormWeights<&Buffer>,
        share: f32,
        state: &mut NormState<Buffer>,
        y: &mut Buffer,
    ) {
        self.normalise_batch(shape, x, share, state);
        self.normalise_rows(shape, x, (state.mean.address, state.scale.address), weights, y);
    }

    fn batch_norm_fixed(
        &mut self,
        shape: MatrixShape,
        x: &Buffer,
        weights: NormWeights<&Buffer>,
        state: &NormState<Buffer>,
        y: &mut Buffer,
    ) {
        let scale = self.fixed_scale(shape.columns, state);
        self.normalise_rows(shape, x, (state.running_mean.address, scale), weights, y);
    }

    fn batch_norm_backward(
        &mut self,
        shape: MatrixShape,
        x: &Buffer,
        weights: NormWeights<&mut Trained<Buffer>>,
        state: &NormState<Buffer>,
        gradient: &mut Buffer,
    ) {
        self.normalise_backward(shape, x, weights, state, gradient);
    }

    fn attention(
        &mut self,
        packing: &Packing,
        columns: usize,
        input: Attended<&Buffer>,
        attention: &mut Buffer,
        y: &mut Buffer,
    ) {
        self.attend(packing, columns, input, attention, y);
    }

    fn attention_backward(
        &mut self,
        packing: &Packing,
        columns: usize,
        input: Attended<&Buffer>,
        attention: &Buffer,
        dy: &Buffer,
        gradient: Attended<&mut Buffer>,
    ) {
        self.attend_backward(packing, columns, input, attention, dy, gradient);
    }

    fn pool(&mut self, packing: &Packing, shape: PoolShape, x: PoolInput<'_, Self>, y: &mut Buffer) {
        self.pool_rows(packing, shape, x, y);
    }

    fn pool_backward(
        &mut self,
        packing: &Packing,
        shape: PoolShape,
        x: PoolInput<'_, Self>,
        dy: &Buffer,
        dx: &mut Buffer,
        accumulate: bool,
    ) {
        self.pool_rows_backward(packing, shape, x, dy, dx, accumulate);
    }

    fn slot_attention(
        &mut self,
        shape: SlotShape,
        slots: Slots<'_, Self>,
        weight: &Buffer,
        shares: &mut Buffer,
        y: &mut Buffer,
    ) {
        self.attend_slots(shape, slots, weight, shares, y);
    }

    fn slot_attention_backward(
        &mut self,
        shape: SlotShape,
        slots: Slots<'_, Self>,
        weight: &mut Trained<Buffer>,
        shares: &Buffer,
        dy: &Buffer,
        dx: &mut Buffer,
    ) {
        self.attend_slots_backward(shape, slots, weight, shares, dy, dx);
    }

    fn zero(&mut self, count: usize, x: &mut Buffer) {
        self.core.zero(x, count);
    }

    fn scatter_add(&mut self, shape: MatrixShape, x: &Buffer, ids: &Indices, table_rows: usize, table: &mut Buffer) {
        self.scatter_rows(shape, x, ids, table_rows, table);
    }

    fn add_looked_up(&mut self, shape: MatrixShape, lookups: [Lookup<'_, Self>; 2], y: &mut Buffer) {
        let [left, right] = lookups;
        let (left_ids, right_ids) = (&left.ids.buffer, &right.ids.buffer);
        let columns = shape.columns.into();
        let arguments =
            [columns, left.table.into(), left_ids.into(), right.table.into(), right_ids.into(), (&*y).into()];
        self.core.each(launcher::Kernel::AddLookedUp, shape.values(), arguments);
    }

    fn put_rows(&mut self, shape: MatrixShape, x: &Buffer, at: RowsAt<'_, Indices>, y: &mut Buffer) {
        self.move_rows(launcher::Kernel::PutRows, shape, x, at, y);
    }

    fn take_rows(&mut self, shape: MatrixShape, x: &Buffer, at: RowsAt<'_, Indices>, y: &mut Buffer) {
        self.move_rows(launcher::Kernel::TakeRows, shape, x, at, y);
    }

    fn put_columns(&mut self, shape: MatrixShape, x: &Buffer, at: ColumnsAt, y: &mut Buffer) {
        self.move_columns(launcher::Kernel::PutColumns, shape, x, at, y);
    }

    fn take_columns(&mut self, shape: MatrixShape, x: &Buffer, at: ColumnsAt, y: &mut Buffer) {
        self.move_columns(launcher::Kernel::TakeColumns, shape, x, at, y);
    }

    fn mix(&mut self, shape: MixShape, x: &Buffer, places: &Indices, weights: MixWeights<&Buffer>, y: &mut Buffer) {
        self.mix_rows(shape, x, &places.buffer, weights, y);
    }

    fn mix_backward(
        &mut self,
        shape: MixShape,
        x: &Buffer,
        places: &Indices,
        weights: MixWeights<&mut Trained<Buffer>>,
        dy: &Buffer,
    ) {
        self.mix_gradients(shape, x, &places.buffer, weights, dy);
    }

    fn mix_layers_backward(
        &mut self,
        shape: MixShape,
        sums: &Indices,
        weights: MixWeights<&Buffer>,
        dy: &Buffer,
        dx: &mut Buffer,
    ) {
        self.mix_layers(shape, &sums.buffer, weights, dy, dx);
    }

    fn add_squared_norm(&mut self, trained: &Trained<Buffer>, length: usize) {
        self.add_squares(&trained.gradient, length);
    }

    fn take_squared_norm(&mut self) -> f64 {
        self.take_squares()
    }

    fn adam(&mut self, trained: &mut Trained<Buffer>, length: usize, step: AdamStep) {
        self.adam_step(trained, length, step);
    }

    fn average(&mut self, trained: &mut Trained<Buffer>, length: usize, share: f32) {
        let (values, average) = (&trained.value, &trained.average);
        self.core.each(launcher::Kernel::Average, length, [share.into(), values.into(), average.into()]);
    }
}
