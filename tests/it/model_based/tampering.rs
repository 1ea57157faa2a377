//! A judge who never finds anything is of no use: each of these changes what was seen, and must be noticed.

use super::judge::judge;
use super::script::{Platform, Reply, Row, Script, Step};
use super::stage::{self, Seen};
use nanorelay_actors::report::DeliveryRecord;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// The first message is limited once, the others are taken at once.
fn script() -> Script {
    let message = |replies| Row::Message { thread: 0, file: false, replies };
    let limited = message(vec![Reply::Limited { ms: 30 }]);
    let rows = vec![limited, message(Vec::new()), message(Vec::new()), Row::Schedule, Row::Tell];
    Script { platform: Platform::Hold, steps: vec![Step::Write { session: 0, rows }] }
}

fn record<'a>(seen: &'a mut Seen, id: &str) -> &'a mut DeliveryRecord {
    let ledger = &mut seen.lives.last_mut().expect("a life").ledger;
    ledger.iter_mut().find(|record| record.message_id == id).expect("a record")
}

#[track_caller]
fn is_noticed(words: &str, tamper: impl FnOnce(&mut Seen)) {
    let script = script();
    let mut seen = stage::play(&script);
    judge(&script, &seen);
    tamper(&mut seen);
    let panic = catch_unwind(AssertUnwindSafe(|| judge(&script, &seen))).expect_err(words);
    let found = panic.downcast_ref::<String>().expect("words");
    assert!(found.contains(words), "{found}");
}

#[test]
fn a_lost_message_is_noticed() {
    is_noticed("m-1 is lost", |seen| {
        let calls = seen.lives.last().expect("a life").calls;
        // The platform was never called, and the ledger has never heard of it.
        seen.calls.retain(|call| call.message_id.as_str() != "m-1");
        for life in &mut seen.lives {
            life.ledger.retain(|record| record.message_id != "m-1");
            life.calls = calls;
        }
    });
}

#[test]
fn a_second_send_is_noticed() {
    is_noticed("m-2 is settled, yet it was sent again", |seen| {
        let mut again = seen.calls.last().expect("a call").clone();
        again.number += 1;
        seen.lives.last_mut().expect("a life").calls += 1;
        seen.calls.push(again);
    });
}

#[test]
fn a_message_that_overtakes_is_noticed() {
    is_noticed("out of order", |seen| {
        let last = seen.calls.len() - 1;
        seen.calls.swap(last, last - 1);
        let numbers = [seen.calls[last - 1].number, seen.calls[last].number];
        (seen.calls[last - 1].number, seen.calls[last].number) = (numbers[1], numbers[0]);
    });
}

#[test]
fn an_early_send_is_noticed() {
    is_noticed("m-0 was sent again after", |seen| {
        let answered_at = seen.calls[0].answered_at.expect("an answer");
        seen.calls[1].started_at = answered_at.plus(Duration::from_millis(29));
    });
}

#[test]
fn a_delivery_without_its_receipt_is_noticed() {
    is_noticed("m-1 has the receipt", |seen| record(seen, "m-1").platform_message_id = None);
}

#[test]
fn an_agent_that_is_not_told_is_noticed() {
    is_noticed("m-2", |seen| {
        let sql = "DELETE FROM delivered WHERE message_out_id = 'm-2'";
        assert_eq!(seen.agents[0].inbound().execute(sql, []), Ok(1));
    });
}

#[test]
fn an_action_that_takes_effect_twice_is_noticed() {
    is_noticed("names-4 was told 2 times", |seen| {
        let sql = "INSERT INTO messages_in (id, seq, kind, timestamp, content)
                   SELECT id || '-again', seq + 100, kind, timestamp, content FROM messages_in";
        assert_eq!(seen.peer.inbound().execute(sql, []), Ok(1));
    });
}
