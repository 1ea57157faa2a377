//! The integration tests: real files, the whole engine with mock channels, and the program itself as a process.

mod cli;
mod deliveries;
mod demo;
mod fixtures;
mod kill;
mod red_team;
mod semantics;
mod serve;
mod support;
mod webhook;
