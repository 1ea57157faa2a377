//! What holds sends back, in memory: asked before every send. The ledger has the same.

use crate::model::hold::{Blocked, Hold, HoldCause, HoldScope, HoldTable};
use crate::model::ids::{ChannelType, SessionId, TenantName};
use crate::model::message::Destination;
use crate::model::time::Timestamp;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// All holds of one relay.
#[derive(Default)]
pub struct Holds {
    table: RwLock<HoldTable>,
    /// Whether there may be one at all. Most of the time there is none, and a send then asks nothing else.
    is_any: AtomicBool,
    releases: AtomicU64,
}

impl Holds {
    /// Starts with those that the ledger has.
    pub fn new(holds: Vec<Hold>) -> Self {
        let found = Self::default();
        for hold in holds {
            found.set(hold);
        }
        found
    }

    /// Adds a hold; see [`HoldTable::set`]. Returns the one that is now in force. Those that are over are forgotten.
    pub fn set(&self, hold: Hold) -> Hold {
        let mut table = self.write();
        table.forget_what_is_over(hold.since);
        let (in_force, may_be_free_earlier) = table.set(hold);
        // Under the lock: it must not cross with the end of another hold.
        self.is_any.store(true, Ordering::Release);
        if may_be_free_earlier {
            self.releases.fetch_add(1, Ordering::Release);
        }
        in_force
    }

    /// Ends a hold. Returns whether there was one.
    pub fn clear(&self, scope: &HoldScope, cause: HoldCause) -> bool {
        let mut table = self.write();
        let is_cleared = table.clear(scope, cause);
        self.is_any.store(!table.is_empty(), Ordering::Release);
        if is_cleared {
            self.releases.fetch_add(1, Ordering::Release);
        }
        is_cleared
    }

    /// Rises each time that something may be free earlier than was said before.
    pub fn releases(&self) -> u64 {
        self.releases.load(Ordering::Acquire)
    }

    /// What keeps a whole channel account waiting.
    pub fn channel_blocked(&self, name: &ChannelType, now: Timestamp) -> Option<Blocked> {
        self.table()?.blocked(&HoldScope::Channel(name.clone()), now)
    }

    /// What keeps everything waiting that an account sends to a chat.
    pub fn target_blocked(
        &self,
        account: &ChannelType,
        destination: &Destination,
        now: Timestamp,
    ) -> Option<Blocked> {
        let table = self.table()?;
        longest(&table, &[vec![HoldScope::Channel(account.clone())], targets(destination)].concat(), now)
    }

    /// What keeps a message to a chat waiting: its chat, its channel type, its tenant, its session or its lane.
    pub fn message_blocked(
        &self,
        destination: &Destination,
        tenant: &TenantName,
        session: &SessionId,
        lane_key: &Arc<str>,
        now: Timestamp,
    ) -> Option<Blocked> {
        let table = self.table()?;
        let scopes = [targets(destination), sources(tenant, session, lane_key)].concat();
        longest(&table, &scopes, now)
    }

    /// What keeps a message to another agent waiting: its tenant, its session or its lane.
    pub fn agent_message_blocked(
        &self,
        tenant: &TenantName,
        session: &SessionId,
        lane_key: &Arc<str>,
        now: Timestamp,
    ) -> Option<Blocked> {
        let table = self.table()?;
        longest(&table, &sources(tenant, session, lane_key), now)
    }

    /// Whether the platform said a while ago that a destination is gone.
    pub fn is_gone(&self, destination: &Destination, now: Timestamp) -> bool {
        let scope = HoldScope::Destination(destination.channel_type.clone(), destination.platform_id.clone());
        self.table().is_some_and(|table| table.is_gone(&scope, now))
    }

    /// All that are not over, the oldest first.
    pub fn all(&self, now: Timestamp) -> Vec<Hold> {
        let Some(table) = self.table() else { return Vec::new() };
        let mut all: Vec<Hold> = table.all().filter(|hold| !hold.is_over(now)).cloned().collect();
        all.sort_by(|a, b| (a.since, &a.scope, a.cause).cmp(&(b.since, &b.scope, b.cause)));
        all
    }

