//! `nanorelay bench`: measures this host on data of its own, and the polling algorithm that it replaces on the
//! same files, on the same machine, in the same run.
//!
//! Agents are a process of their own ([`writer`]); the channel is in this process and accepts at once.

mod baseline;
mod channel;
mod measure;
mod net;
mod process;
mod read_log;
mod report;
mod soak;
pub mod world;
pub mod writer;

pub use measure::{Bench, BenchError, BenchKind, run};
