//! When sending is pointless for a while: circuit breakers of an account and of each of its chats.
//!
//! ```text
//!            failures in a row                its time is over
//!  closed ────────────────────► open ────────────────────────► half open
//!    ▲                           ▲                                 │ one probe
//!    │                           └──────── the probe failed ───────┤ (open for twice as long)
//!    └──────────────────────────────────── the probe was taken ────┘
//! ```
//!
//! Nothing is sent while a breaker is open: that time spends no attempts.

use super::hold::Blocked;
use super::time::Timestamp;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

/// Failures of one or two chats alone never open the account's breaker: it takes so many chats.
const FAILING_DESTINATIONS_MIN: usize = 3;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it; 0 = it never opens.
    pub failures: u32,
    /// How long it is open the first time; doubled each time that its probe fails.
    pub open_min: Duration,
    /// The longest that it is open.
    pub open_max: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, open_min: Duration::from_secs(1), open_max: Duration::from_secs(60) }
    }
}

/// What a send tells about the way to the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It answered as one that works: it took the message, or had something to say about it.
    Works,
    /// It could not be reached, or had trouble of its own.
    Fails,
    /// It refuses the credentials. Nothing is sent before a time that starts at the first and doubles up to the second.
    Refuses {
        /// The first time.
        open_min: Duration,
        /// The longest time.
        open_max: Duration,
    },
    /// Nothing: it asked to wait, or no send came about.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    /// `opened` counts how often in a row.
    Open {
        until: Timestamp,
        opened: u32,
    },
    /// One send is on its way to see whether it works again.
    Probing {
        opened: u32,
    },
}

/// One breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Breaker(State);

/// Whether a breaker lets a send through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    Free,
    /// As the one that sees whether it works again.
    Probe,
    /// Not before that time; `None` = not before the probe has ended.
    Blocked(Option<Timestamp>),
}

impl Breaker {
    const CLOSED: Breaker = Breaker(State::Closed { failures: 0 });

    fn admission(&self, now: Timestamp) -> Admission {
        match self.0 {
            State::Closed { .. } => Admission::Free,
            State::Open { until, .. } if until <= now => Admission::Probe,
            State::Open { until, .. } => Admission::Blocked(Some(until)),
            State::Probing { .. } => Admission::Blocked(None),
        }
    }

    /// Whether it is not closed.
    fn is_open(&self) -> bool {
        !matches!(self.0, State::Closed { .. })
    }

    fn begin_probe(&mut self) {
        if let State::Open { opened, .. } = self.0 {
            self.0 = State::Probing { opened };
        }
    }

    /// `may_open` says whether failures, if there are enough of them, open it.
    fn note(
        &mut self,
        news: News,
        is_probe: bool,
        may_open: bool,
        settings: &BreakerSettings,
        now: Timestamp,
    ) {
        match (self.0, news) {
            (State::Closed { failures }, News::Fails) => {
                let failures = failures.saturating_add(1);
                let is_enough = settings.failures > 0 && failures >= settings.failures && may_open;
                self.0 = match is_enough {
                    true => opened(1, settings.open_min, settings.open_max, now),
                    false => State::Closed { failures },
                };
            }
            (State::Closed { .. }, News::Works) => *self = Self::CLOSED,
            (State::Closed { .. }, News::Refuses { open_min, open_max }) => {
                self.0 = opened(1, open_min, open_max, now);
            }
            (State::Probing { opened: count }, news) if is_probe => {
                let count = count.saturating_add(1);
                self.0 = match news {
                    News::Works => Self::CLOSED.0,
                    News::Fails => opened(count, settings.open_min, settings.open_max, now),
                    News::Refuses { open_min, open_max } => opened(count, open_min, open_max, now),
                    // It learned nothing: the next send is the probe.
                    News::Nothing => State::Open { until: now, opened: count - 1 },
                };
            }
            // These were sent before it opened, and tell nothing new.
            _ => {}
        }
    }
}

