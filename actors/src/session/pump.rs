//! Decides which step comes next.

use super::read::{ReadReport, RefillReport};
use super::step::{OwnedStore, StepContext, StepError};
use super::write::{WriteReport, WriteRequest};
use super::{SessionActor, Upkeep, accept, open, outbox, read, upkeep, write};
use crate::limits::{
    IDLE_HANDLES_TIME, LANE_WINDOW, PROJECTION_DELAY, PROJECTIONS_PER_TRANSACTION_MAX, READ_AHEAD_PAUSE,
    ROWS_PER_CYCLE_MAX,
};
use crate::registry::SessionIdle;
use crate::session::messages::LookReason;
use crate::store::ledger::RestMark;
use crate::task_scheduler::Arm;
use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use std::sync::Arc;

/// The kinds of step. Trouble with one does not stop the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StepKind {
    Open,
    Survey,
    Write,
    Refill,
    Read,
    Upkeep,
}

impl SessionActor {
    /// Starts the next step, if there is something to do and none is running.
    pub(super) fn pump(&mut self, ctx: &mut Context<Self>) {
        self.plan_actions(ctx);
        if !self.step_is_running {
            match self.next_step() {
                Some(step) => self.start(step, ctx),
                None => {
                    self.note_backlog();
                    self.activation = None;
                    self.close_when_quiet(ctx);
                }
            }
        }
        self.refuse_accepts_in_trouble();
        self.update_busy();
    }

    fn next_step(&self) -> Option<StepKind> {
        // A relay that shuts down takes nothing new in; what was delivered is still told.
        let takes_in = !self.engine().is_stopping();
        let wanted = [
            (StepKind::Survey, self.todo.survey && takes_in),
            (StepKind::Write, self.must_write()),
            (StepKind::Refill, !self.todo.refill.is_empty() && takes_in),
            (StepKind::Read, self.todo.read && takes_in && !self.backlog_is_full() && !self.waits_to_read()),
            (StepKind::Upkeep, self.todo.upkeep > Upkeep::No && takes_in),
        ];
        let step = wanted.into_iter().find(|(step, is_wanted)| *is_wanted && !self.is_pausing(*step))?.0;
        if self.store.is_some() && self.progress.is_some() {
            return Some(step);
        }
        (!self.is_pausing(StepKind::Open)).then_some(StepKind::Open)
    }

    /// What waits is in the ledger, so that reading more would only make it grow.
    fn backlog_is_full(&self) -> bool {
        self.backlog >= self.engine().settings.limits.backlog_per_session_max
    }

    /// Whether new rows would only wait in memory, or be read once more when their turn comes.
    fn waits_to_read(&self) -> bool {
        self.todo.read_is_paused && self.windows.is_half_full()
    }

