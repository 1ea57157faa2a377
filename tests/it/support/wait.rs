//! Waiting for what must happen, with a bound: a test that waits in vain fails and says where.

use nanorelay_actors::relay::Relay;
use nanorelay_actors::report::{DeliveryFilter, DeliveryRecord};
use nanorelay_actors::testing::MockChannel;
use std::future::Future;
use std::time::Duration;

/// Far longer than anything takes, on a slow machine under load too.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that tells nobody when it changes, as a file.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// Waits for `event`.
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Looks again and again until `condition` holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let looked = async {
        while !condition() {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    within(what, looked).await;
}

/// Waits until the channel has shown `count` messages.
pub async fn shown(channel: &MockChannel, count: usize) {
    let waited = tokio::time::timeout(PATIENCE, channel.wait_for_shown(count)).await;
    assert!(waited.is_ok(), "{} of {count} messages were shown", channel.shown().len());
}

/// Waits until the channel was called `count` times.
pub async fn called(channel: &MockChannel, count: usize) {
    let waited = tokio::time::timeout(PATIENCE, channel.wait_for(count)).await;
    assert!(waited.is_ok(), "{} of {count} calls were made", channel.calls().len());
}

/// Waits until the relay has nothing to do.
pub async fn settled(relay: &Relay) {
    within("the relay settles", relay.settle()).await;
}

/// Waits until `count` actors were restarted since the start, or are about to be.
pub async fn restarted(relay: &Relay, count: u64) {
    until("actors are restarted", || relay.statistics().restarts >= count).await;
}

/// Waits until the ledger's record of a message is as wanted, and returns it.
pub async fn record(
    relay: &Relay,
    message_id: &str,
    is_wanted: impl Fn(&DeliveryRecord) -> bool,
) -> DeliveryRecord {
    let filter = DeliveryFilter { message_id: Some(message_id.to_owned()), ..DeliveryFilter::default() };
    let look = async {
        loop {
            let records = relay.deliveries(filter.clone()).await.expect("the ledger can be read");
            if let Some(record) = records.into_iter().find(|record| is_wanted(record)) {
                return record;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    within(&format!("the record of {message_id}"), look).await
}

/// Waits until a session is listed as one that cannot be served, or that none is.
pub async fn quarantined(relay: &Relay, is_wanted: bool) {
    let look = async {
        while relay.quarantined().await.expect("the ledger can be read").is_empty() == is_wanted {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    within("sessions in quarantine", look).await;
}
