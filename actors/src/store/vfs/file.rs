//! What the VFS does with files, in safe Rust. Return values are SQLite's result codes.

use super::format::{FileFormat, HEADER_BYTES};
use super::lock::{self, LockKind, PENDING_BYTE, RESERVED_BYTE, SHARED_FIRST, SHARED_SIZE};
use crate::store::error::StoreError;
use crate::store::session_dir::{
    FileIdentity, SessionFile, check_regular, io_error, lookup_error, open_regular, refused, size_of_file,
    status,
};
use rusqlite::ffi;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::io;
use std::time::Instant;

/// The largest journal that is played back, in bytes. An agent's commit of this size is no message.
const JOURNAL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Where the change counter stands in a database file.
const CHANGE_COUNTER_OFFSET: u64 = 24;
/// The kinds of files that SQLite may ask for.
const FILE_KINDS: c_int = 0x000F_FF00;

thread_local! {
    /// Why the VFS last failed on this thread. SQLite has only numbers for errors; the words wait here.
    static LAST_FAILURE: RefCell<Option<StoreError>> = const { RefCell::new(None) };
    /// When this thread last took a lock on an unlocked session database.
    static TRANSACTION_STARTED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The words for the last failure of the VFS on this thread, once.
pub(in crate::store) fn take_failure() -> Option<StoreError> {
    LAST_FAILURE.try_with(|failure| failure.try_borrow_mut().ok()?.take()).ok().flatten()
}

/// Forgets an earlier failure, so that it does not explain a later one.
pub(in crate::store) fn clear_failure() {
    drop(take_failure());
}

/// When this thread last took a lock on an unlocked session database.
pub(in crate::store) fn transaction_started() -> Option<Instant> {
    TRANSACTION_STARTED.try_with(Cell::get).ok().flatten()
}

/// Keeps the words of a failure and answers with its number.
fn failed(code: c_int, failure: StoreError) -> c_int {
    // Without a place for the words the number has to do.
    let _ = LAST_FAILURE.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = Some(failure);
        }
    });
    code
}

/// A file of a session folder that need not exist.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The folder. The connection's owner keeps it open for longer than the connection.
    pub(super) directory: BorrowedFd<'static>,
    /// Which of its files.
    pub(super) file: SessionFile,
}

impl Place {
    fn device(&self) -> Result<u64, StoreError> {
        Ok(status(self.directory, "the session folder")?.st_dev)
    }

    /// The mode and owner of the database that a journal belongs to.
    fn database_status(&self) -> Option<fs::Stat> {
        let database = self.file.database_of_journal()?;
        fs::statat(self.directory, database.name(), AtFlags::SYMLINK_NOFOLLOW).ok()
    }
}

/// A file that SQLite has open.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// `None` for a journal that vanished between SQLite's look and its opening, and for the database of a connection
    /// that is spare: both read as empty.
    file: Option<OwnedFd>,
    place: Place,
    /// One of SQLite's `SQLITE_LOCK_*`.
    level: c_int,
    /// The file is new and its folder not yet on disk.
    sync_directory: bool,
}

/// Opens a database or a journal. Every other name, and every other kind of file, is refused.
pub(super) fn open(place: Option<Place>, flags: c_int) -> Result<OpenFile, c_int> {
    clear_failure();
    let Some(place) = place else {
        return Err(failed(
            ffi::SQLITE_CANTOPEN,
            refused("a file", "is none that a session database may have"),
        ));
    };
    let is_allowed = match flags & FILE_KINDS {
        ffi::SQLITE_OPEN_MAIN_DB => place.file.is_database(),
        ffi::SQLITE_OPEN_MAIN_JOURNAL => place.file.database_of_journal().is_some(),
        _ => false,
    };
    if !is_allowed {
        let reason = "is opened as something that it is not";
        return Err(failed(ffi::SQLITE_CANTOPEN, refused(place.file.name(), reason)));
    }
    open_checked(place, flags).map_err(|failure| failed(ffi::SQLITE_CANTOPEN, failure))
}

