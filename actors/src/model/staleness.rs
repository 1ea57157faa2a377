//! What the sweep does about one session, decided from facts alone.
//!
//! A claim is a row of `processing_ack` with status `processing`: the agent says that it works on a message.
//! A claim outlives its agent, so each one is first given to the agent that made it.

use super::ids::MessageId;
use super::time::Timestamp;
use std::time::Duration;

/// Delay of the first retry of a message whose claim was reset; it doubles with each reset.
const CLAIM_BACKOFF: Duration = Duration::from_secs(5);

/// What is known of one session at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The instant.
    pub now: Timestamp,
    /// Time of the heartbeat file; `None` when there is none.
    pub heartbeat: Option<Timestamp>,
    /// The claims in the session. One that was reset already is left out, or it would be reset again.
    pub claims: Vec<Claim>,
    /// How long the tool that runs now may take by its own word. Only a running Bash declares one.
    pub declared_tool_timeout: Option<Duration>,
    /// Whether the session's agent runs.
    pub agent: AgentState,
    /// Whether a message is due that is not claimed.
    pub has_due_work: bool,
}

/// An agent's word that it works on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The message.
    pub message_id: MessageId,
    /// When it was claimed, to the second; `None` when the time cannot be read.
    pub claimed_at: Option<Timestamp>,
}

/// Whether a session's agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    /// It runs.
    Running {
        /// Since when, if that is known.
        since: Option<Timestamp>,
    },
    /// It does not run.
    Stopped,
    /// Nobody knows: the agents are not run from here.
    Unknown,
}

/// When something counts as stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// A claim older than this without a heartbeat since is stuck.
    pub claim_stale_after: Duration,
    /// An agent without a heartbeat for longer than this is dead.
    pub heartbeat_ceiling: Duration,
    /// How long an agent may take from its start to its first heartbeat.
    pub start_grace: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            claim_stale_after: Duration::from_secs(60),
            heartbeat_ceiling: Duration::from_secs(30 * 60),
            start_grace: Duration::from_secs(60),
        }
    }
}

/// What to do about a session, in this order: stop, reset, wake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the agent.
    pub verdict: Verdict,
    /// Messages whose claim nobody works on; see [`reset_claim`].
    pub reset_claims: Vec<MessageId>,
    /// Whether an agent is to be started.
    pub wake: bool,
}

/// What becomes of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Ok,
    /// It is stopped.
    StopAgent {
        /// Why.
        reason: StopReason,
    },
    /// It counts as gone, by the files of its session; there is nobody to ask and nothing to stop.
    PresumedGone {
        /// Why.
        reason: StopReason,
    },
}

/// Why an agent counts as dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// No heartbeat for longer than this.
    HeartbeatCeiling {
        /// The ceiling that applied.
        ceiling: Duration,
    },
    /// A claim older than this without a heartbeat since.
    ClaimStuck {
        /// The claimed message.
        message_id: MessageId,
        /// The tolerance that applied.
        tolerance: Duration,
    },
}

/// Decides what to do about a session.
pub fn decide(facts: &Facts, policy: &Policy) -> Decision {
    let verdict = judge(facts, policy);
    let agent_works = matches!((facts.agent, &verdict), (AgentState::Running { .. }, Verdict::Ok));
    let is_orphan = |claim: &&Claim| match (facts.agent, &verdict) {
        (AgentState::Running { since }, Verdict::Ok) => is_of_predecessor(claim, since),
        (AgentState::Unknown, _) => is_stuck(claim, facts, policy),
        _ => true,
    };
    Decision {
        reset_claims: facts.claims.iter().filter(is_orphan).map(|claim| claim.message_id.clone()).collect(),
        wake: facts.has_due_work && !agent_works,
        verdict,
    }
}

fn judge(facts: &Facts, policy: &Policy) -> Verdict {
    match facts.agent {
        AgentState::Stopped => Verdict::Ok,
        AgentState::Unknown => match stuck_claim(facts, None, policy) {
            Some(reason) => Verdict::PresumedGone { reason },
            None => Verdict::Ok,
        },
        AgentState::Running { since } => {
            match past_ceiling(facts, since, policy).or_else(|| stuck_claim(facts, since, policy)) {
                Some(reason) if !is_starting(facts, since, policy) => Verdict::StopAgent { reason },
                _ => Verdict::Ok,
            }
        }
    }
}

