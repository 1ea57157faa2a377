//! The lanes of one channel account: first in, first out each; a lane that waits holds up nobody else.

use crate::model::ids::{AgentGroupId, MessageId, SessionId};
use crate::model::lanes::{LaneId, ReadyLanes};
use crate::model::message::{DeliveryKey, Destination};
use crate::model::tenant::Tenant;
use crate::model::time::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// A message in its lane.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    /// The session's and the message's names.
    pub fn names(&self) -> (&SessionId, &MessageId) {
        (&self.session_id, &self.message_id)
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
    /// It waits in [`ChannelQueue::waiting`] until that time, under that number.
    Waiting(Timestamp, u64),
    /// Something holds it back, for an unknown time.
    Parked,
}

#[derive(Debug)]
struct LaneQueue {
    /// Whose turn it takes.
    tenant: Arc<Tenant>,
    messages: VecDeque<QueuedDelivery>,
    state: LaneState,
}

/// All lanes of one channel account.
#[derive(Debug, Default)]
pub(super) struct ChannelQueue {
    lanes: HashMap<LaneId, LaneQueue>,
    ready: ReadyLanes,
    /// Lanes in the order in which they wake; those of one moment in the order in which they began to wait, or the
    /// same one would always come first.
    waiting: BTreeMap<(Timestamp, u64), LaneId>,
    /// The number of the next one that waits.
    next_number: u64,
    /// Lanes that something other than their own message holds back, by the number under which they began to wait;
    /// those with a time are also in `waiting`.
    held_back: BTreeMap<u64, LaneId>,
    known: HashSet<DeliveryKey>,
}

impl ChannelQueue {
    /// Adds a message to its lane; one that is there already stays as it is. `tenant` says who it belongs to.
    pub fn push(
        &mut self,
        item: QueuedDelivery,
        tenant: impl FnOnce(&AgentGroupId) -> Arc<Tenant>,
        now: Timestamp,
    ) {
        if !self.known.insert(item.key()) {
            return;
        }
        let id = item.lane_id();
        let Some(lane) = self.lanes.get_mut(&id) else {
            let tenant = tenant(&item.agent_group_id);
            let messages = VecDeque::from([item]);
            self.lanes.insert(id.clone(), LaneQueue { tenant, messages, state: LaneState::Ready });
            self.settle_lane(&id, now);
            return;
        };
        // A replayed message goes back to its place, but never before the one on its way.
        let first_free = usize::from(lane.state == LaneState::InFlight);
        let position = lane.messages.partition_point(|other| other.seq <= item.seq).max(first_free);
        lane.messages.insert(position, item);
    }

    /// Takes the next message to send, and its tenant; its lane is then in flight.
    pub fn pop_ready(&mut self) -> Option<(QueuedDelivery, Arc<Tenant>)> {
        let id = self.ready.pop()?;
        let lane = self.lanes.get_mut(&id)?;
        lane.state = LaneState::InFlight;
        Some((lane.messages.front()?.clone(), Arc::clone(&lane.tenant)))
    }

    /// The message in flight is settled: the lane goes on with the next one.
    pub fn settled(&mut self, item: &QueuedDelivery, now: Timestamp) {
        self.known.remove(&item.key());
        let id = item.lane_id();
        let Some(lane) = self.landed(&id) else { return };
        lane.messages.pop_front();
        if lane.messages.is_empty() {
            self.lanes.remove(&id);
        } else {
            self.settle_lane(&id, now);
        }
    }

    /// The message behind the one in flight, and its tenant, when it may be sent now without taking a turn from
    /// another lane.
    pub fn behind(&self, item: &QueuedDelivery, now: Timestamp) -> Option<(&QueuedDelivery, &Arc<Tenant>)> {
        let lane = self.lanes.get(&item.lane_id()).filter(|lane| lane.state == LaneState::InFlight)?;
        let is_first = lane.messages.front()?.message_id == item.message_id;
        let next = lane.messages.get(1)?;
        let may_go = is_first
            && next.not_before.is_none_or(|at| at <= now)
            && self.ready.has_nobody_waiting(&lane.tenant.name);
        may_go.then_some((next, &lane.tenant))
    }

