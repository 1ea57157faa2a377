//! `nanorelay deliveries`: works through the socket of a running host, and directly on a stopped one.

use super::place::{Host, PlaceArgs, matched, unreachable};
use super::table::columns;
use super::{Exit, Failure, json_line, json_rows, print};
use crate::channels::plain_text::one_line;
use crate::control::protocol::MessageKey;
use crate::control::socket::delivery_key;
use clap::{Args, Subcommand};
use nanorelay_actors::report::{DeliveryFilter, DeliveryRecord, DeliveryState};

/// What can be done with deliveries.
#[derive(Debug, Subcommand)]
pub(super) enum DeliveriesCommand {
    /// List deliveries, the most recently changed first
    List {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        /// Print a JSON array, one delivery a line
        #[arg(long)]
        json: bool,
    },
    /// Show everything about one delivery
    Show {
        /// The session's id
        session: String,
        /// The message's id
        message: String,
        #[command(flatten)]
        place: PlaceArgs,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Put dead, held or ambiguous deliveries back into their lanes
    Replay {
        /// The session's id
        #[arg(
            value_name = "SESSION",
            required_unless_present = "all",
            requires = "message",
            conflicts_with = "all"
        )]
        session_id: Option<String>,
        /// The message's id
        #[arg(value_name = "MESSAGE")]
        message: Option<String>,
        /// All that match --state and --session
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        filter: ReplayFilterArgs,
        #[command(flatten)]
        place: PlaceArgs,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Which deliveries to list.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Only this state; may be given more than once
    #[arg(long, value_name = "STATE", value_parser = state_argument)]
    state: Vec<DeliveryState>,
    /// Only this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
}

/// Which deliveries to replay.
#[derive(Debug, Args)]
pub(super) struct ReplayFilterArgs {
    /// With --all: only this state; dead unless another one is given
    #[arg(long, value_name = "STATE", value_parser = state_argument, requires = "all", conflicts_with = "session_id")]
    state: Vec<DeliveryState>,
    /// With --all: only this session
    #[arg(long, value_name = "ID", requires = "all", conflicts_with = "session_id")]
    session: Option<String>,
}

fn state_argument(name: &str) -> Result<DeliveryState, String> {
    let names = || DeliveryState::ALL.map(DeliveryState::as_str).join(", ");
    DeliveryState::from_name(name).ok_or_else(|| format!("the states are {}", names()))
}

