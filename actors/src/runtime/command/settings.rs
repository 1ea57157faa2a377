//! What can be chosen about agents that are processes of this machine.

use crate::model::roster::RosterPolicy;
use crate::runtime::keeper::order::{AgentLimits, LogBounds};
use crate::runtime::launch::AgentCommand;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that can be chosen about a [`super::runtime`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// What agents run.
    pub agent: AgentCommand,
    /// Variables that it takes over from the host's environment, where they are set. It sees no others.
    pub pass_environment: Vec<String>,
    /// The program that keeps an agent, and its arguments: one that calls [`crate::runtime::keeper::run`], as
    /// `nanorelay agent-keeper` does.
    pub keeper: (PathBuf, Vec<String>),
    /// How many agents run at a time, and how long one that fails stays away.
    pub roster: RosterPolicy,
    /// Time between the request to end and the end by force.
    pub stop_grace: Duration,
    /// What each agent may use.
    pub limits: AgentLimits,
    /// How much of an agent's output is kept.
    pub log: LogBounds,
}

impl CommandSettings {
    /// Agents that run `command`, kept by `keeper`, with the bounds of the default configuration.
    pub fn new(command: Vec<String>, keeper: (PathBuf, Vec<String>)) -> Self {
        Self {
            agent: AgentCommand { command, ..AgentCommand::default() },
            pass_environment: ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"]
                .map(str::to_owned)
                .to_vec(),
            keeper,
            roster: RosterPolicy {
                agents_max: 16,
                agents_per_tenant_max: None,
                backoff_base: Duration::from_secs(1),
                backoff_max: Duration::from_secs(300),
            },
            stop_grace: Duration::from_secs(10),
            limits: AgentLimits { processes: Some(256), open_files: Some(1024), ..AgentLimits::default() },
            log: LogBounds { bytes_max: 4 << 20, files: 2 },
        }
    }

    /// What an agent takes over from the host's environment.
    pub(super) fn passed_environment(&self) -> BTreeMap<String, String> {
        let value = |name: &String| Some((name.clone(), std::env::var(name).ok()?));
        self.pass_environment.iter().filter_map(value).collect()
    }
}
