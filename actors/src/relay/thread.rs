//! A relay on a thread of its own: for tokio applications, and for programs without a runtime.

use super::{Relay, RelayBuilder, StartError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How long sends on their way may take when the owner of a relay is dropped without a shutdown.
const DROPPED_SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// The thread of a relay has panicked. What was going on is in the ledger; start another relay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the relay's thread panicked: {reason}")]
pub struct ThreadPanicked {
    /// The words of the panic.
    pub reason: String,
}

/// The owner of a relay that runs on a thread of its own. The thread has its own actix system.
///
/// [`RelayThread::relay`] is the handle: clone it to wherever it is needed, also to other runtimes. The thread ends with
/// [`RelayThread::shutdown`], or with a shutdown of any handle. When the owner is dropped, the relay shuts down by itself:
/// sends on their way get 10 s, and nobody waits for that.
///
/// ```
/// # use nanorelay_actors::testing::{DataDir, MockChannel, SessionSpec};
/// use nanorelay_actors::relay::Relay;
/// use std::time::Duration;
///
/// # let data = DataDir::new();
/// # data.session(SessionSpec::new("ag-main").chat("slack", "slack:C1")).text("hello");
/// # let (data_dir, adapter) = (data.path(), MockChannel::new());
/// let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
/// runtime.block_on(async {
///     let owner = Relay::builder(data_dir).channel("slack", adapter).start_on_thread().await?;
///     let relay = owner.relay().clone();
///     let report = tokio::spawn(async move { relay.drain(Duration::from_secs(10)).await }).await?;
///     assert_eq!(report.delivered, 1);
///     owner.shutdown(Duration::from_secs(5)).await?;
///     Ok(())
/// })
/// # as Result<(), Box<dyn std::error::Error>>
/// # ; Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RelayThread {
    relay: Relay,
    /// The runtime of the thread.
    runtime: Handle,
    /// What the thread said at its end.
    end: oneshot::Receiver<Result<(), ThreadPanicked>>,
    thread: JoinHandle<()>,
    /// When this goes, the thread shuts its relay down.
    owner: oneshot::Sender<()>,
}

impl RelayThread {
    /// The handle of the relay.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Waits for a method of the handle on a thread without a runtime.
    ///
    /// ```
    /// # use nanorelay_actors::{relay::Relay, report::DeliveryFilter, testing::DataDir};
    /// # let data = DataDir::new();
    /// # let data_dir = data.path();
    /// let owner = Relay::builder(data_dir).start_on_thread_blocking()?;
    /// let deliveries = owner.block_on(owner.relay().deliveries(DeliveryFilter::default()))?;
    /// assert!(deliveries.is_empty());
    /// owner.shutdown_blocking(std::time::Duration::from_secs(5))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// Inside a runtime: await the method there.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Shuts the relay down as [`Relay::shutdown`] does, and waits for the end of its thread. Nothing of it is left then.
    ///
    /// # Errors
    /// When the thread has panicked.
    pub async fn shutdown(self, deadline: Duration) -> Result<(), ThreadPanicked> {
        self.relay.shutdown(deadline).await;
        self.join().await
    }

    /// The same on a thread without a runtime.
    ///
    /// # Errors
    /// When the thread has panicked.
    ///
    /// # Panics
    /// Inside a runtime: await [`RelayThread::shutdown`] there.
    pub fn shutdown_blocking(self, deadline: Duration) -> Result<(), ThreadPanicked> {
        self.runtime.clone().block_on(self.shutdown(deadline))
    }

    /// Waits until some handle has shut the relay down and its thread has ended.
    ///
    /// # Errors
    /// When the thread has panicked.
    pub async fn join(self) -> Result<(), ThreadPanicked> {
        let Self { end, thread, owner: _owner, .. } = self;
        let ended =
            end.await.unwrap_or_else(|_| Err(ThreadPanicked { reason: "no reason was told".to_owned() }));
        // It has said its last word: this takes no time.
        let _ = thread.join();
        ended
    }
}

impl RelayBuilder {
    /// Starts the relay on a thread of its own, which has its own actix system. The returned owner's handle works from
    /// every runtime and every thread.
    ///
    /// # Errors
    /// As [`RelayBuilder::start`], and when the thread cannot be made or panics.
    pub async fn start_on_thread(self) -> Result<RelayThread, StartError> {
        let (starting, answer) = Starting::begin(self)?;
        starting.finish(answer.await)
    }

    /// The same on a thread without a runtime.
    ///
    /// # Errors
    /// As [`RelayBuilder::start_on_thread`].
    ///
    /// # Panics
    /// Inside a runtime.
    pub fn start_on_thread_blocking(self) -> Result<RelayThread, StartError> {
        let (starting, answer) = Starting::begin(self)?;
        starting.finish(answer.blocking_recv())
    }
}

type Started = Result<(Relay, Handle), StartError>;

/// A thread whose relay may not have started yet.
struct Starting {
    end: oneshot::Receiver<Result<(), ThreadPanicked>>,
    thread: JoinHandle<()>,
    owner: oneshot::Sender<()>,
}

impl Starting {
    fn begin(builder: RelayBuilder) -> Result<(Self, oneshot::Receiver<Started>), StartError> {
        let (started, answer) = oneshot::channel();
        let (ending, end) = oneshot::channel();
        let (owner, dropped) = oneshot::channel();
        let run = move || {
            let ran = catch_unwind(AssertUnwindSafe(|| {
                actix_rt::System::new().block_on(live(builder, started, dropped));
            }));
            let _ = ending.send(ran.map_err(|payload| ThreadPanicked { reason: words(&*payload) }));
        };
        let thread = thread::Builder::new()
            .name("nanorelay".to_owned())
            .spawn(run)
            .map_err(|error| StartError::Thread(format!("cannot be made: {error}")))?;
        Ok((Self { end, thread, owner }, answer))
    }

    fn finish(self, answer: Result<Started, oneshot::error::RecvError>) -> Result<RelayThread, StartError> {
        let Self { mut end, thread, owner } = self;
        match answer {
            Ok(Ok((relay, runtime))) => Ok(RelayThread { relay, runtime, end, thread, owner }),
            Ok(Err(error)) => {
                let _ = thread.join();
                Err(error)
            }
            Err(_) => {
                let _ = thread.join();
                let reason = match end.try_recv() {
                    Ok(Err(panicked)) => panicked.reason,
                    _ => "no reason was told".to_owned(),
                };
                Err(StartError::Thread(format!("panicked: {reason}")))
            }
        }
    }
}

/// The life of the thread.
async fn live(builder: RelayBuilder, started: oneshot::Sender<Started>, owner: oneshot::Receiver<()>) {
    let relay = match builder.start().await {
        Ok(relay) => relay,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    // An owner that is gone already shows below.
    let _ = started.send(Ok((relay.clone(), Handle::current())));
    tokio::select! {
        () = relay.ended() => {}
        _ = owner => relay.shutdown(DROPPED_SHUTDOWN_DEADLINE).await,
    }
}

fn words(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}

#[cfg(test)]
mod tests;
