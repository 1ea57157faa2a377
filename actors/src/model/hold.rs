//! What holds sends back: an operator's pause, a platform's limit, refused credentials, a destination that is gone.
//!
//! A hold has a scope, a cause and an end. It is one record whatever made it: the ledger keeps it, the host has all
//! of them in memory, and every send asks here first.

use super::ids::{AgentGroupId, ChannelType, InvalidId, PlatformId, SessionId, TenantName, ThreadId};
use super::message::{Destination, KEY_SEPARATOR, Lane};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// What a hold covers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HoldScope {
    /// All messages of a tenant's sessions.
    Tenant(TenantName),
    /// All messages of a channel account, or of a channel type.
    Channel(ChannelType),
    /// All messages to one chat.
    Destination(ChannelType, PlatformId),
    /// All messages of a session.
    Session(SessionId),
    /// One lane of a session, by [`Lane::key`].
    Lane(SessionId, Arc<str>),
}

/// The kind of a [`HoldScope`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HoldScopeKind {
    /// See [`HoldScope::Tenant`].
    Tenant,
    /// See [`HoldScope::Channel`].
    Channel,
    /// See [`HoldScope::Destination`].
    Destination,
    /// See [`HoldScope::Session`].
    Session,
    /// See [`HoldScope::Lane`].
    Lane,
}

/// Why a text names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    /// Too few or too many parts.
    #[error("a {kind} is named by {expected}")]
    Parts {
        /// What was to be named.
        kind: HoldScopeKind,
        /// What names it.
        expected: &'static str,
    },
    /// A part is no id.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

impl HoldScopeKind {
    /// All kinds.
    pub const ALL: [HoldScopeKind; 5] = [
        HoldScopeKind::Tenant,
        HoldScopeKind::Channel,
        HoldScopeKind::Destination,
        HoldScopeKind::Session,
        HoldScopeKind::Lane,
    ];

    /// The kind as text, as in the ledger and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            HoldScopeKind::Tenant => "tenant",
            HoldScopeKind::Channel => "channel",
            HoldScopeKind::Destination => "destination",
            HoldScopeKind::Session => "session",
            HoldScopeKind::Lane => "lane",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The parts of a name, in words.
    fn expected(self) -> &'static str {
        match self {
            HoldScopeKind::Tenant => "its name",
            HoldScopeKind::Channel => "its channel type",
            HoldScopeKind::Destination => "its channel type and its platform id",
            HoldScopeKind::Session => "its id",
            HoldScopeKind::Lane => {
                "its session, channel type and platform id, and its thread id when it has one"
            }
        }
    }
}

impl fmt::Display for HoldScopeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl HoldScope {
    /// The scope that `parts` name. A lane is named by its session, its channel type, its platform id and, when it has
    /// one, its thread id; the lane to another agent by `agent` and the agent group.
    pub fn from_parts(kind: HoldScopeKind, parts: &[impl AsRef<str>]) -> Result<Self, InvalidScope> {
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        let scope = match (kind, &parts[..]) {
            (HoldScopeKind::Tenant, [name]) => Self::Tenant(TenantName::new(name)?),
            (HoldScopeKind::Channel, [name]) => Self::Channel(ChannelType::new(name)?),
            (HoldScopeKind::Destination, [channel, platform]) => {
                Self::Destination(ChannelType::new(channel)?, PlatformId::new(platform)?)
            }
            (HoldScopeKind::Session, [session]) => Self::Session(SessionId::new(session)?),
            (HoldScopeKind::Lane, [session, "agent", group]) => {
                let lane = Lane::Agent(AgentGroupId::new(group)?);
                Self::Lane(SessionId::new(session)?, Arc::from(lane.key()))
            }
            (HoldScopeKind::Lane, [session, channel, platform, thread @ ..]) if thread.len() <= 1 => {
                let lane = Lane::Channel(Destination {
                    channel_type: ChannelType::new(channel)?,
                    platform_id: PlatformId::new(platform)?,
                    thread_id: thread.first().map(|thread| ThreadId::new(thread)).transpose()?,
                });
                Self::Lane(SessionId::new(session)?, Arc::from(lane.key()))
            }
            _ => return Err(InvalidScope::Parts { kind, expected: kind.expected() }),
        };
        Ok(scope)
    }

    /// What kind of scope it is.
    pub fn kind(&self) -> HoldScopeKind {
        match self {
            HoldScope::Tenant(_) => HoldScopeKind::Tenant,
            HoldScope::Channel(_) => HoldScopeKind::Channel,
            HoldScope::Destination(..) => HoldScopeKind::Destination,
            HoldScope::Session(_) => HoldScopeKind::Session,
            HoldScope::Lane(..) => HoldScopeKind::Lane,
        }
    }

