//! Which agents run, which wait for a place, and which wait because they keep failing.
//!
//! A host runs so many agents at a time. Tenants take turns for a free place as they do in a channel, so that one with
//! a thousand sessions does not keep another one's only agent waiting.

use super::ids::{AgentGroupId, SessionId};
use super::lanes::{LaneId, ReadyLanes};
use super::tenant::Tenant;
use super::time::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// An agent that ran for so long has worked: a failure after it is the first one again.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// How many agents run at a time, and how long one that fails stays away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterPolicy {
    /// Most agents at a time.
    pub agents_max: usize,
    /// Most agents of one tenant at a time; `None` = as many as the host has places.
    pub agents_per_tenant_max: Option<usize>,
    /// How long an agent stays away after a failure; it doubles with each failure in a row.
    pub backoff_base: Duration,
    /// The longest that it stays away.
    pub backoff_max: Duration,
}

/// Where a session's agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It waits for a place.
    Waiting,
    /// It runs, or is being started.
    Running {
        /// Since when.
        since: Timestamp,
        /// Why it is being stopped.
        stopping: Option<String>,
    },
    /// It failed, or ended a moment ago, and stays away.
    BackingOff {
        /// Until when.
        until: Timestamp,
        /// Whether there is work for it then.
        is_wanted: bool,
    },
    /// A former host's agent, which is ending.
    Leaving,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// By itself, and well.
    Well,
    /// By itself and well, but it has written nothing: what woke it is still there.
    Idle,
    /// Because the host stopped it.
    Stopped,
    /// Otherwise, with the reason in words.
    Failed(String),
}

/// A session's part of the roster.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The session's agent group.
    pub group: AgentGroupId,
    /// Where its agent is.
    pub stage: Stage,
    /// Failures in a row.
    pub failures: u32,
    /// The last one, in words.
    pub last_failure: Option<String>,
    tenant: Arc<Tenant>,
}

impl Entry {
    /// Whether it only keeps the next run from starting too soon after the last one, which nobody asks for.
    pub fn only_pauses(&self) -> bool {
        self.failures == 0 && matches!(self.stage, Stage::BackingOff { is_wanted: false, .. })
    }
}

/// All agents that run or want to.
#[derive(Debug)]
pub struct Roster {
    policy: RosterPolicy,
    entries: HashMap<SessionId, Entry>,
    waiting: ReadyLanes,
    places_taken: usize,
}

impl Roster {
    /// Nobody runs.
    pub fn new(policy: RosterPolicy) -> Self {
        Self { policy, entries: HashMap::new(), waiting: ReadyLanes::default(), places_taken: 0 }
    }

    /// Wants a session's agent to run. One that runs, is ending or waits already is left alone.
    pub fn wake(&mut self, session: &SessionId, group: &AgentGroupId, tenant: &Tenant, now: Timestamp) {
        match self.entries.get_mut(session) {
            None => {
                let in_flight_max = self.policy.agents_per_tenant_max.unwrap_or(usize::MAX);
                let tenant = Arc::new(Tenant { in_flight_max, ..tenant.clone() });
                let entry = Entry {
                    group: group.clone(),
                    stage: Stage::Waiting,
                    failures: 0,
                    last_failure: None,
                    tenant,
                };
                self.entries.insert(session.clone(), entry);
                self.queue(session);
            }
            Some(Entry { stage: Stage::BackingOff { until, is_wanted }, .. }) => {
                *is_wanted = true;
                if *until <= now {
                    self.queue(session);
                }
            }
            Some(_) => {}
        }
    }

    fn queue(&mut self, session: &SessionId) {
        let Some(entry) = self.entries.get_mut(session) else { return };
        entry.stage = Stage::Waiting;
        self.waiting.push(&entry.tenant, lane_of(session));
    }

    /// Gives a free place to the agent whose turn it is.
    pub fn start_next(&mut self, now: Timestamp) -> Option<(SessionId, AgentGroupId)> {
        let is_over =
            |stage: &Stage| matches!(stage, Stage::BackingOff { until, is_wanted: true } if *until <= now);
        let over: Vec<SessionId> = self
            .entries
            .iter()
            .filter(|(_, entry)| is_over(&entry.stage))
            .map(|(session, _)| session.clone())
            .collect();
        over.iter().for_each(|session| self.queue(session));
        if self.places_taken >= self.policy.agents_max {
            return None;
        }
        let session = self.waiting.pop()?.session_id;
        let entry = self.entries.get_mut(&session)?;
        entry.stage = Stage::Running { since: now, stopping: None };
        self.places_taken += 1;
        Some((session, entry.group.clone()))
    }

    /// When the next one that stays away, and is wanted, may come back.
    pub fn next_return(&self) -> Option<Timestamp> {
        let at = |entry: &Entry| match entry.stage {
            Stage::BackingOff { until, is_wanted: true } => Some(until),
            _ => None,
        };
        self.entries.values().filter_map(at).min()
    }

