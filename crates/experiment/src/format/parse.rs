//! The first pass: reads the experiment file, the files it extends and the size, and parses `--set`. This is the only
//! pass that accesses files.

use std::path::{Path, PathBuf};

use super::Overrides;
use etcbench_storage::declarative::{self, DeclarativeError};

/// The layers of an experiment, in ascending precedence.
pub(super) struct Layers {
    /// The experiment's name.
    pub(super) name: String,
    /// The experiment file, for messages.
    pub(super) origin: String,
    /// The files it extends, in order, and the file itself.
    pub(super) files: Vec<toml::Table>,
    /// The size file.
    pub(super) size: Option<toml::Table>,
    /// The merged `--set` assignments.
    pub(super) assignments: toml::Table,
}

/// Reads the experiment at `path` and the files named in `overrides`.
///
/// # Errors
/// A file is missing or not TOML, a file cannot be extended, or an assignment has no key.
pub(super) fn parse(path: &Path, overrides: &Overrides) -> Result<Layers, DeclarativeError> {
    let origin = path.display().to_string();
    let content = |problem: String| DeclarativeError::Content { origin: origin.clone(), problem };
    let name = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .ok_or_else(|| content("the file's name is not text".to_owned()))?
        .to_owned();
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut document = declarative::read_table(path)?;
    let bases: Vec<String> = match document.remove("extends") {
        None => Vec::new(),
        Some(toml::Value::String(base)) => vec![base],
        Some(value) => value
            .try_into()
            .map_err(|_| content("`extends` must be a file in the same folder, or a list of such files".to_owned()))?,
    };
    let mut files = Vec::new();
    for base in &bases {
        if Path::new(base).file_name() != Some(base.as_ref()) {
            return Err(content(format!("`extends` must name a file in the same folder; `{base}` does not")));
        }
        let table = declarative::read_table(&folder.join(base))?;
        if table.contains_key("extends") {
            return Err(content(format!("{base} itself extends another file; only one level is allowed")));
        }
        files.push(table);
    }
    files.push(document);
    let size = overrides.size.as_ref().map(|size| read_size(folder, size)).transpose()?;
    let mut assignments = toml::Table::new();
    for text in &overrides.assignments {
        declarative::merge(&mut assignments, &declarative::parse_assignment(text)?);
    }
    Ok(Layers { name, origin, files, size, assignments })
}

fn read_size(folder: &Path, size: &str) -> Result<toml::Table, DeclarativeError> {
    let sizes: PathBuf = folder.join("sizes");
    let path = sizes.join(format!("{size}.toml"));
    // The name becomes part of the name of the results folder.
    if declarative::as_file_name(size).is_err() || !etcbench_storage::is_file_or_stock(&path) {
        let known = declarative::names(&sizes);
        return Err(DeclarativeError::Content {
            origin: format!("--size {size}"),
            problem: format!("{} does not exist (known: {})", path.display(), known.join(", ")),
        });
    }
    declarative::read_table(&path)
}
