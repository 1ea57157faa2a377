//! What the ledger forgets, and that nothing of it is ever sent again.

use super::*;
use crate::store::ledger::prune::SettledRow;

/// Delivers and projects messages `m1`, `m3`, … with these seqs.
fn delivered(seqs: &[i64]) -> Fixture {
    let mut ledger = Fixture::new();
    for seq in seqs {
        ledger.admit(&[admission(&format!("m{seq}"), *seq)]);
        let message = id(&format!("m{seq}"));
        ledger.write(|ledger| ledger.finish(&session(), &message, &done(), at(2000)));
        ledger.write(|ledger| ledger.mark_projected(&session(), &[(message, DeliveryState::Delivered)]));
    }
    ledger
}

fn settled(ledger: &Fixture) -> Vec<SettledRow> {
    ledger.reader().settled_page(None, 1000).unwrap().rows
}

fn admit_again(ledger: &mut Fixture, name: &str, seq: i64) -> Admitted {
    let group = AgentGroupId::new("ag-main").unwrap();
    // The actor still has the mark of its start in memory.
    let answers = ledger.write(|ledger| {
        ledger.admit(&session(), &group, &[admission(name, seq)], Cursor { seq: 5, rowid: 9 }, 0, at(9000))
    });
    answers[0]
}

#[test]
fn what_was_pruned_is_not_new_when_it_is_read_again() {
    let mut ledger = delivered(&[1, 3, 5]);
    let rows = settled(&ledger);
    assert_eq!(ledger.write(|ledger| ledger.prune(&rows)), 2, "the row at the cursor stays");
    assert_eq!(ledger.states().len(), 1);
    assert_eq!(ledger.write(|ledger| ledger.low_water_seq(&session())), Some(3));
    for (name, seq) in [("m1", 1), ("m3", 3)] {
        assert_eq!(admit_again(&mut ledger, name, seq), Admitted::BelowLowWater);
    }
    assert_eq!(admit_again(&mut ledger, "m5", 5), Admitted::Known(DeliveryState::Delivered));
    assert_eq!(admit_again(&mut ledger, "without-a-seq", 5), Admitted::New);
    assert_eq!(ledger.write(|ledger| ledger.begin_attempt(&key("m1"), at(9001))), {
        Begin::Refused(DeliveryState::Dead)
    });
}

#[test]
fn a_late_row_among_pruned_ones_is_dead_with_a_reason_and_can_be_replayed() {
    let mut ledger = delivered(&[1, 5, 7]);
    let rows = settled(&ledger);
    ledger.write(|ledger| ledger.prune(&rows));
    assert_eq!(admit_again(&mut ledger, "late", 3), Admitted::BelowLowWater);
    let late = ledger.reader().delivery(&key("late")).unwrap().expect("visible").record;
    assert_eq!((late.state, late.error_class.as_deref()), (DeliveryState::Dead, Some("forgotten")));
    assert!(ledger.write(|ledger| ledger.replay(&key("late"), None, at(9001))));
    assert!(matches!(
        ledger.write(|ledger| ledger.begin_attempt(&key("late"), at(9002))),
        Begin::Started { .. }
    ));
}

#[test]
fn what_waits_below_the_mark_is_still_known() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("waits", 1)]);
    for (name, seq) in [("m3", 3), ("m5", 5)] {
        ledger.admit(&[admission(name, seq)]);
        ledger.write(|ledger| ledger.finish(&session(), &id(name), &done(), at(2000)));
        ledger.write(|ledger| ledger.mark_projected(&session(), &[(id(name), DeliveryState::Delivered)]));
    }
    let rows = settled(&ledger);
    assert_eq!(rows.len(), 2, "what waits is never listed");
    assert_eq!(ledger.write(|ledger| ledger.prune(&rows)), 1);
    assert_eq!(admit_again(&mut ledger, "waits", 1), Admitted::Known(DeliveryState::Queued));
}

#[test]
fn what_is_not_projected_or_has_changed_meanwhile_stays() {
    let mut ledger = delivered(&[1, 3]);
    ledger.admit(&[admission("fresh", 5), admission("last", 7)]);
    ledger.write(|ledger| ledger.finish(&session(), &id("fresh"), &done(), at(2000)));
    assert!(settled(&ledger).iter().all(|row| row.message_id != "fresh"), "the agent is still to be told");
    let mut rows = settled(&ledger);
    rows[0].settled_at = at(1999);
    assert_eq!(ledger.write(|ledger| ledger.prune(&rows)), 1, "one of them is not as it was seen");
}

#[test]
fn the_attempts_go_with_their_message_and_a_row_without_an_id_raises_no_mark() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("a", 1), admission("z", 3)]);
    ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(2000)));
    let (class, reason) = (ErrorClass::Permanent, "no".to_owned());
    let dead = Outcome::Dead { class, reason: reason.clone(), attempted: true, projected: true };
    ledger.write(|ledger| ledger.finish(&session(), &id("a"), &dead, at(3000)));
    let unusable = Admission {
        lane: Lane::Nowhere,
        initial: InitialState::Dead { class, reason },
        ..admission("rowid:7", i64::MAX)
    };
    let group = AgentGroupId::new("ag-main").unwrap();
    let cursor = Cursor { seq: 3, rowid: 7 };
    ledger.write(|ledger| ledger.admit(&session(), &group, &[unusable], cursor, 0, at(3000)));
    ledger.write(|ledger| ledger.mark_projected(&session(), &[(id("rowid:7"), DeliveryState::Dead)]));
    let rows = settled(&ledger);
    assert_eq!(ledger.write(|ledger| ledger.prune(&rows)), 2);
    assert_eq!(ledger.write(|ledger| ledger.low_water_seq(&session())), Some(1));
    let attempts: i64 =
        ledger.writer.connection.query_row("SELECT count(*) FROM attempts", [], |row| row.get(0)).unwrap();
    assert_eq!(attempts, 0);
}

#[test]
fn freed_pages_are_given_back() {
    let mut ledger = Fixture::new();
    let admissions: Vec<_> =
        (0..4000).map(|number| admission(&format!("m{number}"), 2 * number + 1)).collect();
    ledger.admit(&admissions);
    ledger.write(|ledger| {
        for admission in &admissions {
            ledger.finish(&session(), &admission.message_id, &done(), at(2000))?;
            ledger.mark_projected(&session(), &[(admission.message_id.clone(), DeliveryState::Delivered)])?;
        }
        Ok(())
    });
    let before = ledger.reader().size().unwrap();
    let mut after = None;
    loop {
        let page = ledger.reader().settled_page(after.as_ref(), 1000).unwrap();
        ledger.write(|ledger| ledger.prune(&page.rows));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let pruned = ledger.reader().size().unwrap();
    assert!(pruned.used_bytes < before.used_bytes / 2, "{pruned:?} {before:?}");
    let given_back = ledger.write(|ledger| ledger.give_back(1_000_000));
    assert_eq!(given_back.free_bytes, 0);
    let total = |size: LedgerSize| size.used_bytes + size.free_bytes;
    assert!(total(given_back) < total(pruned), "the file is smaller");
}
