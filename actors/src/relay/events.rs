//! What happens while a relay runs, and what happened over the last hours.

use super::Relay;
use crate::engine::Engine;
use crate::engine::events::Happened;
use crate::model::history::{HISTORY_STEP_MS, Lag};
use crate::model::tenant::TenantSet;
use crate::report::{DeliveryHistory, EventFilter, EventId, EventKind, HistoryPoint, RelayEvent};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Events that a reader takes at a time.
const EVENTS_PER_READ: usize = 256;

/// The events of a relay, from a place on. It never slows the relay down: a reader that is slower than
/// [`crate::limits::EVENTS_KEPT_MAX`] events gets one of kind `overflow`, and goes on with what comes next.
pub struct EventStream {
    engine: Arc<Engine>,
    filter: EventFilter,
    /// The number of the last event that was looked at.
    read: u64,
    /// What was taken and not handed out yet.
    waiting: VecDeque<RelayEvent>,
}

impl Relay {
    /// What happens from now on.
    ///
    /// ```
    /// # async fn show(relay: &nanorelay_actors::relay::Relay) {
    /// use nanorelay_actors::report::{EventFilter, EventKind};
    ///
    /// let mut events = relay.events(EventFilter { kinds: vec![EventKind::Dead], ..EventFilter::default() });
    /// while let Some(event) = events.next().await {
    ///     println!("{} of {:?} was given up: {:?}", event.id, event.session_id, event.error_class);
    /// }
    /// # }
    /// ```
    pub fn events(&self, filter: EventFilter) -> EventStream {
        let engine = Arc::clone(self.engine());
        let read = engine.events.last().number;
        EventStream { engine, filter, read, waiting: VecDeque::new() }
    }

    /// What happened after an event, and happens. When that event is not known any more, the first one told is of kind
    /// `reset`, and then comes what happens from now on.
    pub fn events_after(&self, id: EventId, filter: EventFilter) -> EventStream {
        let mut stream = self.events(filter);
        if stream.engine.events.is_known(id) {
            stream.read = id.number;
        } else {
            stream.start_again(EventKind::Reset);
        }
        stream
    }

    /// What came of messages in the steps of the last `minutes`, the current step included. At most as many are kept as
    /// [`crate::model::history::HISTORY_STEPS_MAX`] says.
    pub fn history(&self, minutes: u32) -> DeliveryHistory {
        let step_ms = u64::try_from(HISTORY_STEP_MS).unwrap_or(0);
        let count = steps_of(Duration::from_secs(u64::from(minutes) * 60));
        let history = self.engine().history.lock().unwrap_or_else(PoisonError::into_inner);
        let points = history.points(count, self.engine().now());
        DeliveryHistory { step_ms, points: points.into_iter().map(HistoryPoint::from).collect() }
    }

    /// How late messages came within the last `time`, up to now; `None` when none came.
    pub fn lag(&self, time: Duration) -> Option<Lag> {
        let history = self.engine().history.lock().unwrap_or_else(PoisonError::into_inner);
        history.lag(steps_of(time), self.engine().now())
    }
}

fn steps_of(time: Duration) -> usize {
    usize::try_from(time.as_millis().div_ceil(HISTORY_STEP_MS.unsigned_abs().into())).unwrap_or(usize::MAX)
}

impl EventStream {
    /// The next event that the filter lets through; `None` when the relay has ended. Nothing is lost when the wait is
    /// given up.
    pub async fn next(&mut self) -> Option<RelayEvent> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if !self.engine.events.wait(self.read).await {
                return None;
            }
            self.take();
        }
    }

    /// The next one, when it is there already.
    pub fn try_next(&mut self) -> Option<RelayEvent> {
        while self.waiting.is_empty() && self.engine.events.last().number > self.read {
            self.take();
        }
        self.waiting.pop_front()
    }

    /// The place of the last event that was looked at, whether or not the filter let it through.
    pub fn position(&self) -> EventId {
        EventId { life: self.engine.events.life(), number: self.read }
    }

    fn take(&mut self) {
        let news = self.engine.events.after(self.read, EVENTS_PER_READ);
        if news.has_missed {
            self.start_again(EventKind::Overflow);
            return;
        }
        for (number, happened) in news.events {
            self.read = number;
            self.waiting.extend(self.told(number, happened));
        }
    }

    /// Goes on with what comes next, and says so.
    fn start_again(&mut self, kind: EventKind) {
        self.read = self.engine.events.last().number;
        let event = event(&self.engine, self.read, Happened::new(kind, self.engine.now()));
        self.waiting.push_back(event);
    }

    /// An event as it is told, if it is to be.
    fn told(&self, number: u64, happened: Happened) -> Option<RelayEvent> {
        let EventFilter { tenants, kinds, session_id } = &self.filter;
        let is_wanted = (kinds.is_empty() || kinds.contains(&happened.kind))
            && session_id.as_ref().is_none_or(|wanted| {
                happened.session.as_ref().is_some_and(|session| session.as_str() == wanted)
            });
        let tenant = || self.engine.tenant_of(happened.session.as_ref()?);
        let is_visible = tenants.as_ref().is_none_or(|tenants| match tenants {
            TenantSet::All => true,
            TenantSet::Only(names) => tenant().is_some_and(|tenant| names.contains(&tenant)),
        });
        (is_wanted && is_visible).then(|| event(&self.engine, number, happened))
    }
}

fn event(engine: &Engine, number: u64, happened: Happened) -> RelayEvent {
    let tenant = happened.session.as_ref().and_then(|session| engine.tenant_of(session));
    RelayEvent {
        id: EventId { life: engine.events.life(), number }.to_string(),
        at: happened.at.to_iso(),
        kind: happened.kind,
        tenant: tenant.map(|tenant| tenant.to_string()),
        session_id: happened.session.map(|session| session.to_string()),
        message_id: happened.message.map(|message| message.to_string()),
        channel: happened.channel.map(|channel| channel.to_string()),
        error_class: happened.class.map(|class| class.as_str().to_owned()),
        detail: happened.detail.map(|detail| detail.to_string()),
        until: happened.until.map(crate::model::time::Timestamp::to_iso),
        lag_ms: happened.lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
    }
}
