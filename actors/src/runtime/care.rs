//! What a relay does about the agents of its runtime, whichever runtime it is: `v2.db` says whether they run and when
//! their sessions were active, and those without work are stopped.

use super::{AgentSession, AgentState, Running};
use crate::engine::Engine;
use crate::model::ids::{AgentGroupId, SessionId};
use crate::model::time::Timestamp;
use crate::store::central::ContainerStatus;
use std::sync::Arc;
use std::time::Duration;

/// Time until another try when `v2.db` could not be written.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Cares for the agents until it is aborted.
pub(crate) async fn run(engine: Arc<Engine>) {
    reconcile(&engine).await;
    let mut round = tokio::time::interval(engine.settings.sweep_interval);
    loop {
        tokio::select! {
            () = engine.agent_statuses.changed() => {
                if !write_statuses(&engine).await {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
            () = engine.active_sessions.changed() => {
                if !write_active(&engine).await {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
            _ = round.tick() => stop_idle(&engine).await,
        }
    }
}

/// Corrects what `v2.db` says of agents that the runtime knows not to run: a former host was killed, or they were
/// somebody else's.
async fn reconcile(engine: &Engine) {
    let snapshot = engine.snapshot();
    let not_stopped =
        snapshot.sessions.values().filter(|facts| facts.container_status != ContainerStatus::Stopped);
    for facts in not_stopped {
        let agent =
            AgentSession { session_id: facts.id.clone(), agent_group_id: facts.agent_group_id.clone() };
        if engine.runtime.is_running(&agent).await == Running::No {
            engine.agent_statuses.set(&facts.id, ContainerStatus::Stopped, engine.activity.token());
        }
    }
}

/// Writes what `v2.db` has still to be told; whether that worked.
pub(crate) async fn write_statuses(engine: &Engine) -> bool {
    let unwritten = engine.agent_statuses.take();
    if unwritten.is_empty() {
        return true;
    }
    let central = Arc::clone(&engine.central);
    let statuses: Vec<_> = unwritten.iter().map(|(session, status, _)| (session.clone(), *status)).collect();
    let error = match engine.blocking.run(move || central.set_container_statuses(&statuses)).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    slog::error!(engine.logger, "v2.db does not say which agents run"; "error" => error);
    engine.agent_statuses.put_back(unwritten);
    false
}

/// Tells `v2.db` which sessions were active; whether that worked. What cannot be written is left out: a stale time harms
/// nobody, and the next message says it again.
pub(crate) async fn write_active(engine: &Engine) -> bool {
    let noted = engine.active_sessions.take();
    if noted.is_empty() {
        return true;
    }
    let central = Arc::clone(&engine.central);
    let times: Vec<_> = noted.iter().map(|(session, at, _)| (session.clone(), *at)).collect();
    let error = match engine.blocking.run(move || central.touch_last_active(&times)).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    slog::warn!(engine.logger, "last_active not written"; "sessions" => noted.len(), "error" => error);
    false
}

/// Stops agents that have run without work for long: their sessions rest, and nobody has written since.
async fn stop_idle(engine: &Engine) {
    let Some(idle_after) = engine.settings.agent_idle_after else { return };
    for agent in engine.runtime.agents().await {
        let (Ok(session_id), Ok(agent_group_id)) =
            (SessionId::new(&agent.session_id), AgentGroupId::new(&agent.agent_group_id))
        else {
            continue;
        };
        if agent.state != AgentState::Running || !is_idle(engine, &session_id, &agent.since, idle_after) {
            continue;
        }
        let session = AgentSession { session_id, agent_group_id };
        if let Err(error) = engine.runtime.stop(&session, "it has nothing to do").await {
            slog::warn!(engine.logger, "agent not stopped"; "session" => %session.session_id, "error" => %error);
        }
    }
}

fn is_idle(engine: &Engine, session: &SessionId, since: &Option<String>, idle_after: Duration) -> bool {
    // A session rests only when no message is claimed and none is due.
    let Some(mark) = engine.file_marks.resting(session) else { return false };
    let written = [mark.outbound, mark.inbound].into_iter().flatten();
    let written = written.map(|file| Timestamp::from_ms(file.modified_ns.div_euclid(1_000_000)));
    let started = since.as_deref().and_then(|since| Timestamp::parse(since).ok());
    let last = written.chain(started).max();
    last.is_some_and(|last| engine.now().since(last) > idle_after)
}
