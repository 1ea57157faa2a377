//! Operations on one session's files fail.

use crate::red_team::battle::{Battle, within};
use crate::support::wait::{quarantined, until};
use nanorelay_actors::testing::RowSpec;
use nanorelay_actors::testing::fault::{Fault, Operation};
use rustix::io::Errno;
use std::time::Duration;

/// What a fault must not keep from happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// The platform takes the message; only the agent is not told yet.
    AtOnce,
    /// Nobody can read the message before the fault is gone.
    Afterwards,
}

/// Lets an operation on a file, or in the session's folder, fail while messages flow.
async fn check(file: &str, operation: Operation, errno: Errno, words: &str, sent: Sent) {
    println!("{operation:?} of {file:?}: {errno}");
    let battle = Battle::new();
    let mut ids = vec![battle.victim.text("before")];
    let relay = battle.start().await;
    battle.is_shown(&ids[0]).await;
    within("the relay settles", relay.settle()).await;

    let fault = Fault::on(&battle.path(file), operation, errno);
    let content = r#"{"text":"look","files":["a.txt"]}"#.to_owned();
    let row = RowSpec { content, ..battle.victim.text_row("") }.file("a.txt", "hello");
    ids.extend([battle.victim.row(row), battle.victim.text("meanwhile")]);
    battle.neighbour_is_served().await;
    battle.is_quarantined_soon(&relay, words).await;
    if sent == Sent::AtOnce {
        for id in &ids {
            battle.is_shown(id).await;
        }
    }
    battle.neighbour_is_served().await;
    assert_eq!(battle.victim.delivered().len(), 1, "nothing more can be told");
    assert!(
        battle.victim.outbox().join(&ids[1]).join("a.txt").exists(),
        "files stay until the agent is told"
    );
    assert!(fault.hits() > 0);

    drop(fault);
    ids.push(battle.victim.text("afterwards"));
    for id in &ids {
        battle.is_shown(id).await;
    }
    quarantined(&relay, false).await;
    until("the agent is told", || battle.victim.delivered().len() == ids.len()).await;
    within("the relay settles", relay.settle()).await;
    assert!(!battle.victim.outbox().join(&ids[1]).exists());
    let calls = battle.slack.calls();
    let order: Vec<&str> = calls
        .iter()
        .filter(|call| call.session_id.as_str() == battle.victim.session_id())
        .map(|call| call.message_id.as_str())
        .collect();
    assert_eq!(order, ids, "each once and in order");
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_full_disk_under_one_inbox_delays_what_its_agent_is_told() {
    let words = "cannot write inbound.db: No space left on device";
    check("inbound.db", Operation::Write, Errno::NOSPC, words, Sent::AtOnce).await;
}

#[actix_rt::test]
async fn a_disk_that_cannot_write_one_inbox_delays_what_its_agent_is_told() {
    let words = "cannot write inbound.db: Input/output error";
    check("inbound.db", Operation::Write, Errno::IO, words, Sent::AtOnce).await;
}

#[actix_rt::test]
async fn a_disk_that_cannot_sync_one_inbox_delays_what_its_agent_is_told() {
    let words = "cannot sync inbound.db: Input/output error";
    check("inbound.db", Operation::Sync, Errno::IO, words, Sent::AtOnce).await;
}

#[actix_rt::test]
async fn a_disk_that_cannot_read_one_inbox_holds_up_its_session_only() {
    let words = "cannot read inbound.db: Input/output error";
    check("inbound.db", Operation::Read, Errno::IO, words, Sent::Afterwards).await;
}

#[actix_rt::test]
async fn a_disk_that_cannot_read_one_outbox_holds_up_its_session_only() {
    let words = "cannot read outbound.db: Input/output error";
    check("outbound.db", Operation::Read, Errno::IO, words, Sent::Afterwards).await;
}

#[actix_rt::test]
async fn a_session_folder_that_is_read_only_delays_what_its_agent_is_told() {
    check("", Operation::Create, Errno::ROFS, "Read-only file system", Sent::AtOnce).await;
}

#[actix_rt::test]
async fn a_session_folder_without_room_for_a_journal_delays_what_its_agent_is_told() {
    check("", Operation::Create, Errno::NOSPC, "No space left on device", Sent::AtOnce).await;
}

#[actix_rt::test]
async fn a_reason_that_no_longer_holds_is_gone_after_a_restart() {
    let battle = Battle::new();
    let id = battle.victim.text("hello");
    let fault = Fault::on(&battle.path("inbound.db"), Operation::Read, Errno::IO);
    let relay = battle.start().await;
    battle.is_quarantined(&relay, "cannot read inbound.db").await;
    within("the shutdown", relay.shutdown(Duration::from_secs(5))).await;
    drop(relay);
    drop(fault);
    let run = battle.host.drain().await;
    assert_eq!((run.report.delivered, run.report.held), (1, 0));
    battle.slack.assert_exactly_once(&[id]);
}
