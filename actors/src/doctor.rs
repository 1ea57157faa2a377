//! Looks for what is wrong with a data directory, and says how to mend it. Changes nothing; a host may run meanwhile.

use crate::limits::DOCTOR_FINDINGS_MAX;
use crate::report::{DeliveryFilter, DeliveryState};
use crate::store::central::{Central, CentralSnapshot, SessionFacts, SessionStatus};
use crate::store::error::StoreError;
use crate::store::host_checks;
use crate::store::ledger::{LEDGER_FILE, LedgerReader};
use crate::store::open::{InboundAccess, open_inbound, open_outbound};
use crate::store::session_dir::SessionsRoot;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Below this, records soon fail.
const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// What a host needs besides the sessions that are at work at a time.
const DESCRIPTORS_MIN: u64 = 1024;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it must be.
    Ok,
    /// Works, but somebody should look at it.
    Warning,
    /// Does not work.
    Error,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub subject: String,
    /// How bad it is.
    pub level: Level,
    /// What it is like.
    pub finding: String,
    /// How to mend it; none when nothing is to be done.
    pub remedy: Option<String>,
}

impl Finding {
    /// Something that is as it must be.
    pub fn ok(subject: impl Into<String>, finding: impl Into<String>) -> Self {
        Self { subject: subject.into(), level: Level::Ok, finding: finding.into(), remedy: None }
    }

    /// Something that somebody should look at.
    pub fn warning(
        subject: impl Into<String>,
        finding: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warning, remedy: Some(remedy.into()), ..Self::ok(subject, finding) }
    }

    /// Something that does not work.
    pub fn error(subject: impl Into<String>, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Error, ..Self::warning(subject, finding, remedy) }
    }
}

/// Looks at everything. Opens each active session once: about a millisecond each.
pub fn examine(data_dir: &Path) -> Vec<Finding> {
    let snapshot = match Central::open(data_dir).and_then(|central| central.load_snapshot()) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let remedy = "give --data the folder that holds v2.db and v2-sessions/";
            return vec![Finding::error("v2.db", error.to_string(), remedy)];
        }
    };
    let active = active(&snapshot).count();
    let mut findings = vec![Finding::ok("v2.db", format!("{active} active sessions"))];
    findings.extend(snapshot.skipped.iter().take(DOCTOR_FINDINGS_MAX).map(|(what, why)| {
        Finding::warning("v2.db", format!("{what} is not usable: {why}"), "correct the row")
    }));
    findings.push(free_space(data_dir));
    findings.push(watching(data_dir));
    findings.extend(limits(active as u64));
    findings.extend(match SessionsRoot::open(data_dir) {
        Ok(root) => sessions(&root, &snapshot),
        Err(error) => {
            let remedy = "make the folder, or give --data the folder that holds it";
            vec![Finding::error("v2-sessions", error.to_string(), remedy)]
        }
    });
    let of_ledger = ledger(data_dir);
    // What is wrong with a session now says more than what the host has noted.
    let is_news = |noted: &Finding| !findings.iter().any(|finding| finding.subject == noted.subject);
    let of_ledger: Vec<Finding> = of_ledger.into_iter().filter(is_news).collect();
    findings.extend(of_ledger);
    findings
}

fn active(snapshot: &CentralSnapshot) -> impl Iterator<Item = &SessionFacts> {
    snapshot.sessions.values().filter(|facts| facts.status == SessionStatus::Active)
}

fn free_space(data_dir: &Path) -> Finding {
    let subject = "free space";
    match host_checks::free_bytes(data_dir) {
        Ok(free) if free < FREE_BYTES_MIN => Finding::error(
            subject,
            in_mib(free),
            "make room: without it nothing can be recorded, and nothing is sent without a record",
        ),
        Ok(free) => Finding::ok(subject, in_mib(free)),
        Err(error) => Finding::error(subject, error.to_string(), "check the mount"),
    }
}

