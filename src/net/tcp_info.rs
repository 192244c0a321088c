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
    /// Bytes that the peer delivered in a second of the last round trip.
    pub delivery_bytes_per_second: u64,
    /// Time with something to send.
    pub busy: Duration,
    /// Of `busy`, the time in which the peer's window was full: the receiver limits.
    pub receiver_limited: Duration,
    /// Of `busy`, the time in which our send buffer was too small for the path.
    pub buffer_limited: Duration,
}

impl TcpInfo {
    /// Share of the sent bytes that were sent again, 0 to 1; `None` before anything was sent.
    pub fn loss_share(&self) -> Option<f64> {
        (self.sent_bytes > 0).then(|| self.resent_bytes as f64 / self.sent_bytes as f64)
    }

    /// Reads Linux's `struct tcp_info`. `None` if the kernel is too old to have all of it.
    #[cfg(any(target_os = "linux", test))]
    fn parse(bytes: &[u8]) -> Option<Self> {
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
            delivery_bytes_per_second: u64_at(offset::DELIVERY_RATE)?,
            busy: Duration::from_micros(u64_at(offset::BUSY_TIME)?),
            receiver_limited: Duration::from_micros(u64_at(offset::RWND_LIMITED)?),
            buffer_limited: Duration::from_micros(u64_at(offset::SNDBUF_LIMITED)?),
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

/// Where the fields stand in Linux's `struct tcp_info`, the same on every architecture; it only ever grows at its end.
#[cfg(any(target_os = "linux", test))]
mod offset {
    pub(super) const RTT: usize = 68;
    pub(super) const RTTVAR: usize = 72;
    pub(super) const SND_CWND: usize = 80;
    pub(super) const BYTES_ACKED: usize = 120;
    pub(super) const MIN_RTT: usize = 148;
    pub(super) const DELIVERY_RATE: usize = 160;
    pub(super) const BUSY_TIME: usize = 168;
    pub(super) const RWND_LIMITED: usize = 176;
    pub(super) const SNDBUF_LIMITED: usize = 184;
    pub(super) const BYTES_SENT: usize = 200;
    pub(super) const BYTES_RETRANS: usize = 208;
    pub(super) const END: usize = 216;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struct_of_an_old_kernel_is_no_answer() {
        assert!(TcpInfo::parse(&[0; offset::END]).is_some());
        assert!(TcpInfo::parse(&[0; offset::END - 1]).is_none());
        assert!(TcpInfo::parse(&[]).is_none());
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
        assert_eq!(offset::BYTES_ACKED, offset_of!(libc::tcp_info, tcpi_bytes_acked));
        assert_eq!(offset::MIN_RTT, offset_of!(libc::tcp_info, tcpi_min_rtt));
        assert_eq!(offset::DELIVERY_RATE, offset_of!(libc::tcp_info, tcpi_delivery_rate));
        assert_eq!(offset::BUSY_TIME, offset_of!(libc::tcp_info, tcpi_busy_time));
        assert_eq!(offset::RWND_LIMITED, offset_of!(libc::tcp_info, tcpi_rwnd_limited));
        assert_eq!(offset::SNDBUF_LIMITED, offset_of!(libc::tcp_info, tcpi_sndbuf_limited));
        assert_eq!(offset::BYTES_SENT, offset_of!(libc::tcp_info, tcpi_bytes_sent));
        assert_eq!(offset::BYTES_RETRANS, offset_of!(libc::tcp_info, tcpi_bytes_retrans));
        assert_eq!(offset::END, offset_of!(libc::tcp_info, tcpi_dsack_dups));
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
    }
}
