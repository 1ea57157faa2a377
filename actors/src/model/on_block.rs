//! What a lane does while its first message cannot be sent.

use super::error::SendError;
use crate::settings::OnBlock;

/// What becomes of a message that is to be tried again, and of its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// The lane waits for it.
    Wait,
    /// It is held back for an operator; the lane goes on.
    Park,
    /// It is tried again at its time; the lane goes on meanwhile.
    Skip,
}

/// Decides after attempt number `attempt` has failed with `error` and is to be repeated.
///
/// A failure that concerns the whole account or chat makes every lane wait: the next message would fail alike.
pub fn decide(on_block: OnBlock, error: &SendError, attempt: u32) -> Blocked {
    match error {
        SendError::RateLimited { .. } | SendError::Unauthorized { .. } | SendError::Unavailable { .. } => {
            return Blocked::Wait;
        }
        SendError::Transient { .. }
        | SendError::Ambiguous { .. }
        | SendError::Permanent { .. }
        | SendError::DestinationGone { .. } => {}
    }
    match on_block {
        OnBlock::ParkAfter(attempts) if attempt >= attempts => Blocked::Park,
        OnBlock::Wait | OnBlock::ParkAfter(_) => Blocked::Wait,
        OnBlock::Skip => Blocked::Skip,
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::LimitScope;
    use super::*;

    #[test]
    fn only_a_failure_of_the_message_itself_lets_the_lane_go_on() {
        let transient = SendError::Transient { retry_after: None, reason: "502".to_owned() };
        let limited = SendError::RateLimited {
            retry_after: None,
            scope: LimitScope::Destination,
            reason: "429".to_owned(),
        };
        let unavailable = SendError::Unavailable { reason: "no adapter".to_owned() };
        assert_eq!(decide(OnBlock::Skip, &transient, 1), Blocked::Skip);
        assert_eq!(decide(OnBlock::ParkAfter(3), &transient, 2), Blocked::Wait);
        assert_eq!(decide(OnBlock::ParkAfter(3), &transient, 3), Blocked::Park);
        for policy in [OnBlock::Wait, OnBlock::ParkAfter(1), OnBlock::Skip] {
            assert_eq!(decide(policy, &limited, 9), Blocked::Wait);
            assert_eq!(decide(policy, &unavailable, 9), Blocked::Wait);
        }
        assert_eq!(decide(OnBlock::Wait, &transient, 9), Blocked::Wait);
    }
}