    /// The message in flight is settled, and the one behind it is in flight now.
    pub fn went_on(&mut self, item: &QueuedDelivery) {
        self.known.remove(&item.key());
        if let Some(lane) = self.lanes.get_mut(&item.lane_id()) {
            lane.messages.pop_front();
        }
    }

    /// The message in flight must be tried again; the lane waits for it.
    pub fn retry(&mut self, item: &QueuedDelivery, at: Timestamp, now: Timestamp) {
        let id = item.lane_id();
        if let Some(first) = self.landed(&id).and_then(|lane| lane.messages.front_mut()) {
            first.not_before = Some(at);
            self.settle_lane(&id, now);
        }
    }

    /// The popped message may not be sent now: its lane is held back until a time, or until
    /// [`ChannelQueue::look_again`].
    pub fn hold_back(&mut self, item: &QueuedDelivery, until: Option<Timestamp>) {
        let id = item.lane_id();
        if self.landed(&id).is_none() {
            return;
        }
        self.held_back.insert(self.next_number, id.clone());
        match until {
            Some(at) => self.wait(&id, at),
            None => {
                self.next_number += 1;
                self.set_state(&id, LaneState::Parked);
            }
        }
    }

    /// What held lanes back may be over: all of them are tried again.
    pub fn look_again(&mut self, now: Timestamp) {
        for (_, id) in std::mem::take(&mut self.held_back) {
            if let Some(LaneState::Waiting(at, number)) = self.lanes.get(&id).map(|lane| lane.state) {
                self.waiting.remove(&(at, number));
            }
            self.settle_lane(&id, now);
        }
    }

