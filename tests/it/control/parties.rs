//! `/v1/tenants`, `/v1/channels`, `/v1/agents`, and the host as a whole.

use super::World;
use nanorelay_actors::testing::Answer;
use serde_json::{Value, json};

fn named<'a>(page: &'a Value, name: &str) -> &'a Value {
    let items = page["items"].as_array().expect("items");
    items.iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("no {name}: {page:#}"))
}

#[actix::test]
async fn tenants_are_listed_with_what_waits_and_each_caller_sees_their_own() {
    let world = World::start().await;
    let pause = json!({ "scope": "tenant", "name": ["ag-a"], "for": "1h", "reason": "audit" });
    world.api.post("/v1/pauses", pause).await.expect(200);
    world.a.text("waits");
    world.settle().await;
    let page = world.api.get("/v1/tenants").await.expect(200);
    let a = named(&page, "ag-a");
    assert_eq!((&a["agent_groups"], &a["sessions"], &a["waiting"]), (&json!(["ag-a"]), &json!(1), &json!(1)));
    assert_eq!((&a["weight"], &a["in_flight_max"]), (&json!(1), &Value::Null));
    assert_eq!((&a["hold"]["reason"], &a["hold"]["until"]), (&json!("audit"), &a["paused_until"]));
    let b = named(&page, "ag-b");
    assert_eq!((&b["waiting"], &b["hold"], &b["paused_until"]), (&json!(0), &Value::Null, &Value::Null));
    let own = world.api_for("ann/read/ag-b").await.get("/v1/tenants").await.expect(200);
    assert_eq!(own["items"], json!([b]));
    world.stop().await;
}

#[actix::test]
async fn a_channel_is_listed_with_its_counts_and_what_blocks_it() {
    let world = World::start().await;
    world.slack.next([Answer::transient("bad gateway")]);
    world.a.text("fails once");
    world.slack.wait_for(2).await;
    world.settle().await;
    let pause = json!({ "scope": "channel", "name": ["slack"], "until": "2090-01-01T00:00:00Z" });
    world.api.post("/v1/pauses", pause).await.expect(200);
    let page = world.api_for("ann/read/ag-a").await.get("/v1/channels").await.expect(200);
    let slack = named(&page, "slack");
    assert_eq!((&slack["attempts"], &slack["failed"]), (&json!(2), &json!(1)));
    assert_eq!((&slack["on_ambiguous"], &slack["on_block"]), (&json!("hold"), &json!("wait")));
    assert_eq!((&slack["queued"], &slack["in_flight"], &slack["rate"]), (&json!(0), &json!(0), &Value::Null));
    assert_eq!(slack["breaker"], json!({ "is_open": false, "until": null, "failures": 5 }));
    assert_eq!(slack["blocked_until"], "2090-01-01T00:00:00.000Z");
    world.stop().await;
}

#[actix::test]
async fn the_overview_says_what_waits_and_fails_to_callers_of_all_tenants() {
    let world = World::start().await;
    let pause = json!({ "scope": "session", "name": ["sess-a"] });
    world.api.post("/v1/pauses", pause).await.expect(200);
    world.slack.on_text("poison", [Answer::permanent("blocked")]);
    let waiting = world.a.text("waits");
    world.b.text("poison");
    world.slack.wait_for(1).await;
    world.settle().await;
    let overview = world.api.get("/v1/overview").await.expect(200);
    assert_eq!((&overview["counts"]["queued"], &overview["counts"]["dead"]), (&json!(1), &json!(1)));
    assert_eq!((&overview["delivered_per_minute"], &overview["lag_ms"]), (&json!(0), &Value::Null));
    assert_eq!(overview["oldest_undelivered"]["message_id"], waiting.as_str());
    assert_eq!((&overview["sessions"]["total"], &overview["holds"]), (&json!(2), &json!(1)));
    let actors = world.api.get("/v1/actors").await.expect(200);
    let channels = actors["channels"].as_array().expect("a list");
    assert_eq!(actors["registry"]["sessions"], 2);
    assert!(channels.iter().any(|channel| channel["name"] == "slack"), "{channels:?}");
    let of_a_tenant = world.api_for("ann/admin/ag-a").await;
    for path in ["/v1/overview", "/v1/actors"] {
        of_a_tenant.get(path).await.expect_problem(403, "all-tenants-required");
    }
    assert_eq!(world.api.get("/v1/agents").await.expect(200)["items"], json!([]));
    world.stop().await;
}

#[actix::test]
async fn draining_delivers_what_is_due_and_leaves_the_host_running() {
    let world = World::start().await;
    world.a.text("one");
    let report =
        world.api.post("/v1/drain", json!({ "deadline": "30s", "reason": "upgrade" })).await.expect(200);
    assert_eq!(report["delivered"], 1);
    world.api.get("/readyz").await.expect(200);
    let audit = world.api.get("/v1/audit?action=drain").await.expect(200);
    assert_eq!((&audit["items"][0]["after"], &audit["items"][0]["reason"]), (&report, &json!("upgrade")));
    let operator = world.api_for("eve/operate/*").await;
    operator.post("/v1/drain", json!({})).await.expect_problem(403, "missing-scope");
    for wrong in ["2h", "soon"] {
        let answer = world.api.post("/v1/drain", json!({ "deadline": wrong })).await;
        answer.expect_problem(400, "invalid-request");
    }
    world.stop().await;
}
