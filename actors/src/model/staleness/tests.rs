use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_500);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn ago(duration: Duration) -> Option<Timestamp> {
    Some(Timestamp::from_ms(NOW.as_ms() - duration.as_millis() as i64))
}

fn seconds_ago(seconds: u64) -> Option<Timestamp> {
    ago(Duration::from_secs(seconds))
}

fn id(text: &str) -> MessageId {
    MessageId::new(text).unwrap()
}

fn claim(message_id: &str, claimed_at: Option<Timestamp>) -> Claim {
    Claim { message_id: id(message_id), claimed_at }
}

/// A running agent of which nothing else is known.
fn running() -> Facts {
    Facts {
        now: NOW,
        heartbeat: None,
        claims: Vec::new(),
        declared_tool_timeout: None,
        agent: AgentState::Running { since: None },
        has_due_work: false,
    }
}

fn decided(facts: &Facts) -> Decision {
    decide(facts, &Policy::default())
}

#[track_caller]
fn check_ok(facts: &Facts) {
    let nothing = Decision { verdict: Verdict::Ok, reset_claims: Vec::new(), wake: false };
    assert_eq!(decided(facts), nothing);
}

fn stop_at_ceiling(ceiling: Duration) -> Verdict {
    Verdict::StopAgent { reason: StopReason::HeartbeatCeiling { ceiling } }
}

fn stuck(message_id: &str, tolerance: Duration) -> StopReason {
    StopReason::ClaimStuck { message_id: id(message_id), tolerance }
}

#[test]
fn ok_when_heartbeat_is_fresh_and_no_claims() {
    check_ok(&Facts { heartbeat: seconds_ago(5), ..running() });
}

#[test]
fn stops_an_agent_whose_heartbeat_is_older_than_the_ceiling() {
    let facts = Facts { heartbeat: ago(31 * MINUTE), ..running() };
    assert_eq!(decided(&facts).verdict, stop_at_ceiling(Duration::from_millis(1_800_000)));
    check_ok(&Facts { heartbeat: ago(30 * MINUTE), ..running() });
}

#[test]
fn skips_the_ceiling_when_there_is_no_heartbeat_file() {
    check_ok(&running());
}

#[test]
fn stops_on_a_stuck_claim_when_heartbeat_is_absent() {
    let facts = Facts { claims: vec![claim("m-1", ago(5 * MINUTE))], ..running() };
    assert_eq!(decided(&facts).verdict, Verdict::StopAgent { reason: stuck("m-1", MINUTE) });
}

#[test]
fn extends_the_ceiling_for_a_declared_timeout_longer_than_it() {
    let declared_tool_timeout = Some(2 * HOUR);
    check_ok(&Facts { heartbeat: ago(45 * MINUTE), declared_tool_timeout, ..running() });
    let facts = Facts { heartbeat: ago(121 * MINUTE), declared_tool_timeout, ..running() };
    assert_eq!(decided(&facts).verdict, stop_at_ceiling(2 * HOUR));
}

#[test]
fn stops_on_a_claim_past_tolerance_when_the_heartbeat_has_not_moved() {
    let facts = Facts {
        heartbeat: ago(3 * MINUTE),
        claims: vec![claim("m-0", seconds_ago(10)), claim("m-1", ago(2 * MINUTE))],
        ..running()
    };
    let decision = decided(&facts);
    assert_eq!(decision.verdict, Verdict::StopAgent { reason: stuck("m-1", MINUTE) });
    // Once it is stopped, nobody works on either.
    assert_eq!(decision.reset_claims, [id("m-0"), id("m-1")]);
}

#[test]
fn ok_when_the_heartbeat_has_been_touched_since_the_claim() {
    let claims = vec![claim("m-1", ago(10 * MINUTE))];
    check_ok(&Facts { heartbeat: ago(9 * MINUTE), claims: claims.clone(), ..running() });
    let untouched = Facts { heartbeat: ago(10 * MINUTE), claims, ..running() };
    assert_ne!(decided(&untouched).verdict, Verdict::Ok);
}

#[test]
fn ok_when_the_claim_is_younger_than_the_tolerance() {
    check_ok(&Facts { claims: vec![claim("m-1", seconds_ago(60))], ..running() });
}

#[test]
fn widens_the_tolerance_of_claims_for_a_declared_timeout() {
    let facts = Facts {
        heartbeat: ago(9 * MINUTE),
        claims: vec![claim("m-1", ago(8 * MINUTE))],
        declared_tool_timeout: Some(10 * MINUTE),
        ..running()
    };
    check_ok(&facts);
}

#[test]
fn ignores_claims_with_unparseable_timestamps() {
    check_ok(&Facts { claims: vec![claim("m-1", None)], ..running() });
}

#[test]
fn a_stopped_agents_claims_are_all_orphans() {
    let facts = Facts {
        agent: AgentState::Stopped,
        heartbeat: seconds_ago(1),
        claims: vec![claim("m-1", seconds_ago(2)), claim("m-2", None)],
        ..running()
    };
    let decision = decided(&facts);
    assert_eq!(decision.verdict, Verdict::Ok);
    assert_eq!(decision.reset_claims, [id("m-1"), id("m-2")]);
    assert!(!decision.wake);
}

#[test]
fn due_work_wakes_an_agent_that_does_not_run() {
    let wakes = |agent, heartbeat| decided(&Facts { agent, heartbeat, has_due_work: true, ..running() }).wake;
    assert!(wakes(AgentState::Stopped, None));
    assert!(wakes(AgentState::Unknown, None));
    assert!(!wakes(AgentState::Running { since: None }, None));
    // One that is being stopped does not run either.
    assert!(wakes(AgentState::Running { since: None }, ago(HOUR)));
}

