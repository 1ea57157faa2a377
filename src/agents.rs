//! Demo agents: separate processes that write their session's files as an agent's container does.

pub mod demo_agent;
pub mod demo_outbox;
pub mod demo_world;
