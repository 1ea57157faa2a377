//! The step that looks after the agent: acknowledgements, stale claims, series, due work.

use super::runs::{self, SeenRuns};
use super::step::{OwnedStore, StepContext, StepError};
use super::tasks::tell_series_ended;
use crate::engine::statistics::Upkeep;
use crate::model::ids::MessageId;
use crate::model::staleness::{self, AgentState, Claim, ClaimReset, Facts, Policy, Verdict};
use crate::model::time::Timestamp;
use crate::runtime::AgentSession;
use crate::store::error::StoreError;
use crate::store::inbound::{self, DueWork};
use crate::store::ledger::RestMark;
use crate::store::outbound::{self, Ack};
use crate::store::session_dir::FileIdentity;
use crate::store::session_store::{Adds, SessionStore};
use crate::task_scheduler::PlannedRuns;
use std::time::Duration;

/// Most pending messages and claims that one cycle deals with.
const ROWS_MAX: usize = 500;
/// Most ended runs, and most missed ones, that one cycle deals with. Each of them may take a search in the calendar.
const RUNS_MAX: usize = 100;
/// Most cycles in a row; the next look goes on where they ended. An agent can write any number of pending messages
/// into its inbox.
const PAGES_PER_ROUND_MAX: u32 = 20;

/// What upkeep found.
pub(super) struct UpkeepReport {
    /// When the session's next task is due.
    pub next_task_due: Option<Timestamp>,
    /// Where the next cycle goes on, when there is more than one deals with.
    pub next_page: Option<UpkeepPage>,
    /// Whether runs of series have ended that this cycle has not dealt with.
    pub more_runs: bool,
    /// What of a session at rest this step knows, when there was nothing to do.
    pub resting: Option<RestMark>,
}

/// Which of a session's rows one cycle of upkeep deals with: those above these rowids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UpkeepPage {
    messages: i64,
    overdue: i64,
}

impl UpkeepPage {
    const FIRST: Self = Self { messages: i64::MIN, overdue: i64::MIN };
}

/// How far upkeep has come in a session's pending messages.
#[derive(Debug)]
pub(super) struct UpkeepRound {
    /// Where it goes on.
    pub page: UpkeepPage,
    cycles: u32,
}

impl Default for UpkeepRound {
    fn default() -> Self {
        Self { page: UpkeepPage::FIRST, cycles: 0 }
    }
}

impl UpkeepRound {
    /// Takes note of a cycle; says whether another one follows at once.
    pub fn goes_on(&mut self, next_page: Option<UpkeepPage>, more_runs: bool) -> bool {
        self.page = next_page.unwrap_or(UpkeepPage::FIRST);
        self.cycles += 1;
        let goes_on = (next_page.is_some() || more_runs) && self.cycles < PAGES_PER_ROUND_MAX;
        if !goes_on {
            self.cycles = 0;
        }
        goes_on
    }
}

struct Seen {
    acks: Vec<Ack>,
    claims: Vec<Ack>,
    runs: SeenRuns,
    heartbeat: Option<Timestamp>,
    declared_tool_timeout: Option<Duration>,
    /// What is due and not begun, and what will be.
    due: DueWork,
    next_page: Option<i64>,
    next_overdue: Option<i64>,
    more_runs: bool,
    /// `inbound.db` before the look.
    inbox: Option<FileIdentity>,
    /// Tasks that have still to run.
    tasks: usize,
}

