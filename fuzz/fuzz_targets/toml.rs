//! See `etcbench::fuzz_targets::declarative_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcbench::fuzz_targets::declarative_file(bytes));
