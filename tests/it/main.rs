//! The integration tests: real files, the whole engine, mock channels.

mod fixtures;
mod red_team;
mod semantics;
mod support;
