//! An operator has parked the first message of a lane.

use super::ChannelActor;
use crate::model::time::Timestamp;
use crate::supervise::activity::ActivityToken;
use actix::{Context, Handler, Message};

/// Lets lanes that wait until then, or less long, ask the ledger again whether they may send.
///
/// The ledger knows which message was parked, and refuses the others until their time.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AskAgain {
    pub until: Timestamp,
    pub _token: ActivityToken,
}

impl Handler<AskAgain> for ChannelActor {
    type Result = ();

    fn handle(&mut self, message: AskAgain, ctx: &mut Context<Self>) {
        self.dispatcher.borrow_mut().wake(message.until);
        self.dispatch(ctx);
    }
}
