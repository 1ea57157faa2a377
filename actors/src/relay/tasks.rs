//! Tasks: what is planned in all sessions, what has run, and what an operator does about it.

use super::{OperationError, Relay, StoppedHost};
use crate::clock::{Clock, SystemClock};
use crate::limits::TASK_LIST_BYTES_MAX;
use crate::model::ids::SessionId;
use crate::model::missed::MissedPolicy;
use crate::model::recurrence::Recurrence;
use crate::model::series::SeriesDefaults;
use crate::model::tenant::Tenants;
use crate::model::time::Timestamp;
use crate::registry::OperateSession;
use crate::report::{RunFilter, RunRecord, TaskFilter, TaskList, TaskRecord, TaskVerb};
use crate::session::operate::TaskOperation;
use crate::session::tasks::change_series;
use crate::settings::Settings;
use crate::store::central::SessionFacts;
use crate::store::error::StoreError;
use crate::store::inbound::{self, LiveTasks, TaskQuery};
use crate::store::ledger::LedgerReader;
use crate::store::open::{self, InboundAccess};
use crate::store::session_store::Adds;
use jiff::tz::TimeZone;
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Sessions that are read in one blocking section.
const SESSIONS_PER_SECTION: usize = 64;

impl Relay {
    /// The tasks that match, by session and time. Of all sessions those are read that have tasks. The list is bounded;
    /// what that leaves out is said in it.
    pub async fn tasks(&self, filter: TaskFilter) -> Result<TaskList, OperationError> {
        let engine = self.engine();
        let snapshot = engine.snapshot();
        let is_wanted = |facts: &&SessionFacts| match &filter.session_id {
            Some(session) => facts.id.as_str() == session,
            None => {
                let is_of_tenant =
                    |tenant: &String| engine.tenants.of(&facts.agent_group_id).name.as_str() == tenant;
                engine.tasks.has_any(&facts.agent_group_id, &facts.id)
                    && filter.tenant.as_ref().is_none_or(is_of_tenant)
            }
        };
        let mut sessions: Vec<SessionFacts> = snapshot.sessions.values().filter(is_wanted).cloned().collect();
        sessions.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
        let mut listing = Listing::default();
        for some in sessions.chunks(SESSIONS_PER_SECTION) {
            let (some, filter) = (some.to_vec(), filter.clone());
            let part = self.read(move |engine| {
                let planner = Planner {
                    tenants: &engine.tenants,
                    zone: engine.timezone.clone(),
                    missed: engine.settings.missed_runs,
                };
                for facts in &some {
                    if !planner.may_have(facts, &filter) || !listing.has_room_for(facts) {
                        continue;
                    }
                    let opened = engine.sessions_root.session(&facts.agent_group_id, &facts.id).and_then(
                        |directory| open::open_inbound(&Arc::new(directory), InboundAccess::ReadOnly),
                    );
                    let read = opened.and_then(|inbox| {
                        planner.add(&mut listing, facts, &inbox, Some(&engine.ledger_reader), &filter)
                    });
                    listing.note_unreadable(facts, read);
                }
                Ok(listing)
            });
            listing = part.await?;
        }
        Ok(listing.finish())
    }

    /// The runs of a session that match, the latest first.
    pub async fn task_runs(&self, filter: RunFilter) -> Result<Vec<RunRecord>, OperationError> {
        self.read(move |engine| engine.ledger_reader.task_runs(&filter)).await
    }

    /// Does something to a series, named by its id or that of a run that is still to be. Returns how many rows of the
    /// session's inbox that changed; none when no such task waits.
    pub async fn change_task(
        &self,
        session: SessionId,
        task_id: &str,
        verb: TaskVerb,
    ) -> Result<usize, OperationError> {
        let engine = self.engine();
        if !engine.snapshot().sessions.contains_key(&session) {
            return Err(OperationError::NotFound(format!("there is no session {session}")));
        }
        let gone = || OperationError::Busy("the session's actor is being restarted: try again".to_owned());
        let (reply, answer) = oneshot::channel();
        let operation =
            TaskOperation { task_id: task_id.to_owned(), verb, reply, _token: engine.activity.token() };
        let registry = engine.directory.registry().ok_or_else(gone)?;
        registry.send(OperateSession { target: session.clone(), operation }).await.map_err(|_| gone())?;
        let changed = answer.await.map_err(|_| gone())?.map_err(OperationError::Busy)?;
        slog::info!(engine.logger, "task changed by an operator"; "session" => %session, "task" => task_id,
            "verb" => ?verb, "rows" => changed);
        Ok(changed)
    }
}

