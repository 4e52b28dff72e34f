//! See `etcbench::fuzz_targets::store`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    // The Parquet reader panics on some damaged files and the store makes errors of that, so a panic is no finding
    // here unless it comes through.
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| etcbench::fuzz_targets::store(bytes)
);
