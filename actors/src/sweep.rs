//! The supervisor: hears of every actor's end and brings it back, and sees to it at intervals that no session was
//! forgotten.

mod rounds;

use crate::channel::ChannelActor;
use crate::engine::Engine;
use crate::limits::MAILBOX_CAPACITY;
use crate::model::ids::SessionId;
use crate::model::sweep_findings::SweepFindings;
use crate::model::time::Timestamp;
use crate::registry::{CentralChanged, LookAtSessions, RegistryActor, SessionEnded};
use crate::session::messages::LookReason;
use crate::store::central::CentralSnapshot;
use crate::store::error::StoreError;
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

use self::rounds::Round;

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
    /// Whether a round is going on.
    is_looking_at_folders: bool,
    /// Whether a sweep's turn came while another round was going on.
    sweep_is_due: bool,
    /// `PRAGMA data_version` of `v2.db` at the last look.
    central_version: Option<i64>,
    /// Whether a look at `v2.db` is going on.
    is_looking: bool,
    last_sweep: Option<Timestamp>,
    last_findings: Option<SweepFindings>,
    sweeps: u64,
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
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SweepSnapshot {
    /// Actors that died in the recent past.
    pub actors_with_deaths: usize,
    /// When the last sweep ended, in milliseconds since 1970.
    pub last_sweep_ms: Option<i64>,
    /// What it found; its looks at sessions are spread over half of the interval after it.
    pub last_findings: Option<SweepFindings>,
    /// Sweeps of this actor's life.
    pub sweeps: u64,
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
                is_looking_at_folders: false,
                sweep_is_due: false,
                central_version: None,
                is_looking: false,
                last_sweep: None,
                last_findings: None,
                sweeps: 0,
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

    fn swept(&mut self, findings: SweepFindings) {
        let now = self.engine.now();
        self.last_sweep = Some(now);
        self.last_findings = Some(findings);
        self.sweeps += 1;
        self.engine.statistics.count_sweep_found(&findings.unheard);
        if findings.unheard.event_missed > 0 {
            slog::warn!(self.engine.logger, "sweep found what file events did not tell";
                "sessions" => findings.unheard.event_missed);
        }
        slog::debug!(self.engine.logger, "swept"; "found" => ?findings);
        let policy = self.policy;
        self.histories.retain(|_, history| history.is_recent(&policy, now));
        let snapshot = self.engine.snapshot();
        let sessions = &snapshot.sessions;
        self.engine.file_marks.retain(sessions.len(), |session| sessions.contains_key(session));
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
            actor.look_at_folders(Round::Unwatched, ctx);
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
            last_findings: self.last_findings,
            sweeps: self.sweeps,
        })
    }
}
