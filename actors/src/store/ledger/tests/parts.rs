//! Parts of messages that are too long for their platform.

use super::*;
use crate::limits::PARTS_PER_MESSAGE_MAX;
use crate::model::part::SentPart;

fn part(end: u64) -> SentPart {
    SentPart { end, platform_message_id: Some(format!("plat-{end}")) }
}

#[test]
fn the_parts_of_a_message_are_its_own_in_order_and_bounded_in_number() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("long", 1), admission("other", 3)]);
    let max = u64::try_from(PARTS_PER_MESSAGE_MAX).unwrap();
    ledger.write(|ledger| {
        for end in 1..=max {
            assert!(ledger.add_part(&key("long"), &part(end))?, "{end}");
        }
        assert!(!ledger.add_part(&key("long"), &part(max + 1))?);
        ledger.add_part(&key("other"), &part(7))
    });
    let sent = ledger.reader().sent_parts(&key("long")).unwrap();
    assert_eq!(sent, (1..=max).map(part).collect::<Vec<_>>());
    assert_eq!(ledger.reader().sent_parts(&key("other")).unwrap(), [part(7)]);
}

#[test]
fn a_message_that_is_forgotten_leaves_no_parts() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("long", 1), admission("last", 3)]);
    ledger.write(|ledger| {
        ledger.add_part(&key("long"), &part(1))?;
        ledger.finish(&session(), &id("long"), &done(), at(2000))
    });
    ledger.write(|ledger| ledger.mark_projected(&session(), &[(id("long"), DeliveryState::Delivered)]));
    let page = ledger.reader().settled_page(None, 10).unwrap();
    assert_eq!(ledger.write(|ledger| ledger.prune(&page.rows)), 1);
    assert_eq!(ledger.reader().sent_parts(&key("long")).unwrap(), []);
}
