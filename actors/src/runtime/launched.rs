//! A runtime for agents that something launches one by one: who has a place, who waits, who stays away, and who is
//! ending. What an agent is, a process or a container, is its launcher's business.

use super::{AgentHost, AgentRecord, AgentRuntime, AgentSession, AgentState, Running, RuntimeError};
use crate::model::ids::SessionId;
use crate::model::roster::{Entry, Roster, RosterPolicy, RunEnd, Stage};
use crate::model::time::Timestamp;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Between two looks whether a former host's agents have gone.
const LEAVING_INTERVAL: Duration = Duration::from_millis(100);
/// Of the time that a shutdown has, what is left for the end by force, as a fraction.
const FORCE_SHARE: u32 = 4;

/// Launches agents.
#[async_trait]
pub trait AgentLauncher: Send + Sync + 'static {
    /// Ends the agents of a former host, before any other is run; returns those that are still ending.
    async fn take_over(&self, host: &AgentHost) -> Result<Vec<AgentSession>, RuntimeError>;

    /// Whether one that was still ending has gone.
    async fn has_left(&self, host: &AgentHost, session: &AgentSession) -> bool;

    /// Runs an agent to its end: when this returns, nothing of it is left that could write. Dropped only with the
    /// process.
    async fn run(&self, host: &AgentHost, session: &AgentSession, run: &mut Run) -> RunEnd;
}

/// A run as its launcher sees it.
pub struct Run {
    shared: Arc<Shared>,
    session: AgentSession,
    stops: mpsc::UnboundedReceiver<Duration>,
    end: RunEnd,
}

impl Run {
    /// Says that the agent runs, and as which process of this machine, if it is one.
    pub fn started(&self, process_id: Option<i32>) {
        self.shared.started(&self.session, process_id);
    }

    /// Waits until the agent is to be stopped; how long it may take until it is ended by force. Safe to be given up.
    pub async fn stop_asked(&mut self) -> Duration {
        match self.stops.recv().await {
            Some(grace) => grace,
            // The run is known for as long as it lives.
            None => std::future::pending().await,
        }
    }
}

/// Gives the place back, also when the task of the run ends by a panic.
impl Drop for Run {
    fn drop(&mut self) {
        self.shared.ended(&self.session, &self.end);
    }
}

/// Runs an agent for each session that has work.
pub struct LaunchedRuntime {
    shared: Arc<Shared>,
}

struct Shared {
    launcher: Arc<dyn AgentLauncher>,
    stop_grace: Duration,
    host: OnceLock<AgentHost>,
    state: Mutex<State>,
    /// Told at each end.
    ended: Notify,
}

struct State {
    roster: Roster,
    /// The runs, as far as they can be spoken to.
    runs: HashMap<SessionId, RunHandle>,
    /// Nobody is started any more.
    is_closing: bool,
    /// The time for which a look at those that stay away is planned.
    look_at: Option<Timestamp>,
}

/// A run that goes on.
struct RunHandle {
    /// Asks it to end, with the time that it has.
    stops: mpsc::UnboundedSender<Duration>,
    process_id: Option<i32>,
}

impl LaunchedRuntime {
    /// A runtime for one relay.
    pub fn new(policy: RosterPolicy, stop_grace: Duration, launcher: Arc<dyn AgentLauncher>) -> Self {
        let roster = Roster::new(policy);
        let state = State { roster, runs: HashMap::new(), is_closing: false, look_at: None };
        Self {
            shared: Arc::new(Shared {
                launcher,
                stop_grace,
                host: OnceLock::new(),
                state: Mutex::new(state),
                ended: Notify::new(),
            }),
        }
    }
}

