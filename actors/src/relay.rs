//! The handle of a running host, and the same commands for one that is stopped.

mod audit;
mod builder;
mod channels;
mod chats;
mod deliveries;
mod error;
mod events;
mod extensions;
mod health;
mod home;
mod inbox;
mod interventions;
mod lanes;
mod lists;
mod pauses;
mod questions;
mod rebuild;
mod root;
mod session_files;
mod sessions;
mod snapshot;
mod standing;
mod stopped;
mod tasks;
mod tenants;
mod thread;

pub use audit::AuditId;
pub use builder::{RelayBuilder, StartError};
pub use error::OperationError;
pub use events::EventStream;
pub use health::HealthCheck;
pub use pauses::Resume;
pub use questions::{Answer, AnswerError, QuestionList, QuestionRecord};
pub use sessions::{CreateSessionError, ReadySession, SessionMode, SessionRequest, UnresolvedSession};
pub use snapshot::RelaySnapshot;
pub use stopped::StoppedHost;
pub use thread::{RelayThread, ThreadPanicked};

use self::extensions::Extensions;
use crate::engine::Engine;
use crate::engine::control::Terminate;
use crate::engine::statistics::StatisticsSnapshot;
use crate::model::ids::{ChannelType, SessionId};
use crate::model::route::AGENT_CHANNEL_TYPE;
use crate::registry::{CentralChanged, LookAtSessions};
use crate::report::{DrainReport, PruneReport, SessionFilter, SessionRecord};
use crate::runtime::AgentRecord;
use crate::session::messages::LookReason;
use crate::store::error::StoreError;
use crate::store::ledger::Left;
use home::{Home, WhenCallerGoes};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The shortest pause between two looks at what is left while draining.
const DRAIN_PAUSE_MIN: Duration = Duration::from_millis(5);

/// A running host. Cheap to clone; it runs until [`Relay::shutdown`].
#[derive(Clone)]
pub struct Relay {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<Engine>,
    /// Where it lives.
    home: Home,
    /// Whether a shutdown has come to its end.
    ended: watch::Sender<bool>,
    /// The task that brings the supervisor back.
    root: actix_rt::task::JoinHandle<()>,
    /// The task that keeps the ledger small.
    pruning: actix_rt::task::JoinHandle<()>,
    /// The task that cares for the agents.
    caring: actix_rt::task::JoinHandle<()>,
    /// Drains that go on.
    draining: AtomicUsize,
    /// What others keep for as long as the relay lives.
    extensions: Extensions,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("data_dir", &self.engine().data_dir).finish_non_exhaustive()
    }
}

impl Relay {
    /// Chooses what a relay on `data_dir` is made of. `data_dir` is the folder that holds `v2.db` and
    /// `v2-sessions/`.
    pub fn builder(data_dir: impl Into<PathBuf>) -> RelayBuilder {
        RelayBuilder::new(data_dir.into())
    }

    /// The folder that holds `v2.db` and `v2-sessions/`.
    pub fn data_dir(&self) -> &Path {
        &self.engine().data_dir
    }

    /// Where the relay logs.
    pub fn logger(&self) -> &slog::Logger {
        &self.engine().logger
    }

    /// Counts since the start.
    pub fn statistics(&self) -> StatisticsSnapshot {
        self.engine().statistics.snapshot()
    }

    /// Waits until nothing is going on: all that is due and can be done now is done.
    pub async fn settle(&self) {
        self.engine().activity.idle().await;
    }

