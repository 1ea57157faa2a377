//! The actor that plans: what a system action changes, when a series runs next, and when which session is due.
//!
//! It plans and never writes: a session's own actor applies the plan, in one transaction with the record of it.

use crate::engine::Engine;
use crate::limits::MAILBOX_CAPACITY;
use crate::model::action::SystemAction;
use crate::model::ids::{AgentGroupId, MessageId, SessionId};
use crate::model::message::OutboundRow;
use crate::model::recurrence;
use crate::model::task::{self, RowRouting, TaskChange};
use crate::model::time::Timestamp;
use crate::registry::SessionsDue;
use crate::supervise::exit_guard::{ActorName, ExitGuard};
use crate::system_action::{ActionReply, ActionRequest};
use actix::{
    Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture, SpawnHandle,
};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The longest sleep until the next look at the due times. The wall clock can be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Pause before another try when the registry could not be told who is due.
const REGISTRY_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Plans tasks and knows every session's next due time.
pub struct TaskSchedulerActor {
    engine: Arc<Engine>,
    /// Sessions by due time.
    due: BTreeSet<(Timestamp, SessionId)>,
    /// The same the other way round.
    due_of: HashMap<SessionId, Timestamp>,
    /// The timer for the earliest.
    timer: Option<(Timestamp, SpawnHandle)>,
    /// Tells the supervisor about this actor's end.
    _guard: ExitGuard,
}

/// System actions of one session, to be planned.
#[derive(Message)]
#[rtype(result = "Vec<PlannedAction>")]
pub(crate) struct PlanActions {
    pub session_id: SessionId,
    pub agent_group_id: AgentGroupId,
    pub rows: Vec<OutboundRow>,
}

/// What a system action comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlannedAction {
    /// A change of the session's tasks.
    Task(TaskChange),
    /// A registered handler has dealt with it; this goes into the agent's inbox.
    Reply(ActionReply),
    /// It cannot be done; the reason is for the agent.
    Refused(String),
}

/// Runs of series that have ended, to be followed by the next ones.
#[derive(Message)]
#[rtype(result = "Vec<Option<PlannedRun>>")]
pub(crate) struct PlanRuns {
    pub runs: Vec<EndedRun>,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndedRun {
    pub series_id: String,
    pub recurrence: String,
    pub scheduled: Option<Timestamp>,
}

/// The run that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedRun {
    pub id: MessageId,
    pub process_after: Timestamp,
}

/// When a session is due next; `None` = nothing is planned.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Arm {
    pub session_id: SessionId,
    pub at: Option<Timestamp>,
}

/// When sessions are due that nobody looks at before.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ArmAll {
    pub due: Vec<(SessionId, Timestamp)>,
}

/// Asks for a [`TaskSchedulerSnapshot`].
#[derive(Message)]
#[rtype(result = "TaskSchedulerSnapshot")]
pub struct ObserveTaskScheduler;

/// The state of the task scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskSchedulerSnapshot {
    /// Sessions with a due time.
    pub armed: usize,
    /// The earliest, in milliseconds since 1970.
    pub next_due_ms: Option<i64>,
}

impl TaskSchedulerActor {
    /// Starts the actor. It knows no due times: the registry has every session looked at again.
    pub(crate) fn launch(engine: &Arc<Engine>) -> Addr<Self> {
        let guard = engine.guard(ActorName::TaskScheduler);
        let engine_inside = Arc::clone(engine);
        let address = TaskSchedulerActor::create(move |ctx: &mut Context<Self>| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            TaskSchedulerActor {
                engine: engine_inside,
                due: BTreeSet::new(),
                due_of: HashMap::new(),
                timer: None,
                _guard: guard,
            }
        });
        engine.directory.set_task_scheduler(Some(address.clone()));
        address
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let Some((at, _)) = self.due.first().cloned() else { return };
        match self.timer {
            Some((set, _)) if set <= at => return,
            Some((_, handle)) => {
                ctx.cancel_future(handle);
            }
            None => {}
        }
        let sleep = at.since(self.engine.now()).min(SLEEP_MAX);
        let handle = ctx.run_later(sleep, |actor, ctx| {
            actor.timer = None;
            actor.announce_due();
            actor.set_timer(ctx);
        });
        self.timer = Some((at, handle));
    }

    /// Hands the sessions whose time has come to the registry.
    fn announce_due(&mut self) {
        let now = self.engine.now();
        let mut sessions = Vec::new();
        while let Some((at, session)) = self.due.first().cloned() {
            if at > now {
                break;
            }
            self.due.remove(&(at, session.clone()));
            self.due_of.remove(&session);
            sessions.push(session);
        }
        if sessions.is_empty() {
            return;
        }
        let message = SessionsDue { sessions: sessions.clone(), _token: self.engine.activity.token() };
        let sent =
            self.engine.directory.registry().is_some_and(|registry| registry.try_send(message).is_ok());
        if !sent {
            // The registry is down or flooded: they are due again in a moment.
            let again = now.plus(REGISTRY_RETRY_PAUSE);
            self.due.extend(sessions.iter().map(|session| (again, session.clone())));
            self.due_of.extend(sessions.into_iter().map(|session| (session, again)));
        }
    }
}

