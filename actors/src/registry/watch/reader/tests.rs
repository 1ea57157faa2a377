use super::*;
use crate::channel::adapter::Channel;
use crate::relay::Relay;
use crate::settings::{Settings, Watch};
use crate::testing::{DataDir, MockChannel, SessionSpec};
use std::collections::BTreeSet;
use std::sync::Arc;

const NEVER: Duration = Duration::from_secs(3600);
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// A relay that hears of nothing by itself.
async fn deaf_relay(data: &DataDir, channel: &Arc<MockChannel>) -> Relay {
    let settings =
        Settings { watch: Watch::Poll, poll_interval: NEVER, sweep_interval: NEVER, ..Settings::default() };
    let channel: Arc<dyn Channel> = channel.clone();
    let builder = Relay::builder(data.path()).settings(settings);
    builder.channel("slack", channel).start().await.unwrap()
}

fn overflow(reader: &mut EventReader, engine: &Engine) {
    let inotify = Inotify::init().unwrap();
    let any = inotify.watches().add("/proc/self/fd", inotify::WatchMask::DELETE).unwrap();
    reader.event(engine, &any, EventMask::Q_OVERFLOW, None);
}

#[actix_rt::test]
async fn after_lost_events_every_session_that_has_written_is_found_and_the_next_comparison_waits() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..8)
        .map(|number| {
            let spec = SessionSpec::new("ag").id(&format!("sess-{number}"));
            data.session(spec.chat("slack", &format!("slack:C{number}")))
        })
        .collect();
    let slack = MockChannel::new();
    let relay = deaf_relay(&data, &slack).await;
    relay.settle().await;
    let ids: BTreeSet<_> = agents.iter().step_by(2).map(|agent| agent.text("unheard")).collect();
    let engine = relay.engine();
    let mut reader = EventReader::new(Arc::downgrade(engine), Watched::default());
    assert_eq!(reader.rescan.wait(), None, "nothing is lost yet");
    overflow(&mut reader, engine);
    reader.rescan.run_if_due(engine);
    tokio::time::timeout(PATIENCE, slack.wait_for_shown(ids.len())).await.unwrap();
    let shown: BTreeSet<_> = slack.shown().iter().map(|call| call.message_id.to_string()).collect();
    assert_eq!(shown, ids);

    // An agent that makes events overflow all the time costs one comparison in so many seconds.
    overflow(&mut reader, engine);
    let wait = reader.rescan.wait().unwrap();
    assert!(!wait.is_zero() && wait <= OVERFLOW_RESCAN_INTERVAL, "{wait:?}");
    reader.rescan.run_if_due(engine);
    assert!(reader.rescan.is_wanted, "it waits for its time");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}
