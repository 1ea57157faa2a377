//! When an agent has something to do.

use crate::model::ids::MessageId;
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::sql::{Cell, bounded, cell, prepare_either};
use rusqlite::Connection;
use std::collections::HashSet;

/// The earliest planned work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextDue {
    /// The earliest `process_after` that lies ahead; `None` when none does. What is overdue hides nothing.
    pub at: Option<Timestamp>,
    /// Rows whose `process_after` is not a time. They never run.
    pub unparseable: usize,
}

/// Everything that would wake the agent. Rows of kind `system` do not: only the tool that waits for one takes it,
/// and a container that is woken for its sake finds nothing to do.
const WAKING: &str = concat!(
    "SELECT ",
    bounded!("process_after"),
    ", ",
    bounded!("id"),
    " FROM messages_in
     WHERE status IN ('pending','paused') AND status = 'pending' AND trigger = 1 AND kind <> 'system'"
);
/// In files of the seed every row wakes.
const WAKING_SEED: &str = concat!(
    "SELECT ",
    bounded!("process_after"),
    ", ",
    bounded!("id"),
    " FROM messages_in
     WHERE status IN ('pending','paused') AND status = 'pending' AND kind <> 'system'"
);

/// Whether nothing in the file asks for upkeep: no message waits, and no ended run lacks its successor.
pub fn is_quiet(conn: &Connection) -> Result<bool, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM messages_in WHERE status IN ('pending','paused'))
           OR EXISTS (SELECT 1 FROM messages_in
                      WHERE recurrence IS NOT NULL AND status IN ('completed','failed'))",
    )?;
    Ok(!statement.exists([])?)
}

/// When a row is due.
enum Due {
    Now,
    At(Timestamp),
    Never,
}

fn each_waking(
    conn: &Connection,
    begun: &HashSet<MessageId>,
    mut see: impl FnMut(Due),
) -> Result<(), StoreError> {
    let mut statement = prepare_either(conn, WAKING, WAKING_SEED)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if !begun.is_empty() && cell(row, 1)?.text().is_some_and(|id| is_among(begun, id)) {
            continue;
        }
        see(match cell(row, 0)? {
            Cell::Null => Due::Now,
            Cell::Text(text) => Timestamp::parse(text).map_or(Due::Never, Due::At),
            Cell::Integer(_) | Cell::TooLong(_) | Cell::NotText => Due::Never,
        });
    }
    Ok(())
}

fn is_among(begun: &HashSet<MessageId>, id: &str) -> bool {
    MessageId::new(id).is_ok_and(|id| begun.contains(&id))
}

/// When the earliest of the messages is due that wait for their time at `now`. Those that are due already are
/// counted by [`due_work`] only.
pub fn next_due(conn: &Connection, now: Timestamp) -> Result<NextDue, StoreError> {
    Ok(due_work(conn, &HashSet::new(), now)?.next)
}

/// What is due and what will be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DueWork {
    /// How many messages are due and would wake the agent.
    pub count: usize,
    /// What lies ahead.
    pub next: NextDue,
}

/// What would wake the agent, those of `begun` left out: somebody works on them, or has done so.
pub fn due_work(
    conn: &Connection,
    begun: &HashSet<MessageId>,
    now: Timestamp,
) -> Result<DueWork, StoreError> {
    let mut work = DueWork::default();
    each_waking(conn, begun, |due| match due {
        Due::Now => work.count += 1,
        Due::At(at) if at <= now => work.count += 1,
        Due::At(at) => work.next.at = Some(work.next.at.map_or(at, |earliest| earliest.min(at))),
        Due::Never => work.next.unparseable += 1,
    })?;
    Ok(work)
}
