//! The processes of the agents of a data directory, whoever their parent is.

use nanorelay_actors::model::roster::RosterPolicy;
use nanorelay_actors::runtime::command::CommandSettings;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// No processes.
pub const NONE: [i32; 0] = [];

/// Agents that run a shell's script, kept by the program under test.
pub fn shell(script: &str) -> CommandSettings {
    runs(&["/bin/sh", "-c", script])
}

/// Agents that run a command, kept by the program under test.
pub fn runs(command: &[&str]) -> CommandSettings {
    let keeper = (env!("CARGO_BIN_EXE_nanorelay").into(), vec!["agent-keeper".to_owned()]);
    let command = command.iter().map(|part| (*part).to_owned()).collect();
    let settings = CommandSettings::new(command, keeper);
    let backoff_base = Duration::from_millis(10);
    CommandSettings { roster: RosterPolicy { backoff_base, ..settings.roster.clone() }, ..settings }
}

/// The ids of all living processes of agents of this data directory.
pub fn of(data_dir: &Path) -> Vec<i32> {
    let mark = format!("NANORELAY_SESSION_DIR={}", data_dir.display());
    let ids = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let id: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(format!("/proc/{id}/environ")).ok()?;
        let is_marked = environment.split(|byte| *byte == 0).any(|text| text.starts_with(mark.as_bytes()));
        is_marked.then_some(id)
    });
    ids.collect()
}

/// The parent of a process: an agent's keeper.
pub fn parent_of(process: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}
