//! Looks for what is wrong with a data directory, and says how to mend it. Changes nothing; a host may run meanwhile.

mod finding;
mod ledger;
mod rights;

pub use finding::{Finding, FindingId, Level};

use crate::limits::DOCTOR_FINDINGS_MAX;
use crate::settings::Settings;
use crate::store::central::{Central, CentralSnapshot, SessionFacts, SessionStatus};
use crate::store::error::StoreError;
use crate::store::host_checks;
use crate::store::open::{InboundAccess, open_inbound, open_outbound};
use crate::store::session_dir::SessionsRoot;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Below this, records soon fail.
const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// Every session has a folder or two, and files in them.
const FREE_INODES_MIN: u64 = 1000;
/// A zone that every database of zones has.
const ZONE_TO_TRY: &str = "Europe/Berlin";
/// Below this, a user with a desktop or a few services has none left.
const INSTANCES_MIN: u64 = 16;
/// What a host needs besides the sessions that are at work at a time.
const DESCRIPTORS_MIN: u64 = 1024;

/// Looks at everything. Opens each active session once: about a millisecond each; `progress` hears how many of how many
/// are done.
pub fn examine(data_dir: &Path, settings: &Settings, progress: &mut dyn FnMut(u64, u64)) -> Vec<Finding> {
    let snapshot = match Central::open(data_dir).and_then(|central| central.load_snapshot()) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let remedy = "give --data the folder that holds v2.db and v2-sessions/";
            return vec![Finding::error(FindingId::CentralDatabase, "v2.db", error.to_string(), remedy)];
        }
    };
    let active = active(&snapshot).count();
    let mut findings =
        vec![Finding::ok(FindingId::CentralDatabase, "v2.db", format!("{active} active sessions"))];
    findings.extend(snapshot.skipped.iter().take(DOCTOR_FINDINGS_MAX).map(|(what, why)| {
        Finding::warning(
            FindingId::CentralRow,
            "v2.db",
            format!("{what} is not usable: {why}"),
            "correct the row",
        )
    }));
    findings.extend(free_space(data_dir));
    findings.push(time_zones());
    findings.extend(rights::examine(data_dir, &snapshot));
    findings.push(watching(data_dir));
    findings.extend(limits(active as u64));
    findings.extend(match SessionsRoot::open(data_dir) {
        Ok(root) => sessions(&root, &snapshot, progress),
        Err(error) => {
            let remedy = "make the folder, or give --data the folder that holds it";
            vec![Finding::error(FindingId::SessionsFolder, "v2-sessions", error.to_string(), remedy)]
        }
    });
    let of_ledger = ledger::examine(data_dir, settings.retention.size_bytes_max);
    // What is wrong with a session now says more than what the host has noted.
    let is_news = |noted: &Finding| !findings.iter().any(|finding| finding.subject == noted.subject);
    let of_ledger: Vec<Finding> = of_ledger.into_iter().filter(is_news).collect();
    findings.extend(of_ledger);
    findings
}

fn active(snapshot: &CentralSnapshot) -> impl Iterator<Item = &SessionFacts> {
    snapshot.sessions.values().filter(|facts| facts.status == SessionStatus::Active)
}

fn free_space(data_dir: &Path) -> Vec<Finding> {
    let subject = "free space";
    let room = match host_checks::room(data_dir) {
        Ok(room) => room,
        Err(error) => {
            return vec![Finding::error(FindingId::FreeSpace, subject, error.to_string(), "check the mount")];
        }
    };
    let words =
        format!("{}, {} inodes", in_mib(room.bytes), room.inodes.map_or("any".to_owned(), |n| n.to_string()));
    let is_short = room.bytes < FREE_BYTES_MIN || room.inodes.is_some_and(|inodes| inodes < FREE_INODES_MIN);
    let mut findings = vec![if is_short {
        let remedy = "make room: without it nothing can be recorded, and nothing is sent without a record";
        Finding::error(FindingId::FreeSpace, subject, words, remedy)
    } else {
        Finding::ok(FindingId::FreeSpace, subject, words)
    }];
    if room.is_read_only {
        let remedy = "look into the kernel's log, mend the disk, mount it again";
        findings.push(Finding::error(FindingId::ReadOnly, "file system", "is mounted read-only", remedy));
    }
    findings
}

fn time_zones() -> Finding {
    match jiff::tz::TimeZone::get(ZONE_TO_TRY) {
        Ok(_) => Finding::ok(FindingId::TimeZones, "time zones", "are known"),
        Err(error) => Finding::error(
            FindingId::TimeZones,
            "time zones",
            format!("{ZONE_TO_TRY} is not known: {error}"),
            "install tzdata: tasks with a zone of their own cannot be planned",
        ),
    }
}

