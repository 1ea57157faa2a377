//! A new ledger from what the sessions' own files tell, when the old one is lost or damaged.

use super::{OperationError, StoppedHost};
use crate::clock::{Clock, SystemClock};
use crate::model::ids::MessageId;
use crate::report::RebuildReport;
use crate::session::read_history;
use crate::store::central::{Central, SessionFacts};
use crate::store::error::StoreError;
use crate::store::inbound::{self, ProjectedStatus};
use crate::store::lease::SessionLeases;
use crate::store::ledger::{LEDGER_FILE, LedgerReader, NewLedger};
use crate::store::outbound::{self, Cursor};
use crate::store::session_dir::SessionsRoot;
use crate::store::session_store::{SessionPlace, SessionStore};
use std::sync::Arc;

/// Rows that are counted in one go.
const ROWS_PER_PAGE: usize = 1000;

impl StoppedHost {
    /// Makes a new ledger from the `delivered` tables of all sessions. What they list counts as settled; everything
    /// else is sent at the next start, also what was accepted in the last moments before the loss. The former ledger
    /// is kept under another name.
    ///
    /// A ledger that can be read is refused unless `replace` says to replace it: it knows more than a new one would,
    /// namely what is ambiguous, dead or held. With `dry_run` nothing is changed. `progress` hears how many sessions of how
    /// many are done.
    pub fn rebuild_ledger(
        &self,
        dry_run: bool,
        replace: bool,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<RebuildReport, OperationError> {
        let is_readable = LedgerReader::open(&self.data_dir).and_then(|reader| reader.check()).is_ok();
        if is_readable && !dry_run && !replace {
            return Err(OperationError::Conflict(format!(
                "{LEDGER_FILE} is in order: there is nothing to rebuild"
            )));
        }
        let rebuilt = if dry_run { self.count_only(progress) } else { self.rebuild(progress) };
        Ok(rebuilt?)
    }

    fn count_only(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<RebuildReport, StoreError> {
        let mut report = RebuildReport::default();
        self.each_session(progress, |_, store| count(store, &mut report).map(drop))
            .map(|unreadable| RebuildReport { unreadable, ..report })
    }

    fn rebuild(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<RebuildReport, StoreError> {
        let mut ledger = NewLedger::begin(&self.data_dir)?;
        let mut report = RebuildReport::default();
        let now = SystemClock.now();
        let unreadable = self.each_session(progress, |facts, store| {
            let (cursor, imported) = count(store, &mut report)?;
            let mut transaction = ledger.writer.transaction()?;
            transaction.import_session(&facts.id, &facts.agent_group_id, cursor, &imported, now)?;
            transaction.commit()
        })?;
        let kept_as = ledger.put_in_place(now.as_ms())?;
        Ok(RebuildReport { kept_as, unreadable, ..report })
    }

    /// Opens one session after the other; returns those that cannot be read.
    pub(super) fn each_session(
        &self,
        progress: &mut dyn FnMut(u64, u64),
        mut work: impl FnMut(&SessionFacts, &mut SessionStore) -> Result<(), StoreError>,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let snapshot = Central::open(&self.data_dir)?.load_snapshot()?;
        let root = Arc::new(SessionsRoot::open(&self.data_dir)?);
        let (leases, connections) = (SessionLeases::default(), Arc::default());
        let mut sessions: Vec<&SessionFacts> = snapshot.sessions.values().collect();
        sessions.sort_by_key(|facts| facts.id.as_str());
        let mut unreadable = Vec::new();
        let total = sessions.len() as u64;
        for (done, facts) in (1..).zip(sessions) {
            progress(done, total);
            let Some(lease) = leases.try_acquire(&facts.id) else { continue };
            let place = SessionPlace {
                root: Arc::clone(&root),
                connections: Arc::clone(&connections),
                group: facts.agent_group_id.clone(),
                session: facts.id.clone(),
            };
            let mut store = SessionStore::new(place, lease);
            let worked = store.directory().map(drop).and_then(|()| work(facts, &mut store));
            match worked.map_err(|error| store.classify(error)) {
                // A session that has not started yet has no folder.
                Ok(()) | Err(StoreError::Missing(_)) => {}
                Err(error) => unreadable.push((facts.id.to_string(), error.to_string())),
            }
        }
        Ok(unreadable)
    }
}

type History = (Cursor, Vec<crate::store::ledger::ImportedDelivery>);

/// Reads what a session's files tell, and adds it up.
fn count(store: &mut SessionStore, report: &mut RebuildReport) -> Result<History, StoreError> {
    let history = read_history(store)?;
    let (mut delivered, mut failed, mut waiting) = (0, 0, 0);
    let mut cursor = Cursor::default();
    loop {
        let page = match store.outbound() {
            Ok(outbox) => outbound::ids_in_order(outbox, cursor, ROWS_PER_PAGE)?,
            Err(StoreError::Missing(_)) => break,
            Err(error) => return Err(error),
        };
        cursor = page.cursor;
        let ids: Vec<MessageId> = page.ids.into_iter().map(|(id, _)| id).collect();
        let listed = match store.inbound() {
            Ok(inbox) => inbound::delivered_among(inbox, &ids)?,
            Err(StoreError::Missing(_)) => Default::default(),
            Err(error) => return Err(error),
        };
        waiting += (ids.len() - listed.len()) as u64;
        failed += listed.values().filter(|status| **status == ProjectedStatus::Failed).count() as u64;
        delivered += listed.values().filter(|status| **status == ProjectedStatus::Delivered).count() as u64;
        if !page.more {
            break;
        }
    }
    report.sessions += 1;
    report.delivered += delivered;
    report.failed += failed;
    report.waiting += waiting;
    Ok(history)
}
