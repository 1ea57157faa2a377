//! The control plane over HTTP: in this process, mounted in an application, and served by the program.

mod attacks;
mod audits;
mod chat;
mod deliveries;
mod health;
mod parties;
mod pauses;
mod repeats;
mod resources;
mod server;
mod sessions;
mod tokens;

use crate::support::api::Api;
use crate::support::host::TestHost;
use nanorelay_actors::model::ids::SessionId;
use nanorelay_actors::relay::Relay;
use nanorelay_actors::testing::{DataDir, MockChannel, SessionSpec, TestAgent};
use std::sync::Arc;
use std::time::Duration;

/// How long a relay may take to end.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

/// A relay with two sessions of different tenants, `ag-a` and `ag-b`, and its control plane.
pub struct World {
    /// Removed with this value.
    _data: DataDir,
    pub a: TestAgent,
    pub b: TestAgent,
    pub slack: Arc<MockChannel>,
    pub relay: Relay,
    pub api: Api,
}

impl World {
    pub async fn start() -> Self {
        let data = DataDir::new();
        let session = |name: &str| {
            let spec = SessionSpec::new(&format!("ag-{name}")).id(&format!("sess-{name}"));
            data.session(spec.chat("slack", &format!("slack:{name}")))
        };
        let (a, b) = (session("a"), session("b"));
        let mut host = TestHost::new(data.path());
        let slack = host.channel("slack");
        let relay = host.start().await;
        let api = Api::of(&relay).await;
        Self { _data: data, a, b, slack, relay, api }
    }

    /// The same control plane as somebody else sees it; see [`Api::caller`].
    pub async fn api_for(&self, caller: &str) -> Api {
        Api::of(&self.relay).await.caller(caller)
    }

    /// Waits until all that the agents have committed is read, heard of or not, and what can be done about it is done.
    pub async fn settle(&self) {
        for session in ["sess-a", "sess-b"] {
            self.relay.rescan(SessionId::new(session).expect("a session's id")).await;
        }
        self.relay.settle().await;
    }

    pub async fn stop(self) {
        self.relay.shutdown(SHUTDOWN_DEADLINE).await;
    }
}
