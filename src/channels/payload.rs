//! The JSON object that describes one delivery, for jsonl and webhook.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nanorelay_actors::channel::adapter::{Attachment, Delivery};
use nanorelay_actors::model::error::SendError;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::io::Read;
use tokio::sync::Semaphore;

/// Files are read in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;

/// What is told about one attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct FileFacts {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// Its bytes in base64, where they are sent along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// The fields in the order in which they are written.
#[derive(Serialize)]
struct Payload<'a> {
    session_id: &'a str,
    agent_group_id: &'a str,
    id: &'a str,
    seq: i64,
    channel_type: &'a str,
    platform_id: &'a str,
    thread_id: Option<&'a str>,
    kind: &'a str,
    content: &'a RawValue,
    files: &'a [FileFacts],
    attempt: u32,
}

/// The object as one line of JSON, without a line break. The content is embedded as it is, so that unknown and
/// repeated keys, large numbers and the order of keys survive.
pub(super) fn to_json(delivery: &Delivery, files: &[FileFacts]) -> Result<String, SendError> {
    let content = content_on_one_line(&delivery.content)?;
    let payload = Payload {
        session_id: delivery.session_id.as_str(),
        agent_group_id: delivery.agent_group_id.as_str(),
        id: delivery.message_id.as_str(),
        seq: delivery.seq,
        channel_type: delivery.destination.channel_type.as_str(),
        platform_id: delivery.destination.platform_id.as_str(),
        thread_id: delivery.destination.thread_id.as_ref().map(|thread| thread.as_str()),
        kind: &delivery.kind,
        content: &content,
        files,
        attempt: delivery.attempt,
    };
    serde_json::to_string(&payload).map_err(not_json)
}

/// The content without line breaks, otherwise as it is.
pub(super) fn content_on_one_line(content: &str) -> Result<Box<RawValue>, SendError> {
    let mut content = content.to_owned();
    if content.contains(['\n', '\r']) {
        // In valid JSON a bare line break only stands between tokens; inside a string it is escaped.
        content = content.replace(['\n', '\r'], " ");
    }
    RawValue::from_string(content).map_err(not_json)
}

fn not_json(error: serde_json::Error) -> SendError {
    SendError::Permanent { reason: format!("content is not JSON: {error}") }
}

/// Reads and hashes the attachments of a delivery away from the actors' threads.
pub(super) struct FileReader {
    /// Bounds the threads that read at the same time.
    permits: Semaphore,
}

impl FileReader {
    /// At most `parallel` deliveries are read at a time.
    pub fn new(parallel: usize) -> Self {
        Self { permits: Semaphore::new(parallel) }
    }

    /// The facts of each attachment, with the bytes when `with_data` is set.
    pub async fn read(&self, delivery: &Delivery, with_data: bool) -> Result<Vec<FileFacts>, SendError> {
        let read = move |file: &Attachment| {
            let (mut facts, data) = read_one(file, with_data)?;
            facts.data = with_data.then(|| STANDARD.encode(&data));
            Ok(facts)
        };
        self.read_each(delivery, read).await
    }

    /// The facts of each attachment and its bytes.
    pub async fn read_bytes(&self, delivery: &Delivery) -> Result<Vec<(FileFacts, Vec<u8>)>, SendError> {
        self.read_each(delivery, |file| read_one(file, true)).await
    }

    async fn read_each<T: Send + 'static>(
        &self,
        delivery: &Delivery,
        read: impl Fn(&Attachment) -> Result<T, SendError> + Send + 'static,
    ) -> Result<Vec<T>, SendError> {
        if delivery.attachments.is_empty() {
            return Ok(Vec::new());
        }
        let broken = |reason: &str| SendError::Transient { retry_after: None, reason: reason.to_owned() };
        let _permit =
            self.permits.acquire().await.map_err(|_| broken("attachments cannot be read any more"))?;
        let attachments = delivery.attachments.clone();
        let read_all = move || attachments.iter().map(read).collect();
        #[expect(clippy::disallowed_methods, reason = "bounded by the permits of this reader")]
        let reading = tokio::task::spawn_blocking(read_all);
        reading.await.map_err(|_| broken("reading an attachment was broken off"))?
    }
}

