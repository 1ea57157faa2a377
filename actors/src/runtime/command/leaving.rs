//! The agents of a former host. Their keepers end them; nobody is started beside one of them.

use super::{AGENTS_FOLDER, Shared};
use crate::model::ids::{AgentGroupId, SessionId};
use crate::runtime::keeper::{self, RunFile};
use crate::runtime::{AgentSession, RuntimeError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks whether those that are ending have gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a look at the leases has found.
#[derive(Default)]
struct Found {
    /// Keepers of a former host that still live.
    leaving: Vec<AgentSession>,
    /// Processes that killed keepers had left, and that were ended.
    ended: usize,
    /// Sessions whose processes could not be ended, with the reason.
    failed: Vec<(PathBuf, io::Error)>,
}

/// Ends what killed keepers have left, and takes note of keepers that are still ending their agents.
pub(super) async fn take_over(shared: &Arc<Shared>) -> Result<(), RuntimeError> {
    let host = shared.host()?.clone();
    let folder = host.data_dir().join(AGENTS_FOLDER);
    let looked = host.blocking({
        let folder = folder.clone();
        move || look(&folder)
    });
    let cannot = |error: &dyn std::fmt::Display| RuntimeError(format!("{}: {error}", folder.display()));
    let found = looked.await.unwrap_or_else(|| Err(io::Error::other("the look panicked")));
    let Found { leaving, ended, failed } = found.map_err(|error| cannot(&error))?;
    if let Some((place, error)) = failed.first() {
        return Err(RuntimeError(format!("an agent of a former host: {}: {error}", place.display())));
    }
    if ended > 0 {
        slog::warn!(host.logger(), "processes of a former host's agents were ended"; "count" => ended);
    }
    if !leaving.is_empty() {
        slog::info!(host.logger(), "agents of a former host are ending"; "count" => leaving.len());
        for session in &leaving {
            let tenant = host.tenant_of(&session.agent_group_id);
            shared.state().roster.note_leaving(&session.session_id, &session.agent_group_id, tenant);
        }
        tokio::spawn(wait_until_gone(Arc::clone(shared), leaving));
    }
    Ok(())
}

fn look(folder: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    for place in keeper::places(folder)? {
        let Some(session) = session_of(&place) else { continue };
        match RunFile::lock(&place).and_then(|file| file.map(|mut file| file.end_leftovers()).transpose()) {
            Ok(None) => found.leaving.push(session),
            Ok(Some(count)) => found.ended += count,
            Err(error) => found.failed.push((place, error)),
        }
    }
    Ok(found)
}

fn session_of(place: &Path) -> Option<AgentSession> {
    let name = |path: &Path| path.file_name()?.to_str().map(str::to_owned);
    Some(AgentSession {
        session_id: SessionId::new(&name(place)?).ok()?,
        agent_group_id: AgentGroupId::new(&name(place.parent()?)?).ok()?,
    })
}

async fn wait_until_gone(shared: Arc<Shared>, mut leaving: Vec<AgentSession>) {
    let Ok(host) = shared.host() else { return };
    while !leaving.is_empty() {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if shared.state().is_closing {
            return;
        }
        let places: Vec<PathBuf> = leaving.iter().map(|session| shared.place(host, session)).collect();
        let looked = host.blocking(move || places.iter().map(|place| has_gone(place)).collect::<Vec<_>>());
        let Some(gone) = looked.await else { continue };
        let (left, staying): (Vec<_>, Vec<_>) = leaving.into_iter().zip(gone).partition(|(_, gone)| *gone);
        leaving = staying.into_iter().map(|(session, _)| session).collect();
        for (session, _) in left {
            shared.state().roster.has_left(&session.session_id);
            host.ended(&session);
        }
    }
}

fn has_gone(place: &Path) -> bool {
    matches!(RunFile::lock(place), Ok(Some(_)))
}
