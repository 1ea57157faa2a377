//! Deliveries: list, look at, and decide what becomes of those that have not arrived.

use super::access::{Access, Change, Operate, OwnSession, Read};
use super::input::{Body, Query, RequestBody};
use super::page::{Cursor, Limit, Page};
use super::problem::{Problem, ProblemKind};
use super::selection::{own_tenants, text_of, time_ahead, time_ms};
use super::sessions::ReasonBody;
use actix_web::web::{Json, Path};
use actix_web::{get, post};
use nanorelay_actors::model::ids::MessageId;
use nanorelay_actors::model::message::DeliveryKey;
use nanorelay_actors::report::{
    DeliveryCursor, DeliveryDetails, DeliveryFilter, DeliveryRecord, DeliveryState, Intervention, ReplayRate,
    Resolution,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

/// Deliveries that a dry run lists.
const DRY_RUN_ITEMS_MAX: usize = 100;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(list).service(replay_all).service(cancel_all).service(show);
    config.service(replay).service(cancel).service(snooze).service(resolve);
}

/// Which deliveries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveriesQuery {
    /// Only in this state; may be there several times.
    #[serde(default)]
    state: Vec<DeliveryState>,
    /// Only of this tenant.
    tenant: Option<String>,
    /// Only of this session.
    session: Option<String>,
    /// Only to this channel type.
    channel: Option<String>,
    /// Only those whose last failure was of this kind.
    class: Option<String>,
    /// Only those in whose ids, destination or error this text occurs.
    q: Option<String>,
    /// Only those that changed at this time or after it, RFC 3339.
    since: Option<String>,
    /// Only those that changed before this time, RFC 3339.
    until: Option<String>,
    /// Records of a page, 1 to 500; 50 unless it is there.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Where the page begins: the `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// Deliveries, the latest change first
///
/// One that changes while the list is read moves to its beginning; all others are listed once. A page may have fewer
/// records than asked for, also none, and still a `next_cursor`: many were looked at that do not match.
#[utoipa::path(tag = "deliveries", params(DeliveriesQuery), responses((status = 200, body = Page<DeliveryRecord>)))]
#[get("/deliveries")]
pub(super) async fn list(
    access: Access<Read>,
    query: Query<DeliveriesQuery>,
) -> Result<Json<Page<DeliveryRecord>>, Problem> {
    let (relay, tenants) = access.lists();
    let query = query.0;
    let tenants = own_tenants(tenants, query.tenant.as_deref());
    let after: Option<DeliveryCursor> = query.cursor.map(|cursor| cursor.position()).transpose()?;
    let filter = DeliveryFilter {
        states: query.state,
        session_id: query.session,
        channel_type: query.channel,
        error_class: query.class,
        text: text_of("q", query.q)?,
        since_ms: time_ms("since", query.since.as_deref())?,
        until_ms: time_ms("until", query.until.as_deref())?,
        ..DeliveryFilter::default()
    };
    let page = relay.delivery_page(filter, tenants, after, query.limit.records()).await?;
    Ok(Json(Page::with_next(page.items, page.next.as_ref())))
}

/// One delivery with its content.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeliveryView {
    /// Where it stands, with every attempt that failed.
    #[serde(flatten)]
    details: DeliveryDetails,
    /// What the agent wrote, its first 64 KiB; null when the row is gone, or cannot be read at the moment.
    content: Option<String>,
    /// Whether there is more of the content.
    is_truncated: bool,
}

/// One delivery with every attempt that failed, and its content
#[utoipa::path(
    tag = "deliveries",
    params(
        ("session_id" = String, Path, description = "The session."),
        ("message_id" = String, Path, description = "The message.")
    ),
    responses((status = 200, body = DeliveryView))
)]
#[get("/deliveries/{session_id}/{message_id}")]
pub(super) async fn show(
    access: Access<Read>,
    path: Path<(String, String)>,
) -> Result<Json<DeliveryView>, Problem> {
    let (session, message) = path.into_inner();
    let session = access.session(&session).await?;
    let (key, details) = found(&session, &message).await?;
    // A session that cannot be read is no reason to hide what the ledger knows.
    let content = session.relay().outbound_content(key).await.ok().flatten();
    let is_truncated = content.as_ref().is_some_and(|(_, is_truncated)| *is_truncated);
    Ok(Json(DeliveryView { details, content: content.map(|(content, _)| content), is_truncated }))
}

