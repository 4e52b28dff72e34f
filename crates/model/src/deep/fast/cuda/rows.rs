//! Kernel launches for operations on rows, for the gradient's norm and for Adam.

use super::Cuda;
use super::launcher::{Argument, Buffer, Grid, Kernel, THREADS};
use super::layout::Indices;
use crate::deep::engine::{ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON, dropout_stream};
use crate::deep::fast::backend::{
    AdamStep, ColumnsAt, Dropout, MatrixShape, MixShape, MixWeights, RowsAt, Smoothing, Trained,
};

/// Rows summed at once, and the maximum number of such sums.
const PIECE_ROWS: usize = 256;
const MOST_PIECES: usize = 4096;
/// Columns and lanes of a block that sums columns, as in the source.
pub(super) const SUM_COLUMNS: usize = 32;
/// Rows of a mix whose products are summed at once.
const MIX_ROWS: usize = 32;
/// Values whose squares one block sums.
const SQUARES: usize = 8192;
/// Maximum number of sums of squares stored before they are fetched.
const KEPT_SQUARES: usize = 256;
/// Threads per warp.
const WARP: usize = 32;
/// Words per double-precision number.
pub(super) const DOUBLE: usize = 2;

/// Returns the size of a piece of rows and the number of pieces.
pub(super) fn pieces(rows: usize) -> (usize, usize) {
    let piece = PIECE_ROWS.max(rows.div_ceil(MOST_PIECES));
    (piece, rows.div_ceil(piece))
}

impl Cuda {
    pub(super) fn fill_rows(&mut self, shape: MatrixShape, bias: &Buffer, y: &Buffer) {
        self.core.each(Kernel::FillRows, shape.values(), [shape.columns.into(), bias.into(), y.into()]);
    }

    /// Adds the sums of the columns of x `[rows, columns]` to `totals`.
    pub(super) fn column_sums(&mut self, shape: MatrixShape, x: u64, totals: &Buffer) {
        let MatrixShape { rows, columns } = shape;
        let (piece, pieces) = pieces(rows);
        self.core.reserve(&mut self.sums, pieces * columns);
        let arguments = [rows.into(), columns.into(), piece.into(), Argument::Address(x), Argument::from(&self.sums)];
        let blocks = [columns.div_ceil(SUM_COLUMNS), pieces, 1];
        self.core.launch(Kernel::ColumnSums, Grid::blocks(blocks, 4 * THREADS), &arguments);
        let arguments = [pieces.into(), columns.into(), (&self.sums).into(), totals.into()];
        self.core.launch(Kernel::AddColumnTotals, Grid::over(columns), &arguments);
    }

    pub(super) fn softmax_rows(&mut self, shape: MatrixShape, logits: &Buffer) {
        let grid = Grid::blocks([shape.rows.div_ceil(THREADS / WARP), 1, 1], 0);
        self.core.launch(Kernel::Softmax, grid, &[shape.rows.into(), shape.columns.into(), logits.into()]);
    }

    pub(super) fn cross_entropy_rows(
        &mut self,
        shape: MatrixShape,
        logits: &Buffer,
        targets: &Buffer,
        scale: f32,
    ) -> f64 {
        let MatrixShape { rows, columns: classes } = shape;
        let blocks = self.reserve_losses(rows);
        let arguments =
            [rows.into(), classes.into(), logits.into(), targets.into(), scale.into(), Argument::from(&self.sums)];
        self.sum_of_losses(Kernel::CrossEntropy, blocks, &arguments)
    }

    pub(super) fn weighted_cross_entropy_rows(
        &mut self,
        shape: MatrixShape,
        logits: &Buffer,
        targets: &Buffer,
        weights: &Buffer,
        smoothing: Smoothing,
        scale: f32,
    ) -> f64 {
        let MatrixShape { rows, columns: classes } = shape;
        let blocks = self.reserve_losses(rows);
        let arguments = [
            rows.into(),
            classes.into(),
            logits.into(),
            targets.into(),
            weights.into(),
            smoothing.kept.into(),
            smoothing.spread.into(),
            scale.into(),
            Argument::from(&self.sums),
        ];
        self.sum_of_losses(Kernel::WeightedCrossEntropy, blocks, &arguments)
    }

