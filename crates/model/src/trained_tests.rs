//! Trained models loaded from files: they predict the same, and anything but the written bytes is rejected.

use super::*;
use crate::{Device, FitContext, ModelSpec, NoArtifacts, build};
use etcbench_capture::{HeaderLayout, Transport};
use etcbench_dataset::{FlowProvenance, Labels};
use etcbench_feature::{PacketColumns, build_features};
use etcbench_flow::{FiveTuple, Flow, FlowPacket, PacketDirection};
use etcbench_storage::progress::Silent;

/// A flow of one packet, whose first byte encodes its class; without a packet if `first` is `None`.
fn flow(number: u32, first: Option<u8>, class: &str) -> LabelledFlow {
    let endpoint = format!("10.0.0.1:{}", 1000 + number).parse().unwrap();
    let five_tuple = FiveTuple { source: endpoint, destination: endpoint, transport: Transport::Udp };
    let packets = first
        .map(|byte| FlowPacket {
            direction: PacketDirection::Forward,
            timestamp: 0,
            wire_length: 40,
            bytes: vec![byte; 40],
            layout: HeaderLayout { transport_offset: 20, payload_offset: 28, transport: Transport::Udp },
        })
        .into_iter()
        .collect();
    let mut statistics = vec![f64::from(first.unwrap_or(0)); STATISTIC_NAMES.len()];
    let packets_column = STATISTIC_NAMES.iter().position(|name| *name == "packets").unwrap();
    statistics[packets_column] = if first.is_some() { 3.0 } else { 1.0 };
    LabelledFlow {
        provenance: FlowProvenance { capture: "a.pcap".to_owned(), number, five_tuple, start: 0, end: 0, packet: None },
        labels: Labels::from([("class".to_owned(), class.to_owned())]),
        flow: Flow { five_tuple, start: 0, end: 0, packets, statistics },
    }
}

fn trained(model: &str) -> (Vec<u8>, Vec<LabelledFlow>, Array2<f32>) {
    let kind = ModelKind::named(model).unwrap();
    let flows: Vec<LabelledFlow> = (0..40)
        .map(|number| flow(number, Some((number % 2 * 100 + number) as u8), if number % 2 == 0 { "a" } else { "b" }))
        .collect();
    let tokens = TokenOptions { packets: 1, bytes: 8, ..TokenOptions::default() };
    let options = FlowOptions::default();
    let selection = toml::from_str("label = \"class\"").unwrap();
    let (features, _) = build_features(&flows, &selection, &tokens, PacketColumns::default(), &options, 0).unwrap();
    let spec =
        ModelSpec { kind, input: Input::Bytes, implementation: Implementation::Fast, parameters: toml::Table::new() };
    let mut model = build(&spec).unwrap();
    let rows: Vec<usize> = (0..features.len()).collect();
    let examples = Examples { features: &features, rows: &rows };
    let context =
        FitContext { seed: 1, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts, pretraining: None };
    model.fit(examples, Examples { features: &features, rows: &[] }, &context).unwrap();
    let probabilities = model.predict_probabilities(examples, &Silent).unwrap();
    let description = ModelDescription {
        format: FORMAT,
        version: "0.1.0".to_owned(),
        commit: None,
        experiment: "mine".to_owned(),
        dataset: "mine".to_owned(),
        size: "full".to_owned(),
        variant: "default".to_owned(),
        model: kind,
        input: Input::Bytes,
        implementation: Implementation::Fast,
        seed: 1,
        fold: 0,
        training_flows: rows.len(),
        classes: features.class_names.clone(),
        minimum_packets: 2,
        flow: options,
        tokens,
        sequences: None,
        flowpic: None,
        statistic_names: STATISTIC_NAMES.iter().map(|name| (*name).to_owned()).collect(),
    };
    let bytes = trained_model_bytes(&model.save().unwrap().to_bytes().unwrap(), &description).unwrap();
    (bytes, flows, probabilities)
}

