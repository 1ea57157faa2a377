//! Series: the runs of one recurring task, one after the other. What is planned here is written by the session.

use super::ids::MessageId;
use super::missed::{MissedPolicy, MissedRuns, MissedSearch, NextTime, SkippedRuns};
use super::recurrence::Recurrence;
use super::time::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

/// What a task says about its own time. It stands in the content of its row, beside the prompt: NanoClaw and its
/// containers pass over it, and every run inherits it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskOptions {
    /// IANA name of the zone in which its recurrence is read; `None` = the tenant's, else the host's.
    pub timezone: Option<String>,
    /// What is done about its missed runs; `None` = what the host says.
    pub missed_runs: Option<MissedRuns>,
}

/// The keys as they stand in the content. Anything else there, and values that are not usable, count as absent.
#[derive(Deserialize)]
struct WrittenOptions {
    #[serde(default)]
    timezone: serde_json::Value,
    #[serde(default, rename = "missedRuns")]
    missed_runs: serde_json::Value,
}

impl TaskOptions {
    /// Reads them from a task's content.
    pub fn from_content(content: &str) -> Self {
        let Ok(written) = serde_json::from_str::<WrittenOptions>(content) else { return Self::default() };
        Self {
            timezone: written.timezone.as_str().map(str::to_owned),
            missed_runs: written.missed_runs.as_str().and_then(MissedRuns::from_name),
        }
    }

    /// The zone in which the task's recurrence is read. An unknown name, which only an agent that writes its own inbox
    /// can have put there, counts as none.
    pub fn zone(&self, otherwise: &TimeZone) -> TimeZone {
        let own = self.timezone.as_deref().and_then(|name| TimeZone::get(name).ok());
        own.unwrap_or_else(|| otherwise.clone())
    }

    /// What is done about the task's missed runs.
    pub fn policy(&self, otherwise: MissedPolicy) -> MissedPolicy {
        MissedPolicy { runs: self.missed_runs.unwrap_or(otherwise.runs), ..otherwise }
    }
}

/// A run of a series that has ended, or that is due and not begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesRun {
    /// The run's id.
    pub id: MessageId,
    /// Its series.
    pub series_id: String,
    /// Cron expression, as the agent wrote it.
    pub recurrence: String,
    /// When it was planned for; `None` when the row holds no readable time.
    pub scheduled: Option<Timestamp>,
    /// The latest time for which a run of the series was ever planned, by the runs' ids.
    pub last_planned: Option<Timestamp>,
    /// What the task says about its own time.
    pub options: TaskOptions,
}

/// What is planned for series by default.
#[derive(Debug, Clone)]
pub struct SeriesDefaults {
    /// The zone of tasks that name none.
    pub zone: TimeZone,
    /// What is done about missed runs of tasks that do not say so.
    pub missed: MissedPolicy,
}

/// The run that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRun {
    /// Its id.
    pub id: MessageId,
    /// When it is due.
    pub process_after: Timestamp,
    /// Runs that are left out before it.
    pub skipped: SkippedRuns,
}

impl SeriesRun {
    /// The run after this one, which has ended. The error ends the series; it is a sentence for the agent.
    ///
    /// It is never planned for a time that a run of the series was planned for before, wherever the clock stands now.
    pub fn following(&self, now: Timestamp, defaults: &SeriesDefaults) -> Result<PlannedRun, String> {
        let recurrence =
            Recurrence::parse(&self.recurrence).map_err(|error| format!("recurrence {error}"))?;
        let after =
            self.scheduled.unwrap_or(now).max(self.last_planned.unwrap_or(Timestamp::from_ms(i64::MIN)));
        let zone = self.options.zone(&defaults.zone);
        let policy = self.options.policy(defaults.missed);
        let never = || "its recurrence never fires again".to_owned();
        let NextTime { at, skipped } = MissedSearch { recurrence: &recurrence, zone: &zone, policy, now }
            .following(after)
            .ok_or_else(never)?;
        let id =
            MessageId::new(&run_id(&self.series_id, at)).map_err(|error| format!("its next run: {error}"))?;
        Ok(PlannedRun { id, process_after: at, skipped })
    }

    /// The time to which this run, which is due and not begun, is moved because it was missed; `None` = it stays.
    pub fn overdue(&self, now: Timestamp, defaults: &SeriesDefaults) -> Option<NextTime> {
        let scheduled = self.scheduled?;
        let recurrence = Recurrence::parse(&self.recurrence).ok()?;
        let zone = self.options.zone(&defaults.zone);
        let policy = self.options.policy(defaults.missed);
        MissedSearch { recurrence: &recurrence, zone: &zone, policy, now }.overdue(scheduled)
    }
}

/// The id of the run of a series at a time. It is always the same, so that a second insert of a run fails.
pub fn run_id(series_id: &str, scheduled: Timestamp) -> String {
    format!("{series_id}@{}", compact(scheduled))
}

/// The id of a run of a series that somebody has started by hand; no planned run has it.
pub fn manual_run_id(series_id: &str, started: Timestamp) -> String {
    format!("{series_id}+{}", compact(started))
}

fn compact(time: Timestamp) -> String {
    let compact: String = time.to_iso().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    compact.replace(".000Z", "Z")
}

