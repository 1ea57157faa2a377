//! A channel of your own: implement one small trait, and the engine does the rest.
//!
//! The channel here writes to a notice board in memory. It makes one try at a time and says how it went; order,
//! retries, limits and records are the engine's.
//!
//! Run it: `cargo run --example own_channel`

use async_trait::async_trait;
use nanorelay_actors::channel::adapter::{Channel, Delivery};
use nanorelay_actors::model::content::{Content, Shape};
use nanorelay_actors::model::error::{Receipt, SendError};
use nanorelay_actors::relay::Relay;
use nanorelay_actors::report::{DeliveryFilter, DeliveryState};
use nanorelay_actors::testing::{DataDir, SessionSpec};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The platform: a board with room for so many characters in a note.
#[derive(Default)]
struct NoticeBoard {
    notes: Mutex<Vec<String>>,
}

const NOTE_CHARS_MAX: usize = 40;

#[async_trait]
impl Channel for NoticeBoard {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        // What an agent wrote is judged by shape. What this platform cannot show is refused for good: the
        // message is then dead, with this reason, and the agent is told.
        let unfit = |reason: String| SendError::Permanent { reason };
        let content = Content::parse(&delivery.content).map_err(|error| unfit(error.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(&delivery.content).map_err(|error| unfit(error.to_string()))?;
        let (Shape::Message, Some(text)) = (content.shape, value["text"].as_str()) else {
            return Err(unfit("a notice board shows text only".to_owned()));
        };
        if text.chars().count() > NOTE_CHARS_MAX {
            return Err(unfit(format!("a note has at most {NOTE_CHARS_MAX} characters")));
        }
        // Only now the platform has the message. The receipt names it, so that the agent can edit it later.
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(text.to_owned());
        Ok(Receipt { platform_message_id: Some(format!("note-{}", notes.len())), ..Receipt::default() })
    }
}

fn main() {
    // A data directory with one session, and the agent of that session. Yours is made by NanoClaw.
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-main").chat("board", "board:hall"));
    agent.text("Lunch is at noon.");
    agent.text("This note is far too long to be put up on a board in the hall.");
    agent.text("Bring a spoon.");

    let board = Arc::new(NoticeBoard::default());
    actix::System::new().block_on(async {
        let relay = Relay::builder(data.path())
            .channel("board", board.clone())
            .start()
            .await
            .expect("the relay starts");
        let report = relay.drain(Duration::from_secs(10)).await;
        assert_eq!((report.delivered, report.dead), (2, 1));

        let dead = DeliveryFilter { states: vec![DeliveryState::Dead], ..DeliveryFilter::default() };
        for record in relay.deliveries(dead).await.expect("the ledger can be read") {
            println!("dead: {} ({})", record.message_id, record.error.unwrap_or_default());
        }
        relay.shutdown(Duration::from_secs(5)).await;
    });

    let notes = board.notes.lock().unwrap_or_else(PoisonError::into_inner);
    for note in notes.iter() {
        println!("on the board: {note}");
    }
    assert_eq!(*notes, ["Lunch is at noon.", "Bring a spoon."]);
}
