//! When sessions were last active, as `v2.db` is to be told. Nobody who works for a session waits for that file: somebody
//! else may hold its lock for long.

use crate::limits::ACTIVE_SESSIONS_WAITING_MAX;
use crate::model::ids::SessionId;
use crate::model::time::Timestamp;
use crate::supervise::activity::ActivityToken;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// What `v2.db` has still to be told of sessions that were active. It may be lost: the next message says it again.
#[derive(Debug, Default)]
pub struct ActiveSessions {
    /// The last time of each session. A token keeps the relay from coming to rest before it is written.
    unwritten: Mutex<HashMap<SessionId, (Timestamp, ActivityToken)>>,
    changed: Notify,
}

impl ActiveSessions {
    /// Takes note that a session is active; not when too many wait to be written.
    pub fn note(&self, session: &SessionId, now: Timestamp, token: ActivityToken) {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        if unwritten.len() < ACTIVE_SESSIONS_WAITING_MAX || unwritten.contains_key(session) {
            unwritten.insert(session.clone(), (now, token));
            self.changed.notify_one();
        }
    }

    /// Takes what is not written.
    pub fn take(&self) -> Vec<(SessionId, Timestamp, ActivityToken)> {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *unwritten);
        taken.into_iter().map(|(session, (at, token))| (session, at, token)).collect()
    }

    /// Waits until there may be something to write.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::activity::Activity;

    #[test]
    fn the_last_time_of_each_session_is_kept_and_no_more_than_the_bound() {
        let (active, activity) = (ActiveSessions::default(), Activity::default());
        let note = |number: usize, ms: i64| {
            let session = SessionId::new(&format!("sess-{number}")).unwrap();
            active.note(&session, Timestamp::from_ms(ms), activity.token());
        };
        for number in 0..ACTIVE_SESSIONS_WAITING_MAX + 10 {
            note(number, 1);
        }
        note(0, 2);
        let taken = active.take();
        assert_eq!(taken.len(), ACTIVE_SESSIONS_WAITING_MAX);
        let first = taken.iter().find(|(session, ..)| session.as_str() == "sess-0").unwrap();
        assert_eq!(first.1, Timestamp::from_ms(2));
        assert!(active.take().is_empty());
    }
}
