//! The group-committing writer of the ledger.
//!
//! Operations of all sessions queue up; whoever finds no writer at work starts one, which commits everything
//! queued in one transaction, and goes on until the queue is empty. An idle ledger so answers at once, a busy
//! one commits hundreds of records for the price of one. Syncing to the disk runs beside it: a record reaches
//! the kernel without waiting for the disk, and one sync covers all records before it.
//!
//! Outcomes go ahead of everything else: what a platform has taken may be sent twice until its record is in the
//! kernel. A transaction with an outcome therefore holds few other operations.

use crate::settings::Durability;
use crate::store::error::StoreError;
use crate::store::ledger::{LedgerSync, LedgerTransaction, LedgerWriter};
use crate::supervise::blocking::start_dedicated;
use slog::Logger;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Most operations in one transaction.
const OPERATIONS_PER_TRANSACTION_MAX: usize = 2048;
/// The log is copied into the database file after so many operations: about three pages each.
const OPERATIONS_PER_CHECKPOINT: usize = 1000;
/// Most other operations in a transaction with an outcome. Some, so that outcomes without end starve nobody.
const OTHERS_BESIDE_OUTCOMES_MAX: usize = 64;

/// A record was not written. Nothing of the operation is in the ledger, unless it is one that may be done twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ledger: {reason}")]
pub struct LedgerError {
    /// In words.
    pub reason: String,
    /// The extended result code, when it was SQLite that failed.
    pub sqlite_extended_code: Option<i32>,
    /// Whether the runtime on whose threads the ledger is written has ended.
    pub is_ended: bool,
}

impl LedgerError {
    fn new(reason: &str) -> Self {
        Self { reason: reason.to_owned(), sqlite_extended_code: None, is_ended: false }
    }

    pub(crate) fn ended() -> Self {
        Self { is_ended: true, ..Self::new("the relay's runtime has ended") }
    }
}

impl From<StoreError> for LedgerError {
    fn from(error: StoreError) -> Self {
        Self { sqlite_extended_code: error.sqlite_extended_code(), ..Self::new(&error.to_string()) }
    }
}

/// The handle to the ledger's writer. Cheap to clone; it works from every thread.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    durability: Durability,
    sync: Arc<LedgerSync>,
    sync_state: Mutex<SyncState>,
    checkpoints: Mutex<Checkpoints>,
    logger: Logger,
    /// On whose threads it is written: callers may come from runtimes that end before.
    runtime: Handle,
}

/// When the log is copied into the database file.
#[derive(Default)]
struct Checkpoints {
    /// Operations since the last one began.
    operations: usize,
    is_running: bool,
}

struct Queue {
    /// Run before all others.
    outcomes: VecDeque<Box<dyn Operation>>,
    others: VecDeque<Box<dyn Operation>>,
    /// Present while nobody writes.
    writer: Option<LedgerWriter>,
}

/// What a dedicated thread is to write. When the runtime has ended before the thread began, whoever waits hears of it.
struct WritingTurn {
    shared: Arc<Shared>,
    writer: Option<LedgerWriter>,
}

impl WritingTurn {
    fn take(mut self) {
        if let Some(writer) = self.writer.take() {
            self.shared.write_until_empty(writer);
        }
    }
}

impl Drop for WritingTurn {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        let mut queue = lock(&self.shared.queue);
        queue.writer = Some(writer);
        let unwritten = (std::mem::take(&mut queue.outcomes), std::mem::take(&mut queue.others));
        drop(queue);
        // Without an answer, an asker hears that the runtime has ended.
        drop(unwritten);
    }
}

/// The same for a sync.
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
            let mut state = lock(&self.shared.sync_state);
            state.syncing = false;
            state.waiting.clear();
        }
    }
}

/// Which operations go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Outcome,
    Other,
}

/// What an operation that fails may leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnFailure {
    /// Nothing. It costs two statements, and a copy of each page that the operation changes.
    Undone,
    /// What it has done already: it is one statement, or whoever asked for it asks again, and doing it twice is doing
    /// it once.
    Kept,
}

/// A transaction that was committed. What it wrote has reached the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit(u64);

