//! What each session's files were like when its actor last looked: a look costs a thousand times what it costs to see
//! that nothing has changed.

use crate::model::ids::SessionId;
use crate::model::sweep_findings::ChangedSession;
use crate::model::time::Timestamp;
use crate::store::ledger::{RestMark, SessionCursor};
use crate::store::session_dir::FileIdentity;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The marks of one relay's sessions, and which of their folders are watched.
#[derive(Debug, Default)]
pub struct FileMarks {
    marks: Mutex<HashMap<SessionId, Marks>>,
    watched: Mutex<HashSet<SessionId>>,
}

/// `outbound.db` before it was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMark {
    /// The file; `None` when there was none.
    pub file: Option<FileIdentity>,
    /// Whether every later change of it shows; see [`FileIdentity::is_firm`].
    pub is_firm: bool,
}

impl ReadMark {
    /// `now` lies before the look at the file.
    pub fn new(file: Option<FileIdentity>, now: Timestamp) -> Self {
        Self { file, is_firm: file.is_none_or(|file| file.is_firm(now)) }
    }
}

/// Where an actor stopped that left its session at rest: what the next one need not ask the ledger and the files for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bookmark {
    /// How far the session has been read.
    pub progress: SessionCursor,
    /// How its files were.
    pub resting: RestMark,
    /// Whether nothing in its inbox asked for upkeep.
    pub inbox_is_quiet: bool,
}

#[derive(Debug, Default)]
struct Marks {
    /// `outbound.db` before it was last read to its end.
    read: Option<ReadMark>,
    /// Present while the session rests.
    resting: Option<RestMark>,
    /// How far the actor had read that left the session at rest, and whether nothing in the inbox asked for upkeep. Present
    /// while there is no actor.
    left_at: Option<(SessionCursor, bool)>,
    /// Whether the ledger does not know that mark yet.
    is_unsaved: bool,
    /// Whether everything was read that anybody has told of.
    is_idle: bool,
}

impl FileMarks {
    /// Starts with sessions that rest already.
    pub fn new(resting: impl IntoIterator<Item = (SessionId, RestMark)>) -> Self {
        let marks = resting.into_iter().map(|(session, mark)| {
            let read = ReadMark { file: mark.outbound, is_firm: true };
            (session, Marks { read: Some(read), resting: Some(mark), is_idle: true, ..Marks::default() })
        });
        Self { marks: Mutex::new(marks.collect()), watched: Mutex::default() }
    }

    /// `outbound.db` was read to its end.
    pub fn set_read(&self, session: &SessionId, outbound: ReadMark) {
        lock(&self.marks).entry(session.clone()).or_default().read = Some(outbound);
    }

    /// `outbound.db` before it was last read to its end.
    pub fn read(&self, session: &SessionId) -> Option<ReadMark> {
        lock(&self.marks).get(session)?.read
    }

    /// The session is being worked on.
    pub fn set_busy(&self, session: &SessionId) {
        let mut all = lock(&self.marks);
        let marks = all.entry(session.clone()).or_default();
        (marks.is_idle, marks.resting) = (false, None);
    }

    /// The session is not worked on any more. `resting` is how its files are when it rests; `has_read_all`, whether
    /// everything was read that anybody has told of.
    pub fn set_idle(&self, session: &SessionId, resting: Option<RestMark>, has_read_all: bool) {
        let mut all = lock(&self.marks);
        let marks = all.entry(session.clone()).or_default();
        marks.is_unsaved |= resting.is_some() && marks.resting != resting;
        (marks.is_idle, marks.resting) = (has_read_all, resting);
    }

    /// How the session's files were when it came to rest; `None` when it did not.
    pub fn resting(&self, session: &SessionId) -> Option<RestMark> {
        lock(&self.marks).get(session)?.resting
    }

    /// Keeps where the actor of a session at rest stops. Whatever happens to the session without an actor is told to
    /// the next one by the look that starts it.
    pub fn leave_bookmark(&self, session: &SessionId, progress: SessionCursor, inbox_is_quiet: bool) {
        if let Some(marks) = lock(&self.marks).get_mut(session) {
            marks.left_at = Some((progress, inbox_is_quiet));
        }
    }

    /// Takes the bookmark: an actor that dies leaves none, and the next one asks the ledger.
    pub fn take_bookmark(&self, session: &SessionId) -> Option<Bookmark> {
        let mut all = lock(&self.marks);
        let marks = all.get_mut(session)?;
        let (progress, inbox_is_quiet) = marks.left_at.take()?;
        Some(Bookmark { progress, resting: marks.resting?, inbox_is_quiet })
    }

    /// At most `limit` marks that the ledger does not know; they count as saved from now on.
    pub fn take_unsaved(&self, limit: usize) -> Vec<(SessionId, RestMark)> {
        let mut all = lock(&self.marks);
        let unsaved = all.iter_mut().filter(|(_, marks)| marks.is_unsaved && marks.resting.is_some());
        unsaved
            .take(limit)
            .filter_map(|(session, marks)| {
                marks.is_unsaved = false;
                marks.resting.map(|mark| (session.clone(), mark))
            })
            .collect()
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

    /// How many folders are watched.
    pub fn watched_count(&self) -> usize {
        lock(&self.watched).len()
    }

    /// Nothing is watched any more.
    pub fn clear_watched(&self) {
        lock(&self.watched).clear();
    }

    /// What is known of a session whose `outbound.db` differs from what was read last.
    pub fn changed(
        &self,
        session: &SessionId,
        is_closed: bool,
        outbound: Option<FileIdentity>,
    ) -> ChangedSession {
        ChangedSession {
            is_closed,
            is_watched: self.is_watched(session),
            is_idle: lock(&self.marks).get(session).is_some_and(|marks| marks.is_idle),
            written: outbound.map(|found| Timestamp::from_ms(found.modified_ns.div_euclid(1_000_000))),
        }
    }

    /// Forgets sessions that do not exist any more.
    pub fn retain(&self, exists: impl Fn(&SessionId) -> bool) {
        lock(&self.marks).retain(|session, _| exists(session));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
