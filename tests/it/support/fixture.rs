//! Turns a file of `tests/it/fixtures` into the data directory from which it was made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nanorelay_actors::testing::{DataDir, Era, TestAgent, database};
use rusqlite::types::{ToSqlOutput, Value as SqlValue};
use rusqlite::{Connection, ToSql};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One row, by column; what is not there is NULL.
pub type FixtureRow = Map<String, Value>;
type Tables = BTreeMap<String, Vec<FixtureRow>>;

/// One case, as it is written in its file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    pub case: String,
    pub title: String,
    central: Tables,
    sessions: BTreeMap<String, FixtureSession>,
    pub upstream: Upstream,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FixtureSession {
    id: String,
    agent_group_id: String,
    inbound: Tables,
    /// None when there is no such file, or when it is damaged.
    outbound: Option<Tables>,
    outbound_damaged: Option<Damaged>,
    #[serde(default)]
    heartbeat: bool,
    /// Base64 of files, by their path in the session folder.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

/// A file that holds a text again and again instead of a database.
#[derive(Debug, Deserialize)]
struct Damaged {
    size: usize,
    repeat: String,
}

/// What NanoClaw's own host did on a copy of the directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    pub live_adapters: Vec<String>,
    pub adapter_calls: Vec<UpstreamCall>,
    /// New and changed rows, by session.
    pub changed: BTreeMap<String, UpstreamChanges>,
    #[serde(default)]
    pub pending_questions: Vec<FixtureRow>,
}

/// One call of an adapter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamCall {
    pub channel_type: String,
    pub platform_id: String,
    pub thread_id: Option<String>,
    pub kind: Option<String>,
    pub content: String,
    #[serde(default)]
    pub files: Vec<UpstreamFile>,
    #[serde(default)]
    pub threw: bool,
    #[serde(default, rename = "no_adapter")]
    pub no_adapter: bool,
}

/// An attachment that an adapter got.
#[derive(Debug, Deserialize)]
pub struct UpstreamFile {
    pub filename: String,
    pub size: u64,
    pub sha256: String,
}

/// New and changed rows of one session.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamChanges {
    #[serde(default)]
    pub delivered: Vec<FixtureRow>,
    #[serde(default)]
    pub messages_in: Vec<FixtureRow>,
}

/// A case as a real data directory.
#[derive(Debug)]
pub struct World {
    pub fixture: Fixture,
    pub data: DataDir,
    /// By the case's name of the session: `main`, `ops`, `helper`.
    pub agents: BTreeMap<String, TestAgent>,
    temporary: tempfile::TempDir,
}

impl World {
    /// A folder beside the data directory, which nothing in it may reach.
    pub fn outside(&self) -> PathBuf {
        let outside = self.temporary.path().join("outside");
        fs::create_dir_all(&outside).unwrap();
        outside
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures")
}

/// The names of all cases.
pub fn all_cases() -> Vec<String> {
    let mut cases: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    cases.sort();
    cases
}

fn schema(name: &str) -> String {
    fs::read_to_string(folder().join(format!("schema-{name}.sql"))).unwrap()
}

/// Reads a case and makes its data directory.
#[track_caller]
pub fn materialise(case: &str) -> World {
    let path = folder().join(format!("{case}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let fixture: Fixture = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{case}: {error}"));
    let temporary = tempfile::Builder::new().prefix("nanorelay-").tempdir().unwrap();
    let root = temporary.path().join("data");
    fs::create_dir_all(&root).unwrap();

    let central = database::create(&root.join("v2.db"));
    database::use_wal(&central);
    fill(central, &schema("central"), &fixture.central);
    for session in fixture.sessions.values() {
        materialise_session(&root, session);
    }
    let data = DataDir::at(&root, Era::Current);
    let agents =
        fixture.sessions.iter().map(|(key, session)| (key.clone(), data.agent(&session.id))).collect();
    World { fixture, data, agents, temporary }
}

fn materialise_session(root: &Path, session: &FixtureSession) {
    let folder = root.join("v2-sessions").join(&session.agent_group_id).join(&session.id);
    fs::create_dir_all(&folder).unwrap();
    fill(database::create(&folder.join("inbound.db")), &schema("inbound"), &session.inbound);
    if let Some(tables) = &session.outbound {
        fill(database::create(&folder.join("outbound.db")), &schema("outbound"), tables);
    }
    if let Some(damaged) = &session.outbound_damaged {
        let bytes: Vec<u8> = damaged.repeat.bytes().cycle().take(damaged.size).collect();
        fs::write(folder.join("outbound.db"), bytes).unwrap();
    }
    if session.heartbeat {
        fs::write(folder.join(".heartbeat"), "").unwrap();
    }
    for (path, content) in &session.files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, BASE64.decode(content).unwrap()).unwrap();
    }
}

/// Makes the tables and writes the rows.
fn fill(mut connection: Connection, schema: &str, tables: &Tables) {
    // The tables come in the order of their names; a check at the end finds dangling references.
    connection.execute_batch("PRAGMA foreign_keys=OFF").unwrap();
    let transaction = connection.transaction().unwrap();
    transaction.execute_batch(schema).unwrap();
    for (table, rows) in tables {
        let columns: Vec<String> = transaction
            .prepare(&format!("SELECT * FROM {table}"))
            .unwrap()
            .column_names()
            .into_iter()
            .map(str::to_owned)
            .collect();
        for row in rows {
            insert(&transaction, table, &columns, row);
        }
    }
    transaction.commit().unwrap();
    let dangling = connection.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap();
    assert!(!dangling, "a row refers to one that is not there");
}

fn insert(connection: &Connection, table: &str, columns: &[String], row: &FixtureRow) {
    for column in row.keys() {
        assert!(columns.contains(column), "{table} has no column {column}");
    }
    // Every column is named, so that no default takes the place of a NULL.
    let marks = vec!["?"; columns.len()].join(",");
    let sql = format!("INSERT INTO {table} ({}) VALUES ({marks})", columns.join(","));
    let values = columns.iter().map(|column| Cell(row.get(column)));
    connection.execute(&sql, rusqlite::params_from_iter(values)).unwrap();
}

struct Cell<'a>(Option<&'a Value>);

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self.0 {
            None => SqlValue::Null,
            Some(Value::String(text)) => SqlValue::Text(text.clone()),
            Some(Value::Number(number)) => SqlValue::Integer(number.as_i64().expect("an integer")),
            Some(other) => panic!("{other} is no column of a fixture"),
        };
        Ok(ToSqlOutput::Owned(value))
    }
}

#[test]
fn every_fixture_is_a_sound_data_directory() {
    let cases = all_cases();
    assert!(!cases.is_empty());
    for case in cases {
        let world = materialise(&case);
        assert_eq!(world.fixture.case, case);
        assert!(!world.fixture.title.is_empty());
        check_sound(&world.data.central(), "wal");
        assert_eq!(world.agents.keys().collect::<Vec<_>>(), ["helper", "main", "ops"], "{case}");
        for (key, agent) in &world.agents {
            check_sound(&agent.inbound(), "delete");
            let is_main = key == "main";
            let exists = agent.folder().join("outbound.db").exists();
            assert_eq!(exists, !(is_main && case == "47-no-outbound-db"), "{case} {key}");
            if exists && !(is_main && case == "45-corrupt-outbound") {
                check_sound(&agent.outbound(), "delete");
            }
        }
    }
}

#[track_caller]
fn check_sound(connection: &Connection, journal_mode: &str) {
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let found: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(found, journal_mode);
}
