use super::*;
use crate::limits::CLAIM_RESETS_PER_SESSION_MAX;
use crate::model::error::ErrorClass;
use crate::model::ids::{AgentGroupId, ChannelType, MessageId, PlatformId, SessionId};
use crate::model::message::{DeliveryKey, Destination, Lane};
use crate::model::time::Timestamp;
use crate::report::{DeliveryFilter, DeliveryState};
use crate::store::outbound::Cursor;
use crate::testing::fault::{Fault, Operation};
use tempfile::TempDir;

struct Fixture {
    folder: TempDir,
    writer: LedgerWriter,
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(ms)
}

fn session() -> SessionId {
    SessionId::new("sess-1").unwrap()
}

fn id(name: &str) -> MessageId {
    MessageId::new(name).unwrap()
}

fn key(name: &str) -> DeliveryKey {
    DeliveryKey { session_id: session(), message_id: id(name) }
}

fn lane() -> Lane {
    Lane::Channel(Destination {
        channel_type: ChannelType::new("slack").unwrap(),
        platform_id: PlatformId::new("slack:C1").unwrap(),
        thread_id: None,
    })
}

fn admission(name: &str, seq: i64) -> Admission {
    Admission {
        message_id: id(name),
        seq,
        kind: "chat".to_owned(),
        lane: lane(),
        channel_type: Some("slack".to_owned()),
        platform_id: Some("slack:C1".to_owned()),
        thread_id: None,
        has_files: false,
        initial: InitialState::Due,
        revision: None,
        heard_at: None,
    }
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let writer = LedgerWriter::open(folder.path()).unwrap();
        Self { folder, writer }
    }

    fn write<T>(&mut self, work: impl FnOnce(&mut LedgerTransaction<'_>) -> Result<T, StoreError>) -> T {
        let mut transaction = self.writer.transaction().unwrap();
        let value = transaction.operation(work).unwrap();
        transaction.commit().unwrap();
        value
    }

    fn admit(&mut self, admissions: &[Admission]) -> Vec<Admitted> {
        let group = AgentGroupId::new("ag-main").unwrap();
        let seq = admissions.iter().map(|admission| admission.seq).max().unwrap_or(0);
        self.write(|ledger| {
            ledger.admit(&session(), &group, admissions, Cursor { seq, rowid: seq }, 0, at(1000))
        })
    }

    fn reader(&self) -> LedgerReader {
        LedgerReader::open(self.folder.path()).unwrap()
    }

    fn states(&self) -> Vec<(String, DeliveryState, u32)> {
        let mut records = self.reader().deliveries(&DeliveryFilter::default()).unwrap();
        records.sort_by_key(|record| record.seq);
        records.into_iter().map(|record| (record.message_id, record.state, record.attempts)).collect()
    }
}

fn done() -> Outcome {
    Outcome::Done { effect: Effect::Delivered, platform_message_id: Some("p1".to_owned()), projected: false }
}

#[test]
fn a_message_lives_from_queued_to_delivered_and_is_projected_once() {
    let mut ledger = Fixture::new();
    assert_eq!(ledger.admit(&[admission("a", 1)]), [Admitted::New]);
    let begun = ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(2000)));
    let fresh = Begin::Started { attempt: 1, first_due: at(1000), maybe_sent: false, edit: None };
    assert_eq!(begun, fresh);
    assert!(ledger.write(|ledger| ledger.finish(&session(), &id("a"), &done(), at(3000))));
    let unprojected = ledger.reader().unprojected(&session(), 10).unwrap();
    assert_eq!(unprojected.len(), 1);
    assert_eq!(unprojected[0].platform_message_id.as_deref(), Some("p1"));
    ledger.write(|ledger| ledger.mark_projected(&session(), &[(id("a"), DeliveryState::Delivered)]));
    assert!(ledger.reader().unprojected(&session(), 10).unwrap().is_empty());
    assert_eq!(ledger.states(), [("a".to_owned(), DeliveryState::Delivered, 1)]);
}

#[test]
fn a_message_is_admitted_once_and_attempted_by_one() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("a", 1)]);
    assert_eq!(ledger.admit(&[admission("a", 1)]), [Admitted::Known(DeliveryState::Queued)]);
    ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(0)));
    let second = ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(0)));
    assert_eq!(second, Begin::Refused(DeliveryState::Sending));
    let unknown = ledger.write(|ledger| ledger.begin_attempt(&key("b"), at(0)));
    assert_eq!(unknown, Begin::Unknown);
}

