//! The channel accounts as operators see them.

use super::Relay;
use crate::channel::ChannelSnapshot;
use crate::channel::account::ChannelAccount;
use crate::channel::adapter::Idempotency;
use crate::model::rate_limit::Rate;
use crate::model::time::Timestamp;
use crate::report::{BreakerRecord, ChannelRecord, RateRecord};
use crate::settings::{OnAmbiguous, OnBlock};
use std::sync::Arc;

impl Relay {
    /// The channel accounts, by name.
    pub async fn channels(&self) -> Vec<ChannelRecord> {
        let snapshots = self.channel_snapshots().await;
        let engine = self.engine();
        let now = engine.now();
        let record = |account: &Arc<ChannelAccount>| {
            let snapshot = snapshots.iter().find(|snapshot| snapshot.name == account.name.as_str());
            record(account, snapshot, engine.statistics.attempts_of(&account.name), now)
        };
        let mut records: Vec<ChannelRecord> = engine.channels.all().map(record).collect();
        records.sort_by(|a, b| a.name.cmp(&b.name));
        records
    }
}

fn record(
    account: &ChannelAccount,
    snapshot: Option<&ChannelSnapshot>,
    (attempts, failed): (u64, u64),
    now: Timestamp,
) -> ChannelRecord {
    let settings = &account.settings;
    let count = |of: fn(&ChannelSnapshot) -> usize| snapshot.map(|snapshot| of(snapshot) as u64);
    ChannelRecord {
        name: account.name.to_string(),
        idempotency: match account.adapter.idempotency() {
            Idempotency::NativeKey => "native_key",
            Idempotency::Reconcile => "reconcile",
            Idempotency::None => "none",
        }
        .to_owned(),
        on_ambiguous: on_ambiguous(account).to_owned(),
        on_block: match settings.on_block {
            OnBlock::Wait => "wait".to_owned(),
            OnBlock::ParkAfter(attempts) => format!("park-after:{attempts}"),
            OnBlock::Skip => "skip".to_owned(),
        },
        queued: count(|snapshot| snapshot.queued),
        in_flight: count(|snapshot| snapshot.in_flight),
        lanes_held_back: count(|snapshot| snapshot.lanes_held_back),
        blocked_by: snapshot.and_then(|snapshot| snapshot.blocked_by.clone()),
        blocked_until: snapshot
            .and_then(|snapshot| snapshot.blocked_until_ms)
            .map(|ms| Timestamp::from_ms(ms).to_iso()),
        breaker: breaker(account, now),
        rate: settings.rates.account.map(rate),
        destination_rate: settings.rates.destination.map(rate),
        attempts,
        failed,
    }
}

/// What is really done, not what was written: `auto` is one of the others.
fn on_ambiguous(account: &ChannelAccount) -> &'static str {
    match account.settings.on_ambiguous {
        OnAmbiguous::Hold => "hold",
        _ if account.reconciles() => "reconcile",
        _ if account.may_resend() => "resend",
        _ => "hold",
    }
}

fn breaker(account: &ChannelAccount, now: Timestamp) -> BreakerRecord {
    let blocked = account.breaker_blocked(now);
    BreakerRecord {
        is_open: blocked.is_some(),
        until: blocked.and_then(|blocked| blocked.until).map(Timestamp::to_iso),
        failures: account.settings.breaker.failures,
    }
}

fn rate(rate: Rate) -> RateRecord {
    RateRecord { per_second: rate.per_second(), burst: rate.burst() }
}
