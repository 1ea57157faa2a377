//! The supervisor: hears of every actor's end and brings it back, and sees to it at intervals that no session was
//! forgotten.

use crate::channel::ChannelActor;
use crate::engine::Engine;
use crate::limits::MAILBOX_CAPACITY;
use crate::model::ids::SessionId;
use crate::model::time::Timestamp;
use crate::registry::{CentralChanged, LookAtSessions, RegistryActor, SessionEnded};
use crate::session::messages::LookReason;
use crate::store::central::{CentralSnapshot, ContainerStatus, SessionStatus};
use crate::store::error::StoreError;
use crate::store::session_dir::{FileIdentity, SessionFile};
use crate::supervise::exit_guard::{ActorName, Exit, ExitGuard};
use crate::supervise::restart_policy::{Restart, RestartHistory, RestartPolicy};
use crate::task_scheduler::TaskSchedulerActor;
use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, MessageResult, WrapFuture,
};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Pause before another try when the registry could not be told about an end.
const REGISTRY_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Supervises all other actors, and sweeps.
pub struct SweepActor {
    engine: Arc<Engine>,
    policy: RestartPolicy,
    /// Recent deaths by actor.
    histories: HashMap<ActorName, RestartHistory>,
    /// `outbound.db` of each session as the last round saw it.
    seen: HashMap<SessionId, FileIdentity>,
    /// `PRAGMA data_version` of `v2.db` at the last look.
    central_version: Option<i64>,
    /// Whether a look at `v2.db` is going on.
    is_looking: bool,
    /// The rounds through the folders that are going on.
    rounds: HashSet<Round>,
    last_sweep: Option<Timestamp>,
    /// Tells the root about this actor's end.
    _guard: ExitGuard,
}

/// An actor has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ActorEnded {
    pub exit: Exit,
}

/// Read `v2.db` again now.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RefreshCentral;

/// Asks for a [`SweepSnapshot`].
#[derive(Message)]
#[rtype(result = "SweepSnapshot")]
pub struct ObserveSweep;

/// The state of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SweepSnapshot {
    /// Actors that died in the recent past.
    pub actors_with_deaths: usize,
    /// When the last sweep ended, in milliseconds since 1970.
    pub last_sweep_ms: Option<i64>,
}

