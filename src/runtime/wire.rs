//! Reading and writing a client's socket, by the bare system calls.
//!
//! The C library's `recv` and `send` are points at which a thread may be cancelled, and prepare for that where a process
//! has several threads: 3 % of the CPU time of a refusal. Nobody cancels a loop. Called by
//! [`worker`](super::worker) alone.

use std::io;
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Reads what has arrived, up to the size of `buffer`; 0 where the peer has ended its side.
///
/// # Errors
/// As of `recv(2)`; `WouldBlock` where nothing is there.
pub fn read(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (bytes, _) = recv(socket, buffer, RecvFlags::empty())?;
    Ok(bytes)
}

/// Writes as much as the socket takes. A peer that has gone is an error, and no signal. Where the socket `ends` with it,
/// the bytes leave with the end, in one segment, and the peer is woken once: the caller has to shut the socket down
/// next. A mere close could drop them.
///
/// # Errors
/// As of `send(2)`; `WouldBlock` where it takes nothing now.
pub fn write(socket: impl AsFd, bytes: &[u8], ends: bool) -> io::Result<usize> {
    let more = if ends { SendFlags::MORE } else { SendFlags::empty() };
    Ok(send(socket, bytes, SendFlags::NOSIGNAL | more)?)
}
