//! `etcbench completions` and `etcbench man`: shell completions and manual pages, generated from the definition of the
//! command line.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, Verdict};
use crate::storage;

/// `etcbench completions`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench completions bash > ~/.local/share/bash-completion/completions/etcbench
  etcbench completions zsh > _etcbench        into a folder of $fpath
  etcbench completions fish > ~/.config/fish/completions/etcbench.fish")]
pub(super) struct CompletionsArguments {
    /// The shell.
    shell: Shell,
}

/// `etcbench man`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench man -o ~/.local/share/man/man1")]
pub(super) struct ManArguments {
    /// The folder to write `etcbench.1`, `etcbench-run.1` and so on into.
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
}

/// Prints the completions of a shell.
pub(super) fn completions(arguments: &CompletionsArguments) -> anyhow::Result<Verdict> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "etcbench", &mut script);
    say!("{}", String::from_utf8_lossy(&script).trim_end());
    Ok(Verdict::Done)
}

/// Writes the manual pages.
pub(super) fn man(arguments: &ManArguments) -> anyhow::Result<Verdict> {
    let mut command = Arguments::command();
    command.build();
    write_page(&command, "etcbench", arguments)?;
    say!("{}", arguments.output.display());
    Ok(Verdict::Done)
}

/// Writes the page of a command and those of the commands below it.
fn write_page(command: &Command, name: &str, arguments: &ManArguments) -> anyhow::Result<()> {
    let path = arguments.output.join(format!("{name}.1"));
    let mut page = Vec::new();
    // The page's name must match its file's name; clap requires names to live as long as the program.
    let named = command.clone().name(name.to_owned().leak() as &'static str);
    clap_mangen::Man::new(named).render(&mut page).with_context(|| path.display().to_string())?;
    storage::write_whole(&path, &page).with_context(|| path.display().to_string())?;
    let below = command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help");
    for below in below {
        write_page(below, &format!("{name}-{}", below.get_name()), arguments)?;
    }
    Ok(())
}
