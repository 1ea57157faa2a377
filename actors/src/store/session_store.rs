//! The open databases of one session, owned by whoever owns the session.

use super::central::{Chat, NamedDestination};
use super::error::StoreError;
use super::lease::SessionLease;
use super::open::{self, SessionConnection, SpareConnections};
use super::session_dir::{FileIdentity, SessionDir, SessionFile, SessionsRoot};
use super::{inbound, outbound};
use crate::model::ids::{AgentGroupId, SessionId, ThreadId};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::sync::Arc;

/// Where a session's folder is.
#[derive(Debug, Clone)]
pub struct SessionPlace {
    /// The folder of all sessions.
    pub root: Arc<SessionsRoot>,
    /// What its databases are opened with.
    pub connections: Arc<SpareConnections>,
    /// The session's agent group.
    pub group: AgentGroupId,
    /// The session.
    pub session: SessionId,
}

/// A session's folder and the handles to its two databases, opened when needed.
pub struct SessionStore {
    place: SessionPlace,
    /// Open while it is used: a host has far more sessions than descriptors.
    directory: Option<Arc<SessionDir>>,
    // Boxed: thousands of sessions have none open.
    outbound: Option<Box<SessionConnection>>,
    inbound: Option<Box<SessionConnection>>,
    /// Whether the open `inbound.db` has the current form.
    inbound_is_current: bool,
    /// `inbound.db` as it was when nothing in it asked for upkeep.
    quiet_inbox: Option<FileIdentity>,
    /// Which file was used last: errors of statements are about it.
    last_used: SessionFile,
    _lease: SessionLease,
}

/// What a transaction adds to `inbound.db`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adds {
    /// Rows of `delivered` only, which ask for nothing.
    Outcomes,
    /// Messages or tasks, too.
    Messages,
}

impl SessionStore {
    /// Nothing is opened yet.
    pub fn new(place: SessionPlace, lease: SessionLease) -> Self {
        let last_used = SessionFile::Outbound;
        Self {
            place,
            directory: None,
            outbound: None,
            inbound: None,
            inbound_is_current: false,
            quiet_inbox: None,
            last_used,
            _lease: lease,
        }
    }

    /// The session's folder.
    pub fn directory(&mut self) -> Result<&Arc<SessionDir>, StoreError> {
        let directory = match self.directory.take() {
            Some(directory) => directory,
            None => Arc::new(self.place.root.session(&self.place.group, &self.place.session)?),
        };
        Ok(self.directory.insert(directory))
    }

    /// Closes everything when the folder was replaced: the next use opens the one that stands there now.
    pub fn let_go_of_replaced_folder(&mut self) {
        let SessionPlace { root, group, session, .. } = &self.place;
        if self.directory.as_ref().is_some_and(|directory| !root.is_still(group, session, directory)) {
            self.close();
        }
    }

    /// Whether anything is open.
    pub fn is_open(&self) -> bool {
        self.outbound.is_some() || self.inbound.is_some() || self.directory.is_some()
    }

    /// Closes both databases and the folder; the next use opens them again.
    pub fn close(&mut self) {
        for connection in [self.outbound.take(), self.inbound.take()].into_iter().flatten() {
            self.place.connections.give_back(connection, &self.place.root);
        }
        self.directory = None;
    }

