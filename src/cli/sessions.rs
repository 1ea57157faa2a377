//! `nanorelay sessions`: which sessions there are, new ones, and messages for their agents.

use super::output::OutputArgs;
use super::place::{ChangePlaceArgs, Host, PlaceArgs, matched, unreachable};
use super::table::columns;
use super::{Exit, Failure};
use clap::Subcommand;
use nanorelay_actors::model::ids::SessionId;
use nanorelay_actors::report::{SessionFilter, SessionRecord};
use serde_json::json;

mod create;
mod send;

use create::CreateArgs;
use send::SendArgs;

/// What can be done with sessions.
#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// List the sessions that the host has read or tried to read
    List {
        #[command(flatten)]
        place: PlaceArgs,
        /// Only those that cannot be served
        #[arg(long)]
        quarantined: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Find the session of a chat, or make it: its row in v2.db, its folder and both databases
    Create(CreateArgs),
    /// Write a message into a session's inbox, and wake its agent
    Send(Box<SendArgs>),
    /// Clear the reason why a session cannot be served, and look at it again now
    Release {
        /// The session's id
        session: String,
        #[command(flatten)]
        place: ChangePlaceArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

impl Host {
    fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRecord>, Failure> {
        match self {
            Self::Running(client) => client.sessions(filter).map_err(unreachable),
            Self::Stopped(host) => Ok(host.sessions(filter)?),
        }
    }

    fn release(&self, session: &SessionId) -> Result<bool, Failure> {
        match self {
            Self::Running(client) => client.release(session.as_str()).map_err(unreachable),
            Self::Stopped(host) => {
                host.noted("session.release", session.as_str(), |host| Ok(host.release(session)?))
            }
        }
    }
}

/// Lists, makes, writes to or releases; 3 when nothing matched.
pub(super) fn run(command: SessionsCommand) -> Result<Exit, Failure> {
    match command {
        SessionsCommand::List { place, quarantined, output } => {
            let records = Host::open(&place.data)?.sessions(&SessionFilter { quarantined })?;
            output.list(&records, table)?;
            Ok(matched(records.len() as u64))
        }
        SessionsCommand::Create(args) => create::run(&args),
        SessionsCommand::Send(args) => send::run(*args),
        SessionsCommand::Release { session, place, output } => {
            let session = SessionId::new(&session).map_err(|problem| Failure::Usage(problem.to_string()))?;
            let released = place.open()?.release(&session)?;
            let words = if released { "released\n" } else { "the session is not quarantined\n" };
            output.object(&json!({ "released": released }), || words.to_owned())?;
            Ok(matched(u64::from(released)))
        }
    }
}

fn table(records: &[SessionRecord]) -> String {
    let row = |record: &SessionRecord| {
        let state = if record.quarantine_reason.is_some() { "quarantined" } else { "served" };
        [
            state.to_owned(),
            record.session_id.clone(),
            record.agent_group_id.clone(),
            record.waiting.to_string(),
            record.updated_at.clone(),
            record.quarantine_reason.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    columns(["STATE", "SESSION", "GROUP", "WAITING", "UPDATED", "REASON"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_an_agent_has_a_hand_in_is_escaped() {
        let record = SessionRecord {
            session_id: "s-1".to_owned(),
            agent_group_id: "ag".to_owned(),
            quarantine_reason: Some("outbound.db is refused: \x1b[2J".to_owned()),
            waiting: 3,
            updated_at: "2026-04-16T14:37:00Z".to_owned(),
        };
        let table = table(&[record]);
        assert!(table.contains("quarantined") && !table.contains('\x1b'), "{table}");
    }
}
