//! The state of the actors: for monitoring, and for tests.

use super::Relay;
use crate::channel::{ChannelSnapshot, ObserveChannel};
use crate::model::ids::SessionId;
use crate::registry::{ObserveRegistry, RegistrySnapshot};
use crate::session::messages::{ObserveSession, SessionSnapshot};
use crate::sweep::{ObserveSweep, SweepSnapshot};
use crate::task_scheduler::{ObserveTaskScheduler, TaskSchedulerSnapshot};
use serde::Serialize;

/// The actors of a relay, but for those of its sessions. One that is being restarted is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RelaySnapshot {
    /// One entry for each session; hears of file events.
    pub registry: Option<RegistrySnapshot>,
    /// The supervisor, with what its last sweep found.
    pub sweep: Option<SweepSnapshot>,
    /// Plans tasks, and knows who is due.
    pub task_scheduler: Option<TaskSchedulerSnapshot>,
    /// One for each channel account, by name.
    pub channels: Vec<ChannelSnapshot>,
    /// Sessions that have an actor now; see [`Relay::session_snapshot`].
    pub session_actors: usize,
}

impl Relay {
    /// The state of all actors but those of the sessions, which may be many.
    ///
    /// ```
    /// # use nanorelay_actors::relay::Relay;
    /// # let data = nanorelay_actors::testing::DataDir::new();
    /// # actix::System::new().block_on(async {
    /// let relay = Relay::builder(data.path()).start().await.expect("a data directory without a host");
    /// let snapshot = relay.snapshot().await;
    /// assert_eq!(snapshot.task_scheduler.map(|scheduler| scheduler.armed), Some(0));
    /// # relay.shutdown(std::time::Duration::from_secs(5)).await;
    /// # });
    /// ```
    pub async fn snapshot(&self) -> RelaySnapshot {
        let scheduler = match self.engine().directory.task_scheduler() {
            Some(scheduler) => scheduler.send(ObserveTaskScheduler).await.ok(),
            None => None,
        };
        RelaySnapshot {
            registry: self.registry_snapshot().await,
            sweep: self.sweep_snapshot().await,
            task_scheduler: scheduler,
            channels: self.channel_snapshots().await,
            session_actors: self.engine().directory.sessions().len(),
        }
    }

    /// The state of a session's actor; `None` when it has none now, because there is nothing to do for it.
    pub async fn session_snapshot(&self, session: &SessionId) -> Option<SessionSnapshot> {
        self.engine().directory.session(session)?.address.send(ObserveSession).await.ok()
    }

    /// The state of the registry; `None` while it is being restarted.
    pub async fn registry_snapshot(&self) -> Option<RegistrySnapshot> {
        self.engine().directory.registry()?.send(ObserveRegistry).await.ok()
    }

    /// The state of the supervisor, with what its last sweep found; `None` while it is being restarted.
    pub async fn sweep_snapshot(&self) -> Option<SweepSnapshot> {
        self.engine().directory.sweep()?.send(ObserveSweep).await.ok()
    }

    /// The state of each channel account whose actor is not being restarted, by name.
    pub async fn channel_snapshots(&self) -> Vec<ChannelSnapshot> {
        let mut snapshots = Vec::new();
        for (_, channel) in self.engine().directory.channels() {
            snapshots.extend(channel.send(ObserveChannel).await.ok());
        }
        snapshots.sort_by(|a, b| a.name.cmp(&b.name));
        snapshots
    }
}
