//! `/v1/deliveries`: lists, verbs, bulk.

use super::World;
use crate::support::wait::record;
use nanorelay_actors::model::error::SendError;
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::testing::Answer;
use serde_json::{Value, json};
use std::time::Duration;

fn in_an_hour() -> Answer {
    Answer::Fail(SendError::Transient {
        retry_after: Some(Duration::from_secs(3600)),
        reason: "bad gateway".to_owned(),
    })
}

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|item| item["message_id"].as_str().expect("an id").to_owned()).collect()
}

#[actix::test]
async fn deliveries_are_listed_page_by_page_and_found_by_what_they_are() {
    let world = World::start().await;
    let sent: Vec<String> = (0..5).map(|number| world.a.text(&format!("text {number}"))).collect();
    world.slack.wait_for_shown(5).await;
    world.settle().await;
    let (mut seen, mut path) = (Vec::new(), "/v1/deliveries?limit=2".to_owned());
    loop {
        let page = world.api.get(&path).await.expect(200);
        seen.extend(ids(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/deliveries?limit=2&cursor={cursor}");
    }
    let (mut sorted, mut expected) = (seen.clone(), sent.clone());
    sorted.sort();
    expected.sort();
    assert_eq!(sorted, expected, "each one once");
    for (query, count) in [
        ("state=delivered&session=sess-a", 5),
        ("state=dead&state=held", 0),
        ("tenant=ag-a", 5),
        ("tenant=ag-b", 0),
        ("channel=slack", 5),
        ("class=transient", 0),
        ("q=SLACK:A", 5),
        ("since=2099-01-01T00:00:00Z", 0),
    ] {
        let page = world.api.get(&format!("/v1/deliveries?{query}")).await.expect(200);
        assert_eq!(ids(&page).len(), count, "{query}");
    }
    let shown = world.api.get(&format!("/v1/deliveries/sess-a/{}", sent[0])).await.expect(200);
    assert_eq!((&shown["state"], &shown["failed_attempts"]), (&json!("delivered"), &json!([])));
    assert!(shown["content"].as_str().expect("its content").contains("text 0"));
    world.stop().await;
}

#[actix::test]
async fn a_delivery_is_snoozed_cancelled_and_replayed_and_the_audit_says_so() {
    let world = World::start().await;
    let id = world.a.text("hello");
    world.slack.on_message(&id, [in_an_hour()]);
    record(&world.relay, &id, |record| record.state == DeliveryState::Retrying).await;
    let path = |verb: &str| format!("/v1/deliveries/sess-a/{id}/{verb}");
    let snoozed = world.api.post(&path("snooze"), json!({ "for": "3h" })).await.expect(200);
    assert_eq!(snoozed["state"], "queued");
    let cancelled = world.api.post(&path("cancel"), json!({ "reason": "a typo" })).await.expect(200);
    assert_eq!((&cancelled["state"], &cancelled["error_class"]), (&json!("dead"), &json!("cancelled")));
    world.api.post(&path("cancel"), json!({})).await.expect_problem(409, "conflict");
    world.api.post(&path("snooze"), json!({ "for": "3h" })).await.expect_problem(409, "conflict");
    world.api.post(&path("resolve"), json!({ "as": "delivered" })).await.expect_problem(409, "conflict");
    world.api.post(&path("replay"), json!({})).await.expect(200);
    world.slack.wait_for_shown(1).await;
    world.settle().await;
    world.api.post(&path("replay"), json!({})).await.expect_problem(409, "conflict");
    let audit = world.api.get("/v1/audit").await.expect(200);
    let actions: Vec<&str> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .filter(|row| row["outcome"] == "done")
        .map(|row| row["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["delivery.snooze", "delivery.cancel", "delivery.replay"]);
    world.stop().await;
}

#[actix::test]
async fn many_are_cancelled_and_replayed_after_a_dry_run_and_only_ones_own() {
    let world = World::start().await;
    world.slack.script(|_| in_an_hour());
    let (a, b) = (world.a.text("one"), world.b.text("two"));
    for id in [&a, &b] {
        record(&world.relay, id, |record| record.state == DeliveryState::Retrying).await;
    }
    let own = world.api_for("ann/operate/ag-a").await;
    let dry = json!({ "filter": {}, "dry_run": true });
    let would = own.post("/v1/deliveries/cancel", dry).await.expect(200);
    assert_eq!((&would["matched"], &would["changed"], ids(&would)), (&json!(1), &json!(0), vec![a.clone()]));
    let body = json!({ "filter": { "tenant": "ag-b" } });
    assert_eq!(own.post("/v1/deliveries/cancel", body).await.expect(200)["changed"], 0);
    let body = json!({ "filter": { "channel_type": "slack" }, "reason": "cleaning up" });
    assert_eq!(own.post("/v1/deliveries/cancel", body).await.expect(200)["changed"], 1);
    let dead = json!({ "filter": { "states": ["dead"] }, "rate": "1/h" });
    assert_eq!(own.post("/v1/deliveries/replay", dead.clone()).await.expect(200)["changed"], 1);
    assert_eq!(own.post("/v1/deliveries/replay", dead).await.expect(200)["changed"], 0);
    let left = world.api.get("/v1/deliveries?session=sess-b&state=retrying").await.expect(200);
    assert_eq!(ids(&left), [b]);
    world.stop().await;
}

#[actix::test]
async fn deliveries_of_others_are_not_found_and_bad_input_is_refused() {
    let world = World::start().await;
    let id = world.b.text("secret");
    world.slack.wait_for_shown(1).await;
    world.settle().await;
    let own = world.api_for("ann/operate/ag-a").await;
    assert!(ids(&own.get("/v1/deliveries").await.expect(200)).is_empty());
    assert!(ids(&own.get("/v1/deliveries?session=sess-b").await.expect(200)).is_empty());
    own.get(&format!("/v1/deliveries/sess-b/{id}")).await.expect_problem(404, "not-found");
    for verb in ["replay", "cancel"] {
        let path = format!("/v1/deliveries/sess-b/{id}/{verb}");
        own.post(&path, json!({})).await.expect_problem(404, "not-found");
    }
    world.api.get("/v1/deliveries/sess-a/nobody").await.expect_problem(404, "not-found");
    for query in ["state=lost", "since=yesterday", "limit=0", "cursor=x", "colour=red"] {
        world.api.get(&format!("/v1/deliveries?{query}")).await.expect_problem(400, "invalid-request");
    }
    let path = format!("/v1/deliveries/sess-b/{id}");
    for (verb, body) in [
        ("snooze", json!({})),
        ("snooze", json!({ "until": "2020-01-01T00:00:00Z" })),
        ("resolve", json!({ "as": "lost" })),
        ("resolve", json!({ "as": "not-delivered", "platform_message_id": "x" })),
    ] {
        world.api.post(&format!("{path}/{verb}"), body).await.expect_problem(400, "invalid-request");
    }
    let rate = json!({ "filter": {}, "rate": "fast" });
    world.api.post("/v1/deliveries/replay", rate).await.expect_problem(400, "invalid-request");
    let reader = world.api_for("bob/read/*").await;
    reader.post(&format!("{path}/replay"), json!({})).await.expect_problem(403, "missing-scope");
    world.stop().await;
}
