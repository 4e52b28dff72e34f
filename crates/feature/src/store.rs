//! The feature store: labelled flows in a single Parquet file, one row per flow, readable with pandas and polars.
//!
//! Columns: `dataset`, `capture`, `number`, `source_address`, `source_port`, `destination_address`, `destination_port`,
//! `transport` (`tcp`, `udp`), `start_ns`, `end_ns` (Unix epoch), one `label_<column>` per label column (null if a flow
//! has no such label), one `statistic_<name>` per flow statistic, `packet_count` (of the packets kept), then for each
//! kept packet k from 0: `packet_<k>_bytes` (from the IP header on), `_time_ns`, `_wire_length`, `_direction`
//! (`forward`, `backward`), `_transport_offset`, `_payload_offset` (into the bytes), null if the flow has fewer
//! packets. The file's key-value metadata (`etcbench.*`) contains [`StoreHeader`]. Equal flows produce identical bytes.

use std::borrow::Borrow;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::column::writer::{ColumnCloseResult, get_column_writer};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter, SerializedPageWriter, TrackedWrite};
use parquet::schema::types::{ColumnDescPtr, ColumnPath};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::column::{Columns, Field, Value};
use etcbench_dataset::LabelledFlow;
use etcbench_flow::FlowOptions;
use etcbench_storage as storage;
use etcbench_storage::guarded;

/// Flows per row group, which is what a reader or writer holds in memory. A writer also holds about 800 bytes per
/// column of every row group written, as the file's metadata is written at its end.
const ROWS_PER_GROUP: usize = 16_384;
const FORMAT: &str = "1";
const HEADER_KEY: &str = "etcbench.header";
const FORMAT_KEY: &str = "etcbench.store_format";
/// The Parquet reader panics on some damaged files.
const GAVE_UP: &str = "the file is damaged (the Parquet reader gave up)";
const VERSION_KEY: &str = "etcbench.version";

/// Properties shared by a store's flows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreHeader {
    /// The datasets; with several, a flow's capture starts with its dataset's name and `/`.
    pub datasets: Vec<String>,
    /// The label columns, in the order of their Parquet columns.
    pub label_columns: Vec<String>,
    /// Columns that an experiment adds, such as the class and parts, under their own names; their values are stored
    /// among a flow's labels, with keys from [`added_key`](super::added_key).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_columns: Vec<String>,
    /// Names of the flow statistics, in order.
    pub statistic_names: Vec<String>,
    /// The options used to assemble the flows.
    pub flow_options: FlowOptions,
}

/// Why a feature store could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file could not be written; no partial file remains.
    #[error("{file}: cannot write the feature store: {source}")]
    Write {
        /// The file.
        file: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The file cannot be read or is not a feature store.
    #[error("{file}: cannot read the feature store: {message}; delete it to have it recreated")]
    Read {
        /// The file.
        file: String,
        /// The reason.
        message: String,
    },
}

/// Writes flows to a feature store, all or nothing, and returns their number.
///
/// # Errors
/// An I/O error, or a flow that does not fit the header (a label column or number of statistics not in the header, more
/// packets than are kept, or an unlisted dataset).
pub fn write_store<'a>(
    path: &Path,
    header: &StoreHeader,
    flows: impl IntoIterator<Item = &'a LabelledFlow>,
) -> Result<u64, StoreError> {
    let mut flows = flows.into_iter();
    stream_store(path, header, Columns::Own, StoreCompression::default(), &mut || Ok(flows.next()))
}

