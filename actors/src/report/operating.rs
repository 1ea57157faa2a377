//! What operators see of channels and tenants.

use super::HoldRecord;
use serde::{Deserialize, Serialize};

/// A channel account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ChannelRecord {
    /// The channel type that it serves; `*` = every type without an account of its own.
    pub name: String,
    /// Whether it recognises repeats: `native_key`, `reconcile` (it can be asked) or `none`.
    pub idempotency: String,
    /// What is done with a message of which it is unknown whether it was sent: `resend`, `reconcile` or `hold`.
    pub on_ambiguous: String,
    /// What a lane does while its first message is tried again: `wait`, `park-after:N` or `skip`.
    pub on_block: String,
    /// Messages in its lanes, those on their way included; null while its actor is restarted.
    pub queued: Option<u64>,
    /// Sends on their way; null while its actor is restarted.
    pub in_flight: Option<u64>,
    /// Lanes that a pause, a breaker or a limit of their own holds back; null while its actor is restarted.
    pub lanes_held_back: Option<u64>,
    /// Why nothing at all is sent; null when something is.
    pub blocked_by: Option<String>,
    /// When that ends, RFC 3339 UTC; null also when nobody knows.
    pub blocked_until: Option<String>,
    /// The breaker of the whole channel.
    pub breaker: BreakerRecord,
    /// How fast the whole channel may be sent to; null = no limit of ours.
    pub rate: Option<RateRecord>,
    /// How fast each chat may be sent to; null = no limit of ours.
    pub destination_rate: Option<RateRecord>,
    /// Calls of its adapter since the start.
    pub attempts: u64,
    /// Of those, the ones that failed.
    pub failed: u64,
}

/// A breaker: whether sending is given up for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BreakerRecord {
    /// Whether nothing is sent because of it.
    pub is_open: bool,
    /// Until when, RFC 3339 UTC.
    pub until: Option<String>,
    /// Failures in a row after which it opens; 0 = never.
    pub failures: u32,
}

/// A limit of sends in a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RateRecord {
    /// Sends a second, on average.
    pub per_second: f64,
    /// Sends at once after a pause.
    pub burst: u32,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TenantRecord {
    /// Its name.
    pub name: String,
    /// The agent groups of `v2.db` that belong to it.
    pub agent_groups: Vec<String>,
    /// Its share of a channel, relative to the others.
    pub weight: u32,
    /// Most of its sends at a time in one channel; null = as many as the channel has.
    pub in_flight_max: Option<u64>,
    /// Its sessions.
    pub sessions: u64,
    /// Its messages that wait to be sent.
    pub waiting: u64,
    /// When its pause ends by itself, RFC 3339 UTC; null also when it is not paused.
    pub paused_until: Option<String>,
    /// The pause of it; null when it is not paused.
    pub hold: Option<HoldRecord>,
}
