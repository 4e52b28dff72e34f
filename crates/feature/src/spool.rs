//! Arrays in NumPy's format with a number of rows that is not known in advance: values are buffered in an unnamed file
//! instead of in memory.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};

/// The type of an array's values.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Numbers of this type, given as little-endian bytes.
    Number(&'static str),
    /// Text, with the width of the longest.
    Text {
        /// Number of characters of the longest text.
        longest: u32,
    },
}

/// A growing array.
pub(super) struct Spool {
    kind: Kind,
    /// The shape of a row.
    shape: Vec<usize>,
    bytes: u64,
    file: BufWriter<File>,
}

impl Spool {
    /// Creates an array of numbers, with a type such as `<u2`.
    pub(super) fn of_numbers(descr: &'static str, shape: Vec<usize>) -> std::io::Result<Self> {
        Self::new(Kind::Number(descr), shape)
    }

    /// Creates an array with one text per row.
    pub(super) fn of_text() -> std::io::Result<Self> {
        Self::new(Kind::Text { longest: 1 }, Vec::new())
    }

    fn new(kind: Kind, shape: Vec<usize>) -> std::io::Result<Self> {
        Ok(Self { kind, shape, bytes: 0, file: BufWriter::with_capacity(1 << 16, tempfile::tempfile()?) })
    }

    /// Appends values as bytes; for an array of text, one text.
    pub(super) fn push(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if let Kind::Text { longest } = &mut self.kind {
            let text = String::from_utf8_lossy(bytes);
            *longest = text.chars().count().try_into().unwrap_or(u32::MAX).max(*longest);
            self.file.write_all(&u32::try_from(text.len()).map_err(std::io::Error::other)?.to_le_bytes())?;
            return self.file.write_all(text.as_bytes());
        }
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Returns the size in the file of the values of the given number of rows, in bytes.
    pub(super) fn size(&self, rows: u64) -> u64 {
        match self.kind {
            Kind::Number(_) => self.bytes,
            Kind::Text { longest } => rows.saturating_mul(4 * u64::from(longest)),
        }
    }

    /// Writes an array with the given number of rows.
    pub(super) fn finish(self, rows: u64, output: &mut impl Write) -> std::io::Result<()> {
        let Self { kind, shape, file, .. } = self;
        let mut file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        let mut input = BufReader::with_capacity(1 << 16, file);
        let rows_of_memory = usize::try_from(rows).map_err(std::io::Error::other)?;
        let shape = [&[rows_of_memory], &shape[..]].concat();
        match kind {
            Kind::Number(descr) => {
                output.write_all(&npy_header(descr, &shape))?;
                std::io::copy(&mut input, output)?;
            }
            Kind::Text { longest } => {
                output.write_all(&npy_header(&format!("<U{longest}"), &shape))?;
                let (mut length, mut text, mut cell) = ([0; 4], Vec::new(), Vec::new());
                for _ in 0..rows {
                    input.read_exact(&mut length)?;
                    text.resize(u32::from_le_bytes(length) as usize, 0);
                    input.read_exact(&mut text)?;
                    cell.clear();
                    for letter in String::from_utf8_lossy(&text).chars() {
                        cell.extend(u32::from(letter).to_le_bytes());
                    }
                    cell.resize(4 * longest as usize, 0);
                    output.write_all(&cell)?;
                }
            }
        }
        Ok(())
    }
}

/// Returns the header of a file in NumPy's `.npy` format, version 1.0, for an array with type `descr` (such as `<u2`)
/// and this shape, in C order; the values follow it.
pub fn npy_header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let shape: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", shape.trim_end());
    // Values begin at a multiple of 64.
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', length - 1 - text.len()));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}
