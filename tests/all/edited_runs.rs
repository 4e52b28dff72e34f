//! Every command that reads a stored run detects changes made afterwards, by hand or by accident, and one broken run
//! does not keep the others from the report.

use std::fs;

use sha2::{Digest, Sha256};

use crate::common::{Project, every_stage, small_experiment};

const RUN: &str = "results/small-small-full";

fn project() -> Project {
    let project = every_stage::project();
    project.write("experiments/small.toml", small_experiment("small", "kind", &["knn", "majority"], [2, 24]));
    project.done(&["run", "experiments/small.toml"]);
    project.done(&["check", "small", "--update", "--write"]);
    project
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the exit code and all output.
fn outcome(project: &Project, arguments: &[&str]) -> (Option<i32>, String) {
    let output = project.etcbench(arguments);
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// Changes the last digit in a file.
fn change_a_digit(project: &Project, name: &str) {
    let mut bytes = fs::read(project.path(name)).unwrap();
    let place = bytes.iter().rposition(u8::is_ascii_digit).unwrap_or_else(|| panic!("{name} has no digit"));
    bytes[place] = if bytes[place] == b'1' { b'2' } else { b'1' };
    fs::write(project.path(name), bytes).unwrap();
}

/// Updates a file's entry in the list of checksums.
fn hide(project: &Project, name: &str) {
    let list = project.path(&format!("{RUN}/SHA256SUMS"));
    let sum = hex::encode(Sha256::digest(fs::read(project.path(&format!("{RUN}/{name}"))).unwrap()));
    let lines = fs::read_to_string(&list).unwrap();
    let line = |line: &str| match line.ends_with(&format!("  {name}")) {
        true => format!("{sum}  {name}\n"),
        false => format!("{line}\n"),
    };
    fs::write(&list, lines.lines().map(line).collect::<String>()).unwrap();
}

#[test]
fn a_changed_file_of_a_run_is_named() {
    let project = project();
    for command in [&["check", "small"][..], &["compare", "small-small-full", "small-small-full"], &["report"]] {
        assert_eq!(outcome(&project, command).0, Some(0), "{}", outcome(&project, command).1);
    }
    let predictions = "predictions/variant-knn-bytes-seed0.csv";
    let names: Vec<String> = every_stage::files(&project.path(RUN))
        .iter()
        .map(|path| path.strip_prefix(project.path(RUN)).unwrap().display().to_string())
        .filter(|name| !name.starts_with("tables/") && name != "SHA256SUMS")
        .collect();
    for wanted in ["records.jsonl", "records.csv", "run.json", "leaks.json", "comparisons.csv", "experiment.toml"] {
        assert!(names.iter().any(|name| name == wanted), "{wanted} is not in {names:?}");
    }
    assert!(names.iter().any(|name| name.starts_with("predictions/")), "{predictions} {names:?}");
    for name in &names {
        let path = format!("{RUN}/{name}");
        let before = fs::read(project.path(&path)).unwrap();
        if !before.iter().any(u8::is_ascii_digit) {
            continue;
        }
        change_a_digit(&project, &path);
        let problem = format!("{name}: was changed since the run wrote it");
        for command in [&["check", "small"][..], &["compare", "small-small-full", "small-small-full"]] {
            let (code, printed) = outcome(&project, command);
            // Some files can no longer be read at all, which also reveals the change.
            assert!(code == Some(1) && printed.contains(&problem) || code == Some(2), "{name}: {code:?} {printed}");
        }
        fs::write(project.path(&path), before).unwrap();
    }
    fs::remove_file(project.path(&format!("{RUN}/comparisons.csv"))).unwrap();
    let (code, printed) = outcome(&project, &["check", "small"]);
    assert!(code == Some(1) && printed.contains("comparisons.csv: was removed since the run wrote it"), "{printed}");
}

#[test]
fn records_are_compared_with_the_predictions_that_they_measure() {
    let project = project();
    let records = fs::read_to_string(project.path(&format!("{RUN}/records.jsonl"))).unwrap();
    let line = records.lines().find(|line| line.contains("\"metric\":\"accuracy\"")).unwrap();
    let (start, _) = line.rsplit_once("\"value\":").unwrap();
    let edited = records.replace(line, &format!("{start}\"value\":0.123}}"));
    assert_ne!(records, edited);
    fs::write(project.path(&format!("{RUN}/records.jsonl")), edited).unwrap();
    hide(&project, "records.jsonl");
    for command in [&["check", "small"][..], &["compare", "small-small-full", "small-small-full"], &["report"]] {
        let (code, printed) = outcome(&project, command);
        assert!(code == Some(1) && printed.contains("the predictions yield accuracy "), "{command:?}: {printed}");
        assert!(printed.contains(", the record has 0.123"), "{command:?}: {printed}");
    }
    let page = fs::read_to_string(project.path("results/report.html")).unwrap();
    assert!(page.contains("This run was changed after it was written"), "the page does not say so");
    let (code, printed) = outcome(&project, &["tables", "small"]);
    assert!(code == Some(0) && printed.contains("warning: ") && printed.contains("the record has 0.123"), "{printed}");
}

#[test]
fn a_truncated_file_of_tolerances_does_not_pass() {
    let project = project();
    let path = project.path("results/tolerances/small-small-full.toml");
    let whole = fs::read_to_string(&path).unwrap();
    let (header, entries) = whole.split_once("[[tolerance]]").unwrap();
    fs::write(&path, header).unwrap();
    project.refused(&["check", "small"], &["small on small at size full are empty", "was it truncated?"]);
    // With one of several entries, the check passes and reports the rows without expectations.
    let first = entries.split("[[tolerance]]").next().unwrap();
    fs::write(&path, format!("{header}[[tolerance]]{first}")).unwrap();
    let (code, printed) = outcome(&project, &["check", "small"]);
    assert!(code == Some(0) && printed.contains("no expectations for "), "{printed}");
    assert!(project.etcbench(&["check", "small", "--update", "--write"]).status.success());
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
}

#[test]
fn one_broken_run_does_not_keep_others_out_of_the_report() {
    let project = project();
    project.write("results/broken/records.jsonl", "{\"not\": \"a record\"}\n");
    project.write("results/broken/run.json", "{}");
    let (code, printed) = outcome(&project, &["report"]);
    assert!(
        code == Some(1) && printed.contains("results/broken: left out: ") && printed.contains(": 1 run;"),
        "{printed}"
    );
    assert!(fs::read_to_string(project.path("results/report.html")).unwrap().contains("small-small-full"));
    project.refused(&["report", "broken"], &["results/broken"]);
}
