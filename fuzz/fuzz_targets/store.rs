//! See `etcbench::fuzz_targets::store`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    // The Parquet reader panics on some damaged files and the store converts these panics to errors, so only a panic
    // that escapes is a finding.
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| etcbench::fuzz_targets::store(bytes)
);
