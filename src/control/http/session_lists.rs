//! Sessions: list, look into, and make.

use super::access::{Access, Change, Operate, Read};
use super::input::{Body, Query, RequestBody};
use super::page::{Cursor, Limit, Page};
use super::problem::{Problem, ProblemKind};
use super::selection::{own_tenants, text_of};
use actix_web::web::{Json, Path};
use actix_web::{get, post};
use nanorelay_actors::model::ids::{AgentGroupId, ChannelType, PlatformId, ThreadId};
use nanorelay_actors::relay::{CreateSessionError, ReadySession, SessionMode, SessionRequest};
use nanorelay_actors::report::{
    HoldRecord, InboundRecord, LaneFilter, LaneRecord, OutboundRecord, SessionOverview, SessionQuery,
    SessionState,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(list).service(create).service(show).service(outbound).service(inbound);
}

/// Which sessions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SessionsQuery {
    /// Only of this tenant.
    tenant: Option<String>,
    /// Only of this agent group.
    agent_group: Option<String>,
    /// Only in this state.
    #[param(inline)]
    state: Option<SessionState>,
    /// Only those in whose id, agent group or chat this text occurs.
    q: Option<String>,
    /// Records of a page, 1 to 500; 50 unless it is there.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Where the page begins: the `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// Sessions, by id
#[utoipa::path(tag = "sessions", params(SessionsQuery), responses((status = 200, body = Page<SessionOverview>)))]
#[get("/sessions")]
pub(super) async fn list(
    access: Access<Read>,
    query: Query<SessionsQuery>,
) -> Result<Json<Page<SessionOverview>>, Problem> {
    let (relay, tenants) = access.lists();
    let query = query.0;
    let tenants = own_tenants(tenants, query.tenant.as_deref());
    let after: Option<(String,)> = query.cursor.map(|cursor| cursor.position()).transpose()?;
    let wanted =
        SessionQuery { agent_group_id: query.agent_group, state: query.state, text: text_of("q", query.q)? };
    let after = after.map(|(session,)| session);
    let page = relay.session_page(wanted, tenants, after, query.limit.records()).await?;
    Ok(Json(Page::with_next(page.items, page.next.map(|session| (session,)).as_ref())))
}

/// One session with what waits in it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionView {
    /// What is known of it.
    #[serde(flatten)]
    session: SessionOverview,
    /// Its lanes that hold something to be sent.
    lanes: Vec<LaneRecord>,
    /// What holds it back: pauses of the session and of its lanes.
    holds: Vec<HoldRecord>,
}

/// One session with its lanes and what holds it back
#[utoipa::path(
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session.")),
    responses((status = 200, body = SessionView))
)]
#[get("/sessions/{session_id}")]
pub(super) async fn show(access: Access<Read>, path: Path<String>) -> Result<Json<SessionView>, Problem> {
    let session = access.session(&path).await?;
    let (relay, id) = (session.relay(), session.id());
    let overview = relay.session_overview(id.clone()).await?;
    let overview = overview.ok_or_else(|| Problem::not_found("session"))?;
    let filter = LaneFilter { blocked: false, session_id: Some(id.to_string()) };
    let lanes = relay.lanes(filter).await?;
    let mut holds = relay.holds();
    holds.retain(|hold| {
        let is_of_session = matches!(hold.scope.as_str(), "session" | "lane");
        is_of_session && hold.name.first().is_some_and(|name| name == id.as_str())
    });
    Ok(Json(SessionView { session: overview, lanes, holds }))
}

/// Which rows to show.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RowsQuery {
    /// Records of a page, 1 to 500; 50 unless it is there. A page of long messages has fewer.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Where the page begins: the `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

impl RowsQuery {
    fn before(&self) -> Result<Option<i64>, Problem> {
        let place: Option<(i64,)> = self.cursor.as_ref().map(Cursor::position).transpose()?;
        Ok(place.map(|(rowid,)| rowid))
    }
}

