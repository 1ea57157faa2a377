//! The SQLite VFS for session folders, and the one place of the project with unsafe code.
//!
//! Stock SQLite resolves paths, follows what it finds, maps shared memory in WAL mode and deletes whatever file a
//! journal calls its super-journal. In a folder that belongs to an agent each of these is a way into the host.
//! This VFS opens and deletes the four database and journal names of a session folder and nothing else, proves
//! each file to be a plain one before it uses it, and has no shared memory and no memory maps at all.
//!
//! **Locks** are open-file-description locks on the bytes that SQLite's own unix VFS locks. They conflict with
//! the container's record locks in both directions, belong to one descriptor and not to the process, and so
//! survive that some other descriptor of the same file is closed. Two connections within this process exclude
//! each other like two processes do.
//!
//! This file is the border to C: it turns pointers into references and catches panics. What the functions do is
//! in `vfs/file.rs` and `vfs/lock.rs`. A database is named `/<descriptor of the folder>/<file name>`.
#![expect(unsafe_code, reason = "a VFS is a table of C functions; there is no safe way to provide one")]

mod file;
mod format;
mod lock;

pub(super) use file::{clear_failure, take_failure, transaction_started};
pub(super) use format::FileFormat;

use crate::store::error::StoreError;
use crate::store::session_dir::{FileIdentity, SessionFile};
use file::{OpenFile, Place};
use rusqlite::{Connection, OpenFlags, ffi};
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::{mem, ptr, slice};

/// The name under which the VFS is registered.
pub(super) const VFS_NAME: &CStr = c"nanorelay-session";

/// The longest database name in bytes. SQLite reads a super-journal's name into a buffer of this size.
const NAME_BYTES_MAX: c_int = 64;

/// A file as SQLite sees it. SQLite provides the memory; `file` is initialised exactly while `base.pMethods`
/// is not null.
#[repr(C)]
struct Handle {
    base: ffi::sqlite3_file,
    file: OpenFile,
}

// SQLite aligns a file's memory to eight bytes.
const _: () = assert!(mem::align_of::<Handle>() <= 8);

/// Version 1: neither shared memory nor memory maps exist, so that WAL mode is impossible.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock_file),
    xUnlock: Some(unlock_file),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// Registers the VFS. All calls after the first do nothing.
pub(super) fn register() -> Result<(), StoreError> {
    static REGISTERED: OnceLock<c_int> = OnceLock::new();
    match *REGISTERED.get_or_init(register_now) {
        ffi::SQLITE_OK => Ok(()),
        code => Err(StoreError::Sqlite(rusqlite::Error::SqliteFailure(
            ffi::Error::new(code),
            Some("cannot register the session vfs".to_owned()),
        ))),
    }
}

fn register_now() -> c_int {
    // SAFETY: SQLite allows this call at any time; it initialises itself first. A null name asks for the default.
    let default = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
    if default.is_null() {
        return ffi::SQLITE_ERROR;
    }
    // SQLite keeps the pointer for the life of the process, and links it into a list: it is never freed.
    let vfs = Box::leak(Box::new(ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: mem::size_of::<Handle>() as c_int,
        mxPathname: NAME_BYTES_MAX,
        pNext: ptr::null_mut(),
        zName: VFS_NAME.as_ptr(),
        pAppData: default.cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: Some(library_open),
        xDlError: Some(library_error),
        xDlSym: Some(library_symbol),
        xDlClose: Some(library_close),
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: None,
        xCurrentTimeInt64: Some(current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }));
    // SAFETY: `vfs` lives for ever, all its functions match their types, and its name is a constant.
    unsafe { ffi::sqlite3_vfs_register(vfs, 0) }
}

/// What SQLite must be told to open a file of a session folder.
pub(super) fn database_name(directory: BorrowedFd<'_>, file: SessionFile) -> String {
    format!("/{}/{}", directory.as_raw_fd(), file.name())
}

/// Gives up the connection's private allocator: 46 KiB less for each open session.
pub(super) fn disable_lookaside(connection: &Connection) -> Result<(), rusqlite::Error> {
    // SAFETY: the handle is open as long as `connection` is borrowed. This option takes a pointer and two ints.
    let code = unsafe {
        let no_buffer: *mut c_void = ptr::null_mut();
        let none: c_int = 0;
        ffi::sqlite3_db_config(connection.handle(), ffi::SQLITE_DBCONFIG_LOOKASIDE, no_buffer, none, none)
    };
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
}

