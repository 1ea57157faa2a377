//! A mock channel as an actor.

use super::MockChannel;
use crate::channel::actor::Deliver;
use crate::channel::adapter::Channel;
use crate::model::error::{Receipt, SendError};
use actix::{Actor, Context, Handler, Recipient, ResponseFuture};
use std::sync::Arc;

/// Hands every message to its mock channel.
struct MockChannelActor {
    channel: Arc<MockChannel>,
}

impl Actor for MockChannelActor {
    type Context = Context<Self>;
}

impl Handler<Deliver> for MockChannelActor {
    type Result = ResponseFuture<Result<Receipt, SendError>>;

    fn handle(&mut self, message: Deliver, _: &mut Self::Context) -> Self::Result {
        let channel = Arc::clone(&self.channel);
        Box::pin(async move { channel.send(&message.accept()?).await })
    }
}

impl MockChannel {
    /// Starts an actor on the caller's arbiter that answers as this channel is told, for
    /// [`crate::relay::RelayBuilder::channel_actor`]. It ends with its last address.
    pub fn start_actor(self: &Arc<Self>) -> Recipient<Deliver> {
        MockChannelActor { channel: Arc::clone(self) }.start().recipient()
    }
}