fn open_checked(place: Place, flags: c_int) -> Result<OpenFile, StoreError> {
    let name = place.file.name();
    let is_journal = !place.file.is_database();
    let is_read_only = flags & ffi::SQLITE_OPEN_READWRITE == 0;
    let creates = flags & ffi::SQLITE_OPEN_CREATE != 0;
    let access = if is_read_only { OFlags::RDONLY } else { OFlags::RDWR };
    let opened =
        |file, sync_directory| OpenFile { file, place, level: ffi::SQLITE_LOCK_NONE, sync_directory };
    match open_regular(place.directory, name, place.device()?, access) {
        // SQLite opens a journal this way when it starts to write: what is left in it is of no use any more, and
        // must not become the end of our journal.
        Ok((file, found)) if is_journal && creates => {
            if found.st_size > 0 {
                let emptied = fs::ftruncate(&file, 0);
                emptied.map_err(|errno| io_error(format!("cannot empty {name}"), errno))?;
            }
            Ok(opened(Some(file), true))
        }
        Ok((_, found)) if is_journal && size_of_file(&found) > JOURNAL_BYTES_MAX => {
            Err(refused(name, "is larger than a journal may be"))
        }
        Ok((file, _)) => Ok(opened(Some(file), false)),
        Err(StoreError::Missing(_)) if creates => Ok(opened(Some(create(place)?), true)),
        // SQLite opens a journal for reading only to see whether it is hot. One that is gone by now is not: its
        // writer has just committed. SQLite's own answer is a false alarm that a read-only handle cannot resolve.
        Err(StoreError::Missing(_)) if is_journal && is_read_only => Ok(opened(None, false)),
        Err(failure) => Err(failure),
    }
}

/// Makes a new file. Nothing that exists, and no link, is touched.
fn create(place: Place) -> Result<OwnedFd, StoreError> {
    let name = place.file.name();
    let model = place.database_status();
    let mode = model.as_ref().map_or(0o644, |database| database.st_mode & 0o777);
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let create = || {
        fault_point!(place.directory, Create);
        fs::openat(place.directory, name, flags, Mode::from_raw_mode(mode))
    };
    let file = create().map_err(|errno| lookup_error(name, errno))?;
    if let Some(database) = model {
        // Best effort, like stock SQLite: a host that runs as root must not leave a journal that the agent's own
        // user cannot roll back.
        let owner = rustix::fs::Uid::from_raw(database.st_uid);
        let group = rustix::fs::Gid::from_raw(database.st_gid);
        let _ = fs::fchown(&file, Some(owner), Some(group));
        let _ = fs::fchmod(&file, Mode::from_raw_mode(mode));
    }
    Ok(file)
}

/// Deletes a journal. SQLite is made to ask for other files too; those are left alone.
pub(super) fn delete(place: Option<Place>, sync_directory: bool) -> c_int {
    let Some(place) = place.filter(|place| place.file.database_of_journal().is_some()) else {
        return failed(ffi::SQLITE_IOERR_DELETE, refused("a file", "is no journal and is not deleted"));
    };
    match fs::unlinkat(place.directory, place.file.name(), AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::NOENT) => return ffi::SQLITE_IOERR_DELETE_NOENT,
        Err(errno) => {
            let context = format!("cannot delete {}", place.file.name());
            return failed(ffi::SQLITE_IOERR_DELETE, io_error(context, errno));
        }
    }
    if sync_directory && fs::fsync(place.directory).is_err() {
        return ffi::SQLITE_IOERR_DIR_FSYNC;
    }
    ffi::SQLITE_OK
}

/// Whether a journal is there and not empty. All other files do not exist: no WAL, no super-journal.
pub(super) fn exists(place: Option<Place>) -> Result<bool, c_int> {
    let Some(place) = place.filter(|place| place.file.database_of_journal().is_some()) else {
        return Ok(false);
    };
    let name = place.file.name();
    let found = match fs::statat(place.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(failed(ffi::SQLITE_IOERR_ACCESS, lookup_error(name, errno))),
    };
    match place.device().and_then(|device| check_regular(&found, device, name)) {
        Ok(()) => Ok(found.st_size > 0),
        Err(StoreError::Missing(_)) => Ok(false),
        Err(failure) => Err(failed(ffi::SQLITE_CANTOPEN, failure)),
    }
}

