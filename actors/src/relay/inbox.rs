//! Messages for agents: from an application, or an operator.

use super::{OperationError, Relay, StoppedHost};
use crate::clock::{Clock, SystemClock};
use crate::inbox::{self, EnqueueError, Enqueued, InboxMessage};
use crate::limits::Limits;
use crate::model::ids::SessionId;
use crate::registry::AcceptForSession;
use crate::session::messages::{AcceptError, ArrivalOrigin, InboxArrival};
use crate::store::arrivals::{self, Arrival};
use crate::store::central::{Central, CentralSnapshot, SessionFacts, SessionStatus};
use crate::store::error::StoreError;
use crate::store::session_dir::SessionsRoot;
use crate::store::session_store::{Adds, SessionPlace, SessionStore};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What is said of a session that another thread works on.
const IN_USE: &str = "its files are in use";

impl Relay {
    /// The limits that hold for messages.
    pub fn limits(&self) -> &Limits {
        &self.engine().settings.limits
    }

    /// Puts a message into a session's inbox, and wakes its agent if the message says so.
    ///
    /// When this returns, the row and its files are on the disk. Many messages for one session that are enqueued at the
    /// same time are written together. A message with an id can be enqueued again after an error, or after a crash: it
    /// is written once.
    pub async fn enqueue(&self, session: SessionId, message: InboxMessage) -> Result<Enqueued, EnqueueError> {
        if self.engine().is_stopping() {
            return Err(EnqueueError::Stopping);
        }
        let facts = self.open_session(&session).await?;
        let engine = self.engine();
        let arrival = inbox::check(message, &facts, &engine.settings.limits, engine.now())?;
        self.hand_in(session, arrival).await
    }

    /// What is known of a session that can take messages.
    pub(super) async fn open_session(&self, session: &SessionId) -> Result<SessionFacts, EnqueueError> {
        if !self.engine().snapshot().sessions.contains_key(session) {
            // Somebody may have made it just now.
            self.refresh_central().await.map_err(|error| unavailable(session, &error.to_string()))?;
        }
        active(&self.engine().snapshot(), session)
    }

    async fn hand_in(&self, session: SessionId, arrival: Arrival) -> Result<Enqueued, EnqueueError> {
        let engine = self.engine();
        let (reply, answer) = oneshot::channel();
        let origin = ArrivalOrigin::Application(Box::new(arrival));
        let message = InboxArrival { origin, reply, _token: engine.activity.token() };
        let registry = engine.directory.registry();
        let registry = registry.ok_or_else(|| unavailable(&session, "the registry is being restarted"))?;
        let asked = registry.send(AcceptForSession { target: session.clone(), message }).await;
        asked.map_err(|_| unavailable(&session, "the registry has ended"))?;
        match answer.await {
            Ok(Ok(enqueued)) => Ok(enqueued),
            Ok(Err(AcceptError::Unavailable(reason) | AcceptError::Attachment(reason))) => {
                Err(unavailable(&session, &reason))
            }
            Err(_) if engine.is_stopping() => Err(EnqueueError::Stopping),
            Err(_) => Err(unavailable(&session, "its actor has ended")),
        }
    }
}

fn unavailable(session: &SessionId, reason: &str) -> EnqueueError {
    EnqueueError::Unavailable { session: session.to_string(), reason: reason.to_owned() }
}

/// What is known of a session that can take messages.
pub(super) fn active(snapshot: &CentralSnapshot, session: &SessionId) -> Result<SessionFacts, EnqueueError> {
    match snapshot.sessions.get(session) {
        None => Err(EnqueueError::NoSuchSession(session.to_string())),
        Some(facts) if facts.status == SessionStatus::Closed => Err(EnqueueError::Closed(session.clone())),
        Some(facts) => Ok(facts.clone()),
    }
}

impl StoppedHost {
    /// Puts a message into a session's inbox; see [`Relay::enqueue`]. Its agent is woken at the next start.
    pub fn enqueue(
        &self,
        session: &SessionId,
        message: InboxMessage,
        limits: &Limits,
    ) -> Result<Enqueued, EnqueueError> {
        let failed = |error: StoreError| unavailable(session, &error.to_string());
        let snapshot = self.central().and_then(|central| central.load_snapshot()).map_err(failed)?;
        let facts = active(&snapshot, session)?;
        let arrival = inbox::check(message, &facts, limits, SystemClock.now())?;
        self.put(&facts, arrival).map_err(|error| unavailable(session, &error.to_string()))
    }

    pub(super) fn central(&self) -> Result<Central, StoreError> {
        Central::open(&self.data_dir)
    }

    /// Files first, and before them the ledger's note of them, then the row.
    pub(super) fn put(&self, facts: &SessionFacts, arrival: Arrival) -> Result<Enqueued, OperationError> {
        let now = SystemClock.now();
        let session = &facts.id;
        let root = Arc::new(SessionsRoot::open(&self.data_dir)?);
        let (group, connections) = (facts.agent_group_id.clone(), Arc::default());
        let place = SessionPlace { root, connections, group, session: session.clone() };
        let lease = self.leases.try_acquire(session);
        let mut store =
            SessionStore::new(place, lease.ok_or_else(|| OperationError::Busy(IN_USE.to_owned()))?);
        // A ledger of an older version gets the table here.
        self.write(|_| Ok(()))?;
        let left = self.read(|reader| reader.inbox_files(session))?;
        arrivals::clear_leftovers(&mut store, &left).map_err(|error| store.classify(error))?;
        let expected = arrivals::expected_files(&mut store, std::iter::once(&arrival))
            .map_err(|error| store.classify(error))?;
        if !expected.is_empty() {
            self.write_always(|ledger| ledger.expect_inbox_files(session, &expected))?;
        }
        let put = |store: &mut SessionStore| {
            let mut placed = arrivals::place(store, std::slice::from_ref(&arrival))?;
            let placed = placed.pop().ok_or_else(|| StoreError::Limit("no message".to_owned()))??;
            store.write(Adds::Messages, |transaction| arrivals::insert(transaction, &placed, now))
        };
        let enqueued = put(&mut store).map_err(|error| store.classify(error))?;
        // The message is written: whoever heard of an error now would send it again. The next start deals with a note
        // that stays, and a stale time harms nobody.
        let done: Vec<_> = left.into_iter().chain(expected).collect();
        if !done.is_empty() {
            let _ = self.write_always(|ledger| ledger.forget_inbox_files(session, &done));
        }
        if enqueued.is_new {
            let _ = self.central().and_then(|central| central.touch_last_active(&[(session.clone(), now)]));
        }
        Ok(enqueued)
    }
}
