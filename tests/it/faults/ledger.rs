//! The ledger cannot be written, or not be synced: nothing is sent without a record, nothing is sent again.

use crate::support::host::TestHost;
use crate::support::log::Log;
use crate::support::process::Other;
use crate::support::wait::{called, settled, shown, until};
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::settings::Durability;
use nanorelay_actors::testing::fault::{Fault, Operation};
use nanorelay_actors::testing::{Answer, DataDir, SessionSpec, TestAgent};
use rustix::io::Errno;
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

fn session(data: &DataDir, number: usize) -> TestAgent {
    data.session(SessionSpec::new("ag-main").chat("slack", &format!("slack:C{number}")))
}

#[actix_rt::test]
async fn a_ledger_that_is_locked_for_longer_than_anybody_waits_repeats_no_send() {
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
    // SQLite gives up after its own 5 s.
    until("a record fails", || log.count("outcome not recorded yet") >= 3).await;
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