impl Shared {
    fn host(&self) -> Result<&AgentHost, RuntimeError> {
        self.host.get().ok_or_else(|| RuntimeError("the runtime serves no relay yet".to_owned()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts those who have a place, and plans the next look.
    fn start_waiting(self: &Arc<Self>) {
        let Ok(host) = self.host() else { return };
        let now = host.now();
        let mut state = self.state();
        if state.is_closing {
            return;
        }
        while let Some((session_id, agent_group_id)) = state.roster.start_next(now) {
            let (stops, receiver) = mpsc::unbounded_channel();
            state.runs.insert(session_id.clone(), RunHandle { stops, process_id: None });
            let session = AgentSession { session_id, agent_group_id };
            tokio::spawn(Arc::clone(self).run(session, receiver));
        }
        let next = state.roster.next_return();
        if let Some(at) = next.filter(|at| state.look_at.is_none_or(|planned| *at < planned)) {
            state.look_at = Some(at);
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(at.since(now)).await;
                shared.state().look_at.take_if(|planned| *planned <= at);
                shared.start_waiting();
            });
        }
    }

    async fn run(self: Arc<Self>, session: AgentSession, stops: mpsc::UnboundedReceiver<Duration>) {
        let Ok(host) = self.host() else { return };
        let end = RunEnd::Failed("the task that tends it died".to_owned());
        let mut run = Run { shared: Arc::clone(&self), session: session.clone(), stops, end };
        let before = host.outbound(&session).await;
        run.end = match self.launcher.run(host, &session, &mut run).await {
            // An agent that takes a message says so there. One that leaves without would be woken again at once.
            RunEnd::Well if host.outbound(&session).await == before => RunEnd::Idle,
            end => end,
        };
    }

    fn started(&self, session: &AgentSession, process_id: Option<i32>) {
        let is_stopping = {
            let mut state = self.state();
            if let Some(run) = state.runs.get_mut(&session.session_id) {
                run.process_id = process_id;
            }
            state.is_closing
        };
        if let Ok(host) = self.host()
            && !is_stopping
        {
            host.started(session);
        }
    }

    fn ended(self: &Arc<Self>, session: &AgentSession, end: &RunEnd) {
        let Ok(host) = self.host() else { return };
        {
            let mut state = self.state();
            state.runs.remove(&session.session_id);
            state.roster.ended(&session.session_id, end, host.now());
            if let Some(Entry {
                stage: Stage::BackingOff { until, .. },
                failures: failures @ 1..,
                last_failure,
                ..
            }) = state.roster.get(&session.session_id)
            {
                slog::warn!(host.logger(), "agent failed"; "session" => %session.session_id,
                    "agent_group" => %session.agent_group_id, "reason" => last_failure.as_deref(),
                    "failures" => failures, "not_before" => until.to_iso());
            }
        }
        // The place first: the look that follows may want it.
        self.start_waiting();
        host.ended(session);
        self.ended.notify_waiters();
    }

    /// Nobody runs beside an agent of a former host.
    async fn wait_until_gone(self: Arc<Self>, mut leaving: Vec<AgentSession>) {
        let Ok(host) = self.host() else { return };
        while !leaving.is_empty() && !self.state().is_closing {
            tokio::time::sleep(LEAVING_INTERVAL).await;
            let mut staying = Vec::new();
            for session in leaving {
                if self.launcher.has_left(host, &session).await {
                    self.state().roster.has_left(&session.session_id);
                    host.ended(&session);
                } else {
                    staying.push(session);
                }
            }
            leaving = staying;
        }
    }

    /// Asks all runs to end; whether there are any.
    fn stop_all(&self, grace: Duration) -> bool {
        let mut state = self.state();
        state.is_closing = true;
        let State { roster, runs, .. } = &mut *state;
        for (session, run) in runs.iter() {
            roster.stop(session, "the host shuts down");
            // One that has just ended is no longer there to hear it.
            let _ = run.stops.send(grace);
        }
        !runs.is_empty()
    }
}

#[async_trait]
impl AgentRuntime for LaunchedRuntime {
    async fn attach(&self, host: AgentHost) -> Result<(), RuntimeError> {
        if self.shared.host.set(host).is_err() {
            return Err(RuntimeError("a runtime serves one relay only".to_owned()));
        }
        let host = self.shared.host()?;
        let leaving = self.shared.launcher.take_over(host).await?;
        if leaving.is_empty() {
            return Ok(());
        }
        slog::info!(host.logger(), "agents of a former host are ending"; "count" => leaving.len());
        for session in &leaving {
            let tenant = host.tenant_of(&session.agent_group_id);
            let mut state = self.shared.state();
            state.roster.note_leaving(&session.session_id, &session.agent_group_id, tenant);
        }
        tokio::spawn(Arc::clone(&self.shared).wait_until_gone(leaving));
        Ok(())
    }