fn opened(count: u32, open_min: Duration, open_max: Duration, now: Timestamp) -> State {
    let factor = 1_u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX);
    let time = open_min.saturating_mul(factor).min(open_max).max(Duration::from_millis(1));
    State::Open { until: now.plus(time), opened: count }
}

/// What a send was let through as; to be given back with its [`News`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticket {
    probes_account: bool,
    probes_destination: bool,
}

impl Ticket {
    /// Whether others wait for how it ends.
    pub fn is_probe(self) -> bool {
        self.probes_account || self.probes_destination
    }
}

/// The breakers of one channel account and of its chats, `K`.
#[derive(Debug)]
pub struct Breakers<K> {
    settings: BreakerSettings,
    account: Breaker,
    /// Chats that have failed since the account last worked; never more than matter.
    failing: HashSet<K>,
    /// Those that are not closed without a failure.
    destinations: HashMap<K, Breaker>,
}

impl<K: Clone + Eq + Hash> Breakers<K> {
    /// All closed.
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, account: Breaker::CLOSED, failing: HashSet::new(), destinations: HashMap::new() }
    }

    /// Opens the account's breaker until a time that an earlier life of the host has found out.
    pub fn suspend_account(&mut self, until: Timestamp) {
        self.account.0 = State::Open { until, opened: 1 };
    }

    /// Closes everything: an operator knows better.
    pub fn reset(&mut self) {
        self.account = Breaker::CLOSED;
        self.failing.clear();
        self.destinations.clear();
    }

    /// Until when the account may not send.
    pub fn account_blocked(&self, now: Timestamp) -> Option<Blocked> {
        blocked(self.account.admission(now), "channel")
    }

    /// Until when a chat may not be sent to, as far as its own breaker says.
    pub fn destination_blocked(&self, destination: &K, now: Timestamp) -> Option<Blocked> {
        blocked(self.destinations.get(destination)?.admission(now), "destination")
    }

    /// A send begins. Ask both before.
    pub fn begin(&mut self, destination: &K, now: Timestamp) -> Ticket {
        let mut ticket = Ticket::default();
        if self.account.admission(now) == Admission::Probe {
            self.account.begin_probe();
            ticket.probes_account = true;
        }
        if let Some(breaker) = self.destinations.get_mut(destination)
            && breaker.admission(now) == Admission::Probe
        {
            breaker.begin_probe();
            ticket.probes_destination = true;
        }
        ticket
    }

    /// A send has ended.
    pub fn end(&mut self, destination: &K, ticket: Ticket, news: News, now: Timestamp) {
        let is_known_to_fail = self.destinations.get(destination).is_some_and(Breaker::is_open);
        let of_account = match news {
            // One of which this was known says nothing about the others.
            News::Fails if is_known_to_fail => News::Nothing,
            news => news,
        };
        match of_account {
            News::Works => self.failing.clear(),
            News::Fails if self.failing.len() < FAILING_DESTINATIONS_MIN => {
                self.failing.insert(destination.clone());
            }
            _ => {}
        }
        let may_open = self.failing.len() >= FAILING_DESTINATIONS_MIN;
        self.account.note(of_account, ticket.probes_account, may_open, &self.settings, now);
        // Credentials are the account's.
        let news = if matches!(news, News::Refuses { .. }) { News::Nothing } else { news };
        let breaker = self.destinations.entry(destination.clone()).or_insert(Breaker::CLOSED);
        breaker.note(news, ticket.probes_destination, true, &self.settings, now);
        if *breaker == Breaker::CLOSED {
            self.destinations.remove(destination);
        }
    }
}