    /// The parts of its name, as [`HoldScope::from_parts`] reads them.
    pub fn parts(&self) -> Vec<String> {
        let text = |id: &dyn AsRef<str>| id.as_ref().to_owned();
        match self {
            HoldScope::Tenant(name) => vec![text(name)],
            HoldScope::Channel(name) => vec![text(name)],
            HoldScope::Destination(channel, platform) => vec![text(channel), text(platform)],
            HoldScope::Session(session) => vec![text(session)],
            HoldScope::Lane(session, key) => {
                // A lane without a thread has an empty last part.
                let names = key.strip_prefix("channel\u{1f}").unwrap_or(key).split(KEY_SEPARATOR);
                let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
                [text(session)].into_iter().chain(names).collect()
            }
        }
    }
}

impl fmt::Display for HoldScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.parts().join(" "))
    }
}

/// What made a hold. A scope has at most one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HoldCause {
    /// An operator's pause.
    Operator,
    /// The platform asked to wait.
    RateLimit,
    /// The platform refused the account's credentials.
    Unauthorized,
    /// The platform said that the destination is gone. Messages to it do not wait: they are dead.
    Gone,
}

impl HoldCause {
    /// All causes.
    pub const ALL: [HoldCause; 4] =
        [HoldCause::Operator, HoldCause::RateLimit, HoldCause::Unauthorized, HoldCause::Gone];

    /// The cause as text, as in the ledger and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            HoldCause::Operator => "operator",
            HoldCause::RateLimit => "rate_limit",
            HoldCause::Unauthorized => "unauthorized",
            HoldCause::Gone => "gone",
        }
    }

    /// The cause of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == name)
    }

    /// Whether an operator made it; else the platform did.
    pub fn is_operator(self) -> bool {
        self == HoldCause::Operator
    }
}

/// Nothing of a scope is sent for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// What it covers.
    pub scope: HoldScope,
    /// What made it.
    pub cause: HoldCause,
    /// When it ends; `None` = when it is resumed.
    pub until: Option<Timestamp>,
    /// In words.
    pub reason: String,
    /// When it was made.
    pub since: Timestamp,
}

impl Hold {
    /// Whether it is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// A change to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldChange {
    /// This is in force.
    Set(Hold),
    /// This is not.
    Clear(HoldScope, HoldCause),
}

/// Something may not be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// When it may be tried again; `None` = not before something else happens.
    pub until: Option<Timestamp>,
    /// In words.
    pub reason: String,
}

impl Blocked {
    /// Of two, the one that lasts longer.
    pub fn longer(self, other: Option<Blocked>) -> Blocked {
        match other {
            Some(other) if outlasts(other.until, self.until) => other,
            _ => self,
        }
    }
}

/// Whether `a` ends later than `b`; without an end is latest.
fn outlasts(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    match (a, b) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(a), Some(b)) => a > b,
    }
}

/// All holds of one host.
#[derive(Debug, Default)]
pub struct HoldTable {
    holds: HashMap<HoldScope, Vec<Hold>>,
}

impl HoldTable {
    /// Adds a hold. An operator's replaces the one before; a platform's never ends earlier than the one before.
    /// Returns the hold that is now in force, and whether the scope may be free earlier than it was.
    pub fn set(&mut self, mut hold: Hold) -> (Hold, bool) {
        let of_scope = self.holds.entry(hold.scope.clone()).or_default();
        let Some(known) = of_scope.iter_mut().find(|known| known.cause == hold.cause) else {
            of_scope.push(hold.clone());
            return (hold, false);
        };
        let is_shorter = outlasts(known.until, hold.until);
        if is_shorter && !hold.cause.is_operator() {
            hold.until = known.until;
        }
        known.clone_from(&hold);
        (hold, is_shorter)
    }

    /// Ends a hold. Returns whether there was one.
    pub fn clear(&mut self, scope: &HoldScope, cause: HoldCause) -> bool {
        let Some(of_scope) = self.holds.get_mut(scope) else { return false };
        let before = of_scope.len();
        of_scope.retain(|hold| hold.cause != cause);
        let is_cleared = of_scope.len() < before;
        if of_scope.is_empty() {
            self.holds.remove(scope);
        }
        is_cleared
    }

    /// What keeps a scope waiting, and for how long.
    pub fn blocked(&self, scope: &HoldScope, now: Timestamp) -> Option<Blocked> {
        let waits = |hold: &&Hold| hold.cause != HoldCause::Gone && !hold.is_over(now);
        self.holds.get(scope)?.iter().filter(waits).fold(None, |longest, hold| {
            Some(Blocked { until: hold.until, reason: in_words(hold) }.longer(longest))
        })
    }

