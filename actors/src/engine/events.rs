//! What happens, told to whoever listens: the last events are kept in one ring, and each reader has its place in it.
//!
//! A reader that is slower than the ring misses events and is told so. Nobody waits for a reader.

use crate::limits::EVENTS_KEPT_MAX;
use crate::model::error::ErrorClass;
use crate::model::ids::{ChannelType, MessageId, SessionId};
use crate::model::time::Timestamp;
use crate::report::{EventId, EventKind};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The last events of one relay.
#[derive(Debug, Default)]
pub struct Events {
    /// Which start of the host this is.
    life: AtomicU64,
    ring: Mutex<Ring>,
    arrived: Notify,
    is_closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Ring {
    /// Events of this life so far, the number of the last one.
    told: u64,
    kept: VecDeque<Happened>,
}

/// One event. Its parts are cheap to copy: most of the time nobody listens.
#[derive(Debug, Clone)]
pub struct Happened {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// To which session.
    pub session: Option<SessionId>,
    /// To which of its messages.
    pub message: Option<MessageId>,
    /// In which channel account.
    pub channel: Option<ChannelType>,
    /// The kind of failure.
    pub class: Option<ErrorClass>,
    /// More in words.
    pub detail: Option<Arc<str>>,
    /// Until when, or when it is tried next.
    pub until: Option<Timestamp>,
    /// How late.
    pub lag: Option<Duration>,
}

impl Happened {
    /// An event about nothing in particular yet.
    pub fn new(kind: EventKind, at: Timestamp) -> Self {
        Self {
            at,
            kind,
            session: None,
            message: None,
            channel: None,
            class: None,
            detail: None,
            until: None,
            lag: None,
        }
    }

    /// An event of a session.
    pub fn of_session(kind: EventKind, session: &SessionId, at: Timestamp) -> Self {
        Self { session: Some(session.clone()), ..Self::new(kind, at) }
    }

    /// An event of a message.
    pub fn of_message(kind: EventKind, session: &SessionId, message: &MessageId, at: Timestamp) -> Self {
        Self { message: Some(message.clone()), ..Self::of_session(kind, session, at) }
    }
}

/// A reader's next events.
#[derive(Debug)]
pub struct News {
    /// Those that were kept, with their numbers.
    pub events: Vec<(u64, Happened)>,
    /// Whether others before them were not.
    pub has_missed: bool,
}

impl Events {
    /// Says which start of the host this is.
    pub fn begin(&self, life: u64) {
        self.life.store(life, Ordering::Release);
    }

    /// The place of the last event.
    pub fn last(&self) -> EventId {
        EventId { life: self.life(), number: self.ring().told }
    }

    /// Which start of the host this is.
    pub fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// Tells what has happened. Never waits.
    pub fn tell(&self, happened: Happened) {
        let mut ring = self.ring();
        if ring.kept.len() == EVENTS_KEPT_MAX {
            ring.kept.pop_front();
        }
        ring.kept.push_back(happened);
        ring.told += 1;
        drop(ring);
        self.arrived.notify_waiters();
    }

    /// Whether everything after an event is kept.
    pub fn is_known(&self, id: EventId) -> bool {
        let ring = self.ring();
        id.life == self.life() && id.number <= ring.told && id.number >= ring.told - ring.kept.len() as u64
    }

    /// At most `limit` events after the one with that number; none when there are no new ones.
    pub fn after(&self, number: u64, limit: usize) -> News {
        let ring = self.ring();
        let first = ring.told - ring.kept.len() as u64;
        // A number that was never given stands for the last one.
        let number = number.min(ring.told);
        if number < first {
            return News { events: Vec::new(), has_missed: true };
        }
        let skipped = usize::try_from(number - first).unwrap_or(usize::MAX);
        let events = ring.kept.iter().skip(skipped).take(limit).cloned();
        News { events: (number + 1..).zip(events).collect(), has_missed: false }
    }

    /// Waits until there is an event after the one with that number. Returns whether there will ever be one.
    pub async fn wait(&self, number: u64) -> bool {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            if self.ring().told > number {
                return true;
            }
            if self.is_closed.load(Ordering::Acquire) {
                return false;
            }
            arrived.await;
        }
    }

    /// Ends all readers once they have read what there is.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.arrived.notify_waiters();
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn told(count: usize) -> Events {
        let events = Events::default();
        events.begin(3);
        for _ in 0..count {
            events.tell(Happened::new(EventKind::Paused, NOW));
        }
        events
    }

    #[test]
    fn a_reader_gets_each_event_once_and_in_order() {
        let events = told(5);
        let news = events.after(2, 2);
        assert_eq!(news.events.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(events.after(4, 10).events.len(), 1);
        assert!(events.after(5, 10).events.is_empty() && events.after(99, 10).events.is_empty());
    }

    #[test]
    fn a_reader_that_is_too_slow_is_told_and_nobody_waits_for_it() {
        let events = told(EVENTS_KEPT_MAX + 7);
        assert!(events.after(6, 10).has_missed);
        let news = events.after(7, 10);
        assert!(!news.has_missed && news.events[0].0 == 8);
    }

    #[test]
    fn what_is_known_is_what_everything_after_it_is_kept_of() {
        let events = told(EVENTS_KEPT_MAX + 7);
        let known = |life, number| events.is_known(EventId { life, number });
        assert!(known(3, 7) && known(3, EVENTS_KEPT_MAX as u64 + 7));
        assert!(!known(3, 6) && !known(3, EVENTS_KEPT_MAX as u64 + 8) && !known(2, 7));
    }

    #[actix::test]
    async fn a_reader_waits_for_the_next_event_and_hears_of_the_end() {
        let events = Arc::new(told(1));
        assert!(events.wait(0).await);
        let waiting = actix_rt::spawn({
            let events = Arc::clone(&events);
            async move { (events.wait(1).await, events.wait(2).await) }
        });
        tokio::task::yield_now().await;
        events.tell(Happened::new(EventKind::Paused, NOW));
        tokio::task::yield_now().await;
        events.close();
        assert_eq!(waiting.await.expect("no panic"), (true, false));
    }
}
