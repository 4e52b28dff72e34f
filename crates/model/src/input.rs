//! Builds the matrices that the classical models read: one row per flow, one column per byte position, packet length or
//! statistic.
//!
//! Bytes are encoded in one of two ways, because 0x00 and "no byte" are different:
//!
//! - for trees ([`Encoding::Tokens`]): the token itself, 0 to 255, and [`PAD`] = 256 as a separate value, which one
//!   split at 255.5 separates from every byte;
//! - for models based on distances and inner products ([`Encoding::Scaled`]): the byte divided by 255, padding as 0,
//!   and one extra column per packet with the fraction of its M bytes that are present. Padding is always at the end of
//!   a packet, so that column identifies exactly which zeros are padding: no information is lost, the width grows by N
//!   columns instead of doubling, and the byte columns stay within `[0, 1]` (a PAD of -1 would let padding dominate
//!   their variance).
//!
//! Trees read statistics unchanged, since monotone scaling does not affect them. For the other models, statistics are
//! transformed by `sign(x) * ln(1 + |x|)` (`log_scale`, true by default), because sizes, times, rates and counts span
//! many orders of magnitude, and then standardised. The logarithm applies to every statistics column and to no other:
//! byte columns keep their range, and sequences have their own transformation (`[feature.sequences]`). k-nearest
//! neighbours can instead read sequences in the scale of the transfer-learning study ([`SequenceScaling`]). FlowPics
//! are counts. Standardising (`standardise`) subtracts the training rows' mean and divides by their standard deviation
//! (of the population, as in scikit-learn's `StandardScaler`); a constant column is divided by 1.

use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use super::sequence_scaling::SequenceScaling;
use super::{Examples, Input, ModelArchive, ModelError, stored};
use etcbench_feature::{PAD, flowpic_names};

/// How bytes are encoded as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Encoding {
    /// The token, 0 to 256.
    Tokens,
    /// The byte divided by 255, padding as 0, and one column per packet with the fraction of bytes present.
    Scaled,
}

/// How a model's columns are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InputOptions {
    /// Which inputs are read.
    pub input: Input,
    /// How bytes are encoded.
    pub encoding: Encoding,
    /// Whether statistics are transformed by the signed logarithm.
    pub log_scale: bool,
    /// Whether columns are standardised on the training rows.
    pub standardise: bool,
    /// Scale of packet sequences.
    #[serde(default, skip_serializing_if = "SequenceScaling::is_as_made")]
    pub sequence_scaling: SequenceScaling,
}

impl InputOptions {
    /// Returns the options of unscaled columns.
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

/// Builds matrices with a fixed set of columns, scaled like the training rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct InputTransform {
    options: InputOptions,
    packets: usize,
    bytes: usize,
    statistic_names: Vec<String>,
    /// Number of packet sequence columns.
    sequence_columns: usize,
    /// Number of FlowPic pixels.
    pixels: usize,
    /// Subtracted from each column; empty if columns are not standardised.
    means: Vec<f64>,
    /// Divisor of each column; empty if columns are not standardised.
    deviations: Vec<f64>,
}

impl InputTransform {
    /// Learns the scaling from the training rows and returns their matrix, shape `[rows, columns]`.
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
            return Err(data(model, "the features contain no bytes; choose input = \"statistics\""));
        }
        if options.standardise {
            transform.learn(&matrix);
            transform.scale(&mut matrix);
        }
        Ok((transform, matrix))
    }

    /// Builds the matrix of other rows, shape `[rows, columns]`, in the training rows' scale.
    ///
    /// # Errors
    /// Features of another shape than those of the training rows, or a statistic that is not finite.
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

    /// Returns the names of the columns, in order.
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

    /// Returns how many of the last columns are packet sequences.
    pub(crate) fn sequence_columns(&self) -> usize {
        if self.reads_sequences() { self.options.sequence_scaling.columns(self.sequence_columns) } else { 0 }
    }

    /// Returns the number of columns.
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
                    "the model reads {} packets of {} bytes, but the features have {} of {}; use the features it was \
                     fitted on",
                    self.packets, self.bytes, features.tokens.packets, features.tokens.bytes
                ),
            ));
        }
        if self.reads_statistics() {
            if features.statistic_names != self.statistic_names {
                return Err(data(model, "the flow statistics differ from those the model was fitted on"));
            }
            if features.statistics.ncols() != self.statistic_names.len() {
                return Err(data(model, "the flow statistics have a different number of columns than names"));
            }
        }
        if self.reads_sequences() {
            if features.sequences.ncols() != self.sequence_columns {
                return Err(data(model, "the packet sequences differ in length from those the model was fitted on"));
            }
            let scaling = self.options.sequence_scaling;
            scaling.check_packets(self.sequence_columns / 2).map_err(|problem| data(model, problem))?;
            if !self.reads_statistics() && scaling == SequenceScaling::AsMade {
                return Ok(features.sequences.select(Axis(0), examples.rows));
            }
        }
        if self.options.input.reads_flowpic() {
            if features.flowpics.ncols() != self.pixels {
                return Err(data(model, "the flowpics differ in size from those the model was fitted on"));
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

    /// Writes one flow's byte columns and returns how many it wrote.
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

    /// Stores the transformation for [`InputTransform::restore`].
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

    /// Restores a transformation stored by [`InputTransform::store`].
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
            return Err(stored::broken("tensor input_means or input_deviations contains an unusable value"));
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

    /// Returns the column options.
    pub(crate) fn options(&self) -> InputOptions {
        self.options
    }
}

/// Returns an error about the data given to `model`.
pub(super) fn data(model: &str, problem: impl Into<String>) -> ModelError {
    ModelError::Data { model: model.to_owned(), problem: problem.into() }
}
