//! What a host tells the keeper of an agent, and hears from it: lines of JSON.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The longest line that either side reads, in bytes.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// The first line: what to run, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The agent's whole environment, but for the variable that marks its processes.
    pub environment: BTreeMap<String, String>,
    /// Where it starts.
    pub directory: PathBuf,
    /// The host's own folder for this session: no agent's folder lies in it.
    pub place: PathBuf,
    /// What each process may use.
    pub limits: AgentLimits,
    /// How much of the agent's output is kept.
    pub log: LogBounds,
    /// Time between the request to end and the end by force, in milliseconds.
    pub stop_grace_ms: u64,
}

/// What an agent may use. `None` = no limit but the host's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentLimits {
    /// Address space of each process, in bytes (`RLIMIT_AS`).
    pub memory_bytes: Option<u64>,
    /// Processor time of each process, in seconds (`RLIMIT_CPU`).
    pub cpu_seconds: Option<u64>,
    /// Open files of each process (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
    /// Processes of the agent; one with more is stopped.
    pub processes: Option<u64>,
}

/// How much of an agent's output is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBounds {
    /// Largest log file, in bytes.
    pub bytes_max: u64,
    /// How many of them there are, the one being written included.
    pub files: u32,
}

/// Any later line to the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// End the agent.
    Stop {
        /// Time until the end by force, in milliseconds.
        grace_ms: u64,
    },
}

/// What the keeper says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The agent runs.
    Started {
        /// Its process, which leads its process group.
        process_id: i32,
        /// Processes of the run before that were still there, and were ended.
        leftovers: usize,
    },
    /// The agent and all of its processes are gone. The last line.
    Ended {
        /// Why.
        cause: Cause,
        /// The agent's exit code.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// How many of its processes were ended by force.
        killed: usize,
    },
    /// The agent could not be started. The last line.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Why an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// By itself, or by somebody else's signal.
    Itself,
    /// The host asked for it.
    Stopped,
    /// It had more processes than it may have.
    TooManyProcesses,
}
