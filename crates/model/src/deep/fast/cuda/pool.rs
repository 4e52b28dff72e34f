//! Kernel launches for the pooling of sequences.

use super::Cuda;
use super::launcher::{Argument, Buffer, Grid, Kernel, THREADS};
use crate::deep::fast::backend::{PoolInput, PoolShape};
use crate::deep::fast::packing::Packing;
use crate::deep::pooling::PoolingKind;

/// Returns the number used in the CUDA source for a kind of pooling.
fn kind(kind: PoolingKind) -> u32 {
    match kind {
        PoolingKind::Mean | PoolingKind::Segments | PoolingKind::Attention | PoolingKind::States => 0,
        PoolingKind::Maximum => 1,
        PoolingKind::Last => 2,
    }
}

/// Returns the addresses of the rows and, if they are embedded, of their indices.
fn addresses(x: &PoolInput<'_, Cuda>) -> [Argument; 2] {
    let (rows, ids) = match x {
        PoolInput::Rows(rows) => (rows, 0),
        PoolInput::Embedded { embedding, ids } => (embedding, ids.buffer.address),
    };
    [(*rows).into(), Argument::Address(ids)]
}

impl Cuda {
    /// Returns the arguments that both kernels start with, and their grid.
    fn pooled(&mut self, packing: &Packing, shape: PoolShape) -> (Vec<Argument>, Grid) {
        let PoolShape { columns, pooling, reversed } = shape;
        self.layout.set(&mut self.core, packing);
        let arguments = vec![
            columns.into(),
            self.layout.chunk_rows.into(),
            self.layout.chunk_table().into(),
            self.layout.offsets().into(),
            self.layout.lengths().into(),
            kind(pooling.kind).into(),
            pooling.slot_bytes.into(),
            u32::from(reversed).into(),
        ];
        (arguments, Grid::blocks([packing.rows(), columns.div_ceil(THREADS), pooling.slots], 0))
    }

    pub(super) fn pool_rows(&mut self, packing: &Packing, shape: PoolShape, x: PoolInput<'_, Self>, y: &Buffer) {
        let (mut arguments, grid) = self.pooled(packing, shape);
        arguments.extend(addresses(&x));
        arguments.push(y.into());
        self.core.launch(Kernel::Pool, grid, &arguments);
    }

    pub(super) fn pool_rows_backward(
        &mut self,
        packing: &Packing,
        shape: PoolShape,
        x: PoolInput<'_, Self>,
        dy: &Buffer,
        dx: &Buffer,
        accumulate: bool,
    ) {
        let (mut arguments, grid) = self.pooled(packing, shape);
        arguments.push(u32::from(accumulate).into());
        arguments.extend(addresses(&x));
        arguments.extend([dy.into(), Argument::from(dx)]);
        self.core.launch(Kernel::PoolBackward, grid, &arguments);
    }
}
