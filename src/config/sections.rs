//! The sections of the configuration as types. `default.toml` holds every key: nothing here has a default.

use super::runtime::RuntimeSection;
use super::server::ServerSection;
use super::units::{attempts, count, duration, optional_count, size};
use crate::channels::web::WebChatSettings;
use nanorelay_actors::limits::Limits;
use nanorelay_actors::model::missed::{MissedPolicy, MissedRuns};
use nanorelay_actors::model::tenant::TenantSettings;
use nanorelay_actors::settings::{
    Durability, MissingAttachment, Retention, RetrySchedule, RetrySchedules, Settings, Watch,
};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::collections::BTreeMap;
use std::time::Duration;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Everything but the channels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sections {
    delivery: DeliverySection,
    retry: RetrySection,
    sweep: SweepSection,
    tasks: TasksSection,
    limits: LimitsSection,
    ledger: LedgerSection,
    tenants: BTreeMap<String, TenantKeys>,
    pub runtime: RuntimeSection,
    pub server: ServerSection,
    pub web_chat: WebChatSection,
    pub log: LogConfig,
    pub shutdown: ShutdownSection,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeliverySection {
    watch: WatchName,
    #[serde(deserialize_with = "duration::<_, 50, HOUR>")]
    poll_interval: Duration,
    durability: DurabilityName,
    missing_attachment: MissingAttachmentName,
    #[serde(deserialize_with = "duration::<_, SECOND, { 10 * MINUTE }>")]
    send_timeout: Duration,
    #[serde(deserialize_with = "count::<_, _, 1, 10_000>")]
    in_flight_per_channel: usize,
    wake_on_failure: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WatchName {
    Auto,
    Poll,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DurabilityName {
    Power,
    Process,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MissingAttachmentName {
    Dead,
    SendWithout,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantKeys {
    agent_groups: Vec<String>,
    #[serde(default = "weight_default", deserialize_with = "count::<_, _, 1, 1000>")]
    weight: u32,
    #[serde(default, deserialize_with = "optional_count::<_, _, 1, 10_000>")]
    in_flight: Option<usize>,
    #[serde(default)]
    wake_on_failure: Option<bool>,
    #[serde(default, deserialize_with = "optional_time_zone")]
    timezone: Option<String>,
}

fn weight_default() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetrySection {
    rate_limited: RetryKeys,
    transient: RetryKeys,
    unauthorized: RetryKeys,
    unavailable: RetryKeys,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryKeys {
    #[serde(deserialize_with = "attempts")]
    attempts: Option<u32>,
    #[serde(deserialize_with = "duration::<_, 10, HOUR>")]
    base: Duration,
    #[serde(deserialize_with = "duration::<_, 10, { 7 * DAY }>")]
    max: Duration,
    #[serde(deserialize_with = "duration::<_, SECOND, { 365 * DAY }>")]
    give_up_after: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SweepSection {
    #[serde(deserialize_with = "duration::<_, SECOND, HOUR>")]
    interval: Duration,
    #[serde(deserialize_with = "duration::<_, SECOND, DAY>")]
    claim_stale_after: Duration,
    #[serde(deserialize_with = "duration::<_, { 10 * SECOND }, { 7 * DAY }>")]
    heartbeat_ceiling: Duration,
    #[serde(deserialize_with = "count::<_, _, 1, 100>")]
    claim_tries: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TasksSection {
    #[serde(deserialize_with = "time_zone")]
    timezone: String,
    missed: MissedRuns,
    #[serde(deserialize_with = "duration::<_, SECOND, DAY>")]
    missed_after: Duration,
    #[serde(deserialize_with = "count::<_, _, 1, 24>")]
    catch_up: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsSection {
    #[serde(deserialize_with = "size::<_, KIB, { 8 * MIB }>")]
    content_bytes: u64,
    #[serde(deserialize_with = "count::<_, _, 0, 1000>")]
    attachments: usize,
    #[serde(deserialize_with = "size::<_, 0, { 16 * GIB }>")]
    attachment_bytes: u64,
    #[serde(deserialize_with = "size::<_, 0, { 64 * GIB }>")]
    attachments_total_bytes: u64,
    #[serde(deserialize_with = "count::<_, _, 1, 200>")]
    attachment_name_bytes: usize,
    #[serde(deserialize_with = "count::<_, _, 1, 10_000>")]
    attachments_per_session: usize,
    #[serde(deserialize_with = "size::<_, 0, { 64 * GIB }>")]
    attachment_bytes_per_session: u64,
    #[serde(deserialize_with = "count::<_, _, 0, 1_000_000>")]
    tasks_per_session: usize,
    #[serde(deserialize_with = "count::<_, _, 0, 100_000_000>")]
    tasks_per_agent_group: usize,
    #[serde(deserialize_with = "count::<_, _, 0, 1_000_000>")]
    agent_messages_per_minute: usize,
    #[serde(deserialize_with = "count::<_, _, 1, 1_000_000>")]
    agent_hops: u32,
    #[serde(deserialize_with = "count::<_, _, 256, 1_000_000>")]
    backlog_per_session: u64,
    #[serde(deserialize_with = "count::<_, _, 1, 512>")]
    blocking: usize,
}

/// What is kept of the chats in the browser.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebChatSection {
    #[serde(deserialize_with = "duration::<_, HOUR, { 3650 * DAY }>")]
    keep: Duration,
    #[serde(deserialize_with = "count::<_, _, 100, 10_000_000>")]
    entries_per_chat: u64,
    #[serde(deserialize_with = "size::<_, 0, { 256 * MIB }>")]
    attachment_bytes: u64,
    #[serde(deserialize_with = "size::<_, MIB, { 1024 * GIB }>")]
    size: u64,
}

impl WebChatSection {
    pub fn settings(&self) -> WebChatSettings {
        WebChatSettings {
            keep: self.keep,
            entries_per_chat: self.entries_per_chat,
            attachment_bytes: self.attachment_bytes,
            size_bytes: self.size,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerSection {
    #[serde(deserialize_with = "duration::<_, HOUR, { 3650 * DAY }>")]
    keep_settled: Duration,
    #[serde(deserialize_with = "duration::<_, HOUR, { 3650 * DAY }>")]
    keep_dead: Duration,
    #[serde(deserialize_with = "count::<_, _, 1, 1_000_000>")]
    dead_per_session: u64,
    #[serde(deserialize_with = "duration::<_, HOUR, { 3650 * DAY }>")]
    keep_runs: Duration,
    #[serde(deserialize_with = "count::<_, _, 1, 1_000_000>")]
    runs_per_session: u64,
    #[serde(deserialize_with = "duration::<_, HOUR, { 3650 * DAY }>")]
    keep_audit: Duration,
    #[serde(deserialize_with = "count::<_, _, 100, 10_000_000>")]
    audit_rows: u64,
    #[serde(deserialize_with = "size::<_, MIB, { 1024 * GIB }>")]
    size: u64,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Records below this level are left out.
    pub level: LogLevel,
    /// How a record is written.
    pub format: LogFormat,
}

/// A level of importance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// The host cannot go on.
    Critical,
    /// Something failed that should not.
    Error,
    /// Something needs a look.
    #[serde(alias = "warn")]
    Warning,
    /// What a running host does.
    Info,
    /// Why it does so.
    Debug,
    /// Every step.
    Trace,
}

/// How a log record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShutdownSection {
    #[serde(deserialize_with = "duration::<_, 0, { 10 * MINUTE }>")]
    pub deadline: Duration,
}

impl Sections {
    /// The engine's part.
    pub fn settings(&self) -> Settings {
        let Self { delivery, retry, sweep, tasks, limits, ledger, tenants, runtime, .. } = self;
        Settings {
            limits: Limits {
                content_bytes_max: limits.content_bytes,
                attachments_max: limits.attachments,
                attachment_bytes_max: limits.attachment_bytes,
                attachments_total_bytes_max: limits.attachments_total_bytes,
                attachment_name_bytes_max: limits.attachment_name_bytes,
                attachments_per_session_max: limits.attachments_per_session,
                attachment_bytes_per_session_max: limits.attachment_bytes_per_session,
                tasks_per_session_max: limits.tasks_per_session,
                tasks_per_agent_group_max: limits.tasks_per_agent_group,
                agent_messages_per_minute_max: limits.agent_messages_per_minute,
                agent_hops_max: limits.agent_hops,
                backlog_per_session_max: limits.backlog_per_session,
                blocking_max: limits.blocking,
                in_flight_per_channel_max: delivery.in_flight_per_channel,
                send_timeout: delivery.send_timeout,
            },
            retry: retry.schedules(),
            sweep_interval: sweep.interval,
            poll_interval: delivery.poll_interval,
            watch: match delivery.watch {
                WatchName::Auto => Watch::Auto,
                WatchName::Poll => Watch::Poll,
            },
            durability: match delivery.durability {
                DurabilityName::Power => Durability::Power,
                DurabilityName::Process => Durability::Process,
            },
            missing_attachment: match delivery.missing_attachment {
                MissingAttachmentName::Dead => MissingAttachment::Dead,
                MissingAttachmentName::SendWithout => MissingAttachment::SendWithout,
            },
            wake_on_failure: delivery.wake_on_failure,
            timezone: tasks.timezone.clone(),
            missed_runs: MissedPolicy {
                runs: tasks.missed,
                late_after: tasks.missed_after,
                catch_up_max: tasks.catch_up,
            },
            claim_stale_after: sweep.claim_stale_after,
            heartbeat_ceiling: sweep.heartbeat_ceiling,
            agent_start_grace: runtime.start_grace,
            agent_idle_after: runtime.idle_stop,
            claim_tries_max: sweep.claim_tries,
            retention: Retention {
                keep_settled: ledger.keep_settled,
                keep_dead: ledger.keep_dead,
                dead_per_session_max: ledger.dead_per_session,
                keep_runs: ledger.keep_runs,
                runs_per_session_max: ledger.runs_per_session,
                keep_audit: ledger.keep_audit,
                audit_rows_max: ledger.audit_rows,
                size_bytes_max: ledger.size,
            },
            tenants: tenants.iter().map(|(name, keys)| keys.settings(name)).collect(),
        }
    }
}

impl TenantKeys {
    fn settings(&self, name: &str) -> TenantSettings {
        TenantSettings {
            name: name.to_owned(),
            agent_groups: self.agent_groups.clone(),
            weight: self.weight,
            in_flight_max: self.in_flight,
            wake_on_failure: self.wake_on_failure,
            timezone: self.timezone.clone(),
        }
    }
}

impl RetrySection {
    pub fn schedules(&self) -> RetrySchedules {
        RetrySchedules {
            rate_limited: self.rate_limited.schedule(),
            transient: self.transient.schedule(),
            unauthorized: self.unauthorized.schedule(),
            unavailable: self.unavailable.schedule(),
        }
    }
}

impl RetryKeys {
    fn schedule(&self) -> RetrySchedule {
        RetrySchedule {
            attempts_max: self.attempts,
            base: self.base,
            delay_max: self.max,
            give_up_after: self.give_up_after,
        }
    }
}

fn optional_time_zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    time_zone(deserializer).map(Some)
}

fn time_zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    match jiff::tz::TimeZone::get(&name) {
        Ok(_) => Ok(name),
        Err(_) => Err(de::Error::custom(format!("{name:?} is not a known IANA time zone"))),
    }
}
