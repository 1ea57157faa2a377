//! An agent changes its mind about a message that has not been sent yet.

use crate::support::host::TestHost;
use crate::support::wait::{called, record, settled, shown};
use nanorelay_actors::model::error::SendError;
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::testing::{Answer, DataDir, MockChannel, RowSpec, SessionSpec, TestAgent};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

struct World {
    _data: DataDir,
    agent: TestAgent,
    host: TestHost,
    slack: Arc<MockChannel>,
}

impl World {
    fn new() -> Self {
        let data = DataDir::new();
        let agent = data.session(SessionSpec::new("ag-main").id("sess-1").chat("slack", "slack:C1"));
        let mut host = TestHost::new(data.path());
        let slack = host.channel("slack");
        Self { _data: data, agent, host, slack }
    }

    fn row(&self, content: &Value) -> RowSpec {
        RowSpec { content: content.to_string(), ..self.agent.text_row("") }
    }

    fn edit(&self, message: &Value, text: &str) -> String {
        self.agent.row(self.row(&json!({ "operation": "edit", "messageId": message, "text": text })))
    }

    fn delete(&self, message: &str) -> String {
        self.agent.row(self.row(&json!({ "operation": "delete", "messageId": message })))
    }

    fn seq_of(&self, message: &str) -> i64 {
        self.agent.messages_out().into_iter().find(|(id, _)| id == message).expect("written").1
    }

    fn shown_texts(&self) -> Vec<String> {
        let text = |content: &str| {
            let content: Value = serde_json::from_str(content).unwrap();
            content["text"].as_str().unwrap_or_default().to_owned()
        };
        self.slack.shown().iter().map(|call| text(&call.content)).collect()
    }

    fn status_of(&self, message: &str) -> Option<String> {
        self.agent.delivered().into_iter().find(|row| row.message_out_id == message)?.status
    }
}

