//! `nanorelay pause`, `resume` and `pauses`: through the socket of a running host, and directly on a stopped one.

use super::output::OutputArgs;
use super::place::{ChangePlaceArgs, Host, PlaceArgs, matched, unreachable};
use super::table::columns;
use super::{Exit, Failure, duration_argument};
use clap::Args;
use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::model::hold::{HoldScope, HoldScopeKind};
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::Resume;
use nanorelay_actors::report::HoldRecord;
use serde_json::json;
use std::time::Duration;

/// What is paused or resumed.
#[derive(Debug, Args)]
struct ScopeArgs {
    /// tenant, channel, destination, session or lane
    #[arg(value_name = "SCOPE", value_parser = kind_argument)]
    kind: HoldScopeKind,
    /// tenant NAME · channel TYPE · destination TYPE PLATFORM_ID · session ID · lane SESSION TYPE PLATFORM_ID [THREAD]
    #[arg(value_name = "NAME", required = true, num_args = 1..=4)]
    name: Vec<String>,
}

impl ScopeArgs {
    fn scope(&self) -> Result<HoldScope, Failure> {
        HoldScope::from_parts(self.kind, &self.name).map_err(|problem| Failure::Usage(problem.to_string()))
    }
}

/// Sends nothing of a scope for a time.
#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// When the pause ends by itself, for example 2026-12-01T08:00:00Z; without it and --for, when it is resumed
    #[arg(long, value_name = "TIME", value_parser = time_argument, conflicts_with = "duration")]
    until: Option<Timestamp>,
    /// How long the pause lasts, for example 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = duration_argument)]
    duration: Option<Duration>,
    /// Why, for those who list it
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Ends what holds a scope back.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Also forget what the platform asked for: a limit, refused credentials, a destination that is gone
    #[arg(long)]
    platform: bool,
    #[command(flatten)]
    place: ChangePlaceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Lists what holds sends back.
#[derive(Debug, Args)]
pub(super) struct PausesArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn kind_argument(name: &str) -> Result<HoldScopeKind, String> {
    let names = || HoldScopeKind::ALL.map(HoldScopeKind::as_str).join(", ");
    HoldScopeKind::from_name(name).ok_or_else(|| format!("what can be paused is {}", names()))
}

pub(super) fn time_argument(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|problem| problem.to_string())
}

impl Host {
    fn holds(&self) -> Result<Vec<HoldRecord>, Failure> {
        match self {
            Self::Running(client) => client.holds().map_err(unreachable),
            Self::Stopped(host) => Ok(host.holds()?),
        }
    }

    fn pause(&self, scope: HoldScope, until: Option<Timestamp>, reason: String) -> Result<(), Failure> {
        match self {
            Self::Running(client) => client.pause(&scope, until, reason).map_err(unreachable),
            Self::Stopped(host) => host
                .noted("pause", scope.to_string(), |host| Ok(host.pause(scope.clone(), until, &reason)?)),
        }
    }

    fn resume(&self, scope: &HoldScope, platform: bool) -> Result<u64, Failure> {
        match self {
            Self::Running(client) => client.resume(scope, platform).map_err(unreachable),
            Self::Stopped(host) => {
                let which = if platform { Resume::Everything } else { Resume::Pause };
                host.noted("resume", scope.to_string(), |host| Ok(host.resume(scope, which)? as u64))
            }
        }
    }
}

/// Pauses.
pub(super) fn pause(args: PauseArgs) -> Result<Exit, Failure> {
    let scope = args.scope.scope()?;
    let until = args.until.or_else(|| args.duration.map(|duration| SystemClock.now().plus(duration)));
    let why = Some(args.reason.clone()).filter(|reason| !reason.is_empty());
    Host::open(&args.place.data)?.because(why).pause(scope, until, args.reason)?;
    let until = until.map(Timestamp::to_iso);
    args.output.object(&json!({ "paused": true, "until": until }), || match &until {
        Some(until) => format!("paused until {until}\n"),
        None => "paused until it is resumed\n".to_owned(),
    })?;
    Ok(Exit::Done)
}

/// Resumes; 3 when nothing was paused.
pub(super) fn resume(args: &ResumeArgs) -> Result<Exit, Failure> {
    let scope = args.scope.scope()?;
    let count = args.place.open()?.resume(&scope, args.platform)?;
    let words = if count > 0 { "resumed\n" } else { "nothing was paused\n" };
    args.output.object(&json!({ "resumed": count }), || words.to_owned())?;
    Ok(matched(count))
}

/// Lists; 3 when there is nothing to list.
pub(super) fn list(args: &PausesArgs) -> Result<Exit, Failure> {
    let records = Host::open(&args.place.data)?.holds()?;
    args.output.list(&records, table)?;
    Ok(matched(records.len() as u64))
}

fn table(records: &[HoldRecord]) -> String {
    let row = |record: &HoldRecord| {
        [
            record.scope.as_str().to_owned(),
            record.name.join(" "),
            record.cause.as_str().to_owned(),
            record.until.clone().unwrap_or_else(|| "resumed".to_owned()),
            record.since.clone(),
            record.reason.clone(),
        ]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    columns(["SCOPE", "NAME", "CAUSE", "UNTIL", "SINCE", "REASON"], &rows)
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;
    use nanorelay_actors::model::hold::HoldCause;

    fn parse(arguments: &str) -> Result<Command, clap::Error> {
        Ok(Cli::try_parse_from(["nanorelay"].into_iter().chain(arguments.split(' ')))?.command)
    }

    #[test]
    fn every_scope_is_named_by_its_parts() {
        for name in [
            "tenant acme",
            "channel slack",
            "destination slack slack:C1",
            "session s-1",
            "lane s-1 slack slack:C1 t",
        ] {
            let Ok(Command::Pause(args)) = parse(&format!("pause {name} --data d --for 2h")) else {
                panic!("{name}")
            };
            assert_eq!(args.scope.scope().map(|scope| scope.to_string()).ok().as_deref(), Some(name));
            assert_eq!(args.duration, Some(Duration::from_secs(7200)));
        }
        let Ok(Command::Resume(args)) = parse("resume destination slack --data d") else { panic!("resume") };
        let Err(Failure::Usage(words)) = args.scope.scope() else { panic!("a part is missing") };
        assert_eq!(words, "a destination is named by its channel type and its platform id");
        for wrong in [
            "pause --data d",
            "pause channel --data d",
            "pause planet earth --data d",
            "pause channel slack --data d --until tomorrow",
            "pause channel slack --data d --until 2026-12-01T08:00:00Z --for 1h",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_platform_says_is_escaped_for_the_terminal() {
        let record = HoldRecord {
            scope: HoldScopeKind::Channel,
            name: vec!["slack".to_owned()],
            cause: HoldCause::RateLimit,
            until: None,
            reason: "\x1b[2J".to_owned(),
            since: "2026-04-16T14:37:00Z".to_owned(),
        };
        let table = table(&[record]);
        assert!(table.contains("rate_limit") && !table.contains('\x1b'), "{table}");
    }
}