impl StoppedHost {
    /// The tasks that match, by session and time, as a host with these settings would plan them.
    pub fn tasks(&self, filter: &TaskFilter, settings: &Settings) -> Result<TaskList, OperationError> {
        let invalid = |error: &dyn std::fmt::Display| OperationError::Invalid(error.to_string());
        let tenants = Tenants::new(&settings.tenants).map_err(|error| invalid(&error))?;
        let zone = TimeZone::get(&settings.timezone).map_err(|error| invalid(&error))?;
        let planner = Planner { tenants: &tenants, zone, missed: settings.missed_runs };
        let ledger = self.history()?;
        let mut listing = Listing::default();
        let unreadable = self.each_session(&mut |_, _| {}, |facts, store| {
            if planner.may_have(facts, filter) && listing.has_room_for(facts) {
                planner.add(&mut listing, facts, store.inbound()?, ledger.as_ref(), filter)
            } else {
                Ok(())
            }
        });
        listing.list.unreadable.extend(unreadable?);
        Ok(listing.finish())
    }

    /// The runs of a session that match, the latest first.
    pub fn task_runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, OperationError> {
        let Some(ledger) = self.history()? else { return Ok(Vec::new()) };
        Ok(ledger.task_runs(filter)?)
    }

    /// Does something to a series; see [`Relay::change_task`]. Its agent hears of it when a host runs again.
    pub fn change_task(
        &self,
        session: &SessionId,
        task_id: &str,
        verb: TaskVerb,
    ) -> Result<usize, OperationError> {
        let now = SystemClock.now();
        let mut changed = None;
        let unreadable = self.each_session(&mut |_, _| {}, |facts, store| {
            if facts.id == *session {
                let write =
                    store.write(Adds::Messages, |transaction| change_series(transaction, task_id, verb, now));
                changed = Some(write?);
            }
            Ok(())
        });
        match (changed, unreadable?.into_iter().find(|(id, _)| id == session.as_str())) {
            (Some(changed), _) => Ok(changed),
            (None, Some((_, reason))) => {
                Err(OperationError::Busy(format!("the session cannot be written: {reason}")))
            }
            (None, None) => {
                Err(OperationError::NotFound(format!("there is no session {session} with an inbox")))
            }
        }
    }

