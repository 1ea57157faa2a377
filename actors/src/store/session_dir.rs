//! Session folders as open descriptors, so that no path into one is ever resolved by name.
//!
//! Everything below a session folder belongs to an untrusted agent. A name is looked up beneath the folder's
//! descriptor with links refused, and what was found is judged on the descriptor, not on the name: swapping the
//! name between the check and the use has no effect.

use crate::model::ids::{AgentGroupId, SessionId};
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::file_system::shared_kind;
use inotify::{WatchDescriptor, WatchMask, Watches};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, Access, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder below a data directory that holds all sessions.
const SESSIONS_FOLDER: &str = "v2-sessions";
/// Group and session folders are closed to other users: one tenant's files are no other tenant's business.
const SESSION_FOLDER_MODE: Mode = Mode::RWXU;

/// How every name below a sessions root is looked up: no link is followed, and no mount is crossed. A file that is
/// mounted over another one of the same file system would otherwise look like an ordinary one.
pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// What tells of a commit in a folder: the end of a journal, in whichever way, and a file put in place of another.
pub const COMMIT_EVENTS: WatchMask =
    WatchMask::DELETE.union(WatchMask::CLOSE_WRITE).union(WatchMask::MOVED_TO);

/// The longest step of a file system's clock: FAT has two seconds.
const FILE_TIME_STEP_MAX: Duration = Duration::from_secs(2);

/// `DATA/v2-sessions`, held open.
#[derive(Debug)]
pub struct SessionsRoot {
    folder: OwnedFd,
    /// The file system of the root. A folder on another one is a mount that somebody slipped in.
    device: u64,
}

impl SessionsRoot {
    /// Opens the sessions folder of a data directory. The directory itself is the operator's and trusted.
    pub fn open(data_dir: &Path) -> Result<SessionsRoot, StoreError> {
        let path = data_dir.join(SESSIONS_FOLDER);
        let name = path.display().to_string();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = fs::open(&path, flags, Mode::empty()).map_err(|errno| lookup_error(&name, errno))?;
        let device = status(folder.as_fd(), &name)?.st_dev;
        Ok(SessionsRoot { folder, device })
    }

    /// Opens one session's folder.
    ///
    /// Fails with [`StoreError::Missing`] when it is not there and with [`StoreError::Refused`] when something
    /// else stands in its place.
    pub fn session(&self, group: &AgentGroupId, session: &SessionId) -> Result<SessionDir, StoreError> {
        let name = format!("{group}/{session}");
        let folder = open_folder(self.folder.as_fd(), &name, self.device)?;
        Ok(SessionDir { folder, device: self.device })
    }

    /// Tells one state of a session's file from another, in one system call; `None` when there is no usable file. Only
    /// for comparing: unlike [`SessionDir::identity`] it follows links in the folders, and opens nothing.
    pub fn glance(
        &self,
        group: &AgentGroupId,
        session: &SessionId,
        file: SessionFile,
    ) -> Option<FileIdentity> {
        let mut glances = self.glances();
        glances.turn_to(group, session);
        glances.at(file)
    }

    /// For glances at many files, one session after the other.
    pub fn glances(&self) -> Glances<'_> {
        Glances { root: self, path: String::new(), folder_bytes: 0 }
    }

    /// Whether `directory` is still what stands under the session's name: a folder that was moved away, or whose place
    /// another one has taken, is not.
    pub fn is_still(&self, group: &AgentGroupId, session: &SessionId, directory: &SessionDir) -> bool {
        let named = fs::statat(&self.folder, format!("{group}/{session}"), AtFlags::SYMLINK_NOFOLLOW);
        let open = fs::fstat(&directory.folder);
        matches!((named, open), (Ok(named), Ok(open)) if (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino))
    }

    /// The descriptor.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Opens one session's folder and makes what is missing of it: group, session, `outbox/`, `inbox/`.
    pub fn create_session(
        &self,
        group: &AgentGroupId,
        session: &SessionId,
    ) -> Result<SessionDir, StoreError> {
        let group_name = group.as_str();
        let root = self.folder.as_fd();
        let group_folder = make_folder(root, group_name, SESSION_FOLDER_MODE, self.device)?;
        let folder = make_folder(group_folder.as_fd(), session.as_str(), SESSION_FOLDER_MODE, self.device)?;
        for name in ["outbox", "inbox"] {
            make_folder(folder.as_fd(), name, Mode::from_raw_mode(0o755), self.device)?;
        }
        Ok(SessionDir { folder, device: self.device })
    }
}

/// Glances at the files of one session after the other; see [`SessionsRoot::glance`]. The path is written into the same
/// memory each time.
#[derive(Debug)]
pub struct Glances<'a> {
    root: &'a SessionsRoot,
    path: String,
    /// How much of the path is the session's folder, with the separator after it.
    folder_bytes: usize,
}

