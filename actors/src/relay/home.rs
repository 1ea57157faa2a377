//! The arbiter on which a relay lives, for callers that are elsewhere.
//!
//! What uses timers, or code that an embedding program has written for an actix system, is run there: a caller may come from
//! another runtime, or from a thread without one.

use actix_rt::{Arbiter, ArbiterHandle};
use std::panic::resume_unwind;
use tokio::sync::oneshot;

/// Where a relay lives.
#[derive(Debug, Clone)]
pub(super) struct Home {
    arbiter: ArbiterHandle,
}

/// What becomes of work at home when its caller waits no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenCallerGoes {
    Abort,
    GoOn,
}

impl Home {
    /// The caller's arbiter; `None` outside an actix system.
    pub(super) fn here() -> Option<Self> {
        Some(Self { arbiter: Arbiter::try_current()? })
    }

    /// Runs work on the relay's arbiter; `None` when that has ended. A panic of the work is one of the caller.
    pub(super) async fn run<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        when_caller_goes: WhenCallerGoes,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Option<T> {
        let (mut reply, answer) = oneshot::channel();
        let is_started = self.arbiter.spawn_fn(move || {
            actix_rt::spawn(async move {
                let mut task = actix_rt::spawn(work());
                let done = tokio::select! {
                    done = &mut task => done,
                    () = reply.closed(), if when_caller_goes == WhenCallerGoes::Abort => {
                        task.abort();
                        return;
                    }
                };
                let _ = reply.send(done);
            });
        });
        if !is_started {
            return None;
        }
        match answer.await.ok()? {
            Ok(value) => Some(value),
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }
}