/// The operations of one transaction.
#[derive(Default)]
struct Group {
    operations: Vec<Box<dyn Operation>>,
    outcomes: usize,
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

/// One queued operation: runs inside the group's transaction, answers after its commit.
trait Operation: Send {
    fn run(&mut self, transaction: &mut LedgerTransaction<'_>);
    fn answer(self: Box<Self>, committed: &Result<u64, LedgerError>);
}

struct Queued<T, F> {
    work: Option<F>,
    on_failure: OnFailure,
    result: Option<Result<T, LedgerError>>,
    reply: oneshot::Sender<Result<(T, u64), LedgerError>>,
}

impl<T, F> Operation for Queued<T, F>
where
    T: Send,
    F: FnOnce(&mut LedgerTransaction<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, transaction: &mut LedgerTransaction<'_>) {
        let Some(work) = self.work.take() else { return };
        // A panic in one session's operation must not take the group down.
        let result = catch_unwind(AssertUnwindSafe(|| match self.on_failure {
            OnFailure::Undone => transaction.operation(work),
            OnFailure::Kept => transaction.step(work),
        }));
        let panicked = || LedgerError::new("the operation panicked");
        self.result = Some(match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(error.into()),
            Err(_) if self.on_failure == OnFailure::Kept => Err(panicked()),
            Err(_) => match transaction.abandon_operation() {
                Ok(()) => Err(panicked()),
                Err(error) => Err(error.into()),
            },
        });
    }

    fn answer(self: Box<Self>, committed: &Result<u64, LedgerError>) {
        let answer = match (committed, self.result) {
            (Ok(number), Some(Ok(value))) => Ok((value, *number)),
            // Its own reason, also when it took the whole transaction along.
            (_, Some(Err(error))) => Err(error),
            (Err(error), _) => Err(error.clone()),
            (Ok(_), None) => Err(LedgerError::new("the operation was not run")),
        };
        // The asker may be gone; the record stands all the same.
        let _ = self.reply.send(answer);
    }
}

