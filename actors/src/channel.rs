//! Channels: the adapter trait and the actor that drives an adapter.
//!
//! One [`ChannelActor`] per channel account. It keeps the account's lanes, lets tenants take turns, waits for
//! retries and rate limits, and starts one task per attempt (`send.rs`). What must not be lost is in the ledger:
//! when the actor dies, sessions hand their messages in again.

pub mod account;
pub mod adapter;
pub(crate) mod queue;
mod send;
pub(crate) mod unblock;

use crate::channel::account::ChannelAccount;
use crate::channel::queue::{ChannelQueue, QueuedDelivery};
use crate::channel::send::Attempted;
use crate::engine::Engine;
use crate::limits::MAILBOX_CAPACITY;
use crate::model::error::LimitScope;
use crate::model::time::Timestamp;
use crate::session::messages::ChannelRestarted;
use crate::supervise::activity::ActivityToken;
use crate::supervise::exit_guard::{ActorName, ExitGuard};
use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// Pause after an attempt whose own code panicked.
const BROKEN_ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

/// Drives one channel account.
pub struct ChannelActor {
    engine: Arc<Engine>,
    account: Arc<ChannelAccount>,
    queue: ChannelQueue,
    /// Sends on their way.
    in_flight: usize,
    /// Nothing is sent before. The account keeps it: it must outlive this actor.
    blocked_until: Option<Timestamp>,
    /// The timer for the next thing to wait for.
    timer: Option<(Timestamp, SpawnHandle)>,
    /// Held while something can be sent.
    busy: Option<ActivityToken>,
    /// Tells the supervisor about this actor's end.
    _guard: ExitGuard,
}

/// Hands messages of one session to a channel. Those it has already are left alone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Enqueue {
    pub items: Vec<QueuedDelivery>,
    pub _token: ActivityToken,
}

/// Asks for an [`ChannelSnapshot`].
#[derive(Message)]
#[rtype(result = "ChannelSnapshot")]
pub struct ObserveChannel;

/// The state of a channel account's actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelSnapshot {
    /// The account.
    pub name: String,
    /// Messages in its lanes, those on their way included.
    pub queued: usize,
    /// Sends on their way.
    pub in_flight: usize,
    /// Milliseconds since 1970 before which nothing is sent.
    pub blocked_until_ms: Option<i64>,
}

impl ChannelActor {
    /// Starts the actor of an account and asks living sessions to hand in what they have for it.
    pub(crate) fn launch(engine: &Arc<Engine>, account: &Arc<ChannelAccount>) -> Addr<Self> {
        let name = account.name.clone();
        let guard = engine.guard(ActorName::Channel(name.clone()));
        let (engine_inside, account) = (Arc::clone(engine), Arc::clone(account));
        let address = ChannelActor::create(move |ctx: &mut Context<Self>| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            ChannelActor {
                engine: engine_inside,
                account,
                queue: ChannelQueue::default(),
                in_flight: 0,
                blocked_until: None,
                timer: None,
                busy: None,
                _guard: guard,
            }
        });
        engine.directory.set_channel(name.clone(), Some(address.clone()));
        for (session, living) in engine.directory.sessions() {
            let restarted = ChannelRestarted { account: name.clone(), _token: engine.activity.token() };
            if living.address.try_send(restarted).is_err() {
                engine.hint(&session);
            }
        }
        address
    }

    fn dispatch(&mut self, ctx: &mut Context<Self>) {
        let now = self.engine.now();
        self.queue.wake(now);
        self.blocked_until = self.account.blocked_until(now);
        let in_flight_max = self.engine.settings.limits.in_flight_per_channel_max;
        while self.may_send() && self.in_flight < in_flight_max {
            let Some(item) = self.queue.pop_ready() else { break };
            if let Some(until) = self.account.chat_blocked_until(&item.destination) {
                self.queue.retry(&item, until, now);
                continue;
            }
            self.start_attempt(item, ctx);
        }
        self.set_timer(ctx);
        self.update_busy();
    }

    /// A relay that shuts down waits for what is on its way and sends nothing more.
    fn may_send(&self) -> bool {
        self.blocked_until.is_none() && !self.engine.is_stopping()
    }

    fn start_attempt(&mut self, item: QueuedDelivery, ctx: &mut Context<Self>) {
        self.in_flight += 1;
        let attempt = send::attempt(Arc::clone(&self.engine), Arc::clone(&self.account), item.clone());
        // Spawned on the arbiter, not in the actor: it must live on when the actor dies.
        let task = actix_rt::spawn(attempt);
        let finished = task.into_actor(self).map(move |result, actor, ctx| {
            actor.in_flight -= 1;
            let now = actor.engine.now();
            match result {
                Ok(Attempted::Settled) => actor.queue.settled(&item, now),
                Ok(Attempted::RetryAt { at, blocks }) => {
                    actor.block(&item, at, blocks);
                    actor.queue.retry(&item, at, now);
                }
                // The attempt's own code panicked: the next one finds in the ledger how far this one came.
                Err(_) => actor.queue.retry(&item, now.plus(BROKEN_ATTEMPT_PAUSE), now),
            }
            actor.dispatch(ctx);
        });
        ctx.spawn(finished);
    }

    fn block(&self, item: &QueuedDelivery, until: Timestamp, scope: Option<LimitScope>) {
        match scope {
            None => {}
            Some(LimitScope::Account) => self.account.block(until),
            Some(LimitScope::Destination) => {
                let destination = item.destination.clone();
                self.account.block_chat(destination.channel_type, destination.platform_id, until);
            }
        }
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let next = match (self.blocked_until, self.queue.next_wake()) {
            (Some(blocked), _) if self.queue.has_ready() => Some(blocked),
            (blocked, wake) => wake.map(|wake| blocked.map_or(wake, |blocked| blocked.max(wake))),
        };
        let Some(at) = next else { return };
        match self.timer {
            Some((set, _)) if set <= at => return,
            Some((_, handle)) => {
                ctx.cancel_future(handle);
            }
            None => {}
        }
        let delay = at.since(self.engine.now());
        let handle = ctx.run_later(delay, |actor, ctx| {
            actor.timer = None;
            actor.dispatch(ctx);
        });
        self.timer = Some((at, handle));
    }

    fn update_busy(&mut self) {
        let busy = self.in_flight > 0 || (self.may_send() && self.queue.has_ready());
        match (busy, self.busy.is_some()) {
            (true, false) => self.busy = Some(self.engine.activity.token()),
            (false, true) => self.busy = None,
            _ => {}
        }
    }
}

impl Actor for ChannelActor {
    type Context = Context<Self>;
}

impl Handler<Enqueue> for ChannelActor {
    type Result = ();

    fn handle(&mut self, message: Enqueue, ctx: &mut Context<Self>) {
        let now = self.engine.now();
        for item in message.items {
            self.queue.push(item, now);
        }
        self.dispatch(ctx);
    }
}

impl Handler<ObserveChannel> for ChannelActor {
    type Result = actix::MessageResult<ObserveChannel>;

    fn handle(&mut self, _: ObserveChannel, _: &mut Context<Self>) -> Self::Result {
        actix::MessageResult(ChannelSnapshot {
            name: self.account.name.to_string(),
            queued: self.queue.len(),
            in_flight: self.in_flight,
            blocked_until_ms: self.blocked_until.map(Timestamp::as_ms),
        })
    }
}
