//! Which session a message of a chat belongs to, and what its agent knows of where it speaks.

use crate::support::host::TestHost;
use crate::support::wait::settled;
use crate::support::waker::Waker;
use nanorelay_actors::inbox::{InboxMessage, MessageOrigin};
use nanorelay_actors::model::ids::{AgentGroupId, ChannelType, PlatformId, SessionId, ThreadId};
use nanorelay_actors::relay::{Relay, SessionMode, SessionRequest};
use nanorelay_actors::testing::{DataDir, TestAgent};
use std::sync::Arc;
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

fn in_chat(group: &str, platform_id: &str) -> SessionRequest {
    let group = AgentGroupId::new(group).unwrap();
    SessionRequest::new(group).chat(ChannelType::new("slack").unwrap(), PlatformId::new(platform_id).unwrap())
}

fn in_thread(thread: &str) -> SessionRequest {
    let thread = ThreadId::new(thread).unwrap();
    in_chat("ag-main", "slack:C1").mode(SessionMode::PerThread).thread(thread)
}

fn agent_shared() -> SessionRequest {
    in_chat("ag-main", "slack:C1").mode(SessionMode::AgentShared)
}

fn world() -> (DataDir, TestHost) {
    let data = DataDir::new();
    data.agent_group("ag-main").agent_group("ag-second");
    data.chat("slack", "slack:C1").chat("slack", "slack:C2");
    let host = TestHost::new(data.path());
    (data, host)
}

/// The session's id, and whether it was made now.
async fn resolve(relay: &Relay, request: SessionRequest) -> (String, bool) {
    let ready = relay.create_session(request).await.unwrap();
    (ready.session_id, ready.is_new)
}

/// Channel type, chat and thread in `session_routing`.
fn routing(agent: &TestAgent) -> [Option<String>; 3] {
    let sql = "SELECT channel_type, platform_id, thread_id FROM session_routing WHERE id = 1";
    agent.inbound().query_row(sql, [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?])).unwrap()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[actix_rt::test]
async fn a_shared_session_is_found_again() {
    let (_data, host) = world();
    let relay = host.start().await;
    let (first, is_new) = resolve(&relay, in_chat("ag-main", "slack:C1").mode(SessionMode::Shared)).await;
    assert!(is_new);
    let in_a_thread = in_thread("t-1").mode(SessionMode::Shared);
    assert_eq!(resolve(&relay, in_a_thread).await, (first.clone(), false), "of whatever thread");
    assert_ne!(resolve(&relay, in_chat("ag-main", "slack:C2")).await.0, first);
    assert_ne!(resolve(&relay, in_chat("ag-second", "slack:C1")).await.0, first);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn each_thread_has_a_session_of_its_own() {
    let (data, host) = world();
    let relay = host.start().await;
    let (first, _) = resolve(&relay, in_thread("t-1")).await;
    let (second, is_new) = resolve(&relay, in_thread("t-2")).await;
    assert!(is_new && first != second);
    assert_eq!(resolve(&relay, in_thread("t-1")).await, (first.clone(), false));
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    for (session, thread) in [(&first, "t-1"), (&second, "t-2")] {
        let expected = [some("slack"), some("slack:C1"), some(thread)];
        assert_eq!(routing(&data.agent(session)), expected);
    }
}

#[actix_rt::test]
async fn a_closed_session_is_not_found_again() {
    let (data, host) = world();
    let relay = host.start().await;
    let (first, _) = resolve(&relay, in_chat("ag-main", "slack:C1")).await;
    data.central().execute("UPDATE sessions SET status = 'closed' WHERE id = ?1", [&first]).unwrap();
    let (second, is_new) = resolve(&relay, in_chat("ag-main", "slack:C1")).await;
    assert!(is_new && first != second);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn an_agent_shared_session_is_found_again_and_has_no_chat() {
    let (data, host) = world();
    let relay = host.start().await;
    // Another one of the same group, which belongs to a chat.
    resolve(&relay, in_chat("ag-main", "slack:C1").mode(SessionMode::Shared)).await;
    let (session, is_new) = resolve(&relay, agent_shared()).await;
    assert!(is_new);
    assert_eq!(resolve(&relay, agent_shared()).await, (session.clone(), false));
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    let sql = "SELECT messaging_group_id IS NULL AND thread_id IS NULL FROM sessions WHERE id = ?1";
    assert!(data.central().query_row(sql, [&session], |row| row.get::<_, bool>(0)).unwrap());
    assert_eq!(routing(&data.agent(&session)), [None, None, None]);
}

#[actix_rt::test]
async fn the_routing_of_a_chats_session_is_that_chat() {
    let (data, host) = world();
    let relay = host.start().await;
    let (session, _) = resolve(&relay, in_chat("ag-main", "slack:C2")).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(routing(&data.agent(&session)), [some("slack"), some("slack:C2"), None]);
}

#[actix_rt::test]
async fn messages_of_one_chat_go_to_one_session() {
    let (data, host) = world();
    let relay = host.start().await;
    let mut sessions = Vec::new();
    for text in ["one", "two"] {
        let (session, _) = resolve(&relay, in_chat("ag-main", "slack:C1")).await;
        relay.enqueue(SessionId::new(&session).unwrap(), InboxMessage::text(text)).await.unwrap();
        sessions.push(session);
    }
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(sessions[0], sessions[1]);
    assert_eq!(data.agent(&sessions[0]).messages_in().len(), 2);
}

#[actix_rt::test]
async fn a_message_for_two_agents_reaches_each_in_its_own_session_with_its_own_routing() {
    let (data, host) = world();
    let waker = Arc::new(Waker::default());
    let relay = host.start_with(|builder| builder.runtime(waker.clone())).await;
    let (first, _) = resolve(&relay, in_thread("t-1")).await;
    let (second, _) = resolve(&relay, in_chat("ag-second", "slack:C1")).await;
    for session in [&first, &second] {
        let message = InboxMessage::text("hello, both").id("platform-7");
        assert!(relay.enqueue(SessionId::new(session).unwrap(), message).await.unwrap().is_new);
    }
    settled(&relay).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(waker.wakes(), 2);
    for (session, thread) in [(&first, some("t-1")), (&second, None)] {
        let rows = data.agent(session).messages_in();
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!(row.id, "platform-7", "ids are unique in a session");
        let found = [row.channel_type.clone(), row.platform_id.clone(), row.thread_id.clone()];
        assert_eq!(found, [some("slack"), some("slack:C1"), thread]);
    }
}

#[actix_rt::test]
async fn a_message_to_a_shared_agent_keeps_the_chat_that_it_came_from() {
    let (data, host) = world();
    let relay = host.start().await;
    let (session, _) = resolve(&relay, agent_shared()).await;
    let origin = MessageOrigin::chat("slack", "slack:C2").thread("t-9");
    let message = InboxMessage::text("hello").from(origin);
    relay.enqueue(SessionId::new(&session).unwrap(), message).await.unwrap();
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    let row = data.agent(&session).messages_in().remove(0);
    let found = [row.channel_type, row.platform_id, row.thread_id];
    assert_eq!(found, [some("slack"), some("slack:C2"), some("t-9")]);
}
