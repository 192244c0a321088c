//! Socket options of Linux that no crate reads or sets for us.

#![expect(unsafe_code, reason = "two system calls, one wrapper each")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

/// Reads an option into `value` and says how many bytes of it the kernel wrote.
pub(super) fn read(socket: impl AsFd, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
    let mut len = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed for the whole call; the kernel writes at most `len` bytes behind the pointer,
    // which are ours alone, and any bytes are a valid `[u8]`.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.len().min(len as usize))
}

/// Sets an option that is a number.
pub(super) fn set(socket: impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    const LEN: libc::socklen_t = 4;
    const _: () = assert!(size_of::<i32>() == LEN as usize);
    // SAFETY: the descriptor is borrowed for the whole call; the kernel reads `LEN` bytes behind the pointer, which is
    // exactly `value`.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), LEN) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_number_that_was_set_is_read_back() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut value = [0xff; 8];

        set(&socket, libc::SOL_SOCKET, libc::SO_PRIORITY, 3).unwrap();

        assert_eq!(read(&socket, libc::SOL_SOCKET, libc::SO_PRIORITY, &mut value).unwrap(), 4);
        assert_eq!(value, [3_i32.to_ne_bytes(), [0xff; 4]].concat()[..]);
    }

    #[test]
    fn an_unknown_option_is_an_error() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();

        assert!(read(&socket, libc::SOL_SOCKET, 9999, &mut [0; 4]).is_err());
        assert!(set(&socket, libc::SOL_SOCKET, 9999, 1).is_err());
    }
}
