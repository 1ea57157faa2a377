//! `Idempotency-Key`.

use super::World;
use actix_web::test::TestRequest;
use serde_json::{Value, json};

fn pause(key: &str, name: &str) -> TestRequest {
    let body = json!({ "scope": "channel", "name": [name] });
    TestRequest::post().insert_header(("Idempotency-Key", key)).set_json(body)
}

async fn audited(world: &World) -> usize {
    world.api.get("/v1/audit").await.expect(200)["items"].as_array().map_or(0, Vec::len)
}

#[actix::test]
async fn a_repeat_is_answered_like_the_first_and_changes_nothing() {
    let world = World::start().await;
    let first = world.api.send("/v1/pauses", pause("k-1", "slack")).await;
    assert_eq!(first.header("idempotency-replayed"), None);
    let first = first.expect(200);
    let repeat = world.api.send("/v1/pauses", pause("k-1", "slack")).await;
    assert_eq!(repeat.header("idempotency-replayed"), Some("true"));
    assert_eq!(repeat.header("content-type"), Some("application/json"));
    assert_eq!(repeat.expect(200), first);
    assert_eq!(audited(&world).await, 1);
    let other = world.api.send("/v1/pauses", pause("k-1", "discord")).await;
    other.expect_problem(422, "idempotency-mismatch");
    let other_path = world.api.send("/v1/pauses/resume", pause("k-1", "slack")).await;
    other_path.expect_problem(422, "idempotency-mismatch");
    let of_another_caller = world.api_for("ann/admin/*").await;
    let answer = of_another_caller.send("/v1/pauses", pause("k-1", "discord")).await;
    assert_eq!(answer.header("idempotency-replayed"), None);
    answer.expect(200);
    world.stop().await;
}

#[actix::test]
async fn what_was_refused_may_be_tried_again_with_the_same_key() {
    let world = World::start().await;
    let reader = world.api_for("bob/read/*").await;
    reader.send("/v1/pauses", pause("k-1", "slack")).await.expect_problem(403, "missing-scope");
    reader.send("/v1/pauses", pause("k-1", "slack")).await.expect_problem(403, "missing-scope");
    world.api.send("/v1/pauses", pause("k-2", "")).await.expect_problem(400, "invalid-request");
    world.api.send("/v1/pauses", pause("k-2", "slack")).await.expect(200);
    world.api.send("/v1/pauses", pause("a b", "slack")).await.expect_problem(400, "invalid-request");
    world.stop().await;
}

#[actix::test]
async fn repeats_at_the_same_time_make_one_change() {
    let world = World::start().await;
    let sends = (0..8).map(|_| world.api.send("/v1/pauses", pause("k-1", "slack")));
    let answers = futures_util::future::join_all(sends).await;
    for answer in answers {
        match answer.status {
            200 => assert_eq!(answer.body["name"], json!(["slack"])),
            _ => drop(answer.expect_problem(409, "idempotency-in-progress")),
        }
    }
    assert_eq!(audited(&world).await, 1);
    world.stop().await;
}

#[actix::test]
async fn a_change_is_made_to_its_end_when_nobody_waits_for_its_answer() {
    let world = World::start().await;
    for (n, request) in
        [pause("k-1", "one"), TestRequest::post().set_json(json!({ "scope": "channel", "name": ["two"] }))]
            .into_iter()
            .enumerate()
    {
        let mut sending = Box::pin(world.api.send("/v1/pauses", request));
        // It has begun, and the client goes away.
        let polled = futures_util::poll!(&mut sending);
        assert!(polled.is_pending());
        drop(sending);
        loop {
            let audit = world.api.get("/v1/audit").await.expect(200);
            if audit["items"].as_array().is_some_and(|rows| rows.len() > n && rows[0]["outcome"] == "done") {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let names: Vec<Value> = world.relay.holds().into_iter().map(|hold| json!(hold.name)).collect();
    assert_eq!(names, [json!(["one"]), json!(["two"])]);
    world.stop().await;
}