fn in_mib(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

fn ledger(data_dir: &Path) -> Vec<Finding> {
    let reader = match LedgerReader::open(data_dir) {
        Ok(reader) => reader,
        Err(StoreError::Missing(_)) => return vec![Finding::ok(LEDGER_FILE, "no host has run here yet")],
        Err(error) => return vec![unreadable_ledger(&error)],
    };
    match examine_ledger(&reader) {
        Ok(findings) => findings,
        Err(error) => vec![unreadable_ledger(&error)],
    }
}

fn unreadable_ledger(error: &StoreError) -> Finding {
    Finding::error(LEDGER_FILE, error.to_string(), "restore a copy of it, or run `nanorelay ledger rebuild`")
}

fn examine_ledger(reader: &LedgerReader) -> Result<Vec<Finding>, StoreError> {
    reader.check()?;
    let mut findings = vec![Finding::ok(LEDGER_FILE, "sound")];
    for (state, remedy) in [
        (
            DeliveryState::Dead,
            "mend the cause that `nanorelay deliveries list --state dead` names, then replay them",
        ),
        (DeliveryState::Ambiguous, "find out whether they arrived, then `nanorelay deliveries resolve`"),
        (
            DeliveryState::Held,
            "`nanorelay deliveries list --state held` says why; `deliveries replay` lets them go",
        ),
    ] {
        let limit = Some(u32::try_from(DOCTOR_FINDINGS_MAX).unwrap_or(u32::MAX));
        let filter = DeliveryFilter { states: vec![state], limit, ..DeliveryFilter::default() };
        let count = reader.deliveries(&filter)?.len();
        if count > 0 {
            let more = if count == DOCTOR_FINDINGS_MAX { " or more" } else { "" };
            let words = format!("{count}{more} messages are {}", state.as_str());
            findings.push(Finding::warning("deliveries", words, remedy));
        }
    }
    for (session, reason) in reader.quarantined()?.into_iter().take(DOCTOR_FINDINGS_MAX) {
        let remedy = format!("mend the cause, then `nanorelay sessions release {session}`");
        findings.push(Finding::warning(format!("session {session}"), reason, remedy));
    }
    Ok(findings)
}

/// Commits in a folder on the file system of the sessions, and sees what is heard of it.
fn watching(data_dir: &Path) -> Finding {
    let subject = "file events";
    let tried = match host_checks::try_commits(data_dir) {
        Ok(tried) => tried,
        Err(error) => {
            return Finding::warning(
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
            subject,
            format!("a commit was not heard of (journal_mode {}): sessions are polled", unheard.join(", ")),
            "set delivery.watch = \"poll\" and choose delivery.poll_interval, or use a local file system",
        );
    }
    let slowest = tried.iter().filter_map(|commit| commit.heard_after).max().unwrap_or_default();
    Finding::ok(subject, format!("commits are heard of within {:.1} ms", slowest.as_secs_f64() * 1000.0))
}

fn limits(active: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(watches) = host_checks::watches_max() {
        let words = format!("{watches} folders can be watched");
        findings.push(if watches > active {
            Finding::ok("fs.inotify.max_user_watches", words)
        } else {
            let remedy = format!("sysctl fs.inotify.max_user_watches={}: the others are polled", active * 2);
            Finding::warning("fs.inotify.max_user_watches", words, remedy)
        });
    }
    if let Some(descriptors) = host_checks::descriptors_max() {
        let words = format!("{descriptors} files can be open");
        findings.push(if descriptors >= DESCRIPTORS_MIN {
            Finding::ok("file descriptors", words)
        } else {
            let remedy = format!("raise the limit (LimitNOFILE=, ulimit -n) to {DESCRIPTORS_MIN} or more");
            Finding::warning("file descriptors", words, remedy)
        });
    }
    findings
}

fn sessions(root: &SessionsRoot, snapshot: &CentralSnapshot) -> Vec<Finding> {
    let (mut sound, mut empty) = (0_u64, 0_u64);
    let mut polled: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut findings = Vec::new();
    for facts in active(snapshot) {
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
        findings.push(Finding::warning("sessions", words, remedy));
    }
    findings.push(Finding::ok("sessions", format!("{sound} sound, {empty} without files yet")));
    findings
}

/// Opens both databases as the host does; the kind of file system, when it is one that tells of no changes.
fn session(root: &SessionsRoot, facts: &SessionFacts) -> Result<Option<&'static str>, StoreError> {
    let directory = Arc::new(root.session(&facts.agent_group_id, &facts.id)?);
    drop(open_outbound(&directory)?);
    drop(open_inbound(&directory, InboundAccess::ReadOnly)?);
    Ok(directory.shared_file_system())
}

fn unusable(facts: &SessionFacts, error: &StoreError) -> Finding {
    let subject = format!("session {}", facts.id);
    let words = error.to_string();
    match error {
        StoreError::Busy(_) => {
            Finding::warning(subject, words, "nothing, if its agent is writing just now; else stop the agent")
        }
        StoreError::HotJournal(_) => {
            let remedy = "nothing: it is rolled back as soon as no agent of this session runs";
            Finding::warning(subject, words, remedy)
        }
        StoreError::WalMode(_) => {
            let remedy = "have its agent use PRAGMA journal_mode=DELETE, as NanoClaw's containers do";
            Finding::error(subject, words, remedy)
        }
        StoreError::Refused { .. } => {
            let remedy = "look into its folder: an agent that puts links or devices there may be an attacker";
            Finding::error(subject, words, remedy)
        }
        StoreError::Corrupt { .. } => Finding::error(
            subject,
            words,
            "stop its agent and restore the file, or recover it with sqlite3's .recover",
        ),
        StoreError::Schema { .. } => Finding::error(
            subject,
            words,
            "have NanoClaw make the session anew; its files are no session's files",
        ),
        _ => Finding::error(subject, words, "check the owner and the mode of the file and its folder"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DataDir, SessionSpec, database};

    fn found<'a>(findings: &'a [Finding], subject: &str) -> Vec<&'a Finding> {
        findings.iter().filter(|finding| finding.subject == subject).collect()
    }

    #[test]
    fn a_sound_directory_has_nothing_to_mend_and_stays_as_it_is() {
        let data = DataDir::new();
        data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
        let before: Vec<_> =
            std::fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let findings = examine(data.path());
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
        let findings = examine(data.path());
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
        let findings = examine(folder.path());
        assert_eq!((findings.len(), findings[0].level), (1, Level::Error));
    }
}