    /// `None` when there is no hold.
    fn table(&self) -> Option<RwLockReadGuard<'_, HoldTable>> {
        let is_any = self.is_any.load(Ordering::Acquire);
        is_any.then(|| self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> RwLockWriteGuard<'_, HoldTable> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The scopes of where a message goes to.
fn targets(destination: &Destination) -> Vec<HoldScope> {
    let Destination { channel_type, platform_id, .. } = destination;
    vec![
        HoldScope::Destination(channel_type.clone(), platform_id.clone()),
        // The account that takes every type has another name.
        HoldScope::Channel(channel_type.clone()),
    ]
}

/// The scopes of where a message comes from.
fn sources(tenant: &TenantName, session: &SessionId, lane_key: &Arc<str>) -> Vec<HoldScope> {
    vec![
        HoldScope::Tenant(tenant.clone()),
        HoldScope::Session(session.clone()),
        HoldScope::Lane(session.clone(), Arc::clone(lane_key)),
    ]
}

fn longest(table: &HoldTable, scopes: &[HoldScope], now: Timestamp) -> Option<Blocked> {
    scopes.iter().filter_map(|scope| table.blocked(scope, now)).reduce(|a, b| a.longer(Some(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hold::HoldScopeKind;
    use crate::model::ids::PlatformId;
    use crate::model::message::Lane;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn hold(kind: HoldScopeKind, parts: &[&str], until_ms: i64) -> Hold {
        Hold {
            scope: HoldScope::from_parts(kind, parts).unwrap(),
            cause: HoldCause::Operator,
            until: Some(Timestamp::from_ms(NOW.as_ms() + until_ms)),
            reason: String::new(),
            since: NOW,
        }
    }

    #[test]
    fn every_scope_of_a_message_can_hold_it_back() {
        let destination = Destination {
            channel_type: ChannelType::new("slack").unwrap(),
            platform_id: PlatformId::new("slack:C1").unwrap(),
            thread_id: None,
        };
        let lane_key: Arc<str> = Arc::from(Lane::Channel(destination.clone()).key());
        let (tenant, session) = (TenantName::new("acme").unwrap(), SessionId::new("sess-1").unwrap());
        for (kind, parts) in [
            (HoldScopeKind::Tenant, &["acme"][..]),
            (HoldScopeKind::Channel, &["slack"]),
            (HoldScopeKind::Destination, &["slack", "slack:C1"]),
            (HoldScopeKind::Session, &["sess-1"]),
            (HoldScopeKind::Lane, &["sess-1", "slack", "slack:C1"]),
        ] {
            let holds = Holds::default();
            let blocked = |holds: &Holds, ms: i64| {
                let now = Timestamp::from_ms(NOW.as_ms() + ms);
                holds.message_blocked(&destination, &tenant, &session, &lane_key, now)
            };
            assert_eq!(blocked(&holds, 0), None);
            let set = holds.set(hold(kind, parts, 50));
            assert_eq!(blocked(&holds, 49).unwrap().until, set.until, "{kind}");
            assert_eq!(blocked(&holds, 50), None);
            assert!(holds.clear(&set.scope, HoldCause::Operator));
            assert_eq!((blocked(&holds, 0), holds.releases()), (None, 1));
            holds.set(hold(kind, &vec!["other"; parts.len()], 50));
            assert_eq!(blocked(&holds, 0), None, "another {kind}");
        }
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let holds = Holds::new(vec![hold(HoldScopeKind::Channel, &["slack"], 50)]);
        let later = Hold {
            since: Timestamp::from_ms(NOW.as_ms() + 50),
            ..hold(HoldScopeKind::Channel, &["discord"], 90)
        };
        holds.set(later.clone());
        assert_eq!(holds.all(NOW), std::slice::from_ref(&later));
        holds.clear(&later.scope, later.cause);
        assert!(!holds.is_any.load(Ordering::Acquire));
    }
}
