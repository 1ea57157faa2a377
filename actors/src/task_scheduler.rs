//! The actor that plans: what a system action changes, when a series runs next, and when which session is due.
//!
//! It plans and never writes: a session's own actor applies the plan, in one transaction with the record of it.

use crate::engine::Engine;
use crate::limits::MAILBOX_CAPACITY;
use crate::model::action::SystemAction;
use crate::model::due_times::DueTimes;
use crate::model::ids::{AgentGroupId, SessionId};
use crate::model::message::OutboundRow;
use crate::model::missed::NextTime;
use crate::model::series::{PlannedRun, SeriesDefaults, SeriesRun};
use crate::model::task::{self, RowRouting, TaskChange};
use crate::model::time::Timestamp;
use crate::registry::SessionsDue;
use crate::supervise::exit_guard::{ActorName, ExitGuard};
use crate::system_action::{ActionReply, ActionRequest};
use actix::{
    Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture, SpawnHandle,
};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// The longest sleep until the next look at the due times. The wall clock can be set meanwhile, and timers stand still
/// while the machine is suspended: what came due by that is found within this time.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Pause before another try when the registry could not be told who is due.
const REGISTRY_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Plans tasks and knows every session's next due time.
pub struct TaskSchedulerActor {
    engine: Arc<Engine>,
    /// When which session is due.
    due: DueTimes,
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

/// Runs of one group's series. The answer is absent when the planning failed as a whole.
#[derive(Message)]
#[rtype(result = "Option<PlannedRuns>")]
pub(crate) struct PlanRuns {
    pub agent_group_id: AgentGroupId,
    pub runs: RunsToPlan,
}

/// Runs that ask for a decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RunsToPlan {
    /// Those that have ended, to be followed by the next ones.
    pub ended: Vec<SeriesRun>,
    /// Those that are due and not begun.
    pub overdue: Vec<SeriesRun>,
}

/// What becomes of each of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PlannedRuns {
    /// The run that follows each ended one, or why the series ends.
    pub following: Vec<(SeriesRun, Result<PlannedRun, String>)>,
    /// Runs that were missed, and the time that they are moved to.
    pub moved: Vec<(SeriesRun, NextTime)>,
}

impl RunsToPlan {
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.overdue.is_empty()
    }

    fn plan(self, now: Timestamp, defaults: &SeriesDefaults) -> PlannedRuns {
        let following = |run: SeriesRun| {
            let next = run.following(now, defaults);
            (run, next)
        };
        let moved = |run: SeriesRun| run.overdue(now, defaults).map(|next| (run, next));
        PlannedRuns {
            following: self.ended.into_iter().map(following).collect(),
            moved: self.overdue.into_iter().filter_map(moved).collect(),
        }
    }
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
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
            TaskSchedulerActor { engine: engine_inside, due: DueTimes::default(), timer: None, _guard: guard }
        });
        engine.directory.set_task_scheduler(Some(address.clone()));
        address
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let Some(at) = self.due.earliest() else { return };
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
        let sessions = self.due.take_due(now);
        if sessions.is_empty() {
            return;
        }
        let message = SessionsDue { sessions: sessions.clone(), _token: self.engine.activity.token() };
        let sent =
            self.engine.directory.registry().is_some_and(|registry| registry.try_send(message).is_ok());
        if !sent {
            // The registry is down or flooded: they are due again in a moment.
            let again = now.plus(REGISTRY_RETRY_PAUSE);
            for session in sessions {
                self.due.set(session, Some(again));
            }
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
        Ok(action) => {
            let zone = engine.series_defaults(&request.agent_group_id).zone;
            match task::plan_task(&action, RowRouting::of(row), engine.now(), &zone) {
                Ok(change) => PlannedAction::Task(change),
                Err(error) => PlannedAction::Refused(error.to_string()),
            }
        }
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
    type Result = ResponseFuture<Option<PlannedRuns>>;

    fn handle(&mut self, message: PlanRuns, _: &mut Context<Self>) -> Self::Result {
        let engine = Arc::clone(&self.engine);
        Box::pin(async move {
            let (now, defaults) = (engine.now(), engine.series_defaults(&message.agent_group_id));
            // Beside the actors: an agent can write expressions, and times long past, that take long to search.
            engine.blocking.run(move || message.runs.plan(now, &defaults)).await.ok()
        })
    }
}

impl Handler<Arm> for TaskSchedulerActor {
    type Result = ();

    fn handle(&mut self, message: Arm, ctx: &mut Context<Self>) {
        self.due.set(message.session_id, message.at);
        self.set_timer(ctx);
    }
}

impl Handler<ArmAll> for TaskSchedulerActor {
    type Result = ();

    fn handle(&mut self, message: ArmAll, ctx: &mut Context<Self>) {
        for (session_id, at) in message.due {
            self.due.set(session_id, Some(at));
        }
        self.set_timer(ctx);
    }
}

impl Handler<ObserveTaskScheduler> for TaskSchedulerActor {
    type Result = MessageResult<ObserveTaskScheduler>;

    fn handle(&mut self, _: ObserveTaskScheduler, _: &mut Context<Self>) -> Self::Result {
        MessageResult(TaskSchedulerSnapshot {
            armed: self.due.len(),
            next_due_ms: self.due.earliest().map(Timestamp::as_ms),
        })
    }
}

#[cfg(test)]
mod simulation;