#[test]
fn a_delivered_message_stays_delivered_whatever_comes_later() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("a", 1)]);
    ledger.write(|ledger| ledger.finish(&session(), &id("a"), &done(), at(1)));
    let dead = Outcome::Dead {
        class: ErrorClass::Permanent,
        reason: "late".to_owned(),
        attempted: true,
        projected: false,
    };
    assert!(!ledger.write(|ledger| ledger.finish(&session(), &id("a"), &dead, at(2))));
    assert!(!ledger.write(|ledger| ledger.replay(&key("a"), None, at(3))));
    assert_eq!(ledger.states()[0].1, DeliveryState::Delivered);
}

#[test]
fn a_host_that_died_in_mid_send_leaves_an_ambiguous_message_unless_it_may_be_resent() {
    for (may_resend, expected) in [(false, DeliveryState::Ambiguous), (true, DeliveryState::Queued)] {
        let mut ledger = Fixture::new();
        ledger.admit(&[admission("a", 1), admission("b", 3)]);
        ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(0)));
        let ambiguous = ledger.write(|ledger| ledger.begin_incarnation(at(5), &|_| may_resend));
        assert_eq!(ambiguous, usize::from(!may_resend));
        assert_eq!(ledger.states()[0].1, expected);
        assert_eq!(ledger.states()[1].1, DeliveryState::Queued);
    }
}

#[test]
fn an_unsent_try_is_not_counted_and_a_retry_is_listed_with_its_time() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("a", 1)]);
    ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(0)));
    let retry = Outcome::Retry {
        at: at(9_000),
        counts_attempt: false,
        class: ErrorClass::Unavailable,
        reason: "down".to_owned(),
    };
    ledger.write(|ledger| ledger.finish(&session(), &id("a"), &retry, at(1)));
    assert_eq!(ledger.states(), [("a".to_owned(), DeliveryState::Retrying, 0)]);
    let page = ledger.reader().lane_page(&session(), &lane().key(), 10, at(2), false).unwrap();
    assert_eq!(page[0].next_attempt_at, Some(at(9_000)));
}

#[test]
fn no_attempt_begins_before_its_time() {
    let mut fixture = Fixture::new();
    fixture.admit(&[Admission { initial: InitialState::Scheduled(at(5000)), ..admission("later", 1) }]);
    let begin =
        |fixture: &mut Fixture, now| fixture.write(|ledger| ledger.begin_attempt(&key("later"), at(now)));
    assert_eq!(begin(&mut fixture, 4999), Begin::Postponed(at(5000)));
    assert!(matches!(begin(&mut fixture, 5000), Begin::Started { attempt: 1, .. }));
    let (class, reason) = (ErrorClass::RateLimited, "slow down".to_owned());
    let retry = Outcome::Retry { at: at(9000), counts_attempt: true, class, reason };
    fixture.write(|ledger| ledger.finish(&session(), &id("later"), &retry, at(5100)));
    assert_eq!(begin(&mut fixture, 8999), Begin::NotYet(at(9000)));
    assert!(matches!(begin(&mut fixture, 9000), Begin::Started { attempt: 2, .. }));
}

#[test]
fn an_attempt_that_was_not_made_is_taken_back() {
    let mut fixture = Fixture::new();
    fixture.admit(&[admission("m", 1)]);
    fixture.write(|ledger| ledger.begin_attempt(&key("m"), at(2000)));
    fixture.write(|ledger| ledger.abandon_attempt(&key("m"), at(2001)));
    let begun = fixture.write(|ledger| ledger.begin_attempt(&key("m"), at(2002)));
    assert!(matches!(begun, Begin::Started { attempt: 1, .. }), "{begun:?}");
    fixture.write(|ledger| ledger.finish(&session(), &id("m"), &done(), at(2003)));
    fixture.write(|ledger| ledger.abandon_attempt(&key("m"), at(2004)));
    let begun = fixture.write(|ledger| ledger.begin_attempt(&key("m"), at(2005)));
    assert_eq!(begun, Begin::Refused(DeliveryState::Delivered), "what is settled stays settled");
}