    async fn wake(&self, session: &AgentSession) -> Result<(), RuntimeError> {
        let host = self.shared.host()?;
        let (tenant, now) = (host.tenant_of(&session.agent_group_id), host.now());
        self.shared.state().roster.wake(&session.session_id, &session.agent_group_id, &tenant, now);
        self.shared.start_waiting();
        Ok(())
    }

    async fn is_running(&self, session: &AgentSession) -> Running {
        match self.shared.state().roster.get(&session.session_id).map(|entry| &entry.stage) {
            Some(Stage::Running { since, .. }) => Running::Yes { since: Some(*since) },
            Some(Stage::Leaving) => Running::Yes { since: None },
            Some(Stage::Waiting | Stage::BackingOff { .. }) | None => Running::No,
        }
    }

    async fn stop(&self, session: &AgentSession, reason: &str) -> Result<(), RuntimeError> {
        let host = self.shared.host()?;
        let mut state = self.shared.state();
        if !state.roster.stop(&session.session_id, reason) {
            return Ok(());
        }
        slog::info!(host.logger(), "agent is stopped"; "session" => %session.session_id,
            "agent_group" => %session.agent_group_id, "reason" => reason);
        if let Some(run) = state.runs.get_mut(&session.session_id) {
            // One that has just ended is no longer there to hear it.
            let _ = run.stops.send(self.shared.stop_grace);
        }
        Ok(())
    }

    async fn agents(&self) -> Vec<AgentRecord> {
        let state = self.shared.state();
        let process_id = |session| state.runs.get(session).and_then(|run| run.process_id);
        let listed = state.roster.entries().filter(|(_, entry)| !entry.only_pauses());
        listed.map(|(session, entry)| record(session, entry, process_id(session))).collect()
    }

    async fn shutdown(&self, deadline: Duration) {
        let grace = self.shared.stop_grace.min(deadline - deadline / FORCE_SHARE);
        let all_end = async {
            loop {
                let ended = self.shared.ended.notified();
                tokio::pin!(ended);
                ended.as_mut().enable();
                if !self.shared.stop_all(grace) {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout(deadline, all_end).await.is_err()
            && let Ok(host) = self.shared.host()
        {
            let left = self.shared.state().runs.len();
            slog::warn!(host.logger(), "agents were still ending at the deadline of the shutdown"; "count" => left);
        }
    }
}

fn record(session: &SessionId, entry: &Entry, process_id: Option<i32>) -> AgentRecord {
    let (state, since, not_before, stopping) = match &entry.stage {
        Stage::Waiting => (AgentState::Waiting, None, None, None),
        Stage::Running { since, stopping: None } => (AgentState::Running, Some(*since), None, None),
        Stage::Running { since, stopping } => (AgentState::Stopping, Some(*since), None, stopping.clone()),
        Stage::BackingOff { until, .. } => (AgentState::BackingOff, None, Some(*until), None),
        Stage::Leaving => (AgentState::Leaving, None, None, None),
    };
    AgentRecord {
        session_id: session.to_string(),
        agent_group_id: entry.group.to_string(),
        state,
        process_id,
        since: since.map(Timestamp::to_iso),
        not_before: not_before.map(Timestamp::to_iso),
        failures: entry.failures,
        reason: stopping.or_else(|| entry.last_failure.clone()),
    }
}
