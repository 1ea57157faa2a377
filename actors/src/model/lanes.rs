//! Whose turn it is: deficit round robin over tenants by weight, then round robin over a tenant's sessions, then over a
//! session's lanes.
//!
//! A tenant with a hundred thousand messages gets the same share of a channel as one with a single message, or the share
//! that its weight says. A message costs one, whatever its size: sends are what a platform counts.

use super::ids::{SessionId, TenantName};
use super::tenant::Tenant;
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
    /// Tenants that may send now, the one whose turn it is first.
    turn: VecDeque<TenantName>,
    /// Tenants with ready lanes or with sends on their way.
    tenants: HashMap<TenantName, Member>,
}

/// A tenant's part.
#[derive(Debug)]
struct Member {
    tenant: Arc<Tenant>,
    sessions: Sessions,
    /// What it may still send in this round.
    credit: u32,
    /// Its sends on their way.
    in_flight: usize,
    is_in_turn: bool,
}

/// One tenant's sessions with ready lanes, in turn.
#[derive(Debug, Default)]
struct Sessions {
    turn: VecDeque<SessionId>,
    lanes: HashMap<SessionId, VecDeque<LaneId>>,
}

impl Sessions {
    fn push(&mut self, lane: LaneId) {
        let session = lane.session_id.clone();
        let lanes = self.lanes.entry(session.clone()).or_default();
        if lanes.is_empty() {
            self.turn.push_back(session);
        }
        lanes.push_back(lane);
    }

    fn pop(&mut self) -> Option<LaneId> {
        let session = self.turn.pop_front()?;
        let lanes = self.lanes.get_mut(&session)?;
        let lane = lanes.pop_front();
        if lanes.is_empty() {
            self.lanes.remove(&session);
        } else {
            self.turn.push_back(session);
        }
        lane
    }

    fn is_empty(&self) -> bool {
        self.turn.is_empty()
    }
}

impl Member {
    fn may_send(&self) -> bool {
        !self.sessions.is_empty() && self.in_flight < self.tenant.in_flight_max
    }
}

impl ReadyLanes {
    /// Adds a lane that became ready. The caller adds a lane only once until it is popped.
    pub fn push(&mut self, tenant: &Arc<Tenant>, lane: LaneId) {
        let member = self.tenants.entry(tenant.name.clone()).or_insert_with(|| Member {
            tenant: Arc::clone(tenant),
            sessions: Sessions::default(),
            credit: 0,
            in_flight: 0,
            is_in_turn: false,
        });
        member.sessions.push(lane);
        self.join(&tenant.name);
    }

    /// Takes the lane whose turn it is. It counts as on its way until [`ReadyLanes::finished`].
    pub fn pop(&mut self) -> Option<LaneId> {
        let name = self.turn.front()?.clone();
        let member = self.tenants.get_mut(&name)?;
        if member.credit == 0 {
            member.credit = member.tenant.weight;
        }
        let lane = member.sessions.pop();
        member.credit -= 1;
        member.in_flight += 1;
        if !member.may_send() {
            // Credit is for those who use it: it is not saved up.
            member.credit = 0;
            member.is_in_turn = false;
            self.turn.pop_front();
        } else if member.credit == 0 {
            self.turn.rotate_left(1);
        }
        lane
    }

    /// A popped lane is no longer on its way: its message is settled, or must wait.
    pub fn finished(&mut self, tenant: &TenantName) {
        let Some(member) = self.tenants.get_mut(tenant) else { return };
        member.in_flight = member.in_flight.saturating_sub(1);
        if member.in_flight == 0 && member.sessions.is_empty() {
            self.tenants.remove(tenant);
        } else {
            self.join(tenant);
        }
    }

    /// Whether no lane may be popped now.
    pub fn is_empty(&self) -> bool {
        self.turn.is_empty()
    }

    /// Whether a lane of that tenant that is on its way may go on without taking a turn from another one.
    pub fn has_nobody_waiting(&self, tenant: &TenantName) -> bool {
        self.turn.is_empty() && self.tenants.get(tenant).is_none_or(|member| member.sessions.is_empty())
    }