fn blocked(admission: Admission, what: &str) -> Option<Blocked> {
    match admission {
        Admission::Free | Admission::Probe => None,
        Admission::Blocked(until) => Some(Blocked { until, reason: format!("{what} breaker open") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);
    const REFUSES: News =
        News::Refuses { open_min: Duration::from_secs(60), open_max: Duration::from_secs(3600) };

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(START.as_ms() + ms)
    }

    fn breakers() -> Breakers<&'static str> {
        Breakers::new(BreakerSettings { failures: 3, ..BreakerSettings::default() })
    }

    /// Sends one message and says how it went.
    fn send(breakers: &mut Breakers<&'static str>, chat: &'static str, news: News, now: Timestamp) {
        assert_eq!(breakers.account_blocked(now), None);
        assert_eq!(breakers.destination_blocked(&chat, now), None);
        let ticket = breakers.begin(&chat, now);
        breakers.end(&chat, ticket, news, now);
    }

    fn until(blocked: Option<Blocked>) -> Option<Timestamp> {
        blocked.expect("it is open").until
    }

    #[test]
    fn failures_in_a_row_open_a_chats_breaker_and_only_that() {
        let mut breakers = breakers();
        for news in [News::Fails, News::Fails, News::Works, News::Fails, News::Fails] {
            send(&mut breakers, "a", news, START);
            assert_eq!(breakers.destination_blocked(&"a", START), None);
        }
        send(&mut breakers, "a", News::Fails, START);
        assert_eq!(until(breakers.destination_blocked(&"a", at(999))), Some(at(1000)));
        assert_eq!(breakers.account_blocked(START), None);
        assert_eq!(breakers.destination_blocked(&"b", START), None);
    }

    #[test]
    fn several_failing_chats_open_the_accounts_breaker() {
        let mut breakers = breakers();
        send(&mut breakers, "a", News::Fails, START);
        send(&mut breakers, "a", News::Fails, START);
        send(&mut breakers, "b", News::Fails, START);
        assert_eq!(breakers.account_blocked(START), None, "two are not several");
        send(&mut breakers, "c", News::Fails, START);
        assert_eq!(until(breakers.account_blocked(START)), Some(at(1000)));
        // One that is known to fail says nothing about the account, not even as its probe.
        send(&mut breakers, "a", News::Fails, at(1000));
        assert_eq!(until(breakers.account_blocked(at(1000))), Some(at(3000)));
        send(&mut breakers, "a", News::Fails, at(3000));
        assert_eq!(breakers.account_blocked(at(3000)), None, "the next one is the probe");
        send(&mut breakers, "d", News::Works, at(3000));
        assert_eq!(breakers.account_blocked(at(3000)), None);
    }

    #[test]
    fn one_probe_at_a_time_decides_and_the_open_time_grows() {
        let mut breakers = breakers();
        for _ in 0..3 {
            send(&mut breakers, "a", News::Fails, START);
        }
        let mut now = at(1000);
        for open_s in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(breakers.destination_blocked(&"a", now), None, "the probe may go");
            let ticket = breakers.begin(&"a", now);
            assert!(ticket.is_probe());
            assert_eq!(until(breakers.destination_blocked(&"a", now)), None, "and nothing beside it");
            breakers.end(&"a", ticket, News::Fails, now);
            let next = now.plus(Duration::from_secs(open_s));
            assert_eq!(until(breakers.destination_blocked(&"a", now)), Some(next));
            now = next;
        }
        send(&mut breakers, "a", News::Works, now);
        assert_eq!(breakers.destination_blocked(&"a", now), None);
        assert!(breakers.destinations.is_empty(), "a chat that works needs no memory");
    }

    #[test]
    fn a_probe_that_learns_nothing_leaves_its_place_to_the_next() {
        let mut breakers = breakers();
        send(&mut breakers, "a", REFUSES, START);
        let now = at(60_000);
        for _ in 0..3 {
            let ticket = breakers.begin(&"a", now);
            assert!(ticket.is_probe());
            breakers.end(&"a", ticket, News::Nothing, now);
            assert_eq!(breakers.account_blocked(now), None);
        }
        send(&mut breakers, "a", REFUSES, now);
        assert_eq!(until(breakers.account_blocked(now)), Some(at(180_000)), "the second time");
    }

    #[test]
    fn refused_credentials_suspend_the_account_at_once() {
        let mut breakers = breakers();
        send(&mut breakers, "a", REFUSES, START);
        assert_eq!(until(breakers.account_blocked(START)), Some(at(60_000)));
        assert_eq!(breakers.destination_blocked(&"a", START), None);
        send(&mut breakers, "b", News::Works, at(60_000));
        assert_eq!(breakers.account_blocked(at(60_000)), None);
        breakers.suspend_account(at(90_000));
        assert_eq!(until(breakers.account_blocked(at(60_000))), Some(at(90_000)));
        breakers.reset();
        assert_eq!(breakers.account_blocked(at(60_000)), None);
    }

    #[test]
    fn what_was_sent_before_it_opened_neither_closes_nor_prolongs_it() {
        let mut breakers = breakers();
        let early: Vec<_> = (0..5).map(|_| breakers.begin(&"a", START)).collect();
        for ticket in &early[..3] {
            breakers.end(&"a", *ticket, News::Fails, START);
        }
        breakers.end(&"a", early[3], News::Works, at(10));
        breakers.end(&"a", early[4], News::Fails, at(20));
        assert_eq!(until(breakers.destination_blocked(&"a", at(20))), Some(at(1000)));
    }

    #[test]
    fn a_breaker_that_is_switched_off_never_opens() {
        let mut breakers = Breakers::new(BreakerSettings { failures: 0, ..BreakerSettings::default() });
        for chat in ["a", "b", "c"].into_iter().cycle().take(100) {
            send(&mut breakers, chat, News::Fails, START);
        }
    }

    fn any_news() -> impl Strategy<Value = News> {
        prop_oneof![
            3 => Just(News::Fails),
            1 => Just(News::Works),
            1 => Just(News::Nothing),
            1 => Just(REFUSES),
        ]
    }

    proptest! {
        #[test]
        fn nothing_goes_before_the_end_of_the_open_time_and_one_probe_at_most(
            steps in prop::collection::vec((0_usize..3, any_news(), 0_i64..3000, any::<bool>()), 1..300),
        ) {
            let chats = ["a", "b", "c"];
            let mut breakers = breakers();
            let (mut now, mut on_their_way) = (START, Vec::<(&str, Ticket)>::new());
            // The latest time that was ever named: of the account, and of each chat.
            let mut named = [START; 4];
            for (chat, news, pause_ms, answers_first) in steps {
                now = Timestamp::from_ms(now.as_ms() + pause_ms);
                if answers_first && !on_their_way.is_empty() {
                    let (chat, ticket) = on_their_way.swap_remove(0);
                    breakers.end(&chat, ticket, news, now);
                }
                let blocked = |number: usize| match chats.get(number) {
                    Some(chat) => breakers.destination_blocked(chat, now),
                    None => breakers.account_blocked(now),
                };
                for (number, named) in named.iter_mut().enumerate() {
                    let until = blocked(number).and_then(|blocked| blocked.until);
                    *named = until.map_or(*named, |until| until.max(*named));
                }
                if blocked(chat).is_none() && blocked(3).is_none() {
                    prop_assert!(now >= named[chat] && now >= named[3], "closed before its time");
                    on_their_way.push((chats[chat], breakers.begin(&chats[chat], now)));
                }
                let probes = |is_probe: &dyn Fn(&(&str, Ticket)) -> bool| {
                    on_their_way.iter().filter(|sent| is_probe(sent)).count()
                };
                prop_assert!(probes(&|(_, ticket)| ticket.probes_account) <= 1);
                for chat in chats {
                    prop_assert!(probes(&|(sent, ticket)| *sent == chat && ticket.probes_destination) <= 1);
                }
            }
        }

        #[test]
        fn two_failing_chats_never_open_the_accounts_breaker(
            failures in prop::collection::vec(any::<bool>(), 1..200),
            others in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let mut breakers = breakers();
            let mut now = START;
            for (step, is_first) in failures.into_iter().enumerate() {
                now = now.plus(Duration::from_secs(61));
                send(&mut breakers, if is_first { "bad" } else { "bad too" }, News::Fails, now);
                if others.get(step) == Some(&true) {
                    send(&mut breakers, "good", News::Works, now);
                }
                prop_assert_eq!(breakers.account_blocked(now), None);
            }
        }
    }
}
