//! One session: its databases, its cursor, its lanes.
//!
//! A [`SessionActor`] does one step at a time (`step.rs`): open, read, refill a lane, write, upkeep. Messages only
//! note what is to be done; `SessionActor::pump` decides what comes next. What must survive is in the ledger,
//! so the actor can die anywhere.

mod accept;
mod agent_lane;
mod judge;
mod life;
pub mod messages;
mod notices;
mod open;
pub(crate) mod operate;
mod outbox;
mod planning;
mod postponed;
mod pump;
mod read;
mod runs;
mod step;
pub(crate) mod tasks;
mod trouble;
mod upkeep;
mod window;
mod write;

pub(crate) use open::read_history;

use crate::channel::ChannelActor;
use crate::engine::Engine;
use crate::engine::directory::LivingSession;
use crate::limits::MAILBOX_CAPACITY;
use crate::model::ids::{AgentGroupId, ChannelType, MessageId, SessionId};
use crate::model::time::Timestamp;
use crate::session::accept::WaitingArrivals;
use crate::session::agent_lane::AgentItem;
use crate::session::life::LifeStart;
use crate::session::messages::{
    Accept, ChannelRestarted, Look, LookReason, ObserveSession, Passivate, Retire, SessionSnapshot, Settled,
    Settlement,
};
use crate::session::operate::TaskOperation;
use crate::session::planning::Actions;
use crate::session::pump::StepKind;
use crate::session::step::{OwnedStore, StepContext};
use crate::session::upkeep::UpkeepRound;
use crate::session::window::LaneWindows;
use crate::store::ledger::{RestMark, SessionCursor};
use crate::supervise::activity::ActivityToken;
use crate::supervise::exit_guard::{ActorName, ExitGuard};
use actix::{Actor, ActorContext, Addr, Context, Handler, MessageResult, SpawnHandle};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Works for one session.
pub struct SessionActor {
    context: StepContext,
    /// The databases; absent while a step has them, and before the first step.
    store: Option<OwnedStore>,
    /// How far the session has been read; unknown before the first step.
    progress: Option<SessionCursor>,
    todo: Todo,
    windows: LaneWindows,
    /// The life of each channel's actor that has what the windows hold.
    channels: HashMap<ChannelType, Addr<ChannelActor>>,
    /// System actions to be planned and applied, in order.
    actions: Actions,
    /// Messages to other agents, by lane.
    agent_lanes: HashMap<Arc<str>, AgentLane>,
    /// Messages for the inbox: from other agents, and from the application.
    accepts: WaitingArrivals,
    /// What operators want of this session's tasks.
    operations: VecDeque<TaskOperation>,
    /// Messages that the ledger knows to wait.
    backlog: u64,
    /// The right to be opened and read for the first time, until that is done.
    activation: Option<OwnedSemaphorePermit>,
    /// The timer that closes them, since there is nothing to do.
    closes: Option<SpawnHandle>,
    /// Whether a step is running.
    step_is_running: bool,
    /// Messages settled since the running step began: what it has read of them may be out of date.
    settled_meanwhile: HashSet<MessageId>,
    /// Since when the host has known of rows that may not have been read yet, and of those that are being read.
    heard: Heard,
    /// Why some kinds of step cannot be done at the moment.
    troubles: BTreeMap<StepKind, Trouble>,
    /// How far a round of upkeep has come.
    upkeep_round: UpkeepRound,
    /// The files as upkeep saw them, when it found nothing to do.
    resting: Option<RestMark>,
    /// Whether the full backlog was made visible.
    backlog_is_stuck: bool,
    /// When the earliest message with a deliver_after may go.
    next_scheduled: Option<Timestamp>,
    /// When the earliest task is due.
    next_task_due: Option<Timestamp>,
    /// Messages received from the registry in this life.
    received: u64,
    /// Whether this life has moved a message or a task: its session may soon have more to do.
    has_worked: bool,
    /// Held while there is something to do.
    busy: Option<ActivityToken>,
    /// Tells the supervisor about this actor's end.
    guard: ExitGuard,
}

/// What is to be done.
#[derive(Debug, Default)]
struct Todo {
    /// Ask the ledger what waits.
    survey: bool,
    /// Read new rows.
    read: bool,
    /// Whether reading waits for the messages on their way to become fewer, until a timer ends it.
    read_is_paused: bool,
    /// Whether rows that another host delivered meanwhile are looked for.
    adopting: bool,
    /// Look after the agent.
    upkeep: Upkeep,
    /// Lanes to fill up from the ledger.
    refill: BTreeSet<Arc<str>>,
    /// Outcomes to be projected, about.
    projections: usize,
    /// Whether they have waited long enough for company.
    projections_are_due: bool,
}

/// Whether the agent is looked after. The greater need includes the lesser one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Upkeep {
    /// Not now.
    #[default]
    No,
    /// Unless it is known that `inbound.db` asks for nothing.
    UnlessQuiet,
    /// In any case: the time has come, or a while has passed.
    Yes,
}

/// Since when it has been known that an agent may have written.
#[derive(Debug, Default)]
struct Heard {
    /// The first hint since the running read began, or the last one that has ended.
    next: Option<Timestamp>,
    /// The first hint before that.
    reading: Option<Timestamp>,
}

