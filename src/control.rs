//! How a running host is asked and told: by commands, over a Unix socket in the data directory; by everybody else, over
//! HTTP (`http`).
//!
//! A connection of the socket carries one request, a line of JSON (behind the line of a message for an agent come its bytes), and its
//! answer, one or more lines of JSON. Only the user
//! who runs the host can connect.

pub mod client;
pub mod http;
pub mod protocol;
pub mod send;
pub mod socket;
pub mod status;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::SocketAddrUnix;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "nanorelay.sock";
/// A socket's address holds at most so many bytes, the closing zero not counted.
const ADDRESS_BYTES_MAX: usize = 107;

/// The socket of one data directory, reachable however long the directory's path is.
struct SocketPlace {
    /// Kept open: the address may lead through it.
    dir: OwnedFd,
    address: SocketAddrUnix,
}

impl SocketPlace {
    fn of(data_dir: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(data_dir, flags, Mode::empty())?;
        let mut path = data_dir.join(SOCKET_NAME);
        if path.as_os_str().as_bytes().len() > ADDRESS_BYTES_MAX {
            path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(SOCKET_NAME);
        }
        let address = SocketAddrUnix::new(&path)?;
        Ok(Self { dir, address })
    }
}
