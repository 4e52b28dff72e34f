//! Where the project is, and which of its experiments somebody means. A project is a folder with `experiments`, `data` and
//! `results`; what a folder lacks of the experiments and definitions that come with this program, the program has itself.

use std::path::{Path, PathBuf};

use crate::declarative;
use crate::model::external;
use crate::storage::{self, StockFile};

/// The experiments, definitions of datasets and published tables that are a part of the program.
static STOCK: &[StockFile] = include!(concat!(env!("OUT_DIR"), "/stock.rs"));

/// The project in `folder`, or the one that this process stands in when none is given: the nearest folder, from the current
/// one upwards, that has `data` and experiment files in `experiments`; the current one where none has.
pub fn open(folder: Option<PathBuf>) -> PathBuf {
    let project = folder.unwrap_or_else(find);
    storage::bring_stock(&project, STOCK);
    external::set_project(&project);
    project
}

fn find() -> PathBuf {
    let here = PathBuf::from(".");
    let Ok(current) = std::env::current_dir() else { return here };
    // Many folders are called so; those of a project hold such files.
    let has_experiments = |folder: &Path| {
        let mut entries = std::fs::read_dir(folder.join("experiments")).into_iter().flatten().flatten();
        entries.any(|entry| entry.path().extension().is_some_and(|ending| ending == "toml"))
    };
    let is_project = |folder: &Path| folder.join("data").is_dir() && has_experiments(folder);
    let above = current.ancestors().position(is_project);
    // A relative path, as it is shown in every message.
    match above {
        None | Some(0) => here,
        Some(steps) => std::iter::repeat_n("..", steps).collect(),
    }
}

/// The file of an experiment, by its name (`table2`) or by the file, in the project or from where the process stands.
///
/// # Errors
/// There is no such experiment; names the nearest.
pub fn experiment_file(project: &Path, given: &Path) -> anyhow::Result<PathBuf> {
    let named = |mut path: PathBuf| {
        if path.extension().is_none_or(|ending| ending != "toml") {
            path.as_mut_os_string().push(".toml");
        }
        path
    };
    let file = named(given.to_owned());
    let places = [project.join("experiments").join(&file), file.clone(), project.join(&file), given.to_owned()];
    // A file that is named as one is that file, also where an experiment has its name.
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
    anyhow::bail!("{}: there is no such experiment{nearest} (`etcbench list experiments` names them)", given.display())
}

/// The names of all experiments of a project that can be read.
pub fn experiment_names(project: &Path) -> Vec<String> {
    experiment_titles(project).into_iter().filter(|(_, title)| title.is_ok()).map(|(name, _)| name).collect()
}

/// Names and titles of all experiments, or why a file cannot be read. A file without a title is a base that others extend.
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
                // One without a title is run under its name, unless it is what others extend.
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
