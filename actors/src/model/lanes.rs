//! Whose turn it is: round robin over tenants, then over a tenant's sessions, then over a session's lanes.
//!
//! A tenant with a hundred thousand messages gets the same share of a channel as one with a single message.

use super::ids::{AgentGroupId, SessionId};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A lane within one channel: the session and the lane's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    /// The session.
    pub session_id: SessionId,
    /// [`super::message::Lane::key`].
    pub lane_key: Arc<str>,
}

/// The lanes that have something to send, in turn.
#[derive(Debug, Default)]
pub struct ReadyLanes {
    tenants: Ring<AgentGroupId, Ring<SessionId, VecDeque<LaneId>>>,
    count: usize,
}

#[derive(Debug)]
struct Ring<K, V> {
    turn: VecDeque<K>,
    members: HashMap<K, V>,
}

impl<K, V> Default for Ring<K, V> {
    fn default() -> Self {
        Self { turn: VecDeque::new(), members: HashMap::new() }
    }
}

impl<K: Clone + Eq + std::hash::Hash, V: Default> Ring<K, V> {
    fn member(&mut self, key: &K) -> &mut V {
        if !self.members.contains_key(key) {
            self.turn.push_back(key.clone());
        }
        self.members.entry(key.clone()).or_default()
    }

    /// Takes from the member whose turn it is; `take` also tells whether that member is now empty.
    fn next<T>(&mut self, take: impl FnOnce(&mut V) -> (Option<T>, bool)) -> Option<T> {
        let key = self.turn.pop_front()?;
        let member = self.members.get_mut(&key)?;
        let (taken, empty) = take(member);
        if empty {
            self.members.remove(&key);
        } else {
            self.turn.push_back(key);
        }
        taken
    }
}

impl ReadyLanes {
    /// Adds a lane that became ready. The caller adds a lane only once until it is popped.
    pub fn push(&mut self, tenant: &AgentGroupId, lane: LaneId) {
        let sessions = self.tenants.member(tenant);
        sessions.member(&lane.session_id.clone()).push_back(lane);
        self.count += 1;
    }

    /// Takes the lane whose turn it is.
    pub fn pop(&mut self) -> Option<LaneId> {
        let lane = self.tenants.next(|sessions| {
            let lane = sessions.next(|lanes| {
                let lane = lanes.pop_front();
                (lane, lanes.is_empty())
            });
            (lane, sessions.turn.is_empty())
        });
        self.count -= usize::from(lane.is_some());
        lane
    }

    /// How many lanes are ready.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no lane is ready.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(session: &str, key: &str) -> LaneId {
        LaneId { session_id: SessionId::new(session).unwrap(), lane_key: Arc::from(key) }
    }

    fn tenant(name: &str) -> AgentGroupId {
        AgentGroupId::new(name).unwrap()
    }

    #[test]
    fn a_busy_tenant_takes_turns_with_a_quiet_one() {
        let mut ready = ReadyLanes::default();
        for number in 0..100 {
            ready.push(&tenant("busy"), lane("b", &format!("lane-{number}")));
        }
        ready.push(&tenant("quiet"), lane("q", "only"));
        let first: Vec<_> = (0..2).filter_map(|_| ready.pop()).collect();
        assert!(first.contains(&lane("q", "only")), "{first:?}");
        assert_eq!(ready.len(), 99);
    }

    #[test]
    fn sessions_of_one_tenant_take_turns_and_every_lane_comes_once() {
        let mut ready = ReadyLanes::default();
        for key in ["1", "2", "3"] {
            ready.push(&tenant("t"), lane("a", key));
        }
        ready.push(&tenant("t"), lane("b", "1"));
        let order: Vec<_> = std::iter::from_fn(|| ready.pop()).collect();
        assert_eq!(order, [lane("a", "1"), lane("b", "1"), lane("a", "2"), lane("a", "3")]);
        assert!(ready.is_empty());
    }
}
