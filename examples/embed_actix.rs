//! A relay inside an application that has an actix system and actors of its own.
//!
//! The application has one actor, a chat room. A thin channel hands it what agents write; its answer is the
//! receipt. The relay adds its actors to the same system, sets no globals, and is stopped when the application
//! wants.
//!
//! Run it: `cargo run --example embed_actix`

use actix::{Actor, Addr, Context, Handler, Message, MessageResult};
use async_trait::async_trait;
use nanorelay_actors::channel::adapter::{Channel, Delivery};
use nanorelay_actors::model::error::{Receipt, SendError};
use nanorelay_actors::relay::Relay;
use nanorelay_actors::testing::{DataDir, SessionSpec};
use std::sync::Arc;
use std::time::Duration;

/// The application's own actor.
#[derive(Default)]
struct ChatRoom {
    lines: Vec<String>,
}

/// Says something in the room; the answer is the line's number.
#[derive(Message)]
#[rtype(result = "usize")]
struct Say(String);

/// Asks for all that was said.
#[derive(Message)]
#[rtype(result = "Vec<String>")]
struct Transcript;

impl Actor for ChatRoom {
    type Context = Context<Self>;
}

impl Handler<Say> for ChatRoom {
    type Result = MessageResult<Say>;

    fn handle(&mut self, message: Say, _: &mut Self::Context) -> Self::Result {
        self.lines.push(message.0);
        MessageResult(self.lines.len())
    }
}

impl Handler<Transcript> for ChatRoom {
    type Result = MessageResult<Transcript>;

    fn handle(&mut self, _: Transcript, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.lines.clone())
    }
}

/// From deliveries to the room's messages.
struct RoomChannel {
    room: Addr<ChatRoom>,
}

#[async_trait]
impl Channel for RoomChannel {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let line = format!("{}: {}", delivery.session_id, delivery.content);
        match self.room.send(Say(line)).await {
            Ok(number) => {
                Ok(Receipt { platform_message_id: Some(format!("line-{number}")), ..Receipt::default() })
            }
            // The room ended before it answered: it may or may not have the line.
            Err(error) => Err(SendError::Ambiguous { reason: error.to_string() }),
        }
    }
}

fn main() {
    let data = DataDir::new();
    let agents: Vec<_> = (1..=3)
        .map(|number| {
            let chat = format!("room:{number}");
            data.session(SessionSpec::new("ag-main").id(&format!("sess-{number}")).chat("room", &chat))
        })
        .collect();

    // The application's system, which may run its HTTP server too.
    actix::System::new().block_on(async {
        let room = ChatRoom::default().start();
        let relay = Relay::builder(data.path())
            .channel("room", Arc::new(RoomChannel { room: room.clone() }))
            .start()
            .await
            .expect("the relay starts");

        // Agents write whenever they like, here after the start. The handle can be cloned and kept anywhere.
        for agent in &agents {
            agent.text("hello");
        }
        relay.clone().drain(Duration::from_secs(10)).await;
        let counts = relay.statistics();
        relay.shutdown(Duration::from_secs(5)).await;

        // The relay has ended; the application goes on.
        let lines = room.send(Transcript).await.expect("the room is open");
        for line in &lines {
            println!("{line}");
        }
        assert_eq!((lines.len(), counts.delivered), (3, 3));
    });
    for agent in &agents {
        let receipt = agent.delivered().remove(0);
        assert!(receipt.platform_message_id.is_some_and(|id| id.starts_with("line-")));
    }
}
