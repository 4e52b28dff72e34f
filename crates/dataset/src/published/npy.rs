//! Arrays in NumPy's `.npy` format, read row by row as a stream
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

use std::collections::BTreeSet;
use std::io::{BufRead, Read};
use std::sync::Arc;

/// Maximum header size in bytes.
const LONGEST_HEADER: usize = 1 << 16;
/// Maximum number of values per row.
const MOST_COLUMNS: u64 = 1 << 22;
/// Maximum size of a text in bytes.
const LONGEST_TEXT: usize = 1 << 16;

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
    pub(crate) fn new(input: R) -> Result<Self, String> {
        Self::of(Header::read(input)?)
    }

    fn of(header: Header<R>) -> Result<Self, String> {
        let Header { input, descr, rows, columns } = header;
        let (kind, big_endian) = Type::of(&descr)?;
        let buffer = vec![0; columns * kind.size()];
        Ok(Self { input, kind, big_endian, rows, columns, next: 0, buffer })
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

/// What precedes the values of an array, and the input after it.
struct Header<R> {
    input: R,
    /// The type as NumPy writes it.
    descr: String,
    /// Number of rows, and values per row.
    rows: u64,
    columns: usize,
}

impl<R: BufRead> Header<R> {
    fn read(mut input: R) -> Result<Self, String> {
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
        let (rows, rest) = shape.split_first().ok_or("it is a single value, not an array")?;
        let columns = rest.iter().try_fold(1_u64, |product, size| product.checked_mul(*size));
        let columns = columns.filter(|&columns| columns <= MOST_COLUMNS);
        let columns = columns.ok_or_else(|| format!("its rows have more than {MOST_COLUMNS} values"))? as usize;
        Ok(Self { input, descr, rows: *rows, columns })
    }

    /// Checks that there is one value per row, for at most `most` rows.
    fn require_column(&self, most: u64) -> Result<(), String> {
        if self.columns != 1 {
            return Err(format!(
                "it has {} values per row, expected 1; if rows have several classes, keep one of them",
                self.columns
            ));
        }
        if self.rows > most {
            return Err(format!("it has {} values for {most} rows", self.rows));
        }
        Ok(())
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
    let header = Header::read(input)?;
    header.require_column(most)?;
    read_numbers(header)
}

fn read_numbers(header: Header<impl BufRead>) -> Result<Vec<f64>, String> {
    let mut reader = NpyReader::of(header)?;
    let (mut values, mut row) = (Vec::new(), Vec::new());
    while reader.next_row(&mut row)? {
        values.extend_from_slice(&row);
    }
    require_end(reader.input)?;
    Ok(values)
}

/// Data after the last value contradicts the shape.
fn require_end(input: impl BufRead) -> Result<(), String> {
    let mut more = [0; 1];
    match input.take(1).read(&mut more) {
        Ok(0) => Ok(()),
        _ => Err("it contains more values than its shape specifies".to_owned()),
    }
}

/// The class of every row.
pub(crate) enum Classes {
    Numbers(Vec<f64>),
    Names(Vec<Arc<str>>),
}

/// Reads classes from an array as [`read_column`] does: numbers, or text of fixed width (NumPy's types `U` and `S`).
///
/// # Errors
/// The file is not such an array, it has more than `most` values, or a text is not valid.
pub(crate) fn read_classes(input: impl BufRead, most: u64) -> Result<Classes, String> {
    let header = Header::read(input)?;
    header.require_column(most)?;
    match Text::of(&header.descr)? {
        Some(text) => Ok(Classes::Names(text.read_all(header)?)),
        None if header.descr.trim_start_matches('|').starts_with('O') => {
            Err(crate::foreign::OBJECTS_OF_CLASSES.to_owned())
        }
        None => Ok(Classes::Numbers(read_numbers(header)?)),
    }
}

/// Text of fixed width: bytes, or characters of four bytes; shorter ones end in zeros.
struct Text {
    characters: bool,
    big_endian: bool,
    /// Bytes per value.
    size: usize,
}

impl Text {
    /// Returns `None` if the type is not text.
    fn of(descr: &str) -> Result<Option<Self>, String> {
        let kind = descr.trim_start_matches(['<', '>', '|', '=']);
        let Some((letter @ ("U" | "S" | "a"), digits)) = kind.split_at_checked(1) else { return Ok(None) };
        let characters = letter == "U";
        let size = digits.parse::<usize>().ok().and_then(|length| length.checked_mul(if characters { 4 } else { 1 }));
        match size.filter(|&size| size <= LONGEST_TEXT) {
            Some(size) => Ok(Some(Self { characters, big_endian: descr.starts_with('>'), size })),
            None => Err(format!("its type is {descr}; text of at most {LONGEST_TEXT} bytes is supported")),
        }
    }

    fn read_all<R: BufRead>(&self, header: Header<R>) -> Result<Vec<Arc<str>>, String> {
        let Header { mut input, rows, .. } = header;
        let mut known: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut names = Vec::new();
        let mut value = vec![0; self.size];
        for row in 0..rows {
            input.read_exact(&mut value).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => format!("it ends in row {row} of {rows}"),
                _ => error.to_string(),
            })?;
            let name = self.decode(&value).ok_or_else(|| format!("row {row}: its text is not valid"))?;
            if name.is_empty() {
                return Err(format!("row {row}: its class is an empty text"));
            }
            let name = known.get(name.as_str()).cloned().unwrap_or_else(|| {
                let name: Arc<str> = name.into();
                known.insert(Arc::clone(&name));
                name
            });
            names.push(name);
        }
        require_end(input)?;
        Ok(names)
    }

    fn decode(&self, value: &[u8]) -> Option<String> {
        let text = if self.characters {
            let character = |bytes: &[u8]| {
                let bytes = bytes.try_into().ok()?;
                char::from_u32(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
            };
            value.chunks_exact(4).map(character).collect::<Option<String>>()?
        } else {
            String::from_utf8(value.to_vec()).ok()?
        };
        Some(text.trim_end_matches('\0').to_owned())
    }
}
