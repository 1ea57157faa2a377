//! Keeps one session from filling the log: what an agent does ten million times is said a few times.

use crate::limits::{SESSION_WARNING_INTERVAL, SESSION_WARNINGS_MAX};
use crate::model::ids::SessionId;
use crate::model::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Sessions above which those that have been quiet are forgotten.
const SESSIONS_REMEMBERED: usize = 1024;

/// What each session may still have logged.
#[derive(Debug, Default)]
pub struct Warnings {
    spent: Mutex<HashMap<SessionId, Spent>>,
}

#[derive(Debug)]
struct Spent {
    warnings: u32,
    /// From when the next interval counts.
    since: Timestamp,
    left_out: u64,
}

/// Whether a warning is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warned {
    /// Log it; so many before it were left out.
    Log {
        /// See there.
        left_out: u64,
    },
    /// Leave it out.
    LeaveOut,
}

impl Warnings {
    /// Takes one warning of a session from what it may have logged.
    pub fn take(&self, session: &SessionId, now: Timestamp) -> Warned {
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > SESSIONS_REMEMBERED {
            all.retain(|_, spent| {
                spent.refill(now);
                spent.warnings > 0 || spent.left_out > 0
            });
        }
        let new = Spent { warnings: 0, since: now, left_out: 0 };
        let spent = all.entry(session.clone()).or_insert(new);
        spent.refill(now);
        if spent.warnings >= SESSION_WARNINGS_MAX {
            spent.left_out += 1;
            return Warned::LeaveOut;
        }
        spent.warnings += 1;
        Warned::Log { left_out: std::mem::take(&mut spent.left_out) }
    }
}

impl Spent {
    fn refill(&mut self, now: Timestamp) {
        let intervals = now.since(self.since).as_millis() / SESSION_WARNING_INTERVAL.as_millis();
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        self.warnings = self.warnings.saturating_sub(intervals);
        self.since = self.since.plus(SESSION_WARNING_INTERVAL.saturating_mul(intervals));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_spares_the_others() {
        let warnings = Warnings::default();
        let (loud, quiet) = (SessionId::new("loud").unwrap(), SessionId::new("quiet").unwrap());
        let now = Timestamp::from_ms(0);
        let logged = (0..1000).filter(|_| warnings.take(&loud, now) != Warned::LeaveOut).count();
        assert_eq!(logged, SESSION_WARNINGS_MAX as usize);
        assert_eq!(warnings.take(&quiet, now), Warned::Log { left_out: 0 });
        let later = now.plus(SESSION_WARNING_INTERVAL);
        assert_eq!(warnings.take(&loud, later), Warned::Log { left_out: 980 });
        assert_eq!(warnings.take(&loud, later), Warned::LeaveOut);
    }

    #[test]
    fn quiet_sessions_are_forgotten() {
        let warnings = Warnings::default();
        let session = |number: usize| SessionId::new(&format!("s-{number}")).unwrap();
        for number in 0..=SESSIONS_REMEMBERED {
            warnings.take(&session(number), Timestamp::from_ms(0));
        }
        warnings.take(&session(0), Timestamp::from_ms(3_600_000));
        assert_eq!(warnings.spent.lock().unwrap().len(), 1);
    }
}
