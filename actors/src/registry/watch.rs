//! Watches session folders with one inotify instance.
//!
//! In DELETE journal mode the unlink of `outbound.db-journal` is the commit; TRUNCATE and PERSIST modes end a
//! commit by closing or truncating it. An event is only a hint: a missed one is found by the sweep.

use crate::engine::Engine;
use crate::limits::OVERFLOW_RESCAN_INTERVAL;
use crate::model::ids::{AgentGroupId, SessionId};
use crate::settings;
use crate::store::central::{CentralSnapshot, SessionStatus};
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

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
        let spawned = thread.spawn(move || read_events(inotify, &stopped, &engine_inside, &watched_inside));
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
        let mask = WatchMask::DELETE | WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO;
        match directory.watch(&mut self.watches, mask | WatchMask::MOVE_SELF) {
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

/// Reads events until the other end of `stopped` is closed.
fn read_events(mut inotify: Inotify, stopped: &OwnedFd, engine: &Weak<Engine>, watched: &Watched) {
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut rescan = Rescan::default();
    loop {
        match wait_for(&inotify, stopped, rescan.wait()) {
            Ok(Woken::Events) => {}
            Ok(Woken::InTime) => {
                let Some(engine) = engine.upgrade() else { return };
                rescan.run_if_due(&engine);
                continue;
            }
            Ok(Woken::Stopped) | Err(_) => return,
        }
        let Ok(events) = inotify.read_events(&mut buffer) else { continue };
        let Some(engine) = engine.upgrade() else { return };
        for event in events {
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                rescan.is_wanted = true;
                continue;
            }
            if event.mask.intersects(EventMask::IGNORED | EventMask::MOVE_SELF) {
                // Another folder may stand there now: the session is polled until that one is watched.
                let session = watched.lock().unwrap_or_else(PoisonError::into_inner).remove(&event.wd);
                if let Some(session) = session {
                    engine.file_marks.set_watched(&session, false);
                    engine.hint(&session);
                }
                continue;
            }
            let tells_of_a_commit =
                event.name.is_some_and(|name| name == "outbound.db-journal" || name == "outbound.db");
            if !tells_of_a_commit {
                continue;
            }
            let session = watched.lock().unwrap_or_else(PoisonError::into_inner).get(&event.wd).cloned();
            if let Some(session) = session {
                engine.hint(&session);
            }
        }
        rescan.run_if_due(&engine);
    }
}

/// The looks at all sessions after events were lost. One agent can make the queue overflow as often as it likes; it
/// must not keep the host busy with all the others.
#[derive(Default)]
struct Rescan {
    is_wanted: bool,
    last: Option<Instant>,
}

impl Rescan {
    /// How long until a wanted one may run.
    fn wait(&self) -> Option<Duration> {
        let elapsed = self.last.map_or(OVERFLOW_RESCAN_INTERVAL, |last| last.elapsed());
        self.is_wanted.then(|| OVERFLOW_RESCAN_INTERVAL.saturating_sub(elapsed))
    }

    fn run_if_due(&mut self, engine: &Engine) {
        if self.wait().is_none_or(|wait| !wait.is_zero()) {
            return;
        }
        *self = Self { is_wanted: false, last: Some(Instant::now()) };
        engine.statistics.conditions.count_watch_overflow();
        slog::warn!(engine.logger, "file events were lost, looking at every session");
        for session in engine.snapshot().sessions.keys() {
            engine.hint(session);
        }
    }
}

/// Why the wait ended.
enum Woken {
    Events,
    InTime,
    Stopped,
}

/// Waits for events, for at most `timeout`, and until the watcher is gone.
fn wait_for(inotify: &Inotify, stopped: &OwnedFd, timeout: Option<Duration>) -> rustix::io::Result<Woken> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    // A millisecond more, so that the time is over when it ends.
    let timeout = timeout.and_then(|wait| Timespec::try_from(wait + Duration::from_millis(1)).ok());
    loop {
        let mut descriptors = [
            PollFd::from_borrowed_fd(inotify.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
        ];
        let ready = match poll(&mut descriptors, timeout.as_ref()) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error),
        };
        return Ok(match ready {
            0 => Woken::InTime,
            _ if descriptors[1].revents().is_empty() => Woken::Events,
            _ => Woken::Stopped,
        });
    }
}
