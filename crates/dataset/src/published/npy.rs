//! Arrays in NumPy's `.npy` format, read row by row as a stream
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

use std::io::{BufRead, Read};

/// Maximum header size in bytes.
const LONGEST_HEADER: usize = 1 << 16;
/// Maximum number of values per row.
const MOST_COLUMNS: u64 = 1 << 22;

/// Supported value types; all are converted to `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Float(usize),
    Signed(usize),
    Unsigned(usize),
}

impl Type {
    fn of(descr: &str) -> Result<(Self, bool), String> {
        let (order, kind) = descr.split_at_checked(1).ok_or("its type is empty")?;
        let size = |digits: &str, known: &[usize]| digits.parse().ok().filter(|size| known.contains(size));
        let found = match kind.split_at_checked(1) {
            Some(("f", digits)) => size(digits, &[4, 8]).map(Type::Float),
            Some(("i", digits)) => size(digits, &[1, 2, 4, 8]).map(Type::Signed),
            Some(("u", digits)) => size(digits, &[1, 2, 4, 8]).map(Type::Unsigned),
            Some(("b", "1")) => Some(Type::Unsigned(1)),
            _ => None,
        };
        match (order, found) {
            ("<" | "|" | "=", Some(found)) => Ok((found, false)),
            (">", Some(found)) => Ok((found, true)),
            _ if kind.starts_with('O') => Err(crate::foreign::OBJECTS.to_owned()),
            _ => Err(format!("its type is {descr}; only numbers of 1, 2, 4 or 8 bytes are supported")),
        }
    }

    fn size(self) -> usize {
        match self {
            Type::Float(size) | Type::Signed(size) | Type::Unsigned(size) => size,
        }
    }

    /// Converts a value's bytes, in little-endian order, to a number.
    fn number(self, bytes: [u8; 8]) -> f64 {
        let unsigned = u64::from_le_bytes(bytes);
        match self {
            Type::Float(4) => f64::from(f32::from_bits(unsigned as u32)),
            Type::Float(_) => f64::from_bits(unsigned),
            Type::Unsigned(_) => unsigned as f64,
            Type::Signed(size) => {
                let unused = 64 - 8 * size as u32;
                ((unsigned << unused).cast_signed() >> unused) as f64
            }
        }
    }
}

/// An array that is read row by row.
pub(crate) struct NpyReader<R> {
    input: R,
    kind: Type,
    big_endian: bool,
    /// Number of rows, and values per row (the product of all dimensions after the first).
    pub rows: u64,
    pub columns: usize,
    next: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> NpyReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// The file is not a supported array; the message is a short description.
    pub(crate) fn new(mut input: R) -> Result<Self, String> {
        let short = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "it is not a .npy array: it is too short".to_owned(),
            _ => error.to_string(),
        };
        let mut start = [0; 8];
        input.read_exact(&mut start).map_err(short)?;
        if start[..6] != *b"\x93NUMPY" {
            return Err("it is not a .npy array".to_owned());
        }
        let mut size = [0; 4];
        let bytes = match start[6] {
            1 => 2,
            2 | 3 => 4,
            version => return Err(format!(".npy version {version} is not supported")),
        };
        input.read_exact(&mut size[..bytes]).map_err(short)?;
        let length = u32::from_le_bytes(size) as usize;
        if length > LONGEST_HEADER {
            return Err(format!("its header is too long ({length} bytes)"));
        }
        let mut text = vec![0; length];
        input.read_exact(&mut text).map_err(short)?;
        let (descr, shape) = header(&String::from_utf8_lossy(&text))?;
        let (kind, big_endian) = Type::of(&descr)?;
        let (rows, rest) = shape.split_first().ok_or("it is a single value, not an array")?;
        let columns = rest.iter().try_fold(1_u64, |product, size| product.checked_mul(*size));
        let columns = columns.filter(|&columns| columns <= MOST_COLUMNS);
        let columns = columns.ok_or_else(|| format!("its rows have more than {MOST_COLUMNS} values"))? as usize;
        let buffer = vec![0; columns * kind.size()];
        Ok(Self { input, kind, big_endian, rows: *rows, columns, next: 0, buffer })
    }

    /// Reads the next row into `row`, replacing its contents; returns false at the end.
    ///
    /// # Errors
    /// The array ends early or cannot be read.
    pub(crate) fn next_row(&mut self, row: &mut Vec<f64>) -> Result<bool, String> {
        row.clear();
        if self.next == self.rows {
            return Ok(false);
        }
        self.input.read_exact(&mut self.buffer).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => format!("it ends in row {} of {}", self.next, self.rows),
            _ => error.to_string(),
        })?;
        self.next += 1;
        let (kind, size) = (self.kind, self.kind.size());
        row.extend(self.buffer.chunks_exact(size).map(|value| {
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(value);
            if self.big_endian {
                bytes[..size].reverse();
            }
            kind.number(bytes)
        }));
        Ok(true)
    }
}

/// Parses type and shape from the header's Python dictionary, with keys in any order.
fn header(text: &str) -> Result<(String, Vec<u64>), String> {
    let after = |key: &str| {
        let quoted = [format!("'{key}'"), format!("\"{key}\"")];
        let at = quoted.iter().find_map(|quoted| Some(text.find(quoted)? + quoted.len()));
        at.and_then(|at| text[at..].trim_start().strip_prefix(':')).map(str::trim_start)
    };
    let broken = || "its header cannot be read".to_owned();
    let descr = after("descr").ok_or_else(broken)?;
    if !descr.starts_with(['\'', '"']) {
        return Err("it is a structured array; save its columns as separate arrays".to_owned());
    }
    let descr = descr.split(['\'', '"']).nth(1).ok_or_else(broken)?;
    let shape = after("shape").and_then(|rest| rest.strip_prefix('(')?.split(')').next()).ok_or_else(broken)?;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<u64> = sizes.map(|size| size.parse().map_err(|_| broken())).collect::<Result<_, _>>()?;
    let fortran = after("fortran_order").ok_or_else(broken)?.starts_with("True");
    // With only one dimension larger than 1, both orders are the same.
    if fortran && shape.iter().filter(|&&size| size > 1).count() > 1 {
        return Err("it is in Fortran order; save it with numpy.ascontiguousarray".to_owned());
    }
    Ok((descr.to_owned(), shape))
}

/// Reads all values of a one-dimensional array, or of an array with at most one dimension larger than 1.
///
/// # Errors
/// The file is not such an array, or it has more than `most` values.
pub(crate) fn read_column(input: impl BufRead, most: u64) -> Result<Vec<f64>, String> {
    let mut reader = NpyReader::new(input)?;
    if reader.columns != 1 {
        return Err(format!(
            "it has {} values per row, expected 1; if rows have several classes, keep one of them",
            reader.columns
        ));
    }
    if reader.rows > most {
        return Err(format!("it has {} values for {most} rows", reader.rows));
    }
    let (mut values, mut row) = (Vec::new(), Vec::new());
    while reader.next_row(&mut row)? {
        values.extend_from_slice(&row);
    }
    // Data after the last value contradicts the shape.
    let mut more = [0; 1];
    match reader.input.take(1).read(&mut more) {
        Ok(0) => Ok(values),
        _ => Err("it contains more values than its shape specifies".to_owned()),
    }
}
