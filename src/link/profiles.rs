//! Links that have a name.
//!
//! Each is one plausible link of its kind, not an average of all: `wifi,loss=3%` is the way to another one. Both
//! directions are alike, although most access networks are slower upwards. Radio links mostly keep packets in order
//! while their delay wanders; jitter here is drawn for each packet and would shuffle them, so the profiles have a
//! small late share instead.

use super::config::LinkConfig;

/// A link with a name.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// What a SPEC calls it.
    pub name: &'static str,
    /// What it stands for, a few words.
    pub about: &'static str,
    /// Its parameters, as a SPEC without a profile.
    pub spec: &'static str,
    /// Where its numbers come from.
    pub source: &'static str,
}

/// All profiles, near to far.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "datacenter",
        about: "two machines in one hall",
        spec: "rtt=0.2ms,rate=10gbit,queue=1MB",
        source: "10 Gbit/s is the commonest rate of servers; some hundred microseconds across three switches; shallow buffers of such switches: Alizadeh et al., SIGCOMM 2010",
    },
    Profile {
        name: "lan",
        about: "gigabit Ethernet in one building",
        spec: "rtt=0.3ms,rate=1gbit,queue=256KiB",
        source: "Ethernet's commonest rate; small office switches list some hundred KiB of buffer",
    },
    Profile {
        name: "wifi",
        about: "Wi-Fi one room away",
        spec: "rtt=5ms,rate=200mbit,queue=100ms,loss=0.2%,burst=4,late=1%/5ms",
        source: "one room away; losses are what retries of the radio left over; queues of this size under load: Høiland-Jørgensen et al., USENIX ATC 2017",
    },
    Profile {
        name: "dsl",
        about: "VDSL at home",
        spec: "rtt=30ms,rate=50mbit,queue=200ms",
        source: "VDSL with interleaving; the deep queues of home access: Dischinger et al., IMC 2007",
    },
    Profile {
        name: "4g",
        about: "LTE with a good signal",
        spec: "rtt=50ms,rate=30mbit,queue=500ms,loss=0.01%,late=5%/8ms",
        source: "LTE repeats a failed block after 8 ms, which hides the loss; deep queues: Jiang et al., CellNet 2012",
    },
    Profile {
        name: "transatlantic",
        about: "Europe to America's east coast",
        spec: "rtt=80ms,rate=1gbit,queue=50ms,loss=0.01%",
        source: "London to New York: some 6,000 km of fibre are 60 ms; carriers promise 90 ms at most",
    },
    Profile {
        name: "transpacific",
        about: "America's west coast to Japan",
        spec: "rtt=110ms,rate=500mbit,queue=50ms,loss=0.05%",
        source: "Los Angeles to Tokyo: some 9,500 km of cable are 95 ms, and the ways to its landings come on top",
    },
    Profile {
        name: "intercontinental",
        about: "Europe to Australia",
        spec: "rtt=280ms,rate=200mbit,queue=50ms,loss=0.1%",
        source: "Europe to Australia: some 25,000 km of fibre are 250 ms",
    },
    Profile {
        name: "leo",
        about: "a constellation of low satellites",
        spec: "rtt=50ms,rate=150mbit,queue=100ms,loss=1%,burst=6",
        source: "Starlink's median round trip, and losses under load in runs: Michel et al., IMC 2022",
    },
    Profile {
        name: "satellite",
        about: "a geostationary satellite",
        spec: "rtt=600ms,rate=50mbit,loss=0.1%,burst=4",
        source: "4 times 35,786 km at the speed of light are 477 ms; 600 ms is what is seen: Huston, APNIC 2022",
    },
    Profile {
        name: "lossy",
        about: "a long path that drops 5 %",
        spec: "rtt=300ms,rate=100mbit,loss=5%",
        source: "no real network: the long bad path that the UDP transport is made for",
    },
];

impl Profile {
    /// Its parameters.
    pub fn config(&self) -> LinkConfig {
        self.spec.parse().expect("a test reads every profile")
    }
}

/// The profile of this name.
pub(super) fn find(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_a_link_and_written_as_it_is_shown() {
        for profile in PROFILES {
            assert_eq!(profile.config().to_string(), profile.spec, "{}", profile.name);
            assert_eq!(profile.name.parse(), Ok(profile.config()));
        }
    }

    #[test]
    fn no_two_profiles_have_one_name() {
        let names: std::collections::BTreeSet<_> = PROFILES.iter().map(|profile| profile.name).collect();

        assert_eq!(names.len(), PROFILES.len());
    }

    #[test]
    fn names_are_no_parts() {
        assert!(PROFILES.iter().all(|profile| !profile.name.contains(['=', ',', ' '])));
    }
}
