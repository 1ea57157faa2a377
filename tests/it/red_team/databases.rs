//! Database files that are traps (hazards H3, H12, H13).

use super::attacker::Attacker;
use super::battle::{Battle, within};
use nanorelay_actors::testing::database;
use std::fs;
use std::path::Path;

/// What was done to a database makes it unusable.
async fn check_schema(name: &str, sql: &str, words: &str) {
    let battle = Battle::new();
    battle.victim.text("hello");
    database::open(&battle.path(name)).execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let relay = battle.start().await;
    battle.neighbour_is_served().await;
    battle.is_quarantined(&relay, words).await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_trigger_that_queues_again_never_runs() {
    let again = "CREATE TRIGGER again AFTER INSERT ON delivered BEGIN DELETE FROM delivered; END";
    check_schema("inbound.db", again, "trigger again on table delivered").await;
    let more = "CREATE TRIGGER more AFTER INSERT ON messages_out BEGIN SELECT 1; END";
    check_schema("outbound.db", more, "trigger more on table messages_out").await;
}

#[actix_rt::test]
async fn a_view_without_end_is_no_table() {
    let endless = "ALTER TABLE messages_out RENAME TO real_messages;
        CREATE VIEW messages_out AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
          SELECT 'm-' || i AS id, i AS seq, NULL AS in_reply_to, '' AS timestamp, NULL AS deliver_after,
            NULL AS recurrence, 'chat' AS kind, 'slack:EVIL' AS platform_id, 'slack' AS channel_type,
            NULL AS thread_id, '{}' AS content FROM n";
    check_schema("outbound.db", endless, "messages_out is not an ordinary table").await;
}

#[actix_rt::test]
async fn a_generated_column_is_refused() {
    let computed = "ALTER TABLE messages_out DROP COLUMN recurrence;
        ALTER TABLE messages_out ADD COLUMN recurrence TEXT GENERATED ALWAYS AS (hex(zeroblob(1000000)))";
    check_schema("outbound.db", computed, "column recurrence of table messages_out is computed").await;
}

#[actix_rt::test]
async fn a_huge_schema_is_refused() {
    let mut sql = String::from("BEGIN;");
    for number in 0..3000 {
        sql.push_str(&format!("CREATE TABLE t{number}(x);"));
    }
    check_schema("outbound.db", &(sql + "COMMIT;"), "more than 200 objects").await;
}

#[actix_rt::test]
async fn an_expression_index_does_not_run() {
    let index = "CREATE INDEX slow ON messages_out (length(hex(zeroblob(1000000))) COLLATE nocase)";
    let battle = Battle::new();
    let id = battle.victim.text("hello");
    let _ = database::open(&battle.path("outbound.db")).execute_batch(index);
    let relay = battle.start().await;
    battle.is_shown(&id).await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_file_in_wal_mode_is_refused_and_its_shared_memory_never_mapped() {
    for name in ["outbound.db", "inbound.db"] {
        let battle = Battle::new();
        battle.victim.text("hello");
        let wal = database::open(&battle.path(name));
        database::use_wal(&wal);
        wal.execute_batch("CREATE TABLE grows(x); INSERT INTO grows VALUES (1)").expect("a commit");
        let memory = battle.path(&format!("{name}-shm"));
        let relay = battle.start().await;
        fs::File::options().write(true).open(&memory).and_then(|file| file.set_len(0)).expect("truncated");
        battle.is_quarantined_soon(&relay, "WAL mode").await;
        battle.end(relay).await;
    }
}

/// A hot journal without records that names a super-journal, as SQLite's pager reads it.
fn crafted_journal(super_journal: &Path, pages: u32) -> Vec<u8> {
    const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let name = super_journal.as_os_str().as_encoded_bytes();
    let mut bytes = MAGIC.to_vec();
    for number in [0, 0, pages, 512, 4096] {
        bytes.extend(u32::to_be_bytes(number));
    }
    bytes.resize(512, 0);
    bytes.extend((0x4000_0000_u32 / 4096 + 1).to_be_bytes());
    bytes.extend(name);
    bytes.extend(u32::try_from(name.len()).expect("a short name").to_be_bytes());
    bytes.extend(name.iter().map(|byte| u32::from(*byte)).sum::<u32>().to_be_bytes());
    bytes.extend(MAGIC);
    bytes
}

#[actix_rt::test]
async fn a_super_journal_deletes_nothing() {
    for name in ["inbound.db", "outbound.db"] {
        let battle = Battle::with(|spec| spec.stopped());
        let id = battle.victim.text("hello");
        let size = fs::metadata(battle.path(name)).expect("a file").len();
        let pages = u32::try_from(size / 4096).expect("a small file");
        let journal = crafted_journal(&battle.outside.join("secret.txt"), pages);
        fs::write(battle.path(&format!("{name}-journal")), journal).expect("a journal");
        let relay = battle.start().await;
        battle.neighbour_is_served().await;
        within("the relay settles", relay.settle()).await;
        // Rolled back or refused: both are well, as long as nothing is deleted.
        let quarantined = relay.quarantined().await.expect("the ledger can be read");
        if !quarantined.contains_key("sess-victim") {
            battle.is_shown(&id).await;
        }
        battle.end(relay).await;
    }
}

#[actix_rt::test]
async fn a_file_that_is_no_database_is_refused() {
    for (bytes, words) in [(vec![b'x'; 9000], "damaged"), (Vec::new(), "empty")] {
        let battle = Battle::new();
        fs::write(battle.path("outbound.db"), bytes).expect("a file");
        let relay = battle.start().await;
        battle.is_quarantined(&relay, words).await;
        battle.end(relay).await;
    }
}

#[actix_rt::test]
async fn a_session_that_was_unusable_at_first_sight_is_served_once_it_is_repaired() {
    let battle = Battle::new();
    let id = battle.victim.text("hello");
    let (place, good) = (battle.path("inbound.db"), battle.path("good.db"));
    fs::rename(&place, &good).expect("a file");
    fs::write(&place, vec![b'x'; 9000]).expect("a file");
    let relay = battle.start().await;
    battle.is_quarantined(&relay, "inbound.db is damaged").await;
    // Every look ends, also the ones after the first.
    battle.is_quarantined_soon(&relay, "inbound.db is damaged").await;
    fs::rename(&good, &place).expect("a file");
    battle.release(&relay).await;
    battle.is_shown(&id).await;
    battle.is_not_quarantined(&relay).await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_host_that_was_killed_in_mid_commit_finds_its_own_journal_and_goes_on() {
    let battle = Battle::new();
    let id = battle.victim.text("hello");
    drop(Attacker::half_commit_inbound(&battle.path("inbound.db")));
    assert!(battle.path("inbound.db-journal").exists(), "the journal is hot");
    let relay = battle.start().await;
    battle.is_shown(&id).await;
    within("the relay settles", relay.settle()).await;
    assert!(battle.victim.messages_in().is_empty(), "nothing of the half commit is left");
    assert_eq!(battle.victim.delivered().len(), 1);
    battle.end(relay).await;
}

#[actix_rt::test]
async fn what_an_agent_forges_in_its_inbox_changes_no_delivery() {
    let battle = Battle::new();
    let relay = battle.start().await;
    let first = battle.victim.text("first");
    battle.is_shown(&first).await;
    within("the relay settles", relay.settle()).await;
    let inbox = database::open(&battle.path("inbound.db"));
    inbox
        .execute_batch(
            "DELETE FROM delivered;
             INSERT INTO delivered (message_out_id, status, delivered_at) VALUES ('second', 'delivered', '');
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
             INSERT INTO messages_in (id, seq, kind, timestamp, status, content, trigger, on_wake)
               SELECT 'forged-' || i, 2 * i + 1000, 'task', '', 'pending', '{}', 1, 0 FROM n;",
        )
        .expect("forged rows");
    drop(inbox);
    let outbox = database::open(&battle.path("outbound.db"));
    outbox
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
             INSERT INTO processing_ack SELECT 'forged-' || i, 'completed', 'yesterday' FROM n
             UNION ALL SELECT 'x' || hex(zeroblob(2000)), 'processing', NULL || '' WHERE 0;",
        )
        .expect("forged rows");
    drop(outbox);
    let second = battle.victim.row(battle.victim.text_row("second").id("second"));
    battle.look(&relay).await;
    battle.is_shown(&second).await;
    let sent = battle.slack.calls().iter().filter(|call| call.message_id.as_str() == first).count();
    assert_eq!(sent, 1, "a deleted receipt sends nothing again");
    battle.end(relay).await;
}
