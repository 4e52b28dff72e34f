//! Training steps and encoding of the deep model's fast engine on the processor. Each run also writes its
//! workloads, weights and data, under `target/deep`; `python benches/peers/deep.py` then times PyTorch on them
//! and prints both medians side by side.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etcbench::model::benchmark::{AttentionLstm, Elmo};

fn deep(criterion: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/deep");
    fs::create_dir_all(&folder).expect("target/deep can be made");
    let mut elmo = Elmo::new(64, 128, 128, 2, 260).expect("valid sizes");
    let mut attention_lstm = AttentionLstm::new(256, 6, 256, 128).expect("valid sizes");
    for (name, file) in [("elmo", elmo.file()), ("attention_lstm", attention_lstm.file())] {
        fs::write(folder.join(format!("{name}.safetensors")), file.expect("valid data")).expect("file can be written");
    }

    let mut group = criterion.benchmark_group("deep");
    group.sample_size(15).measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_secs(1));
    group.bench_function("elmo_training_step", |bencher| bencher.iter(|| black_box(elmo.train_step())));
    group.bench_function("attention_lstm_training_step", |bencher| {
        bencher.iter(|| black_box(attention_lstm.train_step()));
    });
    group.throughput(Throughput::Elements(64));
    group.bench_function("elmo_encoding", |bencher| bencher.iter(|| black_box(elmo.encode())));
    group.finish();
}

criterion_group!(benches, deep);
criterion_main!(benches);
