//! The command line.

mod agents;
mod audit;
mod bench;
mod config;
mod deliveries;
mod demo;
mod doctor;
mod drain;
mod exit;
mod lanes;
mod ledger;
mod metrics;
mod output;
mod pauses;
mod place;
mod progress;
mod questions;
mod reference;
mod running;
mod serve;
mod service_manager;
mod sessions;
mod signals;
mod status;
mod table;
mod tasks;
mod token;
mod top;

use crate::channels::plain_text::one_line;
use crate::config::{ConfigSources, units};
use clap::{Args, Parser, Subcommand, ValueEnum};
use exit::{Exit, Failure};
use nanorelay_actors::runtime::keeper;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Delivers what AI agents write into their NanoClaw session folders.
#[derive(Debug, Parser)]
#[command(name = "nanorelay", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Deliver until SIGTERM or SIGINT
    Serve {
        #[command(flatten)]
        host: HostArgs,
    },
    /// Deliver all that is due, then end
    Drain(drain::DrainArgs),
    /// List, show and replay deliveries, on a running or a stopped host
    Deliveries {
        #[command(subcommand)]
        command: deliveries::DeliveriesCommand,
    },
    /// List and make sessions, write to their agents, release those that cannot be served; on a running or a stopped host
    Sessions {
        #[command(subcommand)]
        command: sessions::SessionsCommand,
    },
    /// List and answer the questions that agents ask, on a running or a stopped host
    Questions {
        #[command(subcommand)]
        command: questions::QuestionsCommand,
    },
    /// List lanes, and let those go on that wait for a message that fails, on a running or a stopped host
    Lanes {
        #[command(subcommand)]
        command: lanes::LanesCommand,
    },
    /// List and change tasks, and show what has run, on a running or a stopped host
    Tasks {
        #[command(subcommand)]
        command: tasks::TasksCommand,
    },
    /// Make a new ledger when nanorelay.db is lost or damaged
    Ledger {
        #[command(subcommand)]
        command: ledger::LedgerCommand,
    },
    /// Find what is wrong with a data directory, and how to mend it
    Doctor(doctor::DoctorArgs),
    /// Show whether a host runs, and how it does
    Status(status::StatusArgs),
    /// Watch a running host in the terminal: rates, what waits, what fails, who is busy, what is held
    Top(top::TopArgs),
    /// Print the metrics of a running host in the OpenMetrics text format
    Metrics(place::PlaceArgs),
    /// Send nothing of a tenant, channel, destination, session or lane until it is resumed
    Pause(pauses::PauseArgs),
    /// End a pause
    Resume(pauses::ResumeArgs),
    /// List what holds sends back: pauses, limits of platforms, refused credentials
    Pauses(pauses::PausesArgs),
    /// List the agents that a running host has started, or is about to
    Agents {
        #[command(subcommand)]
        command: agents::AgentsCommand,
    },
    /// An agent that answers each message with its own text, to try a host with
    AgentEcho(agents::AgentEchoArgs),
    /// Show what nanorelay does, with demo agents in a directory of its own
    Demo(demo::DemoArgs),
    /// List who changed what and why, on a running or a stopped host
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Make, list and revoke tokens for the HTTP API and the dashboard
    Token {
        #[command(subcommand)]
        command: token::TokenCommand,
    },
    /// Print or check the configuration
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// Print what completes the commands of a shell
    Completions(reference::CompletionsArgs),
    /// Print or write the manual pages
    Man(reference::ManArgs),
    /// Measure this host, and the polling algorithm that it replaces, on this machine
    Bench(bench::BenchArgs),
    /// The agents of a measurement
    #[command(hide = true)]
    BenchWriter(bench::BenchWriterArgs),
    /// Keeps one agent of a host
    #[command(hide = true)]
    AgentKeeper,
    /// One agent of the demo
    #[command(hide = true)]
    DemoAgent(demo::DemoAgentArgs),
}

