//! Arrays in NumPy's format whose number of rows is known only at their end: values wait in a file without a name, so that memory
//! holds none of them.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};

/// What an array's values are.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Numbers of this type, given as their bytes, low ones first.
    Number(&'static str),
    /// Text, which becomes as wide as the longest.
    Text {
        /// Characters of the longest.
        longest: u32,
    },
}

/// An array that grows.
pub(super) struct Spool {
    kind: Kind,
    /// The shape of a row.
    shape: Vec<usize>,
    bytes: u64,
    file: BufWriter<File>,
}

impl Spool {
    /// Of numbers, such as `<u2`.
    pub(super) fn of_numbers(descr: &'static str, shape: Vec<usize>) -> std::io::Result<Self> {
        Self::new(Kind::Number(descr), shape)
    }

    /// Of one text a row.
    pub(super) fn of_text() -> std::io::Result<Self> {
        Self::new(Kind::Text { longest: 1 }, Vec::new())
    }

    fn new(kind: Kind, shape: Vec<usize>) -> std::io::Result<Self> {
        Ok(Self { kind, shape, bytes: 0, file: BufWriter::with_capacity(1 << 16, tempfile::tempfile()?) })
    }

    /// Adds values as their bytes; of an array of text, one text.
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

    /// How many bytes the values of so many rows take in the file.
    pub(super) fn size(&self, rows: u64) -> u64 {
        match self.kind {
            Kind::Number(_) => self.bytes,
            Kind::Text { longest } => rows.saturating_mul(4 * u64::from(longest)),
        }
    }

    /// Writes the file of an array of so many rows.
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

/// The beginning of a file in NumPy's `.npy` format, version 1.0: an array of the type `descr` (such as `<u2`) and this shape, in
/// C order, whose values follow.
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
