//! The history of tasks: when each run was planned, begun and ended, and which ones were left out.
//!
//! It is the host's own record. An agent decides what its own runs say, by what it acknowledges; every row is keyed by
//! its session, so that it decides nothing about another's.

use super::{LedgerReader, LedgerTransaction};
use crate::model::ids::{MessageId, SessionId};
use crate::model::missed::SkippedRuns;
use crate::model::text::bounded;
use crate::model::time::Timestamp;
use crate::report::{RunFilter, RunRecord, RunResult};
use crate::store::error::StoreError;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::{HashMap, HashSet};

/// The longest detail that is kept, in bytes.
const DETAIL_BYTES_MAX: usize = 500;

/// Made in every ledger, whatever its version: an older host ignores it. A run is its series and its time: whatever
/// happens twice, it is there once. `run_id` is the run's row in the inbox; a skipped run never had one.
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS task_runs (
  session_id   TEXT NOT NULL,
  series_id    TEXT NOT NULL,
  scheduled_at INTEGER NOT NULL,
  through_at   INTEGER,
  run_id       TEXT,
  started_at   INTEGER,
  ended_at     INTEGER,
  result       TEXT NOT NULL,
  detail       TEXT,
  recorded_at  INTEGER NOT NULL,
  PRIMARY KEY (session_id, series_id, scheduled_at)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS task_runs_row ON task_runs(session_id, run_id);
CREATE INDEX IF NOT EXISTS task_runs_age ON task_runs(recorded_at);
";

pub(super) fn create(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch(TABLE)?)
}

/// Something that is known of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// The agent has begun it.
    Started {
        /// Which one.
        run: RunKey,
        /// When, by the agent's clock.
        at: Timestamp,
    },
    /// It has ended.
    Ended {
        /// Which one.
        run: RunKey,
        /// When, by the agent's clock.
        at: Timestamp,
        /// How.
        result: RunResult,
        /// What else is known, in words.
        detail: Option<String>,
    },
    /// Runs of a series that are left out.
    Skipped {
        /// The series.
        series_id: String,
        /// The runs.
        runs: SkippedRuns,
        /// Why, in words.
        detail: &'static str,
    },
}

/// A run, by its row in the inbox and by its place in the series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunKey {
    /// The row.
    pub run_id: MessageId,
    /// Its series.
    pub series_id: String,
    /// When it was planned for; `None` when the row did not say so, and it counts as begun in time.
    pub scheduled: Option<Timestamp>,
}

