//! Sparse members of tar archives: files whose holes the archive leaves out. GNU tar writes them in four forms; the old
//! one the `tar` crate reads, and here are those in extended headers (GNU tar's manual, "Storing Sparse Files"), where
//! a reader that does not know them sees the data without its holes.

use std::io::{Error, ErrorKind, Read};

/// The most pieces of data in one member: the map is held in memory.
const MOST_PIECES: usize = 1 << 22;
/// Blocks of a tar archive.
const BLOCK: usize = 512;

/// Where the data of a member is in the file it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SparseMap {
    /// Start and length of each piece, in ascending order.
    pieces: Vec<(u64, u64)>,
    /// The size of the file.
    size: u64,
}

/// A member's own name and its map, where it is sparse.
pub(super) struct SparseMember {
    /// The name of the file, where the header has another one for readers that do not know of sparse files.
    pub name: Option<Vec<u8>>,
    /// Its map.
    pub map: SparseMap,
}

/// What the extended header of a member says of holes. A member whose map is in its data has that read here, so that
/// what is left to read are the pieces.
///
/// # Errors
/// A map that is no map, or one of a form that is not known.
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
        Some(version) => return Err(format!("is sparse in a form that is not known (GNU {version})")),
    };
    let pieces = map.ok_or("is sparse, and its map is no list of numbers")?;
    let size = header.size.ok_or("is sparse, and its size is not given")?;
    let map = SparseMap { pieces, size };
    map.check(stored.saturating_sub(taken))?;
    Ok(Some(SparseMember { name: header.name, map }))
}

/// The records of an extended header that speak of holes.
#[derive(Default)]
struct Header {
    /// `major.minor`, since 1.0.
    version: Option<String>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// The whole map, in 0.1.
    map: Option<String>,
    /// The map, number by number, in 0.0.
    pieces: Vec<String>,
}

impl Header {
    /// None where nothing in the header speaks of holes.
    fn of<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Option<Self>, String> {
        let Some(extensions) = entry.pax_extensions().map_err(|error| format!("has a damaged header ({error})"))?
        else {
            return Ok(None);
        };
        let (mut header, mut any) = (Self::default(), false);
        let (mut major, mut minor) = (None, None);
        // Other records may hold bytes that the crate cannot divide.
        for record in extensions.flatten() {
            let (key, value) = (record.key_bytes(), record.value_bytes());
            let text = || String::from_utf8_lossy(value).into_owned();
            match key {
                b"SCHILY.filetype" if value == b"sparse" => return Err("is sparse in star's form".to_owned()),
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

const TOO_MANY: &str = "is sparse in too many pieces";

/// Numbers as pieces; none where they are no pairs of numbers.
fn pairs<'a>(numbers: impl Iterator<Item = &'a str>) -> Option<Vec<(u64, u64)>> {
    let numbers: Vec<u64> =
        numbers.filter(|text| !text.is_empty()).map(|text| text.parse().ok()).collect::<Option<_>>()?;
    numbers.len().is_multiple_of(2).then(|| numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// The map at the beginning of a member's data, in decimal numbers that each end a line, filled up to whole blocks; and
/// how many bytes it takes.
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
                // No number of 64 bits is longer.
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
    /// Checks that the pieces follow one another inside the file and are as long as what is stored.
    fn check(&self, stored: u64) -> Result<(), String> {
        let (mut end, mut bytes) = (0, 0_u64);
        for &(start, length) in &self.pieces {
            let next = start.checked_add(length).filter(|next| start >= end && *next <= self.size);
            end = next.ok_or("is sparse, and its pieces overlap or lie outside the file")?;
            bytes += length;
        }
        if bytes == stored {
            return Ok(());
        }
        Err(format!("is sparse, and its pieces are {bytes} bytes where {stored} are stored"))
    }

    /// The size of the file.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The file with its holes, which are zeros.
    pub(crate) fn expand<R: Read>(self, pieces: R) -> Expanded<R> {
        Expanded { stream: pieces, pieces: self.pieces.into_iter().peekable(), position: 0, size: self.size }
    }
}

/// The pieces of a sparse file with zeros between them.
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
            // The map as version 1.0 writes it.
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
