//! What upkeep sees of the runs of tasks: which have begun, which have ended, which were missed. All of it goes into
//! the history before the inbox is changed: a host that dies in between tells the same again, and nothing twice.

use super::step::{StepContext, StepError};
use crate::engine::events::Happened;
use crate::model::ids::{MessageId, SessionId};
use crate::model::time::Timestamp;
use crate::report::{EventKind, RunResult};
use crate::store::error::StoreError;
use crate::store::inbound::{self, RecurringRun, RunStatus};
use crate::store::ledger::{LedgerReader, RunEvent, RunKey};
use crate::store::outbound::{Ack, AckStatus};
use crate::task_scheduler::{PlanRuns, PlannedRuns, RunsToPlan};
use rusqlite::Connection;
use std::collections::{HashMap, HashSet};

const MISSED: &str = "missed";

/// The runs of one session that one cycle deals with.
#[derive(Debug, Default)]
pub(super) struct SeenRuns {
    /// What is to be decided about.
    pub to_plan: RunsToPlan,
    /// What is to be recorded.
    pub events: Vec<RunEvent>,
    /// Runs that the agent works on, by their row.
    pub claimed: HashMap<MessageId, RunKey>,
    /// Rows that the agent works on, or has done.
    pub begun: HashSet<MessageId>,
    /// How the runs to be followed have ended.
    results: HashMap<MessageId, RunResult>,
}

impl SeenRuns {
    /// The runs that are to be followed by the next ones.
    pub fn ended(conn: &Connection, ended: &[RecurringRun]) -> Result<Self, StoreError> {
        let result = |run: &RecurringRun| match run.status {
            RunStatus::Completed => RunResult::Ok,
            RunStatus::Failed => RunResult::Failed,
        };
        let results = ended.iter().map(|run| (run.id.clone(), result(run))).collect();
        let runs = ended.iter().map(|run| inbound::series_run(conn, run)).collect::<Result<_, _>>()?;
        Ok(Self { to_plan: RunsToPlan { ended: runs, overdue: Vec::new() }, results, ..Self::default() })
    }

    /// The rows of the runs that are to be followed.
    pub fn ended_rows(&self) -> Vec<MessageId> {
        self.to_plan.ended.iter().map(|run| run.id.clone()).collect()
    }

    /// Adds the recurring runs that end with these acknowledgements, at most `limit` with those that have ended before;
    /// the other acknowledgements are left for the next cycle. Says whether there are any.
    pub fn follow_acked(
        &mut self,
        conn: &Connection,
        acks: &mut Vec<Ack>,
        limit: usize,
    ) -> Result<bool, StoreError> {
        let ids: Vec<MessageId> = acks.iter().map(|ack| ack.message_id.clone()).collect();
        let mut runs = inbound::pending_recurring(conn, &ids)?;
        let left = runs.split_off(limit.saturating_sub(self.to_plan.ended.len()).min(runs.len()));
        let left: HashSet<MessageId> = left.into_iter().map(|run| run.id).collect();
        acks.retain(|ack| !left.contains(&ack.message_id));
        for run in &runs {
            self.to_plan.ended.push(inbound::series_run(conn, run)?);
        }
        Ok(!left.is_empty())
    }

    /// Gives runs the times for which they were planned.
    pub fn restore_planned_times(&mut self, planned: &HashMap<MessageId, Timestamp>) {
        for run in &mut self.to_plan.ended {
            run.scheduled = planned.get(&run.id).copied().or(run.scheduled);
        }
    }

