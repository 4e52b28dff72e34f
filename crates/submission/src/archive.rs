//! The archive of a bundle: tar compressed with zstd, with sorted names and without times and owners, so that the same
//! files produce the same bytes. Archives from others are read with limits on their size, their unpacked size and the
//! number of files, and may contain only regular files below one folder.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use etcbench_storage as storage;

/// The compression level: high, since bundles are packed once and kept for a long time.
const LEVEL: i32 = 19;
/// Largest size of an archive in bytes.
const MAXIMUM_PACKED: u64 = 256 << 20;
/// Largest total size of all files in bytes.
const MAXIMUM_UNPACKED: u64 = 2 << 30;
/// Largest number of files.
const MAXIMUM_FILES: usize = 100_000;
/// Longest name of a file in bytes.
const LONGEST_NAME: usize = 512;

/// The files of a bundle, by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Builds the archive of these files.
pub(super) fn write(files: &Files) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    zstd::encode_all(archive.into_inner()?.as_slice(), LEVEL)
}

/// Reads the files of an archive.
///
/// # Errors
/// The file cannot be read or is not the archive of a bundle.
pub(super) fn read(path: &Path) -> std::io::Result<Files> {
    let packed = storage::read_regular(path, MAXIMUM_PACKED)?;
    if !packed.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(refused(
            "not a bundle as written by `etcbench submission pack` (tar, compressed with zstd)".into(),
        ));
    }
    read_tar(zstd::Decoder::new(packed.as_slice())?)
}

fn refused(problem: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, problem)
}

/// Reads the files of an uncompressed archive.
///
/// # Errors
/// Same as [`read`].
pub(super) fn read_tar(stream: impl Read) -> std::io::Result<Files> {
    // Reads one byte more than allowed, to distinguish an archive that is too large from one of exactly this size.
    let stream = stream.take(MAXIMUM_UNPACKED + 1);
    let mut archive = tar::Archive::new(stream);
    let (mut files, mut total) = (Files::new(), 0_u64);
    for entry in archive.entries()? {
        let entry = entry?;
        let bytes = entry.path_bytes().into_owned();
        let name = String::from_utf8(bytes).map_err(|_| refused("a file's name is not UTF-8".into()))?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(refused(format!("{name}: is not a regular file; bundles contain only regular files")));
        }
        if !is_plain(&name) {
            return Err(refused(format!("{name:?}: is not a path below the bundle's folder")));
        }
        let size = entry.size();
        total = total.saturating_add(size);
        if total > MAXIMUM_UNPACKED || files.len() >= MAXIMUM_FILES {
            return Err(refused(format!(
                "it has more than {MAXIMUM_FILES} files, or more than {} MiB in total; bundles are smaller",
                MAXIMUM_UNPACKED >> 20
            )));
        }
        let mut content = Vec::new();
        entry.take(size).read_to_end(&mut content)?;
        if content.len() as u64 != size {
            return Err(refused(format!("{name}: the archive ends within this file")));
        }
        if files.insert(name.clone(), content).is_some() {
            return Err(refused(format!("{name}: is duplicated in the archive")));
        }
    }
    Ok(files)
}

/// Returns whether a name is a path below the folder on every system.
fn is_plain(name: &str) -> bool {
    let part = |part: &str| !["", ".", ".."].contains(&part) && !part.chars().any(|letter| "\\:\0".contains(letter));
    name.len() <= LONGEST_NAME && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> tempfile::NamedTempFile {
        let mut builder = tar::Builder::new(Vec::new());
        fill(&mut builder);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), zstd::encode_all(builder.into_inner().unwrap().as_slice(), 1).unwrap()).unwrap();
        file
    }

    /// Appends an entry with a name that the tar crate would refuse to write.
    fn entry(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }

    #[test]
    fn the_same_files_are_the_same_bytes_and_are_read_back() {
        let long = format!("predictions/{}.csv", "x".repeat(300));
        let files = Files::from([(long, vec![1; 3000]), ("a".to_owned(), Vec::new()), ("b/c".to_owned(), vec![2])]);
        let bytes = write(&files).unwrap();
        assert_eq!(bytes, write(&files).unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        assert_eq!(read(file.path()).unwrap(), files);
        for end in [bytes.len() / 2, bytes.len() - 1, 10] {
            std::fs::write(file.path(), &bytes[..end]).unwrap();
            assert!(read(file.path()).is_err(), "{end}");
        }
    }

    #[test]
    fn nothing_but_files_below_the_folder_is_taken() {
        use tar::EntryType::{Directory, Link, Regular, Symlink};
        let cases = [
            ("../a", Regular, "is not a path below"),
            ("/etc/a", Regular, "is not a path below"),
            ("a//b", Regular, "is not a path below"),
            ("a\\..\\b", Regular, "is not a path below"),
            ("c:a", Regular, "is not a path below"),
            ("a", Symlink, "is not a regular file"),
            ("a", Link, "is not a regular file"),
            ("a", Directory, "is not a regular file"),
        ];
        for (name, kind, expected) in cases {
            let file = archive(|builder| entry(builder, name, kind, b""));
            let error = read(file.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
        let twice = archive(|builder| (0..2).for_each(|_| entry(builder, "a", Regular, b"x")));
        assert!(read(twice.path()).unwrap_err().to_string().contains("is duplicated in the archive"));
        let other = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(other.path(), "PK").unwrap();
        assert!(read(other.path()).unwrap_err().to_string().contains("not a bundle"));
    }

    #[test]
    fn claimed_sizes_are_not_trusted() {
        let file = archive(|builder| {
            let mut header = tar::Header::new_gnu();
            header.set_path("a").unwrap();
            header.set_size(1 << 40);
            header.set_cksum();
            builder.append(&header, std::io::empty()).unwrap();
        });
        assert!(read(file.path()).unwrap_err().to_string().contains("MiB in total"));
    }
}
