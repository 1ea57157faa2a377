//! One host per data directory: a lock that the kernel gives back when the process ends, however it ends.

use super::error::StoreError;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Name of the lock file in the data directory.
const LOCK_FILE: &str = "nanorelay.lock";

/// The right to run on a data directory.
#[derive(Debug)]
pub struct HostLock {
    file: File,
}

impl Drop for HostLock {
    /// Not by closing the file: a process that was forked a moment ago and has not begun its own program yet holds a
    /// copy of it.
    fn drop(&mut self) {
        // The kernel gives it back at the end of the process at the latest.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// What came of the wish to run on a data directory.
#[derive(Debug)]
pub enum Locked {
    /// It is ours.
    Acquired(HostLock),
    /// A running host has it; its process id, when it is readable.
    HeldBy(Option<u32>),
}

impl HostLock {
    /// Takes the lock if nobody has it.
    pub fn acquire(data_dir: &Path) -> Result<Locked, StoreError> {
        let path = data_dir.join(LOCK_FILE);
        let failed = |source| StoreError::Io { context: format!("lock {}", path.display()), source };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Ok(Locked::HeldBy(holder));
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Locked::Acquired(Self { file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_host_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let Locked::Acquired(first) = HostLock::acquire(folder.path()).unwrap() else { panic!("not free") };
        let Locked::HeldBy(holder) = HostLock::acquire(folder.path()).unwrap() else { panic!("not held") };
        assert_eq!(holder, Some(std::process::id()));
        drop(first);
        assert!(matches!(HostLock::acquire(folder.path()).unwrap(), Locked::Acquired(_)));
    }
}