    /// Reserves room for the losses of blocks of rows, and returns the number of blocks.
    fn reserve_losses(&mut self, rows: usize) -> usize {
        let blocks = rows.div_ceil(THREADS / WARP);
        self.core.reserve(&mut self.sums, blocks * DOUBLE);
        self.core.reserve(&mut self.totals, DOUBLE);
        blocks
    }

    /// Returns the sum of the losses that a kernel writes for each block.
    fn sum_of_losses(&mut self, kernel: Kernel, blocks: usize, arguments: &[Argument]) -> f64 {
        let grid = Grid::blocks([blocks, 1, 1], 4 * DOUBLE * THREADS / WARP);
        self.core.launch(kernel, grid, arguments);
        let sums = self.sums.address;
        let totals = self.totals.address;
        self.total(blocks, sums, 0, totals);
        let mut found = [0f64; 1];
        self.core.download(&self.totals, bytemuck::cast_slice_mut(&mut found));
        found[0]
    }

    /// Sums `count` double-precision numbers and stores the result as number `slot` of `totals`.
    fn total(&mut self, count: usize, values: u64, slot: usize, totals: u64) {
        let arguments = [count.into(), Argument::Address(values), slot.into(), Argument::Address(totals)];
        self.core.launch(Kernel::Total, Grid::blocks([1, 1, 1], 4 * DOUBLE * THREADS), &arguments);
    }

    pub(super) fn dropout_rows(
        &mut self,
        shape: MatrixShape,
        dropout: Dropout,
        places: &Buffer,
        x: &Buffer,
        y: &Buffer,
    ) {
        let columns = shape.columns;
        let stream = dropout_stream(dropout.seed, dropout.step, dropout.place);
        let arguments =
            [columns.into(), Argument::Long(stream), dropout.rate.into(), places.into(), x.into(), y.into()];
        self.core.each(Kernel::Dropout, shape.values(), arguments);
    }

    /// Copies the rows of x to their places in y or, with [`Kernel::TakeRows`], the rows at these places in x to y.
    pub(super) fn move_rows(
        &mut self,
        kernel: Kernel,
        shape: MatrixShape,
        x: &Buffer,
        at: RowsAt<'_, Indices>,
        y: &Buffer,
    ) {
        let columns = shape.columns;
        let RowsAt { places, stride, offset } = at;
        let arguments =
            [columns.into(), (&places.buffer).into(), stride.into(), offset.into(), x.into(), Argument::from(y)];
        self.core.each(kernel, shape.values(), arguments);
    }

    /// Copies x to columns of y or, with [`Kernel::TakeColumns`], columns of x to y.
    pub(super) fn move_columns(&mut self, kernel: Kernel, shape: MatrixShape, x: &Buffer, at: ColumnsAt, y: &Buffer) {
        let arguments = [shape.columns.into(), at.total.into(), at.first.into(), x.into(), Argument::from(y)];
        self.core.each(kernel, shape.values(), arguments);
    }

    pub(super) fn scatter_rows(
        &mut self,
        shape: MatrixShape,
        x: &Buffer,
        ids: &Indices,
        table_rows: usize,
        table: &Buffer,
    ) {
        let MatrixShape { rows, columns } = shape;
        self.core.reserve(&mut self.rows, table_rows * columns);
        let sums = self.rows.address;
        self.scatter.sum(&mut self.core, columns, x.address, &ids.host[..rows], table_rows, sums);
        self.core.each(Kernel::Add, table_rows * columns, [Argument::Address(sums), table.into()]);
    }

    pub(super) fn mix_layers(
        &mut self,
        shape: MixShape,
        sums: &Buffer,
        weights: MixWeights<&Buffer>,
        dy: &Buffer,
        dx: &Buffer,
    ) {
        let MixShape { rows, layers, columns } = shape;
        let arguments = [
            layers.into(),
            columns.into(),
            sums.into(),
            weights.weight.into(),
            weights.gamma.into(),
            dy.into(),
            Argument::from(dx),
        ];
        self.core.each(Kernel::MixLayersBackward, rows * layers * columns, arguments);
    }

