//! Locates NVIDIA's libraries at run time. In addition to the system's default locations, searches the folders in the
//! environment variable `ETCBENCH_CUDA_LIBRARIES`, and the locations where `pip install nvidia-cuda-nvrtc-cu12
//! nvidia-cublas-cu12` (or PyTorch) installs them for the `python3` on the path.

#![allow(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::launcher::Problem;

/// Folders to search, separated as in `PATH`.
pub(super) const FOLDERS_VARIABLE: &str = "ETCBENCH_CUDA_LIBRARIES";

/// A library from NVIDIA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    /// The driver, which is only in the system's default locations.
    Driver,
    /// The runtime compiler.
    RuntimeCompiler,
    /// Matrix products.
    MatrixProducts,
}

impl Library {
    fn is_present(self) -> bool {
        // SAFETY: loading these libraries runs their initialisers, which only set up their own state, as anyone who
        // requests CUDA expects.
        unsafe {
            match self {
                Self::Driver => cudarc::driver::sys::is_culib_present(),
                Self::RuntimeCompiler => cudarc::nvrtc::sys::is_culib_present(),
                Self::MatrixProducts => cudarc::cublas::sys::is_culib_present(),
            }
        }
    }

    /// Returns file names without version, in loading order.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Driver => &[],
            Self::RuntimeCompiler => &["libnvrtc.so"],
            Self::MatrixProducts => &["libcublasLt.so", "libcublas.so"],
        }
    }

    fn missing(self) -> Problem {
        match self {
            Self::Driver => "no NVIDIA driver found (libcuda is missing); install one, or use --device cpu".to_owned(),
            Self::RuntimeCompiler => format!(
                "the runtime compiler (libnvrtc) was not found; install the CUDA toolkit or `pip install \
                 nvidia-cuda-nvrtc-cu12`, or name its folder in {FOLDERS_VARIABLE}"
            ),
            Self::MatrixProducts => format!(
                "cuBLAS (libcublas) was not found; install the CUDA toolkit or `pip install nvidia-cublas-cu12`, or \
                 name its folder in {FOLDERS_VARIABLE}"
            ),
        }
    }
}

/// Ensures that a library can be used.
///
/// # Errors
/// The library was not found; the message names it and suggests a remedy.
pub(super) fn find(library: Library) -> Result<(), Problem> {
    static SEARCH: Mutex<()> = Mutex::new(());
    let _one_at_a_time = SEARCH.lock();
    if library.is_present() {
        return Ok(());
    }
    let named = std::env::var_os(FOLDERS_VARIABLE);
    let named: Vec<PathBuf> = named.iter().flat_map(std::env::split_paths).collect();
    if load_from(library, &named) || (library != Library::Driver && load_from(library, &python_folders())) {
        return Ok(());
    }
    Err(library.missing())
}

/// Loads a library's files from the first folder that contains all of them. After that, the library is found by its
/// name.
fn load_from(library: Library, folders: &[PathBuf]) -> bool {
    folders.iter().any(|folder| {
        let files: Option<Vec<PathBuf>> = library.files().iter().map(|file| versioned(folder, file)).collect();
        let Some(files) = files.filter(|files| !files.is_empty()) else { return false };
        for file in files {
            // SAFETY: same as in `is_present`; the library stays loaded as long as the program runs.
            match unsafe { libloading::Library::new(&file) } {
                Ok(loaded) => std::mem::forget(loaded),
                Err(_) => return false,
            }
        }
        library.is_present()
    })
}

/// Returns `folder/file` with or without a version suffix; the one with the highest version if there are several.
fn versioned(folder: &Path, file: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let of_library = entries.filter_map(|path| {
        let name = path.file_name().and_then(|name| name.to_str())?;
        let suffix = name.strip_prefix(file).filter(|rest| rest.is_empty() || rest.starts_with('.'))?;
        Some((version(suffix), path))
    });
    of_library.max().map(|(_, path)| path)
}

/// Returns the numbers of a version suffix such as `.12.4.127`, up to the first part that is not a number. They are
/// compared as numbers, because `.9` sorts after `.12` as text.
fn version(suffix: &str) -> Vec<u64> {
    suffix.split('.').skip(1).map_while(|part| part.parse().ok()).collect()
}

/// Returns `site-packages/nvidia/*/lib` of the `python3` on the path.
fn python_folders() -> Vec<PathBuf> {
    let script = "import sysconfig; print(sysconfig.get_paths()['purelib'])";
    let Ok(output) = Command::new("python3").args(["-c", script]).output() else { return Vec::new() };
    let packages = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join("nvidia");
    let Ok(entries) = std::fs::read_dir(packages) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path().join("lib")).collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_of_a_file_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libnvrtc.so.11", "libnvrtc.so.12", "libnvrtc-builtins.so.12.9", "libnvrtc.alt.so.12"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(versioned(folder.path(), "libnvrtc.so"), Some(folder.path().join("libnvrtc.so.12")));
        assert_eq!(versioned(folder.path(), "libcublas.so"), None);
        // Versions are numbers: 12 is higher than 9, and 12.10 than 12.9.
        let highest = |names: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            names.iter().for_each(|name| std::fs::write(folder.path().join(name), "").unwrap());
            versioned(folder.path(), "libnvrtc.so").unwrap().file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(highest(&["libnvrtc.so.9", "libnvrtc.so.12", "libnvrtc.so"]), "libnvrtc.so.12");
        assert_eq!(highest(&["libnvrtc.so.12.9", "libnvrtc.so.12", "libnvrtc.so.12.10"]), "libnvrtc.so.12.10");
        // Files that are not libraries are not loaded, and nothing panics.
        assert!(!load_from(Library::RuntimeCompiler, &[folder.path().to_owned(), "nowhere".into()]));
    }

    #[test]
    fn missing_libraries_are_named() {
        for (library, name) in [
            (Library::Driver, "libcuda"),
            (Library::RuntimeCompiler, "libnvrtc"),
            (Library::MatrixProducts, "libcublas"),
        ] {
            assert!(library.missing().contains(name));
        }
    }
}