impl Glances<'_> {
    /// The next glances are at this session's files.
    pub fn turn_to(&mut self, group: &AgentGroupId, session: &SessionId) {
        self.path.clear();
        for folder in [group.as_str(), session.as_str()] {
            self.path.push_str(folder);
            self.path.push('/');
        }
        self.folder_bytes = self.path.len();
    }

    /// The session's file; `None` when there is no usable one.
    pub fn at(&mut self, file: SessionFile) -> Option<FileIdentity> {
        self.path.truncate(self.folder_bytes);
        self.path.push_str(file.name());
        let found = fs::statat(&self.root.folder, self.path.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        check_regular(&found, self.root.device, file.name()).ok()?;
        Some(FileIdentity::of(&found))
    }
}

/// The files of a session folder that have a fixed name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionFile {
    /// `inbound.db`
    Inbound,
    /// `outbound.db`
    Outbound,
    /// `inbound.db-journal`
    InboundJournal,
    /// `outbound.db-journal`
    OutboundJournal,
    /// `.heartbeat`
    Heartbeat,
}

impl SessionFile {
    /// All of them.
    pub const ALL: [SessionFile; 5] = [
        SessionFile::Inbound,
        SessionFile::Outbound,
        SessionFile::InboundJournal,
        SessionFile::OutboundJournal,
        SessionFile::Heartbeat,
    ];

    /// The file's name in the session folder.
    pub const fn name(self) -> &'static str {
        match self {
            SessionFile::Inbound => "inbound.db",
            SessionFile::Outbound => "outbound.db",
            SessionFile::InboundJournal => "inbound.db-journal",
            SessionFile::OutboundJournal => "outbound.db-journal",
            SessionFile::Heartbeat => ".heartbeat",
        }
    }

    /// Whether it is one of the two databases.
    pub const fn is_database(self) -> bool {
        matches!(self, SessionFile::Inbound | SessionFile::Outbound)
    }

    /// The database that a journal belongs to.
    pub(super) const fn database_of_journal(self) -> Option<SessionFile> {
        match self {
            SessionFile::InboundJournal => Some(SessionFile::Inbound),
            SessionFile::OutboundJournal => Some(SessionFile::Outbound),
            _ => None,
        }
    }
}

/// What tells one state of a file from another without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// The file system.
    pub device: u64,
    /// The file itself: another inode under the same name is a replaced file.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of the content, in nanoseconds since 1970.
    pub modified_ns: i64,
}

impl FileIdentity {
    pub(super) fn of(status: &Stat) -> FileIdentity {
        let nanoseconds = i64::try_from(status.st_mtime_nsec).unwrap_or(0);
        FileIdentity {
            device: status.st_dev,
            inode: status.st_ino,
            size: size_of_file(status),
            // The agent may set any time; it must not overflow.
            modified_ns: status.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanoseconds),
        }
    }

    /// Whether a later change is sure to show. Clocks of file systems have steps, of up to two seconds: a file that was
    /// changed just now may be changed again within the same step.
    pub fn is_firm(&self, now: Timestamp) -> bool {
        let modified = Timestamp::from_ms(self.modified_ns.div_euclid(1_000_000));
        now.since(modified) > FILE_TIME_STEP_MAX
    }

    /// For keeping: the four numbers, one after the other.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let numbers = [self.device, self.inode, self.size, self.modified_ns.cast_unsigned()];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// What [`FileIdentity::to_bytes`] kept.
    pub fn from_bytes(bytes: [u8; 32]) -> FileIdentity {
        let mut numbers = bytes
            .chunks_exact(8)
            .map(|part| part.iter().rev().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte)));
        let mut next = || numbers.next().unwrap_or(0);
        FileIdentity { device: next(), inode: next(), size: next(), modified_ns: next().cast_signed() }
    }

    /// Whether both describe the same file, changed or not.
    pub fn is_same_file(&self, other: &FileIdentity) -> bool {
        self.device == other.device && self.inode == other.inode
    }
}

/// One session's folder, held open.
///
/// Holding it keeps one descriptor. A folder that is renamed or replaced stays the folder that was opened.
#[derive(Debug)]
pub struct SessionDir {
    folder: OwnedFd,
    device: u64,
}

