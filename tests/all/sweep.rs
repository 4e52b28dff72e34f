//! Sweeps end to end through the real binary: points as variants, tables and curves, and units computed by several
//! processes.

use std::fs;
use std::path::Path;

use crate::common::{Project, contents, write_points};

const SWEEP: &str = r#"
title = "Three clouds"
seeds = [0, 1, 2]
models = ["knn", "majority"]
[dataset]
names = ["points"]
[selection]
label = "kind"
[model.knn]
input = "statistics"
[sweep]
model.knn.k = [9, 1, 5]
"#;

fn project(experiment: &str) -> Project {
    let project = Project::new();
    write_points(&project);
    project.write("experiments/points.toml", experiment);
    project
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const RUN: [&str; 2] = ["run", "experiments/points.toml"];

#[test]
fn a_sweep_ends_in_a_table_and_a_curve() {
    let project = project(SWEEP);
    let output = project.done(&RUN);
    let printed = text(&output.stdout);
    let words = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    let order: Vec<Option<usize>> = ["9", "1", "5"].map(|k| words.find(&format!("| knn | statistics | {k} |"))).into();
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{printed}");
    assert!(printed.contains("F1 95 % ±"), "{printed}");
    let folder = project.path("results/points-points-full");
    let stored = fs::read_to_string(folder.join("experiment.toml")).unwrap();
    assert!(stored.contains("[sweep.model.knn]\nk = [9, 1, 5]"), "{stored}");
    let figure = fs::read_to_string(folder.join("tables/points-over-model.knn.k.svg")).unwrap();
    // Two models, a confidence band each, and three points each with its value.
    assert_eq!((figure.matches("fill-opacity=\"0.16\"").count(), figure.matches(" ± ").count()), (2, 6), "{figure}");
    assert!(folder.join("predictions/model.knn.k=9-knn-statistics-seed2.csv").is_file());
    // A part of the sweep has the same results as in the whole.
    let output = project.done(&[&RUN[..], &["--variants", "model.knn.k=5"]].concat());
    assert!(text(&output.stderr).contains("6 fits, 6 of them from the cache"), "{}", text(&output.stderr));
    project.refused(&[&RUN[..], &["--variants", "model.knn.k=7"]].concat(), &["model.knn.k=7", "model.knn.k=9"]);
    project.refused(&[&RUN[..], &["--set", "model.knn.k=7"]].concat(), &["model.knn.k is swept", "sweep.model.knn.k"]);
    project.done(&[&RUN[..], &["--set", "sweep.model.knn.k=[3]"]].concat());
}

#[test]
fn units_side_by_side_leave_the_same_results_and_go_on_where_they_were() {
    let whole = project(SWEEP);
    whole.done(&RUN);
    let expected = contents(&whole.path("results/points-points-full"));

    let parts = project(SWEEP);
    let jobs = [&RUN[..], &["--jobs", "3"]].concat();
    let output = parts.done(&jobs);
    assert_same(&expected, &parts.path("results/points-points-full"));
    assert!(text(&output.stderr).contains("18 fits of 9 units"), "{}", text(&output.stderr));
    let units = fs::read_to_string(parts.path("results/points-points-full/units.json")).unwrap();
    assert_eq!(units.matches("\"state\": \"done\"").count(), 9);
    let status = text(&parts.done(&["sweep", "status"]).stdout);
    assert!(status.contains("points-points-full | 9 done"), "{status}");

    // Only a unit whose results are missing is computed again, regardless of its record.
    let record = parts.path("results/sweeps/points-points-full/units/00004.json");
    let before: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let fit = parts.path("results/cache/fits").join(before["fits"][0].as_str().unwrap());
    let whole_fit = fs::read(&fit).unwrap();
    fs::write(&fit, &whole_fit[..whole_fit.len() / 2]).unwrap();
    let status = text(&parts.done(&["sweep", "status", "points-points-full"]).stdout);
    assert!(status.contains("8 done, 1 waiting") && status.contains("no longer in the cache"), "{status}");
    let untouched = fs::read(parts.path("results/sweeps/points-points-full/units/00003.json")).unwrap();
    parts.done(&jobs);
    assert_same(&expected, &parts.path("results/points-points-full"));
    assert_eq!(fs::read(parts.path("results/sweeps/points-points-full/units/00003.json")).unwrap(), untouched);
    assert!(fit.is_file() && fs::read(&fit).unwrap().len() > whole_fit.len() / 2);

    // Another experiment with the same name has its own units.
    parts.write("experiments/points.toml", SWEEP.replace("[9, 1, 5]", "[9, 1]"));
    parts.refused(&["sweep", "status", "points-points-full"], &["have changed", "again"]);
    parts.done(&jobs);
    assert!(text(&parts.done(&["sweep", "status"]).stdout).contains("6 done"));
}

#[test]
fn a_unit_that_fails_leaves_the_others_and_is_tried_alone() {
    let file = "[sweep.alternatives.how]\nk1 = { model.knn.k = 1 }\n\
                file = { split = { method = \"file\", path = \"split.csv\" } }\n";
    let text_of = |path: &Path| fs::read_to_string(path).unwrap();
    let experiment = SWEEP.replace("[sweep]\nmodel.knn.k = [9, 1, 5]\n", file);
    let project = project(&experiment);
    let jobs = [&RUN[..], &["--jobs", "2"]].concat();
    project.refused(&jobs, &["3 of 6 units failed", "how=file", "split.csv", "only what is missing"]);
    assert!(!project.path("results/points-points-full").exists());
    let output = project.etcbench(&["sweep", "status", "points-points-full"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("3 done, 3 failed"), "{}", text(&output.stdout));
    let begun = |number: usize| project.path(&format!("results/sweeps/points-points-full/units/{number:05}.json"));
    let first = text_of(&begun(0));
    project.done(&["split", "points", "--variants", "how=k1", "-o", "split.csv"]);
    project.done(&jobs);
    assert_eq!(text_of(&begun(0)), first);
    let results = contents(&project.path("results/points-points-full"));
    fs::remove_dir_all(project.path("results")).unwrap();
    project.done(&RUN);
    assert_same(&results, &project.path("results/points-points-full"));
}

#[test]
fn tables_run_in_units_too() {
    let project = project(SWEEP);
    project.refused(&["sweep", "status", "nothing"], &["no such sweep"]);
    let tables = ["reproduce", "all", "--data", "synth", "--size", "ci", "--seeds", "1", "--models", "knn"];
    let output = project.done(&[&tables[..], &["--jobs", "2"]].concat());
    let printed = text(&output.stdout);
    project.done(&["sweep", "status"]);
    let again = project.done(&tables);
    assert_eq!(text(&again.stdout), printed, "every fit, and so every time, is that of the units");
}

#[track_caller]
fn assert_same(expected: &std::collections::BTreeMap<String, String>, folder: &Path) {
    let found = contents(folder);
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for (name, content) in expected {
        assert!(*content == found[name], "{name} differs");
    }
}