    /// Moves lanes whose time has come to the ready ones.
    pub fn wake(&mut self, now: Timestamp) {
        while let Some(entry) = self.waiting.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, number), id) = entry.remove_entry();
            self.held_back.remove(&number);
            self.settle_lane(&id, now);
        }
    }

    /// When the next waiting lane's time comes.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether a lane could send now.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Lanes that something other than their own message holds back.
    pub fn held_back(&self) -> usize {
        self.held_back.len()
    }

    /// Messages in all lanes.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// A popped lane that is no longer in flight.
    fn landed(&mut self, id: &LaneId) -> Option<&mut LaneQueue> {
        let lane = self.lanes.get_mut(id)?;
        self.ready.finished(&lane.tenant.name);
        Some(lane)
    }

    fn settle_lane(&mut self, id: &LaneId, now: Timestamp) {
        let Some(lane) = self.lanes.get_mut(id) else { return };
        let Some(first) = lane.messages.front() else { return };
        match first.not_before {
            Some(at) if at > now => self.wait(id, at),
            _ => {
                lane.state = LaneState::Ready;
                self.ready.push(&lane.tenant, id.clone());
            }
        }
    }

    fn wait(&mut self, id: &LaneId, at: Timestamp) {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.insert((at, number), id.clone());
        self.set_state(id, LaneState::Waiting(at, number));
    }

    fn set_state(&mut self, id: &LaneId, state: LaneState) {
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{ChannelType, PlatformId, ThreadId};
    use crate::model::message::Lane;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
    const LATER: Timestamp = Timestamp::from_ms(1_800_000_001_000);

    fn tenant(group: &AgentGroupId) -> Arc<Tenant> {
        Arc::new(Tenant {
            name: group.into(),
            weight: 1,
            in_flight_max: usize::MAX,
            wake_on_failure: None,
            timezone: None,
        })
    }

    fn item(thread: &str, seq: i64) -> QueuedDelivery {
        let destination = Destination {
            channel_type: ChannelType::new("slack").unwrap(),
            platform_id: PlatformId::new("slack:C1").unwrap(),
            thread_id: Some(ThreadId::new(thread).unwrap()),
        };
        QueuedDelivery {
            session_id: SessionId::new("s").unwrap(),
            agent_group_id: AgentGroupId::new("g").unwrap(),
            message_id: MessageId::new(&format!("{thread}-{seq}")).unwrap(),
            seq,
            lane_key: Arc::from(Lane::Channel(destination.clone()).key()),
            destination,
            kind: Arc::from("chat"),
            content: Arc::from("{}"),
            files: Arc::from([]),
            not_before: None,
        }
    }

    fn queue(items: Vec<QueuedDelivery>) -> ChannelQueue {
        let mut queue = ChannelQueue::default();
        for item in items {
            queue.push(item, tenant, NOW);
        }
        queue
    }

    fn pop(queue: &mut ChannelQueue) -> Option<QueuedDelivery> {
        queue.pop_ready().map(|(item, _)| item)
    }

    #[test]
    fn lanes_that_share_a_limit_take_turns_at_it() {
        let mut queue =
            queue((1..=3).flat_map(|seq| ["a", "b", "c"].map(|thread| item(thread, seq))).collect());
        let (mut now, mut sent) = (NOW, Vec::new());
        while queue.len() > 0 {
            queue.wake(now);
            // One send each second for all lanes together.
            let first = pop(&mut queue).expect("a lane is ready");
            now = now.plus(std::time::Duration::from_secs(1));
            while let Some(other) = pop(&mut queue) {
                queue.hold_back(&other, Some(now));
            }
            sent.push(first.message_id.to_string());
            queue.settled(&first, now);
            while let Some(next) = pop(&mut queue) {
                queue.hold_back(&next, Some(now));
            }
        }
        assert_eq!(sent, ["a-1", "b-1", "c-1", "a-2", "b-2", "c-2", "a-3", "b-3", "c-3"]);
    }

    #[test]
    fn what_is_held_back_keeps_its_own_time_and_its_place() {
        let mut queue = queue(vec![item("a", 2)]);
        let held = pop(&mut queue).unwrap();
        queue.hold_back(&held, None);
        queue.push(item("a", 1), tenant, NOW);
        assert_eq!((queue.held_back(), queue.next_wake(), queue.has_ready()), (1, None, false));
        queue.look_again(NOW);
        let first = pop(&mut queue).unwrap();
        assert_eq!(first.seq, 1, "a lower seq goes first");
        queue.retry(&first, LATER, NOW);
        queue.look_again(NOW);
        assert_eq!(queue.next_wake(), Some(LATER), "a retry's time is not forgotten");
        assert_eq!(pop(&mut queue), None);
        queue.wake(LATER);
        assert_eq!(pop(&mut queue).map(|item| item.seq), Some(1));
    }

    #[test]
    fn what_is_looked_at_again_comes_in_the_order_in_which_it_began_to_wait() {
        let threads: Vec<String> = (0..20).map(|number| format!("{}", number * 7 % 20)).collect();
        let mut queue = queue(threads.iter().map(|thread| item(thread, 1)).collect());
        for has_end in [true, false].into_iter().cycle() {
            let Some(item) = pop(&mut queue) else { break };
            queue.hold_back(&item, has_end.then_some(LATER));
        }
        queue.look_again(NOW);
        let order: Vec<_> =
            std::iter::from_fn(|| pop(&mut queue)).map(|item| item.message_id.to_string()).collect();
        assert_eq!(order, threads.iter().map(|thread| format!("{thread}-1")).collect::<Vec<_>>());
    }

    #[test]
    fn a_lane_goes_on_with_the_message_behind_unless_it_or_another_lane_must_wait() {
        let mut queue = queue(vec![item("a", 1), item("a", 2), item("a", 3)]);
        let first = pop(&mut queue).unwrap();
        let second = queue.behind(&first, NOW).map(|(next, _)| next.clone()).unwrap();
        queue.went_on(&first);
        assert_eq!((second.seq, queue.len()), (2, 2));
        assert!(queue.behind(&first, NOW).is_none(), "it is not the one in flight any more");
        queue.push(item("b", 1), tenant, NOW);
        assert!(queue.behind(&second, NOW).is_none(), "the other lane's turn comes first");
        let other = pop(&mut queue).unwrap();
        assert_eq!(queue.behind(&second, NOW).map(|(next, _)| next.seq), Some(3));
        assert!(queue.behind(&other, NOW).is_none(), "it has no more");
        queue.settled(&second, NOW);
        assert_eq!(pop(&mut queue).map(|item| item.seq), Some(3));
    }

    #[test]
    fn a_lane_that_is_looked_at_again_is_ready_once() {
        let mut queue = queue(vec![item("a", 1)]);
        let held = pop(&mut queue).unwrap();
        queue.hold_back(&held, Some(LATER));
        queue.look_again(NOW);
        queue.wake(LATER);
        assert!(pop(&mut queue).is_some());
        assert_eq!(pop(&mut queue), None);
    }
}
