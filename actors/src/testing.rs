//! For tests: real data directories, agents that write them, channels that are scripted, and a clock to steer.
//!
//! ```
//! use nanorelay_actors::testing::{DataDir, MockChannel, SessionSpec};
//!
//! let data = DataDir::new();
//! data.agent_group("ag-main").chat("slack", "slack:C1");
//! let agent = data.session(SessionSpec::new("ag-main").chat("slack", "slack:C1"));
//! let id = agent.text("hello");
//!
//! let slack = MockChannel::new();
//! // Start a relay on `data.path()` with `slack` as its channel, drain it, and then:
//! assert!(agent.delivered().is_empty(), "nobody has delivered {id} yet");
//! assert!(slack.calls().is_empty());
//! ```

pub mod agent;
pub mod contract;
pub mod crash_point;
pub mod data_dir;
pub mod database;
mod delivery;
pub mod fault;
pub mod mock_channel;
mod schema;
pub mod scripted_agents;
pub mod seed_era;
mod settings;
pub mod virtual_clock;

pub use agent::{DeliveredRow, InboundRow, RowSpec, TestAgent};
pub use data_dir::{DataDir, Era, QuestionRow, SessionSpec};
pub use delivery::sample_delivery;
pub use mock_channel::{Answer, Call, MockChannel, Outcome, ReceivedFile};
pub use scripted_agents::{Reaction, ScriptedAgents};
pub use settings::fast_settings;
pub use virtual_clock::VirtualClock;
