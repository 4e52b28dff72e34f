//! Reading whole files with a size limit, so that an endless device or pipe, or a file crafted to be large, causes an
//! error instead of exhausting memory.

use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

/// Reads a file or pipe of at most `most` bytes.
///
/// # Errors
/// Any file system error, and more than `most` bytes.
pub fn read_at_most(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let problem = format!("it has more than {} MiB, the limit for files of this kind", most >> 20);
        return Err(Error::new(ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// Like [`read_at_most`], but for regular files only: for paths named by untrusted files, which could lead to a pipe
/// that nobody writes to.
///
/// # Errors
/// Those of [`read_at_most`], and anything that is not a regular file.
pub fn read_regular(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    read_at_most(path, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_and_too_large_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read_at_most(&path, 10).unwrap(), [7; 10]);
        assert_eq!(read_regular(&path, 10).unwrap(), [7; 10]);
        assert_eq!(read_regular(&path, 9).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read_regular(folder.path(), 9).unwrap_err().to_string(), "it is not a regular file");
        #[cfg(unix)]
        {
            assert_eq!(read_at_most(Path::new("/dev/zero"), 1 << 20).unwrap_err().kind(), ErrorKind::FileTooLarge);
            let pipe = folder.path().join("pipe");
            rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
            assert_eq!(read_regular(&pipe, 9).unwrap_err().to_string(), "it is not a regular file");
        }
    }
}
