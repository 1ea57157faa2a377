//! `nanorelay agents` and `nanorelay agent-echo`.

use super::output::OutputArgs;
use super::place::{PlaceArgs, matched, unreachable};
use super::table::columns;
use super::{Exit, Failure, duration_argument};
use crate::agents::echo::Echo;
use crate::control::client::ControlClient;
use clap::{Args, Subcommand};
use nanorelay_actors::runtime::AgentRecord;
use std::path::PathBuf;
use std::time::Duration;

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub(super) enum AgentsCommand {
    /// List the agents that run, wait for a place, or failed
    List {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// What an echoing agent is told.
#[derive(Debug, Args)]
pub(super) struct AgentEchoArgs {
    /// The session's folder
    #[arg(long, value_name = "DIR", env = "NANORELAY_SESSION_DIR")]
    folder: PathBuf,
    /// End after this time without a message
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration_argument)]
    idle_exit: Duration,
}

/// Lists; 3 when there are none.
pub(super) fn run(command: AgentsCommand) -> Result<Exit, Failure> {
    let AgentsCommand::List { place, output } = command;
    // A host that does not run has no agents: there is nothing to read elsewhere.
    let records =
        ControlClient::connect(&place.data).and_then(|client| client.agents()).map_err(unreachable)?;
    output.list(&records, table)?;
    Ok(matched(records.len() as u64))
}

fn table(records: &[AgentRecord]) -> String {
    let row = |record: &AgentRecord| {
        [
            record.session_id.clone(),
            record.agent_group_id.clone(),
            record.state.as_str().to_owned(),
            record.process_id.map(|id| id.to_string()).unwrap_or_default(),
            record.since.clone().or_else(|| record.not_before.clone()).unwrap_or_default(),
            record.failures.to_string(),
            record.reason.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    columns(["SESSION", "GROUP", "STATE", "PROCESS", "SINCE/NOT BEFORE", "FAILURES", "REASON"], &rows)
}

/// Is an agent, until there has been nothing to answer for a while.
pub(super) fn run_echo(args: &AgentEchoArgs) -> Result<Exit, Failure> {
    let failed = |error| Failure::Failed(format!("agent-echo: {error}"));
    Echo::open(&args.folder).and_then(|mut echo| echo.run(args.idle_exit, |_| {})).map_err(failed)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nanorelay_actors::runtime::AgentState;

    #[test]
    fn the_table_says_why_an_agent_stays_away() {
        let record = AgentRecord {
            session_id: "s-1".to_owned(),
            agent_group_id: "ag".to_owned(),
            state: AgentState::BackingOff,
            process_id: None,
            since: None,
            not_before: Some("2026-04-16T14:37:00.000Z".to_owned()),
            failures: 3,
            reason: Some("exit code 1".to_owned()),
        };
        let text = table(&[record]);
        let row = text.lines().nth(1).unwrap();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>(),
            ["s-1", "ag", "backing-off", "2026-04-16T14:37:00.000Z", "3", "exit", "code", "1"]
        );
    }
}