/// The time for which a run was planned, by its id; `None` for the first run of a series, which has the id of the
/// series.
pub fn planned_time(series_id: &str, run_id: &str) -> Option<Timestamp> {
    let compact = run_id.strip_prefix(series_id)?.strip_prefix('@')?;
    let part = |from: usize, to: usize| compact.get(from..to);
    let (date, time) =
        ((part(0, 4)?, part(4, 6)?, part(6, 8)?), (part(9, 11)?, part(11, 13)?, compact.get(13..)?));
    let iso = format!("{}-{}-{}T{}:{}:{}", date.0, date.1, date.2, time.0, time.1, time.2);
    Timestamp::parse(&iso).ok().filter(|found| self::run_id(series_id, *found) == run_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn run(recurrence: &str, scheduled: &str) -> SeriesRun {
        SeriesRun {
            id: MessageId::new("task-1").unwrap(),
            series_id: "task-1".to_owned(),
            recurrence: recurrence.to_owned(),
            scheduled: Some(at(scheduled)),
            last_planned: None,
            options: TaskOptions::default(),
        }
    }

    fn utc() -> SeriesDefaults {
        SeriesDefaults { zone: TimeZone::UTC, missed: MissedPolicy::default() }
    }

    fn options(content: &str) -> TaskOptions {
        TaskOptions::from_content(content)
    }

    #[test]
    fn options_are_read_from_the_content_and_nothing_else_there_matters() {
        let found = options(r#"{"prompt":"p","script":null,"timezone":"Asia/Tokyo","missedRuns":"skip"}"#);
        assert_eq!(found.timezone.as_deref(), Some("Asia/Tokyo"));
        assert_eq!(found.missed_runs, Some(MissedRuns::Skip));
        for without in ["", "[]", "{}", r#"{"prompt":"p"}"#, r#"{"timezone":7,"missedRuns":"never"}"#] {
            assert_eq!(options(without), TaskOptions::default(), "{without}");
        }
        assert_eq!(options(r#"{"timezone":7,"missedRuns":"all"}"#).missed_runs, Some(MissedRuns::All));
    }

    #[test]
    fn a_recurrence_is_read_in_the_zone_of_the_task_else_in_the_default() {
        let next = |content: &str| {
            let run = SeriesRun { options: options(content), ..run("0 9 * * *", "2026-11-22 00:00:00") };
            run.following(at("2026-11-22 00:00:01"), &utc()).unwrap().process_after.to_iso()
        };
        assert_eq!(next("{}"), "2026-11-22T09:00:00.000Z");
        assert_eq!(next(r#"{"timezone":"America/New_York"}"#), "2026-11-22T14:00:00.000Z");
        assert_eq!(next(r#"{"timezone":"Mars/Base"}"#), "2026-11-22T09:00:00.000Z");
    }

    #[test]
    fn a_run_that_ended_before_its_time_does_not_run_again_at_that_time() {
        let early = run("@hourly", "2026-11-22 13:00:00");
        let next = early.following(at("2026-11-22 12:30:00"), &utc()).unwrap();
        assert_eq!(next.id.as_str(), "task-1@20261122T140000Z");
    }

    #[test]
    fn a_clock_that_went_back_repeats_no_run() {
        let last_planned = Some(at("2026-11-22 15:00:00"));
        let moved = SeriesRun { last_planned, ..run("@hourly", "2026-11-22 12:00:00") };
        let next = moved.following(at("2026-11-22 12:00:05"), &utc()).unwrap();
        assert_eq!(next.process_after, at("2026-11-22 16:00:00"));
        assert_eq!(next.skipped, SkippedRuns::default());
    }

    #[test]
    fn an_expression_that_cannot_be_understood_ends_the_series_with_a_reason() {
        let reason = run("every day", "2026-11-22 12:00:00").following(at("2026-11-22 12:00:05"), &utc());
        let reason = reason.unwrap_err();
        assert!(reason.starts_with("recurrence \"every day\" is not a cron expression"), "{reason}");
        assert_eq!(run("every day", "2026-11-22 12:00:00").overdue(at("2026-11-23 12:00:00"), &utc()), None);
    }

    #[test]
    fn the_id_of_a_run_is_that_of_its_series_and_time() {
        assert_eq!(run_id("task-1", at("2026-04-16 14:37:00")), "task-1@20260416T143700Z");
        assert_eq!(run_id("task-1", Timestamp::from_ms(1)), "task-1@19700101T000000.001Z");
        assert_eq!(manual_run_id("task-1", Timestamp::from_ms(1)), "task-1+19700101T000000.001Z");
        for other in
            ["task-1", "task-1@", "task-1@2026", "task-2@20260416T143700Z", "task-1@20260416 143700Z"]
        {
            assert_eq!(planned_time("task-1", other), None, "{other}");
        }
        assert_eq!(planned_time("t", "t@ÄÄÄÄÄÄÄÄÄÄÄ"), None);
    }

    proptest! {
        #[test]
        fn the_time_of_a_run_can_be_read_from_its_id(ms in -60_000_000_000_000_i64..250_000_000_000_000) {
            let time = Timestamp::from_ms(ms);
            prop_assert_eq!(planned_time("a@b", &run_id("a@b", time)), Some(time));
        }

        #[test]
        fn run_ids_differ_for_different_times(a in 0_i64..4_000_000_000_000, b in 0_i64..4_000_000_000_000) {
            let id = |ms| run_id("s", Timestamp::from_ms(ms));
            prop_assert_eq!(a == b, id(a) == id(b));
        }
    }
}
