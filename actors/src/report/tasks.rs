//! What the relay tells about tasks and their runs.

use crate::model::missed::MissedRuns;
use serde::{Deserialize, Serialize};

/// How a run of a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// It has begun, and nothing is known of its end.
    Running,
    /// It has ended well.
    Ok,
    /// It has ended, and not well.
    Failed,
    /// Its time passed without it, and nobody makes up for it.
    Skipped,
}

impl RunResult {
    /// All of them.
    pub const ALL: [RunResult; 4] =
        [RunResult::Running, RunResult::Ok, RunResult::Failed, RunResult::Skipped];

    /// As text, as in the ledger and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            RunResult::Running => "running",
            RunResult::Ok => "ok",
            RunResult::Failed => "failed",
            RunResult::Skipped => "skipped",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|result| result.as_str() == name)
    }
}

/// One run of a task, as it is listed. Times are RFC 3339 UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RunRecord {
    /// The session.
    pub session_id: String,
    /// The series, which has the id of its first run.
    pub series_id: String,
    /// When it was planned for.
    pub scheduled_at: String,
    /// Of skipped runs that are too many to list: the last one; `scheduled_at` is the first.
    pub through: Option<String>,
    /// The row in the inbox; none for a run that was skipped.
    pub run_id: Option<String>,
    /// When the agent began, by its own clock; none when it was too quick to be seen.
    pub started_at: Option<String>,
    /// When it ended, by the agent's clock.
    pub ended_at: Option<String>,
    /// How it stands.
    pub result: RunResult,
    /// How long after its time it began, in milliseconds; until its end when its beginning was not seen.
    pub late_ms: Option<u64>,
    /// What else is known, in words.
    pub detail: Option<String>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RunFilter {
    /// Of this session.
    pub session_id: String,
    /// Only of this series, named by its id or that of any of its runs.
    pub series_id: Option<String>,
    /// Only those that stand so.
    pub result: Option<RunResult>,
    /// At most so many, the latest first.
    pub limit: Option<u32>,
}

/// Whether a task waits for its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// It waits for its time, or for its agent.
    Pending,
    /// It does not run until it is resumed.
    Paused,
}

impl TaskStatus {
    /// Both.
    pub const ALL: [TaskStatus; 2] = [TaskStatus::Pending, TaskStatus::Paused];

    /// As text.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskStatus::Pending => "pending",
            TaskStatus::Paused => "paused",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// One run that is still to be, with what is known of its series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TaskRecord {
    /// The session.
    pub session_id: String,
    /// Its agent group.
    pub agent_group_id: String,
    /// The tenant that the group belongs to.
    pub tenant: String,
    /// The series, which has the id of its first run. Commands take it, or the id of any run.
    pub series_id: String,
    /// The row in the inbox.
    pub run_id: String,
    /// Whether it waits for its time.
    pub status: TaskStatus,
    /// When it is due, RFC 3339 UTC; none when the row holds no readable time.
    pub next_run: Option<String>,
    /// Cron expression; none for a task that runs once.
    pub recurrence: Option<String>,
    /// The zone in which that is read: the task's own, the tenant's or the host's.
    pub timezone: String,
    /// What is done about its missed runs: as the task says, else as the host says.
    pub missed_runs: MissedRuns,
    /// How often the run was given another try.
    pub tries: u32,
    /// What the agent is told; of a longer text the beginning, unless one series is asked for.
    pub prompt: String,
    /// A script that runs before; only when one series is asked for.
    pub script: Option<String>,
    /// The chat that it answers to.
    pub channel_type: Option<String>,
    /// See there.
    pub platform_id: Option<String>,
    /// See there.
    pub thread_id: Option<String>,
    /// The series' last run that has begun or ended; none when there was none, or it is forgotten.
    pub last_run: Option<RunRecord>,
}

/// Which tasks to list. Empty = all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TaskFilter {
    /// Only of this session.
    pub session_id: Option<String>,
    /// Only of this tenant.
    pub tenant: Option<String>,
    /// Only those that stand so.
    pub status: Option<TaskStatus>,
    /// Only this series, named by its id or that of any of its runs.
    pub series_id: Option<String>,
}

/// Tasks, and the sessions of which not all are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TaskList {
    /// By session, then by the time of the next run.
    pub tasks: Vec<TaskRecord>,
    /// Sessions that cannot be read, or of which not all is listed, with the reason.
    pub unreadable: Vec<(String, String)>,
}

/// What an operator can do to a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TaskVerb {
    /// It does not run until it is resumed.
    Pause,
    /// It runs again.
    Resume,
    /// It ends.
    Cancel,
    /// It runs now, once more than planned; a task that runs once runs now instead of at its time.
    RunNow,
}
