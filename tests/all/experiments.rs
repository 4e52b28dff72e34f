//! Features of experiment files through the real binary: folds, tuning, sampling, sequences, feature files, cached
//! flows, and comparing fast with reference.

mod pretraining;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::common::Project;

const TABLE_DATASET: &str = r#"
name = "points"
title = "Three clouds of points"
reference = "none"
label_columns = ["kind"]
[published_at]
url = "https://example.org/points"
how = "nothing to download"
[files]
patterns = ["*.csv"]
[features]
format = "csv"
labels = { kind = "class" }
leave_out = ["id"]
"#;

const TABLE_EXPERIMENT: &str = r#"
title = "Three clouds"
seeds = [0, 1]
models = ["knn", "majority"]
[dataset]
names = ["points"]
[selection]
label = "kind"
[split]
method = "k_fold"
folds = 3
[model.knn]
input = "statistics"
[tune]
search = "grid"
budget = 4
[tune.space.knn]
k = [1, 5, 9]
[tune.space.majority]
"#;

/// Sixty pseudo-random points of three overlapping classes.
fn points() -> Vec<(f64, f64, &'static str)> {
    let mut state = 1_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1 << 24) as f64
    };
    (0..60)
        .map(|index| {
            let class = index % 3;
            let centre = class as f64;
            ((centre + 1.4 * next()), (2.0 * centre + 3.0 * next()), ["a", "b", "c"][class])
        })
        .collect()
}

fn csv_of(points: &[(f64, f64, &str)]) -> String {
    let rows = points.iter().enumerate().map(|(index, (x, y, class))| format!("{index},{x},{y},{class}\n"));
    format!("id,x,y,class\n{}", rows.collect::<String>())
}

fn table_project() -> Project {
    let project = Project::new();
    project.write("data/points.toml", TABLE_DATASET);
    project.write("data/points/points.csv", csv_of(&points()));
    project.write("experiments/points.toml", TABLE_EXPERIMENT);
    project
}

type Row = BTreeMap<String, String>;

fn read_csv(path: &Path) -> Vec<Row> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    reader
        .records()
        .map(|record| header.iter().cloned().zip(record.unwrap().iter().map(str::to_owned)).collect())
        .collect()
}

fn without_times(rows: Vec<Row>) -> Vec<Row> {
    let timing =
        |metric: &str| ["_seconds", "_per_second", "_memory_bytes"].iter().any(|ending| metric.ends_with(ending));
    rows.into_iter().filter(|row| !timing(&row["metric"])).collect()
}

#[test]
fn folds_and_tuning_are_in_records_files_and_tables() {
    let project = table_project();
    let run = ["run", "experiments/points.toml"];
    let output = project.done(&run);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("over 6 test sets: every fold of 2 seeds"), "{printed}");
    assert!(printed.contains("Three clouds: what was tried"), "{printed}");
    let folder = project.path("results/points-points-full");
    let records = read_csv(&folder.join("records.csv"));
    let rows_of = |metric: &str| records.iter().filter(|row| row["metric"] == metric).collect::<Vec<_>>();
    // Two models, two seeds, three folds.
    assert_eq!(rows_of("accuracy").len(), 12);
    let folds: BTreeSet<&str> = records.iter().map(|row| row["fold"].as_str()).collect();
    assert_eq!(folds, BTreeSet::from(["0", "1", "2"]));
    // The value in the file and three of the grid, for every seed and fold; the chosen one has the best score.
    let tried = rows_of("tuning_macro_f1");
    assert_eq!(tried.len(), 4 * 6);
    let settings: BTreeSet<&str> = tried.iter().map(|row| row["setting"].as_str()).collect();
    assert_eq!(settings, BTreeSet::from(["k = default", "k = 1", "k = 5", "k = 9"]));
    for chosen in rows_of("tuning_chosen_macro_f1") {
        let same = tried.iter().filter(|row| row["seed"] == chosen["seed"] && row["fold"] == chosen["fold"]);
        let score = |row: &Row| row["value"].parse::<f64>().unwrap();
        let best = same.clone().map(|row| score(row)).fold(0.0, f64::max);
        let first = same.clone().find(|row| score(row) == best).unwrap();
        assert_eq!((&first["setting"], score(chosen)), (&chosen["setting"], best));
    }
    // Every flow is tested once per seed, as the split and prediction files show.
    for seed in 0..2 {
        let mut tested = BTreeSet::new();
        for fold in 0..3 {
            let split = read_csv(&folder.join(format!("splits/default-seed{seed}-fold{fold}.csv")));
            assert_eq!(split.len(), 60);
            let test: BTreeSet<String> =
                split.iter().filter(|row| row["part"] == "test").map(|row| row["flow_id"].clone()).collect();
            let path = folder.join(format!("predictions/default-knn-statistics-seed{seed}-fold{fold}.csv"));
            let predicted: BTreeSet<String> = read_csv(&path).into_iter().map(|row| row["flow_id"].clone()).collect();
            assert_eq!(test, predicted);
            assert!(test.into_iter().all(|flow| tested.insert(flow)));
        }
        assert_eq!(tested.len(), 60);
    }
    assert!(folder.join("tables/points-tuning.csv").is_file());
    // The second time everything comes from the cache; without it and on one thread the results are identical.
    let again = project.done(&run);
    assert!(String::from_utf8_lossy(&again.stderr).contains("12 fits, 12 of them from the cache"));
    assert_eq!(read_csv(&folder.join("records.csv")), records);
    project.done(&["run", "experiments/points.toml", "--no-cache", "--threads", "1"]);
    assert_eq!(without_times(read_csv(&folder.join("records.csv"))), without_times(records.clone()));
    project.done(&["tables", "points"]);
}

