//! Zip archives, as datasets are published: their members are listed, and opened as streams that are
//! checked against the archive's sizes and checksums, without unpacking anything to disk.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zip::{CompressionMethod, ZipArchive};

use super::compression::{Compression, ExpansionLimits, Guarded, Metered};

/// The first bytes of a zip archive: of a member, or of an archive without members.
const ZIP_MAGICS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// Why an archive or one of its members cannot be read. Damage inside a member's data is found while
/// it is read and is a [`super::CompressionFault`] of the stream.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The file cannot be opened.
    #[error("{}: cannot open the archive: {source}", archive.display())]
    Open {
        /// The archive.
        archive: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// The directory of the archive cannot be read.
    #[error("{}: not a zip archive, or a damaged one: {problem}; check that the download is complete", archive.display())]
    Damaged {
        /// The archive.
        archive: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Two members have one name.
    #[error("{}: two members have the same name{}; unpack the archive with another program and keep one of the two", archive.display(), name.as_ref().map_or(String::new(), |name| format!(", {}", name.escape_debug())))]
    DuplicateNames {
        /// The archive.
        archive: PathBuf,
        /// The name, where it is known.
        name: Option<String>,
    },
    /// There is no such member.
    #[error("{}: the archive has no member {member}{advice}", archive.display())]
    NoSuchMember {
        /// The archive.
        archive: PathBuf,
        /// The member asked for.
        member: String,
        /// The nearest name, if any is near.
        advice: String,
    },
    /// The member is encrypted.
    #[error("{}!{member}: the member is encrypted; unpack the archive with its password", archive.display())]
    Encrypted {
        /// The archive.
        archive: PathBuf,
        /// The member.
        member: String,
    },
    /// The member is compressed in a way that is not read.
    #[error(
        "{}!{member}: compression method {method} is not supported (supported are stored, deflate, deflate64, bzip2, \
         xz and zstd); unpack the archive",
        archive.display()
    )]
    UnsupportedMethod {
        /// The archive.
        archive: PathBuf,
        /// The member.
        member: String,
        /// The method.
        method: String,
    },
}

/// A file inside an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its path inside the archive, with `/` between folders and without `./`.
    pub name: String,
    /// Its size in bytes when unpacked, as the archive declares it; reading checks it.
    pub size: u64,
    /// Its size in the archive.
    pub compressed_size: u64,
    /// CRC-32 of its unpacked bytes (ISO 3309), as the archive declares it; reading checks it.
    pub crc32: u32,
    /// Whether it is encrypted, and so cannot be opened.
    pub encrypted: bool,
    /// Whether it is a symbolic link, whose bytes are the path it leads to.
    pub is_link: bool,
}

impl Member {
    /// Whether its name leads out of the folder that the archive is unpacked into.
    pub fn leads_out(&self) -> bool {
        self.name.starts_with('/') || self.name.split('/').any(|part| part == "..")
    }
}

/// Whether a file that begins so is a zip archive.
pub fn is_archive(head: &[u8]) -> bool {
    ZIP_MAGICS.iter().any(|magic| head.starts_with(magic))
}

/// The files in an archive (folders left out), in the archive's order.
///
/// # Errors
/// The archive cannot be opened, its directory is damaged, or two members have one name.
pub fn members(archive: &Path) -> Result<Vec<Member>, ArchiveError> {
    let zip = open(archive)?;
    let mut members = Vec::new();
    let mut names = std::collections::HashSet::new();
    for index in 0..zip.len() {
        let entry = zip.by_index_data(index).map_err(|error| damaged(archive, &error))?;
        let name = name_of(&entry);
        // A folder whose name ends in a backslash is none to the `zip` crate.
        if !entry.is_dir() && !name.ends_with('/') {
            // Two spellings of one path, such as `a\b` and `./a/b`.
            if !names.insert(name.clone()) {
                return Err(ArchiveError::DuplicateNames { archive: archive.to_owned(), name: Some(name) });
            }
            members.push(Member {
                name,
                size: entry.size(),
                compressed_size: entry.compressed_size(),
                crc32: entry.crc32(),
                encrypted: entry.encrypted(),
                is_link: entry.is_symlink(),
            });
        }
    }
    Ok(members)
}

/// Opens a member as a stream of its unpacked bytes, with the default [`ExpansionLimits`].
///
/// # Errors
/// Like [`members`]; there is no such member, it is encrypted, or its compression is not supported.
/// Reading fails with a [`super::CompressionFault`] where the data is damaged, where size or checksum are not the
/// archive's, and past the limits.
pub fn open_member(archive: &Path, name: &str) -> Result<MemberReader, ArchiveError> {
    open_member_with(archive, name, ExpansionLimits::default())
}

