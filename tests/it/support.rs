//! What the integration tests share.

pub mod fixture;
pub mod host;
pub mod process;
pub mod takeover;
pub mod trial;
pub mod wait;
