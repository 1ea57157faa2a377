//! SQLite and files. Plain synchronous code: actors decide who runs it and where.

pub mod error;
