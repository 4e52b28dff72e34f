//! Features become the matrices that the classical models read: one row per flow, one column per byte
//! position, packet length or statistic.
//!
//! Bytes are written in one of two ways, because 0x00 and "no byte" are different things:
//!
//! - for trees ([`Encoding::Tokens`]): the token itself, 0 to 255, and [`PAD`] = 256 as a value of its
//!   own, which one split at 255.5 tells from every byte;
//! - for models of distances and inner products ([`Encoding::Scaled`]): the byte over 255, padding as 0,
//!   and for every packet one more column with the fraction of its M bytes that are present. Padding is
//!   always at a packet's end, so that one column says exactly which zeros are padding: nothing is lost,
//!   the width grows by N columns instead of doubling, and the byte columns keep the range `[0, 1]`
//!   (a PAD of -1 would let padding dominate their variance).
//!
//! Statistics are read as they are by trees, to which a monotone scale means nothing. For the other models they
//! pass `sign(x) * ln(1 + |x|)` (`log_scale`, by default true), since sizes, times, rates and counts span many
//! orders of magnitude, and are then standardised. Every statistics column passes it and no other one does: byte
//! columns keep their range, and sequences have a transformation of their own (`[feature.sequences]`).
//! k-nearest neighbours can read sequences in the scale of the transfer-learning study instead ([`SequenceScaling`]).
//! FlowPics are counts. Standardising (`standardise`) subtracts the training rows' mean and divides by their standard
//! deviation (of the population, as scikit-learn's `StandardScaler`); a constant column is divided by 1.

use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use super::sequence_scaling::SequenceScaling;
use super::{Examples, Input, ModelArchive, ModelError, stored};
use etcbench_feature::{PAD, flowpic_names};

/// How bytes are written as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Encoding {
    /// The token, 0 to 256.
    Tokens,
    /// Byte over 255, padding as 0, and one column per packet with the fraction of bytes present.
    Scaled,
}

/// What a model wants its columns to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InputOptions {
    /// What is read of a flow.
    pub input: Input,
    /// How bytes are written.
    pub encoding: Encoding,
    /// Whether statistics pass the signed logarithm.
    pub log_scale: bool,
    /// Whether columns are standardised on the training rows.
    pub standardise: bool,
    /// The scale of packet sequences.
    #[serde(default, skip_serializing_if = "SequenceScaling::is_as_made")]
    pub sequence_scaling: SequenceScaling,
}

impl InputOptions {
    /// Columns as they are.
    pub(crate) fn plain(input: Input) -> Self {
        Self {
            input,
            encoding: Encoding::Tokens,
            log_scale: false,
            standardise: false,
            sequence_scaling: SequenceScaling::AsMade,
        }
    }
}

/// Makes matrices of one fixed set of columns, scaled as the training rows were.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct InputTransform {
    options: InputOptions,
    packets: usize,
    bytes: usize,
    statistic_names: Vec<String>,
    /// Columns of the packet sequences.
    sequence_columns: usize,
    /// Pixels of the FlowPics.
    pixels: usize,
    /// Per column, subtracted; empty when columns are not standardised.
    means: Vec<f64>,
    /// Per column, divided by; empty when columns are not standardised.
    deviations: Vec<f64>,
}

impl InputTransform {
    /// Learns the scaling from the training rows and gives their matrix, shape `[rows, columns]`.
    ///
    /// # Errors
    /// No rows, no columns, or a statistic that is not finite.
    pub(crate) fn fit(
        model: &str,
        options: InputOptions,
        training: Examples<'_>,
    ) -> Result<(Self, Array2<f32>), ModelError> {
        let features = training.features;
        let mut transform = Self {
            options,
            packets: features.tokens.packets,
            bytes: features.tokens.bytes,
            statistic_names: features.statistic_names.clone(),
            sequence_columns: features.sequences.ncols(),
            pixels: features.flowpics.ncols(),
            means: Vec::new(),
            deviations: Vec::new(),
        };
        if training.rows.is_empty() {
            return Err(data(model, "there are no training rows; check the split and the dataset's labels"));
        }
        let mut matrix = transform.unscaled(model, training)?;
        if matrix.ncols() == 0 {
            return Err(data(model, "the input has no columns; choose another `input` or keep bytes or statistics"));
        }
        if transform.reads_bytes() && transform.packets * transform.bytes == 0 {
            return Err(data(model, "the features hold no bytes; choose input = \"statistics\""));
        }
        if options.standardise {
            transform.learn(&matrix);
            transform.scale(&mut matrix);
        }
        Ok((transform, matrix))
    }

    /// The matrix of other rows, shape `[rows, columns]`, in the training rows' scale.
    ///
    /// # Errors
    /// Features of another shape than the training rows', or a statistic that is not finite.
    pub(crate) fn apply(&self, model: &str, examples: Examples<'_>) -> Result<Array2<f32>, ModelError> {
        let mut matrix = self.unscaled(model, examples)?;
        if self.options.standardise {
            self.scale(&mut matrix);
        }
        Ok(matrix)
    }