fn in_mib(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

/// Commits in a folder on the file system of the sessions, and sees what is heard of it.
fn watching(data_dir: &Path) -> Finding {
    let subject = "file events";
    let tried = match host_checks::try_commits(data_dir) {
        Ok(tried) => tried,
        Err(error) => {
            return Finding::warning(
                FindingId::FileEvents,
                subject,
                format!("cannot be tried: {error}"),
                "let this user write to the data directory, and raise fs.inotify.max_user_instances",
            );
        }
    };
    let unheard: Vec<&str> = tried
        .iter()
        .filter(|commit| commit.heard_after.is_none())
        .map(|commit| commit.journal_mode)
        .collect();
    if !unheard.is_empty() {
        return Finding::warning(
            FindingId::FileEvents,
            subject,
            format!("a commit was not heard of (journal_mode {}): sessions are polled", unheard.join(", ")),
            "set delivery.watch = \"poll\" and choose delivery.poll_interval, or use a local file system",
        );
    }
    let slowest = tried.iter().filter_map(|commit| commit.heard_after).max().unwrap_or_default();
    Finding::ok(
        FindingId::FileEvents,
        subject,
        format!("commits are heard of within {:.1} ms", slowest.as_secs_f64() * 1000.0),
    )
}

fn limits(active: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(watches) = host_checks::watches_max() {
        let words = format!("{watches} folders can be watched");
        findings.push(if watches > active {
            Finding::ok(FindingId::InotifyWatches, "fs.inotify.max_user_watches", words)
        } else {
            let remedy = format!("sysctl fs.inotify.max_user_watches={}: the others are polled", active * 2);
            Finding::warning(FindingId::InotifyWatches, "fs.inotify.max_user_watches", words, remedy)
        });
    }
    if let Some(instances) = host_checks::instances_max().filter(|instances| *instances < INSTANCES_MIN) {
        let words = format!("{instances} programs of this user can watch folders");
        let remedy = "sysctl fs.inotify.max_user_instances=128: a host that gets none polls";
        findings.push(Finding::warning(
            FindingId::InotifyInstances,
            "fs.inotify.max_user_instances",
            words,
            remedy,
        ));
    }
    if let Some(descriptors) = host_checks::descriptors_max() {
        let words = format!("{descriptors} files can be open");
        findings.push(if descriptors >= DESCRIPTORS_MIN {
            Finding::ok(FindingId::OpenFiles, "file descriptors", words)
        } else {
            let remedy = format!("raise the limit (LimitNOFILE=, ulimit -n) to {DESCRIPTORS_MIN} or more");
            Finding::warning(FindingId::OpenFiles, "file descriptors", words, remedy)
        });
    }
    findings
}

fn sessions(
    root: &SessionsRoot,
    snapshot: &CentralSnapshot,
    progress: &mut dyn FnMut(u64, u64),
) -> Vec<Finding> {
    let (mut sound, mut empty) = (0_u64, 0_u64);
    let mut polled: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut findings = Vec::new();
    let total = active(snapshot).count() as u64;
    for (done, facts) in (1..).zip(active(snapshot)) {
        progress(done, total);
        match session(root, facts) {
            Ok(shared) => {
                sound += 1;
                if let Some(kind) = shared {
                    *polled.entry(kind).or_default() += 1;
                }
            }
            Err(StoreError::Missing(_)) => empty += 1,
            Err(error) if findings.len() < DOCTOR_FINDINGS_MAX => findings.push(unusable(facts, &error)),
            Err(_) => {}
        }
    }
    for (kind, count) in polled {
        let words = format!("{count} sessions are on a shared file system ({kind}) and are polled");
        let remedy = "use a local file system for milliseconds; delivery.poll_interval bounds the delay";
        findings.push(Finding::warning(FindingId::SessionsPolled, "sessions", words, remedy));
    }
    findings.push(Finding::ok(
        FindingId::Sessions,
        "sessions",
        format!("{sound} sound, {empty} without files yet"),
    ));
    findings
}

/// Opens both databases as the host does; the kind of file system, when it is one that tells of no changes.
fn session(root: &SessionsRoot, facts: &SessionFacts) -> Result<Option<&'static str>, StoreError> {
    let directory = Arc::new(root.session(&facts.agent_group_id, &facts.id)?);
    directory.check_writable()?;
    drop(open_outbound(&directory)?);
    drop(open_inbound(&directory, InboundAccess::ReadOnly)?);
    Ok(directory.shared_file_system())
}

