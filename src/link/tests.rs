//! What a whole link does to a sequence of packets. Each stage's own tests stand beside it.

use std::time::Duration;

use super::*;

/// With its framing, such a packet takes 1 ms at 8 Mbit/s.
const PACKET: usize = 982;

fn link(spec: &str) -> Link {
    Link::new(&config(spec), Direction::Forward)
}

fn config(spec: &str) -> LinkConfig {
    spec.parse().expect("the test's SPEC is right")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What becomes of so many packets that come at one interval.
fn fates(link: &mut Link, packets: u32, every: Duration) -> Vec<Fate> {
    (0..packets).map(|place| link.offer(every * place, PACKET)).collect()
}

fn arrival(fate: Fate) -> Duration {
    fate.deliveries().next().expect("it arrives").at
}

#[test]
fn a_quiet_link_changes_nothing() {
    let fate = link("rtt=0s").offer(ms(7), PACKET);

    let first = Delivery { at: ms(7), flipped_bit: None };
    assert_eq!(fate, Fate::Delivered { first, copy: None });
}

#[test]
fn a_packet_takes_its_time_on_the_line_and_half_of_the_round_trip() {
    let mut link = link("rtt=80ms,rate=8mbit");

    assert_eq!(arrival(link.offer(ms(5), PACKET)), ms(46));
    assert_eq!(arrival(link.offer(ms(5), PACKET)), ms(47));
    assert_eq!((link.queue_bytes(ms(5)), link.queue_delay(ms(5))), (2000, ms(2)));
}

#[test]
fn equal_seeds_give_equal_fates() {
    let spec = "wifi,dup=1%,corrupt=1%,reorder=1%,jitter=2ms";
    let every = Duration::from_micros(50);

    assert_eq!(fates(&mut link(spec), 5000, every), fates(&mut link(spec), 5000, every));
    assert_ne!(fates(&mut link(&format!("{spec},seed=2")), 5000, every), fates(&mut link(spec), 5000, every));
}

#[test]
fn directions_draw_apart() {
    let lost = |direction| {
        let mut link = Link::new(&config("rtt=1ms,loss=10%"), direction);
        fates(&mut link, 1000, ms(1))
            .iter()
            .map(|fate| *fate == Fate::Dropped(Cause::Loss))
            .collect::<Vec<_>>()
    };

    let (forward, backward) = (lost(Direction::Forward), lost(Direction::Backward));
    let both = forward.iter().zip(&backward).filter(|(a, b)| **a && **b).count();
    assert_ne!(forward, backward);
    assert!((2..=25).contains(&both), "of a hundred losses each, {both} are the same");
}

#[test]
fn a_full_queue_changes_no_other_packets_fate() {
    let spec = "rtt=20ms,rate=8mbit,queue=9kB,loss=5%,burst=3,dup=5%,corrupt=5%,late=10%/5ms";
    // One gives the line its time, the other offers twice what it carries.
    let calm = fates(&mut link(spec), 20_000, ms(1));
    let crowded = fates(&mut link(spec), 20_000, Duration::from_micros(500));

    let mut compared = 0;
    for (calm, crowded) in calm.into_iter().zip(crowded) {
        match (calm, crowded) {
            (_, Fate::Dropped(Cause::Queue)) => {}
            (Fate::Dropped(one), Fate::Dropped(other)) => assert_eq!(one, other),
            (calm, crowded) => {
                let bits = |fate: Fate| fate.deliveries().map(|it| it.flipped_bit).collect::<Vec<_>>();
                assert_eq!(bits(calm), bits(crowded));
                compared += 1;
            }
        }
    }
    assert!((8_000..=11_000).contains(&compared), "{compared}");
}

#[test]
fn a_packet_that_the_queue_drops_still_moves_the_bursts() {
    let spec = "rate=8mbit,queue=1kB,loss=20%,burst=50";
    let lost_at = |every| {
        let fates = fates(&mut link(spec), 5000, every);
        let lost = |(_, fate): &(usize, Fate)| *fate == Fate::Dropped(Cause::Loss);
        fates.into_iter().enumerate().filter(lost).map(|(place, _)| place).collect::<Vec<_>>()
    };

    let calm = lost_at(ms(1));
    let crowded = lost_at(Duration::from_micros(100));
    assert!(calm.len() > 500 && crowded.len() > 50, "{} and {}", calm.len(), crowded.len());
    assert!(crowded.iter().all(|place| calm.contains(place)));
}

#[test]
fn the_loss_shows_in_the_counters() {
    let mut link = link("rtt=10ms,loss=2%");
    let _ = fates(&mut link, 50_000, Duration::from_micros(10));

    let counters = *link.counters();
    assert_eq!(counters.offered, 50_000);
    assert_eq!(counters.offered_bytes, 50_000 * 982);
    assert!((900..=1100).contains(&counters.dropped_loss), "{}", counters.dropped_loss);
    assert_eq!(counters.dropped(), counters.dropped_loss);
    assert_eq!(counters.delivered_bytes, counters.delivered * 982);
}

#[test]
fn the_rate_is_kept_and_the_queue_bounded() {
    let mut link = link("rtt=100ms,rate=100mbit,queue=0.5bdp");
    let bound = ms(50);
    let mut arrived = 0;
    for place in 0..100_000 {
        let now = Duration::from_micros(60) * place;
        let fate = link.offer(now, 1500);
        assert!(link.queue_delay(now) <= bound);
        arrived += u64::from(fate.deliveries().any(|delivery| delivery.at <= ms(5050)));
    }

    // Five seconds of packets of 1518 bytes on the line.
    assert_eq!(arrived, 5 * 100_000_000 / (1518 * 8));
    let counters = link.counters();
    assert!((49_000..=51_500).contains(&counters.dropped_queue), "{}", counters.dropped_queue);
}

#[test]
fn a_policer_drops_and_never_delays() {
    let mut link = link("rtt=40ms,rate=8mbit,policer=10kB");
    let mut passed = 0;
    for place in 0..10_000 {
        let now = Duration::from_micros(100) * place;
        match link.offer(now, PACKET) {
            Fate::Dropped(cause) => assert_eq!(cause, Cause::Policer),
            fate => {
                assert_eq!(arrival(fate), now + ms(20));
                passed += 1;
            }
        }
    }

    assert!((1008..=1010).contains(&passed), "{passed}");
    assert_eq!(link.counters().dropped_policer, 10_000 - passed);
}

#[test]
fn the_shares_of_copies_damage_lateness_and_overtaking_are_kept() {
    let mut link = link("rtt=40ms,dup=2%,corrupt=4%,late=25%/20ms,reorder=3%");
    let _ = fates(&mut link, 50_000, Duration::from_micros(10));

    let counters = link.counters();
    assert!((900..=1100).contains(&counters.duplicated), "{}", counters.duplicated);
    assert!((1_900..=2_180).contains(&counters.corrupted), "{}", counters.corrupted);
    assert!((1_400..=1_600).contains(&counters.overtaking), "{}", counters.overtaking);
    // Of those that do not overtake.
    assert!((11_800..=12_450).contains(&counters.late), "{}", counters.late);
    assert_eq!(counters.delivered, counters.offered + counters.duplicated);
}

#[test]
fn a_copy_arrives_with_its_packet_and_is_damaged_on_its_own() {
    let mut link = link("rtt=40ms,dup=100%,corrupt=50%");
    let mut only_one = 0;
    for fate in fates(&mut link, 1000, ms(1)) {
        let Fate::Delivered { first, copy: Some(copy) } = fate else {
            panic!("{fate:?} is not two deliveries")
        };
        assert_eq!(first.at, copy.at);
        only_one += u32::from(first.flipped_bit.is_some() != copy.flipped_bit.is_some());
    }

    assert!((440..=560).contains(&only_one), "{only_one}");
}

#[test]
fn a_flipped_bit_lies_within_its_packet() {
    let mut link = link("rtt=1ms,corrupt=100%");
    let bits: Vec<_> = (0..10_000)
        .map(|place| link.offer(ms(place), 3).deliveries().next().unwrap().flipped_bit.unwrap())
        .collect();

    for bit in 0..24 {
        assert!(bits.contains(&bit), "{bit}");
    }
    assert!(bits.iter().all(|bit| *bit < 24));
    assert_eq!(link.offer(ms(20_000), 0).deliveries().next().unwrap().flipped_bit, None);
}

#[test]
fn a_packet_of_the_mtu_passes() {
    assert_eq!(arrival(link("rtt=10ms,mtu=1280").offer(ms(0), 1280)), ms(5));
}

#[test]
fn a_packet_one_byte_over_the_mtu_vanishes_and_has_taken_its_place_on_the_line() {
    let mut link = link("rtt=10ms,rate=8mbit,mtu=981");

    assert_eq!(link.offer(ms(0), PACKET), Fate::Dropped(Cause::Mtu));
    assert_eq!(link.queue_delay(ms(0)), ms(1));
    assert_eq!(link.counters().dropped_mtu, 1);
}

#[test]
fn an_mtu_holds_from_its_moment_on() {
    let mut link = link("rtt=10ms,mtustep=1s:900/2s:1000/3s:900");

    let passes: Vec<bool> = [999, 1000, 1999, 2000, 2999, 9000]
        .map(|at| link.offer(ms(at), PACKET).deliveries().next().is_some())
        .into();

    assert_eq!(passes, [true, false, false, true, true, false]);
}

#[test]
fn the_first_stage_that_drops_a_packet_is_the_cause() {
    let mut link = link("rate=8mbit,queue=0B,loss=100%,mtu=68,blackout=0s+1s");

    assert_eq!(link.offer(ms(0), PACKET), Fate::Dropped(Cause::Blackout));
    assert_eq!(link.offer(ms(0), PACKET), Fate::Dropped(Cause::Queue));
    assert_eq!(link.offer(ms(1000), PACKET), Fate::Dropped(Cause::Loss));
}

#[test]
fn a_blackout_takes_what_is_offered_in_it_and_nothing_else() {
    let ns = Duration::from_nanos(1);
    let mut link = link("rtt=10s,blackout=3s+2s");

    assert_eq!(arrival(link.offer(ms(3000) - ns, PACKET)), ms(8000) - ns);
    assert_eq!(link.offer(ms(3000), PACKET), Fate::Dropped(Cause::Blackout));
    assert_eq!(link.offer(ms(5000) - ns, PACKET), Fate::Dropped(Cause::Blackout));
    assert_eq!(arrival(link.offer(ms(5000), PACKET)), ms(10_000));
    assert_eq!(link.counters().dropped_blackout, 2);
}

#[test]
fn the_rate_steps_at_its_moment() {
    let mut link = link("rate=8mbit,queue=1s,step=10s:4mbit/20s:16mbit");

    assert_eq!(arrival(link.offer(ms(9_999), PACKET)), ms(10_000));
    assert_eq!(arrival(link.offer(ms(10_000), PACKET)), ms(10_002));
    assert_eq!(arrival(link.offer(ms(19_999), PACKET)), Duration::from_micros(20_000_250));
    assert_eq!(arrival(link.offer(ms(30_000), PACKET)), Duration::from_micros(30_000_500));
}

#[test]
fn a_trace_is_replayed_from_the_links_start_and_over_and_over() {
    let read = |text: &str| LinkConfig::read(text, |name| Trace::read(name, "0\n30\n30\n100"));
    let mut link = Link::new(&read("rtt=20ms,trace=it,queue=1MB").unwrap(), Direction::Forward);

    let arrivals: Vec<_> = (0..6).map(|_| arrival(link.offer(ms(7), 1500)).as_millis()).collect();

    // The moment at 0 is over; the second round begins where the first ends.
    assert_eq!(arrivals, [40, 40, 110, 110, 140, 140]);
    assert_eq!(arrival(link.offer(ms(7), 1500)), ms(210));
}

#[test]
#[should_panic(expected = "in the order of time")]
fn time_does_not_run_backwards() {
    let mut link = link("rtt=1ms");
    link.offer(ms(2), PACKET);
    link.offer(ms(1), PACKET);
}

#[test]
#[should_panic(expected = "make no link: `mtu`")]
fn parameters_that_make_no_link_are_a_programmers_mistake() {
    let config = LinkConfig { mtu_bytes: 0, ..LinkConfig::default() };
    let _ = Link::new(&config, Direction::Forward);
}