impl LedgerTransaction<'_> {
    /// Records what is known of runs of a session. What is known already stays as it is, except that a run which was
    /// left out, and ran all the same, has run.
    pub fn record_runs(
        &mut self,
        session: &SessionId,
        events: &[RunEvent],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for event in events {
            match event {
                RunEvent::Started { run, at } => self.run_started(session, run, (*at).min(now), now)?,
                RunEvent::Ended { run, at, result, detail } => {
                    self.run_ended(session, run, (*at).min(now), (*result, detail.as_deref()), now)?;
                }
                RunEvent::Skipped { series_id, runs, detail } => {
                    self.runs_skipped(session, series_id, runs, detail, now)?;
                }
            }
        }
        Ok(())
    }

    fn run_started(
        &mut self,
        session: &SessionId,
        run: &RunKey,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let known = self
            .transaction
            .prepare_cached(
                "UPDATE task_runs SET started_at = coalesce(started_at, ?3) WHERE session_id = ?1 AND run_id = ?2",
            )?
            .execute(params![session.as_str(), run.run_id.as_str(), at.as_ms()])?;
        if known == 0 {
            self.transaction
                .prepare_cached(
                    "INSERT INTO task_runs (session_id, series_id, scheduled_at, run_id, started_at, result, recorded_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, 'running', ?6)
                     ON CONFLICT DO UPDATE SET run_id = excluded.run_id, started_at = excluded.started_at,
                       result = 'running', detail = NULL, through_at = NULL WHERE result = 'skipped'",
                )?
                .execute(params![
                    session.as_str(),
                    run.series_id,
                    run.scheduled.unwrap_or(at).as_ms(),
                    run.run_id.as_str(),
                    at.as_ms(),
                    now.as_ms(),
                ])?;
        }
        Ok(())
    }

    fn run_ended(
        &mut self,
        session: &SessionId,
        run: &RunKey,
        at: Timestamp,
        (result, detail): (RunResult, Option<&str>),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let detail = detail.map(|text| bounded(text.to_owned(), DETAIL_BYTES_MAX));
        let known: Option<String> = self
            .transaction
            .prepare_cached("SELECT result FROM task_runs WHERE session_id = ?1 AND run_id = ?2")?
            .query_row(params![session.as_str(), run.run_id.as_str()], |row| row.get(0))
            .optional()?;
        match known.as_deref() {
            Some("running") => {
                self.transaction
                    .prepare_cached(
                        "UPDATE task_runs SET ended_at = max(?3, coalesce(started_at, ?3)), result = ?4, detail = ?5
                         WHERE session_id = ?1 AND run_id = ?2 AND result = 'running'",
                    )?
                    .execute(params![
                        session.as_str(),
                        run.run_id.as_str(),
                        at.as_ms(),
                        result.as_str(),
                        detail
                    ])?;
            }
            Some(_) => {}
            None => {
                self.transaction
                    .prepare_cached(
                        "INSERT INTO task_runs (session_id, series_id, scheduled_at, run_id, ended_at, result, detail,
                           recorded_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                         ON CONFLICT DO UPDATE SET run_id = excluded.run_id, ended_at = excluded.ended_at,
                           result = excluded.result, detail = excluded.detail, through_at = NULL
                           WHERE result = 'skipped'",
                    )?
                    .execute(params![
                        session.as_str(),
                        run.series_id,
                        run.scheduled.unwrap_or(at).as_ms(),
                        run.run_id.as_str(),
                        at.as_ms(),
                        result.as_str(),
                        detail,
                        now.as_ms(),
                    ])?;
            }
        }
        Ok(())
    }

    fn runs_skipped(
        &mut self,
        session: &SessionId,
        series_id: &str,
        runs: &SkippedRuns,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO task_runs (session_id, series_id, scheduled_at, through_at, result, detail, recorded_at)
             VALUES (?1, ?2, ?3, ?4, 'skipped', ?5, ?6) ON CONFLICT DO NOTHING",
        )?;
        let each = runs.each.iter().map(|at| (*at, None));
        for (at, through) in each.chain(runs.rest.map(|(first, last)| (first, Some(last)))) {
            let through_ms = through.map(Timestamp::as_ms);
            insert.execute(params![
                session.as_str(),
                series_id,
                at.as_ms(),
                through_ms,
                detail,
                now.as_ms()
            ])?;
        }
        Ok(())
    }

    /// Forgets runs that were recorded before, at most `limit`. Returns how many went.
    pub fn prune_runs(&mut self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let pruned = self.transaction.execute(
            "DELETE FROM task_runs WHERE (session_id, series_id, scheduled_at) IN
               (SELECT session_id, series_id, scheduled_at FROM task_runs WHERE recorded_at < ?1
                ORDER BY recorded_at LIMIT ?2)",
            params![before.as_ms(), sql(limit)],
        )?;
        Ok(pruned)
    }

    /// Forgets the runs of a session that were recorded first, at most `limit`. Returns how many went.
    pub fn prune_runs_of(&mut self, session: &str, limit: usize) -> Result<usize, StoreError> {
        let pruned = self.transaction.execute(
            "DELETE FROM task_runs WHERE session_id = ?1 AND (series_id, scheduled_at) IN
               (SELECT series_id, scheduled_at FROM task_runs WHERE session_id = ?1 ORDER BY recorded_at LIMIT ?2)",
            params![session, sql(limit)],
        )?;
        Ok(pruned)
    }
}

