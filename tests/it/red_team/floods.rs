//! Too many rows, actions and messages (hazards H5, H9, H10).

use super::battle::{Battle, within};
use nanorelay_actors::report::{DeliveryFilter, DeliveryState};
use nanorelay_actors::testing::{Answer, SessionSpec, TestAgent, database};
use serde_json::json;

/// How many rows the flood has: enough to pass the backlog's limit many times. Ten millions take minutes to write.
const ROWS: &str = "NANORELAY_RED_TEAM_ROWS";

fn flood(agent: &TestAgent, rows: u64, kind: &str) {
    database::open(&agent.folder().join("outbound.db"))
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
             INSERT INTO messages_out (id, seq, timestamp, kind, channel_type, platform_id, content)
               SELECT 'flood-' || i, 2 * i + 1, '', ?2, 'flood', 'flood:C', '{\"text\":\"x\"}' FROM n",
            (i64::try_from(rows).expect("a number"), kind),
        )
        .expect("rows");
}

#[actix_rt::test]
async fn millions_of_rows_fill_no_memory_and_delay_nobody() {
    let rows = std::env::var(ROWS).ok().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    let mut battle = Battle::with(|_| SessionSpec::new("ag-evil").id("sess-victim").chat("flood", "flood:C"));
    let stuck = battle.host.channel("flood");
    stuck.script(|_| Answer::Hang);
    flood(&battle.victim, rows, "chat");
    let relay = battle.start().await;
    for _ in 0..3 {
        battle.neighbour_is_served().await;
    }
    within("the flood reaches its channel", stuck.wait_for(1)).await;
    let list = || async {
        let sessions = relay.sessions(Default::default()).await.expect("the ledger can be read");
        sessions.into_iter().find(|session| session.session_id == "sess-victim")
    };
    let limit = battle.host.settings.limits.backlog_per_session_max;
    loop {
        battle.neighbour_is_served().await;
        let waiting = list().await.map_or(0, |session| session.waiting);
        assert!(waiting <= limit + 256, "{waiting} rows wait in the ledger");
        if waiting >= limit {
            break;
        }
    }
    // Once more, with everything full.
    battle.neighbour_is_served().await;
    assert!(list().await.is_some_and(|session| session.waiting <= limit + 256));
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_backlog_that_cannot_shrink_is_visible() {
    let mut battle = Battle::new();
    battle.host.settings.limits.backlog_per_session_max = 256;
    let row = |_| battle.victim.text_row("later").deliver_after("2099-01-01T00:00:00Z");
    battle.victim.rows((0..600).map(row).collect());
    let relay = battle.start().await;
    battle.is_quarantined(&relay, "256 messages wait, which is the limit").await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn useless_rows_are_dead_and_delay_nobody() {
    let battle = Battle::new();
    flood(&battle.victim, 20_000, "no such kind");
    let relay = battle.start().await;
    for _ in 0..3 {
        battle.neighbour_is_served().await;
    }
    battle.is_dead(&relay, "flood-19999", "unknown kind").await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_flood_of_tasks_ends_at_the_quota_of_the_session_and_of_the_group() {
    let mut battle = Battle::new();
    battle.host.settings.limits.tasks_per_session_max = 30;
    battle.host.settings.limits.tasks_per_agent_group_max = 40;
    let twin = battle.data.session(SessionSpec::new("ag-evil").id("sess-twin"));
    let schedule = |agent: &TestAgent| {
        for number in 0..50 {
            agent.system(&json!({
                "action": "schedule_task", "taskId": format!("t-{}-{number}", agent.session_id()),
                "prompt": "again", "script": null, "processAfter": "2099-01-01T00:00:00Z",
                "recurrence": "* * * * *",
            }));
        }
    };
    schedule(&battle.victim);
    let relay = battle.start().await;
    battle.neighbour_is_served().await;
    within("the relay settles", relay.settle()).await;
    let tasks = |agent: &TestAgent| agent.messages_in().iter().filter(|row| row.kind == "task").count();
    assert_eq!(tasks(&battle.victim), 30);
    schedule(&twin);
    within("the twin's tasks", async {
        while relay.statistics().dead < 60 {
            relay.drain(TICK).await;
        }
    })
    .await;
    assert_eq!(tasks(&twin), 10, "the group has 40");
    let refusals = twin.messages_in();
    let told = refusals.iter().filter(|row| row.content.contains("40 tasks in all its sessions")).count();
    assert_eq!(told, 40, "each refusal is told");
    battle.end(relay).await;
}

const TICK: std::time::Duration = std::time::Duration::from_millis(50);

#[actix_rt::test]
async fn hundreds_of_pending_messages_keep_nobody_busy() {
    let battle = Battle::new();
    let inbox = database::open(&battle.path("inbound.db"));
    inbox
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             INSERT INTO messages_in (id, seq, kind, timestamp, status, content, process_after)
               SELECT 'p-' || i, 2 * i, 'task', '', 'pending', '{}', '2099-01-01 00:00:00' FROM n;",
        )
        .expect("rows");
    database::open(&battle.path("outbound.db"))
        .execute("INSERT INTO processing_ack VALUES ('p-1999', 'completed', datetime('now'))", [])
        .expect("an acknowledgement");
    let relay = battle.start().await;
    within("the relay settles", relay.settle()).await;
    let status = |id: &str| {
        battle.victim.messages_in().into_iter().find(|row| row.id == id).and_then(|row| row.status)
    };
    assert_eq!(status("p-1999").as_deref(), Some("completed"), "the last page is looked at too");
    battle.end(relay).await;
}

/// Two agents that answer each other for ever.
fn loop_pair() -> (Battle, TestAgent) {
    let battle = Battle::new();
    battle.data.allow_agent("ag-evil", "ag-echo").allow_agent("ag-echo", "ag-evil");
    let echo = battle.data.session(SessionSpec::new("ag-echo").id("sess-echo"));
    (battle, echo)
}

#[actix_rt::test]
async fn agents_in_a_loop_are_held_told_once_and_released_by_an_operator() {
    let (mut battle, echo) = loop_pair();
    battle.host.settings.limits.agent_hops_max = 6;
    let relay = battle.start().await;
    for turn in 0..7 {
        let (from, to) = if turn % 2 == 0 { (&battle.victim, "ag-echo") } else { (&echo, "ag-evil") };
        from.to_agent(to, &format!("turn {turn}"));
        relay.drain(TICK * 40).await;
    }
    battle.victim.to_agent("ag-echo", "are you there?");
    relay.drain(TICK * 40).await;
    let filter = DeliveryFilter { states: vec![DeliveryState::Held], ..DeliveryFilter::default() };
    let held = relay.deliveries(filter.clone()).await.expect("the ledger can be read");
    assert_eq!((relay.statistics().routed, held.len()), (6, 2), "{held:?}");
    assert!(held.iter().all(|record| record.error_class.as_deref() == Some("agent_budget")), "{held:?}");
    let notices = battle.victim.messages_in();
    let notices: Vec<_> = notices.iter().filter(|row| row.content.contains("delivery_held")).collect();
    assert_eq!(notices.len(), 1, "told once: {notices:?}");
    assert_eq!(notices[0].trigger, Some(0), "and not woken");
    assert!(battle.victim.delivered().len() == 3, "what is held is neither delivered nor failed");
    assert_eq!(relay.replay_all(filter, None).await.expect("released"), 2);
    within("the relay settles", relay.settle()).await;
    assert_eq!(relay.statistics().routed, 8);
    battle.end(relay).await;
}

#[actix_rt::test]
async fn messages_to_one_agent_beyond_so_many_a_minute_are_held() {
    let (mut battle, echo) = loop_pair();
    battle.host.settings.limits.agent_messages_per_minute_max = 5;
    for number in 0..12 {
        battle.victim.to_agent("ag-echo", &format!("message {number}"));
    }
    let other = battle.victim.text("to a chat");
    let relay = battle.start().await;
    battle.is_shown(&other).await;
    within("the relay settles", relay.settle()).await;
    assert_eq!(relay.statistics().routed, 5);
    assert_eq!(echo.messages_in().len(), 5);
    let held = relay.drain(TICK).await.held;
    assert_eq!(held, 7);
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_quarantined_agent_holds_up_nobody_who_writes_to_it() {
    let battle = Battle::new();
    battle.data.allow_agent("ag-good", "ag-evil");
    std::fs::remove_file(battle.path("inbound.db")).expect("a file");
    std::os::unix::fs::symlink("/nowhere", battle.path("inbound.db")).expect("a link");
    let relay = battle.start().await;
    battle.is_quarantined(&relay, "symbolic link").await;
    let id = battle.neighbour.to_agent("ag-evil", "hello?");
    let waits =
        |state| DeliveryFilter { states: vec![state], message_id: Some(id.clone()), ..Default::default() };
    within("the message waits for another try", async {
        loop {
            relay.drain(TICK).await;
            let found = relay.deliveries(waits(DeliveryState::Retrying)).await;
            if !found.expect("the ledger can be read").is_empty() {
                return;
            }
        }
    })
    .await;
    battle.end(relay).await;
}
