//! `nanorelay tasks`: what is planned, what has run, and what an operator does about it.

mod host;
mod text;

use super::output::OutputArgs;
use super::place::{ChangePlaceArgs, Host, PlaceArgs, matched};
use super::{Exit, Failure};
use crate::channels::plain_text::one_line;
use crate::config::ConfigSources;
use clap::{Args, Subcommand};
use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::model::ids::SessionId;
use nanorelay_actors::model::recurrence::Recurrence;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::report::{
    RunFilter, RunRecord, RunResult, TaskFilter, TaskList, TaskRecord, TaskStatus, TaskVerb,
};
use nanorelay_actors::settings::Settings;
use serde::Serialize;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// Runs of a series that `tasks show` adds.
const RUNS_SHOWN: u32 = 10;
/// Most times that `tasks next` tells.
const NEXT_MAX: i64 = 10_000;

/// What can be done with tasks.
#[derive(Debug, Subcommand)]
pub(super) enum TasksCommand {
    /// List the tasks that are still to run, by session and time
    List {
        #[command(flatten)]
        place: TaskPlaceArgs,
        /// Only this session
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        /// Only this tenant
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// Only pending or paused ones
        #[arg(long, value_name = "STATUS", value_parser = status_argument)]
        status: Option<TaskStatus>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show everything about one task, with its last runs
    Show {
        #[command(flatten)]
        task: TaskArgs,
        #[command(flatten)]
        place: TaskPlaceArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List the runs of a session's tasks, or of one of them, the latest first
    History {
        /// The session's id
        session: String,
        /// The task's id
        task: Option<String>,
        /// Only running, ok, failed or skipped ones
        #[arg(long, value_name = "RESULT", value_parser = result_argument)]
        result: Option<RunResult>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Keep a task from running until it is resumed
    Pause(ChangeArgs),
    /// Let a paused task run again
    Resume(ChangeArgs),
    /// End a task and its series
    Cancel(ChangeArgs),
    /// Let a recurring task run now, once more than planned; one that runs once runs now instead
    RunNow(ChangeArgs),
    /// Tell when a task, or any cron expression, runs next
    Next(NextArgs),
}

/// Where the host is, and how it would plan while it does not run.
#[derive(Debug, Args)]
pub(super) struct TaskPlaceArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The configuration file of a stopped host; without it DIR/nanorelay.toml, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// One task.
#[derive(Debug, Args)]
pub(super) struct TaskArgs {
    /// The session's id
    session: String,
    /// The task's id: that of its series, or of a run that is still to be
    task: String,
}

/// What a change needs.
#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    #[command(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    place: ChangePlaceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is to be told about the future.
#[derive(Debug, Args)]
pub(super) struct NextArgs {
    /// The session's id
    #[arg(required_unless_present = "cron", conflicts_with = "cron", requires = "task")]
    session: Option<String>,
    /// The task's id
    #[arg(conflicts_with = "cron")]
    task: Option<String>,
    /// A cron expression instead of a task
    #[arg(long, value_name = "EXPR")]
    cron: Option<String>,
    /// With --cron: the IANA name of the zone in which it is read
    #[arg(long, value_name = "ZONE", requires = "cron", conflicts_with = "session", default_value = "UTC")]
    timezone: String,
    /// With --cron: times after this one, such as 2027-03-28T00:00:00Z, instead of now
    #[arg(long, value_name = "TIME", requires = "cron", conflicts_with = "session", value_parser = time_argument)]
    after: Option<Timestamp>,
    /// How many times
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=NEXT_MAX))]
    count: u32,
    /// The folder that holds v2.db and v2-sessions/
    #[arg(long, value_name = "DIR", required_unless_present = "cron")]
    data: Option<PathBuf>,
    /// The configuration file of a stopped host; without it DIR/nanorelay.toml, if there is one
    #[arg(long, value_name = "FILE", conflicts_with = "cron")]
    config: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

fn status_argument(name: &str) -> Result<TaskStatus, String> {
    let names = || TaskStatus::ALL.map(TaskStatus::as_str).join(", ");
    TaskStatus::from_name(name).ok_or_else(|| format!("the states are {}", names()))
}

fn result_argument(name: &str) -> Result<RunResult, String> {
    let names = || RunResult::ALL.map(RunResult::as_str).join(", ");
    RunResult::from_name(name).ok_or_else(|| format!("the results are {}", names()))
}

fn time_argument(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|error| error.to_string())
}

