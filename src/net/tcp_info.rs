//! What the kernel knows of a TCP connection: round trips, losses, and what limits it.

use std::{os::fd::AsFd, time::Duration};

/// What the kernel knows of a TCP connection, from the sender's side, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Round trip time, smoothed. Zero before the first sample.
    pub srtt: Duration,
    /// Mean deviation of the round trip time.
    pub rtt_variation: Duration,
    /// Smallest round trip time of late (Linux: of the last five minutes).
    pub min_rtt: Duration,
    /// Congestion window, segments.
    pub window_segments: u32,
    /// Bytes sent, those sent again included.
    pub sent_bytes: u64,
    /// Bytes sent again, `<= sent_bytes`.
    pub resent_bytes: u64,
    /// Bytes that the peer has acknowledged.
    pub acknowledged_bytes: u64,
    /// Bytes that came, each counted once.
    pub received_bytes: u64,
    /// Segments sent, those without data and those sent again included. Wraps at 2³².
    pub sent_segments: u32,
    /// Segments sent again, `<= sent_segments`.
    pub resent_segments: u32,
    /// Bytes that the peer delivered in a second of the last round trip.
    pub delivery_bytes_per_second: u64,
    /// Time with something to send.
    pub busy: Duration,
    /// Of `busy`, the time in which the peer's window was full: the receiver limits.
    pub receiver_limited: Duration,
    /// Of `busy`, the time in which our send buffer was too small for the path.
    pub buffer_limited: Duration,
    /// Segments that the peer told had come twice (DSACK): sent again in vain. `None`: this kernel does not say, as
    /// with the three below.
    pub told_duplicates: Option<u32>,
    /// Segments that came out of order.
    pub out_of_order: Option<u32>,
    /// Times that the retransmission timer ran out, that of the handshake included. Linux 6.7.
    pub timeouts: Option<u16>,
    /// Times that it had to recover from such a timeout. Linux 6.7.
    pub timeout_recoveries: Option<u16>,
}

impl TcpInfo {
    /// Share of the sent bytes that were sent again, 0 to 1; `None` before anything was sent.
    pub fn loss_share(&self) -> Option<f64> {
        (self.sent_bytes > 0).then(|| self.resent_bytes as f64 / self.sent_bytes as f64)
    }

    /// Reads as much of Linux's `struct tcp_info` as there is. `None` if the kernel is older than 4.19.
    #[cfg(any(target_os = "linux", test))]
    fn parse(bytes: &[u8]) -> Option<Self> {
        let u16_at = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let u32_at = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let micros = |us: u32| Duration::from_micros(us.into());
        Some(Self {
            srtt: micros(u32_at(offset::RTT)?),
            rtt_variation: micros(u32_at(offset::RTTVAR)?),
            min_rtt: match u32_at(offset::MIN_RTT)? {
                // What the kernel shows before the first sample.
                u32::MAX => Duration::ZERO,
                us => micros(us),
            },
            window_segments: u32_at(offset::SND_CWND)?,
            sent_bytes: u64_at(offset::BYTES_SENT)?,
            resent_bytes: u64_at(offset::BYTES_RETRANS)?,
            acknowledged_bytes: u64_at(offset::BYTES_ACKED)?,
            received_bytes: u64_at(offset::BYTES_RECEIVED)?,
            sent_segments: u32_at(offset::SEGS_OUT)?,
            resent_segments: u32_at(offset::TOTAL_RETRANS)?,
            delivery_bytes_per_second: u64_at(offset::DELIVERY_RATE)?,
            busy: Duration::from_micros(u64_at(offset::BUSY_TIME)?),
            receiver_limited: Duration::from_micros(u64_at(offset::RWND_LIMITED)?),
            buffer_limited: Duration::from_micros(u64_at(offset::SNDBUF_LIMITED)?),
            told_duplicates: u32_at(offset::DSACK_DUPS),
            out_of_order: u32_at(offset::RCV_OOOPACK),
            timeouts: u16_at(offset::TOTAL_RTO),
            timeout_recoveries: u16_at(offset::TOTAL_RTO_RECOVERIES),
        })
    }
}

/// What the kernel knows of this connection; `None` where it does not say (Linux before 4.19, other systems).
#[cfg(target_os = "linux")]
pub fn tcp_info(tcp: impl AsFd) -> Option<TcpInfo> {
    let mut bytes = [0; offset::END];
    let len = super::option::read(tcp, libc::IPPROTO_TCP, libc::TCP_INFO, &mut bytes).ok()?;
    TcpInfo::parse(bytes.get(..len)?)
}

/// What the kernel knows of this connection: here, nothing that it says.
#[cfg(not(target_os = "linux"))]
pub fn tcp_info(_tcp: impl AsFd) -> Option<TcpInfo> {
    None
}

