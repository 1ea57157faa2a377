//! Pages of the list of deliveries.

use super::*;
use crate::report::{DeliveryCursor, Page};

fn page(
    fixture: &Fixture,
    filter: &DeliveryFilter,
    after: Option<DeliveryCursor>,
    limit: usize,
) -> Page<crate::report::DeliveryRecord, DeliveryCursor> {
    fixture.reader().delivery_page(filter, &mut |_| true, after, limit).unwrap()
}

fn walk(fixture: &Fixture, filter: &DeliveryFilter, limit: usize) -> Vec<String> {
    let (mut after, mut ids) = (None, Vec::new());
    loop {
        let page = page(fixture, filter, after, limit);
        ids.extend(page.items.into_iter().map(|record| record.message_id));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}

/// Twenty messages of which each third is delivered and each third is dead, several in one millisecond.
fn mixed() -> Fixture {
    let mut ledger = Fixture::new();
    for number in 0..20_i64 {
        let name = format!("m{number:02}");
        ledger.admit(&[admission(&name, 2 * number + 1)]);
        let now = at(2000 + number / 4);
        let outcome = match number % 3 {
            0 => Outcome::Done { effect: Effect::Delivered, platform_message_id: None, projected: true },
            1 => Outcome::Dead {
                class: ErrorClass::Permanent,
                reason: format!("Refused {number}"),
                attempted: true,
                projected: true,
            },
            _ => Outcome::Held { class: ErrorClass::Transient, reason: "parked".to_owned(), attempted: true },
        };
        ledger.write(|ledger| ledger.begin_attempt(&key(&name), now));
        ledger.write(|ledger| ledger.finish(&session(), &id(&name), &outcome, now));
    }
    ledger
}

#[test]
fn pages_of_every_size_list_each_message_once_the_latest_change_first() {
    let ledger = mixed();
    let everything = walk(&ledger, &DeliveryFilter::default(), 500);
    let mut newest_first: Vec<String> = (0..20).map(|number| format!("m{number:02}")).collect();
    newest_first.reverse();
    assert_eq!(everything, newest_first);
    let of_session = DeliveryFilter { session_id: Some("sess-1".to_owned()), ..DeliveryFilter::default() };
    for limit in 1..=21 {
        assert_eq!(walk(&ledger, &DeliveryFilter::default(), limit), everything, "{limit}");
        assert_eq!(walk(&ledger, &of_session, limit), everything, "{limit}");
    }
    let full = page(&ledger, &DeliveryFilter::default(), None, 20);
    assert_eq!(full.next, None, "nothing follows a page that holds the last one");
}

#[test]
fn filters_choose_by_state_class_text_and_time() {
    let ledger = mixed();
    let ids = |filter: DeliveryFilter| walk(&ledger, &filter, 2);
    let dead = DeliveryFilter { states: vec![DeliveryState::Dead], ..DeliveryFilter::default() };
    assert_eq!(ids(dead.clone()).len(), 7);
    let twice = DeliveryFilter { states: vec![DeliveryState::Dead; 2], ..DeliveryFilter::default() };
    assert_eq!(ids(twice).len(), 7, "a state that is named twice is listed once");
    assert_eq!(
        ids(DeliveryFilter { text: Some("refused 19".to_owned()), ..DeliveryFilter::default() }),
        ["m19"]
    );
    let class = DeliveryFilter { error_class: Some("transient".to_owned()), ..DeliveryFilter::default() };
    assert_eq!(ids(class).len(), 6);
    let time = DeliveryFilter { since_ms: Some(2001), until_ms: Some(2002), ..DeliveryFilter::default() };
    assert_eq!(ids(time), ["m07", "m06", "m05", "m04"]);
    assert_eq!(ids(DeliveryFilter { since_ms: Some(9000), ..dead }), Vec::<String>::new());
}

#[test]
fn what_changes_while_the_list_is_read_moves_to_its_beginning_and_the_others_are_listed_once() {
    let mut ledger = mixed();
    let first = page(&ledger, &DeliveryFilter::default(), None, 5);
    ledger.write(|ledger| ledger.replay(&key("m04"), None, at(9000)));
    ledger.write(|ledger| ledger.replay(&key("m19"), None, at(9000)));
    let mut ids: Vec<String> = first.items.into_iter().map(|record| record.message_id).collect();
    let mut after = first.next;
    while after.is_some() {
        let page = page(&ledger, &DeliveryFilter::default(), after, 5);
        ids.extend(page.items.into_iter().map(|record| record.message_id));
        after = page.next;
    }
    let expected = (0..20).rev().filter(|number| *number != 4).map(|number| format!("m{number:02}"));
    assert_eq!(ids, expected.collect::<Vec<_>>());
}

#[test]
fn a_page_reads_a_bounded_number_of_rows_along_an_index() {
    let ledger = mixed();
    let connection = rusqlite::Connection::open_with_flags(
        ledger.folder.path().join(LEDGER_FILE),
        OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .unwrap();
    for (condition, index) in [
        ("state = 'delivered'", "deliveries_delivered"),
        ("state = 'dead' AND state <> 'delivered'", "deliveries_noteworthy"),
    ] {
        let plan: Vec<String> = connection
            .prepare(&format!(
                "EXPLAIN QUERY PLAN SELECT error FROM deliveries WHERE {condition}
                   AND updated_at BETWEEN ?1 AND ?2 AND (+updated_at, session_id, message_id) < (?2, ?3, ?4)
                 ORDER BY updated_at DESC, session_id DESC, message_id DESC"
            ))
            .unwrap()
            .query_map(rusqlite::params![0, 1, "", ""], |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(plan.len(), 1, "nothing is sorted: {plan:?}");
        assert!(plan[0].contains(&format!("USING INDEX {index}")), "{plan:?}");
    }
}
