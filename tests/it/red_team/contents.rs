//! Contents that are too much: too deep, too large, no text (hazards H3, H5).

use super::battle::Battle;
use nanorelay_actors::report::{DeliveryFilter, DeliveryState};
use nanorelay_actors::testing::{RowSpec, database};

const MIB: usize = 1024 * 1024;

async fn check_content(content: String, words: &str) {
    let battle = Battle::new();
    let row = RowSpec { content, ..battle.victim.text_row("") };
    let id = battle.victim.row(row);
    let after = battle.victim.text("the next one");
    let relay = battle.start().await;
    battle.neighbour_is_served().await;
    battle.is_dead(&relay, &id, words).await;
    battle.is_shown(&after).await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn deeply_nested_content_is_dead_and_no_stack_overflows() {
    check_content("[".repeat(900_000), "recursion limit").await;
    check_content(format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)), "recursion limit").await;
}

#[actix_rt::test]
async fn a_message_of_64_mebibytes_is_dead_and_the_next_one_arrives() {
    let text = "x".repeat(64 * MIB);
    check_content(format!("{{\"text\":\"{text}\"}}"), "bytes").await;
}

#[actix_rt::test]
async fn large_messages_of_many_threads_all_arrive() {
    // More than one session has in memory at a time: the rest waits and has its turn.
    let battle = Battle::new();
    let text = format!("{{\"text\":\"{}\"}}", "x".repeat(MIB - 100));
    let row = |number: usize| {
        let row = RowSpec { content: text.clone(), ..battle.victim.text_row("") };
        row.to("slack", "slack:EVIL", Some(&format!("thread-{}", number % 10)))
    };
    let ids = battle.victim.rows((0..40).map(row).collect());
    let relay = battle.start().await;
    for id in &ids {
        battle.is_shown(id).await;
    }
    battle.slack.assert_lane_order();
    battle.end(relay).await;
}

#[actix_rt::test]
async fn columns_that_are_no_text_make_one_row_dead_and_no_more() {
    let battle = Battle::new();
    let outbox = database::open(&battle.path("outbound.db"));
    outbox
        .execute_batch(
            "INSERT INTO messages_out (id, seq, timestamp, kind, channel_type, platform_id, content) VALUES
               ('blob-content', 1, '', 'chat', 'slack', 'slack:EVIL', x'7b7d'),
               ('bad-utf8', 3, '', 'chat', 'slack', 'slack:EVIL', CAST(x'7b22ff227d' AS TEXT)),
               ('blob-kind', 5, '', x'63686174', 'slack', 'slack:EVIL', '{}'),
               ('number-type', 7, '', 'chat', 17, 'slack:EVIL', '{}'),
               (x'00ff', 9, '', 'chat', 'slack', 'slack:EVIL', '{\"text\":\"blob id\"}'),
               (NULL, 11, '', 'chat', 'slack', 'slack:EVIL', '{\"text\":\"no id\"}'),
               (replace(hex(zeroblob(524288)), '00', 'ab'), 13, '', 'chat', 'slack', 'slack:EVIL',
                '{\"text\":\"a long id\"}'),
               ('late', 9223372036854775807, '', 'chat', 'slack', 'slack:EVIL', '{\"text\":\"last seq\"}'),
               ('text-seq', 'abc', '', 'chat', 'slack', 'slack:EVIL', '{\"text\":\"text seq\"}');",
        )
        .expect("rows");
    drop(outbox);
    let relay = battle.start().await;
    for (id, words) in
        [("blob-content", "content"), ("bad-utf8", "content"), ("blob-kind", "kind"), ("number-type", "")]
    {
        battle.is_dead(&relay, id, words).await;
    }
    let filter = DeliveryFilter { states: vec![DeliveryState::Dead], ..DeliveryFilter::default() };
    let dead = relay.deliveries(filter).await.expect("the ledger can be read");
    let unusable = dead.iter().filter(|record| record.message_id.starts_with("rowid:")).count();
    assert_eq!(unusable, 3, "{dead:?}");
    battle.is_not_quarantined(&relay).await;
    battle.end(relay).await;
}