impl Heard {
    fn of(&mut self, at: Option<Timestamp>) {
        self.next = self.next.or(at);
    }

    /// A read begins: since when its rows have been known of.
    fn read_begins(&mut self) -> Option<Timestamp> {
        self.reading = self.next.take();
        self.reading
    }

    /// A read has ended. When it has not read everything, the next one goes on with what this one was to read.
    fn read_ended(&mut self, is_complete: bool) {
        let unread = self.reading.take().filter(|_| !is_complete);
        self.next = unread.or(self.next);
    }
}

/// The lane of one target agent.
#[derive(Debug, Default)]
struct AgentLane {
    queue: VecDeque<AgentItem>,
    is_running: bool,
    /// The timer for the time before which its first message is not tried.
    waits: Option<SpawnHandle>,
}

/// Why a kind of step cannot be done at the moment.
#[derive(Debug)]
struct Trouble {
    reason: String,
    tries: u32,
    /// Whether a timer will end the pause.
    is_pausing: bool,
    /// Whether it may pass by itself soon.
    may_pass: bool,
}

impl SessionActor {
    /// Starts the actor of a session. It begins where the last one stopped when that one left the session at rest; else
    /// it opens the session, with `activation` as the right to, or with one that it gets in its turn.
    pub(crate) fn launch(
        engine: &Arc<Engine>,
        session: &SessionId,
        group: &AgentGroupId,
        activation: Option<OwnedSemaphorePermit>,
    ) -> LivingSession {
        let guard = engine.guard(ActorName::Session(session.clone()));
        let incarnation = guard.incarnation();
        let context =
            StepContext { engine: Arc::clone(engine), session: session.clone(), group: group.clone() };
        let start = LifeStart::of(&context);
        let address: Addr<Self> = SessionActor::create(move |ctx: &mut Context<Self>| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            SessionActor {
                context,
                store: start.store,
                progress: start.progress,
                todo: start.todo,
                windows: LaneWindows::default(),
                channels: HashMap::new(),
                actions: Actions::default(),
                agent_lanes: HashMap::new(),
                accepts: WaitingArrivals::default(),
                operations: VecDeque::new(),
                backlog: 0,
                activation,
                closes: None,
                step_is_running: false,
                settled_meanwhile: HashSet::new(),
                heard: Heard::default(),
                troubles: BTreeMap::new(),
                upkeep_round: UpkeepRound::default(),
                resting: start.resting,
                backlog_is_stuck: false,
                next_scheduled: None,
                next_task_due: start.resting.and_then(|mark| mark.due_at),
                received: 0,
                has_worked: false,
                busy: None,
                guard,
            }
        });
        let living = LivingSession { address, incarnation, forwarded: Arc::default() };
        engine.directory.add_session(session.clone(), living.clone());
        living
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.context.engine
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.pump(ctx);
    }
}

impl Handler<Look> for SessionActor {
    type Result = ();

    fn handle(&mut self, message: Look, ctx: &mut Self::Context) {
        self.received += 1;
        self.todo.look(message.reason);
        self.heard.of(message.heard_at);
        if message.reason == LookReason::Release {
            self.release();
        }
        if message.reason == LookReason::Reload {
            self.wake_agent_lanes(ctx);
        }
        self.pump(ctx);
    }
}

impl Handler<Accept> for SessionActor {
    type Result = ();

    fn handle(&mut self, message: Accept, ctx: &mut Self::Context) {
        self.received += 1;
        match self.closed_inbox() {
            None => self.accepts.push(message.message),
            Some(reason) => message.message.refuse(&reason),
        }
        self.pump(ctx);
    }
}

impl Handler<Settled> for SessionActor {
    type Result = ();

    fn handle(&mut self, message: Settled, ctx: &mut Self::Context) {
        self.message_settled(&message.lane_key, &message.message_id);
        match message.settlement {
            Settlement::Final => self.note_projections(1, ctx),
            Settlement::LookAgain => {
                self.todo.refill.insert(message.lane_key);
            }
            Settlement::Postponed(at) => self.postponed(at),
        }
        self.pump(ctx);
    }
}

impl Handler<ChannelRestarted> for SessionActor {
    type Result = ();

    fn handle(&mut self, message: ChannelRestarted, ctx: &mut Self::Context) {
        self.channel_lost(&message.account);
        self.pump(ctx);
    }
}

impl Handler<Retire> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        self.leave_bookmark();
        ctx.stop();
    }
}

impl Handler<Passivate> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Passivate, _: &mut Self::Context) {
        self.has_worked = false;
        if self.busy.is_none() {
            self.report_idle();
        }
    }
}

impl Handler<ObserveSession> for SessionActor {
    type Result = MessageResult<ObserveSession>;

    fn handle(&mut self, _: ObserveSession, _: &mut Self::Context) -> Self::Result {
        MessageResult(SessionSnapshot {
            session_id: self.context.session.to_string(),
            outstanding: self.windows.outstanding(),
            backlog: self.backlog,
            cursor_seq: self.progress.map_or(0, |progress| progress.cursor.seq),
            trouble: self.troubles.values().next().map(|trouble| trouble.reason.clone()),
        })
    }
}
