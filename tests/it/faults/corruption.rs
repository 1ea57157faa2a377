//! Pages in the middle of a database are overwritten, while the host runs and while it does not.

use crate::red_team::battle::{Battle, within};
use crate::support::wait::{quarantined, until};
use nanorelay_actors::testing::database;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The pages of a database behind its first one, which holds the schema.
struct Pages {
    path: PathBuf,
    bytes: Vec<u8>,
}

const PAGE_BYTES: u64 = 4096;

impl Pages {
    /// Overwrites them and keeps what they were.
    fn destroy(path: &Path) -> Self {
        // Nothing of it may be only in a journal or a log.
        let file = File::open(path).expect("a file");
        let size = file.metadata().expect("a size").len() - PAGE_BYTES;
        let mut bytes = vec![0; usize::try_from(size).expect("a small file")];
        assert!(!bytes.is_empty(), "{} has more than one page", path.display());
        file.read_exact_at(&mut bytes, PAGE_BYTES).expect("its pages");
        // Another file under the same name: pages that a host has in memory would hide the damage from it.
        let copy = path.with_extension("copy");
        std::fs::copy(path, &copy).expect("a copy");
        let file = File::options().write(true).open(&copy).expect("a file");
        file.write_all_at(&vec![0x5a; bytes.len()], PAGE_BYTES).expect("a write");
        std::fs::rename(&copy, path).expect("a rename");
        Self { path: path.to_owned(), bytes }
    }

    fn restore(&self) {
        let file = File::options().write(true).open(&self.path).expect("a file");
        file.write_all_at(&self.bytes, PAGE_BYTES).expect("a write");
    }
}

/// One session's database loses its pages while the host runs.
async fn check(name: &str) {
    let battle = Battle::new();
    let mut ids = vec![battle.victim.text("before")];
    let relay = battle.start().await;
    battle.is_shown(&ids[0]).await;
    within("the relay settles", relay.settle()).await;

    // The agent has written; then its disk fails.
    ids.push(battle.victim.text("meanwhile"));
    let pages = Pages::destroy(&battle.path(name));
    battle.look(&relay).await;
    battle.neighbour_is_served().await;
    battle.is_quarantined_soon(&relay, &format!("{name} is damaged")).await;

    pages.restore();
    battle.release(&relay).await;
    for id in &ids {
        battle.is_shown(id).await;
    }
    quarantined(&relay, false).await;
    until("the agent is told", || battle.victim.delivered().len() == ids.len()).await;
    let calls = battle.slack.calls();
    let count = calls.iter().filter(|call| call.session_id.as_str() == battle.victim.session_id()).count();
    assert_eq!(count, ids.len(), "each once");
    battle.end(relay).await;
}

#[actix_rt::test]
async fn destroyed_pages_of_an_outbox_hold_up_its_session_only() {
    check("outbound.db").await;
}

#[actix_rt::test]
async fn destroyed_pages_of_an_inbox_hold_up_its_session_only() {
    check("inbound.db").await;
}

#[actix_rt::test]
async fn a_ledger_with_destroyed_pages_is_refused_and_left_alone() {
    let battle = Battle::new();
    let before = battle.victim.text("before");
    assert_eq!(battle.host.drain().await.report.delivered, 1);
    let path = battle.data.path().join("nanorelay.db");
    // What is in the log would be read instead of the pages.
    database::open(&path).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("a checkpoint");
    let pages = Pages::destroy(&path);
    let meanwhile = battle.victim.text("meanwhile");
    let error = battle.host.builder().start().await.expect_err("the ledger is damaged").to_string();
    assert!(error.contains("nanorelay.db is damaged"), "{error}");
    assert_eq!(battle.slack.calls().len(), 1, "without a ledger nothing is sent");
    pages.restore();
    assert_eq!(battle.host.drain().await.report.delivered, 1);
    battle.slack.assert_exactly_once(&[before, meanwhile]);
}