    /// The ledger with the table of runs, which a ledger of an older version gets here; none when no relay ever ran.
    fn history(&self) -> Result<Option<LedgerReader>, OperationError> {
        self.write(|_| Ok(()))?;
        match LedgerReader::open(&self.data_dir) {
            Ok(reader) => Ok(Some(reader)),
            Err(StoreError::Missing(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// What a host adds to what the rows say.
struct Planner<'a> {
    tenants: &'a Tenants,
    zone: TimeZone,
    missed: MissedPolicy,
}

impl Planner<'_> {
    /// Whether tasks of a session can match.
    fn may_have(&self, facts: &SessionFacts, filter: &TaskFilter) -> bool {
        let tenant = || self.tenants.of(&facts.agent_group_id);
        filter.session_id.as_ref().is_none_or(|session| facts.id.as_str() == session)
            && filter.tenant.as_ref().is_none_or(|wanted| tenant().name.as_str() == wanted)
    }

    /// Adds the tasks of one session that match.
    fn add(
        &self,
        listing: &mut Listing,
        facts: &SessionFacts,
        inbox: &Connection,
        ledger: Option<&LedgerReader>,
        filter: &TaskFilter,
    ) -> Result<(), StoreError> {
        let tenant = self.tenants.of(&facts.agent_group_id);
        let defaults = SeriesDefaults {
            zone: tenant.timezone.clone().unwrap_or_else(|| self.zone.clone()),
            missed: self.missed,
        };
        let series_id = filter.series_id.as_deref();
        let query = TaskQuery { series_id, status: filter.status, ..TaskQuery::default() };
        let LiveTasks { mut rows, bytes, is_cut } = inbound::live_tasks(inbox, &query)?;
        listing.bytes += bytes;
        if is_cut {
            let reason = format!("it has more tasks than a list holds; the first {} are listed", rows.len());
            listing.list.unreadable.push((facts.id.to_string(), reason));
        }
        rows.sort_by_key(|row| row.process_after);
        let mut last_runs: HashMap<String, Option<RunRecord>> = HashMap::new();
        for row in rows {
            let last_run = match (last_runs.get(&row.series_id), ledger) {
                (Some(known), _) => known.clone(),
                (None, Some(ledger)) => ledger.last_run(&facts.id, &row.series_id)?,
                (None, None) => None,
            };
            last_runs.insert(row.series_id.clone(), last_run.clone());
            listing.list.tasks.push(TaskRecord {
                session_id: facts.id.to_string(),
                agent_group_id: facts.agent_group_id.to_string(),
                tenant: tenant.name.to_string(),
                timezone: row.options.zone(&defaults.zone).iana_name().unwrap_or("UTC").to_owned(),
                missed_runs: row.options.policy(defaults.missed).runs,
                prompt: row.prompt,
                series_id: row.series_id,
                run_id: row.run_id,
                status: row.status,
                next_run: row.process_after.map(Timestamp::to_iso),
                recurrence: row.recurrence,
                tries: row.tries,
                script: row.script,
                channel_type: row.channel_type,
                platform_id: row.platform_id,
                thread_id: row.thread_id,
                last_run,
            });
        }
        Ok(())
    }
}

impl TaskRecord {
    /// The next `count` times at which the task runs, the one that is planned included. A paused task is told as if it
    /// were resumed.
    pub fn upcoming(&self, count: usize) -> Vec<Timestamp> {
        let first = self.next_run.as_deref().and_then(|text| Timestamp::parse(text).ok());
        let recurrence = self.recurrence.as_deref().and_then(|text| Recurrence::parse(text).ok());
        let zone = TimeZone::get(&self.timezone).unwrap_or(TimeZone::UTC);
        let next = |time: &Timestamp| recurrence.as_ref()?.next_after(*time, &zone);
        std::iter::successors(first, next).take(count).collect()
    }
}

/// A list in the making.
#[derive(Debug, Default)]
struct Listing {
    list: TaskList,
    /// How large its tasks are.
    bytes: usize,
    /// The first session for which there was no room, and how many there were.
    left_out: Option<(String, u64)>,
}

impl Listing {
    /// Whether a session's tasks may be added; else it takes note of that.
    fn has_room_for(&mut self, facts: &SessionFacts) -> bool {
        if self.bytes < TASK_LIST_BYTES_MAX {
            return true;
        }
        self.left_out.get_or_insert_with(|| (facts.id.to_string(), 0)).1 += 1;
        false
    }

    fn note_unreadable(&mut self, facts: &SessionFacts, read: Result<(), StoreError>) {
        match read {
            // A session without a folder has no tasks.
            Ok(()) | Err(StoreError::Missing(_)) => {}
            Err(error) => self.list.unreadable.push((facts.id.to_string(), error.to_string())),
        }
    }

    fn finish(self) -> TaskList {
        let Self { mut list, left_out, .. } = self;
        if let Some((first, count)) = left_out {
            let reason =
                format!("the list is full: {count} sessions are left out; name a session or a tenant");
            list.unreadable.push((first, reason));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::DataDir;

    #[test]
    fn a_list_that_is_full_says_which_sessions_it_leaves_out() {
        let data = DataDir::new();
        for id in ["sess-a", "sess-b", "sess-c"] {
            data.session(crate::testing::SessionSpec::new("ag-main").id(id));
        }
        let snapshot = crate::store::central::Central::open(data.path()).unwrap().load_snapshot().unwrap();
        let facts = |id: &str| &snapshot.sessions[&SessionId::new(id).unwrap()];
        let mut listing = Listing { bytes: TASK_LIST_BYTES_MAX - 1, ..Listing::default() };
        assert!(listing.has_room_for(facts("sess-a")));
        listing.bytes += 1;
        assert!(!listing.has_room_for(facts("sess-b")) && !listing.has_room_for(facts("sess-c")));
        let list = listing.finish();
        assert_eq!(list.unreadable.len(), 1);
        let (session, reason) = &list.unreadable[0];
        assert!(session == "sess-b" && reason.contains("2 sessions are left out"), "{session}: {reason}");
        assert_eq!(Listing::default().finish().unreadable, []);
    }
}
