//! Launches of self-attention.

use super::Cuda;
use super::launcher::{Argument, Buffer, Grid, Kernel};
use crate::model::deep::fast::device::Attended;
use crate::model::deep::fast::packing::Packing;

/// Scores of one sequence: the square of the longest length.
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
}
