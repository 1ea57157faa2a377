//! What an operator does to a session's tasks. It goes through the session's one writer, like the agent's own actions.

use super::SessionActor;
use crate::report::TaskVerb;
use crate::supervise::activity::ActivityToken;
use actix::{Context, Handler, Message};
use tokio::sync::oneshot;

/// From the registry: change a series.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Operate {
    pub operation: TaskOperation,
}

/// What an operator wants of a series.
#[derive(Debug)]
pub(crate) struct TaskOperation {
    /// The series, by its id or that of a run that is still to be.
    pub task_id: String,
    /// What is to be done.
    pub verb: TaskVerb,
    /// Where to say how many rows that changed, or why it cannot be done.
    pub reply: oneshot::Sender<Result<usize, String>>,
    pub _token: ActivityToken,
}

impl TaskOperation {
    /// Says that it cannot be done now.
    pub fn refuse(self, reason: &str) {
        // An operator who has gone away sees what is by listing.
        let _ = self.reply.send(Err(format!("the session cannot be written: {reason}")));
    }
}

impl Handler<Operate> for SessionActor {
    type Result = ();

    fn handle(&mut self, message: Operate, ctx: &mut Context<Self>) {
        self.received += 1;
        match self.closed_inbox() {
            None => self.operations.push_back(message.operation),
            Some(reason) => message.operation.refuse(&reason),
        }
        self.pump(ctx);
    }
}
