//! Which tenant something belongs to.

use super::{OperationError, Relay};
use crate::model::hold::{HoldCause, HoldScopeKind};
use crate::model::ids::{AgentGroupId, SessionId, TenantName};
use crate::model::tenant::{Tenant, TenantSet};
use crate::report::{HoldRecord, TenantRecord};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

impl Relay {
    /// The tenant of a session; none when neither `v2.db` nor the ledger knows the session.
    pub async fn session_tenant(&self, session: &SessionId) -> Result<Option<TenantName>, OperationError> {
        let engine = self.engine();
        if let Some(facts) = engine.snapshot().sessions.get(session) {
            return Ok(Some(engine.tenants.of(&facts.agent_group_id).name.clone()));
        }
        // It has just been made, or was removed while messages of it are still listed.
        self.refresh_central().await?;
        if let Some(facts) = engine.snapshot().sessions.get(session) {
            return Ok(Some(engine.tenants.of(&facts.agent_group_id).name.clone()));
        }
        let session = session.clone();
        let group = self.read(move |engine| engine.ledger_reader.agent_group_of(&session)).await?;
        Ok(group.map(|group| self.group_tenant(&group)))
    }

    /// The tenant of an agent group.
    pub fn group_tenant(&self, group: &AgentGroupId) -> TenantName {
        self.engine().tenants.of(group).name.clone()
    }

    /// The tenants, by name: those that are configured, and every other agent group.
    pub async fn tenants(&self, visible: TenantSet) -> Result<Vec<TenantRecord>, OperationError> {
        let mut pauses: HashMap<String, HoldRecord> = HashMap::new();
        for hold in self.holds() {
            if hold.scope == HoldScopeKind::Tenant && hold.cause == HoldCause::Operator {
                pauses.extend(hold.name.first().cloned().map(|name| (name, hold)));
            }
        }
        self.read(move |engine| {
            let snapshot = engine.snapshot();
            let mut found: BTreeMap<TenantName, TenantRecord> = BTreeMap::new();
            let configured = engine.tenants.configured().map(|tenant| (tenant, None));
            let of_groups = snapshot.groups.keys().map(|group| (engine.tenants.of(group), Some(group)));
            for (tenant, group) in configured.chain(of_groups) {
                if visible.contains(&tenant.name) {
                    let record = found.entry(tenant.name.clone()).or_insert_with(|| record(&tenant));
                    record.agent_groups.extend(group.map(ToString::to_string));
                }
            }
            let waiting = engine.ledger_reader.waiting_by_session()?;
            for (id, facts) in &snapshot.sessions {
                if let Some(record) = found.get_mut(&engine.tenants.of(&facts.agent_group_id).name) {
                    record.sessions += 1;
                    record.waiting += waiting.get(id.as_str()).copied().unwrap_or(0);
                }
            }
            let mut records: Vec<TenantRecord> = found.into_values().collect();
            for record in &mut records {
                record.agent_groups.sort();
                record.hold = pauses.remove(&record.name);
                record.paused_until = record.hold.as_ref().and_then(|hold| hold.until.clone());
            }
            Ok(records)
        })
        .await
    }
}

fn record(tenant: &Arc<Tenant>) -> TenantRecord {
    TenantRecord {
        name: tenant.name.to_string(),
        agent_groups: Vec::new(),
        weight: tenant.weight,
        in_flight_max: (tenant.in_flight_max < usize::MAX).then_some(tenant.in_flight_max as u64),
        sessions: 0,
        waiting: 0,
        paused_until: None,
        hold: None,
    }
}
