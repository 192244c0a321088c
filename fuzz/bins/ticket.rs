//! Hands `ticket` to libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| haul_fuzz::ticket(data));
