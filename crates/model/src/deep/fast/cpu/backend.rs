//! The operations of a device on the CPU, each with its buffers.

use rayon::prelude::*;

use super::super::backend::{
    AdamStep, Attended, Backend, ColumnsAt, Dropout, LinearShape, LinearWeights, Lookup, LstmGradients, LstmInput,
    LstmShape, LstmState, LstmWeights, MatrixShape, MixShape, MixWeights, NormState, NormWeights, PoolInput, PoolShape,
    RowsAt, SlotShape, Slots, Smoothing, Trained,
};
use super::super::packing::Packing;
use super::matmul::{Layout, Update, multiply_parallel, multiply_transposed};
use super::{Cpu, TASK, attention, grow, lstm, normalise, optimiser, pool, rows, slots};
use crate::deep::engine::NORM_EPSILON;
use crate::deep::parameters::Activation;

impl Backend for Cpu {
    type Values = Vec<f32>;
    type Indices = Vec<u32>;

    fn rows_per_chunk(&self, hidden: usize, _: usize) -> usize {
        // With few rows, a chunk's gates stay in the cache; a large recurrent weight needs more rows per pass over it.
        if hidden <= 128 { 32 } else { 128 }
    }

    fn reserve(&mut self, values: &mut Vec<f32>, length: usize) {
        grow(values, length);
    }

    fn upload(&mut self, from: &[f32], to: &mut Vec<f32>) {
        grow(to, from.len());
        to[..from.len()].copy_from_slice(from);
    }

    fn upload_indices(&mut self, from: &[u32], to: &mut Vec<u32>) {
        to.clear();
        to.extend_from_slice(from);
    }

    fn download(&self, from: &Vec<f32>, to: &mut [f32]) {
        to.copy_from_slice(&from[..to.len()]);
    }

    fn linear(&mut self, shape: LinearShape, x: &Vec<f32>, weights: LinearWeights<&Vec<f32>>, y: &mut Vec<f32>) {
        let LinearShape { rows, inputs, outputs } = shape;
        self.input_panels.pack_parallel(weights.weight, inputs, outputs, Layout::Transposed);
        let y = &mut y[..rows * outputs];
        multiply_parallel(self.level, rows, x, &self.input_panels, y, Update::Bias(weights.bias));
    }

    fn linear_backward(
        &mut self,
        shape: LinearShape,
        x: &Vec<f32>,
        dy: &Vec<f32>,
        weights: LinearWeights<&mut Trained<Vec<f32>>>,
        dx: &mut Vec<f32>,
        accumulate: bool,
    ) {
        let LinearShape { rows, inputs, outputs } = shape;
        let LinearWeights { weight, bias } = weights;
        let dy = &dy[..rows * outputs];
        multiply_transposed(self.level, rows, outputs, inputs, dy, x, &mut weight.gradient);
        rows::column_sums(self.level, outputs, dy, &mut bias.gradient[..outputs]);
        self.input_panels.pack_parallel(&weight.value, outputs, inputs, Layout::Plain);
        let update = if accumulate { Update::Add } else { Update::Replace };
        multiply_parallel(self.level, rows, dy, &self.input_panels, &mut dx[..rows * inputs], update);
    }

    fn lstm(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        input: LstmInput<'_, Self>,
        weights: LstmWeights<&Vec<f32>>,
        state: &mut LstmState<Vec<f32>>,
    ) {
        let LstmShape { inputs, hidden, activation } = shape;
        self.input_panels.pack_parallel(weights.input, inputs, 4 * hidden, Layout::Transposed);
        self.hidden_panels.pack_parallel(weights.hidden, hidden, 4 * hidden, Layout::Transposed);
        grow(&mut state.gates, packing.states * 4 * hidden);
        grow(&mut state.cells, packing.states * hidden);
        grow(&mut state.hidden, packing.states * hidden);
        let source = match input {
            LstmInput::Rows(rows) => {
                lstm::Source::Rows { rows, inputs, panels: &self.input_panels, bias: weights.bias }
            }
            LstmInput::Embedded { embedding, vocabulary, ids } => {
                grow(&mut self.table, vocabulary * 4 * hidden);
                let table = &mut self.table[..vocabulary * 4 * hidden];
                let update = Update::Bias(weights.bias);
                multiply_parallel(self.level, vocabulary, embedding, &self.input_panels, table, update);
                lstm::Source::Table { table: &self.table, ids }
            }
        };
        let tanh = activation == Activation::Tanh;
        let shared = lstm::Forward { level: self.level, packing, hidden, tanh, source, panels: &self.hidden_panels };
        lstm::forward(shared, &packing.chunks, &mut state.gates, &mut state.cells, &mut state.hidden);
    }

