//! Where output to a path goes: into the regular file that the path resolves to, which is replaced as a whole, or
//! straight into a pipe, a device or standard output, which are not replaced.

use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::folder_of;

/// Linux's limit.
const MAXIMUM_LINKS: usize = 40;

/// What a path resolves to.
enum Target {
    /// A regular file, a folder, a pipe, ..., or nothing yet.
    Place(PathBuf, Option<Metadata>),
    /// An open file of this process or of another, such as `/dev/fd/3`.
    Descriptor(PathBuf),
    /// Standard output, as `-`, `/dev/stdout` or `/dev/fd/1`.
    StandardOutput,
}

/// Follows symbolic links.
fn target(path: &Path) -> std::io::Result<Target> {
    if path == Path::new("-") {
        return Ok(Target::StandardOutput);
    }
    let mut path = path.to_owned();
    for _ in 0..MAXIMUM_LINKS {
        if let Some(descriptor) = descriptor(&path) {
            return Ok(if descriptor.is_own("1") { Target::StandardOutput } else { Target::Descriptor(path) });
        }
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => path = folder_of(&path).join(std::fs::read_link(&path)?),
            Ok(metadata) => return Ok(Target::Place(path, Some(metadata))),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Target::Place(path, None)),
            Err(error) => return Err(error),
        }
    }
    Err(Error::other("a loop of symbolic links"))
}

/// A path under `/dev/fd` or `/proc/PROCESS/fd`.
struct Descriptor {
    process: Option<String>,
    number: String,
}

impl Descriptor {
    fn is_own(&self, number: &str) -> bool {
        let current = std::process::id().to_string();
        self.number == number && self.process.as_ref().is_none_or(|process| *process == current)
    }
}

fn descriptor(path: &Path) -> Option<Descriptor> {
    if !cfg!(unix) {
        return None;
    }
    let number = path.file_name()?.to_str()?.to_owned();
    // Checked by name: `/dev/stdout` is a link on Linux and a device elsewhere.
    if path == Path::new("/dev/stdout") {
        return Some(Descriptor { process: None, number: "1".to_owned() });
    }
    let folder = folder_of(path);
    if !folder.ends_with("fd") {
        return None;
    }
    if folder == Path::new("/dev/fd") {
        return Some(Descriptor { process: None, number });
    }
    let folder = folder.canonicalize().ok()?;
    let process = folder.strip_prefix("/proc").ok()?.components().next()?.as_os_str().to_str()?.to_owned();
    Some(Descriptor { process: Some(process), number })
}

/// Returns the folder or file that a path resolves to after following symbolic links.
pub(super) fn followed(path: &Path) -> PathBuf {
    match target(path) {
        Ok(Target::Place(place, _)) => place,
        _ => path.to_owned(),
    }
}

/// Whether writing to this path writes to standard output.
pub fn is_standard_output(path: &Path) -> bool {
    matches!(target(path), Ok(Target::StandardOutput))
}

/// Whether the reader of standard output went away while a file was being written there.
pub fn standard_output_is_closed() -> bool {
    STANDARD_OUTPUT_CLOSED.load(Ordering::Relaxed)
}

static STANDARD_OUTPUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// How a path is written.
pub(super) enum Destination {
    /// Through a new file that takes this place, with the mode and owner of the existing file.
    Whole(PathBuf, Option<Metadata>),
    /// Byte by byte.
    Stream(Output),
}

impl Destination {
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        match target(path)? {
            Target::Place(place, None) => Ok(Self::Whole(place, None)),
            Target::Place(place, Some(metadata)) if metadata.is_file() => Ok(Self::Whole(place, Some(metadata))),
            Target::Place(_, Some(metadata)) if metadata.is_dir() => {
                Err(Error::new(ErrorKind::IsADirectory, "is a folder; name a file"))
            }
            // A pipe's reader may come later; opening waits for it.
            Target::Place(path, Some(_)) | Target::Descriptor(path) => {
                let file = File::options().write(true).truncate(true).open(path)?;
                Ok(Self::Stream(Output { file, standard_output: false }))
            }
            Target::StandardOutput => {
                std::io::stdout().flush()?;
                Ok(Self::Stream(Output { file: standard_output()?, standard_output: true }))
            }
        }
    }
}

#[cfg(unix)]
fn standard_output() -> std::io::Result<File> {
    use std::os::fd::AsFd;
    std::io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(windows)]
fn standard_output() -> std::io::Result<File> {
    use std::os::windows::io::AsHandle;
    std::io::stdout().as_handle().try_clone_to_owned().map(File::from)
}

/// An open file for writing.
pub struct Output {
    pub(super) file: File,
    standard_output: bool,
}

impl Output {
    pub(super) fn of_file(file: File) -> Self {
        Self { file, standard_output: false }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes);
        if self.standard_output && written.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
            STANDARD_OUTPUT_CLOSED.store(true, Ordering::Relaxed);
        }
        written
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Gives a new file the mode of the file it replaces, and its owner if permissions allow.
pub(super) fn take_after(file: &File, existing: &Metadata) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let created = file.metadata()?;
        if created.gid() != existing.gid() {
            let _ = fchown(file, None, Some(existing.gid()));
        }
        if created.uid() != existing.uid() {
            let _ = fchown(file, Some(existing.uid()), None);
        }
    }
    file.set_permissions(existing.permissions())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    use super::super::write_whole;

    #[test]
    fn links_lead_to_what_is_written_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("elsewhere")).unwrap();
        symlink("elsewhere/target.csv", at("link.csv")).unwrap();
        symlink("link.csv", at("second.csv")).unwrap();
        // The target is created if missing, and replaced if it exists.
        for content in ["old", "new"] {
            write_whole(&at("second.csv"), content.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(at("elsewhere/target.csv")).unwrap(), content);
            assert!(at("link.csv").is_symlink() && at("second.csv").is_symlink());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        assert!(write_whole(&at("a"), b"new").unwrap_err().to_string().contains("loop"));
        assert!(at("a").is_symlink() && at("b").is_symlink());
    }

    #[test]
    fn the_mode_of_a_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.csv");
        for mode in [0o600, 0o640, 0o777, 0o444] {
            std::fs::write(&path, "old").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            write_whole(&path, b"new").unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode);
            assert_eq!(std::fs::read(&path).unwrap(), b"new");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_pipe_stays_one_and_its_reader_gets_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || std::fs::read(path).unwrap()
        });
        let content = vec![7; 1 << 20];
        write_whole(&path, &content).unwrap();
        assert!(reader.join().unwrap() == content);
        assert!(path.symlink_metadata().unwrap().file_type().is_fifo());
    }

    #[test]
    fn a_folder_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_whole(folder.path(), b"new").unwrap_err();
        assert!(error.to_string().contains("is a folder"), "{error}");
    }
}
