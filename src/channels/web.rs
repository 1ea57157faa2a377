//! The `web` channel: a person talks to an agent in the browser.
//!
//! What was said is kept in a file of the host, `DATA/nanorelay-web.db`: a send is accepted when its entry is on the
//! disk, and the chat page reads nothing else. One thread does all work on the file, a batch of jobs in a
//! transaction.

mod entry;
mod transcripts;

#[cfg(test)]
mod tests;

pub use entry::{Author, ChatEntry, EntryFile, EntryState, NewEntry, PagePlace, PageRange, TranscriptPage};

use super::appender::Appender;
use super::payload::FileReader;
use async_trait::async_trait;
use nanorelay_actors::channel::adapter::{Channel, Delivery, Idempotency};
use nanorelay_actors::clock::SharedClock;
use nanorelay_actors::model::error::{Receipt, SendError};
use nanorelay_actors::model::ids::ChannelType;
use nanorelay_actors::model::message::Destination;
use nanorelay_actors::relay::Relay;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use transcripts::{Done, Job, Transcripts};

/// The file with the transcripts, in the data directory.
pub const FILE_NAME: &str = "nanorelay-web.db";
/// Deliveries whose attachments are read at the same time.
const PARALLEL_READS: usize = 4;
/// Changes that a listener may be behind before it is told to read anew.
const CHANGES_CAPACITY: usize = 1024;

/// How much of the transcripts is kept. Every bound of the channel but those of `entry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebChatSettings {
    /// How long an entry is kept.
    pub keep: Duration,
    /// Most entries of one chat; the oldest go first.
    pub entries_per_chat: u64,
    /// Largest sum of the attachments of one message, in bytes. A message above it is dead.
    pub attachment_bytes: u64,
    /// Size of the file above which the oldest entries of all chats go, in bytes.
    pub size_bytes: u64,
}

impl Default for WebChatSettings {
    /// What `[web_chat]` says without a configuration.
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(90 * 24 * 3600),
            entries_per_chat: 10_000,
            attachment_bytes: 16 << 20,
            size_bytes: 1 << 30,
        }
    }
}

/// Why the transcripts could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the chat transcripts cannot be used now: {0}")]
pub struct ChatsError(String);

/// The chats of one host. All `web` channels of a host share it. Cheap to clone.
#[derive(Clone)]
pub struct WebChats {
    shared: Arc<Shared>,
}

/// What a relay keeps.
#[derive(Default)]
struct Attached(OnceLock<WebChats>);

struct Shared {
    /// The channel types that these chats are of.
    types: Mutex<BTreeSet<String>>,
    jobs: Appender<Job, Result<Done, ChatsError>>,
    /// Says which chat has something new.
    changes: broadcast::Sender<Destination>,
    files: FileReader,
    attachment_bytes_max: u64,
}

impl WebChats {
    /// Opens the file in `data_dir`, which is made when it is missing.
    pub fn open(data_dir: &Path, settings: &WebChatSettings, clock: SharedClock) -> Result<Self, ChatsError> {
        let (changes, _) = broadcast::channel(CHANGES_CAPACITY);
        let mut transcripts = Transcripts::open(&data_dir.join(FILE_NAME), settings, clock, changes.clone())?;
        let jobs = Appender::start("nanorelay-web", move |jobs| transcripts.run(jobs))
            .map_err(|error| ChatsError(format!("cannot start a thread: {error}")))?;
        let files = FileReader::new(PARALLEL_READS);
        let attachment_bytes_max = settings.attachment_bytes;
        Ok(Self {
            shared: Arc::new(Shared { types: Mutex::default(), jobs, changes, files, attachment_bytes_max }),
        })
    }

    /// The channel of that type, which writes into these chats.
    pub fn channel(&self, channel_type: &str) -> Arc<dyn Channel> {
        let types = &self.shared.types;
        types.lock().unwrap_or_else(PoisonError::into_inner).insert(channel_type.to_owned());
        Arc::new(WebChannel { chats: self.clone() })
    }

