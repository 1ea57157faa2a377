//! A mark beside the ledger that says that there was one.
//!
//! Without it a lost ledger could not be told from one that was never made, and what it kept from being sent twice
//! would be forgotten in silence.

use super::LEDGER_FILE;
use crate::store::error::StoreError;
use std::fs;
use std::io;
use std::path::Path;

/// Name of the mark in the data directory.
const MARK_FILE: &str = "nanorelay.mark";

const TEXT: &str =
    "nanorelay.db was made in this folder. Should it get lost, run `nanorelay ledger rebuild`.\n";

/// Fails when a ledger was made here and is gone, or is empty now.
pub fn check(data_dir: &Path) -> Result<(), StoreError> {
    let is_there = fs::metadata(data_dir.join(LEDGER_FILE)).is_ok_and(|file| file.len() > 0);
    if is_there || !data_dir.join(MARK_FILE).exists() {
        return Ok(());
    }
    Err(StoreError::LedgerLost(data_dir.join(LEDGER_FILE).display().to_string()))
}

/// Says that there is a ledger now.
pub(super) fn set(data_dir: &Path) -> Result<(), StoreError> {
    let path = data_dir.join(MARK_FILE);
    match fs::File::options().write(true).create_new(true).open(&path) {
        Ok(mut file) => io::Write::write_all(&mut file, TEXT.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|source| StoreError::Io { context: format!("write {}", path.display()), source })
}
