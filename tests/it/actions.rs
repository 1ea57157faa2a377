//! System actions that an application adds.

use crate::support::host::TestHost;
use crate::support::process::Other;
use crate::support::wait::{quarantined, settled, until};
use async_trait::async_trait;
use nanorelay_actors::report::{DeliveryFilter, DeliveryState};
use nanorelay_actors::system_action::{
    ActionMessage, ActionRefused, ActionReply, ActionRequest, SystemActionHandler,
};
use nanorelay_actors::testing::{DataDir, SessionSpec, TestAgent};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// What a test lets an action do, and how often it was asked to.
#[derive(Default)]
struct Desk {
    calls: AtomicUsize,
}

#[async_trait]
impl SystemActionHandler for Desk {
    async fn handle(&self, request: ActionRequest) -> Result<ActionReply, ActionRefused> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match request.content["how"].as_str() {
            Some("answer") => Ok(ActionReply {
                messages: vec![
                    answer(&request, "a", "system", json!({ "requestId": request.content["requestId"] })),
                    answer(&request, "b", "chat", json!({ "text": "done" })),
                ],
            }),
            Some("much") => {
                let text = "x".repeat(10 * 1024 * 1024);
                Ok(ActionReply { messages: vec![answer(&request, "a", "chat", json!({ "text": text }))] })
            }
            Some("panic") => panic!("injected"),
            Some("hang") => std::future::pending().await,
            _ => Err(ActionRefused("not on a Sunday".to_owned())),
        }
    }
}

fn answer(request: &ActionRequest, part: &str, kind: &str, content: Value) -> ActionMessage {
    ActionMessage {
        id: format!("{}-{part}", request.message_id),
        kind: kind.to_owned(),
        content: content.to_string(),
        wake: kind == "chat",
    }
}

fn ask(agent: &TestAgent, how: &str) -> String {
    agent.system(&json!({ "action": "desk", "how": how, "requestId": "r-1" }))
}

fn session(data: &DataDir) -> TestAgent {
    data.session(SessionSpec::new("ag-main").id("sess-a").chat("slack", "slack:C1"))
}

/// Reasons that the agent was told, by message id.
fn told(agent: &TestAgent) -> Vec<(String, String)> {
    let notices = agent.messages_in().into_iter().filter_map(|row| {
        let content: Value = serde_json::from_str(&row.content).ok()?;
        let text = |key: &str| content[key].as_str().map(str::to_owned);
        (content["type"] == "delivery_failed").then(|| Some((text("messageId")?, text("reason")?)))?
    });
    notices.collect()
}

#[actix_rt::test]
async fn a_handlers_answer_and_the_actions_record_arrive_together() {
    let data = DataDir::new();
    let agent = session(&data);
    let action = ask(&agent, "answer");
    let host = TestHost::new(data.path());
    let relay = host.start_with(|builder| builder.action("desk", Arc::new(Desk::default()))).await;
    let report = relay.drain(Duration::from_secs(30)).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!((report.applied, report.dead), (1, 0));
    let rows = agent.messages_in();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].id.as_str(), rows[0].kind.as_str()), (format!("{action}-a").as_str(), "system"));
    assert!(rows[0].content.contains(r#""requestId":"r-1""#), "compact JSON: {}", rows[0].content);
    assert_eq!((rows[0].trigger, rows[1].trigger), (Some(0), Some(1)), "only the second wakes");
    assert_eq!(agent.delivered()[0].message_out_id, action);
}

#[actix_rt::test]
async fn a_refused_action_is_dead_and_the_agent_is_told_why() {
    let data = DataDir::new();
    let agent = session(&data);
    let action = ask(&agent, "refuse");
    let host = TestHost::new(data.path());
    let relay = host.start_with(|builder| builder.action("desk", Arc::new(Desk::default()))).await;
    let report = relay.drain(Duration::from_secs(30)).await;
    let records = relay.deliveries(DeliveryFilter::default()).await.unwrap();
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!((report.applied, report.dead), (0, 1));
    assert_eq!(
        (records[0].state, records[0].error.as_deref()),
        (DeliveryState::Dead, Some("not on a Sunday"))
    );
    assert_eq!(told(&agent), [(action, "not on a Sunday".to_owned())]);
    assert_eq!(agent.delivered()[0].status.as_deref(), Some("failed"));
}

#[actix_rt::test]
async fn a_handler_that_panics_or_hangs_or_says_too_much_refuses_its_own_action_only() {
    let data = DataDir::new();
    let agent = session(&data);
    let bad = [ask(&agent, "panic"), ask(&agent, "hang"), ask(&agent, "much")];
    let good = ask(&agent, "answer");
    let text = agent.text("hello");
    let mut host = TestHost::new(data.path());
    host.settings.limits.send_timeout = Duration::from_millis(200);
    let slack = host.channel("slack");
    let relay = host.start_with(|builder| builder.action("desk", Arc::new(Desk::default()))).await;
    let report = relay.drain(Duration::from_secs(30)).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    slack.assert_exactly_once(&[text]);
    assert_eq!((report.applied, report.dead, report.delivered), (1, 3, 1));
    let refused: Vec<String> = told(&agent).into_iter().map(|(id, _)| id).collect();
    assert_eq!(refused, bad);
    assert!(agent.messages_in().iter().any(|row| row.id == format!("{good}-a")));
}

#[actix_rt::test]
async fn a_handler_is_asked_once_though_its_answer_cannot_be_written_for_a_while() {
    let data = DataDir::new();
    let agent = session(&data);
    let host = TestHost::new(data.path());
    let desk = Arc::new(Desk::default());
    let relay = host.start_with(|builder| builder.action("desk", desk.clone())).await;
    settled(&relay).await;
    let locker = Other::holding_write_lock(&agent.folder().join("inbound.db"));
    ask(&agent, "answer");
    quarantined(&relay, true).await;
    locker.stop();
    until("the answer is there", || agent.messages_in().len() == 2).await;
    settled(&relay).await;
    assert_eq!(desk.calls.load(Ordering::SeqCst), 1);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}
