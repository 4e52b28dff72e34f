//! The tutorial word by word: its files are written and its commands run as they stand there.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The fenced blocks of a page: what stands behind the fence, and the lines.
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
    let mut commands = 0;
    for (kind, lines) in blocks(&page) {
        match kind.as_str() {
            "toml" => {
                let file = folder.path().join(lines[0].trim_start_matches("# "));
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, lines.join("\n")).unwrap();
            }
            "sh" => {
                for line in lines {
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
