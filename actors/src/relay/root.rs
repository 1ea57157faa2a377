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
            SweepActor::launch(&engine);
            continue;
        }
        let mut undelivered = Some(exit);
        while let Some(exit) = undelivered.take() {
            let Some(sweep) = engine.directory.sweep() else {
                // The supervisor has died and its end is behind this one in the channel.
                SweepActor::launch(&engine);
                undelivered = Some(exit);
                continue;
            };
            match sweep.try_send(ActorEnded { exit }) {
                Ok(()) => {}
                Err(actix::dev::SendError::Closed(message)) => {
                    engine.directory.set_sweep(None);
                    undelivered = Some(message.exit);
                }
                Err(actix::dev::SendError::Full(message)) => {
                    tokio::task::yield_now().await;
                    undelivered = Some(message.exit);
                }
            }
        }
    }
}
