//! Whether the host does what it is for: one check for each thing that may be wrong.

use super::Relay;
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long a check may take. One that takes longer has failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// A drain that goes on, for as long as this value lives.
pub(super) struct Draining<'a>(&'a AtomicUsize);

impl<'a> Draining<'a> {
    pub fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One thing that must be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HealthCheck {
    /// What is checked: `ledger`, `registry`, `sweep`, `accepting`.
    pub name: String,
    /// Whether it is right.
    pub is_ok: bool,
    /// What was found, in words.
    pub detail: String,
}

impl HealthCheck {
    fn of(name: &str, found: Result<String, String>) -> Self {
        let is_ok = found.is_ok();
        Self { name: name.to_owned(), is_ok, detail: found.unwrap_or_else(|problem| problem) }
    }
}

impl Relay {
    /// Checks that the ledger can be written, that the registry and the supervisor live, that sessions were swept within
    /// the last two intervals, and that the host neither ends nor drains.
    pub async fn health(&self) -> Vec<HealthCheck> {
        vec![
            HealthCheck::of("ledger", self.check_ledger().await),
            HealthCheck::of("registry", self.check_registry().await),
            HealthCheck::of("sweep", self.check_sweep().await),
            HealthCheck::of("accepting", self.check_accepting()),
        ]
    }

    async fn check_ledger(&self) -> Result<String, String> {
        // It goes the way of every record, and changes nothing.
        let writing = self.engine().ledger.record(|ledger| ledger.check_writable());
        match tokio::time::timeout(CHECK_TIMEOUT, writing).await {
            Ok(Ok(())) => Ok("can be written".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no record within {} s", CHECK_TIMEOUT.as_secs())),
        }
    }

    async fn check_registry(&self) -> Result<String, String> {
        match tokio::time::timeout(CHECK_TIMEOUT, self.registry_snapshot()).await {
            Ok(Some(registry)) => Ok(format!("{} sessions, {} at work", registry.sessions, registry.living)),
            Ok(None) => Err("is being restarted".to_owned()),
            Err(_) => Err("does not answer".to_owned()),
        }
    }

    async fn check_sweep(&self) -> Result<String, String> {
        let sweep = match tokio::time::timeout(CHECK_TIMEOUT, self.sweep_snapshot()).await {
            Ok(Some(sweep)) => sweep,
            Ok(None) => return Err("is being restarted".to_owned()),
            Err(_) => return Err("does not answer".to_owned()),
        };
        let engine = self.engine();
        let allowed = 2 * engine.settings.sweep_interval;
        // Until the first one there is as much time as between two.
        let last = sweep.last_sweep_ms.map_or(self.started_at(), Timestamp::from_ms);
        let age = engine.now().since(last);
        match age < allowed {
            true => Ok(format!("{} sweeps, the last one {} s ago", sweep.sweeps, age.as_secs())),
            false => Err(format!(
                "the last sweep was {} s ago, {} s are allowed",
                age.as_secs(),
                allowed.as_secs()
            )),
        }
    }

    fn check_accepting(&self) -> Result<String, String> {
        if self.engine().is_stopping() {
            return Err("the host ends".to_owned());
        }
        match self.shared.draining.load(Ordering::Acquire) {
            0 => Ok("takes what comes".to_owned()),
            _ => Err("the host drains".to_owned()),
        }
    }
}
