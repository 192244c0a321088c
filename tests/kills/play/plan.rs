//! Decides from a seed what is sent, which way, over what, and who is killed when.

use std::time::Duration;

/// A run, as its seed decides it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// It; the content comes of it too.
    pub seed: u64,
    /// What is sent.
    pub payload: Payload,
    /// Which way.
    pub way: Way,
    /// `--transport`.
    pub transport: &'static str,
    /// How long all of it takes at the rate that the sender is held to.
    pub lasts: Duration,
    /// Whether the client tries to come back by itself.
    pub is_patient: bool,
    /// Whether the target has the directories of the tree before the transfer begins.
    pub has_directories: bool,
    /// Who is killed, one after the other.
    pub kills: Vec<Kill>,
    /// What lies between both, if that is not the bare loopback.
    pub road: Option<Road>,
}

/// A bad path, with shares of its datagrams in thousandths.
#[derive(Clone, Debug)]
pub struct Road {
    /// So many are lost,
    pub lost: u64,
    /// come twice,
    pub repeated: u64,
    /// or come behind the next one.
    pub swapped: u64,
    /// What TCP carries arrives so much later.
    pub delay: Duration,
    /// What happens to it, so long after its begin.
    pub shakes: Vec<(Duration, Shake)>,
}

/// Something that a middlebox does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shake {
    /// All TCP connections are reset.
    Reset,
    /// Clients have another UDP address from there on.
    Rebind,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Many small files and a few larger ones, directories, links.
    Tree,
    /// One file of so many bytes.
    File(u64),
}

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `send` to `recv`.
    Recv,
    /// `send` to `serve`.
    Push,
    /// `get` from `serve`.
    Pull,
    /// `get` from `offer`.
    Offer,
}

/// One of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `send` or `get`.
    Client,
    /// The one that was there before.
    Server,
}

/// One kill.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// Of whom.
    pub end: End,
    /// At what moment.
    pub when: When,
    /// How long it stays dead.
    pub dead: Duration,
}

/// The moment of a kill.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// So long after content began to move since the start, or since the kill before.
    After(Duration),
    /// When the receiver has written this share of all content, in thousandths.
    Written(u64),
}

impl Plan {
    /// The run of this seed.
    pub fn drawn(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let payload = match dice.below(8) {
            0..4 => Payload::Tree,
            // More than a checkpoint, so that a receiver has something to go on with.
            4 => Payload::File(megabytes(80 + dice.below(80))),
            _ => Payload::File(megabytes(20 + dice.below(40))),
        };
        let way = [Way::Recv, Way::Push, Way::Pull, Way::Offer][dice.index(4)];
        let transport = ["auto", "tcp", "udp"][dice.index(3)];
        let lasts = Duration::from_millis(300 + dice.below(1200));
        let is_patient = dice.below(4) > 0;
        let has_directories = dice.below(2) == 0;
        let count = 1 + dice.index(3);
        let mut shares: Vec<u64> = (0..count).map(|_| dice.below(1000)).collect();
        shares.sort_unstable();
        let kills = shares.into_iter().map(|share| Kill {
            end: [End::Client, End::Server][dice.index(2)],
            when: match dice.below(2) {
                0 => When::Written(share),
                _ => When::After(lasts.mul_f64(dice.below(1000) as f64 / 1000.0 / count as f64)),
            },
            dead: Duration::from_millis(dice.below(300)),
        });
        let kills = kills.collect();
        let road = (dice.below(2) == 0).then(|| Road::drawn(&mut dice, lasts));
        Self { seed, payload, way, transport, lasts, is_patient, has_directories, kills, road }
    }

    /// `--rate` for so many bytes of content.
    pub fn rate(&self, content: u64) -> String {
        format!("{}kbit", (content as f64 * 8.0 / 1000.0 / self.lasts.as_secs_f64()).ceil())
    }
}

impl Road {
    fn drawn(dice: &mut Dice, lasts: Duration) -> Self {
        let mut share = |most| if dice.below(2) == 0 { 0 } else { dice.below(most) };
        let (lost, repeated, swapped) = (share(60), share(100), share(100));
        let delay = Duration::from_millis([0, 2, 10][dice.index(3)]);
        let mut shakes: Vec<_> = (0..dice.below(4))
            .map(|_| {
                let at = lasts.mul_f64(dice.below(1500) as f64 / 1000.0);
                (at, [Shake::Reset, Shake::Rebind][dice.index(2)])
            })
            .collect();
        shakes.sort_unstable_by_key(|(at, _)| *at);
        Self { lost, repeated, swapped, delay, shakes }
    }
}

impl Way {
    /// The process that sends.
    pub fn sender(self) -> End {
        match self {
            Self::Recv | Self::Push => End::Client,
            Self::Pull | Self::Offer => End::Server,
        }
    }

    /// Whether the server is there for one transfer.
    pub fn is_one_time(self) -> bool {
        matches!(self, Self::Recv | Self::Offer)
    }
}

/// Numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// An index below `bound`, which is not 0.
    pub fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("below a usize")
    }
}

fn megabytes(count: u64) -> u64 {
    count * 1_000_000
}
