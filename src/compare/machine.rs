//! Where a comparison was made: what a reader needs to know to judge its numbers.

use std::fs;

use serde::{Deserialize, Serialize};

/// The machine and the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// This program's version.
    pub haul: String,
    /// `release`, or `debug`, whose numbers mean nothing.
    pub build: String,
    /// The kernel's name and version.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// The system's own choice of TCP's congestion control.
    pub tcp_congestion: String,
    /// The most that a socket may ask for to receive, bytes.
    pub rmem_max_bytes: u64,
    /// The most that a socket may ask for to send, bytes.
    pub wmem_max_bytes: u64,
    /// When the comparison began, seconds since 1970 UTC.
    pub unix_time_s: u64,
}

impl Machine {
    /// This one; what it does not tell is empty or zero.
    pub fn here(unix_time_s: u64) -> Self {
        let number = |name: &str| setting(name).parse().unwrap_or(0);
        Self {
            haul: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            kernel: format!("{} {}", read("/proc/sys/kernel/ostype"), read("/proc/sys/kernel/osrelease")),
            cpu: cpu_in(&read("/proc/cpuinfo")),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            tcp_congestion: setting("ipv4/tcp_congestion_control"),
            rmem_max_bytes: number("core/rmem_max"),
            wmem_max_bytes: number("core/wmem_max"),
            unix_time_s,
        }
    }
}

/// The congestion controls that an ordinary process here may ask for; of root, all that the kernel has.
pub fn tcp_congestions() -> Vec<String> {
    let is_root = rustix::process::geteuid().is_root();
    let names =
        if is_root { "ipv4/tcp_available_congestion_control" } else { "ipv4/tcp_allowed_congestion_control" };
    setting(names).split_whitespace().map(str::to_owned).collect()
}

fn setting(name: &str) -> String {
    read(&format!("/proc/sys/net/{name}"))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn cpu_in(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    line.map(|(_, name)| name.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_by_the_kernels_list() {
        assert_eq!(cpu_in("processor\t: 0\nmodel name\t: A Fast One\nflags : x\n"), "A Fast One");
        assert_eq!(cpu_in("processor\t: 0\n"), "");
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_processor() {
        let machine = Machine::here(7);

        assert!(machine.kernel.starts_with("Linux "));
        assert!(machine.cpus > 0);
        assert!(tcp_congestions().iter().any(|name| name == &machine.tcp_congestion));
    }
}
