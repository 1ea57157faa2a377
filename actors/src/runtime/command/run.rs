//! One run of an agent, from the host's side: its keeper is started, heard, and asked to end.

use super::Shared;
use crate::model::roster::RunEnd;
use crate::runtime::keeper::order::{Cause, Event, Order, Request};
use crate::runtime::keeper::{RUN_VARIABLE, RunFile};
use crate::runtime::{AgentHost, AgentSession};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc::UnboundedReceiver;

/// Gives the place back, also when the run's task ends by a panic.
struct Place {
    shared: Arc<Shared>,
    session: AgentSession,
    end: RunEnd,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.ended(&self.session, &self.end);
    }
}

/// Runs an agent to its end.
pub(super) async fn run(shared: Arc<Shared>, session: AgentSession, stops: UnboundedReceiver<Duration>) {
    let end = RunEnd::Failed("the task that tends it died".to_owned());
    let mut place = Place { shared: Arc::clone(&shared), session: session.clone(), end };
    place.end = match keep(&shared, &session, stops).await {
        Ok(end) => end,
        Err(reason) => RunEnd::Failed(reason),
    };
}

async fn keep(
    shared: &Shared,
    session: &AgentSession,
    mut stops: UnboundedReceiver<Duration>,
) -> Result<RunEnd, String> {
    let host = shared.host().map_err(|error| error.to_string())?;
    let order = order(shared, host, session)?;
    let (mut keeper, mut input, output) = start_keeper(shared, &order).await.map_err(|error| {
        format!("cannot start the keeper {}: {error}", shared.settings.keeper.0.display())
    })?;
    let mut lines = BufReader::new(output).lines();
    let last = loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            Some(grace) = stops.recv() => {
                // A keeper that has gone is seen by the end of its lines.
                let _ = ask_to_stop(&mut input, grace).await;
                continue;
            }
        };
        let Ok(Some(line)) = line else { break None };
        match serde_json::from_str(&line) {
            Ok(Event::Started { process_id, leftovers }) => {
                if leftovers > 0 {
                    slog::warn!(host.logger(), "processes of an earlier agent were ended";
                        "session" => %session.session_id, "count" => leftovers);
                }
                shared.started(session, process_id);
            }
            Ok(last) => break Some(last),
            Err(_) => {}
        }
    };
    let status = keeper.wait().await;
    match last {
        Some(Event::Ended { cause, code, signal, killed }) => {
            slog::debug!(host.logger(), "agent ended"; "session" => %session.session_id, "cause" => ?cause,
                "code" => code, "signal" => signal, "killed" => killed);
            Ok(end_of(cause, code, signal))
        }
        Some(Event::Failed { reason }) => Ok(RunEnd::Failed(reason)),
        Some(Event::Started { .. }) | None => {
            end_what_is_left(shared, host, session).await;
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            Ok(RunEnd::Failed(format!("its keeper was ended: {status}")))
        }
    }
}

fn end_of(cause: Cause, code: Option<i32>, signal: Option<i32>) -> RunEnd {
    match (cause, code, signal) {
        (Cause::Stopped, ..) => RunEnd::Stopped,
        (Cause::TooManyProcesses, ..) => RunEnd::Failed("it had too many processes".to_owned()),
        (Cause::Itself, Some(0), _) => RunEnd::Well,
        (Cause::Itself, Some(code), _) => RunEnd::Failed(format!("exit code {code}")),
        (Cause::Itself, None, Some(signal)) => RunEnd::Failed(format!("ended by signal {signal}")),
        (Cause::Itself, None, None) => RunEnd::Failed("ended in an unknown way".to_owned()),
    }
}

