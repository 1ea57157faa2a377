//! Changes of tasks, as part of a session's write: what agents ask for, what operators do, and what is told of it.

use super::notices::notice_id;
use super::step::StepContext;
use super::write::inbox_row;
use crate::model::ids::MessageId;
use crate::model::series::SeriesRun;
use crate::model::task::TaskChange;
use crate::model::time::Timestamp;
use crate::report::TaskVerb;
use crate::store::error::StoreError;
use crate::store::inbound::{self, Insert, NewInbound, NewTask, TaskUpdate};
use rusqlite::Transaction;

/// Applies a change of tasks. The inner error is a sentence for the agent.
pub(super) fn apply_task(
    transaction: &Transaction<'_>,
    change: &TaskChange,
    context: &StepContext,
    now: Timestamp,
) -> Result<Result<(), String>, StoreError> {
    let (task_id, matched) = match change {
        TaskChange::Insert { task_id, .. } => {
            if let Err(reason) = may_have_one_more(inbound::count_live_tasks(transaction)?, context) {
                return Ok(Err(reason));
            }
            let inserted = inbound::insert_task(transaction, &new_task(change, task_id), now)?;
            return Ok(match inserted {
                Insert::Inserted { .. } => Ok(()),
                Insert::Duplicate => Err(format!("a task with the id {task_id:?} exists already")),
            });
        }
        TaskChange::Cancel { task_id } => (task_id, inbound::cancel_series(transaction, task_id.as_str())?),
        TaskChange::Pause { task_id } => (task_id, inbound::pause_series(transaction, task_id.as_str())?),
        TaskChange::Resume { task_id } => (task_id, inbound::resume_series(transaction, task_id.as_str())?),
        TaskChange::Update { task_id, prompt, script, process_after, recurrence, timezone, missed_runs } => {
            let update = TaskUpdate {
                prompt: prompt.clone(),
                script: script.clone(),
                process_after: *process_after,
                recurrence: recurrence.clone(),
                timezone: timezone.clone(),
                missed_runs: *missed_runs,
            };
            (task_id, inbound::update_series(transaction, task_id.as_str(), &update)?)
        }
    };
    Ok(if matched == 0 { Err(format!("no live task has the id {task_id:?}")) } else { Ok(()) })
}

fn may_have_one_more(count: usize, context: &StepContext) -> Result<(), String> {
    let limits = &context.engine.settings.limits;
    let (session_max, group_max) = (limits.tasks_per_session_max, limits.tasks_per_agent_group_max);
    if count >= session_max {
        return Err(format!("this session has {session_max} tasks already, which is the limit"));
    }
    if !context.engine.tasks.try_add(&context.group, &context.session, count, group_max) {
        return Err(format!("this agent has {group_max} tasks in all its sessions, which is the limit"));
    }
    Ok(())
}

fn new_task(change: &TaskChange, task_id: &MessageId) -> NewTask {
    let TaskChange::Insert {
        prompt,
        script,
        process_after,
        recurrence,
        options,
        platform_id,
        channel_type,
        thread_id,
        ..
    } = change
    else {
        unreachable!("only an insert makes a new task")
    };
    NewTask {
        task_id: task_id.clone(),
        series_id: None,
        prompt: prompt.clone(),
        script: script.clone(),
        process_after: *process_after,
        recurrence: recurrence.clone(),
        options: options.clone(),
        platform_id: platform_id.as_ref().map(ToString::to_string),
        channel_type: channel_type.as_ref().map(ToString::to_string),
        thread_id: thread_id.as_ref().map(ToString::to_string),
    }
}

/// Changes a series; returns how many rows that changed.
pub(crate) fn change_series(
    transaction: &Transaction<'_>,
    task_id: &str,
    verb: TaskVerb,
    now: Timestamp,
) -> Result<usize, StoreError> {
    match verb {
        TaskVerb::Pause => inbound::pause_series(transaction, task_id),
        TaskVerb::Resume => inbound::resume_series(transaction, task_id),
        TaskVerb::Cancel => inbound::cancel_series(transaction, task_id),
        TaskVerb::RunNow => inbound::run_series_now(transaction, task_id, now),
    }
}

/// Leaves a notice that a series has come to its end, and why.
pub(super) fn tell_series_ended(
    transaction: &Transaction<'_>,
    run: &SeriesRun,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let series = run.series_id.as_str();
    let content = serde_json::json!({ "type": "task_ended", "taskId": series, "reason": reason });
    let id = notice_id("ended", &[series, run.id.as_str()])?;
    let notice = NewInbound { content: content.to_string(), ..inbox_row(id, "system") };
    inbound::insert_message(transaction, &notice, now)?;
    Ok(())
}
