//! Connections that nobody uses at the moment, kept for the next file of their kind.
//!
//! Opening a session's database with SQLite costs several times what reading its new rows does: a connection is set up,
//! the schema is loaded, statements are compiled. All sessions of a host share a handful of schemas. So a connection that
//! is given up is kept without a file, and the next file of its kind is put under it.
//!
//! What SQLite keeps in memory then belongs to another file, and files belong to agents that may be hostile. A connection
//! is used again only when the new file has the layout and the very schema, by its hash, that the connection loaded first,
//! and when it has loaded no other in between, which SQLite counts. The page cache is emptied at each exchange.

use super::{SessionConnection, check_schema, open_checked};
use crate::limits::SPARE_CONNECTIONS_MAX;
use crate::store::error::StoreError;
use crate::store::session_dir::{SessionDir, SessionFile, SessionsRoot, io_error};
use crate::store::vfs;
use rusqlite::OpenFlags;
use rustix::fd::BorrowedFd;
use rustix::io::{DupFlags, dup3};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The size of a page with which a small schema fits into a page cache: the one that files have unless somebody chose.
const PAGE_BYTES: u32 = 4096;

/// Spare connections to session databases, without files.
#[derive(Debug, Default)]
pub struct SpareConnections {
    outbound: Mutex<Spare>,
    inbound: Mutex<Spare>,
}

#[derive(Debug, Default)]
struct Spare {
    connections: Vec<SessionConnection>,
    /// The fewest that were there since [`SpareConnections::forget_unneeded`] was called last.
    fewest: usize,
}

impl SpareConnections {
    /// Opens `outbound.db` of a folder for reading, with a spare connection if there is one that fits.
    pub fn open_outbound(&self, directory: &Arc<SessionDir>) -> Result<Box<SessionConnection>, StoreError> {
        self.open(directory, SessionFile::Outbound, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// The same for `inbound.db`, for reading and writing.
    pub fn open_inbound(&self, directory: &Arc<SessionDir>) -> Result<Box<SessionConnection>, StoreError> {
        self.open(directory, SessionFile::Inbound, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    fn open(
        &self,
        directory: &Arc<SessionDir>,
        file: SessionFile,
        access: OpenFlags,
    ) -> Result<Box<SessionConnection>, StoreError> {
        if let Some(mut spare) = self.take(file)
            && spare.fits_after_move_to(directory)?
        {
            return Ok(Box::new(spare));
        }
        Ok(Box::new(open_checked(directory, file, access)?))
    }

    fn take(&self, file: SessionFile) -> Option<SessionConnection> {
        let mut spare = lock(self.of(file));
        let taken = spare.connections.pop();
        spare.fewest = spare.fewest.min(spare.connections.len());
        taken
    }

    /// Keeps a connection for the next file, without the one that it has open; closes it when it is of no use for that.
    pub fn give_back(&self, mut connection: Box<SessionConnection>, root: &SessionsRoot) {
        if std::thread::panicking() || !connection.may_be_spare() || connection.let_go(root).is_err() {
            return;
        }
        let mut spare = lock(self.of(connection.file));
        if spare.connections.len() < SPARE_CONNECTIONS_MAX {
            spare.connections.push(*connection);
        }
    }

    /// Closes those that nobody has needed since the last call.
    pub fn forget_unneeded(&self) {
        for spare in [&self.outbound, &self.inbound] {
            let mut spare = lock(spare);
            let unneeded = spare.fewest.min(spare.connections.len());
            let closed: Vec<_> = spare.connections.drain(..unneeded).collect();
            spare.fewest = spare.connections.len();
            drop(spare);
            drop(closed);
        }
    }

    fn of(&self, file: SessionFile) -> &Mutex<Spare> {
        if file == SessionFile::Inbound { &self.inbound } else { &self.outbound }
    }
}

impl SessionConnection {
    /// Whether another file may be put under it later: nothing is under way, and what it has loaded is known.
    fn may_be_spare(&self) -> bool {
        let is_at_rest = self.connection.is_autocommit() && !self.connection.is_busy();
        is_at_rest
            && self.schema.is_some_and(|schema| schema.is_small)
            && self.format.is_some_and(|format| format.page_bytes() == PAGE_BYTES)
    }

    /// Closes the file and leaves its folder.
    fn let_go(&mut self, root: &SessionsRoot) -> Result<(), StoreError> {
        vfs::exchange_file(&self.connection, None)?;
        self.lead_to(root.as_fd())
    }

    /// Puts the file of the same name in another folder in the place of the one that is open. `false`: SQLite knows
    /// another layout or schema than this file has, and the connection must not be used any more.
    fn fits_after_move_to(&mut self, directory: &SessionDir) -> Result<bool, StoreError> {
        self.lead_to(directory.as_fd())?;
        vfs::exchange_file(&self.connection, Some(self.access))?;
        if Some(vfs::file_format(&self.connection)?) != self.format {
            return Ok(false);
        }
        let found = self.within_schema_budget(|connection| check_schema(connection, connection.file))?;
        let loaded = self.schema.map(|schema| schema.fingerprint);
        Ok(found.was_loaded && found.is_small && Some(found.fingerprint) == loaded)
    }

    /// Has the descriptor in the database's name lead to another folder. It keeps its number.
    fn lead_to(&mut self, folder: BorrowedFd<'_>) -> Result<(), StoreError> {
        dup3(folder, &mut self.directory, DupFlags::CLOEXEC)
            .map_err(|errno| io_error("cannot hold a session folder".to_owned(), errno))
    }
}

fn lock(spare: &Mutex<Spare>) -> MutexGuard<'_, Spare> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
