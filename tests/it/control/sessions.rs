//! `/v1/sessions`.

use super::World;
use actix_web::test::TestRequest;
use serde_json::json;

#[actix::test]
async fn a_session_is_released_with_or_without_a_reason_and_only_by_its_tenant() {
    let world = World::start().await;
    let released = world.api.send("/v1/sessions/sess-a/release", TestRequest::post()).await.expect(200);
    assert_eq!(released, json!({ "released": false }), "it could be served before");
    let tenant = world.api_for("ann/operate/ag-a").await;
    tenant.post("/v1/sessions/sess-a/release", json!({ "reason": "moved" })).await.expect(200);
    tenant.post("/v1/sessions/sess-b/release", json!({})).await.expect_problem(404, "not-found");
    let audit = world.api.get("/v1/audit?action=session.release").await.expect(200);
    let rows = audit["items"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "what is not found is no change");
    assert_eq!(
        (&rows[0]["who"], &rows[0]["reason"], &rows[0]["tenant"]),
        (&json!("ann"), &json!("moved"), &json!("ag-a"))
    );
    world.stop().await;
}

#[actix::test]
async fn an_id_in_a_path_is_decoded_once_and_never_leads_elsewhere() {
    let world = World::start().await;
    for id in
        ["..", "%2e%2e", "a%2Fb", "%2e%2e%2Fsess-a", "sess-a%00", "%2573ess-a", "sess-a%2f..%2fsess-a", "%ff"]
    {
        let answer = world.api.send(&format!("/v1/sessions/{id}/release"), TestRequest::post()).await;
        assert!(matches!(answer.status, 400 | 404), "{id}: {answer:?}");
    }
    let encoded = world.api.send("/v1/sessions/%73ess-%61/release", TestRequest::post()).await;
    encoded.expect(200);
    world.stop().await;
}
