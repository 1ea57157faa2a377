//! Locks that are held for ever, and writers that never stop (hazard H5, D13).

use super::attacker::Attacker;
use super::battle::{Battle, within};

#[actix_rt::test]
async fn an_exclusive_lock_on_outbound_db_stops_that_session_only() {
    let battle = Battle::new();
    let id = battle.victim.text("behind the lock");
    let attacker = Attacker::lock(&battle.path("outbound.db"));
    let relay = battle.start().await;
    battle.neighbour_is_served().await;
    battle.is_quarantined(&relay, "outbound.db is locked").await;
    drop(attacker);
    battle.release(&relay).await;
    battle.is_shown(&id).await;
    battle.is_not_quarantined(&relay).await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn an_exclusive_lock_on_inbound_db_delays_the_receipt_and_sends_nothing_twice() {
    let battle = Battle::new();
    let relay = battle.start().await;
    let first = battle.victim.text("before the lock");
    battle.is_shown(&first).await;
    within("the relay settles", relay.settle()).await;
    let attacker = Attacker::lock(&battle.path("inbound.db"));
    let database = nanorelay_actors::testing::database::open(&battle.path("outbound.db"));
    // The agent itself cannot read its inbox now: the row is written by hand.
    database
        .execute(
            "INSERT INTO messages_out (id, seq, timestamp, kind, channel_type, platform_id, content)
             VALUES ('second', 99, '', 'chat', 'slack', 'slack:EVIL', '{\"text\":\"x\"}')",
            [],
        )
        .expect("a row");
    drop(database);
    battle.neighbour_is_served().await;
    battle.is_quarantined_soon(&relay, "inbound.db is locked").await;
    drop(attacker);
    battle.release(&relay).await;
    battle.is_not_quarantined(&relay).await;
    battle.is_shown("second").await;
    battle.look(&relay).await;
    let delivered: Vec<String> =
        battle.victim.delivered().into_iter().map(|row| row.message_out_id).collect();
    assert_eq!(delivered, [first, "second".to_owned()]);
    assert_eq!(
        battle.slack.calls().iter().filter(|call| call.session_id.as_str() == "sess-victim").count(),
        2
    );
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_writer_that_never_stops_starves_nobody() {
    let battle = Battle::new();
    let id = battle.victim.text("in the noise");
    let attacker = Attacker::write(&battle.path("outbound.db"));
    let relay = battle.start().await;
    for _ in 0..5 {
        battle.neighbour_is_served().await;
    }
    // Whether the victim gets through is between it and itself.
    drop(attacker);
    battle.look(&relay).await;
    battle.is_shown(&id).await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_hot_journal_is_rolled_back_when_its_agent_is_gone() {
    let battle = Battle::with(|spec| spec.stopped());
    let id = battle.victim.text("committed");
    drop(Attacker::half_commit(&battle.path("outbound.db")));
    assert!(battle.path("outbound.db-journal").exists(), "the journal is hot");
    let relay = battle.start().await;
    battle.is_shown(&id).await;
    let texts: Vec<String> = battle.slack.calls().iter().map(|call| call.content.clone()).collect();
    assert!(texts.iter().all(|text| !text.contains("never committed")), "{texts:?}");
    battle.end(relay).await;
}
