//! See `etcbench::fuzz_targets::bundle`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcbench::fuzz_targets::bundle(bytes));
