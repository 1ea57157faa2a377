//! What a runtime may ask of its relay, and tells it.

use super::AgentSession;
use crate::clock::{Clock, SystemClock};
use crate::engine::Engine;
use crate::model::ids::{AgentGroupId, SessionId};
use crate::model::tenant::Tenant;
use crate::model::time::Timestamp;
use crate::store::central::ContainerStatus;
use crate::store::session_dir::{FileIdentity, SessionFile};
use crate::supervise::activity::ActivityToken;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Notify;

/// A runtime's side of its relay. Cheap to clone; it keeps no relay alive.
#[derive(Clone)]
pub struct AgentHost {
    engine: Weak<Engine>,
    logger: slog::Logger,
    data_dir: PathBuf,
}

impl AgentHost {
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        Self {
            engine: Arc::downgrade(engine),
            logger: engine.logger.clone(),
            data_dir: engine.data_dir.clone(),
        }
    }

    /// Where to log.
    pub fn logger(&self) -> &slog::Logger {
        &self.logger
    }

    /// The folder that holds `v2.db` and `v2-sessions/`.
    pub fn data_dir(&self) -> &std::path::Path {
        &self.data_dir
    }

    /// The current instant.
    pub fn now(&self) -> Timestamp {
        self.engine.upgrade().map_or_else(|| SystemClock.now(), |engine| engine.now())
    }

    /// The tenant that a group belongs to.
    pub fn tenant_of(&self, group: &AgentGroupId) -> Arc<Tenant> {
        match self.engine.upgrade() {
            Some(engine) => engine.tenants.of(group),
            None => crate::model::tenant::Tenants::default().of(group),
        }
    }

    /// Runs what may wait for a disk, under the relay's bound; `None` when it panicked.
    pub async fn blocking<T: Send + 'static>(
        &self,
        section: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        match self.engine.upgrade().map(|engine| engine.blocking.clone()) {
            Some(blocking) => blocking.run(section).await.ok(),
            None => Some(section()),
        }
    }

    /// `outbound.db` as it is now, for comparing; `None` when there is none.
    pub(super) async fn outbound(&self, session: &AgentSession) -> Option<FileIdentity> {
        let root = Arc::clone(&self.engine.upgrade()?.sessions_root);
        let AgentSession { session_id, agent_group_id } = session.clone();
        self.blocking(move || root.glance(&agent_group_id, &session_id, SessionFile::Outbound)).await?
    }

    /// Says that a session's agent runs. `v2.db` is made to say so too.
    pub fn started(&self, session: &AgentSession) {
        if let Some(engine) = self.engine.upgrade() {
            engine.agent_statuses.set(&session.session_id, ContainerStatus::Running, engine.activity.token());
        }
    }

    /// Says that a session's agent no longer runs. `v2.db` is made to say so too, and the session is looked at: claims
    /// may be left behind, and there may be work.
    pub fn ended(&self, session: &AgentSession) {
        if let Some(engine) = self.engine.upgrade() {
            engine.agent_statuses.set(&session.session_id, ContainerStatus::Stopped, engine.activity.token());
            engine.hint(&session.session_id);
        }
    }
}

/// What `v2.db` has still to be told of the agents.
#[derive(Debug, Default)]
pub struct AgentStatuses {
    /// The last word about each session; an earlier one that was not written is of no interest.
    unwritten: Mutex<HashMap<SessionId, (ContainerStatus, ActivityToken)>>,
    changed: Notify,
}

impl AgentStatuses {
    /// Takes note of a status.
    pub(super) fn set(&self, session: &SessionId, status: ContainerStatus, token: ActivityToken) {
        self.lock().insert(session.clone(), (status, token));
        self.changed.notify_one();
    }

    /// Takes what is not written.
    pub(super) fn take(&self) -> Vec<(SessionId, ContainerStatus, ActivityToken)> {
        let taken = std::mem::take(&mut *self.lock());
        taken.into_iter().map(|(session, (status, token))| (session, status, token)).collect()
    }

    /// Puts back what could not be written, but for what has a later word.
    pub(super) fn put_back(&self, statuses: Vec<(SessionId, ContainerStatus, ActivityToken)>) {
        let mut unwritten = self.lock();
        for (session, status, token) in statuses {
            unwritten.entry(session).or_insert((status, token));
        }
        self.changed.notify_one();
    }

    /// Waits until there may be something to write.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, (ContainerStatus, ActivityToken)>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
