//! Runs of a series whose time has passed without them: which of them are made up for.
//!
//! A run is missed when its time comes while the host or the agent is away, the clock jumps over it, or the run before
//! it has not ended yet. It makes no difference which: only the times are compared.

use super::recurrence::Recurrence;
use super::time::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Skipped runs that are listed one by one. Those after them are told as a span.
const SKIPPED_EACH_MAX: usize = 20;
/// The search for a run halves a span of time that often; more than the calendar has.
const HALVINGS_MAX: usize = 64;
/// Runs are planned to the second.
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Which missed runs of a series are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MissedRuns {
    /// None: the series goes on at its next time.
    Skip,
    /// The latest one.
    Latest,
    /// All of them, one after the other, up to [`MissedPolicy::catch_up_max`]; the oldest ones above it are skipped.
    All,
}

impl MissedRuns {
    /// All policies.
    pub const EACH: [MissedRuns; 3] = [MissedRuns::Skip, MissedRuns::Latest, MissedRuns::All];

    /// The policy as agents and the configuration name it.
    pub fn as_str(self) -> &'static str {
        match self {
            MissedRuns::Skip => "skip",
            MissedRuns::Latest => "latest",
            MissedRuns::All => "all",
        }
    }

    /// The policy of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::EACH.into_iter().find(|policy| policy.as_str() == name)
    }
}

/// What is done about missed runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissedPolicy {
    /// Which of them are made up for.
    pub runs: MissedRuns,
    /// With [`MissedRuns::Skip`]: a run that is late by no more than this still runs. An agent takes a while to start.
    pub late_after: Duration,
    /// With [`MissedRuns::All`]: most runs that are made up for.
    pub catch_up_max: usize,
}

impl Default for MissedPolicy {
    fn default() -> Self {
        Self { runs: MissedRuns::Latest, late_after: Duration::from_secs(5 * 60), catch_up_max: 10 }
    }
}

/// Runs that will not be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SkippedRuns {
    /// The first ones.
    pub each: Vec<Timestamp>,
    /// The first and the last of those that follow, when there are too many to list them.
    pub rest: Option<(Timestamp, Timestamp)>,
}

/// When a series runs next, and what it leaves out before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextTime {
    /// The time; it may have passed.
    pub at: Timestamp,
    /// Runs before it that will not be.
    pub skipped: SkippedRuns,
}

/// A recurrence in its zone, at one instant, under a policy.
#[derive(Debug, Clone, Copy)]
pub struct MissedSearch<'a> {
    /// When the series runs.
    pub recurrence: &'a Recurrence,
    /// Where.
    pub zone: &'a TimeZone,
    /// What is done about missed runs.
    pub policy: MissedPolicy,
    /// The instant.
    pub now: Timestamp,
}

