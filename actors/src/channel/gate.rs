//! What every send of an account passes: holds, breakers and rate limits, in this order.
//!
//! It belongs to the account and outlives the actor. What must outlive the host is a [`Hold`] as well.

use super::account::ChannelAccount;
use super::queue::QueuedDelivery;
use crate::engine::holds::Holds;
use crate::limits::GONE_DESTINATION_REMEMBERED;
use crate::model::breaker::{Breakers, News, Ticket};
use crate::model::error::{LimitScope, Receipt, SendError};
use crate::model::hold::{Blocked, Hold, HoldCause, HoldChange, HoldScope};
use crate::model::ids::{ChannelType, PlatformId};
use crate::model::message::Destination;
use crate::model::rate_limit::RateLimiter;
use crate::model::tenant::Tenant;
use crate::model::time::Timestamp;
use crate::settings::{ChannelSettings, RetrySchedules};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The reason when an account's own rate keeps it waiting.
pub(super) const ACCOUNT_RATE: &str = "channel rate limit";

type Chat = (ChannelType, PlatformId);

/// Breakers and rate limits of one account.
pub(super) struct Gate {
    state: Mutex<State>,
    releases: AtomicU64,
}

struct State {
    breakers: Breakers<Chat>,
    limiter: RateLimiter<Chat>,
}

/// The right to make one send. Dropped without an answer, it was not made.
pub(super) struct SendPermit {
    account: Arc<ChannelAccount>,
    chat: Chat,
    ticket: Ticket,
    began_at: Timestamp,
    is_ended: bool,
}

/// What came of a send.
pub(super) struct Answered<'a> {
    pub result: Result<&'a Receipt, &'a SendError>,
    /// When the message itself is tried again.
    pub retry_at: Option<Timestamp>,
    pub schedules: &'a RetrySchedules,
    pub now: Timestamp,
}

impl Gate {
    pub fn new(settings: &ChannelSettings) -> Self {
        let state = State {
            breakers: Breakers::new(settings.breaker.clone()),
            limiter: RateLimiter::new(settings.rates),
        };
        Self { state: Mutex::new(state), releases: AtomicU64::new(0) }
    }

    /// Takes up what an earlier life of the host has learned about the account's credentials.
    pub fn suspend(&self, until: Timestamp) {
        self.lock().breakers.suspend_account(until);
    }

    /// Closes all breakers.
    pub fn reset_breakers(&self) {
        self.lock().breakers.reset();
        self.released();
    }