    /// Takes note that a running agent is to be stopped; whether that is news.
    pub fn stop(&mut self, session: &SessionId, reason: &str) -> bool {
        match self.entries.get_mut(session).map(|entry| &mut entry.stage) {
            Some(Stage::Running { stopping: stopping @ None, .. }) => {
                *stopping = Some(reason.to_owned());
                true
            }
            _ => false,
        }
    }

    /// Takes note that a run has ended.
    pub fn ended(&mut self, session: &SessionId, end: &RunEnd, now: Timestamp) {
        // An agent that nobody has wanted for so long is forgotten.
        self.entries.retain(|_, entry| {
            !matches!(&entry.stage, Stage::BackingOff { until, is_wanted: false } if now.since(*until) > STABLE_AFTER)
        });
        let Some(entry) = self.entries.get_mut(session) else { return };
        let Stage::Running { since, stopping } = &entry.stage else { return };
        self.places_taken -= 1;
        self.waiting.finished(&entry.tenant.name);
        let has_worked = now.since(*since) > STABLE_AFTER;
        let failure = match end {
            RunEnd::Failed(reason) if stopping.is_none() => Some(reason.as_str()),
            // One that had nothing to do for so long has waited for work.
            RunEnd::Idle if stopping.is_none() && !has_worked => Some("it ended without taking its message"),
            _ => None,
        };
        let soonest = since.plus(self.policy.backoff_base);
        match (failure, end) {
            (Some(reason), _) => {
                entry.failures = if has_worked { 1 } else { entry.failures.saturating_add(1) };
                entry.last_failure = Some(reason.to_owned());
                let delay = self
                    .policy
                    .backoff_base
                    .saturating_mul(2_u32.saturating_pow(entry.failures - 1))
                    .min(self.policy.backoff_max);
                entry.stage = Stage::BackingOff { until: now.plus(delay), is_wanted: false };
            }
            // Two starts are never closer than that: what an agent writes may be anything.
            (None, RunEnd::Well) if now < soonest => {
                (entry.failures, entry.last_failure) = (0, None);
                entry.stage = Stage::BackingOff { until: soonest, is_wanted: false };
            }
            (None, _) => {
                self.entries.remove(session);
            }
        }
    }

    /// Takes note of a former host's agent that is still ending: it has no place, and nobody may run beside it.
    pub fn note_leaving(&mut self, session: &SessionId, group: &AgentGroupId, tenant: Arc<Tenant>) {
        let entry =
            Entry { group: group.clone(), stage: Stage::Leaving, failures: 0, last_failure: None, tenant };
        self.entries.insert(session.clone(), entry);
    }

    /// Takes note that a former host's agent is gone.
    pub fn has_left(&mut self, session: &SessionId) {
        if self.entries.get(session).is_some_and(|entry| entry.stage == Stage::Leaving) {
            self.entries.remove(session);
        }
    }

    /// A session's part; `None` when its agent neither runs nor wants to.
    pub fn get(&self, session: &SessionId) -> Option<&Entry> {
        self.entries.get(session)
    }

    /// All parts, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (&SessionId, &Entry)> {
        self.entries.iter()
    }

    /// How many agents run.
    pub fn places_taken(&self) -> usize {
        self.places_taken
    }
}

