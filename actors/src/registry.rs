//! The actor that knows every session: one entry each, exactly one [`SessionActor`] per running session, and one
//! for any other session for as long as it has work.

mod in_turn;
mod watch;

use crate::engine::Engine;
use crate::engine::directory::LivingSession;
use crate::engine::hints::Hint;
use crate::limits::{ARRIVALS_WAITING_MAX, MAILBOX_CAPACITY};
use crate::model::ids::{AgentGroupId, SessionId};
use crate::model::time::Timestamp;
use crate::session::SessionActor;
use crate::session::messages::{Accept, InboxArrival, Look, LookReason, Retire};
use crate::session::operate::{Operate, TaskOperation};
use crate::store::central::{CentralSnapshot, ContainerStatus, SessionStatus};
use crate::supervise::activity::ActivityToken;
use crate::supervise::exit_guard::{ActorName, ExitGuard};
use actix::dev::SendError;
use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, MessageResult, WrapFuture,
};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

use self::in_turn::InTurn;
use self::watch::Watcher;

/// Pause before another try when a session's mailbox was full.
const FULL_MAILBOX_PAUSE: Duration = Duration::from_millis(20);

/// Spawns, finds and retires session actors.
pub struct RegistryActor {
    engine: Arc<Engine>,
    /// What is known of each session besides what `v2.db` says.
    entries: HashMap<SessionId, Entry>,
    /// Sessions that are looked at when it is their turn to be opened.
    in_turn: InTurn,
    /// Tells about changes in session folders; absent when folders are only polled.
    watcher: Option<Watcher>,
    /// Tells the supervisor about this actor's end.
    _guard: ExitGuard,
}

/// One session.
#[derive(Debug, Default)]
struct Entry {
    /// The life that messages are forwarded to.
    incarnation: Option<u64>,
    /// Told to go; what comes now waits for the next life.
    is_retiring: bool,
    /// What waits for the next life, or for room in the mailbox of this one.
    waiting: Vec<Forward>,
    /// Died too often; kept away until the supervisor says otherwise.
    is_kept_away: bool,
}

/// A message for a session's actor.
#[derive(Debug)]
enum Forward {
    Look(LookReason, Option<Timestamp>, ActivityToken),
    Accept(InboxArrival),
    Operate(TaskOperation),
}

/// Look at sessions that are due, from the task scheduler.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SessionsDue {
    pub sessions: Vec<SessionId>,
    pub _token: ActivityToken,
}

/// Put a message into a session's inbox.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AcceptForSession {
    pub target: SessionId,
    pub message: InboxArrival,
}

/// Do what an operator wants of a session's tasks.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OperateSession {
    pub target: SessionId,
    pub operation: TaskOperation,
}

/// A session's actor has nothing to do.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SessionIdle {
    pub session_id: SessionId,
    pub incarnation: u64,
    pub received: u64,
    /// Whether the actor may go though the session's agent runs.
    pub may_go: bool,
}

/// A session's actor has ended, from the supervisor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SessionEnded {
    pub session_id: SessionId,
    pub incarnation: u64,
    /// Whether it must come back by itself.
    pub revive: bool,
    /// Whether it may not come back for now.
    pub keep_away: bool,
    pub _token: ActivityToken,
}

/// Look at all sessions, or at the given ones.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LookAtSessions {
    pub sessions: Option<Vec<SessionId>>,
    pub reason: LookReason,
    pub _token: ActivityToken,
}

/// `v2.db` was read again.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CentralChanged {
    pub snapshot: CentralSnapshot,
}

/// Hints have arrived.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct HintsArrived;

/// There may be room in a session's mailbox again.
#[derive(Message)]
#[rtype(result = "()")]
struct ForwardWaiting {
    session: SessionId,
}

/// Asks for a [`RegistrySnapshot`].
#[derive(Message)]
#[rtype(result = "RegistrySnapshot")]
pub struct ObserveRegistry;

/// The state of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RegistrySnapshot {
    /// Sessions in `v2.db`.
    pub sessions: usize,
    /// Session actors that live.
    pub living: usize,
    /// Session folders that are watched.
    pub watched: usize,
}

