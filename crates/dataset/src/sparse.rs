//! Sparse members of tar archives: files whose holes are not stored in the archive. GNU tar writes them in four
//! formats; the `tar` crate reads the old one, and this module reads those in extended headers (GNU tar's manual,
//! "Storing Sparse Files"), where a reader without support sees the data without its holes.

use std::io::{Error, ErrorKind, Read};

/// Maximum number of data pieces in one member: the map is held in memory.
const MOST_PIECES: usize = 1 << 22;
/// Block size of tar archives.
const BLOCK: usize = 512;

/// Positions of a member's data in the unpacked file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SparseMap {
    /// Start and length of each piece, in ascending order.
    pieces: Vec<(u64, u64)>,
    /// Size of the unpacked file.
    size: u64,
}

/// Name and map of a sparse member.
pub(super) struct SparseMember {
    /// The real file name, if the header has a placeholder for readers without support for sparse files.
    pub name: Option<Vec<u8>>,
    /// The map of its data.
    pub map: SparseMap,
}

/// Returns the sparse-file information in a member's extended header. If the map is stored in the member's data, it is
/// consumed here, so that only the pieces remain to be read.
///
/// # Errors
/// The map is invalid or in an unknown format.
pub(super) fn sparse_member<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Option<SparseMember>, String> {
    let header = Header::of(entry)?;
    let Some(header) = header else { return Ok(None) };
    let stored = entry.size();
    let damaged = |error: Error| format!("is sparse, and its map cannot be read ({error})");
    let (map, taken) = match header.version.as_deref() {
        None if header.map.is_some() => (pairs(header.map.as_deref().unwrap_or_default().split(',')), 0),
        None => (pairs(header.pieces.iter().map(String::as_str)), 0),
        Some("1.0") => {
            let (pieces, taken) = map_in_data(entry).map_err(damaged)?;
            (Some(pieces), taken)
        }
        Some(version) => return Err(format!("is sparse in an unknown format (GNU {version})")),
    };
    let pieces = map.ok_or("is sparse, and its map is not a list of numbers")?;
    let size = header.size.ok_or("is sparse, and its size is missing")?;
    let map = SparseMap { pieces, size };
    map.check(stored.saturating_sub(taken))?;
    Ok(Some(SparseMember { name: header.name, map }))
}

/// Sparse-file records of an extended header.
#[derive(Default)]
struct Header {
    /// `major.minor`, from version 1.0.
    version: Option<String>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// The whole map, in version 0.1.
    map: Option<String>,
    /// The map, number by number, in version 0.0.
    pieces: Vec<String>,
}

impl Header {
    /// Returns `None` if the header has no sparse-file records.
    fn of<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Option<Self>, String> {
        let Some(extensions) = entry.pax_extensions().map_err(|error| format!("has a damaged header ({error})"))?
        else {
            return Ok(None);
        };
        let (mut header, mut any) = (Self::default(), false);
        let (mut major, mut minor) = (None, None);
        // Skip records that the crate cannot parse.
        for record in extensions.flatten() {
            let (key, value) = (record.key_bytes(), record.value_bytes());
            let text = || String::from_utf8_lossy(value).into_owned();
            match key {
                b"SCHILY.filetype" if value == b"sparse" => return Err("is sparse in star's format".to_owned()),
                b"GNU.sparse.major" => major = Some(text()),
                b"GNU.sparse.minor" => minor = Some(text()),
                b"GNU.sparse.name" => header.name = Some(value.to_vec()),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => header.size = text().parse().ok(),
                b"GNU.sparse.map" => header.map = Some(text()),
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    if header.pieces.len() >= 2 * MOST_PIECES {
                        return Err(TOO_MANY.to_owned());
                    }
                    header.pieces.push(text());
                }
                _ => {}
            }
            any |= key.starts_with(b"GNU.sparse.");
        }
        header.version = match (major, minor) {
            (None, None) => None,
            (major, minor) => Some(format!("{}.{}", major.unwrap_or_default(), minor.unwrap_or_default())),
        };
        Ok(any.then_some(header))
    }
}

const TOO_MANY: &str = "is sparse with too many pieces";

