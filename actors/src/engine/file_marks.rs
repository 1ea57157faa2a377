//! What each session's files were like when its actor last looked: a look costs a thousand times what it costs to see
//! that nothing has changed.

use crate::model::ids::SessionId;
use crate::model::time::Timestamp;
use crate::store::session_dir::FileIdentity;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The marks of one relay's sessions, and which of their folders are watched.
#[derive(Debug, Default)]
pub struct FileMarks {
    read: Mutex<HashMap<SessionId, Option<FileIdentity>>>,
    resting: Mutex<HashMap<SessionId, Resting>>,
    watched: Mutex<HashSet<SessionId>>,
}

/// A session in which nothing is to be done before one of its files changes, or before the time that the task
/// scheduler was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resting {
    /// `inbound.db`; `None` when there is none.
    pub inbound: Option<FileIdentity>,
    /// The agent's last sign of life.
    pub heartbeat: Option<Timestamp>,
}

impl FileMarks {
    /// `outbound.db` was read to its end; it was like this before (`None`: there was none).
    pub fn set_read(&self, session: &SessionId, outbound: Option<FileIdentity>) {
        lock(&self.read).insert(session.clone(), outbound);
    }

    /// Whether `outbound.db` is as it was when it was last read to its end.
    pub fn is_read(&self, session: &SessionId, outbound: Option<FileIdentity>) -> bool {
        lock(&self.read).get(session) == Some(&outbound)
    }

    /// The session rests, or does not any more.
    pub fn set_resting(&self, session: &SessionId, resting: Option<Resting>) {
        let mut all = lock(&self.resting);
        match resting {
            Some(resting) => all.insert(session.clone(), resting),
            None => all.remove(session),
        };
    }

    /// How the session's files were when it came to rest; `None` when it did not.
    pub fn resting(&self, session: &SessionId) -> Option<Resting> {
        lock(&self.resting).get(session).copied()
    }

    /// Whether changes in the session's folder are heard of.
    pub fn set_watched(&self, session: &SessionId, is_watched: bool) {
        let mut watched = lock(&self.watched);
        if is_watched {
            watched.insert(session.clone());
        } else {
            watched.remove(session);
        }
    }

    /// See [`FileMarks::set_watched`].
    pub fn is_watched(&self, session: &SessionId) -> bool {
        lock(&self.watched).contains(session)
    }

    /// Nothing is watched any more.
    pub fn clear_watched(&self) {
        lock(&self.watched).clear();
    }

    /// Forgets sessions that do not exist any more.
    pub fn retain(&self, exists: impl Fn(&SessionId) -> bool) {
        lock(&self.read).retain(|session, _| exists(session));
        lock(&self.resting).retain(|session, _| exists(session));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