impl OpenFile {
    fn descriptor(&self) -> Result<BorrowedFd<'_>, c_int> {
        self.file.as_ref().map(AsFd::as_fd).ok_or(ffi::SQLITE_IOERR)
    }

    fn failed(&self, code: c_int, doing: &str, errno: Errno) -> c_int {
        failed(code, io_error(format!("cannot {doing} {}", self.place.file.name()), errno))
    }

    /// Releases all locks and closes the file.
    pub(super) fn close(mut self) {
        // Said explicitly: a child process that is just being started shares the descriptor until it runs its
        // own program, and would hold our locks for that long.
        let _ = self.unlock(ffi::SQLITE_LOCK_NONE);
    }

    /// Fills `buffer`, which holds zeros. What lies behind the end of the file stays zero.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> c_int {
        let Ok(file) = self.descriptor() else {
            return ffi::SQLITE_IOERR_SHORT_READ;
        };
        match read_at(file, buffer, offset) {
            Ok(_) if offset == 0 && self.place.file.is_database() && is_wal_header(buffer) => {
                let name = self.place.file.name().to_owned();
                failed(ffi::SQLITE_CANTOPEN, StoreError::WalMode(name))
            }
            Ok(filled) if filled == buffer.len() => ffi::SQLITE_OK,
            Ok(_) => ffi::SQLITE_IOERR_SHORT_READ,
            Err(errno) => self.failed(ffi::SQLITE_IOERR_READ, "read", errno),
        }
    }

    /// Writes all of `buffer`.
    pub(super) fn write(&self, buffer: &[u8], offset: u64) -> c_int {
        let Ok(file) = self.descriptor() else {
            return ffi::SQLITE_IOERR_WRITE;
        };
        match write_at(file, buffer, offset) {
            Ok(()) => ffi::SQLITE_OK,
            Err(Errno::NOSPC | Errno::DQUOT) => ffi::SQLITE_FULL,
            Err(errno) => self.failed(ffi::SQLITE_IOERR_WRITE, "write", errno),
        }
    }

    /// Sets the file's size in bytes.
    pub(super) fn truncate(&self, size: i64) -> c_int {
        let (Ok(file), Ok(size)) = (self.descriptor(), u64::try_from(size)) else {
            return ffi::SQLITE_IOERR_TRUNCATE;
        };
        loop {
            match fs::ftruncate(file, size) {
                Ok(()) => return ffi::SQLITE_OK,
                Err(Errno::INTR) => {}
                Err(errno) => return self.failed(ffi::SQLITE_IOERR_TRUNCATE, "truncate", errno),
            }
        }
    }

    /// Brings the file, and its name when it is new, to the disk.
    pub(super) fn sync(&mut self) -> c_int {
        let Ok(file) = self.descriptor() else {
            return ffi::SQLITE_IOERR_FSYNC;
        };
        if let Err(errno) = sync_data(file) {
            return self.failed(ffi::SQLITE_IOERR_FSYNC, "sync", errno);
        }
        if std::mem::take(&mut self.sync_directory) {
            // Some file systems cannot do it; stock SQLite ignores that too.
            let _ = fs::fsync(self.place.directory);
        }
        ffi::SQLITE_OK
    }

    /// The file's size in bytes.
    pub(super) fn size(&self, size: &mut i64) -> c_int {
        *size = 0;
        let Some(file) = &self.file else {
            return ffi::SQLITE_OK;
        };
        match fs::fstat(file) {
            Ok(found) => {
                *size = found.st_size;
                ffi::SQLITE_OK
            }
            Err(errno) => self.failed(ffi::SQLITE_IOERR_FSTAT, "stat", errno),
        }
    }

    /// The lock that is held, one of SQLite's `SQLITE_LOCK_*`.
    pub(super) fn level(&self) -> c_int {
        self.level
    }

    /// Raises the lock. The order of the steps is that of SQLite's unix VFS, so that both understand each other.
    pub(super) fn lock(&mut self, level: c_int) -> c_int {
        if self.level >= level {
            return ffi::SQLITE_OK;
        }
        let is_shared = level == ffi::SQLITE_LOCK_SHARED;
        if is_shared {
            clear_failure();
        }
        // A reader passes through the pending byte, so that it does not overtake a waiting writer. A writer keeps
        // the byte even when readers are still there. The rollback of a hot journal goes from SHARED to EXCLUSIVE
        // without it: several processes may try that at a time, and each must see that it is not alone.
        if is_shared || (level == ffi::SQLITE_LOCK_EXCLUSIVE && self.level == ffi::SQLITE_LOCK_RESERVED) {
            let kind = if is_shared { LockKind::Read } else { LockKind::Write };
            if let Err(code) = self.set_lock(kind, PENDING_BYTE, 1, ffi::SQLITE_IOERR_LOCK) {
                return code;
            }
            if !is_shared {
                self.level = ffi::SQLITE_LOCK_PENDING;
            }
        }
        let taken = if is_shared {
            let taken = self.set_lock(LockKind::Read, SHARED_FIRST, SHARED_SIZE, ffi::SQLITE_IOERR_LOCK);
            let released = self.set_lock(LockKind::Unlock, PENDING_BYTE, 1, ffi::SQLITE_IOERR_UNLOCK);
            taken.and(released)
        } else if level == ffi::SQLITE_LOCK_RESERVED {
            self.set_lock(LockKind::Write, RESERVED_BYTE, 1, ffi::SQLITE_IOERR_LOCK)
        } else {
            self.set_lock(LockKind::Write, SHARED_FIRST, SHARED_SIZE, ffi::SQLITE_IOERR_LOCK)
        };
        if let Err(code) = taken {
            if is_shared {
                // Whichever half was taken: an unlocked file holds nothing.
                let _ = self.set_lock(LockKind::Unlock, 0, 0, code);
            }
            return code;
        }
        if is_shared {
            let _ = TRANSACTION_STARTED.try_with(|started| started.set(Some(Instant::now())));
        }
        self.level = level;
        ffi::SQLITE_OK
    }

    /// Lowers the lock to SHARED or to none.
    pub(super) fn unlock(&mut self, level: c_int) -> c_int {
        if self.level <= level {
            return ffi::SQLITE_OK;
        }
        let released = if level == ffi::SQLITE_LOCK_SHARED {
            // The readers' range is turned into a shared one before the writer's bytes are let go. Nobody who
            // keeps to the protocol can be in the way; BUSY would be an answer that SQLite does not expect here.
            self.set_lock(LockKind::Read, SHARED_FIRST, SHARED_SIZE, ffi::SQLITE_IOERR_RDLOCK)
                .and_then(|()| self.set_lock(LockKind::Unlock, PENDING_BYTE, 2, ffi::SQLITE_IOERR_UNLOCK))
                .map_err(|code| if code == ffi::SQLITE_BUSY { ffi::SQLITE_IOERR_RDLOCK } else { code })
        } else {
            self.set_lock(LockKind::Unlock, 0, 0, ffi::SQLITE_IOERR_UNLOCK)
        };
        match released {
            Ok(()) => {
                self.level = level;
                ffi::SQLITE_OK
            }
            Err(code) => code,
        }
    }

    /// Whether this or another connection is preparing to write.
    pub(super) fn check_reserved_lock(&self, result: &mut c_int) -> c_int {
        *result = c_int::from(self.level > ffi::SQLITE_LOCK_SHARED);
        let Ok(file) = self.descriptor() else {
            return ffi::SQLITE_OK;
        };
        if *result == 0 {
            match lock::is_taken(file, RESERVED_BYTE, 1) {
                Ok(taken) => *result = c_int::from(taken),
                Err(_) => return ffi::SQLITE_IOERR_CHECKRESERVEDLOCK,
            }
        }
        ffi::SQLITE_OK
    }

    fn set_lock(&self, kind: LockKind, start: i64, length: i64, code: c_int) -> Result<(), c_int> {
        // Journals are never locked.
        let Some(file) = self.file.as_ref().filter(|_| self.place.file.is_database()) else {
            return Ok(());
        };
        lock::set(file.as_fd(), kind, start, length).map_err(|error| lock_code(&error, code))
    }

    /// Whether the name now leads to another file, or to none.
    pub(super) fn has_moved(&self) -> bool {
        let name = self.place.file.name();
        let Some(open) = self.file.as_ref().and_then(|file| fs::fstat(file).ok()) else {
            return true;
        };
        fs::statat(self.place.directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_or(true, |found| found.st_ino != open.st_ino || found.st_dev != open.st_dev)
    }

    /// Opens the file of the same name in the folder that the descriptor leads to by now, in place of this one. Without
    /// `access`, no file is open any more.
    pub(super) fn exchange(&mut self, access: Option<c_int>) -> Result<(), StoreError> {
        if self.level != ffi::SQLITE_LOCK_NONE {
            return Err(refused(self.place.file.name(), "is locked and stays open"));
        }
        *self = match access {
            Some(access) => open_checked(self.place, access)?,
            None => OpenFile { file: None, sync_directory: false, ..*self },
        };
        Ok(())
    }

    /// See [`super::file_format`].
    pub(super) fn format(&self) -> Result<FileFormat, StoreError> {
        let name = self.place.file.name();
        let file = self.file.as_ref().ok_or_else(|| StoreError::Missing(name.to_owned()))?;
        let mut header = [0; HEADER_BYTES];
        read_at(file.as_fd(), &mut header, 0)
            .map_err(|errno| io_error(format!("cannot read {name}"), errno))?;
        Ok(FileFormat::of(&header))
    }

    /// See [`super::change_counter`].
    pub(super) fn change_counter(&self) -> Result<u32, StoreError> {
        let name = self.place.file.name();
        let file = self.file.as_ref().ok_or_else(|| StoreError::Missing(name.to_owned()))?;
        let mut bytes = [0; 4];
        read_at(file.as_fd(), &mut bytes, CHANGE_COUNTER_OFFSET)
            .map_err(|errno| io_error(format!("cannot read {name}"), errno))?;
        Ok(u32::from_be_bytes(bytes))
    }

    /// See [`super::file_identity`].
    pub(super) fn identity(&self) -> Result<FileIdentity, StoreError> {
        let name = self.place.file.name();
        let file = self.file.as_ref().ok_or_else(|| StoreError::Missing(name.to_owned()))?;
        Ok(FileIdentity::of(&status(file.as_fd(), name)?))
    }
}

