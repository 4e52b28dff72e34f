//! What is made from bundles: the leaderboard, the run again, the appendix of a paper, and the rules.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::tampered::Tampered;
use super::{check, pack, project, read, run, write};
use crate::common::every_stage;

#[test]
fn a_leaderboard_is_of_the_bundles_that_pass_and_is_the_same_bytes_again() {
    let project = project();
    let (plain, more) =
        (run(&project, &["run", "plain"]), run(&project, &["run", "plain", "--models", "decision_tree"]));
    let ladder = run(&project, &["ladder", "plain", "--folds", "3", "--rungs", "flows,captures"]);
    fs::create_dir(project.path("bundles")).unwrap();
    for run in [&plain, &more, &ladder] {
        let bundle = pack(&project, run);
        fs::rename(&bundle, project.path("bundles").join(bundle.file_name().unwrap())).unwrap();
    }
    let site = |folder: &str| -> (Option<i32>, String, String) {
        let output = project.etcbench(&["leaderboard", "bundles", "-o", folder]);
        let read = |name: &str| fs::read_to_string(project.path(&format!("{folder}/{name}"))).unwrap();
        (output.status.code(), read("index.html"), read("leaderboard.csv"))
    };
    let (code, page, table) = site("site");
    assert_eq!(code, Some(0));
    assert!(site("again") == (code, page.clone(), table.clone()), "the same bundles give other bytes");
    // Models of two bundles share a table, since they have the same splits; each rung is a separate table.
    let rows: Vec<BTreeMap<String, String>> =
        csv::Reader::from_reader(table.as_bytes()).deserialize().map(Result::unwrap).collect();
    let rows_of = |experiment: &str, variant: &str| {
        let wanted = |row: &&BTreeMap<String, String>| row["experiment"] == experiment && row["variant"] == variant;
        rows.iter().filter(wanted).collect::<Vec<_>>()
    };
    let random = rows_of("plain", "random");
    assert_eq!(random.len(), 4, "{table}");
    assert_eq!(random.iter().map(|row| &row["division"]).collect::<std::collections::BTreeSet<_>>().len(), 1);
    assert_eq!(random.iter().map(|row| &row["bundle"]).collect::<std::collections::BTreeSet<_>>().len(), 2);
    let score = |row: &BTreeMap<String, String>| row["macro_f1"].parse::<f64>().unwrap();
    assert!(random.is_sorted_by(|left, right| score(left) >= score(right)), "{table}");
    assert!(
        random.iter().all(|row| !row["mean_rank"].is_empty() && !row["interval_low"].is_empty() && row["fits"] == "3")
    );
    assert_eq!(rows_of("plain-ladder", "captures-masked").len(), 3);
    let ends = rows.iter().flat_map(|row| [&row["interval_low"], &row["interval_high"]]);
    assert!(ends.map(|end| end.parse::<f64>().unwrap()).all(|end| (0.0..=1.0).contains(&end)), "{table}");
    for word in [
        "<h2>First of each table</h2>",
        "plain-ladder on many, full: captures",
        "critical difference",
        "Score over cost",
        "id=\"cards\"",
        "id=\"history\"",
    ] {
        assert!(page.contains(word), "{word}");
    }
    // A bundle that fails the check is named, but is not an entry.
    let first = fs::read_dir(project.path("bundles")).unwrap().next().unwrap().unwrap().path();
    let mut tampered = Tampered(read(&first));
    tampered.edit_record(&[",macro_f1,"], |value| value + 0.01);
    write(&project.path("bundles/better.etcbundle"), &tampered.0);
    project.write("bundles/none.etcbundle", "no archive");
    let (code, page, refused) = site("site");
    assert!(code == Some(1) && refused == table);
    for word in ["<b>better.etcbundle</b>", "records: records.csv: macro_f1", "<b>none.etcbundle</b>", "not a bundle"] {
        assert!(page.contains(word), "{word}");
    }
    project.refused(&["leaderboard", "data", "-o", "site"], &["data: contains no bundles (*.etcbundle)"]);
}

