//! `v2.db`, the central database. Only hosts write it: its content is trusted, unlike a session's files.

mod questions;
mod schema;
mod sessions;
mod snapshot;

pub use questions::{PendingQuestion, PendingQuestions, QuestionInsert};
pub use schema::create_central_schema;
pub use sessions::{
    DestinationTarget, NamedDestination, ResolvedSession, SessionMode, SessionRequest, UnresolvedSession,
};
pub use snapshot::{
    CentralSnapshot, Chat, ContainerStatus, GroupFacts, SessionFacts, SessionStatus, read_snapshot,
};

use super::error::StoreError;
use crate::model::ids::{AgentGroupId, SessionId};
use crate::model::time::Timestamp;
use r2d2::{ManageConnection, Pool, PooledConnection};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The file's name in the data directory.
pub const FILE_NAME: &str = "v2.db";
/// Most connections at a time. One reads a snapshot while another writes a row.
const CONNECTIONS_MAX: u32 = 2;
/// The longest wait for one of them.
const CONNECTION_WAIT: Duration = Duration::from_secs(2);
/// The longest wait for a lock; the one that NanoClaw uses.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The central database. Cheap to clone; its methods block and belong on a blocking thread.
#[derive(Clone)]
pub struct Central {
    pool: Pool<SqliteConnectionManager>,
    /// `PRAGMA data_version` tells one connection whether others committed: it must stay the same connection.
    watch: Arc<Mutex<Connection>>,
}

impl fmt::Debug for Central {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Central").finish_non_exhaustive()
    }
}

impl Central {
    /// Opens `v2.db` in `data_dir`. A missing file is an error, never created.
    pub fn open(data_dir: &Path) -> Result<Central, StoreError> {
        let path = data_dir.join(FILE_NAME);
        if !path.is_file() {
            return Err(StoreError::Missing(path.display().to_string()));
        }
        let manager = SqliteConnectionManager::file(&path)
            .with_flags(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .with_init(|conn| {
                conn.busy_timeout(LOCK_WAIT)?;
                conn.pragma_update(None, "foreign_keys", true)
            });
        let watch = manager.connect()?;
        data_version(&watch)?;
        let pool = Pool::builder()
            .max_size(CONNECTIONS_MAX)
            .min_idle(Some(0))
            // A local file has no connection that could be lost.
            .test_on_check_out(false)
            .connection_timeout(CONNECTION_WAIT)
            .build(manager)
            .map_err(unavailable)?;
        Ok(Central { pool, watch: Arc::new(Mutex::new(watch)) })
    }

    /// A number that changes whenever anybody commits to the file. Compare it for equality only, and only with
    /// numbers of this value and its clones.
    pub fn data_version(&self) -> Result<i64, StoreError> {
        data_version(&self.watch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything about sessions, groups and permissions, as of one moment.
    pub fn load_snapshot(&self) -> Result<CentralSnapshot, StoreError> {
        // Read first: a commit in between makes the snapshot look older than it is, and it is loaded again.
        let version = self.data_version()?;
        let conn = self.connection()?;
        read_snapshot(&conn, version)
    }

    /// Records a question that an agent asks, so that the answer finds its session. Of a session with very many, the
    /// oldest are forgotten.
    pub fn insert_question(&self, question: &PendingQuestion) -> Result<QuestionInsert, StoreError> {
        let mut conn = self.connection()?;
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let outcome = questions::insert(&tx, question)?;
        tx.commit()?;
        Ok(outcome)
    }

    /// Says what a session's container does; returns whether the session exists.
    pub fn set_container_status(
        &self,
        session: &SessionId,
        status: ContainerStatus,
    ) -> Result<bool, StoreError> {
        let conn = self.connection()?;
        let mut statement = conn.prepare_cached("UPDATE sessions SET container_status = ?2 WHERE id = ?1")?;
        Ok(statement.execute([session.as_str(), status.as_str()])? > 0)
    }

    /// Says what the containers of several sessions do, at once. Sessions that do not exist are left out.
    pub fn set_container_statuses(
        &self,
        statuses: &[(SessionId, ContainerStatus)],
    ) -> Result<(), StoreError> {
        let mut conn = self.connection()?;
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut statement = tx.prepare_cached(
                "UPDATE sessions SET container_status = ?2 WHERE id = ?1 AND container_status IS NOT ?2",
            )?;
            for (session, status) in statuses {
                statement.execute([session.as_str(), status.as_str()])?;
            }
        }
        Ok(tx.commit()?)
    }

    /// Says when sessions were last active, at once. Sessions that do not exist are left out.
    pub fn touch_last_active(&self, times: &[(SessionId, Timestamp)]) -> Result<(), StoreError> {
        let mut conn = self.connection()?;
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut statement = tx.prepare_cached("UPDATE sessions SET last_active = ?2 WHERE id = ?1")?;
            for (session, at) in times {
                statement.execute([session.as_str(), &at.to_iso()])?;
            }
        }
        Ok(tx.commit()?)
    }

    /// Finds the session that is asked for, or makes it under `new_id`, active and with a stopped container.
    pub fn resolve_session(
        &self,
        request: &SessionRequest,
        new_id: &SessionId,
        now: Timestamp,
    ) -> Result<Result<ResolvedSession, UnresolvedSession>, StoreError> {
        let mut conn = self.connection()?;
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let resolved = sessions::resolve(&tx, request, new_id, now)?;
        if resolved.is_ok() {
            tx.commit()?;
        }
        Ok(resolved)
    }

    /// Whom the agents of a group may write to, besides the chat of their session.
    pub fn destinations(&self, group: &AgentGroupId) -> Result<Vec<NamedDestination>, StoreError> {
        sessions::destinations(&*self.connection()?, group)
    }

    /// The questions that wait for an answer, the oldest first, as far as a list has room for them.
    pub fn questions(&self) -> Result<PendingQuestions, StoreError> {
        questions::list(&*self.connection()?)
    }

    /// The question of that id, if it waits for an answer.
    pub fn question(&self, question_id: &str) -> Result<Option<PendingQuestion>, StoreError> {
        questions::find(&*self.connection()?, question_id)
    }

    /// Forgets a question that is answered, unless another message has asked it since.
    pub fn remove_question(&self, question: &PendingQuestion) -> Result<(), StoreError> {
        questions::remove(&*self.connection()?, question)
    }

    fn connection(&self) -> Result<PooledConnection<SqliteConnectionManager>, StoreError> {
        self.pool.get().map_err(unavailable)
    }
}

fn data_version(conn: &Connection) -> Result<i64, StoreError> {
    let mut statement = conn.prepare_cached("PRAGMA data_version")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn unavailable(error: r2d2::Error) -> StoreError {
    let source = io::Error::new(io::ErrorKind::TimedOut, error);
    StoreError::Io { context: format!("connecting to {FILE_NAME}"), source }
}

#[cfg(test)]
mod tests;
