//! What an operator or an embedding application may choose.

use crate::limits::Limits;
use crate::model::breaker::BreakerSettings;
use crate::model::missed::MissedPolicy;
use crate::model::rate_limit::Rates;
use crate::model::tenant::TenantSettings;
use std::time::Duration;

/// Everything that can be chosen about one relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bounds on sizes, counts and concurrency.
    pub limits: Limits,
    /// When to try again, by kind of failure.
    pub retry: RetrySchedules,
    /// Time between two looks at every active session. Of one at rest, only its files are compared.
    pub sweep_interval: Duration,
    /// Time between two looks at a running session whose folder cannot be watched, and between two looks at
    /// `v2.db` for new sessions.
    pub poll_interval: Duration,
    /// Whether session folders are watched for commits.
    pub watch: Watch,
    /// What a recorded attempt and outcome survive.
    pub durability: Durability,
    /// What happens to a message whose declared attachment is missing or refused.
    pub missing_attachment: MissingAttachment,
    /// IANA name of the time zone in which recurrences are read.
    pub timezone: String,
    /// What is done about runs of recurring tasks that were missed, unless a task says otherwise.
    pub missed_runs: MissedPolicy,
    /// A claim older than this, without a heartbeat since, is stale.
    pub claim_stale_after: Duration,
    /// An agent without a heartbeat for this long is stopped.
    pub heartbeat_ceiling: Duration,
    /// How long an agent may take from its start to its first heartbeat.
    pub agent_start_grace: Duration,
    /// How long an agent may run without work before it is stopped; `None` = it is never stopped for that.
    pub agent_idle_after: Option<Duration>,
    /// How often a message's stale claim is reset before the message counts as failed.
    pub claim_tries_max: u32,
    /// Whether the notice of a message that was given up wakes its agent. A tenant may say otherwise.
    pub wake_on_failure: bool,
    /// What the ledger keeps of messages that are settled.
    pub retention: Retention,
    /// Who shares the channels. An agent group of no tenant is a tenant of its own.
    pub tenants: Vec<TenantSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            retry: RetrySchedules::default(),
            sweep_interval: Duration::from_secs(60),
            poll_interval: Duration::from_secs(1),
            watch: Watch::Auto,
            durability: Durability::Power,
            missing_attachment: MissingAttachment::Dead,
            timezone: "UTC".to_owned(),
            missed_runs: MissedPolicy::default(),
            claim_stale_after: Duration::from_secs(60),
            heartbeat_ceiling: Duration::from_secs(30 * 60),
            agent_start_grace: Duration::from_secs(60),
            agent_idle_after: Some(Duration::from_secs(600)),
            claim_tries_max: 5,
            tenants: Vec::new(),
            wake_on_failure: false,
            retention: Retention::default(),
        }
    }
}

/// What the ledger keeps of messages that are settled. A message that is not settled is always kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// How long a delivered message is kept.
    pub keep_settled: Duration,
    /// How long a dead, held or ambiguous message is kept.
    pub keep_dead: Duration,
    /// Most dead, held and ambiguous messages of one session; the oldest go first.
    pub dead_per_session_max: u64,
    /// How long the history of tasks is kept.
    pub keep_runs: Duration,
    /// Most runs in the history of one session; the oldest go first.
    pub runs_per_session_max: u64,
    /// How long it is kept who changed what.
    pub keep_audit: Duration,
    /// Most changes that are kept; the oldest go first.
    pub audit_rows_max: u64,
    /// Size of the ledger above which delivered messages go earlier, but not within their first hour.
    pub size_bytes_max: u64,
}

impl Default for Retention {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            keep_settled: 30 * day,
            keep_dead: 90 * day,
            dead_per_session_max: 10_000,
            keep_runs: 90 * day,
            runs_per_session_max: 10_000,
            keep_audit: 365 * day,
            audit_rows_max: 100_000,
            size_bytes_max: 4 << 30,
        }
    }
}

