//! What to say where the system does not let us make two hosts: which step failed, and the setting to change.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

/// A step towards a host of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// A network namespace, in a user namespace where we are not privileged.
    Namespaces,
    /// Who we are in the user namespace.
    Identity,
    /// Opening the device for TUN interfaces.
    OpenTun,
    /// An interface of our own.
    MakeTun,
    /// Address, MTU, queue; the loopback interface.
    SetUp,
}

/// A step that the system refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) step: Step,
    /// The system's error number, 0 if it is none of the system's.
    pub(super) errno: i32,
}

/// The device for TUN interfaces.
pub(super) const TUN: &str = "/dev/net/tun";

impl Refusal {
    /// For `map_err`.
    pub(super) fn at(step: Step) -> impl Fn(io::Error) -> Self {
        move |error| Self { step, errno: error.raw_os_error().unwrap_or(0) }
    }

    /// What happened, and what to change: `setting` reads a file below `/proc/sys`.
    fn explain(&self, setting: impl Fn(&str) -> Option<String>) -> String {
        let is = |name: &str, value: &str| setting(name).is_some_and(|it| it == value);
        let why = io::Error::from_raw_os_error(self.errno);
        let what = match self.step {
            Step::Namespaces => "cannot make a network namespace",
            Step::Identity => "cannot become someone in a user namespace",
            Step::OpenTun => "cannot open /dev/net/tun",
            Step::MakeTun => "cannot make a TUN interface",
            Step::SetUp => "cannot set up the TUN interface",
        };
        let change = match (self.step, self.errno) {
            (Step::OpenTun, libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                "load the kernel's module (modprobe tun), or give the container the device (--device /dev/net/tun)"
            }
            (Step::OpenTun, _) => {
                "give yourself access to the device (chmod 0666 /dev/net/tun, or a container's --device /dev/net/tun), or be root"
            }
            (Step::Namespaces, libc::ENOSPC) => {
                "raise user.max_user_namespaces and user.max_net_namespaces (sysctl)"
            }
            (Step::Namespaces, libc::EINVAL) => {
                "this kernel is built without network or user namespaces (CONFIG_NET_NS, CONFIG_USER_NS)"
            }
            _ if is("kernel/unprivileged_userns_clone", "0") => {
                "set kernel.unprivileged_userns_clone=1 (sysctl), or be root"
            }
            _ if is("kernel/apparmor_restrict_unprivileged_userns", "1") => {
                "set kernel.apparmor_restrict_unprivileged_userns=0 (sysctl), or be root"
            }
            _ if is("user/max_user_namespaces", "0") => "raise user.max_user_namespaces (sysctl), or be root",
            (_, libc::EPERM | libc::EACCES) => {
                "a container or a security module forbids it (docker: --cap-add NET_ADMIN,SYS_ADMIN --security-opt seccomp=unconfined), or be root"
            }
            _ => "this kernel may lack network namespaces or TUN",
        };
        format!("{what}: {why}; {change}")
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let read = |name: &str| Some(fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().to_owned());
        f.write_str(&self.explain(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(step: Step, errno: i32, settings: &[(&str, &str)]) -> String {
        let setting =
            |name: &str| settings.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
        Refusal { step, errno }.explain(setting)
    }

    #[test]
    fn each_refusal_names_the_setting_to_change() {
        let clone = ("kernel/unprivileged_userns_clone", "0");
        let apparmor = ("kernel/apparmor_restrict_unprivileged_userns", "1");
        for (step, errno, settings, setting) in [
            (Step::Namespaces, libc::EPERM, &[clone][..], "kernel.unprivileged_userns_clone=1"),
            (
                Step::Namespaces,
                libc::EPERM,
                &[apparmor][..],
                "kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            (Step::MakeTun, libc::EPERM, &[apparmor][..], "kernel.apparmor_restrict_unprivileged_userns=0"),
            (Step::Namespaces, libc::ENOSPC, &[][..], "user.max_user_namespaces"),
            (
                Step::Namespaces,
                libc::EPERM,
                &[("user/max_user_namespaces", "0")][..],
                "user.max_user_namespaces",
            ),
            (Step::Namespaces, libc::EPERM, &[][..], "seccomp=unconfined"),
            (Step::OpenTun, libc::EACCES, &[apparmor][..], "chmod 0666 /dev/net/tun"),
            (Step::OpenTun, libc::ENOENT, &[][..], "modprobe tun"),
        ] {
            let said = said(step, errno, settings);
            assert!(said.contains(setting), "{step:?}, {errno}: {said}");
            assert!(!said.contains('\n'));
        }
    }
}
