//! Commands on stored runs through the real binary: classifying captures with saved models, checking and updating
//! expectations, comparing, ranking and listing runs.

use std::collections::BTreeMap;
use std::fs;

use crate::common::Project;

const RUN: [&str; 13] = [
    "run",
    "experiments/table3.toml",
    "--data",
    "synth",
    "--size",
    "ci",
    "--seeds",
    "1",
    "--variants",
    "without_shortcuts",
    "--set",
    "selection.maximum_flows_per_class=30",
    "--models",
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the only folder in `results` with this prefix.
fn run_folder(project: &Project, prefix: &str) -> String {
    let entries = fs::read_dir(project.path("results")).unwrap();
    let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find(|name| name.starts_with(prefix)).unwrap()
}

/// Returns probabilities by flow, as written.
fn probabilities(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let columns: Vec<usize> = (0..header.len()).filter(|&column| header[column].starts_with("probability_")).collect();
    assert!(!columns.is_empty(), "{header:?}");
    let line = |line: csv::StringRecord| {
        let id = line[0].trim_start_matches("data/synth/").to_owned();
        (id, columns.iter().map(|&column| line[column].to_owned()).collect())
    };
    reader.records().map(|record| line(record.unwrap())).collect()
}

#[test]
fn every_kind_of_model_classifies_captures_as_it_did_in_its_run() {
    let project = Project::new();
    let models = "attention_lstm,svm,random_forest,knn,gradient_boosting,logistic_regression,decision_tree,majority";
    let inputs = "model.knn.input=[\"bytes\", \"statistics\", \"bytes_and_statistics\", \"sequences\"]";
    let quick = ["model.attention_lstm.epochs=2", "model.attention_lstm.elmo.epochs=1"];
    let mut run_arguments = RUN.to_vec();
    run_arguments.extend([models, "--save-models", "--set", inputs, "--set", quick[0], "--set", quick[1]]);
    project.done(&run_arguments);
    let run = run_folder(&project, "table3-synth-ci-");
    let captures: Vec<String> = fs::read_dir(project.path("data/synth/vpn"))
        .unwrap()
        .map(|entry| format!("data/synth/vpn/{}", entry.unwrap().file_name().into_string().unwrap()))
        .collect();
    let mut names = Vec::new();
    for entry in fs::read_dir(project.path(&format!("results/{run}/models"))).unwrap() {
        let model = entry.unwrap().path();
        let stem = model.file_stem().unwrap().to_str().unwrap().to_owned();
        let predicted =
            probabilities(&fs::read_to_string(project.path(&format!("results/{run}/predictions/{stem}.csv"))).unwrap());
        let mut arguments = vec!["classify", model.to_str().unwrap(), "--probabilities"];
        arguments.extend(captures.iter().map(String::as_str));
        let output = project.done(&arguments);
        let classified = probabilities(&text(&output.stdout));
        assert!(classified.len() > predicted.len(), "all flows, not only those of the test part");
        for (flow, expected) in &predicted {
            assert_eq!(&classified[flow], expected, "{stem}: {flow}");
        }
        assert!(text(&output.stderr).contains("mean probability"), "{}", text(&output.stderr));
        names.push(stem);
    }
    assert_eq!(names.len(), 14, "{names:?}");
    let listed = text(&project.done(&["list", "models"]).stdout);
    assert_eq!(listed.lines().count(), 14, "{listed}");
    // Combined units have the same models.
    let models = project.path(&format!("results/{run}/models"));
    let saved = || -> BTreeMap<std::ffi::OsString, Vec<u8>> {
        let entries = fs::read_dir(&models).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
    };
    let before = saved();
    fs::remove_dir_all(&models).unwrap();
    run_arguments.extend(["--jobs", "2"]);
    project.done(&run_arguments);
    assert!(saved() == before);

    let model = project.path(&format!("results/{run}/models/without_shortcuts-random_forest-bytes-seed0.safetensors"));
    let model = model.to_str().unwrap();
    project.done(&["classify", model, &captures[0], "-o", "flows.jsonl"]);
    let lines = fs::read_to_string(project.path("flows.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert!(first["class"].is_string() && first["probability"].as_f64().unwrap() <= 1.0, "{first}");
    assert!(first["packets"].as_u64().unwrap() >= 1 && first["note"].is_null(), "{first}");

    let whole = fs::read(model).unwrap();
    let mut damaged = whole.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    project.write("damaged.safetensors", &damaged);
    project.write("cut.safetensors", &whole[..whole.len() / 2]);
    project.refused(&["classify", "damaged.safetensors", &captures[0]], &["damaged.safetensors", "checksum"]);
    project.refused(&["classify", "cut.safetensors", &captures[0]], &["cut.safetensors", "not a safetensors file"]);
    project.refused(&["classify", "none.safetensors", &captures[0]], &["none.safetensors"]);
    project.refused(&["classify", model, "none.pcap", "-o", "out.csv"], &["none.pcap"]);
    assert!(!project.path("out.csv").exists());
}

#[test]
fn runs_are_checked_compared_ranked_and_listed() {
    let project = Project::new();
    let table = |name: &'static str, seeds: &'static str| {
        let mut arguments = RUN.to_vec();
        arguments[1] = name;
        arguments[7] = seeds;
        arguments.push("random_forest,knn");
        project.done(&arguments)
    };
    let first = "experiments/table3.toml";
    let output = table(first, "2");
    let printed = text(&output.stdout);
    assert!(printed.contains("against the best") && printed.contains("Wilcoxon"), "{printed}");
    let run = run_folder(&project, "table3-synth-ci-");
    for name in ["table3", "table3-differences", "table3-differences-all", "table3-statistics"] {
        assert!(project.path(&format!("results/{run}/tables/{name}.csv")).is_file(), "{name}");
    }
    let statistics = fs::read_to_string(project.path(&format!("results/{run}/tables/table3-statistics.csv"))).unwrap();
    assert!(statistics.contains(",macro_f1,") && statistics.contains(",expected_calibration_error,"));

    // A run of the whole experiment is what `check` is about.
    fs::rename(project.path(&format!("results/{run}")), project.path("results/table3-synth-ci")).unwrap();
    let tolerances = "results/tolerances/table3-synth-ci.toml";
    fs::remove_file(project.path(tolerances)).unwrap();
    let check = |more: &[&str]| {
        let mut arguments = vec!["check", "table3", "--data", "synth", "--size", "ci"];
        arguments.extend(more);
        project.etcbench(&arguments)
    };
    assert_eq!(check(&[]).status.code(), Some(2));
    let proposed = check(&["--update"]);
    assert!(text(&proposed.stdout).contains("\n+metric = \"macro_f1\""), "{}", text(&proposed.stdout));
    assert!(!project.path(tolerances).exists(), "a proposal stores nothing");
    assert_eq!(check(&["--write"]).status.code(), Some(2));
    assert!(check(&["--update", "--write", "--times"]).status.success());
    let met = check(&[]);
    assert!(
        met.status.success() && text(&met.stdout).ends_with(": all 16 expectations are met\n"),
        "{}",
        text(&met.stdout)
    );
    assert!(text(&check(&["--update"]).stdout).contains("nothing to change"));
    let stored = fs::read_to_string(project.path(tolerances)).unwrap();
    assert!(stored.contains("ratio = 3.0"), "{stored}");
    let mut lines: Vec<String> = stored.lines().map(str::to_owned).collect();
    let place = lines.iter().position(|line| line.starts_with("expected")).unwrap();
    lines[place] = "expected = 0.111".to_owned();
    project.write(tolerances, lines.join("\n") + "\n");
    let out = check(&[]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stdout).contains("**1 of 16 expectations are not met**"), "{}", text(&out.stdout));
    let proposed = text(&check(&["--update"]).stdout);
    assert!(proposed.contains("-expected = 0.111\n+expected = "), "{proposed}");
    assert_eq!(proposed.lines().filter(|line| line.starts_with('+')).count(), 2, "{proposed}");

    // A repeated run has the same results; one with fewer seeds does not.
    table(first, "2");
    let again = run_folder(&project, "table3-synth-ci-");
    let same = project.done(&["compare", "table3-synth-ci", &again]);
    assert!(text(&same.stdout).contains("All results are bit-identical."), "{}", text(&same.stdout));
    fs::remove_dir_all(project.path(&format!("results/{again}"))).unwrap();
    table(first, "1");
    let fewer = run_folder(&project, "table3-synth-ci-");
    let differs = project.etcbench(&["compare", "table3-synth-ci", &fewer]);
    let differences = text(&differs.stdout);
    assert_eq!(differs.status.code(), Some(1));
    assert!(
        differences.contains("| seeds | [0, 1] | [0]    |") && differences.contains("Data: no difference"),
        "{differences}"
    );
    let advice = "no stored run, did you mean `table3-synth-ci`? (see `etcbench list runs`)";
    for command in ["compare", "rank"] {
        project.refused(&[command, "table3-synth-ci", "table3-synth-c"], &["table3-synth-c: ", advice]);
    }

    table("experiments/table5.toml", "1");
    let other = run_folder(&project, "table5-synth-ci-");
    let ranked = text(&project.done(&["rank", "table3-synth-ci", &other]).stdout);
    assert!(ranked.contains("over 2 tables (without_shortcuts)") && ranked.contains("critical difference"), "{ranked}");
    project.refused(&["rank", "table3-synth-ci", &other, "--metric", "macrof1"], &["did you mean `macro_f1`?"]);
    project.refused(&["rank", "table3-synth-ci", &fewer], &["is duplicated"]);

    let listed = text(&project.done(&["list"]).stdout);
    for line in ["table2: ", "ctu13: ", "table3-synth-ci: ", &format!("{other}: ")] {
        assert!(listed.contains(&format!("  {line}")), "{line} is not in {listed}");
    }
    assert!(!listed.contains("paper: ") && project.path("results/table3-synth-ci/comparisons.csv").is_file());
    let runs = text(&project.done(&["list", "runs"]).stdout);
    assert_eq!(runs.lines().filter(|line| !line.starts_with(' ')).count(), 3, "{runs}");
}
