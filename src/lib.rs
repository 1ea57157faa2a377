//! The nanorelay program as a library: configuration, channels, command line.
//!
//! The engine is the package `nanorelay-actors`; this one gives it channels, a configuration file, a command
//! line and a local socket.

pub mod agents;
pub mod bench;
pub mod channels;
pub mod cli;
pub mod config;
pub mod control;
pub mod host;
pub mod logging;
