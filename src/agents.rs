//! Agents: in containers, and three kinds of agents to try a host with.

pub mod demo_agent;
pub mod demo_chat;
pub mod demo_world;
pub mod docker;
pub mod echo;
pub mod session_files;
