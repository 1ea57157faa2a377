//! What a sweep finds, counted by kind.

use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest that a file event is on its way.
const EVENT_DELAY_MAX: Duration = Duration::from_secs(1);

/// Why a sweep is the first to find what an agent has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unheard {
    /// The folder is watched and nobody works on the session, but no event told of the change.
    EventMissed,
    /// The folder cannot be watched, or nobody does yet; a session whose agent does not run is not polled either.
    NotWatched,
    /// The session is closed, which nobody watches: its agent has left something behind.
    Closed,
    /// It is being worked on, or its event is on its way: the sweep has found nothing new.
    Expected,
}

/// What is known of a session whose `outbound.db` differs from what was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedSession {
    /// Whether it is closed.
    pub is_closed: bool,
    /// Whether its folder is watched.
    pub is_watched: bool,
    /// Whether nobody works on it, and everything was read that anybody has told of.
    pub is_idle: bool,
    /// When the file was written last.
    pub written: Option<Timestamp>,
}

impl ChangedSession {
    /// Why the sweep is the first to find the change.
    pub fn why_unheard(&self, now: Timestamp) -> Unheard {
        let is_old = self.written.is_some_and(|written| now.since(written) > EVENT_DELAY_MAX);
        match self {
            Self { is_closed: true, .. } => Unheard::Closed,
            Self { is_watched: false, .. } => Unheard::NotWatched,
            Self { is_idle: true, .. } if is_old => Unheard::EventMissed,
            _ => Unheard::Expected,
        }
    }
}

/// Sessions in which a sweep found what nobody had told of, by the reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct UnheardCounts {
    /// See [`Unheard::EventMissed`]. Something is wrong with file events when this grows.
    pub event_missed: u64,
    /// See [`Unheard::NotWatched`].
    pub not_watched: u64,
    /// See [`Unheard::Closed`].
    pub closed: u64,
}

impl UnheardCounts {
    /// Counts one.
    pub fn add(&mut self, why: Unheard) {
        match why {
            Unheard::EventMissed => self.event_missed += 1,
            Unheard::NotWatched => self.not_watched += 1,
            Unheard::Closed => self.closed += 1,
            Unheard::Expected => {}
        }
    }
}

/// What one sweep found. A session is counted once, in the first group that it belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SweepFindings {
    /// Sessions whose files were compared.
    pub compared: u64,
    /// Of these, sessions whose agents have written something that is not yet read.
    pub changed: u64,
    /// Of those, the ones of which nobody had told.
    pub unheard: UnheardCounts,
    /// Sessions that do not rest: their claims, runs, due work and agents are looked at.
    pub restless: u64,
    /// Sessions at rest whose agents run and have shown no sign of life for too long.
    pub silent: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    #[test]
    fn only_an_old_change_of_a_watched_session_that_nobody_works_on_is_a_missed_event() {
        let idle = ChangedSession {
            is_closed: false,
            is_watched: true,
            is_idle: true,
            written: Some(NOW.minus(Duration::from_millis(1_001))),
        };
        assert_eq!(idle.why_unheard(NOW), Unheard::EventMissed);
        let expected = [
            ChangedSession { written: Some(NOW.minus(EVENT_DELAY_MAX)), ..idle },
            ChangedSession { written: None, ..idle },
            ChangedSession { is_idle: false, ..idle },
        ];
        assert!(expected.iter().all(|session| session.why_unheard(NOW) == Unheard::Expected));
        let unwatched = ChangedSession { is_watched: false, ..idle };
        assert_eq!(unwatched.why_unheard(NOW), Unheard::NotWatched);
        let closed = ChangedSession { is_closed: true, ..unwatched };
        assert_eq!(closed.why_unheard(NOW), Unheard::Closed);
        let mut counts = UnheardCounts::default();
        for why in [Unheard::Expected, Unheard::Closed, Unheard::NotWatched, Unheard::EventMissed] {
            counts.add(why);
        }
        assert_eq!(counts, UnheardCounts { event_missed: 1, not_watched: 1, closed: 1 });
    }
}