impl Host {
    fn list(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, Failure> {
        match self {
            Self::Running(client) => client.deliveries(filter).map_err(unreachable),
            Self::Stopped(host) => Ok(host.deliveries(filter)?),
        }
    }

    fn replay(&self, key: MessageKey) -> Result<u64, Failure> {
        let checked = delivery_key(&key).map_err(|problem| Failure::Usage(problem.to_string()))?;
        match self {
            Self::Running(client) => client.replay(key).map_err(unreachable),
            Self::Stopped(host) => Ok(host.replay(&[checked])? as u64),
        }
    }

    fn replay_all(&self, filter: &DeliveryFilter) -> Result<u64, Failure> {
        match self {
            Self::Running(client) => client.replay_all(filter).map_err(unreachable),
            Self::Stopped(host) => Ok(host.replay_all(filter)? as u64),
        }
    }
}

/// Lists, shows or replays; 3 when nothing matched.
pub(super) fn run(command: DeliveriesCommand) -> Result<Exit, Failure> {
    match command {
        DeliveriesCommand::List { place, filter, limit, json } => {
            let filter =
                DeliveryFilter { states: filter.state, session_id: filter.session, message_id: None, limit };
            let records = Host::open(&place.data)?.list(&filter)?;
            print(&if json { json_rows(&records)? } else { table(&records) })?;
            Ok(matched(records.len() as u64))
        }
        DeliveriesCommand::Show { session, message, place, json } => {
            let filter = DeliveryFilter {
                session_id: Some(session),
                message_id: Some(message),
                ..DeliveryFilter::default()
            };
            let records = Host::open(&place.data)?.list(&filter)?;
            for record in &records {
                print(&if json { json_line(record)? } else { details(record) })?;
            }
            Ok(matched(records.len() as u64))
        }
        DeliveriesCommand::Replay { session_id, message, all: _, filter, place, json } => {
            let deliveries = Host::open(&place.data)?;
            let count = match (session_id, message) {
                (Some(session_id), Some(message_id)) => {
                    deliveries.replay(MessageKey { session_id, message_id })?
                }
                _ => deliveries.replay_all(&replay_filter(filter))?,
            };
            print(&if json { format!("{{\"replayed\":{count}}}\n") } else { format!("replayed {count}\n") })?;
            Ok(matched(count))
        }
    }
}

fn replay_filter(filter: ReplayFilterArgs) -> DeliveryFilter {
    let states = if filter.state.is_empty() { vec![DeliveryState::Dead] } else { filter.state };
    DeliveryFilter { states, session_id: filter.session, ..DeliveryFilter::default() }
}

fn table(records: &[DeliveryRecord]) -> String {
    let destination = |record: &DeliveryRecord| {
        let parts = [&record.channel_type, &record.platform_id, &record.thread_id];
        parts.into_iter().flatten().cloned().collect::<Vec<_>>().join(" ")
    };
    let row = |record: &DeliveryRecord| {
        [
            record.state.as_str().to_owned(),
            record.session_id.clone(),
            record.message_id.clone(),
            record.seq.to_string(),
            record.kind.clone(),
            destination(record),
            record.attempts.to_string(),
            record.updated_at.clone(),
            record.error.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    let heading = ["STATE", "SESSION", "MESSAGE", "SEQ", "KIND", "DESTINATION", "TRIES", "UPDATED", "ERROR"];
    columns(heading, &rows)
}

fn details(record: &DeliveryRecord) -> String {
    let fields = [
        ("session", Some(record.session_id.clone())),
        ("message", Some(record.message_id.clone())),
        ("seq", Some(record.seq.to_string())),
        ("kind", Some(record.kind.clone())),
        ("state", Some(record.state.as_str().to_owned())),
        ("attempts", Some(record.attempts.to_string())),
        ("error class", record.error_class.clone()),
        ("error", record.error.clone()),
        ("channel type", record.channel_type.clone()),
        ("platform id", record.platform_id.clone()),
        ("thread id", record.thread_id.clone()),
        ("platform message id", record.platform_message_id.clone()),
        ("next attempt at", record.next_attempt_at.clone()),
        ("updated at", Some(record.updated_at.clone())),
    ];
    let lines = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    lines.map(|(name, value)| format!("{name:<20} {}\n", one_line(&value))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn parse(arguments: &str) -> Result<DeliveriesCommand, clap::Error> {
        let cli = Cli::try_parse_from(["nanorelay", "deliveries"].into_iter().chain(arguments.split(' ')))?;
        let Command::Deliveries { command } = cli.command else { panic!("deliveries") };
        Ok(command)
    }

    fn record() -> DeliveryRecord {
        DeliveryRecord {
            session_id: "s-1".to_owned(),
            message_id: "m-1".to_owned(),
            seq: 3,
            kind: "chat".to_owned(),
            state: DeliveryState::Dead,
            attempts: 1,
            error_class: Some("invalid".to_owned()),
            error: Some("content is not JSON\x1b[2J".to_owned()),
            channel_type: Some("slack".to_owned()),
            platform_id: Some("slack:C0".to_owned()),
            thread_id: None,
            platform_message_id: None,
            next_attempt_at: None,
            updated_at: "2026-04-16T14:37:00Z".to_owned(),
        }
    }

    #[test]
    fn states_can_be_given_more_than_once() {
        let Ok(DeliveriesCommand::List { filter, .. }) = parse("list --data d --state dead --state held")
        else {
            panic!("list")
        };
        assert_eq!(filter.state, [DeliveryState::Dead, DeliveryState::Held]);
        assert!(
            parse("list --data d --state lost").unwrap_err().to_string().contains("the states are queued, ")
        );
    }

    #[test]
    fn replay_takes_one_message_or_all_of_a_state() {
        assert!(parse("replay s-1 m-1 --data d").is_ok());
        assert!(parse("replay --all --state dead --session s-1 --data d").is_ok());
        assert!(parse("replay --all --data d").is_ok());
        for wrong in [
            "replay --data d",
            "replay s-1 --data d",
            "replay s-1 m-1 --all --data d",
            "replay s m --state dead --data d",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn json_rows_are_an_array_with_every_field() {
        assert_eq!(json_rows::<DeliveryRecord>(&[]).unwrap(), "[]\n");
        let text = json_rows(&[record(), record()]).unwrap();
        assert_eq!(text.lines().count(), 4);
        let rows: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&text).unwrap();
        for field in [
            "session_id",
            "message_id",
            "state",
            "attempts",
            "error_class",
            "error",
            "channel_type",
            "platform_id",
            "thread_id",
            "platform_message_id",
            "next_attempt_at",
            "updated_at",
        ] {
            assert!(rows[0].contains_key(field), "{field}");
        }
        assert_eq!(rows[1]["state"], "dead");
    }

    #[test]
    fn what_an_agent_wrote_is_escaped_for_the_terminal() {
        assert!(!table(&[record()]).contains('\x1b'));
        let details = details(&record());
        assert!(!details.contains('\x1b') && details.contains("error class          invalid\n"), "{details}");
    }
}
