//! Tasks: what is planned, what has run, and what an operator does about it.

use super::access::{Access, Change, Operate, Read};
use super::input::{Body, Query};
use super::page::{Cursor, Limit, Page};
use super::problem::Problem;
use super::selection::own_tenants;
use super::sessions::ReasonBody;
use actix_web::web::{Json, Path};
use actix_web::{get, post};
use nanorelay_actors::model::ids::SessionId;
use nanorelay_actors::report::{
    RunFilter, RunRecord, RunResult, TaskFilter, TaskRecord, TaskStatus, TaskVerb,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

/// Runs to come that are told of a task.
const UPCOMING_RUNS: usize = 10;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(list).service(show).service(runs);
    config.service(pause).service(resume).service(cancel).service(run_now);
}

/// Which tasks to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TasksQuery {
    /// Only of this session.
    session: Option<String>,
    /// Only of this tenant.
    tenant: Option<String>,
    /// Only those that stand so.
    status: Option<TaskStatus>,
    /// Records of a page, 1 to 500; 50 unless it is there.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Where the page begins: the `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// A session of which not all tasks are listed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UnreadableSession {
    /// The session.
    session_id: String,
    /// Why.
    reason: String,
}

/// One page of tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskPage {
    /// The tasks.
    items: Vec<TaskRecord>,
    /// What to pass as `cursor` for the next page; null at the end.
    next_cursor: Option<String>,
    /// Sessions that cannot be read, or of which not all is listed.
    unreadable: Vec<UnreadableSession>,
}

/// Tasks, by session
#[utoipa::path(tag = "tasks", params(TasksQuery), responses((status = 200, body = TaskPage)))]
#[get("/tasks")]
pub(super) async fn list(access: Access<Read>, query: Query<TasksQuery>) -> Result<Json<TaskPage>, Problem> {
    let (relay, own) = access.lists();
    let query = query.0;
    let tenants = own_tenants(own, query.tenant.as_deref());
    let after: Option<(String, String, String)> = query.cursor.map(|cursor| cursor.position()).transpose()?;
    let filter = TaskFilter {
        session_id: query.session,
        tenant: query.tenant,
        status: query.status,
        ..TaskFilter::default()
    };
    let found = relay.tasks_of(filter, &tenants).await?;
    let position = |task: &TaskRecord| (task.session_id.clone(), task.series_id.clone(), task.run_id.clone());
    let page = Page::of_all(found.tasks, query.limit, after, position);
    let unreadable = found.unreadable.into_iter();
    Ok(Json(TaskPage {
        items: page.items,
        next_cursor: page.next_cursor,
        unreadable: unreadable.map(|(session_id, reason)| UnreadableSession { session_id, reason }).collect(),
    }))
}

/// One task with its runs to come.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskView {
    /// The task, as its next run has it.
    #[serde(flatten)]
    task: TaskRecord,
    /// The next ten times at which it runs; of a paused task as if it were resumed. RFC 3339 UTC.
    next_runs: Vec<String>,
}

/// One task with its next runs
#[utoipa::path(
    tag = "tasks",
    params(
        ("session_id" = String, Path, description = "The session."),
        ("task_id" = String, Path, description = "The task: the id of its series, or of a run that is to come.")
    ),
    responses((status = 200, body = TaskView))
)]
#[get("/tasks/{session_id}/{task_id}")]
pub(super) async fn show(
    access: Access<Read>,
    path: Path<(String, String)>,
) -> Result<Json<TaskView>, Problem> {
    let (session, task_id) = path.into_inner();
    let session = access.session(&session).await?;
    let filter = TaskFilter {
        session_id: Some(session.id().to_string()),
        series_id: Some(task_id),
        ..TaskFilter::default()
    };
    let found = session.relay().tasks(filter).await?;
    let task = found.tasks.into_iter().next().ok_or_else(|| Problem::not_found("task"))?;
    let next_runs = task.upcoming(UPCOMING_RUNS).into_iter().map(|at| at.to_iso()).collect();
    Ok(Json(TaskView { task, next_runs }))
}