    fn lstm_backward(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        input: LstmInput<'_, Self>,
        weights: LstmWeights<&mut Trained<Vec<f32>>>,
        state: &mut LstmState<Vec<f32>>,
        gradients: LstmGradients<'_, Vec<f32>>,
    ) {
        let LstmGradients { output: dh, input: dx } = gradients;
        let LstmShape { inputs, hidden, activation } = shape;
        let width = 4 * hidden;
        self.hidden_panels.pack_parallel(&weights.hidden.value, width, hidden, Layout::Plain);
        self.input_panels.pack_parallel(&weights.input.value, width, inputs, Layout::Plain);
        grow(&mut self.carry, packing.rows() * hidden);
        let rows = matches!(input, LstmInput::Rows(_));
        let shared = lstm::Backward {
            level: self.level,
            packing,
            hidden,
            tanh: activation == Activation::Tanh,
            panels: &self.hidden_panels,
            input: rows.then_some((&self.input_panels, inputs)),
        };
        let slices = lstm::BackwardSlices {
            gates: &mut state.gates,
            cells: &state.cells,
            dh,
            dx: if rows { dx } else { &mut [] },
            carry: &mut self.carry,
        };
        lstm::backward(shared, &packing.chunks, slices);
        self.hidden_gradient(packing, hidden, state, &mut weights.hidden.gradient);
        let gates = &state.gates[..packing.states * width];
        match input {
            LstmInput::Rows(x) => {
                multiply_transposed(self.level, packing.states, width, inputs, gates, x, &mut weights.input.gradient);
                rows::column_sums(self.level, width, gates, &mut weights.bias.gradient[..width]);
            }
            LstmInput::Embedded { embedding, vocabulary, ids } => {
                grow(&mut self.table, vocabulary * width);
                let table = &mut self.table[..vocabulary * width];
                rows::scatter(width, gates, ids, table);
                let gradient = &mut weights.input.gradient;
                multiply_transposed(self.level, vocabulary, width, inputs, table, embedding, gradient);
                rows::column_sums(self.level, width, table, &mut weights.bias.gradient[..width]);
                let dx = &mut dx[..vocabulary * inputs];
                multiply_parallel(self.level, vocabulary, table, &self.input_panels, dx, Update::Add);
            }
        }
    }

    fn cross_entropy(&mut self, shape: MatrixShape, logits: &mut Vec<f32>, targets: &Vec<u32>, scale: f32) -> f64 {
        rows::cross_entropy(self.level, shape.columns, &mut logits[..shape.values()], &targets[..shape.rows], scale)
    }

    fn weighted_cross_entropy(
        &mut self,
        shape: MatrixShape,
        logits: &mut Vec<f32>,
        targets: &Vec<u32>,
        weights: &Vec<f32>,
        smoothing: Smoothing,
        scale: f32,
    ) -> f64 {
        let (weights, logits) = (&weights[..shape.columns], &mut logits[..shape.values()]);
        rows::weighted_cross_entropy(self.level, weights, smoothing, logits, &targets[..shape.rows], scale)
    }

    fn softmax(&mut self, shape: MatrixShape, logits: &mut Vec<f32>) {
        rows::softmax_rows(self.level, shape.columns, &mut logits[..shape.values()]);
    }

    fn dropout(&mut self, shape: MatrixShape, dropout: Dropout, places: &Vec<u32>, x: &Vec<f32>, y: &mut Vec<f32>) {
        y[..shape.values()].copy_from_slice(&x[..shape.values()]);
        self.dropout_in_place(shape, dropout, places, y);
    }