/// Reads a file whole, and keeps its bytes when they are wanted.
fn read_one(attachment: &Attachment, keep: bool) -> Result<(FileFacts, Vec<u8>), SendError> {
    let transient = |reason: String| SendError::Transient { retry_after: None, reason };
    let mut reader = attachment.reader();
    let mut hash = Sha256::new();
    let mut size = 0u64;
    let mut data = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let got = reader
            .read(&mut piece)
            .map_err(|error| transient(format!("cannot read attachment {}: {error}", attachment.name())))?;
        if got == 0 {
            break;
        }
        hash.update(&piece[..got]);
        size += got as u64;
        if keep {
            data.extend_from_slice(&piece[..got]);
        }
    }
    if size != attachment.size() {
        // The next try opens and checks it anew.
        return Err(transient(format!("attachment {} was shortened while it was read", attachment.name())));
    }
    let name = attachment.name().to_owned();
    Ok((FileFacts { name, size, sha256: hex(&hash.finalize()), data: None }, data))
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use nanorelay_actors::channel::parts::PartLog;
    use nanorelay_actors::model::ids::{
        AgentGroupId, ChannelType, MessageId, PathComponent, PlatformId, SessionId,
    };
    use nanorelay_actors::model::message::Destination;
    use std::io::Write;

    /// A delivery of that content, to chat `slack:C0OPS`.
    pub fn delivery(content: &str) -> Delivery {
        Delivery {
            session_id: SessionId::new("sess-1").unwrap(),
            agent_group_id: AgentGroupId::new("ag-1").unwrap(),
            message_id: MessageId::new("msg-1").unwrap(),
            seq: 3,
            destination: Destination {
                channel_type: ChannelType::new("slack").unwrap(),
                platform_id: PlatformId::new("slack:C0OPS").unwrap(),
                thread_id: None,
            },
            kind: "chat".into(),
            content: content.into(),
            attachments: Vec::new(),
            attempt: 1,
            idempotency_key: "sess-1/msg-1".into(),
            part_log: PartLog::default(),
        }
    }

    /// An attachment with those bytes that claims to have `size` bytes.
    pub fn attachment(name: &str, bytes: &[u8], size: u64) -> Attachment {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Attachment::new(PathComponent::new(name).unwrap(), size, file)
    }

    #[test]
    fn content_is_embedded_unchanged_but_for_line_breaks() {
        let mut pretty = delivery("{\n  \"text\": \"a\\nb\",\r\n  \"n\": 1e400, \"n\": 2\n}");
        pretty.attempt = 2;
        assert_eq!(
            to_json(&pretty, &[]).unwrap(),
            "{\"session_id\":\"sess-1\",\"agent_group_id\":\"ag-1\",\"id\":\"msg-1\",\"seq\":3,\
             \"channel_type\":\"slack\",\"platform_id\":\"slack:C0OPS\",\"thread_id\":null,\"kind\":\"chat\",\
             \"content\":{   \"text\": \"a\\nb\",    \"n\": 1e400, \"n\": 2 },\"files\":[],\"attempt\":2}"
        );
    }

    #[test]
    fn content_that_is_not_json_is_refused_for_good() {
        assert!(matches!(to_json(&delivery("{"), &[]), Err(SendError::Permanent { .. })));
    }

    #[tokio::test]
    async fn attachments_are_hashed_and_encoded() {
        let mut with_file = delivery("{}");
        with_file.attachments.push(attachment("a.txt", b"abc", 3));
        let reader = FileReader::new(1);
        let facts = reader.read(&with_file, true).await.unwrap();
        assert_eq!(facts[0].sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((facts[0].size, facts[0].data.as_deref()), (3, Some("YWJj")));
        assert_eq!(reader.read(&with_file, false).await.unwrap()[0].data, None);
    }

    #[tokio::test]
    async fn a_shortened_attachment_is_tried_again() {
        let mut with_file = delivery("{}");
        with_file.attachments.push(attachment("a.txt", b"abc", 4));
        let result = FileReader::new(1).read(&with_file, false).await;
        assert!(matches!(result, Err(SendError::Transient { .. })), "{result:?}");
    }
}
