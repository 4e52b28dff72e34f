//! The claims of an honest run are reproduced with any settings, data and models.

use std::collections::BTreeMap;
use std::fs;

use super::tampered::Tampered;
use super::{ASKED, DATASET, PLAIN, check, pack, passes, passes_as_it_is, project, read, run, write};
use crate::common::external::{self, has_python};
use crate::common::{Project, every_stage, small_experiment, write_points};

#[test]
fn bundles_of_all_kinds_of_settings_pass() {
    let project = project();
    let mut passed = 0;
    let mut passes = |what: &str, arguments: &[&str]| {
        passes(&project, what, arguments);
        passed += 1;
    };
    let plain = ["run", "plain"];
    let with = |more: &[&'static str]| [&plain[..], more].concat();
    passes("plain", &plain);
    passes("one thread", &with(&["--threads", "1", "--no-cache"]));
    passes("three threads and processes", &with(&["--threads", "3", "--jobs", "2", "--overwrite"]));
    passes("more seeds, saved models", &with(&["--seeds", "5", "--save-models"]));
    passes("one variant", &with(&["--variants", "captures"]));
    // One seed is enough to see the effect of a key.
    project.write("experiments/quick.toml", PLAIN.replace("[0, 1, 2]", "[0]"));
    let quick = |more: &[&'static str]| [&["run", "quick"][..], more].concat();
    passes("other packets", &quick(&["--set", "feature.packets=2", "--set", "selection.maximum_flows_per_class=30"]));
    passes("by time", &quick(&["--variants", "random", "--set", "split.method=temporal"]));
    passes("by connection", &quick(&["--variants", "captures", "--set", "split.group=connection"]));
    passes(
        "few examples",
        &quick(&["--set", "split.training_flows_per_class=7", "--set", "split.sampling=oversample"]),
    );
    passes("packets alone", &quick(&["--set", "selection.sample=packet", "--set", "model.knn.input=bytes"]));
    passes("pauses", &quick(&["--set", "flow.idle_timeout=0.5"]));
    passes(
        "directions",
        &quick(&["--set", "flow.direction=unidirectional", "--set", "selection.duplicates=drop_identical"]),
    );
    passes("folds and tuning", &["run", "tuned"]);
    passes(
        "grouped folds, repeated",
        &[
            "run",
            "tuned",
            "--set",
            "split.group=capture",
            "--set",
            "split.repeats=2",
            "--set",
            "split.few_groups=spread",
        ],
    );
    passes(
        "a random search",
        &["run", "tuned", "--set", "tune.search=random", "--set", "tune.budget=2", "--seeds", "2"],
    );
    passes("a ladder", &["ladder", "quick", "--folds", "2", "--rungs", "packets,captures"]);
    passes("a sweep", &["run", "quick", "--set", "sweep.feature.packets=[1, 2]", "--variants", "random"]);
    assert!(passed >= 16, "{passed}");
}

#[test]
fn bundles_of_all_kinds_of_data_and_models_pass() {
    let project = project();
    let mut passed = 0;
    let mut passes = |what: &str, arguments: &[&str]| {
        passes(&project, what, arguments);
        passed += 1;
    };
    project.write("experiments/deep.toml", deep(&["attention_lstm", "ensemble", "majority"]));
    passes("a deep model and a mean of models", &["run", "deep", "--device", "cpu"]);
    project.write("experiments/small.toml", every_stage::EXPERIMENT);
    passes("every stage", &["run", "small", "--device", "cpu"]);
    project.write("data/lone/chat-0.pcap", every_stage::capture(3000, 70));
    for name in ["web-0", "web-1", "mail-0", "mail-1"] {
        fs::copy(project.path(&format!("data/many/{name}.pcap")), project.path(&format!("data/lone/{name}.pcap")))
            .unwrap();
    }
    project.write("data/lone.toml", DATASET.replace("\"many\"", "\"lone\""));
    let left_out =
        "[split]\nmethod = \"grouped\"\ntrain = 0.4\nvalidation = 0.2\ntest = 0.4\nsmall_classes = \"leave_out\"\n";
    let small = small_experiment("lone", "kind", &["knn"], [1, 24]);
    let (small, _) = small.split_once("[split]").unwrap();
    project.write("experiments/lone.toml", format!("{small}{left_out}"));
    passes("a class that is left out", &["run", "lone"]);
    let two =
        small.replace("[\"lone\"]", "[\"many\", \"lone\"]").replace("kind\"", "kind\"\nclasses = [\"web\", \"mail\"]");
    project.write("experiments/two.toml", format!("{two}[split]\nmethod = \"dataset\"\ntest_datasets = [\"lone\"]\n"));
    passes("another dataset", &["run", "two"]);
    write_points(&project);
    let points = small_experiment("points", "kind", &["knn"], [1, 24]).replace("packets = 1\nbytes = 24\n", "");
    project.write("experiments/points.toml", points + "[model.knn]\ninput = \"statistics\"\n");
    passes("a feature file", &["run", "points"]);
    project.done(&["split", "plain", "--variants", "random", "-o", "split.csv"]);
    let (head, _) = PLAIN.split_once("[variant.random.split]").unwrap();
    project.write("experiments/given.toml", format!("{head}[split]\nmethod = \"file\"\npath = \"split.csv\"\n"));
    passes("a split file", &["run", "given"]);
    assert!(passed >= 6, "{passed}");
    // Published flows without captures.
    let published = crate::published::project();
    let folder = run(&published, &["run", "small", "--models", "knn,random_forest"]);
    passes_as_it_is(&published, "a published layout", &folder);
}

fn deep(models: &[&str]) -> String {
    small_experiment("many", "kind", models, [2, 24]).replace("seeds = [0]", "seeds = [0, 1]")
        + "[model.attention_lstm]\nlstm = 4\ndense = 4\nepochs = 2\nbatch = 8\n\
           elmo = { embedding = 4, hidden = 4, layers = 1, epochs = 1, batch = 8 }\n\
           [model.ensemble]\nof = [\"majority\", \"attention_lstm\"]\n"
}

#[test]
fn external_and_imported_models_pass_and_their_cards_say_what_they_are() {
    if !has_python() {
        return;
    }
    let project = external::project();
    let folder = run(&project, &["run", "points"]);
    let bundle = passes_as_it_is(&project, "external", &folder);
    let files = read(&bundle);
    let cards: serde_json::Value = serde_json::from_slice(&files["cards.json"]).unwrap();
    assert_eq!((&cards[0]["model"], &cards[0]["implementation"]), (&"faulty".into(), &"external".into()));
    let program = &cards[0]["program"];
    assert_eq!(program["digest"].as_str().unwrap().len(), 64, "{program}");
    assert!(program["versions"].as_str().unwrap().contains("Python") && program["run"][0] == "python3", "{program}");
    // The check does not need the model.
    let elsewhere = Project::new();
    fs::copy(&bundle, elsewhere.path("there.etcbundle")).unwrap();
    let (code, printed) = check(&elsewhere, "there.etcbundle");
    assert_eq!(code, Some(0), "{printed}");
    // Missing fits of it are reported.
    let mut tampered = Tampered(files);
    tampered.edit_json("run.json", |run| run["fits"].as_array_mut().unwrap().retain(|fit| fit["model"] != "faulty"));
    tampered.retain_lines("records.csv", |line| !line.contains(",faulty,"));
    tampered.0.retain(|name, _| !name.contains("-faulty-"));
    write(&elsewhere.path("there.etcbundle"), &tampered.0);
    let (code, printed) = check(&elsewhere, "there.etcbundle");
    assert!(
        code == Some(1) && printed.contains("fits: run.json: the experiment names faulty, which has no fit"),
        "{printed}"
    );

    // Which conditions concern it is not known to the check, but they are the same for every seed.
    let points = fs::read_to_string(project.path("experiments/points.toml")).unwrap();
    let asked = points.replace("seeds = [0]", "seeds = [0, 1]");
    project.write(
        "experiments/asked_points.toml",
        asked + "[evaluation]\ncalibration = true\nunknown_classes = [\"c\"]\n",
    );
    let asked = run(&project, &["run", "asked_points"]);
    let mut tampered = Tampered(read(&passes_as_it_is(&project, "an external model under conditions", &asked)));
    let answers = "evaluation/default-faulty-statistics-seed1.csv";
    tampered.retain_lines(answers, |line| !line.starts_with("unknown,"));
    write(&elsewhere.path("there.etcbundle"), &tampered.0);
    let (code, printed) = check(&elsewhere, "there.etcbundle");
    assert!(code == Some(1) && printed.contains(&format!("evaluation: {answers}: ")), "{printed}");

    let predictions =
        fs::read_to_string(project.path(&format!("{folder}/predictions/default-majority-statistics-seed0.csv")))
            .unwrap();
    project.write("mine.csv", predictions);
    let folder = run(&project, &["import", "mine.csv", "--experiment", "points", "--model", "notebook"]);
    let files = read(&passes_as_it_is(&project, "imported", &folder));
    let cards: serde_json::Value = serde_json::from_slice(&files["cards.json"]).unwrap();
    assert_eq!((&cards[0]["model"], &cards[0]["version"]), (&"notebook".into(), &serde_json::Value::Null));
    assert!(cards[0]["notes"][0].as_str().unwrap().starts_with("imported: predicted elsewhere, SHA-256 of the file "));
}

#[test]
fn a_variant_under_its_former_name_passes_and_shares_a_table_with_the_current_one() {
    let project = project();
    fs::create_dir(project.path("bundles")).unwrap();
    for (name, model) in [("as_published", "knn"), ("random_split", "decision_tree")] {
        project.write("experiments/plain.toml", PLAIN.replace("variant.random.", &format!("variant.{name}.")));
        let folder = run(&project, &["run", "plain", "--models", model]);
        let bundle = pack(&project, &folder);
        let (code, printed) = check(&project, bundle.file_name().unwrap().to_str().unwrap());
        assert_eq!(code, Some(0), "{name}: {printed}");
        let table = fs::read_to_string(project.path(&format!("{folder}/tables/plain.md"))).unwrap();
        assert!(table.contains(name), "a run shows the names that it has: {table}");
        fs::rename(&bundle, project.path("bundles").join(bundle.file_name().unwrap())).unwrap();
    }
    project.done(&["leaderboard", "bundles", "-o", "site"]);
    let table = fs::read_to_string(project.path("site/leaderboard.csv")).unwrap();
    let rows: Vec<BTreeMap<String, String>> =
        csv::Reader::from_reader(table.as_bytes()).deserialize().map(Result::unwrap).collect();
    let random: Vec<_> = rows.iter().filter(|row| row["variant"] == "random_split").collect();
    assert_eq!(random.len(), 3, "{table}");
    assert!(
        random.iter().all(|row| row["division"] == random[0]["division"] && !row["division"].is_empty()),
        "{table}"
    );
}

#[test]
fn answers_under_conditions_pass_and_older_bundles_without_them_too() {
    let project = project();
    passes(&project, "conditions", &["run", "asked"]);
    // A split by time in parts, folds, a ladder's kind of classes that are left out, and a mean of models.
    let with = |more: &[&'static str]| [&["run", "asked"][..], more].concat();
    passes(&project, "parts of time", &with(&["--set", "split.method=temporal", "--set", "evaluation.drift=2"]));
    let (head, tail) = ASKED.split_once("method = \"stratified\"").unwrap();
    let (_, tail) = tail.split_once("[model.knn]").unwrap();
    project.write("experiments/folded.toml", format!("{head}method = \"k_fold\"\nfolds = 2\n[model.knn]{tail}"));
    passes(&project, "conditions, folds", &["run", "folded"]);
    let models = ["--models", "ensemble,knn", "--set", "model.ensemble.of=[\"knn:bytes\", \"majority\"]"];
    let folder = run(&project, &with(&models));
    let licences = ["submission", "pack", &folder, "-o", "stated.etcbundle", "--weights-licence", "CC-BY-4.0"];
    project.done(&licences);
    let (code, printed) = check(&project, "stated.etcbundle");
    assert!(code == Some(0) && printed.contains("nothing found"), "{printed}");
    let files = read(&project.path("stated.etcbundle"));
    let json = |name: &str| -> serde_json::Value { serde_json::from_slice(&files[name]).unwrap() };
    let (cards, data) = (json("cards.json"), json("data.json"));
    let expected = serde_json::json!({"code": "MIT OR Apache-2.0", "weights": "CC-BY-4.0"});
    assert_eq!((&cards[0]["licence"], &data[0]["licence"]), (&expected, &"CC-BY-4.0".into()));

    let is_new = |name: &str| {
        let kinds = [
            "-first_packets.",
            "-masked.",
            "-zeroed_bytes.",
            "-occluded.",
            "-disturbed.",
            "-unknown.",
            "-calibration.",
            "-early_decision.",
        ];
        name.starts_with("evaluation") || name == "data.json" || kinds.iter().any(|kind| name.contains(kind))
    };
    let mut older = Tampered(files.clone());
    older.0.retain(|name, _| !is_new(name));
    older.edit_json("cards.json", |cards| {
        for card in cards.as_array_mut().unwrap() {
            card.as_object_mut().unwrap().remove("licence").unwrap();
        }
    });
    assert!(older.0.len() + 10 < files.len(), "{:?}", older.0.keys());
    write(&project.path("older.etcbundle"), &older.0);
    let (code, printed) = check(&project, "older.etcbundle");
    assert!(code == Some(0) && printed.contains("it has no answers under [evaluation]"), "{printed}");
}

#[test]
fn a_bundle_of_another_version_is_checked_by_the_metrics_it_has() {
    let project = project();
    let folder = run(&project, &["run", "plain", "--variants", "random"]);
    let mut older = Tampered(read(&pack(&project, &folder)));
    older.edit_json("run.json", |run| run["provenance"]["version"] = "0.0.9".into());
    older.retain_lines("records.csv", |line| !line.contains(",log_loss,"));
    older.replace("tables/plain.md", "| knn", "| KNN");
    write(&project.path("older.etcbundle"), &older.0);
    let (code, printed) = check(&project, "older.etcbundle");
    assert!(code == Some(0) && printed.contains("the bundle is from etcbench 0.0.9, and this is "), "{printed}");
    older.edit_record(&[",macro_f1,"], |value| value + 0.01);
    let mut first = true;
    older.edit("records.csv", |text| {
        let kept = text.lines().filter(|line| !line.contains(",balanced_accuracy,") || !std::mem::take(&mut first));
        kept.map(|line| format!("{line}\n")).collect()
    });
    write(&project.path("older.etcbundle"), &older.0);
    let (code, printed) = check(&project, "older.etcbundle");
    assert!(code == Some(1) && printed.contains("records: records.csv: macro_f1 ("), "{printed}");
    assert!(printed.contains("balanced_accuracy (knn on bytes, random, seed 0, fold 0) is missing"), "{printed}");
}
