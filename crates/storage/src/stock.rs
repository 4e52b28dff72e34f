//! Files shipped inside the program, such as the experiments for the paper's tables: they are read if a project has no
//! file of that name, so that an empty folder is a valid project.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Stock files, and the projects they belong to.
static STOCK: RwLock<Vec<Stock>> = RwLock::new(Vec::new());

struct Stock {
    root: PathBuf,
    files: &'static [StockFile],
}

/// A file shipped inside the program.
#[derive(Debug, Clone, Copy)]
pub struct StockFile {
    /// Path relative to the project's folder, with `/` between the parts.
    pub path: &'static str,
    /// Content of the file.
    pub bytes: &'static [u8],
}

/// Registers the files shipped inside the program for the project in the folder `root`.
pub fn bring_stock(root: &Path, files: &'static [StockFile]) {
    let root = lexically(root);
    let mut all = STOCK.write().unwrap_or_else(PoisonError::into_inner);
    if all.iter().all(|stock| stock.root != root) {
        all.push(Stock { root, files });
    }
}

fn in_stock(path: &Path) -> Option<&'static StockFile> {
    STOCK.read().unwrap_or_else(PoisonError::into_inner).iter().find_map(|stock| stock.find(path))
}

/// Returns what was read from a file or, if the file does not exist, the stock file in its place.
///
/// # Errors
/// The read error, if there is no such stock file either.
pub fn or_stock(path: &Path, read: std::io::Result<Vec<u8>>) -> std::io::Result<Vec<u8>> {
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            in_stock(path).map(|file| file.bytes.to_vec()).ok_or(error)
        }
        read => read,
    }
}

/// Whether the file exists, on disk or in stock.
pub fn is_file_or_stock(path: &Path) -> bool {
    path.is_file() || in_stock(path).is_some()
}

/// Returns the sorted names in a folder, including those of stock files; those on disk are omitted if it cannot be
/// read.
pub fn names_with_stock(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: BTreeSet<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    for stock in STOCK.read().unwrap_or_else(PoisonError::into_inner).iter() {
        names.extend(stock.names(folder).map(str::to_owned));
    }
    names
}

impl Stock {
    /// Returns a path relative to the root, in the form that stock files use, or `None` for a path outside it.
    fn below(&self, path: &Path) -> Option<String> {
        let path = lexically(path);
        let parts = path.strip_prefix(&self.root).ok()?.components().map(|part| part.as_os_str().to_str());
        Some(parts.collect::<Option<Vec<_>>>()?.join("/"))
    }

    fn find(&self, path: &Path) -> Option<&'static StockFile> {
        let path = self.below(path)?;
        self.files.iter().find(|file| file.path == path)
    }

    fn names(&self, folder: &Path) -> impl Iterator<Item = &'static str> {
        let folder = self.below(folder).map(|folder| format!("{folder}/"));
        let name = move |file: &'static StockFile| file.path.strip_prefix(folder.as_deref()?);
        self.files.iter().filter_map(name).filter(|name| !name.contains('/'))
    }
}

/// Makes a path absolute, and removes `.`, and `..` together with a name before it.
fn lexically(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    // An empty path is the current folder too. Where that is unknown, paths are compared as they are.
    let path = std::path::absolute(Path::new(".").join(path)).unwrap_or_else(|_| path.to_owned());
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[StockFile] = &[
        StockFile { path: "experiments/one.toml", bytes: b"1" },
        StockFile { path: "experiments/sizes/demo.toml", bytes: b"2" },
    ];

    #[test]
    fn stock_is_found_below_the_root_alone() {
        let here = std::env::current_dir().unwrap().join("experiments/one.toml");
        for (root, inside, outside) in [
            (".", "experiments/one.toml", "/experiments/one.toml"),
            ("", "./experiments/sizes/../one.toml", "one.toml"),
            ("/a/b", "/a/b/experiments/one.toml", "/a/experiments/one.toml"),
            ("../p", ".././p/experiments/one.toml", "../experiments/one.toml"),
            (".", here.to_str().unwrap(), "../experiments/one.toml"),
        ] {
            let stock = Stock { root: lexically(Path::new(root)), files: FILES };
            assert_eq!(stock.find(Path::new(inside)).unwrap().bytes, b"1", "{root}");
            assert!(stock.find(Path::new(outside)).is_none(), "{root}");
            let folder = Path::new(root).join("experiments");
            assert_eq!(stock.names(&folder).collect::<Vec<_>>(), ["one.toml"], "{root}");
            assert_eq!(stock.names(&folder.join("sizes")).collect::<Vec<_>>(), ["demo.toml"], "{root}");
        }
    }
}
