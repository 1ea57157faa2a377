use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// A data directory with one session in it, and a folder outside that nothing may touch.
pub(in crate::store) struct Fixture {
    pub(in crate::store) data: tempfile::TempDir,
    pub(in crate::store) root: Arc<SessionsRoot>,
    pub(in crate::store) directory: Arc<SessionDir>,
}

impl Fixture {
    pub(in crate::store) fn new() -> Fixture {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(data.path().join(SESSIONS_FOLDER)).unwrap();
        std::fs::create_dir_all(data.path().join("outside")).unwrap();
        std::fs::write(data.path().join("outside/victim"), "precious").unwrap();
        let root = Arc::new(SessionsRoot::open(data.path()).unwrap());
        let directory = Arc::new(root.create_session(&group(), &session()).unwrap());
        Fixture { data, root, directory }
    }

    /// A path in the session's folder.
    pub(in crate::store) fn path(&self, name: &str) -> PathBuf {
        self.data.path().join(SESSIONS_FOLDER).join("group-1/session-1").join(name)
    }

    /// A file outside of the session's folder.
    pub(in crate::store) fn victim(&self) -> PathBuf {
        self.data.path().join("outside/victim")
    }

    #[track_caller]
    pub(in crate::store) fn assert_victim_untouched(&self) {
        assert_eq!(std::fs::read_to_string(self.victim()).unwrap(), "precious");
    }
}

pub(in crate::store) fn group() -> AgentGroupId {
    AgentGroupId::new("group-1").unwrap()
}

pub(in crate::store) fn session() -> SessionId {
    SessionId::new("session-1").unwrap()
}

pub(in crate::store) fn make_fifo(path: &Path) {
    fs::mknodat(fs::CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[track_caller]
pub(in crate::store) fn assert_refused<T>(result: Result<T, StoreError>, words: &str) {
    match result {
        Err(StoreError::Refused { reason, .. }) => assert!(reason.contains(words), "{reason:?}"),
        Err(other) => panic!("not refused: {other:?}"),
        Ok(_) => panic!("not refused"),
    }
}

#[track_caller]
pub(in crate::store) fn assert_missing<T>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Missing(_))), "{:?}", result.err());
}

#[test]
fn a_session_that_was_created_can_be_opened() {
    let fixture = Fixture::new();
    let directory = fixture.root.session(&group(), &session()).unwrap();
    assert!(super::proc_path(directory.as_fd()).join("outbox").is_dir());
    assert!(super::proc_path(directory.as_fd()).join("inbox").is_dir());
    let mode = std::fs::metadata(fixture.path("")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "closed to other users");
    fixture.root.create_session(&group(), &session()).unwrap();
}

#[test]
fn what_is_not_there_is_missing_and_not_refused() {
    let fixture = Fixture::new();
    assert_missing(fixture.root.session(&AgentGroupId::new("group-2").unwrap(), &session()));
    assert_missing(fixture.root.session(&group(), &SessionId::new("session-2").unwrap()));
    assert_missing(SessionsRoot::open(&fixture.data.path().join("nowhere")));
}

#[test]
fn a_link_in_place_of_a_session_or_group_folder_is_refused() {
    let fixture = Fixture::new();
    let sessions = fixture.data.path().join(SESSIONS_FOLDER);
    symlink(fixture.data.path().join("outside"), sessions.join("group-1/linked")).unwrap();
    symlink(sessions.join("group-1"), sessions.join("group-2")).unwrap();
    let linked = SessionId::new("linked").unwrap();
    assert_refused(fixture.root.session(&group(), &linked), "symbolic link");
    assert_refused(fixture.root.create_session(&group(), &linked), "symbolic link");
    let second_group = AgentGroupId::new("group-2").unwrap();
    assert_refused(fixture.root.session(&second_group, &session()), "symbolic link");
    assert_refused(fixture.root.create_session(&second_group, &session()), "symbolic link");
}

#[test]
fn a_file_or_fifo_in_place_of_a_session_folder_is_refused() {
    let fixture = Fixture::new();
    let group_path = fixture.path("..");
    std::fs::write(group_path.join("file"), "").unwrap();
    make_fifo(&group_path.join("fifo"));
    for name in ["file", "fifo"] {
        assert_refused(fixture.root.session(&group(), &SessionId::new(name).unwrap()), "not a folder");
    }
}

#[test]
fn a_link_in_place_of_the_outbox_stops_creation() {
    let fixture = Fixture::new();
    std::fs::remove_dir(fixture.path("outbox")).unwrap();
    symlink(fixture.data.path().join("outside"), fixture.path("outbox")).unwrap();
    assert_refused(fixture.root.create_session(&group(), &session()), "symbolic link");
}

