//! A message that its channel sends in several parts.

use crate::support::host::{TestHost, in_a_process_that_is_killed};
use crate::support::wait::{record, within};
use async_trait::async_trait;
use nanorelay_actors::channel::adapter::{Channel, Delivery};
use nanorelay_actors::channel::parts::SentPart;
use nanorelay_actors::model::error::{Receipt, SendError};
use nanorelay_actors::model::ids::{MessageId, SessionId};
use nanorelay_actors::model::message::DeliveryKey;
use nanorelay_actors::relay::Relay;
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::settings::{ChannelSettings, OnAmbiguous};
use nanorelay_actors::testing::{DataDir, RowSpec, SessionSpec, TestAgent};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

const DEADLINE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(3600);

/// A platform with room for one word in a message. Each word is a part.
#[derive(Default)]
struct Words {
    shown: Mutex<Vec<String>>,
    /// What becomes of the next tries at the word `two`; nothing stands for a try that is never answered.
    answers_to_two: Mutex<VecDeque<Option<SendError>>>,
    is_at_two: Notify,
}

impl Words {
    fn that_answers(answers: impl IntoIterator<Item = Option<SendError>>) -> Arc<Self> {
        Arc::new(Self { answers_to_two: Mutex::new(answers.into_iter().collect()), ..Self::default() })
    }

    fn shown(&self) -> Vec<String> {
        self.shown.lock().unwrap().clone()
    }

    fn answer_to(&self, word: &str) -> Option<Option<SendError>> {
        if word == "two" { self.answers_to_two.lock().unwrap().pop_front() } else { None }
    }

    async fn show(&self, word: &str) -> Result<String, SendError> {
        if let Some(answer) = self.answer_to(word) {
            self.is_at_two.notify_one();
            return Err(match answer {
                Some(error) => error,
                None => std::future::pending().await,
            });
        }
        let mut shown = self.shown.lock().unwrap();
        shown.push(word.to_owned());
        Ok(format!("plat-{word}"))
    }
}

#[async_trait]
impl Channel for Words {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let content: serde_json::Value = serde_json::from_str(&delivery.content).unwrap();
        let words = content["text"].as_str().unwrap_or_default().split(' ');
        let sent = delivery.sent_parts().await?;
        let mut first = sent.first().and_then(|part| part.platform_message_id.clone());
        let begin = sent.last().map_or(0, |part| part.end);
        for (end, word) in (1..).zip(words).skip(usize::try_from(begin).unwrap()) {
            let id = self.show(word).await?;
            first = first.or(Some(id.clone()));
            delivery.part_sent(SentPart { end, platform_message_id: Some(id) }).await?;
        }
        Ok(Receipt { platform_message_id: first, limit: None })
    }
}

fn world() -> (DataDir, TestAgent) {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-main").id("sess-1").chat("slack", "slack:C1"));
    (data, agent)
}

async fn start(data: &DataDir, words: &Arc<Words>) -> Relay {
    let settings = ChannelSettings { on_ambiguous: OnAmbiguous::Resend, ..ChannelSettings::default() };
    let words = Arc::clone(words);
    TestHost::new(data.path()).start_with(move |builder| builder.channel_with("slack", words, settings)).await
}

fn unreachable(retry_after: Option<Duration>) -> Option<SendError> {
    Some(SendError::Transient { retry_after, reason: "not reachable".to_owned() })
}

#[actix_rt::test]
async fn a_try_goes_on_with_the_part_that_failed() {
    let (data, agent) = world();
    let words = Words::that_answers([unreachable(None), unreachable(None)]);
    let ids = [agent.text("one two three"), agent.text("one two")];
    let relay = start(&data, &words).await;
    let report = relay.drain(DEADLINE).await;
    assert_eq!((report.delivered, report.dead), (2, 0));
    assert_eq!(words.shown(), ["one", "two", "three", "one", "two"]);
    let sent = record(&relay, &ids[0], |record| record.state == DeliveryState::Delivered).await;
    assert_eq!((sent.attempts, sent.platform_message_id.as_deref()), (3, Some("plat-one")));
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_host_that_is_killed_between_two_parts_repeats_none_that_was_recorded() {
    let (data, agent) = world();
    let words = Words::that_answers([None]);
    agent.text("one two three");
    let (inside, path) = (Arc::clone(&words), data.path().to_owned());
    in_a_process_that_is_killed(async move || {
        let settings = ChannelSettings { on_ambiguous: OnAmbiguous::Resend, ..ChannelSettings::default() };
        let channel = Arc::clone(&inside);
        let host = TestHost::new(&path);
        let relay = host.start_with(move |builder| builder.channel_with("slack", channel, settings)).await;
        within("the second part is on its way", inside.is_at_two.notified()).await;
        relay.shutdown(Duration::ZERO).await;
    });
    assert_eq!(words.shown(), ["one"]);
    let relay = start(&data, &words).await;
    assert_eq!(relay.drain(DEADLINE).await.delivered, 1);
    assert_eq!(words.shown(), ["one", "two", "three"]);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_replayed_message_goes_on_with_the_part_that_was_refused() {
    let (data, agent) = world();
    let words = Words::that_answers([Some(SendError::Permanent { reason: "no room".to_owned() })]);
    let id = agent.text("one two three");
    let relay = start(&data, &words).await;
    assert_eq!(relay.drain(DEADLINE).await.dead, 1);
    let dead = record(&relay, &id, |record| record.state == DeliveryState::Dead).await;
    let key = DeliveryKey {
        session_id: SessionId::new(&dead.session_id).unwrap(),
        message_id: MessageId::new(&dead.message_id).unwrap(),
    };
    assert_eq!(relay.replay(vec![key]).await.unwrap(), 1);
    assert_eq!(relay.drain(DEADLINE).await.delivered, 1);
    assert_eq!(words.shown(), ["one", "two", "three"]);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn an_edit_is_not_merged_into_a_message_of_which_a_part_was_sent() {
    let (data, agent) = world();
    let words = Words::that_answers([unreachable(Some(LONG))]);
    let id = agent.text("one two three");
    let relay = start(&data, &words).await;
    record(&relay, &id, |record| record.state == DeliveryState::Retrying).await;
    let edit = json!({ "operation": "edit", "messageId": id, "text": "four five" }).to_string();
    let edit = agent.row(RowSpec { content: edit, ..agent.text_row("") });
    record(&relay, &edit, |record| record.state == DeliveryState::Queued).await;
    relay.shutdown(DEADLINE).await;
}
