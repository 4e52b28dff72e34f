//! Training steps and predictions of the networks at their published sizes. `cargo bench --bench networks` runs
//! Criterion; `benches/peers/networks.py` starts this program with `serve FLOWS` instead, to run workloads alternately
//! with PyTorch's: it reads lines `WORKLOAD RUNS` and answers each with the milliseconds of every run.

use std::env;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use criterion::Criterion;
use etcbench::model::benchmark::Network;

const NAMES: [&str; 4] = ["sequence_cnn", "byte_cnn", "byte_transformer", "deep_fingerprinting"];

/// Default number of flows per step.
const FLOWS: usize = 64;

fn network(name: &str, flows: usize) -> Network {
    Network::new(name, flows).expect("a known name").expect("valid sizes")
}

fn networks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("networks");
    group.sample_size(10).measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_secs(1));
    for name in NAMES {
        let mut network = network(name, FLOWS);
        group.bench_function(format!("{name}_training_step"), |bencher| {
            bencher.iter(|| black_box(network.train_step()))
        });
        group.bench_function(format!("{name}_prediction"), |bencher| bencher.iter(|| black_box(network.predict())));
    }
    group.finish();
}

fn serve(flows: usize) {
    let mut networks = NAMES.map(|name| (name, network(name, flows)));
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is text");
        let (workload, runs) = line.split_once(' ').expect("WORKLOAD RUNS");
        let (name, network) =
            networks.iter_mut().find(|(name, _)| workload.starts_with(name)).expect("a known workload");
        let step = workload == format!("{name}_training_step");
        let times = (0..runs.parse().expect("a number")).map(|_| {
            let start = Instant::now();
            if step {
                drop(black_box(network.train_step()))
            } else {
                drop(black_box(network.predict()))
            }
            format!("{:.3}", start.elapsed().as_secs_f64() * 1e3)
        });
        println!("{}", times.collect::<Vec<_>>().join(" "));
        std::io::stdout().flush().expect("standard output is open");
    }
}

fn main() {
    let arguments = env::args().skip(1).collect::<Vec<_>>();
    if arguments.first().map(String::as_str) == Some("serve") {
        return serve(arguments[1].parse().expect("a number of flows"));
    }
    let mut criterion = Criterion::default().configure_from_args();
    networks(&mut criterion);
    criterion.final_summary();
}
