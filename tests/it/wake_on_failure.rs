//! Whether an agent is woken by messages of its own that failed.

use crate::support::host::TestHost;
use crate::support::takeover::assert_compact_json;
use crate::support::wait::settled;
use crate::support::waker::Waker;
use nanorelay_actors::limits::FAILURE_WAKE_INTERVAL;
use nanorelay_actors::model::tenant::TenantSettings;
use nanorelay_actors::testing::{DataDir, RowSpec, SessionSpec, TestAgent, VirtualClock};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

struct World {
    _data: DataDir,
    agent: TestAgent,
    host: TestHost,
    clock: Arc<VirtualClock>,
    waker: Arc<Waker>,
}

fn world() -> World {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-main").id("sess-a").chat("slack", "slack:C1").stopped());
    let mut host = TestHost::new(data.path());
    let clock = VirtualClock::starting_at_text("2026-11-22T12:00:00Z");
    host.clock = clock.clone();
    World { _data: data, agent, host, clock, waker: Arc::default() }
}

impl World {
    /// Writes messages to a chat that nobody permitted, and has them die.
    async fn fail(&self, count: usize) {
        let row = || RowSpec::text("slack", "slack:nowhere", "hello");
        self.agent.rows((0..count).map(|_| row()).collect());
        let relay = self.host.start_with(|builder| builder.runtime(self.waker.clone())).await;
        settled(&relay).await;
        relay.shutdown(SHUTDOWN_DEADLINE).await;
    }
}

#[actix_rt::test]
async fn a_failure_is_context_only_and_wakes_nobody_by_default() {
    let world = world();
    world.fail(2).await;
    let rows = world.agent.messages_in();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.kind == "system" && row.trigger == Some(0)), "{rows:?}");
    assert_eq!(world.waker.wakes(), 0);
}

#[actix_rt::test]
async fn failures_that_come_together_wake_the_agent_once_where_that_is_wanted() {
    let mut world = world();
    world.host.settings.wake_on_failure = true;
    world.fail(3).await;
    assert_eq!(world.waker.wakes(), 1);
    let rows = world.agent.messages_in();
    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert_eq!((row.kind.as_str(), row.trigger), ("chat", Some(1)));
        let origin = [&row.channel_type, &row.platform_id].map(|part| part.as_deref());
        assert_eq!(origin, [Some("agent"), Some("ag-main")], "a notice of the host");
        assert_compact_json(&row.content);
        let content: Value = serde_json::from_str(&row.content).unwrap();
        assert_eq!((&content["type"], &content["sender"]), (&"delivery_failed".into(), &"system".into()));
        assert!(content["text"].as_str().unwrap().starts_with("Message #"), "{content}");
        world.agent.ack(&row.id, "completed");
    }
}

#[actix_rt::test]
async fn what_a_woken_agent_writes_in_vain_does_not_wake_it_again_at_once() {
    let mut world = world();
    world.host.settings.wake_on_failure = true;
    let relay = world.host.start_with(|builder| builder.runtime(world.waker.clone())).await;
    let fail = async || {
        world.agent.row(RowSpec::text("slack", "slack:nowhere", "hello"));
        relay.drain(Duration::from_secs(60)).await;
        let row = world.agent.messages_in().pop().expect("a notice");
        world.agent.ack(&row.id, "completed");
        row.kind
    };
    assert_eq!(fail().await, "chat");
    assert_eq!(fail().await, "system");
    world.clock.step_ms(FAILURE_WAKE_INTERVAL.as_millis() as i64);
    assert_eq!(fail().await, "chat");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_tenant_may_say_otherwise() {
    for (tenants_wish, wakes) in [(Some(true), 1), (None, 0)] {
        let mut world = world();
        world.host.settings.tenants = vec![TenantSettings {
            timezone: None,
            name: "acme".to_owned(),
            agent_groups: vec!["ag-m*".to_owned()],
            weight: 1,
            in_flight_max: None,
            wake_on_failure: tenants_wish,
        }];
        world.fail(1).await;
        assert_eq!(world.waker.wakes(), wakes);
    }
}