/// Which runs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RunsQuery {
    /// Only those that stand so.
    result: Option<RunResult>,
    /// Records of a page, 1 to 500; 50 unless it is there.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Where the page begins: the `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// The runs of a task, the latest first
#[utoipa::path(
    tag = "tasks",
    params(
        ("session_id" = String, Path, description = "The session."),
        ("task_id" = String, Path, description = "The task: the id of its series, or of any of its runs."),
        RunsQuery
    ),
    responses((status = 200, body = Page<RunRecord>))
)]
#[get("/tasks/{session_id}/{task_id}/runs")]
pub(super) async fn runs(
    access: Access<Read>,
    path: Path<(String, String)>,
    query: Query<RunsQuery>,
) -> Result<Json<Page<RunRecord>>, Problem> {
    let (session, task_id) = path.into_inner();
    let session = access.session(&session).await?;
    let query = query.0;
    let after: Option<(String, Option<String>)> = query.cursor.map(|cursor| cursor.position()).transpose()?;
    let filter = RunFilter {
        session_id: session.id().to_string(),
        series_id: Some(task_id),
        result: query.result,
        limit: None,
    };
    let mut found = session.relay().task_runs(filter).await?;
    let position = |run: &RunRecord| (run.scheduled_at.clone(), run.run_id.clone());
    found.sort_by_key(|run| std::cmp::Reverse(position(run)));
    if let Some(after) = after {
        found.retain(|run| position(run) < after);
    }
    Ok(Json(Page::of(found, query.limit, position)))
}

/// What a change came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Changed {
    /// Rows of the session's inbox that were changed.
    changed: usize,
}

async fn change(
    access: &Access<Operate>,
    path: Path<(String, String)>,
    body: ReasonBody,
    (action, verb): (&'static str, TaskVerb),
) -> Result<Json<Changed>, Problem> {
    let (session, task_id) = path.into_inner();
    let session = access.session(&session).await?;
    let (relay, id): (_, &SessionId) = (session.relay(), session.id());
    let filter = TaskFilter {
        session_id: Some(id.to_string()),
        series_id: Some(task_id.clone()),
        ..TaskFilter::default()
    };
    let before = relay.tasks(filter).await?.tasks.into_iter().next();
    let before = before.ok_or_else(|| Problem::not_found("task"))?;
    let change = Change {
        action,
        target: format!("{id} {task_id}"),
        tenant: Some(session.tenant()),
        reason: body.reason.as_deref(),
        before: Some(json!({ "status": before.status, "next_run": before.next_run })),
    };
    let made = async {
        match relay.change_task(id.clone(), &task_id, verb).await? {
            0 => Err(Problem::not_found("task any more")),
            changed => Ok(Changed { changed }),
        }
    };
    access.change(change, made).await.map(Json)
}

macro_rules! verb {
    ($name:ident, $path:literal, $action:literal, $verb:ident, $summary:literal) => {
        #[doc = $summary]
        #[utoipa::path(
            tag = "tasks",
            params(
                ("session_id" = String, Path, description = "The session."),
                ("task_id" = String, Path, description = "The task: the id of its series, or of a run to come.")
            ),
            request_body(content = Option<ReasonBody>),
            responses((status = 200, body = Changed))
        )]
        #[post($path)]
        pub(super) async fn $name(
            access: Access<Operate>,
            path: Path<(String, String)>,
            body: Body<ReasonBody>,
        ) -> Result<Json<Changed>, Problem> {
            change(&access, path, body.0, ($action, TaskVerb::$verb)).await
        }
    };
}

verb!(
    pause,
    "/tasks/{session_id}/{task_id}/pause",
    "task.pause",
    Pause,
    "Let a task not run until it is resumed"
);
verb!(resume, "/tasks/{session_id}/{task_id}/resume", "task.resume", Resume, "Let a paused task run again");
verb!(cancel, "/tasks/{session_id}/{task_id}/cancel", "task.cancel", Cancel, "End a task");
verb!(
    run_now,
    "/tasks/{session_id}/{task_id}/run-now",
    "task.run-now",
    RunNow,
    "Let a task run now, once more than planned"
);
