//! Models that are pre-trained on more than the training part, or loaded from a file: held-out flows are excluded, a
//! model that has seen them is refused, and the corpus is reported.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::read_csv;
use crate::common::{Project, every_stage};

/// Only the deep model, without variants and tuning, on a small corpus.
fn experiment() -> String {
    let text = &every_stage::EXPERIMENT[..every_stage::EXPERIMENT.find("[variant").unwrap()];
    let models = text.lines().find(|line| line.starts_with("models")).unwrap();
    text.replace(models, "models = [\"attention_lstm\"]").replace("sampling = \"oversample\"\n", "")
}

/// The other dataset contains, in addition to a new capture, a copy of a tested capture, and the packets of the other
/// one in a capture with another checksum.
fn project() -> Project {
    let project = every_stage::project();
    project.write("experiments/small.toml", experiment());
    project.write("data/other/copy.pcap", every_stage::capture(1000, 60));
    let mut again = every_stage::capture(2000, 64);
    assert_eq!(again[16..20], 65535_u32.to_le_bytes());
    again[16] = 0;
    project.write("data/other/again.pcap", again);
    project
}

const CORPUS: [&str; 4] =
    ["run", "experiments/small.toml", "--set", "model.attention_lstm.elmo.corpus=[\"small\", \"other\"]"];
const PRETRAINED: [&str; 4] =
    ["run", "experiments/small.toml", "--set", "model.attention_lstm.elmo.pretrained=elmo.safetensors"];

/// Returns the results folder of a command with `--set`.
fn results(project: &Project) -> std::path::PathBuf {
    let entries = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path());
    let mut found = entries.filter(|path| path.join("run.json").is_file());
    let folder = found.next().unwrap();
    assert!(found.next().is_none(), "several runs");
    folder
}

fn fit(folder: &Path) -> serde_json::Value {
    let run: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("run.json")).unwrap()).unwrap();
    assert_eq!(run["fits"].as_array().unwrap().len(), 1);
    run["fits"][0].clone()
}

