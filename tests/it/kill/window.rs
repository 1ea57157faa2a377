//! How long a message that a platform has taken is without a record of it: whoever dies in between sends it again,
//! or cannot tell.
//!
//! `cargo test --test it kill::window -- --nocapture` prints the figures; `NANORELAY_WINDOW_MESSAGES` chooses how
//! many messages of each session are measured.

use super::number;
use crate::support::host::TestHost;
use crate::support::wait::within;
use async_trait::async_trait;
use nanorelay_actors::channel::adapter::{Channel, Delivery};
use nanorelay_actors::model::error::{Receipt, SendError};
use nanorelay_actors::settings::{ChannelSettings, Durability, Watch};
use nanorelay_actors::testing::{DataDir, SessionSpec};
use slog::{Drain, Key, OwnedKVList, Record, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The two ends of each message's window, by message id.
#[derive(Default)]
struct Stopwatch {
    taken: Mutex<BTreeMap<String, Instant>>,
    windows: Mutex<BTreeMap<String, Duration>>,
}

/// A platform that takes everything at once.
#[async_trait]
impl Channel for Stopwatch {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let id = delivery.message_id.to_string();
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Instant::now());
        Ok(Receipt::default())
    }
}

/// The log says `delivered` as soon as the outcome is known to be in the kernel: a little later than it is.
struct Log(Arc<Stopwatch>);

impl Drain for Log {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        let now = Instant::now();
        if record.msg().to_string() == "delivered" {
            let mut id = MessageId(String::new());
            let _ = slog::KV::serialize(&record.kv(), record, &mut id);
            let taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let window = now.duration_since(taken[&id.0]);
            self.0.windows.lock().unwrap_or_else(PoisonError::into_inner).insert(id.0, window);
        }
        Ok(())
    }
}

/// Finds the message id among the values of a log record.
struct MessageId(String);

impl Serializer for MessageId {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        if key == "msg_id" {
            self.0 = value.to_string();
        }
        Ok(())
    }
}

/// Delivers `each` messages of each of `sessions` sessions and prints how long the windows were.
async fn measure(sessions: usize, each: usize) {
    let data = DataDir::new();
    let mut ids = Vec::new();
    for number in 0..sessions {
        let chat = format!("slack:C{number}");
        let agent = data.session(SessionSpec::new("ag-main").chat("slack", &chat));
        ids.extend(agent.rows((0..each).map(|_| agent.text_row("hello")).collect()));
    }
    let mut host = TestHost::new(data.path());
    host.settings.durability = Durability::Power;
    host.settings.watch = Watch::Auto;
    let stopwatch = Arc::new(Stopwatch::default());
    let logger = slog::Logger::root(Log(Arc::clone(&stopwatch)).fuse(), slog::o!());
    let channel: Arc<dyn Channel> = stopwatch.clone();
    let choose = |builder: nanorelay_actors::relay::RelayBuilder| {
        builder.logger(logger).channel("slack", channel, ChannelSettings::default())
    };
    let relay = host.start_with(choose).await;
    let report = within("the drain", relay.drain(Duration::from_secs(300))).await;
    relay.shutdown(Duration::from_secs(10)).await;
    assert_eq!(report.delivered, ids.len() as u64);
    let windows = std::mem::take(&mut *stopwatch.windows.lock().unwrap_or_else(PoisonError::into_inner));
    assert!(
        windows.keys().eq(ids.iter().collect::<std::collections::BTreeSet<_>>()),
        "one window for each message"
    );
    let mut sorted: Vec<u128> = windows.values().map(Duration::as_micros).collect();
    sorted.sort_unstable();
    let at = |part: usize| sorted[(sorted.len() - 1) * part / 1000];
    println!(
        "{sessions} sessions x {each}: from taken to recorded p50 {} µs, p90 {}, p99 {}, p99.9 {}, max {}",
        at(500),
        at(900),
        at(990),
        at(999),
        at(1000),
    );
}

#[actix_rt::test]
async fn every_message_that_was_taken_is_recorded_one_at_a_time() {
    measure(1, number("NANORELAY_WINDOW_MESSAGES", 50)).await;
}

#[actix_rt::test]
async fn every_message_that_was_taken_is_recorded_with_hundreds_in_flight() {
    measure(200, number("NANORELAY_WINDOW_MESSAGES", 5)).await;
}
