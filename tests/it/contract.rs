//! The channels of the program keep what the contract suite asks of every adapter.

use crate::support::receiver::{Receiver, Reply, Request, SECRET};
use async_trait::async_trait;
use nanorelay::channels::console::ConsoleChannel;
use nanorelay::channels::jsonl::JsonlChannel;
use nanorelay::channels::webhook::{SigningKeys, WebhookChannel};
use nanorelay::config::WebhookConfig;
use nanorelay_actors::clock::SystemClock;
use nanorelay_actors::testing::ReceivedFile;
use nanorelay_actors::testing::contract::{Contract, Platform, Report, Trouble, Verdict};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The claims that were kept, not merely skipped.
#[track_caller]
fn assert_checked(report: &Report, claims: &[&str]) {
    report.assert_kept();
    for claim in claims {
        assert_eq!(report.verdict(claim), &Verdict::Kept, "{claim}\n{report}");
    }
}

/// What a console channel has printed.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Platform for Screen {
    async fn times_shown(&self, text: &str) -> Option<usize> {
        // Such text is shown escaped.
        if text.chars().any(char::is_control) {
            return None;
        }
        Some(String::from_utf8_lossy(&lock(&self.0)).matches(text).count())
    }
}

#[tokio::test]
async fn the_console_channel_keeps_the_contract() {
    let screen = Screen::default();
    let channel = ConsoleChannel::new(screen.clone()).unwrap();
    let report = Contract::of(Arc::new(channel)).platform(Arc::new(screen)).check().await;
    assert_checked(&report, &["a plain message is accepted and shown once"]);
}

/// An object as jsonl and webhook write it, with this text.
fn has_text(object: &Value, text: &str) -> bool {
    object["content"]["text"] == text
}

fn files_of(object: &Value) -> Vec<ReceivedFile> {
    let files = object["files"].as_array().cloned().unwrap_or_default();
    let file = |file: &Value| ReceivedFile {
        name: file["name"].as_str().unwrap_or_default().to_owned(),
        size: file["size"].as_u64().unwrap_or_default(),
        sha256: file["sha256"].as_str().unwrap_or_default().to_owned(),
    };
    files.iter().map(file).collect()
}

/// The file that a jsonl channel writes.
struct Lines(PathBuf);

impl Lines {
    fn all(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.0).expect("the file can be read");
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }
}

#[async_trait]
impl Platform for Lines {
    async fn times_shown(&self, text: &str) -> Option<usize> {
        Some(self.all().iter().filter(|line| has_text(line, text)).count())
    }

    async fn files_shown(&self, text: &str) -> Option<Vec<ReceivedFile>> {
        self.all().iter().find(|line| has_text(line, text)).map(files_of)
    }
}

#[tokio::test]
async fn the_jsonl_channel_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deliveries.jsonl");
    let channel = JsonlChannel::open(&path, true, Arc::new(SystemClock)).unwrap();
    let report = Contract::of(Arc::new(channel)).platform(Arc::new(Lines(path))).check().await;
    let seen = ["unicode arrives as it was written", "attachments arrive whole"];
    assert_checked(&report, &seen);
}

/// A receiver of webhooks that ignores ids that it has seen, as receivers should.
#[derive(Clone, Default)]
struct Inbox {
    /// By webhook id.
    taken: Arc<Mutex<BTreeMap<String, Value>>>,
    next: Arc<Mutex<Option<Trouble>>>,
}

impl Inbox {
    fn answer(&self, request: &Request) -> Reply {
        let take = || {
            lock(&self.taken).entry(request.webhook_id().to_owned()).or_insert_with(|| request.json());
        };
        match lock(&self.next).take() {
            None => {
                take();
                Reply::status(200).body(&format!("{{\"id\":\"{}\"}}", request.webhook_id()))
            }
            Some(Trouble::RateLimited(wait)) => {
                Reply::status(429).header("retry-after", &wait.as_secs().to_string())
            }
            Some(Trouble::ServerFault) => Reply::status(500),
            Some(Trouble::Refused) => Reply::status(400),
            Some(Trouble::DestinationGone) => Reply::status(410),
            Some(Trouble::Unauthorized) => Reply::status(401),
            Some(Trouble::LostAnswer) => {
                take();
                Reply::hang_up()
            }
        }
    }
}

#[async_trait]
impl Platform for Inbox {
    async fn times_shown(&self, text: &str) -> Option<usize> {
        Some(lock(&self.taken).values().filter(|object| has_text(object, text)).count())
    }

    async fn files_shown(&self, text: &str) -> Option<Vec<ReceivedFile>> {
        lock(&self.taken).values().find(|object| has_text(object, text)).map(files_of)
    }

    async fn provoke(&self, trouble: Trouble) -> bool {
        *lock(&self.next) = Some(trouble);
        true
    }
}

#[tokio::test]
async fn the_webhook_channel_keeps_the_contract() {
    let inbox = Inbox::default();
    let answering = inbox.clone();
    let receiver = Receiver::start(move |_, request| answering.answer(request));
    let config = WebhookConfig {
        url: receiver.url(),
        keys: SigningKeys::parse(SECRET).unwrap(),
        allow_private: true,
        timeout: Duration::from_secs(10),
    };
    let channel = WebhookChannel::new(&config, Arc::new(SystemClock)).unwrap();
    let report = Contract::of(Arc::new(channel)).platform(Arc::new(inbox)).check().await;
    let not_asked = "a message can be asked for before and after it was sent";
    let checked: Vec<&str> =
        report.cases.iter().map(|case| case.claim).filter(|claim| *claim != not_asked).collect();
    assert_checked(&report, &checked);
}