fn part(pretraining: &serde_json::Value, name: &str) -> [u64; 4] {
    let parts = pretraining["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["name"] == name).unwrap();
    ["captures", "flows", "packets", "left_over"].map(|key| part[key].as_u64().unwrap())
}

#[test]
fn a_corpus_holds_nothing_that_is_tested() {
    let project = project();
    let output = project.done(&CORPUS);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let folder = results(&project);
    // From the split's file: the number of flows of the second capture that are in training, and held out.
    let split = read_csv(&folder.join("splits/default-seed0.csv"));
    let count = |capture: &str, train: bool| {
        let wanted = |row: &&super::Row| row["flow_id"].starts_with(capture) && (row["part"] == "train") == train;
        split.iter().filter(wanted).count() as u64
    };
    let training = count("one", true) + count("two", true);
    assert_eq!(split.len(), 20);
    let pretraining = &fit(&folder)["pretraining"];
    // N is 2. Of `other`: all of the new capture, and of the packets once more those of training flows.
    assert_eq!(part(pretraining, "training part"), [2, training, 2 * training, 0]);
    assert_eq!(part(pretraining, "small"), [0, 0, 0, 0]);
    let other = 10 + count("two", true);
    assert_eq!(part(pretraining, "other"), [2, other, 2 * other, 0]);
    let excluded = &pretraining["excluded"];
    assert_eq!(excluded["captures"], 2);
    // The flows of `small` that are not in training, and none of the copy, since its capture belongs to `small`.
    assert_eq!(excluded["flows"], 20 - training);
    assert_eq!(excluded["packets"], 2 * count("two", false));
    let records = read_csv(&folder.join("records.csv"));
    let value = |metric: &str| records.iter().find(|row| row["metric"] == metric).map(|row| row["value"].clone());
    assert_eq!(value("pretraining_packets_other"), Some(format!("{}.0", 2 * other)));
    assert_eq!(value("pretraining_packets"), Some(format!("{}.0", 2 * (other + training))));
    assert_eq!(value("pretraining_seen_test_flows"), None);
    let note = format!(
        "was pre-trained on these packets (mean): {} other, 0 small, {} training part.",
        2 * other,
        2 * training
    );
    assert!(printed.contains(&note), "{printed}");
    assert!(fit(&folder)["notes"][0].as_str().unwrap().contains(&format!("{} other", 2 * other)));
    assert!(folder.join("manifests/other.json").is_file());

    // Everything comes from the cache, and without it on one thread the results are identical.
    let before = crate::common::contents(&folder);
    let again = project.done(&CORPUS);
    assert!(String::from_utf8_lossy(&again.stderr).contains("1 fit, 1 of them from the cache"));
    project.done(&[&CORPUS[..], &["--no-cache", "--threads", "1"]].concat());
    assert_eq!(crate::common::contents(&folder), before);
    // Separately computed units draw the same.
    project.done(&[&CORPUS[..], &["--jobs", "1"]].concat());
    assert_eq!(crate::common::contents(&folder), before);
    fs::remove_dir_all(&folder).unwrap();
    // The corpus is limited evenly; the other implementation uses the same corpus.
    let few = ["--set", "model.attention_lstm.elmo.corpus_packets=12"];
    let reference = ["--set", "model.attention_lstm.implementation=reference"];
    project.done(&[&CORPUS[..], &few[..], &reference[..]].concat());
    let pretraining = &fit(&results(&project))["pretraining"];
    assert_eq!(part(pretraining, "training part")[2..], [6, 2 * training - 6]);
    assert_eq!(part(pretraining, "other")[2..], [6, 2 * other - 6]);
}

#[test]
fn a_file_that_has_seen_tested_flows_is_refused_unless_accepted() {
    let project = project();
    let pretrain = ["pretrain", "other", "--like", "small", "-o", "elmo.safetensors"];
    let output = project.done(&pretrain);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.starts_with("elmo.safetensors: pre-trained on these packets: 60 other; loss "), "{printed}");
    let bytes = fs::read(project.path("elmo.safetensors")).unwrap();
    project.done(&[&pretrain[..], &["--no-cache", "--threads", "1"]].concat());
    assert!(fs::read(project.path("elmo.safetensors")).unwrap() == bytes, "the same command gives the same bytes");
    let card = project.done(&["pretrain", "--show", "elmo.safetensors"]);
    let card: serde_json::Value = serde_json::from_slice(&card.stdout).unwrap();
    assert_eq!(part(&card, "other"), [3, 30, 60, 0]);
    let captures: Vec<&str> =
        card["captures"].as_array().unwrap().iter().map(|capture| capture["capture"].as_str().unwrap()).collect();
    assert_eq!(captures, ["again.pcap", "copy.pcap", "three.pcap"]);
    assert_eq!((&card["tokens"]["bytes"], &card["settings"]["hidden"]), (&24.into(), &4.into()));
    assert_eq!(card["epochs"].as_array().unwrap().len(), 2);

    project.refused(&PRETRAINED, &["elmo.safetensors was pre-trained on ", " test flows and ", "accept_seen = true"]);
    assert!(
        !project
            .path("results")
            .read_dir()
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with("small-") })
    );
    let accepted = [&PRETRAINED[..], &["--set", "model.attention_lstm.elmo.accept_seen=true"]].concat();
    let output = project.done(&accepted);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("may be too high"), "{printed}");
    let fit = fit(&results(&project));
    let file = &fit["pretraining"]["file"];
    let split = read_csv(&results(&project).join("splits/default-seed0.csv"));
    let held_out = |part: &str| split.iter().filter(|row| row["part"] == part).count();
    assert_eq!(file[1]["test_flows"], held_out("test"));
    assert_eq!(file[1]["validation_flows"], held_out("validation"));
    assert!(printed.contains(&format!("It has seen {}.0 test flows and", held_out("test"))), "{printed}");
    assert!(fit["notes"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().contains("accept_seen")));
    // It was not pre-trained again, also according to the costs.
    assert!(fit["stages"].as_array().unwrap().iter().all(|stage| stage["stage"] != "elmo_pretraining"));
    fs::remove_dir_all(results(&project)).unwrap();

    // Both implementations accept an ELMo that shares no data with the experiment.
    fs::remove_file(project.path("data/other/copy.pcap")).unwrap();
    fs::remove_file(project.path("data/other/again.pcap")).unwrap();
    project.done(&pretrain);
    let output = project.done(&PRETRAINED);
    assert!(String::from_utf8_lossy(&output.stdout).contains("pre-trained on these packets (mean): 20 other."));
    project.done(&[&PRETRAINED[..], &["--set", "model.attention_lstm.implementation=reference"]].concat());
    project.done(&[&PRETRAINED[..], &["--set", "model.attention_lstm.encoder=fine_tuned"]].concat());
}