/// Parses pairs of numbers as pieces; returns `None` if they are not pairs of numbers.
fn pairs<'a>(numbers: impl Iterator<Item = &'a str>) -> Option<Vec<(u64, u64)>> {
    let numbers: Vec<u64> =
        numbers.filter(|text| !text.is_empty()).map(|text| text.parse().ok()).collect::<Option<_>>()?;
    numbers.len().is_multiple_of(2).then(|| numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Reads the map at the start of a member's data: one decimal number per line, padded to whole blocks. Also returns the
/// number of bytes consumed.
fn map_in_data(data: &mut impl Read) -> std::io::Result<(Vec<(u64, u64)>, u64)> {
    let invalid = |problem: &str| Error::new(ErrorKind::InvalidData, problem.to_owned());
    let (mut block, mut next, mut taken) = ([0; BLOCK], BLOCK, 0);
    let mut number = || -> std::io::Result<u64> {
        let mut text = String::new();
        loop {
            if next == BLOCK {
                data.read_exact(&mut block)?;
                (next, taken) = (0, taken + BLOCK as u64);
            }
            let byte = block[next];
            next += 1;
            match byte {
                b'\n' => return text.parse().map_err(|_| invalid("not a number")),
                // A 64-bit number has at most 20 digits.
                digit if digit.is_ascii_digit() && text.len() < 20 => text.push(digit.into()),
                _ => return Err(invalid("not a number")),
            }
        }
    };
    let count = number()?;
    let mut pieces = Vec::new();
    for _ in 0..count {
        if pieces.len() == MOST_PIECES {
            return Err(invalid("too many pieces"));
        }
        pieces.push((number()?, number()?));
    }
    Ok((pieces, taken))
}

impl SparseMap {
    /// Checks that the pieces are in order, do not overlap, lie inside the file, and add up to the stored size.
    fn check(&self, stored: u64) -> Result<(), String> {
        let (mut end, mut bytes) = (0, 0_u64);
        for &(start, length) in &self.pieces {
            let next = start.checked_add(length).filter(|next| start >= end && *next <= self.size);
            end = next.ok_or("is sparse, and its pieces overlap or extend past the end of the file")?;
            bytes += length;
        }
        if bytes == stored {
            return Ok(());
        }
        Err(format!("is sparse, and its pieces add up to {bytes} bytes but {stored} are stored"))
    }

    /// Returns the size of the unpacked file.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns a reader of the file with its holes as zeros.
    pub(crate) fn expand<R: Read>(self, pieces: R) -> Expanded<R> {
        Expanded { stream: pieces, pieces: self.pieces.into_iter().peekable(), position: 0, size: self.size }
    }
}

/// Reader of a sparse file: the pieces with zeros between them.
pub(super) struct Expanded<R> {
    stream: R,
    pieces: std::iter::Peekable<std::vec::IntoIter<(u64, u64)>>,
    position: u64,
    size: u64,
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let room = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).min(target.len());
        while self.pieces.next_if(|&(start, length)| start + length <= self.position).is_some() {}
        let count = match self.pieces.peek() {
            Some(&(start, length)) if start <= self.position => {
                let count = room(start + length - self.position);
                match self.stream.read(&mut target[..count])? {
                    0 if count > 0 => return Err(ErrorKind::UnexpectedEof.into()),
                    read => read,
                }
            }
            hole => {
                let end = hole.map_or(self.size, |&(start, _)| start);
                let count = room(end - self.position);
                target[..count].fill(0);
                count
            }
        };
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(pieces: &[(u64, u64)], size: u64, data: &[u8]) -> Vec<u8> {
        let map = SparseMap { pieces: pieces.to_vec(), size };
        map.check(data.len() as u64).unwrap();
        let mut file = Vec::new();
        map.expand(data).read_to_end(&mut file).unwrap();
        file
    }

    #[test]
    fn holes_are_zeros() {
        assert_eq!(expanded(&[(2, 2), (5, 1)], 8, b"abc"), b"\0\0ab\0c\0\0");
        assert_eq!(expanded(&[(0, 2), (4, 0)], 4, b"ab"), b"ab\0\0");
        assert_eq!(expanded(&[], 3, b""), b"\0\0\0");
        assert_eq!(expanded(&[(0, 0)], 0, b""), b"");
    }

    #[test]
    fn maps_that_cannot_be_are_refused() {
        for (pieces, size, stored) in [
            (vec![(0, 2), (1, 2)], 8, 4),
            (vec![(4, 2), (0, 2)], 8, 4),
            (vec![(0, 9)], 8, 9),
            (vec![(u64::MAX, 2)], 8, 2),
            (vec![(0, 2)], 8, 3),
        ] {
            assert!(SparseMap { pieces, size }.check(stored).is_err());
        }
        for text in ["x\n", "1\n0\n", "1\n-1\n2\n", "99999999999999999999999\n", "18446744073709551616\n"] {
            let mut block = text.as_bytes().to_vec();
            block.resize(BLOCK, 0);
            assert!(map_in_data(&mut block.as_slice()).is_err(), "{text}");
        }
        assert!(map_in_data(&mut b"1\n".as_slice()).is_err());
        assert_eq!(pairs("0,1,2".split(',')), None);
    }

    proptest! {
        #[test]
        fn any_file_comes_back(file in proptest::collection::vec(prop_oneof![4 => Just(0_u8), 1 => any::<u8>()], 0..400)) {
            let mut pieces: Vec<(u64, u64)> = Vec::new();
            let mut data = Vec::new();
            for (place, &byte) in file.iter().enumerate().filter(|(_, byte)| **byte != 0) {
                match pieces.last_mut() {
                    Some((start, length)) if *start + *length == place as u64 => *length += 1,
                    _ => pieces.push((place as u64, 1)),
                }
                data.push(byte);
            }
            prop_assert_eq!(expanded(&pieces, file.len() as u64, &data), file);
            // The map in the format of version 1.0.
            let mut text = format!("{}\n", pieces.len());
            for (start, length) in &pieces {
                text += &format!("{start}\n{length}\n");
            }
            let mut block = text.into_bytes();
            let blocks = block.len().div_ceil(BLOCK);
            block.resize(blocks * BLOCK, 0);
            let (read, taken) = map_in_data(&mut block.as_slice()).unwrap();
            prop_assert_eq!((read, taken), (pieces, (blocks * BLOCK) as u64));
        }
    }
}