async fn found(session: &OwnSession<'_>, message: &str) -> Result<(DeliveryKey, DeliveryDetails), Problem> {
    let missing = || Problem::not_found("delivery");
    let message_id = MessageId::new(message).map_err(|_| missing())?;
    let key = DeliveryKey { session_id: session.id().clone(), message_id };
    let details = session.relay().delivery(key.clone()).await?.ok_or_else(missing)?;
    Ok((key, details))
}

/// A change of one delivery, as the audit lists it.
fn change<'a>(
    action: &'static str,
    session: &'a OwnSession<'_>,
    record: &DeliveryRecord,
    reason: Option<&'a str>,
) -> Change<'a> {
    let before = json!({
        "state": record.state, "attempts": record.attempts, "error_class": record.error_class,
        "next_attempt_at": record.next_attempt_at,
    });
    Change {
        action,
        target: format!("{} {}", record.session_id, record.message_id),
        tenant: Some(session.tenant()),
        reason,
        before: Some(before),
    }
}

/// What the delivery is like after a change.
async fn after(session: &OwnSession<'_>, message: &str) -> Result<DeliveryRecord, Problem> {
    Ok(found(session, message).await?.1.record)
}

fn unsuitable(record: &DeliveryRecord) -> Problem {
    let state = record.state.as_str();
    Problem::new(ProblemKind::Conflict, format!("the message is {state}")).with("state", state)
}

fn intervened(intervention: Intervention) -> Result<(), Problem> {
    match (intervention, intervention.refusal()) {
        (_, Some(refusal)) => Err(Problem::new(ProblemKind::Conflict, refusal)),
        (Intervention::Unknown, None) => Err(Problem::not_found("delivery")),
        (_, None) => Ok(()),
    }
}

/// Put a dead, held or ambiguous delivery back into its lane, with fresh attempts
#[utoipa::path(
    tag = "deliveries",
    params(
        ("session_id" = String, Path, description = "The session."),
        ("message_id" = String, Path, description = "The message.")
    ),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, body = DeliveryRecord))
)]
#[post("/deliveries/{session_id}/{message_id}/replay")]
pub(super) async fn replay(
    access: Access<Operate>,
    path: Path<(String, String)>,
    body: Body<ReasonBody>,
) -> Result<Json<DeliveryRecord>, Problem> {
    let (session, message) = path.into_inner();
    let session = access.session(&session).await?;
    let (key, details) = found(&session, &message).await?;
    let change = change("delivery.replay", &session, &details.record, body.0.reason.as_deref());
    let made = async {
        if session.relay().replay(vec![key]).await? == 0 {
            return Err(unsuitable(&details.record));
        }
        after(&session, &message).await
    };
    access.change(change, made).await.map(Json)
}

/// Give a delivery up that is queued, retrying, held or ambiguous
///
/// It is dead then with the class `cancelled`, its agent is told, and it can be replayed. One that is on its way at this
/// moment is not cancelled: 409.
#[utoipa::path(
    tag = "deliveries",
    params(
        ("session_id" = String, Path, description = "The session."),
        ("message_id" = String, Path, description = "The message.")
    ),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, body = DeliveryRecord))
)]
#[post("/deliveries/{session_id}/{message_id}/cancel")]
pub(super) async fn cancel(
    access: Access<Operate>,
    path: Path<(String, String)>,
    body: Body<ReasonBody>,
) -> Result<Json<DeliveryRecord>, Problem> {
    let (session, message) = path.into_inner();
    let session = access.session(&session).await?;
    let (key, details) = found(&session, &message).await?;
    let reason = body.0.reason.as_deref();
    let change = change("delivery.cancel", &session, &details.record, reason);
    let made = async {
        intervened(session.relay().cancel(key, reason.unwrap_or_default()).await?)?;
        after(&session, &message).await
    };
    access.change(change, made).await.map(Json)
}

