//! Hands `control_log` to libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| haul_fuzz::control_log(data));