/// Reads the change counter of the database file, without a lock: another value means another content. The same
/// value may come back after a rollback.
pub(super) fn change_counter(connection: &Connection) -> Result<u32, StoreError> {
    with_database_file(connection, |file| file.change_counter())
}

/// The file that the connection has open.
pub(super) fn file_identity(connection: &Connection) -> Result<FileIdentity, StoreError> {
    with_database_file(connection, |file| file.identity())
}

/// How the connection's database file is laid out, without a lock.
pub(super) fn file_format(connection: &Connection) -> Result<FileFormat, StoreError> {
    with_database_file(connection, |file| file.format())
}

/// Puts another file under a connection that is in no transaction: the one of the same name in the folder to which the
/// descriptor of its name leads by now. `access` is as for opening; without it, the connection is left without a file.
/// What was in the page cache is forgotten.
pub(super) fn exchange_file(connection: &Connection, access: Option<OpenFlags>) -> Result<(), StoreError> {
    clear_failure();
    let access = access.map(|flags| flags.bits() | ffi::SQLITE_OPEN_MAIN_DB);
    with_database_file(connection, |file| file.exchange(access))?;
    // SAFETY: the connection is open and used by this thread only; this operation takes no argument.
    let code = unsafe {
        let operation = ffi::SQLITE_FCNTL_RESET_CACHE;
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), operation, ptr::null_mut())
    };
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into())
}

/// Calls `work` with the database file of a connection that was opened through this VFS.
fn with_database_file<T>(
    connection: &Connection,
    work: impl FnOnce(&mut OpenFile) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut handle: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the connection is open and used by this thread only, since `Connection` is not `Sync`; the operation
    // writes one file pointer.
    let code = unsafe {
        let operation = ffi::SQLITE_FCNTL_FILE_POINTER;
        let result = ptr::from_mut(&mut handle).cast();
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), operation, result)
    };
    // SAFETY: SQLite gave this pointer to a live file of the connection, or left it null.
    let is_ours = !handle.is_null() && unsafe { ptr::eq((*handle).pMethods, &METHODS) };
    if code != ffi::SQLITE_OK || !is_ours {
        return Err(StoreError::Limit("the connection has no session file open".to_owned()));
    }
    // SAFETY: its method table is ours, so that it is an initialised `Handle`; SQLite does not use it meanwhile.
    work(unsafe { &mut (*handle.cast::<Handle>()).file })
}

/// Keeps a panic from unwinding into C.
fn guard(code_on_panic: c_int, work: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(code_on_panic)
}

/// The file behind a handle that SQLite passes to one of [`METHODS`].
///
/// # Safety
/// `handle` must be one that [`open`] filled in and [`close`] has not seen yet. SQLite uses a file from one thread
/// at a time, so that the reference is the only one.
unsafe fn file_of<'a>(handle: *mut ffi::sqlite3_file) -> &'a mut OpenFile {
    // SAFETY: see above; `Handle` starts with the `sqlite3_file`.
    unsafe { &mut (*handle.cast::<Handle>()).file }
}

