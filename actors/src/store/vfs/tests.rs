//! The VFS against stock SQLite in another process.

mod hostile;
mod locks;

use crate::store::session_dir::SessionFile;
use crate::store::session_dir::tests::Fixture;
use rusqlite::Connection;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const DATABASE_VARIABLE: &str = "NANORELAY_TEST_DATABASE";

/// A connection with SQLite's own VFS, as an agent has it.
#[expect(clippy::disallowed_methods, reason = "plays the agent, which has no session vfs")]
pub(in crate::store) fn stock(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

/// Stock SQLite in another process: this test program, started again. Killed when it is dropped.
pub(in crate::store) struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    pub(in crate::store) fn open(path: PathBuf) -> Shell {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::vfs::tests::other_process", "--nocapture", "--test-threads=1"])
            .env(DATABASE_VARIABLE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Shell { process, input, output }
    }

    /// Sends a line of SQL without waiting for the answer. `repeat N <sql>` runs it N times.
    pub(in crate::store) fn start(&mut self, sql: &str) {
        writeln!(self.input, "{sql}").unwrap();
    }

    /// Waits for the next answer: `ok`, or an extended result code.
    pub(in crate::store) fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the other process ended");
            if let Some(answer) = line.trim_end().strip_prefix("answer=") {
                return answer.to_owned();
            }
        }
    }

    pub(in crate::store) fn run(&mut self, sql: &str) -> String {
        self.start(sql);
        self.answer()
    }

    #[track_caller]
    pub(in crate::store) fn ok(&mut self, sql: &str) {
        assert_eq!(self.run(sql), "ok", "{sql}");
    }

    /// Ends the process as `kill -9` does.
    pub(in crate::store) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What [`Shell`] runs. As an ordinary test it does nothing.
#[test]
fn other_process() {
    let Some(path) = std::env::var_os(DATABASE_VARIABLE) else {
        return;
    };
    let connection = stock(Path::new(&path));
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (times, sql) = match line.strip_prefix("repeat ").and_then(|rest| rest.split_once(' ')) {
            Some((times, sql)) => (times.parse().unwrap(), sql.to_owned()),
            None => (1, line.clone()),
        };
        let result = (0..times).try_for_each(|_| connection.execute_batch(&sql));
        // The line break ends whatever the test harness has written before.
        match result {
            Ok(()) => println!("\nanswer=ok"),
            Err(rusqlite::Error::SqliteFailure(error, _)) => println!("\nanswer={}", error.extended_code),
            Err(other) => println!("\nanswer={other}"),
        }
    }
}

/// The tables of `outbound.db` and `inbound.db` in their first version.
pub(in crate::store) const OUTBOUND_SQL: &str = "
    CREATE TABLE messages_out(id TEXT PRIMARY KEY, seq INTEGER UNIQUE, in_reply_to TEXT, timestamp TEXT NOT NULL,
        deliver_after TEXT, recurrence TEXT, kind TEXT NOT NULL, platform_id TEXT, channel_type TEXT, thread_id TEXT,
        content TEXT NOT NULL);
    CREATE TABLE processing_ack(message_id TEXT PRIMARY KEY, status TEXT NOT NULL, status_changed TEXT NOT NULL);";
pub(in crate::store) const INBOUND_SQL: &str = "
    CREATE TABLE messages_in(id TEXT PRIMARY KEY, seq INTEGER UNIQUE, kind TEXT NOT NULL, timestamp TEXT NOT NULL,
        status TEXT DEFAULT 'pending', process_after TEXT, recurrence TEXT, tries INTEGER DEFAULT 0, platform_id TEXT,
        channel_type TEXT, thread_id TEXT, content TEXT NOT NULL);
    CREATE TABLE delivered(message_out_id TEXT PRIMARY KEY, delivered_at TEXT NOT NULL);";

/// A session whose two databases were made by stock SQLite.
pub(in crate::store) fn with_databases() -> Fixture {
    let fixture = Fixture::new();
    stock(&fixture.path(SessionFile::Outbound.name())).execute_batch(OUTBOUND_SQL).unwrap();
    stock(&fixture.path(SessionFile::Inbound.name())).execute_batch(INBOUND_SQL).unwrap();
    fixture
}

/// Leaves a hot journal: a process is killed after it has written changed pages to the file.
pub(in crate::store) fn leave_hot_journal(path: PathBuf) {
    let mut shell = Shell::open(path);
    shell.ok(
        "CREATE TABLE filler AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<500) \
         SELECT i, randomblob(900) AS b FROM n",
    );
    shell.ok("PRAGMA cache_size=5; PRAGMA cache_spill=5");
    shell.ok("BEGIN IMMEDIATE");
    shell.ok("UPDATE filler SET b=randomblob(900), i=-i");
    shell.kill();
}

#[track_caller]
pub(in crate::store) fn assert_intact(path: &Path) {
    let result: String = stock(path).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(result, "ok");
}
