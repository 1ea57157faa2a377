//! `nanorelay audit`: who changed what and why, on a running or a stopped host.

use super::output::OutputArgs;
use super::place::{Host, PlaceArgs, matched, unreachable};
use super::table::columns;
use super::{Exit, Failure};
use clap::{Args, Subcommand};
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::report::{AuditFilter, AuditRecord};

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List changes, the newest first
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only those of this one: a token's name, `local user 1000`
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only those of this kind, for example delivery.replay
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only those that began at or after this time, for example 2026-12-01T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time_argument)]
    since: Option<Timestamp>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    output: OutputArgs,
}

fn time_argument(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|problem| problem.to_string())
}

/// Lists; 3 when there is nothing to list.
pub(super) fn run(command: AuditCommand) -> Result<Exit, Failure> {
    let AuditCommand::List(args) = command;
    let filter = AuditFilter {
        who: args.who,
        action: args.action,
        since_ms: args.since.map(Timestamp::as_ms),
        before_id: None,
        limit: Some(args.limit),
    };
    let records = match Host::open(&args.place.data)? {
        Host::Running(client) => client.audit(&filter).map_err(unreachable)?,
        Host::Stopped(host) => host.audit(&filter)?,
    };
    args.output.list(&records, table)?;
    Ok(matched(records.len() as u64))
}

fn table(records: &[AuditRecord]) -> String {
    let row = |record: &AuditRecord| {
        [
            record.at.clone(),
            record.who.clone(),
            record.via.as_str().to_owned(),
            record.action.clone(),
            record.target.clone(),
            record.outcome.as_str().to_owned(),
            record.error.clone().or_else(|| record.reason.clone()).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    columns(["AT", "WHO", "VIA", "ACTION", "TARGET", "OUTCOME", "WHY"], &rows)
}
