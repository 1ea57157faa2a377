//! How often somebody who is not recognised is answered. A secret cannot be guessed; this bounds what guessing costs the
//! host and its log. Whoever has a good token is let in however many others behind the same address have failed: a proxy
//! in front of the host makes all clients one.

use nanorelay_actors::model::time::Timestamp;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Failures of one address that are answered within [`WINDOW`]. The others are only told to wait.
const FAILURES_MAX: u32 = 10;
/// See [`FAILURES_MAX`].
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// Failures by address.
#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<IpAddr, Failed>>);

struct Failed {
    since: Timestamp,
    count: u32,
}

impl Failures {
    /// Counts a failure. When there were too many, how long to wait.
    pub fn count(&self, address: IpAddr, now: Timestamp) -> Option<Duration> {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network_of(address);
        if failures.len() >= ADDRESSES_MAX && !failures.contains_key(&address) {
            failures.retain(|_, failed| now.since(failed.since) < WINDOW);
            if failures.len() >= ADDRESSES_MAX {
                return Some(WINDOW);
            }
        }
        let failed = failures.entry(address).or_insert(Failed { since: now, count: 0 });
        // Also when the clock has gone back.
        if now < failed.since || now.since(failed.since) >= WINDOW {
            *failed = Failed { since: now, count: 0 };
        }
        failed.count = failed.count.saturating_add(1);
        (failed.count > FAILURES_MAX).then(|| WINDOW.saturating_sub(now.since(failed.since)))
    }
}

/// Who has one IPv6 address has 2^64 of them.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(seconds * 1000)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn too_many_failures_of_an_address_wait_for_the_end_of_the_window() {
        let failures = Failures::default();
        for n in 0..10 {
            assert_eq!(failures.count(address("192.0.2.1"), at(n)), None);
        }
        assert_eq!(failures.count(address("192.0.2.1"), at(20)), Some(Duration::from_secs(40)));
        assert_eq!(failures.count(address("192.0.2.2"), at(20)), None, "another address");
        assert_eq!(failures.count(address("192.0.2.1"), at(60)), None, "another window");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let failures = Failures::default();
        for n in 0..10 {
            assert_eq!(failures.count(address(&format!("2001:db8::{n}")), at(0)), None);
        }
        assert!(failures.count(address("2001:db8::ffff"), at(0)).is_some());
        assert!(failures.count(address("2001:db8:0:1::1"), at(0)).is_none());
        assert_eq!(network_of(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory_and_is_over_with_its_window() {
        let failures = Failures::default();
        for n in 0..ADDRESSES_MAX as u32 {
            failures.count(IpAddr::from(n.to_be_bytes()), at(0));
        }
        assert!(failures.count(address("192.0.2.1"), at(0)).is_some());
        assert_eq!(failures.0.lock().unwrap().len(), ADDRESSES_MAX);
        assert!(failures.count(address("192.0.2.1"), at(60)).is_none());
    }
}
