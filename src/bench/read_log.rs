//! When rows were read, as the engine's debug log says.

use super::writer::monotonic_ns;
use slog::{Drain, KV, Key, Logger, OwnedKVList, Record};
use std::collections::HashMap;
use std::fmt::Arguments;
use std::sync::{Arc, Mutex, PoisonError};

/// The message of the record that is waited for.
const ROWS_READ: &str = "rows read";

/// A log that notes when each session's rows were read.
#[derive(Clone, Default)]
pub(super) struct ReadLog {
    reads: Arc<Mutex<HashMap<String, Vec<u64>>>>,
}

impl ReadLog {
    /// A logger that writes here.
    pub fn logger(&self) -> Logger {
        Logger::root(self.clone().fuse(), slog::o!())
    }

    /// How long it took from each commit until rows of its session were read, in nanoseconds. `commits` are sessions with
    /// the times at which their commits returned.
    pub fn latencies<'a>(&self, commits: impl Iterator<Item = (&'a str, u64)>) -> Vec<u64> {
        let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next: HashMap<&str, usize> = HashMap::new();
        commits
            .filter_map(|(session, committed_at)| {
                // Commits and reads of a session come in turns: at a steady rate they are seconds apart.
                let number = next.entry(session).or_default();
                let read_at = *reads.get(session)?.get(*number)?;
                *number += 1;
                // A hint arrives before the writer's commit returns.
                Some(read_at.saturating_sub(committed_at))
            })
            .collect()
    }
}

impl Drain for ReadLog {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        let now = monotonic_ns();
        if record.msg().as_str() != Some(ROWS_READ) {
            return Ok(());
        }
        let mut session = SessionOf::default();
        // Only the session is looked for; it is found or it is not.
        let _ = record.kv().serialize(record, &mut session);
        if let Some(session) = session.0 {
            let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
            reads.entry(session).or_default().push(now);
        }
        Ok(())
    }
}

#[derive(Default)]
struct SessionOf(Option<String>);

impl slog::Serializer for SessionOf {
    fn emit_arguments(&mut self, key: Key, value: &Arguments<'_>) -> slog::Result {
        if key == "session" {
            self.0 = Some(value.to_string());
        }
        Ok(())
    }
}
