//! Messages of people: an application hands what its platform tells it to the agent, and gets the answer back.
//!
//! The platform repeats itself, as platforms do; the agent gets each message once.
//!
//! Run it: `cargo run --example incoming_message`

use async_trait::async_trait;
use nanorelay_actors::inbox::{EnqueueError, InboxMessage};
use nanorelay_actors::model::ids::{AgentGroupId, ChannelType, PlatformId, SessionId};
use nanorelay_actors::relay::{Relay, SessionRequest};
use nanorelay_actors::runtime::{AgentRuntime, AgentSession, Running, RuntimeError};
use nanorelay_actors::testing::{DataDir, MockChannel};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the application's webhook got from the platform.
struct Incoming<'a> {
    room: &'a str,
    message_id: &'a str,
    sender: &'a str,
    text: &'a str,
}

/// Hands a message to the agent: finds the chat's session, or makes it, and writes into its inbox. Whatever goes wrong
/// in between, the platform may send the same message again.
async fn receive(relay: &Relay, incoming: &Incoming<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let group = AgentGroupId::new("ag-main")?;
    let chat = (ChannelType::new("room")?, PlatformId::new(incoming.room)?);
    let session = relay.create_session(SessionRequest::new(group).chat(chat.0, chat.1).add_chat()).await?;
    let content = json!({ "text": incoming.text, "sender": incoming.sender, "senderId": incoming.sender });
    let message = InboxMessage::new(content.to_string()).id(incoming.message_id);
    match relay.enqueue(SessionId::new(&session.session_id)?, message).await {
        Ok(enqueued) if enqueued.is_new => println!("{}: {}", incoming.sender, incoming.text),
        Ok(_) => println!("(the platform has repeated {})", incoming.message_id),
        // A session in trouble: answer the platform with a 503, and it comes again.
        Err(error @ EnqueueError::Unavailable { .. }) => return Err(error.into()),
        Err(error) => println!("refused: {error}"),
    }
    Ok(())
}

/// Agents that live for one answer. Yours are processes or containers.
struct OneAnswer {
    data: PathBuf,
}

#[async_trait]
impl AgentRuntime for OneAnswer {
    async fn wake(&self, session: &AgentSession) -> Result<(), RuntimeError> {
        let data = DataDir::at(&self.data, nanorelay_actors::testing::Era::Current);
        let agent = data.agent(session.session_id.as_str());
        for row in agent.messages_in().iter().filter(|row| row.status.as_deref() == Some("pending")) {
            let content: Value = serde_json::from_str(&row.content).unwrap_or_default();
            let answer = format!("Hello {}!", content["sender"].as_str().unwrap_or("you"));
            agent.row(agent.text_row(&answer).id(&format!("re-{}", row.id)).in_reply_to(&row.id));
            agent.ack(&row.id, "completed");
        }
        Ok(())
    }

    async fn is_running(&self, _: &AgentSession) -> Running {
        Running::No
    }

    async fn stop(&self, _: &AgentSession, _: &str) -> Result<(), RuntimeError> {
        Ok(())
    }
}

fn main() {
    let data = DataDir::new();
    data.agent_group("ag-main");
    let room = MockChannel::new();
    actix::System::new().block_on(async {
        let relay = Relay::builder(data.path())
            .channel("room", room.clone())
            .runtime(Arc::new(OneAnswer { data: data.path().to_owned() }))
            .start()
            .await
            .expect("the relay starts");
        let alice = Incoming { room: "room:1", message_id: "m-1", sender: "Alice", text: "Hi" };
        let bob = Incoming { room: "room:2", message_id: "m-1", sender: "Bob", text: "Hi, too" };
        for incoming in [&alice, &bob, &alice] {
            receive(&relay, incoming).await.expect("a session that can be written");
        }
        relay.drain(Duration::from_secs(10)).await;
        relay.shutdown(Duration::from_secs(5)).await;
    });
    let mut answers: Vec<_> =
        room.calls().into_iter().map(|call| (call.destination.platform_id, call.content)).collect();
    answers.sort();
    for (room, content) in &answers {
        println!("→ {room}: {content}");
    }
    assert_eq!(answers.len(), 2, "each message was answered once");
}
