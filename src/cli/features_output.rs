//! What `etcbench features` writes: the formats, which options fit together, and the writers.

use std::io::IsTerminal;
use std::path::Path;

use clap::ValueEnum;

use super::features::FeaturesArguments;
use crate::dataset::LabelledFlow;
use crate::feature::{
    Columns, IMAGE_BYTES, IMAGE_PACKETS, StoreCompression, StoreError, StoreHeader, stream_arrow, stream_csv,
    stream_nprint, stream_npz, stream_store, write_images,
};
use crate::flow::FlowOptions;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Comma-separated values with a header; bytes are hexadecimal.
    Csv,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow's IPC file (Feather).
    Arrow,
    /// NumPy's archive: an array per column, statistics as a matrix, packets as arrays.
    Npz,
    /// nPrint's CSV: a row per packet, a column per bit of its headers.
    Nprint,
    /// A folder of images in YaTC's layout, one of 40 x 40 per flow.
    Png,
    /// Not written; the message says how to convert a table.
    #[value(hide = true)]
    Hdf5,
}

impl Format {
    fn of_name(path: &Path) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Format::Csv,
            "arrow" | "feather" => Format::Arrow,
            "npz" => Format::Npz,
            "h5" | "hdf5" | "hdf" => Format::Hdf5,
            _ => Format::Parquet,
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Format::Csv | Format::Nprint)
    }
}

/// The established writers of HDF5 depend on a C library, and those in Rust are young.
// Only tables can be read by programs other than pandas, and have no columns of bytes.
const NO_HDF5: &str = "HDF5 is not written; write Parquet and convert it: python3 -c \
                       \"import pandas; f = pandas.read_parquet('flows.parquet'); \
                       f.apply(lambda c: c.map(lambda v: v.hex() if isinstance(v, bytes) else v))\
                       .to_hdf('flows.h5', key='flows', format='table')\"";

/// Maximum number of payload bytes that have columns, eight columns each.
const MOST_PAYLOAD: usize = 65_535;

/// What to write, and how.
pub(super) struct Written<'a> {
    output: Option<&'a Path>,
    pub(super) format: Format,
    pub(super) columns: Columns,
    payload: usize,
    compression: StoreCompression,
}

impl<'a> Written<'a> {
    /// Rejects options that do not fit together, before anything is read.
    pub(super) fn new(arguments: &'a FeaturesArguments) -> anyhow::Result<Self> {
        let output = arguments.output.as_deref();
        let format = arguments.format.unwrap_or_else(|| output.map_or(Format::Parquet, Format::of_name));
        anyhow::ensure!(format != Format::Hdf5, NO_HDF5);
        let columns = arguments.columns;
        if let (Columns::Of(tool), Format::Nprint | Format::Png) = (columns, format) {
            anyhow::bail!("--columns {} is for tables of flows; use it with csv, parquet, arrow or npz", tool.name());
        }
        if let (Columns::Of(tool), true) = (columns, arguments.no_statistics) {
            anyhow::bail!("--columns {} needs statistics; remove --no-statistics", tool.name());
        }
        anyhow::ensure!(
            arguments.payload_bytes == 0 || format == Format::Nprint,
            "--payload-bytes is only for --format nprint; with other formats, use --bytes"
        );
        anyhow::ensure!(arguments.payload_bytes <= MOST_PAYLOAD, "--payload-bytes: the maximum is {MOST_PAYLOAD}");
        anyhow::ensure!(
            arguments.compression.is_none() || (format == Format::Parquet && output.is_some()),
            "--compression is for Parquet; compress other formats with a program such as zstd"
        );
        let is_standard = output.is_some_and(crate::storage::is_standard_output);
        if format == Format::Png && is_standard {
            anyhow::bail!("images are written to a folder; name one with -o");
        }
        if let (Format::Png, Some(folder)) = (format, output)
            && std::fs::symlink_metadata(folder).is_ok()
        {
            anyhow::bail!("{}: already exists; choose a new folder", folder.display());
        }
        if is_standard && !format.is_text() && std::io::stdout().is_terminal() {
            anyhow::bail!("this format is binary; add --format csv, or name a file with -o");
        }
        let compression = arguments.compression.unwrap_or_default();
        Ok(Written { output, format, columns, payload: arguments.payload_bytes, compression })
    }

    /// Returns how many packets of a flow and bytes of a packet are kept, with defaults by format.
    pub(super) fn kept(&self, arguments: &FeaturesArguments) -> (usize, usize) {
        let default = FlowOptions::default();
        let (packets, bytes) = match (self.format, self.columns) {
            (Format::Png, _) => (IMAGE_PACKETS, IMAGE_BYTES),
            (Format::Nprint, _) => (default.kept_packets, 120 + arguments.payload_bytes),
            (_, Columns::Of(_)) => (1, 1),
            _ => (default.kept_packets, default.kept_bytes),
        };
        (arguments.packets.unwrap_or(packets), arguments.bytes.unwrap_or(bytes))
    }

    /// Writes the flows that `next` returns until it returns `None`, or counts them if nothing is to be written.
    pub(super) fn write(
        &self,
        header: &StoreHeader,
        next: &mut dyn FnMut() -> std::io::Result<Option<LabelledFlow>>,
    ) -> Result<u64, StoreError> {
        let columns = self.columns;
        let Some(output) = self.output else {
            let mut count = 0;
            let problem = |source| StoreError::Write { file: "nothing".to_owned(), source };
            while next().map_err(problem)?.is_some() {
                count += 1;
            }
            return Ok(count);
        };
        match self.format {
            Format::Csv => stream_csv(output, header, columns, next),
            Format::Parquet => stream_store(output, header, columns, self.compression, next),
            Format::Arrow => stream_arrow(output, header, columns, next),
            Format::Npz => stream_npz(output, header, columns, next),
            Format::Nprint => stream_nprint(output, header, self.payload, next),
            Format::Png => write_images(output, header, next),
            Format::Hdf5 => {
                let source = std::io::Error::other(NO_HDF5);
                Err(StoreError::Write { file: output.display().to_string(), source })
            }
        }
    }
}
