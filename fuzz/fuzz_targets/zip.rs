//! See `etcbench::fuzz_targets::zip_archive`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcbench::fuzz_targets::zip_archive(bytes));
