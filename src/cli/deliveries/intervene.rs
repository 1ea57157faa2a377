//! `nanorelay deliveries cancel` and `snooze`.

use super::super::output::OutputArgs;
use super::super::pauses::time_argument;
use super::super::place::{ChangePlaceArgs, matched};
use super::super::{Exit, Failure, duration_argument};
use super::text::table;
use super::{filter_of, state_argument};
use crate::control::protocol::MessageKey;
use clap::Args;
use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::report::{DeliveryFilter, DeliveryState};
use serde_json::json;
use std::time::Duration;

/// Gives messages up that have not arrived.
#[derive(Debug, Args)]
pub(in crate::cli) struct CancelArgs {
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
    /// All that match --state, --session, --channel and --class, and are not on their way
    #[arg(long)]
    all: bool,
    /// With --all: only this state, of queued, retrying, held and ambiguous; may be given more than once
    #[arg(long, value_name = "STATE", value_parser = cancellable_argument, requires = "all", conflicts_with = "session_id")]
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
    /// With --all: only list what would be cancelled
    #[arg(long, requires = "all", conflicts_with = "session_id")]
    dry_run: bool,
    #[command(flatten)]
    place: ChangePlaceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Sends a message later.
#[derive(Debug, Args)]
pub(in crate::cli) struct SnoozeArgs {
    /// The session's id
    session: String,
    /// The message's id
    message: String,
    /// Not before this time, for example 2026-12-01T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time_argument, conflicts_with = "duration",
          required_unless_present = "duration")]
    until: Option<Timestamp>,
    /// Not before so long from now, for example 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = duration_argument)]
    duration: Option<Duration>,
    #[command(flatten)]
    place: ChangePlaceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn cancellable_argument(name: &str) -> Result<DeliveryState, String> {
    let state = state_argument(name)?;
    if state.is_cancellable() { Ok(state) } else { Err(format!("what is {name} cannot be cancelled")) }
}

impl CancelArgs {
    fn filter(&self) -> DeliveryFilter {
        filter_of(self.state.clone(), self.session.clone(), self.channel.clone(), self.class.clone())
    }
}

/// Cancels; 3 when nothing matched.
pub(super) fn cancel(args: CancelArgs) -> Result<Exit, Failure> {
    let host = args.place.open()?;
    if args.dry_run {
        let records = host.cancellable(&args.filter())?;
        args.output.list(&records, table)?;
        return Ok(matched(records.len() as u64));
    }
    let filter = args.filter();
    let count = match (args.session_id, args.message) {
        (Some(session_id), Some(message_id)) => {
            u64::from(host.cancel(MessageKey { session_id, message_id }, args.place.reason())?)
        }
        _ => host.cancel_all(&filter, args.place.reason())?,
    };
    args.output.object(&json!({ "cancelled": count }), || format!("cancelled {count}\n"))?;
    Ok(matched(count))
}

/// Snoozes; 3 when there is no such message.
pub(super) fn snooze(args: SnoozeArgs) -> Result<Exit, Failure> {
    let now = SystemClock.now();
    let until = args.until.or_else(|| args.duration.map(|duration| now.plus(duration))).unwrap_or(now);
    let key = MessageKey { session_id: args.session, message_id: args.message };
    let is_snoozed = args.place.open()?.snooze(key, until)?;
    let until = until.to_iso();
    args.output.object(&json!({ "snoozed": is_snoozed, "until": until }), || match is_snoozed {
        true => format!("not sent before {until}\n"),
        false => "there is no such message\n".to_owned(),
    })?;
    Ok(matched(u64::from(is_snoozed)))
}
