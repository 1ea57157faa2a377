//! The engine of nanorelay.

pub mod clock;
pub mod limits;
pub mod model;
pub mod report;
pub mod settings;
pub mod store;
