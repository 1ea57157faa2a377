//! Counters of one run.

use crate::model::sweep_findings::UnheardCounts;
use crate::store::ledger::Effect;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the relay started.
#[derive(Debug, Default)]
pub struct Statistics {
    delivered: AtomicU64,
    applied: AtomicU64,
    routed: AtomicU64,
    merged: AtomicU64,
    dead: AtomicU64,
    attempts: AtomicU64,
    sweep_event_missed: AtomicU64,
    sweep_not_watched: AtomicU64,
    sweep_closed: AtomicU64,
    restarts: AtomicU64,
    wakes: AtomicU64,
    upkeep: [AtomicU64; Upkeep::COUNT],
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

impl Statistics {
    /// Counts a settled message.
    pub fn count_effect(&self, effect: Effect) {
        let counter = match effect {
            Effect::Delivered => &self.delivered,
            Effect::Applied => &self.applied,
            Effect::Routed => &self.routed,
            Effect::Merged => &self.merged,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts messages given up.
    pub fn count_dead(&self, count: usize) {
        self.dead.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts a call of an adapter.
    pub fn count_attempt(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what a sweep found that nobody had told of.
    pub fn count_sweep_found(&self, found: &UnheardCounts) {
        self.sweep_event_missed.fetch_add(found.event_missed, Ordering::Relaxed);
        self.sweep_not_watched.fetch_add(found.not_watched, Ordering::Relaxed);
        self.sweep_closed.fetch_add(found.closed, Ordering::Relaxed);
    }

    /// Counts what a look after an agent came to.
    pub fn count_upkeep(&self, what: Upkeep, count: usize) {
        self.upkeep[what as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts a restarted actor.
    pub fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a wake.
    pub fn count_wake(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn snapshot(&self) -> StatisticsSnapshot {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let upkeep = |what: Upkeep| load(&self.upkeep[what as usize]);
        StatisticsSnapshot {
            delivered: load(&self.delivered),
            applied: load(&self.applied),
            routed: load(&self.routed),
            merged: load(&self.merged),
            dead: load(&self.dead),
            attempts: load(&self.attempts),
            sweep_found: UnheardCounts {
                event_missed: load(&self.sweep_event_missed),
                not_watched: load(&self.sweep_not_watched),
                closed: load(&self.sweep_closed),
            },
            restarts: load(&self.restarts),
            wakes: load(&self.wakes),
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
}