    fn dropout_in_place(&mut self, shape: MatrixShape, dropout: Dropout, places: &Vec<u32>, x: &mut Vec<f32>) {
        rows::dropout(shape.columns, dropout, &places[..shape.rows], &mut x[..shape.values()]);
    }

    fn relu(&mut self, count: usize, x: &mut Vec<f32>) {
        x[..count].par_chunks_mut(TASK).for_each(|x| x.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x }));
    }

    fn relu_backward(&mut self, count: usize, y: &Vec<f32>, dy: &mut Vec<f32>) {
        dy[..count].par_chunks_mut(TASK).zip(y[..count].par_chunks(TASK)).for_each(|(dy, y)| {
            dy.iter_mut().zip(y).for_each(|(dy, &y)| *dy = if y > 0.0 { *dy } else { 0.0 });
        });
    }

    fn batch_norm(
        &mut self,
        shape: MatrixShape,
        x: &Vec<f32>,
        weights: NormWeights<&Vec<f32>>,
        share: f32,
        state: &mut NormState<Vec<f32>>,
        y: &mut Vec<f32>,
    ) {
        let columns = shape.columns;
        grow(&mut state.mean, columns);
        grow(&mut state.scale, columns);
        let x = &x[..shape.values()];
        let statistics = NormState {
            mean: &mut state.mean[..columns],
            scale: &mut state.scale[..columns],
            running_mean: &mut state.running_mean[..columns],
            running_variance: &mut state.running_variance[..columns],
        };
        normalise::statistics(self.level, columns, x, share, statistics);
        let y = &mut y[..shape.values()];
        let of_column = normalise::Columns { mean: &state.mean, scale: &state.scale, weight: weights.weight };
        normalise::apply(self.level, columns, x, of_column, weights.bias, y);
    }

    fn batch_norm_fixed(
        &mut self,
        shape: MatrixShape,
        x: &Vec<f32>,
        weights: NormWeights<&Vec<f32>>,
        state: &NormState<Vec<f32>>,
        y: &mut Vec<f32>,
    ) {
        let columns = shape.columns;
        grow(&mut self.columns, columns);
        for (scale, variance) in self.columns.iter_mut().zip(&state.running_variance) {
            *scale = 1.0 / (variance + NORM_EPSILON).sqrt();
        }
        let (x, y) = (&x[..shape.values()], &mut y[..shape.values()]);
        let of_column = normalise::Columns { mean: &state.running_mean, scale: &self.columns, weight: weights.weight };
        normalise::apply(self.level, columns, x, of_column, weights.bias, y);
    }

    fn batch_norm_backward(
        &mut self,
        shape: MatrixShape,
        x: &Vec<f32>,
        weights: NormWeights<&mut Trained<Vec<f32>>>,
        state: &NormState<Vec<f32>>,
        gradient: &mut Vec<f32>,
    ) {
        let columns = shape.columns;
        grow(&mut self.columns, 2 * columns);
        let NormWeights { weight, bias } = weights;
        let of_column = normalise::Columns { mean: &state.mean, scale: &state.scale, weight: &weight.value };
        let added = NormWeights { weight: &mut weight.gradient[..columns], bias: &mut bias.gradient[..columns] };
        let (x, gradient) = (&x[..shape.values()], &mut gradient[..shape.values()]);
        normalise::backward(self.level, columns, x, of_column, added, &mut self.columns[..2 * columns], gradient);
    }

    fn attention(
        &mut self,
        packing: &Packing,
        columns: usize,
        input: Attended<&Vec<f32>>,
        attention: &mut Vec<f32>,
        y: &mut Vec<f32>,
    ) {
        let shared = self.attention_of(packing, columns, &input);
        grow(attention, packing.rows() * shared.stride);
        attention::forward(shared, &packing.chunks, attention, y);
    }

    fn attention_backward(
        &mut self,
        packing: &Packing,
        columns: usize,
        input: Attended<&Vec<f32>>,
        attention: &Vec<f32>,
        dy: &Vec<f32>,
        gradient: Attended<&mut Vec<f32>>,
    ) {
        let shared = self.attention_of(packing, columns, &input);
        let gradients = attention::Gradients { query: gradient.query, key: gradient.key, value: gradient.value };
        attention::backward(shared, &packing.chunks, attention, dy, gradients);
    }

    fn pool(&mut self, packing: &Packing, shape: PoolShape, x: PoolInput<'_, Self>, y: &mut Vec<f32>) {
        pool::forward(packing, shape, &pool::rows(&x, shape.columns), y);
    }

    fn pool_backward(
        &mut self,
        packing: &Packing,
        shape: PoolShape,
        x: PoolInput<'_, Self>,
        dy: &Vec<f32>,
        dx: &mut Vec<f32>,
        accumulate: bool,
    ) {
        pool::backward(packing, shape, &pool::rows(&x, shape.columns), dy, dx, accumulate);
    }

    fn slot_attention(
        &mut self,
        shape: SlotShape,
        slots: Slots<'_, Self>,
        weight: &Vec<f32>,
        shares: &mut Vec<f32>,
        y: &mut Vec<f32>,
    ) {
        slots::forward(self.level, shape, slots.x, &slots.lengths[..shape.rows], weight, shares, y);
    }

    fn slot_attention_backward(
        &mut self,
        shape: SlotShape,
        slots: Slots<'_, Self>,
        weight: &mut Trained<Vec<f32>>,
        shares: &Vec<f32>,
        dy: &Vec<f32>,
        dx: &mut Vec<f32>,
    ) {
        let working = shape.rows * (shape.slots + 2 * shape.columns);
        grow(&mut self.table, working);
        let weight = (&weight.value[..2 * shape.columns], &mut weight.gradient[..2 * shape.columns]);
        let pass = slots::Pass { x: slots.x, lengths: &slots.lengths[..shape.rows], shares, dy };
        slots::backward(self.level, shape, pass, weight, dx, &mut self.table[..working]);
    }

    fn zero(&mut self, count: usize, x: &mut Vec<f32>) {
        x[..count].fill(0.0);
    }

    fn scatter_add(
        &mut self,
        shape: MatrixShape,
        x: &Vec<f32>,
        ids: &Vec<u32>,
        table_rows: usize,
        table: &mut Vec<f32>,
    ) {
        grow(&mut self.table, table_rows * shape.columns);
        let sums = &mut self.table[..table_rows * shape.columns];
        rows::scatter(shape.columns, x, &ids[..shape.rows], sums);
        table.iter_mut().zip(sums).for_each(|(value, sum)| *value += *sum);
    }

    fn add_looked_up(&mut self, shape: MatrixShape, lookups: [Lookup<'_, Self>; 2], y: &mut Vec<f32>) {
        let MatrixShape { rows, columns } = shape;
        let [left, right] = lookups;
        let row_of = |id: u32| id as usize * columns..(id as usize + 1) * columns;
        for ((row, &left_id), &right_id) in y.chunks_exact_mut(columns).zip(&left.ids[..rows]).zip(&right.ids[..rows]) {
            let (left, right) = (&left.table[row_of(left_id)], &right.table[row_of(right_id)]);
            row.iter_mut().zip(left).zip(right).for_each(|((value, left), right)| *value = left + right);
        }
    }

    fn put_rows(&mut self, shape: MatrixShape, x: &Vec<f32>, at: RowsAt<'_, Vec<u32>>, y: &mut Vec<f32>) {
        let MatrixShape { rows, columns } = shape;
        for (row, &place) in x.chunks_exact(columns).zip(&at.places[..rows]) {
            y[(place as usize * at.stride + at.offset) * columns..][..columns].copy_from_slice(row);
        }
    }

    fn take_rows(&mut self, shape: MatrixShape, x: &Vec<f32>, at: RowsAt<'_, Vec<u32>>, y: &mut Vec<f32>) {
        let MatrixShape { rows, columns } = shape;
        for (row, &place) in y.chunks_exact_mut(columns).zip(&at.places[..rows]) {
            row.copy_from_slice(&x[(place as usize * at.stride + at.offset) * columns..][..columns]);
        }
    }

    fn put_columns(&mut self, shape: MatrixShape, x: &Vec<f32>, at: ColumnsAt, y: &mut Vec<f32>) {
        let MatrixShape { rows, columns } = shape;
        for (to, from) in y.chunks_exact_mut(at.total).zip(x.chunks_exact(columns)).take(rows) {
            to[at.first..at.first + columns].copy_from_slice(from);
        }
    }

    fn take_columns(&mut self, shape: MatrixShape, x: &Vec<f32>, at: ColumnsAt, y: &mut Vec<f32>) {
        let MatrixShape { rows, columns } = shape;
        for (to, from) in y.chunks_exact_mut(columns).zip(x.chunks_exact(at.total)).take(rows) {
            to.copy_from_slice(&from[at.first..at.first + columns]);
        }
    }

    fn mix(
        &mut self,
        shape: MixShape,
        x: &Vec<f32>,
        places: &Vec<u32>,
        weights: MixWeights<&Vec<f32>>,
        y: &mut Vec<f32>,
    ) {
        let MixShape { rows, layers, columns } = shape;
        let weight = &weights.weight[..layers];
        rows::mix(columns, x, &places[..rows], weight, weights.gamma[0], &mut y[..rows * columns]);
    }

    fn mix_backward(
        &mut self,
        shape: MixShape,
        x: &Vec<f32>,
        places: &Vec<u32>,
        weights: MixWeights<&mut Trained<Vec<f32>>>,
        dy: &Vec<f32>,
    ) {
        let MixShape { rows, layers, columns } = shape;
        let MixWeights { weight, gamma } = weights;
        let weight = (&weight.value[..layers], &mut weight.gradient[..layers]);
        let gamma = (gamma.value[0], &mut gamma.gradient[0]);
        rows::mix_backward(self.level, columns, x, &places[..rows], weight, gamma, dy);
    }

    fn mix_layers_backward(
        &mut self,
        shape: MixShape,
        sums: &Vec<u32>,
        weights: MixWeights<&Vec<f32>>,
        dy: &Vec<f32>,
        dx: &mut Vec<f32>,
    ) {
        let MixShape { rows, layers, columns } = shape;
        let dx = &mut dx[..rows * layers * columns];
        rows::mix_layers_backward(columns, &sums[..rows], &weights.weight[..layers], weights.gamma[0], dy, dx);
    }

    fn add_squared_norm(&mut self, trained: &Trained<Vec<f32>>, length: usize) {
        self.squares += optimiser::squared_norm(self.level, &trained.gradient[..length]);
    }

    fn take_squared_norm(&mut self) -> f64 {
        std::mem::take(&mut self.squares)
    }

    fn adam(&mut self, trained: &mut Trained<Vec<f32>>, length: usize, step: AdamStep) {
        optimiser::adam(self.level, trained, length, step);
    }

    fn average(&mut self, trained: &mut Trained<Vec<f32>>, length: usize, share: f32) {
        optimiser::average(&trained.value[..length], &mut trained.average[..length], share);
    }
}