/// A small transformer over the same flows.
fn transformer_project() -> Project {
    let project = project();
    let keys = "\n[model.byte_transformer]\npatch = 4\nembedding = 4\nlayers = 1\nheads = 2\nfeed_forward = 4\n\
                pretraining_epochs = 2\npretraining_batch = 4\nepochs = 2\nbatch = 4\n";
    project
        .write("experiments/small.toml", experiment().replace("[\"attention_lstm\"]", "[\"byte_transformer\"]") + keys);
    project
}

#[test]
fn a_transformer_is_pre_trained_on_whole_flows_of_a_corpus() {
    let project = transformer_project();
    let run = |more: &[&str]| {
        let corpus = ["run", "experiments/small.toml", "--set", "model.byte_transformer.corpus=[\"small\", \"other\"]"];
        project.done(&[&corpus[..], more].concat())
    };
    let output = run(&[]);
    let folder = results(&project);
    let split = read_csv(&folder.join("splits/default-seed0.csv"));
    let count = |capture: &str, train: bool| {
        let wanted = |row: &&super::Row| row["flow_id"].starts_with(capture) && (row["part"] == "train") == train;
        split.iter().filter(wanted).count() as u64
    };
    let training = count("one", true) + count("two", true);
    let of_run = fit(&folder);
    let pretraining = &of_run["pretraining"];
    assert_eq!(part(pretraining, "training part"), [2, training, 2 * training, 0]);
    let other = 10 + count("two", true);
    assert_eq!(part(pretraining, "other"), [2, other, 2 * other, 0]);
    assert_eq!(pretraining["excluded"]["packets"], 2 * count("two", false));
    let stages = of_run["stages"].as_array().unwrap();
    let masked = stages.iter().find(|stage| stage["stage"] == "masked_pretraining").unwrap();
    assert_eq!(masked["samples"], 2 * (training + other), "two epochs of these flows");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains(&format!("was pre-trained on these packets (mean): {} other", 2 * other)), "{printed}");
    let before = crate::common::contents(&folder);
    run(&["--no-cache", "--threads", "1"]);
    assert_eq!(crate::common::contents(&folder), before);
    fs::remove_dir_all(&folder).unwrap();
    // With few labels, the training part's other flows are used without theirs.
    let few = ["run", "experiments/small.toml", "--set", "split.training_flows_per_class=2", "--overwrite"];
    project.done(&[&few[..], &["--set", "model.byte_transformer.unlabelled=true"]].concat());
    let of_few = fit(&results(&project));
    assert_eq!(part(&of_few["pretraining"], "training part"), [2, training, 2 * training, 0]);
    assert_eq!(of_few["pretraining"]["excluded"]["packets"], 0);
    fs::remove_dir_all(results(&project)).unwrap();
    run(&[
        "--set",
        "model.byte_transformer.corpus_flows=6",
        "--set",
        "model.byte_transformer.implementation=reference",
    ]);
    let pretraining = &fit(&results(&project))["pretraining"];
    assert_eq!(part(pretraining, "other")[1..], [3, 6, other - 3]);
}

