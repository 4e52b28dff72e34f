//! See `etcbench::fuzz_targets::labels`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcbench::fuzz_targets::labels(bytes));
