//! What a running host says of itself.

use nanorelay_actors::channel::ChannelSnapshot;
use nanorelay_actors::relay::{OperationError, Relay};
use nanorelay_actors::report::{HoldRecord, Standing};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

/// How far back the lag is told.
const LAG_OVER: Duration = Duration::from_secs(300);
/// Holds that are listed; there may be one for every chat.
const HOLDS_LISTED_MAX: usize = 100;

/// Where the HTTP API of a relay listens, once it does.
#[derive(Debug, Default)]
pub struct HttpAddress(OnceLock<SocketAddr>);

impl HttpAddress {
    /// Notes that the API of this relay listens.
    pub fn note(relay: &Relay, address: SocketAddr) {
        // A relay is served once; a second address is not the first one's business.
        let _ = relay.extension(Self::default).0.set(address);
    }

    fn of(relay: &Relay) -> Option<SocketAddr> {
        relay.extension(Self::default).0.get().copied()
    }
}

/// A running host at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its process.
    pub process_id: u32,
    /// Its version.
    pub version: String,
    /// When it was started.
    pub started_at: String,
    /// When it said this.
    pub now: String,
    /// For how long it runs, in milliseconds.
    pub uptime_ms: u64,
    /// Where its HTTP API and its dashboard listen; none = they are off.
    pub http_address: Option<String>,
    /// Counts since its start.
    pub totals: Totals,
    /// How late messages came within the last minutes; none when none came.
    pub lag: Option<LagTold>,
    /// What waits and what fails.
    #[serde(flatten)]
    pub standing: Standing,
    /// Its channel accounts.
    pub channels: Vec<ChannelStatus>,
    /// What holds sends back, the oldest first; no more than a hundred.
    pub holds: Vec<HoldRecord>,
    /// How many holds there are.
    pub holds_total: u64,
    /// Sessions that are at work.
    pub session_actors: u64,
    /// Session folders whose changes are heard of.
    pub watched_folders: u64,
}

/// Counts since a host was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Messages that channels accepted.
    pub delivered: u64,
    /// System actions applied.
    pub applied: u64,
    /// Messages handed to other agents.
    pub routed: u64,
    /// Messages given up.
    pub dead: u64,
    /// Calls of adapters.
    pub attempts: u64,
}

/// How late messages came, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagTold {
    /// Half of them at most so late.
    pub p50_ms: u64,
    /// All but a hundredth of them.
    pub p99_ms: u64,
}

/// A channel account at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Messages in memory that wait for it, those on their way included.
    pub queued: u64,
    /// Sends on their way.
    pub in_flight: u64,
    /// Lanes that something of their own holds back.
    pub lanes_held_back: u64,
    /// Why nothing at all is sent; none when something is.
    pub blocked_by: Option<String>,
    /// Milliseconds since 1970 before which nothing is sent.
    pub blocked_until_ms: Option<i64>,
}

impl From<ChannelSnapshot> for ChannelStatus {
    fn from(snapshot: ChannelSnapshot) -> Self {
        Self {
            name: snapshot.name,
            queued: snapshot.queued as u64,
            in_flight: snapshot.in_flight as u64,
            lanes_held_back: snapshot.lanes_held_back as u64,
            blocked_by: snapshot.blocked_by,
            blocked_until_ms: snapshot.blocked_until_ms,
        }
    }
}

impl HostStatus {
    /// Asks a relay of this process.
    pub async fn of(relay: &Relay) -> Result<Self, OperationError> {
        let standing = relay.standing().await?;
        let counted = relay.statistics();
        let mut holds = relay.holds();
        let holds_total = holds.len() as u64;
        holds.truncate(HOLDS_LISTED_MAX);
        let registry = relay.registry_snapshot().await;
        let (started_at, now) = (relay.started_at(), relay.now());
        Ok(Self {
            process_id: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: started_at.to_iso(),
            now: now.to_iso(),
            uptime_ms: u64::try_from(now.since(started_at).as_millis()).unwrap_or(u64::MAX),
            http_address: HttpAddress::of(relay).map(|address| address.to_string()),
            totals: Totals {
                delivered: counted.delivered,
                applied: counted.applied,
                routed: counted.routed,
                dead: counted.dead,
                attempts: counted.attempts,
            },
            lag: relay.lag(LAG_OVER).map(|lag| LagTold { p50_ms: lag.p50_ms, p99_ms: lag.p99_ms }),
            standing,
            channels: relay.channel_snapshots().await.into_iter().map(ChannelStatus::from).collect(),
            holds,
            holds_total,
            session_actors: registry.as_ref().map_or(0, |registry| registry.living as u64),
            watched_folders: registry.as_ref().map_or(0, |registry| registry.watched as u64),
        })
    }
}
