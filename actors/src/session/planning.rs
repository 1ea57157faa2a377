//! System actions on their way to the task scheduler and back. They are planned beside the steps: a slow handler
//! keeps nothing else of its session waiting, and an action that could not be written is not planned again.

use super::SessionActor;
use super::step::{StepContext, StepError};
use crate::model::message::OutboundRow;
use crate::task_scheduler::{PlanActions, PlannedAction};
use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use std::collections::VecDeque;
use std::time::Duration;

/// System actions that are planned, and written, at a time.
const ACTIONS_MAX: usize = 64;
/// Pause before another try when the task scheduler is down.
const SCHEDULER_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The lane of system actions, in order.
#[derive(Debug, Default)]
pub(super) struct Actions {
    /// To be planned.
    waiting: VecDeque<OutboundRow>,
    /// To be written.
    planned: VecDeque<(OutboundRow, PlannedAction)>,
    /// Whether some are being planned.
    is_planning: bool,
}

impl Actions {
    /// Adds the next one.
    pub fn push(&mut self, row: OutboundRow) {
        self.waiting.push_back(row);
    }

    /// Whether there is something to write.
    pub fn are_planned(&self) -> bool {
        !self.planned.is_empty()
    }

    /// Whether the scheduler is at work.
    pub fn are_being_planned(&self) -> bool {
        self.is_planning
    }

    /// What is to be written next. It stays here until it is settled.
    pub fn next(&self) -> Vec<(OutboundRow, PlannedAction)> {
        self.planned.iter().take(ACTIONS_MAX).cloned().collect()
    }

    /// An action was written.
    pub fn settled(&mut self, message: &crate::model::ids::MessageId) {
        self.planned.retain(|(row, _)| row.id != *message);
    }
}

impl SessionActor {
    /// Has the next actions planned, unless some are.
    pub(super) fn plan_actions(&mut self, ctx: &mut Context<Self>) {
        let actions = &mut self.actions;
        if actions.is_planning || actions.waiting.is_empty() || actions.are_planned() {
            return;
        }
        actions.is_planning = true;
        let count = actions.waiting.len().min(ACTIONS_MAX);
        let rows: Vec<OutboundRow> = actions.waiting.drain(..count).collect();
        let context = self.context.clone();
        let plan = async move {
            let planned = plan(&context, &rows).await;
            if planned.is_err() {
                tokio::time::sleep(SCHEDULER_RETRY_PAUSE).await;
            }
            (rows, planned)
        };
        let ended = plan.into_actor(self).map(|(rows, planned), actor: &mut Self, ctx| {
            actor.actions.is_planning = false;
            match planned {
                Ok(planned) => actor.actions.planned.extend(rows.into_iter().zip(planned)),
                Err(error) => {
                    slog::debug!(actor.engine().logger, "not planned yet"; "error" => %error);
                    for row in rows.into_iter().rev() {
                        actor.actions.waiting.push_front(row);
                    }
                }
            }
            actor.pump(ctx);
        });
        ctx.spawn(ended);
    }
}

async fn plan(context: &StepContext, rows: &[OutboundRow]) -> Result<Vec<PlannedAction>, StepError> {
    let scheduler = context.engine.directory.task_scheduler().ok_or(StepError::Peer("task scheduler"))?;
    let request = PlanActions {
        session_id: context.session.clone(),
        agent_group_id: context.group.clone(),
        rows: rows.to_vec(),
    };
    scheduler.send(request).await.map_err(|_| StepError::Peer("task scheduler"))
}
