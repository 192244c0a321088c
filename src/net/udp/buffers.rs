//! Asks the system for buffers, and a person for larger ones.

use std::io;

use socket2::Socket;

use crate::limits;

/// The buffers of a socket as the system has granted them, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// What waits for us to receive it. Joined datagrams count about their own size, single small ones much more.
    pub recv_bytes: usize,
    /// What waits for the device to send it.
    pub send_bytes: usize,
}

impl Buffers {
    /// Asks for buffers of these sizes and says what was granted, which is often less and never an error.
    pub(super) fn ask(socket: &Socket, recv_bytes: usize, send_bytes: usize) -> io::Result<Self> {
        ask_recv(socket, recv_bytes)?;
        ask_send(socket, send_bytes)?;
        Ok(Self {
            recv_bytes: socket.recv_buffer_size()? / SHOWN_TIMES,
            send_bytes: socket.send_buffer_size()? / SHOWN_TIMES,
        })
    }
}

/// One line for a person whose receive buffer is so small that fast transfers will lose datagrams in it.
pub fn recv_buffer_advice(recv_bytes: usize) -> Option<String> {
    if recv_bytes >= limits::UDP_RECV_BUFFER_FEW_BYTES {
        return None;
    }
    let (granted, wanted) = (recv_bytes >> 10, limits::UDP_RECV_BUFFER_BYTES >> 10);
    Some(format!(
        "the system grants {granted} of {wanted} KiB of receive buffer: fast UDP transfers will lose packets in it; \
         to raise it: {HOW_TO_RAISE}{}",
        limits::UDP_RECV_BUFFER_BYTES
    ))
}

/// How many times what was granted the system shows: Linux adds as much again for its own bookkeeping.
const SHOWN_TIMES: usize = if cfg!(target_os = "linux") { 2 } else { 1 };

/// What a person types, the number of bytes left out.
const HOW_TO_RAISE: &str = if cfg!(target_os = "linux") {
    "sysctl -w net.core.rmem_max="
} else if cfg!(target_vendor = "apple") {
    "sysctl -w kern.ipc.maxsockbuf="
} else {
    "let the kernel's limit for socket buffers be "
};

#[cfg(target_os = "linux")]
fn ask_recv(socket: &Socket, bytes: usize) -> io::Result<()> {
    // Past the limit that holds for everybody else, if we may.
    match rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, bytes) {
        Ok(()) => Ok(()),
        Err(_) => socket.set_recv_buffer_size(bytes),
    }
}

#[cfg(target_os = "linux")]
fn ask_send(socket: &Socket, bytes: usize) -> io::Result<()> {
    match rustix::net::sockopt::set_socket_send_buffer_size_force(socket, bytes) {
        Ok(()) => Ok(()),
        Err(_) => socket.set_send_buffer_size(bytes),
    }
}

/// Elsewhere, asking for too much gets nothing: halves the wish until it is granted.
#[cfg(not(target_os = "linux"))]
fn ask_recv(socket: &Socket, bytes: usize) -> io::Result<()> {
    halving(bytes, socket.recv_buffer_size()?, |bytes| socket.set_recv_buffer_size(bytes));
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn ask_send(socket: &Socket, bytes: usize) -> io::Result<()> {
    halving(bytes, socket.send_buffer_size()?, |bytes| socket.set_send_buffer_size(bytes));
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn halving(mut bytes: usize, have_bytes: usize, ask: impl Fn(usize) -> io::Result<()>) {
    while bytes > have_bytes && ask(bytes).is_err() {
        bytes /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_receive_buffer_is_worth_a_line() {
        assert_eq!(recv_buffer_advice(limits::UDP_RECV_BUFFER_FEW_BYTES), None);
        assert!(recv_buffer_advice(limits::UDP_RECV_BUFFER_FEW_BYTES - 1).is_some());
        let line = recv_buffer_advice(212_992).unwrap();
        assert!(line.starts_with("the system grants 208 of 32768 KiB of receive buffer"), "{line}");
        assert!(!line.contains('\n'));
        assert!(cfg!(not(target_os = "linux")) || line.ends_with("sysctl -w net.core.rmem_max=33554432"));
    }
}
