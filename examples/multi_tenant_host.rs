//! Thousands of sessions of three tenants on one channel: who pays for more gets more, and nobody is starved.
//!
//! Run it: `cargo run --example multi_tenant_host`

use nanorelay_actors::model::hold::HoldScope;
use nanorelay_actors::model::ids::ChannelType;
use nanorelay_actors::model::tenant::TenantSettings;
use nanorelay_actors::relay::{Relay, Resume, StoppedHost};
use nanorelay_actors::testing::{DataDir, MockChannel, SessionSpec, fast_settings};
use std::collections::BTreeMap;
use std::time::Duration;

/// Name and weight.
const TENANTS: [(&str, u32); 3] = [("acme", 5), ("birch", 2), ("cedar", 1)];
const SESSIONS_PER_TENANT: usize = 700;
/// So many deliveries are looked at while all tenants still have something to send.
const LOOKED_AT: usize = 800;

fn main() {
    let data = DataDir::new();
    for (tenant, _) in TENANTS {
        for number in 0..SESSIONS_PER_TENANT {
            let chat = format!("{tenant}:{number}");
            let spec = SessionSpec::new(&format!("{tenant}-agents")).id(&format!("sess-{tenant}-{number}"));
            data.session(spec.chat("slack", &chat)).text("the daily report");
        }
    }
    let mut settings = fast_settings();
    settings.limits.in_flight_per_channel_max = 8;
    settings.tenants = TENANTS
        .map(|(name, weight)| TenantSettings {
            name: name.to_owned(),
            agent_groups: vec![format!("{name}-*")],
            weight,
            in_flight_max: None,
            wake_on_failure: None,
            timezone: None,
        })
        .to_vec();

    // Everybody queues up before the doors open, so that the shares can be seen.
    let channel = HoldScope::Channel(ChannelType::new("slack").expect("a name"));
    let stopped = StoppedHost::open(data.path()).expect("no host runs here");
    stopped.pause(channel.clone(), None, "until all sessions are read").expect("a pause");
    drop(stopped);

    let slack = MockChannel::new();
    let report = actix::System::new().block_on(async {
        let relay = Relay::builder(data.path()).settings(settings).channel("slack", slack.clone());
        let relay = relay.start().await.expect("the relay starts");
        relay.settle().await;
        relay.resume(channel, Resume::Pause).await.expect("a pause to end");
        let report = relay.drain(Duration::from_secs(120)).await;
        relay.shutdown(Duration::from_secs(10)).await;
        report
    });
    assert_eq!(report.delivered as usize, TENANTS.len() * SESSIONS_PER_TENANT);

    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let calls = slack.calls();
    for call in calls.iter().take(LOOKED_AT) {
        let (tenant, _) = call.agent_group_id.as_str().split_once('-').expect("a group of a tenant");
        *counts.entry(tenant).or_default() += 1;
    }
    let weights: u32 = TENANTS.iter().map(|(_, weight)| weight).sum();
    println!("of the first {LOOKED_AT} of {} deliveries:", calls.len());
    for (tenant, weight) in TENANTS {
        let count = counts[tenant];
        let fair = LOOKED_AT * weight as usize / weights as usize;
        println!("  {tenant:6} weight {weight}: {count:4} delivered, its share is {fair}");
        assert!(count.abs_diff(fair) <= LOOKED_AT / 20, "{tenant} got {count} instead of {fair}");
    }
}