/// After the end of a keeper that said nothing: no process of its agent may live beside the next one.
async fn end_what_is_left(shared: &Shared, host: &AgentHost, session: &AgentSession) {
    let place = shared.place(host, session);
    let ended = host.blocking(move || match RunFile::lock(&place)? {
        Some(mut run_file) => run_file.end_leftovers(),
        None => Err(io::Error::other("its lease is held")),
    });
    match ended.await {
        Some(Ok(0)) => {}
        Some(Ok(count)) => slog::warn!(host.logger(), "processes of an agent were ended";
            "session" => %session.session_id, "count" => count),
        Some(Err(error)) => slog::error!(host.logger(), "processes of an agent may be left";
            "session" => %session.session_id, "error" => %error),
        None => slog::error!(host.logger(), "processes of an agent may be left";
            "session" => %session.session_id),
    }
}

async fn start_keeper(shared: &Shared, order: &[u8]) -> io::Result<(Child, ChildStdin, ChildStdout)> {
    let (program, arguments) = &shared.settings.keeper;
    let mut keeper = Command::new(program)
        .args(arguments)
        // Nothing of the host's environment: an agent of the same user can read its keeper's.
        .env_clear()
        // Not in the terminal's group: Ctrl-C ends the host, which ends its agents in order.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // It lives on for a moment when its host was killed: nothing of the host's may stay open with it.
        .stderr(Stdio::null())
        .spawn()?;
    let (Some(mut input), Some(output)) = (keeper.stdin.take(), keeper.stdout.take()) else {
        return Err(io::Error::other("it has no pipes"));
    };
    input.write_all(order).await?;
    Ok((keeper, input, output))
}

async fn ask_to_stop(input: &mut ChildStdin, grace: Duration) -> io::Result<()> {
    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    let mut line = serde_json::to_vec(&Request::Stop { grace_ms })?;
    line.push(b'\n');
    input.write_all(&line).await
}

/// The first line to the keeper.
fn order(shared: &Shared, host: &AgentHost, session: &AgentSession) -> Result<Vec<u8>, String> {
    let settings = &shared.settings;
    let (command, mut environment) = settings.for_group(&session.agent_group_id);
    // The agent starts elsewhere: a path from the host's own working directory would lead nowhere.
    let data_dir = std::path::absolute(host.data_dir()).map_err(|error| error.to_string())?;
    let (group, id) = (session.agent_group_id.as_str(), session.session_id.as_str());
    let directory = data_dir.join("v2-sessions").join(group).join(id);
    environment.extend(session_variables(&directory, group, id)?);
    environment.remove(RUN_VARIABLE);
    let order = Order {
        command,
        environment,
        directory,
        place: shared.place(host, session),
        limits: settings.limits.clone(),
        log: settings.log.clone(),
        stop_grace_ms: u64::try_from(settings.stop_grace.as_millis()).unwrap_or(u64::MAX),
    };
    let mut line = serde_json::to_vec(&order).map_err(|error| error.to_string())?;
    line.push(b'\n');
    Ok(line)
}

/// What tells an agent where it is.
fn session_variables(
    directory: &Path,
    group: &str,
    session: &str,
) -> Result<impl Iterator<Item = (String, String)>, String> {
    let text = |path: PathBuf| {
        path.into_os_string()
            .into_string()
            .map_err(|path| format!("{} is not UTF-8: agents cannot be told of it", path.display()))
    };
    let variables = [
        ("NANORELAY_SESSION_ID", session.to_owned()),
        ("NANORELAY_AGENT_GROUP_ID", group.to_owned()),
        ("NANORELAY_SESSION_DIR", text(directory.to_owned())?),
        ("NANORELAY_INBOUND_DB", text(directory.join("inbound.db"))?),
        ("NANORELAY_OUTBOUND_DB", text(directory.join("outbound.db"))?),
        ("NANORELAY_HEARTBEAT", text(directory.join(".heartbeat"))?),
        ("NANORELAY_INBOX", text(directory.join("inbox"))?),
        ("NANORELAY_OUTBOX", text(directory.join("outbox"))?),
    ];
    Ok(variables.into_iter().map(|(name, value)| (name.to_owned(), value)))
}
