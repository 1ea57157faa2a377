//! New sessions: their row in `v2.db`, and their folder.

use super::{OperationError, Relay, StoppedHost};
use crate::clock::{Clock, SystemClock};
use crate::model::ids::{AgentGroupId, SessionId};
use crate::model::time::Timestamp;
use crate::report::EventKind;
use crate::session::messages::LookReason;
use crate::store::central::Central;
pub use crate::store::central::{SessionMode, SessionRequest, UnresolvedSession};
use crate::store::error::StoreError;
use crate::store::session_dir::SessionsRoot;
use crate::store::session_store::{SessionSetup, create_session_files};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, PoisonError};

/// A session that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReadySession {
    /// Its id.
    pub session_id: String,
    /// Its agent group.
    pub agent_group_id: String,
    /// Whether it was made now; `false` = it was there.
    pub is_new: bool,
}

/// Why a session could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateSessionError {
    /// What was asked for does not exist.
    #[error(transparent)]
    Unresolved(#[from] UnresolvedSession),
    /// Files could not be read or written. The same call may succeed later; what is half made is then completed.
    #[error("the session could not be made: {0}")]
    Failed(String),
}

impl From<StoreError> for CreateSessionError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<OperationError> for CreateSessionError {
    fn from(error: OperationError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Relay {
    /// Finds the active session that is asked for, or makes it: its row in `v2.db`, its folder with both databases in the
    /// current form, and in them what the agent must know of its chat and its destinations. Files that are there stay as
    /// they are.
    pub async fn create_session(&self, request: SessionRequest) -> Result<ReadySession, CreateSessionError> {
        let engine = Arc::clone(self.engine());
        let now = engine.now();
        let turn = Arc::clone(&engine.permits.creation).lock_owned().await;
        let made = self.engine().blocking.run(move || {
            // Kept in here: a caller that waits no longer does not end this.
            let _turn = turn;
            create(&engine.central, &engine.sessions_root, &request, now)
        });
        let ready = made.await.map_err(|error| CreateSessionError::Failed(error.to_string()))??;
        self.refresh_central().await?;
        let session = SessionId::new(&ready.session_id);
        if let (Ok(session), true) = (&session, ready.is_new) {
            self.engine().note_session(EventKind::SessionCreated, session, None);
        }
        self.look(session.ok().map(|session| vec![session]), LookReason::Hint).await;
        Ok(ready)
    }
}

impl StoppedHost {
    /// The same on a host that does not run; see [`Relay::create_session`].
    pub fn create_session(&self, request: &SessionRequest) -> Result<ReadySession, CreateSessionError> {
        let _turn = self.creation.lock().unwrap_or_else(PoisonError::into_inner);
        let root = SessionsRoot::open(&self.data_dir)?;
        create(&self.central()?, &root, request, SystemClock.now())
    }
}

/// The row comes first: a host that dies after it leaves a session without files, which the next call completes.
fn create(
    central: &Central,
    root: &SessionsRoot,
    request: &SessionRequest,
    now: Timestamp,
) -> Result<ReadySession, CreateSessionError> {
    let group = &request.agent_group_id;
    let resolved = central.resolve_session(request, &new_id(group, now)?, now)??;
    crash_point!("session_row_written");
    let directory = Arc::new(root.create_session(group, &resolved.session_id)?);
    let setup = SessionSetup {
        chat: resolved.chat,
        thread_id: resolved.thread_id,
        destinations: central.destinations(group)?,
    };
    create_session_files(&directory, &setup)?;
    Ok(ReadySession {
        session_id: resolved.session_id.to_string(),
        agent_group_id: group.to_string(),
        is_new: resolved.is_new,
    })
}

fn new_id(group: &AgentGroupId, now: Timestamp) -> Result<SessionId, StoreError> {
    let id = format!("sess-{}-{:08x}", now.as_ms(), fastrand::u32(..));
    SessionId::new(&id).map_err(|problem| StoreError::Limit(format!("agent group {group}: {problem}")))
}