impl RegistryActor {
    /// Starts the actor. Living session actors are taken over as they are.
    pub(crate) fn launch(engine: &Arc<Engine>) -> Addr<Self> {
        let guard = engine.guard(ActorName::Registry);
        let engine_inside = Arc::clone(engine);
        let address = RegistryActor::create(move |ctx: &mut Context<Self>| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            let watcher = Watcher::start(&engine_inside);
            RegistryActor {
                engine: engine_inside,
                entries: HashMap::new(),
                in_turn: InTurn::default(),
                watcher,
                _guard: guard,
            }
        });
        engine.directory.set_registry(Some(address.clone()));
        address
    }

    /// Forwards a message, starting the session's actor if there is none.
    fn forward(&mut self, session: &SessionId, message: Forward) {
        self.forward_with(session, message, None);
    }

    /// The same; an actor that is started gets `activation`, the right to open the session.
    fn forward_with(
        &mut self,
        session: &SessionId,
        message: Forward,
        activation: Option<OwnedSemaphorePermit>,
    ) {
        let Some(group) = self.group_of(session) else {
            // Unknown to v2.db: dropping a message drops its reply, which the sender hears.
            return;
        };
        if self.engine.is_stopping() {
            return;
        }
        let living = self.engine.directory.session(session);
        let entry = self.entries.entry(session.clone()).or_default();
        if let Forward::Look(LookReason::Release, ..) = message {
            entry.is_kept_away = false;
        }
        if entry.is_kept_away {
            // Nothing may wait for it: when it comes back it looks at everything, and agents try again.
            match message {
                Forward::Look(..) => {}
                Forward::Accept(message) => message.refuse("the target's actor died too often"),
                Forward::Operate(operation) => operation.refuse("its actor died too often"),
            }
            return;
        }
        if entry.is_retiring || !entry.waiting.is_empty() {
            entry.hold(message);
            return;
        }
        let launch = || SessionActor::launch(&self.engine, session, &group, activation);
        let living = living.unwrap_or_else(launch);
        entry.incarnation = Some(living.incarnation);
        match living.forward(message) {
            Ok(()) => {}
            // Its end, which is on its way to us, takes care of what waits.
            Err(Unsent { message, is_full: false }) => entry.hold(message),
            Err(Unsent { message, is_full: true }) => {
                entry.hold(message);
                self.forward_soon(session);
            }
        }
    }

    /// Tries again soon to forward what waits for room in a mailbox.
    fn forward_soon(&self, session: &SessionId) {
        let (engine, session) = (Arc::clone(&self.engine), session.clone());
        actix_rt::spawn(async move {
            tokio::time::sleep(FULL_MAILBOX_PAUSE).await;
            if let Some(registry) = engine.directory.registry() {
                // A registry that is down has forgotten what waited, and looks at every session when it is back.
                let _ = registry.send(ForwardWaiting { session }).await;
            }
        });
    }

    fn group_of(&self, session: &SessionId) -> Option<AgentGroupId> {
        self.engine.snapshot().sessions.get(session).map(|facts| facts.agent_group_id.clone())
    }

    fn look(&mut self, session: &SessionId, reason: LookReason) {
        let token = self.engine.activity.token();
        self.forward(session, Forward::Look(reason, None, token));
    }

    fn is_running(&self, session: &SessionId) -> bool {
        self.engine.snapshot().sessions.get(session).is_some_and(|facts| {
            facts.status == SessionStatus::Active && facts.container_status != ContainerStatus::Stopped
        })
    }

    fn forward_waiting(&mut self, session: &SessionId) {
        let waiting = match self.entries.get_mut(session) {
            Some(entry) => std::mem::take(&mut entry.waiting),
            None => return,
        };
        for message in waiting {
            self.forward(session, message);
        }
    }

    /// Watches a session's folder before it is looked at: it may have appeared, or another one stands in its place.
    fn watch(&mut self, snapshot: &CentralSnapshot, session: &SessionId) {
        if let (Some(watcher), Some(facts)) = (&mut self.watcher, snapshot.sessions.get(session))
            && facts.status == SessionStatus::Active
        {
            watcher.watch(&facts.agent_group_id, session);
        }
    }

    /// Watches the folders of all active sessions, and no others. Returns those that are watched anew.
    fn update_watches(&mut self) -> Vec<SessionId> {
        let snapshot = self.engine.snapshot();
        self.watcher.as_mut().map(|watcher| watcher.set_sessions(&snapshot)).unwrap_or_default()
    }
}

/// A message that a session's actor did not take.
struct Unsent {
    message: Forward,
    is_full: bool,
}

impl LivingSession {
    fn forward(&self, message: Forward) -> Result<(), Unsent> {
        let sent = match message {
            Forward::Look(reason, heard_at, token) => {
                self.address.try_send(Look { reason, heard_at, _token: token }).map_err(|error| {
                    let is_full = matches!(error, SendError::Full(_));
                    let Look { reason, heard_at, _token } = error.into_inner();
                    Unsent { message: Forward::Look(reason, heard_at, _token), is_full }
                })
            }
            Forward::Accept(message) => self.address.try_send(Accept { message }).map_err(|error| {
                let is_full = matches!(error, SendError::Full(_));
                Unsent { message: Forward::Accept(error.into_inner().message), is_full }
            }),
            Forward::Operate(operation) => self.address.try_send(Operate { operation }).map_err(|error| {
                let is_full = matches!(error, SendError::Full(_));
                Unsent { message: Forward::Operate(error.into_inner().operation), is_full }
            }),
        };
        if sent.is_ok() {
            self.forwarded.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }
}

impl Entry {
    fn hold(&mut self, message: Forward) {
        let message = match message {
            Forward::Accept(message) if self.waiting.len() >= ARRIVALS_WAITING_MAX => {
                return message.refuse("too many messages for this session wait");
            }
            message => message,
        };
        // One look of each kind is enough; messages for the inbox are all kept, each has its sender waiting.
        if let Forward::Look(reason, ..) = &message
            && self.waiting.iter().any(|held| matches!(held, Forward::Look(other, ..) if other == reason))
        {
            return;
        }
        self.waiting.push(message);
    }
}

impl Actor for RegistryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Whoever started this actor has all sessions looked at after this.
        self.update_watches();
        // Hints are kept outside this actor, so that none is lost when it dies.
        let engine = Arc::clone(&self.engine);
        let address = ctx.address().downgrade();
        let hints = async move {
            loop {
                engine.hints.arrived().await;
                let Some(address) = address.upgrade() else { return };
                if address.send(HintsArrived).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(hints.into_actor(self).map(|(), _, _| ()));
        ctx.notify(HintsArrived);
    }
}

impl Handler<HintsArrived> for RegistryActor {
    type Result = ();

