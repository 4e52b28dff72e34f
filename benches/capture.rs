//! Packets per second of reading a capture and of assembling its flows, on a generated capture of 300,000 packets in
//! memory, so that disk I/O is not measured.
//!
//! Lower bound: every byte of the capture is read once. Criterion prints packets per second next to the time.

use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etcbench::capture::CaptureReader;
use etcbench::flow::{Assembler, FlowOptions};
use etcbench::synth::{LargeOptions, generate_large};

const PACKETS: u64 = 300_000;

fn capture(criterion: &mut Criterion) {
    // The reader needs a source that outlives it: shared bytes instead of a copy per run.
    let mut bytes = Vec::new();
    let options = LargeOptions { seed: 0, packets: PACKETS, active_flows: 10_000 };
    generate_large(&options, &mut bytes).expect("a capture in memory");
    let bytes: Arc<[u8]> = bytes.into();
    let open = || CaptureReader::from_reader(Cursor::new(Arc::clone(&bytes)), "memory").expect("a capture");
    let mut group = criterion.benchmark_group("capture");
    group.throughput(Throughput::Elements(PACKETS)).sample_size(10);
    group.bench_function("decode", |bencher| {
        bencher.iter_batched(
            open,
            |mut reader| {
                while let Some(packet) = reader.next_packet().expect("memory can be read") {
                    black_box(packet.wire_length);
                }
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.bench_function("flows", |bencher| {
        bencher.iter_batched(
            open,
            |mut reader| {
                let mut flows = 0;
                let mut assembler = Assembler::new(&FlowOptions::default()).expect("the defaults are valid");
                while let Some(packet) = reader.next_packet().expect("memory can be read") {
                    assembler.push(&packet, &mut |_| flows += 1);
                }
                assembler.finish(&mut |_| flows += 1);
                black_box(flows)
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, capture);
criterion_main!(benches);
