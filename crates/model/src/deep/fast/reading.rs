//! The path from the encodings of a batch's packets to the LSTM's input, forward and backward, over the operations of a
//! device: the mix of the layers, the part of pooling left to the classifier (attention over a packet's slots, or one
//! step per slot), packet metadata, normalisation, and dropout.

use super::backend::{
    Backend, ColumnsAt, Dropout, MatrixShape, MixShape, MixWeights, RowsAt, SlotShape, Slots, Trained,
};
use super::classifier_weights::Weights;
use super::packing::Packing;
use super::weights::Statistics;
use crate::ModelError;
use crate::deep::engine::PacketBatch;
use crate::deep::parameters::{AttentionLstmOptions, MODEL};
use crate::deep::pooling::PoolingKind;

/// Flows of a batch, as needed for packing.
pub(super) struct Flows<'a> {
    /// Packets of each flow, at least one.
    pub counts: &'a [u32],
    /// N, the number of packets per flow.
    pub most: usize,
    /// Same as [`PacketBatch::metadata`].
    pub metadata: &'a [f32],
    /// Returns the index of a flow's packet among the encodings.
    pub source: &'a dyn Fn(usize, usize) -> usize,
    /// Returns the number of slots with bytes of a flow's packet, if the pooling leaves slots.
    pub slots: &'a dyn Fn(usize, usize) -> usize,
}

/// Values and gradients for `P` packets and `S` steps of the LSTM. If each step is a packet, P and S are equal.
pub(super) struct Reading<B: Backend> {
    options: AttentionLstmOptions,
    /// Flow and packet of each row of the mix.
    pub rows: Vec<(usize, usize)>,
    /// Index of each row among the encodings, and its number of slots with bytes.
    sources: B::Indices,
    slots: B::Indices,
    /// Index of both directions of each step among the slots of all rows.
    gathered: B::Indices,
    /// Index of each step in the batch.
    places: B::Indices,
    /// The encodings of the packets if they belong to this batch only.
    pub layers: B::Values,
    /// Tables of encodings kept on the device, by identifier, and the index of the one that the batch is selected from.
    kept: Vec<(u64, B::Values)>,
    from: Option<usize>,
    /// Packet metadata, `[S, metadata]`.
    metadata: B::Values,
    pub buffers: Buffers<B::Values>,
    indices: Vec<u32>,
    host: Vec<f32>,
}

/// The values of one batch and their gradients.
#[derive(Default)]
pub(super) struct Buffers<V> {
    /// The mixed layers, `[P, 2, slots, hidden]`, and their gradient.
    encoded: V,
    pub encoded_gradient: V,
    /// The result of the pooling left to the classifier, if any: `[S, 2 * hidden]`, and its gradient.
    pooled: V,
    pooled_gradient: V,
    /// Attention weights of the slots, `[P, slots]`.
    shares: V,
    /// Vectors with metadata, if there are any, and their gradient.
    joined: V,
    joined_gradient: V,
    /// The values above after normalisation.
    normalised: V,
}

impl<V> Buffers<V> {
    /// Pairs each buffer with its length for `rows` packets and `steps` steps.
    fn sized(&mut self, options: &AttentionLstmOptions, rows: usize, steps: usize) -> [(&mut V, usize); 8] {
        let if_used = |used: bool, length: usize| if used { length } else { 0 };
        let leaves_slots = options.pooling.leaves_slots();
        let encoded_length = rows * options.encoded_size();
        let pooled_length = if_used(leaves_slots, steps * options.packet_size());
        let joined_length = if_used(!options.packet_metadata.is_empty(), steps * options.step_size());
        let Self { encoded, encoded_gradient, pooled, pooled_gradient, shares, joined, joined_gradient, normalised } =
            self;
        [
            (encoded, encoded_length),
            (encoded_gradient, encoded_length),
            (pooled, pooled_length),
            (pooled_gradient, pooled_length),
            (shares, if_used(leaves_slots, rows * options.slots())),
            (joined, joined_length),
            (joined_gradient, joined_length),
            (normalised, if_used(options.is_normalised(), steps * options.step_size())),
        ]
    }
}

/// Returns the number of values of a batch with `rows` packets and `steps` steps, besides the encodings of the packets.
pub(super) fn values(options: &AttentionLstmOptions, rows: usize, steps: usize) -> usize {
    let buffers: usize = Buffers::<()>::default().sized(options, rows, steps).iter().map(|(_, length)| length).sum();
    buffers + steps * options.packet_metadata.len()
}

