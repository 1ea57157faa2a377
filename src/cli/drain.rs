//! `nanorelay drain`.

use super::output::OutputArgs;
use super::progress;
use super::running::{self, RunningHost};
use super::signals::Signals;
use super::{Exit, Failure, HostArgs, duration_argument};
use crate::channels::ConsoleOutput;
use crate::config::Config;
use clap::Args;
use indicatif::ProgressBar;
use nanorelay_actors::relay::Relay;
use nanorelay_actors::report::DrainReport;
use slog::Logger;
use std::time::Duration;

/// Between two looks at what is done.
const SHOW_PAUSE: Duration = Duration::from_millis(200);

/// What `drain` is told.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// How long to wait for retries that are due soon, such as 500ms, 60s, 5m
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration_argument)]
    deadline: Duration,
}

/// Delivers all that is due; 3 when something of it is left.
pub(super) fn run(args: &DrainArgs) -> Result<Exit, Failure> {
    let line = progress::line();
    let (config, logging) = running::prepare_beside(&args.host, line.clone())?;
    let drained = running::block_on(drain(args, &config, &logging.logger, &line));
    line.finish_and_clear();
    match drained? {
        Drained::Broken(exit) => Ok(exit),
        Drained::Report(report) => {
            args.output.object(&report, || summary(&report))?;
            Ok(if report.is_complete() { Exit::Done } else { Exit::LeftOver })
        }
    }
}

enum Drained {
    Report(DrainReport),
    /// A signal came first.
    Broken(Exit),
}

async fn drain(
    args: &DrainArgs,
    config: &Config,
    logger: &Logger,
    line: &ProgressBar,
) -> Result<Drained, Failure> {
    let signals = Signals::listen()?;
    let console = if args.output.is_json() { ConsoleOutput::Stderr } else { ConsoleOutput::Stdout };
    // Agents are woken by a host that goes on: this one ends when there is nothing to deliver.
    let started = tokio::select! {
        started = RunningHost::start(&args.host.data, config, console, None, logger) => started,
        signal = signals.first() => return Ok(Drained::Broken(Exit::Signal(signal))),
    };
    let host = started?;
    progress::keep_drawing(line);
    let drained = tokio::select! {
        never = show(&host.relay, line) => match never {},
        report = host.relay.drain(args.deadline) => Drained::Report(report),
        signal = signals.first() => Drained::Broken(Exit::Signal(signal)),
    };
    host.stop().await;
    Ok(drained)
}

/// Tells on the line what is done so far, until it is dropped.
async fn show(relay: &Relay, line: &ProgressBar) -> std::convert::Infallible {
    let mut turns = tokio::time::interval(SHOW_PAUSE);
    loop {
        turns.tick().await;
        let counted = relay.statistics();
        let (done, dead) = (counted.delivered + counted.applied + counted.routed, counted.dead);
        line.set_message(format!("delivered {done}, dead {dead}"));
    }
}

fn summary(report: &DrainReport) -> String {
    let DrainReport { delivered, applied, routed, dead, retrying, held, ambiguous, scheduled } = report;
    format!(
        "delivered {delivered}, applied {applied}, routed {routed}, dead {dead}\n\
         left: retrying {retrying}, held {held}, ambiguous {ambiguous}, scheduled {scheduled}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::json_line;
    use super::*;

    #[test]
    fn the_json_report_is_one_object_with_all_counts() {
        let report = DrainReport { delivered: 3, scheduled: 1, ..DrainReport::default() };
        assert_eq!(
            json_line(&report).unwrap(),
            "{\"delivered\":3,\"applied\":0,\"routed\":0,\"dead\":0,\"retrying\":0,\"held\":0,\"ambiguous\":0,\
             \"scheduled\":1}\n"
        );
    }

    #[test]
    fn the_summary_tells_what_is_left() {
        let report = DrainReport { delivered: 3, held: 2, ..DrainReport::default() };
        assert_eq!(
            summary(&report),
            "delivered 3, applied 0, routed 0, dead 0\nleft: retrying 0, held 2, ambiguous 0, scheduled 0\n"
        );
    }
}
