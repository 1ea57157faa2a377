//! The group-committing writer of the ledger.
//!
//! Operations of all sessions queue up; whoever finds no writer at work starts one, which commits everything
//! queued in one transaction, and goes on until the queue is empty. An idle ledger so answers at once, a busy
//! one commits hundreds of records for the price of one. Syncing to the disk runs beside it: a record reaches
//! the kernel without waiting for the disk, and one sync covers all records before it.
//!
//! Operations that come one at a time, each shortly after the one before, are those of a lane that waits for its record
//! before it sends its next message. Then the writer looks for the next one for a moment before it gives its thread back.
//!
//! Outcomes go ahead of everything else: what a platform has taken may be sent twice until its record is in the
//! kernel. A transaction with an outcome therefore holds few other operations.

mod pace;
mod sync;

pub use sync::Commit;

use crate::settings::Durability;
use crate::store::error::StoreError;
use crate::store::ledger::{LedgerSync, LedgerTransaction, LedgerWriter};
use crate::supervise::blocking::start_dedicated;
use pace::Pace;
use slog::Logger;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use sync::Syncing;
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
    syncing: Syncing,
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
    pace: Pace,
    /// Present while nobody writes.
    writer: Option<LedgerWriter>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.others.is_empty()
    }
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

/// The operations of one transaction.
#[derive(Default)]
struct Group {
    operations: Vec<Box<dyn Operation>>,
    outcomes: usize,
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
        let queue = Mutex::new(Queue { outcomes, others, pace: Pace::default(), writer: Some(writer) });
        let (syncing, checkpoints) = (Syncing::default(), Mutex::default());
        let runtime = Handle::current();
        Self { shared: Arc::new(Shared { queue, durability, sync, syncing, checkpoints, logger, runtime }) }
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
}

impl Shared {
    fn write_until_empty(self: &Arc<Self>, mut writer: LedgerWriter) {
        let mut count = 0;
        loop {
            if !self.has_operations(count) {
                let mut queue = lock(&self.queue);
                if queue.is_empty() {
                    queue.writer = Some(writer);
                    return;
                }
            }
            let mut group = Group::default();
            let committed = self.commit(&mut writer, &mut group);
            count = group.operations.len();
            for operation in group.operations {
                operation.answer(&committed);
            }
            if committed.is_ok() {
                self.checkpoint_after(count);
            }
        }
    }

    /// Whether operations are queued. After a transaction of one that came shortly after another, it waits for a moment
    /// for the next one. Others who need the processor get it meanwhile.
    fn has_operations(&self, last_count: usize) -> bool {
        let expected_until = {
            let mut queue = lock(&self.queue);
            let now = Instant::now();
            if !queue.is_empty() {
                queue.pace.resumed(now);
                return true;
            }
            queue.pace.emptied(last_count, now)
        };
        let Some(until) = expected_until else { return false };
        loop {
            std::hint::spin_loop();
            std::thread::yield_now();
            let mut queue = lock(&self.queue);
            let now = Instant::now();
            if !queue.is_empty() {
                queue.pace.resumed(now);
                return true;
            }
            if now >= until {
                return false;
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
        Ok(self.syncing.committed())
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