    fn handle(&mut self, _: HintsArrived, _: &mut Self::Context) {
        let snapshot = self.engine.snapshot();
        for (session, Hint { heard_at, token }) in self.engine.hints.take() {
            self.watch(&snapshot, &session);
            self.forward(&session, Forward::Look(LookReason::Hint, Some(heard_at), token));
        }
    }
}

impl Handler<SessionsDue> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: SessionsDue, _: &mut Self::Context) {
        for session in &message.sessions {
            self.look(session, LookReason::Due);
        }
    }
}

impl Handler<AcceptForSession> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: AcceptForSession, _: &mut Self::Context) {
        self.forward(&message.target, Forward::Accept(message.message));
    }
}

impl Handler<OperateSession> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: OperateSession, _: &mut Context<Self>) {
        self.forward(&message.target, Forward::Operate(message.operation));
    }
}

impl Handler<SessionIdle> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: SessionIdle, _: &mut Self::Context) {
        if !message.may_go && self.is_running(&message.session_id) {
            return;
        }
        let Some(living) = self.engine.directory.session(&message.session_id) else { return };
        let entry = self.entries.entry(message.session_id.clone()).or_default();
        let has_heard_all = living.incarnation == message.incarnation
            && living.forwarded.load(Ordering::Relaxed) == message.received
            && entry.waiting.is_empty();
        // What is not in the mailbox yet finds the entry retiring and waits for the next life.
        if has_heard_all && !entry.is_retiring && living.address.try_send(Retire).is_ok() {
            entry.is_retiring = true;
        }
    }
}

impl Handler<SessionEnded> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: SessionEnded, _: &mut Self::Context) {
        let entry = self.entries.entry(message.session_id.clone()).or_default();
        entry.is_kept_away = message.keep_away;
        // One that a former registry told to go may have taken something from this one with it.
        let was_told_to_go =
            entry.is_retiring && entry.incarnation.is_none_or(|it| it == message.incarnation);
        if entry.incarnation.is_none_or(|incarnation| incarnation <= message.incarnation) {
            entry.is_retiring = false;
            entry.incarnation = None;
        }
        if message.keep_away {
            entry.waiting.clear();
            return;
        }
        if message.revive || !was_told_to_go {
            self.look(&message.session_id, LookReason::Reload);
        }
        self.forward_waiting(&message.session_id);
        if let Some(entry) = self.entries.get(&message.session_id)
            && entry.incarnation.is_none()
            && entry.waiting.is_empty()
        {
            self.entries.remove(&message.session_id);
        }
    }
}

impl Handler<ForwardWaiting> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: ForwardWaiting, _: &mut Self::Context) {
        self.forward_waiting(&message.session);
    }
}

impl Handler<LookAtSessions> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: LookAtSessions, ctx: &mut Self::Context) {
        let snapshot = self.engine.snapshot();
        let sessions = message.sessions.unwrap_or_else(|| snapshot.sessions.keys().cloned().collect());
        for session in &sessions {
            self.watch(&snapshot, session);
            self.look_in_turn(session, message.reason, ctx);
        }
    }
}

impl Handler<CentralChanged> for RegistryActor {
    type Result = ();

    fn handle(&mut self, message: CentralChanged, ctx: &mut Self::Context) {
        let before = self.engine.snapshot();
        self.engine.set_snapshot(message.snapshot);
        let after = self.engine.snapshot();
        for session in after.sessions.keys().filter(|session| !before.sessions.contains_key(*session)) {
            self.look_in_turn(session, LookReason::Hint, ctx);
        }
        // A folder may have appeared, and its agent may have written, before it was watched.
        for session in self.update_watches() {
            self.look_in_turn(&session, LookReason::Hint, ctx);
        }
    }
}

impl Handler<ObserveRegistry> for RegistryActor {
    type Result = MessageResult<ObserveRegistry>;

    fn handle(&mut self, _: ObserveRegistry, _: &mut Self::Context) -> Self::Result {
        MessageResult(RegistrySnapshot {
            sessions: self.engine.snapshot().sessions.len(),
            living: self.engine.directory.session_count(),
            watched: self.watcher.as_ref().map_or(0, Watcher::len),
        })
    }
}
