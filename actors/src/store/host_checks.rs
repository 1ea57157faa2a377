//! What a data directory's machine allows: room, file events, limits of the kernel.

use super::session_dir::COMMIT_EVENTS;
use inotify::Inotify;
use rusqlite::{Connection, OpenFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::StatVfsMountFlags;
use rustix::process::{Resource, getrlimit};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long an event may take that must come at once.
const EVENT_WAIT: Duration = Duration::from_secs(2);
/// Those that an agent may use; a file in WAL mode is refused.
const JOURNAL_MODES: [&str; 3] = ["DELETE", "TRUNCATE", "PERSIST"];

/// What is left on a file system.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Free for this user, in bytes.
    pub bytes: u64,
    /// Files that can still be made; none = the file system has no such bound.
    pub inodes: Option<u64>,
    /// Whether nothing can be written at all.
    pub is_read_only: bool,
}

/// What is left under the data directory.
pub fn room(data_dir: &Path) -> io::Result<Room> {
    let found = rustix::fs::statvfs(data_dir)?;
    Ok(Room {
        bytes: found.f_bavail.saturating_mul(found.f_frsize),
        inodes: (found.f_files > 0).then_some(found.f_favail),
        is_read_only: found.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// A commit that was made to see whether it is heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TriedCommit {
    /// How SQLite keeps its journal.
    pub journal_mode: &'static str,
    /// From the begin of the commit to its event; `None` when none came within seconds.
    pub heard_after: Option<Duration>,
}

/// Commits as an agent does, in a folder made for it on the file system of the session folders, and sees what is heard.
/// The folder is removed again.
pub fn try_commits(data_dir: &Path) -> io::Result<Vec<TriedCommit>> {
    let device = |path: &Path| rustix::fs::stat(path).map(|found| found.st_dev).ok();
    let sessions = data_dir.join("v2-sessions");
    // Not among the sessions, unless they are a mount of their own.
    let is_one_mount = device(&sessions).is_none_or(|found| device(data_dir) == Some(found));
    let parent = if is_one_mount { data_dir } else { &sessions };
    let folder = parent.join(format!(".nanorelay-doctor-{}", std::process::id()));
    let mut tried = Vec::new();
    for journal_mode in JOURNAL_MODES {
        std::fs::create_dir(&folder)?;
        let heard = hears_of_a_commit_in(&folder, journal_mode);
        std::fs::remove_dir_all(&folder)?;
        tried.push(TriedCommit { journal_mode, heard_after: heard? });
    }
    Ok(tried)
}

/// The commit is made by another thread, whose connection stays open: closing it would be an event of its own.
fn hears_of_a_commit_in(folder: &Path, journal_mode: &str) -> io::Result<Option<Duration>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let agent = Connection::open_with_flags(folder.join("outbound.db"), flags).map_err(io::Error::other)?;
    agent.pragma_update(None, "journal_mode", journal_mode).map_err(io::Error::other)?;
    agent.execute_batch("CREATE TABLE messages_out (id)").map_err(io::Error::other)?;
    let inotify = Inotify::init()?;
    inotify.watches().add(folder, COMMIT_EVENTS)?;
    let started = Instant::now();
    let committing = std::thread::spawn(move || {
        let committed = agent.execute("INSERT INTO messages_out VALUES (1)", []);
        (agent, committed)
    });
    let timeout = Timespec::try_from(EVENT_WAIT).map_err(io::Error::other)?;
    let heard = poll(&mut [PollFd::from_borrowed_fd(inotify.as_fd(), PollFlags::IN)], Some(&timeout));
    let after = started.elapsed();
    let (_agent, committed) = committing.join().map_err(|_| io::Error::other("the commit panicked"))?;
    committed.map_err(io::Error::other)?;
    Ok((heard? > 0).then_some(after))
}

/// How many folders this user may watch; none when the kernel does not say.
pub fn watches_max() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?.trim().parse().ok()
}

/// How many programs of this user may watch; none when the kernel does not say.
pub fn instances_max() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").ok()?.trim().parse().ok()
}

/// How many files this process may open; none = any number.
pub fn descriptors_max() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}