impl Actor for TaskSchedulerActor {
    type Context = Context<Self>;
}

impl Handler<PlanActions> for TaskSchedulerActor {
    type Result = ResponseFuture<Vec<PlannedAction>>;

    fn handle(&mut self, message: PlanActions, _: &mut Context<Self>) -> Self::Result {
        let engine = Arc::clone(&self.engine);
        Box::pin(async move {
            let mut planned = Vec::with_capacity(message.rows.len());
            for row in &message.rows {
                planned.push(plan(&engine, &message, row).await);
            }
            planned
        })
    }
}

async fn plan(engine: &Engine, request: &PlanActions, row: &OutboundRow) -> PlannedAction {
    let content = match &row.content {
        Ok(content) => content,
        Err(fault) => return PlannedAction::Refused(fault.to_string()),
    };
    match SystemAction::parse(content) {
        Err(error) => PlannedAction::Refused(error.to_string()),
        Ok(SystemAction::Other { name, content }) => {
            let request = ActionRequest {
                session_id: request.session_id.clone(),
                agent_group_id: request.agent_group_id.clone(),
                message_id: row.id.clone(),
                content,
            };
            run_handler(engine, &name, request).await
        }
        Ok(action) => match task::plan_task(&action, RowRouting::of(row), engine.now(), &engine.timezone) {
            Ok(change) => PlannedAction::Task(change),
            Err(error) => PlannedAction::Refused(error.to_string()),
        },
    }
}

async fn run_handler(engine: &Engine, name: &str, request: ActionRequest) -> PlannedAction {
    let Some(handler) = engine.actions.get(name) else {
        return PlannedAction::Refused(format!("this host knows no action {name:?}"));
    };
    let (session, message_id) = (request.session_id.clone(), request.message_id.clone());
    // A task of its own, so that a panic in a handler, or in the policy, refuses one action and no more.
    let (policy, action) = (Arc::clone(&engine.action_policy), name.to_owned());
    let mut handling = actix_rt::spawn(async move {
        policy.permits(&action, &request).await?;
        handler.handle(request).await
    });
    let timeout = engine.settings.limits.send_timeout;
    match tokio::time::timeout(timeout, &mut handling).await {
        Ok(Ok(Ok(reply))) => PlannedAction::Reply(reply),
        Ok(Ok(Err(refused))) => PlannedAction::Refused(refused.to_string()),
        Err(_) => {
            handling.abort();
            let timeout = timeout.as_secs_f64();
            PlannedAction::Refused(format!("the handler of {name:?} gave no answer within {timeout} s"))
        }
        Ok(Err(_)) => {
            if engine.may_warn(&session) {
                slog::error!(engine.logger, "action handler panicked"; "action" => name, "session" => %session,
                    "msg_id" => %message_id);
            }
            PlannedAction::Refused(format!("the handler of {name:?} failed"))
        }
    }
}

impl Handler<PlanRuns> for TaskSchedulerActor {
    type Result = MessageResult<PlanRuns>;

    fn handle(&mut self, message: PlanRuns, _: &mut Context<Self>) -> Self::Result {
        let now = self.engine.now();
        let plan = |run: EndedRun| {
            let scheduled = run.scheduled.unwrap_or(now);
            let recurrence = recurrence::Recurrence::parse(&run.recurrence).ok()?;
            let next = recurrence::plan_next_run(scheduled, &recurrence, now, &self.engine.timezone)?;
            let id = MessageId::new(&recurrence::run_id(&run.series_id, next)).ok()?;
            Some(PlannedRun { id, process_after: next })
        };
        MessageResult(message.runs.into_iter().map(plan).collect())
    }
}

impl Handler<Arm> for TaskSchedulerActor {
    type Result = ();

    fn handle(&mut self, message: Arm, ctx: &mut Context<Self>) {
        let before = match message.at {
            Some(at) => self.due_of.insert(message.session_id.clone(), at),
            None => self.due_of.remove(&message.session_id),
        };
        if let Some(before) = before {
            self.due.remove(&(before, message.session_id.clone()));
        }
        if let Some(at) = message.at {
            self.due.insert((at, message.session_id));
            self.set_timer(ctx);
        }
    }
}

impl Handler<ArmAll> for TaskSchedulerActor {
    type Result = ();

    fn handle(&mut self, message: ArmAll, ctx: &mut Context<Self>) {
        for (session_id, at) in message.due {
            self.due_of.insert(session_id.clone(), at);
            self.due.insert((at, session_id));
        }
        self.set_timer(ctx);
    }
}

impl Handler<ObserveTaskScheduler> for TaskSchedulerActor {
    type Result = MessageResult<ObserveTaskScheduler>;

    fn handle(&mut self, _: ObserveTaskScheduler, _: &mut Context<Self>) -> Self::Result {
        MessageResult(TaskSchedulerSnapshot {
            armed: self.due.len(),
            next_due_ms: self.due.first().map(|(at, _)| at.as_ms()),
        })
    }
}
