//! The handle of a running host. (Signatures only for now.)

use crate::channel::adapter::Channel;
use crate::clock::SharedClock;
use crate::model::message::DeliveryKey;
use crate::report::{DeliveryFilter, DeliveryRecord, DrainReport};
use crate::settings::{ChannelSettings, Settings};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a relay could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder is not a NanoClaw data directory.
    #[error("{0} is not a NanoClaw data directory: {1}")]
    NotADataDirectory(PathBuf, String),
    /// Another host runs on it.
    #[error("another host runs on {0} (process {1})")]
    AlreadyRunning(PathBuf, u32),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Why an operation on the ledger failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OperationError(pub String);

/// Chooses everything about a relay before it starts.
pub struct RelayBuilder {}

/// A running host. Cheap to clone.
#[derive(Clone)]
pub struct Relay {}

#[allow(unused_variables, clippy::unimplemented, missing_docs)]
impl RelayBuilder {
    pub fn settings(self, settings: Settings) -> Self {
        unimplemented!()
    }
    pub fn channel(self, channel_type: &str, adapter: Arc<dyn Channel>, settings: ChannelSettings) -> Self {
        unimplemented!()
    }
    /// For channel types without their own adapter.
    pub fn fallback_channel(self, adapter: Arc<dyn Channel>, settings: ChannelSettings) -> Self {
        unimplemented!()
    }
    pub fn clock(self, clock: SharedClock) -> Self {
        unimplemented!()
    }
    pub fn logger(self, logger: slog::Logger) -> Self {
        unimplemented!()
    }
    /// Must run inside an actix System.
    pub async fn start(self) -> Result<Relay, StartError> {
        unimplemented!()
    }
}

#[allow(unused_variables, clippy::unimplemented, missing_docs)]
impl Relay {
    pub fn builder(data_dir: impl Into<PathBuf>) -> RelayBuilder {
        unimplemented!()
    }
    /// Delivers all that is due and waits for retries within `deadline`.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        unimplemented!()
    }
    /// Stops intake, waits for in-flight sends at most `deadline`, flushes projections.
    pub async fn shutdown(&self, deadline: Duration) {
        unimplemented!()
    }
    pub async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        unimplemented!()
    }
    /// Puts dead (or ambiguous) deliveries back into their lanes; returns how many. Keys that are not dead are skipped.
    pub async fn replay(&self, keys: Vec<DeliveryKey>) -> Result<usize, OperationError> {
        unimplemented!()
    }
    /// The same for all dead ones that match.
    pub async fn replay_all(&self, filter: DeliveryFilter) -> Result<usize, OperationError> {
        unimplemented!()
    }
}

/// The same commands on a host that is not running: takes the data directory's lock for as long as it lives.
pub struct StoppedHost {}

#[allow(unused_variables, clippy::unimplemented, missing_docs)]
impl StoppedHost {
    /// Fails with [`StartError::AlreadyRunning`] when a host runs.
    pub fn open(data_dir: impl Into<PathBuf>) -> Result<Self, StartError> {
        unimplemented!()
    }
    pub fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        unimplemented!()
    }
    pub fn replay(&self, keys: &[DeliveryKey]) -> Result<usize, OperationError> {
        unimplemented!()
    }
    pub fn replay_all(&self, filter: &DeliveryFilter) -> Result<usize, OperationError> {
        unimplemented!()
    }
}