fn invalid(problem: String) -> ModelError {
    ModelError::Data { model: MODEL.to_owned(), problem }
}

impl<B: Backend> Reading<B> {
    pub(super) fn new(options: &AttentionLstmOptions) -> Self {
        Self {
            options: options.clone(),
            rows: Vec::new(),
            sources: B::Indices::default(),
            slots: B::Indices::default(),
            gathered: B::Indices::default(),
            places: B::Indices::default(),
            layers: B::Values::default(),
            kept: Vec::new(),
            from: None,
            metadata: B::Values::default(),
            buffers: Buffers::default(),
            indices: Vec::new(),
            host: Vec::new(),
        }
    }

    /// Checks and packs a batch, and reserves buffers for it.
    pub(super) fn prepare(
        &mut self,
        device: &mut B,
        packing: &mut Packing,
        batch: &PacketBatch<'_>,
    ) -> Result<(), ModelError> {
        let size = (self.options.elmo.layers + 1) * self.options.encoded_size();
        let most = batch.most(size)?;
        let leaves_slots = self.options.pooling.leaves_slots();
        if leaves_slots && batch.slots.len() * size != batch.layers.len() {
            return Err(invalid(format!("slot counts of {} packets do not fit the batch", batch.slots.len())));
        }
        self.from = batch.picked.and_then(|picked| self.keep(device, picked.table, batch.layers));
        let picked = self.from.is_some();
        let place = |flow: usize, packet: usize| batch.place(most, flow, packet);
        let slots = |flow: usize, packet: usize| batch.slots[place(flow, packet)] as usize;
        let flows = Flows { counts: batch.counts, most, metadata: batch.metadata, source: &place, slots: &slots };
        self.pack(device, packing, &flows)?;
        if picked {
            return Ok(());
        }
        // Encodings of this batch only, in the order of the rows.
        self.indices.clear();
        self.indices.extend(0..self.rows.len() as u32);
        device.upload_indices(&self.indices, &mut self.sources);
        self.host.clear();
        for &(flow, packet) in &self.rows {
            self.host.extend_from_slice(&batch.layers[place(flow, packet) * size..][..size]);
        }
        device.upload(&self.host, &mut self.layers);
        Ok(())
    }

    /// Returns the index of a table of encodings among those kept on the device. Copies the table to the device if it
    /// is not there yet, or returns `None` if there is no room. At most two are kept, for training and validation.
    fn keep(&mut self, device: &mut B, table: u64, encodings: &[f32]) -> Option<usize> {
        if let Some(at) = self.kept.iter().position(|(kept, _)| *kept == table) {
            return Some(at);
        }
        if self.kept.len() == 2 {
            self.kept.remove(0);
        }
        if !device.prefers_resident(encodings.len()) {
            return None;
        }
        let mut values = B::Values::default();
        device.upload(encodings, &mut values);
        self.kept.push((table, values));
        Some(self.kept.len() - 1)
    }

    /// Makes the next batch use the encodings in [`Reading::layers`].
    pub(super) fn read_layers(&mut self) {
        self.from = None;
    }

