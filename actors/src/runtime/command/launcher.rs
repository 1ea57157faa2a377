//! Starts keepers, hears them, and asks them to end their agents.

use super::{AGENTS_FOLDER, CommandSettings};
use crate::model::ids::{AgentGroupId, SessionId};
use crate::model::roster::RunEnd;
use crate::runtime::keeper::order::{Cause, Event, Order, Request};
use crate::runtime::keeper::{self, RunFile};
use crate::runtime::launch::{RUN_VARIABLE, session_folder, session_variables};
use crate::runtime::{AgentHost, AgentLauncher, AgentSession, Run, RuntimeError};
use async_trait::async_trait;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Runs commands.
pub(super) struct CommandLauncher {
    settings: CommandSettings,
}

#[async_trait]
impl AgentLauncher for CommandLauncher {
    /// Ends what killed keepers have left. Keepers of a former host that still live are ending their agents.
    async fn take_over(&self, host: &AgentHost) -> Result<Vec<AgentSession>, RuntimeError> {
        let folder = host.data_dir().join(AGENTS_FOLDER);
        let name = folder.display().to_string();
        let looked = host.blocking(move || look(&folder)).await;
        let found = looked.unwrap_or_else(|| Err(io::Error::other("the look panicked")));
        let Found { leaving, ended, failed } =
            found.map_err(|error| RuntimeError(format!("{name}: {error}")))?;
        for (place, error) in failed {
            // One session's trouble: its next keeper looks again, and starts nothing beside what is left.
            slog::error!(host.logger(), "processes of a former host's agent may be left";
                "place" => %place.display(), "error" => %error);
        }
        if ended > 0 {
            slog::warn!(host.logger(), "processes of a former host's agents were ended"; "count" => ended);
        }
        Ok(leaving)
    }

    async fn has_left(&self, host: &AgentHost, session: &AgentSession) -> bool {
        let place = place(host, session);
        host.blocking(move || matches!(RunFile::lock(&place), Ok(Some(_)))).await.unwrap_or(false)
    }

    async fn run(&self, host: &AgentHost, session: &AgentSession, run: &mut Run) -> RunEnd {
        self.keep(host, session, run).await.unwrap_or_else(RunEnd::Failed)
    }
}

impl CommandLauncher {
    pub(super) fn new(settings: CommandSettings) -> Self {
        Self { settings }
    }

    async fn keep(&self, host: &AgentHost, session: &AgentSession, run: &mut Run) -> Result<RunEnd, String> {
        let order = self.order(host, session)?;
        let (mut keeper, mut input, output) = self.start_keeper(&order).await.map_err(|error| {
            format!("cannot start the keeper {}: {error}", self.settings.keeper.0.display())
        })?;
        let mut lines = BufReader::new(output).lines();
        let last = loop {
            let line = tokio::select! {
                line = lines.next_line() => line,
                grace = run.stop_asked() => {
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
                    run.started(Some(process_id));
                }
                Ok(last) => break Some(last),
                Err(_) => {}
            }
        };
        let status = keeper.wait().await;
        match last {
            Some(Event::Ended { cause, code, signal, killed }) => {
                slog::debug!(host.logger(), "agent ended"; "session" => %session.session_id,
                    "cause" => ?cause, "code" => code, "signal" => signal, "killed" => killed);
                Ok(end_of(cause, code, signal))
            }
            Some(Event::Failed { reason }) => {
                end_what_is_left(host, session).await;
                Ok(RunEnd::Failed(reason))
            }
            Some(Event::Started { .. }) | None => {
                end_what_is_left(host, session).await;
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                Ok(RunEnd::Failed(format!("its keeper was ended: {status}")))
            }
        }
    }

    async fn start_keeper(&self, order: &[u8]) -> io::Result<(Child, ChildStdin, ChildStdout)> {
        let (program, arguments) = &self.settings.keeper;
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

    /// The first line to the keeper.
    fn order(&self, host: &AgentHost, session: &AgentSession) -> Result<Vec<u8>, String> {
        let settings = &self.settings;
        let (command, configured) = settings.agent.of_group(&session.agent_group_id);
        let directory = session_folder(host.data_dir(), session).map_err(|error| error.to_string())?;
        let mut environment = settings.passed_environment();
        environment.extend(configured);
        environment.extend(session_variables(session, &directory)?);
        environment.remove(RUN_VARIABLE);
        let order = Order {
            command,
            environment,
            directory,
            place: place(host, session),
            limits: settings.limits.clone(),
            log: settings.log.clone(),
            stop_grace_ms: u64::try_from(settings.stop_grace.as_millis()).unwrap_or(u64::MAX),
        };
        let mut line = serde_json::to_vec(&order).map_err(|error| error.to_string())?;
        line.push(b'\n');
        Ok(line)
    }
}

/// The host's folder for a session.
fn place(host: &AgentHost, session: &AgentSession) -> PathBuf {
    let group = session.agent_group_id.as_str();
    host.data_dir().join(AGENTS_FOLDER).join(group).join(session.session_id.as_str())
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

/// After the end of a keeper that did not keep its agent to the end: no process of its agent may live beside the next one.
async fn end_what_is_left(host: &AgentHost, session: &AgentSession) {
    let place = place(host, session);
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

async fn ask_to_stop(input: &mut ChildStdin, grace: Duration) -> io::Result<()> {
    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    let mut line = serde_json::to_vec(&Request::Stop { grace_ms })?;
    line.push(b'\n');
    input.write_all(&line).await
}

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
