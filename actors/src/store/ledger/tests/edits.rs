//! Edits and deletions of messages that wait.

use super::*;
use crate::limits::{MERGED_EDIT_BYTES_MAX, MERGED_EDITS_PER_SESSION_MAX};
use crate::model::revision::Revision;
use std::sync::Arc;

fn edit(name: &str, seq: i64, target: &str, text: &str) -> Admission {
    let content = serde_json::json!({ "operation": "edit", "messageId": target, "text": text }).to_string();
    Admission { revision: Revision::of(&Arc::from(content)), ..admission(name, seq) }
}

const EDITED: Admitted = Admitted::Merged { cancelled: false };

#[test]
fn what_waits_with_an_edit_is_bounded_in_number_and_size() {
    let mut ledger = Fixture::new();
    let count = MERGED_EDITS_PER_SESSION_MAX;
    let targets: Vec<_> =
        (0..=count).map(|number| admission(&format!("m{number}"), 2 * number + 1)).collect();
    ledger.admit(&targets);
    let first = 2 * count + 3;
    let edits: Vec<_> = (0..=count)
        .map(|number| edit(&format!("e{number}"), first + 2 * number, &format!("m{number}"), "new"))
        .collect();
    let answers = ledger.admit(&edits);
    assert!(answers[..answers.len() - 1].iter().all(|answer| *answer == EDITED));
    assert_eq!(answers.last(), Some(&Admitted::New), "one too many goes out by itself");
    let later = first + 2 * count;
    ledger.write(|ledger| ledger.finish(&session(), &id("m0"), &done(), at(3000)));
    assert_eq!(ledger.admit(&[edit("again", later + 2, "m1", "newer")]), [EDITED], "one was sent meanwhile");
    let large = "x".repeat(MERGED_EDIT_BYTES_MAX);
    assert_eq!(ledger.admit(&[edit("large", later + 4, "m2", &large)]), [Admitted::New]);
    let begun = ledger.write(|ledger| ledger.begin_attempt(&key("m1"), at(4000)));
    let Begin::Started { edit: Some(content), .. } = begun else { panic!("it was edited: {begun:?}") };
    assert!(content.contains("newer"), "{content}");
}

#[test]
fn nothing_is_merged_into_what_is_settled_or_of_unknown_fate() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("sent", 1), admission("sending", 3), admission("unknown", 5)]);
    ledger.write(|ledger| ledger.finish(&session(), &id("sent"), &done(), at(2000)));
    for name in ["unknown", "sending"] {
        ledger.write(|ledger| ledger.begin_attempt(&key(name), at(2000)));
    }
    let retry = Outcome::Retry {
        at: at(9000),
        counts_attempt: true,
        class: ErrorClass::Ambiguous,
        reason: "reset".to_owned(),
    };
    ledger.write(|ledger| ledger.finish(&session(), &id("unknown"), &retry, at(3000)));
    for (index, name) in ["sent", "sending", "unknown", "nobody"].into_iter().enumerate() {
        let edit = edit(&format!("e-{name}"), 7 + 2 * index as i64, name, "new");
        assert_eq!(ledger.admit(&[edit]), [Admitted::New], "{name}");
    }
}