    fn reads_bytes(&self) -> bool {
        self.options.input.reads_bytes()
    }

    fn reads_statistics(&self) -> bool {
        self.options.input.reads_statistics()
    }

    fn reads_sequences(&self) -> bool {
        self.options.input.reads_sequences()
    }

    /// The columns' names, in their order.
    pub(crate) fn column_names(&self) -> Vec<String> {
        let mut names = Vec::with_capacity(self.columns());
        if self.reads_bytes() {
            for packet in 1..=self.packets {
                for byte in 1..=self.bytes {
                    names.push(format!("packet{packet}_byte{byte}"));
                }
                if self.options.encoding == Encoding::Scaled {
                    names.push(format!("packet{packet}_present"));
                }
            }
        }
        if self.reads_statistics() {
            names.extend(self.statistic_names.iter().cloned());
        }
        if self.options.input.reads_flowpic() {
            names.extend(flowpic_names(self.pixels));
        }
        if self.reads_sequences() {
            names.extend(self.options.sequence_scaling.names(self.sequence_columns));
        }
        names
    }

    /// The last columns that are of packet sequences.
    pub(crate) fn sequence_columns(&self) -> usize {
        if self.reads_sequences() { self.options.sequence_scaling.columns(self.sequence_columns) } else { 0 }
    }

    /// Number of columns.
    pub(crate) fn columns(&self) -> usize {
        let per_packet = self.bytes + usize::from(self.options.encoding == Encoding::Scaled);
        let bytes = if self.reads_bytes() { self.packets * per_packet } else { 0 };
        let statistics = if self.reads_statistics() { self.statistic_names.len() } else { 0 };
        let pixels = if self.options.input.reads_flowpic() { self.pixels } else { 0 };
        bytes + statistics + pixels + self.sequence_columns()
    }

    fn unscaled(&self, model: &str, examples: Examples<'_>) -> Result<Array2<f32>, ModelError> {
        let features = examples.features;
        if self.reads_bytes() && (features.tokens.packets, features.tokens.bytes) != (self.packets, self.bytes) {
            return Err(data(
                model,
                format!(
                    "the model reads {} packets of {} bytes, the features have {} of {}; use the features it was \
                     fitted on",
                    self.packets, self.bytes, features.tokens.packets, features.tokens.bytes
                ),
            ));
        }
        if self.reads_statistics() {
            if features.statistic_names != self.statistic_names {
                return Err(data(model, "the flow statistics are not those the model was fitted on"));
            }
            if features.statistics.ncols() != self.statistic_names.len() {
                return Err(data(model, "the flow statistics have another number of columns than names"));
            }
        }
        if self.reads_sequences() {
            if features.sequences.ncols() != self.sequence_columns {
                return Err(data(model, "the packet sequences are not as long as those the model was fitted on"));
            }
            let scaling = self.options.sequence_scaling;
            scaling.check_packets(self.sequence_columns / 2).map_err(|problem| data(model, problem))?;
            if !self.reads_statistics() && scaling == SequenceScaling::AsMade {
                return Ok(features.sequences.select(Axis(0), examples.rows));
            }
        }
        if self.options.input.reads_flowpic() {
            if features.flowpics.ncols() != self.pixels {
                return Err(data(
                    model,
                    "the flowpics have another number of pixels than those the model was fitted on",
                ));
            }
            return Ok(features.flowpics.select(Axis(0), examples.rows).mapv(f32::from));
        }
        let mut matrix = Array2::zeros((examples.rows.len(), self.columns()));
        for (&row, mut target) in examples.rows.iter().zip(matrix.outer_iter_mut()) {
            let target = target.as_slice_mut().expect("a row of a row-major matrix is contiguous");
            let mut filled = 0;
            if self.reads_bytes() {
                filled = self.write_bytes(features.tokens.flow(row), target);
            }
            if self.reads_statistics() {
                for (column, &value) in features.statistics.row(row).iter().enumerate() {
                    if !value.is_finite() {
                        return Err(data(
                            model,
                            format!(
                                "statistic `{}` of flow {row} is {value}; repair or drop the flow",
                                self.statistic_names[column]
                            ),
                        ));
                    }
                    target[filled + column] =
                        if self.options.log_scale { value.signum() * value.abs().ln_1p() } else { value };
                }
                filled += self.statistic_names.len();
            }
            if self.reads_sequences() {
                let written = self.options.sequence_scaling.write(features.sequences.row(row), &mut target[filled..]);
                written.map_err(|problem| data(model, problem))?;
            }
        }
        Ok(matrix)
    }