    fn released(&self) {
        self.releases.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChannelAccount {
    /// Rises each time that one of its breakers lets something through earlier than was said before.
    pub(super) fn releases(&self) -> u64 {
        self.gate.releases.load(Ordering::Acquire)
    }

    /// What keeps everything of this account waiting.
    pub(super) fn blocked(&self, holds: &Holds, now: Timestamp) -> Option<Blocked> {
        let by_hold = holds.channel_blocked(&self.name, now);
        let state = self.gate.lock();
        let by_breaker = state.breakers.account_blocked(now);
        let by_rate = state.limiter.account_next_at(now).map(|at| rate_limit(ACCOUNT_RATE, at));
        longest([by_hold, by_breaker, by_rate])
    }

    /// What its own breaker says, which is open when the whole channel fails.
    pub(crate) fn breaker_blocked(&self, now: Timestamp) -> Option<Blocked> {
        self.gate.lock().breakers.account_blocked(now)
    }

    /// Lets one send through, or says what keeps it waiting. Ask [`ChannelAccount::blocked`] before.
    pub(super) fn admit(
        self: &Arc<Self>,
        item: &QueuedDelivery,
        tenant: &Tenant,
        holds: &Holds,
        now: Timestamp,
    ) -> Result<SendPermit, Blocked> {
        let Destination { channel_type, platform_id, .. } = &item.destination;
        let chat = (channel_type.clone(), platform_id.clone());
        let mut state = self.gate.lock();
        let by_breaker = state.breakers.destination_blocked(&chat, now);
        let by_rate =
            state.limiter.destination_next_at(&chat, now).map(|at| rate_limit("destination rate limit", at));
        let by_hold =
            || holds.message_blocked(&item.destination, &tenant.name, &item.session_id, &item.lane_key, now);
        // Holds are the dearest to ask; what they say is asked again when the others are over.
        if let Some(blocked) = longest([by_breaker, by_rate]).or_else(by_hold) {
            return Err(blocked);
        }
        let ticket = state.breakers.begin(&chat, now);
        state.limiter.begin(&chat, now);
        drop(state);
        Ok(SendPermit { account: Arc::clone(self), chat, ticket, began_at: now, is_ended: false })
    }
}

impl SendPermit {
    /// The account that sends.
    pub fn account(&self) -> &Arc<ChannelAccount> {
        &self.account
    }

    /// Whether others wait for how this send ends.
    pub fn is_probe(&self) -> bool {
        self.ticket.is_probe()
    }

    /// Takes up what the answer says about the account and the chat. Returns what is to be recorded; it is in force
    /// already.
    pub fn answered(mut self, holds: &Holds, answered: &Answered<'_>) -> Vec<HoldChange> {
        self.is_ended = true;
        let news = news(answered.result, answered.schedules);
        let suspended_until = self.end(news, answered);
        let mut changes = Vec::new();
        if let Some((scope, cause, until, reason)) = self.asked_for(answered, suspended_until) {
            let hold = Hold { scope, cause, until: Some(until), reason, since: answered.now };
            changes.push(HoldChange::Set(holds.set(hold)));
        }
        if self.ticket.is_probe() && news == News::Works {
            let scope = HoldScope::Channel(self.account.name.clone());
            // It is over by now, but may still be in the ledger.
            if holds.clear(&scope, HoldCause::Unauthorized) {
                changes.push(HoldChange::Clear(scope, HoldCause::Unauthorized));
            }
        }
        changes
    }

    /// Tells breakers and limits; until when refused credentials suspend the account.
    fn end(&self, news: News, answered: &Answered<'_>) -> Option<Timestamp> {
        let gate = &self.account.gate;
        let mut state = gate.lock();
        state.limiter.end(&self.chat);
        state.breakers.end(&self.chat, self.ticket, news, answered.now);
        if let Ok(Receipt { limit: Some(limit), .. }) = answered.result {
            match limit.scope {
                LimitScope::Account => state.limiter.learn_account(limit.remaining, limit.resets_at),
                LimitScope::Destination => {
                    state.limiter.learn_destination(&self.chat, limit.remaining, limit.resets_at);
                }
            }
        }
        if self.is_probe() {
            gate.released();
        }
        match news {
            News::Refuses { .. } => state.breakers.account_blocked(answered.now)?.until,
            _ => None,
        }
    }

    /// The holds that the answer asks for.
    fn asked_for(
        &self,
        answered: &Answered<'_>,
        suspended_until: Option<Timestamp>,
    ) -> Option<(HoldScope, HoldCause, Timestamp, String)> {
        let now = answered.now;
        let (channel_type, platform_id) = self.chat.clone();
        let destination = HoldScope::Destination(channel_type, platform_id);
        let account = HoldScope::Channel(self.account.name.clone());
        let covered = |scope: LimitScope| match scope {
            LimitScope::Account => account.clone(),
            LimitScope::Destination => destination.clone(),
        };
        match answered.result {
            Err(SendError::RateLimited { retry_after, scope, reason }) => {
                // Rounded up: a hint is never shortened.
                let hint = retry_after.map(|hint| now.plus(hint.saturating_add(Duration::from_micros(999))));
                let until = hint.max(answered.retry_at)?;
                Some((covered(*scope), HoldCause::RateLimit, until, reason.clone()))
            }
            Err(SendError::Unauthorized { reason }) => {
                Some((account, HoldCause::Unauthorized, suspended_until?, reason.clone()))
            }
            Err(SendError::DestinationGone { reason }) => {
                let until = now.plus(GONE_DESTINATION_REMEMBERED);
                Some((destination, HoldCause::Gone, until, reason.clone()))
            }
            Ok(Receipt { limit: Some(limit), .. }) if limit.remaining == 0 && limit.resets_at > now => {
                let reason = "the platform takes no more until then".to_owned();
                Some((covered(limit.scope), HoldCause::RateLimit, limit.resets_at, reason))
            }
            _ => None,
        }
    }
}

impl Drop for SendPermit {
    fn drop(&mut self) {
        if self.is_ended {
            return;
        }
        let gate = &self.account.gate;
        let mut state = gate.lock();
        state.limiter.end(&self.chat);
        state.breakers.end(&self.chat, self.ticket, News::Nothing, self.began_at);
        if self.is_probe() {
            gate.released();
        }
    }
}

/// What an answer tells about the way to the platform. Without an answer in time (ambiguous) it counts as failing: it
/// is better to wait than to make more messages ambiguous.
fn news(result: Result<&Receipt, &SendError>, schedules: &RetrySchedules) -> News {
    match result {
        Ok(_) | Err(SendError::Permanent { .. } | SendError::DestinationGone { .. }) => News::Works,
        Err(SendError::RateLimited { .. }) => News::Nothing,
        Err(SendError::Unauthorized { .. }) => {
            let schedule = &schedules.unauthorized;
            News::Refuses { open_min: schedule.base, open_max: schedule.delay_max }
        }
        Err(SendError::Transient { .. } | SendError::Unavailable { .. } | SendError::Ambiguous { .. }) => {
            News::Fails
        }
    }
}

fn rate_limit(reason: &str, at: Timestamp) -> Blocked {
    Blocked { until: Some(at), reason: reason.to_owned() }
}

fn longest<const N: usize>(all: [Option<Blocked>; N]) -> Option<Blocked> {
    all.into_iter().flatten().reduce(|a, b| a.longer(Some(b)))
}