/// Like [`write_store`], for flows returned by `next` one at a time, until it returns `None`; holds only one row group
/// in memory. If `next` fails, no file remains. A file with the columns of a tool cannot be read by [`StoreReader`].
///
/// # Errors
/// Same as [`write_store`], and any error of `next`.
pub fn stream_store<F: Borrow<LabelledFlow> + Sync>(
    path: &Path,
    header: &StoreHeader,
    columns: Columns,
    compression: StoreCompression,
    next: &mut dyn FnMut() -> std::io::Result<Option<F>>,
) -> Result<u64, StoreError> {
    let mut count = 0;
    storage::write_whole_with(path, |file| {
        let fields = columns.fields(header);
        let schema = super::column::schema(header, &fields).map_err(std::io::Error::other)?;
        let format = (columns == Columns::Own).then(|| (FORMAT_KEY, FORMAT.to_owned()));
        let metadata = [
            Some((VERSION_KEY, env!("CARGO_PKG_VERSION").to_owned())),
            format,
            Some((HEADER_KEY, serde_json::to_string(header)?)),
        ];
        let metadata =
            metadata.into_iter().flatten().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect();
        let mut properties = WriterProperties::builder();
        for field in fields.iter().filter(|field| !field.repeats()) {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(field.name(header)), false);
        }
        let properties = properties
            .set_compression(compression.codec().map_err(std::io::Error::other)?)
            // A row group is a single page of nearly every column, so page statistics would be redundant.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(format!("etcbench version {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(metadata))
            .build();
        let mut writer =
            SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(std::io::Error::other)?;
        let mut group = Vec::with_capacity(ROWS_PER_GROUP);
        loop {
            group.clear();
            while group.len() < ROWS_PER_GROUP {
                let Some(flow) = next()? else { break };
                group.push(flow);
            }
            if group.is_empty() {
                break;
            }
            count += group.len() as u64;
            write_group(&mut writer, header, &fields, &group).map_err(std::io::Error::other)?;
        }
        writer.close().map_err(std::io::Error::other)?;
        Ok(())
    })
    .map_err(|source| StoreError::Write { file: path.display().to_string(), source })?;
    Ok(count)
}

/// How the columns of a store are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreCompression {
    /// Not at all: the largest file, written and read in the least time.
    None,
    /// Snappy: larger than Zstandard, and nearly as fast as none.
    Snappy,
    /// Zstandard at a level from 1, the fastest, to 22.
    Zstd(u8),
}

/// Zstandard at level 1: higher levels take several times as long for a few per cent of the size.
impl Default for StoreCompression {
    fn default() -> Self {
        Self::Zstd(1)
    }
}

impl StoreCompression {
    fn codec(self) -> Result<Codec, ParquetError> {
        Ok(match self {
            Self::None => Codec::UNCOMPRESSED,
            Self::Snappy => Codec::SNAPPY,
            Self::Zstd(level) => Codec::ZSTD(ZstdLevel::try_new(i32::from(level))?),
        })
    }
}

/// Parses `none`, `snappy`, `zstd` or `zstd:LEVEL`.
impl FromStr for StoreCompression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let compression = match text.split_once(':') {
            None if text == "none" => Some(Self::None),
            None if text == "snappy" => Some(Self::Snappy),
            None if text == "zstd" => Some(Self::default()),
            // The library takes 0 for its own default.
            Some(("zstd", level)) => level.parse().ok().filter(|level| (1..=22).contains(level)).map(Self::Zstd),
            _ => None,
        };
        compression.ok_or_else(|| "it must be none, snappy, zstd, or zstd:LEVEL with a level from 1 to 22".to_owned())
    }
}

/// As [`FromStr`] reads it.
impl fmt::Display for StoreCompression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Snappy => formatter.write_str("snappy"),
            Self::Zstd(level) => write!(formatter, "zstd:{level}"),
        }
    }
}

/// Writes a row group. Columns are encoded in parallel and independently, so threads do not affect the bytes.
fn write_group<W: std::io::Write + Send, F: Borrow<LabelledFlow> + Sync>(
    writer: &mut SerializedFileWriter<W>,
    header: &StoreHeader,
    fields: &[Field],
    flows: &[F],
) -> Result<(), String> {
    for flow in flows {
        super::column::check(header, flow.borrow())?;
    }
    let statistics = if fields.iter().any(|field| matches!(field, Field::Statistic(_))) {
        super::column::statistics(header, flows)
    } else {
        Vec::new()
    };
    let schema = writer.schema_descr();
    let (columns, properties) = (schema.columns(), writer.properties());
    let encode = |(field, column): (&Field, &ColumnDescPtr)| -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        let mut encoded = TrackedWrite::new(Vec::new());
        let pages = Box::new(SerializedPageWriter::new(&mut encoded));
        let inner = get_column_writer(column.clone(), properties.clone(), pages);
        let mut closed = None;
        let keep = |result| {
            closed = Some(result);
            Ok(())
        };
        let mut column = SerializedColumnWriter::new(inner, Some(Box::new(keep)));
        super::column::write(&mut column, field, header, flows, &statistics)?;
        column.close()?;
        let closed = closed.ok_or_else(|| ParquetError::General("a column was not closed".to_owned()))?;
        Ok((encoded.into_inner()?.into(), closed))
    };
    let encoded: Vec<Result<_, ParquetError>> = fields.par_iter().zip(columns).with_min_len(8).map(encode).collect();
    let parquet = |error: ParquetError| error.to_string();
    let mut group = writer.next_row_group().map_err(parquet)?;
    for column in encoded {
        let (bytes, closed) = column.map_err(parquet)?;
        group.append_column(&bytes, closed).map_err(parquet)?;
    }
    group.close().map_err(parquet)?;
    Ok(())
}

