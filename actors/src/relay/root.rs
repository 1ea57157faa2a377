//! The root of the supervision tree: forwards every actor's end to the supervisor, and brings the supervisor
//! itself back.

use crate::engine::Engine;
use crate::supervise::exit_guard::{ActorName, Exit};
use crate::supervise::restart_policy::{Restart, RestartHistory, RestartPolicy};
use crate::sweep::{ActorEnded, SweepActor};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// Runs until the relay is shut down.
pub(super) async fn run(engine: Arc<Engine>, mut exits: UnboundedReceiver<Exit>) {
    let policy = RestartPolicy::default();
    let mut history = RestartHistory::default();
    while let Some(exit) = exits.recv().await {
        if exit.name == ActorName::Sweep {
            engine.directory.set_sweep(None);
            if engine.is_stopping() {
                continue;
            }
            slog::error!(engine.logger, "actor ended"; "actor" => %exit.name, "panicked" => exit.panicked);
            engine.statistics.count_restart();
            let delay = match history.decide(&policy, engine.now()) {
                Restart::After(delay) | Restart::TooOften { retry_in: delay } => delay,
            };
            // Ends that are reported meanwhile wait in the channel.
            tokio::time::sleep(delay).await;
            SweepActor::launch(&engine, Some(exit.token));
            continue;
        }
        // When the supervisor dies before it has dealt with this, its successor finds it here.
        engine.ends.add(&exit);
        let mut undelivered = Some(exit);
        while let (Some(exit), Some(sweep)) = (undelivered.take(), engine.directory.sweep()) {
            match sweep.try_send(ActorEnded { exit }) {
                // The end of a closed supervisor is behind this one in the channel.
                Ok(()) | Err(actix::dev::SendError::Closed(_)) => {}
                Err(actix::dev::SendError::Full(message)) => {
                    tokio::task::yield_now().await;
                    undelivered = Some(message.exit);
                }
            }
        }
    }
}
