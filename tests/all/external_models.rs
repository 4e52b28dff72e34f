//! The models in `models/`: each passes `etcbench model check`, and the one that wraps scikit-learn produces the same
//! bits as scikit-learn called directly on the arrays of `etcbench export`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::Project;
use crate::common::external::{add_model, has_python, project};

/// Finds scikit-learn as installed by `scripts/test-tools`; prints a message if it is missing.
fn scikit_learn() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/scikit-learn");
    let works = Command::new("python3").args(["-c", "import sklearn"]).env("PYTHONPATH", &folder).output();
    if folder.is_dir() && works.is_ok_and(|output| output.status.success()) {
        return Some(folder);
    }
    eprintln!("skipped: scikit-learn is not here; scripts/test-tools installs it");
    None
}

/// Runs `etcbench` with a PYTHONPATH and expects it to succeed.
#[track_caller]
fn done(project: &Project, packages: &Path, arguments: &[&str]) -> Output {
    let mut command = assert_cmd::Command::cargo_bin("etcbench").unwrap();
    let command = command.current_dir(project.path("")).env("PYTHONPATH", packages).args(arguments);
    let output = command.output().unwrap();
    let told = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&told));
    output
}

const BY_HAND: &str = r#"
import csv, json, numpy
from sklearn.ensemble import RandomForestClassifier
folder = "arrays/default/"
statistics, labels = numpy.load(folder + "statistics.npy"), numpy.load(folder + "labels.npy")
training, test = (numpy.load(folder + f"splits/seed3/{part}.npy") for part in ("training", "test"))
forest = RandomForestClassifier(20, random_state=3).fit(statistics[training], labels[training])
probabilities = forest.predict_proba(statistics[test]).astype(numpy.float32)
flow_ids = open(folder + "flow_ids.txt").read().splitlines()
print(json.dumps({flow_ids[row]: [float(value) for value in values] for row, values in zip(test, probabilities)}))
"#;

#[test]
fn the_forest_gives_the_bits_of_scikit_learn_called_by_hand() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/models/sklearn-forest/forest.py");
    assert!(fs::read_to_string(program).unwrap().lines().count() <= 40, "an example that anyone can read at a glance");
    let Some(packages) = scikit_learn() else { return };
    let project = project();
    add_model(&project, "models/sklearn-forest", "sklearn-forest");
    let run = [
        "run",
        "experiments/points.toml",
        "--models",
        "sklearn-forest",
        "--seeds",
        "3,4",
        "--set",
        "model.sklearn-forest.input=statistics",
        "--set",
        "model.sklearn-forest.trees=20",
    ];
    done(&project, &packages, &run);
    done(&project, &packages, &["export", "points", "--seeds", "3,4", "-o", "arrays"]);
    project.write("by_hand.py", BY_HAND);
    let output = Command::new("python3")
        .arg("by_hand.py")
        .current_dir(project.path(""))
        .env("PYTHONPATH", &packages)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let by_hand: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut folders = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.find(|path| path.join("run.json").is_file()).unwrap();
    let predictions = folder.join("predictions/default-sklearn-forest-statistics-seed3.csv");
    let mut reader = csv::Reader::from_path(predictions).unwrap();
    let mut compared = 0;
    for line in reader.records().map(Result::unwrap) {
        let expected: Vec<f32> =
            by_hand[&line[0]].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect();
        let found: Vec<f32> = line.iter().skip(3).map(|value| value.parse().unwrap()).collect();
        assert_eq!(found, expected, "{line:?}");
        compared += 1;
    }
    assert_eq!((compared, by_hand.as_object().unwrap().len()), (15, 15));
    done(&project, &packages, &["model", "check", "sklearn-forest"]);
}

#[test]
fn the_program_in_rust_builds_itself_and_passes_every_check() {
    let project = project();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/centroid-rust");
    for name in ["model.toml", "Cargo.toml", "Cargo.lock", "src/main.rs"] {
        project.write(&format!("models/centroid-rust/{name}"), fs::read(source.join(name)).unwrap());
    }
    // Its only dependency is also etcbench's, so it is usually available; without it and without a network the test
    // reports that.
    let manifest = fs::read_to_string(source.join("model.toml")).unwrap();
    project.write("models/centroid-rust/model.toml", manifest.replace("\"--quiet\"", "\"--quiet\", \"--offline\""));
    let output = project.etcbench(&["model", "check", "centroid-rust"]);
    let told = [&output.stdout[..], &output.stderr[..]].concat();
    let told = String::from_utf8_lossy(&told);
    if told.contains("--offline") || told.contains("no matching package") {
        eprintln!("skipped: serde_json is not here");
        return;
    }
    assert!(output.status.success(), "{told}");
    assert!(told.contains("70 checks, 0 failed"), "{told}");
    project.done(&[
        "run",
        "experiments/points.toml",
        "--models",
        "majority,centroid-rust",
        "--set",
        "model.centroid-rust.input=statistics",
    ]);
}

