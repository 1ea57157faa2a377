//! What alerts ask for: what is so now, and what happens rarely. The first is put in when somebody reads the metrics.

use crate::report::Standing;
use crate::store::error::StoreError;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Upper bounds of the histogram of how late tasks begin, in seconds.
const LATENESS_SECONDS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 86400.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCause {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFile {
    file: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByChannel {
    channel: String,
}

/// What is read from elsewhere when the metrics are asked for.
#[derive(Debug, Default)]
pub struct Readings {
    /// How things stand; none when the ledger could not be read: then the numbers stay as they were.
    pub standing: Option<Standing>,
    /// Seconds for which the oldest message waits; 0 when none does.
    pub oldest_seconds: f64,
    /// When the relay was started, in seconds since 1970.
    pub started_seconds: f64,
    /// Holds by their cause; every cause is listed.
    pub holds: Vec<(&'static str, u64)>,
    /// Channel accounts: the name, how many messages wait for it, and whether it is blocked.
    pub channels: Vec<(String, u64, bool)>,
    /// Session actors that live, and folders that are watched; none while the registry is being restarted.
    pub registry: Option<(u64, u64)>,
    /// When the last sweep ended, in seconds since 1970.
    pub last_sweep_seconds: Option<f64>,
}

/// Metrics beside the counts of messages.
#[derive(Debug)]
pub struct Conditions {
    undelivered: Family<ByState, Gauge>,
    oldest_undelivered_seconds: Gauge<f64, AtomicU64>,
    holds: Family<ByCause, Gauge>,
    channel_waiting: Family<ByChannel, Gauge>,
    channel_blocked: Family<ByChannel, Gauge>,
    sessions: Family<ByState, Gauge>,
    session_actors: Gauge,
    watched_folders: Gauge,
    last_sweep_seconds: Gauge<f64, AtomicU64>,
    started_seconds: Gauge<f64, AtomicU64>,
    watch_overflows: Counter,
    sqlite_busy: Family<ByFile, Counter>,
    task_lateness: Histogram,
}

impl Conditions {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let made = Self {
            undelivered: Family::default(),
            oldest_undelivered_seconds: Gauge::default(),
            holds: Family::default(),
            channel_waiting: Family::default(),
            channel_blocked: Family::default(),
            sessions: Family::default(),
            session_actors: Gauge::default(),
            watched_folders: Gauge::default(),
            last_sweep_seconds: Gauge::default(),
            started_seconds: Gauge::default(),
            watch_overflows: Counter::default(),
            sqlite_busy: Family::default(),
            task_lateness: Histogram::new(LATENESS_SECONDS),
        };
        made.register_what_is_so(registry);
        made.register_what_happens(registry);
        made
    }

    fn register_what_is_so(&self, registry: &mut Registry) {
        registry.register(
            "undelivered",
            "Messages that are not delivered, by state",
            self.undelivered.clone(),
        );
        let help = "Seconds for which the oldest message that is due waits, 0 when none does";
        registry.register("oldest_undelivered_seconds", help, self.oldest_undelivered_seconds.clone());
        registry.register(
            "holds",
            "Pauses, limits of platforms and refused credentials in force",
            self.holds.clone(),
        );
        let help = "Messages in memory that wait for a channel account";
        registry.register("channel_waiting", help, self.channel_waiting.clone());
        let help = "Whether a channel account sends nothing at the moment: 1 = blocked";
        registry.register("channel_blocked", help, self.channel_blocked.clone());
        registry.register("sessions", "Sessions in v2.db, by state", self.sessions.clone());
        registry.register("session_actors", "Sessions that are at work", self.session_actors.clone());
        registry.register(
            "watched_folders",
            "Session folders whose changes are heard of",
            self.watched_folders.clone(),
        );
        let help = "When the last sweep ended, in seconds since 1970; 0 before the first one";
        registry.register("sweep_last_success_timestamp_seconds", help, self.last_sweep_seconds.clone());
        let help = "When the host was started, in seconds since 1970";
        registry.register("start_time_seconds", help, self.started_seconds.clone());
    }

    fn register_what_happens(&self, registry: &mut Registry) {
        let help = "Times that file events were lost, and all sessions looked at";
        registry.register("watch_overflows", help, self.watch_overflows.clone());
        let help = "Steps that failed because an agent held the lock of its file for too long";
        registry.register("sqlite_busy", help, self.sqlite_busy.clone());
        let help = "How late runs of tasks began";
        registry.register_with_unit("task_lateness", help, Unit::Seconds, self.task_lateness.clone());
        registry.register("build", "The version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        for file in ["outbound.db", "inbound.db"] {
            // Listed from the start: rates of it are 0, not absent.
            drop(self.sqlite_busy.get_or_create(&ByFile { file }));
        }
    }

    /// Counts lost file events.
    pub fn count_watch_overflow(&self) {
        self.watch_overflows.inc();
    }

    /// Counts a step that found a session's file locked; other errors are not counted.
    pub fn count_if_busy(&self, error: &StoreError) {
        let StoreError::Busy(name) = error else { return };
        let file = if name.contains("outbound") { "outbound.db" } else { "inbound.db" };
        self.sqlite_busy.get_or_create(&ByFile { file }).inc();
    }

    /// Notes how late a run began.
    pub fn note_lateness(&self, late: Duration) {
        self.task_lateness.observe(late.as_secs_f64());
    }

    /// Takes what was read elsewhere.
    pub fn take(&self, readings: &Readings) {
        if let Some(standing) = &readings.standing {
            for (state, count) in standing.counts.by_name() {
                self.undelivered.get_or_create(&ByState { state }).set(gauge(count));
            }
            let sessions = standing.sessions;
            for (state, count) in [
                ("active", sessions.active),
                ("closed", sessions.total.saturating_sub(sessions.active)),
                ("running", sessions.running),
                ("quarantined", sessions.quarantined),
            ] {
                self.sessions.get_or_create(&ByState { state }).set(gauge(count));
            }
            self.oldest_undelivered_seconds.set(readings.oldest_seconds);
        }
        for (cause, count) in &readings.holds {
            self.holds.get_or_create(&ByCause { cause }).set(gauge(*count));
        }
        for (channel, waiting, is_blocked) in &readings.channels {
            let label = ByChannel { channel: channel.clone() };
            self.channel_waiting.get_or_create(&label).set(gauge(*waiting));
            self.channel_blocked.get_or_create(&label).set(i64::from(*is_blocked));
        }
        if let Some((living, watched)) = readings.registry {
            self.session_actors.set(gauge(living));
            self.watched_folders.set(gauge(watched));
        }
        self.started_seconds.set(readings.started_seconds);
        if let Some(seconds) = readings.last_sweep_seconds {
            self.last_sweep_seconds.set(seconds);
        }
    }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
