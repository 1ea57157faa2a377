//! What a failed step means: a pause that grows, a reason for the operator, a rollback where an agent was killed.

use super::pump::StepKind;
use super::step::{OwnedStore, StepContext, StepError};
use super::{SessionActor, Trouble, upkeep};
use crate::engine::file_marks::ReadMark;
use crate::model::staleness::AgentState;
use crate::store::error::StoreError;
use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use std::time::Duration;

/// First pause after a failed step; it doubles.
const TROUBLE_PAUSE_BASE: Duration = Duration::from_millis(200);
/// Failed tries that count as a passing disturbance.
const PASSING_TRIES_MAX: u32 = 4;

impl SessionActor {
    /// Tells other agents to try later while nothing can be written here.
    pub(super) fn refuse_accepts_in_trouble(&mut self) {
        let trouble = [StepKind::Open, StepKind::Write].into_iter().find_map(|kind| {
            self.troubles.get(&kind).filter(|trouble| trouble.is_pausing && self.is_blocked(kind))
        });
        let Some(reason) = trouble.map(|trouble| trouble.reason.clone()) else { return };
        self.refuse_accepts(&reason);
    }

    /// Whether trouble with that kind of step keeps outcomes from being written.
    pub(super) fn is_blocked(&self, kind: StepKind) -> bool {
        let is_open = self.store.is_some() && self.progress.is_some();
        let must_open = !is_open && !self.step_is_running;
        self.is_pausing(kind) && (kind == StepKind::Write || must_open)
    }

    pub(super) fn trouble_ended(&mut self, kind: StepKind) {
        if self.troubles.remove(&kind).is_some() && self.troubles.is_empty() {
            if self.engine().may_warn(&self.context.session) {
                slog::info!(self.engine().logger, "session is served again";
                    "session" => %self.context.session);
            }
            self.record_quarantine(None);
        }
    }

    pub(super) fn failed(&mut self, kind: StepKind, error: StepError, ctx: &mut Context<Self>) {
        self.activation = None;
        if let StepError::Store(error) = &error {
            self.engine().statistics.conditions.count_if_busy(error);
        }
        // What the step was to do is found again from the ledger and the files.
        match kind {
            StepKind::Open => {}
            StepKind::Survey | StepKind::Refill => self.todo.survey = true,
            StepKind::Write => {
                self.todo.survey = true;
                if let StepError::Ledger(_) = error {
                    // Only the ledger's record may be missing: the agent is to hear of what is written, and a write that
                    // succeeds ends the trouble, though nobody has to ask again.
                    self.todo.upkeep = super::Upkeep::Yes;
                    self.note_projections(1, ctx);
                }
            }
            StepKind::Read => {
                self.todo.read = true;
                self.heard.read_ended(false);
            }
            StepKind::Upkeep => self.todo.upkeep = super::Upkeep::Yes,
        }
        if matches!(kind, StepKind::Open | StepKind::Write) {
            self.refuse_accepts(&error.to_string());
        }
        if let (StepKind::Open, StepError::Store(StoreError::Missing(_))) = (kind, &error) {
            // A session without a folder has nothing to deliver.
            let mark = ReadMark::new(None, self.engine().now());
            self.engine().file_marks.set_read(&self.context.session, mark);
            self.todo = super::Todo::default();
            return;
        }
        if let Some(store) = &mut self.store {
            store.close();
        }
        let is_hot_journal = matches!(error, StepError::Store(StoreError::HotJournal(_)));
        let reason = error.to_string();
        let is_known = self.troubles.values().any(|trouble| trouble.reason == reason);
        let trouble = self.troubles.entry(kind).or_insert_with(|| Trouble {
            reason: String::new(),
            tries: 0,
            is_pausing: false,
            may_pass: error.is_transient(),
        });
        trouble.tries += 1;
        let is_first_try = trouble.tries == 1;
        trouble.is_pausing = true;
        trouble.may_pass = error.is_transient() && trouble.tries <= PASSING_TRIES_MAX;
        trouble.reason.clone_from(&reason);
        let pause = TROUBLE_PAUSE_BASE * 2_u32.pow(trouble.tries.min(16) - 1);
        let pause = pause.min(self.engine().settings.sweep_interval).max(TROUBLE_PAUSE_BASE);
        if !is_known {
            if self.engine().may_warn(&self.context.session) {
                slog::warn!(self.engine().logger, "session is in trouble"; "session" => %self.context.session,
                    "step" => ?kind, "error" => &reason);
            }
            self.record_quarantine(Some(reason));
        }
        if is_hot_journal {
            // A crafted journal stays hot whatever is done: after the first try its session waits like others.
            self.roll_back(kind, is_first_try, ctx);
        }
        ctx.run_later(pause, move |actor, ctx| actor.end_pause(kind, ctx));
    }

