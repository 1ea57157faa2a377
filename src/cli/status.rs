//! `nanorelay status`: whether a host runs, and how it does.

use super::output::OutputArgs;
use super::place::{PlaceArgs, unreachable};
use super::{Exit, Failure};
use crate::channels::plain_text::one_line;
use crate::control::client::{ClientError, ControlClient};
use crate::control::status::HostStatus;
use clap::Args;
use std::path::Path;
use std::time::Duration;

/// What `status` is told.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints how the host does; 69 when none runs.
pub(super) fn run(args: &StatusArgs) -> Result<Exit, Failure> {
    let status = ask(&args.place.data)?;
    args.output.object(&status, || text(&status))?;
    Ok(Exit::Done)
}

/// Asks the running host.
pub(super) fn ask(data_dir: &Path) -> Result<HostStatus, Failure> {
    let connected = ControlClient::connect(data_dir).map_err(|error| match error {
        ClientError::NotRunning => Failure::Unreachable(format!("no host runs on {}", data_dir.display())),
        error => unreachable(error),
    });
    connected?.status().map_err(unreachable)
}

fn text(status: &HostStatus) -> String {
    let uptime = in_words(Duration::from_millis(status.uptime_ms));
    let counts: Vec<String> =
        status.standing.counts.by_name().iter().map(|(name, count)| format!("{name} {count}")).collect();
    let sessions = &status.standing.sessions;
    let oldest = status.standing.oldest_undelivered.as_ref();
    let blocked: Vec<&str> = status
        .channels
        .iter()
        .filter(|channel| channel.blocked_by.is_some())
        .map(|channel| channel.name.as_str())
        .collect();
    let fields = [
        ("host", format!("process {}, version {}", status.process_id, status.version)),
        ("since", format!("{} ({uptime})", status.started_at)),
        ("http api", status.http_address.as_ref().map_or("off".to_owned(), |at| format!("http://{at}/"))),
        (
            "sessions",
            format!(
                "{} in v2.db, {} active, {} whose agent runs, {} at work, {} watched, {} quarantined",
                sessions.total,
                sessions.active,
                sessions.running,
                status.session_actors,
                status.watched_folders,
                sessions.quarantined
            ),
        ),
        ("since its start", format!("delivered {}, dead {}", status.totals.delivered, status.totals.dead)),
        ("messages", counts.join(", ")),
        (
            "oldest waits",
            oldest.map_or("none".to_owned(), |oldest| {
                format!("since {}: {} {}", oldest.since, oldest.session_id, oldest.message_id)
            }),
        ),
        ("channels", format!("{}, blocked: {}", status.channels.len(), or_none(&blocked.join(", ")))),
        ("holds", status.holds_total.to_string()),
    ];
    fields.iter().map(|(name, value)| format!("{name:<16} {}\n", one_line(value))).collect()
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

/// A time in its two largest units.
pub(super) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units() {
        for (seconds, words) in [(5, "5 s"), (65, "1 min 5 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