impl TaskPlaceArgs {
    /// The tasks that match. Sessions of which not all is listed are told on standard error.
    fn tasks(&self, filter: &TaskFilter) -> Result<TaskList, Failure> {
        let list = Host::open(&self.place.data)?.tasks(filter, || self.settings())?;
        for (session, reason) in &list.unreadable {
            let line = one_line(&format!("session {session}: {reason}"));
            // Without standard error there is nowhere to say it.
            let _ = writeln!(std::io::stderr(), "nanorelay: {line}");
        }
        Ok(list)
    }

    /// How a host would plan that is started here.
    fn settings(&self) -> Result<Settings, Failure> {
        let sources = ConfigSources {
            data_dir: Some(self.place.data.clone()),
            file: self.config.clone(),
            environment: std::env::vars_os().collect(),
            flags: Vec::new(),
        };
        Ok(sources.load()?.settings)
    }
}

/// A task with its last runs.
#[derive(Serialize)]
struct Shown<'a> {
    tasks: &'a [TaskRecord],
    runs: &'a [RunRecord],
}

/// One moment, as it is told.
#[derive(Serialize)]
struct Moment {
    at: String,
    local: String,
}

/// Lists, shows or changes; 3 when nothing matched, 4 when not all sessions could be listed.
pub(super) fn run(command: TasksCommand) -> Result<Exit, Failure> {
    match command {
        TasksCommand::List { place, session, tenant, status, output } => {
            let filter = TaskFilter { session_id: session, tenant, status, series_id: None };
            let TaskList { tasks, unreadable } = place.tasks(&filter)?;
            output.list(&tasks, text::tasks)?;
            Ok(if unreadable.is_empty() { matched(tasks.len() as u64) } else { Exit::Partly })
        }
        TasksCommand::Show { task, place, output } => show(task, &place, output),
        TasksCommand::History { session, task, result, limit, place, output } => {
            let filter = RunFilter { session_id: session, series_id: task, result, limit: Some(limit) };
            let records = Host::open(&place.data)?.task_runs(&filter)?;
            output.list(&records, text::runs)?;
            Ok(matched(records.len() as u64))
        }
        TasksCommand::Pause(args) => change(&args, TaskVerb::Pause, "paused"),
        TasksCommand::Resume(args) => change(&args, TaskVerb::Resume, "resumed"),
        TasksCommand::Cancel(args) => change(&args, TaskVerb::Cancel, "cancelled"),
        TasksCommand::RunNow(args) => change(&args, TaskVerb::RunNow, "started"),
        TasksCommand::Next(args) => next(args),
    }
}

fn show(task: TaskArgs, place: &TaskPlaceArgs, output: OutputArgs) -> Result<Exit, Failure> {
    let TaskArgs { session, task } = task;
    let filter = TaskFilter {
        session_id: Some(session.clone()),
        series_id: Some(task.clone()),
        ..TaskFilter::default()
    };
    let TaskList { tasks, .. } = place.tasks(&filter)?;
    let series = tasks.first().map_or(task, |task| task.series_id.clone());
    let filter =
        RunFilter { session_id: session, series_id: Some(series), result: None, limit: Some(RUNS_SHOWN) };
    let runs = Host::open(&place.place.data)?.task_runs(&filter)?;
    let shown = Shown { tasks: &tasks, runs: &runs };
    if tasks.is_empty() && runs.is_empty() {
        return Ok(Exit::LeftOver);
    }
    output.object(&shown, || text::details(&tasks, &runs))?;
    Ok(Exit::Done)
}

fn change(args: &ChangeArgs, verb: TaskVerb, done: &str) -> Result<Exit, Failure> {
    let TaskArgs { session, task } = &args.task;
    let session = SessionId::new(session).map_err(|problem| Failure::Usage(problem.to_string()))?;
    let count = args.place.open()?.change_task(&session, task, verb)?;
    let words = if count > 0 { done } else { "no such task is still to run" };
    args.output.object(&json!({ "changed": count }), || format!("{words}\n"))?;
    Ok(matched(count))
}

