//! What the integration tests share.

pub mod agent_processes;
pub mod api;
pub mod engine;
pub mod fixture;
pub mod host;
pub mod http;
pub mod log;
pub mod process;
pub mod program;
pub mod receiver;
pub mod sink;
pub mod takeover;
pub mod trial;
pub mod wait;
pub mod waker;