/// What starts a host.
#[derive(Debug, Clone, Args)]
struct HostArgs {
    /// The folder that holds v2.db and v2-sessions/
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The configuration file; without it DIR/nanorelay.toml, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// critical, error, warning, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How the log on standard error is written
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormatName>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormatName {
    Auto,
    Json,
    Text,
}

impl HostArgs {
    fn config_sources(&self) -> ConfigSources {
        let format = self.log_format.map(|format| match format {
            LogFormatName::Auto => "auto",
            LogFormatName::Json => "json",
            LogFormatName::Text => "text",
        });
        let flags = [
            ("--log-level", vec!["log", "level"], self.log_level.clone()),
            ("--log-format", vec!["log", "format"], format.map(str::to_owned)),
        ];
        ConfigSources {
            data_dir: Some(self.data.clone()),
            file: self.config.clone(),
            environment: std::env::vars_os().collect(),
            flags: flags
                .into_iter()
                .filter_map(|(flag, path, value)| Some((flag.to_owned(), path, value?)))
                .collect(),
        }
    }
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Commands that have a log replace this.
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(io::stderr(), "nanorelay: internal error: {}", one_line(&panic.to_string()));
    }));
    let code = match std::panic::catch_unwind(|| run(cli)) {
        Ok(Ok(exit)) => exit.code(),
        Ok(Err(failure)) => {
            if !matches!(failure, Failure::OutputClosed) {
                // Without standard error there is nowhere to say it.
                let _ = writeln!(io::stderr(), "nanorelay: {failure}");
            }
            failure.exit_code()
        }
        Err(_) => exit::INTERNAL_ERROR,
    };
    ExitCode::from(code)
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        Command::Serve { host } => serve::run(&host),
        Command::Drain(args) => drain::run(&args),
        Command::Deliveries { command } => deliveries::run(command),
        Command::Sessions { command } => sessions::run(command),
        Command::Questions { command } => questions::run(command),
        Command::Lanes { command } => lanes::run(command),
        Command::Tasks { command } => tasks::run(command),
        Command::Ledger { command } => ledger::run(command),
        Command::Doctor(args) => doctor::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Metrics(place) => metrics::run(&place),
        Command::Pause(args) => pauses::pause(args),
        Command::Resume(args) => pauses::resume(&args),
        Command::Pauses(args) => pauses::list(&args),
        Command::Agents { command } => agents::run(command),
        Command::AgentEcho(args) => agents::run_echo(&args),
        Command::AgentKeeper if keeper::run() => Ok(Exit::Done),
        Command::AgentKeeper => Ok(Exit::LeftOver),
        Command::Demo(args) => demo::run(&args),
        Command::Audit { command } => audit::run(command),
        Command::Token { command } => token::run(command),
        Command::Config { command } => config::run(command),
        Command::Completions(args) => reference::completions(&args),
        Command::Man(args) => reference::man(&args),
        Command::Bench(args) => bench::run(&args),
        Command::BenchWriter(args) => bench::run_writer(&args),
        Command::DemoAgent(args) => demo::run_agent(&args),
    }
}

/// Writes to standard output, whole.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        Err(error) => Err(Failure::Io("cannot write to standard output", error)),
    }
}

/// A value as JSON, on one line.
fn json_line(value: &impl serde::Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(json + "\n")
}

/// A JSON array with one value a line.
fn json_rows<T: serde::Serialize>(values: &[T]) -> Result<String, Failure> {
    let rows = values.iter().map(|value| json_line(value).map(|row| row.trim_end().to_owned()));
    let rows: Vec<String> = rows.collect::<Result<_, _>>()?;
    Ok(if rows.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", rows.join(",\n")) })
}

fn duration_argument(text: &str) -> Result<std::time::Duration, String> {
    units::parse_duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_configuration_keys() {
        let arguments = ["nanorelay", "serve", "--data", "d", "--log-level", "debug", "--log-format", "json"];
        let Command::Serve { host } = Cli::parse_from(arguments).command else { panic!("serve") };
        let flags = host.config_sources().flags;
        assert_eq!(flags[0], ("--log-level".to_owned(), vec!["log", "level"], "debug".to_owned()));
        assert_eq!(flags[1].2, "json");
    }
}