impl SessionDir {
    /// What is known of a file without opening it; `None` when there is none.
    ///
    /// Fails with [`StoreError::Refused`] when it is not a plain file of this folder.
    pub fn identity(&self, file: SessionFile) -> Result<Option<FileIdentity>, StoreError> {
        let name = file.name();
        let found = match fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(lookup_error(name, errno)),
        };
        match check_regular(&found, self.device, name) {
            Ok(()) => Ok(Some(FileIdentity::of(&found))),
            Err(StoreError::Missing(_)) => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// When the container last showed that it lives; `None` when it never did.
    pub fn heartbeat(&self) -> Result<Option<Timestamp>, StoreError> {
        let identity = self.identity(SessionFile::Heartbeat)?;
        Ok(identity.map(|found| Timestamp::from_ms(found.modified_ns.div_euclid(1_000_000))))
    }

    /// Fails unless this user may make files here and write `inbound.db`, where it is there.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        for name in [".", SessionFile::Inbound.name()] {
            match fs::accessat(&self.folder, name, Access::WRITE_OK, AtFlags::EACCESS) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    return Err(StoreError::Io {
                        context: format!("cannot write {name}"),
                        source: errno.into(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether the kernel hears of all changes in this folder. What another machine does on a shared file system, or
    /// the host of a virtual one, it does not.
    pub fn tells_of_changes(&self) -> bool {
        self.shared_file_system().is_none()
    }

    /// The kind of file system the folder is on, when others change it as well; one that does not say is not trusted.
    pub fn shared_file_system(&self) -> Option<&'static str> {
        fs::fstatfs(&self.folder).map_or(Some("unknown"), |found| shared_kind(found.f_type))
    }

    /// Watches this very folder, whatever its name is now. A watch tells that something happened and opens nothing.
    pub fn watch(&self, watches: &mut Watches, mask: WatchMask) -> io::Result<WatchDescriptor> {
        // The kernel resolves the path to the folder that is open; nothing can be swapped in between.
        watches.add(proc_path(self.folder.as_fd()), mask | WatchMask::ONLYDIR)
    }

    /// The descriptor. Only the store has it: everything else would be a way around its checks.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// The file system that everything in this folder must be on.
    pub(super) fn device(&self) -> u64 {
        self.device
    }
}

/// The path under which an open descriptor can be opened again.
fn proc_path(descriptor: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

/// Opens a folder beneath another one. No link on the way is followed.
pub(super) fn open_folder(base: BorrowedFd<'_>, path: &str, device: u64) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder =
        fs::openat2(base, path, flags, Mode::empty(), BENEATH).map_err(|errno| lookup_error(path, errno))?;
    if status(folder.as_fd(), path)?.st_dev != device {
        return Err(refused(path, "is on another file system"));
    }
    Ok(folder)
}

/// Makes a folder unless it exists, and opens it.
pub(super) fn make_folder(
    base: BorrowedFd<'_>,
    name: &str,
    mode: Mode,
    device: u64,
) -> Result<OwnedFd, StoreError> {
    match fs::mkdirat(base, name, mode) {
        Ok(()) | Err(Errno::EXIST) => open_folder(base, name, device),
        Err(errno) => Err(io_error(format!("cannot make folder {name}"), errno)),
    }
}

/// Opens an existing plain file beneath a folder with the given access.
///
/// The file is first held by a descriptor that can do nothing, judged, and then opened again through that
/// descriptor: what is opened is what was judged. `O_NONBLOCK` keeps a lease that the agent may hold on the
/// file from stopping us.
pub(super) fn open_regular(
    base: BorrowedFd<'_>,
    path: &str,
    device: u64,
    access: OFlags,
) -> Result<(OwnedFd, Stat), StoreError> {
    let hold = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held =
        fs::openat2(base, path, hold, Mode::empty(), BENEATH).map_err(|errno| lookup_error(path, errno))?;
    let found = status(held.as_fd(), path)?;
    check_regular(&found, device, path)?;
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match open_held(&held, flags) {
        Ok(file) => Ok((file, found)),
        Err(Errno::AGAIN) => Err(StoreError::Busy(path.to_owned())),
        Err(errno) => Err(io_error(format!("cannot open {path}"), errno)),
    }
}

fn open_held(held: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    fault_point!(held, Open);
    fs::open(proc_path(held.as_fd()), flags, Mode::empty())
}

/// Refuses everything but a plain file with one name on the right file system.
pub(super) fn check_regular(found: &Stat, device: u64, name: &str) -> Result<(), StoreError> {
    let reason = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile if found.st_nlink == 0 => return Err(StoreError::Missing(name.to_owned())),
        FileType::RegularFile if found.st_nlink > 1 => "has more than one hard link",
        FileType::RegularFile if found.st_dev != device => "is on another file system",
        FileType::RegularFile => return Ok(()),
        FileType::Symlink => "is a symbolic link",
        FileType::Directory => "is a folder",
        FileType::Fifo => "is a FIFO",
        FileType::Socket => "is a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "is a device",
        _ => "is not a plain file",
    };
    Err(refused(name, reason))
}

pub(super) fn status(descriptor: BorrowedFd<'_>, name: &str) -> Result<Stat, StoreError> {
    fs::fstat(descriptor).map_err(|errno| io_error(format!("cannot stat {name}"), errno))
}

pub(super) fn size_of_file(status: &Stat) -> u64 {
    u64::try_from(status.st_size).unwrap_or(0)
}

pub(super) fn refused(name: &str, reason: &str) -> StoreError {
    StoreError::Refused { name: name.to_owned(), reason: reason.to_owned() }
}

pub(super) fn io_error(context: String, errno: Errno) -> StoreError {
    StoreError::Io { context, source: io::Error::from(errno) }
}

/// What a failed lookup of a name says about what is there.
pub(super) fn lookup_error(name: &str, errno: Errno) -> StoreError {
    match errno {
        Errno::NOENT => StoreError::Missing(name.to_owned()),
        Errno::LOOP => refused(name, "is, or is reached through, a symbolic link"),
        Errno::NOTDIR => refused(name, "is, or is reached through, something that is not a folder"),
        Errno::XDEV => refused(name, "leads out of its folder, or onto a mount"),
        _ => io_error(format!("cannot open {name}"), errno),
    }
}

#[cfg(test)]
pub(in crate::store) mod tests;