#[test]
fn tuning_does_not_see_the_test_part() {
    let project = table_project();
    let run = ["run", "experiments/points.toml", "--set", "split.method=stratified", "--set", "seeds=[0]"];
    fs::write(
        project.path("experiments/points.toml"),
        TABLE_EXPERIMENT.replace("method = \"k_fold\"\nfolds = 3", "method = \"stratified\""),
    )
    .unwrap();
    let scores = || {
        project.done(&run[..2]);
        let folder = project.path("results/points-points-full");
        let records = read_csv(&folder.join("records.csv"));
        let tuning = records.iter().filter(|row| row["metric"].starts_with("tuning_") && !row["setting"].is_empty());
        let tuning: Vec<Row> = tuning.cloned().collect();
        let accuracy: Vec<Row> = records.into_iter().filter(|row| row["metric"] == "accuracy").collect();
        (tuning, accuracy)
    };
    fs::write(
        project.path("experiments/points.toml"),
        TABLE_EXPERIMENT.replace("method = \"k_fold\"\nfolds = 3", "method = \"stratified\"").replace("[0, 1]", "[0]"),
    )
    .unwrap();
    let before = scores();
    assert_eq!(before.0.len(), 5);
    // Test flows change completely; the flows used for tuning do not.
    let split = read_csv(&project.path("results/points-points-full/splits/default-seed0.csv"));
    let mut changed = points();
    for row in split.iter().filter(|row| row["part"] == "test") {
        let number: usize = row["flow_id"].rsplit('#').next().unwrap().parse().unwrap();
        changed[number].0 *= -1000.0;
        changed[number].1 = 5000.0;
    }
    project.write("data/points/points.csv", csv_of(&changed));
    let after = scores();
    assert_eq!(before.0, after.0);
    assert_ne!(before.1, after.1);
}

#[test]
fn sampling_touches_the_training_part_alone() {
    let project = table_project();
    let mut uneven = points();
    uneven.retain(|point| point.2 != "c" || point.0 < 2.7);
    let large = uneven.iter().filter(|point| point.2 == "a").count();
    let small = uneven.iter().filter(|point| point.2 == "c").count();
    assert!((6..large).contains(&small), "{small} of {large}");
    project.write("data/points/points.csv", csv_of(&uneven));
    let text = TABLE_EXPERIMENT.split("[tune]").next().unwrap().replace("[0, 1]", "[0]");
    let count = |sampling: &str| {
        let text = text.replace("method = \"k_fold\"\nfolds = 3", &format!("train = 0.6\ntest = 0.3\n{sampling}"));
        project.write("experiments/points.toml", text);
        project.done(&["run", "experiments/points.toml"]);
        let folder = project.path("results/points-points-full");
        let records = read_csv(&folder.join("records.csv"));
        let value = |metric: &str| {
            records.iter().find(|row| row["metric"] == metric).unwrap()["value"].parse::<f64>().unwrap() as usize
        };
        let split = read_csv(&folder.join("splits/default-seed0.csv"));
        let classes = read_csv(&folder.join("predictions/default-knn-statistics-seed0.csv"));
        ((value("training_flows"), value("test_flows")), split, classes.len())
    };
    let plain = count("");
    let over = count("sampling = \"oversample\"");
    let under = count("sampling = \"undersample\"");
    assert_eq!((&plain.1, plain.2), (&over.1, over.2));
    assert_eq!((&plain.1, plain.2), (&under.1, under.2));
    assert!(under.0.0 < plain.0.0 && plain.0.0 < over.0.0, "{:?} {:?} {:?}", under.0, plain.0, over.0);
    assert!(under.0.0 % 3 == 0 && over.0.0 % 3 == 0);
    assert_eq!((under.0.1, over.0.1), (plain.0.1, plain.0.1));
    project.refused(&["run", "experiments/points.toml", "--set", "split.sampling=smote"], &["smote", "oversample"]);
}