impl LedgerReader {
    /// Those of a session's rows of which it is recorded that their run has begun.
    pub fn begun_runs(
        &self,
        session: &SessionId,
        rows: &[MessageId],
    ) -> Result<HashSet<MessageId>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT 1 FROM task_runs WHERE session_id = ?1 AND run_id = ?2 AND started_at IS NOT NULL",
            )?;
            let mut begun = HashSet::new();
            for row in rows {
                if statement.exists(params![session.as_str(), row.as_str()])? {
                    begun.insert(row.clone());
                }
            }
            Ok(begun)
        })
    }

    /// For which time the runs of rows were planned that have begun, whatever became of their rows since.
    pub fn planned_times(
        &self,
        session: &SessionId,
        rows: &[MessageId],
    ) -> Result<HashMap<MessageId, Timestamp>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT min(scheduled_at) FROM task_runs
                 WHERE session_id = ?1 AND run_id = ?2 AND started_at IS NOT NULL",
            )?;
            let mut planned = HashMap::new();
            for row in rows {
                let at: Option<i64> =
                    statement.query_row(params![session.as_str(), row.as_str()], |found| found.get(0))?;
                planned.extend(at.map(|at| (row.clone(), Timestamp::from_ms(at))));
            }
            Ok(planned)
        })
    }

    /// The runs that match, the latest first.
    pub fn task_runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT session_id, series_id, scheduled_at, through_at, run_id, started_at, ended_at, result, detail
                     FROM task_runs
                     WHERE session_id = ?1 AND (?2 IS NULL OR series_id = ?2
                       OR series_id = (SELECT series_id FROM task_runs WHERE session_id = ?1 AND run_id = ?2))
                       AND (?3 IS NULL OR result = ?3)
                     ORDER BY scheduled_at DESC LIMIT ?4",
                )?
                .query_map(
                    params![
                        filter.session_id,
                        filter.series_id,
                        filter.result.map(RunResult::as_str),
                        filter.limit.map_or(-1, i64::from),
                    ],
                    read_run,
                )?
                .collect()
        })
    }

    /// The last run of a series that has begun or ended.
    pub fn last_run(&self, session: &SessionId, series_id: &str) -> Result<Option<RunRecord>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT session_id, series_id, scheduled_at, through_at, run_id, started_at, ended_at, result, detail
                     FROM task_runs WHERE session_id = ?1 AND series_id = ?2 AND result <> 'skipped'
                     ORDER BY scheduled_at DESC LIMIT 1",
                )?
                .query_row(params![session.as_str(), series_id], read_run)
                .optional()
        })
    }

    /// Sessions with more than `max` runs, and how many they have.
    pub fn sessions_with_many_runs(&self, max: u64) -> Result<Vec<(String, u64)>, StoreError> {
        self.with(|connection| {
            connection
                .prepare(
                    "SELECT session_id, count(*) FROM task_runs GROUP BY session_id HAVING count(*) > ?1",
                )?
                .query_map([i64::try_from(max).unwrap_or(i64::MAX)], |row| {
                    Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))
                })?
                .collect()
        })
    }
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    let time = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_ms));
    let name: String = row.get(7)?;
    let result = RunResult::from_name(&name).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(7, Type::Text, format!("run result {name:?}").into())
    })?;
    let scheduled = Timestamp::from_ms(row.get(2)?);
    let (started, ended) = (time(5)?, time(6)?);
    let begun = started.or(ended);
    Ok(RunRecord {
        session_id: row.get(0)?,
        series_id: row.get(1)?,
        scheduled_at: scheduled.to_iso(),
        through: time(3)?.map(Timestamp::to_iso),
        run_id: row.get(4)?,
        started_at: started.map(Timestamp::to_iso),
        ended_at: ended.map(Timestamp::to_iso),
        result,
        late_ms: begun.map(|begun| u64::try_from(begun.since(scheduled).as_millis()).unwrap_or(u64::MAX)),
        detail: row.get(8)?,
    })
}