impl SweepActor {
    /// Starts the actor.
    pub(crate) fn launch(engine: &Arc<Engine>) -> Addr<Self> {
        let guard = engine.guard(ActorName::Sweep);
        let engine_inside = Arc::clone(engine);
        let address = SweepActor::create(move |ctx: &mut Context<Self>| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            SweepActor {
                engine: engine_inside,
                policy: RestartPolicy::default(),
                histories: HashMap::new(),
                seen: HashMap::new(),
                central_version: None,
                is_looking: false,
                rounds: HashSet::new(),
                last_sweep: None,
                _guard: guard,
            }
        });
        engine.directory.set_sweep(Some(address.clone()));
        address
    }

    fn restart(&mut self, exit: Exit, ctx: &mut Context<Self>) {
        let delay = match self
            .histories
            .entry(exit.name.clone())
            .or_default()
            .decide(&self.policy, self.engine.now())
        {
            Restart::After(delay) => delay,
            Restart::TooOften { retry_in } => {
                slog::error!(self.engine.logger, "actor dies too often"; "actor" => %exit.name,
                    "retry_in_ms" => u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX));
                if let ActorName::Session(session) = &exit.name {
                    self.tell_session_ended(session.clone(), &exit, (false, true), ctx);
                }
                retry_in
            }
        };
        self.engine.statistics.count_restart();
        ctx.run_later(delay, move |actor, ctx| actor.bring_back(exit, ctx));
    }

    fn bring_back(&mut self, exit: Exit, ctx: &mut Context<Self>) {
        if self.engine.is_stopping() {
            return;
        }
        slog::info!(self.engine.logger, "actor restarted"; "actor" => %exit.name);
        match &exit.name {
            ActorName::Registry => {
                RegistryActor::launch(&self.engine);
                self.look_at(None, LookReason::Hint);
            }
            ActorName::TaskScheduler => {
                TaskSchedulerActor::launch(&self.engine);
                // It has forgotten all due times; each session says its own again.
                self.look_at(None, LookReason::Due);
            }
            ActorName::Channel(name) => {
                if let Some(account) = self.engine.channels.named(name) {
                    ChannelActor::launch(&self.engine, account);
                }
            }
            ActorName::Session(session) => {
                self.tell_session_ended(session.clone(), &exit, (true, false), ctx)
            }
            // The root brings this one back.
            ActorName::Sweep => {}
        }
    }

    /// Tells the registry, again and again while it is down.
    fn tell_session_ended(
        &self,
        session_id: SessionId,
        exit: &Exit,
        (revive, keep_away): (bool, bool),
        ctx: &mut Context<Self>,
    ) {
        let incarnation = exit.incarnation;
        let token = exit.token.clone();
        let message = SessionEnded {
            session_id: session_id.clone(),
            incarnation,
            revive,
            keep_away,
            _token: token.clone(),
        };
        let sent =
            self.engine.directory.registry().is_some_and(|registry| registry.try_send(message).is_ok());
        if !sent && !self.engine.is_stopping() {
            let exit = Exit { name: exit.name.clone(), incarnation, panicked: exit.panicked, token };
            ctx.run_later(REGISTRY_RETRY_PAUSE, move |actor, ctx| {
                actor.tell_session_ended(session_id, &exit, (revive, keep_away), ctx);
            });
        }
    }

    fn look_at(&self, sessions: Option<Vec<SessionId>>, reason: LookReason) {
        let token = self.engine.activity.token();
        if let Some(registry) = self.engine.directory.registry() {
            // A registry that is down looks at every session when it is back.
            let _ = registry.try_send(LookAtSessions { sessions, reason, _token: token });
        }
    }

    /// Reads `v2.db` again when another process has changed it.
    fn look_at_central(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_looking, true) {
            return;
        }
        let (engine, known) = (Arc::clone(&self.engine), self.central_version);
        let look = async move {
            let central = Arc::clone(&engine.central);
            let read = engine.blocking.run(move || {
                let version = central.data_version()?;
                let snapshot = if Some(version) == known { None } else { Some(central.load_snapshot()?) };
                Ok::<_, StoreError>((version, snapshot))
            });
            read.await
        };
        let looked = look.into_actor(self).map(|result, actor, _| {
            actor.is_looking = false;
            match result {
                Ok(Ok((version, snapshot))) => actor.central_read(version, snapshot),
                Ok(Err(error)) => {
                    slog::error!(actor.engine.logger, "v2.db cannot be read"; "error" => %error);
                }
                Err(error) => slog::error!(actor.engine.logger, "v2.db cannot be read"; "error" => %error),
            }
        });
        ctx.spawn(looked);
    }

    fn central_read(&mut self, version: i64, snapshot: Option<CentralSnapshot>) {
        self.central_version = Some(version);
        let Some(snapshot) = snapshot else { return };
        self.seen.retain(|session, _| snapshot.sessions.contains_key(session));
        for (id, reason) in &snapshot.skipped {
            slog::warn!(self.engine.logger, "row of v2.db is skipped"; "id" => id, "reason" => reason);
        }
        if let Some(registry) = self.engine.directory.registry() {
            let _ = registry.try_send(CentralChanged { snapshot });
        }
    }

    /// Looks which session files have changed since the last round, without opening any.
    fn look_at_folders(&mut self, which: Round, ctx: &mut Context<Self>) {
        // Rounds that take longer than their interval would pile up, and keep the sessions from their work.
        if !self.rounds.insert(which) {
            return;
        }
        let (engine, seen) = (Arc::clone(&self.engine), self.seen.clone());
        let blocking = engine.blocking.clone();
        let look = async move { blocking.run(move || changed_files(&engine, &seen, which)).await };
        let looked = look.into_actor(self).map(move |result, actor, _| {
            actor.rounds.remove(&which);
            let Ok(changed) = result else { return };
            let changed_sessions: Vec<SessionId> =
                changed.iter().map(|(session, _)| session.clone()).collect();
            actor.seen.extend(changed);
            match which {
                Round::Running => actor.look_at(Some(changed_sessions), LookReason::Hint),
                Round::All => actor.swept(&changed_sessions),
            }
        });
        ctx.spawn(looked);
    }

    fn swept(&mut self, changed: &[SessionId]) {
        self.last_sweep = Some(self.engine.now());
        let snapshot = self.engine.snapshot();
        let active = snapshot.sessions.values().filter(|facts| facts.status == SessionStatus::Active);
        let mut sessions: HashSet<SessionId> = active.map(|facts| facts.id.clone()).collect();
        // Closed sessions are looked at only for what they still have to say.
        sessions.extend(changed.iter().cloned());
        self.look_at(Some(sessions.into_iter().collect()), LookReason::Sweep);
    }
}

