//! SQLite and files. Plain synchronous code: actors decide who runs it and where.

pub mod arrivals;
pub mod attachments;
pub mod central;
pub mod error;
pub(crate) mod file_system;
pub mod host_checks;
pub mod host_files;
pub mod host_lock;
pub mod inbound;
pub mod lease;
pub mod ledger;
pub mod open;
pub mod outbound;
#[cfg(test)]
mod seed_schema;
pub mod session_dir;
pub mod session_store;
pub mod shown;
mod sql;
mod vfs;
