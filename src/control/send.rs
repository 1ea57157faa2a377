//! A message for an agent on its way through the socket: the request's line, then the content's bytes, then those of
//! the attachments, one after the other. The line says how many each has.

use nanorelay_actors::inbox::{
    AttachmentContent, EnqueueError, InboxAttachment, InboxMessage, MessageOrigin, check_sizes,
};
use nanorelay_actors::limits::Limits;
use nanorelay_actors::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Seek, Write};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Everything about a message but its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendHead {
    /// The session that it is for.
    pub session_id: String,
    /// The message's id, if it has one.
    pub id: Option<String>,
    /// The row's kind.
    pub kind: String,
    /// Whether it wakes the agent.
    pub wake: bool,
    /// Whether only an agent that has just started takes it.
    pub on_wake: bool,
    /// Not before, in milliseconds since 1970.
    pub not_before_ms: Option<i64>,
    /// Where it comes from.
    pub origin: MessageOrigin,
    /// The content's size.
    pub content_bytes: u64,
    /// The attachments.
    pub attachments: Vec<AttachmentHead>,
}

/// Everything about an attachment but its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentHead {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

impl SendHead {
    /// What goes before a message's bytes.
    pub fn of(session_id: &str, message: &InboxMessage) -> io::Result<Self> {
        let head = |attachment: &InboxAttachment| {
            Ok(AttachmentHead { name: attachment.name.clone(), bytes: attachment.content.size()? })
        };
        Ok(Self {
            session_id: session_id.to_owned(),
            id: message.id.clone(),
            kind: message.kind.clone(),
            wake: message.wake,
            on_wake: message.on_wake,
            not_before_ms: message.not_before.map(Timestamp::as_ms),
            origin: message.origin.clone(),
            content_bytes: message.content.len() as u64,
            attachments: message.attachments.iter().map(head).collect::<io::Result<_>>()?,
        })
    }

    /// Whether the bytes that follow are within the limits: asked before any of them is read.
    pub fn check(&self, limits: &Limits) -> Result<(), EnqueueError> {
        let Self { content_bytes, attachments, .. } = self;
        if *content_bytes > limits.content_bytes_max {
            let limit = limits.content_bytes_max;
            let words = format!("the content has {content_bytes} bytes, the limit is {limit}");
            return Err(EnqueueError::TooLarge(words));
        }
        let sizes: Vec<(&str, u64)> =
            attachments.iter().map(|attachment| (attachment.name.as_str(), attachment.bytes)).collect();
        check_sizes(&sizes, limits)
    }

    /// Reads the bytes that follow.
    pub async fn receive(self, source: &mut (impl AsyncRead + Unpin)) -> io::Result<InboxMessage> {
        let content = String::from_utf8(bytes(source, self.content_bytes).await?);
        let content = content.map_err(|_| io::Error::other("the content is not UTF-8"))?;
        let mut attachments = Vec::with_capacity(self.attachments.len());
        for AttachmentHead { name, bytes: size } in self.attachments {
            let content = AttachmentContent::Bytes(bytes(source, size).await?.into());
            attachments.push(InboxAttachment { name, content });
        }
        Ok(InboxMessage {
            id: self.id,
            kind: self.kind,
            content,
            wake: self.wake,
            on_wake: self.on_wake,
            not_before: self.not_before_ms.map(Timestamp::from_ms),
            origin: self.origin,
            attachments,
        })
    }
}

/// Exactly so many bytes.
async fn bytes(source: &mut (impl AsyncRead + Unpin), count: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(count).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 == count { Ok(bytes) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
}

/// Writes a message's bytes, as many as its head says.
pub fn write_bytes(head: &SendHead, message: &InboxMessage, target: &mut impl Write) -> io::Result<()> {
    target.write_all(message.content.as_bytes())?;
    for (attachment, head) in message.attachments.iter().zip(&head.attachments) {
        match &attachment.content {
            AttachmentContent::Bytes(bytes) => target.write_all(bytes)?,
            AttachmentContent::File(file) => {
                let mut file = &**file;
                file.rewind()?;
                if io::copy(&mut file.take(head.bytes), target)? < head.bytes {
                    return Err(io::Error::other(format!("{} has become shorter", attachment.name)));
                }
            }
        }
    }
    target.flush()
}
