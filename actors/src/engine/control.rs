//! Messages that every actor understands: end, and, in tests, panic.

use crate::channel::ChannelActor;
use crate::registry::RegistryActor;
use crate::session::SessionActor;
use crate::sweep::SweepActor;
use crate::task_scheduler::TaskSchedulerActor;
use actix::{ActorContext, Context, Handler, Message};

/// The relay is shutting down: end without being restarted.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Terminate;

/// Panic, to show that the others go on.
#[cfg(feature = "testing")]
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct InjectPanic;

macro_rules! controlled {
    ($($actor:ty),*) => {$(
        impl Handler<Terminate> for $actor {
            type Result = ();

            fn handle(&mut self, _: Terminate, ctx: &mut Context<Self>) {
                ctx.stop();
            }
        }

        #[cfg(feature = "testing")]
        impl Handler<InjectPanic> for $actor {
            type Result = ();

            fn handle(&mut self, _: InjectPanic, _: &mut Context<Self>) {
                panic!("injected");
            }
        }
    )*};
}

controlled!(RegistryActor, SessionActor, ChannelActor, TaskSchedulerActor, SweepActor);