    /// Packs flows, and reserves buffers for them.
    ///
    /// # Errors
    /// The metadata do not fill the batch.
    pub(super) fn pack(&mut self, device: &mut B, packing: &mut Packing, flows: &Flows<'_>) -> Result<(), ModelError> {
        let Flows { counts, most, metadata, source, slots } = *flows;
        let options = &self.options;
        let beside = options.packet_metadata.len();
        if metadata.len() != counts.len() * most * beside {
            let problem = format!("{} metadata values do not fit a batch of {} flows", metadata.len(), counts.len());
            return Err(invalid(problem));
        }
        let (indices, host, rows) = (&mut self.indices, &mut self.host, &mut self.rows);
        let rows_per_chunk = device.rows_per_chunk(options.lstm, counts.len());
        rows.clear();
        indices.clear();
        host.clear();
        let beside_of = |flow: usize, packet: usize| &metadata[(flow * most + packet) * beside..][..beside];
        if options.pooling == PoolingKind::States {
            // One step for each slot with bytes: flow by flow, then in the packing's order.
            let all = options.slots();
            let mut lengths = Vec::with_capacity(counts.len());
            let (mut steps, mut starts) = (Vec::new(), Vec::new());
            for (flow, &count) in counts.iter().enumerate() {
                starts.push(steps.len());
                for packet in 0..count as usize {
                    steps.extend((0..slots(flow, packet)).map(|slot| (rows.len(), slot)));
                    rows.push((flow, packet));
                }
                lengths.push((steps.len() - starts[flow]) as u32);
            }
            packing.build(&lengths, rows_per_chunk);
            packing.for_each_state(|flow, _, step| {
                let (row, slot) = steps[starts[flow] + step];
                indices.extend([row * 2 * all + slot, (row * 2 + 1) * all + slot].map(|at| at as u32));
                host.extend_from_slice(beside_of(flow, rows[row].1));
            });
            device.upload_indices(indices, &mut self.gathered);
            indices.clear();
            packing.for_each_state(|flow, _, step| indices.push((flow * most * all + step) as u32));
        } else {
            packing.build(counts, rows_per_chunk);
            packing.for_each_state(|flow, _, packet| {
                rows.push((flow, packet));
                indices.push((flow * most + packet) as u32);
                host.extend_from_slice(beside_of(flow, packet));
            });
        }
        device.upload_indices(indices, &mut self.places);
        if beside > 0 {
            device.upload(host, &mut self.metadata);
        }
        indices.clear();
        indices.extend(rows.iter().map(|&(flow, packet)| source(flow, packet) as u32));
        device.upload_indices(indices, &mut self.sources);
        if options.pooling == PoolingKind::Attention {
            indices.clear();
            indices.extend(rows.iter().map(|&(flow, packet)| slots(flow, packet) as u32));
            device.upload_indices(indices, &mut self.slots);
        }
        self.reserve(device, packing.states);
        Ok(())
    }

    fn reserve(&mut self, device: &mut B, steps: usize) {
        for (buffer, length) in self.buffers.sized(&self.options, self.rows.len(), steps) {
            device.reserve(buffer, length);
        }
    }

    fn slot_shape(&self) -> SlotShape {
        SlotShape { rows: self.rows.len(), slots: self.options.slots(), columns: self.options.elmo.hidden }
    }

    /// Computes the LSTM's input, `[steps, step_size]`, from the prepared batch; the result is [`Reading::output`].
    pub(super) fn forward(
        &mut self,
        device: &mut B,
        steps: usize,
        weights: &mut Weights<B>,
        by: Statistics,
        dropout: Option<Dropout>,
    ) {
        let shape = self.slot_shape();
        let (options, layers) = (&self.options, self.options.elmo.layers + 1);
        let encodings = self.from.map_or(&self.layers, |from| &self.kept[from].1);
        let mix = MixShape { rows: shape.rows, layers, columns: options.encoded_size() };
        device.mix(mix, encodings, &self.sources, weights.mix(), &mut self.buffers.encoded);
        let pooled = match (options.pooling, &weights.pooling) {
            (PoolingKind::Attention, Some(weight)) => {
                let slots = Slots { x: &self.buffers.encoded, lengths: &self.slots };
                device.slot_attention(shape, slots, weight.value(), &mut self.buffers.shares, &mut self.buffers.pooled);
                &mut self.buffers.pooled
            }
            (PoolingKind::States, _) => {
                let at = RowsAt { places: &self.gathered, stride: 1, offset: 0 };
                let halves = MatrixShape { rows: 2 * steps, columns: shape.columns };
                device.take_rows(halves, &self.buffers.encoded, at, &mut self.buffers.pooled);
                &mut self.buffers.pooled
            }
            _ => &mut self.buffers.encoded,
        };
        let (size, beside) = (options.packet_size(), options.packet_metadata.len());
        let joined = if beside > 0 {
            let at = |first| ColumnsAt { total: size + beside, first };
            let shape_of = |columns| MatrixShape { rows: steps, columns };
            device.put_columns(shape_of(size), pooled, at(0), &mut self.buffers.joined);
            device.put_columns(shape_of(beside), &self.metadata, at(size), &mut self.buffers.joined);
            &mut self.buffers.joined
        } else {
            pooled
        };
        let read = match &mut weights.packets {
            Some(norm) => {
                norm.forward(device, steps, joined, &mut self.buffers.normalised, by);
                &mut self.buffers.normalised
            }
            None => joined,
        };
        if let Some(dropout) = dropout {
            let shape = MatrixShape { rows: steps, columns: size + beside };
            device.dropout_in_place(shape, dropout, &self.places, read);
        }
    }

    /// Returns the LSTM's input.
    pub(super) fn output(&self) -> &B::Values {
        if self.options.is_normalised() { &self.buffers.normalised } else { self.before_normalisation() }
    }

