//! Looks at many sessions that have no actor: so many are opened at a time, and the others wait here, without an actor.

use super::{Forward, RegistryActor};
use crate::model::ids::SessionId;
use crate::session::messages::LookReason;
use crate::supervise::activity::ActivityToken;
use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// The sessions that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct InTurn {
    waiting: VecDeque<(SessionId, LookReason, ActivityToken)>,
    /// The same: nobody waits twice for the same, however often a sweep finds a session before its turn has come.
    is_waiting: HashSet<(SessionId, LookReason)>,
    /// Whether somebody waits for the next turn.
    is_waiting_for_permit: bool,
}

/// Open the sessions whose turn it is.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct OpenInTurn;

impl RegistryActor {
    /// Looks at a session: now when it has an actor, else when it may be opened.
    pub(super) fn look_in_turn(&mut self, session: &SessionId, reason: LookReason, ctx: &mut Context<Self>) {
        let token = self.engine.activity.token();
        if self.engine.directory.session(session).is_some() || self.entries.contains_key(session) {
            return self.forward(session, Forward::Look(reason, None, token));
        }
        if self.in_turn.is_waiting.insert((session.clone(), reason)) {
            self.in_turn.waiting.push_back((session.clone(), reason, token));
            self.open_in_turn(ctx);
        }
    }

    fn open_in_turn(&mut self, ctx: &mut Context<Self>) {
        while !self.in_turn.is_waiting_for_permit && !self.in_turn.waiting.is_empty() {
            match Arc::clone(&self.engine.permits.activation).try_acquire_owned() {
                Ok(permit) => self.open_next(permit),
                Err(_) => self.wait_for_permit(ctx),
            }
        }
    }

    fn open_next(&mut self, permit: OwnedSemaphorePermit) {
        if let Some((session, reason, token)) = self.in_turn.waiting.pop_front() {
            // One that was opened meanwhile drops the permit.
            self.forward_with(&session, Forward::Look(reason, None, token), Some(permit));
            self.in_turn.is_waiting.remove(&(session, reason));
        }
    }

    /// In line with the sessions that are opened because something has happened there.
    fn wait_for_permit(&mut self, ctx: &mut Context<Self>) {
        self.in_turn.is_waiting_for_permit = true;
        let permit = Arc::clone(&self.engine.permits.activation).acquire_owned();
        let granted = permit.into_actor(self).map(|permit, registry, ctx| {
            registry.in_turn.is_waiting_for_permit = false;
            // The semaphore is never closed.
            if let Ok(permit) = permit {
                registry.open_next(permit);
            }
            ctx.notify(OpenInTurn);
        });
        ctx.spawn(granted);
    }
}

impl Handler<OpenInTurn> for RegistryActor {
    type Result = ();

    fn handle(&mut self, _: OpenInTurn, ctx: &mut Context<Self>) {
        self.open_in_turn(ctx);
    }
}
