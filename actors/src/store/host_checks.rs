//! What a data directory's machine allows: room, file events, limits of the kernel.

use inotify::{Inotify, WatchMask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, getrlimit};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// How long an event may take that must come at once.
const EVENT_WAIT: Duration = Duration::from_secs(2);

/// What is free under the data directory, in bytes.
pub fn free_bytes(data_dir: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(data_dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Makes a folder in the data directory, and sees whether a commit in it is heard of. The folder is removed again.
pub fn hears_of_commits(data_dir: &Path) -> io::Result<bool> {
    let folder = data_dir.join(format!(".nanorelay-doctor-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let heard = hears_of_a_commit_in(&folder);
    std::fs::remove_dir_all(&folder)?;
    heard
}

fn hears_of_a_commit_in(folder: &Path) -> io::Result<bool> {
    let inotify = Inotify::init()?;
    inotify.watches().add(folder, WatchMask::DELETE)?;
    // How SQLite commits: the journal goes.
    let journal = folder.join("outbound.db-journal");
    drop(File::create(&journal)?);
    std::fs::remove_file(&journal)?;
    let timeout = Timespec::try_from(EVENT_WAIT).map_err(io::Error::other)?;
    Ok(poll(&mut [PollFd::from_borrowed_fd(inotify.as_fd(), PollFlags::IN)], Some(&timeout))? > 0)
}

/// How many folders this user may watch; none when the kernel does not say.
pub fn watches_max() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?.trim().parse().ok()
}

/// How many files this process may open; none = any number.
pub fn descriptors_max() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}
