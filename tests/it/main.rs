//! The integration tests: real files, the whole engine, mock channels.

mod actions;
mod agents;
mod fixtures;
mod restart;
mod semantics;
mod serve;
mod supervision;
mod support;
mod tasks;
mod trouble;