/// Looks, decides, writes.
pub(super) async fn upkeep(
    context: &StepContext,
    store: &mut Option<OwnedStore>,
    page: UpkeepPage,
) -> Result<UpkeepReport, StepError> {
    let now = context.engine.now();
    let seen = context.with_store(store, move |store, context| look(store, context, page, now)).await?;
    let next_page = seen.next_page();
    let mut more_runs = seen.more_runs;
    let resting = seen.asks_for_nothing(now).then_some(RestMark {
        outbound: None,
        inbound: seen.inbox,
        heartbeat: seen.heartbeat,
        due_at: seen.due.next.at,
        tasks: seen.tasks,
    });
    let agent = agent_state(context, seen.heartbeat).await;
    let planned = runs::plan(context, seen.runs.to_plan).await?;
    let moved_ahead = planned.moved.iter().filter(|(_, next)| next.at > now).count();
    let facts = Facts {
        now,
        heartbeat: seen.heartbeat,
        claims: seen.claims.iter().map(claim).collect(),
        declared_tool_timeout: seen.declared_tool_timeout,
        agent,
        // A missed run that is left out is not due. Whether one is, the last page tells.
        has_due_work: seen.due.count > moved_ahead && seen.next_overdue.is_none(),
    };
    let settings = &context.engine.settings;
    let policy = Policy {
        claim_stale_after: settings.claim_stale_after,
        heartbeat_ceiling: settings.heartbeat_ceiling,
        start_grace: settings.agent_start_grace,
    };
    let decision = staleness::decide(&facts, &policy);
    let statistics = &context.engine.statistics;
    if let Verdict::StopAgent { reason } = &decision.verdict {
        statistics.count_upkeep(Upkeep::AgentStopped, 1);
        stop_agent(context, &format!("{reason:?}")).await;
    }
    let stale: Vec<Ack> =
        seen.claims.into_iter().filter(|claim| decision.reset_claims.contains(&claim.message_id)).collect();
    let mut events = seen.runs.events;
    events.extend(runs::left_out(&planned));
    runs::record(context, events, now).await?;
    let has_nothing_to_write = seen.acks.is_empty() && stale.is_empty();
    let next_due = if has_nothing_to_write && planned == PlannedRuns::default() {
        seen.due.next.at
    } else {
        let acks = seen.acks;
        let counts = [
            (Upkeep::AckCopied, acks.len()),
            (Upkeep::ClaimReset, stale.len()),
            (Upkeep::RunPlanned, planned.following.iter().filter(|(_, next)| next.is_ok()).count()),
            (Upkeep::RunMoved, planned.moved.len()),
        ];
        let tries_max = settings.claim_tries_max;
        let written = stale.clone();
        let (next_due, given_up) = context
            .with_store(store, move |store, _| write(store, &acks, &written, &planned, tries_max, now))
            .await?;
        more_runs |= !given_up.is_empty();
        statistics.count_upkeep(Upkeep::GivenUp, given_up.len());
        counts.into_iter().for_each(|(what, count)| statistics.count_upkeep(what, count));
        let given_up = given_up.into_iter().filter_map(|id| seen.runs.claimed.get(&id));
        runs::record(context, given_up.map(|run| runs::given_up(run, now)).collect(), now).await?;
        note_resets(context, &stale).await?;
        next_due
    };
    if decision.wake {
        wake_agent(context).await;
    }
    Ok(UpkeepReport { next_task_due: next_due, next_page, more_runs, resting })
}

fn claim(ack: &Ack) -> Claim {
    Claim { message_id: ack.message_id.clone(), claimed_at: ack.status_changed }
}

