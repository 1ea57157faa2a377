//! Rounds over all sessions: which files have changed since they were last read, without opening any; and the looks that
//! follow, spread over time.

use super::SweepActor;
use crate::engine::Engine;
use crate::model::ids::SessionId;
use crate::model::sweep_findings::SweepFindings;
use crate::runtime::{AgentSession, Running};
use crate::session::messages::{LookReason, Passivate};
use crate::store::central::{ContainerStatus, SessionFacts, SessionStatus};
use crate::store::session_dir::SessionFile;
use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Into how many portions the looks of a sweep are split.
const SWEEP_PORTIONS: u32 = 256;
/// The fewest looks in a portion.
const SWEEP_PORTION_MIN: usize = 8;

/// Which sessions a look at the folders covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Round {
    /// Those whose agents run and whose folders are not watched.
    Unwatched,
    /// All.
    All,
}

/// What a sweep does about a session.
enum Turn {
    /// Its actor looks at everything, unless the session did not rest when it was found and does now: then it has looked.
    Look { session: SessionId, was_resting: bool },
    /// It rests: its actor may go.
    Passivate(SessionId),
}

/// What a round has found.
#[derive(Default)]
struct Found {
    /// Sessions whose agents have written.
    changed: Vec<SessionId>,
    /// Other sessions that must be looked at.
    restless: Vec<SessionId>,
    /// Sessions at rest whose agents, if they run, have been silent for too long.
    silent: Vec<AgentSession>,
    /// The same in numbers.
    findings: SweepFindings,
}

impl SweepActor {
    /// Looks which session files have changed since they were last read, without opening any. Rounds do not overlap:
    /// on a slow disk there are fewer of them.
    pub(super) fn look_at_folders(&mut self, which: Round, ctx: &mut Context<Self>) {
        if which == Round::Unwatched && are_all_watched(&self.engine) {
            // Most hosts, each second: no thread is woken for it.
            return;
        }
        if std::mem::replace(&mut self.is_looking_at_folders, true) {
            self.sweep_is_due |= which == Round::All;
            return;
        }
        let engine = Arc::clone(&self.engine);
        let look = async move {
            let blocking = engine.blocking.clone();
            let inside = Arc::clone(&engine);
            let found = blocking.run(move || look_round(&inside, which)).await.unwrap_or_default();
            if which == Round::All {
                let inside = Arc::clone(&engine);
                // Nothing comes of it that anybody waits for.
                let _ = engine.blocking.run(move || inside.connections.forget_unneeded()).await;
                engine.save_rest_marks().await;
            }
            with_silent_agents(&engine, found).await
        };
        let looked = look.into_actor(self).map(move |(found, findings), actor, ctx| {
            actor.is_looking_at_folders = false;
            if which == Round::All {
                actor.swept(findings);
            }
            match which {
                Round::Unwatched if found.is_empty() => {}
                Round::Unwatched => actor.look_at(Some(found), LookReason::Hint),
                Round::All => actor.sweep_in_portions(found, ctx),
            }
            if std::mem::take(&mut actor.sweep_is_due) {
                actor.look_at_folders(Round::All, ctx);
            }
        });
        ctx.spawn(looked);
    }

    /// Has the sessions looked at over half of the sweep's interval: thousands of looks at once would be in the way of
    /// what agents say meanwhile. So would thousands of actors that end.
    fn sweep_in_portions(&mut self, sessions: Vec<SessionId>, ctx: &mut Context<Self>) {
        let living = self.engine.directory.session_ids();
        let at_rest = living.into_iter().filter(|session| self.engine.file_marks.resting(session).is_some());
        let look = |session: SessionId| {
            let was_resting = self.engine.file_marks.resting(&session).is_some();
            Turn::Look { session, was_resting }
        };
        let turns: VecDeque<Turn> =
            sessions.into_iter().map(look).chain(at_rest.map(Turn::Passivate)).collect();
        let portion = turns.len().div_ceil(SWEEP_PORTIONS as usize).max(SWEEP_PORTION_MIN);
        let pause = self.engine.settings.sweep_interval / 2 / SWEEP_PORTIONS;
        self.sweep_on(turns, portion, pause, ctx);
    }