#[test]
fn a_fresh_agent_is_not_stopped_for_what_its_predecessor_left() {
    let facts = Facts {
        agent: AgentState::Running { since: seconds_ago(10) },
        heartbeat: ago(HOUR),
        claims: vec![claim("old", ago(HOUR)), claim("new", seconds_ago(5))],
        ..running()
    };
    let decision = decided(&facts);
    assert_eq!(decision.verdict, Verdict::Ok);
    assert_eq!(decision.reset_claims, [id("old")]);
}

#[test]
fn a_claim_made_in_the_second_of_the_start_is_the_new_agents() {
    let facts = Facts {
        agent: AgentState::Running { since: Some(Timestamp::from_ms(NOW.as_ms() - 100)) },
        claims: vec![claim("m-1", Some(Timestamp::from_ms(NOW.as_ms() - 500)))],
        ..running()
    };
    check_ok(&facts);
}

#[test]
fn an_agent_that_never_showed_a_sign_of_life_has_a_grace_and_then_the_ceiling() {
    let policy = Policy { start_grace: 2 * HOUR, ..Policy::default() };
    let verdict = |since, policy: &Policy| {
        let facts =
            Facts { agent: AgentState::Running { since: ago(since) }, heartbeat: ago(9 * HOUR), ..running() };
        decide(&facts, policy).verdict
    };
    assert_eq!(verdict(29 * MINUTE, &Policy::default()), Verdict::Ok);
    assert_eq!(verdict(31 * MINUTE, &Policy::default()), stop_at_ceiling(30 * MINUTE));
    assert_eq!(verdict(31 * MINUTE, &policy), Verdict::Ok);
    assert_eq!(verdict(3 * HOUR, &policy), stop_at_ceiling(30 * MINUTE));
}

#[test]
fn of_an_unknown_agent_only_the_stuck_claims_are_reset() {
    let facts = Facts {
        agent: AgentState::Unknown,
        heartbeat: ago(HOUR),
        claims: vec![claim("young", seconds_ago(10)), claim("stuck", ago(2 * MINUTE)), claim("odd", None)],
        ..running()
    };
    let decision = decided(&facts);
    assert_eq!(decision.verdict, Verdict::PresumedGone { reason: stuck("stuck", MINUTE) });
    assert_eq!(decision.reset_claims, [id("stuck")]);
    // An old heartbeat alone says only that nothing runs.
    check_ok(&Facts { agent: AgentState::Unknown, heartbeat: ago(HOUR), ..running() });
}

#[test]
fn a_reset_message_waits_longer_each_time_and_fails_in_the_end() {
    let reset = |tries| reset_claim(&ClaimedMessage { is_pending: true, tries, process_after: None }, 5, NOW);
    for (tries, seconds) in [(0, 5), (1, 10), (2, 20), (3, 40), (4, 80)] {
        let at = NOW.plus(Duration::from_secs(seconds));
        assert_eq!(reset(tries), ClaimReset::RetryAt { at, tries: tries + 1 });
    }
    assert_eq!(reset(5), ClaimReset::GiveUp);
    assert_eq!(reset(u32::MAX), ClaimReset::GiveUp);
}

#[test]
fn a_message_that_ended_or_was_already_retried_keeps_its_tries() {
    let waiting = ClaimedMessage { is_pending: true, tries: 1, process_after: Some(NOW.plus(MINUTE)) };
    assert_eq!(reset_claim(&waiting, 5, NOW), ClaimReset::Leave);
    let ended = ClaimedMessage { is_pending: false, tries: 1, process_after: None };
    assert_eq!(reset_claim(&ended, 5, NOW), ClaimReset::Leave);
    let due = ClaimedMessage { is_pending: true, tries: 1, process_after: ago(MINUTE) };
    assert!(matches!(reset_claim(&due, 5, NOW), ClaimReset::RetryAt { tries: 2, .. }));
}

fn any_time() -> impl Strategy<Value = Option<Timestamp>> {
    let near = (NOW.as_ms() - 10_000_000)..(NOW.as_ms() + 10_000_000);
    let ms = prop_oneof![8 => near, 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    prop::option::of(ms.prop_map(Timestamp::from_ms))
}

proptest! {
    #[test]
    fn work_of_a_live_agent_is_never_reset(
        heartbeat in any_time(), claimed_at in any_time(), since in any_time(), has_due_work in any::<bool>(),
        declared in prop::option::of(prop_oneof![Just(Duration::MAX), Just(HOUR)]),
    ) {
        let facts = Facts {
            heartbeat, has_due_work, declared_tool_timeout: declared,
            claims: vec![claim("m-1", claimed_at)], agent: AgentState::Running { since }, now: NOW,
        };
        let decision = decided(&facts);
        if decision.verdict == Verdict::Ok {
            prop_assert!(!decision.wake);
            let of_predecessor = claimed_at.is_some() && claimed_at < since;
            prop_assert!(decision.reset_claims.is_empty() || of_predecessor);
        } else {
            prop_assert_eq!(decision.reset_claims.len(), 1);
            prop_assert_eq!(decision.wake, has_due_work);
        }
    }

    #[test]
    fn resetting_never_overflows(tries in any::<u32>(), tries_max in any::<u32>()) {
        let message = ClaimedMessage { is_pending: true, tries, process_after: None };
        if let ClaimReset::RetryAt { at, .. } = reset_claim(&message, tries_max, NOW) {
            prop_assert!(at > NOW);
        }
    }
}