    /// Whether chats of that type are here.
    pub fn serves(&self, channel_type: &ChannelType) -> bool {
        let types = &self.shared.types;
        types.lock().unwrap_or_else(PoisonError::into_inner).contains(channel_type.as_str())
    }

    /// The channel types of these chats, by name.
    pub(crate) fn types(&self) -> Vec<String> {
        let types = &self.shared.types;
        types.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Lets the control plane of a relay show these chats.
    pub fn attach(&self, relay: &Relay) {
        // Those that are attached already stay: a relay writes into one file.
        let _ = relay.extension(Attached::default).0.set(self.clone());
    }

    /// The chats that are attached to a relay.
    pub(crate) fn of(relay: &Relay) -> Option<Self> {
        relay.extension(Attached::default).0.get().cloned()
    }

    /// Adds an entry unless its key is known; answers with the one that is there then, and whether it is new.
    pub async fn add(&self, entry: NewEntry) -> Result<(ChatEntry, bool), ChatsError> {
        match self.run(Job::Add(Box::new(entry))).await? {
            Done::Added { entry, is_new } => Ok((*entry, is_new)),
            _ => Err(wrong_answer()),
        }
    }

    /// Records what became of an entry that a person wrote, with the row that its agent knows it by.
    pub async fn settle(
        &self,
        number: i64,
        state: EntryState,
        row: Option<(String, i64)>,
    ) -> Result<(), ChatsError> {
        self.run(Job::Settle { number, state, row }).await.map(drop)
    }

    /// A part of a chat's transcript, the oldest entry first.
    pub async fn page(&self, chat: &Destination, range: PageRange) -> Result<TranscriptPage, ChatsError> {
        match self.run(Job::Page { chat: chat.clone(), range }).await? {
            Done::Page(page) => Ok(page),
            _ => Err(wrong_answer()),
        }
    }

    /// The name and bytes of a file of an entry of that chat.
    pub async fn file(
        &self,
        chat: &Destination,
        number: i64,
        position: u32,
    ) -> Result<Option<(String, Vec<u8>)>, ChatsError> {
        match self.run(Job::File { chat: chat.clone(), number, position }).await? {
            Done::File(file) => Ok(file),
            _ => Err(wrong_answer()),
        }
    }

    /// Hears of every chat that has something new, from now on.
    pub fn changes(&self) -> broadcast::Receiver<Destination> {
        self.shared.changes.subscribe()
    }

    async fn run(&self, job: Job) -> Result<Done, ChatsError> {
        let answer = self.shared.jobs.submit(job).await;
        answer.unwrap_or_else(|| Err(ChatsError("their thread has died".to_owned())))
    }
}

fn wrong_answer() -> ChatsError {
    ChatsError("an answer of another kind".to_owned())
}

/// Writes deliveries into the chats.
struct WebChannel {
    chats: WebChats,
}

#[async_trait]
impl Channel for WebChannel {
    fn idempotency(&self) -> Idempotency {
        // A key is unique in the file: a repeated send finds the entry of the first one.
        Idempotency::NativeKey
    }

    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let shared = &self.chats.shared;
        let total: u64 = delivery.attachments.iter().map(|file| file.size()).sum();
        if total > shared.attachment_bytes_max {
            let limit = shared.attachment_bytes_max;
            let reason = format!("the attachments have {total} bytes, a web chat takes {limit}");
            return Err(SendError::Permanent { reason });
        }
        let files = shared.files.read_bytes(delivery).await?;
        let entry = NewEntry::of_delivery(delivery, files)?;
        let (entry, _) = self
            .chats
            .add(entry)
            .await
            .map_err(|error| SendError::Transient { retry_after: None, reason: error.to_string() })?;
        Ok(Receipt { platform_message_id: Some(entry.id), limit: None })
    }
}