    /// Takes note of what the agent says: claims, acknowledgements of pending rows, and those of the ended runs.
    pub fn see(
        &mut self,
        conn: &Connection,
        reader: &LedgerReader,
        session: &SessionId,
        (claims, acks, acks_of_ended): (&[Ack], &[Ack], &[Ack]),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let ids = |acks: &[Ack]| acks.iter().map(|ack| ack.message_id.clone()).collect::<Vec<_>>();
        let (claimed, acked) = (ids(claims), ids(acks));
        self.begun.extend(claimed.iter().chain(&acked).cloned());
        let said_at = |acks: &[Ack], id: &MessageId| {
            acks.iter().find(|ack| ack.message_id == *id).and_then(|ack| ack.status_changed).unwrap_or(now)
        };
        let runs = inbound::runs_among(conn, &claimed)?;
        let rows: Vec<MessageId> = runs.iter().map(|run| run.run_id.clone()).collect();
        let known = reader.begun_runs(session, &rows)?;
        for run in runs {
            self.claimed.insert(run.run_id.clone(), run.clone());
            if !known.contains(&run.run_id) {
                let at = said_at(claims, &run.run_id);
                self.events.push(RunEvent::Started { run, at });
            }
        }
        for run in inbound::runs_among(conn, &acked)? {
            let Some(ack) = acks.iter().find(|ack| ack.message_id == run.run_id) else { continue };
            let Some(status) = ack.status.settled_status() else { continue };
            let result = if status == "failed" { RunResult::Failed } else { RunResult::Ok };
            let at = ack.status_changed.unwrap_or(now);
            self.events.push(RunEvent::Ended { run, at, result, detail: word(&ack.status) });
        }
        for run in &self.to_plan.ended {
            let key =
                RunKey { run_id: run.id.clone(), series_id: run.series_id.clone(), scheduled: run.scheduled };
            let result = self.results.get(&run.id).copied().unwrap_or(RunResult::Ok);
            let at = said_at(acks_of_ended, &run.id);
            self.events.push(RunEvent::Ended { run: key, at, result, detail: None });
        }
        Ok(())
    }
}

/// The agent's own word, when it is more than that it has failed.
fn word(status: &AckStatus) -> Option<String> {
    match status {
        AckStatus::Other(word) => Some(word.clone()),
        AckStatus::Processing | AckStatus::Completed | AckStatus::Failed => None,
    }
}

/// The end of a run whose claims went stale too often.
pub(super) fn given_up(run: &RunKey, now: Timestamp) -> RunEvent {
    let detail = Some("given up: its agent took it again and again and went away".to_owned());
    RunEvent::Ended { run: run.clone(), at: now, result: RunResult::Failed, detail }
}

/// The runs that a plan leaves out.
pub(super) fn left_out(planned: &PlannedRuns) -> Vec<RunEvent> {
    let following =
        planned.following.iter().filter_map(|(run, next)| Some((run, &next.as_ref().ok()?.skipped)));
    let moved = planned.moved.iter().map(|(run, next)| (run, &next.skipped));
    following
        .chain(moved)
        .filter(|(_, skipped)| !skipped.each.is_empty())
        .map(|(run, skipped)| RunEvent::Skipped {
            series_id: run.series_id.clone(),
            runs: skipped.clone(),
            detail: MISSED,
        })
        .collect()
}

/// Asks the task scheduler.
pub(super) async fn plan(context: &StepContext, runs: RunsToPlan) -> Result<PlannedRuns, StepError> {
    if runs.is_empty() {
        return Ok(PlannedRuns::default());
    }
    let scheduler = context.engine.directory.task_scheduler().ok_or(StepError::Peer("task scheduler"))?;
    let request = PlanRuns { agent_group_id: context.group.clone(), runs };
    let planned = scheduler.send(request).await.map_err(|_| StepError::Peer("task scheduler"))?;
    planned.ok_or(StepError::Panicked)
}

/// Records events in the history.
pub(super) async fn record(
    context: &StepContext,
    events: Vec<RunEvent>,
    now: Timestamp,
) -> Result<(), StepError> {
    if events.is_empty() {
        return Ok(());
    }
    for event in &events {
        if let RunEvent::Started { run, at } = event
            && let Some(scheduled) = run.scheduled
        {
            context.engine.statistics.conditions.note_lateness(at.since(scheduled));
        }
    }
    let session = context.session.clone();
    let told: Vec<Happened> = events.iter().map(|event| happened(&session, event, now)).collect();
    context.engine.ledger.record(move |ledger| ledger.record_runs(&session, &events, now)).await?;
    told.into_iter().for_each(|happened| context.engine.events.tell(happened));
    Ok(())
}

fn happened(session: &SessionId, event: &RunEvent, now: Timestamp) -> Happened {
    let (message, detail) = match event {
        RunEvent::Started { run, .. } => (Some(&run.run_id), format!("{} started", run.series_id)),
        RunEvent::Ended { run, result, .. } => {
            (Some(&run.run_id), format!("{} ended: {}", run.series_id, result.as_str()))
        }
        RunEvent::Skipped { series_id, detail, .. } => (None, format!("{series_id} skipped: {detail}")),
    };
    let happened = Happened::of_session(EventKind::TaskRun, session, now);
    Happened { message: message.cloned(), detail: Some(detail.into()), ..happened }
}
