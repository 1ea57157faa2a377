//! The engine of nanorelay.

pub mod channel;
pub mod clock;
pub mod limits;
pub mod model;
pub mod relay;
pub mod report;
pub mod settings;
pub mod store;