    /// A tenant that may send and has no turn yet gets one, after all others.
    fn join(&mut self, name: &TenantName) {
        let Some(member) = self.tenants.get_mut(name) else { return };
        if !member.is_in_turn && member.may_send() {
            member.is_in_turn = true;
            self.turn.push_back(name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, HashSet};

    fn lane(session: &str, key: &str) -> LaneId {
        LaneId { session_id: SessionId::new(session).unwrap(), lane_key: Arc::from(key) }
    }

    fn tenant(name: &str, weight: u32, in_flight_max: usize) -> Arc<Tenant> {
        Arc::new(Tenant {
            name: TenantName::new(name).unwrap(),
            weight,
            in_flight_max,
            wake_on_failure: None,
            timezone: None,
        })
    }

    #[test]
    fn a_busy_tenant_takes_turns_with_a_quiet_one() {
        let mut ready = ReadyLanes::default();
        for number in 0..100 {
            ready.push(&tenant("busy", 1, usize::MAX), lane("b", &format!("lane-{number}")));
        }
        ready.push(&tenant("quiet", 1, usize::MAX), lane("q", "only"));
        let first: Vec<_> = (0..2).filter_map(|_| ready.pop()).collect();
        assert!(first.contains(&lane("q", "only")), "{first:?}");
        assert_eq!(std::iter::from_fn(|| ready.pop()).count(), 99);
    }

    #[test]
    fn sessions_of_one_tenant_take_turns_and_every_lane_comes_once() {
        let mut ready = ReadyLanes::default();
        let tenant = tenant("t", 1, usize::MAX);
        for key in ["1", "2", "3"] {
            ready.push(&tenant, lane("a", key));
        }
        ready.push(&tenant, lane("b", "1"));
        let order: Vec<_> = std::iter::from_fn(|| ready.pop()).collect();
        assert_eq!(order, [lane("a", "1"), lane("b", "1"), lane("a", "2"), lane("a", "3")]);
        assert!(ready.is_empty());
    }

    #[test]
    fn a_tenant_at_its_limit_leaves_the_channel_to_the_others() {
        let mut ready = ReadyLanes::default();
        let (limited, free) = (tenant("limited", 10, 2), tenant("free", 1, usize::MAX));
        for number in 0..4 {
            ready.push(&limited, lane("l", &number.to_string()));
            ready.push(&free, lane("f", &number.to_string()));
        }
        let popped: Vec<_> = std::iter::from_fn(|| ready.pop()).collect();
        let of = |session: &str| popped.iter().filter(|lane| lane.session_id.as_str() == session).count();
        assert_eq!((of("l"), of("f")), (2, 4));
        ready.finished(&limited.name);
        assert_eq!(ready.pop(), Some(lane("l", "2")));
        assert_eq!(ready.pop(), None);
    }

    #[test]
    fn a_lane_goes_on_without_a_turn_only_while_nobody_waits_for_one() {
        let mut ready = ReadyLanes::default();
        let (limited, free) = (tenant("limited", 1, 1), tenant("free", 1, usize::MAX));
        ready.push(&limited, lane("l", "1"));
        ready.pop();
        assert!(ready.has_nobody_waiting(&limited.name));
        ready.push(&limited, lane("l", "2"));
        assert!(ready.is_empty(), "the tenant is at its limit");
        assert!(!ready.has_nobody_waiting(&limited.name), "its other lane waits for this one");
        assert!(ready.has_nobody_waiting(&free.name), "another tenant's limit is not this one's");
        ready.push(&free, lane("f", "1"));
        assert!(!ready.has_nobody_waiting(&free.name));
    }

    #[test]
    fn a_tenant_without_work_and_sends_is_forgotten() {
        let mut ready = ReadyLanes::default();
        let tenant = tenant("t", 3, 1);
        ready.push(&tenant, lane("a", "1"));
        ready.pop();
        ready.finished(&tenant.name);
        assert!(ready.tenants.is_empty() && ready.turn.is_empty());
    }

    proptest! {
        #[test]
        fn shares_follow_the_weights_within_one_round(weights in prop::collection::vec(1_u32..20, 1..6)) {
            let mut ready = ReadyLanes::default();
            for (number, weight) in weights.iter().enumerate() {
                let tenant = tenant(&format!("t{number}"), *weight, usize::MAX);
                // More than three rounds need.
                for key in 0..*weight * 4 {
                    ready.push(&tenant, lane(&format!("s{number}"), &key.to_string()));
                }
            }
            let round: u32 = weights.iter().sum();
            for _ in 0..3 {
                let mut counted = BTreeMap::new();
                for _ in 0..round {
                    let lane = ready.pop().unwrap();
                    *counted.entry(lane.session_id.as_str().to_owned()).or_insert(0_u32) += 1;
                }
                for (number, weight) in weights.iter().enumerate() {
                    prop_assert_eq!(counted.get(&format!("s{number}")), Some(weight));
                }
            }
        }

        #[test]
        fn a_lane_is_never_popped_twice_and_no_limit_is_passed(
            steps in prop::collection::vec((0_usize..4, 0_usize..3, 0_usize..4, any::<bool>()), 1..200),
        ) {
            let tenants: Vec<_> = (0..4).map(|n| tenant(&format!("t{n}"), 1 + n, 1 + n as usize)).collect();
            let mut ready = ReadyLanes::default();
            let (mut waiting, mut on_its_way) = (HashSet::new(), Vec::new());
            for (number, session, key, is_push) in steps {
                let id = lane(&format!("s{number}-{session}"), &key.to_string());
                if is_push {
                    let is_free = !on_its_way.iter().any(|(_, other)| *other == id);
                    if is_free && waiting.insert(id.clone()) {
                        ready.push(&tenants[number], id);
                    }
                } else if let Some(popped) = ready.pop() {
                    let owner: usize = popped.session_id.as_str()[1..2].parse().unwrap();
                    prop_assert!(waiting.remove(&popped), "{:?} was not waiting", popped);
                    on_its_way.push((owner, popped));
                    let count = on_its_way.iter().filter(|(other, _)| *other == owner).count();
                    prop_assert!(count <= tenants[owner].in_flight_max);
                } else if let Some((owner, _)) = on_its_way.pop() {
                    ready.finished(&tenants[owner].name);
                }
            }
            // Everything comes out once all that is on its way has ended.
            loop {
                while let Some(popped) = ready.pop() {
                    let owner: usize = popped.session_id.as_str()[1..2].parse().unwrap();
                    prop_assert!(waiting.remove(&popped));
                    on_its_way.push((owner, popped));
                }
                let Some((owner, _)) = on_its_way.pop() else { break };
                ready.finished(&tenants[owner].name);
            }
            prop_assert!(waiting.is_empty() && ready.tenants.is_empty());
        }
    }
}
