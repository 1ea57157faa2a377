//! Which settled messages the ledger may forget.

use super::time::Timestamp;
use crate::report::DeliveryState;
use crate::settings::Retention;
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;

/// What is older than this may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Delivered messages that were settled before.
    pub delivered_before: Timestamp,
    /// Dead, held and ambiguous ones that were.
    pub dead_before: Timestamp,
}

impl Expiry {
    /// By age alone.
    pub fn by_age(retention: &Retention, now: Timestamp) -> Self {
        Self {
            delivered_before: now.minus(retention.keep_settled),
            dead_before: now.minus(retention.keep_dead),
        }
    }

    /// Whether a message in `state` may go. One that is not settled never may.
    pub fn is_over(&self, state: DeliveryState, settled_at: Timestamp) -> bool {
        match state {
            DeliveryState::Delivered => settled_at < self.delivered_before,
            DeliveryState::Dead | DeliveryState::Held | DeliveryState::Ambiguous => {
                settled_at < self.dead_before
            }
            DeliveryState::Queued | DeliveryState::Sending | DeliveryState::Retrying => false,
        }
    }
}

/// How many delivered messages there are of each hour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ages {
    by_hour: BTreeMap<i64, u64>,
}

impl Ages {
    /// Counts one.
    pub fn add(&mut self, settled_at: Timestamp) {
        *self.by_hour.entry(settled_at.as_ms().div_euclid(HOUR_MS)).or_default() += 1;
    }

    /// The time before which `count` messages were settled, or a little more; never one within `age_min` of now.
    /// None when not even the oldest hour may go.
    pub fn before(&self, count: u64, age_min: Duration, now: Timestamp) -> Option<Timestamp> {
        let latest = now.minus(age_min);
        let mut sum = 0;
        let mut cutoff = None;
        for (hour, messages) in &self.by_hour {
            let end = Timestamp::from_ms(hour.saturating_add(1).saturating_mul(HOUR_MS));
            if sum >= count || end > latest {
                break;
            }
            sum += messages;
            cutoff = Some(end);
        }
        cutoff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn dead_messages_are_kept_longer_and_unsettled_ones_for_ever() {
        let expiry = Expiry::by_age(&Retention::default(), NOW);
        let is_over = |state, days: u32| expiry.is_over(state, NOW.minus(24 * HOUR * days));
        assert!(!is_over(DeliveryState::Delivered, 30) && is_over(DeliveryState::Delivered, 31));
        for state in [DeliveryState::Dead, DeliveryState::Held, DeliveryState::Ambiguous] {
            assert!(!is_over(state, 90) && is_over(state, 91), "{state:?}");
        }
        for state in [DeliveryState::Queued, DeliveryState::Sending, DeliveryState::Retrying] {
            assert!(!is_over(state, 100_000), "{state:?}");
        }
    }

    #[test]
    fn the_oldest_go_first_and_nothing_of_the_last_hour() {
        let mut ages = Ages::default();
        for hours in [0, 0, 5, 5, 5, 50] {
            ages.add(NOW.minus(HOUR * hours));
        }
        let kept = |count| {
            let cutoff = ages.before(count, HOUR, NOW)?;
            Some(
                [0, 5, 50].into_iter().filter(|hours| NOW.minus(HOUR * *hours) >= cutoff).collect::<Vec<_>>(),
            )
        };
        assert_eq!(kept(0), None);
        assert_eq!(kept(1), Some(vec![0, 5]));
        assert_eq!(kept(2), Some(vec![0]));
        assert_eq!(kept(1_000), Some(vec![0]), "the newest stay, however many are too many");
        assert_eq!(Ages::default().before(5, HOUR, NOW), None);
    }
}
