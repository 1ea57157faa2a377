use super::*;
use crate::model::ids::{ChannelType, MessageId, PlatformId, ThreadId};
use crate::store::seed_schema;

const NOW: Timestamp = Timestamp::from_ms(1_795_333_635_501);

const WORLD: &str = "
INSERT INTO agent_groups (id, name, folder, created_at) VALUES
  ('ag-main', 'Main', 'main', ''), ('ag-helper', 'Helper', 'helper', ''), ('ag-stranger', 'Stranger', 'stranger', '');
INSERT INTO messaging_groups (id, channel_type, platform_id, created_at) VALUES
  ('mg-discord', 'discord', 'discord:100:200', ''), ('mg-slack', 'slack', 'slack:C0OPS', ''),
  ('mg-telegram', 'telegram', 'telegram:999', '');
INSERT INTO messaging_group_agents (id, messaging_group_id, agent_group_id, created_at) VALUES
  ('mga-1', 'mg-discord', 'ag-main', ''), ('mga-2', 'mg-slack', 'ag-main', '');
INSERT INTO sessions
  (id, agent_group_id, messaging_group_id, thread_id, status, container_status, last_active, created_at) VALUES
  ('main', 'ag-main', 'mg-discord', 'thread-1', 'active', 'running', NULL, '2026-11-22T07:46:48.194Z'),
  ('ops', 'ag-main', 'mg-slack', NULL, 'active', 'idle', '2026-11-22 08:00:00', '2026-11-22 07:46:49'),
  ('old', 'ag-main', NULL, NULL, 'closed', NULL, NULL, '2026-11-23T00:00:00Z'),
  ('helper', 'ag-helper', NULL, NULL, 'active', 'stopped', NULL, 'no time'),
  ('private', 'ag-helper', 'mg-telegram', NULL, 'active', 'stopped', NULL, 'no time');";

const DESTINATIONS: &str = "
INSERT INTO agent_destinations VALUES
  ('ag-main', 'ops', 'channel', 'mg-slack', ''), ('ag-main', 'helper', 'agent', 'ag-helper', ''),
  ('ag-helper', 'gone', 'channel', 'mg-gone', ''), ('ag-helper', 'nobody', 'agent', 'ag-gone', '');";

struct World {
    _dir: tempfile::TempDir,
    central: Central,
    /// Another process.
    other: Connection,
}

fn world(schema: impl FnOnce(&Connection)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let other = Connection::open_with_flags(dir.path().join(FILE_NAME), flags).unwrap();
    schema(&other);
    other.execute_batch(WORLD).unwrap();
    let central = Central::open(dir.path()).unwrap();
    World { _dir: dir, central, other }
}

fn current() -> World {
    let world = world(|conn| create_central_schema(conn).unwrap());
    world.other.execute_batch("PRAGMA foreign_keys = off").unwrap();
    world.other.execute_batch(DESTINATIONS).unwrap();
    world
}

fn seed() -> World {
    world(|conn| conn.execute_batch(seed_schema::CENTRAL).unwrap())
}

fn session(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

fn group(text: &str) -> AgentGroupId {
    AgentGroupId::new(text).unwrap()
}

fn may_send(snapshot: &CentralSnapshot, from: &str, channel: &str, platform: &str) -> bool {
    let (channel, platform) = (ChannelType::new(channel).unwrap(), PlatformId::new(platform).unwrap());
    snapshot.may_send(&session(from), &channel, &platform)
}

#[test]
fn a_missing_file_is_an_error_and_stays_missing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Central::open(dir.path()), Err(StoreError::Missing(_))));
    assert!(!dir.path().join(FILE_NAME).exists());
}

#[test]
fn a_file_that_is_no_database_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join(FILE_NAME),
        "no database at all, but long enough to be read as a header".repeat(20),
    )
    .unwrap();
    let opened = Central::open(dir.path()).and_then(|central| central.load_snapshot());
    assert!(opened.is_err());
}

