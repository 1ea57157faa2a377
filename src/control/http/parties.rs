//! Who takes part: tenants, channels, agents.

use super::access::{Access, Read};
use super::input::Query;
use super::page::{Cursor, Limit, Page};
use super::problem::Problem;
use actix_web::get;
use actix_web::web::Json;
use nanorelay_actors::model::ids::AgentGroupId;
use nanorelay_actors::report::{ChannelRecord, TenantRecord};
use nanorelay_actors::runtime::AgentRecord;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(tenants).service(channels).service(agents);
}

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Records of a page, 1 to 500; 50 unless it is there.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Where the page begins: the `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

impl PageQuery {
    /// The page of a list that is in memory as a whole, by the name of each record.
    fn page<T>(self, items: Vec<T>, name: impl Fn(&T) -> String) -> Result<Json<Page<T>>, Problem> {
        let after = self.cursor.map(|cursor| cursor.position()).transpose()?;
        Ok(Json(Page::of_all(items, self.limit, after, name)))
    }
}

/// The tenants, by name
///
/// Those that are configured, and every other agent group. A caller of some tenants sees these.
#[utoipa::path(tag = "tenants", params(PageQuery), responses((status = 200, body = Page<TenantRecord>)))]
#[get("/tenants")]
pub(super) async fn tenants(
    access: Access<Read>,
    query: Query<PageQuery>,
) -> Result<Json<Page<TenantRecord>>, Problem> {
    let (relay, visible) = access.lists();
    query.0.page(relay.tenants(visible.clone()).await?, |record| record.name.clone())
}

/// The channel accounts, by name
///
/// They are shared by all tenants, and so are their counts.
#[utoipa::path(tag = "channels", params(PageQuery), responses((status = 200, body = Page<ChannelRecord>)))]
#[get("/channels")]
pub(super) async fn channels(
    access: Access<Read>,
    query: Query<PageQuery>,
) -> Result<Json<Page<ChannelRecord>>, Problem> {
    let (relay, _) = access.lists();
    query.0.page(relay.channels().await, |record| record.name.clone())
}

/// The agents that the host has started, or is about to, by session
///
/// None when somebody else runs them. A caller of some tenants sees theirs.
#[utoipa::path(tag = "agents", params(PageQuery), responses((status = 200, body = Page<AgentRecord>)))]
#[get("/agents")]
pub(super) async fn agents(
    access: Access<Read>,
    query: Query<PageQuery>,
) -> Result<Json<Page<AgentRecord>>, Problem> {
    let (relay, visible) = access.lists();
    let mut agents = relay.agents().await;
    agents.retain(|agent| {
        let group = AgentGroupId::new(&agent.agent_group_id);
        group.is_ok_and(|group| visible.contains(&relay.group_tenant(&group)))
    });
    query.0.page(agents, |record| record.session_id.clone())
}
