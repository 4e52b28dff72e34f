//! Broken experiment, dataset, label, tolerance, result and model files, each with its expected message: one line that
//! names the file and what to do. The corpus is `tests/broken/*.toml`, whose first lines explain the format.

use std::fs;
use std::path::{Path, PathBuf};

use etcbench::dataset::DatasetDefinition;
use etcbench::experiment::{Overrides, read_experiment};
use etcbench::feature::{FeatureSet, TokenArray, TokenOptions};
use etcbench::flow::{FlowOptions, STATISTIC_NAMES};
use etcbench::model::{
    Device, Examples, FitContext, Implementation, Input, ModelArchive, ModelDescription, ModelKind, ModelSpec,
    NoArtifacts, Tensor, TensorData, TrainedModel, build, load, trained_model_bytes,
};
use etcbench::progress::Silent;
use etcbench::report::{ToleranceFile, read_records};
use ndarray::Array2;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    group: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    kind: String,
    file: String,
    base: Option<String>,
    cases: Vec<(String, String, String)>,
}

/// Returns the error of a file's reader, or `None` if it accepts the file.
fn problem<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<String> {
    result.err().map(|error| error.to_string())
}

fn definition_with_table() -> &'static str {
    "name = \"table\"\ntitle = \"t\"\nreference = \"r\"\nlabel_columns = [\"kind\", \"tunnel\"]\n\
     published_at = { url = \"u\", how = \"h\" }\nfiles = { patterns = [\"*.pcap\"] }\n\
     table = { file = \"bad.csv\", key = \"stem\" }\n"
}

fn experiment(path: &Path) -> Option<String> {
    match read_experiment(path, &Overrides::default()) {
        Err(error) => Some(error.to_string()),
        Ok(experiment) => {
            experiment.variants.iter().flat_map(|variant| &variant.models).find_map(|spec| problem(build(spec)))
        }
    }
}

/// Returns the message for a text file.
fn of_text(kind: &str, path: &Path) -> Option<String> {
    match kind {
        "experiment" => experiment(path),
        "definition" => problem(DatasetDefinition::read(path)),
        "label_table" => {
            let definition = path.with_file_name("table.toml");
            fs::write(&definition, definition_with_table()).unwrap();
            problem(DatasetDefinition::read(&definition))
        }
        "tolerance" => problem(ToleranceFile::read(path)),
        "records" => problem(read_records(path)),
        other => panic!("{other} is no kind of file"),
    }
}

fn large(data: &TensorData) -> TensorData {
    match data {
        TensorData::F32(values) => TensorData::F32(vec![f32::NAN; values.len()]),
        TensorData::F64(values) => TensorData::F64(vec![f64::NAN; values.len()]),
        TensorData::U32(values) => TensorData::U32(vec![u32::MAX; values.len()]),
        TensorData::U8(values) => TensorData::U8(vec![255; values.len()]),
    }
}

/// Returns the bytes of a broken model file.
fn break_model(sound: &[u8], what: &str, how: &str) -> Vec<u8> {
    match what {
        "*" => return how.as_bytes().to_vec(),
        "cut" => return sound[..how.parse().unwrap()].to_vec(),
        "length" => return [&how.parse::<u64>().unwrap().to_le_bytes(), &sound[8..]].concat(),
        _ => {}
    }
    let mut archive = ModelArchive::from_bytes(sound).unwrap();
    if let Some(name) = what.strip_prefix("tensor ") {
        let tensor = archive.tensors.remove(name).unwrap_or_else(|| panic!("there is no tensor {name}"));
        let broken = match how {
            "remove" => None,
            "empty" => {
                let shape = vec![0; tensor.shape.len()];
                let data = match tensor.data {
                    TensorData::F32(_) => TensorData::F32(Vec::new()),
                    TensorData::F64(_) => TensorData::F64(Vec::new()),
                    TensorData::U32(_) => TensorData::U32(Vec::new()),
                    TensorData::U8(_) => TensorData::U8(Vec::new()),
                };
                Some(Tensor { shape, data })
            }
            "u8" => Some(Tensor::u8(vec![1])),
            "large" => Some(Tensor { data: large(&tensor.data), ..tensor }),
            other => panic!("{other} is nothing that can be done to a tensor"),
        };
        archive.tensors.extend(broken.map(|tensor| (name.to_owned(), tensor)));
    } else if how == "remove" {
        archive.metadata.remove(what).unwrap_or_else(|| panic!("there is no metadata {what}"));
    } else {
        archive.metadata.insert(what.to_owned(), how.to_owned()).unwrap_or_else(|| panic!("there is no {what}"));
    }
    archive.to_bytes().unwrap()
}

