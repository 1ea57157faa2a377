//! Rows of a session's databases as an operator sees them, the newest first. Both files may hold anything: sizes are
//! bounded before a value is loaded, and what is no text is left out.

use super::error::StoreError;
use super::sql::{Cell, bounded, cell, prepare_either, sql_limit};
use crate::limits::{SHOWN_CONTENT_BYTES_MAX, SHOWN_PAGE_BYTES_MAX};
use crate::model::ids::MessageId;
use crate::report::{InboundRecord, OutboundRecord, Page};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// The beginning of the content, unless it is larger than any that is delivered; and its size. The beginning is counted in
/// characters here, and cut to bytes after.
macro_rules! content {
    () => {
        "CASE WHEN octet_length(content) <= 65536 THEN content
              WHEN octet_length(content) <= 8388608 THEN substr(content, 1, 65536) END,
         octet_length(content)"
    };
}

const _: () = assert!(SHOWN_CONTENT_BYTES_MAX == 65536);

macro_rules! number {
    ($column:literal) => {
        concat!("CASE typeof(", $column, ") WHEN 'integer' THEN ", $column, " END")
    };
}

const OUTBOUND: &str = concat!(
    "SELECT rowid, ",
    number!("seq"),
    ", ",
    bounded!("id"),
    ", ",
    bounded!("kind"),
    ", ",
    bounded!("timestamp"),
    ", ",
    bounded!("deliver_after"),
    ", ",
    bounded!("channel_type"),
    ", ",
    bounded!("platform_id"),
    ", ",
    bounded!("thread_id"),
    ", ",
    bounded!("in_reply_to"),
    ", ",
    content!(),
    " FROM messages_out WHERE rowid < ?1 ORDER BY rowid DESC LIMIT ?2"
);

macro_rules! inbound {
    ($trigger:literal, $series:literal) => {
        concat!(
            "SELECT rowid, ",
            number!("seq"),
            ", ",
            bounded!("id"),
            ", ",
            bounded!("kind"),
            ", ",
            bounded!("timestamp"),
            ", ",
            bounded!("status"),
            ", ",
            $trigger,
            ", ",
            bounded!("process_after"),
            ", ",
            bounded!("recurrence"),
            ", ",
            $series,
            ", ",
            number!("tries"),
            ", ",
            bounded!("channel_type"),
            ", ",
            bounded!("platform_id"),
            ", ",
            bounded!("thread_id"),
            ", ",
            content!(),
            " FROM messages_in WHERE rowid < ?1 ORDER BY rowid DESC LIMIT ?2"
        )
    };
}

const INBOUND: &str = inbound!(
    "CASE typeof(trigger) WHEN 'integer' THEN trigger END",
    "CASE WHEN octet_length(series_id) > 1024 THEN NULL ELSE series_id END"
);
/// Files of the seed lack the columns.
const INBOUND_SEED: &str = inbound!("NULL", "NULL");

/// Rows of `messages_out` before a place, the newest first. Nothing is known of their deliveries here.
pub fn outbound_rows(
    conn: &Connection,
    before: Option<i64>,
    limit: usize,
) -> Result<Page<OutboundRecord, i64>, StoreError> {
    let mut statement = conn.prepare_cached(OUTBOUND)?;
    let mut rows = statement.query(params![before.unwrap_or(i64::MAX), sql_limit(limit + 1)])?;
    let mut listing = Listing::new(limit);
    while let Some(row) = rows.next()? {
        let (content, is_truncated) = content(row, 10)?;
        let record = OutboundRecord {
            rowid: row.get(0)?,
            seq: row.get(1)?,
            id: text(row, 2)?,
            kind: text(row, 3)?,
            timestamp: text(row, 4)?,
            deliver_after: text(row, 5)?,
            channel_type: text(row, 6)?,
            platform_id: text(row, 7)?,
            thread_id: text(row, 8)?,
            in_reply_to: text(row, 9)?,
            content,
            is_truncated,
            delivery: None,
        };
        let size = record.content.as_ref().map_or(0, String::len);
        if !listing.add(record, |record| record.rowid, size) {
            break;
        }
    }
    Ok(listing.page)
}

/// Rows of `messages_in` before a place, the newest first. What their agent says about them is in the other file.
pub fn inbound_rows(
    conn: &Connection,
    before: Option<i64>,
    limit: usize,
) -> Result<Page<InboundRecord, i64>, StoreError> {
    let mut statement = prepare_either(conn, INBOUND, INBOUND_SEED)?;
    let mut rows = statement.query(params![before.unwrap_or(i64::MAX), sql_limit(limit + 1)])?;
    let mut listing = Listing::new(limit);
    while let Some(row) = rows.next()? {
        let (content, is_truncated) = content(row, 14)?;
        let record = InboundRecord {
            rowid: row.get(0)?,
            seq: row.get(1)?,
            id: text(row, 2)?,
            kind: text(row, 3)?,
            timestamp: text(row, 4)?,
            status: text(row, 5)?,
            trigger: row.get::<_, Option<i64>>(6)?.map(|trigger| trigger != 0),
            process_after: text(row, 7)?,
            recurrence: text(row, 8)?,
            series_id: text(row, 9)?,
            tries: row.get(10)?,
            channel_type: text(row, 11)?,
            platform_id: text(row, 12)?,
            thread_id: text(row, 13)?,
            content,
            is_truncated,
            claim: None,
        };
        let size = record.content.as_ref().map_or(0, String::len);
        if !listing.add(record, |record| record.rowid, size) {
            break;
        }
    }
    Ok(listing.page)
}