    fn sweep_on(
        &mut self,
        mut turns: VecDeque<Turn>,
        portion: usize,
        pause: Duration,
        ctx: &mut Context<Self>,
    ) {
        if turns.is_empty() {
            return;
        }
        let mut looks = Vec::new();
        for turn in turns.drain(..portion.min(turns.len())) {
            match turn {
                Turn::Look { session, was_resting } => {
                    if was_resting || self.engine.file_marks.resting(&session).is_none() {
                        looks.push(session);
                    }
                }
                Turn::Passivate(session) => self.passivate(&session),
            }
        }
        if !looks.is_empty() {
            self.look_at(Some(looks), LookReason::Sweep);
        }
        ctx.run_later(pause, move |actor, ctx| actor.sweep_on(turns, portion, pause, ctx));
    }

    /// Asks an actor to go if its session still rests. One that does not hear it is asked again by the next sweep.
    fn passivate(&self, session: &SessionId) {
        if self.engine.file_marks.resting(session).is_some()
            && let Some(living) = self.engine.directory.session(session)
        {
            let _ = living.address.try_send(Passivate);
        }
    }
}

/// Whether no session's folder must be polled.
fn are_all_watched(engine: &Engine) -> bool {
    engine.file_marks.watched_count() >= engine.snapshot().active_sessions
}

fn look_round(engine: &Engine, which: Round) -> Found {
    let snapshot = engine.snapshot();
    let (now, ceiling) = (engine.now(), engine.settings.heartbeat_ceiling);
    let mut found = Found::default();
    let is_active = |facts: &SessionFacts| facts.status == SessionStatus::Active;
    let mut glances = engine.sessions_root.glances();
    for facts in snapshot.sessions.values() {
        let is_active = is_active(facts);
        let is_running = is_active && facts.container_status != ContainerStatus::Stopped;
        // Before the glance: what is written and read in between was written just now, and no event of it was missed.
        let known = engine.file_marks.known(&facts.id);
        if which == Round::Unwatched && (!is_running || known.is_watched) {
            continue;
        }
        glances.turn_to(&facts.agent_group_id, &facts.id);
        let outbound = glances.at(SessionFile::Outbound);
        found.findings.compared += 1;
        if known.read.is_none_or(|read| read.file != outbound) {
            // A closed session that has nothing to say is nobody's business.
            if is_active || outbound.is_some() {
                let changed = known.changed(!is_active, outbound);
                found.findings.unheard.add(changed.why_unheard(now));
                found.changed.push(facts.id.clone());
            }
            continue;
        }
        if which == Round::Unwatched || !is_active {
            continue;
        }
        match known.resting.filter(|mark| mark.inbound == glances.at(SessionFile::Inbound)) {
            None => found.restless.push(facts.id.clone()),
            Some(mark) if mark.heartbeat.is_some_and(|heartbeat| now.since(heartbeat) > ceiling) => {
                let (session_id, agent_group_id) = (facts.id.clone(), facts.agent_group_id.clone());
                found.silent.push(AgentSession { session_id, agent_group_id });
            }
            Some(_) => {}
        }
    }
    found
}

/// Adds the sessions whose silent agents run.
async fn with_silent_agents(engine: &Engine, found: Found) -> (Vec<SessionId>, SweepFindings) {
    let Found { changed: mut sessions, restless, silent, mut findings } = found;
    (findings.changed, findings.restless) = (sessions.len() as u64, restless.len() as u64);
    sessions.extend(restless);
    for agent in silent {
        if matches!(engine.runtime.is_running(&agent).await, Running::Yes { .. }) {
            sessions.push(agent.session_id);
            findings.silent += 1;
        }
    }
    (sessions, findings)
}
