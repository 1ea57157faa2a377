//! Which session of another agent a message goes to.

use crate::support::host::TestHost;
use nanorelay_actors::testing::{DataDir, RowSpec, SessionSpec, TestAgent};

/// A session of one group, and an older and a newer one of another group that it may write to.
fn world() -> (DataDir, TestAgent, [TestAgent; 2]) {
    let data = DataDir::new();
    data.allow_agent("ag-main", "ag-peer");
    let agent = data.session(SessionSpec::new("ag-main").id("sess-a").chat("slack", "slack:C1"));
    let peers = ["sess-older", "sess-newer"].map(|id| data.session(SessionSpec::new("ag-peer").id(id)));
    let newer = "UPDATE sessions SET created_at = '2026-02-01T00:00:00.000Z' WHERE id = 'sess-newer'";
    data.central().execute_batch(newer).unwrap();
    (data, agent, peers)
}

fn counts(peers: &[TestAgent; 2]) -> [usize; 2] {
    [peers[0].messages_in().len(), peers[1].messages_in().len()]
}

#[actix_rt::test]
async fn a_message_that_answers_nothing_goes_to_the_newest_session() {
    let (data, agent, peers) = world();
    agent.to_agent("ag-peer", "hello");
    assert_eq!(TestHost::new(data.path()).drain().await.report.routed, 1);
    assert_eq!(counts(&peers), [0, 1]);
}

#[actix_rt::test]
async fn an_answer_to_a_message_of_no_agent_goes_to_the_newest_session() {
    let (data, agent, peers) = world();
    agent.receive("from-a-person", "ask the others");
    agent.row(RowSpec::text("agent", "ag-peer", "hello").in_reply_to("from-a-person"));
    agent.row(RowSpec::text("agent", "ag-peer", "hello").in_reply_to("no-such-row"));
    assert_eq!(TestHost::new(data.path()).drain().await.report.routed, 2);
    assert_eq!(counts(&peers), [0, 2]);
}

#[actix_rt::test]
async fn an_agent_without_a_chat_of_its_own_answers_where_it_was_asked() {
    let (data, agent, peers) = world();
    data.allow_agent("ag-peer", "ag-main");
    agent.to_agent("ag-peer", "what is 2+2?");
    let host = TestHost::new(data.path());
    host.drain().await;
    let question = peers[1].messages_in().remove(0);
    let (channel_type, platform_id) = (question.channel_type.unwrap(), question.platform_id.unwrap());
    assert_eq!((channel_type.as_str(), platform_id.as_str()), ("agent", "ag-main"), "the row says where to");
    peers[1].row(RowSpec::text(&channel_type, &platform_id, "4").in_reply_to(&question.id));
    assert_eq!(host.drain().await.report.routed, 1);
    assert_eq!(agent.messages_in().len(), 1);
}
