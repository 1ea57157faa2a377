use super::super::payload::tests::{attachment, delivery};
use super::*;
use nanorelay_actors::clock::Clock;
use nanorelay_actors::model::time::Timestamp;
use serde_json::json;
use std::sync::atomic::{AtomicI64, Ordering};

struct HandClock(AtomicI64);
impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.0.load(Ordering::Relaxed))
    }
}

fn clock() -> Arc<HandClock> {
    Arc::new(HandClock(AtomicI64::new(1_776_350_220_123)))
}

fn open(dir: &Path) -> WebChats {
    WebChats::open(dir, &WebChatSettings::default(), clock()).unwrap()
}

/// The `seq`-th message of the agent, with that content.
fn message(seq: i64, content: &serde_json::Value) -> Delivery {
    let key = format!("sess-1/msg-{seq}");
    let message_id = nanorelay_actors::model::ids::MessageId::new(&format!("msg-{seq}")).unwrap();
    Delivery { seq, message_id, idempotency_key: key.into(), ..delivery(&content.to_string()) }
}

async fn say(chats: &WebChats, seq: i64, content: &serde_json::Value) -> String {
    chats.channel("slack").send(&message(seq, content)).await.unwrap().platform_message_id.unwrap()
}

/// Messages that come at the same time share transactions.
async fn say_many(chats: &WebChats, count: i64, text: &str) {
    let mut sends = tokio::task::JoinSet::new();
    for n in 0..count {
        let (chats, content) = (chats.clone(), json!({ "text": text }));
        sends.spawn(async move { say(&chats, 2 * n + 1, &content).await });
    }
    while let Some(sent) = sends.join_next().await {
        sent.unwrap();
    }
}

fn chat() -> Destination {
    delivery("{}").destination
}

async fn newest(chats: &WebChats) -> Vec<ChatEntry> {
    let range = PageRange { place: entry::PagePlace::Newest, limit: 200 };
    chats.page(&chat(), range).await.unwrap().items
}

fn person(id: &str, text: &str) -> NewEntry {
    NewEntry::of_person(chat(), "sess-1", "Ann", id, &json!({ "text": text }))
}

#[tokio::test]
async fn what_was_said_survives_a_restart_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let chats = open(dir.path());
    let (asked, is_new) = chats.add(person("a", "Is the build green?")).await.unwrap();
    assert!(is_new && asked.state == EntryState::Sending);
    chats.settle(asked.number, EntryState::Sent, Some(("in-a".to_owned(), 2))).await.unwrap();
    let id = say(&chats, 3, &json!({"text": "It is."})).await;
    drop(chats);
    let entries = newest(&open(dir.path())).await;
    let shown: Vec<_> = entries.iter().map(|entry| (entry.author, entry.content.get())).collect();
    assert_eq!(
        shown,
        [(Author::Person, r#"{"text":"Is the build green?"}"#), (Author::Agent, r#"{"text":"It is."}"#)]
    );
    assert_eq!((entries[0].state.clone(), entries[1].id.as_str()), (EntryState::Sent, id.as_str()));
}

#[tokio::test]
async fn a_repeated_send_is_shown_once_and_gets_the_first_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let chats = open(dir.path());
    let first = say(&chats, 3, &json!({"text": "once"})).await;
    assert_eq!(say(&chats, 3, &json!({"text": "once"})).await, first);
    let (mine, _) = chats.add(person("a", "hello")).await.unwrap();
    let (again, is_new) = chats.add(person("a", "hello")).await.unwrap();
    assert!(!is_new && again.number == mine.number);
    assert_eq!(newest(&chats).await.len(), 2);
}

#[tokio::test]
async fn an_edit_finds_its_message_by_id_by_row_and_by_seq() {
    let dir = tempfile::tempdir().unwrap();
    let chats = open(dir.path());
    let (mine, _) = chats.add(person("a", "hello")).await.unwrap();
    chats.settle(mine.number, EntryState::Sent, Some(("in-a".to_owned(), 2))).await.unwrap();
    let id = say(&chats, 3, &json!({"text": "helo"})).await;
    let number = newest(&chats).await[1].number;
    for (seq, message_id, target) in [
        (5, json!(id), Some(number)),
        (7, json!("msg-3"), Some(number)),
        (9, json!(3), Some(number)),
        (11, json!("in-a"), Some(mine.number)),
        (13, json!(2), Some(mine.number)),
        (15, json!("web-999"), None),
    ] {
        let content = json!({"operation": "edit", "messageId": message_id, "text": "hello"});
        say(&chats, seq, &content).await;
        assert_eq!(newest(&chats).await.last().unwrap().target, target, "{message_id}");
    }
}