    fn before_normalisation(&self) -> &B::Values {
        if !self.options.packet_metadata.is_empty() {
            &self.buffers.joined
        } else if self.options.pooling.leaves_slots() {
            &self.buffers.pooled
        } else {
            &self.buffers.encoded
        }
    }

    /// Returns the LSTM's input and the buffer for its gradient.
    pub(super) fn output_and_gradient(&mut self) -> (&B::Values, &mut B::Values) {
        let Self { options, buffers, .. } = self;
        let Buffers { normalised, joined, joined_gradient, pooled, pooled_gradient, encoded, encoded_gradient, .. } =
            buffers;
        let (before, gradient) = if !options.packet_metadata.is_empty() {
            (joined, joined_gradient)
        } else if options.pooling.leaves_slots() {
            (pooled, pooled_gradient)
        } else {
            (encoded, encoded_gradient)
        };
        (if options.is_normalised() { normalised } else { before }, gradient)
    }

    /// Computes, from the gradient of the LSTM's input, those of the weights and, in [`Buffers::encoded_gradient`],
    /// that of the mixed layers.
    pub(super) fn backward(
        &mut self,
        device: &mut B,
        steps: usize,
        weights: &mut Weights<B>,
        dropout: Option<Dropout>,
    ) {
        let shape = self.slot_shape();
        let (size, beside) = (self.options.packet_size(), self.options.packet_metadata.len());
        let leaves_slots = self.options.pooling.leaves_slots();
        let gradient = if beside > 0 {
            &mut self.buffers.joined_gradient
        } else if leaves_slots {
            &mut self.buffers.pooled_gradient
        } else {
            &mut self.buffers.encoded_gradient
        };
        if let Some(dropout) = dropout {
            let shape = MatrixShape { rows: steps, columns: size + beside };
            device.dropout_in_place(shape, dropout, &self.places, gradient);
        }
        if let Some(norm) = &mut weights.packets {
            let before = if beside > 0 {
                &self.buffers.joined
            } else if leaves_slots {
                &self.buffers.pooled
            } else {
                &self.buffers.encoded
            };
            norm.backward(device, steps, before, gradient);
        }
        if beside > 0 {
            let at = ColumnsAt { total: size + beside, first: 0 };
            let to = if leaves_slots { &mut self.buffers.pooled_gradient } else { &mut self.buffers.encoded_gradient };
            device.take_columns(MatrixShape { rows: steps, columns: size }, &self.buffers.joined_gradient, at, to);
        }
        let encoded = &mut self.buffers.encoded_gradient;
        match (self.options.pooling, &mut weights.pooling) {
            (PoolingKind::Attention, Some(weight)) => {
                let slots = Slots { x: &self.buffers.encoded, lengths: &self.slots };
                let (weight, dy) = (&mut weight.trained, &self.buffers.pooled_gradient);
                device.slot_attention_backward(shape, slots, weight, &self.buffers.shares, dy, encoded);
            }
            (PoolingKind::States, _) => {
                device.zero(shape.rows * self.options.encoded_size(), encoded);
                let at = RowsAt { places: &self.gathered, stride: 1, offset: 0 };
                let halves = MatrixShape { rows: 2 * steps, columns: shape.columns };
                device.put_rows(halves, &self.buffers.pooled_gradient, at, encoded);
            }
            _ => {}
        }
        let trained: MixWeights<&mut Trained<B::Values>> =
            MixWeights { weight: &mut weights.mix.trained, gamma: &mut weights.gamma.trained };
        let encodings = self.from.map_or(&self.layers, |from| &self.kept[from].1);
        let (layers, columns) = (self.options.elmo.layers + 1, self.options.encoded_size());
        let mix = MixShape { rows: shape.rows, layers, columns };
        device.mix_backward(mix, encodings, &self.sources, trained, &self.buffers.encoded_gradient);
    }

    /// Lists the values of the last forward pass by layer, with their number, in order.
    pub(super) fn computed(&self, steps: usize) -> Vec<(&'static str, &B::Values, usize)> {
        let options = &self.options;
        let mut found = vec![("classifier.mix", &self.buffers.encoded, self.rows.len() * options.encoded_size())];
        if options.pooling.leaves_slots() {
            found.push(("classifier.pooling", &self.buffers.pooled, steps * options.packet_size()));
        }
        if options.is_normalised() {
            found.push(("classifier.norm_0", &self.buffers.normalised, steps * options.step_size()));
        }
        found
    }
}
