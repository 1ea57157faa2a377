//! The commands on tasks, on a running and on a stopped host.

use super::super::Failure;
use super::super::place::{Host, unreachable};
use nanorelay_actors::model::ids::SessionId;
use nanorelay_actors::relay::StoppedHost;
use nanorelay_actors::report::{RunFilter, RunRecord, TaskFilter, TaskList, TaskVerb};
use nanorelay_actors::settings::Settings;

impl Host {
    /// `settings` are those of a host that does not run.
    pub fn tasks(
        &self,
        filter: &TaskFilter,
        settings: impl FnOnce() -> Result<Settings, Failure>,
    ) -> Result<TaskList, Failure> {
        match self {
            Self::Running(client) => client.tasks(filter).map_err(unreachable),
            Self::Stopped(host) => Ok(host.tasks(filter, &settings()?)?),
        }
    }

    pub fn task_runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, Failure> {
        match self {
            Self::Running(client) => client.task_runs(filter).map_err(unreachable),
            Self::Stopped(host) => Ok(host.task_runs(filter)?),
        }
    }

    pub fn change_task(&self, session: &SessionId, task_id: &str, verb: TaskVerb) -> Result<u64, Failure> {
        match self {
            Self::Running(client) => client.change_task(session.as_str(), task_id, verb).map_err(unreachable),
            Self::Stopped(host) => {
                let action = match verb {
                    TaskVerb::Pause => "task.pause",
                    TaskVerb::Resume => "task.resume",
                    TaskVerb::Cancel => "task.cancel",
                    TaskVerb::RunNow => "task.run-now",
                };
                let change = |host: &StoppedHost| Ok(host.change_task(session, task_id, verb)? as u64);
                host.noted(action, format!("{session}/{task_id}"), change)
            }
        }
    }
}
