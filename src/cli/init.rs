//! `etcbench init`: creates a project folder.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Verdict, with_models};
use crate::storage;

/// `etcbench init`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench init
  etcbench init study

Existing files are not changed. What comes with the program (`etcbench list`) need not be in the folder; a file of
the same name there replaces it.")]
pub(super) struct InitArguments {
    /// The project folder, created if it does not exist; the current folder by default.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// The files of a new project: paths and contents.
const FILES: [(&str, &str); 4] = [
    (
        "experiments/first.toml",
        r#"# An experiment of your own. `extends` lists files next to this one or from etcbench itself; later keys win.
# `etcbench run first --size demo` runs it on generated captures; `etcbench data init NAME --folder FOLDER` creates a
# dataset of your own to list below.
extends = ["paper.toml", "variants.toml"]
title = "My first experiment"
models = ["{MODEL}", "{OTHER}"]
seeds = [0]

[dataset]
names = ["synth"]

[selection]
label = "category"    # a label column of the dataset
"#,
    ),
    (
        "data/README.md",
        "Definitions of datasets (`NAME.toml`), and their captures in folders `NAME/`.\n`etcbench data list` lists \
         them, `etcbench data init NAME --folder FOLDER` adds a folder of captures.\n",
    ),
    (
        "models/README.md",
        "Models in other languages: a folder each, with a `model.toml` and a program.\n\
         `etcbench model check NAME` checks one.\n",
    ),
    (".gitignore", "/data/*/\n/results/*\n!/results/tolerances\n"),
];

/// Creates the project folder.
pub(super) fn init(arguments: &InitArguments) -> anyhow::Result<Verdict> {
    let folder = &arguments.folder;
    for (path, text) in FILES {
        let file = folder.join(path);
        if file.symlink_metadata().is_ok() {
            tell!("{}: already exists, not changed", file.display());
            continue;
        }
        storage::write_whole(&file, with_models(text).as_bytes()).with_context(|| file.display().to_string())?;
        say!("{}", file.display());
    }
    say!("");
    let change_folder = if folder == Path::new(".") { String::new() } else { format!("cd {} && ", folder.display()) };
    say!("Next: {change_folder}etcbench run first --size demo");
    Ok(Verdict::Done)
}
