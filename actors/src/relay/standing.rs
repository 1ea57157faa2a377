//! How things stand, and the metrics.

use super::{OperationError, Relay};
use crate::engine::conditions::Readings;
use crate::model::hold::HoldCause;
use crate::model::time::Timestamp;
use crate::report::{SessionCounts, Standing};
use crate::store::central::{CentralSnapshot, ContainerStatus, SessionStatus};

impl Relay {
    /// How things stand: what waits, since when, and what fails. With a large backlog the answer may be up to a minute
    /// old.
    pub async fn standing(&self) -> Result<Standing, OperationError> {
        let read = self.read(|engine| {
            let of_ledger = engine.ledger_reader.standing(engine.now())?;
            let sessions =
                SessionCounts { quarantined: of_ledger.quarantined, ..session_counts(&engine.snapshot()) };
            Ok(Standing {
                counts: of_ledger.counts,
                oldest_undelivered: of_ledger.oldest,
                failing: of_ledger.failing,
                busiest: of_ledger.busiest,
                sessions,
            })
        });
        self.engine().last_standing.or_read(read).await
    }

    /// All metrics for a monitoring system, in the OpenMetrics text format. What cannot be read at the moment stays as
    /// it was when it could.
    pub async fn open_metrics(&self) -> String {
        let readings = self.readings().await;
        let statistics = &self.engine().statistics;
        statistics.conditions.take(&readings);
        statistics.open_metrics()
    }

    /// When this relay was started.
    pub fn started_at(&self) -> Timestamp {
        self.engine().started_at
    }

    /// The time of the relay's clock.
    pub fn now(&self) -> Timestamp {
        self.engine().now()
    }

    async fn readings(&self) -> Readings {
        let now = self.engine().now();
        let standing = self.standing().await.ok();
        let oldest = standing.as_ref().and_then(|standing| standing.oldest_undelivered.as_ref());
        let oldest_ms = oldest.map_or(0, |oldest| now.as_ms().saturating_sub(oldest.since_ms).max(0));
        let holds = self.engine().holds.all(now);
        let of_cause = |cause: HoldCause| {
            let count = holds.iter().filter(|hold| hold.cause == cause).count();
            (cause.as_str(), count as u64)
        };
        let channel = |channel: crate::channel::ChannelSnapshot| {
            (channel.name, channel.queued as u64, channel.blocked_by.is_some())
        };
        Readings {
            oldest_seconds: seconds(oldest_ms),
            started_seconds: seconds(self.started_at().as_ms()),
            standing,
            holds: HoldCause::ALL.map(of_cause).to_vec(),
            channels: self.channel_snapshots().await.into_iter().map(channel).collect(),
            registry: self
                .registry_snapshot()
                .await
                .map(|registry| (registry.living as u64, registry.watched as u64)),
            last_sweep_seconds: self
                .sweep_snapshot()
                .await
                .and_then(|sweep| sweep.last_sweep_ms)
                .map(seconds),
        }
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn session_counts(snapshot: &CentralSnapshot) -> SessionCounts {
    let mut counts = SessionCounts { total: snapshot.sessions.len() as u64, ..SessionCounts::default() };
    for facts in snapshot.sessions.values() {
        counts.active += u64::from(facts.status == SessionStatus::Active);
        counts.running += u64::from(facts.container_status != ContainerStatus::Stopped);
    }
    counts
}
