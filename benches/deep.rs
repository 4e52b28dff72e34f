//! Training steps and encoding of the deep model's fast engine. `cargo bench --bench deep` runs Criterion;
//! `benches/peers/deep.py` starts this program with `serve` instead, to run workloads alternately with PyTorch's:
//!
//! ```text
//! deep serve FOLDER PACKETS FLOWS DEVICE   (DEVICE is cpu, cuda-f32, cuda-tf32 or cuda-bf16) writes weights, data, losses and gradients to FOLDER, then reads lines
//!                                          `WORKLOAD RUNS` and answers each with the milliseconds of every run
//! deep memory WORKLOAD PACKETS FLOWS DEVICE   prints how many MiB the resident set grows with the model and three
//!                                          steps; with a GPU it then waits for the end of its input
//! ```

use std::any::Any;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use criterion::{Criterion, Throughput};
use etcbench::model::benchmark::{AttentionLstm, Elmo, FineTuned, Reading};
use etcbench::model::{CudaDevice, Device, Precision};

/// Packets and flows of the published comparison.
const SIZES: (usize, usize) = (64, 256);

fn elmo(packets: usize, device: Device) -> Elmo {
    Elmo::new(packets, 128, 128, 2, 260, device).expect("valid sizes and an available device")
}

/// The classifier's training steps: name of the workload without `_training_step`.
const READINGS: [(&str, Reading); 4] = [
    ("attention_lstm", Reading::Mean),
    ("segments", Reading::Segments),
    ("attention", Reading::Attention),
    ("states", Reading::States),
];

fn attention_lstm(flows: usize, reading: Reading, device: Device) -> AttentionLstm {
    AttentionLstm::new(flows, 6, 256, 128, reading, device).expect("valid sizes and an available device")
}

/// Returns the index of a workload among the classifier's training steps.
fn reading_of(workload: &str) -> Option<usize> {
    let name = workload.strip_suffix("_training_step")?;
    READINGS.iter().position(|(known, _)| *known == name)
}

/// Creates the fine-tuning benchmark with flows of six packets each, at least one flow.
fn fine_tuned(packets: usize, device: Device) -> FineTuned {
    FineTuned::new((packets / 6).max(1), 6, 128, 256, 128, device).expect("valid sizes and an available device")
}

fn deep(criterion: &mut Criterion) {
    let mut elmo = elmo(SIZES.0, Device::Cpu);
    let mut classifiers = READINGS.map(|(name, reading)| (name, attention_lstm(SIZES.1, reading, Device::Cpu)));
    let mut fine_tuned = fine_tuned(SIZES.0, Device::Cpu);
    let mut group = criterion.benchmark_group("deep");
    group.sample_size(15).measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_secs(1));
    group.bench_function("elmo_training_step", |bencher| bencher.iter(|| black_box(elmo.train_step())));
    for (name, classifier) in &mut classifiers {
        group.bench_function(format!("{name}_training_step"), |bencher| {
            bencher.iter(|| black_box(classifier.train_step()));
        });
    }
    group.bench_function("fine_tuning_step", |bencher| bencher.iter(|| black_box(fine_tuned.train_step())));
    group.throughput(Throughput::Elements(SIZES.0 as u64));
    group.bench_function("elmo_encoding", |bencher| bencher.iter(|| black_box(elmo.encode())));
    group.finish();
}

/// Parses `PACKETS FLOWS DEVICE`.
fn sizes(arguments: &[String]) -> (usize, usize, Device) {
    let [packets, flows, device] = arguments else { panic!("PACKETS FLOWS DEVICE must be given") };
    let number = |text: &String| text.parse().expect("a number");
    let device = match device.as_str() {
        "cpu" => Device::Cpu,
        other => {
            let precision = other.strip_prefix("cuda-").expect("cpu, or cuda- and a precision");
            let precision =
                Precision::ALL.into_iter().find(|known| known.name() == precision).expect("a known precision");
            Device::Cuda(CudaDevice { precision, ..CudaDevice::default() })
        }
    };
    (number(packets), number(flows), device)
}

fn serve(arguments: &[String]) {
    let folder = Path::new(&arguments[0]);
    let (packets, flows, device) = sizes(&arguments[1..]);
    fs::create_dir_all(folder).expect("the folder can be made");
    let mut elmo = elmo(packets, device);
    let mut classifiers = READINGS.map(|(_, reading)| attention_lstm(flows, reading, device));
    let mut fine_tuned = fine_tuned(packets, device);
    let of_readings = READINGS.iter().zip(&classifiers).map(|((name, _), classifier)| (*name, classifier.file()));
    for (name, file) in [("elmo", elmo.file()), ("fine_tuned", fine_tuned.file())].into_iter().chain(of_readings) {
        fs::write(folder.join(format!("{name}.safetensors")), file.expect("valid data")).expect("file can be written");
    }
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is text");
        let (workload, runs) = line.split_once(' ').expect("WORKLOAD RUNS");
        let times = (0..runs.parse().expect("a number")).map(|_| {
            let start = Instant::now();
            match (workload, reading_of(workload)) {
                (_, Some(reading)) => drop(black_box(classifiers[reading].train_step())),
                ("elmo_training_step", _) => drop(black_box(elmo.train_step())),
                ("elmo_encoding", _) => drop(black_box(elmo.encode())),
                ("fine_tuning_step", _) => drop(black_box(fine_tuned.train_step())),
                (other, _) => panic!("{other} is no workload"),
            }
            format!("{:.3}", start.elapsed().as_secs_f64() * 1e3)
        });
        println!("{}", times.collect::<Vec<_>>().join(" "));
        std::io::stdout().flush().expect("standard output is open");
    }
}

/// Reads a line of `/proc/self/status` in MiB.
fn status(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find(|line| line.starts_with(name)).expect("the line is there");
    line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok()).expect("a number") / 1024.0
}

fn memory(arguments: &[String]) {
    let (packets, flows, device) = sizes(&arguments[1..]);
    // Starts the thread pool, so that its memory is not counted.
    rayon::broadcast(|_| ());
    let before = status("VmRSS");
    let workload = arguments[0].as_str();
    let held: Box<dyn Any> = match (workload, reading_of(workload)) {
        (_, Some(reading)) => {
            let mut attention_lstm = attention_lstm(flows, READINGS[reading].1, device);
            (0..3).for_each(|_| drop(black_box(attention_lstm.train_step())));
            Box::new(attention_lstm)
        }
        ("elmo_training_step", _) => {
            let mut elmo = elmo(packets, device);
            (0..3).for_each(|_| drop(black_box(elmo.train_step())));
            Box::new(elmo)
        }
        ("fine_tuning_step", _) => {
            let mut fine_tuned = fine_tuned(packets, device);
            (0..3).for_each(|_| drop(black_box(fine_tuned.train_step())));
            Box::new(fine_tuned)
        }
        (other, _) => panic!("{other} is no training step"),
    };
    println!("{:.1}", status("VmHWM") - before);
    if device != Device::Cpu {
        // The caller now reads the GPU's memory use and then closes the input.
        std::io::stdin().lock().lines().for_each(drop);
    }
    drop(held);
}

fn main() {
    let arguments = env::args().skip(1).collect::<Vec<_>>();
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(&arguments[1..]),
        Some("memory") => memory(&arguments[1..]),
        _ => {
            let mut criterion = Criterion::default().configure_from_args();
            deep(&mut criterion);
            criterion.final_summary();
        }
    }
}