#[test]
fn a_loaded_model_gives_the_same_bits_and_names_what_it_cannot_read() {
    for kind in ["random_forest", "knn", "svm", "majority"] {
        let (bytes, mut flows, expected) = trained(kind);
        let model = TrainedModel::from_bytes(&bytes).unwrap();
        assert_eq!(model.description(), &described(&bytes).unwrap().1);
        assert_eq!(model.description().classes, ["a", "b"]);
        flows.insert(3, flow(99, None, ""));
        let mut answers = model.classify(&flows, &Silent).unwrap();
        assert_eq!(answers.remove(3), Classification::Unusable(Unusable::TooFewPackets));
        for (answer, row) in answers.iter().zip(expected.rows()) {
            assert_eq!(answer, &Classification::Probabilities(row.to_vec()), "{kind:?}");
        }
        assert!(model.classify(&[], &Silent).unwrap().is_empty());
    }
}

#[test]
fn a_file_that_is_damaged_cut_or_of_another_kind_is_refused() {
    let (bytes, ..) = trained("decision_tree");
    let mut refused = 0;
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        // The file header's own key names are not covered by the checksum; everything that is read is.
        match TrainedModel::from_bytes(&damaged) {
            Err(_) => refused += 1,
            Ok(_) => {
                assert_eq!(described(&damaged).unwrap().0, described(&bytes).unwrap().0, "byte {place}");
            }
        }
        assert!(TrainedModel::from_bytes(&bytes[..place]).is_err());
    }
    assert!(refused * 100 > bytes.len() * 99, "{refused} of {}", bytes.len());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(TrainedModel::read(&path).err().unwrap().to_string().contains("m.safetensors: "));
    assert!(model_description(&folder.path().join("none")).unwrap_err().to_string().contains("none: No such file"));
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(model_description(&path).unwrap().experiment, "mine");
    // A model's own file does not describe its features.
    let bare = ModelArchive::from_bytes(&bytes).unwrap();
    let metadata = bare.metadata.iter().filter(|(key, _)| *key != DESCRIPTION && *key != CHECKSUM);
    let bare = ModelArchive { metadata: metadata.map(|(key, value)| (key.clone(), value.clone())).collect(), ..bare };
    let error = TrainedModel::from_bytes(&bare.to_bytes().unwrap()).err().unwrap().to_string();
    assert!(error.contains("--save-models"), "{error}");
}

#[test]
fn an_invalid_description_is_refused_whatever_its_checksum() {
    let (bytes, flows, _) = trained("knn");
    let (archive, good) = described(&bytes).unwrap();
    let model = archive.to_bytes().unwrap();
    let problem = |change: fn(&mut ModelDescription)| {
        let mut description = good.clone();
        change(&mut description);
        match TrainedModel::from_bytes(&trained_model_bytes(&model, &description).unwrap()) {
            Err(error) => error.to_string(),
            Ok(model) => model.classify(&flows, &Silent).unwrap_err().to_string(),
        }
    };
    assert!(problem(|description| description.format = 9).contains("reads format 1; train it again"));
    assert!(problem(|description| description.flow.idle_timeout = f64::NAN).contains("description"));
    assert!(problem(|description| description.tokens.packets = 0).contains("must be at least 1"));
    assert!(problem(|description| description.tokens.packets = 7).contains("kept_packets"));
    assert!(problem(|description| description.tokens.bytes = 9).contains("bytes"));
    assert!(problem(|description| description.classes = vec!["a".to_owned(); 2]).contains("has a duplicate"));
    assert!(problem(|description| description.classes.push("c".to_owned())).contains("lists 3 classes"));
    assert!(problem(|description| description.statistic_names.clear()).contains("train it again on captures"));
    let huge = problem(|description| {
        description.flow.kept_packets = 65_535;
        description.flow.kept_bytes = 65_535;
        description.tokens.packets = 65_535;
        description.tokens.bytes = 65_535;
    });
    assert!(huge.contains("tokens per flow"), "{huge}");
}