/// Reads a name of the form `/<descriptor>/<file name>`. `None` for every other name.
///
/// # Safety
/// `name` must be null or a C string, and the folder with that descriptor must stay open as long as the result
/// is used. `SessionConnection` sees to that: it drops the folder after the connection.
unsafe fn place_of(name: *const c_char) -> Option<Place> {
    if name.is_null() {
        return None;
    }
    // SAFETY: not null, and a C string by contract.
    let name = unsafe { CStr::from_ptr(name) }.to_str().ok()?;
    let (descriptor, file_name) = name.strip_prefix('/')?.split_once('/')?;
    let file = SessionFile::ALL.into_iter().find(|file| file.name() == file_name)?;
    let descriptor: RawFd = descriptor.parse().ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: open for the life of the connection by contract.
    let directory = unsafe { BorrowedFd::borrow_raw(descriptor) };
    Some(Place { directory, file })
}

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    handle: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    guard(ffi::SQLITE_CANTOPEN, || {
        // SAFETY: SQLite provides `szOsFile` bytes. A null method table tells it not to close a failed open.
        unsafe { (*handle).pMethods = ptr::null() };
        // SAFETY: SQLite passes the name that `database_name` made, one derived from it, another one, or null.
        let place = unsafe { place_of(name) };
        let file = match file::open(place, flags) {
            Ok(file) => file,
            Err(code) => return code,
        };
        let base = ffi::sqlite3_file { pMethods: &METHODS };
        // SAFETY: the memory is large enough, aligned to eight bytes and holds nothing that must be dropped.
        unsafe { handle.cast::<Handle>().write(Handle { base, file }) };
        if !flags_out.is_null() {
            // SAFETY: not null, and SQLite passes a valid place. Access is as asked, never silently less.
            unsafe { *flags_out = flags };
        }
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn delete(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_directory: c_int,
) -> c_int {
    // SAFETY: as in `open`.
    guard(ffi::SQLITE_IOERR_DELETE, || file::delete(unsafe { place_of(name) }, sync_directory & 1 != 0))
}

unsafe extern "C" fn access(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _flags: c_int,
    result: *mut c_int,
) -> c_int {
    guard(ffi::SQLITE_IOERR_ACCESS, || {
        // SAFETY: as in `open`; the name may be any that a crafted journal holds.
        match file::exists(unsafe { place_of(name) }) {
            Ok(exists) => {
                // SAFETY: SQLite passes a valid place for the answer.
                unsafe { *result = c_int::from(exists) };
                ffi::SQLITE_OK
            }
            Err(code) => code,
        }
    })
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    bytes: c_int,
    out: *mut c_char,
) -> c_int {
    guard(ffi::SQLITE_CANTOPEN, || {
        // SAFETY: SQLite passes a C string.
        let name = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
        if name.len() > usize::try_from(bytes).unwrap_or(0) {
            return ffi::SQLITE_CANTOPEN;
        }
        // SAFETY: `out` has room for `bytes` bytes, checked above, and does not overlap the name.
        unsafe { ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len()) };
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn close(handle: *mut ffi::sqlite3_file) -> c_int {
    guard(ffi::SQLITE_IOERR_CLOSE, || {
        // SAFETY: `handle` is open by contract. Its file is moved out and the method table cleared, so that
        // neither SQLite nor we use it again.
        let file = unsafe {
            (*handle).pMethods = ptr::null();
            ptr::read(&(*handle.cast::<Handle>()).file)
        };
        file.close();
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn read(
    handle: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    bytes: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    guard(ffi::SQLITE_IOERR_READ, || {
        let (Ok(bytes), Ok(offset)) = (usize::try_from(bytes), u64::try_from(offset)) else {
            return ffi::SQLITE_IOERR_READ;
        };
        // SAFETY: SQLite's buffer has this size. It may be uninitialised, so it is zeroed before it becomes a
        // slice; the zeros are also what SQLite expects behind the end of a file.
        let buffer = unsafe {
            ptr::write_bytes(buffer.cast::<u8>(), 0, bytes);
            slice::from_raw_parts_mut(buffer.cast::<u8>(), bytes)
        };
        // SAFETY: SQLite calls methods on open handles only.
        unsafe { file_of(handle) }.read(buffer, offset)
    })
}

unsafe extern "C" fn write(
    handle: *mut ffi::sqlite3_file,
    buffer: *const c_void,
    bytes: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    guard(ffi::SQLITE_IOERR_WRITE, || {
        let (Ok(bytes), Ok(offset)) = (usize::try_from(bytes), u64::try_from(offset)) else {
            return ffi::SQLITE_IOERR_WRITE;
        };
        // SAFETY: SQLite's buffer holds this many initialised bytes.
        let buffer = unsafe { slice::from_raw_parts(buffer.cast::<u8>(), bytes) };
        // SAFETY: SQLite calls methods on open handles only.
        unsafe { file_of(handle) }.write(buffer, offset)
    })
}

unsafe extern "C" fn truncate(handle: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls methods on open handles only.
    guard(ffi::SQLITE_IOERR_TRUNCATE, || unsafe { file_of(handle) }.truncate(size))
}

unsafe extern "C" fn sync(handle: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite calls methods on open handles only.
    guard(ffi::SQLITE_IOERR_FSYNC, || unsafe { file_of(handle) }.sync())
}

unsafe extern "C" fn file_size(handle: *mut ffi::sqlite3_file, size: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls methods on open handles only and passes a valid place for the size.
    guard(ffi::SQLITE_IOERR_FSTAT, || unsafe { file_of(handle).size(&mut *size) })
}

unsafe extern "C" fn lock_file(handle: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite calls methods on open handles only.
    guard(ffi::SQLITE_IOERR_LOCK, || unsafe { file_of(handle) }.lock(level))
}

unsafe extern "C" fn unlock_file(handle: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite calls methods on open handles only.
    guard(ffi::SQLITE_IOERR_UNLOCK, || unsafe { file_of(handle) }.unlock(level))
}

unsafe extern "C" fn check_reserved_lock(handle: *mut ffi::sqlite3_file, result: *mut c_int) -> c_int {
    // SAFETY: SQLite calls methods on open handles only and passes a valid place for the answer.
    guard(ffi::SQLITE_IOERR_CHECKRESERVEDLOCK, || unsafe {
        file_of(handle).check_reserved_lock(&mut *result)
    })
}

unsafe extern "C" fn file_control(
    handle: *mut ffi::sqlite3_file,
    operation: c_int,
    argument: *mut c_void,
) -> c_int {
    guard(ffi::SQLITE_NOTFOUND, || match operation {
        // SAFETY: handles are open, and both operations pass a pointer to an int.
        ffi::SQLITE_FCNTL_LOCKSTATE => unsafe {
            *argument.cast::<c_int>() = file_of(handle).level();
            ffi::SQLITE_OK
        },
        // SAFETY: as above.
        ffi::SQLITE_FCNTL_HAS_MOVED => unsafe {
            *argument.cast::<c_int>() = c_int::from(file_of(handle).has_moved());
            ffi::SQLITE_OK
        },
        _ => ffi::SQLITE_NOTFOUND,
    })
}

unsafe extern "C" fn sector_size(_handle: *mut ffi::sqlite3_file) -> c_int {
    // What SQLite's unix VFS says everywhere but on exotic systems.
    4096
}

unsafe extern "C" fn device_characteristics(_handle: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE | ffi::SQLITE_IOCAP_SUBPAGE_READ
}

/// The machine's own VFS, for what has nothing to do with files.
///
/// # Safety
/// `vfs` must be the one that [`register_now`] made.
unsafe fn default_of<'a>(vfs: *mut ffi::sqlite3_vfs) -> (&'a ffi::sqlite3_vfs, *mut ffi::sqlite3_vfs) {
    // SAFETY: `pAppData` is SQLite's default VFS, which lives as long as the process.
    unsafe {
        let default: *mut ffi::sqlite3_vfs = (*vfs).pAppData.cast();
        (&*default, default)
    }
}

unsafe extern "C" fn randomness(vfs: *mut ffi::sqlite3_vfs, bytes: c_int, out: *mut c_char) -> c_int {
    // SAFETY: SQLite's arguments are handed on unchanged.
    unsafe {
        let (default, pointer) = default_of(vfs);
        default.xRandomness.map_or(0, |function| function(pointer, bytes, out))
    }
}

unsafe extern "C" fn sleep(vfs: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    // SAFETY: SQLite's arguments are handed on unchanged.
    unsafe {
        let (default, pointer) = default_of(vfs);
        default.xSleep.map_or(0, |function| function(pointer, microseconds))
    }
}

unsafe extern "C" fn current_time(vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: SQLite's arguments are handed on unchanged.
    unsafe {
        let (default, pointer) = default_of(vfs);
        default.xCurrentTime.map_or(ffi::SQLITE_ERROR, |function| function(pointer, out))
    }
}

unsafe extern "C" fn current_time_int64(vfs: *mut ffi::sqlite3_vfs, out: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: SQLite's arguments are handed on unchanged.
    unsafe {
        let (default, pointer) = default_of(vfs);
        default.xCurrentTimeInt64.map_or(ffi::SQLITE_ERROR, |function| function(pointer, out))
    }
}

unsafe extern "C" fn library_open(_vfs: *mut ffi::sqlite3_vfs, _name: *const c_char) -> *mut c_void {
    // No code is ever loaded.
    ptr::null_mut()
}

unsafe extern "C" fn library_error(_vfs: *mut ffi::sqlite3_vfs, bytes: c_int, message: *mut c_char) {
    if bytes > 0 {
        // SAFETY: SQLite passes a buffer of `bytes` bytes; an empty text is written.
        unsafe { *message = 0 };
    }
}

unsafe extern "C" fn library_symbol(
    _vfs: *mut ffi::sqlite3_vfs,
    _library: *mut c_void,
    _name: *const c_char,
) -> Option<unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *mut c_void, *const c_char)> {
    None
}

unsafe extern "C" fn library_close(_vfs: *mut ffi::sqlite3_vfs, _library: *mut c_void) {}

#[cfg(test)]
pub(in crate::store) mod tests;
