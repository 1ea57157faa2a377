//! A delivery for whoever calls an adapter without a relay.

use crate::channel::adapter::Delivery;
use crate::channel::parts::PartLog;
use crate::model::ids::{AgentGroupId, ChannelType, MessageId, PlatformId, SessionId};
use crate::model::message::Destination;
use serde_json::json;
use std::sync::Arc;

/// The first try of a text of session `sess-1` to the Slack chat `slack:C1`. The text is `text of <message id>`; every
/// field may be changed.
///
/// # Panics
/// When `message_id` is no id.
pub fn sample_delivery(message_id: &str, seq: i64) -> Delivery {
    Delivery {
        session_id: SessionId::new("sess-1").expect("an id"),
        agent_group_id: AgentGroupId::new("ag-main").expect("an id"),
        message_id: MessageId::new(message_id).expect("an id"),
        seq,
        destination: Destination {
            channel_type: ChannelType::new("slack").expect("an id"),
            platform_id: PlatformId::new("slack:C1").expect("an id"),
            thread_id: None,
        },
        kind: Arc::from("chat"),
        content: Arc::from(json!({ "text": format!("text of {message_id}") }).to_string()),
        attachments: Vec::new(),
        attempt: 1,
        idempotency_key: Arc::from(message_id),
        part_log: PartLog::default(),
    }
}