fn look(
    store: &mut SessionStore,
    context: &StepContext,
    page: UpkeepPage,
    now: Timestamp,
) -> Result<Seen, StoreError> {
    let heartbeat = store.directory()?.heartbeat()?;
    // Ended runs cannot be found in a seed-era file as it is.
    match store.upgrade_inbound() {
        Ok(()) => {}
        Err(StoreError::Missing(_)) => return Ok(Seen::nothing(heartbeat)),
        Err(error) => return Err(error),
    }
    let inbox = store.inbox_identity()?;
    let found = look_at_inbox(store, inbox, page.messages)?;
    let tasks = found.as_ref().map_or(0, |(_, seen)| seen.tasks);
    context.engine.tasks.set(&context.group, &context.session, tasks);
    let Some((live, seen)) = found else {
        return Ok(Seen {
            declared_tool_timeout: declared_timeout_of_silent_agent(store, context, heartbeat, now)?,
            inbox,
            ..Seen::nothing(heartbeat)
        });
    };
    let mut seen = Seen { heartbeat, inbox, ..seen };
    let ended = seen.runs.ended_rows();
    let mut acks_of_ended = Vec::new();
    match store.outbound() {
        Ok(outbox) => {
            // One snapshot, and one lock for all of it.
            let outbox = outbox.unchecked_transaction()?;
            seen.acks = outbound::acks(&outbox, &live)?;
            acks_of_ended = outbound::acks(&outbox, &ended)?;
            seen.claims = outbound::claims(&outbox, ROWS_MAX)?;
            seen.declared_tool_timeout =
                outbound::container_state(&outbox)?.and_then(|state| state.declared_timeout());
        }
        Err(StoreError::Missing(_)) => {}
        Err(error) => return Err(error),
    }
    seen.acks.retain(|ack| ack.status.settled_status().is_some());
    if !seen.claims.is_empty() {
        let claimed: Vec<MessageId> = seen.claims.iter().map(|claim| claim.message_id.clone()).collect();
        let pending = inbound::pending_among(store.inbound()?, &claimed)?;
        seen.claims.retain(|claim| pending.contains(&claim.message_id));
    }
    let reader = &context.engine.ledger_reader;
    let inbox = store.inbound()?;
    seen.runs.see(inbox, reader, &context.session, (&seen.claims, &seen.acks, &acks_of_ended), now)?;
    // A series has its next run in the transaction in which the last one ends: an action never finds none.
    let left = seen.runs.follow_acked(inbox, &mut seen.acks, RUNS_MAX)?;
    seen.more_runs |= left;
    let overdue = inbound::overdue_recurring(inbox, &seen.runs.begun, page.overdue, RUNS_MAX, now)?;
    seen.runs.to_plan.overdue = overdue.runs;
    seen.next_overdue = overdue.next;
    if !seen.claims.is_empty() || !seen.runs.to_plan.ended.is_empty() {
        let reset = reader.reset_claims(&context.session)?;
        seen.claims.retain(|claim| reset.get(claim.message_id.as_str()) != Some(&claimed_at(claim)));
        // A reset has put the time of the next try in the place of the planned one.
        let moved: Vec<MessageId> =
            seen.runs.ended_rows().into_iter().filter(|id| reset.contains_key(id.as_str())).collect();
        seen.runs.restore_planned_times(&reader.planned_times(&context.session, &moved)?);
    }
    let begun = seen.claims.iter().chain(&seen.acks).map(|ack| ack.message_id.clone()).collect();
    seen.due = inbound::due_work(inbox, &begun, now)?;
    Ok(seen)
}

/// Looks at `inbound.db` in one snapshot: pending messages, and what else it asks for; `None` when nothing in it asks for anything, which the store remembers.
fn look_at_inbox(
    store: &mut SessionStore,
    before: Option<FileIdentity>,
    from_rowid: i64,
) -> Result<Option<(Vec<MessageId>, Seen)>, StoreError> {
    let snapshot = store.inbound()?.unchecked_transaction()?;
    if inbound::is_quiet(&snapshot)? {
        drop(snapshot);
        store.note_quiet_inbox(before);
        return Ok(None);
    }
    let live = inbound::live_ids(&snapshot, from_rowid, ROWS_MAX)?;
    let ended_runs = inbound::completed_recurring(&snapshot, RUNS_MAX)?;
    let seen = Seen {
        more_runs: ended_runs.len() == RUNS_MAX,
        runs: SeenRuns::ended(&snapshot, &ended_runs)?,
        next_page: live.more.then_some(live.after_rowid),
        tasks: inbound::count_live_tasks(&snapshot)?,
        ..Seen::nothing(None)
    };
    Ok(Some((live.ids, seen)))
}

