//! What each session's files were like when its actor last looked: a look costs a thousand times what it costs to see
//! that nothing has changed.

use crate::model::ids::SessionId;
use crate::model::sweep_findings::ChangedSession;
use crate::model::time::Timestamp;
use crate::store::ledger::{RestMark, SessionCursor};
use crate::store::session_dir::FileIdentity;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The marks of one relay's sessions, and which of their folders are watched.
#[derive(Debug, Default)]
pub struct FileMarks {
    all: Mutex<AllMarks>,
}

/// One entry for each session, so that a sweep looks each of them up once.
#[derive(Debug, Default)]
struct AllMarks {
    by_session: HashMap<SessionId, Marks>,
    /// Sessions that are marked as unsaved, and perhaps others: a sweep need not search for them among all.
    unsaved: Vec<SessionId>,
    /// How many are marked as watched.
    watched: usize,
}

/// What is known of a session's files without looking at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KnownFiles {
    /// `outbound.db` before it was last read to its end.
    pub read: Option<ReadMark>,
    /// How the files were when the session came to rest; `None` when it did not.
    pub resting: Option<RestMark>,
    /// Whether changes in the session's folder are heard of.
    pub is_watched: bool,
    /// Whether nobody works on it, and everything was read that anybody has told of.
    pub is_idle: bool,
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
    /// Whether changes in the session's folder are heard of.
    is_watched: bool,
}

impl FileMarks {
    /// Starts with sessions that rest already.
    pub fn new(resting: impl IntoIterator<Item = (SessionId, RestMark)>) -> Self {
        let marks = resting.into_iter().map(|(session, mark)| {
            let read = ReadMark { file: mark.outbound, is_firm: true };
            (session, Marks { read: Some(read), resting: Some(mark), is_idle: true, ..Marks::default() })
        });
        Self { all: Mutex::new(AllMarks { by_session: marks.collect(), ..AllMarks::default() }) }
    }

    /// Everything at once, for a round over all sessions.
    pub fn known(&self, session: &SessionId) -> KnownFiles {
        let all = self.lock();
        let Some(marks) = all.by_session.get(session) else { return KnownFiles::default() };
        let Marks { read, resting, is_watched, is_idle, .. } = *marks;
        KnownFiles { read, resting, is_watched, is_idle }
    }

    /// `outbound.db` was read to its end.
    pub fn set_read(&self, session: &SessionId, outbound: ReadMark) {
        self.lock().marks_of(session).read = Some(outbound);
    }

    /// `outbound.db` before it was last read to its end.
    pub fn read(&self, session: &SessionId) -> Option<ReadMark> {
        self.lock().by_session.get(session)?.read
    }

    /// The session is being worked on.
    pub fn set_busy(&self, session: &SessionId) {
        let mut all = self.lock();
        let marks = all.marks_of(session);
        (marks.is_idle, marks.resting) = (false, None);
    }

    /// The session is not worked on any more. `resting` is how its files are when it rests; `has_read_all`, whether
    /// everything was read that anybody has told of.
    pub fn set_idle(&self, session: &SessionId, resting: Option<RestMark>, has_read_all: bool) {
        let mut all = self.lock();
        let marks = all.marks_of(session);
        let was_unsaved = marks.is_unsaved;
        marks.is_unsaved |= resting.is_some() && marks.resting != resting;
        (marks.is_idle, marks.resting) = (has_read_all, resting);
        if marks.is_unsaved && !was_unsaved {
            all.unsaved.push(session.clone());
        }
    }

    /// How the session's files were when it came to rest; `None` when it did not.
    pub fn resting(&self, session: &SessionId) -> Option<RestMark> {
        self.lock().by_session.get(session)?.resting
    }

    /// Keeps where the actor of a session at rest stops. Whatever happens to the session without an actor is told to
    /// the next one by the look that starts it.
    pub fn leave_bookmark(&self, session: &SessionId, progress: SessionCursor, inbox_is_quiet: bool) {
        if let Some(marks) = self.lock().by_session.get_mut(session) {
            marks.left_at = Some((progress, inbox_is_quiet));
        }
    }

    /// Takes the bookmark: an actor that dies leaves none, and the next one asks the ledger.
    pub fn take_bookmark(&self, session: &SessionId) -> Option<Bookmark> {
        let mut all = self.lock();
        let marks = all.by_session.get_mut(session)?;
        let (progress, inbox_is_quiet) = marks.left_at.take()?;
        Some(Bookmark { progress, resting: marks.resting?, inbox_is_quiet })
    }

    /// At most `limit` marks that the ledger does not know; they count as saved from now on. A session that is worked on
    /// has none; it gets one when it rests again.
    pub fn take_unsaved(&self, limit: usize) -> Vec<(SessionId, RestMark)> {
        let mut all = self.lock();
        let AllMarks { by_session, unsaved, .. } = &mut *all;
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(session) = unsaved.pop()
        {
            if let Some(marks) = by_session.get_mut(&session)
                && std::mem::take(&mut marks.is_unsaved)
                && let Some(mark) = marks.resting
            {
                taken.push((session, mark));
            }
        }
        if unsaved.is_empty() {
            // Most sessions come to rest at a first start, and few ever after.
            unsaved.shrink_to_fit();
        }
        taken
    }

    /// Whether changes in the session's folder are heard of.
    pub fn set_watched(&self, session: &SessionId, is_watched: bool) {
        let mut all = self.lock();
        let marks = all.marks_of(session);
        if std::mem::replace(&mut marks.is_watched, is_watched) == is_watched {
            return;
        }
        if is_watched {
            all.watched += 1;
        } else {
            all.watched -= 1;
        }
    }

    /// See [`FileMarks::set_watched`].
    pub fn is_watched(&self, session: &SessionId) -> bool {
        self.lock().by_session.get(session).is_some_and(|marks| marks.is_watched)
    }

    /// How many folders are watched.
    pub fn watched_count(&self) -> usize {
        self.lock().watched
    }

    /// Nothing is watched any more.
    pub fn clear_watched(&self) {
        let mut all = self.lock();
        all.watched = 0;
        all.by_session.values_mut().for_each(|marks| marks.is_watched = false);
    }

    /// Forgets sessions that do not exist any more, when there must be some: more are known than the `existing` ones.
    pub fn retain(&self, existing: usize, exists: impl Fn(&SessionId) -> bool) {
        let mut all = self.lock();
        if all.by_session.len() <= existing {
            return;
        }
        all.by_session.retain(|session, _| exists(session));
        all.watched = all.by_session.values().filter(|marks| marks.is_watched).count();
    }

    fn lock(&self) -> MutexGuard<'_, AllMarks> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AllMarks {
    /// The marks of a session; empty ones are made when there are none.
    fn marks_of(&mut self, session: &SessionId) -> &mut Marks {
        self.by_session.entry(session.clone()).or_default()
    }
}

impl KnownFiles {
    /// What is known of a session whose `outbound.db` differs from what was read last.
    pub fn changed(&self, is_closed: bool, outbound: Option<FileIdentity>) -> ChangedSession {
        ChangedSession {
            is_closed,
            is_watched: self.is_watched,
            is_idle: self.is_idle,
            written: outbound.map(|found| Timestamp::from_ms(found.modified_ns.div_euclid(1_000_000))),
        }
    }
}

#[cfg(test)]
mod tests;