#[test]
fn a_scheduled_message_holds_up_nobody_and_counts_as_scheduled() {
    let mut ledger = Fixture::new();
    let later = Admission { initial: InitialState::Scheduled(at(50_000)), ..admission("later", 1) };
    ledger.admit(&[later, admission("now", 3)]);
    let page = |now| ledger.reader().lane_page(&session(), &lane().key(), 10, now, false).unwrap();
    let ids = |page: Vec<PendingDelivery>| -> Vec<String> {
        page.into_iter().map(|delivery| delivery.message_id.to_string()).collect()
    };
    assert_eq!(ids(page(at(49_999))), ["now"]);
    assert_eq!(ids(page(at(50_000))), ["later", "now"]);
    let left = ledger.reader().left(at(1_000), &|_| true).unwrap();
    assert_eq!((left.scheduled, left.due), (1, 1));
    assert_eq!(ledger.reader().next_scheduled(&session(), at(1_000), &|_| false).unwrap(), Some(at(50_000)));
}

#[test]
fn what_an_earlier_host_delivered_is_not_new() {
    let mut ledger = Fixture::new();
    let group = AgentGroupId::new("ag-main").unwrap();
    let imported = [
        ImportedDelivery { message_id: id("c"), seq: 5, platform_message_id: None, failed: false },
        ImportedDelivery { message_id: id("b"), seq: 3, platform_message_id: None, failed: true },
    ];
    ledger.write(|ledger| {
        ledger.import_session(&session(), &group, Cursor { seq: 3, rowid: 0 }, &imported, at(0))
    });
    let known = ledger.reader().known_session(&session()).unwrap().progress.unwrap();
    assert_eq!(known.low_water_seq, 3);
    let admissions = [admission("a", 1), admission("b", 3), admission("c", 5), admission("d", 7)];
    let answers = ledger
        .write(|ledger| ledger.admit(&session(), &group, &admissions, Cursor { seq: 7, rowid: 4 }, 3, at(1)));
    assert_eq!(
        answers,
        [
            Admitted::BelowLowWater,
            Admitted::Known(DeliveryState::Dead),
            Admitted::Known(DeliveryState::Delivered),
            Admitted::New
        ]
    );
}

#[test]
fn a_quarantined_session_that_was_never_read_is_still_imported_later() {
    let mut ledger = Fixture::new();
    let group = AgentGroupId::new("ag-main").unwrap();
    ledger.write(|ledger| ledger.set_quarantine(&session(), &group, Some("damaged"), at(0)));
    let known = KnownSession { progress: None, is_quarantined: true };
    assert_eq!(ledger.reader().known_session(&session()).unwrap(), known);
    assert_eq!(ledger.reader().left(at(0), &|_| true).unwrap().held, 1);
    ledger.write(|ledger| ledger.import_session(&session(), &group, Cursor { seq: 9, rowid: 0 }, &[], at(1)));
    assert_eq!(ledger.reader().known_session(&session()).unwrap().progress.unwrap().low_water_seq, 9);
    ledger.write(|ledger| ledger.set_quarantine(&session(), &group, None, at(2)));
    assert!(ledger.reader().quarantined().unwrap().is_empty());
}

#[test]
fn a_failed_operation_leaves_nothing_and_spares_its_group() {
    let mut ledger = Fixture::new();
    let mut transaction = ledger.writer.transaction().unwrap();
    let group = AgentGroupId::new("ag-main").unwrap();
    let failed = transaction.operation(|ledger| {
        ledger.admit(&session(), &group, &[admission("bad", 1)], Cursor::default(), 0, at(0))?;
        Err::<(), _>(StoreError::Limit("injected".to_owned()))
    });
    assert!(failed.is_err());
    transaction
        .operation(|ledger| {
            ledger.admit(&session(), &group, &[admission("good", 3)], Cursor::default(), 0, at(0))
        })
        .unwrap();
    transaction.commit().unwrap();
    assert_eq!(ledger.states().len(), 1);
    assert_eq!(ledger.states()[0].0, "good");
}

