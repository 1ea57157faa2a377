//! `/v1/pauses`.

use super::World;
use actix_web::test::TestRequest;
use serde_json::{Value, json};

fn names(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|item| format!("{} {}", item["scope"].as_str().unwrap(), item["name"])).collect()
}

#[actix::test]
async fn a_pause_is_made_listed_ended_and_audited() {
    let world = World::start().await;
    let api = &world.api;
    let body =
        json!({ "scope": "destination", "name": ["slack", "slack:a"], "for": "2h", "reason": "maintenance" });
    let made = api.post("/v1/pauses", body).await.expect(200);
    assert_eq!((&made["cause"], &made["reason"]), (&json!("operator"), &json!("maintenance")));
    let listed = api.get("/v1/pauses").await.expect(200);
    assert_eq!(listed, json!({ "items": [made], "next_cursor": null }));

    let body = json!({ "scope": "destination", "name": ["slack", "slack:a"], "reason": "done" });
    assert_eq!(api.post("/v1/pauses/resume", body.clone()).await.expect(200), json!({ "resumed": 1 }));
    assert_eq!(api.post("/v1/pauses/resume", body).await.expect(200), json!({ "resumed": 0 }));
    assert_eq!(api.get("/v1/pauses").await.expect(200)["items"], json!([]));

    let audit = api.get("/v1/audit").await.expect(200)["items"].clone();
    let rows: Vec<_> = audit.as_array().unwrap().iter().rev().collect();
    let actions: Vec<_> = rows.iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["pause", "resume", "resume"]);
    assert_eq!(
        [&rows[0]["who"], &rows[0]["via"], &rows[0]["target"], &rows[0]["reason"], &rows[0]["outcome"]],
        ["root", "application", "destination slack slack:a", "maintenance", "done"]
    );
    assert_eq!((&rows[0]["before"], &rows[0]["after"]), (&Value::Null, &made));
    assert_eq!((&rows[1]["before"], &rows[1]["after"]), (&made, &json!({ "resumed": 1 })));
    world.stop().await;
}

#[actix::test]
async fn a_paused_session_sends_nothing_until_it_is_resumed() {
    let world = World::start().await;
    let body = json!({ "scope": "session", "name": ["sess-a"] });
    world.api.post("/v1/pauses", body.clone()).await.expect(200);
    world.a.text("waits");
    world.b.text("goes");
    world.slack.wait_for(1).await;
    world.settle().await;
    assert_eq!(world.slack.calls().len(), 1);
    world.api.post("/v1/pauses/resume", body).await.expect(200);
    world.slack.wait_for(2).await;
    world.stop().await;
}

#[actix::test]
async fn callers_of_a_tenant_see_and_change_their_own_and_find_nothing_else() {
    let world = World::start().await;
    for (scope, name) in [
        ("tenant", json!(["ag-a"])),
        ("tenant", json!(["ag-b"])),
        ("session", json!(["sess-a"])),
        ("session", json!(["sess-b"])),
        ("lane", json!(["sess-b", "slack", "slack:b"])),
        ("channel", json!(["slack"])),
        ("destination", json!(["slack", "slack:b"])),
    ] {
        world.api.post("/v1/pauses", json!({ "scope": scope, "name": name })).await.expect(200);
    }
    let mut listed = names(&world.api.get("/v1/pauses").await.expect(200));
    assert_eq!(listed.len(), 7);
    let tenant = world.api_for("ann/operate/ag-a").await;
    listed = names(&tenant.get("/v1/pauses").await.expect(200));
    listed.sort();
    assert_eq!(listed, [r#"channel ["slack"]"#, r#"session ["sess-a"]"#, r#"tenant ["ag-a"]"#]);
    for (scope, name) in [("tenant", json!(["ag-b"])), ("session", json!(["sess-b"]))] {
        for path in ["/v1/pauses", "/v1/pauses/resume"] {
            let answer = tenant.post(path, json!({ "scope": scope, "name": name })).await;
            let of_another = answer.expect_problem(404, "not-found");
            let unknown = tenant.post(path, json!({ "scope": scope, "name": ["no-such"] })).await;
            assert_eq!(of_another, unknown.expect_problem(404, "not-found"), "they cannot be told apart");
        }
    }
    let lane = json!({ "scope": "lane", "name": ["sess-b", "slack", "slack:b"] });
    tenant.post("/v1/pauses/resume", lane).await.expect_problem(404, "not-found");
    let channel = json!({ "scope": "channel", "name": ["slack"] });
    tenant.post("/v1/pauses/resume", channel).await.expect_problem(403, "all-tenants-required");
    assert_eq!(names(&world.api.get("/v1/pauses").await.expect(200)).len(), 7, "nothing has changed");
    let own = json!({ "scope": "session", "name": ["sess-a"] });
    assert_eq!(tenant.post("/v1/pauses/resume", own).await.expect(200), json!({ "resumed": 1 }));
    world.stop().await;
}

#[actix::test]
async fn readers_change_nothing_and_only_administrators_see_the_audit() {
    let world = World::start().await;
    let reader = world.api_for("bob/read/*").await;
    reader.get("/v1/pauses").await.expect(200);
    let body = json!({ "scope": "channel", "name": ["slack"] });
    let answer = reader.post("/v1/pauses", body).await;
    assert_eq!(answer.body["required_scope"], "operate");
    answer.expect_problem(403, "missing-scope");
    let operator = world.api_for("eve/operate/*").await;
    operator.get("/v1/audit").await.expect_problem(403, "missing-scope");
    let of_a_tenant = world.api_for("ann/admin/ag-a").await;
    of_a_tenant.get("/v1/audit").await.expect_problem(403, "all-tenants-required");
    let nobody = world.api_for("").await;
    let answer = nobody.get("/v1/pauses").await;
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"nanorelay\""));
    answer.expect_problem(401, "unauthorized");
    world.stop().await;
}

