//! What an agent is told of messages that did not arrive.

use super::step::StepContext;
use super::write::inbox_row;
use crate::model::ids::{MessageId, derived_id};
use crate::model::route::AGENT_CHANNEL_TYPE;
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::inbound::{self, NewInbound};
use rusqlite::Transaction;
use serde_json::json;
use std::cell::{Cell, OnceCell};

/// The notices of one transaction.
pub(super) struct Notices<'a> {
    context: &'a StepContext,
    /// Whether a failure wakes the agent; not asked before there is one.
    wakes: OnceCell<bool>,
    /// Whether one has been written that does.
    has_woken: Cell<bool>,
    pub now: Timestamp,
}

impl<'a> Notices<'a> {
    pub fn new(context: &'a StepContext, now: Timestamp) -> Self {
        Self { context, wakes: OnceCell::new(), has_woken: Cell::new(false), now }
    }

    fn wakes(&self) -> bool {
        let StepContext { engine, session, group } = self.context;
        *self.wakes.get_or_init(|| {
            engine.tenants.of(group).wake_on_failure.unwrap_or(engine.settings.wake_on_failure)
                && engine.failure_wakes.may_wake(session, self.now)
        })
    }

    /// Takes note that the transaction is committed; whether a notice in it wakes the agent.
    pub fn note_wake(&self) -> bool {
        if self.has_woken.get() {
            self.context.engine.failure_wakes.woken(&self.context.session, self.now);
        }
        self.has_woken.get()
    }

    /// Leaves a notice that a message was given up. It is context only, unless failures wake the agent: then it is a
    /// message of the system, since nothing of kind `system` wakes.
    pub fn failed(
        &self,
        transaction: &Transaction<'_>,
        message: &MessageId,
        (seq, attempts, reason): (i64, u32, &str),
        settled_at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut content = json!({
            "type": "delivery_failed", "messageId": message.as_str(), "seq": seq, "reason": reason,
            "attempts": attempts,
        });
        // One notice per death: a message that is replayed and dies again is told again.
        let id = notice_id("failed", &[message.as_str(), &settled_at.as_ms().to_string()])?;
        let notice = if self.wakes() {
            self.has_woken.set(true);
            content["text"] = format!("Message #{seq} was not delivered: {reason}").into();
            content["sender"] = "system".into();
            content["senderId"] = "system".into();
            NewInbound {
                trigger: true,
                channel_type: Some(AGENT_CHANNEL_TYPE.to_owned()),
                platform_id: Some(self.context.group.to_string()),
                ..inbox_row(id, "chat")
            }
        } else {
            inbox_row(id, "system")
        };
        self.write(transaction, NewInbound { content: content.to_string(), ..notice })
    }

    /// Leaves a notice that a message waits for an operator, and that later ones of its kind will too.
    pub fn held(
        &self,
        transaction: &Transaction<'_>,
        message: &MessageId,
        (seq, reason): (i64, &str),
        settled_at: Timestamp,
    ) -> Result<(), StoreError> {
        let content = json!({
            "type": "delivery_held", "messageId": message.as_str(), "seq": seq, "reason": reason,
        });
        let id = notice_id("held", &[message.as_str(), &settled_at.as_ms().to_string()])?;
        let notice = inbox_row(id, "system");
        self.write(transaction, NewInbound { content: content.to_string(), ..notice })
    }

    fn write(&self, transaction: &Transaction<'_>, notice: NewInbound) -> Result<(), StoreError> {
        inbound::insert_message(transaction, &notice, self.now).map(drop)
    }
}

/// The id of a notice: the same for the same parts.
pub(super) fn notice_id(prefix: &str, parts: &[&str]) -> Result<MessageId, StoreError> {
    MessageId::new(&derived_id(prefix, parts)).map_err(|error| StoreError::Limit(error.to_string()))
}
