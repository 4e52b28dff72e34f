//! Kernel launches for batch normalisation.

use super::Cuda;
use super::launcher::{Argument, Buffer, Grid, Kernel, THREADS};
use super::rows::{DOUBLE, SUM_COLUMNS, pieces};
use crate::deep::engine::NORM_EPSILON;
use crate::deep::fast::backend::{MatrixShape, NormState, NormWeights, Trained};

impl Cuda {
    /// Sums the columns of x, or their squared distances from a centre, over pieces of rows.
    fn norm_sums(&mut self, shape: MatrixShape, x: &Buffer, centre: u64) {
        let MatrixShape { rows, columns } = shape;
        let (piece, pieces) = pieces(rows);
        self.core.reserve(&mut self.sums, pieces * columns * DOUBLE);
        let arguments = [
            rows.into(),
            columns.into(),
            piece.into(),
            x.into(),
            Argument::Address(centre),
            Argument::from(&self.sums),
        ];
        let grid = Grid::blocks([columns.div_ceil(SUM_COLUMNS), pieces, 1], 4 * DOUBLE * THREADS);
        self.core.launch(Kernel::NormSums, grid, &arguments);
    }

    /// Computes the statistics of a batch, and moves the running ones towards them by `share` of the difference.
    pub(super) fn normalise_batch(
        &mut self,
        shape: MatrixShape,
        x: &Buffer,
        share: f32,
        state: &mut NormState<Buffer>,
    ) {
        let MatrixShape { rows, columns } = shape;
        let (_, pieces) = pieces(rows);
        self.core.reserve(&mut state.mean, columns);
        self.core.reserve(&mut state.scale, columns);
        self.core.reserve(&mut self.totals, columns * DOUBLE);
        self.norm_sums(shape, x, 0);
        let arguments = [rows.into(), columns.into(), pieces.into(), (&self.sums).into(), Argument::from(&self.totals)];
        self.core.launch(Kernel::NormCentre, Grid::over(columns), &arguments);
        self.norm_sums(shape, x, self.totals.address);
        let arguments = [
            rows.into(),
            columns.into(),
            pieces.into(),
            NORM_EPSILON.into(),
            share.into(),
            (&self.totals).into(),
            (&self.sums).into(),
            (&state.mean).into(),
            (&state.scale).into(),
            (&state.running_mean).into(),
            Argument::from(&state.running_variance),
        ];
        self.core.launch(Kernel::NormStatistics, Grid::over(columns), &arguments);
    }

    /// Computes the scales from the running variances and returns their address.
    pub(super) fn fixed_scale(&mut self, columns: usize, state: &NormState<Buffer>) -> u64 {
        self.core.reserve(&mut self.columns, columns);
        let arguments =
            [columns.into(), NORM_EPSILON.into(), (&state.running_variance).into(), Argument::from(&self.columns)];
        self.core.launch(Kernel::NormFixedScale, Grid::over(columns), &arguments);
        self.columns.address
    }

    /// Normalises with these means and scales.
    pub(super) fn normalise_rows(
        &mut self,
        shape: MatrixShape,
        x: &Buffer,
        (mean, scale): (u64, u64),
        weights: NormWeights<&Buffer>,
        y: &Buffer,
    ) {
        let arguments = [
            shape.columns.into(),
            x.into(),
            Argument::Address(mean),
            Argument::Address(scale),
            weights.weight.into(),
            weights.bias.into(),
            y.into(),
        ];
        self.core.each(Kernel::NormApply, shape.values(), arguments);
    }

    pub(super) fn normalise_backward(
        &mut self,
        shape: MatrixShape,
        x: &Buffer,
        weights: NormWeights<&mut Trained<Buffer>>,
        state: &NormState<Buffer>,
        gradient: &Buffer,
    ) {
        let MatrixShape { rows, columns } = shape;
        let (piece, pieces) = pieces(rows);
        self.core.reserve(&mut self.sums, 2 * pieces * columns * DOUBLE);
        self.core.reserve(&mut self.columns, 2 * columns);
        let arguments = [
            rows.into(),
            columns.into(),
            piece.into(),
            x.into(),
            (&state.mean).into(),
            (&state.scale).into(),
            gradient.into(),
            Argument::from(&self.sums),
        ];
        let grid = Grid::blocks([columns.div_ceil(SUM_COLUMNS), pieces, 1], 4 * DOUBLE * THREADS);
        self.core.launch(Kernel::NormGradientSums, grid, &arguments);
        let NormWeights { weight, bias } = weights;
        let arguments = [
            columns.into(),
            pieces.into(),
            (&self.sums).into(),
            (&weight.gradient).into(),
            (&bias.gradient).into(),
            Argument::from(&self.columns),
        ];
        self.core.launch(Kernel::NormGradientTotals, Grid::over(columns), &arguments);
        let arguments = [
            rows.into(),
            columns.into(),
            x.into(),
            (&state.mean).into(),
            (&state.scale).into(),
            (&weight.value).into(),
            (&self.columns).into(),
            Argument::from(gradient),
        ];
        self.core.each(Kernel::NormBackward, shape.values(), arguments);
    }
}
