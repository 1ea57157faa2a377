//! The agents of a measurement, in a process of their own: commits at a steady rate and says when each commit
//! returned.

use super::BenchError;
use super::world;
use rusqlite::{Connection, OpenFlags};
use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// What the writer is told.
#[derive(Debug, Clone, Copy)]
pub struct WriterSpec {
    /// Sessions to write to, in turn.
    pub sessions: usize,
    /// Commits per second.
    pub rate: u32,
    /// Commits in all.
    pub count: usize,
    /// Number of the first message; below it are the ones that are there already.
    pub first_number: usize,
    /// Whether sessions differ in how their journals end, and agents keep their databases open: closing one would be an
    /// event of its own.
    pub varies_journals: bool,
}

/// How journals end.
const JOURNAL_MODES: [&str; 3] = ["DELETE", "TRUNCATE", "PERSIST"];
/// Databases that are kept open at a time.
const OPEN_MAX: usize = 400;

/// The agents' databases.
#[derive(Default)]
struct Outboxes {
    open: HashMap<usize, Connection>,
}

/// Nanoseconds on the clock that all processes of this machine share.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Writes; prints one line `session-number message-number nanoseconds` for each commit, when it has returned.
pub fn run(data_dir: &Path, spec: &WriterSpec) -> Result<(), BenchError> {
    let mut output = BufWriter::new(std::io::stdout().lock());
    let interval = Duration::from_secs_f64(1.0 / f64::from(spec.rate.max(1)));
    let started = Instant::now();
    let mut outboxes = Outboxes::default();
    // Scattered, so that neighbours in time are not neighbours on the disk.
    let step = (spec.sessions / 2 + 1) | 1;
    for turn in 0..spec.count {
        let due = interval * u32::try_from(turn).unwrap_or(u32::MAX);
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        let session = (turn * step) % spec.sessions;
        let number = spec.first_number + turn / spec.sessions;
        let mut outbox = outboxes.take(data_dir, spec, session)?;
        let transaction = outbox.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        world::insert_message(&transaction, number, "a message of the usual length, some sixty characters")?;
        transaction.commit()?;
        writeln!(output, "{session} {number} {}", monotonic_ns())?;
        if spec.varies_journals {
            outboxes.keep(session, outbox);
        }
    }
    output.flush()?;
    Ok(())
}

impl Outboxes {
    fn take(&mut self, data_dir: &Path, spec: &WriterSpec, session: usize) -> Result<Connection, BenchError> {
        if let Some(open) = self.open.remove(&session) {
            return Ok(open);
        }
        let path = world::session_folder(data_dir, session).join("outbound.db");
        let outbox = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        outbox.busy_timeout(Duration::from_secs(5))?;
        if spec.varies_journals {
            outbox.pragma_update(None, "journal_mode", JOURNAL_MODES[session % JOURNAL_MODES.len()])?;
        }
        Ok(outbox)
    }

    fn keep(&mut self, session: usize, outbox: Connection) {
        if self.open.len() < OPEN_MAX {
            self.open.insert(session, outbox);
        }
    }
}
