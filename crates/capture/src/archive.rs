//! Zip archives, the form in which many datasets are published. Members are listed, and opened as streams that are
//! checked against the sizes and checksums in the archive, without unpacking anything to disk.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zip::{CompressionMethod, ZipArchive};

use super::compression::{Compression, ExpansionLimits, Guarded, Metered};

/// The first bytes of a zip archive with members, and of one without.
const ZIP_MAGICS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// Why an archive or one of its members cannot be read. Damage inside a member's data is only found while reading it,
/// and is a [`super::CompressionFault`] of the stream.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The file cannot be opened.
    #[error("{}: cannot open the archive: {source}", archive.display())]
    Open {
        /// The archive.
        archive: PathBuf,
        /// Error reported by the file system.
        source: std::io::Error,
    },
    /// The directory of the archive cannot be read.
    #[error("{}: not a zip archive, or a damaged one: {problem}; check that the download is complete", archive.display())]
    Damaged {
        /// The archive.
        archive: PathBuf,
        /// Description of the problem.
        problem: String,
    },
    /// Two members have the same name.
    #[error("{}: two members have the same name{}; unpack the archive with another program and keep one of the two", archive.display(), name.as_ref().map_or(String::new(), |name| format!(", {}", name.escape_debug())))]
    DuplicateNames {
        /// The archive.
        archive: PathBuf,
        /// The name, if known.
        name: Option<String>,
    },
    /// No such member exists.
    #[error("{}: the archive has no member {member}{advice}", archive.display())]
    NoSuchMember {
        /// The archive.
        archive: PathBuf,
        /// The requested member.
        member: String,
        /// The nearest name, if any is similar.
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
    /// The member is compressed with an unsupported method.
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
    /// Uncompressed size in bytes, as declared in the archive; verified while reading.
    pub size: u64,
    /// Compressed size in bytes.
    pub compressed_size: u64,
    /// CRC-32 of the uncompressed bytes (ISO 3309), as declared in the archive; verified while reading.
    pub crc32: u32,
    /// Whether the member is encrypted, and so cannot be opened.
    pub encrypted: bool,
    /// Whether the member is a symbolic link; its bytes are then the target path.
    pub is_link: bool,
}

impl Member {
    /// Whether the name leads outside the folder that the archive is unpacked into.
    pub fn leads_out(&self) -> bool {
        self.name.starts_with('/') || self.name.split('/').any(|part| part == "..")
    }
}

/// Whether a file with these first bytes is a zip archive.
pub fn is_archive(head: &[u8]) -> bool {
    ZIP_MAGICS.iter().any(|magic| head.starts_with(magic))
}

/// Lists the files in an archive (without folders), in the archive's order.
///
/// # Errors
/// The archive cannot be opened, its directory is damaged, or two members have the same name.
pub fn members(archive: &Path) -> Result<Vec<Member>, ArchiveError> {
    let zip = open(archive)?;
    let mut members = Vec::new();
    let mut names = std::collections::HashSet::new();
    for index in 0..zip.len() {
        let entry = zip.by_index_data(index).map_err(|error| damaged(archive, &error))?;
        let name = name_of(&entry);
        // The `zip` crate does not recognise folders whose names end in a backslash.
        if !entry.is_dir() && !name.ends_with('/') {
            // Catches two spellings of one path, such as `a\b` and `./a/b`.
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

/// Opens a member as a stream of its uncompressed bytes, with the default [`ExpansionLimits`].
///
/// # Errors
/// Those of [`members`]; no such member exists, it is encrypted, or its compression is not supported. Reading fails
/// with a [`super::CompressionFault`] if the data is damaged, if size or checksum differ from the archive's directory,
/// or past the limits.
pub fn open_member(archive: &Path, name: &str) -> Result<MemberReader, ArchiveError> {
    open_member_with(archive, name, ExpansionLimits::default())
}

/// Like [`open_member`], with other limits.
///
/// # Errors
/// Those of [`open_member`].
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

/// Reader of a member's uncompressed bytes.
pub struct MemberReader(Guarded);

impl Read for MemberReader {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(target)
    }
}

/// Verifies a member's bytes against size and checksum in the archive's directory.
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
                return Err(std::io::Error::other("the member is shorter or longer than the archive declares"));
            }
            if self.crc.sum() != self.crc32 {
                return Err(std::io::Error::other("the member's checksum does not match the archive"));
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

/// Returns the name as text, whatever its encoding, with `/` as separator.
fn name_of(entry: &zip::read::ZipFileEntry<'_>) -> String {
    match entry.name() {
        Ok(name) => plain_path(&name),
        Err(_) => plain_path(&String::from_utf8_lossy(entry.name_raw())),
    }
}

/// Removes `./` and doubled slashes. A name with backslashes but no slash comes from a Windows program that writes
/// backslashes where the format requires slashes; Info-ZIP interprets it the same way.
fn plain_path(name: &str) -> String {
    let separator = if name.contains('/') { '/' } else { '\\' };
    let mut parts: Vec<&str> = Vec::new();
    for (index, part) in name.split(separator).enumerate() {
        // Keep the first empty part of an absolute path; the last, of a folder, is added below.
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
