//! Builds a model's program from its sources with the manifest's `build`, run in the model's folder with the user's own
//! permissions, once per content. A hidden file in the folder records the content it was built from.

use std::process::{Command, Stdio};

use super::failure::{Failure, FailureKind};
use super::package::Package;
use etcbench_storage::progress::Progress;
use etcbench_storage::{Turn, claim, write_whole};

/// Records the content that was built.
const BUILT: &str = ".etcbench-built";

/// Builds the program, unless it was already built for this content.
pub(super) fn build(package: &Package, progress: &dyn Progress) -> Result<(), Failure> {
    let Some((program, arguments)) = package.manifest.build.split_first() else { return Ok(()) };
    let stamp = package.folder.join(BUILT);
    let is_built = || (std::fs::read_to_string(&stamp).ok()?.trim() == package.digest).then_some(());
    let lock = package.folder.join(".etcbench-building");
    let _claim =
        match claim(&lock, is_built, |whom| progress.warn(&format!("waiting for {whom}, which is building it"))) {
            Turn::Ready(()) => return Ok(()),
            Turn::Ours(claim) => claim,
        };
    progress.note(&format!("building {}", package.name));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(&package.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let failure = |problem: String, text: &str| {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let standard_error = lines[lines.len().saturating_sub(20)..].to_vec();
        Failure { model: package.name.clone(), kind: FailureKind::NotStarted, problem, standard_error }
    };
    let output = output.map_err(|error| failure(format!("build: {program}: {error}"), ""))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(failure(
            format!("build: {} ended with {}", package.manifest.build.join(" "), output.status),
            &text,
        ));
    }
    write_whole(&stamp, package.digest.as_bytes()).map_err(|error| failure(format!("{}: {error}", stamp.display()), ""))
}
