//! How things stand, as the ledger knows it.

use super::*;
use crate::report::StateCounts;

#[test]
fn what_waits_since_when_and_what_fails_is_told_and_what_was_delivered_is_not() {
    let mut ledger = Fixture::new();
    let later = Admission { initial: InitialState::Scheduled(at(9_000)), ..admission("later", 9) };
    ledger.admit(&[
        admission("done", 1),
        admission("fails", 3),
        admission("waits", 5),
        admission("dead", 7),
        later,
    ]);
    ledger.write(|ledger| ledger.finish(&session(), &id("done"), &done(), at(2000)));
    let retry = Outcome::Retry {
        at: at(4000),
        counts_attempt: true,
        class: ErrorClass::Transient,
        reason: "502".to_owned(),
    };
    ledger.write(|ledger| ledger.begin_attempt(&key("fails"), at(2000)));
    ledger.write(|ledger| ledger.finish(&session(), &id("fails"), &retry, at(3000)));
    let dead = Outcome::Dead {
        class: ErrorClass::Permanent,
        reason: "no".to_owned(),
        attempted: true,
        projected: false,
    };
    ledger.write(|ledger| ledger.finish(&session(), &id("dead"), &dead, at(3000)));

    let standing = ledger.reader().standing(at(5000)).unwrap();
    assert_eq!(standing.counts, StateCounts { queued: 2, retrying: 1, dead: 1, ..StateCounts::default() });
    let oldest = standing.oldest.expect("something waits");
    assert_eq!((oldest.since_ms, oldest.since.as_str()), (1000, "1970-01-01T00:00:01.000Z"));
    assert_eq!(standing.busiest.len(), 1);
    assert_eq!(standing.busiest[0].waiting, 3);
    assert_eq!(standing.failing.len(), 1);
    let failing = &standing.failing[0];
    assert_eq!(
        (failing.channel.as_deref(), failing.error_class.as_str(), failing.count),
        (Some("slack"), "transient", 1)
    );
    assert_eq!(standing.quarantined, 0);
}

#[test]
fn a_message_that_is_not_due_is_not_the_oldest() {
    let mut ledger = Fixture::new();
    ledger.admit(&[Admission { initial: InitialState::Scheduled(at(9_000)), ..admission("later", 1) }]);
    assert_eq!(ledger.reader().standing(at(5000)).unwrap().oldest, None);
    assert!(ledger.reader().standing(at(9000)).unwrap().oldest.is_some());
}
