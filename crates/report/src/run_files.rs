//! The files that a run wrote to its results folder, with their checksums: `SHA256SUMS`, which `sha256sum --check` can
//! read. Any other file in the folder, and any file of the run that was edited since, belongs to the user.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::compare::same_results;
use super::{ReportError, file_error, read_records};
use etcbench_dataset::file_sha256;
use etcbench_storage as storage;
use etcbench_storage::Succession;

/// The name of the list in the folder; it does not list itself.
pub const CHECKSUMS: &str = "SHA256SUMS";

/// Files of runs of versions without a list: the folder (`""` for the run's own) and the endings of file names.
const BEFORE_LISTS: [(&str, &[&str]); 6] = [
    (
        "",
        &[
            "experiment.toml",
            "run.json",
            "leaks.json",
            "leaks.csv",
            "comparisons.csv",
            "records.jsonl",
            "records.csv",
            "units.json",
            "flows_without_label.csv",
        ],
    ),
    ("manifests", &[".json"]),
    ("predictions", &[".csv"]),
    ("splits", &[".csv"]),
    ("models", &[".safetensors"]),
    ("tables", &[".csv", ".md", ".tex", ".svg"]),
];

/// The files that a run wrote: path in its folder, with `/` as separator, to checksum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFiles(BTreeMap<String, String>);

impl RunFiles {
    /// Lists every file in a folder that so far only the run has written to.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn of(folder: &Path) -> Result<Self, ReportError> {
        let mut names = Vec::new();
        collect(folder, "", &mut names)?;
        names.retain(|name| name != CHECKSUMS);
        hashed(folder, names)
    }

    /// Reads the list in a run's folder; returns `None` if it does not exist or is invalid.
    pub fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(folder.join(CHECKSUMS)).ok()?;
        text.lines().map(parse).collect::<Option<_>>().map(Self)
    }

    /// Returns the differences from the list in a run's folder, one sentence each: files that were changed or removed,
    /// except tables, which are generated from records. Empty if there is no list, as in runs of older versions.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn changed(folder: &Path) -> Result<Vec<String>, ReportError> {
        if folder.join(CHECKSUMS).symlink_metadata().is_err() {
            return Ok(Vec::new());
        }
        let Some(files) = Self::read(folder) else {
            return Ok(vec![format!("{CHECKSUMS}: is not a valid list of checksums")]);
        };
        let mut problems = Vec::new();
        for (name, sum) in files.0.iter().filter(|(name, _)| !name.starts_with("tables/")) {
            let path = folder.join(name);
            if path.symlink_metadata().is_err() {
                problems.push(format!("{name}: was removed since the run wrote it"));
            } else if checksum(&path)? != *sum {
                problems.push(format!("{name}: was changed since the run wrote it"));
            }
        }
        Ok(problems)
    }

    /// Writes the list to a run's folder.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), ReportError> {
        let lines: String = self.0.iter().map(|(name, checksum)| line(name, checksum)).collect();
        let path = folder.join(CHECKSUMS);
        storage::write_whole(&path, lines.as_bytes()).map_err(|problem| file_error(&path, problem))
    }

    /// Adds files to the list in a run's folder, if it has one.
    ///
    /// # Errors
    /// A file cannot be read, or the list cannot be written.
    pub fn add(folder: &Path, paths: &[PathBuf]) -> Result<(), ReportError> {
        let Some(mut files) = Self::read(folder) else { return Ok(()) };
        for path in paths {
            if let Ok(below) = path.strip_prefix(folder) {
                let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
                files.0.insert(parts.join("/"), checksum(path)?);
            }
        }
        files.write(folder)
    }

    /// Lists the files of a run of a version without a list, identified by their names.
    fn before_lists(folder: &Path) -> Result<Self, ReportError> {
        let mut names = Vec::new();
        collect(folder, "", &mut names)?;
        names.retain(|path| {
            let (below, name) = path.rsplit_once('/').unwrap_or(("", path));
            let known = BEFORE_LISTS.iter().find(|(folder, _)| *folder == below);
            known.is_some_and(|(_, ends)| {
                ends.iter().any(|end| if below.is_empty() { name == *end } else { name.ends_with(end) })
            })
        });
        hashed(folder, names)
    }

    /// Returns whether one of the files was edited since the run wrote it. A removed file does not count, since it
    /// cannot be lost.
    fn edited(&self, folder: &Path) -> bool {
        let differs = |(name, sum): (&String, &String)| {
            let path = folder.join(name);
            path.symlink_metadata().is_ok() && checksum(&path).ok().as_ref() != Some(sum)
        };
        self.0.iter().any(differs)
    }

    /// Returns the files that are reproducible: the same whenever and wherever the experiment is run.
    fn results(&self) -> BTreeMap<&str, &str> {
        let of_results = |name: &&str| {
            let below = |folder: &str| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
            !["run.json", "units.json", "records.jsonl", "records.csv"].contains(name)
                && !["tables", MODELS, FLOWS].into_iter().any(below)
        };
        let files = self.0.iter().map(|(name, checksum)| (name.as_str(), checksum.as_str()));
        files.filter(|(name, _)| of_results(name)).collect()
    }
}

