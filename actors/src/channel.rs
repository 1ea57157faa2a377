//! Channels: the adapter trait and the actor that drives an adapter.
//!
//! One [`ChannelActor`] per channel account. It chooses what is sent next (`dispatch.rs`) from the account's lanes
//! (`queue.rs`) as far as limits allow (`gate.rs`), and starts one task for each run of messages of a lane (`run.rs`), of
//! which each is an attempt (`send.rs`). What must not be lost is in the ledger: when the actor dies, sessions hand their messages in again.

pub mod account;
pub mod actor;
pub mod adapter;
mod attachments;
mod dispatch;
mod gate;
pub mod parts;
pub(crate) mod queue;
mod run;
mod send;
#[cfg(test)]
mod simulation;
pub(crate) mod unblock;

use crate::channel::account::ChannelAccount;
use crate::channel::dispatch::Dispatcher;
use crate::channel::queue::QueuedDelivery;
use crate::channel::run::{Ended, Lanes};
use crate::engine::Engine;
use crate::engine::events::Happened;
use crate::limits::MAILBOX_CAPACITY;
use crate::model::time::Timestamp;
use crate::report::EventKind;
use crate::session::messages::ChannelRestarted;
use crate::supervise::activity::ActivityToken;
use crate::supervise::exit_guard::{ActorName, ExitGuard};
use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use serde::Serialize;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Runs whose end is taken note of at a time.
const ENDED_AT_A_TIME: usize = 256;
/// The longest timer. What lies further ahead is looked at again then.
const TIMER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Drives one channel account.
pub struct ChannelActor {
    engine: Arc<Engine>,
    /// Runs reach into it, for as long as this actor lives.
    dispatcher: Rc<RefCell<Dispatcher>>,
    /// What each run needs of it.
    lanes: Lanes,
    /// Where runs tell of their end; taken while it is listened to.
    ended: Option<mpsc::UnboundedReceiver<Ended>>,
    /// The timer for the next thing to wait for.
    timer: Option<(Timestamp, SpawnHandle)>,
    /// Held while something can be sent.
    busy: Option<ActivityToken>,
    /// Whether it was told that something other than its own pace holds the account back.
    is_told_blocked: bool,
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

/// Says that something which holds sends back may be over.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LookAgain {
    pub _token: ActivityToken,
}

/// Asks for an [`ChannelSnapshot`].
#[derive(Message)]
#[rtype(result = "ChannelSnapshot")]
pub struct ObserveChannel;

/// The state of a channel account's actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ChannelSnapshot {
    /// The account.
    pub name: String,
    /// Messages in its lanes, those on their way included.
    pub queued: usize,
    /// Sends on their way.
    pub in_flight: usize,
    /// Lanes that a pause, a breaker or a limit of their own holds back.
    pub lanes_held_back: usize,
    /// Why nothing at all is sent; none when something is.
    pub blocked_by: Option<String>,
    /// Milliseconds since 1970 before which nothing is sent; none also when nobody knows for how long.
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
            let dispatcher = Rc::new(RefCell::new(Dispatcher::new(account)));
            // Unbounded: each message on its way says once that it has ended.
            let (sender, ended) = mpsc::unbounded_channel();
            ChannelActor {
                engine: engine_inside,
                lanes: Lanes { dispatcher: Rc::downgrade(&dispatcher), ended: sender },
                ended: Some(ended),
                dispatcher,
                timer: None,
                busy: None,
                is_told_blocked: false,
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
        let engine = Arc::clone(&self.engine);
        let mut dispatcher = self.dispatcher.borrow_mut();
        dispatcher.look(&engine.holds, now);
        // A relay that shuts down waits for what is on its way and sends nothing more.
        while !engine.is_stopping()
            && let Some((item, permit)) =
                dispatcher.next(&engine.holds, engine.settings.limits.in_flight_per_channel_max, now)
        {
            // Spawned on the arbiter, not in the actor: it must live on when the actor dies.
            actix_rt::spawn(run::run(Arc::clone(&engine), self.lanes.clone(), permit, item));
        }
        drop(dispatcher);
        self.listen(ctx);
        self.set_timer(ctx);
        self.update_busy();
        self.tell_when_blocked(now);
    }

    fn tell_when_blocked(&mut self, now: Timestamp) {
        let dispatcher = self.dispatcher.borrow();
        let blocked = dispatcher.blocked_by_trouble();
        if blocked.is_some() == self.is_told_blocked {
            return;
        }
        self.is_told_blocked = blocked.is_some();
        if let Some(blocked) = blocked {
            self.engine.events.tell(Happened {
                channel: Some(dispatcher.account_name().clone()),
                detail: Some(blocked.reason.as_str().into()),
                until: blocked.until,
                ..Happened::new(EventKind::ChannelBlocked, now)
            });
        }
    }

    /// Waits for ends of runs while there are any: it would keep the actor alive for ever.
    fn listen(&mut self, ctx: &mut Context<Self>) {
        if self.dispatcher.borrow().in_flight() == 0 {
            return;
        }
        let Some(mut ended) = self.ended.take() else { return };
        let next = async move {
            let mut batch = Vec::new();
            ended.recv_many(&mut batch, ENDED_AT_A_TIME).await;
            (ended, batch)
        };
        let taken = next.into_actor(self).map(|(ended, batch), actor, ctx| {
            actor.ended = Some(ended);
            let now = actor.engine.now();
            for (item, attempted) in &batch {
                actor.dispatcher.borrow_mut().ended(item, attempted, now);
            }
            actor.dispatch(ctx);
        });
        ctx.spawn(taken);
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let next = self.dispatcher.borrow().next_wake();
        let Some(at) = next else { return };
        match self.timer {
            Some((set, _)) if set <= at => return,
            Some((_, handle)) => {
                ctx.cancel_future(handle);
            }
            None => {}
        }
        let delay = at.since(self.engine.now()).min(TIMER_MAX);
        let handle = ctx.run_later(delay, |actor, ctx| {
            actor.timer = None;
            actor.dispatch(ctx);
        });
        self.timer = Some((at, handle));
    }

    fn update_busy(&mut self) {
        let dispatcher = self.dispatcher.borrow();
        let may_send = !self.engine.is_stopping() && dispatcher.could_send();
        let busy = dispatcher.in_flight() > 0 || may_send;
        drop(dispatcher);
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
            self.dispatcher.borrow_mut().push(item, |group| self.engine.tenants.of(group), now);
        }
        self.dispatch(ctx);
    }
}

impl Handler<LookAgain> for ChannelActor {
    type Result = ();

    fn handle(&mut self, _: LookAgain, ctx: &mut Context<Self>) {
        self.dispatch(ctx);
    }
}

impl Handler<ObserveChannel> for ChannelActor {
    type Result = actix::MessageResult<ObserveChannel>;

    fn handle(&mut self, _: ObserveChannel, _: &mut Context<Self>) -> Self::Result {
        actix::MessageResult(self.dispatcher.borrow().snapshot())
    }
}
