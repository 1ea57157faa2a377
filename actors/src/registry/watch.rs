//! Watches session folders with one inotify instance.
//!
//! In DELETE journal mode the unlink of `outbound.db-journal` is the commit; TRUNCATE and PERSIST modes end a
//! commit by truncating or clearing it and closing it. An event is only a hint: a missed one is found by the sweep.

use crate::engine::Engine;
use crate::model::ids::{AgentGroupId, SessionId};
use crate::settings;
use crate::store::central::{CentralSnapshot, SessionStatus};
use crate::store::session_dir::COMMIT_EVENTS;
use inotify::{Inotify, WatchDescriptor, WatchMask, Watches};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

mod reader;

use self::reader::EventReader;

type Watched = Arc<Mutex<HashMap<WatchDescriptor, SessionId>>>;

/// Watches the folders of active sessions.
pub(super) struct Watcher {
    engine: Weak<Engine>,
    watches: Watches,
    by_session: HashMap<SessionId, WatchDescriptor>,
    watched: Watched,
    /// Closing it ends the thread.
    _stop: OwnedFd,
}

impl Watcher {
    /// Starts watching, unless the settings say not to or the system has no inotify instance left.
    pub fn start(engine: &Arc<Engine>) -> Option<Self> {
        engine.file_marks.clear_watched();
        if engine.settings.watch == settings::Watch::Poll {
            return None;
        }
        let inotify = match Inotify::init() {
            Ok(inotify) => inotify,
            Err(error) => {
                slog::warn!(engine.logger, "session folders are polled, not watched"; "error" => %error);
                return None;
            }
        };
        let (stopped, stop) = match rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) {
            Ok(pipe) => pipe,
            Err(error) => {
                slog::warn!(engine.logger, "session folders are polled, not watched"; "error" => %error);
                return None;
            }
        };
        let watched = Watched::default();
        let watches = inotify.watches();
        let thread = std::thread::Builder::new().name("nanorelay-watch".to_owned());
        let (engine_inside, watched_inside) = (Arc::downgrade(engine), Arc::clone(&watched));
        let reader = EventReader::new(engine_inside, watched_inside);
        let spawned = thread.spawn(move || reader.run(inotify, &stopped));
        if let Err(error) = spawned {
            slog::warn!(engine.logger, "session folders are polled, not watched"; "error" => %error);
            return None;
        }
        Some(Self {
            engine: Arc::downgrade(engine),
            watches,
            by_session: HashMap::new(),
            watched,
            _stop: stop,
        })
    }

    /// How many folders are watched.
    pub fn len(&self) -> usize {
        self.by_session.len()
    }

    /// Watches a session's folder, unless it is watched already or cannot be. Says whether it is watched anew: then what
    /// was written before is found by a look only.
    pub fn watch(&mut self, group: &AgentGroupId, session: &SessionId) -> bool {
        let Some(engine) = self.engine.upgrade() else { return false };
        if engine.file_marks.is_watched(session) {
            return false;
        }
        // A folder that does not exist yet is tried again at the next look at the session.
        let Ok(directory) = engine.sessions_root.session(group, session) else { return false };
        if !directory.tells_of_changes() {
            return false;
        }
        // The former folder of that name, if there was one.
        self.forget(&engine, session);
        match directory.watch(&mut self.watches, COMMIT_EVENTS | WatchMask::MOVE_SELF) {
            Ok(descriptor) => {
                let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                watched.insert(descriptor.clone(), session.clone());
                drop(watched);
                self.by_session.insert(session.clone(), descriptor);
                engine.file_marks.set_watched(session, true);
                true
            }
            Err(error) if engine.may_warn(session) => {
                slog::warn!(engine.logger, "session folder is polled, not watched"; "session" => %session,
                    "error" => %error);
                false
            }
            Err(_) => false,
        }
    }

    fn forget(&mut self, engine: &Engine, session: &SessionId) {
        let Some(descriptor) = self.by_session.remove(session) else { return };
        engine.file_marks.set_watched(session, false);
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).remove(&descriptor);
        // Fails when the folder is gone, and its watch with it.
        let _ = self.watches.remove(descriptor);
    }

    /// Watches exactly the folders of the active sessions. Returns those that are watched anew.
    pub fn set_sessions(&mut self, snapshot: &CentralSnapshot) -> Vec<SessionId> {
        let Some(engine) = self.engine.upgrade() else { return Vec::new() };
        let is_active = |session: &SessionId| {
            snapshot.sessions.get(session).is_some_and(|facts| facts.status == SessionStatus::Active)
        };
        let gone: Vec<_> = self.by_session.keys().filter(|session| !is_active(session)).cloned().collect();
        for session in gone {
            self.forget(&engine, &session);
        }
        let active = snapshot.sessions.values().filter(|facts| facts.status == SessionStatus::Active);
        active
            .filter(|facts| self.watch(&facts.agent_group_id, &facts.id))
            .map(|facts| facts.id.clone())
            .collect()
    }
}
