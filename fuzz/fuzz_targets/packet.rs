//! See `etcbench::fuzz_targets::packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcbench::fuzz_targets::packet(bytes));
