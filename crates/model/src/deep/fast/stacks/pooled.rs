//! The encodings of packets: the pooled states of each layer and direction, and the way of their gradient back to the
//! states.

use super::super::backend::{Backend, MatrixShape, PoolInput, PoolShape, RowsAt};
use super::{Stacks, invalid};
use crate::ModelError;
use crate::deep::pooling::Pooling;

/// The gradient of the encodings of a batch.
pub(crate) struct PooledGradient<'a, B: Backend> {
    /// The pooling of its packets.
    pub pooling: Pooling,
    /// `[packets, layers + 1, 2, slots, hidden]`.
    pub encodings: &'a B::Values,
}

/// Where the gradient of pooled states goes.
#[derive(Clone, Copy)]
pub(super) enum Spread {
    /// It is the gradient of the layer's output, which nothing else reads.
    Written,
    /// It is added to the gradient from the layer above.
    Added,
    /// It is stored separately, for the embedding.
    Aside,
}

impl<B: Backend> Stacks<B> {
    /// Returns the rows of a layer's pooled states of a direction in encodings `[packets, layers + 1, 2, slots,
    /// hidden]` that start with `before` other packets.
    fn rows_at(&self, layer: usize, direction: usize, before: usize) -> RowsAt<'_, B::Indices> {
        let stride = (self.options.layers + 1) * 2;
        RowsAt { places: &self.batch.order, stride, offset: (before * stride) + layer * 2 + direction }
    }

    /// Returns the sizes of one layer's pooled states of one direction.
    fn pooled_shape(&self, pooling: Pooling) -> MatrixShape {
        MatrixShape { rows: self.batch.packing.rows(), columns: pooling.slots * self.options.hidden }
    }

    fn pool_shape(&self, direction: usize, pooling: Pooling) -> PoolShape {
        PoolShape { columns: self.options.hidden, pooling, reversed: direction == 1 }
    }

    /// Returns the input of a layer's pooling: the embedding of its bytes, or the states of an LSTM.
    fn pool_input(&self, layer: usize, direction: usize, dropping: bool) -> PoolInput<'_, B> {
        match layer.checked_sub(1) {
            None => match &self.positions {
                None => PoolInput::Embedded { embedding: self.embedding.value(), ids: &self.batch.ids[direction] },
                Some(positions) => PoolInput::Rows(&positions.embedded[self.slot(direction)]),
            },
            Some(below) => PoolInput::Rows(self.layers[self.slot(direction)][below].output(dropping)),
        }
    }

    /// Writes the pooled states of all layers of a direction after its forward pass to `encodings`, `[before + packets,
    /// layers + 1, 2, slots, hidden]`.
    pub(crate) fn pool(
        &mut self,
        device: &mut B,
        direction: usize,
        dropping: Option<u64>,
        pooling: Pooling,
        before: usize,
        encodings: &mut B::Values,
    ) {
        let (shape, size) = (self.pool_shape(direction, pooling), self.pooled_shape(pooling));
        let mut pooled = std::mem::take(&mut self.pooled);
        device.reserve(&mut pooled, size.values());
        for layer in 0..=self.options.layers {
            let input = self.pool_input(layer, direction, dropping.is_some());
            device.pool(&self.batch.packing, shape, input, &mut pooled);
            device.put_rows(size, &pooled, self.rows_at(layer, direction, before), encodings);
        }
        self.pooled = pooled;
    }

    /// Computes the encodings of a batch without dropout, shape `[packets, layers + 1, 2, slots, hidden]`; `encodings`
    /// is a buffer on the device.
    pub(crate) fn encode(
        &mut self,
        device: &mut B,
        tokens: &[u16],
        packets: usize,
        pooling: Pooling,
        encodings: &mut B::Values,
        output: &mut [f32],
    ) -> Result<(), ModelError> {
        self.prepare(device, tokens, packets)?;
        let values = packets * (self.options.layers + 1) * 2 * pooling.slots * self.options.hidden;
        if output.len() != values {
            return Err(invalid(format!(
                "a buffer of {} values does not fit the vectors of {packets} packets",
                output.len()
            )));
        }
        device.reserve(encodings, values);
        for turn in Self::turns(device) {
            self.forward(device, turn.clone(), None);
            turn.clone().for_each(|direction| self.pool(device, direction, None, pooling, 0, encodings));
        }
        device.download(encodings, output);
        device.check()
    }

    /// Distributes the gradient of one layer's pooled states of a direction to its states.
    pub(super) fn pool_backward(
        &mut self,
        device: &mut B,
        layer: usize,
        direction: usize,
        dropping: bool,
        gradient: &PooledGradient<'_, B>,
        to: Spread,
    ) {
        let PooledGradient { pooling, encodings } = *gradient;
        let slot = self.slot(direction);
        let (shape, size) = (self.pool_shape(direction, pooling), self.pooled_shape(pooling));
        let mut pooled = std::mem::take(&mut self.pooled);
        device.take_rows(size, encodings, self.rows_at(layer, direction, 0), &mut pooled);
        let (states, accumulate) = match to {
            Spread::Written => (&mut self.dh[slot], false),
            Spread::Added => (&mut self.dh[slot], true),
            Spread::Aside => (&mut self.dx[slot], false),
        };
        let mut states = std::mem::take(states);
        let input = self.pool_input(layer, direction, dropping);
        device.pool_backward(&self.batch.packing, shape, input, &pooled, &mut states, accumulate);
        match to {
            Spread::Written | Spread::Added => self.dh[slot] = states,
            Spread::Aside => self.dx[slot] = states,
        }
        self.pooled = pooled;
    }
}