/// Which sessions a look at the folders covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Round {
    /// Those whose agents run: the fallback where file events do not arrive.
    Running,
    /// All.
    All,
}

fn changed_files(
    engine: &Engine,
    seen: &HashMap<SessionId, FileIdentity>,
    which: Round,
) -> Vec<(SessionId, FileIdentity)> {
    let snapshot = engine.snapshot();
    let mut changed = Vec::new();
    for facts in snapshot.sessions.values() {
        let is_running =
            facts.status == SessionStatus::Active && facts.container_status != ContainerStatus::Stopped;
        if which == Round::Running && !is_running {
            continue;
        }
        let identity = engine
            .sessions_root
            .session(&facts.agent_group_id, &facts.id)
            .and_then(|directory| directory.identity(SessionFile::Outbound));
        // A folder that is missing or refused is the session actor's to judge.
        let Ok(Some(identity)) = identity else { continue };
        if seen.get(&facts.id) != Some(&identity) {
            changed.push((facts.id.clone(), identity));
        }
    }
    changed
}

impl Actor for SweepActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let settings = &self.engine.settings;
        ctx.run_interval(settings.poll_interval, |actor, ctx| {
            actor.look_at_central(ctx);
            actor.look_at_folders(Round::Running, ctx);
        });
        ctx.run_interval(settings.sweep_interval, |actor, ctx| actor.look_at_folders(Round::All, ctx));
    }
}

impl Handler<ActorEnded> for SweepActor {
    type Result = ();

    fn handle(&mut self, message: ActorEnded, ctx: &mut Self::Context) {
        let exit = message.exit;
        if self.engine.is_stopping() {
            return;
        }
        match &exit.name {
            ActorName::Registry => self.engine.directory.set_registry(None),
            ActorName::TaskScheduler => self.engine.directory.set_task_scheduler(None),
            ActorName::Channel(name) => self.engine.directory.set_channel(name.clone(), None),
            ActorName::Session(session) => self.engine.directory.remove_session(session, exit.incarnation),
            ActorName::Sweep => {}
        }
        if exit.panicked {
            slog::error!(self.engine.logger, "actor panicked"; "actor" => %exit.name);
        }
        match &exit.name {
            ActorName::Session(session) if !exit.panicked => {
                self.tell_session_ended(session.clone(), &exit, (false, false), ctx);
            }
            _ => self.restart(exit, ctx),
        }
    }
}

impl Handler<RefreshCentral> for SweepActor {
    type Result = ();

    fn handle(&mut self, _: RefreshCentral, ctx: &mut Self::Context) {
        self.look_at_central(ctx);
    }
}

impl Handler<ObserveSweep> for SweepActor {
    type Result = MessageResult<ObserveSweep>;

    fn handle(&mut self, _: ObserveSweep, _: &mut Self::Context) -> Self::Result {
        MessageResult(SweepSnapshot {
            actors_with_deaths: self.histories.len(),
            last_sweep_ms: self.last_sweep.map(Timestamp::as_ms),
        })
    }
}
