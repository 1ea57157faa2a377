//! The engine of nanorelay: supervised actors that deliver what agents write to their NanoClaw session folders.
//!
//! Start with [`relay::Relay`]. The five actors are [`registry`], [`session`], [`channel`], [`task_scheduler`] and
//! [`sweep`]; what they share is [`engine`].

/// A place at which a test may let the process die; nothing without the feature `testing`.
macro_rules! crash_point {
    ($label:literal) => {
        #[cfg(feature = "testing")]
        $crate::testing::crash_point::reached($label);
    };
}

pub mod channel;
pub mod registry;
pub mod session;
pub mod sweep;
pub mod task_scheduler;

pub mod clock;
pub mod engine;
pub mod ledger;
pub mod limits;
pub mod model;
pub mod relay;
pub mod report;
pub mod runtime;
pub mod settings;
pub mod store;
pub mod supervise;
pub mod system_action;
#[cfg(feature = "testing")]
pub mod testing;
