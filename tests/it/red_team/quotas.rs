//! What one tenant may use of what all share, and who may ask for what.

use super::battle::{Battle, within};
use async_trait::async_trait;
use nanorelay_actors::model::ids::SessionId;
use nanorelay_actors::relay::{Relay, StoppedHost};
use nanorelay_actors::report::SessionFilter;
use nanorelay_actors::system_action::{
    ActionPolicy, ActionRefused, ActionReply, ActionRequest, SystemActionHandler,
};
use nanorelay_actors::testing::Answer;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[actix_rt::test]
async fn attachments_of_one_session_wait_for_each_other() {
    let mut battle = Battle::new();
    battle.host.settings.limits.attachments_per_session_max = 1;
    let row = |number: usize| {
        let row = battle.victim.text_row("").file("a.txt", *b"mine");
        let content = "{\"text\":\"x\",\"files\":[\"a.txt\"]}".to_owned();
        nanorelay_actors::testing::RowSpec { content, ..row }.to(
            "slack",
            "slack:EVIL",
            Some(&format!("thread-{number}")),
        )
    };
    let ids = battle.victim.rows((0..3).map(row).collect());
    battle.slack.on_message(&ids[0], [Answer::Gate(Box::new(Answer::Accept))]);
    let relay = battle.start().await;
    within(
        "the first is on its way",
        battle.slack.wait_until(|calls| calls.iter().any(|call| call.session_id.as_str() == "sess-victim")),
    )
    .await;
    battle.neighbour_is_served().await;
    let of_victim = |battle: &Battle| {
        battle.slack.calls().iter().filter(|call| call.session_id.as_str() == "sess-victim").count()
    };
    assert_eq!(of_victim(&battle), 1, "the others wait");
    battle.slack.open_gate();
    for id in &ids {
        battle.is_shown(id).await;
    }
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_message_beyond_the_sessions_bytes_is_dead() {
    let mut battle = Battle::new();
    battle.host.settings.limits.attachment_bytes_per_session_max = 3;
    let id = battle.message_with_file("with-file", "report.txt");
    let relay = battle.start().await;
    battle.is_dead(&relay, &id, "attachments have 4 bytes, the limit of a session is 3").await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_stopped_host_lists_and_releases_sessions_too() {
    let battle = Battle::new();
    std::fs::write(battle.path("outbound.db"), "no database").expect("a file");
    let relay = battle.start().await;
    battle.is_quarantined(&relay, "damaged").await;
    let (path, victim) = (battle.data.path().to_owned(), battle.victim.session_id().to_owned());
    let data = battle.end_and_keep(relay).await;
    let stopped = StoppedHost::open(&path).expect("no host runs");
    let quarantined = stopped.sessions(&SessionFilter { quarantined: true }).expect("the ledger can be read");
    assert_eq!(quarantined.len(), 1, "{quarantined:?}");
    assert_eq!(quarantined[0].session_id, victim);
    let all = stopped.sessions(&SessionFilter::default()).expect("the ledger can be read");
    assert_eq!(all.len(), 2);
    let session = SessionId::new(&victim).expect("an id");
    assert!(stopped.release(&session).expect("released"));
    assert!(!stopped.release(&session).expect("nothing to release"));
    assert!(stopped.quarantined().expect("the ledger can be read").is_empty());
    drop(data);
}

struct OnlyGood;

#[async_trait]
impl ActionPolicy for OnlyGood {
    async fn permits(&self, action: &str, request: &ActionRequest) -> Result<(), ActionRefused> {
        match request.agent_group_id.as_str() {
            "ag-good" => Ok(()),
            group => Err(ActionRefused(format!("{group} may not {action}"))),
        }
    }
}

#[derive(Default)]
struct Counter(AtomicUsize);

#[async_trait]
impl SystemActionHandler for Counter {
    async fn handle(&self, _: ActionRequest) -> Result<ActionReply, ActionRefused> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(ActionReply::default())
    }
}

#[actix_rt::test]
async fn a_policy_decides_before_a_handler_runs() {
    let battle = Battle::new();
    let refused = battle.victim.system(&json!({ "action": "install_packages", "apt": ["nmap"] }));
    battle.neighbour.system(&json!({ "action": "install_packages", "apt": ["jq"] }));
    let handler = Arc::new(Counter::default());
    let relay = Relay::builder(battle.data.path())
        .settings(battle.host.settings.clone())
        .channel("slack", battle.slack.clone())
        .action("install_packages", handler.clone())
        .action_policy(Arc::new(OnlyGood))
        .start()
        .await
        .expect("the relay starts");
    battle.is_dead(&relay, &refused, "ag-evil may not install_packages").await;
    assert_eq!(handler.0.load(Ordering::Relaxed), 1);
    battle.end(relay).await;
}
