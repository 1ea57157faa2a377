use super::*;
use crate::report::{AuditEnd, AuditEntry, AuditFilter, AuditOutcome, AuditRecord, AuditVia};
use serde_json::json;

fn entry(who: &str, action: &str) -> AuditEntry {
    AuditEntry::new(who, AuditVia::Http, action, "slack")
}

fn listed(fixture: &Fixture, filter: &AuditFilter) -> Vec<AuditRecord> {
    fixture.reader().audit(filter).unwrap()
}

#[test]
fn a_change_is_begun_then_done_or_failed_and_listed_the_newest_first() {
    let mut fixture = Fixture::new();
    let reasoned = AuditEntry {
        reason: Some("maintenance".to_owned()),
        before: Some(json!({ "until": null })),
        tenant: Some("acme".to_owned()),
        ..entry("ann", "pause")
    };
    let ids = fixture.write(|ledger| {
        let first = ledger.begin_audit(&reasoned, at(1))?;
        let second = ledger.begin_audit(&entry("bob", "resume"), at(2))?;
        let third = ledger.begin_audit(&entry("ann", "drain"), at(3))?;
        ledger.end_audit(first, &AuditEnd::Done { after: Some(json!({ "until": "x" })) })?;
        ledger.end_audit(second, &AuditEnd::Failed("no such pause".to_owned()))?;
        Ok([first, second, third])
    });
    let all = listed(&fixture, &AuditFilter::default());
    assert_eq!(all.iter().map(|record| record.id).rev().collect::<Vec<_>>(), ids);
    assert_eq!(
        all.iter().map(|record| record.outcome).collect::<Vec<_>>(),
        [AuditOutcome::Begun, AuditOutcome::Failed, AuditOutcome::Done]
    );
    assert_eq!(all[1].error.as_deref(), Some("no such pause"));
    assert_eq!((&all[2].before, &all[2].after), (&reasoned.before, &Some(json!({ "until": "x" }))));
    assert_eq!((all[2].reason.as_deref(), all[2].tenant.as_deref()), (Some("maintenance"), Some("acme")));

    let of_ann = AuditFilter { who: Some("ann".to_owned()), ..AuditFilter::default() };
    assert_eq!(listed(&fixture, &of_ann).len(), 2);
    let page = AuditFilter { before_id: Some(ids[2]), limit: Some(1), ..AuditFilter::default() };
    assert_eq!(listed(&fixture, &page)[0].id, ids[1]);
    let late = AuditFilter { since_ms: Some(3), action: Some("drain".to_owned()), ..AuditFilter::default() };
    assert_eq!(listed(&fixture, &late)[0].id, ids[2]);
}

#[test]
fn the_oldest_changes_are_forgotten_by_age_and_by_number_and_no_number_is_used_again() {
    let mut fixture = Fixture::new();
    fixture.write(|ledger| {
        for n in 0..10 {
            ledger.begin_audit(&entry("ann", "pause"), at(n))?;
        }
        assert_eq!(ledger.prune_audit(at(3), 100, 2)?, 2, "in small pieces");
        assert_eq!(ledger.prune_audit(at(3), 100, 100)?, 1);
        assert_eq!(ledger.prune_audit(at(3), 4, 100)?, 3);
        assert_eq!(ledger.prune_audit(at(3), 4, 100)?, 0);
        assert_eq!(ledger.prune_audit(at(100), 4, 100)?, 4);
        assert_eq!(ledger.begin_audit(&entry("ann", "pause"), at(200))?, 11);
        Ok(())
    });
}