fn of_model(bytes: &[u8]) -> Option<String> {
    match ModelArchive::from_bytes(bytes) {
        Err(error) => Some(error.to_string()),
        Ok(archive) => problem(load(&archive)),
    }
}

/// The same for a model file with a description.
fn of_trained(model: &[u8], name: &str) -> Option<String> {
    let description = ModelDescription {
        format: ModelDescription::FORMAT,
        version: "0".to_owned(),
        commit: None,
        experiment: "e".to_owned(),
        dataset: "d".to_owned(),
        size: "full".to_owned(),
        variant: "default".to_owned(),
        model: serde_json::from_value(name.into()).unwrap(),
        input: Input::Bytes,
        implementation: Implementation::Fast,
        seed: 1,
        fold: 0,
        training_flows: 8,
        classes: vec!["a".to_owned(), "b".to_owned()],
        minimum_packets: 1,
        flow: FlowOptions::default(),
        tokens: TokenOptions { packets: 1, bytes: 4, ..TokenOptions::default() },
        sequences: None,
        flowpic: None,
        statistic_names: STATISTIC_NAMES.iter().map(|name| (*name).to_owned()).collect(),
    };
    problem(TrainedModel::from_bytes(&trained_model_bytes(model, &description).unwrap()))
}

/// Returns the file of a model fitted to eight flows of four bytes.
fn sound_model(name: &str) -> Vec<u8> {
    let features = FeatureSet {
        tokens: TokenArray { packets: 1, bytes: 4, values: (0..32).map(|index| index * 7 % 256).collect() },
        statistic_names: Vec::new(),
        sequences: Array2::zeros((8, 0)),
        flowpics: Array2::zeros((8, 0)),
        statistics: Array2::zeros((8, 0)),
        labels: [0, 1].repeat(4),
        class_names: vec!["a".to_owned(), "b".to_owned()],
        provenance: Vec::new(),
    };
    let kind: ModelKind = serde_json::from_value(name.into()).unwrap();
    let parameters = match name {
        "random_forest" => "trees = 2",
        "gradient_boosting" => "rounds = 2",
        _ => "",
    };
    let parameters = parameters.parse().unwrap();
    let spec = ModelSpec { kind, input: Input::Bytes, implementation: Implementation::Fast, parameters };
    let mut model = build(&spec).unwrap();
    let context =
        FitContext { seed: 1, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts, pretraining: None };
    let rows: Vec<usize> = (0..8).collect();
    let examples = |rows| Examples { features: &features, rows };
    model.fit(examples(&rows), examples(&[]), &context).unwrap();
    model.save().unwrap().to_bytes().unwrap()
}

#[test]
fn every_broken_file_has_its_message() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let prefix = format!("{}/", folder.path().display());
    let mut corpora: Vec<PathBuf> =
        fs::read_dir(root.join("tests/broken")).unwrap().map(|entry| entry.unwrap().path()).collect();
    corpora.sort();
    let (mut count, mut wrong) = (0, Vec::new());
    for corpus in &corpora {
        let groups: Corpus = toml::from_str(&fs::read_to_string(corpus).unwrap()).unwrap();
        for (number, group) in groups.group.iter().enumerate() {
            let path = folder.path().join(&group.file);
            let sound = ["model", "trained"].contains(&group.kind.as_str()).then(|| sound_model(&group.file));
            let of_model = |bytes: &[u8]| match group.kind.as_str() {
                "trained" => of_trained(bytes, &group.file),
                _ => of_model(bytes),
            };
            let base = group.base.as_deref().unwrap_or_default();
            let problem_of = |what: &str, how: &str| match &sound {
                Some(sound) => of_model(&break_model(sound, what, how)),
                None => {
                    let content = if what == "*" {
                        how.to_owned()
                    } else {
                        assert!(base.contains(what), "{what} is not in the sound file");
                        base.replacen(what, how, 1)
                    };
                    fs::write(&path, content).unwrap();
                    of_text(&group.kind, &path)
                }
            };
            let untouched = match &sound {
                Some(sound) => of_model(sound),
                None => problem_of("", ""),
            };
            assert_eq!(untouched, None, "the sound file of group {number} of {}", corpus.display());
            for (index, (what, how, expected)) in group.cases.iter().enumerate() {
                count += 1;
                let message = problem_of(what, how).unwrap_or_else(|| "(taken)".to_owned()).replace(&prefix, "");
                if message != *expected || message.contains('\n') {
                    let name = corpus.file_name().unwrap().to_string_lossy().into_owned();
                    wrong.push(serde_json::json!([name, number, index, what, how, expected, message]).to_string());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} files give another message:\n{}", wrong.len(), wrong.join("\n"));
    println!("{count} broken files, each with its message");
    assert!(count >= 300);
}
