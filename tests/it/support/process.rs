//! Another process on the same files. Within one process, locks on a file do not stand against each other.

use nanorelay_actors::testing::TestAgent;
use rusqlite::{Connection, OpenFlags};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const TASK: &str = "NANORELAY_TEST_TASK";
const FILE: &str = "NANORELAY_TEST_FILE";
const READY: &str = "the other process is ready";

/// A process that does something to a database until it is told to stop.
pub struct Other {
    child: Child,
    /// Kept open, for what it says at its end.
    _output: BufReader<ChildStdout>,
}

impl Other {
    /// Holds the write lock of a database: others can read it.
    pub fn holding_write_lock(file: &Path) -> Self {
        Self::start("BEGIN IMMEDIATE", file)
    }

    /// Holds a database so that others can neither read nor write it.
    pub fn holding_exclusive_lock(file: &Path) -> Self {
        Self::start("BEGIN EXCLUSIVE", file)
    }

    /// Kills an agent in mid-commit: its `outbound.db` has a hot journal then.
    pub fn killed_in_mid_commit(agent: &TestAgent) {
        let mut other = Self::start("write", &agent.folder().join("outbound.db"));
        other.child.kill().expect("it can be killed");
        other.child.wait().expect("it ends");
        let journal = agent.folder().join("outbound.db-journal");
        assert!(journal.metadata().is_ok_and(|found| found.len() > 0), "there is a journal");
    }

    fn start(task: &str, file: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", "--ignored", "--nocapture", "support::process::other_process"])
            .env(TASK, task)
            .env(FILE, file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("another process can be started");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let is_ready = output.by_ref().lines().any(|line| line.is_ok_and(|line| line.contains(READY)));
        assert!(is_ready, "the other process failed: {task}");
        Self { child, _output: output }
    }

    /// Gives back what it holds.
    pub fn stop(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("it ends");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // After a failed test. One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "this is what another process does for a test"]
fn other_process() {
    let Some(task) = std::env::var(TASK).ok() else { return };
    let file = PathBuf::from(std::env::var_os(FILE).expect("a file"));
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&file, flags).expect("a database");
    connection.busy_timeout(std::time::Duration::from_secs(20)).expect("a timeout");
    if task == "write" {
        // More pages than the cache holds: some are in the file before the commit.
        connection.execute_batch("PRAGMA cache_size=5; BEGIN IMMEDIATE").expect("a transaction");
        for number in 0..500 {
            let row = "INSERT INTO messages_out (id, seq, timestamp, kind, content)
                       VALUES (?1, ?2, datetime('now'), 'chat', ?3)";
            let text = "x".repeat(1000);
            connection.execute(row, (format!("torn-{number}"), 10_001 + 2 * number, text)).expect("a row");
        }
    } else {
        connection.execute_batch(&task).expect("a lock");
    }
    println!("{READY}");
    std::io::stdout().flush().expect("output");
    // Until the test lets go, or kills us.
    let _ = std::io::stdin().read(&mut [0]);
}