#[test]
fn a_model_that_cheats_or_leaves_something_behind_is_named() {
    if !has_python() {
        return;
    }
    let project = project();
    let output = project.done(&["model", "check", "faulty"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    for check in [
        "protocol and answers",
        "order and batches",
        "save and load",
        "same seed",
        "labels smuggled",
        "left-over children",
    ] {
        assert!(told.lines().any(|line| line.starts_with("ok") && line.contains(check)), "{check}: {told}");
    }
    let manifest = fs::read_to_string(project.path("models/faulty/model.toml")).unwrap();
    let main = fs::read_to_string(project.path("models/faulty/main.py")).unwrap();
    let one_input = manifest
        .replace("[\"statistics\", \"bytes\", \"sequences\", \"bytes_and_statistics\", \"all\"]", "[\"statistics\"]");
    // A model that reads the class from the first statistic regardless of the labels has it from elsewhere.
    let answer = "            spoil(fault, rows, ask)\n";
    let known = "            rows = [[float(int(row[0] // 3) == name) for name in range(3)] for row in matrix(ask)]\n";
    let cheating = main.replace(answer, &format!("{known}{answer}"));
    let cases = [
        ("batch", main.clone(), "order and batches"),
        ("crash_fit", main.clone(), "protocol and answers"),
        ("children", main.clone(), "left-over children"),
        ("daemons", main.clone(), "left-over children"),
        ("crash_quit", main.clone(), "end"),
        ("none", cheating, "labels smuggled"),
        ("remembers", main.replace("claims.get(started, {})", "{\"microseconds_per_flow\": 5.0}"), "repeated rows"),
        (
            "none",
            main.replace("means = json.load(file)[\"means\"]", "means = [None, None, [0.0] * 8]"),
            "save and load",
        ),
        (
            "none",
            main.replace(
                "means = []\n",
                "means = []\n            rows = [[v + os.urandom(1)[0] for v in row] for row in rows]\n",
            ),
            "same seed",
        ),
    ];
    for (fault, program, check) in cases {
        let changed = one_input
            .replace("fault = \"none\"", &format!("fault = \"{fault}\""))
            .replace("where = \"\"", "where = \"5000\"");
        project.write("models/faulty/model.toml", changed);
        project.write("models/faulty/main.py", program);
        let output = project.etcbench(&["model", "check", "faulty"]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{check}: {told}");
        assert!(told.lines().any(|line| line.starts_with("FAILED") && line.contains(check)), "{check}: {told}");
    }
    project.refused(&["model", "check", "fautly"], &["did you mean `faulty`?"]);
    project.refused(&["model", "check", "majority"], &["etcbench's own"]);
}

#[test]
fn labels_in_the_weights_show_on_the_flows_that_they_are_of() {
    if !has_python() {
        return;
    }
    let project = project();
    let check = ["model", "check", "faulty", "--experiment", "points"];
    let told = |arguments: &[&str]| {
        let output = project.etcbench(arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = told(&check);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("default: statistics: with permuted training labels, accuracy falls to"), "{text}");
    // The weights are the flows of the experiment with their labels; for any other flow the model is an honest one.
    project.done(&["export", "points", "-o", "arrays"]);
    for name in ["statistics.npy", "labels.npy"] {
        let weights = fs::read(project.path(&format!("arrays/default/{name}"))).unwrap();
        project.write(&format!("models/faulty/{name}"), weights);
    }
    let main = fs::read_to_string(project.path("models/faulty/main.py")).unwrap();
    let cheat = "            rows = [[float(known.get(tuple(flow)) == name) for name in range(3)] if tuple(flow) in known \
                 else row for flow, row in zip(matrix(ask), rows)]\n            spoil(fault, rows, ask)\n";
    let weights = "    (_, width), values = load(\"statistics.npy\")\n    \
                   known = {tuple(values[width * row : width * row + width]): label \
                   for row, label in enumerate(load(\"labels.npy\")[1])}\n    for line in sys.stdin:\n";
    let main =
        main.replace("            spoil(fault, rows, ask)\n", cheat).replace("    for line in sys.stdin:\n", weights);
    project.write("models/faulty/main.py", main);
    assert_eq!(told(&["model", "check", "faulty"]).0, Some(0), "the generated flows are not those of its weights");
    let (code, text) = told(&check);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("FAILED") && line.contains("accuracy is at least 1.000 in 6 fits")),
        "{text}"
    );
    project.refused(&["model", "check", "faulty", "--experiment", "poins"], &["did you mean `points`?"]);
    project.refused(&[&check[..], &["--variants", "other"]].concat(), &["other"]);
}

#[test]
fn what_is_exported_is_whole_and_what_is_imported_is_scored_and_marked() {
    let project = project();
    let run = ["run", "experiments/points.toml", "--models", "knn,majority", "--set", "model.knn.input=statistics"];
    project.done(&run);
    project.done(&["export", "points", "-o", "arrays"]);
    let there = |name: &str| fs::metadata(project.path(&format!("arrays/default/{name}"))).unwrap().len();
    assert_eq!((there("statistics.npy"), there("labels.npy")), (128 + 60 * 2 * 8, 128 + 60 * 4));
    assert_eq!(there("splits/seed0/test.npy"), 128 + 15 * 8);
    assert!(
        fs::read_to_string(project.path("arrays/README.txt")).unwrap().contains("LABELS OF TEST ROWS ARE INCLUDED")
    );
    project.refused(&["export", "points", "-o", "arrays"], &["already exists"]);
    let mut folders = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.find(|path| path.join("run.json").is_file()).unwrap();
    let predictions = folder.join("predictions/default-knn-statistics-seed0.csv");
    let text = fs::read_to_string(&predictions).unwrap();
    project.write("mine.csv", &text);
    let import = ["import", "mine.csv", "--experiment", "points", "--model", "notebook"];
    let output = project.done(&import);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        table.contains("| notebook") && table.contains("| imported") && table.contains("made elsewhere"),
        "{table}"
    );
    // The same predictions have the same scores, without times.
    let values = |folder: &Path, model: &str| -> Vec<String> {
        let records = fs::read_to_string(folder.join("records.csv")).unwrap();
        let of_model = records.lines().filter(|line| line.contains(&format!(",{model},")));
        let value = |line: &str| line.rsplitn(3, ',').take(2).collect::<Vec<_>>().join(" ");
        of_model.map(value).filter(|value| value.contains("macro_f1") || value.contains("accuracy")).collect()
    };
    let imported = project.path("results/points-points-full-imported-notebook");
    assert_eq!(values(&imported, "notebook"), values(&folder, "knn"));
    assert!(!fs::read_to_string(imported.join("records.csv")).unwrap().contains("_seconds"));
    let lines: Vec<&str> = text.lines().collect();
    let classes_alone: Vec<String> =
        lines.iter().map(|line| line.split(',').step_by(2).take(2).collect::<Vec<_>>().join(",")).collect();
    project.write("mine.csv", classes_alone.join("\n").replace("predicted", "class"));
    project.done(&[&import[..], &["--overwrite"]].concat());
    let refused = |text: String, words: &[&str]| {
        project.write("mine.csv", text);
        project.refused(&import, words);
    };
    refused(lines[..lines.len() - 1].join("\n"), &["1 of the 15 test flows", "have no prediction"]);
    refused([&lines[..], &lines[1..2]].concat().join("\n"), &["line 17", "also predicted in line 2"]);
    refused(text.replace("flow_id", "flow"), &["column `flow_id` is missing"]);
    refused(text.replacen(lines[1].split(',').next().unwrap(), "elsewhere.csv#3", 1), &["have no prediction"]);
    refused(text.replace("probability_a", "probability_z"), &["column probability_a is missing"]);
    project.write("mine.csv", &text);
    project.refused(&[&import[..4], &["--model", "knn"]].concat(), &["choose another"]);
    project.refused(&[&import[..], &["--seeds", "2"]].concat(), &["column `seed`"]);
}

#[test]
fn sweeps_tolerances_and_reports_take_an_external_model_like_any_other() {
    if !has_python() {
        return;
    }
    let project = project();
    let experiment = fs::read_to_string(project.path("experiments/points.toml")).unwrap();
    project.write("experiments/points.toml", experiment + "[sweep]\nmodel.faulty.sharpness = [0.5, 2.0]\n");
    let output = project.done(&["run", "points", "--jobs", "2"]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
    for point in ["0.5", "2.0"] {
        assert!(words.contains(&format!("| faulty | statistics | external | {point} |")), "{table}");
    }
    assert!(project.path("results/points-points-full/tables/points-over-model.faulty.sharpness.svg").is_file());
    let page = project.path("report.html").display().to_string();
    project.done(&["report", "points-points-full", "-o", &page]);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("faulty") && page.contains("model.faulty.sharpness"));
    project.done(&["check", "points", "--update", "--write"]);
    let met = project.done(&["check", "points"]);
    assert!(String::from_utf8_lossy(&met.stdout).contains("all 8 expectations are met"));
    // A change of the program is a new model, and its worse scores are noticed.
    let main = fs::read_to_string(project.path("models/faulty/main.py")).unwrap();
    let worse = main.replace(
        "    save(path, rows, order",
        "    rows = [row[1:] + row[:1] for row in rows]\n    save(path, rows, order",
    );
    assert_ne!(worse, main);
    project.write("models/faulty/main.py", worse);
    project.done(&["run", "points", "--overwrite"]);
    let output = project.etcbench(&["check", "points"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("**4 of 8 expectations are not met**"), "{told}");
    project.done(&["data", "leaks", "points"]);
}