/// Streams flows from a feature store, holding one row group in memory at a time.
pub struct StoreReader {
    file: String,
    reader: SerializedFileReader<std::fs::File>,
    header: StoreHeader,
    fields: Vec<Field>,
    next_group: usize,
    rows: std::vec::IntoIter<LabelledFlow>,
}

impl StoreReader {
    /// Opens a store and checks its columns.
    ///
    /// # Errors
    /// The file cannot be read, is not a feature store of this format, or lacks a column.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = path.display().to_string();
        let fault = |message: String| StoreError::Read { file: file.clone(), message };
        let input = std::fs::File::open(path).map_err(|error| fault(error.to_string()))?;
        let reader =
            guarded(GAVE_UP, || SerializedFileReader::new(input).map_err(|error| error.to_string())).map_err(&fault)?;
        let metadata = reader.metadata().file_metadata();
        let value = |key: &str| {
            let pairs = metadata.key_value_metadata()?;
            pairs.iter().find(|pair| pair.key == key)?.value.clone()
        };
        match value(FORMAT_KEY).as_deref() {
            Some(FORMAT) => {}
            Some(other) => return Err(fault(format!("store format {other}, but this version reads {FORMAT}"))),
            None => return Err(fault("a Parquet file of another program".to_owned())),
        }
        let header = value(HEADER_KEY).ok_or_else(|| fault("its header is missing".to_owned()))?;
        let header: StoreHeader = serde_json::from_str(&header).map_err(|error| fault(error.to_string()))?;
        // Trust the header only if it describes as many columns as the file has.
        if Field::count(&header) != Some(metadata.schema_descr().num_columns()) {
            return Err(fault("its columns do not match its header".to_owned()));
        }
        let fields = Field::all(&header);
        for (field, column) in fields.iter().zip(metadata.schema_descr().columns()) {
            if !field.fits(&header, column) {
                let message = format!("column `{}` is missing or of another type", field.name(&header));
                return Err(fault(message));
            }
        }
        Ok(Self { file: file.clone(), reader, header, fields, next_group: 0, rows: Vec::new().into_iter() })
    }

    /// Returns the properties shared by the flows.
    pub fn header(&self) -> &StoreHeader {
        &self.header
    }

    fn read_group(&self, index: usize) -> Result<Vec<LabelledFlow>, String> {
        let parquet = |error: parquet::errors::ParquetError| error.to_string();
        let group = self.reader.get_row_group(index).map_err(parquet)?;
        let rows = usize::try_from(group.metadata().num_rows()).map_err(|_| "a negative number of rows")?;
        if rows > ROWS_PER_GROUP {
            return Err(format!("a row group of {rows} flows; the maximum is {ROWS_PER_GROUP}"));
        }
        let mut columns = Vec::with_capacity(self.fields.len());
        for (place, field) in self.fields.iter().enumerate() {
            let column = group.get_column_reader(place).map_err(parquet)?;
            let values = super::column::read(column, field, rows).map_err(parquet)?;
            if values.len() != rows {
                return Err(format!("column `{}` ends early", field.name(&self.header)));
            }
            columns.push(values.into_iter());
        }
        (0..rows)
            .map(|_| {
                let values: Vec<Value> =
                    columns.iter_mut().map(|column| column.next().unwrap_or(Value::Null)).collect();
                super::column::assemble(&self.header, &self.fields, values)
            })
            .collect()
    }
}

impl Iterator for StoreReader {
    type Item = Result<LabelledFlow, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(flow) = self.rows.next() {
                return Some(Ok(flow));
            }
            if self.next_group >= self.reader.num_row_groups() {
                return None;
            }
            let group = guarded(GAVE_UP, || self.read_group(self.next_group));
            match group {
                Ok(rows) => {
                    self.next_group += 1;
                    self.rows = rows.into_iter();
                }
                Err(message) => {
                    self.next_group = usize::MAX;
                    return Some(Err(StoreError::Read { file: self.file.clone(), message }));
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
