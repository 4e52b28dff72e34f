//! Arrays in NumPy's `.npy` format, version 1.0: C order, little-endian, suitable for memory mapping.

use std::io::{BufWriter, Read, Write};
use std::path::Path;

use etcbench_feature::npy_header;
use ndarray::Array2;

use super::folder;

/// Size of the longest header that is read.
const LONGEST_HEADER: usize = 1 << 16;

/// Writes an array of type `descr` (such as `<u2`) and this shape; `fill` writes its values.
pub(super) fn write(
    path: &Path,
    descr: &str,
    shape: &[usize],
    fill: impl FnOnce(&mut BufWriter<std::fs::File>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    file.write_all(&npy_header(descr, shape))?;
    fill(&mut file)?;
    file.flush()
}

/// Writes an array of type `descr` (such as `<u2`) and this shape from the bytes of its values.
///
/// # Errors
/// Any I/O error of the file.
pub fn write_array<const SIZE: usize>(
    file: &mut dyn Write,
    descr: &str,
    shape: &[usize],
    mut values: impl Iterator<Item = [u8; SIZE]>,
) -> std::io::Result<()> {
    file.write_all(&npy_header(descr, shape))?;
    values.try_for_each(|value| file.write_all(&value))
}

/// Reads a matrix of type `<f4` or `<f8` and exactly this shape, as 64-bit numbers.
///
/// # Errors
/// A short description of why the file is not such a matrix.
pub(super) fn read_matrix(path: &Path, shape: [usize; 2]) -> Result<Array2<f64>, String> {
    let found = std::fs::symlink_metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "it was not written".to_owned(),
        _ => error.to_string(),
    })?;
    // A link could lead anywhere, and a pipe may never end.
    if !found.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut file = folder::open_file(path).map_err(|error| error.to_string())?.into_reader();
    let mut start = [0; 10];
    file.read_exact(&mut start).map_err(|_| "it is not a .npy file: it is too short".to_owned())?;
    if start[..6] != *b"\x93NUMPY" {
        return Err("it is not a .npy file".to_owned());
    }
    let length = match start[6] {
        1 => usize::from(u16::from_le_bytes([start[8], start[9]])),
        2 | 3 => {
            let mut high = [0; 2];
            file.read_exact(&mut high).map_err(|error| error.to_string())?;
            u32::from_le_bytes([start[8], start[9], high[0], high[1]]) as usize
        }
        version => return Err(format!("its .npy version {version} is not supported")),
    };
    if length > LONGEST_HEADER {
        return Err(format!("its header is too long ({length} bytes)"));
    }
    let mut text = vec![0; length];
    file.read_exact(&mut text).map_err(|_| "its header is truncated".to_owned())?;
    let Header { descr, fortran_order, shape: told } = Header::parse(&String::from_utf8_lossy(&text))?;
    let size = match descr.as_str() {
        "<f4" => 4,
        "<f8" => 8,
        other => return Err(format!("its type is {other}; it must be <f4 or <f8")),
    };
    if fortran_order {
        return Err("it is in Fortran order; it must be in C order".to_owned());
    }
    if told != shape {
        return Err(format!("its shape is {told:?}; it must be {shape:?}"));
    }
    let count = shape[0].checked_mul(shape[1]).and_then(|count| count.checked_mul(size)).ok_or("it is too large")?;
    let mut bytes = Vec::new();
    file.take(count as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() != count {
        let word = if bytes.len() < count { "fewer" } else { "more" };
        return Err(format!("it has {word} values than its shape requires"));
    }
    let values = match size {
        4 => bytes.as_chunks::<4>().0.iter().map(|value| f64::from(f32::from_le_bytes(*value))).collect(),
        _ => bytes.as_chunks::<8>().0.iter().map(|value| f64::from_le_bytes(*value)).collect(),
    };
    Array2::from_shape_vec((shape[0], shape[1]), values).map_err(|error| error.to_string())
}

/// The header of a `.npy` file.
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Parses the header's Python dictionary, with keys in any order.
    fn parse(text: &str) -> Result<Self, String> {
        let after = |key: &str| {
            let quoted = [format!("'{key}'"), format!("\"{key}\"")];
            let at = quoted.iter().find_map(|quoted| Some(text.find(quoted)? + quoted.len()));
            at.and_then(|at| text[at..].trim_start().strip_prefix(':')).map(str::trim_start)
        };
        let broken = || "its header cannot be read".to_owned();
        let descr = after("descr").and_then(|rest| rest.split(['\'', '"']).nth(1)).ok_or_else(broken)?;
        let order = after("fortran_order").ok_or_else(broken)?;
        let shape = after("shape").and_then(|rest| rest.strip_prefix('(')?.split(')').next()).ok_or_else(broken)?;
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape = sizes.map(|size| size.parse().map_err(|_| broken())).collect::<Result<_, _>>()?;
        Ok(Self { descr: descr.to_owned(), fortran_order: order.starts_with("True"), shape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(descr: &str, shape: &[usize], values: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), descr, shape, |file| file.write_all(values)).unwrap();
        file
    }

    #[test]
    fn what_is_written_is_read_back_and_values_are_aligned() {
        let values: Vec<u8> = [0.25_f64, 0.75, 1.0, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let file = written("<f8", &[2, 2], &values);
        assert_eq!(read_matrix(file.path(), [2, 2]).unwrap(), ndarray::array![[0.25, 0.75], [1.0, 0.0]]);
        assert_eq!(std::fs::metadata(file.path()).unwrap().len() % 64, 32);
        assert!(read_matrix(file.path(), [2, 3]).unwrap_err().contains("must be [2, 3]"));
        let file = written("<f4", &[1, 2], &[0.5_f32, 0.5].map(f32::to_le_bytes).concat());
        assert_eq!(read_matrix(file.path(), [1, 2]).unwrap(), ndarray::array![[0.5, 0.5]]);
    }

    #[test]
    fn what_is_no_such_matrix_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.npy");
        assert_eq!(read_matrix(&missing, [1, 1]).unwrap_err(), "it was not written");
        assert!(read_matrix(folder.path(), [1, 1]).unwrap_err().contains("regular file"));
        let problem = |descr: &str, shape: &[usize], bytes: usize| {
            read_matrix(written(descr, shape, &vec![0; bytes]).path(), [1, 1]).unwrap_err()
        };
        assert!(problem("<i8", &[1, 1], 8).contains("must be <f4 or <f8"));
        assert!(problem("<f8", &[1, 1], 7).contains("fewer values"));
        assert!(problem("<f8", &[1, 1], 9).contains("more values"));
        let whole = std::fs::read(written("<f8", &[1, 1], &[0; 8]).path()).unwrap();
        let path = folder.path().join("cut.npy");
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read_matrix(&path, [1, 1]).is_err(), "{cut}");
        }
        let fortran = String::from_utf8_lossy(&whole[10..118]).replace("False", "True ");
        std::fs::write(&path, [&whole[..10], fortran.as_bytes(), &whole[118..]].concat()).unwrap();
        assert!(read_matrix(&path, [1, 1]).unwrap_err().contains("Fortran"));
    }
}
