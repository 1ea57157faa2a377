//! Testing with mock channel actors: real session folders, a scripted channel, and assertions that explain.
//!
//! What `main` does here belongs into a test of your own, marked `#[actix_rt::test]`. The harness is the feature
//! `testing` of `nanorelay-actors`; put it under `[dev-dependencies]`.
//!
//! Run it: `cargo run --example mock_channel_test`

use nanorelay_actors::relay::Relay;
use nanorelay_actors::report::{DeliveryFilter, DeliveryState};
use nanorelay_actors::settings::{Durability, Settings};
use nanorelay_actors::testing::{Answer, DataDir, MockChannel, SessionSpec};
use std::time::Duration;

/// Retries take milliseconds, and nothing is synced to the disk.
fn fast() -> Settings {
    let mut settings = Settings { durability: Durability::Process, ..Settings::default() };
    settings.retry.rate_limited.base = Duration::from_millis(5);
    settings.retry.transient.base = Duration::from_millis(5);
    settings.retry.transient.attempts_max = Some(3);
    settings
}

fn main() {
    let data = DataDir::new();
    let ada = data.session(SessionSpec::new("ag-ada").chat("slack", "slack:C1"));
    let ben = data.session(SessionSpec::new("ag-ben").chat("slack", "slack:C2"));

    // The platform's part, written down before: asks Ada to slow down, then loses a connection, then accepts.
    let slack = MockChannel::new();
    let hint = Some(Duration::from_millis(100));
    let first = ada.text("first");
    slack.on_message(&first, [Answer::rate_limited(hint), Answer::transient("bad gateway"), Answer::Accept]);
    let second = ada.text("second");
    // One of Ben's messages is refused for good, one hits a bug in the channel.
    let refused = ben.text("poison");
    slack.on_text("poison", [Answer::permanent("blocked by the platform")]);
    let unlucky = ben.text("boom");
    slack.on_message(&unlucky, [Answer::Panic("a bug in the channel".to_owned())]);
    let last = ben.file("a report", "report.csv", b"a,b\n1,2\n");

    // The panic is part of the play; without this it would be printed.
    std::panic::set_hook(Box::new(|_| {}));
    let states = actix::System::new().block_on(async {
        let relay = Relay::builder(data.path())
            .channel("slack", slack.clone())
            .settings(fast())
            .start()
            .await
            .expect("the relay starts");
        relay.drain(Duration::from_secs(10)).await;
        let records = relay.deliveries(DeliveryFilter::default()).await.expect("the ledger can be read");
        relay.shutdown(Duration::from_secs(5)).await;
        let state_of =
            |id: &str| records.iter().find(|record| record.message_id == id).map(|record| record.state);
        [state_of(&refused), state_of(&unlucky)]
    });
    let _ = std::panic::take_hook();

    // What reached the platform.
    slack.assert_exactly_once(&[&first, &second, &last]);
    slack.assert_lane_order();
    slack.assert_never_early();
    let with_file =
        slack.shown().into_iter().find(|call| call.message_id.as_str() == last).expect("it was shown");
    assert_eq!((with_file.files[0].name.as_str(), with_file.files[0].size), ("report.csv", 8));

    // What the ledger says of the two others: one is dead, of the other nobody knows whether it was sent.
    assert_eq!(states, [Some(DeliveryState::Dead), Some(DeliveryState::Ambiguous)]);

    // What the agents see in their own files.
    assert_eq!(ada.delivered().len(), 2);
    let notice = ben.messages_in().pop().expect("the failure is told");
    assert!(notice.content.contains("blocked by the platform"), "{}", notice.content);

    for call in slack.calls() {
        println!("call {}: {} attempt {} → {:?}", call.number, call.message_id, call.attempt, call.outcome);
    }
}
