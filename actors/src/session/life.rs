//! Where an actor's life begins and ends. A session at rest has no actor; what the next one would have to ask the ledger
//! and the files for is kept beside the session's marks, so that starting one costs next to nothing.

use super::step::{OwnedStore, StepContext};
use super::{SessionActor, Todo, Upkeep};
use crate::store::ledger::{RestMark, SessionCursor};
use crate::store::session_store::{SessionPlace, SessionStore};
use std::sync::Arc;

/// What an actor begins with.
pub(super) struct LifeStart {
    pub store: Option<OwnedStore>,
    pub progress: Option<SessionCursor>,
    pub resting: Option<RestMark>,
    pub todo: Todo,
}

impl LifeStart {
    /// Where the last life has stopped; without a trace of it, everything is to be found out.
    pub fn of(context: &StepContext) -> Self {
        Self::at_bookmark(context).unwrap_or_else(|| Self {
            store: None,
            progress: None,
            resting: None,
            todo: Todo { survey: true, read: true, adopting: true, upkeep: Upkeep::Yes, ..Todo::default() },
        })
    }

    fn at_bookmark(context: &StepContext) -> Option<Self> {
        let engine = &context.engine;
        let bookmark = engine.file_marks.take_bookmark(&context.session)?;
        // A section of the last life that still runs is waited for by the step that opens.
        let lease = engine.leases.try_acquire(&context.session)?;
        let place = context.place();
        let mut store = SessionStore::new(place, lease);
        store.note_quiet_inbox(bookmark.resting.inbound.filter(|_| bookmark.inbox_is_quiet));
        Some(Self {
            store: Some(OwnedStore::new(store, engine)),
            progress: Some(bookmark.progress),
            resting: Some(bookmark.resting),
            todo: Todo::default(),
        })
    }
}

impl StepContext {
    /// Where the session's folder is.
    pub(super) fn place(&self) -> SessionPlace {
        SessionPlace {
            root: Arc::clone(&self.engine.sessions_root),
            connections: Arc::clone(&self.engine.connections),
            group: self.group.clone(),
            session: self.session.clone(),
        }
    }
}

impl SessionActor {
    /// Leaves the next life what it need not find out, unless something is to be done.
    pub(super) fn leave_bookmark(&self) {
        let (Some(progress), Some(store)) = (self.progress, &self.store) else { return };
        if self.busy.is_none() && self.resting().is_some() {
            let marks = &self.engine().file_marks;
            marks.leave_bookmark(&self.context.session, progress, store.quiet_inbox().is_some());
        }
    }
}