#[test]
fn replay_puts_the_dead_back_with_fresh_attempts() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("a", 1)]);
    ledger.write(|ledger| ledger.begin_attempt(&key("a"), at(0)));
    let dead = Outcome::Dead {
        class: ErrorClass::Permanent,
        reason: "no".to_owned(),
        attempted: true,
        projected: false,
    };
    ledger.write(|ledger| ledger.finish(&session(), &id("a"), &dead, at(1)));
    let filter = DeliveryFilter { states: vec![DeliveryState::Dead], ..DeliveryFilter::default() };
    let keys = keys_of(&ledger.reader().replayable(&filter).unwrap());
    assert_eq!(keys, [key("a")]);
    assert_eq!(ledger.write(|ledger| ledger.replay_many(&keys, None, 0, at(2))), 1);
    assert_eq!(ledger.states(), [("a".to_owned(), DeliveryState::Queued, 0)]);
    assert!(ledger.reader().unprojected(&session(), 10).unwrap().is_empty());
}

#[test]
fn a_file_that_is_no_ledger_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(LEDGER_FILE);
    std::fs::write(&path, vec![b'x'; 9000]).unwrap();
    assert!(matches!(LedgerWriter::open(folder.path()), Err(StoreError::Corrupt { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 9000]);
}

#[test]
fn a_ledger_of_a_newer_version_is_refused() {
    let ledger = Fixture::new();
    ledger.writer.connection.pragma_update(None, "user_version", 99).unwrap();
    drop(ledger.writer);
    assert!(matches!(LedgerWriter::open(ledger.folder.path()), Err(StoreError::Schema { .. })));
}

#[test]
fn what_is_remembered_of_reset_claims_is_bounded_and_the_latest_stays() {
    let mut ledger = Fixture::new();
    let max = usize::try_from(CLAIM_RESETS_PER_SESSION_MAX).unwrap();
    let reset = |number: usize| (id(&format!("m{number}")), at(1000 * number as i64).to_iso());
    let resets: Vec<_> = (0..max + 10).map(reset).collect();
    ledger.write(|ledger| ledger.note_claim_resets(&session(), &resets));
    ledger.write(|ledger| ledger.note_claim_resets(&session(), &[reset(max + 10)]));
    let known = ledger.reader().reset_claims(&session()).unwrap();
    assert_eq!(known.len(), max);
    assert!(known.contains_key(&format!("m{}", max + 10)) && known.contains_key("m11"));
    assert!(!known.contains_key("m10"), "the oldest one is forgotten");
}

mod audit;
mod edits;
mod operate;
mod pages;
mod parts;
mod prune;
mod standing;
mod waiting;

#[test]
fn the_log_is_copied_on_demand_and_begins_anew_when_it_is_large() {
    let mut ledger = Fixture::new();
    let sync = ledger.writer.sync_handle();
    let log_size = |ledger: &Fixture| ledger.folder.path().join("nanorelay.db-wal").metadata().unwrap().len();
    let fill = |ledger: &mut Fixture| {
        let filler = "x".repeat(64_000);
        for _ in 0..600 {
            ledger.write(|transaction| {
                let group = AgentGroupId::new("ag-main").unwrap();
                transaction.set_quarantine(&session(), &group, Some(&filler), at(0))?;
                transaction.set_quarantine(&session(), &group, None, at(0))
            });
        }
    };
    while log_size(&ledger) <= u64::from(LOG_PAGES_MAX) * 4096 {
        fill(&mut ledger);
    }
    let large = log_size(&ledger);
    sync.checkpoint().unwrap();
    fill(&mut ledger);
    assert_eq!(log_size(&ledger), large, "it is written from its beginning again");
}

#[test]
fn after_a_failed_sync_the_log_begins_anew() {
    let mut ledger = Fixture::new();
    ledger.admit(&[admission("m1", 1)]);
    let log = ledger.folder.path().join("nanorelay.db-wal");
    let sync = ledger.writer.sync_handle();
    sync.sync().expect("the disk is well");
    let before = log.metadata().expect("a log").len();
    assert!(before > 0, "a sync that succeeds leaves the log alone");

    let fault = Fault::on(&log, Operation::Sync, rustix::io::Errno::IO);
    assert!(sync.sync().unwrap_err().to_string().contains("sync nanorelay.db-wal"));
    drop(fault);
    sync.sync().expect("the disk is well again");
    assert_eq!(log.metadata().expect("a log").len(), 0, "what could have a hole is not written on");
    ledger.admit(&[admission("m2", 3)]);
    assert_eq!(ledger.states().len(), 2);
    sync.sync().expect("the disk is well");
    assert!(log.metadata().expect("a log").len() > 0, "and that once only");
}
