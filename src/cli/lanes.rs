//! `nanorelay lanes`: which conversations wait for a message that fails, and how to let them go on.

use super::output::OutputArgs;
use super::place::{ChangePlaceArgs, Host, PlaceArgs, matched, unreachable};
use super::table::columns;
use super::{Exit, Failure};
use clap::Subcommand;
use nanorelay_actors::model::ids::SessionId;
use nanorelay_actors::report::{LaneFilter, LaneRecord};
use serde_json::json;

/// What can be done with lanes.
#[derive(Debug, Subcommand)]
pub(super) enum LanesCommand {
    /// List the lanes that hold something to be sent, with the message that stands first
    List {
        #[command(flatten)]
        place: PlaceArgs,
        /// Only those that wait for a message that has failed
        #[arg(long)]
        blocked: bool,
        /// Only those of this session
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Park the message that holds up a lane: it is held until it is replayed, and the others go on
    Unblock {
        /// The session's id
        session: String,
        /// The lane, as `lanes list` names it
        lane: String,
        #[command(flatten)]
        place: ChangePlaceArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

impl Host {
    fn lanes(&self, filter: &LaneFilter) -> Result<Vec<LaneRecord>, Failure> {
        match self {
            Self::Running(client) => client.lanes(filter).map_err(unreachable),
            Self::Stopped(host) => Ok(host.lanes(filter)?),
        }
    }

    fn unblock_lane(&self, session: &SessionId, lane: &str) -> Result<bool, Failure> {
        match self {
            Self::Running(client) => client.unblock_lane(session.as_str(), lane).map_err(unreachable),
            Self::Stopped(host) => host.noted("lane.unblock", format!("{session} {lane}"), |host| {
                Ok(host.unblock_lane(session, lane)?)
            }),
        }
    }
}

/// Lists or unblocks; 3 when nothing matched.
pub(super) fn run(command: LanesCommand) -> Result<Exit, Failure> {
    match command {
        LanesCommand::List { place, blocked, session, output } => {
            let records = Host::open(&place.data)?.lanes(&LaneFilter { blocked, session_id: session })?;
            output.list(&records, table)?;
            Ok(matched(records.len() as u64))
        }
        LanesCommand::Unblock { session, lane, place, output } => {
            let session = SessionId::new(&session).map_err(|problem| Failure::Usage(problem.to_string()))?;
            let unblocked = place.open()?.unblock_lane(&session, &lane)?;
            let words = if unblocked { "unblocked\n" } else { "nothing holds the lane up\n" };
            output.object(&json!({ "unblocked": unblocked }), || words.to_owned())?;
            Ok(matched(u64::from(unblocked)))
        }
    }
}

fn table(records: &[LaneRecord]) -> String {
    let row = |record: &LaneRecord| {
        [
            record.session_id.clone(),
            record.lane.clone(),
            record.head_message_id.clone(),
            record.state.as_str().to_owned(),
            record.attempts.to_string(),
            record.since.clone(),
            record.waiting_behind.to_string(),
            record.error.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    columns(["SESSION", "LANE", "MESSAGE", "STATE", "TRIES", "SINCE", "BEHIND", "ERROR"], &rows)
}