/// Until when a delivery waits.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SnoozeBody {
    /// Not before this time, RFC 3339.
    #[serde(default)]
    until: Option<String>,
    /// Not before so long from now, as `30m` or `2h`.
    #[serde(default, rename = "for")]
    duration: Option<String>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

impl RequestBody for SnoozeBody {}

/// Send a queued or retrying delivery later
///
/// Its lane goes on without it, and it joins the lane at that time.
#[utoipa::path(
    tag = "deliveries",
    params(
        ("session_id" = String, Path, description = "The session."),
        ("message_id" = String, Path, description = "The message.")
    ),
    request_body = SnoozeBody,
    responses((status = 200, body = DeliveryRecord))
)]
#[post("/deliveries/{session_id}/{message_id}/snooze")]
pub(super) async fn snooze(
    access: Access<Operate>,
    path: Path<(String, String)>,
    body: Body<SnoozeBody>,
) -> Result<Json<DeliveryRecord>, Problem> {
    let (session, message) = path.into_inner();
    let session = access.session(&session).await?;
    let (key, details) = found(&session, &message).await?;
    let body = body.0;
    let until = time_ahead(body.until.as_deref(), body.duration.as_deref(), session.relay().now())?;
    let until = until.ok_or_else(|| Problem::field("until", "is missing, and so is for"))?;
    let change = change("delivery.snooze", &session, &details.record, body.reason.as_deref());
    let made = async {
        intervened(session.relay().snooze(key, until).await?)?;
        after(&session, &message).await
    };
    access.change(change, made).await.map(Json)
}

/// What became of an ambiguous delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Became {
    /// It has arrived.
    Delivered,
    /// It has not arrived: it is sent again, and the attempt is not counted.
    NotDelivered,
}

/// What became of an ambiguous delivery.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolveBody {
    /// What.
    #[serde(rename = "as")]
    became: Became,
    /// When it has arrived: the platform's id of it, with which its agent can edit it.
    #[serde(default)]
    platform_message_id: Option<String>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

impl RequestBody for ResolveBody {}

impl ResolveBody {
    fn resolution(&self) -> Result<Resolution, Problem> {
        match (self.became, &self.platform_message_id) {
            (Became::Delivered, id) => Ok(Resolution::Delivered { platform_message_id: id.clone() }),
            (Became::NotDelivered, None) => Ok(Resolution::NotDelivered),
            (Became::NotDelivered, Some(_)) => {
                Err(Problem::field("platform_message_id", "is of a message that has arrived only"))
            }
        }
    }
}

/// Say what became of an ambiguous delivery, of which the host does not know whether it was sent
#[utoipa::path(
    tag = "deliveries",
    params(
        ("session_id" = String, Path, description = "The session."),
        ("message_id" = String, Path, description = "The message.")
    ),
    request_body = ResolveBody,
    responses((status = 200, body = DeliveryRecord))
)]
#[post("/deliveries/{session_id}/{message_id}/resolve")]
pub(super) async fn resolve(
    access: Access<Operate>,
    path: Path<(String, String)>,
    body: Body<ResolveBody>,
) -> Result<Json<DeliveryRecord>, Problem> {
    let (session, message) = path.into_inner();
    let session = access.session(&session).await?;
    let (key, details) = found(&session, &message).await?;
    let resolution = body.0.resolution()?;
    let change = change("delivery.resolve", &session, &details.record, body.0.reason.as_deref());
    let made = async {
        if !session.relay().resolve(key, resolution).await? {
            return Err(unsuitable(&details.record));
        }
        after(&session, &message).await
    };
    access.change(change, made).await.map(Json)
}

/// Which deliveries a change is about. Without any of these, all in which it makes sense.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BulkFilter {
    /// Only in these states.
    states: Vec<DeliveryState>,
    /// Only of this session.
    session_id: Option<String>,
    /// Only to this channel type.
    channel_type: Option<String>,
    /// Only those whose last failure was of this kind.
    error_class: Option<String>,
    /// Only of this tenant.
    tenant: Option<String>,
}

