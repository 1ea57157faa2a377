//! Names that are exchanged between a check and a use, by another process, for seconds (hazards H1, H2, H8).

use super::attacker::Attacker;
use super::battle::{Battle, SECRET, within};
use nanorelay_actors::report::{DeliveryFilter, DeliveryState};
use nanorelay_actors::testing::database;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RACE_TIME: Duration = Duration::from_millis(2500);

/// Writes messages with a file for as long as the race lasts; each is delivered with the agent's own bytes or dead.
async fn race(battle: Battle, swap: impl Fn(&Battle, usize) -> (PathBuf, PathBuf)) {
    let relay = battle.start().await;
    let started = Instant::now();
    let mut rounds = 0;
    while started.elapsed() < RACE_TIME || rounds < 3 {
        let id = battle.message_with_file_folder(&format!("race-{rounds}"));
        let (a, b) = swap(&battle, rounds);
        let attacker = Attacker::swap(&a, &b);
        battle.write_row_of(&id);
        battle.look(&relay).await;
        battle.neighbour_is_served().await;
        drop(attacker);
        rounds += 1;
    }
    let filter = DeliveryFilter { session_id: Some("sess-victim".to_owned()), ..DeliveryFilter::default() };
    for record in relay.deliveries(filter).await.expect("the ledger can be read") {
        let settled = matches!(record.state, DeliveryState::Delivered | DeliveryState::Dead);
        assert!(settled || record.state == DeliveryState::Retrying, "{record:?}");
    }
    battle.end(relay).await;
}

fn link_beside(place: &Path, target: &Path) -> PathBuf {
    let link = place.with_extension("swap");
    let _ = fs::remove_file(&link);
    symlink(target, &link).expect("a link");
    link
}

#[actix_rt::test]
async fn an_attachment_that_turns_into_a_link_is_never_followed() {
    race(Battle::new(), |battle, round| {
        let file = battle.path(&format!("outbox/race-{round}/report.txt"));
        let link = link_beside(&file, &battle.outside.join("secret.txt"));
        (file, link)
    })
    .await;
}

#[actix_rt::test]
async fn an_outbox_folder_that_turns_into_a_link_is_never_followed() {
    race(Battle::new(), |battle, round| {
        let folder = battle.path(&format!("outbox/race-{round}"));
        let link = link_beside(&folder, &battle.outside.join("folder"));
        (folder, link)
    })
    .await;
}

#[actix_rt::test]
async fn databases_that_turn_into_links_are_never_followed() {
    for name in ["outbound.db", "inbound.db"] {
        let battle = Battle::new();
        let relay = battle.start().await;
        let link = battle.path("link");
        symlink(battle.outside.join(name), &link).expect("a link");
        let attacker = Attacker::swap(&battle.path(name), &link);
        let started = Instant::now();
        while started.elapsed() < RACE_TIME {
            battle.look(&relay).await;
            battle.neighbour_is_served().await;
        }
        drop(attacker);
        battle.end(relay).await;
    }
}

#[actix_rt::test]
async fn a_session_folder_that_is_exchanged_is_never_another_ones() {
    let battle = Battle::new();
    let relay = battle.start().await;
    let link = battle.victim.folder().with_extension("swap");
    symlink(&battle.outside, &link).expect("a link");
    let attacker = Attacker::swap(battle.victim.folder(), &link);
    let started = Instant::now();
    while started.elapsed() < RACE_TIME {
        battle.look(&relay).await;
        battle.neighbour_is_served().await;
    }
    drop(attacker);
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_database_that_was_replaced_is_read_anew_and_sends_nothing_twice() {
    let battle = Battle::new();
    let first = battle.victim.text("from the first file");
    let relay = battle.start().await;
    battle.is_shown(&first).await;
    let (place, other) = (battle.path("outbound.db"), battle.path("other.db"));
    fs::copy(&place, &other).expect("a copy");
    let content = "{\"text\":\"from the second file\"}";
    database::open(&other)
        .execute(
            "INSERT INTO messages_out (id, seq, timestamp, kind, channel_type, platform_id, content)
             VALUES ('second', 99, '', 'chat', 'slack', 'slack:EVIL', ?1)",
            [content],
        )
        .expect("a row");
    fs::rename(&other, &place).expect("a swap");
    battle.look(&relay).await;
    battle.is_shown("second").await;
    assert_eq!(battle.slack.calls().iter().filter(|call| call.message_id.as_str() == first).count(), 1);
    assert!(battle.slack.calls().iter().all(|call| !call.content.contains(SECRET)));
    within("the relay settles", relay.settle()).await;
    battle.end(relay).await;
}
