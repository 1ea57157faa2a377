//! `nanorelay config`.

use super::{Exit, Failure, print};
use crate::config::{ConfigSources, DEFAULT_TOML};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the documented defaults, or the values in force
    Print {
        /// Print the values in force and where they come from; secrets are hidden
        #[arg(long)]
        effective: bool,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Check file and environment and report everything that is wrong
    Check {
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// Where the configuration is looked for.
#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// The data directory, which may hold nanorelay.toml
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl PlaceArgs {
    fn sources(self) -> ConfigSources {
        ConfigSources {
            data_dir: self.data,
            file: self.config,
            environment: std::env::vars_os().collect(),
            flags: Vec::new(),
        }
    }
}

/// Prints or checks.
pub(super) fn run(command: ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Print { effective: false, .. } => print(DEFAULT_TOML)?,
        ConfigCommand::Print { effective: true, place } => print(&place.sources().load()?.effective)?,
        ConfigCommand::Check { place } => {
            let config = place.sources().load()?;
            let what =
                config.file.map_or("defaults and environment".to_owned(), |file| file.display().to_string());
            print(&format!("ok: {what}\n"))?;
        }
    }
    Ok(Exit::Done)
}