#[tokio::test]
async fn files_are_kept_and_too_large_ones_are_refused_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let settings = WebChatSettings { attachment_bytes: 3, ..WebChatSettings::default() };
    let chats = WebChats::open(dir.path(), &settings, clock()).unwrap();
    let mut with_file = message(3, &json!({"text": "", "files": ["a.txt"]}));
    with_file.attachments.push(attachment("a.txt", b"abc", 3));
    chats.channel("slack").send(&with_file).await.unwrap();
    let entry = newest(&chats).await.remove(0);
    assert_eq!((entry.files[0].name.as_str(), entry.files[0].size), ("a.txt", 3));
    let file = chats.file(&chat(), entry.number, 0).await.unwrap();
    assert_eq!(file, Some(("a.txt".to_owned(), b"abc".to_vec())));
    let mut other = chat();
    other.thread_id = Some(nanorelay_actors::model::ids::ThreadId::new("t").unwrap());
    assert_eq!(chats.file(&other, entry.number, 0).await.unwrap(), None, "a file of another chat");
    let mut too_large = message(5, &json!({"text": "", "files": ["b.txt"]}));
    too_large.attachments.push(attachment("b.txt", b"abcd", 4));
    let refused = chats.channel("slack").send(&too_large).await;
    assert!(matches!(refused, Err(SendError::Permanent { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_transcript_is_read_in_pages_in_both_directions() {
    let dir = tempfile::tempdir().unwrap();
    let chats = open(dir.path());
    for n in 0..5 {
        say(&chats, 2 * n + 1, &json!({ "text": n.to_string() })).await;
    }
    let page = async |place| {
        let page = chats.page(&chat(), PageRange { place, limit: 2 }).await.unwrap();
        (page.items.iter().map(|entry| entry.number).collect::<Vec<_>>(), page.has_more)
    };
    assert_eq!(page(entry::PagePlace::Newest).await, (vec![4, 5], true));
    assert_eq!(page(entry::PagePlace::Before(4)).await, (vec![2, 3], true));
    assert_eq!(page(entry::PagePlace::Before(2)).await, (vec![1], false));
    assert_eq!(page(entry::PagePlace::After(3)).await, (vec![4, 5], false));
}

#[tokio::test]
async fn the_oldest_entries_go_when_there_are_too_many_or_they_are_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let settings = WebChatSettings { entries_per_chat: 100, ..WebChatSettings::default() };
    let hands = clock();
    let chats = WebChats::open(dir.path(), &settings, hands.clone()).unwrap();
    say_many(&chats, 600, "x").await;
    let page = chats.page(&chat(), PageRange { place: entry::PagePlace::After(0), limit: 1 }).await.unwrap();
    let oldest = page.items[0].number;
    assert!((101..=501).contains(&oldest), "the oldest one is {oldest}");
    drop(chats);
    hands.0.fetch_add(i64::try_from(settings.keep.as_millis()).unwrap() + 1, Ordering::Relaxed);
    let chats = WebChats::open(dir.path(), &settings, hands).unwrap();
    say(&chats, 1301, &json!({"text": "later"})).await;
    assert_eq!(newest(&chats).await.len(), 1);
}

#[tokio::test]
async fn a_file_that_grows_too_large_loses_the_oldest_entries_only() {
    let dir = tempfile::tempdir().unwrap();
    let settings = WebChatSettings { size_bytes: 4 << 20, ..WebChatSettings::default() };
    let chats = WebChats::open(dir.path(), &settings, clock()).unwrap();
    say_many(&chats, 300, &"x".repeat(64 << 10)).await;
    let entries = newest(&chats).await;
    assert!(entries.len() >= 32 && entries.last().unwrap().number == 300, "{}", entries.len());
    let bytes: u64 = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
    assert!(bytes < 64 << 20, "{bytes} bytes");
}

#[tokio::test]
async fn listeners_hear_of_the_chat_that_has_changed_after_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let chats = open(dir.path());
    let mut changes = chats.changes();
    say(&chats, 3, &json!({"text": "news"})).await;
    assert_eq!(changes.try_recv().unwrap(), chat());
    say(&chats, 3, &json!({"text": "news"})).await;
    assert!(changes.try_recv().is_err(), "a repeated send is no news");
}

#[test]
fn only_the_host_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let _chats = open(dir.path());
    let mode = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_is_no_database_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE_NAME), "what is this".repeat(200)).unwrap();
    let error = WebChats::open(dir.path(), &WebChatSettings::default(), clock()).err().unwrap();
    assert!(error.to_string().contains("not a database"), "{error}");
}
