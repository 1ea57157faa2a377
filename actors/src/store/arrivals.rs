//! Messages that enter an inbox: their files first, then their row, so that no row ever names a file that is missing.
//!
//! One writer at a time does this for a session. What was copied and got no row is known to the ledger (its
//! `inbox_files`), and removed by [`clear_leftovers`].

use super::attachments;
use super::error::StoreError;
use super::inbound::{self, Insert, NewInbound};
use super::ledger::InboxFiles;
use super::session_dir::SessionDir;
use super::session_store::SessionStore;
use crate::model::content;
use crate::model::ids::{MessageId, PathComponent, derived_id};
use crate::model::time::Timestamp;
use rusqlite::{Connection, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A message for an inbox.
#[derive(Debug)]
pub struct Arrival {
    /// Its row, under the id that it wishes for, and without its files in the content.
    pub row: NewInbound,
    /// Its files.
    pub files: Vec<ArrivalFile>,
}

/// A file that comes with it.
#[derive(Debug)]
pub struct ArrivalFile {
    /// Its name.
    pub name: PathComponent,
    /// Its size in bytes, checked to be within the limits.
    pub size: u64,
    /// What is in it.
    pub content: AttachmentContent,
}

impl Arrival {
    /// What it takes in memory or has copied, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum::<u64>() + self.row.content.len() as u64
    }
}

/// What is in an attachment.
#[derive(Clone)]
pub enum AttachmentContent {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// A file, from its beginning. It is copied when the message is written, and must not change until then.
    ///
    /// Never one of the databases of a data directory: closing such a file takes away SQLite's locks on it.
    File(Arc<File>),
}

impl fmt::Debug for AttachmentContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::File(file) => file.fmt(f),
        }
    }
}

impl AttachmentContent {
    /// Its size in bytes.
    pub fn size(&self) -> io::Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => file.metadata().map(|found| found.len()),
        }
    }
}

/// A message that is in an inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Enqueued {
    /// The id of its row. It is the message's own id, unless a message of another chat has it in this inbox.
    pub message_id: String,
    /// Its number, by which the agent knows it.
    pub seq: i64,
    /// Whether it was written now; `false` = it was there already.
    pub is_new: bool,
}

/// A message whose files are in the inbox.
#[derive(Debug)]
pub enum Placed {
    /// It still needs its row.
    Ready(NewInbound),
    /// It has it from an earlier time.
    Present(Enqueued),
}

/// The files that are about to be copied for these messages. They are to be recorded before [`place`], which is to have
/// the same messages in the same order.
pub fn expected_files<'a>(
    store: &mut SessionStore,
    arrivals: impl Iterator<Item = &'a Arrival>,
) -> Result<Vec<InboxFiles>, StoreError> {
    let (mut expected, mut taken) = (Vec::new(), TakenIds::new());
    for arrival in arrivals {
        let (message_id, present) = resolve(store.inbound()?, &mut taken, &arrival.row)?;
        if present.is_none() && !arrival.files.is_empty() {
            let folder = folder_of(&message_id)?;
            expected.push(InboxFiles { message_id, folder });
        }
    }
    Ok(expected)
}

/// Copies the files of messages into the inbox, and finds out which ones have their row already. An inner error is
/// about that message only.
pub fn place(
    store: &mut SessionStore,
    arrivals: &[Arrival],
) -> Result<Vec<Result<Placed, StoreError>>, StoreError> {
    let (mut taken, mut copied_for) = (TakenIds::new(), HashSet::new());
    let mut placed = Vec::with_capacity(arrivals.len());
    for arrival in arrivals {
        let (id, present) = resolve(store.inbound()?, &mut taken, &arrival.row)?;
        if let Some(seq) = present {
            placed.push(Ok(Placed::Present(Enqueued { message_id: id.to_string(), seq, is_new: false })));
            continue;
        }
        // A message that comes twice in one batch: the first one whose files are whole counts.
        let copied = if copied_for.contains(&id) {
            Ok(())
        } else {
            copy_files(store.directory()?, &id, &arrival.files)
        };
        if copied.is_ok() {
            copied_for.insert(id.clone());
        } else {
            // It gets no row: the next one that wishes for the id has it, now and whenever it comes again.
            taken.remove(&id);
        }
        placed.push(copied.and_then(|()| Ok(Placed::Ready(finished_row(arrival, id)?))));
    }
    if !placed.is_empty() {
        crash_point!("inbox_files_copied");
    }
    Ok(placed)
}

