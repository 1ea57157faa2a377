//! Where sessions speak.

use super::{OperationError, Relay};
use crate::model::ids::SessionId;
use crate::model::message::Destination;

impl Relay {
    /// The chat and thread that a session speaks in; `None` when it has none, or when there is no such session.
    pub async fn session_chat(&self, session: &SessionId) -> Result<Option<Destination>, OperationError> {
        if !self.engine().snapshot().sessions.contains_key(session) {
            // Somebody may have made it just now.
            self.refresh_central().await?;
        }
        let snapshot = self.engine().snapshot();
        let facts = snapshot.sessions.get(session);
        Ok(facts.and_then(|facts| {
            let (channel_type, platform_id) = facts.own_chat.clone()?;
            Some(Destination { channel_type, platform_id, thread_id: facts.thread_id.clone() })
        }))
    }
}
