//! Puts a new ledger in the place of one that is lost or damaged.

use super::{LEDGER_FILE, LedgerWriter};
use crate::store::error::StoreError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Folder in the data directory in which the new ledger is made.
const WORK_FOLDER: &str = "nanorelay.rebuild";

/// A ledger that is being made, and is not in its place yet.
pub struct NewLedger {
    data_dir: PathBuf,
    folder: PathBuf,
    /// Writes it.
    pub writer: LedgerWriter,
}

impl NewLedger {
    /// Begins with an empty one. What an interrupted run has left is worth nothing.
    pub fn begin(data_dir: &Path) -> Result<Self, StoreError> {
        let folder = data_dir.join(WORK_FOLDER);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&folder, error)),
            _ => {}
        }
        fs::create_dir(&folder).map_err(|error| failed(&folder, error))?;
        let writer = LedgerWriter::open(&folder)?;
        Ok(Self { data_dir: data_dir.to_owned(), folder, writer })
    }

    /// Gives the old ledger another name and this one its place. In between there is none, which is an error at the
    /// start that asks for a rebuild again. Returns the old one's new name, when there was an old one.
    pub fn put_in_place(self, now_ms: i64) -> Result<Option<String>, StoreError> {
        let Self { data_dir, folder, writer } = self;
        writer.sync_handle().sync()?;
        // The last connection moves the log into the file.
        drop(writer);
        let made = folder.join(LEDGER_FILE);
        let synced = fs::File::options().write(true).open(&made).and_then(|file| file.sync_all());
        synced.map_err(|error| failed(&made, error))?;
        let kept_as = format!("{LEDGER_FILE}.before-rebuild-{now_ms}");
        let mut was_there = false;
        for suffix in ["-shm", "-wal", ""] {
            let old = data_dir.join(format!("{LEDGER_FILE}{suffix}"));
            match fs::rename(&old, data_dir.join(format!("{kept_as}{suffix}"))) {
                Ok(()) => was_there = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(&old, error)),
            }
        }
        fs::rename(&made, data_dir.join(LEDGER_FILE)).map_err(|error| failed(&made, error))?;
        // The ledger is in its place, whatever becomes of the folder.
        let _ = fs::remove_dir_all(folder);
        Ok(was_there.then_some(kept_as))
    }
}

fn failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { context: path.display().to_string(), source }
}