#[test]
fn a_bundle_is_run_again_where_its_data_is() {
    let project = project();
    let folder = run(&project, &["run", "plain"]);
    let bundle = pack(&project, &folder);
    let name = bundle.file_name().unwrap().to_str().unwrap().to_owned();
    let again = |name: &str| {
        let output = project.etcbench(&["submission", "check", "--rerun", name]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, printed) = again(&name);
    assert!(code == Some(0) && printed.contains("nothing found, and the same when rerun"), "{printed}");
    // Results of other settings, consistently in all files: only a rerun reveals this.
    let other = run(&project, &["run", "plain", "--set", "model.knn.k=25"]);
    let invented = project.path("results/invented");
    for path in every_stage::files(&project.path(&other)) {
        let target = invented.join(path.strip_prefix(project.path(&other)).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, target).unwrap();
    }
    fs::remove_file(invented.join("SHA256SUMS")).unwrap();
    let experiment = fs::read_to_string(invented.join("experiment.toml")).unwrap();
    assert!(experiment.contains("k = 25"), "{experiment}");
    fs::write(invented.join("experiment.toml"), experiment.replace("k = 25", "k = 3")).unwrap();
    let name = pack(&project, "invented").file_name().unwrap().to_str().unwrap().to_owned();
    let (code, printed) = check(&project, &name);
    assert_eq!(code, Some(0), "{printed}");
    let (code, printed) = again(&name);
    assert!(
        code == Some(1) && printed.contains("rerun: records.csv: accuracy of knn on bytes, random, is claimed as"),
        "{printed}"
    );
    // Other data under the same name.
    project.write("data/many/web-0.pcap", every_stage::capture(7000, 66));
    let (code, printed) = again(&name);
    assert!(
        code == Some(1) && printed.contains("rerun: manifests/many.json: 1 difference(s) from the data here"),
        "{printed}"
    );
}

#[test]
fn an_appendix_says_what_the_run_knows_and_nothing_else() {
    let project = project();
    let folder = run(&project, &["run", "tuned"]);
    project.done(&["appendix", &folder, "-o", "appendix.md"]);
    let text = fs::read_to_string(project.path("appendix.md")).unwrap();
    for line in [
        "# Reproducibility: Tuned",
        "- **Experiment**: tuned on many, size full",
        "- **many: description**: Two classes, four captures each",
        "- **many: licence**: Unknown: the definition of the dataset states none; to be filled in by the author.",
        "- **Flows of default**: 80: mail 40; web 40",
        "- **Seeds**: 0",
        "- **knn: search**: {\"search\":\"grid\",\"budget\":3,\"space\":{\"k\":\\[1,3,9\\]}}",
        "- **Artifacts Available**: Unknown to the run; to be filled in by the author.",
        "- **Broader impacts**: Unknown to the run; to be filled in by the author.",
        "- **Weights**: Not saved with the run",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let latex = String::from_utf8(project.done(&["appendix", &folder, "--format", "latex", "-o", "-"]).stdout).unwrap();
    assert!(latex.starts_with("\\section{Reproducibility: Tuned}\n") && latex.contains("random\\_forest"), "{latex}");
    assert_eq!(latex.matches("\\begin{description}").count(), latex.matches("\\end{description}").count());
    // Both formats have the same content.
    assert_eq!(latex.matches("\\item[").count(), text.matches("\n- **").count());
}

#[test]
fn the_rules_in_the_repository_are_those_that_are_checked() {
    let rules = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("leaderboard/RULES.md")).unwrap();
    assert!(
        rules.contains(&etcbench::submission::rules_table()),
        "leaderboard/RULES.md lacks\n{}",
        etcbench::submission::rules_table()
    );
    for rule in etcbench::submission::RULES {
        assert!(!rule.asks.is_empty() && rule.shown_by.trim_end_matches(')').ends_with('.'), "{}", rule.name);
    }
}