fn unusable(facts: &SessionFacts, error: &StoreError) -> Finding {
    let subject = format!("session {}", facts.id);
    let words = error.to_string();
    match error {
        StoreError::Busy(_) => Finding::warning(
            FindingId::SessionLocked,
            subject,
            words,
            "nothing, if its agent is writing just now; else stop the agent",
        ),
        StoreError::HotJournal(_) => {
            let remedy = "nothing: it is rolled back as soon as no agent of this session runs";
            Finding::warning(FindingId::SessionHotJournal, subject, words, remedy)
        }
        StoreError::WalMode(_) => {
            let remedy = "have its agent use PRAGMA journal_mode=DELETE, as NanoClaw's containers do";
            Finding::error(FindingId::SessionWal, subject, words, remedy)
        }
        StoreError::Refused { .. } => {
            let remedy = "look into its folder: an agent that puts links or devices there may be an attacker";
            Finding::error(FindingId::SessionRefused, subject, words, remedy)
        }
        StoreError::Corrupt { .. } => Finding::error(
            FindingId::SessionDamaged,
            subject,
            words,
            "stop its agent and restore the file, or recover it with sqlite3's .recover",
        ),
        StoreError::Schema { .. } => Finding::error(
            FindingId::SessionSchema,
            subject,
            words,
            "have NanoClaw make the session anew; its files are no session's files",
        ),
        _ => Finding::error(
            FindingId::SessionUnreadable,
            subject,
            words,
            "check the owner and the mode of the file and its folder",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DataDir, SessionSpec, database};

    fn examine_all(data_dir: &Path) -> Vec<Finding> {
        examine(data_dir, &Settings::default(), &mut |_, _| {})
    }

    fn found<'a>(findings: &'a [Finding], subject: &str) -> Vec<&'a Finding> {
        findings.iter().filter(|finding| finding.subject == subject).collect()
    }

    #[test]
    fn a_sound_directory_has_nothing_to_mend_and_stays_as_it_is() {
        let data = DataDir::new();
        data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
        let before: Vec<_> =
            std::fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let findings = examine_all(data.path());
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
        assert_eq!(found(&findings, "sessions")[0].finding, "1 sound, 0 without files yet");
        assert!(found(&findings, "file events")[0].finding.starts_with("commits are heard of within"));
        let mut after: Vec<_> =
            std::fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        // Readers of a database in WAL mode share these; the last one removes them.
        let is_of_wal_mode = |path: &std::path::PathBuf| {
            path.to_string_lossy().ends_with("-wal") || path.to_string_lossy().ends_with("-shm")
        };
        after.retain(|path| !before.contains(path) && !is_of_wal_mode(path));
        assert!(after.is_empty(), "{after:?}");
    }

    #[test]
    fn each_broken_session_is_named_with_what_to_do() {
        let data = DataDir::new();
        let [wal, damaged, linked, fresh] = [0, 1, 2, 3]
            .map(|number| data.session(SessionSpec::new("ag").chat("slack", &format!("slack:C{number}"))));
        database::open(&wal.folder().join("outbound.db")).execute_batch("PRAGMA journal_mode=WAL").unwrap();
        std::fs::write(damaged.folder().join("outbound.db"), vec![7; 8192]).unwrap();
        std::fs::remove_file(linked.folder().join("outbound.db")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", linked.folder().join("outbound.db")).unwrap();
        std::fs::remove_dir_all(fresh.folder()).unwrap();
        let findings = examine_all(data.path());
        for (agent, words, remedy) in [
            (&wal, "WAL mode", "journal_mode=DELETE"),
            (&damaged, "damaged", "restore"),
            (&linked, "refused", "links"),
        ] {
            let found = found(&findings, &format!("session {}", agent.session_id()));
            assert_eq!((found.len(), found[0].level), (1, Level::Error), "{findings:#?}");
            assert!(found[0].finding.contains(words), "{found:?}");
            assert!(found[0].remedy.as_deref().is_some_and(|text| text.contains(remedy)), "{found:?}");
        }
        assert_eq!(found(&findings, "sessions")[0].finding, "0 sound, 1 without files yet");
    }

    #[test]
    fn a_folder_that_is_no_data_directory_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let findings = examine_all(folder.path());
        assert_eq!((findings.len(), findings[0].level), (1, Level::Error));
    }
}
