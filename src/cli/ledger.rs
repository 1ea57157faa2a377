//! `nanorelay ledger`: what to do when `nanorelay.db` is lost or damaged.

use super::output::OutputArgs;
use super::place::{Host, PlaceArgs};
use super::progress::Progress;
use super::{Exit, Failure};
use crate::channels::plain_text::one_line;
use clap::Subcommand;
use nanorelay_actors::report::RebuildReport;

/// What can be done with the ledger.
#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Make a new one from what the sessions' own files say was delivered; the old one is kept under another name
    Rebuild {
        #[command(flatten)]
        place: PlaceArgs,
        /// Only count what a new one would be made from
        #[arg(long)]
        dry_run: bool,
        /// Also when the old one is in order: what it knows of dead, held and ambiguous messages is then lost
        #[arg(long, conflicts_with = "dry_run")]
        force: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Rebuilds; 4 when a session could not be read.
pub(super) fn run(command: LedgerCommand) -> Result<Exit, Failure> {
    let LedgerCommand::Rebuild { place, dry_run, force, output } = command;
    let Host::Stopped(host) = Host::open(&place.data)? else {
        return Err(Failure::Failed(format!("a host runs on {}: stop it first", place.data.display())));
    };
    let progress = Progress::new("sessions");
    let report = host.rebuild_ledger(dry_run, force, &mut |done, total| progress.done(done, total))?;
    drop(progress);
    output.object(&report, || in_words(&report, dry_run))?;
    Ok(if report.unreadable.is_empty() { Exit::Done } else { Exit::Partly })
}

fn in_words(report: &RebuildReport, dry_run: bool) -> String {
    let RebuildReport { kept_as, sessions, delivered, failed, waiting, unreadable } = report;
    let mut text = format!(
        "sessions             {sessions}\ndelivered            {delivered}\nfailed               {failed}\n\
         sent at next start   {waiting}\n"
    );
    for (session, reason) in unreadable {
        text.push_str(&format!("not readable now     {}: {}\n", one_line(session), one_line(reason)));
    }
    match (dry_run, kept_as) {
        (true, _) => text.push_str("nothing was changed\n"),
        (false, Some(name)) => text.push_str(&format!("the old ledger is    {name}\n")),
        (false, None) => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_has_a_hand_in_is_escaped() {
        let report = RebuildReport {
            unreadable: vec![("s-1".to_owned(), "inbound.db is refused: \x1b[2J".to_owned())],
            ..RebuildReport::default()
        };
        let text = in_words(&report, true);
        assert!(text.contains("not readable now     s-1") && !text.contains('\x1b'), "{text}");
    }
}
