//! `/livez`, `/readyz`.

use super::World;
use nanorelay_actors::testing::Answer;
use serde_json::Value;
use std::time::Duration;

fn failing(body: &Value) -> Vec<&str> {
    let checks = body["checks"].as_array().expect("checks").iter();
    checks.filter(|check| check["is_ok"] == false).filter_map(|check| check["name"].as_str()).collect()
}

#[actix::test]
async fn a_host_that_works_is_ready_for_everybody_and_one_that_ends_is_not() {
    let world = World::start().await;
    let nobody = world.api_for("").await;
    for path in ["/readyz", "/healthz"] {
        let body = nobody.get(path).await.expect(200);
        assert_eq!(body["status"], "ok");
        let names: Vec<_> = body["checks"].as_array().unwrap().iter().map(|check| &check["name"]).collect();
        assert_eq!(names, ["ledger", "registry", "sweep", "accepting"]);
    }
    world.relay.shutdown(Duration::from_secs(20)).await;
    let body = nobody.get("/readyz").await.expect(503);
    assert_eq!(body["status"], "failing");
    assert!(failing(&body).contains(&"accepting") && failing(&body).contains(&"registry"), "{body}");
    assert_eq!(nobody.get("/livez").await.expect(200)["status"], "ok", "its threads still turn");
}

#[actix::test]
async fn a_host_that_drains_is_not_ready_meanwhile() {
    let world = World::start().await;
    world.slack.close_gate();
    world.slack.next([Answer::gate()]);
    world.a.text("is held at the gate");
    let relay = world.relay.clone();
    let draining = actix_rt::spawn(async move { relay.drain(Duration::from_secs(600)).await });
    world.slack.wait_for(1).await;
    let body = world.api.get("/readyz").await.expect(503);
    assert_eq!(failing(&body), ["accepting"]);
    draining.abort();
    assert!(draining.await.is_err());
    world.slack.open_gate();
    world.api.get("/readyz").await.expect(200);
    world.stop().await;
}