#[test]
fn only_plain_files_with_one_name_have_an_identity() {
    for file in SessionFile::ALL {
        let fixture = Fixture::new();
        let path = fixture.path(file.name());
        assert_eq!(fixture.directory.identity(file).unwrap(), None);

        std::fs::write(&path, "12345").unwrap();
        assert_eq!(fixture.directory.identity(file).unwrap().unwrap().size, 5);

        std::fs::hard_link(&path, fixture.path("other-name")).unwrap();
        assert_refused(fixture.directory.identity(file), "more than one hard link");
        std::fs::remove_file(&path).unwrap();

        symlink(fixture.victim(), &path).unwrap();
        assert_refused(fixture.directory.identity(file), "symbolic link");
        std::fs::remove_file(&path).unwrap();

        make_fifo(&path);
        assert_refused(fixture.directory.identity(file), "FIFO");
        std::fs::remove_file(&path).unwrap();

        std::fs::create_dir(&path).unwrap();
        assert_refused(fixture.directory.identity(file), "folder");
    }
}

#[test]
fn a_replaced_file_has_another_identity() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("outbound.db"), "a").unwrap();
    let before = fixture.directory.identity(SessionFile::Outbound).unwrap().unwrap();
    std::fs::write(fixture.path("new"), "b").unwrap();
    std::fs::rename(fixture.path("new"), fixture.path("outbound.db")).unwrap();
    let after = fixture.directory.identity(SessionFile::Outbound).unwrap().unwrap();
    assert!(!before.is_same_file(&after));
}

#[test]
fn a_file_of_another_file_system_is_refused() {
    let fixture = Fixture::new();
    let found = fs::stat(fixture.victim()).unwrap();
    assert_refused(check_regular(&found, found.st_dev + 1, "victim"), "another file system");
    let elsewhere = fixture.directory.device() + 1;
    assert_refused(open_folder(fixture.directory.as_fd(), "outbox", elsewhere), "another file system");
}

#[test]
fn the_heartbeat_is_the_time_of_the_files_last_change() {
    let fixture = Fixture::new();
    assert_eq!(fixture.directory.heartbeat().unwrap(), None);
    let file = std::fs::File::create(fixture.path(".heartbeat")).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)).unwrap();
    assert_eq!(fixture.directory.heartbeat().unwrap(), Some(Timestamp::from_ms(1_700_000_000_123)));
    // Before 1970, and what no clock shows: the agent sets what it likes.
    file.set_modified(UNIX_EPOCH - Duration::from_millis(1)).unwrap();
    assert_eq!(fixture.directory.heartbeat().unwrap(), Some(Timestamp::from_ms(-1)));
    file.set_modified(UNIX_EPOCH + Duration::from_secs(20_000_000_000)).unwrap();
    assert!(fixture.directory.heartbeat().unwrap().is_some());
}

#[test]
fn a_renamed_folder_stays_the_folder_that_was_opened() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("inbound.db"), "mine").unwrap();
    let group_path = fixture.data.path().join(SESSIONS_FOLDER).join("group-1");
    std::fs::rename(group_path.join("session-1"), group_path.join("moved")).unwrap();
    symlink(fixture.data.path().join("outside"), group_path.join("session-1")).unwrap();
    assert_eq!(fixture.directory.identity(SessionFile::Inbound).unwrap().unwrap().size, 4);
    assert!(super::proc_path(fixture.directory.as_fd()).join("inbound.db").exists());
}

#[test]
fn glances_at_one_session_after_the_other_are_the_same_as_single_ones() {
    let fixture = Fixture::new();
    let other = SessionId::new("session-with-a-longer-name").unwrap();
    fixture.root.create_session(&group(), &other).unwrap();
    std::fs::write(fixture.path("outbound.db"), "one").unwrap();
    std::fs::write(fixture.path("inbound.db"), "other").unwrap();
    std::fs::write(fixture.path(&format!("../{other}/outbound.db")), "another").unwrap();
    let mut glances = fixture.root.glances();
    for session in [&other, &session(), &other] {
        glances.turn_to(&group(), session);
        for file in SessionFile::ALL {
            assert_eq!(glances.at(file), fixture.root.glance(&group(), session, file), "{session} {file:?}");
        }
    }
    assert_eq!(glances.at(SessionFile::Outbound).map(|found| found.size), Some(7));
    glances.turn_to(&group(), &session());
    assert_eq!(glances.at(SessionFile::Inbound).map(|found| found.size), Some(5));
    std::fs::remove_file(fixture.path("inbound.db")).unwrap();
    symlink(fixture.victim(), fixture.path("inbound.db")).unwrap();
    assert_eq!(glances.at(SessionFile::Inbound), None, "a link is no usable file");
}