    /// Writes one flow's byte columns; returns how many.
    fn write_bytes(&self, tokens: &[u16], target: &mut [f32]) -> usize {
        if self.options.encoding == Encoding::Tokens {
            for (value, &token) in target.iter_mut().zip(tokens) {
                *value = f32::from(token);
            }
            return tokens.len();
        }
        if self.bytes == 0 {
            return self.packets;
        }
        for (packet, values) in tokens.chunks_exact(self.bytes).zip(target.chunks_exact_mut(self.bytes + 1)) {
            let mut present = 0_u32;
            for (value, &token) in values.iter_mut().zip(packet) {
                if token != PAD {
                    present += 1;
                    *value = f32::from(token) / 255.0;
                }
            }
            values[self.bytes] = present as f32 / self.bytes as f32;
        }
        self.packets * (self.bytes + 1)
    }

    fn learn(&mut self, matrix: &Array2<f32>) {
        let rows = matrix.nrows() as f64;
        let columns = matrix.ncols();
        let mut means = vec![0.0; columns];
        for row in matrix.axis_iter(Axis(0)) {
            for (mean, &value) in means.iter_mut().zip(row) {
                *mean += f64::from(value);
            }
        }
        means.iter_mut().for_each(|mean| *mean /= rows);
        let mut squares = vec![0.0; columns];
        for row in matrix.axis_iter(Axis(0)) {
            for ((square, &mean), &value) in squares.iter_mut().zip(&means).zip(row) {
                let difference = f64::from(value) - mean;
                *square += difference * difference;
            }
        }
        let first = matrix.row(0).to_owned();
        let constant = |column: usize| matrix.column(column).iter().all(|&value| value == first[column]);
        self.deviations = squares
            .iter()
            .enumerate()
            .map(|(column, square)| {
                let deviation = (square / rows).sqrt();
                if deviation == 0.0 || constant(column) { 1.0 } else { deviation }
            })
            .collect();
        self.means = means;
    }

    fn scale(&self, matrix: &mut Array2<f32>) {
        for mut row in matrix.outer_iter_mut() {
            for ((value, mean), deviation) in row.iter_mut().zip(&self.means).zip(&self.deviations) {
                *value = ((f64::from(*value) - mean) / deviation) as f32;
            }
        }
    }

    /// Writes what [`InputTransform::restore`] reads.
    pub(crate) fn store(&self, archive: &mut ModelArchive) {
        stored::put_json(archive, "input", &self.options);
        stored::put_json(archive, "packets", &self.packets);
        stored::put_json(archive, "bytes", &self.bytes);
        stored::put_json(archive, "statistic_names", &self.statistic_names);
        stored::put_json(archive, "sequence_columns", &self.sequence_columns);
        if self.options.input.reads_flowpic() {
            stored::put_json(archive, "pixels", &self.pixels);
        }
        stored::put_f64s(archive, "input_means", &self.means);
        stored::put_f64s(archive, "input_deviations", &self.deviations);
    }

    /// Reads what [`InputTransform::store`] wrote.
    ///
    /// # Errors
    /// Missing or contradictory entries.
    pub(crate) fn restore(archive: &ModelArchive) -> Result<Self, ModelError> {
        let options: InputOptions = stored::json(archive, "input")?;
        let transform = Self {
            options,
            pixels: if options.input.reads_flowpic() { stored::json(archive, "pixels")? } else { 0 },
            packets: stored::json(archive, "packets")?,
            bytes: stored::json(archive, "bytes")?,
            statistic_names: stored::json(archive, "statistic_names")?,
            sequence_columns: stored::json(archive, "sequence_columns")?,
            means: stored::f64s(archive, "input_means")?.to_vec(),
            deviations: stored::f64s(archive, "input_deviations")?.to_vec(),
        };
        let size = transform.bytes.checked_add(1).and_then(|bytes| bytes.checked_mul(transform.packets));
        if size.is_none_or(|size| size > u32::MAX as usize)
            || transform.sequence_columns > u32::MAX as usize
            || transform.pixels > u32::MAX as usize
            || transform.columns() == 0
        {
            return Err(stored::broken("the number of packets and bytes is too large, or there are no columns"));
        }
        let usable = |value: &f64| value.is_finite();
        if !transform.means.iter().all(usable)
            || !transform.deviations.iter().all(|value| *value > 0.0 && usable(value))
        {
            return Err(stored::broken("tensor input_means or input_deviations holds an unusable value"));
        }
        let scaled = if transform.options.standardise { transform.columns() } else { 0 };
        if transform.means.len() != scaled || transform.deviations.len() != scaled {
            return Err(stored::broken(format!(
                "input scaling has {} columns, expected {scaled}",
                transform.means.len()
            )));
        }
        Ok(transform)
    }

    /// What the model reads of a flow.
    pub(crate) fn options(&self) -> InputOptions {
        self.options
    }
}

/// An error about the data given to `model`.
pub(super) fn data(model: &str, problem: impl Into<String>) -> ModelError {
    ModelError::Data { model: model.to_owned(), problem: problem.into() }
}
