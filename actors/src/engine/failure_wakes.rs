//! Keeps failures from waking an agent again and again: what it answers may fail too.

use crate::limits::FAILURE_WAKE_INTERVAL;
use crate::model::ids::SessionId;
use crate::model::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Sessions above which those that were woken long ago are forgotten.
const SESSIONS_REMEMBERED: usize = 1024;

/// When each session's agent was last woken by a failure. A restart forgets it.
#[derive(Debug, Default)]
pub struct FailureWakes {
    last: Mutex<HashMap<SessionId, Timestamp>>,
}

impl FailureWakes {
    /// Whether a failure may wake the session's agent now.
    pub fn may_wake(&self, session: &SessionId, now: Timestamp) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(session).is_none_or(|last| is_over(*last, now))
    }

    /// Takes note that one has.
    pub fn woken(&self, session: &SessionId, now: Timestamp) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= SESSIONS_REMEMBERED {
            last.retain(|_, last| !is_over(*last, now));
        }
        last.insert(session.clone(), now);
    }
}

fn is_over(last: Timestamp, now: Timestamp) -> bool {
    now.since(last) >= FAILURE_WAKE_INTERVAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_woken_once_an_interval_and_is_then_forgotten() {
        let wakes = FailureWakes::default();
        let session = |number: usize| SessionId::new(&format!("s-{number}")).unwrap();
        let now = Timestamp::from_ms(0);
        assert!(wakes.may_wake(&session(0), now));
        for number in 0..SESSIONS_REMEMBERED {
            wakes.woken(&session(number), now);
        }
        assert!(!wakes.may_wake(&session(0), now) && wakes.may_wake(&session(SESSIONS_REMEMBERED), now));
        let later = now.plus(FAILURE_WAKE_INTERVAL);
        assert!(wakes.may_wake(&session(0), later));
        wakes.woken(&session(0), later);
        assert_eq!(wakes.last.lock().unwrap().len(), 1);
    }
}
