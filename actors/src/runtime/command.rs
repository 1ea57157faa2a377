//! Agents that are processes of this machine: a configured command for each session, kept by a [keeper](super::keeper).

mod launcher;
mod settings;

pub use settings::CommandSettings;

use super::LaunchedRuntime;
use launcher::CommandLauncher;
use std::sync::Arc;

/// The folder in the data directory that holds, for each session, its agents' log and lease. No agent's folder lies in
/// it.
pub const AGENTS_FOLDER: &str = "nanorelay-agents";

/// A runtime for one relay, which runs a command for each session that has work.
pub fn runtime(settings: CommandSettings) -> LaunchedRuntime {
    let (roster, stop_grace) = (settings.roster.clone(), settings.stop_grace);
    LaunchedRuntime::new(roster, stop_grace, Arc::new(CommandLauncher::new(settings)))
}
