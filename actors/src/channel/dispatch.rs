//! What an account sends next, and when to look again. It knows no clock and no actor: whoever drives it says what time
//! it is.

use super::ChannelSnapshot;
use super::account::{ChannelAccount, InFlight};
use super::gate::{ACCOUNT_RATE, SendPermit};
use super::queue::{ChannelQueue, QueuedDelivery};
use super::send::Attempted;
use crate::engine::holds::Holds;
use crate::model::hold::Blocked;
use crate::model::ids::{AgentGroupId, ChannelType};
use crate::model::tenant::Tenant;
use crate::model::time::Timestamp;
use std::sync::Arc;

/// Chooses among the lanes of one account.
pub(super) struct Dispatcher {
    account: Arc<ChannelAccount>,
    queue: ChannelQueue,
    /// Sends on their way.
    in_flight: usize,
    /// What keeps everything waiting. The account and the holds know it: it must outlive this value.
    blocked: Option<Blocked>,
    /// How often something was released early, as far as it was seen here.
    releases_seen: u64,
}

impl Dispatcher {
    pub fn new(account: Arc<ChannelAccount>) -> Self {
        Self { account, queue: ChannelQueue::default(), in_flight: 0, blocked: None, releases_seen: 0 }
    }

    /// Takes a message in; see [`ChannelQueue::push`].
    pub fn push(
        &mut self,
        item: QueuedDelivery,
        tenant: impl FnOnce(&AgentGroupId) -> Arc<Tenant>,
        now: Timestamp,
    ) {
        self.queue.push(item, tenant, now);
    }

    /// Ends the waiting of messages that wait until then, or less long.
    pub fn wake(&mut self, until: Timestamp) {
        self.queue.wake(until);
    }

    /// Finds out what may be over by now. To be called before [`Dispatcher::next`] is asked for the first time.
    pub fn look(&mut self, holds: &Holds, now: Timestamp) {
        self.queue.wake(now);
        let releases = holds.releases() + self.account.releases();
        if releases != self.releases_seen {
            self.releases_seen = releases;
            self.queue.look_again(now);
        }
        self.blocked = self.account.blocked(holds, now);
    }

    /// The next message to send now, with the right to do so. It is on its way until [`Dispatcher::ended`].
    pub fn next(
        &mut self,
        holds: &Holds,
        in_flight_max: usize,
        now: Timestamp,
    ) -> Option<(QueuedDelivery, SendPermit)> {
        loop {
            self.blocked = self.account.blocked(holds, now);
            if self.blocked.is_some() || self.in_flight >= in_flight_max {
                return None;
            }
            let (item, tenant) = self.queue.pop_ready()?;
            match self.account.admit(&item, &tenant, holds, now) {
                Ok(permit) => {
                    self.in_flight += 1;
                    return Some((item, permit));
                }
                Err(blocked) => self.queue.hold_back(&item, blocked.until),
            }
        }
    }

    /// The next message of a lane whose message on its way is settled, with its right to be sent now and its mark; it is on
    /// its way instead of the settled one. None when it must wait, or when others wait for a turn.
    pub fn next_of_lane(
        &mut self,
        settled: &QueuedDelivery,
        holds: &Holds,
        now: Timestamp,
    ) -> Option<(QueuedDelivery, SendPermit, InFlight)> {
        let (next, tenant) = self.queue.behind(settled, now)?;
        // Files are opened before an attempt begins, which takes its time.
        let may_go = next.files.is_empty() && !holds.is_gone(&next.destination, now);
        if !may_go || self.account.blocked(holds, now).is_some() {
            return None;
        }
        let in_flight = self.account.start_send(&next.key()).ok()?;
        let permit = self.account.admit(next, tenant, holds, now).ok()?;
        // Others wait for how a probe ends.
        if permit.is_probe() {
            return None;
        }
        let next = next.clone();
        self.queue.went_on(settled);
        Some((next, permit, in_flight))
    }

    /// A message is no longer on its way.
    pub fn ended(&mut self, item: &QueuedDelivery, attempted: &Attempted, now: Timestamp) {
        self.in_flight -= 1;
        match attempted {
            Attempted::Settled => self.queue.settled(item, now),
            Attempted::RetryAt(at) => self.queue.retry(item, *at, now),
        }
    }

    /// When to look again; `None` = not before something happens.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let wake = self.queue.next_wake();
        match &self.blocked {
            None => wake,
            // A probe ends, or somebody resumes.
            Some(Blocked { until: None, .. }) => None,
            Some(Blocked { until: Some(until), .. }) if self.queue.has_ready() => Some(*until),
            Some(Blocked { until: Some(until), .. }) => wake.map(|wake| wake.max(*until)),
        }
    }

    /// Whether there is something to send that only waits for others to end.
    pub fn could_send(&self) -> bool {
        self.blocked.is_none() && self.queue.has_ready()
    }

    /// Sends on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// What keeps everything waiting, unless it is only the account's own rate.
    pub fn blocked_by_trouble(&self) -> Option<&Blocked> {
        self.blocked.as_ref().filter(|blocked| blocked.reason != ACCOUNT_RATE)
    }

    /// The account's name.
    pub fn account_name(&self) -> &ChannelType {
        &self.account.name
    }

    pub fn snapshot(&self) -> ChannelSnapshot {
        ChannelSnapshot {
            name: self.account.name.to_string(),
            queued: self.queue.len(),
            in_flight: self.in_flight,
            lanes_held_back: self.queue.held_back(),
            blocked_by: self.blocked.as_ref().map(|blocked| blocked.reason.clone()),
            blocked_until_ms: self.blocked.as_ref().and_then(|blocked| blocked.until).map(Timestamp::as_ms),
        }
    }
}