impl Ledger {
    /// Takes over the writing connection. Writes on blocking threads of the runtime that calls this.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(writer: LedgerWriter, durability: Durability, logger: Logger) -> Self {
        let sync = writer.sync_handle();
        let (outcomes, others) = (VecDeque::new(), VecDeque::new());
        let queue = Mutex::new(Queue { outcomes, others, writer: Some(writer) });
        let (sync_state, checkpoints) = (Mutex::default(), Mutex::default());
        let runtime = Handle::current();
        Self {
            shared: Arc::new(Shared { queue, durability, sync, sync_state, checkpoints, logger, runtime }),
        }
    }

    /// Writes; when this returns, the record is in the kernel and survives `kill -9`.
    pub async fn record<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LedgerTransaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.enqueue((Urgency::Other, OnFailure::Undone), work).await.map(|(value, _)| value)
    }

    /// The same for what may be done twice: see [`Ledger::record_outcome_and_more`].
    pub async fn record_repeatable<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LedgerTransaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(T, Commit), LedgerError> {
        let (value, number) = self.enqueue((Urgency::Other, OnFailure::Kept), work).await?;
        Ok((value, Commit(number)))
    }

    /// Writes what has happened outside: it goes ahead of what is only about to happen.
    pub async fn record_outcome<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LedgerTransaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.enqueue((Urgency::Outcome, OnFailure::Undone), work).await.map(|(value, _)| value)
    }

    /// The same for work of which a part may stay when it fails: the caller does all of it again until it succeeds, and
    /// doing it twice is doing it once.
    pub async fn record_outcome_and_more<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LedgerTransaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(T, Commit), LedgerError> {
        let (value, number) = self.enqueue((Urgency::Outcome, OnFailure::Kept), work).await?;
        Ok((value, Commit(number)))
    }

    /// Writes; when this returns, the record survives a power loss too, unless the settings ask for less.
    pub async fn record_durably<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LedgerTransaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (value, number) = self.enqueue((Urgency::Other, OnFailure::Undone), work).await?;
        self.on_disk(Commit(number)).await?;
        Ok(value)
    }

    /// Waits until a commit survives a power loss, unless the settings ask for less.
    pub async fn on_disk(&self, commit: Commit) -> Result<(), LedgerError> {
        if self.shared.durability == Durability::Process {
            return Ok(());
        }
        self.synced(commit.0).await
    }

    /// Has a commit synced to the disk, without waiting for that: at most the time of two syncs later it survives a power
    /// loss. After a sync that has failed it waits, like [`Ledger::on_disk`], until one succeeds.
    pub async fn on_disk_soon(&self, commit: Commit) -> Result<(), LedgerError> {
        let Commit(number) = commit;
        if self.shared.durability == Durability::Process {
            return Ok(());
        }
        let start = {
            let mut state = lock(&self.shared.sync_state);
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
        let committed = lock(&self.shared.sync_state).committed;
        self.synced(committed).await
    }

    async fn enqueue<T: Send + 'static>(
        &self,
        (urgency, on_failure): (Urgency, OnFailure),
        work: impl FnOnce(&mut LedgerTransaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(T, u64), LedgerError> {
        let (reply, answer) = oneshot::channel();
        let operation = Box::new(Queued { work: Some(work), on_failure, result: None, reply });
        let idle_writer = {
            let mut queue = lock(&self.shared.queue);
            match urgency {
                Urgency::Outcome => queue.outcomes.push_back(operation),
                Urgency::Other => queue.others.push_back(operation),
            }
            queue.writer.take()
        };
        if let Some(writer) = idle_writer {
            let turn = WritingTurn { shared: Arc::clone(&self.shared), writer: Some(writer) };
            start_dedicated(&self.shared.runtime, move || turn.take());
        }
        answer.await.map_err(|_| LedgerError::ended())?
    }

    async fn synced(&self, number: u64) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        let start = {
            let mut state = lock(&self.shared.sync_state);
            if state.synced >= number {
                return Ok(());
            }
            state.waiting.push((number, reply));
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
    fn write_until_empty(self: &Arc<Self>, mut writer: LedgerWriter) {
        loop {
            {
                let mut queue = lock(&self.queue);
                if queue.outcomes.is_empty() && queue.others.is_empty() {
                    queue.writer = Some(writer);
                    return;
                }
            }
            let mut group = Group::default();
            let committed = self.commit(&mut writer, &mut group);
            let count = group.operations.len();
            for operation in group.operations {
                operation.answer(&committed);
            }
            if committed.is_ok() {
                self.checkpoint_after(count);
            }
        }
    }

    /// Starts a checkpoint beside the writer when it is time for one: it takes syncs, for which no record is to wait.
    fn checkpoint_after(self: &Arc<Self>, operations: usize) {
        let mut checkpoints = lock(&self.checkpoints);
        checkpoints.operations += operations;
        if checkpoints.is_running || checkpoints.operations < OPERATIONS_PER_CHECKPOINT {
            return;
        }
        *checkpoints = Checkpoints { operations: 0, is_running: true };
        let shared = Arc::clone(self);
        start_dedicated(&self.runtime, move || {
            if let Err(error) = shared.sync.checkpoint() {
                // The log grows until one succeeds.
                slog::warn!(shared.logger, "the ledger's log was not copied"; "error" => %error);
            }
            lock(&shared.checkpoints).is_running = false;
        });
    }

    fn commit(&self, writer: &mut LedgerWriter, group: &mut Group) -> Result<u64, LedgerError> {
        let mut transaction = match writer.transaction() {
            Ok(transaction) => transaction,
            Err(error) => {
                // Nobody who waits now is to wait for longer.
                while let Some(operation) = self.next(group) {
                    group.operations.push(operation);
                }
                return Err(error.into());
            }
        };
        while let Some(mut operation) = self.next(group) {
            operation.run(&mut transaction);
            group.operations.push(operation);
            if transaction.is_lost() {
                // What came after would be committed by itself.
                return Err(LedgerError::new("the transaction was rolled back"));
            }
        }
        transaction.commit()?;
        let mut state = lock(&self.sync_state);
        state.committed += 1;
        Ok(state.committed)
    }

    /// The next operation of a transaction; none when it is to be committed.
    fn next(&self, group: &mut Group) -> Option<Box<dyn Operation>> {
        if group.operations.len() >= OPERATIONS_PER_TRANSACTION_MAX {
            return None;
        }
        let mut queue = lock(&self.queue);
        if let Some(outcome) = queue.outcomes.pop_front() {
            group.outcomes += 1;
            return Some(outcome);
        }
        let others = group.operations.len() - group.outcomes;
        if group.outcomes > 0 && others >= OTHERS_BESIDE_OUTCOMES_MAX {
            return None;
        }
        queue.others.pop_front()
    }

    fn sync_until_nobody_waits(&self) {
        loop {
            let target = {
                let mut state = lock(&self.sync_state);
                if state.waiting.is_empty() && state.wanted <= state.synced {
                    state.syncing = false;
                    return;
                }
                state.committed
            };
            let result = self.sync.sync().map_err(LedgerError::from);
            let mut state = lock(&self.sync_state);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
