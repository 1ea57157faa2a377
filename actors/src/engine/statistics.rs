//! Counters of one run.

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
    sweep_found: AtomicU64,
    restarts: AtomicU64,
    wakes: AtomicU64,
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
    /// Sessions in which a sweep found rows that no file event had told of.
    pub sweep_found: u64,
    /// Actors restarted after a panic.
    pub restarts: u64,
    /// Times the agent runtime was asked to wake an agent.
    pub wakes: u64,
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

    /// Counts a session in which a sweep found something.
    pub fn count_sweep_found(&self) {
        self.sweep_found.fetch_add(1, Ordering::Relaxed);
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
        StatisticsSnapshot {
            delivered: load(&self.delivered),
            applied: load(&self.applied),
            routed: load(&self.routed),
            merged: load(&self.merged),
            dead: load(&self.dead),
            attempts: load(&self.attempts),
            sweep_found: load(&self.sweep_found),
            restarts: load(&self.restarts),
            wakes: load(&self.wakes),
        }
    }
}