/// Whether session folders are watched for commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Watched where the file system tells about changes, polled elsewhere.
    Auto,
    /// Never watched.
    Poll,
}

/// What a recorded attempt and outcome survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power loss: attempts are synced to the disk before the send (beside it in a channel that sends again what is
    /// unknown), outcomes with the next sync. A message whose
    /// outcome was not synced yet is ambiguous after a power loss, or sent again where that is allowed.
    Power,
    /// A killed process: records reach the kernel, nothing is synced.
    Process,
}

/// What happens to a message whose declared attachment is missing or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingAttachment {
    /// The message is dead, with a reason.
    Dead,
    /// The message goes out without that file.
    SendWithout,
}

/// When to try again, by kind of failure. Kinds that are not here are never retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedules {
    /// After [`crate::model::error::SendError::RateLimited`].
    pub rate_limited: RetrySchedule,
    /// After [`crate::model::error::SendError::Transient`], and after an ambiguous send that may be repeated.
    pub transient: RetrySchedule,
    /// After [`crate::model::error::SendError::Unauthorized`].
    pub unauthorized: RetrySchedule,
    /// After [`crate::model::error::SendError::Unavailable`].
    pub unavailable: RetrySchedule,
}

impl Default for RetrySchedules {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        let day = 24 * hour;
        let schedule = |attempts_max, base, delay_max| RetrySchedule {
            attempts_max,
            base,
            delay_max,
            give_up_after: day,
        };
        Self {
            rate_limited: schedule(None, Duration::from_secs(1), hour),
            transient: schedule(Some(10), Duration::from_secs(1), hour / 4),
            unauthorized: schedule(None, Duration::from_secs(60), hour),
            unavailable: RetrySchedule {
                give_up_after: 7 * day,
                ..schedule(None, Duration::from_secs(5), hour / 12)
            },
        }
    }
}

/// Exponential backoff with full jitter, bounded by attempts and by age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySchedule {
    /// Most attempts, the first included; `None` = no bound by count.
    pub attempts_max: Option<u32>,
    /// Upper bound of the first delay; it doubles with each attempt.
    pub base: Duration,
    /// Upper bound of every delay. A platform's hint may be longer and is kept.
    pub delay_max: Duration,
    /// Age of a message, since the relay first saw it due, after which it is given up.
    pub give_up_after: Duration,
}

/// What can be chosen about one channel account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSettings {
    /// What to do with a message of which it is unknown whether it was sent.
    pub on_ambiguous: OnAmbiguous,
    /// What a lane does while its first message is tried again.
    pub on_block: OnBlock,
    /// How fast it may be sent to.
    pub rates: Rates,
    /// When its breakers open.
    pub breaker: BreakerSettings,
    /// When to try again; `None` = as in [`Settings::retry`].
    pub retry: Option<RetrySchedules>,
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            on_ambiguous: OnAmbiguous::Auto,
            on_block: OnBlock::Wait,
            rates: Rates::default(),
            breaker: BreakerSettings::default(),
            retry: None,
        }
    }
}

/// What to do with a message of which it is unknown whether it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAmbiguous {
    /// Send again when the platform recognises the idempotency key, ask first when it can be asked, hold otherwise.
    Auto,
    /// Send again. The receiver may see it twice.
    Resend,
    /// Ask the platform first, and send again only when it does not have the message. Needs an adapter that can ask.
    Reconcile,
    /// Keep it as `ambiguous` until an operator decides. The lane goes on.
    Hold,
}

/// What a lane does while its first message is tried again. Only failures of the message itself count; a limit of the
/// account or the chat, refused credentials and a channel that is down make every lane wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBlock {
    /// It waits. The only choice that keeps the order.
    Wait,
    /// After so many attempts the message is `held`, until an operator replays it, and the lane goes on.
    ParkAfter(u32),
    /// It goes on; the message is tried again at its time.
    Skip,
}
