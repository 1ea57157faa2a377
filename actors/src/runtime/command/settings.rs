//! What can be chosen about agents that are processes of this machine.

use crate::model::ids::AgentGroupId;
use crate::model::roster::RosterPolicy;
use crate::model::tenant::pattern_exactness;
use crate::runtime::keeper::order::{AgentLimits, LogBounds};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that can be chosen about a [`super::CommandRuntime`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// The program of an agent, and its arguments.
    pub command: Vec<String>,
    /// Variables of its environment.
    pub environment: BTreeMap<String, String>,
    /// Variables that it takes over from the host's environment, where they are set. It sees no others.
    pub pass_environment: Vec<String>,
    /// Where agent groups differ. The most exact pattern that fits a group counts.
    pub groups: Vec<GroupCommand>,
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

/// Where the agents of some groups differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCommand {
    /// Their ids; `*` stands for any text.
    pub pattern: String,
    /// Their program and its arguments; `None` = as for all.
    pub command: Option<Vec<String>>,
    /// More variables of their environment.
    pub environment: BTreeMap<String, String>,
}

impl CommandSettings {
    /// Agents that run `command`, kept by `keeper`, with the bounds of the default configuration.
    pub fn new(command: Vec<String>, keeper: (PathBuf, Vec<String>)) -> Self {
        Self {
            command,
            environment: BTreeMap::new(),
            pass_environment: ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"]
                .map(str::to_owned)
                .to_vec(),
            groups: Vec::new(),
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

    /// The command of a group's agents, and their environment before the session's own variables.
    pub(super) fn for_group(&self, group: &AgentGroupId) -> (Vec<String>, BTreeMap<String, String>) {
        let mut environment: BTreeMap<String, String> = self
            .pass_environment
            .iter()
            .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
            .collect();
        environment.extend(self.environment.clone());
        let fitting = self
            .groups
            .iter()
            .filter_map(|own| Some((pattern_exactness(&own.pattern, group.as_str())?, own)));
        let own = fitting.max_by_key(|(exactness, _)| *exactness).map(|(_, own)| own);
        environment.extend(own.map(|own| own.environment.clone()).unwrap_or_default());
        let command = own.and_then(|own| own.command.clone()).unwrap_or_else(|| self.command.clone());
        (command, environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_pattern_decides_what_a_group_runs() {
        let keeper = (PathBuf::from("/bin/true"), Vec::new());
        let mut settings = CommandSettings::new(vec!["common".to_owned()], keeper);
        settings.pass_environment = vec!["CARGO_MANIFEST_DIR".to_owned(), "NOT_SET_ANYWHERE".to_owned()];
        settings.environment = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let group = |pattern: &str, command: Option<&str>, a: &str| GroupCommand {
            pattern: pattern.to_owned(),
            command: command.map(|command| vec![command.to_owned()]),
            environment: BTreeMap::from([("A".to_owned(), a.to_owned())]),
        };
        settings.groups = vec![group("ag-*", Some("some"), "2"), group("ag-x", None, "3")];
        for (id, command, a) in [("other", "common", "1"), ("ag-1", "some", "2"), ("ag-x", "common", "3")] {
            let (found, environment) = settings.for_group(&AgentGroupId::new(id).unwrap());
            assert_eq!((found[0].as_str(), environment["A"].as_str()), (command, a), "{id}");
            assert!(environment.contains_key("CARGO_MANIFEST_DIR"));
            assert_eq!(environment.len(), 2, "nothing else of the host's");
        }
    }
}
