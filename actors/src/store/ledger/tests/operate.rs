//! What an operator does to deliveries.

use super::*;
use crate::report::{Intervention, Resolution};

/// A ledger in which `names` were tried once and are ambiguous.
fn ambiguous(names: &[&str]) -> Fixture {
    let mut ledger = Fixture::new();
    for (index, name) in names.iter().enumerate() {
        ledger.admit(&[admission(name, 2 * index as i64 + 1)]);
        ledger.write(|ledger| ledger.begin_attempt(&key(name), at(2000)));
        let unknown = Outcome::Ambiguous { reason: "connection reset".to_owned() };
        ledger.write(|ledger| ledger.finish(&session(), &id(name), &unknown, at(3000)));
    }
    ledger
}

#[test]
fn an_ambiguous_message_that_has_arrived_is_delivered_and_projected() {
    let mut ledger = ambiguous(&["a"]);
    let delivered = Resolution::Delivered { platform_message_id: Some("p-1".to_owned()) };
    assert!(ledger.write(|ledger| ledger.resolve(&key("a"), &delivered, at(4000))));
    let unprojected = ledger.reader().unprojected(&session(), 10).unwrap();
    assert_eq!(unprojected[0].state, DeliveryState::Delivered);
    assert_eq!(unprojected[0].platform_message_id.as_deref(), Some("p-1"));
    assert!(!ledger.write(|ledger| ledger.resolve(&key("a"), &Resolution::NotDelivered, at(5000))));
    assert_eq!(ledger.states()[0].1, DeliveryState::Delivered, "what is settled stays settled");
}

#[test]
fn an_ambiguous_message_that_has_not_arrived_is_queued_and_spends_no_attempt() {
    let mut ledger = ambiguous(&["a"]);
    assert!(ledger.write(|ledger| ledger.resolve(&key("a"), &Resolution::NotDelivered, at(9000))));
    assert_eq!(ledger.states(), [("a".to_owned(), DeliveryState::Queued, 0)]);
    let begun = ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(9001)));
    let Begin::Started { attempt, first_due, .. } = begun else { panic!("it may be sent: {begun:?}") };
    assert_eq!((attempt, first_due), (1, at(9000)), "its age begins anew");
}

#[test]
fn only_an_ambiguous_message_can_be_resolved() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("a", 1)]);
    for resolution in [Resolution::NotDelivered, Resolution::Delivered { platform_message_id: None }] {
        assert!(!ledger.write(|ledger| ledger.resolve(&key("a"), &resolution, at(2000))));
        assert!(!ledger.write(|ledger| ledger.resolve(&key("unknown"), &resolution, at(2000))));
    }
    assert_eq!(ledger.states()[0].1, DeliveryState::Queued);
}

#[test]
fn every_failed_attempt_is_shown_also_the_one_that_the_end_of_the_host_cut_off() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("a", 1)]);
    ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(2000)));
    let retry = Outcome::Retry {
        at: at(4000),
        counts_attempt: true,
        class: ErrorClass::Transient,
        reason: "502".to_owned(),
    };
    ledger.write(|ledger| ledger.finish(&session(), &id("a"), &retry, at(3000)));
    ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(4000)));
    ledger.write(|ledger| ledger.begin_incarnation(at(5000), &|_| true));
    let details = ledger.reader().delivery(&key("a")).unwrap().expect("known");
    let failed: Vec<(u32, &str, &str)> = details
        .failed_attempts
        .iter()
        .map(|failed| (failed.attempt, failed.error_class.as_str(), failed.error.as_str()))
        .collect();
    assert_eq!(failed, [(1, "transient", "502"), (2, "ambiguous", "the host ended in mid-send")]);
    assert_eq!(details.failed_attempts[0].ended_at, at(3000).to_iso());
    assert_eq!(ledger.reader().delivery(&key("b")).unwrap(), None);
    let begun = ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(6000)));
    assert!(matches!(begun, Begin::Started { attempt: 3, maybe_sent: true, .. }), "{begun:?}");
}