#[test]
fn a_session_is_read_with_its_chat_and_state() {
    let snapshot = current().central.load_snapshot().unwrap();
    assert_eq!(snapshot.sessions.len(), 5);
    let main = &snapshot.sessions[&session("main")];
    assert_eq!(main.own_chat.as_ref().unwrap().1.as_str(), "discord:100:200");
    assert_eq!(main.thread_id.as_ref().unwrap().as_str(), "thread-1");
    assert_eq!((main.status, main.container_status), (SessionStatus::Active, ContainerStatus::Running));
    assert_eq!(main.created_at, Some(Timestamp::from_ms(1_795_333_608_194)));
    let ops = &snapshot.sessions[&session("ops")];
    assert_eq!((ops.container_status, ops.thread_id.as_ref()), (ContainerStatus::Idle, None));
    assert_eq!(ops.last_active, Some(Timestamp::from_ms(1_795_334_400_000)));
    let old = &snapshot.sessions[&session("old")];
    assert_eq!((old.status, old.container_status), (SessionStatus::Closed, ContainerStatus::Stopped));
    assert_eq!(snapshot.groups[&group("ag-main")].name, "Main");
}

#[test]
fn a_session_may_write_to_its_own_chat_and_to_destinations_only() {
    let snapshot = current().central.load_snapshot().unwrap();
    assert!(may_send(&snapshot, "main", "discord", "discord:100:200"), "own chat");
    assert!(may_send(&snapshot, "main", "slack", "slack:C0OPS"), "destination");
    assert!(!may_send(&snapshot, "ops", "discord", "discord:100:200"), "wired, but no destination");
    assert!(!may_send(&snapshot, "main", "telegram", "telegram:999"));
    assert!(!may_send(&snapshot, "main", "discord", "slack:C0OPS"), "both parts must match");
    assert!(may_send(&snapshot, "private", "telegram", "telegram:999"));
    assert!(!may_send(&snapshot, "nobody", "slack", "slack:C0OPS"));
}

#[test]
fn groups_may_write_to_themselves_and_to_destinations_only() {
    let snapshot = current().central.load_snapshot().unwrap();
    let may = |from: &str, to: &str| snapshot.may_message(&group(from), &group(to));
    assert!(may("ag-main", "ag-helper"));
    assert!(!may("ag-helper", "ag-main"));
    assert!(may("ag-stranger", "ag-stranger"));
    assert!(!may("ag-main", "ag-stranger"));
    assert!(!may("ag-helper", "ag-gone"));
}

#[test]
fn in_files_of_the_seed_wired_chats_are_open_and_other_agents_are_not() {
    let snapshot = seed().central.load_snapshot().unwrap();
    assert!(may_send(&snapshot, "ops", "discord", "discord:100:200"));
    assert!(!may_send(&snapshot, "helper", "discord", "discord:100:200"));
    assert!(!snapshot.may_message(&group("ag-main"), &group("ag-helper")));
    assert!(snapshot.may_message(&group("ag-main"), &group("ag-main")));
    assert_eq!(snapshot.skipped, []);
}

#[test]
fn the_newest_active_session_is_found_by_instant_and_then_by_id() {
    let snapshot = current().central.load_snapshot().unwrap();
    let newest = |name: &str| Some(snapshot.newest_active_session(&group(name))?.id.as_str());
    assert_eq!(newest("ag-main"), Some("ops"), "as text, the ISO form would be the newest");
    assert_eq!(newest("ag-helper"), Some("private"), "unreadable times fall back to the id");
    assert_eq!(newest("ag-stranger"), None);
    assert_eq!(newest("ag-gone"), None);
}

#[test]
fn rows_with_unusable_ids_are_skipped_with_a_reason() {
    let world = current();
    world
        .other
        .execute_batch(
            "INSERT INTO agent_groups VALUES ('../up', 'Up', 'up', NULL, '');
             INSERT INTO messaging_groups (id, channel_type, platform_id, created_at) VALUES ('mg-x', '', 'p', '');
             INSERT INTO sessions (id, agent_group_id, created_at) VALUES ('a/b', 'ag-main', ''), ('s', '../up', '');",
        )
        .unwrap();
    let snapshot = world.central.load_snapshot().unwrap();
    let skipped: Vec<_> = snapshot.skipped.iter().map(|(what, why)| format!("{what}: {why}")).collect();
    assert_eq!(
        skipped,
        [
            r#"agent group "../up": id "../up" is not a plain file name"#,
            r#"chat "mg-x": id is empty"#,
            r#"destination of "ag-helper": channel "mg-gone": its target is unknown"#,
            r#"destination of "ag-helper": agent "ag-gone": its target is unknown"#,
            r#"session "a/b": id "a/b" is not a plain file name"#,
            r#"session "s": id "../up" is not a plain file name"#,
        ]
    );
    assert_eq!(snapshot.sessions.len(), 5);
}

