//! The first pass: reads the experiment file, the files that it extends and the size, and parses `--set`. The only one that
//! touches files.

use std::path::{Path, PathBuf};

use super::Overrides;
use etcbench_storage::declarative::{self, DeclarativeError};

/// What an experiment is made of, from what yields to what wins.
pub(super) struct Layers {
    /// The experiment's name.
    pub(super) name: String,
    /// The experiment file, for messages.
    pub(super) origin: String,
    /// The files that it extends, in order, and the file itself.
    pub(super) files: Vec<toml::Table>,
    /// The size's file.
    pub(super) size: Option<toml::Table>,
    /// What `--set` says, merged.
    pub(super) assignments: toml::Table,
}

/// Reads the experiment at `path` and what `overrides` names.
///
/// # Errors
/// A file that is missing or no TOML, one that cannot be extended, an assignment without a key.
pub(super) fn parse(path: &Path, overrides: &Overrides) -> Result<Layers, DeclarativeError> {
    let origin = path.display().to_string();
    let content = |problem: String| DeclarativeError::Content { origin: origin.clone(), problem };
    let name = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .ok_or_else(|| content("the file's name is not text".to_owned()))?
        .to_owned();
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut own = declarative::read_table(path)?;
    let bases: Vec<String> = match own.remove("extends") {
        None => Vec::new(),
        Some(toml::Value::String(base)) => vec![base],
        Some(value) => value
            .try_into()
            .map_err(|_| content("`extends` names a file in the same folder, or a list of such files".to_owned()))?,
    };
    let mut files = Vec::new();
    for base in &bases {
        if Path::new(base).file_name() != Some(base.as_ref()) {
            return Err(content(format!("`extends` names a file in the same folder; `{base}` is none")));
        }
        let table = declarative::read_table(&folder.join(base))?;
        if table.contains_key("extends") {
            return Err(content(format!("{base} extends another file in turn; one level is allowed")));
        }
        files.push(table);
    }
    files.push(own);
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
    // The name becomes a part of that of the results folder.
    if declarative::as_file_name(size).is_err() || !etcbench_storage::is_file_or_stock(&path) {
        let known = declarative::names(&sizes);
        return Err(DeclarativeError::Content {
            origin: format!("--size {size}"),
            problem: format!("there is no {} (known: {})", path.display(), known.join(", ")),
        });
    }
    declarative::read_table(&path)
}
