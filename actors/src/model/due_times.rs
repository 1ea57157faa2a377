//! When which session is due: one ordered structure for all of them, however many there are.

use super::ids::SessionId;
use super::time::Timestamp;
use std::collections::{BTreeSet, HashMap};

/// At most one time for each session.
#[derive(Debug, Default)]
pub struct DueTimes {
    /// Sessions by time.
    by_time: BTreeSet<(Timestamp, SessionId)>,
    /// The same the other way round.
    of_session: HashMap<SessionId, Timestamp>,
}

impl DueTimes {
    /// Sets a session's time, or takes it away.
    pub fn set(&mut self, session: SessionId, at: Option<Timestamp>) {
        let before = match at {
            Some(at) => self.of_session.insert(session.clone(), at),
            None => self.of_session.remove(&session),
        };
        if let Some(before) = before {
            self.by_time.remove(&(before, session.clone()));
        }
        if let Some(at) = at {
            self.by_time.insert((at, session));
        }
    }

    /// The earliest time.
    pub fn earliest(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the sessions whose time has come, in the order of their times.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<SessionId> {
        let mut due = Vec::new();
        while self.earliest().is_some_and(|at| at <= now) {
            if let Some((_, session)) = self.by_time.pop_first() {
                self.of_session.remove(&session);
                due.push(session);
            }
        }
        due
    }

    /// How many sessions have a time.
    pub fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Whether no session has one.
    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: usize) -> SessionId {
        SessionId::new(&format!("sess-{number:06}")).unwrap()
    }

    fn second(number: i64) -> Timestamp {
        Timestamp::from_ms(number * 1000)
    }

    #[test]
    fn a_hundred_thousand_sessions_come_due_each_at_its_own_second_and_once() {
        const SESSIONS: usize = 100_000;
        let mut times = DueTimes::default();
        // Armed in an order that has nothing to do with the times, and each of them twice.
        let time_of = |number: usize| second(1 + (number * 7_919 % 3_600) as i64);
        for number in 0..SESSIONS {
            times.set(session(number), Some(second(1_000_000)));
        }
        for number in (0..SESSIONS).rev() {
            times.set(session(number), Some(time_of(number)));
        }
        assert_eq!((times.len(), times.of_session.len()), (SESSIONS, SESSIONS), "one entry each");
        let mut taken = 0;
        for now in 0..=3_600 {
            for session in times.take_due(second(now)) {
                let number: usize = session.as_str()["sess-".len()..].parse().unwrap();
                assert_eq!(time_of(number), second(now));
                taken += 1;
            }
            assert!(times.earliest().is_none_or(|next| next > second(now)), "none is left behind");
        }
        assert_eq!((taken, times.len(), times.of_session.len()), (SESSIONS, 0, 0));
    }

    #[test]
    fn a_time_can_be_moved_and_taken_away() {
        let mut times = DueTimes::default();
        times.set(session(1), Some(second(10)));
        times.set(session(1), Some(second(20)));
        times.set(session(2), Some(second(15)));
        times.set(session(3), Some(second(5)));
        times.set(session(3), None);
        assert_eq!(times.earliest(), Some(second(15)));
        assert_eq!(times.take_due(second(10)), []);
        // A clock that jumped over both hours finds both; one that went back finds nothing, and loses nothing.
        assert_eq!(times.take_due(second(-100)), []);
        assert_eq!(times.take_due(second(7_200)), [session(2), session(1)]);
        assert!(times.is_empty());
    }
}
