//! `nanorelay doctor`: what is wrong with a data directory, and how to mend it.

use super::output::OutputArgs;
use super::progress::Progress;
use super::{Exit, Failure};
use crate::channels::plain_text::one_line;
use crate::config::ConfigSources;
use crate::control::client::{ClientError, ControlClient};
use clap::Args;
use nanorelay_actors::doctor::{Finding, FindingId, Level, examine};
use nanorelay_actors::settings::Settings;
use std::fmt::Write;
use std::path::PathBuf;

/// What `doctor` is told.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// The folder that holds v2.db and v2-sessions/
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The configuration file; without it DIR/nanorelay.toml, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Looks and prints; 1 when something does not work, 3 when something should be looked at.
pub(super) fn run(args: &DoctorArgs) -> Result<Exit, Failure> {
    let (configuration, settings) = configuration(args);
    let mut findings = vec![configuration, host(args)];
    let progress = Progress::new("sessions");
    findings.extend(examine(&args.data, &settings, &mut |done, total| progress.done(done, total)));
    drop(progress);
    args.output.list(&findings, text)?;
    match findings.iter().map(|finding| finding.level).max() {
        Some(Level::Error) => Err(Failure::Failed("something does not work, see above".to_owned())),
        Some(Level::Warning) => Ok(Exit::LeftOver),
        _ => Ok(Exit::Done),
    }
}

/// With the settings that a host would have; with the defaults when there are none.
fn configuration(args: &DoctorArgs) -> (Finding, Settings) {
    let sources = ConfigSources {
        data_dir: Some(args.data.clone()),
        file: args.config.clone(),
        environment: std::env::vars_os().collect(),
        flags: Vec::new(),
    };
    let subject = "configuration";
    match sources.load() {
        Ok(config) if config.channels.is_empty() => {
            let remedy = "add a [channels.<type>] table";
            let words = "no channel is configured: messages wait";
            (Finding::warning(FindingId::NoChannel, subject, words, remedy), config.settings)
        }
        Ok(config) => {
            let file = config.file.map_or("defaults".to_owned(), |file| file.display().to_string());
            let words = format!("{file}, {} channels", config.channels.len());
            (Finding::ok(FindingId::Configuration, subject, words), config.settings)
        }
        Err(errors) => {
            let remedy = "correct it; `nanorelay config check` says more";
            let finding = Finding::error(FindingId::Configuration, subject, errors.to_string(), remedy);
            (finding, Settings::default())
        }
    }
}

fn host(args: &DoctorArgs) -> Finding {
    let subject = "host";
    match ControlClient::connect(&args.data) {
        Ok(_) => Finding::ok(FindingId::Host, subject, "runs and answers"),
        Err(ClientError::NotRunning) => Finding::ok(FindingId::Host, subject, "does not run"),
        Err(error) => Finding::error(
            FindingId::Host,
            subject,
            error.to_string(),
            "look into its log; restart it if it does not come to itself",
        ),
    }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { id, subject, level, finding, remedy } in findings {
        let mark = match level {
            Level::Ok => "ok     ",
            Level::Warning => "warning",
            Level::Error => "error  ",
        };
        // Names and reasons may come from an agent.
        let _ = writeln!(text, "{mark} {}: {}", one_line(subject), one_line(finding));
        if let Some(remedy) = remedy {
            let _ = writeln!(text, "        -> {} [{id}]", one_line(remedy));
        }
    }
    text
}