fn sql(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::LedgerWriter;
    use super::*;

    struct Fixture {
        _folder: tempfile::TempDir,
        writer: LedgerWriter,
        reader: LedgerReader,
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_ms(second * 1000)
    }

    fn session(name: &str) -> SessionId {
        SessionId::new(name).unwrap()
    }

    fn key(run_id: &str, scheduled: i64) -> RunKey {
        RunKey {
            run_id: MessageId::new(run_id).unwrap(),
            series_id: "s".to_owned(),
            scheduled: Some(at(scheduled)),
        }
    }

    fn ended(run_id: &str, scheduled: i64, second: i64, result: RunResult) -> RunEvent {
        RunEvent::Ended { run: key(run_id, scheduled), at: at(second), result, detail: None }
    }

    fn skipped(seconds: &[i64]) -> RunEvent {
        let runs = SkippedRuns { each: seconds.iter().map(|second| at(*second)).collect(), rest: None };
        RunEvent::Skipped { series_id: "s".to_owned(), runs, detail: "missed" }
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let writer = LedgerWriter::open(folder.path()).unwrap();
            let reader = LedgerReader::open(folder.path()).unwrap();
            Self { _folder: folder, writer, reader }
        }

        fn record(&mut self, of: &str, events: &[RunEvent]) {
            let mut transaction = self.writer.transaction().unwrap();
            transaction.record_runs(&session(of), events, at(10_000)).unwrap();
            transaction.commit().unwrap();
        }

        /// Result and lateness in seconds of each run, by time.
        fn runs(&self, of: &str) -> Vec<(i64, RunResult, Option<u64>)> {
            let filter = RunFilter { session_id: of.to_owned(), ..RunFilter::default() };
            let runs = self.reader.task_runs(&filter).unwrap();
            let short = |run: RunRecord| {
                let scheduled = Timestamp::parse(&run.scheduled_at).unwrap().as_ms() / 1000;
                (scheduled, run.result, run.late_ms.map(|ms| ms / 1000))
            };
            runs.into_iter().rev().map(short).collect()
        }
    }

    #[test]
    fn a_run_is_there_once_however_often_it_is_told() {
        let mut fixture = Fixture::new();
        for _ in 0..2 {
            let start = RunEvent::Started { run: key("s", 100), at: at(102) };
            fixture.record("a", &[start, ended("s", 100, 160, RunResult::Ok), skipped(&[200, 300])]);
            fixture.record("a", &[ended("s", 100, 900, RunResult::Failed)]);
        }
        let expected =
            [(100, RunResult::Ok, Some(2)), (200, RunResult::Skipped, None), (300, RunResult::Skipped, None)];
        assert_eq!(fixture.runs("a"), expected);
        assert_eq!(fixture.runs("b"), [], "another session's history is its own");
    }

    #[test]
    fn a_run_keeps_its_time_when_its_row_is_moved_for_another_try() {
        let mut fixture = Fixture::new();
        fixture.record("a", &[RunEvent::Started { run: key("s@1", 100), at: at(105) }]);
        fixture.record("a", &[RunEvent::Started { run: key("s@1", 170), at: at(171) }]);
        fixture.record("a", &[ended("s@1", 170, 180, RunResult::Ok)]);
        assert_eq!(fixture.runs("a"), [(100, RunResult::Ok, Some(5))]);
    }

    #[test]
    fn a_run_that_was_left_out_and_ran_all_the_same_has_run() {
        let mut fixture = Fixture::new();
        fixture.record("a", &[skipped(&[100, 200])]);
        fixture.record("a", &[RunEvent::Started { run: key("s@1", 100), at: at(400) }]);
        fixture.record("a", &[ended("s@2", 200, 500, RunResult::Failed), skipped(&[100])]);
        assert_eq!(
            fixture.runs("a"),
            [(100, RunResult::Running, Some(300)), (200, RunResult::Failed, Some(300))]
        );
    }

    #[test]
    fn no_run_begins_or_ends_in_the_future() {
        let mut fixture = Fixture::new();
        fixture.record("a", &[ended("s", 100, 1_000_000, RunResult::Ok)]);
        assert_eq!(fixture.runs("a"), [(100, RunResult::Ok, Some(9_900))]);
    }

    #[test]
    fn history_is_pruned_by_age_and_by_session() {
        let mut fixture = Fixture::new();
        fixture.record("a", &[skipped(&[1, 2, 3, 4])]);
        fixture.record("b", &[skipped(&[1])]);
        assert_eq!(fixture.reader.sessions_with_many_runs(3).unwrap(), [("a".to_owned(), 4)]);
        let mut transaction = fixture.writer.transaction().unwrap();
        assert_eq!(transaction.prune_runs(at(10_000), 10).unwrap(), 0, "not older");
        assert_eq!(transaction.prune_runs_of("a", 3).unwrap(), 3);
        assert_eq!(transaction.prune_runs(at(10_001), 1).unwrap(), 1);
        assert_eq!(transaction.prune_runs(at(10_001), 9).unwrap(), 1);
        transaction.commit().unwrap();
        assert_eq!((fixture.runs("a"), fixture.runs("b")), (vec![], vec![]));
    }
}