/// Like [`open_member`], with other limits.
///
/// # Errors
/// Like [`open_member`].
pub fn open_member_with(archive: &Path, name: &str, limits: ExpansionLimits) -> Result<MemberReader, ArchiveError> {
    let mut zip = open(archive)?;
    let mut names = Vec::new();
    let mut found = None;
    for index in 0..zip.len() {
        let entry = zip.by_index_data(index).map_err(|error| damaged(archive, &error))?;
        let entry_name = name_of(&entry);
        if entry_name == name && !entry.is_dir() {
            found = Some(index);
            break;
        }
        names.push(entry_name);
    }
    let Some(index) = found else {
        let advice = etcbench_storage::declarative::did_you_mean(name, names.iter().map(String::as_str));
        return Err(ArchiveError::NoSuchMember { archive: archive.to_owned(), member: name.to_owned(), advice });
    };
    let entry = zip.by_index_raw(index).map_err(|error| damaged(archive, &error))?;
    if entry.encrypted() {
        return Err(ArchiveError::Encrypted { archive: archive.to_owned(), member: name.to_owned() });
    }
    let method = entry.compression();
    let (size, compressed_size, crc32) = (entry.size(), entry.compressed_size(), entry.crc32());
    let start = entry.data_start().unwrap_or_default();
    drop(entry);
    let mut file = zip.into_inner().into_inner();
    let unopened = |source| ArchiveError::Open { archive: archive.to_owned(), source };
    file.seek(SeekFrom::Start(start)).map_err(unopened)?;
    let (stream, meter) = Metered::new(file.take(compressed_size));
    let stream = BufReader::with_capacity(1 << 16, stream);
    let decoder: Box<dyn Read + Send> = match method {
        CompressionMethod::STORE => Box::new(stream),
        CompressionMethod::DEFLATE => Box::new(flate2::bufread::DeflateDecoder::new(stream)),
        CompressionMethod::DEFLATE64 => Box::new(deflate64::Deflate64Decoder::with_buffer(stream)),
        CompressionMethod::BZIP2 => Box::new(bzip2::bufread::BzDecoder::new(stream)),
        CompressionMethod::XZ => Compression::Xz.decoder(Box::new(stream)).map_err(unopened)?,
        CompressionMethod::ZSTD => Compression::Zstd.decoder(Box::new(stream)).map_err(unopened)?,
        other => {
            let (archive, member) = (archive.to_owned(), name.to_owned());
            return Err(ArchiveError::UnsupportedMethod { archive, member, method: other.to_string() });
        }
    };
    let checked = Checked { stream: decoder, crc: flate2::Crc::new(), size, crc32 };
    Ok(MemberReader(Guarded::new(Box::new(checked), "zip", meter, limits)))
}

/// The unpacked bytes of a member.
pub struct MemberReader(Guarded);

impl Read for MemberReader {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(target)
    }
}

/// Compares a member's bytes with what the archive declares of them.
struct Checked {
    stream: Box<dyn Read + Send>,
    crc: flate2::Crc,
    size: u64,
    crc32: u32,
}

impl Read for Checked {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(target)?;
        self.crc.update(&target[..count]);
        if count == 0 && !target.is_empty() {
            // `Crc` counts modulo 2^32.
            if self.crc.amount() != self.size as u32 {
                return Err(std::io::Error::other("the member is shorter or longer than the archive says"));
            }
            if self.crc.sum() != self.crc32 {
                return Err(std::io::Error::other("the member's checksum is not the archive's"));
            }
        }
        Ok(count)
    }
}

fn open(archive: &Path) -> Result<ZipArchive<BufReader<File>>, ArchiveError> {
    let file = File::open(archive).map_err(|source| ArchiveError::Open { archive: archive.to_owned(), source })?;
    let zip = ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(archive, &error))?;
    if zip.has_duplicate_names() {
        return Err(ArchiveError::DuplicateNames { archive: archive.to_owned(), name: None });
    }
    Ok(zip)
}

fn damaged(archive: &Path, error: &zip::result::ZipError) -> ArchiveError {
    ArchiveError::Damaged { archive: archive.to_owned(), problem: error.to_string() }
}

/// The name as text, whatever its encoding, as a path with `/`.
fn name_of(entry: &zip::read::ZipFileEntry<'_>) -> String {
    match entry.name() {
        Ok(name) => plain_path(&name),
        Err(_) => plain_path(&String::from_utf8_lossy(entry.name_raw())),
    }
}

/// A path without `./` and doubled slashes. A name with backslashes and no slash was written by a program of Windows
/// that puts the one where the format wants the other; Info-ZIP reads it so too.
fn plain_path(name: &str) -> String {
    let separator = if name.contains('/') { '/' } else { '\\' };
    let mut parts: Vec<&str> = Vec::new();
    for (index, part) in name.split(separator).enumerate() {
        // The empty parts before and after stay: an absolute path, and a folder.
        if part != "." && (!part.is_empty() || index == 0) {
            parts.push(part);
        }
    }
    let mut path = parts.join("/");
    if name.ends_with(separator) && !path.is_empty() {
        path.push('/');
    }
    path
}