fn lane_of(session: &SessionId) -> LaneId {
    LaneId { session_id: session.clone(), lane_key: Arc::from("agent") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::TenantName;

    const START: Timestamp = Timestamp::from_ms(1_000_000);

    fn roster(agents_max: usize, agents_per_tenant_max: Option<usize>) -> Roster {
        Roster::new(RosterPolicy {
            agents_max,
            agents_per_tenant_max,
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(5),
        })
    }

    fn id(name: &str) -> SessionId {
        SessionId::new(name).unwrap()
    }

    /// Wakes the session `<tenant>-<anything>`.
    fn wake(roster: &mut Roster, name: &str, now: Timestamp) {
        let tenant = name.split('-').next().unwrap();
        let group = AgentGroupId::new(tenant).unwrap();
        let tenant = Tenant {
            name: TenantName::from(&group),
            weight: 1,
            in_flight_max: usize::MAX,
            wake_on_failure: None,
            timezone: None,
        };
        roster.wake(&id(name), &group, &tenant, now);
    }

    fn started(roster: &mut Roster, now: Timestamp) -> Vec<String> {
        std::iter::from_fn(|| roster.start_next(now)).map(|(session, _)| session.to_string()).collect()
    }

    fn after(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_wake_above_the_cap_is_kept_and_tenants_take_turns() {
        let mut roster = roster(2, None);
        for name in ["a-1", "a-2", "a-3", "b-1", "a-1"] {
            wake(&mut roster, name, START);
        }
        assert_eq!(started(&mut roster, START), ["a-1", "b-1"]);
        roster.ended(&id("a-1"), &RunEnd::Well, START);
        roster.ended(&id("b-1"), &RunEnd::Well, START);
        assert_eq!(started(&mut roster, START), ["a-2", "a-3"]);
        assert_eq!(roster.places_taken(), 2);
    }

    #[test]
    fn a_tenant_at_its_own_cap_leaves_places_to_the_others() {
        let mut roster = roster(4, Some(1));
        for name in ["a-1", "a-2", "b-1"] {
            wake(&mut roster, name, START);
        }
        assert_eq!(started(&mut roster, START), ["a-1", "b-1"]);
        roster.ended(&id("a-1"), &RunEnd::Stopped, START);
        assert_eq!(started(&mut roster, START), ["a-2"]);
    }

    #[test]
    fn an_agent_that_keeps_failing_comes_back_later_each_time() {
        let mut roster = roster(1, None);
        let mut now = START;
        for delay in [1, 2, 4, 5, 5] {
            wake(&mut roster, "a-1", now);
            assert_eq!(started(&mut roster, now), ["a-1"]);
            roster.ended(&id("a-1"), &RunEnd::Failed("exit code 1".to_owned()), now);
            assert_eq!(roster.next_return(), None, "nobody wants it");
            wake(&mut roster, "a-1", now);
            assert_eq!(started(&mut roster, now), [""; 0]);
            let back = now.plus(Duration::from_secs(delay));
            assert_eq!(roster.next_return(), Some(back));
            now = back;
        }
        assert_eq!(roster.get(&id("a-1")).unwrap().failures, 5);
        assert_eq!(started(&mut roster, now), ["a-1"], "the wake was kept");
        roster.ended(&id("a-1"), &RunEnd::Failed("x".to_owned()), now.plus(Duration::from_secs(61)));
        assert_eq!(roster.get(&id("a-1")).unwrap().failures, 1, "it had worked");
    }

    #[test]
    fn an_agent_that_leaves_without_its_message_has_failed() {
        let mut roster = roster(1, None);
        let mut now = START;
        for (failures, delay) in [(1, 1), (2, 2), (3, 4)] {
            wake(&mut roster, "a-1", now);
            assert_eq!(started(&mut roster, now), ["a-1"]);
            roster.ended(&id("a-1"), &RunEnd::Idle, now);
            wake(&mut roster, "a-1", now);
            assert_eq!(started(&mut roster, now), [""; 0], "not at once");
            let entry = roster.get(&id("a-1")).unwrap();
            assert_eq!(entry.failures, failures);
            assert_eq!(entry.last_failure.as_deref(), Some("it ended without taking its message"));
            now = now.plus(Duration::from_secs(delay));
        }
        assert_eq!(started(&mut roster, now), ["a-1"]);
        roster.ended(&id("a-1"), &RunEnd::Idle, now.plus(Duration::from_secs(61)));
        assert!(roster.get(&id("a-1")).is_none(), "it has waited for work, and none came");
    }

    #[test]
    fn two_starts_of_a_session_are_never_closer_than_the_shortest_backoff() {
        let mut roster = roster(1, None);
        wake(&mut roster, "a-1", START);
        started(&mut roster, START);
        roster.ended(&id("a-1"), &RunEnd::Well, START);
        assert!(roster.get(&id("a-1")).unwrap().only_pauses());
        wake(&mut roster, "a-1", START);
        assert_eq!(started(&mut roster, START), [""; 0]);
        assert_eq!(roster.next_return(), Some(after(1)));
        assert_eq!(started(&mut roster, after(1)), ["a-1"]);
        roster.ended(&id("a-1"), &RunEnd::Well, after(2));
        assert!(roster.get(&id("a-1")).is_none(), "that was long enough");
    }

    #[test]
    fn a_failure_while_it_is_stopped_is_the_hosts_doing() {
        let mut roster = roster(1, None);
        wake(&mut roster, "a-1", START);
        started(&mut roster, START);
        assert!(roster.stop(&id("a-1"), "no sign of life"));
        assert!(!roster.stop(&id("a-1"), "again"), "it is being stopped already");
        wake(&mut roster, "a-1", START);
        assert_eq!(started(&mut roster, START), [""; 0], "no second one beside it");
        roster.ended(&id("a-1"), &RunEnd::Failed("signal 15".to_owned()), START);
        assert!(roster.get(&id("a-1")).is_none());
    }

    #[test]
    fn nobody_runs_beside_the_agent_of_a_former_host() {
        let mut roster = roster(1, None);
        let group = AgentGroupId::new("a").unwrap();
        let tenant = Arc::new(Tenant {
            name: TenantName::from(&group),
            weight: 1,
            in_flight_max: 1,
            wake_on_failure: None,
            timezone: None,
        });
        roster.note_leaving(&id("a-1"), &group, tenant);
        wake(&mut roster, "a-1", START);
        assert_eq!(started(&mut roster, START), [""; 0]);
        roster.has_left(&id("a-1"));
        wake(&mut roster, "a-1", START);
        assert_eq!(started(&mut roster, START), ["a-1"]);
    }

    #[test]
    fn an_agent_that_failed_and_is_not_wanted_is_forgotten() {
        let mut roster = roster(2, None);
        for name in ["a-1", "a-2"] {
            wake(&mut roster, name, START);
        }
        started(&mut roster, START);
        roster.ended(&id("a-1"), &RunEnd::Failed("x".to_owned()), START);
        roster.ended(&id("a-2"), &RunEnd::Well, after(62));
        assert_eq!(roster.entries().count(), 0);
    }
}