#[actix::test]
async fn bad_input_is_refused_in_words_and_changes_nothing() {
    let world = World::start().await;
    for (body, words) in [
        (json!({ "scope": "planet", "name": ["earth"] }), "scope: unknown value `planet`"),
        (json!({ "scope": "channel" }), "missing field `name`"),
        (json!({ "scope": "channel", "name": [] }), "name: a channel is named by its channel type"),
        (json!({ "scope": "channel", "name": [""] }), "name: id is empty"),
        (json!({ "scope": "channel", "name": ["slack"], "colour": 1 }), "unknown field `colour`"),
        (json!({ "scope": "channel", "name": ["slack"], "for": "soon" }), "for: \"soon\" is not a duration"),
        (
            json!({ "scope": "channel", "name": ["slack"], "until": "2020-01-01T00:00:00Z" }),
            "lies in the past",
        ),
        (
            json!({ "scope": "channel", "name": ["slack"], "until": "2090-01-01T00:00:00Z", "for": "1h" }),
            "until: cannot be there beside for",
        ),
        (json!([1]), "body: is not a JSON object"),
    ] {
        let detail = world.api.post("/v1/pauses", body).await.expect_problem(400, "invalid-request");
        assert!(detail.contains(words), "{detail} should say {words}");
    }
    for (path, words) in [
        ("/v1/pauses?limit=0", "0 is out of bounds"),
        ("/v1/pauses?limit=501", "501 is out of bounds"),
        ("/v1/pauses?colour=red", "unknown field `colour`"),
        ("/v1/pauses?cursor=abc", "cursor: is not one of this list"),
    ] {
        let detail = world.api.get(path).await.expect_problem(400, "invalid-request");
        assert!(detail.contains(words), "{detail} should say {words}");
    }
    let plain = TestRequest::post().set_payload("{}");
    world.api.send("/v1/pauses", plain).await.expect_problem(415, "unsupported-media-type");
    let large = json!({ "scope": "channel", "name": ["x".repeat(70_000)] });
    world.api.post("/v1/pauses", large).await.expect_problem(413, "too-large");
    assert_eq!(world.api.get("/v1/pauses").await.expect(200)["items"], json!([]));
    assert_eq!(world.api.get("/v1/audit").await.expect(200)["items"], json!([]));
    world.stop().await;
}

#[actix::test]
async fn pages_show_every_pause_once_while_others_are_ended() {
    let world = World::start().await;
    let pause = |n: usize| json!({ "scope": "channel", "name": [format!("channel-{n}")] });
    for n in 0..7 {
        world.api.post("/v1/pauses", pause(n)).await.expect(200);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/pauses?limit=2".to_owned();
    loop {
        let page = world.api.get(&path).await.expect(200);
        seen.extend(names(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/pauses?limit=2&cursor={cursor}");
        // One that was seen already goes away meanwhile.
        world.api.post("/v1/pauses/resume", pause(0)).await.expect(200);
    }
    let expected: Vec<_> = (0..7).map(|n| format!("channel [\"channel-{n}\"]")).collect();
    assert_eq!(seen, expected);
    world.stop().await;
}

#[actix::test]
async fn a_path_or_a_method_that_nothing_answers_is_a_problem_too() {
    let world = World::start().await;
    world.api.get("/v1/planets").await.expect_problem(404, "not-found");
    world.api.get("/planets").await.expect_problem(404, "not-found");
    world.api.get("/problems/no-such").await.expect_problem(404, "not-found");
    let listed = world.api.get("/problems").await.expect(200);
    assert!(listed["items"].as_array().unwrap().iter().any(|kind| kind["name"] == "not-found"));
    assert_eq!(world.api.get("/problems/not-found").await.expect(200)["status"], 404);
    let answer = world.api.send("/v1/pauses", TestRequest::delete()).await;
    assert_eq!(answer.header("allow"), Some("GET, POST"));
    answer.expect_problem(405, "method-not-allowed");
    world.stop().await;
}
