//! The command line of this process as stored with a run: what was typed, without locations on this machine.

use std::ffi::OsString;
use std::path::{Component, Path};
use std::sync::OnceLock;

use crate::experiment::{Invocation, Overrides};

static ARGUMENTS: OnceLock<Vec<String>> = OnceLock::new();

/// Stores the arguments of this process, including the program's name.
pub(super) fn note(arguments: &[OsString]) {
    let arguments = arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
    let _ = ARGUMENTS.set(arguments.collect());
}

/// Returns the record of a run that this command line requested and that begins now.
pub(super) fn begin(project: &Path, overrides: &Overrides) -> Invocation {
    let command = ARGUMENTS.get().map(|arguments| command_line(arguments, project));
    Invocation::now(command, overrides)
}

/// Formats the command line: the program by its name alone, absolute paths relative to the project, and other absolute
/// paths by their last component. The project's own folder is omitted, because the run is stored in it.
fn command_line(arguments: &[String], project: &Path) -> String {
    let project = std::path::absolute(project).map(|path| normal(&path)).unwrap_or_default();
    let mut words = vec!["etcbench".to_owned()];
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        if argument == "--project" {
            rest.next();
        } else if !argument.starts_with("--project=") {
            words.push(quoted(&without_place(argument, &project)));
        }
    }
    words.join(" ")
}

/// Removes `.` and `..` from a path, which need not exist.
fn normal(path: &Path) -> std::path::PathBuf {
    let mut normal = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = normal.pop(),
            part => normal.push(part),
        }
    }
    normal
}

fn without_place(argument: &str, project: &Path) -> String {
    // Also handles `--option=/path` and `key=/path`.
    let (before, path) = match argument.split_once('=') {
        Some((before, path)) if path.starts_with(['/', '"']) => (format!("{before}="), path.trim_matches('"')),
        _ => (String::new(), argument),
    };
    if !path.starts_with('/') {
        return argument.to_owned();
    }
    let path = normal(Path::new(path));
    match (path.strip_prefix(project), path.file_name()) {
        (Ok(below), _) if below.as_os_str().is_empty() => format!("{before}."),
        (Ok(below), _) => format!("{before}{}", below.display()),
        (Err(_), Some(name)) => format!("{before}…/{}", Path::new(name).display()),
        (Err(_), None) => format!("{before}…"),
    }
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "_-.,:/=+@%…".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        command_line(&words, Path::new("/home/me/./bench"))
    }

    #[test]
    fn a_command_line_is_shown_as_typed_without_folders() {
        assert_eq!(line(&["/usr/bin/etcbench", "run", "table2", "--set", "a=8"]), "etcbench run table2 --set a=8");
        assert_eq!(
            line(&["e", "--project", "/home/me/bench", "run", "/home/me/bench/x/y.toml", "/data/secret/z.toml"]),
            "etcbench run x/y.toml …/z.toml"
        );
        assert_eq!(line(&["e", "--project=/p", "run", "--set", "model.m.path=\"/srv/models/m\""]), {
            "etcbench run --set model.m.path=…/m"
        });
        assert_eq!(line(&["e", "run", "a b", "it's", ""]), "etcbench run 'a b' 'it'\\''s' ''");
        assert_eq!(line(&["e", "run", "../other/x.toml", "/home/me/bench"]), "etcbench run ../other/x.toml .");
    }
}
