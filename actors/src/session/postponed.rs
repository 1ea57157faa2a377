//! Messages that are tried again while their lane goes on (`on_block = "skip"`): they wait in the ledger, as those
//! with a deliver_after do, and join their lane when their time comes.

use super::SessionActor;
use super::step::StepContext;
use crate::engine::Engine;
use crate::model::ids::ChannelType;
use crate::model::message::Lane;
use crate::model::time::Timestamp;
use crate::settings::OnBlock;

impl Engine {
    /// Whether a retry of a message to that type lets its lane go on.
    pub(crate) fn postpones_retries(&self, channel_type: &str) -> bool {
        ChannelType::new(channel_type)
            .is_ok_and(|name| self.channels.serving(&name).settings.on_block == OnBlock::Skip)
    }
}

impl StepContext {
    /// The same for a lane's key.
    pub fn postpones_retries_in(&self, lane_key: &str) -> bool {
        Lane::channel_type_of(lane_key).is_some_and(|name| self.engine.postpones_retries(name.as_str()))
    }
}

impl SessionActor {
    /// A message that was taken out of its lane is tried again at `at`.
    pub(super) fn postponed(&mut self, at: Timestamp) {
        // It was counted as settled.
        self.backlog += 1;
        self.next_scheduled = Some(self.next_scheduled.map_or(at, |earliest| earliest.min(at)));
        self.arm();
    }
}
