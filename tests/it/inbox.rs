//! Messages that an application or an operator puts into an agent's inbox.

use crate::support::host::TestHost;
use crate::support::process::Other;
use crate::support::takeover::{assert_can_be_taken_over, assert_compact_json, assert_seqs_unique};
use crate::support::wait::{quarantined, settled, shown, until, within};
use crate::support::waker::Waker;
use nanorelay_actors::inbox::{
    AttachmentContent, EnqueueError, Enqueued, InboxAttachment, InboxMessage, MessageOrigin,
};
use nanorelay_actors::limits::Limits;
use nanorelay_actors::model::ids::{AgentGroupId, ChannelType, PlatformId, SessionId};
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::{ReadySession, Relay, SessionRequest, StoppedHost};
use nanorelay_actors::testing::{DataDir, InboundRow, SessionSpec, TestAgent};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

fn session(data: &DataDir) -> TestAgent {
    data.session(SessionSpec::new("ag-main").id("sess-a").chat("slack", "slack:C1").thread("t-1").stopped())
}

fn id(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

async fn send(relay: &Relay, message: InboxMessage) -> Result<Enqueued, EnqueueError> {
    relay.enqueue(id("sess-a"), message).await
}

fn content(row: &InboundRow) -> Value {
    serde_json::from_str(&row.content).unwrap()
}

/// The names in a folder of the session; none when it is not there.
fn names(agent: &TestAgent, folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(agent.folder().join(folder)) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[actix_rt::test]
async fn a_message_is_in_the_inbox_and_its_agent_is_woken() {
    let data = DataDir::new();
    let agent = session(&data);
    let waker = Arc::new(Waker::default());
    let relay = TestHost::new(data.path()).start_with(|builder| builder.runtime(waker.clone())).await;
    settled(&relay).await;
    assert_eq!(waker.wakes(), 0);
    let context = send(&relay, InboxMessage::text("by the way").id("m-1").context_only()).await.unwrap();
    settled(&relay).await;
    assert_eq!((context.seq, context.is_new, waker.wakes()), (2, true, 0), "context wakes nobody");
    let enqueued =
        send(&relay, InboxMessage::new(r#"{ "text": "hello", "sender": "Alice" }"#)).await.unwrap();
    settled(&relay).await;
    assert_eq!((enqueued.seq, waker.wakes()), (4, 1));
    let rows = agent.messages_in();
    let row = &rows[1];
    assert_eq!((row.id.as_str(), row.kind.as_str()), (enqueued.message_id.as_str(), "chat"));
    assert_eq!(row.content, r#"{"text":"hello","sender":"Alice"}"#, "compact");
    assert_eq!((rows[0].trigger, row.trigger, row.on_wake, row.tries), (Some(0), Some(1), Some(0), Some(0)));
    assert_eq!(row.status.as_deref(), Some("pending"));
    assert_eq!(row.series_id.as_deref(), Some(row.id.as_str()));
    let chat = [&row.channel_type, &row.platform_id, &row.thread_id].map(|part| part.as_deref());
    assert_eq!(chat, [Some("slack"), Some("slack:C1"), Some("t-1")], "the session's own chat");
    let active: Option<String> =
        data.central().query_row("SELECT last_active FROM sessions", [], |row| row.get(0)).unwrap();
    assert!(Timestamp::parse(&active.expect("a time")).is_ok());
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_can_be_taken_over(&agent);
    assert_seqs_unique(&agent);
}

#[actix_rt::test]
async fn a_message_that_is_enqueued_again_is_there_once() {
    let data = DataDir::new();
    let agent = session(&data);
    let host = TestHost::new(data.path());
    let relay = host.start().await;
    let first = send(&relay, InboxMessage::text("one").id("m-1")).await.unwrap();
    let again = send(&relay, InboxMessage::text("another text").id("m-1")).await.unwrap();
    assert_eq!(again, Enqueued { is_new: false, ..first.clone() });
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    let stopped = StoppedHost::open(data.path()).unwrap();
    let limits = Limits::default();
    let later = stopped.enqueue(&id("sess-a"), InboxMessage::text("one").id("m-1"), &limits).unwrap();
    assert_eq!(later, again, "and after a restart");
    assert_eq!(agent.messages_in().len(), 1);
    assert_eq!(content(&agent.messages_in()[0])["text"], "one", "the first one counts");
}

#[actix_rt::test]
async fn messages_of_two_chats_with_the_same_id_are_both_there() {
    let data = DataDir::new();
    let agent = session(&data);
    let relay = TestHost::new(data.path()).start().await;
    let of = |platform_id: &str| {
        InboxMessage::text(platform_id).id("42").from(MessageOrigin::chat("telegram", platform_id))
    };
    let first = send(&relay, of("telegram:1")).await.unwrap();
    assert_eq!(first.message_id, "42", "agents react to a message by its platform's id");
    let second = send(&relay, of("telegram:2")).await.unwrap();
    assert!(second.is_new && second.message_id != "42", "{second:?}");
    assert_eq!(send(&relay, of("telegram:2")).await.unwrap(), Enqueued { is_new: false, ..second });
    let rows = agent.messages_in();
    assert_eq!(rows.len(), 2);
    assert_eq!(content(&rows[0]), json!({ "text": "telegram:1" }));
    assert_eq!(content(&rows[1]), json!({ "text": "telegram:2", "originalId": "42" }));
    assert_eq!(rows[1].platform_id.as_deref(), Some("telegram:2"));
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn attachments_are_in_the_inbox_before_their_row() {
    let data = DataDir::new();
    let agent = session(&data);
    let relay = TestHost::new(data.path()).start().await;
    let message =
        InboxMessage::text("see").id("m-1").attach("photo.png", vec![1, 2, 3]).attach("b.txt", *b"bee");
    assert!(send(&relay, message.clone()).await.unwrap().is_new);
    assert!(!send(&relay, message).await.unwrap().is_new);
    // Google Chat has such ids.
    let odd = send(&relay, InboxMessage::text("x").id("spaces/A/messages/B").attach("c.txt", *b"sea"))
        .await
        .unwrap();
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(odd.message_id, "spaces/A/messages/B");
    for row in agent.messages_in() {
        assert_compact_json(&row.content);
        for attachment in content(&row)["attachments"].as_array().expect("attachments") {
            let path = agent.folder().join(attachment["localPath"].as_str().expect("a path"));
            assert_eq!(attachment["type"], "file");
            assert_eq!(attachment["name"], attachment["filename"]);
            let expected: &[u8] = match attachment["name"].as_str().unwrap() {
                "photo.png" => &[1, 2, 3],
                "b.txt" => b"bee",
                _ => b"sea",
            };
            assert_eq!(fs::read(path).unwrap(), expected);
        }
    }
    assert_eq!(names(&agent, "inbox/m-1"), ["b.txt", "photo.png"]);
    assert_eq!(names(&agent, "inbox").len(), 2, "each has its folder, and nothing is elsewhere");
}

#[actix_rt::test]
async fn what_cannot_be_sent_is_refused_and_leaves_nothing() {
    let data = DataDir::new();
    let agent = session(&data);
    data.session(SessionSpec::new("ag-main").id("sess-closed").closed());
    let mut host = TestHost::new(data.path());
    host.settings.limits = Limits {
        content_bytes_max: 1000,
        attachments_max: 2,
        attachment_bytes_max: 100,
        attachments_total_bytes_max: 150,
        ..host.settings.limits
    };
    let relay = host.start().await;
    let hello = || InboxMessage::text("hello").id("m-1");
    let expect = |result: Result<Enqueued, EnqueueError>, words: &str| {
        let error = result.unwrap_err();
        assert!(error.to_string().contains(words) && !error.is_temporary(), "{error}: {words}");
    };
    expect(relay.enqueue(id("nobody"), hello()).await, "there is no session \"nobody\"");
    expect(relay.enqueue(id("sess-closed"), hello()).await, "is closed");
    expect(send(&relay, InboxMessage::new("[1]")).await, "must be a JSON object");
    expect(send(&relay, InboxMessage::new("{")).await, "not JSON");
    expect(send(&relay, InboxMessage::text(&"x".repeat(1000))).await, "the limit is 1000");
    expect(send(&relay, hello().id("")).await, "the message's id: id is empty");
    expect(send(&relay, hello().kind(&"k".repeat(2000))).await, "the kind: id has 2000 bytes");
    expect(send(&relay, hello().from(MessageOrigin::chat("slack", ""))).await, "the chat's id");
    for name in ["../x", "/etc/passwd", "..", "a\\b", "a\nb", ""] {
        expect(send(&relay, hello().attach(name, *b"x")).await, "attachment");
    }
    expect(
        send(&relay, hello().attach("a", *b"x").attach("a", *b"y")).await,
        "another attachment has this name",
    );
    expect(send(&relay, hello().attach("a", vec![0; 101])).await, "has 101 bytes");
    expect(send(&relay, hello().attach("a", vec![0; 80]).attach("b", vec![0; 80])).await, "have 160 bytes");
    expect(
        send(&relay, hello().attach("a", *b"").attach("b", *b"").attach("c", *b"")).await,
        "3 attachments",
    );
    expect(send(&relay, InboxMessage::new(r#"{"attachments":[]}"#).attach("a", *b"x")).await, "must not be");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(send(&relay, hello()).await, Err(EnqueueError::Stopping));
    assert!(agent.messages_in().is_empty());
    assert!(names(&agent, "inbox").is_empty());
}

#[actix_rt::test]
async fn a_hostile_inbox_folder_is_refused_until_it_is_put_right() {
    let data = DataDir::new();
    let agent = session(&data);
    let outside = data.path().parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, agent.folder().join("inbox")).unwrap();
    let relay = TestHost::new(data.path()).start().await;
    let message = || InboxMessage::text("see").id("m-1").attach("photo.png", *b"picture");
    let refused = send(&relay, message()).await.unwrap_err();
    assert!(refused.is_temporary() && refused.to_string().contains("symbolic link"), "{refused}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing is written outside");
    assert!(agent.messages_in().is_empty(), "a row never comes without its files");
    assert!(send(&relay, InboxMessage::text("no files")).await.unwrap().is_new, "others go on");

    fs::remove_file(agent.folder().join("inbox")).unwrap();
    fs::create_dir_all(agent.folder().join("inbox/m-1")).unwrap();
    fs::write(outside.join("victim"), "precious").unwrap();
    symlink(outside.join("victim"), agent.folder().join("inbox/m-1/photo.png")).unwrap();
    assert!(send(&relay, message()).await.unwrap().is_new);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "precious");
    let photo = agent.folder().join("inbox/m-1/photo.png");
    assert!(photo.symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_to_string(photo).unwrap(), "picture");
}

#[actix_rt::test]
async fn a_file_that_has_become_shorter_leaves_nothing_and_the_others_go_on() {
    let data = DataDir::new();
    let agent = session(&data);
    let relay = TestHost::new(data.path()).start().await;
    settled(&relay).await;
    let file = tempfile::tempfile().unwrap();
    file.set_len(1000).unwrap();
    let shorter = file.try_clone().unwrap();
    let mut message = InboxMessage::text("see").id("m-1").attach("a.txt", *b"whole");
    let content = AttachmentContent::File(Arc::new(file));
    message.attachments.push(InboxAttachment { name: "b.bin".to_owned(), content });
    // Its size is taken when it is enqueued; it is read when it is written.
    let first = send(&relay, message);
    let second = send(&relay, InboxMessage::text("whole").id("m-2").attach("c.txt", *b"whole"));
    let shorten = async { shorter.set_len(10).unwrap() };
    let (first, second, ()) = tokio::join!(first, second, shorten);
    assert!(first.unwrap_err().to_string().contains("cannot copy to inbox/m-1/b.bin"));
    assert!(second.unwrap().is_new);
    settled(&relay).await;
    assert_eq!(names(&agent, "inbox"), ["m-2"]);
    assert_eq!(agent.messages_in().len(), 1);
    assert!(relay.quarantined().await.unwrap().is_empty());
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_session_in_trouble_says_so_and_takes_the_message_later() {
    let data = DataDir::new();
    let agent = session(&data);
    let (inbox, aside) = (agent.folder().join("inbound.db"), agent.folder().join("aside.db"));
    fs::rename(&inbox, &aside).unwrap();
    fs::write(&inbox, "this is no database, and it is long enough to be judged as one".repeat(100)).unwrap();
    let relay = TestHost::new(data.path()).start().await;
    let refused = send(&relay, InboxMessage::text("hello").id("m-1")).await.unwrap_err();
    assert!(refused.is_temporary() && refused.to_string().contains("damaged"), "{refused}");
    fs::rename(&aside, &inbox).unwrap();
    relay.release(id("sess-a")).await.unwrap();
    settled(&relay).await;
    assert!(send(&relay, InboxMessage::text("hello").id("m-1")).await.unwrap().is_new);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(agent.messages_in().len(), 1);
}

/// Lets every such statement fail, as a full disk would.
fn refuse(database: &Path, statement: &str) -> Connection {
    let connection = nanorelay_actors::testing::database::open(database);
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    let sql =
        format!("CREATE TRIGGER refused {statement} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END");
    connection.execute_batch(&sql).unwrap();
    connection
}

#[actix_rt::test]
async fn a_message_that_is_written_is_answered_and_wakes_although_the_ledger_fails() {
    let data = DataDir::new();
    let agent = session(&data);
    let waker = Arc::new(Waker::default());
    let relay = TestHost::new(data.path()).start_with(|builder| builder.runtime(waker.clone())).await;
    settled(&relay).await;
    let ledger = refuse(&data.path().join("nanorelay.db"), "BEFORE DELETE ON inbox_files");
    let message = InboxMessage::text("see").attach("a.txt", *b"whole");
    assert!(send(&relay, message).await.unwrap().is_new, "it is on the disk");
    until("its agent is woken", || waker.wakes() > 0).await;
    quarantined(&relay, true).await;
    let reason = relay.quarantined().await.unwrap().remove("sess-a").expect("a reason");
    assert!(reason.contains("the disk is full"), "{reason}");
    ledger.execute_batch("DROP TRIGGER refused").unwrap();
    quarantined(&relay, false).await;
    settled(&relay).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    let noted: i64 = ledger.query_row("SELECT count(*) FROM inbox_files", [], |row| row.get(0)).unwrap();
    assert_eq!(noted, 0);
    let row = agent.messages_in().remove(0);
    let path = content(&row)["attachments"][0]["localPath"].as_str().expect("a path").to_owned();
    assert_eq!(fs::read_to_string(agent.folder().join(path)).unwrap(), "whole", "its files stay");
}

#[actix_rt::test]
async fn a_stopped_host_has_sent_what_is_written_whatever_else_fails() {
    let data = DataDir::new();
    let agent = session(&data);
    TestHost::new(data.path()).drain().await;
    let central = refuse(&data.path().join("v2.db"), "BEFORE UPDATE ON sessions");
    let ledger = refuse(&data.path().join("nanorelay.db"), "BEFORE DELETE ON inbox_files");
    let stopped = StoppedHost::open(data.path()).unwrap();
    let message = InboxMessage::text("see").attach("a.txt", *b"whole");
    let sent = stopped.enqueue(&id("sess-a"), message, &Limits::default()).unwrap();
    assert!(sent.is_new);
    drop(stopped);
    for database in [central, ledger] {
        database.execute_batch("DROP TRIGGER refused").unwrap();
    }
    TestHost::new(data.path()).drain().await;
    assert_eq!(agent.messages_in().len(), 1);
    assert_eq!(names(&agent, &format!("inbox/{}", sent.message_id)), ["a.txt"]);
}

#[actix_rt::test]
async fn many_calls_that_make_one_session_find_the_same_one() {
    const CALLS: usize = 16;
    let data = DataDir::new();
    data.agent_group("ag-main");
    let request = |chat: &str| {
        let chat = PlatformId::new(chat).unwrap();
        let group = AgentGroupId::new("ag-main").unwrap();
        SessionRequest::new(group).chat(ChannelType::new("slack").unwrap(), chat).add_chat()
    };
    let assert_one = |made: Vec<ReadySession>| {
        assert_eq!(made.iter().filter(|session| session.is_new).count(), 1, "{made:?}");
        assert!(made.iter().all(|session| session.session_id == made[0].session_id), "{made:?}");
        data.agent(&made[0].session_id)
    };
    let relay = TestHost::new(data.path()).start().await;
    for chat in ["slack:C1", "slack:C2", "slack:C3"] {
        let calls = (0..CALLS).map(|_| {
            let (relay, request) = (relay.clone(), request(chat));
            actix_rt::spawn(async move { relay.create_session(request).await.unwrap() })
        });
        let mut made = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            made.push(call.await.unwrap());
        }
        let agent = assert_one(made);
        let message = InboxMessage::text("hello");
        assert!(relay.enqueue(id(agent.session_id()), message).await.unwrap().is_new);
        assert_can_be_taken_over(&agent);
    }
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    let stopped = StoppedHost::open(data.path()).unwrap();
    let made = std::thread::scope(|scope| {
        let call = || stopped.create_session(&request("slack:C4")).unwrap();
        let calls: Vec<_> = (0..CALLS).map(|_| scope.spawn(call)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_can_be_taken_over(&assert_one(made));
}

#[actix_rt::test]
async fn a_burst_is_written_together_and_in_order() {
    const COUNT: usize = 600;
    let data = DataDir::new();
    let agent = session(&data);
    let relay = TestHost::new(data.path()).start().await;
    settled(&relay).await;
    let change_counter = || {
        let bytes = fs::read(agent.folder().join("inbound.db")).unwrap();
        u32::from_be_bytes(bytes[24..28].try_into().unwrap())
    };
    let before = change_counter();
    let sends: Vec<_> = (0..COUNT)
        .map(|number| {
            let relay = relay.clone();
            actix_rt::spawn(async move {
                send(&relay, InboxMessage::text(&number.to_string()).id(&format!("m-{number}"))).await
            })
        })
        .collect();
    for (number, sent) in sends.into_iter().enumerate() {
        let enqueued = sent.await.unwrap().unwrap();
        assert_eq!(enqueued.seq, 2 * (number as i64 + 1), "in the order of the calls");
    }
    let transactions = change_counter() - before;
    assert!(transactions < COUNT as u32 / 10, "{transactions} transactions");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(agent.messages_in().len(), COUNT);
    assert_can_be_taken_over(&agent);
}

#[actix_rt::test]
async fn a_file_of_the_seed_takes_messages_too() {
    let data = DataDir::seed_era();
    let agent = session(&data);
    agent.receive("in-1", "hello");
    let relay = TestHost::new(data.path()).start().await;
    assert_eq!(send(&relay, InboxMessage::text("hi").id("in-2")).await.unwrap().seq, 4);
    let again = send(&relay, InboxMessage::text("hello").id("in-1").from(own_chat())).await.unwrap();
    assert_eq!((again.seq, again.is_new), (2, false), "what an earlier host has written is known");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

fn own_chat() -> MessageOrigin {
    MessageOrigin::chat("slack", "slack:C1").thread("t-1")
}

#[actix_rt::test]
async fn a_locked_central_database_holds_up_no_message_and_no_other_session() {
    let data = DataDir::new();
    let of =
        |number: usize| SessionSpec::new("ag-main").id(&format!("sess-{number}")).chat("slack", "slack:C1");
    let agents: Vec<TestAgent> = (0..20).map(|number| data.session(of(number))).collect();
    let mut host = TestHost::new(data.path());
    let channel = host.channel("slack");
    let relay = host.start().await;
    settled(&relay).await;
    let other = Other::holding_exclusive_lock(&data.path().join("v2.db"));
    // One wait for the lock each would be longer than a test waits.
    let answered = async {
        for number in 0..agents.len() {
            let message = InboxMessage::text("hello").id("m-1");
            let enqueued = relay.enqueue(id(&format!("sess-{number}")), message).await;
            assert!(enqueued.unwrap().is_new);
        }
    };
    within("messages are answered while v2.db is locked", answered).await;
    agents[0].text("still here");
    shown(&channel, 1).await;
    other.stop();
    // What was to be said of them while nobody could write may be lost; what comes now is not.
    settled(&relay).await;
    relay.enqueue(id("sess-7"), InboxMessage::text("hello again")).await.unwrap();
    settled(&relay).await;
    let active = "SELECT last_active FROM sessions WHERE id = 'sess-7'";
    let active: Option<String> = data.central().query_row(active, [], |row| row.get(0)).unwrap();
    assert!(Timestamp::parse(&active.expect("a time")).is_ok());
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}
