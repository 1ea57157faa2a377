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
use nanorelay_actors::settings::{Durability, Watch};
use nanorelay_actors::testing::{DataDir, SessionSpec, database};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A platform that takes everything at once, and notes when.
#[derive(Default)]
struct Platform {
    taken: Mutex<Vec<Instant>>,
}

#[async_trait]
impl Channel for Platform {
    async fn send(&self, _: &Delivery) -> Result<Receipt, SendError> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        Ok(Receipt::default())
    }
}

/// Looks at the ledger as another process would, without a pause, until so many messages are recorded as delivered.
/// Returns when each of them was first seen so: what others can read has reached the kernel.
fn watch(ledger: PathBuf, count: usize) -> Vec<Instant> {
    let connection = database::open(&ledger);
    let mut version = connection.prepare("PRAGMA data_version").expect("a ledger");
    let mut seen = 0_i64;
    let delivered = "SELECT count(*) FROM deliveries WHERE state = 'delivered'";
    let mut delivered = connection.prepare(delivered).expect("a ledger");
    let mut recorded = Vec::new();
    let until = Instant::now() + Duration::from_secs(300);
    while recorded.len() < count && Instant::now() < until {
        let version: i64 = version.query_row([], |row| row.get(0)).expect("a number");
        if version == std::mem::replace(&mut seen, version) {
            // Looking costs the host next to nothing as long as there is nothing new.
            continue;
        }
        let found: u32 = delivered.query_row([], |row| row.get(0)).expect("a count");
        recorded.resize((found as usize).max(recorded.len()), Instant::now());
    }
    recorded
}

/// Delivers `each` messages of each of `sessions` sessions and prints how long the windows were.
async fn measure(sessions: usize, each: usize) {
    let data = DataDir::new();
    let count = sessions * each;
    let agents: Vec<_> = (0..sessions)
        .map(|number| data.session(SessionSpec::new("ag-main").chat("slack", &format!("slack:C{number}"))))
        .collect();
    let mut host = TestHost::new(data.path());
    host.settings.durability = Durability::Power;
    host.settings.watch = Watch::Auto;
    let platform = Arc::new(Platform::default());
    let channel: Arc<dyn Channel> = platform.clone();
    let relay = host.start_with(|builder| builder.channel("slack", channel)).await;
    let ledger = data.path().join("nanorelay.db");
    let watcher = std::thread::spawn(move || watch(ledger, count));
    for agent in &agents {
        agent.rows((0..each).map(|_| agent.text_row("hello")).collect());
    }
    let report = within("the drain", relay.drain(Duration::from_secs(300))).await;
    assert_eq!(report.delivered, count as u64);
    let recorded = watcher.join().expect("the watcher ends");
    relay.shutdown(Duration::from_secs(10)).await;
    let taken = platform.taken.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!((taken.len(), recorded.len()), (count, count), "each was taken once and is recorded");
    // Outcomes are recorded in the order in which the platform took the messages.
    let mut windows: Vec<u128> =
        recorded.iter().zip(taken.iter()).map(|(recorded, taken)| (*recorded - *taken).as_micros()).collect();
    windows.sort_unstable();
    let at = |part: usize| windows[(count - 1) * part / 1000];
    println!(
        "{sessions} sessions x {each}: from taken to recorded p50 {} µs, p90 {}, p99 {}, max {}",
        at(500),
        at(900),
        at(990),
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
