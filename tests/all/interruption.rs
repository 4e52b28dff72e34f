//! A run that is killed, stopped, out of memory, or concurrent with others in the same folder produces the results of
//! an undisturbed one. `scripts/kill-check` runs the first test at length.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::Project;
use crate::common::every_stage::{self, command, leftovers, results, same, stage};
use rand::{RngExt, SeedableRng};

/// Two variants of six models, one of them with two inputs.
const FITS: usize = 14;

fn start(folder: &Path) -> Child {
    command(folder).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Waits for the end of a run; returns its exit code (`None` after a signal) and its output.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns the number of repetitions, from the environment; `few` in an ordinary test.
fn times(variable: &str, few: usize) -> usize {
    std::env::var(variable).map_or(few, |text| text.parse().expect("a number"))
}

#[test]
fn a_run_killed_at_any_moment_goes_on_and_ends_the_same() {
    let kills = times("ETCBENCH_KILLS", 6);
    let (undisturbed, disturbed) = (every_stage::project(), every_stage::project());
    let started = Instant::now();
    undisturbed.done(&every_stage::RUN);
    let mut whole = started.elapsed();
    let expected = results(&undisturbed.path(""));
    let folder = disturbed.path("");
    let mut generator = rand_chacha::ChaCha8Rng::seed_from_u64(times("ETCBENCH_KILL_SEED", 0) as u64);
    let (mut killed, mut finished, mut by_signal) = (0, 0, [0; 3]);
    while killed < kills {
        let before = leftovers(&folder);
        let mut child = start(&folder);
        let moment = whole.mul_f64(generator.random::<f64>());
        let began = Instant::now();
        let mut status = None;
        while status.is_none() && began.elapsed() < moment {
            std::thread::sleep(Duration::from_millis(1));
            status = child.try_wait().unwrap();
        }
        if status.is_none() {
            let which = [0, 0, 1, 2][generator.random_range(0..4)];
            signal(&child, ["-KILL", "-TERM", "-INT"][which]);
            let (code, printed) = end(child);
            // It may have ended in the meantime.
            if code != Some(0) {
                killed += 1;
                by_signal[which] += 1;
                // At first it does not handle signals yet, and has printed nothing.
                if which > 0 && code.is_some() {
                    assert_eq!(code, [None, Some(143), Some(130)][which], "{printed}");
                    let line = printed.lines().last().unwrap_or_default();
                    assert!(line.starts_with("etcbench: stopped by SIG"), "{printed}");
                    let after = leftovers(&folder);
                    assert!(after.iter().all(|path| before.contains(path)), "{after:?}");
                } else {
                    assert!(code.is_none() && (which == 0 || printed.is_empty()), "{code:?} {printed}");
                }
                continue;
            }
        } else {
            let (code, printed) = end(child);
            assert_eq!(code, Some(0), "{printed}");
        }
        // Finished: compare, and start again.
        same(&expected, &folder, &format!("after {killed} kills"));
        finished += 1;
        std::fs::remove_dir_all(folder.join("results/cache")).unwrap();
        std::fs::remove_dir_all(folder.join("results/small-small-full")).unwrap();
        whole = whole.min(began.elapsed().max(whole / 2));
    }
    let (code, printed) = end(start(&folder));
    assert_eq!(code, Some(0), "{printed}");
    same(&expected, &folder, "at the end");
    println!(
        "{killed} kills (SIGKILL {}, SIGTERM {}, SIGINT {}), {} runs finished, all the same",
        by_signal[0],
        by_signal[1],
        by_signal[2],
        finished + 1
    );
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let project = every_stage::project();
    let mut child = Command::new("sh")
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_etcbench")])
        .args(every_stage::RUN)
        .current_dir(project.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The shell ignores the signal only after its trap; before that it would die.
    let name = format!("/proc/{}/comm", child.id());
    while child.try_wait().unwrap().is_none() && std::fs::read_to_string(&name).is_ok_and(|name| name != "etcbench\n") {
        std::thread::sleep(Duration::from_millis(1));
    }
    while child.try_wait().unwrap().is_none() {
        Command::new("kill").args(["-HUP", &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(end(child).0, Some(0));
}

#[test]
fn runs_in_one_folder_share_the_work_and_agree() {
    let (alone, together) = (every_stage::project(), every_stage::project());
    alone.done(&every_stage::RUN);
    let expected = results(&alone.path(""));
    let folder = together.path("");
    let runs: Vec<Child> = (0..3).map(|_| start(&folder)).collect();
    // Readers see no table, or a complete one.
    let mut seen = 0;
    let mut running = runs;
    let mut outputs = Vec::new();
    while !running.is_empty() {
        if folder.join("results/small-small-full").exists() {
            let output = together.done(&["tables", "small"]);
            assert!(String::from_utf8_lossy(&output.stdout).contains("attention_lstm"));
            seen += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
        for mut run in std::mem::take(&mut running) {
            match run.try_wait().unwrap() {
                None => running.push(run),
                Some(status) => {
                    let text = end(run).1;
                    assert!(status.success(), "{text}");
                    outputs.push(text);
                }
            }
        }
    }
    assert!(seen > 0);
    same(&expected, &folder, "three runs together");
    // "small: 14 fits, 5 of them from the cache": every fit was computed once.
    let counts = outputs.iter().map(|text| {
        let line = text.lines().find(|line| line.starts_with("small: ") && line.contains(" fits, ")).unwrap();
        let numbers = line.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok());
        let numbers: Vec<usize> = numbers.take(2).collect();
        (numbers[0], numbers[0] - numbers[1])
    });
    let (all, computed): (Vec<usize>, Vec<usize>) = counts.unzip();
    assert_eq!(all, [FITS; 3]);
    assert_eq!(computed.iter().sum::<usize>(), FITS, "{computed:?}");
}

#[test]
fn a_claim_of_a_killed_run_keeps_nobody_waiting() {
    let project = every_stage::project();
    let folder = project.path("");
    let claims = folder.join("results/cache/claims");
    let mut child = start(&folder);
    while !std::fs::read_dir(&claims).is_ok_and(|mut claims| claims.next().is_some()) {
        assert!(child.try_wait().unwrap().is_none(), "no claim was seen");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&child, "-KILL");
    // Not waited for yet, so it is a zombie.
    let (code, printed) = end(start(&folder));
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(leftovers(&folder), Vec::<std::path::PathBuf>::new());
    child.wait().unwrap();
    let (computed, reused) = stage(&folder, "fits");
    assert_eq!(computed + reused, FITS as u64);
}

#[test]
fn nothing_of_another_version_is_taken_not_even_a_checkpoint() {
    let (undisturbed, project) = (every_stage::project(), every_stage::project());
    undisturbed.done(&every_stage::RUN);
    let results = |project: &Project| every_stage::results_in(&project.path(""), &["results/small-small-full"]);
    let stages = |project: &Project| {
        let text = std::fs::read(project.path("results/small-small-full/run.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["stages"].clone()
    };
    // Killed when both trainings of the deep model have written a checkpoint.
    let folder = project.path("");
    let cached = || -> BTreeMap<PathBuf, Vec<u8>> {
        let files = every_stage::files(&folder.join("results/cache")).into_iter();
        let entries = files.filter(|path| !path.parent().unwrap().ends_with("claims"));
        let entries = entries.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'));
        entries.filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?))).collect()
    };
    let checkpoints = |entries: &BTreeMap<PathBuf, Vec<u8>>, of: &str| -> Vec<PathBuf> {
        let name = |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let is_one = |path: &&PathBuf| name(path).starts_with(of) && name(path).ends_with(".checkpoint");
        entries.keys().filter(is_one).cloned().collect()
    };
    let artifacts = folder.join("results/cache/artifacts");
    let is_training = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("classifier-");
    let (mut older, mut elmo, mut classifier) = (BTreeMap::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        let mut child = start(&folder);
        let names = || std::fs::read_dir(&artifacts).into_iter().flatten().flatten().map(|entry| entry.file_name());
        while child.try_wait().unwrap().is_none() && !names().any(|name| is_training(&name)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if child.try_wait().unwrap().is_none() {
            signal(&child, "-KILL");
        }
        end(child);
        older = cached();
        (elmo, classifier) = (checkpoints(&older, "elmo-"), checkpoints(&older, "classifier-"));
        if !elmo.is_empty() && !classifier.is_empty() {
            break;
        }
        // The fit was stored before the signal.
        std::fs::remove_dir_all(folder.join("results")).unwrap();
    }
    assert!(!elmo.is_empty() && !classifier.is_empty(), "no checkpoint was left");
    assert!(older.keys().any(|path| path.parent().unwrap().ends_with("flows")));

    // A newer version computes everything, as in an empty folder, and changes no existing entry.
    let raised = command(&folder).env("ETCBENCH_TEST_RAISE_RESULT_VERSION", "1").output().unwrap();
    assert!(raised.status.success(), "{}", String::from_utf8_lossy(&raised.stderr));
    assert_eq!(stages(&project), stages(&undisturbed));
    let all = cached();
    for (path, content) in &older {
        assert!(all.get(path) == Some(content), "{} was touched", path.display());
    }
    assert!(results(&project) == results(&undisturbed));

    // The version that wrote the checkpoint resumes from it, and then removes it.
    project.done(&every_stage::RUN);
    assert_eq!(stage(&folder, "flows").0, 0);
    assert_eq!(checkpoints(&cached(), "classifier-"), Vec::<PathBuf>::new());
    assert!(results(&project) == results(&undisturbed));
}

#[test]
fn out_of_memory_loses_nothing() {
    let (undisturbed, limited) = (every_stage::project(), every_stage::project());
    undisturbed.done(&every_stage::RUN);
    let expected = results(&undisturbed.path(""));
    let folder = limited.path("");
    // Address space in KiB, from too little to start to nearly enough.
    let mut failed = 0;
    for limit in [20_000, 30_000, 40_000, 60_000, 150_000] {
        let output = Command::new("sh")
            .args([
                "-c",
                &format!("ulimit -v {limit}; ulimit -c 0; exec \"$0\" \"$@\""),
                env!("CARGO_BIN_EXE_etcbench"),
            ])
            .args(every_stage::RUN)
            // If memory runs out while a backtrace is captured, Rust's standard library deadlocks on its own lock.
            .env_remove("RUST_BACKTRACE")
            .current_dir(&folder)
            .output()
            .unwrap();
        failed += usize::from(!output.status.success());
    }
    assert!(failed > 0, "the limits are all too generous");
    limited.done(&every_stage::RUN);
    same(&expected, &folder, "after running out of memory");
}

/// Makes every entry of the cache look unused since 2020.
fn age_the_cache(folder: &Path) {
    for path in every_stage::files(&folder.join("results/cache")) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    }
}

#[test]
fn the_cache_is_shown_verified_and_pruned() {
    let project = every_stage::project();
    let cache = |arguments: &[&str]| {
        let output = project.etcbench(&[&["cache"][..], arguments].concat());
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (text, output.status.code())
    };
    let (text, code) = cache(&[]);
    assert!(code == Some(0) && text.contains("results/cache: 0 entries, 0 B"), "{text}");
    assert_eq!(cache(&["verify"]).1, Some(0));
    assert_eq!(cache(&["prune"]).1, Some(2));
    assert_eq!(cache(&["prune", "--older-than", "soon"]).1, Some(2));
    project.done(&every_stage::RUN);
    let folder = project.path("");
    let expected = results(&folder);
    let files = |stage: &str| every_stage::files(&folder.join("results/cache").join(stage));
    let all = files("");
    project.write("results/cache/fits/notes.txt", "mine");
    let (text, code) = cache(&[]);
    assert_eq!(code, Some(0), "{text}");
    for stage in ["fits", "flows", "models", "trials", "artifacts", "checksums"] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(stage)), "{stage} is not in:\n{text}");
    }
    assert!(text.contains("1 other file, 4 B: unfinished or not written by etcbench, and left alone"), "{text}");
    // Every file that a run left is an entry or belongs to one.
    let (text, code) = cache(&["verify"]);
    assert!(code == Some(0) && text.contains("entries, 0 damaged"), "{text}");

    // A fit, the flows, and a file that lost its content.
    let flows = files("flows").into_iter().find(|path| path.extension().is_some()).unwrap();
    let damaged = [files("fits")[0].clone(), flows, files("models")[0].clone()];
    let damage = || {
        for (number, path) in damaged.iter().enumerate() {
            let mut bytes = std::fs::read(path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(path, if number == 2 { Vec::new() } else { bytes }).unwrap();
        }
    };
    damage();
    let (text, code) = cache(&["verify"]);
    assert_eq!(code, Some(1), "{text}");
    for path in &damaged {
        let key = path.file_stem().unwrap().to_string_lossy();
        assert!(text.contains(&format!("/{key}, ")) && path.is_file(), "{key} is not in:\n{text}");
    }
    assert!(text.contains("3 damaged") && text.contains("--remove"), "{text}");
    let (text, code) = cache(&["verify", "--remove"]);
    assert!(code == Some(1) && text.matches(", removed").count() == 3, "{text}");
    assert!(damaged.iter().all(|path| !path.exists()));
    assert_eq!(cache(&["verify"]).1, Some(0));
    project.done(&every_stage::RUN);
    same(&expected, &folder, "after damage was removed");

    // By age: entries that a run used count as new.
    let (text, _) = cache(&["prune", "--older-than", "1d"]);
    assert!(text.contains("removed 0 entries, 0 B"), "{text}");
    age_the_cache(&folder);
    project.done(&every_stage::RUN);
    let (text, code) = cache(&["prune", "--older-than", "1d", "--dry-run"]);
    assert!(code == Some(0) && text.contains("would remove ") && text.contains("artifacts/"), "{text}");
    assert!(!text.contains("fits/"), "{text}");
    assert_eq!(files("").len(), all.len() + 1);
    // By size, then everything.
    let (text, code) = cache(&["prune", "--max-size", "20K"]);
    assert_eq!(code, Some(0), "{text}");
    let left: u64 = files("").iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    assert!(left <= 20 * 1024 + 4 && files("").len() > 1, "{left}");
    age_the_cache(&folder);
    cache(&["prune", "--older-than", "0h"]);
    assert_eq!(files(""), [project.path("results/cache/fits/notes.txt")]);
    project.done(&every_stage::RUN);
    std::fs::remove_file(project.path("results/cache/fits/notes.txt")).unwrap();
    same(&expected, &folder, "after everything was removed");
}

#[test]
fn pruning_beside_a_run_changes_nothing_of_it() {
    let (undisturbed, disturbed) = (every_stage::project(), every_stage::project());
    undisturbed.done(&every_stage::RUN);
    let expected = results(&undisturbed.path(""));
    let folder = disturbed.path("");
    let mut child = start(&folder);
    let mut prunes = 0;
    while child.try_wait().unwrap().is_none() {
        disturbed.done(&["cache", "prune", "--older-than", "0h", "--max-size", "1K"]);
        disturbed.done(&["cache"]);
        prunes += 1;
    }
    let (code, text) = end(child);
    assert_eq!(code, Some(0), "{text}");
    assert!(prunes > 2, "{prunes}");
    // Models are in the cache only, and some of them may be gone.
    disturbed.done(&every_stage::RUN);
    same(&expected, &folder, &format!("after {prunes} prunes"));
}

/// Returns the processes that compute units of a project's runs.
fn units_of(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let is_unit = |entry: &std::fs::DirEntry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = command.split(|&byte| byte == 0).collect();
        words.contains(&b"unit".as_slice())
            && std::fs::read_link(entry.path().join("cwd")).is_ok_and(|current| current == folder)
    };
    entries.filter(is_unit).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn no_signal_leaves_the_processes_of_units_running() {
    // Not SIGHUP and SIGINT, which nohup and background jobs of a shell make processes ignore.
    for name in ["-TERM", "-KILL"] {
        let project = every_stage::project();
        let folder = project.path("");
        let deadline = Instant::now() + Duration::from_secs(60);
        // Units that would run for hours.
        let endless = "model.attention_lstm={ epochs = 1000000, patience = 1000000, lstm = 8, dense = 4 }";
        let mut child = command(&folder)
            .args(["--jobs", "2", "--models", "attention_lstm", "--set", endless])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while units_of(&folder).is_empty() {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "{name}: no unit was seen");
        }
        signal(&child, name);
        child.wait().unwrap();
        while !units_of(&folder).is_empty() {
            assert!(Instant::now() < deadline, "{name}: {:?} are still running", units_of(&folder));
            std::thread::sleep(Duration::from_millis(5));
        }
        // Their unfinished units are free, and the same command continues.
        let again = command(&folder).args(["--jobs", "2"]).output().unwrap();
        assert!(again.status.success(), "{name}: {}", String::from_utf8_lossy(&again.stderr));
    }
}
