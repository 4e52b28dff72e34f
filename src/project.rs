//! Finds the project and its experiments. A project is a folder with `experiments`, `data` and `results`; experiments
//! and definitions that come with the program need not be in the folder, because they are embedded in the program.

use std::path::{Path, PathBuf};

use crate::declarative;
use crate::model::external;
use crate::storage::{self, StockFile};

/// The experiments, dataset definitions and published tables embedded in the program.
static STOCK: &[StockFile] = include!(concat!(env!("OUT_DIR"), "/stock.rs"));

/// Opens the project in `folder` or, if none is given, the enclosing project: the nearest folder, from the current one
/// upwards, that has `data` and experiment files in `experiments`, or the current folder if there is none.
pub fn open(folder: Option<PathBuf>) -> PathBuf {
    let project = folder.unwrap_or_else(find);
    storage::bring_stock(&project, STOCK);
    external::set_project(&project);
    project
}

fn find() -> PathBuf {
    let here = PathBuf::from(".");
    let Ok(current) = std::env::current_dir() else { return here };
    // Many folders have this name; that of a project contains TOML files.
    let has_experiments = |folder: &Path| {
        let mut entries = std::fs::read_dir(folder.join("experiments")).into_iter().flatten().flatten();
        entries.any(|entry| entry.path().extension().is_some_and(|ending| ending == "toml"))
    };
    let is_project = |folder: &Path| folder.join("data").is_dir() && has_experiments(folder);
    let above = current.ancestors().position(is_project);
    // Use a relative path, because messages show it.
    match above {
        None | Some(0) => here,
        Some(steps) => std::iter::repeat_n("..", steps).collect(),
    }
}

/// Returns the file of an experiment, given by name (`table2`) or as a file, relative to the project or to the current
/// folder.
///
/// # Errors
/// There is no such experiment; the message suggests the nearest name.
pub fn experiment_file(project: &Path, given: &Path) -> anyhow::Result<PathBuf> {
    let named = |mut path: PathBuf| {
        if path.extension().is_none_or(|ending| ending != "toml") {
            path.as_mut_os_string().push(".toml");
        }
        path
    };
    let file = named(given.to_owned());
    let places = [project.join("experiments").join(&file), file.clone(), project.join(&file), given.to_owned()];
    // A path with the extension refers to that file, even if an experiment has the same name.
    let mut places: Vec<PathBuf> = places.into();
    if file == given {
        places.swap(0, 1);
    }
    if let Some(place) = places.into_iter().find(|place| storage::is_file_or_stock(place)) {
        return Ok(place);
    }
    let known = experiment_names(project);
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let nearest = declarative::did_you_mean(&name, known.iter().map(String::as_str));
    anyhow::bail!("{}: no such experiment{nearest} (see `etcbench list experiments`)", given.display())
}

/// Returns the names of all readable experiments of a project.
pub fn experiment_names(project: &Path) -> Vec<String> {
    experiment_titles(project).into_iter().filter(|(_, title)| title.is_ok()).map(|(name, _)| name).collect()
}

/// Returns the names and titles of all experiments, or the error for a file that cannot be read. A file without a title
/// is a base that others extend.
pub fn experiment_titles(project: &Path) -> Vec<(String, Result<String, String>)> {
    let folder = project.join("experiments");
    let mut titles = Vec::new();
    let mut extended = Vec::new();
    for name in declarative::names(&folder) {
        let file = format!("{name}.toml");
        match declarative::read_table(&folder.join(&file)) {
            Ok(table) => {
                let extends = table.get("extends");
                let listed = extends.and_then(toml::Value::as_array).into_iter().flatten();
                extended.extend(listed.chain(extends).filter_map(toml::Value::as_str).map(str::to_owned));
                let title = table.get("title").and_then(toml::Value::as_str).map(str::to_owned);
                // An experiment without a title is listed under its name, unless others extend it.
                let untitled = title.is_none();
                let title = title.or_else(|| table.contains_key("dataset").then(|| name.clone()));
                titles.extend(title.map(|title| (name, Ok(title), untitled.then_some(file))));
            }
            Err(error) => titles.push((name, Err(error.to_string()), None)),
        }
    }
    let is_base = |file: &Option<String>| file.as_ref().is_some_and(|file| extended.contains(file));
    titles.into_iter().filter(|(.., file)| !is_base(file)).map(|(name, title, _)| (name, title)).collect()
}
