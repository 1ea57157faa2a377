//! Sessions, messages for agents, lanes, tasks, questions, events and the history.

use super::World;
use crate::support::wait::record;
use actix_web::test::TestRequest;
use nanorelay::control::http::ControlPlane;
use nanorelay_actors::model::error::SendError;
use nanorelay_actors::report::{DeliveryState, EventId};
use nanorelay_actors::testing::Answer;
use serde_json::{Value, json};
use std::time::Duration;

fn field(page: &Value, name: &str) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|item| item[name].as_str().unwrap_or_default().to_owned()).collect()
}

#[actix::test]
async fn sessions_are_listed_by_id_and_found_by_what_they_are() {
    let world = World::start().await;
    let first = world.api.get("/v1/sessions?limit=1").await.expect(200);
    assert_eq!(field(&first, "session_id"), ["sess-a"]);
    let cursor = first["next_cursor"].as_str().expect("there is another one");
    let second = world.api.get(&format!("/v1/sessions?limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!(
        (field(&second, "session_id"), &second["next_cursor"]),
        (vec!["sess-b".to_owned()], &Value::Null)
    );
    assert_eq!(
        (&second["items"][0]["tenant"], &second["items"][0]["platform_id"]),
        (&json!("ag-b"), &json!("slack:b"))
    );
    for (query, expected) in [
        ("tenant=ag-b", vec!["sess-b"]),
        ("agent_group=ag-a", vec!["sess-a"]),
        ("q=SLACK:B", vec!["sess-b"]),
        ("state=active", vec!["sess-a", "sess-b"]),
        ("state=quarantined", vec![]),
    ] {
        let page = world.api.get(&format!("/v1/sessions?{query}")).await.expect(200);
        assert_eq!(field(&page, "session_id"), expected, "{query}");
    }
    let own = world.api_for("ann/read/ag-a").await;
    assert_eq!(field(&own.get("/v1/sessions").await.expect(200), "session_id"), ["sess-a"]);
    for path in ["", "/outbound", "/inbound"] {
        own.get(&format!("/v1/sessions/sess-b{path}")).await.expect_problem(404, "not-found");
    }
    world.stop().await;
}

#[actix::test]
async fn the_two_databases_of_a_session_are_shown_side_by_side() {
    let world = World::start().await;
    let body = json!({ "id": "in-1", "text": "please answer", "context_only": true });
    let sent = world.api.post("/v1/sessions/sess-a/messages", body.clone()).await.expect(200);
    assert_eq!(sent["is_new"], true);
    let again = world.api.post("/v1/sessions/sess-a/messages", body).await.expect(200);
    assert_eq!(again["is_new"], false, "it is written once");
    let ids = [world.a.text("one"), world.a.text("two")];
    world.slack.wait_for_shown(2).await;
    world.settle().await;
    let page = world.api.get("/v1/sessions/sess-a/outbound?limit=1").await.expect(200);
    assert_eq!(field(&page, "id"), [ids[1].clone()]);
    assert_eq!(page["items"][0]["delivery"]["state"], "delivered");
    let cursor = page["next_cursor"].as_str().expect("an older one");
    let page = world.api.get(&format!("/v1/sessions/sess-a/outbound?cursor={cursor}")).await.expect(200);
    assert_eq!(field(&page, "id"), [ids[0].clone()]);
    let page = world.api.get("/v1/sessions/sess-a/inbound").await.expect(200);
    assert_eq!(field(&page, "id"), ["in-1"]);
    assert!(page["items"][0]["content"].as_str().unwrap().contains("please answer"));
    let shown = world.api.get("/v1/sessions/sess-a").await.expect(200);
    assert_eq!(
        (&shown["session_id"], &shown["lanes"], &shown["holds"]),
        (&json!("sess-a"), &json!([]), &json!([]))
    );
    world.api.post("/v1/sessions/sess-a/rescan", json!({})).await.expect(200);
    for body in [
        json!({}),
        json!({ "text": "a", "content": {} }),
        json!({ "content": [] }),
        json!({ "text": "a", "attachments": [{ "name": "x", "base64": "!" }] }),
    ] {
        let answer = world.api.post("/v1/sessions/sess-a/messages", body).await;
        answer.expect_problem(400, "invalid-request");
    }
    world.stop().await;
}

#[actix::test]
async fn a_session_is_made_once_and_only_for_ones_own_agents() {
    let world = World::start().await;
    let body = json!({ "agent_group_id": "ag-a", "mode": "agent-shared" });
    let own = world.api_for("ann/operate/ag-a").await;
    let made = own.post("/v1/sessions", body.clone()).await.expect(200);
    assert_eq!(made["is_new"], true);
    assert_eq!(own.post("/v1/sessions", body).await.expect(200)["session_id"], made["session_id"]);
    let other = json!({ "agent_group_id": "ag-b" });
    own.post("/v1/sessions", other).await.expect_problem(404, "not-found");
    let unknown = json!({ "agent_group_id": "ag-nobody" });
    world.api.post("/v1/sessions", unknown).await.expect_problem(422, "refused");
    world.stop().await;
}

#[actix::test]
async fn a_lane_that_is_blocked_is_listed_and_let_go_on() {
    let world = World::start().await;
    let (first, second) = (world.a.text("first"), world.a.text("second"));
    let later = SendError::Transient {
        retry_after: Some(Duration::from_secs(3600)),
        reason: "bad gateway".to_owned(),
    };
    world.slack.on_message(&first, [Answer::Fail(later)]);
    record(&world.relay, &first, |record| record.state == DeliveryState::Retrying).await;
    let listed = world.api.get("/v1/lanes?blocked=true&tenant=ag-a").await.expect(200);
    assert_eq!(field(&listed, "head_message_id"), [first]);
    assert!(field(&world.api_for("b/read/ag-b").await.get("/v1/lanes").await.expect(200), "lane").is_empty());
    let body = json!({ "session_id": "sess-a", "lane": listed["items"][0]["lane"] });
    let other = world.api_for("b/operate/ag-b").await;
    other.post("/v1/lanes/unblock", body.clone()).await.expect_problem(404, "not-found");
    assert_eq!(
        world.api.post("/v1/lanes/unblock", body.clone()).await.expect(200),
        json!({ "unblocked": true })
    );
    record(&world.relay, &second, |record| record.state == DeliveryState::Delivered).await;
    assert_eq!(world.api.post("/v1/lanes/unblock", body).await.expect(200), json!({ "unblocked": false }));
    world.stop().await;
}

#[actix::test]
async fn a_task_is_shown_with_its_next_runs_and_changed() {
    let world = World::start().await;
    world.a.system(&json!({
        "action": "schedule_task", "taskId": "task-1", "prompt": "Say hello",
        "processAfter": "2099-01-01T09:00:00Z", "recurrence": "0 9 * * *",
    }));
    let path = "/v1/tasks/sess-a/task-1";
    crate::support::wait::until("the task is planned", || {
        world.a.messages_in().iter().any(|row| row.id == "task-1")
    })
    .await;
    world.settle().await;
    let listed = world.api.get("/v1/tasks").await.expect(200);
    assert_eq!((field(&listed, "series_id"), &listed["unreadable"]), (vec!["task-1".to_owned()], &json!([])));
    let shown = world.api.get(path).await.expect(200);
    assert_eq!(shown["next_runs"].as_array().map(Vec::len), Some(10));
    world.api.post(&format!("{path}/pause"), json!({ "reason": "holidays" })).await.expect(200);
    assert_eq!(world.api.get(path).await.expect(200)["status"], "paused");
    world.api.post(&format!("{path}/resume"), json!({})).await.expect(200);
    assert_eq!(world.api.get(&format!("{path}/runs")).await.expect(200)["items"], json!([]));
    let other = world.api_for("b/operate/ag-b").await;
    assert_eq!(other.get("/v1/tasks").await.expect(200)["items"], json!([]));
    other.get(path).await.expect_problem(404, "not-found");
    other.post(&format!("{path}/cancel"), json!({})).await.expect_problem(404, "not-found");
    world.api.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    world.api.post(&format!("{path}/cancel"), json!({})).await.expect_problem(404, "not-found");
    world.stop().await;
}

#[actix::test]
async fn a_question_is_listed_and_answered_once() {
    let world = World::start().await;
    world.a.question("q-1", "Deploy", "Deploy now?", &["Yes", "No"]);
    world.slack.wait_for_shown(1).await;
    world.settle().await;
    assert_eq!(field(&world.api.get("/v1/questions").await.expect(200), "question_id"), ["q-1"]);
    let other = world.api_for("b/operate/ag-b").await;
    assert_eq!(other.get("/v1/questions").await.expect(200)["items"], json!([]));
    let wrong = json!({ "selected_option": "Maybe", "user_id": "ann" });
    world.api.post("/v1/questions/q-1/answer", wrong).await.expect_problem(422, "refused");
    let body = json!({ "selected_option": "Yes", "user_id": "ann" });
    other.post("/v1/questions/q-1/answer", body.clone()).await.expect_problem(404, "not-found");
    world.api.post("/v1/questions/q-1/answer", body.clone()).await.expect(200);
    world.api.post("/v1/questions/q-1/answer", body).await.expect_problem(404, "not-found");
    world.stop().await;
}

#[actix::test]
async fn the_history_is_told_to_those_who_may_see_all_tenants() {
    let world = World::start().await;
    world.a.text("hello");
    world.slack.wait_for_shown(1).await;
    world.settle().await;
    let history = world.api.get("/v1/history?minutes=1").await.expect(200);
    assert_eq!((&history["step_ms"], history["points"].as_array().map(Vec::len)), (&json!(10_000), Some(6)));
    let delivered: u64 =
        history["points"].as_array().unwrap().iter().map(|point| point["delivered"].as_u64().unwrap()).sum();
    assert_eq!(delivered, 1);
    world.api.get("/v1/history?minutes=121").await.expect_problem(400, "invalid-request");
    let own = world.api_for("ann/read/ag-a").await;
    own.get("/v1/history").await.expect_problem(403, "all-tenants-required");
    world.stop().await;
}

#[actix::test]
async fn what_happens_is_streamed_from_a_place_on_until_the_streams_are_closed() {
    let world = World::start().await;
    let plane = ControlPlane::new(world.relay.clone());
    let live = async {
        world.a.text("hello");
        world.b.text("secret");
        world.slack.wait_for_shown(2).await;
        world.settle().await;
        plane.close_streams();
    };
    let own = world.api_for("ann/read/ag-a").await;
    let (answer, ()) = tokio::join!(own.get("/v1/events?kind=delivered"), live);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    let text = &answer.text;
    assert_eq!(text.matches("event: delivered\n").count(), 1, "{text}");
    assert!(text.contains("\"session_id\":\"sess-a\"") && !text.contains("sess-b"), "{text}");
    let id = text.lines().find_map(|line| line.strip_prefix("id: ")).expect("its place");
    assert!(id.parse::<EventId>().is_ok(), "{id}");
    own.get("/v1/events?kind=earthquake").await.expect_problem(400, "invalid-request");
    let wrong = TestRequest::get().insert_header(("Last-Event-ID", "yesterday"));
    own.send("/v1/events", wrong).await.expect_problem(400, "invalid-request");
    world.stop().await;
}