    /// Lets the messages that were read go out before more are read. Lanes that have none on their way do not wait for long.
    fn pause_reading(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.todo.read_is_paused, true) {
            ctx.run_later(READ_AHEAD_PAUSE, |actor, ctx| {
                actor.todo.read_is_paused = false;
                actor.pump(ctx);
            });
        }
    }

    /// Makes it visible when a full backlog will not get smaller by itself soon: all of it is scheduled for later.
    fn note_backlog(&mut self) {
        let is_stuck = self.todo.read
            && self.backlog_is_full()
            && self.windows.outstanding() == 0
            && self.todo.refill.is_empty()
            && !self.todo.survey;
        if is_stuck != self.backlog_is_stuck {
            self.backlog_is_stuck = is_stuck;
            let limit = self.engine().settings.limits.backlog_per_session_max;
            let words = || format!("{limit} messages wait, which is the limit: no more are read");
            self.record_quarantine(is_stuck.then(words));
        }
    }

    fn must_write(&self) -> bool {
        let projections = self.todo.projections > 0
            && (self.todo.projections_are_due
                || self.todo.projections >= PROJECTIONS_PER_TRANSACTION_MAX
                || self.windows.outstanding() == 0);
        let is_asked = !self.accepts.is_empty() || !self.operations.is_empty();
        projections || self.actions.are_planned() || is_asked
    }

    pub(super) fn is_pausing(&self, step: StepKind) -> bool {
        self.troubles.get(&step).is_some_and(|trouble| trouble.is_pausing)
    }

    fn start(&mut self, step: StepKind, ctx: &mut Context<Self>) {
        match step {
            StepKind::Open => {
                let activation = self.activation.take();
                let open = async move |context: &StepContext, store: &mut Option<OwnedStore>| {
                    open::open(context, store, activation).await
                };
                self.run(step, ctx, open, Self::opened);
            }
            StepKind::Survey => {
                self.todo.survey = false;
                let adopting = self.todo.adopting;
                let survey = async move |context: &StepContext, store: &mut Option<OwnedStore>| {
                    if adopting {
                        open::adopt(context, store).await?;
                    }
                    let survey = open::survey(context).await?;
                    accept::clear_leftovers(context, store, &survey.inbox_files).await?;
                    Ok(survey)
                };
                self.run(step, ctx, survey, Self::surveyed);
            }
            StepKind::Write => self.start_write(ctx),
            StepKind::Refill => {
                if let Some(lane) = self.todo.refill.pop_first() {
                    let outstanding = self.windows.outstanding_in(&lane);
                    let refill = async |context: &StepContext, store: &mut Option<OwnedStore>| {
                        read::refill(context, store, lane, outstanding).await
                    };
                    self.run(step, ctx, refill, Self::refilled);
                }
            }
            StepKind::Read => {
                self.todo.read = false;
                let (progress, adopting) = (self.progress, self.todo.adopting);
                // What fits into an empty window need not be read again.
                let rows_max = match self.windows.is_half_full() {
                    true => ROWS_PER_CYCLE_MAX,
                    false => ROWS_PER_CYCLE_MAX.min(LANE_WINDOW - self.windows.outstanding()),
                };
                let heard_at = self.heard.read_begins();
                let read = async move |context: &StepContext, store: &mut Option<OwnedStore>| {
                    let progress = progress.ok_or(StepError::Panicked)?;
                    read::read(context, store, progress, (adopting, rows_max), heard_at).await
                };
                self.run(step, ctx, read, Self::have_read);
            }
            StepKind::Upkeep => {
                self.todo.upkeep = Upkeep::No;
                let page = self.upkeep_round.page;
                let upkeep = async move |context: &StepContext, store: &mut Option<OwnedStore>| {
                    upkeep::upkeep(context, store, page).await
                };
                self.run(step, ctx, upkeep, Self::kept_up);
            }
        }
    }

    /// Runs one step with the databases and goes on with `done`, or with the trouble that it had.
    fn run<T: 'static>(
        &mut self,
        kind: StepKind,
        ctx: &mut Context<Self>,
        step: impl AsyncFnOnce(&StepContext, &mut Option<OwnedStore>) -> Result<T, StepError> + 'static,
        done: impl FnOnce(&mut Self, T, &mut Context<Self>) + 'static,
    ) {
        self.step_is_running = true;
        if let Some(timer) = self.closes.take() {
            ctx.cancel_future(timer);
        }
        self.settled_meanwhile.clear();
        let (context, mut store) = (self.context.clone(), self.store.take());
        let future = async move {
            let result = step(&context, &mut store).await;
            (store, result)
        };
        let ended = future.into_actor(self).map(move |(store, result), actor, ctx| {
            actor.step_is_running = false;
            actor.store = store;
            match result {
                Ok(value) => {
                    actor.trouble_ended(kind);
                    done(actor, value, ctx);
                }
                Err(error) => actor.failed(kind, error, ctx),
            }
            actor.pump(ctx);
        });
        ctx.spawn(ended);
    }

    fn opened(&mut self, opened: open::OpenedSession, _: &mut Context<Self>) {
        self.progress = Some(opened.progress);
        self.activation = opened.activation;
        if opened.is_new {
            // Nothing waits, and what another host delivered is imported.
            self.todo.survey = false;
            self.todo.adopting = false;
        }
        if opened.is_quarantined && self.troubles.is_empty() {
            // An earlier life's reason. Recorded again if it still holds.
            self.record_quarantine(None);
        }
    }

    fn surveyed(&mut self, survey: open::Survey, ctx: &mut Context<Self>) {
        // Better too few than too many: the survey may or may not have seen these.
        self.backlog = survey.backlog.saturating_sub(self.settled_meanwhile.len() as u64);
        self.todo.refill.extend(survey.lanes.into_iter().map(Arc::from));
        if survey.has_unprojected {
            self.note_projections(1, ctx);
        }
        self.next_scheduled = survey.next_scheduled;
        self.arm();
    }

    fn have_read(&mut self, report: ReadReport, ctx: &mut Context<Self>) {
        self.activation = None;
        self.heard.read_ended(!report.more);
        if let Some(progress) = &mut self.progress {
            progress.cursor = report.cursor;
        }
        if report.more {
            self.todo.read = true;
            self.pause_reading(ctx);
        } else {
            self.todo.adopting = false;
            self.engine().file_marks.set_read(&self.context.session, report.outbound);
        }
        self.has_worked |= !report.rows.is_empty();
        if report.inbox_is_quiet && self.todo.upkeep == Upkeep::UnlessQuiet {
            self.todo.upkeep = Upkeep::No;
        }
        self.hand_out_new(report, ctx);
    }

    fn refilled(&mut self, report: RefillReport, ctx: &mut Context<Self>) {
        self.hand_out_refill(report, ctx);
    }

    fn kept_up(&mut self, report: upkeep::UpkeepReport, _: &mut Context<Self>) {
        self.next_task_due = report.next_task_due;
        self.resting = report.resting;
        if self.upkeep_round.goes_on(report.next_page, report.more_runs) {
            self.todo.upkeep = Upkeep::Yes;
        }
        self.arm();
    }

    fn start_write(&mut self, ctx: &mut Context<Self>) {
        let projections = std::mem::take(&mut self.todo.projections);
        self.todo.projections_are_due = false;
        let actions = self.actions.next();
        let accepts = self.accepts.take_batch();
        let operations = self.operations.drain(..).collect();
        let write = async move |context: &StepContext, store: &mut Option<OwnedStore>| {
            write::write(context, store, WriteRequest { actions, accepts, operations }).await
        };
        let wrote = move |actor: &mut Self, report: WriteReport, ctx: &mut Context<Self>| {
            slog::trace!(actor.engine().logger, "projected"; "session" => %actor.context.session,
                "about" => projections);
            actor.written(report, ctx);
        };
        self.run(StepKind::Write, ctx, write, wrote);
    }

    fn written(&mut self, report: WriteReport, ctx: &mut Context<Self>) {
        self.has_worked = true;
        for message in &report.settled_actions {
            self.actions.settled(message);
            self.message_settled(&outbox::system_lane_key(), message);
        }
        // New tasks change what is due; a message from outside wakes.
        if report.wake || !report.settled_actions.is_empty() {
            self.todo.upkeep = Upkeep::Yes;
        }
        // The survey removes them.
        self.todo.survey |= report.has_leftovers;
        if report.more {
            self.note_projections(1, ctx);
            self.todo.projections_are_due = true;
        }
    }

    /// Notes that the ledger has outcomes to project.
    pub(super) fn note_projections(&mut self, count: usize, ctx: &mut Context<Self>) {
        if self.todo.projections == 0 && count > 0 {
            ctx.run_later(PROJECTION_DELAY, |actor, ctx| {
                actor.todo.projections_are_due = true;
                actor.pump(ctx);
            });
        }
        self.todo.projections += count;
    }

    /// Says when the session is due next. What has become due meanwhile is looked at now.
    pub(super) fn arm(&mut self) {
        let now = self.engine().now();
        if self.next_scheduled.take_if(|at| *at <= now).is_some() {
            self.todo.survey = true;
        }
        if self.next_task_due.take_if(|at| *at <= now).is_some() {
            self.todo.upkeep = Upkeep::Yes;
        }
        let at = [self.next_scheduled, self.next_task_due].into_iter().flatten().min();
        let message = Arm { session_id: self.context.session.clone(), at };
        if let Some(scheduler) = self.engine().directory.task_scheduler() {
            // A scheduler that is down has every session looked at again when it is back.
            let _ = scheduler.try_send(message);
        }
    }

    fn is_busy(&self) -> bool {
        self.step_is_running
            || self.actions.are_being_planned()
            || self.next_step().is_some()
            || self.todo.read && self.waits_to_read()
            || self.todo.projections > 0
                && !self.is_blocked(StepKind::Write)
                && !self.is_blocked(StepKind::Open)
            || self.troubles.values().any(|trouble| trouble.is_pausing && trouble.may_pass)
    }

    /// Closes the databases of a session that has nothing to do, in a moment.
    fn close_when_quiet(&mut self, ctx: &mut Context<Self>) {
        let is_quiet = self.todo.projections == 0 && self.windows.outstanding() == 0;
        let is_open = self.store.as_ref().is_some_and(OwnedStore::is_open);
        if is_quiet && is_open && self.closes.is_none() {
            self.closes = Some(ctx.run_later(IDLE_HANDLES_TIME, |actor, _| {
                actor.closes = None;
                if let Some(store) = &mut actor.store {
                    store.close();
                }
            }));
        }
    }

    fn update_busy(&mut self) {
        match (self.is_busy(), self.busy.is_some()) {
            (true, false) => {
                self.engine().file_marks.set_busy(&self.context.session);
                self.busy = Some(self.engine().activity.token());
            }
            (false, true) => {
                self.busy = None;
                let has_read_all = !self.todo.read && self.troubles.is_empty();
                self.engine().file_marks.set_idle(&self.context.session, self.resting(), has_read_all);
                self.report_idle();
            }
            _ => {}
        }
    }

    fn has_nothing_left(&self) -> bool {
        self.windows.outstanding() == 0 && self.troubles.is_empty() && self.backlog == 0
    }

    /// How the files are in which nothing is to be done; `None` when something is, or when a change of them might not
    /// show. Then the next sweep looks again.
    pub(super) fn resting(&self) -> Option<RestMark> {
        let resting = self.resting.filter(|_| self.has_nothing_left())?;
        let read = self.engine().file_marks.read(&self.context.session).filter(|read| read.is_firm)?;
        // Own outcomes may have changed the file since.
        let quiet_inbox = self.store.as_ref()?.quiet_inbox();
        (quiet_inbox.is_none() || quiet_inbox == resting.inbound)
            .then_some(RestMark { outbound: read.file, ..resting })
    }

    /// Tells the registry that this actor could go, when nothing is outstanding.
    pub(super) fn report_idle(&self) {
        if !self.has_nothing_left() {
            return;
        }
        if let Some(registry) = self.engine().directory.registry() {
            // When it is not heard, the actor stays until it is idle the next time.
            let _ = registry.try_send(SessionIdle {
                session_id: self.context.session.clone(),
                incarnation: self.guard.incarnation(),
                received: self.received,
                may_go: !self.has_worked && self.resting().is_some(),
            });
        }
    }
}

/// What to do for each reason to look.
impl super::Todo {
    pub(super) fn look(&mut self, reason: LookReason) {
        match reason {
            LookReason::Hint => {
                self.read = true;
                self.upkeep = self.upkeep.max(Upkeep::UnlessQuiet);
            }
            // Whatever went unheard is found by this at the latest.
            LookReason::Sweep => {
                self.survey = true;
                self.read = true;
                self.upkeep = Upkeep::Yes;
            }
            LookReason::Due => {
                self.survey = true;
                self.upkeep = Upkeep::Yes;
            }
            LookReason::Reload => {
                self.survey = true;
                self.read = true;
            }
            LookReason::Release => {
                self.survey = true;
                self.read = true;
                self.upkeep = Upkeep::Yes;
            }
        }
    }
}
