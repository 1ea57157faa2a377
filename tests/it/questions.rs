//! Answers to questions: who gets them how, and when they wake.

use crate::support::host::TestHost;
use crate::support::wait::settled;
use crate::support::waker::Waker;
use nanorelay_actors::relay::{Answer, AnswerError, Relay};
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::testing::{DataDir, RowSpec, SessionSpec, TestAgent};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

fn ask(agent: &TestAgent, id: &str) {
    let content = json!({ "type": "ask_question", "questionId": id, "title": "Deploy?", "question": "Now?",
        "options": [{ "label": "Go ahead", "value": "yes" }] });
    agent.row(RowSpec::new("chat-sdk", content.to_string()).to("slack", "slack:C1", Some("t-1")));
}

async fn answer(relay: &Relay, question: &str) -> Result<nanorelay_actors::inbox::Enqueued, AnswerError> {
    let (question_id, selected_option) = (question.to_owned(), "yes".to_owned());
    relay.answer(Answer { question_id, selected_option, user_id: "U1".to_owned() }).await
}

async fn world(waker: &Arc<Waker>) -> (DataDir, TestAgent, Relay) {
    let data = DataDir::new();
    let agent = data
        .session(SessionSpec::new("ag-main").id("sess-a").chat("slack", "slack:C1").thread("t-1").stopped());
    ask(&agent, "q-1");
    let mut host = TestHost::new(data.path());
    host.channel("slack");
    let relay = host.start_with(|builder| builder.runtime(waker.clone())).await;
    settled(&relay).await;
    assert_eq!(relay.questions().await.unwrap().questions.len(), 1);
    (data, agent, relay)
}

#[actix_rt::test]
async fn an_agent_that_runs_finds_the_answer_where_its_tool_waits_for_it() {
    let waker = Arc::new(Waker::running());
    let (data, agent, relay) = world(&waker).await;
    answer(&relay, "q-1").await.unwrap();
    settled(&relay).await;
    let row = agent.messages_in().remove(0);
    assert_eq!(row.kind, "system");
    let expected =
        json!({ "type": "question_response", "questionId": "q-1", "selectedOption": "yes", "userId": "U1" });
    assert_eq!(row.content, expected.to_string());
    let chat = [row.channel_type, row.platform_id, row.thread_id].map(Option::unwrap_or_default);
    assert_eq!(chat, ["slack", "slack:C1", "t-1"], "the routing of the question");
    assert!(data.pending_questions().is_empty());
    assert!(
        matches!(answer(&relay, "q-1").await, Err(AnswerError::NoSuchQuestion(_))),
        "the first answer counts"
    );
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn an_answer_that_nobody_takes_wakes_no_agent_ever() {
    let waker = Arc::new(Waker::running());
    let (data, agent, relay) = world(&waker).await;
    answer(&relay, "q-1").await.unwrap();
    // The agent ends before it has taken the answer.
    waker.set_running(false);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    for _ in 0..5 {
        let relay = TestHost::new(data.path()).start_with(|builder| builder.runtime(waker.clone())).await;
        relay.drain(Duration::from_secs(60)).await;
        relay.shutdown(SHUTDOWN_DEADLINE).await;
    }
    assert_eq!(waker.wakes(), 0);
    assert_eq!(agent.messages_in()[0].status.as_deref(), Some("pending"));
}

#[actix_rt::test]
async fn a_late_answer_is_told_to_an_agent_that_no_longer_waits_and_wakes_it_until_it_is_taken() {
    let waker = Arc::new(Waker::default());
    let (_data, agent, relay) = world(&waker).await;
    answer(&relay, "q-1").await.unwrap();
    settled(&relay).await;
    assert_eq!(waker.wakes(), 1);
    let row = agent.messages_in().remove(0);
    let content: Value = serde_json::from_str(&row.content).unwrap();
    assert_eq!((row.kind.as_str(), row.trigger), ("chat", Some(1)));
    assert_eq!(content["text"], "Answer to your question \"Deploy?\": Go ahead");
    assert_eq!(content["selectedOption"], "yes");
    agent.ack(&row.id, "completed");
    relay.drain(Duration::from_secs(60)).await;
    assert_eq!(agent.messages_in()[0].status.as_deref(), Some("completed"));
    let wakes = waker.wakes();
    relay.drain(Duration::from_secs(60)).await;
    assert_eq!(waker.wakes(), wakes, "nothing is due any longer");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_question_with_very_many_options_is_refused_and_of_a_long_title_the_beginning_is_kept() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-main").id("sess-a").chat("slack", "slack:C1"));
    let many: Vec<String> = (0..1000).map(|number| format!("option {number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = agent.question("q-many", "Which?", "Now?", &many);
    let asked = agent.question("q-long", &"é".repeat(10_000), "Now?", &["Yes", "No"]);
    let mut host = TestHost::new(data.path());
    host.channel("slack");
    let run = host.drain().await;
    assert_eq!(run.record("sess-a", &asked).expect("a record").state, DeliveryState::Delivered);
    let record = run.record("sess-a", &refused).expect("a record");
    assert_eq!(record.state, DeliveryState::Dead);
    let error = record.error.as_deref().unwrap_or_default();
    assert!(error.contains("the options of this question have") && error.contains("8192"), "{error}");
    let stored = data.pending_questions();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].title.as_deref().map(str::len), Some(512));
}
