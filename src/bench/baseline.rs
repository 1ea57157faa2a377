//! The algorithm that nanorelay replaces, in its own words: once a second, one session after the other, read the
//! whole history, deliver what is not in `delivered`, record it.

use super::BenchError;
use super::channel::BenchChannel;
use super::world;
use rusqlite::{Connection, OpenFlags};
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time between the end of one round and the start of the next.
const TICK: Duration = Duration::from_secs(1);

/// Polls until `stop`, or until one round has found nothing when `until_empty`. Returns the CPU-bound time of
/// the last round.
pub fn poll(
    data_dir: &Path,
    sessions: usize,
    channel: &BenchChannel,
    stop: &AtomicBool,
    until_empty: bool,
) -> Result<Duration, BenchError> {
    loop {
        let started = Instant::now();
        let mut delivered = 0;
        for session in 0..sessions {
            delivered += deliver_session(data_dir, session, channel)?;
        }
        let round = started.elapsed();
        if stop.load(Ordering::Relaxed) || (until_empty && delivered == 0) {
            return Ok(round);
        }
        let next = Instant::now() + TICK;
        while Instant::now() < next && !stop.load(Ordering::Relaxed) && !until_empty {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn deliver_session(data_dir: &Path, session: usize, channel: &BenchChannel) -> Result<usize, BenchError> {
    let folder = world::session_folder(data_dir, session);
    let outbox = open(&folder.join("outbound.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let inbox = open(&folder.join("inbound.db"), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut due = outbox.prepare(
        "SELECT id, kind, platform_id, channel_type, thread_id, content FROM messages_out
         WHERE (deliver_after IS NULL OR deliver_after <= datetime('now')) ORDER BY timestamp ASC",
    )?;
    let due: Vec<(String, String)> =
        due.query_map([], |row| Ok((row.get(0)?, row.get(5)?)))?.collect::<Result<_, rusqlite::Error>>()?;
    if due.is_empty() {
        return Ok(0);
    }
    let mut known = inbox.prepare("SELECT message_out_id FROM delivered")?;
    let known: HashSet<String> =
        known.query_map([], |row| row.get(0))?.collect::<Result<_, rusqlite::Error>>()?;
    let name = world::session_id(session);
    let mut count = 0;
    for (id, content) in due.into_iter().filter(|(id, _)| !known.contains(id)) {
        let _: serde_json::Value = serde_json::from_str(&content)?;
        channel.accept(&name, &id);
        inbox.execute(
            "INSERT OR IGNORE INTO delivered (message_out_id, delivered_at) VALUES (?1, datetime('now'))",
            [&id],
        )?;
        count += 1;
    }
    Ok(count)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, BenchError> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}
