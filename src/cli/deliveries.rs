//! `nanorelay deliveries`: works through the socket of a running host, and directly on a stopped one.

mod host;
mod intervene;
mod text;

use super::output::OutputArgs;
use super::place::{ChangePlaceArgs, Host, PlaceArgs, matched};
use super::{Exit, Failure};
use crate::control::protocol::MessageKey;
use clap::{Args, Subcommand, ValueEnum};
use intervene::{CancelArgs, SnoozeArgs};
use nanorelay_actors::report::{DeliveryFilter, DeliveryState, ReplayRate, Resolution};
use serde_json::json;
use text::{details, table};

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
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show everything about one delivery, with every attempt that failed
    Show {
        /// The session's id
        session: String,
        /// The message's id
        message: String,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        output: OutputArgs,
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
        /// All that match --state, --session, --channel and --class
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        filter: ReplayFilterArgs,
        /// With --all: only list what would be replayed, in that order
        #[arg(long, requires = "all", conflicts_with_all = ["session_id", "rate"])]
        dry_run: bool,
        /// With --all: spread them in time, such as 5/s, 30/m or 100/h; at once without it
        #[arg(long, value_name = "RATE", requires = "all", conflicts_with = "session_id")]
        rate: Option<ReplayRate>,
        #[command(flatten)]
        place: ChangePlaceArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Give deliveries up that are queued, retrying, held or ambiguous: they are dead then, and can be replayed
    Cancel(CancelArgs),
    /// Send a queued or retrying delivery later; its lane goes on without it
    Snooze(SnoozeArgs),
    /// Say what became of an ambiguous delivery, of which the host does not know whether it was sent
    Resolve {
        /// The session's id
        session: String,
        /// The message's id
        message: String,
        /// delivered: it has arrived. not-delivered: send it again
        #[arg(long = "as", value_name = "WHAT")]
        resolution: ResolutionName,
        /// With --as delivered: the platform's id of the message
        #[arg(long, value_name = "ID")]
        receipt: Option<String>,
        #[command(flatten)]
        place: ChangePlaceArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ResolutionName {
    Delivered,
    NotDelivered,
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
    /// Only messages to this channel type
    #[arg(long, value_name = "TYPE")]
    channel: Option<String>,
    /// Only those whose last failure was of this kind, such as transient or no_route
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
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
    /// With --all: only messages to this channel type
    #[arg(long, value_name = "TYPE", requires = "all", conflicts_with = "session_id")]
    channel: Option<String>,
    /// With --all: only those whose last failure was of this kind
    #[arg(long, value_name = "CLASS", requires = "all", conflicts_with = "session_id")]
    class: Option<String>,
}

fn state_argument(name: &str) -> Result<DeliveryState, String> {
    let names = || DeliveryState::ALL.map(DeliveryState::as_str).join(", ");
    DeliveryState::from_name(name).ok_or_else(|| format!("the states are {}", names()))
}

/// Lists, shows or changes; 3 when nothing matched.
pub(super) fn run(command: DeliveriesCommand) -> Result<Exit, Failure> {
    match command {
        DeliveriesCommand::List { place, filter, limit, output } => {
            let FilterArgs { state, session, channel, class } = filter;
            let filter = DeliveryFilter { limit, ..filter_of(state, session, channel, class) };
            let records = Host::open(&place.data)?.list(&filter)?;
            output.list(&records, table)?;
            Ok(matched(records.len() as u64))
        }
        DeliveriesCommand::Show { session, message, place, output } => {
            let key = MessageKey { session_id: session, message_id: message };
            let Some(found) = Host::open(&place.data)?.show(key)? else { return Ok(Exit::LeftOver) };
            output.object(&found, || details(&found))?;
            Ok(Exit::Done)
        }
        DeliveriesCommand::Replay { filter, dry_run: true, place, output, .. } => {
            let records = Host::open(&place.place.data)?.replayable(&replay_filter(filter))?;
            output.list(&records, table)?;
            Ok(matched(records.len() as u64))
        }
        DeliveriesCommand::Replay { session_id, message, filter, rate, place, output, .. } => {
            let deliveries = place.open()?;
            let count = match (session_id, message) {
                (Some(session_id), Some(message_id)) => {
                    deliveries.replay(MessageKey { session_id, message_id })?
                }
                _ => deliveries.replay_all(&replay_filter(filter), rate)?,
            };
            output.object(&json!({ "replayed": count }), || format!("replayed {count}\n"))?;
            Ok(matched(count))
        }
        DeliveriesCommand::Cancel(args) => intervene::cancel(args),
        DeliveriesCommand::Snooze(args) => intervene::snooze(args),
        DeliveriesCommand::Resolve { session, message, resolution, receipt, place, output } => {
            let resolution = resolution_of(resolution, receipt)?;
            let key = MessageKey { session_id: session, message_id: message };
            let resolved = place.open()?.resolve(key, resolution)?;
            let words = if resolved { "resolved\n" } else { "the delivery is not ambiguous\n" };
            output.object(&json!({ "resolved": resolved }), || words.to_owned())?;
            Ok(matched(u64::from(resolved)))
        }
    }
}

fn filter_of(
    states: Vec<DeliveryState>,
    session_id: Option<String>,
    channel_type: Option<String>,
    error_class: Option<String>,
) -> DeliveryFilter {
    DeliveryFilter { states, session_id, channel_type, error_class, ..DeliveryFilter::default() }
}

fn replay_filter(filter: ReplayFilterArgs) -> DeliveryFilter {
    let ReplayFilterArgs { state, session, channel, class } = filter;
    let states = if state.is_empty() { vec![DeliveryState::Dead] } else { state };
    filter_of(states, session, channel, class)
}

fn resolution_of(name: ResolutionName, receipt: Option<String>) -> Result<Resolution, Failure> {
    match (name, receipt) {
        (ResolutionName::Delivered, platform_message_id) => Ok(Resolution::Delivered { platform_message_id }),
        (ResolutionName::NotDelivered, None) => Ok(Resolution::NotDelivered),
        (ResolutionName::NotDelivered, Some(_)) => {
            Err(Failure::Usage("a message that was not delivered has no receipt".to_owned()))
        }
    }
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
        assert!(parse("replay --all --channel slack --class transient --rate 5/s --data d").is_ok());
        assert!(parse("replay --all --dry-run --data d").is_ok());
        for wrong in [
            "replay --data d",
            "replay s-1 --data d",
            "replay s-1 m-1 --all --data d",
            "replay s m --state dead --data d",
            "replay s m --dry-run --data d",
            "replay --all --rate 0/s --data d",
            "replay --all --rate 5/s --dry-run --data d",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cancelling_takes_one_message_or_all_of_a_kind_and_snoozing_a_time() {
        for right in [
            "cancel s m --data d --reason typo",
            "cancel --all --state retrying --state held --channel slack --data d",
            "cancel --all --dry-run --data d",
            "snooze s m --until 2027-01-01T00:00:00Z --data d",
            "snooze s m --for 2h --data d",
        ] {
            assert!(parse(right).is_ok(), "{right}");
        }
        for wrong in [
            "cancel --data d",
            "cancel s m --all --data d",
            "cancel --all --state delivered --data d",
            "cancel s m --dry-run --data d",
            "snooze s m --data d",
            "snooze s m --until tomorrow --data d",
            "snooze s m --until 2027-01-01T00:00:00Z --for 2h --data d",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_ambiguous_delivery_is_resolved_in_one_of_two_ways() {
        assert!(parse("resolve s m --as delivered --receipt p-1 --data d").is_ok());
        assert!(parse("resolve s m --as not-delivered --data d").is_ok());
        assert!(parse("resolve s m --data d").is_err());
        assert!(parse("resolve s m --as lost --data d").is_err());
        let receipt = Some("p-1".to_owned());
        assert!(matches!(resolution_of(ResolutionName::NotDelivered, receipt), Err(Failure::Usage(_))));
    }
}