#[test]
fn replayed_messages_come_in_their_order_and_no_faster_than_asked_for() {
    let mut ledger = ambiguous(&["a", "b", "c"]);
    let filter = DeliveryFilter { states: vec![DeliveryState::Ambiguous], ..DeliveryFilter::default() };
    let keys = keys_of(&ledger.reader().replayable(&filter).unwrap());
    assert_eq!(keys, [key("a"), key("b"), key("c")]);
    let rate = Some("2/s".parse().unwrap());
    assert_eq!(ledger.write(|ledger| ledger.replay_many(&keys, rate, 0, at(10_000))), 3);
    let due = |now| -> Vec<String> {
        let page = ledger.reader().lane_page(&session(), &lane().key(), 10, at(now), false).unwrap();
        page.into_iter().map(|delivery| delivery.message_id.to_string()).collect()
    };
    assert_eq!(due(10_000), ["a"]);
    assert_eq!(due(10_499), ["a"]);
    assert_eq!(due(10_500), ["a", "b"]);
    assert_eq!(due(11_000), ["a", "b", "c"]);
    assert_eq!(ledger.reader().next_scheduled(&session(), at(10_000), &|_| false).unwrap(), Some(at(10_500)));
}

#[test]
fn what_is_replayed_can_be_chosen_by_channel_and_kind_of_failure() {
    let ledger = ambiguous(&["a"]);
    let count = |channel_type: &str, class: &str| {
        let filter = DeliveryFilter {
            channel_type: Some(channel_type.to_owned()),
            error_class: Some(class.to_owned()),
            ..DeliveryFilter::default()
        };
        ledger.reader().replayable(&filter).unwrap().len()
    };
    assert_eq!(count("slack", "ambiguous"), 1);
    assert_eq!(count("discord", "ambiguous"), 0);
    assert_eq!(count("slack", "permanent"), 0);
}

fn cancel(ledger: &mut Fixture, name: &str, is_handed_over: bool) -> Intervention {
    ledger.write(|ledger| ledger.cancel(&key(name), "a typo", &|_| is_handed_over, at(5000))).0
}

#[test]
fn what_waits_is_cancelled_and_its_agent_is_told() {
    let mut ledger = ambiguous(&["unknown"]);
    ledger.admit(&[admission("waits", 3), admission("tried", 5)]);
    ledger.write(|ledger| ledger.begin_attempt(&key("tried"), at(2000)));
    let retry = Outcome::Retry {
        at: at(90_000),
        counts_attempt: true,
        class: ErrorClass::Transient,
        reason: "502".to_owned(),
    };
    ledger.write(|ledger| ledger.finish(&session(), &id("tried"), &retry, at(3000)));
    for name in ["unknown", "waits", "tried"] {
        assert_eq!(cancel(&mut ledger, name, false), Intervention::Done, "{name}");
        let details = ledger.reader().delivery(&key(name)).unwrap().expect("it is known");
        assert_eq!(details.record.error.as_deref(), Some("cancelled by an operator: a typo"));
        assert_eq!(details.record.error_class.as_deref(), Some("cancelled"));
        let begun = ledger.write(|ledger| ledger.begin_attempt(&key(name), at(99_000)));
        assert_eq!(begun, Begin::Refused(DeliveryState::Dead), "it is not sent any more");
    }
    assert_eq!(ledger.reader().unprojected(&session(), 10).unwrap().len(), 3);
    assert!(ledger.write(|ledger| ledger.replay(&key("waits"), None, at(6000))), "it can be replayed");
}

#[test]
fn what_is_on_its_way_or_settled_is_not_cancelled() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("sending", 1), admission("handed", 3), admission("gone", 5)]);
    let action = Admission { lane: Lane::System, kind: "system".to_owned(), ..admission("action", 7) };
    ledger.admit(&[action]);
    ledger.write(|ledger| ledger.begin_attempt(&key("sending"), at(2000)));
    cancel(&mut ledger, "gone", false);
    for (name, expected) in [
        ("sending", Intervention::InFlight),
        ("handed", Intervention::InFlight),
        ("gone", Intervention::Unsuitable(DeliveryState::Dead)),
        ("nobody", Intervention::Unknown),
    ] {
        assert_eq!(cancel(&mut ledger, name, true), expected, "{name}");
    }
    assert_eq!(cancel(&mut ledger, "action", false), Intervention::SystemAction);
}

#[test]
fn a_snoozed_message_is_not_sent_before_its_time_and_its_age_begins_then() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("a", 1)]);
    let snoozed = ledger.write(|ledger| ledger.snooze(&key("a"), at(60_000), &|_| false, at(2000)));
    assert_eq!(snoozed, (Intervention::Done, None));
    let begun = ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(3000)));
    assert_eq!(begun, Begin::Postponed(at(60_000)));
    let begun = ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(60_000)));
    let Begin::Started { attempt, first_due, .. } = begun else { panic!("its time has come: {begun:?}") };
    assert_eq!((attempt, first_due), (1, at(60_000)));
    let snoozed = ledger.write(|ledger| ledger.snooze(&key("a"), at(90_000), &|_| false, at(61_000)));
    assert_eq!(snoozed.0, Intervention::InFlight);
}
