//! Many sends to a platform that throttles them, on a time that only this test knows. The choice of what to send, the
//! limits and the retries are the real ones; the platform and the clock are not.

use super::account::ChannelAccount;
use super::dispatch::Dispatcher;
use super::gate::{Answered, SendPermit};
use super::queue::QueuedDelivery;
use super::send::Attempted;
use crate::engine::holds::Holds;
use crate::model::error::{LearnedLimit, LimitScope, Receipt, SendError};
use crate::model::ids::{AgentGroupId, ChannelType, MessageId, PlatformId, SessionId, ThreadId};
use crate::model::message::{DeliveryKey, Destination, Lane};
use crate::model::rate_limit::{Rate, Rates};
use crate::model::retry::{self, RetryDecision};
use crate::model::tenant::Tenant;
use crate::model::time::Timestamp;
use crate::settings::{ChannelSettings, RetrySchedules};
use crate::testing::MockChannel;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// `NANORELAY_THROTTLED_SENDS=1000000` runs the whole simulation.
const THROTTLED_SENDS: u64 = 10_000;
const CHATS: u64 = 75;
const LANES: u64 = 300;
const IN_FLIGHT_MAX: usize = 64;
/// So many sends after each other; then the host is another one, which knows what was recorded.
const SENDS_PER_LIFE: u64 = 5_000;

struct World {
    random: fastrand::Rng,
    now: Timestamp,
    settings: ChannelSettings,
    schedules: RetrySchedules,
    holds: Holds,
    account: Arc<ChannelAccount>,
    dispatcher: Dispatcher,
    /// Messages that are not settled, by lane, with the time before which the ledger says that they are not tried.
    lanes: Vec<Vec<QueuedDelivery>>,
    /// When the answer to a send comes.
    on_their_way: BTreeMap<(Timestamp, u64), (QueuedDelivery, SendPermit)>,
    next_number: u64,
    /// What nobody may do before, as an observer of the answers knows it.
    account_not_before: Timestamp,
    chat_not_before: HashMap<PlatformId, Timestamp>,
    message_not_before: HashMap<DeliveryKey, Timestamp>,
    sends: u64,
    throttled: u64,
    settled: u64,
}

fn settings() -> ChannelSettings {
    ChannelSettings {
        rates: Rates {
            account: Some(Rate::new(Duration::from_millis(5), 50)),
            destination: Some(Rate::new(Duration::from_millis(200), 2)),
        },
        ..ChannelSettings::default()
    }
}

fn account(settings: &ChannelSettings) -> Arc<ChannelAccount> {
    ChannelAccount::new(ChannelType::new("slack").unwrap(), MockChannel::new(), settings.clone())
}

fn tenant(group: &AgentGroupId) -> Arc<Tenant> {
    Arc::new(Tenant {
        name: group.into(),
        weight: 2,
        in_flight_max: 16,
        wake_on_failure: None,
        timezone: None,
    })
}

impl World {
    fn new(seed: u64) -> Self {
        let settings = settings();
        let account = account(&settings);
        let mut schedules = RetrySchedules::default();
        for schedule in [&mut schedules.transient, &mut schedules.rate_limited, &mut schedules.unauthorized] {
            schedule.attempts_max = None;
            schedule.give_up_after = Duration::MAX;
        }
        let mut world = Self {
            random: fastrand::Rng::with_seed(seed),
            now: Timestamp::from_ms(1_800_000_000_000),
            settings,
            schedules,
            holds: Holds::default(),
            dispatcher: Dispatcher::new(Arc::clone(&account)),
            account,
            lanes: vec![Vec::new(); usize::try_from(LANES).unwrap()],
            on_their_way: BTreeMap::new(),
            next_number: 0,
            account_not_before: Timestamp::from_ms(0),
            chat_not_before: HashMap::new(),
            message_not_before: HashMap::new(),
            sends: 0,
            throttled: 0,
            settled: 0,
        };
        for lane in 0..LANES {
            for _ in 0..3 {
                world.write(lane);
            }
        }
        world
    }

