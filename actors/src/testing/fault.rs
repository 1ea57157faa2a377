//! Disks that fail: a test chooses a file, an operation on it and an error.
//!
//! Faults are found by a file's identity, not by its name: tests that run at the same time do not meet. Only
//! programs that are built for tests know of them.

use rustix::fd::AsFd;
use rustix::fs::{Stat, fstat, stat};
use rustix::io::Errno;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Opening the file, where it is not one of SQLite's.
    Open,
    /// Reading the file.
    Read,
    /// Writing the file.
    Write,
    /// Bringing the file to the disk.
    Sync,
    /// Making a new file in this folder.
    Create,
}

struct Active {
    number: usize,
    file: (u64, u64),
    operation: Operation,
    errno: Errno,
    hits: usize,
}

static ACTIVE: Mutex<Vec<Active>> = Mutex::new(Vec::new());
/// How many there are; without any, an operation costs nothing more.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// A fault, for as long as this value lives.
#[derive(Debug)]
pub struct Fault {
    number: usize,
}

impl Fault {
    /// Lets an operation on a file or folder fail from now on: session databases, the syncs of the ledger's log,
    /// and its readers.
    ///
    /// # Panics
    /// When the file does not exist.
    #[track_caller]
    pub fn on(path: &Path, operation: Operation, errno: Errno) -> Self {
        let found = stat(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        active().push(Active { number, file: identity(&found), operation, errno, hits: 0 });
        COUNT.fetch_add(1, Ordering::SeqCst);
        Self { number }
    }

    /// How often it has been met.
    pub fn hits(&self) -> usize {
        active().iter().find(|fault| fault.number == self.number).map_or(0, |fault| fault.hits)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        active().retain(|fault| fault.number != self.number);
        COUNT.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Asked before each operation: fails when a test wants it to.
pub(crate) fn check(file: impl AsFd, operation: Operation) -> Result<(), Errno> {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    check_file(&fstat(file)?, operation)
}

/// The same for a file of which no descriptor is at hand.
pub(crate) fn check_at(path: &Path, operation: Operation) -> Result<(), Errno> {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    check_file(&stat(path)?, operation)
}

fn check_file(found: &Stat, operation: Operation) -> Result<(), Errno> {
    let file = identity(found);
    let mut faults = active();
    let met = faults.iter_mut().find(|fault| fault.file == file && fault.operation == operation);
    met.map_or(Ok(()), |fault| {
        fault.hits += 1;
        Err(fault.errno)
    })
}

fn identity(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

fn active() -> MutexGuard<'static, Vec<Active>> {
    ACTIVE.lock().unwrap_or_else(PoisonError::into_inner)
}
