//! The two databases of one session as an operator sees them: what its agent wrote with what became of it, and what it was
//! told with what it says about that.

use super::{OperationError, Relay};
use crate::engine::Engine;
use crate::model::ids::{MessageId, SessionId};
use crate::model::message::DeliveryKey;
use crate::report::{InboundRecord, OutboundRecord, Page};
use crate::store::error::StoreError;
use crate::store::open::{self, InboundAccess};
use crate::store::outbound::{self, AckStatus};
use crate::store::session_dir::SessionDir;
use crate::store::shown;
use std::sync::Arc;

impl Relay {
    /// Rows of a session's `outbound.db` before a place, the newest first, with what became of them. None when the agent
    /// has no such file yet.
    pub async fn outbound_rows(
        &self,
        session: SessionId,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Page<OutboundRecord, i64>, OperationError> {
        self.read(move |engine| {
            let read = || {
                let directory = directory(engine, &session)?;
                let outbox = open::open_outbound(&directory)?;
                let mut page = shown::outbound_rows(&outbox, before, limit)?;
                for row in &mut page.items {
                    let name = row.id.clone().unwrap_or_else(|| format!("rowid:{}", row.rowid));
                    let Ok(message_id) = MessageId::new(&name) else { continue };
                    let key = DeliveryKey { session_id: session.clone(), message_id };
                    row.delivery = engine.ledger_reader.delivery(&key)?.map(|details| details.record);
                }
                Ok(page)
            };
            or_empty(read())
        })
        .await
    }

    /// Rows of a session's `inbound.db` before a place, the newest first, with what the agent says about them. None when
    /// there is no such file yet.
    pub async fn inbound_rows(
        &self,
        session: SessionId,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Page<InboundRecord, i64>, OperationError> {
        self.read(move |engine| {
            let read = || {
                let directory = directory(engine, &session)?;
                let inbox = open::open_inbound(&directory, InboundAccess::ReadOnly)?;
                let mut page = shown::inbound_rows(&inbox, before, limit)?;
                drop(inbox);
                add_claims(&directory, &mut page.items)?;
                Ok(page)
            };
            or_empty(read())
        })
        .await
    }

    /// The content of one row of a session's `outbound.db`, and whether there is more of it than is shown; `None` when the
    /// row is gone.
    pub async fn outbound_content(&self, key: DeliveryKey) -> Result<Option<(String, bool)>, OperationError> {
        self.read(move |engine| {
            let read = || {
                let directory = directory(engine, &key.session_id)?;
                let outbox = open::open_outbound(&directory)?;
                shown::outbound_content(&outbox, &key.message_id)
            };
            match read() {
                Err(StoreError::Missing(_)) => Ok(None),
                read => read,
            }
        })
        .await
    }
}

fn directory(engine: &Engine, session: &SessionId) -> Result<Arc<SessionDir>, StoreError> {
    let snapshot = engine.snapshot();
    let facts = snapshot.sessions.get(session);
    let facts = facts.ok_or_else(|| StoreError::Missing(format!("session {session}")))?;
    engine.sessions_root.session(&facts.agent_group_id, session).map(Arc::new)
}

fn or_empty<T>(read: Result<Page<T, i64>, StoreError>) -> Result<Page<T, i64>, StoreError> {
    match read {
        Err(StoreError::Missing(_)) => Ok(Page { items: Vec::new(), next: None }),
        read => read,
    }
}

/// An agent that has not started yet has said nothing.
fn add_claims(directory: &Arc<SessionDir>, rows: &mut [InboundRecord]) -> Result<(), StoreError> {
    let outbox = match open::open_outbound(directory) {
        Err(StoreError::Missing(_)) => return Ok(()),
        opened => opened?,
    };
    let ids: Vec<MessageId> = rows.iter().filter_map(|row| MessageId::new(row.id.as_deref()?).ok()).collect();
    for ack in outbound::acks(&outbox, &ids)? {
        if let Some(row) = rows.iter_mut().find(|row| row.id.as_deref() == Some(ack.message_id.as_str())) {
            row.claim = Some(match ack.status {
                AckStatus::Processing => "processing".to_owned(),
                AckStatus::Completed => "completed".to_owned(),
                AckStatus::Failed => "failed".to_owned(),
                AckStatus::Other(word) => word,
            });
        }
    }
    Ok(())
}
