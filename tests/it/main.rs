//! The integration tests: real files, the whole engine, mock channels.

mod fixtures;
mod semantics;
mod supervision;
mod support;