/// How long the tool of an agent may take that was not heard of for longer than an agent without tools may be silent.
fn declared_timeout_of_silent_agent(
    store: &mut SessionStore,
    context: &StepContext,
    heartbeat: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Duration>, StoreError> {
    let ceiling = context.engine.settings.heartbeat_ceiling;
    if heartbeat.is_none_or(|heartbeat| now.since(heartbeat) <= ceiling) {
        return Ok(None);
    }
    match store.outbound() {
        Ok(outbox) => Ok(outbound::container_state(outbox)?.and_then(|state| state.declared_timeout())),
        Err(StoreError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Seen {
    fn nothing(heartbeat: Option<Timestamp>) -> Self {
        Self {
            acks: Vec::new(),
            claims: Vec::new(),
            runs: SeenRuns::default(),
            heartbeat,
            declared_tool_timeout: None,
            due: DueWork::default(),
            next_page: None,
            next_overdue: None,
            more_runs: false,
            inbox: None,
            tasks: 0,
        }
    }

    fn next_page(&self) -> Option<UpkeepPage> {
        // What there is no more of is left out of the pages that follow.
        let above = |rowid: Option<i64>| rowid.unwrap_or(i64::MAX);
        (self.next_page.is_some() || self.next_overdue.is_some())
            .then(|| UpkeepPage { messages: above(self.next_page), overdue: above(self.next_overdue) })
    }

    /// Whether there is nothing to do before something changes, which will show, or the next task is due.
    fn asks_for_nothing(&self, now: Timestamp) -> bool {
        let is_done = self.acks.is_empty() && self.claims.is_empty() && self.runs.to_plan.is_empty();
        let is_firm = self.inbox.is_none_or(|inbox| inbox.is_firm(now));
        is_done && self.due.count == 0 && self.next_page().is_none() && is_firm
    }
}

/// The time of a claim as the ledger remembers it.
fn claimed_at(claim: &Ack) -> String {
    claim.status_changed.map_or_else(String::new, Timestamp::to_iso)
}

/// Whether the session's agent runs.
pub(super) async fn agent_state(context: &StepContext, heartbeat: Option<Timestamp>) -> AgentState {
    context.engine.agent_state(&agent_session(context), heartbeat).await
}

fn agent_session(context: &StepContext) -> AgentSession {
    AgentSession { session_id: context.session.clone(), agent_group_id: context.group.clone() }
}

/// Asks the runtime to wake the session's agent.
pub(super) async fn wake_agent(context: &StepContext) {
    context.engine.statistics.count_wake();
    if let Err(error) = context.engine.runtime.wake(&agent_session(context)).await
        && context.engine.may_warn(&context.session)
    {
        slog::warn!(context.engine.logger, "agent not woken"; "session" => %context.session, "error" => %error);
    }
}

async fn stop_agent(context: &StepContext, reason: &str) {
    if let Err(error) = context.engine.runtime.stop(&agent_session(context), reason).await
        && context.engine.may_warn(&context.session)
    {
        slog::warn!(context.engine.logger, "agent not stopped"; "session" => %context.session, "error" => %error);
    }
}

fn write(
    store: &mut SessionStore,
    acks: &[Ack],
    stale: &[Ack],
    planned: &PlannedRuns,
    tries_max: u32,
    now: Timestamp,
) -> Result<(Option<Timestamp>, Vec<MessageId>), StoreError> {
    store.write(Adds::Messages, |transaction| {
        let mut given_up = Vec::new();
        for ack in acks {
            inbound::apply_ack(transaction, &ack.message_id, &ack.status)?;
        }
        for claim in stale {
            let reset = inbound::reset_claim(transaction, &claim.message_id, tries_max, now)?;
            if reset == ClaimReset::GiveUp {
                given_up.push(claim.message_id.clone());
            }
        }
        for (run, next) in &planned.moved {
            inbound::move_missed_run(transaction, run, next.at)?;
        }
        for (ended, next) in &planned.following {
            match next {
                Ok(run) => {
                    let run = inbound::NewRun {
                        id: run.id.clone(),
                        process_after: run.process_after,
                        paused: false,
                    };
                    inbound::insert_next_run(transaction, &ended.id, &run, now)?;
                }
                Err(reason) => {
                    inbound::clear_recurrence(transaction, &ended.id)?;
                    tell_series_ended(transaction, ended, reason, now)?;
                }
            }
        }
        Ok((inbound::next_due(transaction, now)?.at, given_up))
    })
}

async fn note_resets(context: &StepContext, stale: &[Ack]) -> Result<(), StepError> {
    if stale.is_empty() {
        return Ok(());
    }
    for claim in stale.iter().filter(|_| context.engine.may_warn(&context.session)) {
        slog::warn!(context.engine.logger, "stale claim reset"; "session" => %context.session,
            "msg_id" => %claim.message_id);
    }
    let session = context.session.clone();
    let resets: Vec<(MessageId, String)> =
        stale.iter().map(|claim| (claim.message_id.clone(), claimed_at(claim))).collect();
    context.engine.ledger.record(move |ledger| ledger.note_claim_resets(&session, &resets)).await?;
    Ok(())
}