#[test]
fn a_transformer_in_a_file_is_checked_as_an_elmo_is() {
    let project = transformer_project();
    let pretrain = ["pretrain", "other", "--like", "small", "-o", "transformer.safetensors"];
    let output = project.done(&pretrain);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.starts_with("transformer.safetensors: pre-trained on these packets: 60 other; loss "), "{printed}");
    let bytes = fs::read(project.path("transformer.safetensors")).unwrap();
    project.done(&[&pretrain[..], &["--no-cache", "--threads", "1"]].concat());
    assert!(fs::read(project.path("transformer.safetensors")).unwrap() == bytes, "the same command, the same bytes");
    let card = project.done(&["pretrain", "--show", "transformer.safetensors"]);
    let card: serde_json::Value = serde_json::from_slice(&card.stdout).unwrap();
    assert_eq!((&card["format"], &card["settings"]["patch"]), (&2.into(), &4.into()));

    let pretrained =
        ["run", "experiments/small.toml", "--set", "model.byte_transformer.pretrained=transformer.safetensors"];
    fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        [first, more].concat()
    }
    project.refused(&pretrained, &["was pre-trained on ", " test flows and ", "model.byte_transformer.accept_seen"]);
    project.done(&with(&pretrained, &["--set", "model.byte_transformer.accept_seen=true"]));
    let fit = fit(&results(&project));
    assert!(fit["pretraining"]["file"][1]["test_flows"].as_u64().is_some_and(|flows| flows > 0));
    assert!(fit["stages"].as_array().unwrap().iter().all(|stage| stage["stage"] != "masked_pretraining"));
    for (key, words) in [
        ("model.byte_transformer.layers=2", "layers is 2 here but 1 in the file"),
        ("feature.packets=3", "feature.packets is 3 here but 2 in the file"),
        ("feature.bytes=20", "feature.bytes is 20 here but 24 in the file"),
        ("model.byte_transformer.corpus=[\"other\"]", "exclude each other"),
    ] {
        project.refused(&with(&pretrained, &["--set", key]), &[words]);
    }
    fs::remove_file(project.path("data/other/copy.pcap")).unwrap();
    fs::remove_file(project.path("data/other/again.pcap")).unwrap();
    project.done(&pretrain);
    project.done(&pretrained);

    // A file is that of one model, which is named if several could be meant.
    project.done(&["pretrain", "other", "-o", "elmo.safetensors", "--set", "model.attention_lstm.elmo.epochs=1"]);
    let elmo = ["run", "experiments/small.toml", "--set", "model.byte_transformer.pretrained=elmo.safetensors"];
    project.refused(&elmo, &["elmo.safetensors has a pre-trained attention_lstm, not a pre-trained byte_transformer"]);
    let set = ["pretrain", "other", "-o", "x", "--set", "model.byte_transformer.layers=1"];
    project.refused(&set, &["model.byte_transformer is set", "--model"]);
    project.refused(&["pretrain", "other", "-o", "x", "--model", "svm"], &["svm", "attention_lstm"]);
    let both = fs::read_to_string(project.path("experiments/small.toml")).unwrap();
    let both = both.replace("models = [\"byte_transformer\"]", "models = [\"byte_transformer\", \"attention_lstm\"]");
    project.write("experiments/small.toml", both);
    project.refused(&["pretrain", "other", "--like", "small", "-o", "x"], &["choose one with --model"]);
    project.done(&["pretrain", "other", "--like", "small", "-o", "x", "--model", "byte_transformer"]);
}

#[test]
fn a_file_for_one_split_is_for_that_split_alone() {
    let project = project();
    let corpus = ["--set", "model.attention_lstm.elmo.corpus=[\"other\"]"];
    let both = ["pretrain", "small", "-o", "elmo.safetensors"];
    project.refused(&both, &["small is a dataset and an experiment", "experiments/small.toml", "--like small"]);
    let pretrain = ["pretrain", "experiments/small.toml", "--seed", "1", "-o", "elmo.safetensors"];
    let output = project.done(&[&pretrain[..], &corpus[..]].concat());
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("; excluded: 5 flows by their captures, "), "{printed}");
    project.done(&[&PRETRAINED[..], &["--set", "seeds=[1]"]].concat());
    project.refused(&PRETRAINED, &["test flows", "seed 0"]);
}

