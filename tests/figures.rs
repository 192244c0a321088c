//! What a result says of the sockets that carried it, and the options that choose how they behave.

mod common;

use common::Place;

#[cfg(target_os = "linux")]
#[test]
fn a_congestion_control_that_the_kernel_does_not_have_is_a_usage_error() {
    let here = Place::new();
    here.write("file", "content");
    let with = |arguments: &[&str]| {
        let ended = here.haul(arguments.iter().chain(&["--tcp-congestion", "pigeon"])).with(2);
        assert!(ended.stderr.contains("--tcp-congestion pigeon: "), "{ended}");
        assert!(ended.stderr.contains("/proc/sys/net/ipv4/tcp_available_congestion_control"), "{ended}");
    };

    with(&["send", "file", "localhost:in"]);
    with(&["get", "localhost:file"]);
    with(&["recv"]);
    with(&["offer", "file"]);
    with(&["serve", "."]);
}
