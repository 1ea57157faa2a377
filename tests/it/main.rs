//! The integration tests: real files, the whole engine with mock channels, and the program itself as a process.

mod actions;
mod agents;
mod cli;
mod deliveries;
mod demo;
mod edits;
mod faults;
mod fixtures;
mod hearing;
mod holds;
mod kill;
mod lanes;
mod ledger;
mod model_based;
mod pauses;
mod reconcile;
mod red_team;
mod restart;
mod runtime;
mod semantics;
mod serve;
mod supervision;
mod support;
mod tasks;
mod trouble;
mod webhook;
