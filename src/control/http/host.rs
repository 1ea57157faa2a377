//! The host as a whole: how it stands, its actors, and draining it.

use super::access::{Access, Admin, Change, Read};
use super::input::{Body, RequestBody};
use super::problem::Problem;
use crate::config::units::parse_duration;
use actix_web::web::Json;
use actix_web::{get, post};
use nanorelay_actors::relay::RelaySnapshot;
use nanorelay_actors::report::{
    DrainReport, FailingRecord, LaneFilter, OldestUndelivered, SessionCounts, StateCounts,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

/// How long a drain takes at most when nothing else is asked for, and the longest that can be asked for.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
const DRAIN_DEADLINE_MAX: Duration = Duration::from_secs(3600);

/// Over what time lateness is told.
const LAG_TIME: Duration = Duration::from_secs(5 * 60);

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(overview).service(actors).service(drain);
}

/// How sessions' files are found to have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Watcher {
    /// The file system tells.
    Inotify,
    /// They are looked at, again and again.
    Poll,
}

/// How late messages came after the host knew of them or they were due, in milliseconds.
#[derive(Debug, Serialize, ToSchema)]
struct LagMs {
    /// Half of them at most so late.
    p50: u64,
    /// All but a hundredth of them.
    p99: u64,
}

/// How the host stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Overview {
    /// The host's time; RFC 3339 UTC.
    now: String,
    /// Since when it runs; RFC 3339 UTC.
    started_at: String,
    /// Messages that channels have accepted in the last minute.
    delivered_per_minute: u64,
    /// How late messages came in the last five minutes; null when none came.
    lag_ms: Option<LagMs>,
    /// Messages by their state.
    counts: StateCounts,
    /// Sessions by their state.
    sessions: SessionCounts,
    /// The message that is due and waits longest.
    oldest_undelivered: Option<OldestUndelivered>,
    /// What fails now, the most frequent first.
    failing: Vec<FailingRecord>,
    /// Pauses, and what platforms have asked for.
    holds: usize,
    /// Lanes that wait for a message that has failed.
    blocked_lanes: usize,
    /// How it is heard of new messages.
    watcher: Watcher,
}

/// How the host stands
///
/// What waits, since when, and what fails. With a large backlog the answer may be up to a minute old. For callers of all
/// tenants.
#[utoipa::path(tag = "host", responses((status = 200, body = Overview)))]
#[get("/overview")]
pub(super) async fn overview(access: Access<Read>) -> Result<Json<Overview>, Problem> {
    let relay = access.host()?;
    let standing = relay.standing().await?;
    let blocked = relay.lanes(LaneFilter { blocked: true, ..LaneFilter::default() }).await?;
    let watched = relay.registry_snapshot().await.map_or(0, |registry| registry.watched);
    Ok(Json(Overview {
        now: relay.now().to_iso(),
        started_at: relay.started_at().to_iso(),
        delivered_per_minute: relay.history(1).points.iter().map(|point| point.delivered).sum(),
        lag_ms: relay.lag(LAG_TIME).map(|lag| LagMs { p50: lag.p50_ms, p99: lag.p99_ms }),
        counts: standing.counts,
        sessions: standing.sessions,
        oldest_undelivered: standing.oldest_undelivered,
        failing: standing.failing,
        holds: relay.holds().len(),
        blocked_lanes: blocked.len(),
        watcher: if watched > 0 { Watcher::Inotify } else { Watcher::Poll },
    }))
}

/// The state of the actors
///
/// Those of sessions are counted. For callers of all tenants.
#[utoipa::path(tag = "host", responses((status = 200, body = RelaySnapshot)))]
#[get("/actors")]
pub(super) async fn actors(access: Access<Read>) -> Result<Json<RelaySnapshot>, Problem> {
    Ok(Json(access.host()?.snapshot().await))
}

/// How long to drain.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainBody {
    /// The longest that it may take, as `30s` or `5m`; at most an hour, and a minute unless it is there.
    #[serde(default)]
    deadline: Option<String>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

impl RequestBody for DrainBody {
    fn when_empty() -> Option<Self> {
        Some(Self::default())
    }
}

impl DrainBody {
    fn deadline(&self) -> Result<Duration, Problem> {
        let Some(text) = &self.deadline else { return Ok(DRAIN_DEADLINE) };
        let deadline = parse_duration(text).map_err(|problem| Problem::field("deadline", problem))?;
        match deadline <= DRAIN_DEADLINE_MAX {
            true => Ok(deadline),
            false => Err(Problem::field("deadline", format!("{text:?} is longer than an hour"))),
        }
    }
}

/// Deliver all that is due
///
/// Looks at every session, and answers when nothing is left to do or the deadline is over. The host goes on; meanwhile
/// `/readyz` says that it drains. For callers of all tenants.
#[utoipa::path(
    tag = "host",
    request_body(content = Option<DrainBody>),
    responses((status = 200, body = DrainReport))
)]
#[post("/drain")]
pub(super) async fn drain(
    access: Access<Admin>,
    body: Body<DrainBody>,
) -> Result<Json<DrainReport>, Problem> {
    let (relay, deadline) = (access.host()?, body.0.deadline()?);
    let change = Change {
        action: "drain",
        target: "host".to_owned(),
        tenant: None,
        reason: body.0.reason.as_deref(),
        before: None,
    };
    access.change(change, async { Ok(relay.drain(deadline).await) }).await.map(Json)
}
