//! The ledger, and what it knows of messages that somebody must look at.

use super::finding::{Finding, FindingId};
use crate::limits::DOCTOR_FINDINGS_MAX;
use crate::report::{DeliveryFilter, DeliveryState};
use crate::store::error::StoreError;
use crate::store::host_files;
use crate::store::ledger::{LEDGER_FILE, LedgerReader};
use std::path::Path;

/// A log of the ledger that is larger was not copied back for long: somebody reads.
const LOG_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// How far above its bound the ledger may be: messages that wait and dead ones are not under the bound.
const SIZE_FACTOR_MAX: u64 = 2;

const NOTEWORTHY: [(DeliveryState, FindingId, &str); 3] = [
    (
        DeliveryState::Dead,
        FindingId::DeadMessages,
        "mend the cause that `nanorelay deliveries list --state dead` names, then replay them",
    ),
    (
        DeliveryState::Ambiguous,
        FindingId::AmbiguousMessages,
        "find out whether they arrived, then `nanorelay deliveries resolve`",
    ),
    (
        DeliveryState::Held,
        FindingId::HeldMessages,
        "`nanorelay deliveries list --state held` says why; `deliveries replay` lets them go",
    ),
];

/// Looks at the whole file. `bytes_max` is the bound of the settings.
pub(super) fn examine(data_dir: &Path, bytes_max: u64) -> Vec<Finding> {
    let reader = match LedgerReader::open(data_dir) {
        Ok(reader) => reader,
        Err(StoreError::Missing(_)) => {
            return vec![Finding::ok(FindingId::Ledger, LEDGER_FILE, "no host has run here yet")];
        }
        Err(error) => return vec![unreadable(&error)],
    };
    let mut findings = match contents(&reader) {
        Ok(findings) => findings,
        Err(error) => vec![unreadable(&error)],
    };
    findings.extend(size(data_dir, bytes_max));
    findings
}

fn unreadable(error: &StoreError) -> Finding {
    let remedy = "restore a copy of it, or run `nanorelay ledger rebuild`";
    Finding::error(FindingId::LedgerUnreadable, LEDGER_FILE, error.to_string(), remedy)
}

fn contents(reader: &LedgerReader) -> Result<Vec<Finding>, StoreError> {
    reader.check()?;
    let mut findings = vec![Finding::ok(FindingId::Ledger, LEDGER_FILE, "sound")];
    for (state, id, remedy) in NOTEWORTHY {
        let limit = Some(u32::try_from(DOCTOR_FINDINGS_MAX).unwrap_or(u32::MAX));
        let filter = DeliveryFilter { states: vec![state], limit, ..DeliveryFilter::default() };
        let count = reader.deliveries(&filter)?.len();
        if count > 0 {
            let more = if count == DOCTOR_FINDINGS_MAX { " or more" } else { "" };
            let words = format!("{count}{more} messages are {}", state.as_str());
            findings.push(Finding::warning(id, "deliveries", words, remedy));
        }
    }
    for (session, reason) in reader.quarantined()?.into_iter().take(DOCTOR_FINDINGS_MAX) {
        let remedy = format!("mend the cause, then `nanorelay sessions release {session}`");
        let subject = format!("session {session}");
        findings.push(Finding::warning(FindingId::SessionQuarantined, subject, reason, remedy));
    }
    Ok(findings)
}

fn size(data_dir: &Path, bytes_max: u64) -> Option<Finding> {
    let bytes = |name: &str| host_files::bytes(&data_dir.join(name));
    let (file, log) = (bytes(LEDGER_FILE), bytes(&format!("{LEDGER_FILE}-wal")));
    let words = format!("{}, and its log {}", super::in_mib(file), super::in_mib(log));
    let remedy = if log > LOG_BYTES_MAX {
        "look for a backup or a shell that reads the ledger for very long"
    } else if file > bytes_max.saturating_mul(SIZE_FACTOR_MAX) {
        "`nanorelay top` shows who has much to send; what is dead goes after ledger.keep_dead"
    } else {
        return None;
    };
    Some(Finding::warning(FindingId::LedgerSize, LEDGER_FILE, words, remedy))
}
