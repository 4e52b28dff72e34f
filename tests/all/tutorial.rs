//! The tutorial works as written: writes its files and runs its commands. The files named in its recipe for a new model
//! are exactly those in which a model is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use etcbench::model::{Implementation, ModelKind};

/// Returns the fenced blocks of a page: the info string and the lines.
fn blocks(page: &str) -> Vec<(String, Vec<&str>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, Vec<&str>)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(kind), None) => open = Some((kind.to_owned(), Vec::new())),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn the_tutorial_works_word_by_word() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("paper/TUTORIAL.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let program = assert_cmd::cargo::cargo_bin("etcbench");
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let has_python = crate::common::external::has_python();
    let mut commands = 0;
    for (kind, lines) in blocks(&page) {
        match kind.as_str() {
            "toml" | "python" => {
                let file = folder.path().join(lines[0].trim_start_matches("# "));
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, lines.join("\n")).unwrap();
            }
            "sh" => {
                let needs_python = |line: &&str| line.contains("nearest-mean");
                for line in lines.into_iter().filter(|line| has_python || !needs_python(line)) {
                    let output = Command::new("sh")
                        .args(["-c", line])
                        .current_dir(folder.path())
                        .env("PATH", &path)
                        .env_remove("ETCBENCH_DATA")
                        .output()
                        .unwrap();
                    let told = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success(), "{line}: {told}");
                    commands += 1;
                }
            }
            _ => {}
        }
    }
    assert!(commands >= 10, "{commands} commands");
    let flows = fs::read_to_string(folder.path().join("vpn.csv")).unwrap();
    assert!(flows.lines().count() > 50 && flows.contains(",vpn,"), "{flows}");
    assert!(folder.path().join("results/tolerances/mine-mine-full.toml").is_file());
}

/// Returns the sources except tests, each without test modules and comments, by path in the project.
fn sources() -> Vec<(PathBuf, String)> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    below(&root.join("src"), &mut paths);
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        below(&entry.unwrap().path().join("src"), &mut paths);
    }
    let is_test =
        |path: &Path| path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "golden");
    let by_name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    let mut sources = Vec::new();
    for path in paths {
        let name = path.strip_prefix(root).unwrap().to_owned();
        if is_test(&name) || by_name(&name).ends_with("tests") || by_name(&name) == "golden" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("\n#[cfg(test)]").next().unwrap();
        let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        sources.push((name, code.join("\n")));
    }
    assert!(sources.len() > 200, "{} sources", sources.len());
    sources
}

/// Returns whether a name occurs in code as a whole word.
fn names(code: &str, name: &str) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code.as_bytes()[..at], &code.as_bytes()[at + name.len()..]);
        !is_word(before.last()) && !is_word(after.first())
    })
}

#[test]
fn the_recipe_for_a_model_names_the_files_in_which_a_model_is_named() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("paper/TUTORIAL.md")).unwrap();
    let recipe = page.split("\n## ").find(|section| section.contains("A model of your own in Rust")).unwrap();
    let recipe = recipe.replace("nearest_centroid", "majority");
    let told: BTreeSet<PathBuf> =
        recipe.split('`').filter(|part| part.starts_with("crates/")).map(PathBuf::from).collect();
    // A variable of that name counts what is most frequent.
    let others = ["crates/leaks/src/scores.rs", "crates/storage/src/hints.rs"].map(Path::new);
    let sources =
        sources().into_iter().filter(|(path, code)| !others.contains(&path.as_path()) && names(code, "majority"));
    let found: BTreeSet<PathBuf> = sources.map(|(path, _)| path).collect();
    assert_eq!(told, found);
}

#[test]
fn models_and_the_default_implementation_are_named_in_one_place() {
    let model = Path::new("crates/model/src");
    let table = model.join("lib.rs");
    let sources = sources();
    for kind in ModelKind::all().map(ModelKind::name) {
        // The deep model is in several folders.
        let own = if ModelKind::named(kind).unwrap().entry().deep { vec![kind, "deep", "elmo"] } else { vec![kind] };
        let is_own = |path: &Path| {
            own.iter().any(|own| path.starts_with(model.join(own)) || path == model.join(format!("{own}.rs")))
        };
        let place = |path: &Path| is_own(path) || path == table;
        let quoted = format!("\"{kind}");
        for (path, code) in sources.iter().filter(|(path, _)| !place(path)) {
            // Another model may use the modules of a model, but not its name as data.
            let outside = !path.starts_with(model);
            let says = names(code, &quoted) || outside && names(code, kind);
            let is_count = kind == "majority" && path == Path::new("crates/leaks/src/scores.rs");
            // What others call a model is a table of names, for messages.
            let is_hint = path == Path::new("crates/storage/src/hints.rs");
            assert!(!says || is_count || is_hint, "{} names the model {kind}", path.display());
        }
        assert!(sources.iter().any(|(path, code)| is_own(path) && code.contains(&format!("\"{kind}\""))), "{kind}");
    }
    let default = format!("\"{}\"", Implementation::default().name());
    let found: Vec<&PathBuf> =
        sources.iter().filter(|(_, code)| code.contains(&default)).map(|(path, _)| path).collect();
    assert_eq!(found, [&model.join("classifier.rs")]);
}
