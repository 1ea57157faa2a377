//! At most one owner per session, also while a dead owner's blocking section is still running.
//!
//! A session actor that panics may have handed its database handles to a blocking thread. Its successor must
//! not open them before that section has ended. Both the actor and its sections hold the lease.

use crate::model::ids::SessionId;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The sessions that are owned at the moment.
#[derive(Debug, Clone, Default)]
pub struct SessionLeases {
    owned: Arc<Mutex<HashSet<SessionId>>>,
}

/// The right to open a session's databases. Given back when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct SessionLease {
    _owned: Arc<Owned>,
}

#[derive(Debug)]
struct Owned {
    leases: SessionLeases,
    session: SessionId,
}

impl SessionLeases {
    /// Takes the lease, or `None` while somebody holds it.
    pub fn try_acquire(&self, session: &SessionId) -> Option<SessionLease> {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        owned.insert(session.clone()).then(|| SessionLease {
            _owned: Arc::new(Owned { leases: self.clone(), session: session.clone() }),
        })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.leases.owned.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_owner_until_the_last_clone_is_gone() {
        let leases = SessionLeases::default();
        let session = SessionId::new("s").unwrap();
        let lease = leases.try_acquire(&session).unwrap();
        let in_blocking_section = lease.clone();
        drop(lease);
        assert!(leases.try_acquire(&session).is_none());
        drop(in_blocking_section);
        assert!(leases.try_acquire(&session).is_some());
    }
}
