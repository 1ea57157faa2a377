//! The lanes of one channel account: first in, first out each; a lane that waits holds up nobody else.

use crate::model::ids::{AgentGroupId, MessageId, SessionId};
use crate::model::lanes::{LaneId, ReadyLanes};
use crate::model::message::{DeliveryKey, Destination};
use crate::model::time::Timestamp;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// A message in its lane.
#[derive(Debug, Clone)]
pub struct QueuedDelivery {
    /// The session that wrote it.
    pub session_id: SessionId,
    /// That session's agent group, the tenant.
    pub agent_group_id: AgentGroupId,
    /// The message.
    pub message_id: MessageId,
    /// Its position.
    pub seq: i64,
    /// The lane's key.
    pub lane_key: Arc<str>,
    /// Where to.
    pub destination: Destination,
    /// The row's kind.
    pub kind: Arc<str>,
    /// The row's content.
    pub content: Arc<str>,
    /// Declared attachments, as the agent wrote them.
    pub files: Arc<[String]>,
    /// Not to be tried before.
    pub not_before: Option<Timestamp>,
}

impl QueuedDelivery {
    /// The message's key.
    pub fn key(&self) -> DeliveryKey {
        DeliveryKey { session_id: self.session_id.clone(), message_id: self.message_id.clone() }
    }

    fn lane_id(&self) -> LaneId {
        LaneId { session_id: self.session_id.clone(), lane_key: Arc::clone(&self.lane_key) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaneState {
    /// In the ready queue.
    Ready,
    /// Its first message is being sent.
    InFlight,
    /// Its first message may not be sent before that time.
    Waiting(Timestamp),
}

#[derive(Debug)]
struct LaneQueue {
    messages: VecDeque<QueuedDelivery>,
    state: LaneState,
}

/// All lanes of one channel account.
#[derive(Debug, Default)]
pub(super) struct ChannelQueue {
    lanes: HashMap<LaneId, LaneQueue>,
    ready: ReadyLanes,
    waiting: BTreeSet<(Timestamp, LaneId)>,
    known: HashSet<DeliveryKey>,
}

impl ChannelQueue {
    /// Adds a message to its lane; one that is there already stays as it is.
    pub fn push(&mut self, item: QueuedDelivery, now: Timestamp) {
        if !self.known.insert(item.key()) {
            return;
        }
        let id = item.lane_id();
        let Some(lane) = self.lanes.get_mut(&id) else {
            let messages = VecDeque::from([item]);
            self.lanes.insert(id.clone(), LaneQueue { messages, state: LaneState::Ready });
            self.settle_lane(&id, now);
            return;
        };
        // A replayed message goes back to its place, but never before the one on its way.
        let first_free = usize::from(lane.state == LaneState::InFlight);
        let position = lane.messages.partition_point(|other| other.seq <= item.seq).max(first_free);
        lane.messages.insert(position, item);
    }

    /// Takes the next message to send; its lane is then in flight.
    pub fn pop_ready(&mut self) -> Option<QueuedDelivery> {
        let id = self.ready.pop()?;
        let lane = self.lanes.get_mut(&id)?;
        lane.state = LaneState::InFlight;
        lane.messages.front().cloned()
    }

    /// The message in flight is settled: the lane goes on with the next one.
    pub fn settled(&mut self, item: &QueuedDelivery, now: Timestamp) {
        self.known.remove(&item.key());
        let id = item.lane_id();
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.messages.pop_front();
        if lane.messages.is_empty() {
            self.lanes.remove(&id);
        } else {
            self.settle_lane(&id, now);
        }
    }

    /// The message in flight must be tried again; the lane waits for it.
    pub fn retry(&mut self, item: &QueuedDelivery, at: Timestamp, now: Timestamp) {
        let id = item.lane_id();
        if let Some(first) = self.lanes.get_mut(&id).and_then(|lane| lane.messages.front_mut()) {
            first.not_before = Some(at);
            self.settle_lane(&id, now);
        }
    }

    /// Moves lanes whose time has come to the ready ones.
    pub fn wake(&mut self, now: Timestamp) {
        while let Some((at, id)) = self.waiting.first().cloned() {
            if at > now {
                return;
            }
            self.waiting.remove(&(at, id.clone()));
            self.settle_lane(&id, now);
        }
    }

    /// When the next waiting lane's time comes.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// Whether a lane could send now.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Messages in all lanes.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    fn settle_lane(&mut self, id: &LaneId, now: Timestamp) {
        let Some(lane) = self.lanes.get_mut(id) else { return };
        let Some(first) = lane.messages.front() else { return };
        match first.not_before {
            Some(at) if at > now => {
                lane.state = LaneState::Waiting(at);
                self.waiting.insert((at, id.clone()));
            }
            _ => {
                lane.state = LaneState::Ready;
                self.ready.push(&first.agent_group_id.clone(), id.clone());
            }
        }
    }
}
