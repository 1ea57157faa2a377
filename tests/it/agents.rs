//! Messages from agent to agent.

use crate::support::host::TestHost;
use crate::support::takeover::{assert_can_be_taken_over, assert_seqs_unique};
use crate::support::wait::{record, settled, until};
use nanorelay_actors::report::{DeliveryState, DrainReport};
use nanorelay_actors::testing::fault::{Fault, Operation};
use nanorelay_actors::testing::{DataDir, InboundRow, RowSpec, SessionSpec, TestAgent};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

/// Two groups that may write to each other.
fn two_groups() -> DataDir {
    let data = DataDir::new();
    data.allow_agent("ag-main", "ag-peer").allow_agent("ag-peer", "ag-main");
    data
}

fn session(data: &DataDir, group: &str, id: &str) -> TestAgent {
    data.session(SessionSpec::new(group).id(id))
}

/// Rows that came from other agents.
fn received(agent: &TestAgent) -> Vec<InboundRow> {
    let is_from_agent =
        |row: &InboundRow| row.channel_type.as_deref() == Some("agent") && row.source_session_id.is_some();
    agent.messages_in().into_iter().filter(is_from_agent).collect()
}

fn texts(agent: &TestAgent) -> Vec<String> {
    let text = |row: InboundRow| serde_json::from_str::<Value>(&row.content).unwrap()["text"].to_string();
    received(agent).into_iter().map(text).collect()
}

