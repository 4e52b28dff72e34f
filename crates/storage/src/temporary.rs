//! Folders in the system's temporary directory, each for one piece of work of one process and removed with it. Their
//! names identify the process, so that what a killed process left is removed by the next one that creates such a
//! folder. Folders of living processes are never removed, nor those of processes that cannot be checked, such as one in
//! another container that shares the directory.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::partial::owner;
use super::process::{self, Life, ProcessName};

/// A folder for temporary files that only its owner may access, removed when dropped.
#[derive(Debug)]
pub struct TemporaryFolder {
    path: PathBuf,
}

impl TemporaryFolder {
    /// Creates a folder in the directory named by `TMPDIR`; its name begins with `prefix`. Removes those that dead
    /// processes left under this prefix.
    ///
    /// # Errors
    /// Any file system error.
    pub fn new(prefix: &str) -> std::io::Result<Self> {
        Self::within(&std::env::temp_dir(), prefix)
    }

    fn within(place: &Path, prefix: &str) -> std::io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let ProcessName { machine, pid, start } = process::this();
        let folder = loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = place.join(format!("{prefix}{machine}-{pid}-{start}-{number}"));
            match create(&path) {
                // If processes cannot be distinguished: the name of an earlier process with this number.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                result => break result.map(|()| Self { path })?,
            }
        };
        remove_left(place, prefix, &folder.path.symlink_metadata()?);
        Ok(folder)
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // If this fails, a later process removes it.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn create(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Removes the folders of dead processes that belong to the same user as `own`.
fn remove_left(place: &Path, prefix: &str, own: &Metadata) {
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| owner(prefix, name)) else { continue };
        // Never through a link: anyone who can write here could create one.
        let is_ours =
            entry.path().symlink_metadata().is_ok_and(|metadata| metadata.is_dir() && same_owner(&metadata, own));
        if is_ours && process.life() == Life::Dead {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(unix)]
fn same_owner(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    one.uid() == other.uid()
}

#[cfg(not(unix))]
fn same_owner(_: &Metadata, _: &Metadata) -> bool {
    true
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_dead_processes_are_removed() {
        let place = tempfile::tempdir().unwrap();
        let ProcessName { machine, pid, start } = process::this();
        // No process with this number started then.
        let dead = |prefix: &str, number: u32| format!("{prefix}{machine}-{pid}-{}-{number}", start + 1);
        let gone = dead("work-", 1);
        let kept_folders = [
            format!("work-{machine}-{pid}-{start}-900000"),
            format!("work-0123456789abcdef-{pid}-{}-1", start + 1),
            format!("{}-more", dead("work-", 1)),
            dead("other-", 1),
            "work-".to_owned(),
            "work-mine".to_owned(),
        ];
        for name in kept_folders.iter().chain([&gone]) {
            std::fs::create_dir_all(place.path().join(name).join("data")).unwrap();
        }
        let (file, link) = (dead("work-", 2), dead("work-", 3));
        std::fs::write(place.path().join(&file), "").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("kept"), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), place.path().join(&link)).unwrap();

        let folder = TemporaryFolder::within(place.path(), "work-").unwrap();
        std::fs::write(folder.path().join("own"), "").unwrap();
        assert!(!place.path().join(&gone).exists());
        for name in kept_folders.iter().chain([&file, &link]) {
            assert!(place.path().join(name).exists(), "{name}");
        }
        assert!(elsewhere.path().join("kept").exists());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);

        let second = TemporaryFolder::within(place.path(), "work-").unwrap();
        assert!(folder.path().join("own").exists() && second.path() != folder.path());
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists() && second.path().exists());
    }
}