    /// Why nothing can be put into this session's inbox at the moment.
    pub(super) fn closed_inbox(&self) -> Option<String> {
        let pausing = [StepKind::Open, StepKind::Write].iter().filter_map(|step| self.troubles.get(step));
        pausing.filter(|trouble| trouble.is_pausing).map(|trouble| trouble.reason.clone()).next()
    }

    /// Answers those whose messages wait here, and operators. They try again: a session in trouble holds up nobody.
    fn refuse_accepts(&mut self, reason: &str) {
        self.accepts.refuse_all(reason);
        for operation in self.operations.drain(..) {
            operation.refuse(reason);
        }
    }

    /// Forgets all pauses: an operator says that the trouble is over.
    pub(super) fn release(&mut self) {
        for trouble in self.troubles.values_mut() {
            trouble.is_pausing = false;
            trouble.tries = 0;
            // Recorded again if it is still there.
            trouble.reason.clear();
        }
        self.backlog_is_stuck = false;
    }

    fn end_pause(&mut self, kind: StepKind, ctx: &mut Context<Self>) {
        if let Some(trouble) = self.troubles.get_mut(&kind) {
            trouble.is_pausing = false;
        }
        self.pump(ctx);
    }

    /// Rolls back what a killed agent left half-written, when no agent runs that could still be at it.
    fn roll_back(&mut self, kind: StepKind, goes_on_at_once: bool, ctx: &mut Context<Self>) {
        self.step_is_running = true;
        let (context, mut store) = (self.context.clone(), self.store.take());
        let future = async move {
            let result = roll_back_if_unused(&context, &mut store).await;
            (store, result)
        };
        let ended = future.into_actor(self).map(move |(store, result), actor: &mut Self, ctx| {
            actor.step_is_running = false;
            actor.store = store;
            match result {
                Ok(true) if goes_on_at_once => {
                    slog::info!(actor.engine().logger, "rolled back a killed agent's transaction";
                        "session" => %actor.context.session);
                    // A journal that is hot again and again must not keep a thread busy: the pause stays then.
                    match actor.troubles.get(&kind).is_some_and(|trouble| trouble.tries > PASSING_TRIES_MAX) {
                        true => actor.pump(ctx),
                        false => actor.end_pause(kind, ctx),
                    }
                }
                Ok(_) => actor.pump(ctx),
                Err(error) => {
                    if actor.engine().may_warn(&actor.context.session) {
                        slog::warn!(actor.engine().logger, "rollback failed";
                            "session" => %actor.context.session, "error" => %error);
                    }
                    actor.pump(ctx);
                }
            }
        });
        ctx.spawn(ended);
    }

    pub(super) fn record_quarantine(&self, reason: Option<String>) {
        self.engine().record_quarantine(&self.context.session, &self.context.group, reason);
    }
}

async fn roll_back_if_unused(
    context: &StepContext,
    store: &mut Option<OwnedStore>,
) -> Result<bool, StepError> {
    let heartbeat = context.with_store(store, |store, _| store.directory()?.heartbeat()).await?;
    let is_unused = match upkeep::agent_state(context, heartbeat).await {
        AgentState::Stopped => true,
        AgentState::Running { .. } => false,
        // Nobody knows: an agent without a recent sign of life is taken for dead.
        AgentState::Unknown => context.engine.is_silent(heartbeat),
    };
    if is_unused {
        context.with_store(store, |store, _| store.roll_back_outbound()).await?;
    }
    Ok(is_unused)
}
