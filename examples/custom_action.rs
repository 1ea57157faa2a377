//! A system action of your own: an agent asks for a ticket, the host makes one and answers into its inbox.
//!
//! Run it: `cargo run --example custom_action`

use async_trait::async_trait;
use nanorelay_actors::relay::Relay;
use nanorelay_actors::system_action::{
    ActionMessage, ActionRefused, ActionReply, ActionRequest, SystemActionHandler,
};
use nanorelay_actors::testing::{DataDir, SessionSpec};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A tracker whose tickets are named by the request, so that the same request makes one ticket only.
#[derive(Default)]
struct Tracker {
    tickets: Mutex<BTreeMap<String, String>>,
}

#[async_trait]
impl SystemActionHandler for Tracker {
    async fn handle(&self, request: ActionRequest) -> Result<ActionReply, ActionRefused> {
        // The content is what an untrusted agent wrote.
        let Some(title) = request.content["title"].as_str().filter(|title| !title.trim().is_empty()) else {
            return Err(ActionRefused("create_ticket needs a title".to_owned()));
        };
        // After a crash the host may ask again with the same message id: the key makes that harmless.
        let key = format!("{}/{}", request.session_id, request.message_id);
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner).insert(key, title.to_owned());
        let answer =
            json!({ "type": "ticket_created", "requestId": request.content["requestId"], "title": title });
        Ok(ActionReply {
            messages: vec![ActionMessage {
                id: format!("ticket-{}", request.message_id),
                kind: "system".to_owned(),
                content: answer.to_string(),
                wake: true,
            }],
        })
    }
}

fn main() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-main").chat("slack", "slack:C1"));
    let good =
        agent.system(&json!({ "action": "create_ticket", "requestId": "r-1", "title": "The door squeaks" }));
    let bad = agent.system(&json!({ "action": "create_ticket", "requestId": "r-2" }));
    let unknown = agent.system(&json!({ "action": "make_coffee" }));

    let tracker = Arc::new(Tracker::default());
    let report = actix::System::new().block_on(async {
        let relay = Relay::builder(data.path())
            .action("create_ticket", tracker.clone())
            .start()
            .await
            .expect("the relay starts");
        let report = relay.drain(Duration::from_secs(10)).await;
        relay.shutdown(Duration::from_secs(5)).await;
        report
    });
    assert_eq!((report.applied, report.dead), (1, 2));
    assert_eq!(tracker.tickets.lock().unwrap_or_else(PoisonError::into_inner).len(), 1);

    for row in agent.messages_in() {
        println!("{}: {}", row.kind, row.content);
    }
    let status_of = |id: &str| {
        agent.delivered().into_iter().find(|row| row.message_out_id == id).and_then(|row| row.status)
    };
    assert_eq!(status_of(&good).as_deref(), Some("delivered"));
    assert_eq!(status_of(&bad).as_deref(), Some("failed"));
    assert_eq!(status_of(&unknown).as_deref(), Some("failed"));
}
