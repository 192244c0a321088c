//! What the emulator and its hosts tell each other, over a socket that keeps messages apart and carries descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown,
    socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::facts::HostFacts;
use super::refusal::Refusal;

/// To a host. When the emulator closes its end, the host ends everything that runs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ToHost {
    /// The first: what to be.
    Be(Wish),
    /// Start the program; comes with its standard input, if it has one.
    Start(Program),
    /// Pass on a signal to all that runs.
    Signal(i32),
}

/// What a host is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wish {
    /// Its address.
    pub(super) address: Ipv4Addr,
    /// The longest packet of its interface, bytes.
    pub(super) mtu_bytes: u16,
    /// A process whose user namespace it is to share.
    pub(super) join: Option<i32>,
}

/// What runs on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    /// Its name and its arguments, of any bytes; not empty.
    pub(super) line: Vec<Vec<u8>>,
    /// Set in its environment.
    pub(super) environment: Vec<(String, String)>,
    /// Whether to say when it listens.
    pub(super) serves: bool,
}

/// From a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FromHost {
    /// It is what it was to be; comes with its TUN device.
    Ready {
        /// Whether it is in a user namespace made for this.
        has_own_users: bool,
    },
    /// The system does not let it be.
    Refused(Refusal),
    /// Its program listens on a port, or does not for so long that waiting makes no sense.
    Serves,
    /// Its program ended.
    Ended {
        /// As a shell has it: 128 and the signal's number for one that a signal ended.
        code: u8,
    },
    /// Its program could not be started.
    NotStarted {
        /// As a shell has it: 127 there is none of this name, 126 it cannot be run.
        code: u8,
        /// The system's reason.
        why: String,
    },
    /// The last: nothing runs any more.
    Over {
        /// Packets that its device dropped since they were not read in time.
        dropped_by_device: Option<u64>,
        /// What ran there and what it did to the network.
        facts: HostFacts,
    },
}

/// One end.
#[derive(Debug)]
pub(super) struct End {
    socket: UnixDatagram,
}

/// Longest message, bytes; below what a socket's buffer holds by default. Limits a program's arguments.
pub(super) const MESSAGE_MAX_BYTES: usize = 128 << 10;

/// Two ends; the second is for another process.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

impl End {
    /// For use within a runtime.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        // To the runtime all sockets that keep messages apart are alike.
        Ok(Self { socket: UnixDatagram::from_std(socket.into())? })
    }

    /// Tells something, with a descriptor. Messages are few, so that the socket's buffer always has room.
    pub(super) fn tell(&self, words: &impl Serialize, descriptor: Option<&OwnedFd>) -> io::Result<()> {
        let bytes = serde_json::to_vec(words)?;
        if bytes.len() > MESSAGE_MAX_BYTES {
            return Err(io::Error::other("the command's arguments are too long"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.map(|it| [it.as_fd()]);
        if let Some(descriptors) = &descriptors {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "there is room for one");
        }
        sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// What the other end tells next, with the descriptor that came along; `None` when it has closed.
    pub(super) async fn hear<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let mut bytes = vec![0; MESSAGE_MAX_BYTES];
        let received =
            self.socket.async_io(Interest::READABLE, || Ok(receive(&self.socket, &mut bytes)?)).await;
        let (len, descriptor) = match received {
            // It ended without having heard all that it was told.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Ok((0, _)) => return Ok(None),
            received => received?,
        };
        Ok(Some((serde_json::from_slice(&bytes[..len])?, descriptor)))
    }

    /// Has nothing more to tell.
    pub(super) fn finish(&self) {
        // Fails where the other end is gone, which comes to the same.
        let _ = shutdown(&self.socket, Shutdown::Write);
    }
}

fn receive(socket: &UnixDatagram, bytes: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((received.bytes, descriptor))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    use super::*;

    #[tokio::test]
    async fn words_arrive_one_by_one_with_their_descriptor() {
        let (one, other) = pair().unwrap();
        let (one, other) = (End::new(one).unwrap(), End::new(other).unwrap());
        let (reader, writer) = rustix::pipe::pipe().unwrap();

        one.tell(&ToHost::Signal(2), None).unwrap();
        one.tell(&ToHost::Signal(15), Some(&reader)).unwrap();
        one.finish();
        File::from(writer).write_all(b"x").unwrap();

        let (first, none) = other.hear().await.unwrap().unwrap();
        assert_eq!((first, none.is_none()), (ToHost::Signal(2), true));
        let (second, reader) = other.hear::<ToHost>().await.unwrap().unwrap();
        let mut read = String::new();
        File::from(reader.unwrap()).read_to_string(&mut read).unwrap();
        assert_eq!((second, read.as_str()), (ToHost::Signal(15), "x"));
        assert!(other.hear::<ToHost>().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_end_that_is_gone_has_closed_even_if_it_did_not_listen() {
        let (one, other) = pair().unwrap();
        let one = End::new(one).unwrap();

        one.tell(&ToHost::Signal(2), None).unwrap();
        drop(other);

        assert!(one.hear::<FromHost>().await.unwrap().is_none());
        assert!(one.tell(&ToHost::Signal(2), None).is_err());
    }
}
