//! The input of the stacks: a batch of packets on the host and on the device, and the embeddings of its bytes and their
//! positions.

use super::super::backend::{Backend, Lookup, LstmInput, MatrixShape, NO_TARGET};
use super::super::packing::Packing;
use super::super::weights::Weight;
use super::{Stacks, invalid};
use crate::ModelError;
use crate::deep::parameters::{ElmoOptions, POSITIONS, ParameterSet};
use etcbench_feature::PAD;

/// The position embedding.
pub(super) struct Positions<B: Backend> {
    pub weight: Weight<B>,
    /// Number of positions.
    pub count: usize,
    /// By direction: the position of each state's byte.
    pub ids: [B::Indices; 2],
    /// By slot: the sum of both embeddings, `[states, embedding]`.
    pub embedded: [B::Values; 2],
}

impl<B: Backend> Positions<B> {
    pub(super) fn new(device: &mut B, options: &ElmoOptions, set: &ParameterSet) -> Result<Self, ModelError> {
        let count = set.shape(POSITIONS)?.first().copied().unwrap_or(0);
        let weight = Weight::new(device, set, POSITIONS.to_owned(), &[count, options.embedding])?;
        Ok(Self { weight, count, ids: Default::default(), embedded: Default::default() })
    }
}

/// Returns the bytes of a direction as input of the lowest layer.
pub(super) fn bytes<'a, B: Backend>(
    embedding: &'a B::Values,
    vocabulary: usize,
    positions: Option<&'a Positions<B>>,
    ids: &'a B::Indices,
    slot: usize,
) -> LstmInput<'a, B> {
    match positions {
        None => LstmInput::Embedded { embedding, vocabulary, ids },
        Some(positions) => LstmInput::Rows(&positions.embedded[slot]),
    }
}

/// A batch on the host and on the device.
pub(super) struct Batch<B: Backend> {
    pub packing: Packing,
    pub lengths: Vec<u32>,
    pub host: Vec<u32>,
    /// Tokens per packet.
    pub width: usize,
    /// By direction: the token of each state; its index in the batch, and whether that has been computed.
    pub ids: [B::Indices; 2],
    pub places: [B::Indices; 2],
    pub placed: [bool; 2],
    /// Index of each packet in the batch, in sorted order.
    pub order: B::Indices,
}

/// Returns the position of the byte that a direction reads at a step of a packet with this length.
fn position(direction: usize, length: usize, step: usize) -> usize {
    if direction == 0 { step } else { length - 1 - step }
}

impl<B: Backend> Stacks<B> {
    /// Checks and packs a batch.
    pub(crate) fn prepare(&mut self, device: &mut B, tokens: &[u16], packets: usize) -> Result<(), ModelError> {
        if packets == 0 || !tokens.len().is_multiple_of(packets) || tokens.is_empty() {
            return Err(invalid(format!("{} tokens are not {packets} packets of equal length", tokens.len())));
        }
        if u32::try_from(tokens.len()).is_err() {
            return Err(invalid(format!("{} tokens are too many for one batch", tokens.len())));
        }
        if let Some(token) = tokens.iter().find(|&&token| usize::from(token) >= self.vocabulary) {
            return Err(invalid(format!("token {token} is not in the vocabulary of {}", self.vocabulary)));
        }
        let width = tokens.len() / packets;
        if let Some(known) = self.positions.as_ref().map(|positions| positions.count).filter(|&count| count < width) {
            return Err(invalid(format!("packets of {width} bytes exceed the {known} positions with an embedding")));
        }
        let batch = &mut self.batch;
        batch.lengths.clear();
        for (packet, row) in tokens.chunks_exact(width).enumerate() {
            let length = row.iter().position(|&token| token == PAD).unwrap_or(width);
            if length == 0 || row[length..].iter().any(|&token| token != PAD) {
                return Err(invalid(format!("packet {packet} of a batch has padding before a byte, or no bytes")));
            }
            batch.lengths.push(length as u32);
        }
        let rows_per_chunk = device.rows_per_chunk(self.options.hidden, packets);
        batch.packing.build(&batch.lengths, rows_per_chunk);
        device.upload_indices(&batch.packing.order, &mut batch.order);
        batch.width = width;
        batch.placed = [false; 2];
        let mut ids = std::mem::take(&mut self.batch.ids);
        for (direction, ids) in ids.iter_mut().enumerate() {
            self.upload_tokens(device, tokens, direction, 0, ids);
        }
        self.batch.ids = ids;
        if let Some(Positions { ids, .. }) = &mut self.positions {
            let Batch { packing, host, .. } = &mut self.batch;
            for (direction, ids) in ids.iter_mut().enumerate() {
                host.clear();
                packing.for_each_state(|_, length, step| host.push(position(direction, length, step) as u32));
                device.upload_indices(host, ids);
            }
        }
        Ok(())
    }

    /// Returns the sizes of the embedded bytes of a direction.
    fn embedded_shape(&self) -> MatrixShape {
        MatrixShape { rows: self.batch.packing.states, columns: self.options.embedding }
    }

    /// Adds the embeddings of a direction's bytes and positions, if there is a position embedding.
    pub(super) fn embed(&mut self, device: &mut B, direction: usize) {
        let (shape, slot) = (self.embedded_shape(), self.slot(direction));
        let Self { embedding, positions, batch, .. } = self;
        if let Some(Positions { weight, ids, embedded, .. }) = positions {
            let embedded = &mut embedded[slot];
            device.reserve(embedded, shape.values());
            let bytes = Lookup { table: embedding.value(), ids: &batch.ids[direction] };
            let positions = Lookup { table: weight.value(), ids: &ids[direction] };
            device.add_looked_up(shape, [bytes, positions], embedded);
        }
    }

    /// Adds the gradient of a direction's embedded bytes, in `dx`, to those of both embeddings.
    pub(super) fn embed_backward(&mut self, device: &mut B, direction: usize) {
        let (shape, slot) = (self.embedded_shape(), self.slot(direction));
        let Self { embedding, positions, batch, dx, vocabulary, .. } = self;
        let (dx, gradient) = (&dx[slot], &mut embedding.trained.gradient);
        device.scatter_add(shape, dx, &batch.ids[direction], *vocabulary, gradient);
        if let Some(Positions { weight, count, ids, .. }) = positions {
            device.scatter_add(shape, dx, &ids[direction], *count, &mut weight.trained.gradient);
        }
    }

    /// Uploads the indices of a direction's states in the batch if they are not on the device yet. Only dropout needs
    /// them.
    pub(super) fn place(&mut self, device: &mut B, direction: usize) {
        let Batch { packing, host, places, placed, width, .. } = &mut self.batch;
        if !std::mem::replace(&mut placed[direction], true) {
            host.clear();
            packing.for_each_state(|row, length, step| {
                host.push((row * *width + position(direction, length, step)) as u32);
            });
            device.upload_indices(host, &mut places[direction]);
        }
    }

    /// Uploads, for each state of a direction of the prepared batch, its token or the one `ahead` steps later.
    pub(crate) fn upload_tokens(
        &mut self,
        device: &mut B,
        tokens: &[u16],
        direction: usize,
        ahead: usize,
        to: &mut B::Indices,
    ) {
        let Batch { packing, host, .. } = &mut self.batch;
        let width = tokens.len() / packing.rows();
        host.clear();
        packing.for_each_state(|row, length, step| {
            let step = step + ahead;
            host.push(if step < length {
                u32::from(tokens[row * width + position(direction, length, step)])
            } else {
                NO_TARGET
            });
        });
        device.upload_indices(host, to);
    }
}
