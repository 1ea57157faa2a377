//! The pure part: identifiers, messages, routes, retries. No actors, no SQL, no clock.

pub mod error;
pub mod ids;
pub mod message;
pub mod time;