/// Writes the row of a message whose files are there.
pub fn insert(tx: &Transaction<'_>, placed: &Placed, now: Timestamp) -> Result<Enqueued, StoreError> {
    let row = match placed {
        Placed::Present(enqueued) => return Ok(enqueued.clone()),
        Placed::Ready(row) => row,
    };
    let message_id = row.id.to_string();
    Ok(match inbound::insert_message(tx, row, now)? {
        Insert::Inserted { seq } => Enqueued { message_id, seq, is_new: true },
        Insert::Duplicate => {
            let seq = inbound::find_message(tx, &row.id)?.map_or(0, |found| found.seq);
            Enqueued { message_id, seq, is_new: false }
        }
    })
}

/// Removes files that were copied for a row that did not come. Files whose row is there stay, and so does what the agent
/// has put in the place of ours.
pub fn clear_leftovers(store: &mut SessionStore, expected: &[InboxFiles]) -> Result<(), StoreError> {
    for InboxFiles { message_id, folder } in expected {
        if inbound::find_message(store.inbound()?, message_id)?.is_none() {
            match attachments::remove_inbox(store.directory()?, folder) {
                Ok(()) | Err(StoreError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// The chat that a message is of: its type and its id.
type ChatOfRow = (Option<String>, Option<String>);

/// The ids that the messages of one batch wish for and that no row has yet, and the chats that get them.
type TakenIds = HashMap<MessageId, ChatOfRow>;

/// The id under which a message is, or will be, in the inbox, and its seq when it is. A platform's ids are unique in one
/// of its chats at best: the second one of two messages with the same id gets another, always the same.
fn resolve(
    conn: &Connection,
    taken: &mut TakenIds,
    row: &NewInbound,
) -> Result<(MessageId, Option<i64>), StoreError> {
    let own: ChatOfRow = (row.channel_type.clone(), row.platform_id.clone());
    let (seq, is_own) = match inbound::find_message(conn, &row.id)? {
        Some(found) => (Some(found.seq), (found.channel_type, found.platform_id) == own),
        None => (None, *taken.entry(row.id.clone()).or_insert_with(|| own.clone()) == own),
    };
    if is_own {
        return Ok((row.id.clone(), seq));
    }
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let parts = [row.id.as_str(), &part(&row.channel_type), &part(&row.platform_id)];
    let other = message_id(&derived_id("in", &parts))?;
    let seq = inbound::find_message(conn, &other)?.map(|found| found.seq);
    Ok((other, seq))
}

fn message_id(text: &str) -> Result<MessageId, StoreError> {
    MessageId::new(text).map_err(|problem| StoreError::Limit(problem.to_string()))
}

/// A message's folder in `inbox/`: named as its row, where that is a plain file name.
fn folder_of(id: &MessageId) -> Result<PathComponent, StoreError> {
    let folder = id.path_component().or_else(|_| PathComponent::new(&derived_id("in", &[id.as_str()])));
    folder.map_err(|problem| StoreError::Limit(problem.to_string()))
}

fn finished_row(arrival: &Arrival, id: MessageId) -> Result<NewInbound, StoreError> {
    let names: Vec<&str> = arrival.files.iter().map(|file| file.name.as_str()).collect();
    let original = (id != arrival.row.id).then(|| arrival.row.id.as_str());
    let folder = folder_of(&id)?;
    let content = content::received(&arrival.row.content, original, &names, folder.as_str());
    Ok(NewInbound { id, content, ..arrival.row.clone() })
}

fn copy_files(directory: &SessionDir, id: &MessageId, files: &[ArrivalFile]) -> Result<(), StoreError> {
    if files.is_empty() {
        return Ok(());
    }
    let folder = folder_of(id)?;
    // What a try left that came to no row, or what the agent has put there.
    attachments::remove_inbox(directory, &folder)?;
    let copied = files.iter().try_for_each(|ArrivalFile { name, size, content }| {
        let mut source = FromStart { content, position: 0 };
        attachments::copy_into_inbox(directory, &folder, name, &mut source, *size)
    });
    if copied.is_err() {
        // The same message may come again without files. What cannot be removed now is known to the ledger.
        let _ = attachments::remove_inbox(directory, &folder);
    }
    copied
}

/// Reads an attachment from its beginning, wherever its file's own position is.
struct FromStart<'a> {
    content: &'a AttachmentContent,
    position: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = match self.content {
            AttachmentContent::Bytes(bytes) => {
                let start = usize::try_from(self.position).unwrap_or(usize::MAX).min(bytes.len());
                (&bytes[start..]).read(buffer)?
            }
            AttachmentContent::File(file) => File::read_at(file, buffer, self.position)?,
        };
        self.position += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests;
