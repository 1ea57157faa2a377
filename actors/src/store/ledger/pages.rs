//! Pages of the list of deliveries, at a cost that does not grow with the ledger.
//!
//! The rows of each state are read along an index, the latest first, and merged. What a filter asks for besides is
//! looked for in what was read; a page ends after a bounded number of rows.

use super::LedgerReader;
use super::read::delivery_record;
use crate::limits::DELIVERIES_LOOKED_AT_MAX;
use crate::model::time::Timestamp;
use crate::report::{DeliveryCursor, DeliveryFilter, DeliveryRecord, DeliveryState, Page};
use crate::store::error::StoreError;
use rusqlite::{Connection, Rows, Statement, params};

/// Made in every ledger, whatever its version.
const INDEX: &str = "CREATE INDEX IF NOT EXISTS deliveries_delivered ON deliveries(updated_at)
                     WHERE state = 'delivered'";

pub(super) fn create(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch(INDEX)?)
}

/// Where a walk begins, and how far back it goes.
struct Range {
    after: DeliveryCursor,
    since_ms: i64,
}

/// A delivery with its place in the list.
struct Listed {
    record: DeliveryRecord,
    updated_at_ms: i64,
}

impl Listed {
    fn order(&self) -> (i64, &str, &str) {
        (self.updated_at_ms, &self.record.session_id, &self.record.message_id)
    }

    fn cursor(&self) -> DeliveryCursor {
        DeliveryCursor {
            updated_at_ms: self.updated_at_ms,
            session_id: self.record.session_id.clone(),
            message_id: self.record.message_id.clone(),
        }
    }
}

impl LedgerReader {
    /// The deliveries that match, after a place in the list; the latest change first. `is_visible` says of a session
    /// whether its messages are listed.
    pub fn delivery_page(
        &self,
        filter: &DeliveryFilter,
        is_visible: &mut dyn FnMut(&str) -> bool,
        after: Option<DeliveryCursor>,
        limit: usize,
    ) -> Result<Page<DeliveryRecord, DeliveryCursor>, StoreError> {
        let range = range(filter, after);
        self.with(|connection| {
            let mut statements = statements(connection, filter)?;
            let mut streams = Vec::with_capacity(statements.len());
            for statement in &mut statements {
                streams.push(Stream::new(statement, filter, &range)?);
            }
            let mut page = Page { items: Vec::new(), next: None };
            for looked_at in 1.. {
                let latest = streams.iter_mut().max_by(|a, b| a.order().cmp(&b.order()));
                let Some(listed) = latest.map(Stream::take).transpose()?.flatten() else { break };
                let updated_at = Timestamp::from_ms(listed.updated_at_ms);
                let is_full = looked_at >= DELIVERIES_LOOKED_AT_MAX;
                let is_wanted =
                    filter.matches(&listed.record, updated_at) && is_visible(&listed.record.session_id);
                let cursor = (is_full || is_wanted && page.items.len() + 1 == limit).then(|| listed.cursor());
                if is_wanted {
                    page.items.push(listed.record);
                }
                if cursor.is_some() {
                    let is_end = streams.iter().all(|stream| stream.head.is_none());
                    page.next = cursor.filter(|_| !is_end);
                    break;
                }
            }
            Ok(page)
        })
    }
}

fn range(filter: &DeliveryFilter, after: Option<DeliveryCursor>) -> Range {
    // The first place of all; an end of the time that is asked for comes before what is not asked for.
    let start = DeliveryCursor {
        updated_at_ms: filter.until_ms.unwrap_or(i64::MAX),
        session_id: String::new(),
        message_id: String::new(),
    };
    let after = match after {
        Some(after) if after.updated_at_ms < start.updated_at_ms => after,
        _ => start,
    };
    Range { after, since_ms: filter.since_ms.unwrap_or(i64::MIN) }
}

/// The columns of a record, and when it last changed in milliseconds.
macro_rules! select {
    ($rest:expr) => {
        format!(
            "SELECT session_id, message_id, seq, kind, state, attempts, error_class, error, channel_type, platform_id,
                    thread_id, platform_message_id, next_attempt_at, updated_at
             FROM deliveries WHERE {}
               AND updated_at BETWEEN ?1 AND ?2 AND (+updated_at, session_id, message_id) < (?2, ?3, ?4)
             ORDER BY updated_at DESC, session_id DESC, message_id DESC",
            $rest
        )
    };
}

/// One statement for each state, or one for a session, whose rows are few.
fn statements<'connection>(
    connection: &'connection Connection,
    filter: &DeliveryFilter,
) -> rusqlite::Result<Vec<Statement<'connection>>> {
    if filter.session_id.is_some() {
        return Ok(vec![connection.prepare(&select!("session_id = ?5"))?]);
    }
    let of_state = |state: &DeliveryState| {
        // In the words of the partial index that has it.
        let condition = match state {
            DeliveryState::Delivered => "state = 'delivered'".to_owned(),
            other => format!("state = '{}' AND state <> 'delivered'", other.as_str()),
        };
        connection.prepare(&select!(condition))
    };
    let all = DeliveryState::ALL;
    let states: &[DeliveryState] = if filter.states.is_empty() { &all } else { &filter.states };
    let mut distinct = Vec::new();
    for state in states {
        if !distinct.contains(state) {
            distinct.push(*state);
        }
    }
    distinct.iter().map(of_state).collect()
}

/// The rows of one statement, of which the first is known.
struct Stream<'statement> {
    rows: Rows<'statement>,
    head: Option<Listed>,
}

impl<'statement> Stream<'statement> {
    fn new(
        statement: &'statement mut Statement<'_>,
        filter: &DeliveryFilter,
        range: &Range,
    ) -> rusqlite::Result<Self> {
        let Range { after, since_ms } = range;
        let rows = match &filter.session_id {
            Some(session) => statement.query(params![
                since_ms,
                after.updated_at_ms,
                after.session_id,
                after.message_id,
                session
            ])?,
            None => {
                statement.query(params![since_ms, after.updated_at_ms, after.session_id, after.message_id])?
            }
        };
        let mut stream = Self { rows, head: None };
        stream.take()?;
        Ok(stream)
    }

    fn order(&self) -> Option<(i64, &str, &str)> {
        self.head.as_ref().map(Listed::order)
    }

    /// Takes the first row and reads the next one.
    fn take(&mut self) -> rusqlite::Result<Option<Listed>> {
        let next = match self.rows.next()? {
            Some(row) => Some(Listed { record: delivery_record(row)?, updated_at_ms: row.get(13)? }),
            None => None,
        };
        Ok(std::mem::replace(&mut self.head, next))
    }
}
