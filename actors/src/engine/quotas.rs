//! What one tenant may use of what all share: attachments on their way, tasks over all sessions of a group.

use crate::limits::Limits;
use crate::model::ids::{AgentGroupId, SessionId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The attachments that are being sent, by session.
#[derive(Debug, Clone, Default)]
pub struct AttachmentQuota {
    in_flight: Arc<Mutex<HashMap<SessionId, InFlight>>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct InFlight {
    count: usize,
    bytes: u64,
}

/// The right to send some attachments; given back when it is dropped.
#[derive(Debug)]
pub struct AttachmentPermit {
    quota: AttachmentQuota,
    session: SessionId,
    taken: InFlight,
}

impl AttachmentQuota {
    /// Takes the right to send `count` attachments with `bytes` together; `None` = not now. A session that sends
    /// none at the moment always gets it.
    pub fn take(
        &self,
        session: &SessionId,
        count: usize,
        bytes: u64,
        limits: &Limits,
    ) -> Option<AttachmentPermit> {
        let mut all = lock(&self.in_flight);
        let mut now = all.get(session).copied().unwrap_or_default();
        let (is_first, taken) = (now.count == 0, InFlight { count, bytes });
        now.count = now.count.saturating_add(count);
        now.bytes = now.bytes.saturating_add(bytes);
        let fits = now.count <= limits.attachments_per_session_max
            && now.bytes <= limits.attachment_bytes_per_session_max;
        if !is_first && !fits {
            return None;
        }
        all.insert(session.clone(), now);
        Some(AttachmentPermit { quota: self.clone(), session: session.clone(), taken })
    }
}

impl Drop for AttachmentPermit {
    fn drop(&mut self) {
        let mut all = lock(&self.quota.in_flight);
        if let Some(now) = all.get_mut(&self.session) {
            now.count = now.count.saturating_sub(self.taken.count);
            now.bytes = now.bytes.saturating_sub(self.taken.bytes);
            if now.count == 0 {
                all.remove(&self.session);
            }
        }
    }
}

/// The live tasks of all sessions, as they were last seen.
///
/// Each session's own file is what counts for it; this only adds them up. When the host starts, every session is
/// looked at, but for those at rest: their count was kept with the rest of their state.
#[derive(Debug, Default)]
pub struct TaskCounts {
    live: Mutex<HashMap<AgentGroupId, HashMap<SessionId, usize>>>,
}

impl TaskCounts {
    /// Takes note of how many tasks a session has.
    pub fn set(&self, group: &AgentGroupId, session: &SessionId, count: usize) {
        let mut live = lock(&self.live);
        if count > 0 {
            live.entry(group.clone()).or_default().insert(session.clone(), count);
        } else if let Some(sessions) = live.get_mut(group) {
            sessions.remove(session);
            if sessions.is_empty() {
                live.remove(group);
            }
        }
    }

    /// Whether a session was seen to have tasks.
    pub fn has_any(&self, group: &AgentGroupId, session: &SessionId) -> bool {
        lock(&self.live)
            .get(group)
            .is_some_and(|sessions| sessions.get(session).is_some_and(|count| *count > 0))
    }

    /// Counts one more task of a session that has `count`, unless its group has `group_max` already.
    pub fn try_add(&self, group: &AgentGroupId, session: &SessionId, count: usize, group_max: usize) -> bool {
        let mut live = lock(&self.live);
        let sessions = live.entry(group.clone()).or_default();
        sessions.insert(session.clone(), count);
        let fits = sessions.values().sum::<usize>() < group_max;
        if fits {
            sessions.insert(session.clone(), count + 1);
        }
        fits
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str) -> SessionId {
        SessionId::new(id).unwrap()
    }

    #[test]
    fn a_session_sends_so_many_attachments_at_a_time_and_at_least_one_message() {
        let quota = AttachmentQuota::default();
        let limits = Limits {
            attachments_per_session_max: 3,
            attachment_bytes_per_session_max: 100,
            ..Limits::default()
        };
        let large = quota.take(&session("a"), 5, 1000, &limits);
        assert!(large.is_some(), "one message always goes");
        assert!(quota.take(&session("a"), 1, 1, &limits).is_none());
        assert!(quota.take(&session("b"), 1, 1, &limits).is_some(), "others are not concerned");
        drop(large);
        let first = quota.take(&session("a"), 2, 50, &limits);
        assert!(quota.take(&session("a"), 1, 51, &limits).is_none());
        assert!(quota.take(&session("a"), 2, 1, &limits).is_none());
        assert!(first.is_some() && quota.take(&session("a"), 1, 50, &limits).is_some());
    }

    #[test]
    fn a_group_has_so_many_tasks_over_all_its_sessions() {
        let counts = TaskCounts::default();
        let group = AgentGroupId::new("ag").unwrap();
        counts.set(&group, &session("a"), 2);
        assert!(counts.try_add(&group, &session("b"), 0, 3));
        assert!(!counts.try_add(&group, &session("b"), 1, 3));
        assert!(counts.try_add(&AgentGroupId::new("other").unwrap(), &session("c"), 0, 3));
        counts.set(&group, &session("a"), 0);
        assert!(counts.try_add(&group, &session("b"), 1, 3));
    }
}