    /// Looks at every session, delivers all that is due, and waits for retries that come within `deadline`.
    ///
    /// Messages of a type without a channel, or of one that is paused until it is resumed, are not waited for. Counts are those since the start of the relay.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let relay = self.clone();
        let drained =
            self.at_home(WhenCallerGoes::Abort, move || async move { relay.drain_here(deadline).await });
        // Where nothing runs any more, nobody can say what is left.
        drained.await.unwrap_or_else(|| self.report(&Left { held: 1, ..Left::default() }))
    }

    async fn drain_here(&self, deadline: Duration) -> DrainReport {
        let _draining = health::Draining::begin(&self.shared.draining);
        let started = tokio::time::Instant::now();
        self.look(None, LookReason::Reload).await;
        loop {
            let remaining = deadline.saturating_sub(started.elapsed());
            let is_idle = tokio::time::timeout(remaining, self.settle()).await.is_ok();
            let tokens_taken = self.engine().activity.tokens_taken();
            let left = match self.left().await {
                Ok(left) => left,
                Err(error) => {
                    slog::error!(self.engine().logger, "ledger cannot be read"; "error" => %error);
                    Left { held: 1, ..Left::default() }
                }
            };
            let now = self.engine().now();
            let remaining = deadline.saturating_sub(started.elapsed());
            let is_current =
                self.engine().activity.is_idle() && self.engine().activity.tokens_taken() == tokens_taken;
            if is_idle && !is_current && !remaining.is_zero() {
                // A retry's time came while the ledger was read: what was read is old.
                continue;
            }
            let wait = left.next_retry_at.map(|at| at.since(now)).filter(|wait| *wait < remaining);
            match wait {
                Some(wait) if is_idle => tokio::time::sleep(wait.max(DRAIN_PAUSE_MIN)).await,
                _ => return self.report(&left),
            }
        }
    }

    fn report(&self, left: &Left) -> DrainReport {
        let counted = self.statistics();
        DrainReport {
            delivered: counted.delivered,
            applied: counted.applied,
            routed: counted.routed,
            dead: counted.dead,
            // What is still due at the deadline will be tried again too.
            retrying: left.retrying + left.due,
            held: left.held,
            ambiguous: left.ambiguous,
            scheduled: left.scheduled,
        }
    }

    async fn left(&self) -> Result<Left, OperationError> {
        self.read(|engine| {
            let is_served = |name: &str| {
                name == AGENT_CHANNEL_TYPE
                    || ChannelType::new(name).is_ok_and(|name| engine.may_send_to(&name))
            };
            engine.ledger_reader.left(engine.now(), &is_served)
        })
        .await
    }

    /// Ends the relay: takes nothing new in, stops the agents of its runtime, waits for sends on their way for at most `deadline`, tells the
    /// sessions what was delivered, and stops all actors. What is cut off is in the ledger.
    pub async fn shutdown(&self, deadline: Duration) {
        if *self.shared.ended.borrow() {
            return;
        }
        let relay = self.clone();
        // It goes on when its caller gives up waiting: half a shutdown helps nobody.
        let ended =
            self.at_home(WhenCallerGoes::GoOn, move || async move { relay.shut_down_here(deadline).await });
        if ended.await.is_none() {
            slog::error!(self.engine().logger, "the relay's arbiter has ended before its relay");
        }
        self.shared.ended.send_replace(true);
    }

    /// Waits until a shutdown of any handle has come to its end.
    pub async fn ended(&self) {
        // The sender lives as long as this handle.
        let _ = self.shared.ended.subscribe().wait_for(|ended| *ended).await;
    }

    async fn shut_down_here(&self, deadline: Duration) {
        let engine = self.engine();
        engine.stopping.store(true, Ordering::Release);
        let begun = tokio::time::Instant::now();
        let runtime = Arc::clone(&engine.runtime);
        // A task of its own: a runtime that panics must not keep the relay from its end.
        if actix_rt::spawn(async move { runtime.shutdown(deadline).await }).await.is_err() {
            slog::error!(engine.logger, "the agent runtime panicked in its shutdown");
        }
        // After the agents: their last words are work too, and so is what `v2.db` is told of their ends.
        let left = deadline.saturating_sub(begun.elapsed());
        let is_idle = tokio::time::timeout(left, self.settle()).await.is_ok();
        if !is_idle {
            slog::warn!(engine.logger, "work was cut off at the deadline of the shutdown");
        }
        self.shared.root.abort();
        self.shared.pruning.abort();
        self.shared.caring.abort();
        crate::runtime::care::write_statuses(engine).await;
        crate::runtime::care::write_active(engine).await;
        self.terminate_actors().await;
        engine.events.close();
        engine.save_rest_marks().await;
        if let Err(error) = engine.ledger.flush().await {
            slog::error!(engine.logger, "ledger not flushed"; "error" => %error);
        }
        // With work cut off the lock stays until the process ends: somebody may still be recording.
        if is_idle {
            engine.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    async fn terminate_actors(&self) {
        let directory = &self.engine().directory;
        if let Some(sweep) = directory.sweep() {
            let _ = sweep.send(Terminate).await;
        }
        if let Some(registry) = directory.registry() {
            let _ = registry.send(Terminate).await;
        }
        for (session, living) in directory.sessions() {
            let _ = living.address.send(Terminate).await;
            directory.remove_session(&session, living.incarnation);
        }
        for (name, channel) in directory.channels() {
            let _ = channel.send(Terminate).await;
            directory.set_channel(name, None);
        }
        if let Some(scheduler) = directory.task_scheduler() {
            let _ = scheduler.send(Terminate).await;
        }
        directory.set_sweep(None);
        directory.set_registry(None);
        directory.set_task_scheduler(None);
    }

    /// Sessions that cannot be served at the moment, with the reason.
    pub async fn quarantined(&self) -> Result<BTreeMap<String, String>, OperationError> {
        self.read(|engine| engine.ledger_reader.quarantined()).await
    }

    /// The sessions that match, by id; only those that a relay has read or tried to read.
    pub async fn sessions(&self, filter: SessionFilter) -> Result<Vec<SessionRecord>, OperationError> {
        self.read(move |engine| engine.ledger_reader.sessions(&filter)).await
    }

    /// Clears the reason why a session cannot be served, and looks at it again now. Returns whether there was one. If
    /// the reason still holds, it is there again at once.
    pub async fn release(&self, session: SessionId) -> Result<bool, OperationError> {
        let (id, now) = (session.clone(), self.engine().now());
        let released = self.engine().ledger.record_durably(move |ledger| ledger.release_session(&id, now));
        let released = released.await?;
        self.look(Some(vec![session]), LookReason::Release).await;
        Ok(released)
    }

    /// The agents that run, want to, or failed, by session; none when they are somebody else's.
    pub async fn agents(&self) -> Vec<AgentRecord> {
        let engine = Arc::clone(self.engine());
        let agents =
            self.at_home(WhenCallerGoes::Abort, move || async move { engine.runtime.agents().await });
        let mut agents = agents.await.unwrap_or_default();
        agents.sort_by(|a, b| a.session_id.cmp(&b.session_id));
        agents
    }

    /// Makes the ledger forget now what [`crate::settings::Retention`] says that it need not keep. A running relay
    /// does so by itself, every hour.
    pub async fn prune_ledger(&self) -> Result<PruneReport, OperationError> {
        crate::retention::prune(self.engine()).await
    }

    /// Makes an actor panic, to show that the others go on.
    #[cfg(feature = "testing")]
    pub fn inject_panic(&self, name: &crate::supervise::exit_guard::ActorName) -> bool {
        use crate::engine::control::InjectPanic;
        use crate::supervise::exit_guard::ActorName;
        let directory = &self.engine().directory;
        match name {
            ActorName::Sweep => directory.sweep().is_some_and(|sweep| sweep.try_send(InjectPanic).is_ok()),
            ActorName::Registry => {
                directory.registry().is_some_and(|actor| actor.try_send(InjectPanic).is_ok())
            }
            ActorName::TaskScheduler => {
                directory.task_scheduler().is_some_and(|actor| actor.try_send(InjectPanic).is_ok())
            }
            ActorName::Channel(name) => {
                directory.channel(name).is_some_and(|actor| actor.try_send(InjectPanic).is_ok())
            }
            ActorName::Session(session) => {
                directory.session(session).is_some_and(|living| living.address.try_send(InjectPanic).is_ok())
            }
        }
    }

    async fn look(&self, sessions: Option<Vec<SessionId>>, reason: LookReason) {
        let message = LookAtSessions { sessions, reason, _token: self.engine().activity.token() };
        if let Some(registry) = self.engine().directory.registry() {
            // A registry that has just died looks at every session when it is back.
            let _ = registry.send(message).await;
        }
    }

    /// Reads `v2.db` again if it says something new.
    async fn refresh_central(&self) -> Result<(), OperationError> {
        let known = self.engine().snapshot().version;
        let read = move |engine: &Engine| {
            let is_known = engine.central.data_version()? == known;
            if is_known { Ok(None) } else { engine.central.load_snapshot().map(Some) }
        };
        if let Some(snapshot) = self.read(read).await?
            && let Some(registry) = self.engine().directory.registry()
        {
            // A registry that has just died gets it from the supervisor.
            let _ = registry.send(CentralChanged { snapshot }).await;
        }
        Ok(())
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, OperationError> {
        let engine = Arc::clone(self.engine());
        Ok(self.engine().blocking.run(move || read(&engine)).await??)
    }

    /// Runs on the relay's arbiter what needs its timers, or what an embedding program wrote for it; `None` when that has
    /// ended.
    async fn at_home<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        when_caller_goes: WhenCallerGoes,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Option<T> {
        self.shared.home.run(when_caller_goes, work).await
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }
}
