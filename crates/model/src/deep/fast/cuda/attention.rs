//! Kernel launches for self-attention.

use super::Cuda;
use super::launcher::{Argument, Buffer, Grid, Kernel};
use crate::deep::fast::backend::{Attended, MatrixShape, SlotShape, Slots, Trained};
use crate::deep::fast::packing::Packing;

/// Returns the number of scores per sequence: the square of the maximum length.
fn stride(packing: &Packing) -> usize {
    packing.lengths.first().map_or(0, |&length| (length as usize).pow(2))
}

impl Cuda {
    fn attention_arguments(&mut self, packing: &Packing, columns: usize, input: &Attended<&Buffer>) -> [Argument; 9] {
        self.layout.set(&mut self.core, packing);
        [
            columns.into(),
            self.layout.chunk_rows.into(),
            self.layout.chunk_table().into(),
            self.layout.offsets().into(),
            self.layout.lengths().into(),
            stride(packing).into(),
            input.query.into(),
            input.key.into(),
            input.value.into(),
        ]
    }

    pub(super) fn attend(
        &mut self,
        packing: &Packing,
        columns: usize,
        input: Attended<&Buffer>,
        scores: &mut Buffer,
        y: &Buffer,
    ) {
        self.core.reserve(scores, packing.rows() * stride(packing));
        let shared = self.attention_arguments(packing, columns, &input);
        let mut arguments = [Argument::from(y); 11];
        arguments[..9].copy_from_slice(&shared);
        arguments[9] = (&*scores).into();
        self.core.launch(Kernel::Attention, Grid::blocks([packing.rows(), 1, 1], 0), &arguments);
    }

    pub(super) fn attend_backward(
        &mut self,
        packing: &Packing,
        columns: usize,
        input: Attended<&Buffer>,
        scores: &Buffer,
        dy: &Buffer,
        gradient: Attended<&mut Buffer>,
    ) {
        self.core.reserve(&mut self.slopes, packing.rows() * stride(packing));
        let shared = self.attention_arguments(packing, columns, &input);
        let mut arguments = [Argument::from(scores); 15];
        arguments[..9].copy_from_slice(&shared);
        let rest = [
            dy.into(),
            (&self.slopes).into(),
            (&*gradient.query).into(),
            (&*gradient.key).into(),
            Argument::from(&*gradient.value),
        ];
        arguments[10..].copy_from_slice(&rest);
        self.core.launch(Kernel::AttentionBackward, Grid::blocks([packing.rows(), 1, 1], 0), &arguments);
    }

    pub(super) fn attend_slots(
        &mut self,
        shape: SlotShape,
        slots: Slots<'_, Self>,
        weight: &Buffer,
        shares: &Buffer,
        y: &Buffer,
    ) {
        let SlotShape { rows, slots: count, columns } = shape;
        let arguments = [
            count.into(),
            columns.into(),
            slots.x.into(),
            (&slots.lengths.buffer).into(),
            weight.into(),
            shares.into(),
            Argument::from(y),
        ];
        self.core.launch(Kernel::SlotAttention, Grid::blocks([rows, 1, 1], 0), &arguments);
    }

    pub(super) fn attend_slots_backward(
        &mut self,
        shape: SlotShape,
        slots: Slots<'_, Self>,
        weight: &Trained<Buffer>,
        shares: &Buffer,
        dy: &Buffer,
        dx: &Buffer,
    ) {
        let SlotShape { rows, slots: count, columns } = shape;
        self.core.reserve(&mut self.slopes, rows * count);
        self.core.reserve(&mut self.rows, rows * 2 * columns);
        let arguments = [
            count.into(),
            columns.into(),
            slots.x.into(),
            (&slots.lengths.buffer).into(),
            (&weight.value).into(),
            shares.into(),
            dy.into(),
            (&self.slopes).into(),
            (&self.rows).into(),
            Argument::from(dx),
        ];
        self.core.launch(Kernel::SlotAttentionBackward, Grid::blocks([rows, 1, 1], 0), &arguments);
        let partial = self.rows.address;
        self.column_sums(MatrixShape { rows, columns: 2 * columns }, partial, &weight.gradient);
    }
}
