//! The ledger cannot be written, or not be synced: nothing is sent without a record, nothing is sent again.

use crate::serve::configure;
use crate::support::host::TestHost;
use crate::support::log::Log;
use crate::support::process::Other;
use crate::support::program::{PATIENCE, nanorelay};
use crate::support::sink::Sink;
use crate::support::wait::{called, settled, shown, until};
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::settings::{Durability, OnAmbiguous};
use nanorelay_actors::testing::fault::{Fault, Operation};
use nanorelay_actors::testing::{Answer, DataDir, SessionSpec, TestAgent};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use std::time::{Duration, Instant};

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);
const LOCKED_FOR: Duration = Duration::from_secs(30);

fn session(data: &DataDir, number: usize) -> TestAgent {
    data.session(SessionSpec::new("ag-main").chat("slack", &format!("slack:C{number}")))
}

#[actix_rt::test]
async fn a_ledger_that_is_locked_for_half_a_minute_repeats_no_send() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..3).map(|number| session(&data, number)).collect();
    let mut ids: Vec<_> = agents.iter().map(|agent| agent.text("hello")).collect();
    ids.push(agents[0].text("next"));
    let (mut host, log) = (TestHost::new(data.path()), Log::default());
    let slack = host.channel("slack");
    slack.script(|_| Answer::gate());
    let relay = host.start_with(|builder| builder.logger(log.logger())).await;
    called(&slack, 3).await;
    let locker = Other::holding_write_lock(&data.path().join("nanorelay.db"));
    slack.open_gate();
    let locked_at = Instant::now();
    // SQLite gives up after its own 5 s, again and again.
    until("records fail for half a minute", || {
        log.count("outcome not recorded yet") >= 3 && locked_at.elapsed() >= LOCKED_FOR
    })
    .await;
    assert_eq!(slack.calls().len(), 3, "without a record there is no attempt");
    locker.stop();
    shown(&slack, 4).await;
    settled(&relay).await;
    slack.assert_exactly_once(&ids);
    assert_eq!(slack.calls().len(), 4);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(agents[0].delivered().len(), 2);
}

#[actix_rt::test]
async fn without_a_synced_record_nothing_is_sent() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..3).map(|number| session(&data, number)).collect();
    let first = agents[0].text("before");
    let (mut host, log) = (TestHost::new(data.path()), Log::default());
    host.settings.durability = Durability::Power;
    let slack = host.channel("slack");
    let relay = host.start_with(|builder| builder.logger(log.logger())).await;
    shown(&slack, 1).await;
    settled(&relay).await;

    let fault = Fault::on(&data.path().join("nanorelay.db-wal"), Operation::Sync, Errno::IO);
    let mut ids: Vec<_> = agents.iter().map(|agent| agent.text("meanwhile")).collect();
    until("attempts fail", || log.count("attempt not recorded, not sent") >= 3).await;
    assert_eq!(slack.calls().len(), 1, "without a synced record there is no attempt");
    drop(fault);
    shown(&slack, 4).await;
    settled(&relay).await;
    ids.push(first);
    slack.assert_exactly_once(&ids);
    let records = relay.deliveries(Default::default()).await.expect("the ledger can be read");
    for record in records {
        assert_eq!((record.state, record.attempts), (DeliveryState::Delivered, 1), "{record:?}");
    }
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_channel_that_would_send_again_waits_for_the_disk_too_once_a_sync_has_failed() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..3).map(|number| session(&data, number)).collect();
    let mut ids = vec![agents[0].text("before")];
    let (mut host, log) = (TestHost::new(data.path()), Log::default());
    host.settings.durability = Durability::Power;
    host.channel_settings.on_ambiguous = OnAmbiguous::Resend;
    let slack = host.channel("slack");
    let relay = host.start_with(|builder| builder.logger(log.logger())).await;
    shown(&slack, 1).await;
    settled(&relay).await;

    let fault = Fault::on(&data.path().join("nanorelay.db-wal"), Operation::Sync, Errno::IO);
    ids.push(agents[0].text("does not wait for the disk"));
    shown(&slack, 2).await;
    until("the sync in the background fails", || fault.hits() > 0).await;
    settled(&relay).await;
    ids.extend(agents.iter().map(|agent| agent.text("waits for the disk")));
    until("attempts fail", || log.count("attempt not recorded, not sent") >= 3).await;
    assert_eq!(slack.calls().len(), 2);
    drop(fault);
    shown(&slack, 5).await;
    settled(&relay).await;
    slack.assert_exactly_once(&ids);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_ledger_that_cannot_be_read_stops_lists_and_starts_with_its_reason_and_no_message() {
    let data = DataDir::new();
    let agent = session(&data, 0);
    let mut ids = vec![agent.text("before")];
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let relay = host.start().await;
    shown(&slack, 1).await;
    settled(&relay).await;

    let words = "cannot read nanorelay.db: Input/output error";
    let fault = Fault::on(&data.path().join("nanorelay.db"), Operation::Read, Errno::IO);
    let error = relay.deliveries(Default::default()).await.expect_err("it cannot be read").to_string();
    assert!(error.contains(words), "{error}");
    ids.push(agent.text("what a session needs to know is in memory"));
    shown(&slack, 2).await;
    settled(&relay).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    ids.push(agent.text("waits for the next life"));
    let error = host.builder().start().await.expect_err("it cannot be read").to_string();
    assert!(error.contains(words), "{error}");

    drop(fault);
    assert_eq!(host.drain().await.report.delivered, 1);
    slack.assert_exactly_once(&ids);
}

#[test]
fn a_host_that_may_not_write_its_ledger_lives_and_sends_nothing_until_it_may() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..20).map(|number| session(&data, number)).collect();
    configure(&data, &format!("[delivery]\npoll_interval = \"50ms\"\n{}", Sink::table("*")));
    let sink = Sink::of(data.path());
    let mut host = nanorelay(&["serve"]).data(data.path()).start();
    host.wait_for_log("ready");
    let mut ids: Vec<String> = agents.iter().map(|agent| agent.text("before")).collect();
    sink.wait_for(20);
    assert!(sink.wait_until(PATIENCE, || agents.iter().all(|agent| agent.delivered().len() == 1)));

    // The kernel refuses every write behind the end of the log.
    let log_size = std::fs::metadata(data.path().join("nanorelay.db-wal")).expect("a log").len();
    let before = host.limit(Resource::Fsize, Rlimit { current: Some(log_size), maximum: None });
    ids.extend(agents.iter().map(|agent| agent.text("meanwhile")));
    let trouble = host.wait_for_log("session is in trouble");
    assert!(trouble.to_string().contains("ledger"), "{trouble}");
    assert_eq!(sink.count(), 20, "without a record nothing is sent");
    host.limit(Resource::Fsize, before);
    sink.wait_for(40);
    ids.extend(agents.iter().map(|agent| agent.text("afterwards")));
    sink.wait_for(60);
    assert!(sink.wait_until(PATIENCE, || agents.iter().all(|agent| agent.delivered().len() == 3)));
    host.signal(rustix::process::Signal::TERM);
    host.finish().expect_code(0);
    let mut found = sink.ids();
    found.sort();
    ids.sort();
    assert_eq!(found, ids, "each once");
}