#[actix_rt::test]
async fn an_edit_of_a_message_in_the_queue_replaces_it_in_its_place() {
    let world = World::new();
    let first = world.agent.text("first");
    world.slack.on_message(&first, [Answer::gate()]);
    let relay = world.host.start().await;
    called(&world.slack, 1).await;
    let second = world.agent.text("second");
    let third = world.agent.text("third");
    for id in [&second, &third] {
        record(&relay, id, |record| record.state == DeliveryState::Queued).await;
    }
    // By its id, by its seq, and the last word counts.
    let by_id = world.edit(&json!(second), "second, edited");
    let by_seq = world.edit(&json!(world.seq_of(&third)), "third, edited");
    let again = world.edit(&json!(second), "second, edited again");
    for id in [&by_id, &by_seq, &again] {
        record(&relay, id, |record| record.state == DeliveryState::Delivered).await;
    }
    world.slack.open_gate();
    shown(&world.slack, 3).await;
    settled(&relay).await;
    assert_eq!(world.shown_texts(), ["first", "second, edited again", "third, edited"]);
    world.slack.assert_exactly_once(&[&first, &second, &third]);
    for id in [&second, &third, &by_id, &by_seq, &again] {
        assert_eq!(world.status_of(id).as_deref(), Some("delivered"), "{id}");
    }
    assert_eq!((relay.statistics().delivered, relay.statistics().merged), (3, 3));
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn an_edit_that_is_read_together_with_its_message_is_merged_and_survives_a_restart() {
    let world = World::new();
    let wait = SendError::Transient { retry_after: Some(Duration::from_secs(600)), reason: "502".to_owned() };
    let head = world.agent.text("head");
    world.slack.on_message(&head, [Answer::Fail(wait), Answer::Accept]);
    let message = world.agent.text("old");
    let edit = world.edit(&json!(message), "new");
    let relay = world.host.start().await;
    record(&relay, &head, |record| record.state == DeliveryState::Retrying).await;
    settled(&relay).await;
    let of_head = world.edit(&json!(head), "head, edited between two tries");
    record(&relay, &of_head, |record| record.state == DeliveryState::Delivered).await;
    relay.shutdown(DEADLINE).await;
    let lane = relay.lanes(Default::default()).await.unwrap().remove(0);
    assert_eq!((lane.head_message_id, lane.waiting_behind), (head.clone(), 1));
    drop(relay);
    let relay = world.host.start().await;
    let session = nanorelay_actors::model::ids::SessionId::new("sess-1").unwrap();
    relay.unblock_lane(session, "channel/slack/slack:C1").await.unwrap();
    shown(&world.slack, 1).await;
    relay.replay_all(Default::default(), None).await.unwrap();
    shown(&world.slack, 2).await;
    assert_eq!(world.shown_texts(), ["new", "head, edited between two tries"]);
    assert!(world.slack.calls().iter().all(|call| call.message_id.as_str() != edit));
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_message_that_is_deleted_before_it_was_sent_is_never_sent() {
    let world = World::new();
    let first = world.agent.text("first");
    world.slack.on_message(&first, [Answer::gate()]);
    let relay = world.host.start().await;
    called(&world.slack, 1).await;
    let (unwanted, last) = (world.agent.text("unwanted"), world.agent.text("last"));
    record(&relay, &last, |record| record.state == DeliveryState::Queued).await;
    let deletion = world.delete(&unwanted);
    let dead = record(&relay, &unwanted, |record| record.state == DeliveryState::Dead).await;
    assert_eq!(dead.error_class.as_deref(), Some("cancelled"));
    world.slack.open_gate();
    shown(&world.slack, 2).await;
    settled(&relay).await;
    assert_eq!(world.shown_texts(), ["first", "last"]);
    assert_eq!(world.status_of(&unwanted).as_deref(), Some("failed"));
    assert_eq!(world.status_of(&deletion).as_deref(), Some("delivered"));
    assert_eq!(world.slack.calls().len(), 2);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn an_edit_of_a_message_that_is_on_its_way_goes_out_by_itself() {
    let world = World::new();
    let first = world.agent.text("first");
    world.slack.on_message(&first, [Answer::gate()]);
    let relay = world.host.start().await;
    called(&world.slack, 1).await;
    let edit = world.edit(&json!(first), "edited");
    record(&relay, &edit, |record| record.state == DeliveryState::Queued).await;
    world.slack.open_gate();
    shown(&world.slack, 2).await;
    world.slack.assert_exactly_once(&[&first, &edit]);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn nothing_is_merged_into_a_message_that_may_have_been_sent() {
    let mut world = World::new();
    world.host.channel_settings.on_ambiguous = nanorelay_actors::settings::OnAmbiguous::Resend;
    world.host.settings.retry.transient.base = Duration::from_secs(600);
    world.host.settings.retry.transient.delay_max = Duration::from_secs(600);
    let first = world.agent.text("first");
    world.slack.on_message(&first, [Answer::accept_then_drop()]);
    let relay = world.host.start().await;
    record(&relay, &first, |record| record.state == DeliveryState::Retrying).await;
    settled(&relay).await;
    let edit = world.edit(&json!(first), "edited");
    record(&relay, &edit, |record| record.state == DeliveryState::Queued).await;
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_message_of_another_chat_is_not_touched() {
    let world = World::new();
    world._data.allow_channel("ag-main", "slack", "slack:C2");
    let first = world.agent.text("first");
    world.slack.on_message(&first, [Answer::gate()]);
    let second = world.agent.text("second");
    let edit = json!({ "operation": "edit", "messageId": second, "text": "edited" }).to_string();
    let edit = world.agent.row(RowSpec::new("chat", edit).to("slack", "slack:C2", None));
    let relay = world.host.start().await;
    shown(&world.slack, 1).await;
    world.slack.open_gate();
    shown(&world.slack, 3).await;
    world.slack.assert_exactly_once(&[&first, &second, &edit]);
    assert!(world.shown_texts().contains(&"second".to_owned()));
    relay.shutdown(DEADLINE).await;
}
