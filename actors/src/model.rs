//! The pure part: identifiers, messages, routes, retries, tasks. No actors, no SQL, no clock.

pub mod action;
pub mod breaker;
pub mod content;
pub mod due_times;
pub mod error;
pub mod hold;
pub mod ids;
pub mod lane_name;
pub mod lanes;
pub mod message;
pub mod missed;
pub mod on_block;
pub mod rate_limit;
pub mod recurrence;
pub mod retention;
pub mod retry;
pub mod revision;
pub mod roster;
pub mod route;
pub mod series;
pub mod staleness;
pub mod sweep_findings;
pub mod task;
pub mod tenant;
pub(crate) mod text;
pub mod time;
