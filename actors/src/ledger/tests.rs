use super::*;
use crate::model::ids::{AgentGroupId, SessionId};
use crate::model::time::Timestamp;
use std::sync::mpsc::{self, Receiver, Sender};

fn ledger() -> (tempfile::TempDir, Ledger) {
    let folder = tempfile::tempdir().unwrap();
    let writer = LedgerWriter::open(folder.path()).unwrap();
    (folder, Ledger::new(writer, Durability::Process, slog::Logger::root(slog::Discard, slog::o!())))
}

/// Starts an operation that holds the writer until the returned gate is opened.
async fn hold(ledger: &Ledger) -> (Sender<()>, tokio::task::JoinHandle<Result<(), LedgerError>>) {
    let (gate, opened) = mpsc::channel();
    let (started, is_held) = oneshot::channel();
    let ledger = ledger.clone();
    let held = tokio::spawn(async move { ledger.record(waits(Some(started), opened)).await });
    is_held.await.unwrap();
    (gate, held)
}

/// An operation that says that it has started and waits until it may go on.
fn waits(
    started: Option<oneshot::Sender<()>>,
    opened: Receiver<()>,
) -> impl FnOnce(&mut LedgerTransaction<'_>) -> Result<(), StoreError> + Send + 'static {
    move |_| {
        let _ = started.map(|started| started.send(()));
        let _ = opened.recv();
        Ok(())
    }
}

#[tokio::test]
async fn an_outcome_waits_for_few_of_the_operations_before_it() {
    let (_folder, ledger) = ledger();
    let (gate, held) = hold(&ledger).await;
    // More are queued before the outcome than fit beside it, and the last one never ends.
    let (last_gate, last_opened) = mpsc::channel();
    let count = OTHERS_BESIDE_OUTCOMES_MAX;
    let others: Vec<_> = (0..count).map(|_| queued(Box::pin(ledger.record(|_| Ok(()))))).collect();
    let last = queued(Box::pin(ledger.record(waits(None, last_opened))));
    let outcome = queued(Box::pin(ledger.record_outcome(|_| Ok("recorded"))));
    gate.send(()).unwrap();
    assert_eq!(outcome.await, Ok("recorded"));
    held.await.unwrap().unwrap();
    last_gate.send(()).unwrap();
    last.await.unwrap();
    for other in others {
        other.await.unwrap();
    }
}

/// Polls once: the operation is in the queue then.
fn queued<F: Future + Unpin>(mut future: F) -> F {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::Pin::new(&mut future).poll(&mut context).is_pending());
    future
}

#[tokio::test]
async fn outcomes_without_end_starve_nobody() {
    let (_folder, ledger) = ledger();
    let (gate, held) = hold(&ledger).await;
    let other = queued(Box::pin(ledger.record(|_| Ok(()))));
    let ledger_inside = ledger.clone();
    let outcomes = tokio::spawn(async move {
        loop {
            ledger_inside.record_outcome(|_| Ok(())).await.unwrap();
        }
    });
    gate.send(()).unwrap();
    held.await.unwrap().unwrap();
    other.await.unwrap();
    outcomes.abort();
}

#[tokio::test]
async fn the_log_is_copied_into_the_file_after_many_operations() {
    let (folder, ledger) = ledger();
    let size = || folder.path().join("nanorelay.db").metadata().unwrap().len();
    let before = size();
    for number in 0..OPERATIONS_PER_CHECKPOINT {
        let session = SessionId::new(&format!("sess-{number}")).unwrap();
        let group = AgentGroupId::new("ag-main").unwrap();
        let now = Timestamp::from_ms(0);
        ledger
            .record(move |ledger| ledger.set_quarantine(&session, &group, Some("a reason"), now))
            .await
            .unwrap();
    }
    // It is copied beside the writer, which tells nobody.
    let copied = async {
        while size() == before {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), copied).await.expect("the log is copied");
}

#[test]
fn whoever_writes_after_the_end_of_the_runtime_hears_of_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (_folder, ledger) = runtime.block_on(async { ledger() });
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let written = other.block_on(ledger.record(|_| Ok(7)));
    assert_eq!(written, Ok(7), "a caller in another runtime is served");
    drop(runtime);
    for _ in 0..2 {
        assert_eq!(other.block_on(ledger.record(|_| Ok(7))), Err(LedgerError::ended()));
        assert_eq!(other.block_on(ledger.record_durably(|_| Ok(7))), Err(LedgerError::ended()));
        assert_eq!(
            other.block_on(ledger.flush()),
            Err(LedgerError::ended()),
            "the first record is not synced"
        );
    }
}