/// The content of one row, or its beginning, and whether there is more of it; `None` when the row is gone.
pub fn outbound_content(conn: &Connection, id: &MessageId) -> Result<Option<(String, bool)>, StoreError> {
    let mut statement =
        conn.prepare_cached(concat!("SELECT ", content!(), " FROM messages_out WHERE id = ?1 LIMIT 1"))?;
    let found = statement.query_row([id.as_str()], |row| content(row, 0)).optional()?;
    Ok(found.map(|(content, is_truncated)| (content.unwrap_or_default(), is_truncated)))
}

/// A page in the making.
struct Listing<T> {
    page: Page<T, i64>,
    limit: usize,
    bytes: usize,
}

impl<T> Listing<T> {
    fn new(limit: usize) -> Self {
        Self { page: Page { items: Vec::new(), next: None }, limit, bytes: 0 }
    }

    /// Adds a row, or notes that it begins the next page. Says whether to go on.
    fn add(&mut self, record: T, place: impl Fn(&T) -> i64, size: usize) -> bool {
        let is_full = self.page.items.len() == self.limit || self.bytes >= SHOWN_PAGE_BYTES_MAX;
        if is_full {
            self.page.next = self.page.items.last().map(place);
            return false;
        }
        self.bytes += size;
        self.page.items.push(record);
        true
    }
}

fn text(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<String>> {
    Ok(match cell(row, index)? {
        Cell::Text(text) => Some(text.to_owned()),
        _ => None,
    })
}

/// The beginning of a content, and whether there is more of it. The column after it holds its size.
fn content(row: &Row<'_>, index: usize) -> rusqlite::Result<(Option<String>, bool)> {
    let size: i64 = row.get::<_, Option<i64>>(index + 1)?.unwrap_or(0);
    let ValueRef::Text(bytes) = row.get_ref(index)? else { return Ok((None, size > 0)) };
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok((None, size > 0)) };
    let start = &text[..text.floor_char_boundary(SHOWN_CONTENT_BYTES_MAX)];
    Ok((Some(start.to_owned()), i64::try_from(start.len()).unwrap_or(i64::MAX) < size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        crate::store::outbound::create_schema(&conn).unwrap();
        conn
    }

    fn say(conn: &Connection, rowid: i64, content: &str) {
        conn.execute(
            "INSERT INTO messages_out (rowid, id, seq, timestamp, kind, content) VALUES (?1, ?2, ?1, 't', 'chat', ?3)",
            params![rowid, format!("m{rowid}"), content],
        )
        .unwrap();
    }

    #[test]
    fn pages_go_from_the_newest_row_to_the_oldest_while_new_ones_come() {
        let conn = outbox();
        (1..=5).for_each(|rowid| say(&conn, rowid, "{}"));
        let first = outbound_rows(&conn, None, 2).unwrap();
        say(&conn, 6, "{}");
        let second = outbound_rows(&conn, first.next, 2).unwrap();
        let third = outbound_rows(&conn, second.next, 2).unwrap();
        let rows =
            [&first, &second, &third].map(|page| page.items.iter().map(|row| row.rowid).collect::<Vec<_>>());
        assert_eq!(rows, [vec![5, 4], vec![3, 2], vec![1]]);
        assert_eq!(third.next, None);
    }

    #[test]
    fn a_long_content_is_cut_between_characters_and_a_page_of_long_ones_is_short() {
        let conn = outbox();
        let long = "ü".repeat(SHOWN_CONTENT_BYTES_MAX);
        (1..=50).for_each(|rowid| say(&conn, rowid, &long));
        let page = outbound_rows(&conn, None, 50).unwrap();
        assert_eq!(page.items.len(), SHOWN_PAGE_BYTES_MAX / SHOWN_CONTENT_BYTES_MAX);
        assert!(page.next.is_some());
        let row = &page.items[0];
        assert_eq!(row.content.as_ref().map(String::len), Some(SHOWN_CONTENT_BYTES_MAX));
        assert!(row.is_truncated);
        say(&conn, 51, &"x".repeat(9 * 1024 * 1024));
        let row = &outbound_rows(&conn, None, 1).unwrap().items[0];
        assert!(row.content.is_none() && row.is_truncated, "it is not even loaded");
    }

    #[test]
    fn what_is_no_text_is_left_out() {
        let conn = outbox();
        conn.execute(
            "INSERT INTO messages_out (id, seq, timestamp, kind, content) VALUES (x'00', 'one', 7, ?1, x'ff')",
            ["k".repeat(2000)],
        )
        .unwrap();
        let row = &outbound_rows(&conn, None, 10).unwrap().items[0];
        assert_eq!((&row.id, &row.kind, &row.content, row.seq), (&None, &None, &None, None));
    }
}
