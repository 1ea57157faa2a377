//! The messages that a check sends.

use crate::channel::adapter::{Attachment, Delivery};
use crate::channel::parts::PartLog;
use crate::model::ids::{AgentGroupId, MessageId, PathComponent, PlatformId, SessionId};
use crate::model::message::Destination;
use serde_json::{Value, json};
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Makes messages, each with a text that no other has.
pub(super) struct Samples {
    destination: Destination,
    /// Tells the messages of this check from those of an earlier one on the same platform.
    run: String,
    number: AtomicI64,
}

/// A message and the text by which it is found.
pub(super) struct Sample {
    pub text: String,
    pub delivery: Delivery,
}

impl Samples {
    pub(super) fn new(destination: Destination) -> Self {
        Self { destination, run: format!("{:08x}", fastrand::u32(..)), number: AtomicI64::new(1) }
    }

    /// A text.
    pub(super) fn text(&self, words: &str) -> Sample {
        let number = self.number.load(Ordering::Relaxed);
        let text = format!("{words} [{} {number}]", self.run);
        Sample { delivery: self.content("chat", &json!({ "text": text })), text }
    }

    /// Any content.
    pub(super) fn content(&self, kind: &str, content: &Value) -> Delivery {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let id = format!("contract-{}-{number}", self.run);
        Delivery {
            session_id: SessionId::new("sess-contract").expect("an id"),
            agent_group_id: AgentGroupId::new("ag-contract").expect("an id"),
            message_id: MessageId::new(&id).expect("an id"),
            seq: 2 * number - 1,
            destination: self.destination.clone(),
            kind: Arc::from(kind),
            content: Arc::from(content.to_string()),
            attachments: Vec::new(),
            attempt: 1,
            idempotency_key: Arc::from(format!("msg_{id}")),
            part_log: PartLog::default(),
        }
    }

    /// A text for a chat of its own.
    pub(super) fn text_elsewhere(&self, words: &str, chat: usize) -> Sample {
        let mut sample = self.text(words);
        let platform_id = format!("{}-{chat}", self.destination.platform_id);
        sample.delivery.destination.platform_id = PlatformId::new(&platform_id).expect("an id");
        sample
    }

    /// A text with files, whose content names them as agents do.
    pub(super) fn with_files(&self, words: &str, files: &[(&str, &[u8])]) -> Sample {
        let mut sample = self.text(words);
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        sample.delivery.content = Arc::from(json!({ "text": sample.text, "files": names }).to_string());
        sample.delivery.attachments =
            files.iter().map(|(name, bytes)| attachment(name, bytes, bytes.len())).collect();
        sample
    }

    /// A text with a file that has lost its end since it was checked.
    pub(super) fn with_shortened_file(&self) -> Sample {
        let mut sample = self.text("a file that became shorter");
        let content = json!({ "text": sample.text, "files": ["short.txt"] });
        sample.delivery.content = Arc::from(content.to_string());
        sample.delivery.attachments = vec![attachment("short.txt", b"half", 8)];
        sample
    }
}

fn attachment(name: &str, bytes: &[u8], declared: usize) -> Attachment {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).and_then(|()| file.seek(SeekFrom::Start(0)).map(drop)).expect("a written file");
    Attachment::new(PathComponent::new(name).expect("a file name"), declared as u64, file)
}