/// What a session's agent wrote, the newest first, with what became of it
///
/// Read from `outbound.db`, which the agent can write: everything in it is its own word.
#[utoipa::path(
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session."), RowsQuery),
    responses((status = 200, body = Page<OutboundRecord>))
)]
#[get("/sessions/{session_id}/outbound")]
pub(super) async fn outbound(
    access: Access<Read>,
    path: Path<String>,
    query: Query<RowsQuery>,
) -> Result<Json<Page<OutboundRecord>>, Problem> {
    let session = access.session(&path).await?;
    let (before, limit) = (query.0.before()?, query.0.limit.records());
    let page = session.relay().outbound_rows(session.id().clone(), before, limit).await?;
    Ok(Json(Page::with_next(page.items, page.next.map(|rowid| (rowid,)).as_ref())))
}

/// What a session's agent was told, the newest first, with what it says about that
///
/// Read from `inbound.db`.
#[utoipa::path(
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session."), RowsQuery),
    responses((status = 200, body = Page<InboundRecord>))
)]
#[get("/sessions/{session_id}/inbound")]
pub(super) async fn inbound(
    access: Access<Read>,
    path: Path<String>,
    query: Query<RowsQuery>,
) -> Result<Json<Page<InboundRecord>>, Problem> {
    let session = access.session(&path).await?;
    let (before, limit) = (query.0.before()?, query.0.limit.records());
    let page = session.relay().inbound_rows(session.id().clone(), before, limit).await?;
    Ok(Json(Page::with_next(page.items, page.next.map(|rowid| (rowid,)).as_ref())))
}

/// A chat.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChatBody {
    /// The kind of platform.
    channel_type: String,
    /// The chat there.
    platform_id: String,
}

/// The session that is needed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBody {
    /// The agent group that answers.
    agent_group_id: String,
    /// The chat it speaks in; none for a session without one.
    #[serde(default)]
    chat: Option<ChatBody>,
    /// The thread in that chat.
    #[serde(default)]
    thread_id: Option<String>,
    /// Which messages share it; without it, as the host's database says.
    #[serde(default)]
    mode: Option<SessionMode>,
    /// Whether a chat that the host's database does not know is added to it.
    #[serde(default)]
    add_chat: bool,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

impl RequestBody for CreateBody {}

impl CreateBody {
    fn request(&self) -> Result<SessionRequest, Problem> {
        let group = AgentGroupId::new(&self.agent_group_id);
        let mut request =
            SessionRequest::new(group.map_err(|problem| Problem::field("agent_group_id", problem))?);
        if let Some(chat) = &self.chat {
            let channel = ChannelType::new(&chat.channel_type);
            let platform = PlatformId::new(&chat.platform_id);
            request.chat = Some((
                channel.map_err(|problem| Problem::field("chat.channel_type", problem))?,
                platform.map_err(|problem| Problem::field("chat.platform_id", problem))?,
            ));
        }
        let thread = self.thread_id.as_deref().map(ThreadId::new).transpose();
        request.thread_id = thread.map_err(|problem| Problem::field("thread_id", problem))?;
        request.mode = self.mode;
        request.adds_chat = self.add_chat;
        Ok(request)
    }
}

/// Find the session of a chat, or make it
///
/// A repeated request finds the session that the first one made.
#[utoipa::path(tag = "sessions", request_body = CreateBody, responses((status = 200, body = ReadySession)))]
#[post("/sessions")]
pub(super) async fn create(
    access: Access<Operate>,
    body: Body<CreateBody>,
) -> Result<Json<ReadySession>, Problem> {
    let body = body.0;
    let request = body.request()?;
    let (relay, tenants) = access.lists();
    let tenant = relay.group_tenant(&request.agent_group_id);
    if !tenants.contains(&tenant) {
        return Err(Problem::not_found("agent group"));
    }
    let change = Change {
        action: "session.create",
        target: body.agent_group_id.clone(),
        tenant: Some(&tenant),
        reason: body.reason.as_deref(),
        before: None,
    };
    let made = async { relay.create_session(request).await.map_err(Problem::from) };
    access.change(change, made).await.map(Json)
}

impl From<CreateSessionError> for Problem {
    fn from(error: CreateSessionError) -> Self {
        let kind = match error {
            CreateSessionError::Unresolved(_) => ProblemKind::Refused,
            CreateSessionError::Failed(_) => ProblemKind::Internal,
        };
        Problem::new(kind, error.to_string())
    }
}