#[test]
fn a_file_of_the_training_part_alone_is_without_packets_that_are_tested() {
    let project = project();
    // A third capture repeats the packets of the second, so both sides of a split have them.
    let again = fs::read(project.path("data/other/again.pcap")).unwrap();
    project.write("data/small/two2.pcap", again);
    let output = project.done(&["pretrain", "experiments/small.toml", "-o", "elmo.safetensors"]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let excluded = printed.split("by their captures, ").nth(1).and_then(|text| text.split(' ').next());
    assert!(excluded.and_then(|count| count.parse::<u64>().ok()).is_some_and(|count| count > 0), "{printed}");
    project.done(&PRETRAINED);
}

#[test]
fn settings_that_differ_and_files_that_are_none_are_refused() {
    let project = project();
    project.done(&["pretrain", "other", "--like", "small", "-o", "elmo.safetensors"]);
    let refused = |more: &str, words: &[&str]| project.refused(&[&PRETRAINED[..], &["--set", more]].concat(), words);
    refused("feature.bytes=20", &["feature.bytes is 20 here but 24 in the file"]);
    refused("feature.masks=[\"ttl\"]", &["feature.masks is [\"ttl\"] here but [] in the file"]);
    refused(
        "feature.packet_start=payload",
        &["feature.packet_start is \"payload\" here but \"ip_header\" in the file"],
    );
    refused("model.attention_lstm.elmo.layers=2", &["elmo.layers is 2 here but 1 in the file"]);
    refused("model.attention_lstm.elmo.positions=true", &["elmo.positions is true here but false in the file"]);
    refused("model.attention_lstm.elmo.corpus=[\"other\"]", &["exclude each other"]);
    let corpus = |names: &str, words: &[&str]| {
        let set = format!("model.attention_lstm.elmo.corpus={names}");
        project.refused(&["run", "experiments/small.toml", "--set", &set], words);
    };
    corpus("[\"othr\"]", &["dataset `othr`", "did you mean `other`?"]);
    corpus("[\"other\", \"other\"]", &["lists other twice"]);
    corpus("[\"iscxvpn2016-time-features\"]", &["iscxvpn2016-time-features"]);
    project.refused(&["run", "experiments/small.toml", "--data", "other"], &["no labels", "elmo.corpus"]);
    project.refused(&["data", "labels", "other"], &["other", "no labels"]);
    project.refused(&["pretrain", "othr", "-o", "x"], &["othr: no such dataset or experiment", "`other`"]);
    project.refused(&["pretrain", "other", "-o", "x", "--set", "feature.byte=3"], &["unknown key `byte`"]);
    project.refused(
        &["pretrain", "other", "-o", "x", "--set", "model.attention_lstm.elmo.layers=0"],
        &["elmo.layers = 0"],
    );
    project.refused(&["pretrain", "table2", "-o", "x"], &["has 2 variants", "--variants"]);
    assert!(!project.path("x").exists());
    let mut bytes = fs::read(project.path("elmo.safetensors")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    project.write("elmo.safetensors", bytes);
    project.refused(&PRETRAINED, &["elmo.safetensors", "checksum"]);
    project.refused(&["pretrain", "--show", "data/other/three.pcap"], &["three.pcap"]);
    fs::remove_file(project.path("elmo.safetensors")).unwrap();
    project.refused(&PRETRAINED, &["elmo.safetensors"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_killed_pre_training_goes_on_and_ends_the_same() {
    let arguments = |seconds| {
        let epochs = "model.attention_lstm.elmo.epochs=400";
        [
            "pretrain",
            "other",
            "--like",
            "small",
            "--set",
            epochs,
            "--checkpoint-seconds",
            seconds,
            "-o",
            "elmo.safetensors",
        ]
    };
    let (undisturbed, killed) = (project(), project());
    undisturbed.done(&arguments("15"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_etcbench"))
        .current_dir(killed.path(""))
        .env_remove("ETCBENCH_DATA")
        .args(arguments("0"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let checkpoints = || {
        let entries = fs::read_dir(killed.path("results/cache/artifacts")).into_iter().flatten();
        entries
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "checkpoint"))
            .count()
    };
    while checkpoints() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended without a checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!killed.path("elmo.safetensors").exists());
    let output = killed.done(&arguments("15"));
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(printed.contains("continuing from epoch"), "{printed}");
    assert_eq!(checkpoints(), 0);
    let read = |project: &Project| fs::read(project.path("elmo.safetensors")).unwrap();
    assert!(read(&killed) == read(&undisturbed));
}
