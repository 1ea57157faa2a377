//! The engine of nanorelay: supervised actors that deliver what agents write to their NanoClaw session folders.
//!
//! Start with [`relay::Relay`]. The five actors are [`registry`], [`session`], [`channel`], [`task_scheduler`] and
//! [`sweep`]; what they share is [`engine`]. What sends messages to a platform implements
//! [`channel::adapter::Channel`].
//!
//! ```
//! use async_trait::async_trait;
//! use nanorelay_actors::channel::adapter::{Channel, Delivery};
//! use nanorelay_actors::model::error::{Receipt, SendError};
//! use nanorelay_actors::relay::{Relay, StartError};
//! use std::path::Path;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! /// Makes one try; order, retries, limits and records are the engine's.
//! struct Printer;
//!
//! #[async_trait]
//! impl Channel for Printer {
//!     async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
//!         println!("{} → {}: {}", delivery.session_id, delivery.destination.platform_id, delivery.content);
//!         Ok(Receipt::default())
//!     }
//! }
//!
//! /// Delivers what is due in a data directory; returns how many messages went out.
//! async fn deliver(data_dir: &Path) -> Result<u64, StartError> {
//!     let relay = Relay::builder(data_dir)
//!         .channel("slack", Arc::new(Printer))
//!         .start()
//!         .await?;
//!     let report = relay.drain(Duration::from_secs(60)).await;
//!     relay.shutdown(Duration::from_secs(10)).await;
//!     Ok(report.delivered)
//! }
//!
//! # let data = nanorelay_actors::testing::DataDir::new();
//! # let session = nanorelay_actors::testing::SessionSpec::new("ag-main").chat("slack", "slack:C1");
//! # data.session(session).text("hello");
//! # let data_dir = data.path();
//! let delivered = actix::System::new().block_on(deliver(data_dir)).expect("a data directory without a host");
//! assert_eq!(delivered, 1);
//! ```
//!
//! Nothing here is global: several relays can live in one process. Tests of your own find real data directories,
//! scripted channels and a clock to steer under the feature `testing`.

/// A place at which a test may let the process die; nothing without the feature `testing`.
macro_rules! crash_point {
    ($label:literal) => {
        #[cfg(feature = "testing")]
        $crate::testing::crash_point::reached($label);
    };
}

/// A place at which a test may let an operation on a file fail; nothing without the feature `testing`.
macro_rules! fault_point {
    ($file:expr, $operation:ident) => {
        #[cfg(feature = "testing")]
        $crate::testing::fault::check($file, $crate::testing::fault::Operation::$operation)?;
    };
}

pub mod channel;
pub mod registry;
pub mod session;
pub mod sweep;
pub mod task_scheduler;

pub mod clock;
pub mod doctor;
pub mod engine;
pub mod inbox;
pub mod ledger;
pub mod limits;
pub mod model;
pub mod relay;
pub mod report;
mod retention;
pub mod runtime;
pub mod settings;
pub mod store;
pub mod supervise;
pub mod system_action;
#[cfg(feature = "testing")]
pub mod testing;
