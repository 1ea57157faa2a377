//! Who changed what, and why: noted before a change is made, and at its end.

use super::{OperationError, Relay, StoppedHost};
use crate::clock::{Clock, SystemClock};
use crate::report::{AuditEnd, AuditEntry, AuditFilter, AuditRecord};
use std::future::Future;

/// A change that has been noted and whose end is to be noted too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the end of the change is to be noted"]
pub struct AuditId(i64);

impl Relay {
    /// Notes durably that a change is about to be made. When it cannot be noted, do not make it.
    pub async fn begin_audit(&self, entry: AuditEntry) -> Result<AuditId, OperationError> {
        let (entry, now) = (entry.bounded(), self.engine().now());
        let noted = self.engine().ledger.record_durably(move |ledger| ledger.begin_audit(&entry, now)).await;
        Ok(AuditId(noted?))
    }

    /// Notes how a change ended.
    pub async fn end_audit(&self, id: AuditId, end: AuditEnd) -> Result<(), OperationError> {
        let end = end.bounded();
        let noted = self.engine().ledger.record_durably(move |ledger| ledger.end_audit(id.0, &end)).await;
        Ok(noted?)
    }

    /// Makes a change between the two. `after` says in short what is there then. That the end cannot be noted is logged:
    /// the change has been made.
    pub async fn audited<T, E: std::fmt::Display + From<OperationError>>(
        &self,
        entry: AuditEntry,
        change: impl Future<Output = Result<T, E>>,
        after: impl FnOnce(&T) -> Option<serde_json::Value>,
    ) -> Result<T, E> {
        let id = self.begin_audit(entry).await?;
        let made = change.await;
        let end = match &made {
            Ok(value) => AuditEnd::Done { after: after(value) },
            Err(error) => AuditEnd::Failed(error.to_string()),
        };
        if let Err(error) = self.end_audit(id, end).await {
            slog::error!(self.engine().logger, "end of a change not noted"; "error" => %error);
        }
        made
    }

    /// The changes that match, the newest first.
    pub async fn audit(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, OperationError> {
        self.read(move |engine| engine.ledger_reader.audit(&filter)).await
    }
}

impl StoppedHost {
    /// Makes a change between two notes; see [`Relay::audited`].
    pub fn audited<T, E: std::fmt::Display + From<OperationError>>(
        &self,
        entry: AuditEntry,
        change: impl FnOnce() -> Result<T, E>,
        after: impl FnOnce(&T) -> Option<serde_json::Value>,
    ) -> Result<T, E> {
        let entry = entry.bounded();
        if !self.has_ledger() {
            // What changes nothing makes no ledger.
            let made = change();
            if self.has_ledger()
                && let Ok(value) = &made
            {
                let end = AuditEnd::Done { after: after(value) }.bounded();
                self.write_always(|ledger| {
                    let id = ledger.begin_audit(&entry, SystemClock.now())?;
                    ledger.end_audit(id, &end)
                })?;
            }
            return made;
        }
        let id = self.write_always(|ledger| ledger.begin_audit(&entry, SystemClock.now()))?;
        let made = change();
        let end = match &made {
            Ok(value) => AuditEnd::Done { after: after(value) },
            Err(error) => AuditEnd::Failed(error.to_string()),
        };
        self.write_always(|ledger| ledger.end_audit(id, &end.bounded()))?;
        made
    }

    /// The changes that match, the newest first. None when no relay ever ran here.
    pub fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRecord>, OperationError> {
        if !self.has_ledger() {
            return Ok(Vec::new());
        }
        // A ledger of an older version gets the table here.
        self.write(|_| Ok(()))?;
        self.read(|reader| reader.audit(filter))
    }
}
