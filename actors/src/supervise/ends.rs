//! Ends of actors that have not been dealt with. They are kept outside the supervisor: when it dies itself, its
//! successor finds what it had still to do.

use super::exit_guard::{ActorName, Exit};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The ends that are waiting, one for each life that ended.
#[derive(Debug, Default)]
pub struct Ends {
    /// Whether the life ended by a panic.
    waiting: Mutex<HashMap<(ActorName, u64), bool>>,
}

impl Ends {
    /// Notes an end.
    pub fn add(&self, exit: &Exit) {
        self.lock().insert((exit.name.clone(), exit.incarnation), exit.panicked);
    }

    /// Forgets an end: the actor is back, or stays away for good.
    pub fn done(&self, name: &ActorName, incarnation: u64) {
        self.lock().remove(&(name.clone(), incarnation));
    }

    /// All that wait: who ended, which of its lives, and whether by a panic.
    pub fn all(&self) -> Vec<(ActorName, u64, bool)> {
        let waiting = self.lock();
        waiting.iter().map(|((name, life), panicked)| (name.clone(), *life, *panicked)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(ActorName, u64), bool>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
