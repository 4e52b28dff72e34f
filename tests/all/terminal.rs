//! Output of runs at the terminal, for users and programs: what distinguishes runs, how a run ends, `--quiet`,
//! `--verbose` and `--json`.

use std::fs;

use serde_json::Value;

use crate::common::{Project, every_stage, small_experiment};

fn small() -> Project {
    let project = every_stage::project();
    project.write("experiments/small.toml", small_experiment("small", "kind", &["knn"], [2, 24]));
    project
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the single object that a command prints.
fn object(stdout: &[u8]) -> Value {
    let text = text(stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn listed_runs_can_be_distinguished() {
    let project = small();
    project.done(&["run", "small"]);
    let absolute = project.path("experiments/small.toml");
    project.done(&["run", absolute.to_str().unwrap(), "--set", "feature.packets=1"]);
    let listed = object(&project.done(&["list", "runs", "--json"]).stdout);
    let runs = listed["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{listed}");
    let changed = runs.iter().find(|run| run["overrides"][0] == "--set feature.packets=1").unwrap();
    // As typed, except for the location of the file on this machine.
    assert_eq!(changed["command"], "etcbench run experiments/small.toml --set feature.packets=1");
    let plain = runs.iter().find(|run| run["name"] == "small-small-full").unwrap();
    assert_eq!((&plain["command"], &plain["overrides"]), (&Value::from("etcbench run small"), &Value::Array(vec![])));
    let started = plain["started"].as_str().unwrap();
    assert!(started.len() == 20 && started.ends_with('Z'), "{started}");
    assert!(plain["wall_seconds"].as_f64().unwrap() > 0.0);
    let best = &plain["best"];
    assert_eq!((best["model"].as_str(), best["metric"].as_str()), (Some("knn"), Some("macro_f1")));
    let records = fs::read_to_string(project.path("results/small-small-full/records.jsonl")).unwrap();
    let of_whole = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let score =
        of_whole.into_iter().find(|record| record["metric"] == "macro_f1" && record["class"].is_null()).unwrap();
    assert_eq!(best["mean"], score["value"]);

    let lines = text(&project.done(&["list", "runs"]).stdout);
    assert!(lines.contains("[1 seed, 1 fit, "), "{lines}");
    assert!(lines.contains("; --set feature.packets=1\n") && lines.contains(" UTC; macro F1 "), "{lines}");
    // A run of a version that stored none of this is listed and read as before.
    let path = project.path("results/small-small-full/run.json");
    let mut old: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for key in ["invocation", "best"] {
        assert!(old.as_object_mut().unwrap().remove(key).is_some(), "{old}");
    }
    fs::write(&path, old.to_string()).unwrap();
    fs::remove_file(project.path("results/small-small-full/SHA256SUMS")).unwrap();
    let lines = text(&project.done(&["list", "runs"]).stdout);
    assert!(lines.contains("small-small-full: Small [1 seed, 1 fit, "), "{lines}");
    project.done(&["report", "small-small-full", "-o", "page.html"]);
    project.done(&["compare", "small-small-full", "small-small-full"]);
}

#[test]
fn a_run_ends_in_five_lines() {
    let project = small();
    let output = project.done(&["run", "small"]);
    let printed = text(&output.stderr);
    let end: Vec<&str> = printed.lines().rev().take(5).collect();
    for (line, words) in
        end.iter().rev().zip(["small: 1 fit, 0 of", "best: macro F1 ", "tables: ", "details: ", "next: "])
    {
        assert!(line.trim_start().starts_with(words), "{words}: {printed}");
    }
    assert!(end[4].contains(" s; results in ./results/small-small-full"), "{printed}");
    // The suggested next step exists.
    let next = end[0].trim_start().trim_start_matches("next: etcbench ").split(" (").next().unwrap();
    project.done(&next.split(' ').collect::<Vec<_>>());
    assert!(text(&output.stdout).starts_with("**Small (small, full)**"), "{}", text(&output.stdout));

    let quiet = project.done(&["run", "small", "--quiet"]);
    assert_eq!((text(&quiet.stdout).as_str(), text(&quiet.stderr).as_str()), ("", ""));
    assert!(!text(&project.done(&["-q", "list", "runs"]).stdout).is_empty(), "a list is what was asked for");
    let refused = project.etcbench(&["-q", "run", "nothing"]);
    assert!(text(&refused.stderr).contains("no such experiment"), "errors are shown");

    let verbose = text(&project.done(&["run", "small", "--verbose", "--no-cache"]).stderr);
    for words in [": done in ", "stage fits: 1 computed, 0 from the cache", "fits of knn · bytes: "] {
        assert!(verbose.contains(words), "{words}: {verbose}");
    }
}

#[test]
fn json_output_is_one_object() {
    let project = small();
    let run = project.done(&["run", "small", "--json"]);
    let ended = object(&run.stdout);
    let one = &ended["runs"][0];
    assert_eq!((one["name"].as_str(), one["fits"].as_u64()), (Some("small-small-full"), Some(1)));
    let row = &one["tables"][0]["rows"][0];
    assert_eq!((row["model"].as_str(), &row["macro_f1"]), (Some("knn"), &one["best"]["mean"]));
    assert!(text(&run.stderr).contains("results in"), "progress is still shown");

    project.done(&["check", "small", "--update", "--write"]);
    let checked = object(&project.done(&["check", "small", "--json"]).stdout);
    assert_eq!((checked["met"].as_bool(), checked["not_met"].as_array().map(Vec::len)), (Some(true), Some(0)));
    assert!(checked["expectations"].as_u64().unwrap() > 0);

    project.done(&["run", "small", "--set", "feature.packets=1"]);
    let runs = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().file_name());
    let other =
        runs.map(|name| name.into_string().unwrap()).find(|name| name.starts_with("small-small-full-")).unwrap();
    let compared = project.etcbench(&["compare", "small-small-full", &other, "--json"]);
    let same = object(&compared.stdout)["same_results"].as_bool().unwrap();
    assert_eq!(compared.status.code(), Some(i32::from(!same)));
    let experiment = &object(&compared.stdout)["tables"][0];
    assert_eq!(experiment["rows"], serde_json::json!([{"key": "feature.packets", "first": "2", "second": "1"}]));

    let verified = object(&project.done(&["data", "verify", "small", "--json"]).stdout);
    let used = verified["counts"]["used"].as_u64().unwrap();
    assert_eq!(verified["manifest"]["entries"].as_array().unwrap().len() as u64, used);
    assert_eq!(verified["whole"], true);
    let tables = object(&project.done(&["tables", "small", "--json"]).stdout);
    assert_eq!(tables["tables"], one["tables"]);
    project.done(&["run", "small", "--jobs", "2", "--json"]);
    let status = object(&project.done(&["sweep", "status", "--json"]).stdout);
    assert_eq!(status["runs"][0]["counts"], serde_json::json!({"done": 1}));
}

#[test]
fn a_dry_run_says_what_would_be_computed_and_computes_nothing() {
    let project = small();
    let dry = |more: &[&str]| text(&project.done(&[&["run", "small", "--dry-run"], more].concat()).stdout);
    let printed = dry(&[]);
    for words in [
        "[selection]\nlabel = \"kind\"",
        "small: flows, divided for the first seed",
        "1 fit, 0 of them in the cache",
        "Results: ./results/small-small-full",
        "Memory: ",
        "Time: unknown: no stored run has knn on bytes",
    ] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    assert!(!project.path("results/small-small-full").exists() && !project.path("results/cache/fits").exists());
    project.done(&["run", "small"]);
    assert!(dry(&[]).contains("1 fit, 1 of them in the cache"));
    let printed = dry(&["--set", "feature.packets=1"]);
    assert!(printed.contains("1 fit, 0 of them in the cache") && printed.contains("Time: about "), "{printed}");
    let outlined = object(&project.done(&["run", "small", "--dry-run", "--json"]).stdout);
    let run = &outlined["runs"][0];
    assert_eq!(
        (run["outline"]["fits"][0]["cached"].as_bool(), run["expected_seconds"].as_f64()),
        (Some(true), Some(0.0))
    );
    assert_eq!(run["resolved"]["selection"]["label"], "kind");

    let slurm = ["--slurm", "--partition", "gpu", "--cpu-partition", "cpu", "--gpus", "1", "--seeds", "5"];
    let grouped = ["--units-per-task", "2", "--tasks-at-once", "3", "--models", "knn,attention_lstm"];
    let printed = dry(&[&slurm[..], &grouped].concat());
    let jobs: Vec<&str> = printed.split("\nJob ").skip(1).collect();
    assert_eq!(jobs.len(), 3, "{printed}");
    assert!(printed.contains(": 5 units, 5 of them to compute, 3 jobs"), "{printed}");
    for job in [jobs[0], jobs[2]] {
        assert!(job.contains("--partition=cpu") && !job.contains("--gpus"), "{job}");
    }
    for words in ["--partition=gpu", "--gpus=1", "--array=0,1,2%3", "--dependency=afterok:1", "set -- 0 1 2 3 4\n"] {
        assert!(jobs[1].contains(words), "{words}: {}", jobs[1]);
    }
    // Nothing here can use a GPU.
    let printed = dry(&slurm);
    assert!(printed.matches("--partition=cpu").count() == 3 && !printed.contains("--gpus"), "{printed}");
    assert!(!project.path("results/sweeps").exists());
}

/// Each thread needs address space for its stack, so a limit of that stops them on any machine, and for root too.
#[test]
#[cfg(target_os = "linux")]
fn threads_that_cannot_start_are_reported() {
    let project = small();
    for (variable, arguments) in [("60000", &["list"][..]), ("1", &["--threads", "1024", "list"])] {
        let run = || {
            std::process::Command::new("sh")
                .args(["-c", "ulimit -v 1000000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_etcbench")])
                .args(arguments)
                .env("RAYON_NUM_THREADS", variable)
                .env_remove("RUST_BACKTRACE")
                .current_dir(project.path(""))
                .output()
                .unwrap()
        };
        // A thread that is just starting may need memory in the same moment, and the C library or the allocator then ends
        // the process, with a message or without.
        let is_out_of_memory = |output: &std::process::Output| {
            let message = text(&output.stderr);
            let known = ["Fatal glibc error", "memory allocation of"];
            output.status.code().is_none() && (message.is_empty() || known.iter().any(|known| message.contains(known)))
        };
        let attempts = std::iter::repeat_with(run).take(5).find(|output| !is_out_of_memory(output));
        let output = attempts.expect("out of memory five times");
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains("cannot start the threads; raise the limit of processes (`ulimit -u`)"), "{message}");
        assert!(!message.contains("panicked"), "{message}");
    }
}