#[test]
fn feature_files_run_on_classical_models_and_refuse_what_needs_packets() {
    let project = table_project();
    let with = |more: &[&'static str]| [&["run", "experiments/points.toml"][..], more].concat();
    project.refused(&with(&["--set", "model.knn.input=bytes"]), &["knn", "bytes", "input = \"statistics\""]);
    project.refused(&with(&["--set", "model.knn.input=sequences"]), &["knn", "sequences"]);
    let deep = &["--models", "attention_lstm", "--set", "tune.space.attention_lstm={}"];
    project.refused(&with(deep), &["attention_lstm", "packet bytes", "none"]);
    project.refused(&with(&["--set", "split.group=host"]), &["no addresses", "host", "[features.endpoints]"]);
    project.refused(&with(&["--set", "split.group=connection"]), &["no addresses", "connection"]);
    project.refused(&with(&["--set", "selection.minimum_packets=2"]), &["minimum_packets"]);
    project.refused(&with(&["--data", "points", "--data", "synth"]), &["feature files"]);
    for key in ["evaluation.occluded=[\"lengths\"]", "evaluation.first_packets=true"] {
        project.refused(&with(&["--set", key]), &["[evaluation]", "feature files do not have; remove these keys"]);
    }
    project.refused(&with(&["--set", "tune.budget=2"]), &["[tune]", "knn", "budget = 2"]);
    project.refused(&with(&["--models", "svm"]), &["svm has no space"]);
    project.refused(&with(&["--set", "tune.space.knn.neighbours=[1]", "--set", "tune.budget=9"]), &["neighbours"]);
    let good = csv_of(&points());
    project.write("data/points/points.csv", good.replacen(",a\n", ",a,7\n", 1));
    project.refused(&with(&[]), &["points.csv:2:"]);
    project.write("data/points/points.csv", good.replacen(",a\n", ",\n", 1));
    project.refused(&with(&[]), &["points.csv:2:", "kind"]);
}

#[test]
fn rows_of_one_connection_stay_on_one_side_where_the_file_names_endpoints() {
    let project = table_project();
    let endpoints = "[features.endpoints]\nsource_address = \"from\"\nsource_port = \"port\"\ndestination_address = \"to\"\n\
                     destination_port = \"to port\"\ntransport = \"protocol\"\n";
    project.write("data/points.toml", format!("{TABLE_DATASET}{endpoints}"));
    // Five connections of a class, four rows each, in both directions.
    let rows = points().into_iter().enumerate().map(|(index, (x, y, class))| {
        let port = 1000 + index % 15;
        let ends =
            if index / 15 % 2 == 0 { format!("10.0.0.1,{port},::2,443") } else { format!("::2,443,10.0.0.1,{port}") };
        format!("{index},{ends},tcp,{x},{y},{class}\n")
    });
    let csv = format!("id,from,port,to,to port,protocol,x,y,class\n{}", rows.collect::<String>());
    project.write("data/points/points.csv", csv);
    let grouped =
        TABLE_EXPERIMENT.replace("method = \"k_fold\"\nfolds = 3", "method = \"grouped\"\ngroup = \"connection\"");
    project.write("experiments/points.toml", grouped);
    let output = project.path("split.csv").to_string_lossy().into_owned();
    project.done(&["split", "points", "-o", &output]);
    let mut parts: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for row in read_csv(&project.path("split.csv")) {
        let ends = row["source"].clone().max(row["destination"].clone());
        let other = row["source"].clone().min(row["destination"].clone());
        parts.entry((row["seed"].clone(), format!("{ends} {other}"))).or_default().insert(row["part"].clone());
    }
    assert_eq!(parts.len(), 30, "15 connections, two seeds");
    assert!(parts.values().all(|parts| parts.len() == 1), "{parts:?}");
}

#[test]
fn the_published_features_of_iscxvpn2016_load_and_run() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/iscxvpn2016-time-features");
    if !source.is_dir() {
        println!("skipped: {} is missing", source.display());
        return;
    }
    let project = Project::new();
    let folder = project.path("data/iscxvpn2016-time-features");
    fs::create_dir_all(&folder).unwrap();
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    project.done(&[
        "run",
        "experiments/iscxvpn2016-time.toml",
        "--set",
        "selection.maximum_flows_per_class=400",
        "--set",
        "split.folds=2",
        "--set",
        "model.gradient_boosting.rounds=10",
    ]);
    let folder = fs::read_dir(project.path("results"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("iscxvpn2016-time-"))
        .unwrap();
    let records = read_csv(&folder.join("records.csv"));
    let accuracies: Vec<&Row> = records.iter().filter(|row| row["metric"] == "accuracy").collect();
    // Seven models, two variants, two folds.
    assert_eq!(accuracies.len(), 28);
    let forest: Vec<f64> = accuracies
        .iter()
        .filter(|row| row["model"] == "random_forest")
        .map(|row| row["value"].parse().unwrap())
        .collect();
    assert!(forest.iter().all(|&accuracy| accuracy > 0.7), "{forest:?}");
    project.done(&["data", "verify", "iscxvpn2016-time-features"]);
}

/// Flows of four UDP packets each way in a little-endian microsecond pcap of raw IPv4; packets of `length`.
fn capture(first_port: u16, length: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 101] {
        bytes.extend(value.to_le_bytes());
    }
    for flow in 0..12_u16 {
        for packet in 0..4_u16 {
            let size = length + packet + flow % 3;
            let mut ip = vec![0x45, 0];
            ip.extend(size.to_be_bytes());
            ip.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            let (source, destination) = (first_port + flow, 53_u16);
            if packet % 2 == 1 {
                ip[12..20].rotate_left(4);
            }
            let ports = if packet % 2 == 0 { [source, destination] } else { [destination, source] };
            ports.iter().for_each(|port| ip.extend(port.to_be_bytes()));
            ip.extend((size - 20).to_be_bytes());
            ip.extend([0, 0]);
            ip.resize(usize::from(size), 7);
            for value in [u32::from(flow), u32::from(packet), ip.len() as u32, ip.len() as u32] {
                bytes.extend(value.to_le_bytes());
            }
            bytes.extend(ip);
        }
    }
    bytes
}