    /// An agent writes one more message of a lane; some are not to be sent before a time of theirs.
    fn write(&mut self, lane: u64) {
        let number = self.next_number;
        self.next_number += 1;
        let destination = Destination {
            channel_type: ChannelType::new("slack").unwrap(),
            platform_id: PlatformId::new(&format!("slack:C{}", lane % CHATS)).unwrap(),
            thread_id: Some(ThreadId::new(&format!("thread-{lane}")).unwrap()),
        };
        let deliver_after =
            self.random.u8(..10) == 0 && self.lanes[usize::try_from(lane).unwrap()].is_empty();
        let not_before = deliver_after.then(|| self.now.plus(Duration::from_secs(self.random.u64(1..600))));
        let item = QueuedDelivery {
            session_id: SessionId::new(&format!("s{}", lane % 60)).unwrap(),
            agent_group_id: AgentGroupId::new(&format!("g{}", lane % 12)).unwrap(),
            message_id: MessageId::new(&format!("m{number}")).unwrap(),
            seq: i64::try_from(number).unwrap(),
            lane_key: Arc::from(Lane::Channel(destination.clone()).key()),
            destination,
            kind: Arc::from("chat"),
            content: Arc::from("{}"),
            files: Arc::from([]),
            not_before,
        };
        if let Some(at) = not_before {
            self.message_not_before.insert(item.key(), at);
        }
        self.lanes[usize::try_from(lane).unwrap()].push(item.clone());
        self.dispatcher.push(item, tenant, self.now);
    }

    /// Runs until so many sends were throttled.
    fn run(&mut self, throttled: u64) {
        let mut life_ends_at = SENDS_PER_LIFE;
        while self.throttled < throttled {
            self.dispatcher.look(&self.holds, self.now);
            while let Some((item, permit)) = self.dispatcher.next(&self.holds, IN_FLIGHT_MAX, self.now) {
                self.send(item, permit);
            }
            if self.sends >= life_ends_at {
                life_ends_at = self.sends + SENDS_PER_LIFE;
                self.restart();
                continue;
            }
            let answer = self.on_their_way.first_key_value().map(|((at, _), _)| *at);
            let wake = self.dispatcher.next_wake();
            let next = answer.into_iter().chain(wake).min().expect("something will happen");
            // A timer that comes again and again at the same time would be a host that spins.
            assert!(answer == Some(next) || next > self.now, "nothing happens at {next:?}");
            self.now = self.now.max(next);
            while let Some(entry) = self.on_their_way.first_entry().filter(|entry| entry.key().0 <= self.now)
            {
                let (item, permit) = entry.remove();
                self.answer(item, permit);
            }
        }
    }

    fn send(&mut self, item: QueuedDelivery, permit: SendPermit) {
        let now = self.now;
        let chat = self.chat_not_before.get(&item.destination.platform_id);
        assert!(now >= self.account_not_before, "before the account's Retry-After");
        assert!(chat.is_none_or(|at| now >= *at), "before the chat's Retry-After");
        let own = self.message_not_before.get(&item.key());
        assert!(own.is_none_or(|at| now >= *at), "before a backoff, or before deliver_after");
        assert_eq!(self.lane(&item).first().map(|first| first.seq), Some(item.seq), "out of order");
        self.sends += 1;
        let answer_at = now.plus(Duration::from_millis(self.random.u64(1..400)));
        assert!(self.on_their_way.insert((answer_at, self.sends), (item, permit)).is_none());
    }

    fn answer(&mut self, item: QueuedDelivery, permit: SendPermit) {
        let now = self.now;
        let result = self.platform(&item);
        let decision = result.as_ref().err().map(|error| {
            let random = |bound: u64| self.random.u64(0..=bound);
            retry::decide(error, &self.schedules, 1, now, now, true, random)
        });
        let retry_at = match &decision {
            Some(RetryDecision::RetryAt { at, .. }) => Some(*at),
            Some(other) => panic!("nothing dies here: {other:?}"),
            None => None,
        };
        let answered = Answered { result: result.as_ref(), retry_at, schedules: &self.schedules, now };
        permit.answered(&self.holds, &answered);
        let attempted = retry_at.map_or(Attempted::Settled, Attempted::RetryAt);
        match retry_at {
            Some(at) => {
                self.message_not_before.insert(item.key(), at);
                self.lane(&item)[0].not_before = Some(at);
            }
            None => {
                self.settled += 1;
                self.message_not_before.remove(&item.key());
                self.lane(&item).remove(0);
            }
        }
        self.dispatcher.ended(&item, &attempted, now);
        if retry_at.is_none() {
            let lane = lane_number(&item);
            self.write(lane);
        }
    }