/// Reads until the buffer is full or the file ends; answers how much was read.
fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    fault_point!(file, Read);
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

/// Writes all of `buffer`.
fn write_at(file: BorrowedFd<'_>, mut buffer: &[u8], mut offset: u64) -> Result<(), Errno> {
    fault_point!(file, Write);
    while !buffer.is_empty() {
        match rustix::io::pwrite(file, buffer, offset) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => {
                buffer = buffer.get(written..).unwrap_or_default();
                offset = offset.saturating_add(written as u64);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn sync_data(file: BorrowedFd<'_>) -> Result<(), Errno> {
    fault_point!(file, Sync);
    fs::fdatasync(file)
}

/// Whether these first bytes of a database say that it is in WAL mode (bytes 18 and 19).
fn is_wal_header(header: &[u8]) -> bool {
    header.starts_with(b"SQLite format 3\0")
        && header.get(18..20).is_some_and(|versions| versions.iter().any(|version| *version > 1))
}

/// SQLite's own reading of a failed lock.
fn lock_code(error: &io::Error, otherwise: c_int) -> c_int {
    match Errno::from_io_error(error) {
        Some(Errno::ACCESS | Errno::AGAIN | Errno::TIMEDOUT | Errno::BUSY | Errno::INTR | Errno::NOLCK) => {
            ffi::SQLITE_BUSY
        }
        Some(Errno::PERM) => ffi::SQLITE_PERM,
        _ => otherwise,
    }
}