/// Whether the agent has just been started and has not yet shown a sign of life.
fn is_starting(facts: &Facts, since: Option<Timestamp>, policy: &Policy) -> bool {
    since.is_some_and(|since| {
        let has_ticked = facts.heartbeat.is_some_and(|heartbeat| heartbeat >= since);
        !has_ticked && facts.now.since(since) <= policy.start_grace
    })
}

fn past_ceiling(facts: &Facts, since: Option<Timestamp>, policy: &Policy) -> Option<StopReason> {
    // A heartbeat from before the start is its predecessor's: then the start is the last sign of life.
    let last_sign = facts.heartbeat.max(since)?;
    let ceiling = policy.heartbeat_ceiling.max(facts.declared_tool_timeout.unwrap_or_default());
    (facts.now.since(last_sign) > ceiling).then_some(StopReason::HeartbeatCeiling { ceiling })
}

fn stuck_claim(facts: &Facts, since: Option<Timestamp>, policy: &Policy) -> Option<StopReason> {
    let claim = facts
        .claims
        .iter()
        .find(|claim| !is_of_predecessor(claim, since) && is_stuck(claim, facts, policy))?;
    let tolerance = claim_tolerance(facts, policy);
    Some(StopReason::ClaimStuck { message_id: claim.message_id.clone(), tolerance })
}

/// Whether a claim is older than the tolerance and no heartbeat came since. Of a claim whose time cannot be
/// read nothing can be said.
fn is_stuck(claim: &Claim, facts: &Facts, policy: &Policy) -> bool {
    claim.claimed_at.is_some_and(|claimed_at| {
        let has_moved_since = facts.heartbeat.is_some_and(|heartbeat| heartbeat > claimed_at);
        !has_moved_since && facts.now.since(claimed_at) > claim_tolerance(facts, policy)
    })
}

fn claim_tolerance(facts: &Facts, policy: &Policy) -> Duration {
    policy.claim_stale_after.max(facts.declared_tool_timeout.unwrap_or_default())
}

/// Whether a claim was made before the running agent was started.
fn is_of_predecessor(claim: &Claim, since: Option<Timestamp>) -> bool {
    // Claims are written to the second: one made in the second of the start may be the new agent's.
    let second = |time: Timestamp| time.as_ms().div_euclid(1000);
    matches!((claim.claimed_at, since), (Some(claimed_at), Some(since)) if second(claimed_at) < second(since))
}

/// A message whose claim is to be reset, as its row in `messages_in` stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedMessage {
    /// Whether the row is still there and pending.
    pub is_pending: bool,
    /// How often it was reset before.
    pub tries: u32,
    /// When it is due.
    pub process_after: Option<Timestamp>,
}

/// What becomes of a message whose claim nobody works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimReset {
    /// It becomes due again.
    RetryAt {
        /// Its new `process_after`.
        at: Timestamp,
        /// Its new `tries`.
        tries: u32,
    },
    /// It has failed too often: it becomes `failed`.
    GiveUp,
    /// It is left as it is: it ended, or waits for a later time already.
    Leave,
}

/// Decides about a message of [`Decision::reset_claims`]: 5 s, doubled for each reset before, then again;
/// failed once it has been reset `tries_max` times.
pub fn reset_claim(message: &ClaimedMessage, tries_max: u32, now: Timestamp) -> ClaimReset {
    let waits_already = message.process_after.is_some_and(|due| due > now);
    if !message.is_pending || waits_already {
        return ClaimReset::Leave;
    }
    if message.tries >= tries_max {
        return ClaimReset::GiveUp;
    }
    let delay = CLAIM_BACKOFF.saturating_mul(2_u32.saturating_pow(message.tries));
    ClaimReset::RetryAt { at: now.plus(delay), tries: message.tries.saturating_add(1) }
}

#[cfg(test)]
mod tests;