const CAPTURE_DATASET: &str = r#"
name = "small"
title = "Two classes, one capture each"
reference = "none"
label_columns = ["kind"]
[published_at]
url = "https://example.org/small"
how = "nothing to download"
[files]
patterns = ["*.pcap"]
[[rule]]
stem = "^(?<kind>[a-z]+)"
"#;

const CAPTURE_EXPERIMENT: &str = r#"
title = "Two classes"
seeds = [0]
models = ["random_forest", "knn"]
[dataset]
names = ["small"]
[selection]
label = "kind"
[feature]
packets = 2
bytes = 32
[feature.sequences]
packets = 5
[split]
method = "stratified"
train = 0.5
validation = 0.25
test = 0.25
[model.random_forest]
input = ["bytes", "sequences"]
trees = 10
[model.knn]
input = ["bytes_and_statistics", "sequences"]
"#;

fn write_old(project: &Project, name: &str, content: &[u8]) {
    project.write(name, content);
    let file = fs::File::options().write(true).open(project.path(name)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
}

#[test]
fn invented_times_are_read_by_nothing_and_tables_say_so() {
    let project = Project::new();
    let table = "capture,kind\none,one\ntwo,two\nthree,two\n";
    project.write("data/small.csv", table);
    let labels = "[table]\nfile = \"small.csv\"\nkey = \"capture\"\n";
    let definition = CAPTURE_DATASET.replace("[[rule]]\nstem = \"^(?<kind>[a-z]+)\"\n", labels);
    assert!(definition.contains(labels));
    project.write("data/small.toml", definition.replace("[published_at]", "times = \"invented\"\n[published_at]"));
    write_old(&project, "data/small/one.pcap", &capture(1000, 60));
    write_old(&project, "data/small/two.pcap", &capture(2000, 90));
    project.write("experiments/small.toml", CAPTURE_EXPERIMENT);
    project.refused(&["run", "experiments/small.toml"], &["times are invented", "sequences"]);
    let flowpic = ["run", "experiments/small.toml", "--models", "knn", "--set", "model.knn.input=flowpic"];
    project.refused(&flowpic, &["times are invented", "flowpic"]);
    let by_time = ["run", "experiments/small.toml", "--set", "split.method=temporal"];
    let input = ["--models", "knn", "--set", "model.knn.input=bytes_and_statistics"];
    project.refused(&[&by_time[..], &input[..]].concat(), &["times are invented", "temporal"]);
    project.write("experiments/small.toml", CAPTURE_EXPERIMENT.replace(", \"sequences\"]", "]"));
    let output = project.done(&["run", "experiments/small.toml", "--save-models"]);
    let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warnings.contains("knn on bytes_and_statistics is not saved"), "{warnings}");
    let folder = project.path("results/small-small-full");
    let markdown = fs::read_to_string(folder.join("tables/small.md")).unwrap();
    for note in ["2 of the 3 published captures of small", "the packet times of small are invented"] {
        assert!(markdown.contains(note) && warnings.contains(note), "{note}: {markdown}{warnings}");
    }
    let leaks = fs::read_to_string(folder.join("leaks.csv")).unwrap();
    assert!(leaks.contains("packet_length_mean"), "{leaks}");
    for timed in ["duration", "_per_second", "interarrival", "active_", "idle_"] {
        assert!(!leaks.contains(timed), "{timed} is read");
    }
    // The same captures with recorded times have them.
    project.write("data/small.toml", definition);
    project.done(&["run", "experiments/small.toml"]);
    assert!(fs::read_to_string(folder.join("leaks.csv")).unwrap().contains("bytes_per_second"));
    assert!(!fs::read_to_string(folder.join("tables/small.md")).unwrap().contains("invented"));
}

