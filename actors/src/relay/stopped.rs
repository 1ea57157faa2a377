//! Commands on a data directory whose host does not run.

use super::pauses::{Resume, end_holds, pause};
use super::{OperationError, StartError};
use crate::clock::{Clock, SystemClock};
use crate::model::hold::HoldScope;
use crate::model::ids::SessionId;
use crate::model::message::DeliveryKey;
use crate::model::time::Timestamp;
use crate::report::{
    DeliveryDetails, DeliveryFilter, DeliveryRecord, HoldRecord, ReplayRate, Resolution, SessionFilter,
    SessionRecord,
};
use crate::store::error::StoreError;
use crate::store::host_lock::HostLock;
use crate::store::lease::SessionLeases;
use crate::store::ledger::{LEDGER_FILE, LedgerReader, LedgerTransaction, LedgerWriter, keys_of, mark};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

/// Holds a data directory's lock, so that no host starts meanwhile.
pub struct StoppedHost {
    pub(super) data_dir: PathBuf,
    /// Who works on which session at the moment: this value may be shared by threads.
    pub(super) leases: SessionLeases,
    /// One session is made at a time.
    pub(super) creation: Mutex<()>,
    _lock: HostLock,
}

impl StoppedHost {
    /// Fails with [`StartError::AlreadyRunning`] when a host runs.
    pub fn open(data_dir: impl Into<PathBuf>) -> Result<Self, StartError> {
        let data_dir = data_dir.into();
        let lock = super::builder::lock(&data_dir)?;
        Ok(Self { data_dir, leases: SessionLeases::default(), creation: Mutex::default(), _lock: lock })
    }

    /// The deliveries that match, the most recently changed first. None when no relay ever ran here.
    pub fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        self.read(|reader| reader.deliveries(filter))
    }

    /// Sessions that could not be served, with the reason.
    pub fn quarantined(&self) -> Result<BTreeMap<String, String>, OperationError> {
        self.read(LedgerReader::quarantined)
    }

    /// The sessions that match, by id. None when no relay ever ran here.
    pub fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRecord>, OperationError> {
        self.read(|reader| reader.sessions(filter))
    }

    /// Clears the reason why a session could not be served; the next start looks at it again. Returns whether there
    /// was one.
    pub fn release(&self, session: &SessionId) -> Result<bool, OperationError> {
        let now = SystemClock.now();
        self.write(|ledger| ledger.release_session(session, now))
    }

    /// One delivery with everything that was tried.
    pub fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryDetails>, OperationError> {
        self.read(|reader| reader.delivery(key))
    }

    /// What [`StoppedHost::replay_all`] would put back, in that order.
    pub fn replayable(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        self.read(|reader| reader.replayable(filter))
    }

    /// Marks dead, held or ambiguous deliveries to be sent again at the next start. Returns how many.
    pub fn replay(&self, keys: &[DeliveryKey]) -> Result<usize, OperationError> {
        let now = SystemClock.now();
        self.write(|ledger| ledger.replay_many(keys, None, 0, now))
    }

    /// The same for all that match. A rate counts from now, not from the next start.
    pub fn replay_all(
        &self,
        filter: &DeliveryFilter,
        rate: Option<ReplayRate>,
    ) -> Result<usize, OperationError> {
        let (keys, now) = (keys_of(&self.replayable(filter)?), SystemClock.now());
        self.write(|ledger| ledger.replay_many(&keys, rate, 0, now))
    }

    /// Settles an ambiguous delivery: it has arrived, or it has not and is sent again at the next start. Returns
    /// whether it was ambiguous.
    pub fn resolve(&self, key: &DeliveryKey, resolution: &Resolution) -> Result<bool, OperationError> {
        let now = SystemClock.now();
        self.write(|ledger| ledger.resolve(key, resolution, now))
    }

    /// What holds sends back, the oldest first.
    pub fn holds(&self) -> Result<Vec<HoldRecord>, OperationError> {
        // A ledger of an older version gets the table here.
        self.write(|_| Ok(()))?;
        let holds = self.read(|reader| reader.holds(SystemClock.now()))?;
        Ok(holds.into_iter().map(HoldRecord::from).collect())
    }

    /// Sends nothing of a scope from the next start on; see [`super::Relay::pause`].
    pub fn pause(
        &self,
        scope: HoldScope,
        until: Option<Timestamp>,
        reason: &str,
    ) -> Result<(), OperationError> {
        let now = SystemClock.now();
        let hold = pause(scope, until, reason, now)?;
        self.write_always(|ledger| ledger.set_hold(&hold, now))
    }

    /// Ends what holds a scope back; see [`super::Relay::resume`].
    pub fn resume(&self, scope: &HoldScope, which: Resume) -> Result<usize, OperationError> {
        let now = SystemClock.now();
        self.write(|ledger| end_holds(ledger, scope, which, now)).map(|ended| ended.count)
    }

    /// Whether a relay ever ran here.
    pub(super) fn has_ledger(&self) -> bool {
        self.data_dir.join(LEDGER_FILE).exists()
    }

    pub(super) fn read<T: Default>(
        &self,
        read: impl FnOnce(&LedgerReader) -> Result<T, StoreError>,
    ) -> Result<T, OperationError> {
        match LedgerReader::open(&self.data_dir).and_then(|reader| read(&reader)) {
            Ok(value) => Ok(value),
            Err(StoreError::Missing(_)) => Ok(T::default()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn write<T: Default>(
        &self,
        write: impl FnOnce(&mut LedgerTransaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, OperationError> {
        mark::check(&self.data_dir)?;
        if !self.has_ledger() {
            return Ok(T::default());
        }
        self.write_always(write)
    }

    /// The same in a data directory where no relay ever ran, too.
    pub(super) fn write_always<T>(
        &self,
        write: impl FnOnce(&mut LedgerTransaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, OperationError> {
        let run = || {
            let mut writer = LedgerWriter::open(&self.data_dir)?;
            let mut transaction = writer.transaction()?;
            let value = write(&mut transaction)?;
            transaction.commit()?;
            writer.sync_handle().sync()?;
            Ok::<_, StoreError>(value)
        };
        Ok(run()?)
    }
}
