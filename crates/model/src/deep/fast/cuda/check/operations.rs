//! Every operation of a device, forward and backward, in several sizes.

use rand::RngExt;

use super::Extent;
use super::recorder::{Recorder, numbers};
use crate::deep::engine::DropoutPlace;
use crate::deep::fast::backend::{
    AdamStep, Attended, Backend, ColumnsAt, Dropout, LinearShape, LinearWeights, Lookup, LstmGradients, LstmInput,
    LstmPairGradients, LstmShape, LstmState, LstmWeights, MatrixShape, MixShape, MixWeights, NO_TARGET, NormState,
    NormWeights, PairGradient, PoolInput, PoolShape, RowsAt, SlotShape, Slots, Smoothing, Trained,
};
use crate::deep::fast::packing::Packing;
use crate::deep::parameters::Activation;
use crate::deep::pooling::{Pooling, PoolingKind};
use etcbench_storage::seed;

impl<B: Backend> Recorder<'_, B> {
    fn linear(&mut self, rows: usize, inputs: usize, outputs: usize) {
        let name = format!("linear {rows}x{inputs}x{outputs}");
        let shape = LinearShape { rows, inputs, outputs };
        let x = self.up(&numbers("x", rows * inputs));
        let dy = self.up(&numbers("dy", rows * outputs));
        let mut weight = self.trained("weight", outputs * inputs, 1.0);
        let mut bias = self.trained("bias", outputs, 1.0);
        let mut y = self.room(rows * outputs);
        let values = LinearWeights { weight: &weight.value, bias: &bias.value };
        self.device.linear(shape, &x, values, &mut y);
        self.keep(&format!("{name} y"), &y, rows * outputs);
        let mut dx = self.room(rows * inputs);
        for accumulate in [false, true] {
            let trained = LinearWeights { weight: &mut weight, bias: &mut bias };
            self.device.linear_backward(shape, &x, &dy, trained, &mut dx, accumulate);
        }
        self.keep(&format!("{name} dx"), &dx, rows * inputs);
        self.keep(&format!("{name} weight"), &weight.gradient, outputs * inputs);
        self.keep(&format!("{name} bias"), &bias.gradient, outputs);
    }

    fn lstm_weights(&mut self, purpose: &str, inputs: usize, hidden: usize) -> LstmWeights<Trained<B::Values>> {
        let scale = 1.0 / (hidden as f32).sqrt();
        LstmWeights {
            input: self.trained(&format!("{purpose} input"), 4 * hidden * inputs, scale),
            hidden: self.trained(&format!("{purpose} hidden"), 4 * hidden * hidden, scale),
            bias: self.trained(&format!("{purpose} bias"), 4 * hidden, scale),
        }
    }

    /// Runs two layers, launched together or one after the other, over separate rows or a shared embedding.
    fn lstm(&mut self, lengths: &[u32], shape: LstmShape, vocabulary: Option<usize>, together: bool) {
        let LstmShape { inputs, hidden, activation } = shape;
        let name =
            format!("lstm {} sequences {inputs}->{hidden} {activation:?} {vocabulary:?} {together}", lengths.len());
        self.pack(lengths, hidden);
        let mut weights = [self.lstm_weights("left", inputs, hidden), self.lstm_weights("right", inputs, hidden)];
        let rows = [self.state_rows("left x", inputs), self.state_rows("right x", inputs)];
        let mut embedding = self.trained("embedding", vocabulary.unwrap_or(1) * inputs, 1.0);
        let ids = ["left ids", "right ids"].map(|purpose| {
            let mut generator = seed::generator(1, purpose);
            // Half of the states have the same index, like padding bytes in real packets.
            let mut id =
                || if generator.random() { 0 } else { generator.random_range(0..vocabulary.unwrap_or(1) as u32) };
            let of_batch: Vec<u32> = (0..self.packing.states).map(|_| id()).collect();
            self.places().iter().map(|&place| of_batch[place]).collect::<Vec<_>>()
        });
        let ids = ids.map(|ids| self.indices(&ids));
        let mut states: [LstmState<B::Values>; 2] = Default::default();
        let mut dh = [self.state_rows("left dh", hidden), self.state_rows("right dh", hidden)];
        let mut dx = [self.room(self.packing.states * inputs), self.room(self.packing.states * inputs)];
        fn inputs_of<'a, B: Backend>(
            rows: &'a [B::Values; 2],
            ids: &'a [B::Indices; 2],
            embedding: &'a B::Values,
            vocabulary: Option<usize>,
        ) -> [LstmInput<'a, B>; 2] {
            [0, 1].map(|index| match vocabulary {
                None => LstmInput::Rows(&rows[index]),
                Some(vocabulary) => LstmInput::Embedded { embedding, vocabulary, ids: &ids[index] },
            })
        }
        let device = &mut *self.device;
        let packing = &self.packing;
        let values = weights.each_ref().map(|weights| LstmWeights {
            input: &weights.input.value,
            hidden: &weights.hidden.value,
            bias: &weights.bias.value,
        });
        let inputs_now = inputs_of::<B>(&rows, &ids, &embedding.value, vocabulary);
        if together {
            device.lstm_pair(shape, packing, inputs_now, values, states.each_mut());
        } else {
            for ((input, values), state) in inputs_now.into_iter().zip(values).zip(&mut states) {
                device.lstm(shape, packing, input, values, state);
            }
        }
        for (side, state) in ["left", "right"].into_iter().zip(&states) {
            self.keep_states(&format!("{name} {side} h"), &state.hidden, hidden);
            self.keep_states(&format!("{name} {side} c"), &state.cells, hidden);
        }
        let trained = weights.each_mut().map(|weights| LstmWeights {
            input: &mut weights.input,
            hidden: &mut weights.hidden,
            bias: &mut weights.bias,
        });
        let Trained { value, gradient, .. } = &mut embedding;
        let inputs_now = inputs_of::<B>(&rows, &ids, value, vocabulary);
        let (device, packing) = (&mut *self.device, &self.packing);
        if together {
            let to = match vocabulary {
                None => PairGradient::Each(dx.each_mut()),
                Some(_) => PairGradient::Shared(gradient),
            };
            let gradients = LstmPairGradients { outputs: dh.each_mut(), inputs: to };
            device.lstm_pair_backward(shape, packing, inputs_now, trained, states.each_mut(), gradients);
        } else {
            let layers = inputs_now.into_iter().zip(trained).zip(&mut states).zip(&mut dh).zip(&mut dx);
            for ((((input, weights), state), dh), dx) in layers {
                let to = if vocabulary.is_some() { &mut *gradient } else { dx };
                let gradients = LstmGradients { output: dh, input: to };
                device.lstm_backward(shape, packing, input, weights, state, gradients);
            }
        }
        match vocabulary {
            Some(vocabulary) => self.keep(&format!("{name} embedding"), &embedding.gradient, vocabulary * inputs),
            None => {
                for (side, dx) in ["left", "right"].into_iter().zip(&dx) {
                    self.keep_states(&format!("{name} {side} dx"), dx, inputs);
                }
            }
        }
        for (side, weights) in ["left", "right"].into_iter().zip(&weights) {
            self.keep(&format!("{name} {side} weight_ih"), &weights.input.gradient, 4 * hidden * inputs);
            self.keep(&format!("{name} {side} weight_hh"), &weights.hidden.gradient, 4 * hidden * hidden);
            self.keep(&format!("{name} {side} bias"), &weights.bias.gradient, 4 * hidden);
        }
    }

    fn losses(&mut self, rows: usize, classes: usize) {
        let shape = MatrixShape { rows, columns: classes };
        let mut generator = seed::generator(1, "targets");
        let mut target = |row: usize| if row % 5 == 3 { NO_TARGET } else { generator.random_range(0..classes as u32) };
        let targets: Vec<u32> = (0..rows).map(&mut target).collect();
        let targets = self.indices(&targets);
        let logits: Vec<f32> = numbers("logits", rows * classes).iter().map(|value| 20.0 * value).collect();
        let mut values = self.up(&logits);
        let loss = self.device.cross_entropy(shape, &mut values, &targets, 0.25);
        self.found.push((format!("cross-entropy {rows}x{classes}"), vec![loss as f32]));
        self.keep(&format!("cross-entropy {rows}x{classes} gradient"), &values, rows * classes);
        let targets: Vec<u32> = (0..rows).map(|row| (row * 7 % classes) as u32).collect();
        let targets = self.indices(&targets);
        let weights: Vec<f32> = numbers("class weights", classes).iter().map(|value| 1.5 + value).collect();
        let (weights, mut values) = (self.up(&weights), self.up(&logits));
        let smoothing = Smoothing { kept: 0.8, spread: 0.2 / classes as f32 };
        let loss = self.device.weighted_cross_entropy(shape, &mut values, &targets, &weights, smoothing, 0.25);
        self.found.push((format!("weighted cross-entropy {rows}x{classes}"), vec![loss as f32]));
        self.keep(&format!("weighted cross-entropy {rows}x{classes} gradient"), &values, rows * classes);
        let mut values = self.up(&logits);
        self.device.softmax(shape, &mut values);
        self.keep(&format!("softmax {rows}x{classes}"), &values, rows * classes);
    }

    fn element_wise(&mut self, rows: usize, columns: usize) {
        let shape = MatrixShape { rows, columns };
        let count = shape.values();
        let places: Vec<u32> = (0..rows as u32).map(|row| row * 7 % 1000).collect();
        let places = self.indices(&places);
        let dropout = Dropout { seed: 3, step: 5, place: DropoutPlace::Elmo { direction: 1, layer: 0 }, rate: 0.3 };
        let mut x = self.up(&numbers("x", count));
        let mut y = self.room(count);
        self.device.dropout(shape, dropout, &places, &x, &mut y);
        self.keep("dropout", &y, count);
        self.device.dropout_in_place(shape, dropout, &places, &mut x);
        self.keep("dropout in place", &x, count);
        let mut x = self.up(&numbers("relu", count));
        self.device.relu(count, &mut x);
        self.keep("relu", &x, count);
        self.device.relu_backward(count, &x, &mut y);
        self.keep("relu backward", &y, count);
        let mut trained = self.trained("adam", count, 1.0);
        for _ in 0..2 {
            self.device.add_squared_norm(&trained, count);
        }
        let norm = self.device.take_squared_norm();
        self.found.push(("squared norm".to_owned(), vec![norm as f32, self.device.take_squared_norm() as f32]));
        let step = AdamStep { step: 3, learning_rate: 0.01, weight_decay: 0.1, gradient_scale: 0.5 };
        self.device.adam(&mut trained, count, step);
        for (name, values) in [("value", &trained.value), ("gradient", &trained.gradient)] {
            self.keep(&format!("adam {name}"), values, count);
        }
        for (name, values) in [("first", &trained.first), ("second", &trained.second)] {
            self.keep(&format!("adam {name}"), values, count);
        }
        self.device.average(&mut trained, count, 0.3);
        self.keep("average", &trained.average, count);
    }

    fn norms(&mut self, rows: usize, columns: usize) {
        let name = format!("norm {rows}x{columns}");
        let shape = MatrixShape { rows, columns };
        let x: Vec<f32> = numbers("x", rows * columns).iter().map(|value| 3.0 + value).collect();
        let x = self.up(&x);
        let mut weight = self.trained("norm weight", columns, 1.0);
        let mut bias = self.trained("norm bias", columns, 1.0);
        let mut state = NormState {
            running_mean: self.up(&numbers("mean", columns)),
            running_variance: self.up(&vec![0.7; columns]),
            ..NormState::default()
        };
        let mut y = self.room(rows * columns);
        let values = NormWeights { weight: &weight.value, bias: &bias.value };
        self.device.batch_norm(shape, &x, values, 0.1, &mut state, &mut y);
        self.keep(&format!("{name} y"), &y, rows * columns);
        self.keep(&format!("{name} running mean"), &state.running_mean, columns);
        self.keep(&format!("{name} running variance"), &state.running_variance, columns);
        let mut gradient = self.up(&numbers("dy", rows * columns));
        let trained = NormWeights { weight: &mut weight, bias: &mut bias };
        self.device.batch_norm_backward(shape, &x, trained, &state, &mut gradient);
        // With a single row the normalised values are 0, and so is the gradient up to rounding.
        if rows > 1 {
            self.keep(&format!("{name} dx"), &gradient, rows * columns);
        }
        self.keep(&format!("{name} weight"), &weight.gradient, columns);
        self.keep(&format!("{name} bias"), &bias.gradient, columns);
        let values = NormWeights { weight: &weight.value, bias: &bias.value };
        self.device.batch_norm_fixed(shape, &x, values, &state, &mut y);
        self.keep(&format!("{name} fixed"), &y, rows * columns);
    }

    fn sequences(&mut self, lengths: &[u32], columns: usize) {
        let name = format!("{} sequences of {columns}", lengths.len());
        self.pack(lengths, columns);
        let (states, rows) = (self.packing.states, lengths.len());
        let [query, key, value] = ["query", "key", "value"].map(|part| self.state_rows(part, columns));
        let (mut scores, mut y) = (B::Values::default(), self.room(states * columns));
        let input = || Attended { query: &query, key: &key, value: &value };
        self.device.attention(&self.packing, columns, input(), &mut scores, &mut y);
        self.keep_states(&format!("attention {name}"), &y, columns);
        let dy = self.state_rows("dy", columns);
        let mut gradient = Attended {
            query: self.room(states * columns),
            key: self.room(states * columns),
            value: self.room(states * columns),
        };
        let Attended { query: dq, key: dk, value: dv } = &mut gradient;
        let to = Attended { query: dq, key: dk, value: dv };
        self.device.attention_backward(&self.packing, columns, input(), &scores, &dy, to);
        for (part, values) in [("query", &gradient.query), ("key", &gradient.key), ("value", &gradient.value)] {
            self.keep_states(&format!("attention {name} {part}"), values, columns);
        }
        let embedding = self.up(&numbers("embedding", 11 * columns));
        let ids: Vec<u32> = self.places().iter().map(|&place| (place * 7 % 11) as u32).collect();
        let ids = self.indices(&ids);
        let mut dx = self.room(states * columns);
        let longest = lengths.iter().copied().max().unwrap_or(1) as usize;
        for kind in [PoolingKind::Mean, PoolingKind::Segments, PoolingKind::Maximum, PoolingKind::Last] {
            for (reversed, embedded) in [(false, false), (true, false), (true, true)] {
                let shape = PoolShape { columns, pooling: Pooling::new(kind, 3, longest), reversed };
                let input = || match embedded {
                    false => PoolInput::Rows(&query),
                    true => PoolInput::Embedded { embedding: &embedding, ids: &ids },
                };
                let name = format!("pool {kind:?} {reversed} {embedded} {name}");
                let size = shape.pooling.slots * columns;
                let mut pooled = self.room(rows * size);
                self.device.pool(&self.packing, shape, input(), &mut pooled);
                self.keep(&name, &pooled, rows * size);
                for accumulate in [false, true] {
                    self.device.pool_backward(&self.packing, shape, input(), &pooled, &mut dx, accumulate);
                    self.keep_states(&format!("{name} backward, added {accumulate}"), &dx, columns);
                }
            }
        }
        let mut pooled = self.room(rows * columns);
        self.device.pool(&self.packing, PoolShape::mean(columns), PoolInput::Rows(&query), &mut pooled);
        let mut table = self.up(&numbers("table", 11 * columns));
        self.device.scatter_add(MatrixShape { rows: states, columns }, &dx, &ids, 11, &mut table);
        self.keep(&format!("scatter {name}"), &table, 11 * columns);
        let places: Vec<u32> = (0..rows as u32).rev().collect();
        let places = self.indices(&places);
        let shape = MatrixShape { rows, columns };
        let at = |offset| RowsAt { places: &places, stride: 3, offset };
        let mut larger = self.up(&numbers("larger", (3 * rows + 4) * columns));
        self.device.put_rows(shape, &pooled, at(4), &mut larger);
        self.keep(&format!("put {name}"), &larger, (3 * rows + 4) * columns);
        self.device.take_rows(shape, &larger, at(1), &mut pooled);
        self.keep(&format!("take {name}"), &pooled, rows * columns);
        let ids = self.indices(&(0..rows).map(|row| (row * 3 % 7) as u32).collect::<Vec<_>>());
        let tables = ["table", "other table"].map(|purpose| self.up(&numbers(purpose, rows.max(7) * columns)));
        let places = self.indices(&(0..rows).rev().map(|row| row as u32).collect::<Vec<_>>());
        let lookups = [Lookup { table: &tables[0], ids: &ids }, Lookup { table: &tables[1], ids: &places }];
        self.device.add_looked_up(shape, lookups, &mut pooled);
        self.keep(&format!("look up {name}"), &pooled, rows * columns);
        let at = ColumnsAt { total: columns + 3, first: 2 };
        let mut wider = self.up(&numbers("wider", rows * at.total));
        self.device.put_columns(shape, &pooled, at, &mut wider);
        self.keep(&format!("put columns {name}"), &wider, rows * at.total);
        self.device.take_columns(shape, &wider, ColumnsAt { first: 0, ..at }, &mut pooled);
        self.keep(&format!("take columns {name}"), &pooled, rows * columns);
    }

    fn slots(&mut self, rows: usize, slots: usize, columns: usize) {
        let name = format!("slots {rows}x{slots}x{columns}");
        let shape = SlotShape { rows, slots, columns };
        let x = self.up(&numbers("x", rows * 2 * slots * columns));
        let lengths: Vec<u32> = (0..rows).map(|row| 1 + (row * 5 % slots) as u32).collect();
        let lengths = self.indices(&lengths);
        let mut weight = self.trained("slot weight", 2 * columns, 1.0);
        let (mut shares, mut y) = (self.room(rows * slots), self.room(rows * 2 * columns));
        self.device.slot_attention(shape, Slots { x: &x, lengths: &lengths }, &weight.value, &mut shares, &mut y);
        self.keep(&format!("{name} shares"), &shares, rows * slots);
        self.keep(&format!("{name} y"), &y, rows * 2 * columns);
        let dy = self.up(&numbers("dy", rows * 2 * columns));
        let mut dx = self.room(rows * 2 * slots * columns);
        let used = Slots { x: &x, lengths: &lengths };
        self.device.slot_attention_backward(shape, used, &mut weight, &shares, &dy, &mut dx);
        self.keep(&format!("{name} dx"), &dx, rows * 2 * slots * columns);
        self.keep(&format!("{name} weight"), &weight.gradient, 2 * columns);
        self.device.zero(rows * columns, &mut dx);
        self.keep(&format!("{name} zero"), &dx, rows * 2 * slots * columns);
    }

    fn mixes(&mut self, rows: usize, layers: usize, columns: usize) {
        let name = format!("mix {rows}x{layers}x{columns}");
        let shape = MixShape { rows, layers, columns };
        let x = self.up(&numbers("x", (rows + 1) * layers * columns));
        let places: Vec<u32> = (1..=rows as u32).rev().collect();
        let places = self.indices(&places);
        let mut weight = self.trained("mix weight", layers, 1.0);
        let mut gamma = self.trained("mix gamma", 1, 1.0);
        let mut y = self.room(rows * columns);
        let values = MixWeights { weight: &weight.value, gamma: &gamma.value };
        self.device.mix(shape, &x, &places, values, &mut y);
        self.keep(&name, &y, rows * columns);
        let dy = self.up(&numbers("dy", rows * columns));
        let trained = MixWeights { weight: &mut weight, gamma: &mut gamma };
        self.device.mix_backward(shape, &x, &places, trained, &dy);
        self.keep(&format!("{name} weight"), &weight.gradient, layers);
        self.keep(&format!("{name} gamma"), &gamma.gradient, 1);
        let sums: Vec<u32> = (0..rows as u32).rev().collect();
        let sums = self.indices(&sums);
        let mut dx = self.room(rows * layers * columns);
        let values = MixWeights { weight: &weight.value, gamma: &gamma.value };
        self.device.mix_layers_backward(shape, &sums, values, &dy, &mut dx);
        self.keep(&format!("{name} layers"), &dx, rows * layers * columns);
    }
}