/// Where the fields stand in Linux's `struct tcp_info` (`/usr/include/linux/tcp.h`, from `BYTES_SENT` on since 4.19), the
/// same on every architecture; it only ever grows at its end, and getsockopt says how much of it there is. What libc has
/// of it ends before `TOTAL_RTO`, which stands behind `tcpi_rcv_wnd` and `tcpi_rehash` in the kernel's
/// `include/uapi/linux/tcp.h` since 6.7.
#[cfg(any(target_os = "linux", test))]
mod offset {
    pub(super) const RTT: usize = 68;
    pub(super) const RTTVAR: usize = 72;
    pub(super) const SND_CWND: usize = 80;
    pub(super) const TOTAL_RETRANS: usize = 100;
    pub(super) const BYTES_ACKED: usize = 120;
    pub(super) const BYTES_RECEIVED: usize = 128;
    pub(super) const SEGS_OUT: usize = 136;
    pub(super) const MIN_RTT: usize = 148;
    pub(super) const DELIVERY_RATE: usize = 160;
    pub(super) const BUSY_TIME: usize = 168;
    pub(super) const RWND_LIMITED: usize = 176;
    pub(super) const SNDBUF_LIMITED: usize = 184;
    pub(super) const BYTES_SENT: usize = 200;
    pub(super) const BYTES_RETRANS: usize = 208;
    /// What Linux 4.19 has ends here.
    #[cfg(test)]
    pub(super) const END_OF_4_19: usize = 216;
    pub(super) const DSACK_DUPS: usize = 216;
    pub(super) const RCV_OOOPACK: usize = 224;
    pub(super) const TOTAL_RTO: usize = 240;
    pub(super) const TOTAL_RTO_RECOVERIES: usize = 242;
    pub(super) const END: usize = 244;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struct_of_an_old_kernel_is_no_answer() {
        assert!(TcpInfo::parse(&[0; offset::END_OF_4_19]).is_some());
        assert!(TcpInfo::parse(&[0; offset::END_OF_4_19 - 1]).is_none());
        assert!(TcpInfo::parse(&[]).is_none());
    }

    #[test]
    fn what_a_kernel_does_not_say_is_not_taken_for_nothing() {
        let younger = |len: usize| {
            let info = TcpInfo::parse(&vec![1; len]).unwrap();
            [
                info.told_duplicates.is_some(),
                info.out_of_order.is_some(),
                info.timeouts.is_some(),
                info.timeout_recoveries.is_some(),
            ]
        };

        assert_eq!(younger(offset::END_OF_4_19), [false; 4]);
        assert_eq!(younger(offset::TOTAL_RTO), [true, true, false, false]);
        assert_eq!(younger(offset::END), [true; 4]);
    }

    #[test]
    fn the_loss_share_is_what_was_sent_again() {
        let info = TcpInfo { sent_bytes: 1000, resent_bytes: 20, ..TcpInfo::default() };

        assert_eq!(info.loss_share(), Some(0.02));
        assert_eq!(TcpInfo::default().loss_share(), None);
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn the_offsets_are_those_of_the_system_headers() {
        use std::mem::offset_of;

        assert_eq!(offset::RTT, offset_of!(libc::tcp_info, tcpi_rtt));
        assert_eq!(offset::RTTVAR, offset_of!(libc::tcp_info, tcpi_rttvar));
        assert_eq!(offset::SND_CWND, offset_of!(libc::tcp_info, tcpi_snd_cwnd));
        assert_eq!(offset::TOTAL_RETRANS, offset_of!(libc::tcp_info, tcpi_total_retrans));
        assert_eq!(offset::BYTES_ACKED, offset_of!(libc::tcp_info, tcpi_bytes_acked));
        assert_eq!(offset::BYTES_RECEIVED, offset_of!(libc::tcp_info, tcpi_bytes_received));
        assert_eq!(offset::SEGS_OUT, offset_of!(libc::tcp_info, tcpi_segs_out));
        assert_eq!(offset::MIN_RTT, offset_of!(libc::tcp_info, tcpi_min_rtt));
        assert_eq!(offset::DELIVERY_RATE, offset_of!(libc::tcp_info, tcpi_delivery_rate));
        assert_eq!(offset::BUSY_TIME, offset_of!(libc::tcp_info, tcpi_busy_time));
        assert_eq!(offset::RWND_LIMITED, offset_of!(libc::tcp_info, tcpi_rwnd_limited));
        assert_eq!(offset::SNDBUF_LIMITED, offset_of!(libc::tcp_info, tcpi_sndbuf_limited));
        assert_eq!(offset::BYTES_SENT, offset_of!(libc::tcp_info, tcpi_bytes_sent));
        assert_eq!(offset::BYTES_RETRANS, offset_of!(libc::tcp_info, tcpi_bytes_retrans));
        assert_eq!(offset::DSACK_DUPS, offset_of!(libc::tcp_info, tcpi_dsack_dups));
        assert_eq!(offset::RCV_OOOPACK, offset_of!(libc::tcp_info, tcpi_rcv_ooopack));
        // What follows is younger than libc's.
        assert_eq!(offset_of!(libc::tcp_info, tcpi_snd_wnd), 228);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_connection_counts_what_it_sent() {
        use std::{
            io::{Read as _, Write as _},
            net::{TcpListener, TcpStream},
        };

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();

        near.write_all(&[7; 10_000]).unwrap();
        far.read_exact(&mut [0; 10_000]).unwrap();
        far.write_all(&[7]).unwrap();
        near.read_exact(&mut [0]).unwrap();

        let info = tcp_info(&near).expect("kernels since 4.19 say all of it");
        assert_eq!(info.sent_bytes - info.resent_bytes, 10_000);
        assert_eq!(info.loss_share(), Some(info.resent_bytes as f64 / info.sent_bytes as f64));
        assert!(info.srtt > Duration::ZERO);
        assert!(info.min_rtt > Duration::ZERO && info.min_rtt <= info.srtt * 4);
        assert!(info.window_segments > 0);
        assert_eq!(info.received_bytes, 1);
        assert!(info.resent_segments < info.sent_segments);
        assert_eq!(tcp_info(&far).unwrap().received_bytes, 10_000);
    }
}
