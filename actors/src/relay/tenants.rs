//! Which tenant something belongs to.

use super::{OperationError, Relay};
use crate::model::ids::{AgentGroupId, SessionId, TenantName};

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
}