/// Runs every operation on a device.
pub(super) fn run<B: Backend>(device: &mut B, extent: Extent) -> Vec<(String, Vec<f32>)> {
    let mut recorder = Recorder { device, packing: Packing::default(), found: Vec::new() };
    for (rows, inputs, outputs) in [(1, 1, 1), (37, 19, 23), (300, 5, 40)] {
        recorder.linear(rows, inputs, outputs);
    }
    let uneven: Vec<u32> = (0..21).map(|row| 1 + row * 5 % 7).collect();
    for (lengths, inputs, hidden, activation, vocabulary, together) in [
        (&uneven[..], 20, 20, Activation::Tanh, Some(13), true),
        (&uneven, 33, 40, Activation::Tanh, None, true),
        (&uneven, 9, 70, Activation::Relu, None, false),
        (&uneven[..3], 12, 130, Activation::Tanh, Some(700), false),
        (&[4], 3, 8, Activation::Relu, None, true),
        (&[1], 3, 1, Activation::Tanh, Some(2), true),
        (&[1, 1, 1], 2, 33, Activation::Relu, None, false),
    ] {
        recorder.lstm(lengths, LstmShape { inputs, hidden, activation }, vocabulary, together);
    }
    for (rows, classes) in [(1, 2), (45, 67), (9, 260)] {
        recorder.losses(rows, classes);
    }
    recorder.element_wise(37, 19);
    recorder.element_wise(300, 60);
    for (rows, columns) in [(1, 3), (600, 37), (70, 33)] {
        recorder.norms(rows, columns);
    }
    recorder.sequences(&uneven, 37);
    recorder.sequences(&[1], 5);
    recorder.sequences(&[40, 1, 33], 8);
    recorder.slots(33, 5, 19);
    recorder.slots(1, 1, 3);
    recorder.slots(4, 40, 70);
    recorder.mixes(70, 3, 300);
    recorder.mixes(1, 2, 1);
    if extent == Extent::Published {
        let lengths: Vec<u32> = (0..1024).map(|row| 1 + row * 37 % 128).collect();
        let shape = LstmShape { inputs: 128, hidden: 128, activation: Activation::Tanh };
        recorder.lstm(&lengths[..64], shape, Some(260), true);
        recorder.lstm(&lengths, shape, None, true);
        let counts: Vec<u32> = (0..1024).map(|row| 1 + row % 6).collect();
        let shape = LstmShape { inputs: 256, hidden: 256, activation: Activation::Relu };
        recorder.lstm(&counts[..64], shape, None, false);
        recorder.lstm(&counts, shape, None, false);
        recorder.sequences(&counts, 256);
        recorder.losses(70_000, 260);
        recorder.norms(6000, 256);
        recorder.mixes(6000, 3, 256);
        recorder.slots(3000, 16, 128);
        recorder.linear(70_000, 128, 260);
        recorder.element_wise(5000, 260);
    }
    recorder.found
}