/// The folder of flows with their classes, which runs of earlier versions did not write. If they differ, so do splits
/// and predictions.
const FLOWS: &str = "flows";
/// The folder of trained models, which only some runs write.
const MODELS: &str = "models";

/// Decides what happens to the folder `old` of a run when the run in `new`, which already has a list, replaces it. A
/// run with other results or with edited files is kept, unless `overwrite` is set; trained models are carried over if
/// the results are the same.
///
/// # Errors
/// A file cannot be read or written.
pub fn succession(old: &Path, new: &Path, overwrite: bool) -> Result<Succession, ReportError> {
    let mut after = RunFiles::read(new).unwrap_or_default();
    let listed = RunFiles::read(old);
    let is_listed = listed.is_some();
    let before = match listed {
        Some(listed) => listed,
        None if old.join("run.json").is_file() => RunFiles::before_lists(old)?,
        None => return Ok(Succession { superseded: BTreeSet::new(), keep: false }),
    };
    let records = |folder: &Path| read_records(&folder.join("records.jsonl"));
    let same = before.results() == after.results()
        && matches!((records(old), records(new)), (Ok(old), Ok(new)) if same_results(&old, &new));
    let keep = !overwrite && (!same || before.edited(old));
    let mut superseded: BTreeSet<PathBuf> = before.0.keys().map(PathBuf::from).collect();
    if is_listed {
        superseded.insert(CHECKSUMS.into());
    } else if !keep {
        // Without a list, a file that the new run does not write may belong to the user.
        superseded.retain(|path| path.to_str().is_some_and(|path| after.0.contains_key(path)));
    }
    if same && !keep {
        let models = before.0.into_iter().filter(|(name, _)| name.starts_with(MODELS) && !after.0.contains_key(name));
        let models: Vec<(String, String)> = models.filter(|(name, _)| old.join(name).is_file()).collect();
        if !models.is_empty() {
            models.iter().for_each(|(name, _)| _ = superseded.remove(Path::new(name)));
            after.0.extend(models);
            after.write(new)?;
        }
    }
    Ok(Succession { superseded, keep })
}

fn collect(folder: &Path, below: &str, names: &mut Vec<String>) -> Result<(), ReportError> {
    let problem = |problem: std::io::Error| file_error(folder, problem);
    for entry in std::fs::read_dir(folder).map_err(problem)? {
        let entry = entry.map_err(problem)?;
        // Runs write no names that are not UTF-8.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{below}{name}");
        let kind = entry.file_type().map_err(problem)?;
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), names)?;
        } else if kind.is_file() {
            names.push(path);
        }
    }
    Ok(())
}

fn hashed(folder: &Path, names: Vec<String>) -> Result<RunFiles, ReportError> {
    let files = names.into_iter().map(|name| checksum(&folder.join(&name)).map(|checksum| (name, checksum)));
    files.collect::<Result<_, _>>().map(RunFiles)
}

fn checksum(path: &Path) -> Result<String, ReportError> {
    file_sha256(path).map_err(|problem| file_error(path, problem))
}

/// Formats a line like coreutils: a leading backslash means that the name contains escapes.
fn line(name: &str, checksum: &str) -> String {
    let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == name { "" } else { "\\" };
    format!("{mark}{checksum}  {escaped}\n")
}

fn parse(line: &str) -> Option<(String, String)> {
    let (marked, line) = line.strip_prefix('\\').map_or((false, line), |line| (true, line));
    let (checksum, name) = line.split_once("  ")?;
    let is_checksum = checksum.len() == 64 && checksum.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut plain = String::new();
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' if marked => match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            letter => letter,
        });
    }
    // Runs write no paths outside of their folder.
    let is_below = plain.split('/').all(|part| !["", ".", ".."].contains(&part));
    (is_checksum && is_below).then(|| (plain, checksum.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tables")).unwrap();
        for name in ["records.csv", "tables/a = 1, b.csv", "tables/line\nback\\slash"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let files = RunFiles::of(folder.path()).unwrap();
        assert_eq!(files.0.len(), 3);
        files.write(folder.path()).unwrap();
        assert_eq!(RunFiles::read(folder.path()), Some(files.clone()));
        assert_eq!(RunFiles::of(folder.path()).unwrap(), files);
        assert!(!files.edited(folder.path()));
        std::fs::remove_file(folder.path().join("records.csv")).unwrap();
        assert!(!files.edited(folder.path()));
        std::fs::write(folder.path().join("records.csv"), "edited").unwrap();
        assert!(files.edited(folder.path()));
    }

    #[cfg(unix)]
    #[test]
    fn sha256sum_reads_the_list() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["records.csv", "line\nback\\slash"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        RunFiles::of(folder.path()).unwrap().write(folder.path()).unwrap();
        let mut check = std::process::Command::new("sha256sum");
        let Ok(output) = check.args(["--check", "--strict", CHECKSUMS]).current_dir(folder.path()).output() else {
            return;
        };
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn lines_of_another_form_are_no_list() {
        let checksum = "a".repeat(64);
        assert!(parse(&format!("{checksum}  a/b")).is_some());
        for line in
            ["", "a  b", &checksum, &format!("{checksum} a"), &format!("{checksum}  ../a"), &format!("{checksum}  /a")]
        {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
