//! What keeps actors alive and countable: exit guards, restart policy, bounded blocking work, leases.

pub mod activity;
pub mod blocking;
pub mod ends;
pub mod exit_guard;
pub mod restart_policy;
pub mod unwind;
