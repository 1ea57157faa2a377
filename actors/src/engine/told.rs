//! What the engine counts and tells of each message, in one place: statistics, the history, and the events.

use super::Engine;
use super::events::Happened;
use crate::model::error::ErrorClass;
use crate::model::history::Came;
use crate::model::ids::{ChannelType, MessageId, SessionId, TenantName};
use crate::model::time::Timestamp;
use crate::report::EventKind;
use std::sync::PoisonError;
use std::time::Duration;

impl Engine {
    /// A channel account accepted a message, so long after it was known of or due.
    pub fn note_delivered(
        &self,
        account: &ChannelType,
        (session, message): (&SessionId, &MessageId),
        lag: Duration,
    ) {
        let now = self.now();
        self.statistics.count_delivered(account, lag);
        self.came(Came::Delivered(lag), now);
        self.events.tell(Happened {
            channel: Some(account.clone()),
            lag: Some(lag),
            ..Happened::of_message(EventKind::Delivered, session, message, now)
        });
    }

    /// An attempt failed, whatever becomes of its message.
    pub fn note_failed_attempt(&self, account: &ChannelType, class: ErrorClass) {
        self.statistics.count_failed_attempt(account, class);
        self.came(Came::Failed, self.now());
    }

    /// A message is not settled by its attempt: it is tried again, or waits for an operator.
    pub fn note_unsettled(
        &self,
        kind: EventKind,
        (session, message): (&SessionId, &MessageId),
        class: ErrorClass,
        until: Option<Timestamp>,
    ) {
        let happened = Happened::of_message(kind, session, message, self.now());
        self.events.tell(Happened { class: Some(class), until, ..happened });
    }

    /// A message was given up; its id is unknown when it is no text.
    pub fn note_dead(&self, session: &SessionId, message: Option<&MessageId>, class: ErrorClass) {
        let now = self.now();
        self.statistics.count_dead(class);
        self.came(Came::Dead, now);
        let happened = Happened::of_session(EventKind::Dead, session, now);
        self.events.tell(Happened { message: message.cloned(), class: Some(class), ..happened });
    }

    /// Whose a session is; `None` when `v2.db` does not have it.
    pub fn tenant_of(&self, session: &SessionId) -> Option<TenantName> {
        let snapshot = self.snapshot();
        snapshot.sessions.get(session).map(|facts| self.tenants.of(&facts.agent_group_id).name.clone())
    }

    /// Something happened to a session.
    pub fn note_session(&self, kind: EventKind, session: &SessionId, detail: Option<&str>) {
        let happened = Happened::of_session(kind, session, self.now());
        self.events.tell(Happened { detail: detail.map(Into::into), ..happened });
    }

    fn came(&self, came: Came, now: Timestamp) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).note(came, now);
    }
}