#[test]
fn the_version_changes_with_every_commit_of_anybody() {
    let world = current();
    let first = world.central.data_version().unwrap();
    assert_eq!(world.central.data_version().unwrap(), first);
    world.other.execute_batch("UPDATE sessions SET status = 'closed' WHERE id = 'main'").unwrap();
    let second = world.central.data_version().unwrap();
    assert_ne!(second, first);
    assert_eq!(world.central.load_snapshot().unwrap().version, second);
    world.central.touch_last_active(&[(session("ops"), NOW)]).unwrap();
    assert_ne!(world.central.data_version().unwrap(), second);
}

fn chat(channel_type: &str, platform_id: &str) -> Chat {
    (ChannelType::new(channel_type).unwrap(), PlatformId::new(platform_id).unwrap())
}

#[test]
fn a_session_is_created_once_and_its_state_is_kept() {
    for world in [current(), seed()] {
        let central = &world.central;
        let (channel_type, platform_id) = chat("slack", "slack:C0OPS");
        let request = SessionRequest::new(group("ag-helper")).chat(channel_type, platform_id);
        let resolve = |id: &str| central.resolve_session(&request, &session(id), NOW).unwrap().unwrap();
        let new = resolve("new");
        assert_eq!((new.session_id.as_str(), new.is_new), ("new", true));
        let again = resolve("newer");
        assert_eq!((again.session_id.as_str(), again.is_new), ("new", false));
        assert!(central.set_container_status(&new.session_id, ContainerStatus::Running).unwrap());
        central.touch_last_active(&[(new.session_id.clone(), NOW), (session("nobody"), NOW)]).unwrap();
        assert!(!central.set_container_status(&session("nobody"), ContainerStatus::Idle).unwrap());
        let snapshot = central.load_snapshot().unwrap();
        let facts = snapshot.newest_active_session(&group("ag-helper")).unwrap();
        assert_eq!((&facts.id, facts.container_status), (&new.session_id, ContainerStatus::Running));
        assert_eq!((facts.created_at, facts.last_active), (Some(NOW), Some(NOW)));
        assert_eq!(facts.own_chat, Some(chat("slack", "slack:C0OPS")));
    }
}

#[test]
fn what_a_session_is_asked_for_must_be_known() {
    let world = current();
    let resolve =
        |request: &SessionRequest| world.central.resolve_session(request, &session("new"), NOW).unwrap();
    let nobody = SessionRequest::new(group("ag-gone"));
    assert_eq!(resolve(&nobody), Err(UnresolvedSession::NoSuchAgentGroup(group("ag-gone"))));
    let (channel_type, platform_id) = chat("matrix", "!room");
    let nowhere = SessionRequest::new(group("ag-main")).chat(channel_type.clone(), platform_id.clone());
    assert_eq!(resolve(&nowhere), Err(UnresolvedSession::NoSuchChat(channel_type, platform_id)));
    let without = SessionRequest::new(group("ag-main")).mode(SessionMode::Shared);
    assert_eq!(resolve(&without), Err(UnresolvedSession::ChatMissing(SessionMode::Shared)));
    assert_eq!(world.central.load_snapshot().unwrap().sessions.len(), 5, "nothing was made");
    assert!(resolve(&nowhere.add_chat()).unwrap().is_new);
}

