//! One fit and one prediction of a classical model on arrays from a file: etcbench's side of
//! `benches/peers/classical.py`, which writes the file, runs this program and its peer alternately and compares them.
//!
//! `cargo bench --bench classical -- FILE MODEL IMPLEMENTATION PARAMETERS PREDICTIONS`, where `FILE` is safetensors
//! with `values` (32-bit floats, rows by columns; tokens 0 to 256 if `shape` is present), `labels`, `training` and
//! `test` (32-bit unsigned) and optionally `shape` (packets, bytes), `PARAMETERS` is the model's TOML table, and
//! `PREDICTIONS` is the output file for the classes of the test rows. Prints a JSON object after the fit and one at the
//! end: wall and CPU seconds of the fit and the prediction, and the peak growth of the process's memory in bytes.
//!
//! Fits take seconds, so each is timed once per run instead of sampled.

use std::time::Instant;

use etcbench::feature::{FeatureSet, TokenArray};
use etcbench::model::{Device, Examples, FitContext, Implementation, Input, ModelKind, ModelSpec, NoArtifacts, build};
use etcbench::progress::Silent;
use ndarray::Array2;
use safetensors::SafeTensors;

/// Reads the shape and the 4-byte values of a tensor.
fn numbers<T>(file: &SafeTensors<'_>, name: &str, read: fn([u8; 4]) -> T) -> (Vec<usize>, Vec<T>) {
    let view = file.tensor(name).unwrap_or_else(|error| panic!("tensor {name}: {error}"));
    let values = view.data().chunks_exact(4).map(|bytes| read(bytes.try_into().expect("four bytes"))).collect();
    (view.shape().to_vec(), values)
}

struct Data {
    features: FeatureSet,
    training: Vec<usize>,
    test: Vec<usize>,
    input: Input,
}

fn read(path: &str) -> Data {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (shape, values) = numbers(&file, "values", f32::from_le_bytes);
    let (_, labels) = numbers(&file, "labels", u32::from_le_bytes);
    let rows = |name| numbers(&file, name, u32::from_le_bytes).1.into_iter().map(|row| row as usize).collect();
    let classes = labels.iter().max().map_or(0, |&label| label + 1);
    let packet_shape = file.names().contains(&"shape");
    let (tokens, statistics, input) = if packet_shape {
        let (_, packets) = numbers(&file, "shape", u32::from_le_bytes);
        let tokens = TokenArray {
            packets: packets[0] as usize,
            bytes: packets[1] as usize,
            values: values.iter().map(|&token| token as u16).collect(),
        };
        (tokens, Array2::zeros((shape[0], 0)), Input::Bytes)
    } else {
        let statistics = Array2::from_shape_vec((shape[0], shape[1]), values).expect("the tensor's shape");
        (TokenArray { packets: 0, bytes: 0, values: Vec::new() }, statistics, Input::Statistics)
    };
    let features = FeatureSet {
        tokens,
        statistic_names: (0..statistics.ncols()).map(|column| format!("statistic{column}")).collect(),
        sequences: Array2::zeros((labels.len(), 0)),
        flowpics: Array2::zeros((labels.len(), 0)),
        statistics,
        labels,
        class_names: (0..classes).map(|class| format!("class{class}")).collect(),
        provenance: Vec::new(),
    };
    Data { features, training: rows("training"), test: rows("test"), input }
}

/// Reads a line of this process's status, in bytes; 0 if the system does not provide it.
fn status(line: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = text.lines().find_map(|text| text.strip_prefix(line));
    let kibibytes = found.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Returns the CPU seconds that this process's threads have used; 0 if the system does not provide them.
fn processor_time() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let nanoseconds = threads.flatten().filter_map(|thread| {
        // Nanoseconds on a CPU, nanoseconds waiting for one, and number of time slices.
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e9
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [file, model, implementation, parameters, predictions] = arguments.as_slice() else {
        println!("arguments: FILE MODEL IMPLEMENTATION PARAMETERS PREDICTIONS; run benches/peers/classical.py");
        return;
    };
    let kind: ModelKind = serde_json::from_value(model.as_str().into()).expect("a model's name");
    let implementation: Implementation =
        serde_json::from_value(implementation.as_str().into()).expect("fast or reference");
    let data = read(file);
    let examples = |rows| Examples { features: &data.features, rows };
    let context =
        FitContext { seed: 0, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts, pretraining: None };
    let parameters = parameters.parse().expect("a TOML table");
    let spec = ModelSpec { kind, input: data.input, implementation, parameters };
    let mut model = build(&spec).unwrap_or_else(|error| panic!("{error}"));
    // Writing 5 resets the peak, if permitted.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = status("VmRSS");
    let (started, processor_started) = (Instant::now(), processor_time());
    model.fit(examples(&data.training), examples(&[]), &context).unwrap_or_else(|error| panic!("{error}"));
    let (fitted, processor_fitted) = (Instant::now(), processor_time());
    let (fit, fit_cpu) = ((fitted - started).as_secs_f64(), processor_fitted - processor_started);
    let memory = status("VmHWM").saturating_sub(before);
    // Printed now, in case a limit ends the process before the prediction is done.
    println!("{}", serde_json::json!({ "fit": fit, "fit_cpu": fit_cpu, "memory": memory }));
    let probabilities =
        model.predict_probabilities(examples(&data.test), &Silent).unwrap_or_else(|error| panic!("{error}"));
    let (done, processor_done) = (Instant::now(), processor_time());
    let grown = status("VmHWM").saturating_sub(before);
    let classes: Vec<u8> = probabilities
        .outer_iter()
        .flat_map(|row| {
            let best = (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
            (best as u32).to_le_bytes()
        })
        .collect();
    std::fs::write(predictions, classes).expect("the predictions can be written");
    let (predict, predict_cpu) = ((done - fitted).as_secs_f64(), processor_done - processor_fitted);
    let measured = serde_json::json!({
        "fit": fit, "predict": predict, "fit_cpu": fit_cpu, "predict_cpu": predict_cpu, "memory": grown
    });
    println!("{measured}");
}
