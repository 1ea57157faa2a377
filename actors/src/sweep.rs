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
use crate::supervise::activity::ActivityToken;
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
    /// Ends that are being dealt with, by actor and life.
    in_hand: HashSet<(ActorName, u64)>,
    /// `outbound.db` of each session as the last round saw it; absent while a round has it.
    seen: Option<HashMap<SessionId, FileIdentity>>,
    /// Whether a sweep's turn came while another round was going on.
    sweep_is_due: bool,
    /// `PRAGMA data_version` of `v2.db` at the last look.
    central_version: Option<i64>,
    /// Whether a look at `v2.db` is going on.
    is_looking: bool,
    last_sweep: Option<Timestamp>,
    /// Keeps the relay busy until this actor has looked what its predecessor left.
    succeeds: Option<ActivityToken>,
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
    /// Starts the actor; `succeeds` is the token of a predecessor's end.
    pub(crate) fn launch(engine: &Arc<Engine>, succeeds: Option<ActivityToken>) -> Addr<Self> {
        let guard = engine.guard(ActorName::Sweep);
        let engine_inside = Arc::clone(engine);
        let address = SweepActor::create(move |ctx: &mut Context<Self>| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            SweepActor {
                engine: engine_inside,
                policy: RestartPolicy::default(),
                histories: HashMap::new(),
                in_hand: HashSet::new(),
                seen: Some(HashMap::new()),
                sweep_is_due: false,
                central_version: None,
                is_looking: false,
                last_sweep: None,
                succeeds,
                _guard: guard,
            }
        });
        engine.directory.set_sweep(Some(address.clone()));
        address
    }

    /// Deals with an end; one that is being dealt with already is left alone.
    fn ended(&mut self, exit: Exit, ctx: &mut Context<Self>) {
        if self.engine.is_stopping() || !self.in_hand.insert((exit.name.clone(), exit.incarnation)) {
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
                self.tell_session_ended(session.clone(), exit, SessionFate::Gone, ctx);
            }
            _ => self.restart(exit, ctx),
        }
    }

    fn restart(&mut self, exit: Exit, ctx: &mut Context<Self>) {
        let history = self.histories.entry(exit.name.clone()).or_default();
        let (delay, token) = match history.decide(&self.policy, self.engine.now()) {
            Restart::After(delay) => (delay, Some(exit.token.clone())),
            Restart::TooOften { retry_in } => {
                slog::error!(self.engine.logger, "actor dies too often"; "actor" => %exit.name,
                    "retry_in_ms" => u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX));
                if let ActorName::Session(session) = &exit.name {
                    self.record_quarantine(session, Some("its actor dies too often".to_owned()));
                    self.tell_session_ended(session.clone(), exit.clone(), SessionFate::KeptAway, ctx);
                }
                // Nobody waits for the rest of the window.
                (retry_in, None)
            }
        };
        self.engine.statistics.count_restart();
        let Exit { name, incarnation, panicked, .. } = exit;
        ctx.run_later(delay, move |actor, ctx| {
            let token = token.unwrap_or_else(|| actor.engine.activity.token());
            actor.bring_back(Exit { name, incarnation, panicked, token }, ctx);
        });
    }

    fn bring_back(&mut self, exit: Exit, ctx: &mut Context<Self>) {
        if self.engine.is_stopping() {
            return;
        }
        slog::info!(self.engine.logger, "actor restarted"; "actor" => %exit.name);
        match &exit.name {
            ActorName::Registry => {
                RegistryActor::launch(&self.engine);
                // What the former one was told and has not passed on is found in the ledger and in v2.db.
                self.central_version = None;
                self.look_at(None, LookReason::Reload);
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
                if self.histories.get(&exit.name).is_some_and(|history| history.is_full(&self.policy)) {
                    self.record_quarantine(session, None);
                }
                self.tell_session_ended(session.clone(), exit, SessionFate::Revived, ctx);
                return;
            }
            // The root brings this one back.
            ActorName::Sweep => {}
        }
        self.dealt_with(&exit);
    }

    fn dealt_with(&mut self, exit: &Exit) {
        self.engine.ends.done(&exit.name, exit.incarnation);
        self.in_hand.remove(&(exit.name.clone(), exit.incarnation));
    }

    fn record_quarantine(&self, session: &SessionId, reason: Option<String>) {
        if let Some(facts) = self.engine.snapshot().sessions.get(session) {
            self.engine.record_quarantine(session, &facts.agent_group_id, reason);
        }
    }

    /// Tells the registry, again and again while it is down.
    fn tell_session_ended(
        &mut self,
        session_id: SessionId,
        exit: Exit,
        fate: SessionFate,
        ctx: &mut Context<Self>,
    ) {
        let message = SessionEnded {
            session_id: session_id.clone(),
            incarnation: exit.incarnation,
            revive: fate == SessionFate::Revived,
            keep_away: fate == SessionFate::KeptAway,
            _token: exit.token.clone(),
        };
        let sent =
            self.engine.directory.registry().is_some_and(|registry| registry.try_send(message).is_ok());
        if sent {
            if fate != SessionFate::KeptAway {
                self.dealt_with(&exit);
            }
        } else if !self.engine.is_stopping() {
            ctx.run_later(REGISTRY_RETRY_PAUSE, move |actor, ctx| {
                actor.tell_session_ended(session_id, exit, fate, ctx);
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
        // Nothing new. The known version stays, or it may have been forgotten on purpose meanwhile.
        let Some(snapshot) = snapshot else { return };
        for (id, reason) in &snapshot.skipped {
            slog::warn!(self.engine.logger, "row of v2.db is skipped"; "id" => id, "reason" => reason);
        }
        let registry = self.engine.directory.registry();
        // What a registry that is down has not heard is read again.
        if registry.is_some_and(|registry| registry.try_send(CentralChanged { snapshot }).is_ok()) {
            self.central_version = Some(version);
        }
    }

    /// Looks which session files have changed since the last round, without opening any. Rounds do not overlap:
    /// on a slow disk there are fewer of them.
    fn look_at_folders(&mut self, which: Round, ctx: &mut Context<Self>) {
        let Some(mut seen) = self.seen.take() else {
            self.sweep_is_due |= which == Round::All;
            return;
        };
        let engine = Arc::clone(&self.engine);
        let blocking = engine.blocking.clone();
        let look = async move {
            let looked = blocking.run(move || {
                let changed = changed_files(&engine, &mut seen, which);
                (seen, changed)
            });
            looked.await
        };
        let looked = look.into_actor(self).map(move |result, actor, ctx| {
            // After a panic every file counts as changed.
            let (seen, changed) = result.unwrap_or_default();
            actor.seen = Some(seen);
            match which {
                Round::Running if changed.is_empty() => {}
                Round::Running => actor.look_at(Some(changed), LookReason::Hint),
                Round::All => actor.swept(&changed),
            }
            if std::mem::take(&mut actor.sweep_is_due) {
                actor.look_at_folders(Round::All, ctx);
            }
        });
        ctx.spawn(looked);
    }

    fn swept(&mut self, changed: &[SessionId]) {
        let now = self.engine.now();
        self.last_sweep = Some(now);
        let policy = self.policy;
        self.histories.retain(|_, history| history.is_recent(&policy, now));
        let snapshot = self.engine.snapshot();
        let active = snapshot.sessions.values().filter(|facts| facts.status == SessionStatus::Active);
        let mut sessions: HashSet<SessionId> = active.map(|facts| facts.id.clone()).collect();
        // Closed sessions are looked at only for what they still have to say.
        sessions.extend(changed.iter().cloned());
        self.look_at(Some(sessions.into_iter().collect()), LookReason::Sweep);
    }
}

/// What becomes of a session whose actor has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionFate {
    /// It has no actor until there is work.
    Gone,
    /// It gets a new one at once.
    Revived,
    /// It may have none for now.
    KeptAway,
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
    seen: &mut HashMap<SessionId, FileIdentity>,
    which: Round,
) -> Vec<SessionId> {
    let snapshot = engine.snapshot();
    if which == Round::All {
        seen.retain(|session, _| snapshot.sessions.contains_key(session));
    }
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
            seen.insert(facts.id.clone(), identity);
            changed.push(facts.id.clone());
        }
    }
    changed
}

impl Actor for SweepActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for (name, incarnation, panicked) in self.engine.ends.all() {
            let token = self.engine.activity.token();
            self.ended(Exit { name, incarnation, panicked, token }, ctx);
        }
        self.succeeds = None;
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
        self.ended(message.exit, ctx);
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
