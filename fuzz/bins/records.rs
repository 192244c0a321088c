//! Hands `records` to libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| haul_fuzz::records(data));