impl Cpu {
    /// Adds the gradient of the recurrent weight: the gates' gradients times the previous states.
    fn hidden_gradient(&mut self, packing: &Packing, size: usize, state: &LstmState<Vec<f32>>, gradient: &mut [f32]) {
        let width = 4 * size;
        for chunk in &packing.chunks {
            grow(&mut self.previous, chunk.states * size);
            let mut filled = 0;
            for (&active, &before) in packing.active(chunk).iter().skip(1).zip(packing.offsets(chunk)) {
                let (count, before) = (active as usize * size, before as usize * size);
                self.previous[filled..filled + count].copy_from_slice(&state.hidden[before..before + count]);
                filled += count;
            }
            let gates = &state.gates[(chunk.start + chunk.rows) * width..];
            multiply_transposed(self.level, filled / size, width, size, gates, &self.previous, gradient);
        }
    }

    fn attention_of<'a>(
        &self,
        packing: &'a Packing,
        columns: usize,
        input: &Attended<&'a Vec<f32>>,
    ) -> attention::Shared<'a> {
        let longest = packing.lengths.first().map_or(0, |&length| length as usize);
        attention::Shared {
            level: self.level,
            packing,
            columns,
            stride: longest * longest,
            query: input.query,
            key: input.key,
            value: input.value,
        }
    }
}
