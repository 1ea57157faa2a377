//! Open-file-description locks, which no safe library at hand offers.

use rustix::fd::{AsRawFd, BorrowedFd};
use std::io;

/// The first byte of SQLite's lock area: a writer that waits for the readers to leave.
pub(super) const PENDING_BYTE: i64 = 0x4000_0000;
/// A writer that is preparing its changes.
pub(super) const RESERVED_BYTE: i64 = PENDING_BYTE + 1;
/// All readers share this range; a writer in mid-commit has it alone.
pub(super) const SHARED_FIRST: i64 = PENDING_BYTE + 2;
/// Its length in bytes.
pub(super) const SHARED_SIZE: i64 = 510;

/// What to do with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockKind {
    Read,
    Write,
    Unlock,
}

impl LockKind {
    fn raw(self) -> libc::c_int {
        match self {
            LockKind::Read => libc::F_RDLCK,
            LockKind::Write => libc::F_WRLCK,
            LockKind::Unlock => libc::F_UNLCK,
        }
    }
}

/// Changes the lock on a range without waiting. A length of zero means up to the end of all files.
pub(super) fn set(file: BorrowedFd<'_>, kind: LockKind, start: i64, length: i64) -> io::Result<()> {
    control(file, libc::F_OFD_SETLK, &mut range(kind, start, length))
}

/// Whether another descriptor, here or in another process, keeps us from writing to a range.
pub(super) fn is_taken(file: BorrowedFd<'_>, start: i64, length: i64) -> io::Result<bool> {
    let mut found = range(LockKind::Write, start, length);
    control(file, libc::F_OFD_GETLK, &mut found)?;
    Ok(libc::c_int::from(found.l_type) != libc::F_UNLCK)
}

fn range(kind: LockKind, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind.raw() as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        // The kernel demands zero for locks of this kind.
        l_pid: 0,
    }
}

fn control(file: BorrowedFd<'_>, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as it is borrowed, and both commands read and write one `flock`.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
