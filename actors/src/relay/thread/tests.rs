use super::*;
use crate::inbox::{EnqueueError, InboxMessage};
use crate::model::hold::HoldScope;
use crate::model::ids::{AgentGroupId, ChannelType, MessageId, SessionId};
use crate::model::message::DeliveryKey;
use crate::relay::{Answer, AnswerError, OperationError, Resume, SessionRequest};
use crate::report::{DeliveryFilter, LaneFilter, Resolution, RunFilter, SessionFilter, TaskFilter, TaskVerb};
use crate::runtime::{AgentHost, AgentRuntime, AgentSession, Running, RuntimeError};
use crate::testing::{DataDir, MockChannel, SessionSpec};
use async_trait::async_trait;
use std::sync::Arc;

const DEADLINE: Duration = Duration::from_secs(30);

fn is_send_and_sync<T: Send + Sync + Clone>(value: &T) -> T {
    value.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_works_from_a_runtime_of_many_threads() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-main").id("sess-1").chat("slack", "slack:C1"));
    let message = agent.text("hello");
    let slack = MockChannel::new();
    let owner = Relay::builder(data.path()).channel("slack", slack.clone()).start_on_thread().await.unwrap();
    let relay = is_send_and_sync(owner.relay());
    let session = SessionId::new("sess-1").unwrap();
    let key = DeliveryKey { session_id: session.clone(), message_id: MessageId::new(&message).unwrap() };
    // A task of its own: it may be polled by any thread, so every future must be able to move.
    let used = tokio::spawn(async move {
        assert_eq!(relay.drain(DEADLINE).await.delivered, 1);
        assert_eq!(relay.deliveries(DeliveryFilter::default()).await.unwrap().len(), 1);
        assert!(relay.delivery(key.clone()).await.unwrap().is_some());
        assert!(relay.replayable(DeliveryFilter::default()).await.unwrap().is_empty());
        assert_eq!(relay.replay(vec![key.clone()]).await, Ok(0));
        assert_eq!(relay.replay_all(DeliveryFilter::default(), None).await, Ok(0));
        assert_eq!(relay.resolve(key, Resolution::NotDelivered).await, Ok(false));
        assert!(relay.lanes(LaneFilter::default()).await.is_ok());
        let scope = HoldScope::Channel(ChannelType::new("slack").unwrap());
        relay.pause(scope.clone(), None, "a test").await.unwrap();
        assert_eq!(relay.holds().len(), 1);
        assert_eq!(relay.resume(scope, Resume::Everything).await, Ok(1));
        assert!(!relay.channel_snapshots().await.is_empty());
        assert!(relay.registry_snapshot().await.is_some() && relay.sweep_snapshot().await.is_some());
        assert!(relay.quarantined().await.unwrap().is_empty());
        assert_eq!(relay.sessions(SessionFilter::default()).await.unwrap().len(), 1);
        assert_eq!(relay.release(session.clone()).await, Ok(false));
        assert!(relay.agents().await.is_empty());
        relay.prune_ledger().await.unwrap();
        assert!(relay.questions().await.unwrap().questions.is_empty());
        let answer = Answer {
            question_id: "q".to_owned(),
            selected_option: "yes".to_owned(),
            user_id: "u".to_owned(),
        };
        assert!(matches!(relay.answer(answer).await, Err(AnswerError::NoSuchQuestion(_))));
        let request = SessionRequest::new(AgentGroupId::new("ag-main").unwrap());
        assert!(relay.create_session(request).await.unwrap().is_new);
        assert!(relay.enqueue(session.clone(), InboxMessage::new(r#"{"text":"hi"}"#)).await.unwrap().is_new);
        assert!(relay.tasks(TaskFilter::default()).await.unwrap().tasks.is_empty());
        assert!(
            relay
                .task_runs(RunFilter { session_id: "sess-1".to_owned(), ..Default::default() })
                .await
                .is_ok()
        );
        assert_eq!(relay.change_task(session, "none", TaskVerb::Pause).await, Ok(0));
        relay.settle().await;
        assert!(relay.statistics().delivered == 1 && !relay.open_metrics().await.is_empty());
    });
    used.await.unwrap();
    owner.shutdown(DEADLINE).await.unwrap();
    slack.assert_exactly_once(&[message]);
}

#[test]
fn a_thread_without_a_runtime_uses_a_relay_too() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-main").chat("slack", "slack:C1"));
    let slack = MockChannel::new();
    let owner =
        Relay::builder(data.path()).channel("slack", slack.clone()).start_on_thread_blocking().unwrap();
    let message = agent.text("hello");
    assert_eq!(owner.block_on(owner.relay().drain(DEADLINE)).delivered, 1);
    owner.shutdown_blocking(DEADLINE).unwrap();
    slack.assert_exactly_once(&[message]);
}

#[tokio::test]
async fn nothing_is_left_of_a_relay_after_its_shutdown() {
    let data = DataDir::new();
    let slack = MockChannel::new();
    for _ in 0..3 {
        let owner =
            Relay::builder(data.path()).channel("slack", slack.clone()).start_on_thread().await.unwrap();
        let relay = owner.relay().clone();
        relay.shutdown(DEADLINE).await;
        owner.join().await.unwrap();
        drop(relay);
        assert_eq!(Arc::strong_count(&slack), 1, "nobody holds the adapter any more");
    }
}

#[tokio::test]
async fn a_relay_shuts_down_when_its_owner_goes() {
    let data = DataDir::new();
    let owner = Relay::builder(data.path()).start_on_thread().await.unwrap();
    let relay = owner.relay().clone();
    drop(owner);
    relay.ended().await;
    let next = Relay::builder(data.path()).start_on_thread().await.expect("the data directory is free");
    next.shutdown(DEADLINE).await.unwrap();
}

#[tokio::test]
async fn calls_after_the_end_are_answered() {
    let data = DataDir::new();
    data.session(SessionSpec::new("ag-main").id("sess-1"));
    let owner = Relay::builder(data.path()).start_on_thread().await.unwrap();
    let relay = owner.relay().clone();
    owner.shutdown(DEADLINE).await.unwrap();
    let session = SessionId::new("sess-1").unwrap();
    assert_eq!(relay.deliveries(DeliveryFilter::default()).await, Err(OperationError::Ended));
    let written = relay.release(session.clone()).await;
    assert_eq!(written, Err(OperationError::Ended));
    let enqueued = relay.enqueue(session, InboxMessage::new("{}")).await;
    assert_eq!(enqueued, Err(EnqueueError::Stopping));
    relay.drain(DEADLINE).await;
    relay.shutdown(DEADLINE).await;
}

#[tokio::test]
async fn two_relays_of_one_process_know_nothing_of_each_other() {
    let worlds = ["C1", "C2"].map(|chat| {
        let data = DataDir::new();
        let agent = data.session(SessionSpec::new("ag-main").id("sess-1").chat("slack", chat));
        let message = agent.text("hello");
        (data, MockChannel::new(), message)
    });
    let mut owners = Vec::new();
    for (data, slack, _) in &worlds {
        let builder = Relay::builder(data.path()).channel("slack", slack.clone());
        owners.push(builder.start_on_thread().await.unwrap());
    }
    for owner in owners {
        assert_eq!(owner.relay().drain(DEADLINE).await.delivered, 1);
        owner.shutdown(DEADLINE).await.unwrap();
    }
    for (_, slack, message) in &worlds {
        slack.assert_exactly_once(&[message]);
    }
}

#[tokio::test]
async fn a_relay_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let started = Relay::builder(folder.path()).start_on_thread().await;
    assert!(matches!(started, Err(StartError::NotADataDirectory { .. })), "{started:?}");
    let data = DataDir::new();
    let outside = Relay::builder(data.path()).start().await;
    assert!(matches!(outside, Err(StartError::NoActixSystem)), "{outside:?}");
}

/// A runtime with bugs.
struct Broken {
    in_attach: bool,
}

#[async_trait]
impl AgentRuntime for Broken {
    async fn attach(&self, _: AgentHost) -> Result<(), RuntimeError> {
        assert!(!self.in_attach, "a bug in attach");
        Ok(())
    }

    async fn wake(&self, _: &AgentSession) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn is_running(&self, _: &AgentSession) -> Running {
        Running::Unknown
    }

    async fn stop(&self, _: &AgentSession, _: &str) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn shutdown(&self, _: Duration) {
        panic!("a bug in shutdown");
    }
}

#[tokio::test]
async fn a_panic_of_the_thread_is_reported_with_its_words() {
    let data = DataDir::new();
    let started =
        Relay::builder(data.path()).runtime(Arc::new(Broken { in_attach: true })).start_on_thread().await;
    let error = started.expect_err("it cannot start");
    assert!(error.to_string().contains("panicked: a bug in attach"), "{error}");
}

#[tokio::test]
async fn a_runtime_that_panics_in_its_shutdown_does_not_keep_the_relay_from_its_end() {
    let data = DataDir::new();
    let builder = Relay::builder(data.path()).runtime(Arc::new(Broken { in_attach: false }));
    let owner = builder.start_on_thread().await.unwrap();
    owner.shutdown(DEADLINE).await.unwrap();
    let next = Relay::builder(data.path()).start_on_thread().await.expect("the data directory is free");
    next.shutdown(DEADLINE).await.unwrap();
}
