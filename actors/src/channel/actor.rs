//! A channel that is an actor: whoever handles [`Deliver`].
//!
//! ```
//! use actix::{Actor, Context, Handler};
//! use nanorelay_actors::channel::actor::Deliver;
//! use nanorelay_actors::model::error::{Receipt, SendError};
//!
//! /// An application's chat room.
//! #[derive(Default)]
//! struct Room {
//!     lines: Vec<String>,
//! }
//!
//! impl Actor for Room {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<Deliver> for Room {
//!     type Result = Result<Receipt, SendError>;
//!
//!     fn handle(&mut self, message: Deliver, _: &mut Self::Context) -> Self::Result {
//!         let delivery = message.accept()?;
//!         self.lines.push(delivery.content.to_string());
//!         Ok(Receipt { platform_message_id: Some(format!("line-{}", self.lines.len())), ..Receipt::default() })
//!     }
//! }
//!
//! # use nanorelay_actors::{relay::Relay, testing::{DataDir, SessionSpec}};
//! # let data = DataDir::new();
//! # data.session(SessionSpec::new("ag-main").chat("room", "room:1")).text("hello");
//! # let data_dir = data.path();
//! # actix::System::new().block_on(async {
//! let room = Room::default().start();
//! let relay = Relay::builder(data_dir).channel_actor("room", room.recipient()).start().await?;
//! # assert_eq!(relay.drain(std::time::Duration::from_secs(10)).await.delivered, 1);
//! # relay.shutdown(std::time::Duration::from_secs(5)).await;
//! # Ok::<(), nanorelay_actors::relay::StartError>(())
//! # }).unwrap();
//! ```

use super::adapter::{Channel, Delivery, Idempotency};
use crate::limits::Limits;
use crate::model::error::{Receipt, SendError};
use actix::{Message, Recipient};
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Asks an actor to send one message: one try, as [`Channel::send`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Receipt, SendError>")]
pub struct Deliver {
    delivery: Delivery,
    claim: Claim,
}

impl Deliver {
    /// Takes the message. From here on, an end of the actor before its answer leaves it unknown whether it was sent.
    ///
    /// # Errors
    /// When nobody waits for the answer any more: the message is tried again later, so it must not be sent now. Hand
    /// the error back.
    pub fn accept(self) -> Result<Delivery, SendError> {
        if self.claim.change(WAITING, ACCEPTED) {
            return Ok(self.delivery);
        }
        Err(SendError::Unavailable { reason: "the message came too late to the channel's actor".to_owned() })
    }
}

impl From<Delivery> for Deliver {
    /// For whoever calls such an actor without a relay, as a test.
    fn from(delivery: Delivery) -> Self {
        Self { delivery, claim: Claim::default() }
    }
}

/// Nobody has taken the message yet.
const WAITING: u8 = 0;
/// The actor has it.
const ACCEPTED: u8 = 1;
/// The relay has taken it back.
const TAKEN_BACK: u8 = 2;

/// Who has the message. Actor and relay may be on two threads: exactly one of them gets it.
#[derive(Debug, Clone, Default)]
struct Claim(Arc<AtomicU8>);

impl Claim {
    fn change(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Takes the message back when nobody waits for its answer any more.
struct TakesBack(Claim);

impl TakesBack {
    /// Whether the actor never had it, and never will.
    fn take_back(&self) -> bool {
        self.0.change(WAITING, TAKEN_BACK)
    }
}

impl Drop for TakesBack {
    fn drop(&mut self) {
        self.take_back();
    }
}

type Lookup = Box<dyn Fn() -> Option<Recipient<Deliver>> + Send + Sync>;

/// Sends messages by an actor, on whatever arbiter it lives.
///
/// | what happens | answer |
/// |---|---|
/// | the actor answers | its answer |
/// | its mailbox is full | waits for room; `Unavailable` at the limit |
/// | it has ended, or ends before it accepts the message | `Unavailable`: surely not sent, tried again, spends no attempt |
/// | it ends, panics, or drops the answer after it accepted | `Ambiguous` |
/// | it accepts and does not answer within the limit | `Ambiguous` |
pub struct ActorChannel {
    actor: Lookup,
    idempotency: Idempotency,
    answer_within: Duration,
}

impl ActorChannel {
    /// Sends by one life of an actor. Its platform is taken to show a repeated message twice.
    pub fn new(recipient: Recipient<Deliver>) -> Self {
        Self::looked_up(move || Some(recipient.clone()))
    }

    /// Sends by whichever actor `lookup` finds at each try: for actors that are restarted. `None` = there is none now.
    pub fn looked_up(lookup: impl Fn() -> Option<Recipient<Deliver>> + Send + Sync + 'static) -> Self {
        let answer_within = answer_within(&Limits::default());
        Self { actor: Box::new(lookup), idempotency: Idempotency::None, answer_within }
    }

    /// Says what the platform behind the actor does with a message that is sent twice.
    ///
    /// # Panics
    /// With [`Idempotency::Reconcile`]: an actor cannot be asked for a message. Implement [`Channel`] for that.
    pub fn idempotency(mut self, idempotency: Idempotency) -> Self {
        assert!(idempotency != Idempotency::Reconcile, "an actor cannot be asked for a message");
        self.idempotency = idempotency;
        self
    }

    /// Chooses how long the actor may take for its answer, the wait for room in its mailbox included. Keep it below
    /// [`Limits::send_timeout`], after which every send counts as ambiguous; 9/10 of that by default.
    pub fn answer_within(mut self, limit: Duration) -> Self {
        self.answer_within = limit;
        self
    }
}

/// A little before the engine's own deadline: what the actor never saw is then not ambiguous.
pub(crate) fn answer_within(limits: &Limits) -> Duration {
    limits.send_timeout.mul_f64(0.9)
}

#[async_trait]
impl Channel for ActorChannel {
    fn idempotency(&self) -> Idempotency {
        self.idempotency
    }

    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let ended = || "the channel's actor has ended".to_owned();
        let actor = (self.actor)().ok_or_else(|| SendError::Unavailable { reason: ended() })?;
        let claim = TakesBack(Claim::default());
        let request = actor.send(Deliver { delivery: delivery.clone(), claim: claim.0.clone() });
        let reason = match tokio::time::timeout(self.answer_within, request).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(_)) => ended(),
            Err(_) => {
                format!("no answer of the channel's actor within {} s", self.answer_within.as_secs_f64())
            }
        };
        if claim.take_back() {
            Err(SendError::Unavailable { reason })
        } else {
            Err(SendError::Ambiguous { reason })
        }
    }
}

impl fmt::Debug for ActorChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { idempotency, answer_within, .. } = self;
        f.debug_struct("ActorChannel")
            .field("idempotency", idempotency)
            .field("answer_within", answer_within)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