#[test]
fn the_mode_of_a_session_is_that_of_the_wiring_unless_it_is_said() {
    let world = current();
    world
        .other
        .execute_batch("UPDATE messaging_group_agents SET session_mode = 'per-thread' WHERE id = 'mga-2'")
        .unwrap();
    let (channel_type, platform_id) = chat("slack", "slack:C0OPS");
    let request = SessionRequest::new(group("ag-main")).chat(channel_type, platform_id);
    let resolve = |request: SessionRequest, id: &str| {
        let resolved = world.central.resolve_session(&request, &session(id), NOW).unwrap().unwrap();
        (
            resolved.session_id.to_string(),
            resolved.thread_id.map(|thread| thread.to_string()),
            resolved.chat.is_some(),
        )
    };
    let thread = |name: &str| ThreadId::new(name).unwrap();
    let in_thread = request.clone().thread(thread("t-1"));
    let expected = ("new-1".to_owned(), Some("t-1".to_owned()), true);
    assert_eq!(resolve(in_thread.clone(), "new-1"), expected);
    assert_eq!(resolve(in_thread.clone(), "new-2"), expected);
    assert_eq!(resolve(in_thread.clone().mode(SessionMode::Shared), "new-3"), ("ops".to_owned(), None, true));
    assert_eq!(resolve(in_thread.mode(SessionMode::AgentShared), "new-4"), ("new-4".to_owned(), None, false));
    assert_eq!(resolve(SessionRequest::new(group("ag-helper")), "new-5"), ("helper".to_owned(), None, false));
}

#[test]
fn destinations_have_the_names_that_the_agent_and_people_use() {
    let world = current();
    world.other.execute_batch("UPDATE messaging_groups SET name = 'Ops' WHERE id = 'mg-slack'").unwrap();
    let named = |name: &str, display_name: &str, target| NamedDestination {
        name: name.to_owned(),
        display_name: display_name.to_owned(),
        target,
    };
    let slack = DestinationTarget::Chat { channel_type: "slack".into(), platform_id: "slack:C0OPS".into() };
    let helper = DestinationTarget::Agent("ag-helper".to_owned());
    let expected = [named("helper", "Helper", helper), named("ops", "Ops", slack)];
    assert_eq!(world.central.destinations(&group("ag-main")).unwrap(), expected);
    assert_eq!(
        world.central.destinations(&group("ag-helper")).unwrap(),
        [],
        "what leads nowhere is left out"
    );
    assert_eq!(seed().central.destinations(&group("ag-main")).unwrap(), []);
}

#[test]
fn a_question_is_recorded_once_and_its_id_is_never_taken_over() {
    let question = |from: &str, message: &str| PendingQuestion {
        question_id: "q-1".to_owned(),
        session_id: session(from),
        message_out_id: MessageId::new(message).unwrap(),
        platform_id: Some("slack:C0OPS".to_owned()),
        channel_type: Some("slack".to_owned()),
        thread_id: None,
        title: "Confirm".to_owned(),
        options_json: "[]".to_owned(),
        created_at: NOW,
    };
    for World { central, other, .. } in &[current(), seed()] {
        let insert = |from: &str, message: &str| central.insert_question(&question(from, message)).unwrap();
        assert_eq!(insert("main", "m-1"), QuestionInsert::Inserted);
        assert_eq!(insert("main", "m-1"), QuestionInsert::Same);
        assert_eq!(insert("main", "m-2"), QuestionInsert::Taken);
        assert_eq!(insert("ops", "m-1"), QuestionInsert::Taken);
        let row: (String, String) = other
            .query_row("SELECT session_id, created_at FROM pending_questions", [], |row| row.try_into())
            .unwrap();
        assert_eq!(row, ("main".to_owned(), "2026-11-22T07:47:15.501Z".to_owned()));
        let listed = central.questions().unwrap().questions;
        assert_eq!((listed.len(), listed[0].created_at), (1, NOW));
        assert_eq!(central.question("q-1").unwrap().as_ref(), Some(&listed[0]));
        assert_eq!(central.question("q-2").unwrap(), None);
        central.remove_question(&question("main", "m-2")).unwrap();
        assert_eq!(central.questions().unwrap().questions.len(), 1, "another message's question stays");
        central.remove_question(&listed[0]).unwrap();
        assert_eq!(central.questions().unwrap(), PendingQuestions::default());
    }
    let World { central, other, .. } = &current();
    other.execute_batch("DROP TABLE pending_questions").unwrap();
    assert_eq!(central.insert_question(&question("main", "m-1")).unwrap(), QuestionInsert::NoTable);
}