    pub(super) fn mix_rows(
        &mut self,
        shape: MixShape,
        x: &Buffer,
        places: &Buffer,
        weights: MixWeights<&Buffer>,
        y: &Buffer,
    ) {
        let MixShape { rows, layers, columns } = shape;
        let arguments = [
            layers.into(),
            columns.into(),
            x.into(),
            places.into(),
            weights.weight.into(),
            weights.gamma.into(),
            Argument::from(y),
        ];
        self.core.launch(Kernel::Mix, Grid::blocks([rows, 1, 1], 0), &arguments);
    }

    pub(super) fn mix_gradients(
        &mut self,
        shape: MixShape,
        x: &Buffer,
        places: &Buffer,
        weights: MixWeights<&mut Trained<Buffer>>,
        dy: &Buffer,
    ) {
        let MixShape { rows, layers, columns } = shape;
        let pieces = rows.div_ceil(MIX_ROWS);
        self.core.reserve(&mut self.sums, layers * pieces * DOUBLE);
        self.core.reserve(&mut self.totals, layers * DOUBLE);
        let arguments = [
            rows.into(),
            MIX_ROWS.into(),
            layers.into(),
            columns.into(),
            x.into(),
            places.into(),
            dy.into(),
            Argument::from(&self.sums),
        ];
        let grid = Grid::blocks([pieces, layers, 1], 4 * DOUBLE * THREADS);
        self.core.launch(Kernel::MixProducts, grid, &arguments);
        for layer in 0..layers {
            let (sums, totals) = (self.sums.at(layer * pieces * DOUBLE), self.totals.address);
            self.total(pieces, sums, layer, totals);
        }
        let MixWeights { weight, gamma } = weights;
        let arguments = [
            layers.into(),
            (&self.totals).into(),
            (&weight.value).into(),
            (&gamma.value).into(),
            (&weight.gradient).into(),
            Argument::from(&gamma.gradient),
        ];
        let grid = Grid { blocks: [1, 1, 1], threads: 1, shared: 0, together: false };
        self.core.launch(Kernel::MixGradients, grid, &arguments);
    }

    /// Adds to the sum returned by [`Cuda::take_squares`], without waiting for the device.
    pub(super) fn add_squares(&mut self, values: &Buffer, length: usize) {
        if self.squared.0 == KEPT_SQUARES {
            self.squared.1 = self.take_squares();
        }
        let blocks = length.div_ceil(SQUARES);
        self.core.reserve(&mut self.sums, blocks * DOUBLE);
        self.core.reserve(&mut self.squares, KEPT_SQUARES * DOUBLE);
        let arguments = [Argument::Long(length as u64), SQUARES.into(), values.into(), Argument::from(&self.sums)];
        let grid = Grid::blocks([blocks, 1, 1], 4 * DOUBLE * THREADS);
        self.core.launch(Kernel::Squares, grid, &arguments);
        let (sums, squares) = (self.sums.address, self.squares.address);
        self.total(blocks, sums, self.squared.0, squares);
        self.squared.0 += 1;
    }

    /// Returns the sum of all squares added since the last call.
    pub(super) fn take_squares(&mut self) -> f64 {
        let (count, before) = std::mem::take(&mut self.squared);
        let mut found = [0f64; KEPT_SQUARES];
        if count > 0 {
            self.core.download(&self.squares, bytemuck::cast_slice_mut(&mut found[..count]));
        }
        before + found.iter().sum::<f64>()
    }

    pub(super) fn adam_step(&mut self, trained: &Trained<Buffer>, length: usize, step: AdamStep) {
        // Rounded to single precision as late as in PyTorch.
        let step_size = (f64::from(step.learning_rate) / (1.0 - ADAM_BETA_1.powi(step.step))) as f32;
        let correction = (1.0 - ADAM_BETA_2.powi(step.step)).sqrt() as f32;
        let arguments = [
            step.gradient_scale.into(),
            step_size.into(),
            correction.into(),
            (1.0 - step.learning_rate * step.weight_decay).into(),
            ((1.0 - ADAM_BETA_1) as f32).into(),
            (ADAM_BETA_2 as f32).into(),
            ((1.0 - ADAM_BETA_2) as f32).into(),
            (ADAM_EPSILON as f32).into(),
            (&trained.value).into(),
            (&trained.gradient).into(),
            (&trained.first).into(),
            Argument::from(&trained.second),
        ];
        self.core.each(Kernel::Adam, length, arguments);
    }
}
