//! Deliveries: once, whoever asks, and each with its own count of tries.

use crate::support::host::TestHost;
use crate::support::program::nanorelay;
use crate::support::sink::Sink;
use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::testing::{Answer, DataDir, SessionSpec, TestAgent};
use std::fs;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

fn session(data: &DataDir) -> TestAgent {
    data.session(SessionSpec::new("ag-main").id("sess-a").chat("slack", "slack:C1"))
}

#[actix_rt::test]
async fn two_drains_at_the_same_time_deliver_each_message_once() {
    let data = DataDir::new();
    let agent = session(&data);
    let ids: Vec<String> = (0..20).map(|number| agent.text(&number.to_string())).collect();
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let relay = host.start().await;
    tokio::join!(relay.drain(DEADLINE), relay.drain(DEADLINE));
    slack.assert_exactly_once(&ids);
    slack.assert_lane_order();
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_drain_after_another_delivers_what_was_written_in_between() {
    let data = DataDir::new();
    let agent = session(&data);
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let relay = host.start().await;
    let first = agent.text("one");
    relay.drain(DEADLINE).await;
    slack.assert_exactly_once(std::slice::from_ref(&first));
    let second = agent.text("two");
    relay.drain(DEADLINE).await;
    slack.assert_exactly_once(&[first, second]);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn tries_of_one_message_count_for_no_other() {
    let data = DataDir::new();
    let agent = session(&data);
    let ids = ["one", "two", "three"].map(|text| agent.text(text));
    let mut host = TestHost::new(data.path());
    host.settings.retry.transient.attempts_max = Some(3);
    host.channel_settings.breaker.failures = 0;
    let slack = host.channel("slack");
    for id in &ids {
        slack.on_message(id, [Answer::transient("busy"), Answer::transient("busy")]);
    }
    let run = host.drain().await;
    assert_eq!((run.report.delivered, run.report.dead), (3, 0), "six failures in a row are two for each");
    for id in &ids {
        let record = run.record("sess-a", id).expect("it is listed");
        assert_eq!((record.state, record.attempts), (DeliveryState::Delivered, 3));
    }
}

#[test]
fn a_time_without_a_zone_is_utc_whatever_the_hosts_zone() {
    for zone in ["America/Los_Angeles", "Pacific/Kiritimati"] {
        let data = DataDir::new();
        let agent = session(&data);
        fs::write(data.path().join("nanorelay.toml"), Sink::table("*")).unwrap();
        let now = SystemClock.now().as_ms();
        let at = |ms: i64| Timestamp::from_ms(ms / 1000 * 1000).to_sqlite();
        let due = agent.row(agent.text_row("due").deliver_after(&at(now - HOUR_MS)));
        agent.row(agent.text_row("not due").deliver_after(&at(now + HOUR_MS)));
        nanorelay(&["drain"]).data(data.path()).env("TZ", zone).run().expect_code(0);
        assert_eq!(Sink::of(data.path()).ids(), [due], "{zone}");
    }
}
