//! Syncing to the disk, beside the writer.

use super::{Ledger, LedgerError, Shared, lock};
use crate::settings::Durability;
use crate::supervise::blocking::start_dedicated;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a record that nobody waits for stays unsynced at least, so that those of the next moment share its sync.
const SYNC_SOON_PAUSE: Duration = Duration::from_millis(2);

/// A transaction that was committed. What it wrote has reached the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit(pub(super) u64);

/// What is to be synced, and how far that is.
#[derive(Default)]
pub(super) struct Syncing {
    state: Mutex<SyncState>,
    /// Somebody waits for the disk.
    is_waited_for: Condvar,
}

impl Syncing {
    /// Counts a transaction that was committed, and returns its number.
    pub fn committed(&self) -> u64 {
        let mut state = lock(&self.state);
        state.committed += 1;
        state.committed
    }
}

#[derive(Default)]
struct SyncState {
    /// Number of the last committed transaction.
    committed: u64,
    /// Number of the last transaction that is known to be on the disk.
    synced: u64,
    /// Number of the last transaction that is to be synced although nobody waits for it.
    wanted: u64,
    /// Whether the last sync failed: until one succeeds, everybody waits for the disk.
    has_failed: bool,
    syncing: bool,
    waiting: Vec<(u64, oneshot::Sender<Result<(), LedgerError>>)>,
}

/// What a dedicated thread is to sync. When the runtime has ended before the thread began, whoever waits hears of it.
struct SyncingTurn {
    shared: Arc<Shared>,
    was_taken: bool,
}

impl SyncingTurn {
    fn take(mut self) {
        self.was_taken = true;
        self.shared.sync_until_nobody_waits();
    }
}

impl Drop for SyncingTurn {
    fn drop(&mut self) {
        if !self.was_taken {
            let mut state = lock(&self.shared.syncing.state);
            state.syncing = false;
            state.waiting.clear();
        }
    }
}

impl Ledger {
    /// Waits until a commit survives a power loss, unless the settings ask for less.
    pub async fn on_disk(&self, commit: Commit) -> Result<(), LedgerError> {
        if self.shared.durability == Durability::Process {
            return Ok(());
        }
        self.synced(commit.0).await
    }

    /// Has a commit synced to the disk, without waiting for that: at most `SYNC_SOON_PAUSE` and the time of two syncs
    /// later it survives a power loss. After a sync that has failed it waits, like [`Ledger::on_disk`], until one succeeds.
    pub async fn on_disk_soon(&self, commit: Commit) -> Result<(), LedgerError> {
        let Commit(number) = commit;
        if self.shared.durability == Durability::Process {
            return Ok(());
        }
        let start = {
            let mut state = lock(&self.shared.syncing.state);
            if state.has_failed {
                None
            } else {
                state.wanted = state.wanted.max(number);
                Some(state.synced < number && !std::mem::replace(&mut state.syncing, true))
            }
        };
        match start {
            None => self.synced(number).await?,
            Some(true) => self.start_syncer(),
            Some(false) => {}
        }
        Ok(())
    }

    /// Syncs all records to the disk, whatever the settings say.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        let committed = lock(&self.shared.syncing.state).committed;
        self.synced(committed).await
    }

    pub(super) async fn synced(&self, number: u64) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        let start = {
            let mut state = lock(&self.shared.syncing.state);
            if state.synced >= number {
                return Ok(());
            }
            state.waiting.push((number, reply));
            self.shared.syncing.is_waited_for.notify_one();
            !std::mem::replace(&mut state.syncing, true)
        };
        if start {
            self.start_syncer();
        }
        answer.await.map_err(|_| LedgerError::ended())?
    }

    fn start_syncer(&self) {
        let turn = SyncingTurn { shared: Arc::clone(&self.shared), was_taken: false };
        start_dedicated(&self.shared.runtime, move || turn.take());
    }
}

impl Shared {
    fn sync_until_nobody_waits(&self) {
        loop {
            let target = {
                let mut state = lock(&self.syncing.state);
                if state.wanted > state.synced {
                    let pause =
                        self.syncing
                            .is_waited_for
                            .wait_timeout_while(state, SYNC_SOON_PAUSE, |state| state.waiting.is_empty());
                    state = pause.unwrap_or_else(PoisonError::into_inner).0;
                }
                if state.waiting.is_empty() && state.wanted <= state.synced {
                    state.syncing = false;
                    return;
                }
                state.committed
            };
            let result = self.sync.sync().map_err(LedgerError::from);
            let mut state = lock(&self.syncing.state);
            state.has_failed = result.is_err();
            match &result {
                Ok(()) => state.synced = state.synced.max(target),
                // It is tried again for the next one who cares.
                Err(_) => state.wanted = 0,
            }
            let (answered, waiting) =
                std::mem::take(&mut state.waiting).into_iter().partition(|(number, _)| *number <= target);
            state.waiting = waiting;
            drop(state);
            let answered: Vec<(u64, oneshot::Sender<_>)> = answered;
            for (_, reply) in answered {
                let _ = reply.send(result.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ledger::LedgerWriter;

    #[tokio::test]
    async fn what_is_to_be_synced_soon_is_synced_although_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let writer = LedgerWriter::open(folder.path()).unwrap();
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let ledger = Ledger::new(writer, Durability::Power, logger);
        let mut recorded = 0;
        for _ in 0..3 {
            let ((), commit) = ledger.record_repeatable(|_| Ok(())).await.unwrap();
            ledger.on_disk_soon(commit).await.unwrap();
            recorded = commit.0;
        }
        let synced = async {
            while lock(&ledger.shared.syncing.state).synced < recorded {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), synced).await.expect("it is synced");
    }
}