    /// What the platform answers; what it asks for is in force from now on.
    fn platform(&mut self, item: &QueuedDelivery) -> Result<Receipt, SendError> {
        let chat = item.destination.platform_id.clone();
        let hint = Duration::from_micros(self.random.u64(1..30_000_000));
        let scope = if self.random.u8(..8) == 0 { LimitScope::Account } else { LimitScope::Destination };
        let reason = String::new();
        match self.random.u8(..100) {
            0..50 => {
                let retry_after = (self.random.u8(..10) > 0).then_some(hint);
                if retry_after.is_some() {
                    // To the microsecond: the next whole millisecond.
                    self.forbid(scope, chat, self.now.plus(hint + Duration::from_micros(999)));
                }
                self.throttled += 1;
                Err(SendError::RateLimited { retry_after, scope, reason })
            }
            50..58 => Err(SendError::Transient { retry_after: None, reason }),
            58..60 => Err(SendError::Ambiguous { reason }),
            60 => Err(SendError::Unauthorized { reason }),
            61..80 => {
                let remaining = self.random.u64(..3);
                let resets_at = self.now.plus(hint);
                if remaining == 0 {
                    self.forbid(scope, chat, resets_at);
                }
                let limit = Some(LearnedLimit { scope, remaining, resets_at });
                Ok(Receipt { platform_message_id: None, limit })
            }
            _ => Ok(Receipt::default()),
        }
    }

    fn forbid(&mut self, scope: LimitScope, chat: PlatformId, until: Timestamp) {
        match scope {
            LimitScope::Account => self.account_not_before = self.account_not_before.max(until),
            LimitScope::Destination => {
                let at = self.chat_not_before.entry(chat).or_insert(until);
                *at = until.max(*at);
            }
        }
    }

    /// Another host takes over: it knows the holds, and of each message the time before which it is not tried. The
    /// answers to what was on its way are awaited.
    fn restart(&mut self) {
        let waiting = std::mem::take(&mut self.on_their_way);
        for ((at, _), (item, permit)) in waiting {
            self.now = self.now.max(at);
            self.answer(item, permit);
        }
        let holds = self.holds.all(self.now);
        self.account = account(&self.settings);
        self.account.restore(&holds);
        self.holds = Holds::new(holds);
        self.dispatcher = Dispatcher::new(Arc::clone(&self.account));
        for item in self.lanes.iter().flatten() {
            self.dispatcher.push(item.clone(), tenant, self.now);
        }
    }

    fn lane(&mut self, item: &QueuedDelivery) -> &mut Vec<QueuedDelivery> {
        &mut self.lanes[usize::try_from(lane_number(item)).unwrap()]
    }
}

fn lane_number(item: &QueuedDelivery) -> u64 {
    let thread = item.destination.thread_id.as_ref().unwrap().as_str();
    thread.strip_prefix("thread-").unwrap().parse().unwrap()
}

#[test]
fn no_throttled_send_ever_comes_too_early() {
    let wanted = std::env::var("NANORELAY_THROTTLED_SENDS").ok();
    let throttled = wanted.map_or(THROTTLED_SENDS, |text| text.parse().expect("a number of sends"));
    let mut world = World::new(7);
    let started_at = world.now;
    world.run(throttled);
    // Every assertion stands at the send itself. Here: that it was no small or idle world.
    assert!(world.throttled >= throttled && world.settled > throttled / 10, "{} settled", world.settled);
    let hours = world.now.since(started_at).as_secs() / 3600;
    println!(
        "{} sends, {} throttled, {} settled, {hours} hours",
        world.sends, world.throttled, world.settled
    );
}
