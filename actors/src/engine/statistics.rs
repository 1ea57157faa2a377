//! Counters of one run: for reports, and for monitoring in the OpenMetrics text format.
//!
//! Labels are bounded: a channel is named by its account, which the configuration lists, never by what an agent wrote.

use crate::engine::conditions::Conditions;
use crate::model::error::ErrorClass;
use crate::model::ids::ChannelType;
use crate::model::sweep_findings::UnheardCounts;
use crate::store::ledger::Effect;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde::Serialize;
use std::time::Duration;

/// Upper bounds of the histogram of delivery times, in seconds.
const DELIVERY_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0];

/// How an attempt can fail.
const ATTEMPT_CLASSES: [ErrorClass; 8] = [
    ErrorClass::RateLimited,
    ErrorClass::Transient,
    ErrorClass::Permanent,
    ErrorClass::DestinationGone,
    ErrorClass::Unauthorized,
    ErrorClass::Ambiguous,
    ErrorClass::Unavailable,
    ErrorClass::Attachment,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWhat {
    did: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByChannel {
    channel: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByClass {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByChannelAndClass {
    channel: String,
    class: &'static str,
}

/// Counts since the relay started.
#[derive(Debug)]
pub struct Statistics {
    registry: Registry,
    /// What alerts ask for.
    pub conditions: Conditions,
    delivered: Counter,
    applied: Counter,
    routed: Counter,
    merged: Counter,
    dead: Counter,
    attempts: Counter,
    attempts_by_channel: Family<ByChannel, Counter>,
    failed_attempts: Family<ByChannelAndClass, Counter>,
    dead_letters: Family<ByClass, Counter>,
    delivery_seconds: Family<ByChannel, Histogram, fn() -> Histogram>,
    sweep_event_missed: Counter,
    sweep_not_watched: Counter,
    sweep_closed: Counter,
    restarts: Counter,
    wakes: Counter,
    upkeep: [Counter; Upkeep::COUNT],
}

/// What a look after an agent came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// An acknowledgement was copied into the inbox.
    AckCopied,
    /// A stale claim was reset.
    ClaimReset,
    /// A message was given up: its claims went stale too often.
    GivenUp,
    /// An agent was stopped.
    AgentStopped,
    /// The next run of a series was planned.
    RunPlanned,
    /// A missed run was moved or left out.
    RunMoved,
}

impl Upkeep {
    /// In the order of the variants.
    const NAMES: [&'static str; Self::COUNT] =
        ["ack_copied", "claim_reset", "given_up", "agent_stopped", "run_planned", "run_moved"];
    const COUNT: usize = 6;
}

/// Counts of what looks after agents came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UpkeepCounts {
    /// Acknowledgements copied into inboxes.
    pub acks_copied: u64,
    /// Stale claims reset.
    pub claims_reset: u64,
    /// Messages given up because their claims went stale too often.
    pub given_up: u64,
    /// Agents stopped because they were stuck.
    pub agents_stopped: u64,
    /// Next runs of series planned.
    pub runs_planned: u64,
    /// Missed runs moved to a later time.
    pub runs_moved: u64,
}

/// A copy of the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StatisticsSnapshot {
    /// Messages that a channel accepted.
    pub delivered: u64,
    /// System actions applied.
    pub applied: u64,
    /// Messages handed to another agent.
    pub routed: u64,
    /// Edits and deletions that were carried out before their message was sent.
    pub merged: u64,
    /// Messages given up.
    pub dead: u64,
    /// Calls of an adapter.
    pub attempts: u64,
    /// Sessions in which a sweep found rows that nobody had told of, by the reason.
    pub sweep_found: UnheardCounts,
    /// Actors restarted after a panic.
    pub restarts: u64,
    /// Times the agent runtime was asked to wake an agent.
    pub wakes: u64,
    /// What looks after agents came to.
    pub upkeep: UpkeepCounts,
}

impl Default for Statistics {
    fn default() -> Self {
        let outcomes = Family::<ByOutcome, Counter>::default();
        let outcome = |outcome| outcomes.get_or_create(&ByOutcome { outcome }).clone();
        let sweeps = Family::<ByReason, Counter>::default();
        let swept = |reason| sweeps.get_or_create(&ByReason { reason }).clone();
        let upkeep = Family::<ByWhat, Counter>::default();
        let histogram: fn() -> Histogram = || Histogram::new(DELIVERY_SECONDS);
        let mut registry = Registry::with_prefix("nanorelay");
        let mut statistics = Self {
            conditions: Conditions::register(&mut registry),
            registry,
            delivered: outcome("delivered"),
            applied: outcome("applied"),
            routed: outcome("routed"),
            merged: outcome("merged"),
            dead: outcome("dead"),
            attempts: Counter::default(),
            attempts_by_channel: Family::default(),
            failed_attempts: Family::default(),
            dead_letters: Family::default(),
            delivery_seconds: Family::new_with_constructor(histogram),
            sweep_event_missed: swept("event_missed"),
            sweep_not_watched: swept("not_watched"),
            sweep_closed: swept("closed"),
            restarts: Counter::default(),
            wakes: Counter::default(),
            upkeep: Upkeep::NAMES.map(|did| upkeep.get_or_create(&ByWhat { did }).clone()),
        };
        statistics.register(outcomes, sweeps, upkeep);
        statistics
    }
}

impl Statistics {
    fn register(
        &mut self,
        outcomes: Family<ByOutcome, Counter>,
        sweeps: Family<ByReason, Counter>,
        upkeep: Family<ByWhat, Counter>,
    ) {
        let registry = &mut self.registry;
        registry.register("messages", "Messages settled, by outcome", outcomes);
        let attempts = self.attempts_by_channel.clone();
        registry.register("delivery_attempts", "Calls of an adapter, by channel account", attempts);
        let failed = self.failed_attempts.clone();
        registry.register("delivery_failed_attempts", "Attempts that failed, by class of the error", failed);
        let dead = self.dead_letters.clone();
        registry.register("dead_letters", "Messages given up, by class of the error", dead);
        let help = "Seconds from when the host heard of a message, or from when it was due, retries included, until \
                    its channel accepted it";
        registry.register("delivery_seconds", help, self.delivery_seconds.clone());
        registry.register("sweep_found", "What a sweep found that nobody had told of, by reason", sweeps);
        registry.register("upkeep", "What looks after agents came to", upkeep);
        registry.register("actor_restarts", "Actors restarted after a panic", self.restarts.clone());
        let help = "Times the agent runtime was asked to wake an agent";
        registry.register("agent_wakes", help, self.wakes.clone());
    }

    /// Counts a settled message.
    pub fn count_effect(&self, effect: Effect) {
        let counter = match effect {
            Effect::Delivered => &self.delivered,
            Effect::Applied => &self.applied,
            Effect::Routed => &self.routed,
            Effect::Merged => &self.merged,
        };
        counter.inc();
    }

    /// Counts a message that a channel accepted, so long after it was known of or due.
    pub fn count_delivered(&self, channel: &ChannelType, after: Duration) {
        self.count_effect(Effect::Delivered);
        let label = ByChannel { channel: channel.to_string() };
        self.delivery_seconds.get_or_create(&label).observe(after.as_secs_f64());
    }

    /// Counts a message given up.
    pub fn count_dead(&self, class: ErrorClass) {
        self.dead.inc();
        self.dead_letters.get_or_create(&ByClass { class: class.as_str() }).inc();
    }

    /// Counts a call of an adapter.
    pub fn count_attempt(&self, channel: &ChannelType) {
        self.attempts.inc();
        self.attempts_by_channel.get_or_create(&ByChannel { channel: channel.to_string() }).inc();
    }

    /// Counts an attempt that failed, whatever becomes of its message.
    pub fn count_failed_attempt(&self, channel: &ChannelType, class: ErrorClass) {
        let label = ByChannelAndClass { channel: channel.to_string(), class: class.as_str() };
        self.failed_attempts.get_or_create(&label).inc();
    }

    /// Calls of a channel's adapter, and how many of them failed.
    pub fn attempts_of(&self, channel: &ChannelType) -> (u64, u64) {
        let channel = channel.to_string();
        let failed = |class: ErrorClass| {
            let label = ByChannelAndClass { channel: channel.clone(), class: class.as_str() };
            self.failed_attempts.get(&label).map_or(0, |counter| counter.get())
        };
        let failed = ATTEMPT_CLASSES.into_iter().map(failed).sum();
        let label = ByChannel { channel: channel.clone() };
        (self.attempts_by_channel.get(&label).map_or(0, |counter| counter.get()), failed)
    }

    /// Counts what a sweep found that nobody had told of.
    pub fn count_sweep_found(&self, found: &UnheardCounts) {
        self.sweep_event_missed.inc_by(found.event_missed);
        self.sweep_not_watched.inc_by(found.not_watched);
        self.sweep_closed.inc_by(found.closed);
    }

    /// Counts what a look after an agent came to.
    pub fn count_upkeep(&self, what: Upkeep, count: usize) {
        self.upkeep[what as usize].inc_by(count as u64);
    }

    /// Counts a restarted actor.
    pub fn count_restart(&self) {
        self.restarts.inc();
    }

    /// Counts a wake.
    pub fn count_wake(&self) {
        self.wakes.inc();
    }

    /// The counters now.
    pub fn snapshot(&self) -> StatisticsSnapshot {
        let upkeep = |what: Upkeep| self.upkeep[what as usize].get();
        StatisticsSnapshot {
            delivered: self.delivered.get(),
            applied: self.applied.get(),
            routed: self.routed.get(),
            merged: self.merged.get(),
            dead: self.dead.get(),
            attempts: self.attempts.get(),
            sweep_found: UnheardCounts {
                event_missed: self.sweep_event_missed.get(),
                not_watched: self.sweep_not_watched.get(),
                closed: self.sweep_closed.get(),
            },
            restarts: self.restarts.get(),
            wakes: self.wakes.get(),
            upkeep: UpkeepCounts {
                acks_copied: upkeep(Upkeep::AckCopied),
                claims_reset: upkeep(Upkeep::ClaimReset),
                given_up: upkeep(Upkeep::GivenUp),
                agents_stopped: upkeep(Upkeep::AgentStopped),
                runs_planned: upkeep(Upkeep::RunPlanned),
                runs_moved: upkeep(Upkeep::RunMoved),
            },
        }
    }

    /// All metrics in the OpenMetrics text format.
    pub fn open_metrics(&self) -> String {
        let mut metrics = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut metrics, &self.registry);
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::conditions::Readings;
    use crate::report::{SessionCounts, Standing};
    use crate::store::error::StoreError;

    #[test]
    fn metrics_are_counted_by_channel_and_class() {
        let statistics = Statistics::default();
        let slack = ChannelType::new("slack").expect("a name");
        statistics.count_attempt(&slack);
        statistics.count_attempt(&slack);
        statistics.count_failed_attempt(&slack, ErrorClass::RateLimited);
        statistics.count_delivered(&slack, Duration::from_millis(3));
        statistics.count_dead(ErrorClass::NoRoute);
        let text = statistics.open_metrics();
        for line in [
            "nanorelay_messages_total{outcome=\"delivered\"} 1",
            "nanorelay_messages_total{outcome=\"dead\"} 1",
            "nanorelay_delivery_attempts_total{channel=\"slack\"} 2",
            "nanorelay_delivery_failed_attempts_total{channel=\"slack\",class=\"rate_limited\"} 1",
            "nanorelay_dead_letters_total{class=\"no_route\"} 1",
            "nanorelay_delivery_seconds_bucket{le=\"0.0025\",channel=\"slack\"} 0",
            "nanorelay_delivery_seconds_bucket{le=\"0.005\",channel=\"slack\"} 1",
            "nanorelay_actor_restarts_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        let counted = statistics.snapshot();
        assert_eq!((counted.delivered, counted.dead, counted.attempts), (1, 1, 2));
    }

    /// Everything that is served, each metric under the name by which it is asked for.
    fn served() -> std::collections::BTreeSet<String> {
        let statistics = Statistics::default();
        let slack = ChannelType::new("slack").expect("a name");
        statistics.count_attempt(&slack);
        statistics.count_failed_attempt(&slack, ErrorClass::RateLimited);
        statistics.count_delivered(&slack, Duration::from_millis(3));
        statistics.count_dead(ErrorClass::NoRoute);
        statistics.conditions.take(&Readings {
            standing: Some(Standing::default()),
            holds: vec![("operator", 0)],
            channels: vec![("slack".to_owned(), 0, false)],
            ..Readings::default()
        });
        let name_of = |line: &str| {
            let mut words = line.strip_prefix("# TYPE ")?.split(' ');
            let (name, kind) = (words.next()?, words.next()?);
            Some(match kind {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            })
        };
        statistics.open_metrics().lines().filter_map(name_of).collect()
    }

    #[test]
    fn the_document_lists_what_is_served() {
        let document = include_str!("../../../docs/metrics.md");
        let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
        let listed = rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect();
        assert_eq!(served(), listed);
    }

    #[test]
    fn what_is_read_elsewhere_is_served_as_it_was_read() {
        let statistics = Statistics::default();
        let mut standing = Standing::default();
        standing.counts.ambiguous = 2;
        standing.sessions = SessionCounts { total: 5, active: 3, running: 1, quarantined: 1 };
        statistics.conditions.take(&Readings {
            standing: Some(standing),
            oldest_seconds: 1.5,
            holds: vec![("unauthorized", 1)],
            channels: vec![("slack".to_owned(), 7, true)],
            registry: Some((3, 4)),
            last_sweep_seconds: Some(12.0),
            started_seconds: 10.0,
        });
        statistics.conditions.count_if_busy(&StoreError::Busy("outbound.db".to_owned()));
        statistics.conditions.count_if_busy(&StoreError::HotJournal("outbound.db".to_owned()));
        // An unreadable ledger: what it said before stays.
        statistics.conditions.take(&Readings { last_sweep_seconds: Some(13.0), ..Readings::default() });
        let text = statistics.open_metrics();
        for line in [
            "nanorelay_undelivered{state=\"ambiguous\"} 2",
            "nanorelay_oldest_undelivered_seconds 1.5",
            "nanorelay_holds{cause=\"unauthorized\"} 1",
            "nanorelay_channel_waiting{channel=\"slack\"} 7",
            "nanorelay_channel_blocked{channel=\"slack\"} 1",
            "nanorelay_sessions{state=\"closed\"} 2",
            "nanorelay_watched_folders 4",
            "nanorelay_sweep_last_success_timestamp_seconds 13.0",
            "nanorelay_sqlite_busy_total{file=\"outbound.db\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