#[test]
fn sequences_are_an_input_and_captures_are_read_once() {
    let project = Project::new();
    project.write("data/small.toml", CAPTURE_DATASET);
    write_old(&project, "data/small/one.pcap", &capture(1000, 60));
    write_old(&project, "data/small/two.pcap", &capture(2000, 90));
    project.write("experiments/small.toml", CAPTURE_EXPERIMENT);
    let run = ["run", "experiments/small.toml"];
    project.done(&run);
    let folder = project.path("results/small-small-full");
    let records = read_csv(&folder.join("records.csv"));
    // Lengths alone distinguish these classes.
    for model in ["random_forest", "knn"] {
        let found = records
            .iter()
            .find(|row| row["metric"] == "accuracy" && row["model"] == model && row["input"] == "sequences");
        assert_eq!(found.unwrap()["value"], "1.0", "{model}");
    }
    project.refused(&["run", "experiments/small.toml", "--set", "feature.sequences.packets=0"], &["sequences.packets"]);
    project.refused(&["run", "experiments/small.toml", "--set", "feature.sequences.bytes=1"], &["bytes", "packets"]);
    // Unchanged captures are not read again; one that was replaced by another of the same size and time is.
    let again = project.done(&["run", "experiments/small.toml", "--set", "model.knn.k=3"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains(", and the flows too"));
    project.done(&["run", "experiments/small.toml", "--verify"]);
    let length = capture(2000, 90).len();
    write_old(&project, "data/small/two.pcap", &vec![0; length]);
    for more in [&[][..], &["--verify"], &["--no-cache"], &["--jobs", "2"], &["--jobs", "2", "--verify"]] {
        project.refused(&[&run[..], more].concat(), &["two.pcap"]);
    }
    // A damaged cache entry is recomputed from the captures.
    write_old(&project, "data/small/two.pcap", &capture(2000, 90));
    let stores: Vec<_> = fs::read_dir(project.path("results/cache/flows"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "parquet"))
        .collect();
    assert_eq!(stores.len(), 1);
    let mut bytes = fs::read(&stores[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&stores[0], &bytes).unwrap();
    project.done(&run);
    assert_eq!(read_csv(&folder.join("records.csv")), records);
    bytes[middle] ^= 1;
    assert_eq!(fs::read(&stores[0]).unwrap(), bytes, "the store is made again, to the same bytes");
    // A changed capture is different data.
    write_old(&project, "data/small/two.pcap", &capture(2500, 60));
    project.done(&run);
    assert_ne!(read_csv(&folder.join("records.csv")), records);
}

#[test]
fn fast_and_reference_implementations_agree() {
    let project = Project::new();
    let arguments = ["verify-models", "--models", "svm,knn,random_forest,gradient_boosting"];
    let output = project.done(&arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Fast against reference: 0 of 8 models out of bounds"), "{text}");
    assert!(text.contains("the reference refuses over 10000 training flows"), "{text}");
    project.refused(&["verify-models", "--models", "majority"], &["majority", "second implementation"]);
    project.refused(&["verify-models", "--models", "smv"], &["smv", "did you mean `svm`"]);
    let output = project.etcbench(&["verify-models", "--device", "gpu"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("auto, cpu, cuda or cuda:N"), "{text}");
}