fn next(args: NextArgs) -> Result<Exit, Failure> {
    let count = args.count as usize;
    let (times, zone) = match (args.cron, args.session, args.task, args.data) {
        (Some(expression), ..) => {
            let recurrence =
                Recurrence::parse(&expression).map_err(|error| Failure::Usage(error.to_string()))?;
            let zone = zone(&args.timezone)?;
            let after = args.after.unwrap_or_else(|| SystemClock.now());
            let times = std::iter::successors(Some(after), |time| recurrence.next_after(*time, &zone));
            (times.skip(1).take(count).collect(), zone)
        }
        (None, Some(session), Some(task), Some(data)) => {
            let place = TaskPlaceArgs { place: PlaceArgs { data }, config: args.config };
            let filter =
                TaskFilter { session_id: Some(session), series_id: Some(task), ..TaskFilter::default() };
            let TaskList { tasks, .. } = place.tasks(&filter)?;
            // A run that was started by hand has no times of its own.
            let planned = tasks.iter().find(|task| task.recurrence.is_some()).or(tasks.first());
            let Some(task) = planned else { return Ok(Exit::LeftOver) };
            (task.upcoming(count), zone(&task.timezone)?)
        }
        _ => return Err(Failure::Usage("give a session and a task, or --cron".to_owned())),
    };
    let moments: Vec<Moment> = times.iter().map(|time| moment(*time, &zone)).collect();
    args.output.list(&moments, text::moments)?;
    Ok(matched(moments.len() as u64))
}

fn zone(name: &str) -> Result<jiff::tz::TimeZone, Failure> {
    jiff::tz::TimeZone::get(name)
        .map_err(|_| Failure::Usage(format!("{name:?} is not a known IANA time zone")))
}

fn moment(time: Timestamp, zone: &jiff::tz::TimeZone) -> Moment {
    let local = jiff::Timestamp::from_millisecond(time.as_ms())
        .map(|instant| instant.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string());
    Moment { at: time.to_iso(), local: local.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn parse(arguments: &[&str]) -> Result<TasksCommand, clap::Error> {
        let cli = Cli::try_parse_from(["nanorelay", "tasks"].iter().chain(arguments))?;
        let Command::Tasks { command } = cli.command else { panic!("tasks") };
        Ok(command)
    }

    #[test]
    fn the_future_is_told_of_a_task_or_of_an_expression_and_not_of_both() {
        for right in [
            &["next", "s", "t", "--data", "d"][..],
            &["next", "s", "t", "--data", "d", "-n", "3"],
            &["next", "--cron", "0 9 * * *"],
            &["next", "--cron", "@daily", "--timezone", "Europe/Berlin", "--after", "2027-01-01T00:00:00Z"],
        ] {
            assert!(parse(right).is_ok(), "{right:?}");
        }
        for wrong in [
            &["next"][..],
            &["next", "s", "--data", "d"],
            &["next", "s", "t"],
            &["next", "s", "t", "--data", "d", "--cron", "@daily"],
            &["next", "s", "t", "--data", "d", "--after", "2027-01-01T00:00:00Z"],
            &["next", "--cron", "@daily", "-n", "0"],
            &["next", "--cron", "@daily", "--after", "tomorrow"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn unknown_states_and_results_are_refused_with_those_that_there_are() {
        let error = parse(&["list", "--data", "d", "--status", "done"]).unwrap_err().to_string();
        assert!(error.contains("the states are pending, paused"), "{error}");
        let error = parse(&["history", "s", "--data", "d", "--result", "late"]).unwrap_err().to_string();
        assert!(error.contains("the results are running, ok, failed, skipped"), "{error}");
    }

    #[test]
    fn a_moment_is_told_in_its_zone() {
        let time = Timestamp::parse("2027-03-28T01:30:00Z").unwrap();
        let moment = moment(time, &zone("Europe/Berlin").ok().unwrap());
        assert_eq!(moment.local, "Sun 2027-03-28 03:30:00 +02:00");
        assert!(matches!(zone("Mars/Base"), Err(Failure::Usage(_))));
    }
}