impl BulkFilter {
    fn filter(&self) -> DeliveryFilter {
        DeliveryFilter {
            states: self.states.clone(),
            session_id: self.session_id.clone(),
            channel_type: self.channel_type.clone(),
            error_class: self.error_class.clone(),
            ..DeliveryFilter::default()
        }
    }

    /// The filter as the audit names it.
    fn target(&self) -> String {
        let states: Vec<&str> = self.states.iter().map(|state| state.as_str()).collect();
        let named = [
            ("states", Some(states.join(",")).filter(|states| !states.is_empty())),
            ("session", self.session_id.clone()),
            ("channel", self.channel_type.clone()),
            ("class", self.error_class.clone()),
            ("tenant", self.tenant.clone()),
        ];
        let parts: Vec<String> =
            named.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect();
        if parts.is_empty() { "all".to_owned() } else { parts.join(" ") }
    }
}

/// A change of all deliveries that match.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BulkBody {
    /// Which ones.
    filter: BulkFilter,
    /// Whether to list only what would be changed.
    #[serde(default)]
    dry_run: bool,
    /// When they are replayed: how fast, as `5/s`, `30/m` or `100/h`; at once without it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    rate: Option<ReplayRate>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

impl RequestBody for BulkBody {}

/// What a change of many deliveries came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BulkAnswer {
    /// Deliveries that match and could be changed.
    matched: usize,
    /// Deliveries that were changed; 0 in a dry run.
    changed: usize,
    /// In a dry run: the first hundred that would be changed.
    items: Vec<DeliveryRecord>,
}

impl BulkAnswer {
    fn dry(mut records: Vec<DeliveryRecord>) -> Json<Self> {
        let matched = records.len();
        records.truncate(DRY_RUN_ITEMS_MAX);
        Json(Self { matched, changed: 0, items: records })
    }
}

fn bulk_change<'a>(action: &'static str, body: &'a BulkBody) -> Change<'a> {
    Change {
        action,
        target: body.filter.target(),
        tenant: None,
        reason: body.reason.as_deref(),
        before: None,
    }
}

/// Put all dead, held or ambiguous deliveries that match back into their lanes
#[utoipa::path(tag = "deliveries", request_body = BulkBody, responses((status = 200, body = BulkAnswer)))]
#[post("/deliveries/replay")]
pub(super) async fn replay_all(
    access: Access<Operate>,
    body: Body<BulkBody>,
) -> Result<Json<BulkAnswer>, Problem> {
    let (relay, tenants) = access.lists();
    let body = body.0;
    let tenants = own_tenants(tenants, body.filter.tenant.as_deref());
    let records = relay.replayable_of(body.filter.filter(), tenants).await?;
    if body.dry_run {
        return Ok(BulkAnswer::dry(records));
    }
    let made = async {
        let changed = relay.replay_records(&records, body.rate).await?;
        Ok(BulkAnswer { matched: records.len(), changed, items: Vec::new() })
    };
    access.change(bulk_change("deliveries.replay", &body), made).await.map(Json)
}

/// Give all queued, retrying, held or ambiguous deliveries up that match
///
/// Those that are on their way are passed over.
#[utoipa::path(tag = "deliveries", request_body = BulkBody, responses((status = 200, body = BulkAnswer)))]
#[post("/deliveries/cancel")]
pub(super) async fn cancel_all(
    access: Access<Operate>,
    body: Body<BulkBody>,
) -> Result<Json<BulkAnswer>, Problem> {
    let (relay, tenants) = access.lists();
    let body = body.0;
    if body.rate.is_some() {
        return Err(Problem::field("rate", "is for replays only"));
    }
    let tenants = own_tenants(tenants, body.filter.tenant.as_deref());
    let records = relay.cancellable(body.filter.filter(), tenants).await?;
    if body.dry_run {
        return Ok(BulkAnswer::dry(records));
    }
    let made = async {
        let changed = relay.cancel_records(&records, body.reason.as_deref().unwrap_or_default()).await?;
        Ok(BulkAnswer { matched: records.len(), changed, items: Vec::new() })
    };
    access.change(bulk_change("deliveries.cancel", &body), made).await.map(Json)
}
