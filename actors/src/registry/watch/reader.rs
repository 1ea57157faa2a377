//! Reads file events, on a thread of its own, and says which sessions may have news.

use super::Watched;
use crate::engine::Engine;
use crate::engine::file_marks::ReadMark;
use crate::limits::OVERFLOW_RESCAN_INTERVAL;
use crate::model::ids::SessionId;
use crate::store::central::{SessionFacts, SessionStatus};
use crate::store::session_dir::SessionFile;
use inotify::{EventMask, Inotify, WatchDescriptor};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{PoisonError, Weak};
use std::time::{Duration, Instant};

/// Room for events that are read at a time, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// The reader of one watcher's events.
pub(super) struct EventReader {
    engine: Weak<Engine>,
    watched: Watched,
    rescan: Rescan,
}

impl EventReader {
    pub fn new(engine: Weak<Engine>, watched: Watched) -> Self {
        Self { engine, watched, rescan: Rescan::default() }
    }

    /// Reads events until the other end of `stopped` is closed, or the relay is gone.
    pub fn run(mut self, mut inotify: Inotify, stopped: &OwnedFd) {
        let mut buffer = vec![0_u8; BUFFER_BYTES];
        loop {
            let woken = wait_for(&inotify, stopped, self.rescan.wait());
            if !matches!(woken, Ok(Woken::Events | Woken::InTime)) {
                return;
            }
            let Some(engine) = self.engine.upgrade() else { return };
            if let Ok(Woken::Events) = woken
                && let Ok(events) = inotify.read_events(&mut buffer)
            {
                for event in events {
                    self.event(&engine, &event.wd, event.mask, event.name);
                }
            }
            self.rescan.run_if_due(&engine);
        }
    }

    fn event(&mut self, engine: &Engine, watch: &WatchDescriptor, mask: EventMask, name: Option<&OsStr>) {
        if mask.contains(EventMask::Q_OVERFLOW) {
            self.rescan.is_wanted = true;
            return;
        }
        if mask.intersects(EventMask::IGNORED | EventMask::MOVE_SELF) {
            // Another folder may stand there now: the session is polled until that one is watched.
            let session = self.watched.lock().unwrap_or_else(PoisonError::into_inner).remove(watch);
            if let Some(session) = session {
                engine.file_marks.set_watched(&session, false);
                engine.hint(&session);
            }
            return;
        }
        if name.is_some_and(|name| name == "outbound.db-journal" || name == "outbound.db") {
            let session = self.watched.lock().unwrap_or_else(PoisonError::into_inner).get(watch).cloned();
            if let Some(session) = session {
                engine.hint(&session);
            }
        }
    }
}

/// The comparison of all sessions' files after events were lost. One agent can make the queue overflow as often as it
/// likes; it must not keep the host busy with all the others.
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
        let changed = sessions_that_may_have_changed(engine);
        engine.statistics.conditions.count_watch_overflow();
        slog::warn!(engine.logger, "file events were lost"; "sessions_changed" => changed.len());
        changed.iter().for_each(|session| engine.hint(session));
    }
}

/// The active sessions whose `outbound.db` is not as it was when it was last read to its end, or may not be.
fn sessions_that_may_have_changed(engine: &Engine) -> Vec<SessionId> {
    let mut glances = engine.sessions_root.glances();
    let mut is_as_read = |facts: &SessionFacts| {
        glances.turn_to(&facts.agent_group_id, &facts.id);
        let found = glances.at(SessionFile::Outbound);
        engine.file_marks.read(&facts.id) == Some(ReadMark { file: found, is_firm: true })
    };
    let snapshot = engine.snapshot();
    let active = snapshot.sessions.values().filter(|facts| facts.status == SessionStatus::Active);
    active.filter(|facts| !is_as_read(facts)).map(|facts| facts.id.clone()).collect()
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

#[cfg(test)]
mod tests;
