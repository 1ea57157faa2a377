//! Where each actor is now. An address changes when an actor is restarted; nobody keeps one for long.

use crate::channel::ChannelActor;
use crate::model::ids::{ChannelType, SessionId};
use crate::registry::RegistryActor;
use crate::session::SessionActor;
use crate::sweep::SweepActor;
use crate::task_scheduler::TaskSchedulerActor;
use actix::Addr;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

/// The addresses of one relay's actors.
#[derive(Default)]
pub struct Directory {
    registry: RwLock<Option<Addr<RegistryActor>>>,
    task_scheduler: RwLock<Option<Addr<TaskSchedulerActor>>>,
    sweep: RwLock<Option<Addr<SweepActor>>>,
    channels: RwLock<HashMap<ChannelType, Addr<ChannelActor>>>,
    sessions: RwLock<HashMap<SessionId, LivingSession>>,
}

/// A session actor that has not ended, as far as known.
#[derive(Clone)]
pub struct LivingSession {
    /// Its address.
    pub address: Addr<SessionActor>,
    /// Which of the session's lives it is.
    pub incarnation: u64,
    /// Messages that the registry has forwarded to it. Kept here, so that a new registry goes on counting.
    pub forwarded: Arc<AtomicU64>,
}

macro_rules! single {
    ($get:ident, $set:ident, $field:ident, $actor:ty) => {
        /// The current address; `None` while the actor is down.
        pub fn $get(&self) -> Option<Addr<$actor>> {
            self.$field.read().unwrap_or_else(PoisonError::into_inner).clone()
        }

        /// Notes a new address, or that the actor is down.
        pub fn $set(&self, address: Option<Addr<$actor>>) {
            *self.$field.write().unwrap_or_else(PoisonError::into_inner) = address;
        }
    };
}

impl Directory {
    single!(registry, set_registry, registry, RegistryActor);
    single!(task_scheduler, set_task_scheduler, task_scheduler, TaskSchedulerActor);
    single!(sweep, set_sweep, sweep, SweepActor);

    /// The actor of a channel account.
    pub fn channel(&self, name: &ChannelType) -> Option<Addr<ChannelActor>> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Notes the actor of a channel account.
    pub fn set_channel(&self, name: ChannelType, address: Option<Addr<ChannelActor>>) {
        let mut channels = self.channels.write().unwrap_or_else(PoisonError::into_inner);
        match address {
            Some(address) => channels.insert(name, address),
            None => channels.remove(&name),
        };
    }

    /// All channel actors.
    pub fn channels(&self) -> Vec<(ChannelType, Addr<ChannelActor>)> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        channels.iter().map(|(name, address)| (name.clone(), address.clone())).collect()
    }

    /// The actor of a session.
    pub fn session(&self, id: &SessionId) -> Option<LivingSession> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Notes the actor of a session.
    pub fn add_session(&self, id: SessionId, session: LivingSession) {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner).insert(id, session);
    }

    /// Forgets a session's actor, unless a later life has taken its place.
    pub fn remove_session(&self, id: &SessionId, incarnation: u64) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if sessions.get(id).is_some_and(|living| living.incarnation == incarnation) {
            sessions.remove(id);
        }
    }

    /// All living session actors.
    pub fn sessions(&self) -> Vec<(SessionId, LivingSession)> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().map(|(id, living)| (id.clone(), living.clone())).collect()
    }

    /// The sessions that have a living actor.
    pub fn session_ids(&self) -> Vec<SessionId> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// How many session actors live.
    pub fn session_count(&self) -> usize {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}