    /// Whether the platform said a while ago that a destination is gone.
    pub fn is_gone(&self, scope: &HoldScope, now: Timestamp) -> bool {
        let is_gone = |hold: &Hold| hold.cause == HoldCause::Gone && !hold.is_over(now);
        self.holds.get(scope).is_some_and(|of_scope| of_scope.iter().any(is_gone))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// Drops what is over.
    pub fn forget_what_is_over(&mut self, now: Timestamp) {
        self.holds.retain(|_, of_scope| {
            of_scope.retain(|hold| !hold.is_over(now));
            !of_scope.is_empty()
        });
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values().flatten()
    }
}

/// Why something waits, as a list shows it.
fn in_words(hold: &Hold) -> String {
    let what = match hold.cause {
        HoldCause::Operator => "paused",
        HoldCause::RateLimit => "rate limited",
        HoldCause::Unauthorized => "credentials refused",
        HoldCause::Gone => "gone",
    };
    let kind = hold.scope.kind();
    if hold.reason.is_empty() { format!("{kind} {what}") } else { format!("{kind} {what}: {}", hold.reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn later(ms: i64) -> Option<Timestamp> {
        Some(Timestamp::from_ms(NOW.as_ms() + ms))
    }

    fn scope() -> HoldScope {
        HoldScope::from_parts(HoldScopeKind::Destination, &["slack", "slack:C1"]).unwrap()
    }

    fn hold(cause: HoldCause, until: Option<Timestamp>) -> Hold {
        Hold { scope: scope(), cause, until, reason: "a test".to_owned(), since: NOW }
    }

    #[test]
    fn every_scope_is_named_by_its_parts_and_read_again() {
        for (kind, parts) in [
            (HoldScopeKind::Tenant, &["acme"][..]),
            (HoldScopeKind::Channel, &["slack"]),
            (HoldScopeKind::Destination, &["slack", "slack:C1"]),
            (HoldScopeKind::Session, &["sess-1"]),
            (HoldScopeKind::Lane, &["sess-1", "slack", "slack:C1"]),
            (HoldScopeKind::Lane, &["sess-1", "slack", "slack:C1", "171.2"]),
            (HoldScopeKind::Lane, &["sess-1", "agent", "ag-helper"]),
        ] {
            let scope = HoldScope::from_parts(kind, parts).unwrap();
            assert_eq!(
                (scope.kind(), scope.parts()),
                (kind, parts.iter().map(|p| (*p).to_owned()).collect())
            );
            assert_eq!(HoldScopeKind::from_name(kind.as_str()), Some(kind));
        }
        for (kind, parts) in [
            (HoldScopeKind::Tenant, &[][..]),
            (HoldScopeKind::Channel, &["a", "b"]),
            (HoldScopeKind::Destination, &["slack"]),
            (HoldScopeKind::Session, &["../x"]),
            (HoldScopeKind::Lane, &["sess-1", "slack"]),
            (HoldScopeKind::Lane, &["sess-1", "slack", "c", "t", "more"]),
        ] {
            assert!(HoldScope::from_parts(kind, parts).is_err(), "{kind} {parts:?}");
        }
    }

    #[test]
    fn a_platforms_hold_is_never_shortened_and_an_operators_is_replaced() {
        let mut table = HoldTable::default();
        table.set(hold(HoldCause::RateLimit, later(1000)));
        let (in_force, _) = table.set(hold(HoldCause::RateLimit, later(10)));
        assert_eq!(in_force.until, later(1000));
        assert_eq!(table.blocked(&scope(), NOW).unwrap().until, later(1000));

        table.set(hold(HoldCause::Operator, None));
        assert_eq!(table.blocked(&scope(), NOW).unwrap().until, None, "the longest one counts");
        let (_, is_shorter) = table.set(hold(HoldCause::Operator, later(5)));
        assert!(is_shorter);
        assert_eq!(table.blocked(&scope(), NOW).unwrap().until, later(1000));
        assert!(table.clear(&scope(), HoldCause::RateLimit) && !table.clear(&scope(), HoldCause::RateLimit));
        assert_eq!(table.blocked(&scope(), NOW).unwrap().reason, "destination paused: a test");
    }

    #[test]
    fn a_hold_ends_by_itself_at_its_time_and_not_before() {
        let mut table = HoldTable::default();
        table.set(hold(HoldCause::Operator, later(1000)));
        assert!(table.blocked(&scope(), Timestamp::from_ms(NOW.as_ms() + 999)).is_some());
        let end = Timestamp::from_ms(NOW.as_ms() + 1000);
        assert_eq!(table.blocked(&scope(), end), None);
        table.forget_what_is_over(NOW);
        assert!(!table.is_empty());
        table.forget_what_is_over(end);
        assert!(table.is_empty());
    }

    #[test]
    fn what_is_gone_does_not_wait() {
        let mut table = HoldTable::default();
        table.set(hold(HoldCause::Gone, later(1000)));
        assert_eq!(table.blocked(&scope(), NOW), None);
        assert!(table.is_gone(&scope(), NOW) && !table.is_gone(&scope(), later(1000).unwrap()));
    }
}
