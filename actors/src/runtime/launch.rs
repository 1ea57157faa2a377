//! What all agents have in common that a runtime launches: what they run, and what tells them where they are.

use super::AgentSession;
use crate::model::ids::AgentGroupId;
use crate::model::tenant::pattern_exactness;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The environment variable that marks all processes of a run.
pub const RUN_VARIABLE: &str = "NANORELAY_RUN_ID";

/// What agents run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentCommand {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables of the environment.
    pub environment: BTreeMap<String, String>,
    /// Where agent groups differ. The most exact pattern that fits a group counts.
    pub groups: Vec<GroupCommand>,
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

impl AgentCommand {
    /// The program of a group's agents with its arguments, and the variables of their environment.
    pub fn of_group(&self, group: &AgentGroupId) -> (Vec<String>, BTreeMap<String, String>) {
        let fitting = self
            .groups
            .iter()
            .filter_map(|own| Some((pattern_exactness(&own.pattern, group.as_str())?, own)));
        let own = fitting.max_by_key(|(exactness, _)| *exactness).map(|(_, own)| own);
        let mut environment = self.environment.clone();
        environment.extend(own.map(|own| own.environment.clone()).unwrap_or_default());
        let command = own.and_then(|own| own.command.clone()).unwrap_or_else(|| self.command.clone());
        (command, environment)
    }
}

/// The folder of a session, from the root of the file system: an agent starts elsewhere.
pub fn session_folder(data_dir: &Path, session: &AgentSession) -> std::io::Result<PathBuf> {
    let group = data_dir.join("v2-sessions").join(session.agent_group_id.as_str());
    std::path::absolute(group.join(session.session_id.as_str()))
}

/// The variables that tell an agent who and where it is. `folder` is the session's folder as the agent sees it.
pub fn session_variables(session: &AgentSession, folder: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = |path: PathBuf| {
        path.into_os_string()
            .into_string()
            .map_err(|path| format!("{} is not UTF-8: agents cannot be told of it", path.display()))
    };
    let variables = [
        ("NANORELAY_SESSION_ID", session.session_id.to_string()),
        ("NANORELAY_AGENT_GROUP_ID", session.agent_group_id.to_string()),
        ("NANORELAY_SESSION_DIR", text(folder.to_owned())?),
        ("NANORELAY_INBOUND_DB", text(folder.join("inbound.db"))?),
        ("NANORELAY_OUTBOUND_DB", text(folder.join("outbound.db"))?),
        ("NANORELAY_HEARTBEAT", text(folder.join(".heartbeat"))?),
        ("NANORELAY_INBOX", text(folder.join("inbox"))?),
        ("NANORELAY_OUTBOX", text(folder.join("outbox"))?),
    ];
    Ok(variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_pattern_decides_what_a_group_runs() {
        let environment =
            |a: &str| BTreeMap::from([("A".to_owned(), a.to_owned()), ("B".to_owned(), "b".to_owned())]);
        let group = |pattern: &str, command: Option<&str>, a: &str| GroupCommand {
            pattern: pattern.to_owned(),
            command: command.map(|command| vec![command.to_owned()]),
            environment: BTreeMap::from([("A".to_owned(), a.to_owned())]),
        };
        let agents = AgentCommand {
            command: vec!["common".to_owned()],
            environment: environment("1"),
            groups: vec![group("ag-*", Some("some"), "2"), group("ag-x", None, "3")],
        };
        for (id, command, a) in [("other", "common", "1"), ("ag-1", "some", "2"), ("ag-x", "common", "3")] {
            let found = agents.of_group(&AgentGroupId::new(id).unwrap());
            assert_eq!(found, (vec![command.to_owned()], environment(a)), "{id}");
        }
    }
}
