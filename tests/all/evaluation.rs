//! `[evaluation]` through the real binary: predictions under each condition are stored, scores match the stored
//! predictions, and units change nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::external::{add_model, has_python};
use crate::common::{Project, contents};

type Row = BTreeMap<String, String>;

fn project(evaluation: &str) -> Project {
    let project = Project::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/lab");
    std::os::unix::fs::symlink(&root, project.path("data/lab")).unwrap();
    project.write(
        "experiments/asked.toml",
        format!(
            "title = \"Asked\"\nseeds = [0]\nmodels = [\"random_forest\", \"majority\"]\n[dataset]\nnames = [\"lab\"]\n\
             [selection]\nmaximum_flows_per_class = 40\nfilter = {{ tunnel = \"non_vpn\" }}\nlabel = \"application\"\n\
             classes = [\"dash\", \"hls\", \"mumble\", \"sip_rtp\"]\n[feature]\npackets = 3\nbytes = 48\n\
             sequences.packets = 5\n[model.random_forest]\ntrees = 8\n\
             input = [\"bytes\", \"sequences\", \"statistics\"]\n[evaluation]\n{evaluation}\n"
        ),
    );
    project
}

fn rows(path: &Path) -> Vec<Row> {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

const ALL: &str = "first_packets = true\nmasked = [\"ports\", \"ip_addresses\"]\nbyte_ranges = 24\n\
                   occluded = [\"lengths\", \"times\", \"directions\"]\n\
                   disturbed = [\"drop 0.2\", \"pad 128\", \"jitter 0.5\"]\nunknown_classes = [\"hls\"]\ncalibration = true";

#[test]
fn scores_under_conditions_are_those_of_the_stored_answers() {
    let project = project(ALL);
    let output = project.done(&["run", "experiments/asked.toml"]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in
        ["predictions after the first packets", "disturbed traffic", "classes unseen in training", "calibration"]
    {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    let run = project.path("results/asked-lab-full");
    let measured = rows(&run.join("evaluation.csv"));
    let value = |input: &str, kind: &str, condition: &str, metric: &str| {
        let wanted = |row: &&Row| {
            row["model"] == "random_forest"
                && (&row["input"], &row["kind"], &row["condition"], &row["metric"])
                    == (&input.to_owned(), &kind.to_owned(), &condition.to_owned(), &metric.to_owned())
        };
        measured.iter().find(wanted).map(|row| row["value"].parse::<f64>().unwrap())
    };
    // Bytes: three packets, two masks, two ranges of three packets, two disturbances; sequences: five packets, three
    // disturbances, three quantities; statistics: the quantities. All: what is unknown, and calibration.
    let mut conditions: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in measured.iter().filter(|row| row["metric"] == "macro_f1" && row["model"] == "random_forest") {
        if row["condition"] != "none" && row["kind"] != "early_decision" {
            *conditions.entry((row["input"].clone(), row["kind"].clone())).or_default() += 1;
        }
    }
    let of = |input: &str, kind: &str| conditions.get(&(input.to_owned(), kind.to_owned())).copied().unwrap_or(0);
    assert_eq!(
        [of("bytes", "first_packets"), of("bytes", "masked"), of("bytes", "zeroed_bytes"), of("bytes", "disturbed")],
        [3, 2, 6, 2]
    );
    assert_eq!([of("sequences", "first_packets"), of("sequences", "masked"), of("sequences", "disturbed")], [5, 0, 3]);
    assert_eq!([of("statistics", "first_packets"), of("statistics", "disturbed")], [0, 0]);
    assert_eq!(["bytes", "sequences", "statistics"].map(|input| of(input, "occluded")), [0, 3, 3]);
    // Lengths tell the applications apart, and the model was trained with them.
    for input in ["sequences", "statistics"] {
        let score = |condition: &str| value(input, "occluded", condition, "macro_f1").unwrap();
        assert!(score("lengths") < score("none"), "{input}");
    }
    for input in ["bytes", "sequences", "statistics"] {
        assert!(value(input, "unknown", "maximum_probability", "roc_auc").is_some(), "{input}");
        let loss = |condition: &str| value(input, "calibration", condition, "log_loss");
        assert!(loss("before").is_some() && loss("after").is_some());
        assert!(value(input, "calibration", "after", "temperature").unwrap() > 0.0);
    }

    for input in ["bytes", "sequences"] {
        let file = format!("as_is-random_forest-{input}-seed0.csv").replace("as_is", "default");
        let answers = rows(&run.join("evaluation").join(&file));
        let predictions = rows(&run.join("predictions").join(&file));
        let under = |kind: &str, condition: &str| -> Vec<&Row> {
            answers.iter().filter(|row| row["kind"] == kind && row["condition"] == condition).collect()
        };
        // An unknown class is only used for prediction and in no part of the split.
        assert!(predictions.iter().all(|row| row["class"] != "hls" && !row.contains_key("probability_hls")));
        let unknown = under("unknown", "");
        assert!(unknown.len() > 10 && unknown.iter().all(|row| row["class"] == "hls"));
        // Distances to the training flows: the area under the curve is the share of pairs in which the known flow is
        // nearer, and ties count half.
        let distances = |kind: &str| -> Vec<f64> {
            under(kind, "").iter().map(|row| row["training_distance"].parse().unwrap()).collect()
        };
        let (known, unknown) = (distances("test"), distances("unknown"));
        assert_eq!((known.len(), distances("validation").is_empty()), (predictions.len(), false));
        let pairs = known.iter().flat_map(|known| unknown.iter().map(move |unknown| (known, unknown)));
        let nearer: f64 = pairs
            .map(|(known, unknown)| if known == unknown { 0.5 } else { f64::from(u8::from(known < unknown)) })
            .sum();
        let area = nearer / (known.len() * unknown.len()) as f64;
        assert!((value(input, "unknown", "neighbour_distance", "roc_auc").unwrap() - area).abs() < 1e-12, "{area}");
        assert!(under("first_packets", "1").iter().all(|row| row["training_distance"].is_empty()));
        // After all packets that it reads, a model predicts the same as for the test part.
        let last = under("first_packets", if input == "bytes" { "3" } else { "5" });
        assert_eq!(last.len(), predictions.len());
        for (asked, predicted) in last.iter().zip(&predictions) {
            for class in ["probability_dash", "probability_mumble", "probability_sip_rtp"] {
                assert_eq!((&asked["class"], &asked[class]), (&predicted["class"], &predicted[class]));
            }
        }
        // Accuracies match the stored predictions.
        for (kind, condition) in [("first_packets", "1"), ("first_packets", "2"), ("disturbed", "drop 0.2")] {
            let own = under(kind, condition);
            let right = own.iter().filter(|row| row["class"] == row["predicted"]).count();
            let accuracy = right as f64 / own.len() as f64;
            assert_eq!(value(input, kind, condition, "accuracy"), Some(accuracy), "{input} {kind} {condition}");
        }
    }
    // The wait for fewer packets cannot be longer.
    let waits: Vec<f64> = (1..=3)
        .map(|packets| value("bytes", "first_packets", &packets.to_string(), "median_wait_seconds").unwrap())
        .collect();
    assert!(waits[0] == 0.0 && waits.is_sorted(), "{waits:?}");
    let early = |metric: &str| value("bytes", "early_decision", "0.99", metric).unwrap();
    assert!((1.0..=3.0).contains(&early("mean_packets")), "{}", early("mean_packets"));

    // A repeated run computes nothing and is identical, also in units.
    let before = contents(&run);
    project.done(&["run", "experiments/asked.toml"]);
    assert_eq!(contents(&run), before);
    let again = self::project(ALL);
    again.done(&["run", "experiments/asked.toml", "--jobs", "2"]);
    assert_eq!(contents(&again.path("results/asked-lab-full")), before);
    project.done(&["report"]);
    let figures = fs::read_dir(project.path("paper/figures/asked-lab-full")).unwrap();
    let names: Vec<String> = figures.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.starts_with("first_packets")), "{names:?}");
}

#[test]
fn parts_of_time_follow_one_another() {
    let project = project("drift = 3");
    let split = ["--set", "split.method=\"temporal\"", "--set", "split.train=0.4", "--set", "split.test=0.5"];
    project.done(&[&["run", "experiments/asked.toml", "--models", "majority"][..], &split].concat());
    let run = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path());
    let run = run.filter(|path| path.join("evaluation.csv").is_file()).collect::<Vec<_>>().remove(0);
    let measured = rows(&run.join("evaluation.csv"));
    let parts: Vec<(&str, usize)> = measured
        .iter()
        .filter(|row| row["kind"] == "drift" && row["metric"] == "accuracy")
        .map(|row| (row["condition"].as_str(), row["flows"].parse().unwrap()))
        .collect();
    let predictions = rows(&fs::read_dir(run.join("predictions")).unwrap().next().unwrap().unwrap().path());
    assert_eq!(parts.iter().map(|part| part.0).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!(parts.iter().map(|part| part.1).sum::<usize>(), predictions.len());
    // One class in four is always right, in every part.
    for row in measured.iter().filter(|row| row["kind"] == "drift" && row["metric"] == "accuracy") {
        let accuracy: f64 = row["value"].parse().unwrap();
        assert!((0.15..=0.4).contains(&accuracy), "{accuracy}");
    }
    project.refused(&["run", "experiments/asked.toml"], &["[evaluation]", "drift requires a temporal split"]);
    let most =
        [&["run", "experiments/asked.toml", "--set", "evaluation.drift=4611686018427387904"][..], &split].concat();
    project.refused(&most, &["[evaluation]", "drift is above 10000"]);
}

#[test]
fn external_models_are_asked_too() {
    if !has_python() {
        return;
    }
    let project = project("first_packets = true\nunknown_classes = [\"hls\"]\ndisturbed = [\"drop 0.2\"]");
    add_model(&project, "tests/fixtures/external/faulty", "faulty");
    let run = ["run", "experiments/asked.toml", "--models", "faulty", "--set", "model.faulty.input=\"bytes\""];
    project.done(&run);
    let folders = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path());
    let run = folders.filter(|path| path.join("evaluation.csv").is_file()).collect::<Vec<_>>().remove(0);
    let measured = rows(&run.join("evaluation.csv"));
    for kind in ["first_packets", "early_decision", "unknown", "disturbed"] {
        assert!(measured.iter().any(|row| row["kind"] == kind && row["model"] == "faulty"), "{kind}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let refused = |evaluation: &str, words: &[&str]| {
        project(evaluation).refused(&["run", "experiments/asked.toml"], words);
    };
    refused("byte_ranges = 0", &["[evaluation]", "byte_ranges is 0"]);
    refused("disturbed = [\"lose 0.1\"]", &["\"lose 0.1\" is not a disturbance", "drop 0.1"]);
    refused("unknown_classes = [\"hsl\"]", &["unknown class `hsl`", "did you mean `hls`"]);
    refused("unknown_classes = [\"hls\", \"dash\", \"mumble\"]", &["leaves 1 of 4 classes"]);
    refused("first_packet = true", &["unknown key `first_packet`", "first_packets"]);
    let packets = project("first_packets = true");
    packets.refused(
        &["run", "experiments/asked.toml", "--models", "majority", "--set", "selection.sample=\"packet\""],
        &["[evaluation]", "apply to flows"],
    );
}

#[test]
fn what_a_decision_costs_is_measured_once() {
    let mut models = vec!["random_forest", "majority"];
    let project = project("cost = true");
    if has_python() {
        add_model(&project, "tests/fixtures/external/faulty", "faulty");
        models.push("faulty");
    }
    let listed = models.join(",");
    let run = ["run", "experiments/asked.toml", "--models", &listed, "--set", "model.random_forest.input=\"bytes\""];
    let printed = String::from_utf8_lossy(&project.done(&run).stdout).into_owned();
    assert!(printed.contains("cost of decisions") && printed.contains("to probabilities, by batch size"), "{printed}");
    let folders = || fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path());
    let run_folder = folders().find(|path| path.join("records.csv").is_file()).unwrap();
    let costs = || -> Vec<(String, String, String)> {
        let costs =
            rows(&run_folder.join("records.csv")).into_iter().filter(|row| row["metric"].starts_with("decision_"));
        costs.map(|row| (row["model"].clone(), row["metric"].clone(), row["value"].clone())).collect()
    };
    let first = costs();
    let value = |model: &str, metric: &str| -> f64 {
        let found = first.iter().find(|(of, name, _)| of == model && name == metric);
        found.unwrap_or_else(|| panic!("{model} {metric}: {first:?}")).2.parse().unwrap()
    };
    for model in &models {
        for flows in ["1", "32", "1000"] {
            let median = value(model, &format!("decision_{flows}_microseconds"));
            assert!(median > 0.0 && value(model, &format!("decision_{flows}_tail_microseconds")) >= median, "{model}");
        }
    }
    // A second run reports the values measured first.
    project.done(&run);
    assert_eq!(costs(), first);
    project.done(&["report"]);
    let name = run_folder.file_name().unwrap().to_str().unwrap();
    let drawn = fs::read_dir(project.path(&format!("paper/figures/{name}"))).unwrap();
    assert!(drawn.map(|entry| entry.unwrap().file_name()).any(|file| file.to_string_lossy().starts_with("cost-")));
}
