//! Replays the fuzzers' seeds (`fuzz/seeds`) and random mutations of each, to detect regressions of fuzzer findings
//! with any compiler. `ETCBENCH_MUTATIONS` sets the number of mutations per target.

use std::path::Path;

use etcbench::fuzz_targets::TARGETS;
use rand::{Rng, RngExt};

/// Default number of mutated inputs per target.
const MUTATIONS: usize = 400;
/// Edge values of lengths and counts.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, u64::MAX];

/// Returns the seeds of a target in order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Returns a seed after one to eight mutations: bits, bytes, edge values, and parts that are cut, duplicated, or copied
/// from another seed.
fn mutated(seeds: &[Vec<u8>], random: &mut impl Rng) -> Vec<u8> {
    let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..=8) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let start = random.random_range(0..bytes.len());
        let end = (start + random.random_range(1..=32)).min(bytes.len());
        match random.random_range(0..7) {
            0 => bytes[start] ^= 1 << random.random_range(0..8),
            1 => bytes[start] = random.random(),
            2 => {
                let edge = EDGES[random.random_range(0..EDGES.len())];
                let size = [1, 2, 4, 8][random.random_range(0..4_usize)].min(bytes.len() - start);
                let number = if random.random() { edge.to_le_bytes() } else { edge.to_be_bytes() };
                let number = if random.random() { &number[..size] } else { &number[8 - size..] };
                bytes[start..start + size].copy_from_slice(number);
            }
            3 => bytes.truncate(start),
            4 => drop(bytes.drain(start..end)),
            5 => {
                let part = bytes[start..end].to_vec();
                bytes.splice(start..start, part);
            }
            _ => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                let to = (from + random.random_range(0..=64)).min(other.len());
                bytes.splice(start..end, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn every_target_comes_back_from_its_seeds_and_from_changed_ones() {
    let mutations = std::env::var("ETCBENCH_MUTATIONS").map_or(MUTATIONS, |count| count.parse().unwrap());
    std::thread::scope(|scope| {
        for (name, target) in TARGETS {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn_scoped(scope, move || {
                    let seeds = seeds(name);
                    assert!(!seeds.is_empty(), "{name} has no seeds");
                    seeds.iter().for_each(|seed| target(seed));
                    let mut random = etcbench::seed::generator(0, name);
                    let start = std::time::Instant::now();
                    for _ in 0..mutations {
                        target(&mutated(&seeds, &mut random));
                    }
                    println!("{name}: {} seeds, {mutations} changed ones in {:.1?}", seeds.len(), start.elapsed());
                })
                .unwrap();
        }
    });
}