impl MissedSearch<'_> {
    /// The run after the one of `after`, which has ended; `None` only near the end of the calendar.
    pub fn following(&self, after: Timestamp) -> Option<NextTime> {
        let earliest = self.next(after)?;
        if earliest > self.now {
            return Some(NextTime { at: earliest, skipped: SkippedRuns::default() });
        }
        let at = self.chosen(earliest)?;
        Some(NextTime { at, skipped: self.skipped(earliest, at) })
    }

    /// What becomes of a run that is due since `scheduled` and that nobody has begun: `None` = it is to run as planned.
    pub fn overdue(&self, scheduled: Timestamp) -> Option<NextTime> {
        if scheduled > self.now {
            return None;
        }
        let at = self.chosen(scheduled).filter(|at| *at != scheduled)?;
        Some(NextTime { at, skipped: self.skipped(scheduled, at) })
    }

    /// Which run comes next when `earliest` has passed, and perhaps others after it.
    fn chosen(&self, earliest: Timestamp) -> Option<Timestamp> {
        match self.policy.runs {
            MissedRuns::Latest => Some(self.latest(earliest)),
            MissedRuns::Skip => {
                let latest = self.latest(earliest);
                let is_late = self.now.since(latest) > self.policy.late_after;
                if is_late { self.next(self.now) } else { Some(latest) }
            }
            MissedRuns::All => Some(self.oldest_within_cap(earliest)),
        }
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.recurrence.next_after(after, self.zone)
    }

    /// The last occurrence up to now; `known` when none follows it.
    fn latest(&self, known: Timestamp) -> Timestamp {
        self.latest_until(known, self.now)
    }

    /// The last occurrence after `known` and up to `until`; `known` when there is none. Each step halves what is left
    /// to search: there may be millions of occurrences.
    fn latest_until(&self, known: Timestamp, until: Timestamp) -> Timestamp {
        let next = |after| self.next(after).filter(|next| *next <= until);
        let (mut found, mut nothing_after) = (known, until);
        for _ in 0..HALVINGS_MAX {
            let Some(later) = next(found) else { return found };
            let half = found.plus(nothing_after.since(found) / 2);
            found = match next(half) {
                Some(beyond_half) => beyond_half,
                None => {
                    nothing_after = half;
                    later
                }
            };
        }
        found
    }

    /// The occurrence from which on no more than the cap have passed.
    fn oldest_within_cap(&self, earliest: Timestamp) -> Timestamp {
        // How many follow, until there are more than may be.
        let exceeds = |first: Timestamp| {
            let later = std::iter::successors(Some(first), |time| self.next(*time));
            later.take_while(|time| *time <= self.now).nth(self.policy.catch_up_max.max(1)).is_some()
        };
        if !exceeds(earliest) {
            return earliest;
        }
        // Above `too_early` are too many, above `late_enough` are few enough.
        let (mut too_early, mut late_enough) = (earliest, self.now);
        for _ in 0..HALVINGS_MAX {
            let span = late_enough.since(too_early);
            if span <= SECOND {
                break;
            }
            let half = too_early.plus(span / 2);
            match self.next(half).filter(|first| *first <= self.now) {
                Some(first) if exceeds(first) => too_early = half,
                _ => late_enough = half,
            }
        }
        self.next(late_enough).filter(|first| *first <= self.now).unwrap_or_else(|| self.latest(earliest))
    }

    /// The occurrences from `first` until before `at`, or up to now when `at` lies ahead.
    fn skipped(&self, first: Timestamp, at: Timestamp) -> SkippedRuns {
        let end = at.minus(MILLISECOND).min(self.now);
        let mut passed =
            std::iter::successors(Some(first), |time| self.next(*time)).take_while(|time| *time <= end);
        let each: Vec<Timestamp> = passed.by_ref().take(SKIPPED_EACH_MAX).collect();
        let rest = passed.next().map(|first| (first, self.latest_until(first, end)));
        SkippedRuns { each, rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    /// Calls `check` with a search at `now`.
    fn with_search<T>(
        expression: &str,
        runs: MissedRuns,
        now: &str,
        check: impl FnOnce(&MissedSearch<'_>) -> T,
    ) -> T {
        let recurrence = Recurrence::parse(expression).unwrap();
        let policy = MissedPolicy { runs, catch_up_max: 3, ..MissedPolicy::default() };
        check(&MissedSearch { recurrence: &recurrence, zone: &TimeZone::UTC, policy, now: at(now) })
    }

    /// The next run, and the hours of those that are skipped.
    #[track_caller]
    fn check(runs: MissedRuns, now: &str, next: &str, skipped: &[&str]) {
        let found =
            with_search("@hourly", runs, now, |search| search.following(at("2026-11-22 08:00:00")).unwrap());
        assert_eq!(found.at, at(next), "{runs:?} at {now}: {}", found.at.to_iso());
        let expected: Vec<Timestamp> =
            skipped.iter().map(|text| at(&format!("2026-11-22 {text}:00"))).collect();
        assert_eq!(found.skipped, SkippedRuns { each: expected, rest: None }, "{runs:?} at {now}");
    }

    #[test]
    fn a_run_that_ended_in_time_is_followed_by_the_next_one() {
        for runs in MissedRuns::EACH {
            check(runs, "2026-11-22 08:59:59", "2026-11-22 09:00:00", &[]);
            // Just missed: it is due now.
            check(runs, "2026-11-22 09:00:00", "2026-11-22 09:00:00", &[]);
            check(runs, "2026-11-22 09:05:00", "2026-11-22 09:00:00", &[]);
        }
    }

    #[test]
    fn of_missed_runs_none_the_latest_or_all_are_made_up_for() {
        let now = "2026-11-22 11:30:00";
        check(MissedRuns::Skip, now, "2026-11-22 12:00:00", &["09:00", "10:00", "11:00"]);
        check(MissedRuns::Latest, now, "2026-11-22 11:00:00", &["09:00", "10:00"]);
        check(MissedRuns::All, now, "2026-11-22 09:00:00", &[]);
        let later = "2026-11-22 14:30:00";
        check(MissedRuns::All, later, "2026-11-22 12:00:00", &["09:00", "10:00", "11:00"]);
    }

    #[test]
    fn a_run_that_is_a_little_late_is_not_skipped() {
        check(MissedRuns::Skip, "2026-11-22 11:05:00", "2026-11-22 11:00:00", &["09:00", "10:00"]);
        check(MissedRuns::Skip, "2026-11-22 11:05:01", "2026-11-22 12:00:00", &["09:00", "10:00", "11:00"]);
    }

    #[test]
    fn a_run_that_nobody_has_begun_moves_on_only_when_another_one_takes_its_place() {
        let moved = |runs, now: &str| {
            with_search("@hourly", runs, now, |search| search.overdue(at("2026-11-22 09:00:00")))
                .map(|next| (next.at.to_iso(), next.skipped.each.len()))
        };
        for runs in MissedRuns::EACH {
            assert_eq!(moved(runs, "2026-11-22 08:59:59"), None, "not due");
            assert_eq!(moved(runs, "2026-11-22 09:04:00"), None);
        }
        assert_eq!(moved(MissedRuns::Latest, "2026-11-22 09:59:59"), None);
        let iso = |text: &str| at(text).to_iso();
        assert_eq!(moved(MissedRuns::Latest, "2026-11-22 11:00:00"), Some((iso("2026-11-22 11:00:00"), 2)));
        assert_eq!(moved(MissedRuns::Skip, "2026-11-22 09:30:00"), Some((iso("2026-11-22 10:00:00"), 1)));
        assert_eq!(moved(MissedRuns::All, "2026-11-22 11:30:00"), None, "it is the first of three");
        assert_eq!(moved(MissedRuns::All, "2026-11-22 12:30:00"), Some((iso("2026-11-22 10:00:00"), 1)));
    }

    #[test]
    fn a_first_run_at_a_time_of_its_own_is_one_of_the_missed_ones() {
        let moved = with_search("@hourly", MissedRuns::Latest, "2026-11-22 10:30:00", |search| {
            search.overdue(at("2026-11-22 08:17:00")).unwrap()
        });
        assert_eq!(moved.at, at("2026-11-22 10:00:00"));
        assert_eq!(moved.skipped.each, [at("2026-11-22 08:17:00"), at("2026-11-22 09:00:00")]);
    }

    #[test]
    fn years_of_seconds_are_searched_in_a_few_steps_and_told_as_a_span() {
        for (runs, next) in
            [(MissedRuns::Latest, "2026-11-22 09:00:00"), (MissedRuns::All, "2026-11-22 08:59:58")]
        {
            let found = with_search("* * * * * *", runs, "2026-11-22 09:00:00", |search| {
                search.following(at("1970-01-01 00:00:00")).unwrap()
            });
            assert_eq!(found.at, at(next));
            assert_eq!(found.skipped.each.len(), SKIPPED_EACH_MAX);
            let (first, last) = found.skipped.rest.unwrap();
            assert_eq!((first, last), (at("1970-01-01 00:00:21"), found.at.minus(SECOND)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_latest_run_is_the_one_that_a_walk_finds(
            expression in prop::sample::select(vec!["*/7 9-10 * * *", "0 9 * * 1", "@hourly", "30 2 1 * *"]),
            start_s in 1_700_000_000_i64..1_900_000_000, hours in 1_u64..2_000,
        ) {
            let recurrence = Recurrence::parse(expression).unwrap();
            let zone = TimeZone::get("Europe/Berlin").unwrap();
            let start = Timestamp::from_ms(start_s * 1000);
            let policy = MissedPolicy::default();
            let now = start.plus(Duration::from_secs(hours * 3600));
            let search = MissedSearch { recurrence: &recurrence, zone: &zone, policy, now };
            let walked = std::iter::successors(Some(start), |time| recurrence.next_after(*time, &zone))
                .take_while(|time| *time <= now).last();
            prop_assert_eq!(Some(search.latest(start)), walked);
        }
    }
}
