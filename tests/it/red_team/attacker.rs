//! The attacker as a process of its own: this test binary, run again to play one role until it is killed.

use nanorelay_actors::testing::database;
use rustix::fs::{CWD, RenameFlags};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const ROLE: &str = "NANORELAY_RED_TEAM_ROLE";
const PATHS: [&str; 2] = ["NANORELAY_RED_TEAM_PATH_A", "NANORELAY_RED_TEAM_PATH_B"];
const READY: &str = "the attacker is at work";

/// A running attacker; killed when it is dropped.
pub struct Attacker(Child);

impl Attacker {
    /// Exchanges two names as fast as the machine can.
    pub fn swap(a: &Path, b: &Path) -> Self {
        Self::start("swap", a, b)
    }

    /// Holds an exclusive lock on a database.
    pub fn lock(database: &Path) -> Self {
        Self::start("lock", database, database)
    }

    /// Commits to a database without a pause.
    pub fn write(database: &Path) -> Self {
        Self::start("write", database, database)
    }

    /// Stands in mid-commit, its changes partly in the file. Killing it leaves a hot journal.
    pub fn half_commit(database: &Path) -> Self {
        Self::start("half-commit", database, database)
    }

    /// The same with an inbox.
    pub fn half_commit_inbound(database: &Path) -> Self {
        Self::start("half-commit-inbound", database, database)
    }

    fn start(role: &str, a: &Path, b: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test's program"))
            .args(["--exact", "red_team::attacker::plays_its_role", "--nocapture"])
            .env(ROLE, role)
            .env(PATHS[0], a)
            .env(PATHS[1], b)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the attacker can be started");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let is_ready = lines.map_while(Result::ok).any(|line| line.contains(READY));
        let attacker = Self(child);
        assert!(is_ready, "the attacker {role} ended early");
        attacker
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: the other process. Without a role it does nothing.
#[test]
fn plays_its_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [a, b] = PATHS.map(|name| std::env::var_os(name).expect("a path"));
    let (a, b) = (Path::new(&a), Path::new(&b));
    // Ends with its parent, whose end of the pipe is closed then.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    match role.as_str() {
        "swap" => swap(a, b),
        "lock" => {
            let connection = database::open(a);
            connection.execute_batch("BEGIN EXCLUSIVE").expect("the lock");
            println!("{READY}");
            park();
        }
        "write" => write(a),
        "half-commit" => half_commit(
            a,
            "UPDATE messages_out SET content = '{\"text\":\"never committed\"}';
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
             INSERT INTO messages_out (id, seq, timestamp, kind, content)
               SELECT 'half-' || i, 100000 + i, '', 'chat', hex(zeroblob(200)) FROM n;",
        ),
        "half-commit-inbound" => half_commit(
            a,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
             INSERT INTO messages_in (id, seq, kind, timestamp, content)
               SELECT 'half-' || i, 100000 + i, 'chat', '', hex(zeroblob(200)) FROM n;",
        ),
        unknown => panic!("no role {unknown:?}"),
    }
}

fn half_commit(path: &Path, changes: &str) {
    let connection = database::open(path);
    connection
        .execute_batch(&format!("PRAGMA cache_size=1; PRAGMA cache_spill=1; BEGIN IMMEDIATE; {changes}"))
        .expect("half a commit");
    println!("{READY}");
    park();
}

fn park() {
    loop {
        std::thread::park();
    }
}

fn swap(a: &Path, b: &Path) {
    println!("{READY}");
    loop {
        // Fails for a moment when the host removes one of them, and goes on when it is there again.
        let _ = rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE);
    }
}

fn write(path: &Path) {
    let connection = database::open(path);
    let insert = "INSERT OR REPLACE INTO session_state VALUES ('busy', 'x', '')";
    connection.execute(insert, []).expect("a commit");
    println!("{READY}");
    loop {
        let _ = connection.execute(insert, []);
    }
}
