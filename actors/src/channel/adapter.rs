//! What a channel adapter implements: one small async trait.

use super::parts::PartLog;
use crate::model::error::{Receipt, SendError};
use crate::model::ids::{AgentGroupId, MessageId, PathComponent, SessionId};
use crate::model::message::Destination;
use async_trait::async_trait;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Sends messages to one account of one platform.
///
/// An adapter makes one try and classifies its failure; retries, order, limits and records are the engine's.
/// The engine calls `send` for one message of a lane at a time, and for many lanes at once.
#[async_trait]
pub trait Channel: Send + Sync + 'static {
    /// Whether a repeated send of the same message can be told from a new one.
    fn idempotency(&self) -> Idempotency {
        Idempotency::None
    }

    /// Makes one try. `Ok` means that the platform accepted the message.
    ///
    /// Answer [`SendError::Ambiguous`] only when the request may have reached the platform.
    ///
    /// A message that is too long for the platform goes in parts: see [`Delivery::sent_parts`] and
    /// [`Delivery::part_sent`]. A try then ends with the first part that is not accepted, and the next try goes on with
    /// it. Where the platform knows keys, each part needs its own, derived from [`Delivery::idempotency_key`].
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError>;

    /// Asks the platform whether it has a message of which an earlier try may have arrived: its receipt, or `None` when
    /// the platform surely does not have it. Called before such a message is sent again, when
    /// [`Channel::idempotency`] is [`Idempotency::Reconcile`].
    ///
    /// An error means that it is still unknown. The message is then not sent: it is asked for again later, or is
    /// ambiguous when that makes no sense any more.
    async fn find(&self, _delivery: &Delivery) -> Result<Option<Receipt>, SendError> {
        Err(SendError::Permanent { reason: "this channel cannot be asked for a message".to_owned() })
    }
}

/// What a platform does with a message that is sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// It recognises [`Delivery::idempotency_key`]: sending again is harmless.
    NativeKey,
    /// It shows the message twice, but can be asked by [`Channel::find`] whether it has it.
    Reconcile,
    /// It shows the message twice.
    None,
}

/// One message, ready to be sent.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The session that wrote it.
    pub session_id: SessionId,
    /// That session's agent group.
    pub agent_group_id: AgentGroupId,
    /// The row's id in `messages_out`.
    pub message_id: MessageId,
    /// The row's seq.
    pub seq: i64,
    /// Where to.
    pub destination: Destination,
    /// The row's kind: `chat` or `chat-sdk`.
    pub kind: Arc<str>,
    /// The row's content, valid JSON, unchanged.
    pub content: Arc<str>,
    /// The declared files, opened and checked.
    pub attachments: Vec<Attachment>,
    /// 1 for the first try.
    pub attempt: u32,
    /// The same for every try of this message, and for no other message.
    pub idempotency_key: Arc<str>,
    /// Where [`Delivery::part_sent`] records parts.
    pub part_log: PartLog,
}

/// A file that goes with a message. It is already open: its path is of no use to an adapter.
#[derive(Debug, Clone)]
pub struct Attachment {
    name: PathComponent,
    size: u64,
    file: Arc<File>,
}

impl Attachment {
    /// Wraps an open regular file of which the first `size` bytes are to be sent.
    pub fn new(name: PathComponent, size: u64, file: File) -> Self {
        Self { name, size, file: Arc::new(file) }
    }

    /// The file's name, a plain file name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Its size in bytes when it was checked.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the file from its start, at most [`Attachment::size`] bytes. Several readers do not disturb each
    /// other. Ends early when the agent has shortened the file meanwhile.
    pub fn reader(&self) -> AttachmentReader {
        AttachmentReader { file: Arc::clone(&self.file), position: 0, end: self.size }
    }
}

/// Reads an [`Attachment`].
#[derive(Debug)]
pub struct AttachmentReader {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Read for AttachmentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        let got = self.file.read_at(&mut buffer[..want], self.position)?;
        self.position += got as u64;
        Ok(got)
    }
}