    /// Names the kind of an error that a statement gave. To be called on the thread that ran it.
    pub fn classify(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Sqlite(error) => open::classify(self.last_used, error),
            other => other,
        }
    }

    /// `outbound.db`, read-only. A file that was replaced is opened anew.
    pub fn outbound(&mut self) -> Result<&Connection, StoreError> {
        self.last_used = SessionFile::Outbound;
        let current = self.current(SessionFile::Outbound)?;
        let usable = self.outbound.take().filter(|opened| is_still(opened, &current));
        let connection = match usable {
            Some(connection) => connection,
            None => Arc::clone(&self.place.connections).open_outbound(self.directory()?)?,
        };
        Ok(self.outbound.insert(connection))
    }

    /// `inbound.db` for reading. The handle is the writable one: a read is nearly always followed by a write.
    pub fn inbound(&mut self) -> Result<&Connection, StoreError> {
        Ok(&*self.opened_inbound()?)
    }

    /// Runs `write` in one transaction on `inbound.db`, after bringing a seed-era file to the current form.
    pub fn write<T>(
        &mut self,
        adds: Adds,
        write: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let quiet = self.quiet_inbox.take().filter(|_| adds == Adds::Outcomes);
        let directory = Arc::clone(self.directory()?);
        let connection = self.current_inbound()?;
        let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
        // Nobody else can write from here on.
        let is_quiet = quiet.is_some_and(|quiet| is_unchanged(&directory, &quiet));
        let value = write(&transaction)?;
        transaction.commit()?;
        if is_quiet {
            // A host that wrote in between would be heard at the next sweep.
            self.quiet_inbox = self.inbox_identity()?;
        }
        Ok(value)
    }

    /// `inbound.db` as it is now. Opens nothing.
    pub fn inbox_identity(&mut self) -> Result<Option<FileIdentity>, StoreError> {
        self.directory()?.identity(SessionFile::Inbound)
    }

    /// Takes note that nothing asks for upkeep in `inbound.db`, as it was before somebody looked into it.
    pub fn note_quiet_inbox(&mut self, before: Option<FileIdentity>) {
        self.quiet_inbox = before;
    }

    /// `inbound.db` as it was when nothing in it asked for upkeep.
    pub fn quiet_inbox(&self) -> Option<FileIdentity> {
        self.quiet_inbox
    }

    /// Whether `inbound.db` is still as it was when nothing in it asked for upkeep. Opens nothing.
    pub fn inbox_is_known_quiet(&mut self) -> bool {
        let Some(quiet) = self.quiet_inbox else { return false };
        self.directory().is_ok_and(|directory| is_unchanged(directory, &quiet))
    }

    /// Rolls back what a killed agent left half-written in `outbound.db`. Only while no agent runs.
    pub fn roll_back_outbound(&mut self) -> Result<(), StoreError> {
        self.outbound = None;
        open::rollback_hot_journal(self.directory()?)
    }

    fn opened_inbound(&mut self) -> Result<&mut SessionConnection, StoreError> {
        self.last_used = SessionFile::Inbound;
        let current = self.current(SessionFile::Inbound)?;
        let usable = self.inbound.take().filter(|opened| is_still(opened, &current));
        let connection = match usable {
            Some(connection) => connection,
            None => {
                self.inbound_is_current = false;
                Arc::clone(&self.place.connections).open_inbound(self.directory()?)?
            }
        };
        Ok(self.inbound.insert(connection))
    }

    /// Brings a seed-era `inbound.db` to the current form, which some reads need too.
    pub fn upgrade_inbound(&mut self) -> Result<(), StoreError> {
        self.current_inbound().map(drop)
    }

    /// `inbound.db` in the current form.
    fn current_inbound(&mut self) -> Result<&mut SessionConnection, StoreError> {
        self.opened_inbound()?;
        if !self.inbound_is_current {
            self.bring_up_to_date()?;
        }
        self.inbound.as_deref_mut().ok_or_else(|| StoreError::Missing(SessionFile::Inbound.name().to_owned()))
    }

    fn bring_up_to_date(&mut self) -> Result<(), StoreError> {
        let connection = self.opened_inbound()?;
        if !connection.schema_is_known_current() && inbound::needs_upgrade(connection)? {
            inbound::upgrade(connection)?;
            // Opened anew, so that the schema is checked in its new form.
            self.inbound = None;
        }
        self.opened_inbound()?.remember_schema_as_current();
        self.inbound_is_current = true;
        Ok(())
    }

    fn current(&mut self, file: SessionFile) -> Result<FileIdentity, StoreError> {
        self.directory()?.identity(file)?.ok_or_else(|| StoreError::Missing(file.name().to_owned()))
    }
}

impl Drop for SessionStore {
    fn drop(&mut self) {
        self.close();
    }
}

fn is_unchanged(directory: &SessionDir, inbox: &FileIdentity) -> bool {
    directory.identity(SessionFile::Inbound).is_ok_and(|now| now.as_ref() == Some(inbox))
}

fn is_still(opened: &SessionConnection, current: &FileIdentity) -> bool {
    opened.identity().is_ok_and(|identity| identity.is_same_file(current))
}

/// What a new session's agent finds in its inbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionSetup {
    /// The chat it speaks in.
    pub chat: Option<Chat>,
    /// The thread.
    pub thread_id: Option<ThreadId>,
    /// Whom else it may write to.
    pub destinations: Vec<NamedDestination>,
}

/// Makes those of the two databases, in the current form, that a session's folder lacks. What is there stays as it is.
pub fn create_session_files(directory: &Arc<SessionDir>, setup: &SessionSetup) -> Result<(), StoreError> {
    if is_absent(directory, SessionFile::Inbound)? {
        let connection = open::create_inbound(directory)?;
        let created = || -> Result<(), StoreError> {
            let tx = connection.unchecked_transaction()?;
            inbound::create_tables(&tx)?;
            inbound::write_session_routing(&tx, setup.chat.as_ref(), setup.thread_id.as_ref())?;
            inbound::write_destinations(&tx, &setup.destinations)?;
            Ok(tx.commit()?)
        };
        created()?;
    }
    if is_absent(directory, SessionFile::Outbound)? {
        outbound::create_schema(&*open::create_outbound(directory)?)?;
    }
    Ok(())
}

/// A host that dies while it makes a file leaves an empty one.
fn is_absent(directory: &SessionDir, file: SessionFile) -> Result<bool, StoreError> {
    Ok(directory.identity(file)?.is_none_or(|found| found.size == 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::lease::SessionLeases;
    use crate::store::session_dir::tests::{group, session};
    use crate::store::vfs::tests::{assert_intact, leave_hot_journal, with_databases};

    #[test]
    fn what_a_killed_host_left_in_its_own_file_is_rolled_back_by_reading_too() {
        let fixture = with_databases();
        leave_hot_journal(fixture.path("inbound.db"));
        let lease = SessionLeases::default().try_acquire(&session()).unwrap();
        let place = SessionPlace {
            root: Arc::clone(&fixture.root),
            connections: Arc::default(),
            group: group(),
            session: session(),
        };
        let mut store = SessionStore::new(place, lease);
        let changed: i64 = store
            .inbound()
            .unwrap()
            .query_row("SELECT count(*) FROM filler WHERE i < 0", [], |row| row.get(0))
            .unwrap();
        assert_eq!(changed, 0, "nothing of the killed transaction is left");
        assert!(!fixture.path("inbound.db-journal").exists());
        assert_intact(&fixture.path("inbound.db"));
        leave_hot_journal(fixture.path("outbound.db"));
        assert!(store.outbound().is_err(), "an agent's file is not touched without asking");
    }
}