#[actix_rt::test]
async fn an_answer_goes_to_the_session_that_asked() {
    let data = two_groups();
    let asking = session(&data, "ag-main", "sess-asking");
    // Newer ones of the same group, which asked nothing.
    let bystanders = ["sess-x", "sess-y"].map(|id| session(&data, "ag-main", id));
    let peer = session(&data, "ag-peer", "sess-peer");
    asking.to_agent("ag-peer", "what is 2+2?");
    let host = TestHost::new(data.path());
    assert_eq!(host.drain().await.report, DrainReport { routed: 1, ..DrainReport::default() });
    let question = received(&peer).remove(0);
    assert_eq!(question.source_session_id.as_deref(), Some("sess-asking"));
    assert_eq!((question.platform_id.as_deref(), question.trigger), (Some("ag-main"), Some(1)));

    peer.row(RowSpec::text("agent", "ag-main", "4").in_reply_to(&question.id));
    // Without naming a message: to the session of that group that wrote last.
    peer.to_agent("ag-main", "and by the way");
    assert_eq!(host.drain().await.report.routed, 2);
    assert_eq!(texts(&asking), [r#""4""#, r#""and by the way""#]);
    for bystander in &bystanders {
        assert!(received(bystander).is_empty());
    }
    assert_can_be_taken_over(&peer);
    assert_seqs_unique(&asking);
}

#[actix_rt::test]
async fn an_answer_to_a_closed_session_goes_to_the_newest_of_its_group() {
    let data = two_groups();
    let asking = session(&data, "ag-main", "sess-asking");
    let peer = session(&data, "ag-peer", "sess-peer");
    asking.to_agent("ag-peer", "are you there?");
    let host = TestHost::new(data.path());
    host.drain().await;
    let newer = session(&data, "ag-main", "sess-newer");
    data.central()
        .execute_batch(
            "UPDATE sessions SET status = 'closed' WHERE id = 'sess-asking';
             UPDATE sessions SET created_at = '2026-02-01T00:00:00.000Z' WHERE id = 'sess-newer'",
        )
        .unwrap();
    let question = received(&peer).remove(0);
    peer.row(RowSpec::text("agent", "ag-main", "yes").in_reply_to(&question.id));
    assert_eq!(host.drain().await.report.routed, 1);
    assert_eq!((received(&asking).len(), received(&newer).len()), (0, 1));
}

#[actix_rt::test]
async fn a_reply_does_not_lead_to_a_session_of_another_group() {
    let data = two_groups();
    data.agent_group("ag-third");
    let third = session(&data, "ag-third", "sess-third");
    let main = session(&data, "ag-main", "sess-main");
    let peer = session(&data, "ag-peer", "sess-peer");
    // The agent can write what it likes into its inbox.
    peer.inbound()
        .execute_batch(
            "INSERT INTO messages_in (id, seq, kind, timestamp, channel_type, platform_id, content, source_session_id)
             VALUES ('forged', 2, 'chat', datetime('now'), 'agent', 'ag-main', '{}', 'sess-third')",
        )
        .unwrap();
    peer.row(RowSpec::text("agent", "ag-main", "hello").in_reply_to("forged"));
    let host = TestHost::new(data.path());
    assert_eq!(host.drain().await.report.routed, 1);
    assert_eq!((received(&third).len(), received(&main).len()), (0, 1));
}

#[actix_rt::test]
async fn an_agent_may_write_to_itself_and_to_nobody_without_permission() {
    let data = DataDir::new();
    data.agent_group("ag-other");
    let agent = session(&data, "ag-main", "sess-a");
    let other = session(&data, "ag-other", "sess-o");
    agent.to_agent("ag-main", "note to self");
    let refused = agent.to_agent("ag-other", "let me in");
    let nowhere = agent.to_agent("ag-nobody", "hello?");
    let host = TestHost::new(data.path());
    let run = host.drain().await;
    assert_eq!((run.report.routed, run.report.dead), (1, 2));
    assert_eq!(texts(&agent), [r#""note to self""#]);
    assert!(received(&other).is_empty());
    for id in [&refused, &nowhere] {
        let record = run.record("sess-a", id).expect("it is listed");
        assert_eq!(
            (record.state, record.error_class.as_deref()),
            (DeliveryState::Dead, Some("not_permitted"))
        );
    }
}

#[actix_rt::test]
async fn a_message_to_a_group_without_a_session_is_dead_with_a_reason() {
    let data = two_groups();
    let agent = session(&data, "ag-main", "sess-a");
    data.session(SessionSpec::new("ag-peer").id("sess-closed").closed());
    let id = agent.to_agent("ag-peer", "anybody?");
    let run = TestHost::new(data.path()).drain().await;
    let record = run.record("sess-a", &id).expect("it is listed");
    assert_eq!((record.state, record.error_class.as_deref()), (DeliveryState::Dead, Some("no_route")));
}

#[actix_rt::test]
async fn files_are_copied_to_where_the_other_agent_finds_them() {
    let data = two_groups();
    let (agent, peer) = (session(&data, "ag-main", "sess-a"), session(&data, "ag-peer", "sess-p"));
    let content = json!({ "text": "see this", "files": ["a.png", "b.txt"] });
    let row = RowSpec { content: content.to_string(), ..RowSpec::text("agent", "ag-peer", "") };
    let id = agent.row(row.file("a.png", vec![1, 2, 3]).file("b.txt", "bee"));
    let missing = json!({ "text": "and this", "files": ["../../sess-p/inbound.db"] });
    let bad = agent.row(RowSpec { content: missing.to_string(), ..RowSpec::text("agent", "ag-peer", "") });
    let run = TestHost::new(data.path()).drain().await;
    assert_eq!((run.report.routed, run.report.dead), (1, 1));
    let class = run.record("sess-a", &bad).and_then(|record| record.error_class.clone());
    assert_eq!(class.as_deref(), Some("attachment"));

    let row = received(&peer).remove(0);
    let content: Value = serde_json::from_str(&row.content).unwrap();
    for (place, (name, bytes)) in
        [("a.png", vec![1, 2, 3]), ("b.txt", b"bee".to_vec())].into_iter().enumerate()
    {
        let attachment = &content["attachments"][place];
        assert_eq!((attachment["name"].as_str(), attachment["type"].as_str()), (Some(name), Some("file")));
        let path = attachment["localPath"].as_str().expect("a path");
        assert!(path.starts_with("inbox/"), "{path}");
        assert_eq!(fs::read(peer.folder().join(path)).unwrap(), bytes);
    }
    assert!(!agent.outbox().join(id).exists(), "the sender's copy is gone");
}

#[actix_rt::test]
async fn a_file_that_the_host_cannot_open_at_the_moment_is_copied_later() {
    let data = two_groups();
    let (agent, peer) = (session(&data, "ag-main", "sess-a"), session(&data, "ag-peer", "sess-p"));
    let content = json!({ "text": "see this", "files": ["a.png"] });
    let row = RowSpec { content: content.to_string(), ..RowSpec::text("agent", "ag-peer", "") };
    let id = agent.row(row.file("a.png", vec![1, 2, 3]));
    let fault = Fault::on(&agent.outbox().join(&id).join("a.png"), Operation::Open, Errno::MFILE);
    let relay = TestHost::new(data.path()).start().await;
    let states = [DeliveryState::Retrying, DeliveryState::Dead];
    let waiting = record(&relay, &id, |record| states.contains(&record.state)).await;
    assert_eq!(waiting.error_class.as_deref(), Some("unavailable"));
    drop(fault);
    until("it is there", || received(&peer).len() == 1).await;
    settled(&relay).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    let content: Value = serde_json::from_str(&received(&peer)[0].content).unwrap();
    let path = content["attachments"][0]["localPath"].as_str().expect("a path");
    assert_eq!(fs::read(peer.folder().join(path)).unwrap(), [1, 2, 3]);
}

#[actix_rt::test]
async fn a_message_to_an_agent_with_a_broken_folder_waits_until_it_is_repaired() {
    let data = two_groups();
    let (agent, peer) = (session(&data, "ag-main", "sess-a"), session(&data, "ag-peer", "sess-p"));
    let inbox = peer.folder().join("inbound.db");
    let aside = peer.folder().join("aside.db");
    fs::rename(&inbox, &aside).unwrap();
    fs::write(&inbox, "this is no database, and it is long enough to be judged as one".repeat(100)).unwrap();
    let ids = [agent.to_agent("ag-peer", "one"), agent.to_agent("ag-peer", "two")];
    let host = TestHost::new(data.path());
    let relay = host.start().await;
    let waiting = record(&relay, &ids[0], |record| record.state == DeliveryState::Retrying).await;
    assert_eq!(waiting.error_class.as_deref(), Some("unavailable"));
    assert_eq!(agent.delivered().len(), 0);
    fs::rename(&aside, &inbox).unwrap();
    until("both are there", || texts(&peer) == [r#""one""#, r#""two""#]).await;
    settled(&relay).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(agent.delivered().len(), 2);
}

#[actix_rt::test]
async fn two_agents_that_write_to_each_other_at_once_do_not_wait_for_each_other() {
    const EACH: usize = 500;
    let data = two_groups();
    let agents = [session(&data, "ag-main", "sess-a"), session(&data, "ag-peer", "sess-p")];
    for (agent, target) in [(&agents[0], "ag-peer"), (&agents[1], "ag-main")] {
        agent.rows((0..EACH).map(|number| RowSpec::text("agent", target, &format!("{number}"))).collect());
    }
    let mut host = TestHost::new(data.path());
    host.drain_deadline = Duration::from_secs(300);
    host.settings.limits.agent_messages_per_minute_max = 2 * EACH;
    host.settings.limits.agent_hops_max = 2 * EACH as u32;
    let run = host.drain().await;
    assert_eq!(run.report, DrainReport { routed: 2 * EACH as u64, ..DrainReport::default() });
    let expected: Vec<String> = (0..EACH).map(|number| format!(r#""{number}""#)).collect();
    for agent in &agents {
        assert_eq!(texts(agent), expected, "each once and in order");
        assert_eq!(agent.delivered().len(), EACH);
        assert_can_be_taken_over(agent);
    }
}