#[test]
fn a_session_has_so_many_questions_and_the_latest_stay() {
    use crate::limits::QUESTIONS_PER_SESSION_MAX;
    let World { central, .. } = &current();
    let ask = |from: &str, number: usize, created_at: Timestamp| {
        let question = PendingQuestion {
            question_id: format!("{from}-{number:03}"),
            session_id: session(from),
            message_out_id: MessageId::new(&format!("m-{number}")).unwrap(),
            platform_id: None,
            channel_type: None,
            thread_id: None,
            title: "Confirm".to_owned(),
            options_json: "[]".to_owned(),
            created_at,
        };
        assert_eq!(central.insert_question(&question).unwrap(), QuestionInsert::Inserted);
    };
    let at = |number: usize| Timestamp::from_ms(NOW.as_ms() + number as i64);
    ask("ops", 0, NOW);
    for number in 0..QUESTIONS_PER_SESSION_MAX + 2 {
        ask("main", number, at(number));
    }
    let ids = || -> Vec<String> {
        let listed = central.questions().unwrap();
        assert_eq!(listed.left_out, 0);
        let of_main = listed.questions.into_iter().map(|question| question.question_id);
        of_main.filter(|id| id.starts_with("main")).collect()
    };
    assert_eq!((ids().len(), ids()[0].as_str()), (QUESTIONS_PER_SESSION_MAX, "main-002"));
    assert!(central.question("ops-000").unwrap().is_some(), "another session's question stays");
    // The clock went back.
    ask("main", 900, NOW);
    assert_eq!((ids().len(), ids()[0].as_str()), (QUESTIONS_PER_SESSION_MAX, "main-900"));
}

#[test]
fn a_list_of_questions_is_bounded_whatever_another_program_has_written() {
    use crate::limits::{QUESTION_TITLE_BYTES_MAX, QUESTIONS_LISTED_MAX};
    let World { central, other, .. } = &current();
    other
        .execute_batch(
            "INSERT INTO pending_questions (question_id, session_id, message_out_id, title, options_json, created_at)
             VALUES ('large', 'main', 'm-1', printf('%.*c', 100000, 't'),
               '[\"' || printf('%.*c', 100000, 'o') || '\"]', '2026-11-22T07:47:15.501Z')",
        )
        .unwrap();
    let listed = central.questions().unwrap().questions.remove(0);
    assert_eq!((listed.title.len(), listed.options_json.as_str()), (QUESTION_TITLE_BYTES_MAX, "[]"));
    let whole = central.question("large").unwrap().unwrap();
    assert_eq!((whole.title.len(), whole.options_json.len()), (100_000, 100_004));
    other
        .execute_batch(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
             INSERT INTO pending_questions (question_id, session_id, message_out_id, title, options_json, created_at)
             SELECT 'q-' || i, 'main', 'm-1', '', '[]', '2026-11-23T00:00:00Z' FROM n",
            QUESTIONS_LISTED_MAX + 6
        ))
        .unwrap();
    let listed = central.questions().unwrap();
    assert_eq!((listed.questions.len(), listed.left_out), (QUESTIONS_LISTED_MAX, 7));
    assert_eq!(listed.questions[0].question_id, "large", "the oldest are listed");
}

#[test]
fn thousands_of_sessions_share_their_groups() {
    let world = current();
    world
        .other
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO sessions (id, agent_group_id, messaging_group_id, created_at)
             SELECT 'sess-' || i, 'ag-main', 'mg-slack', '2026-11-24T00:00:00Z' FROM n",
        )
        .unwrap();
    let snapshot = world.central.load_snapshot().unwrap();
    assert_eq!(snapshot.sessions.len(), 20_005);
    let texts: std::collections::HashSet<*const u8> =
        snapshot.sessions.values().map(|facts| facts.agent_group_id.as_str().as_ptr()).collect();
    assert_eq!(texts.len(), 2, "one text for each group");
}
