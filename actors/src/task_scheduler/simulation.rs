//! A year of a thousand series in eight zones, on a time that only this test knows.
//!
//! What decides and what keeps is the real code: the due times, the plan of each run, the tables and statements of
//! `inbound.db`, the history in the ledger. The agents, the clock and the actors' messages are not.

use super::{PlannedRuns, RunsToPlan};
use crate::model::due_times::DueTimes;
use crate::model::ids::{MessageId, SessionId};
use crate::model::missed::MissedPolicy;
use crate::model::series::{SeriesDefaults, TaskOptions};
use crate::model::time::Timestamp;
use crate::report::{RunFilter, RunResult};
use crate::store::inbound::{self, NewRun, NewTask};
use crate::store::ledger::{LedgerReader, LedgerWriter, RunEvent, RunKey};
use crate::store::outbound::AckStatus;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// `NANORELAY_SIMULATED_SERIES=1000` runs the whole simulation.
const SERIES: usize = 24;
const SERIES_PER_SESSION: usize = 5;
const EVENTS_PER_RECORD: usize = 2_000;
/// The longest that an agent takes from its wake to its work.
const START_SECONDS_MAX: u64 = 90;
/// The longest that a run takes.
const RUN_SECONDS_MAX: u64 = 20 * 60;

/// Zones with changes of an hour in both halves of the year, one of half an hour, one at midnight, one of none.
const ZONES: [&str; 8] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Sydney",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Santiago",
    "Pacific/Auckland",
    "Asia/Kolkata",
];

/// When a series runs, in cron and in the words of a calendar.
struct Pattern {
    expression: &'static str,
    dates: fn(Date) -> bool,
    /// The time of day; `None` = each full hour of absolute time.
    time: Option<Time>,
}

fn is_workday(date: Date) -> bool {
    !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday)
}

const fn daily(expression: &'static str, hour: i8, minute: i8) -> Pattern {
    Pattern { expression, dates: |_| true, time: Some(Time::constant(hour, minute, 0, 0)) }
}

const PATTERNS: [Pattern; 10] = [
    daily("0 9 * * *", 9, 0),
    daily("30 2 * * *", 2, 30),
    daily("15 0 * * *", 0, 15),
    Pattern { dates: is_workday, ..daily("45 1 * * mon-fri", 1, 45) },
    Pattern { dates: |date| date.weekday() == Weekday::Sunday, ..daily("0 2 * * sun", 2, 0) },
    Pattern { dates: |date| date.weekday() == Weekday::Sunday, ..daily("59 23 * * 7", 23, 59) },
    Pattern { dates: |date| date.day() == date.days_in_month(), ..daily("10 3 L * *", 3, 10) },
    Pattern { dates: |date| matches!(date.day(), 1 | 15), ..daily("0 12 1,15 * *", 12, 0) },
    Pattern {
        dates: |date| date.weekday() == Weekday::Monday && (8..=14).contains(&date.day()),
        ..daily("5 8 * * mon#2", 8, 5)
    },
    Pattern {
        dates: |date| date.weekday() == Weekday::Friday && date.day() > date.days_in_month() - 7,
        ..daily("30 17 * * 5L", 17, 30)
    },
];
const HOURLY: Pattern = Pattern { expression: "0 * * * *", dates: |_| true, time: None };

struct Series {
    session: usize,
    task_id: String,
    pattern: &'static Pattern,
    zone: TimeZone,
}

struct Session {
    id: SessionId,
    inbox: Connection,
    /// Rows that the agent has taken.
    begun: HashSet<MessageId>,
}

enum AgentStep {
    Begins(MessageId),
    Ends(MessageId),
}

struct World {
    random: fastrand::Rng,
    now: Timestamp,
    sessions: Vec<Session>,
    number_of: HashMap<SessionId, usize>,
    due: DueTimes,
    /// What agents do next, by time.
    steps: BTreeMap<(Timestamp, u64), (usize, AgentStep)>,
    next_number: u64,
    _folder: tempfile::TempDir,
    ledger: LedgerWriter,
    reader: LedgerReader,
    /// What is still to be recorded.
    events: Vec<(usize, RunEvent)>,
    lateness: [u64; 5],
    runs: u64,
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn series(count: usize) -> Vec<Series> {
    let one = |number: usize| Series {
        session: number / SERIES_PER_SESSION,
        task_id: format!("task-{number}"),
        // Every pattern meets every zone.
        pattern: match number % 250 {
            100 => &HOURLY,
            _ => &PATTERNS[(number + number / ZONES.len()) % PATTERNS.len()],
        },
        zone: TimeZone::get(ZONES[number % ZONES.len()]).unwrap(),
    };
    (0..count).map(one).collect()
}

/// When the series must run, by the calendar alone: times that a clock skips are moved by as much as it was.
fn expected(series: &Series, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    // Every zone's hours begin at a quarter of an hour of UTC.
    const QUARTER: Duration = Duration::from_secs(15 * 60);
    let quarter_ms = QUARTER.as_millis() as i64;
    let first_quarter = Timestamp::from_ms(from.as_ms().div_euclid(quarter_ms) * quarter_ms);
    let instants = || std::iter::successors(Some(first_quarter), |time| Some(time.plus(QUARTER)));
    let local = |time: Timestamp| time.to_jiff().unwrap().to_zoned(series.zone.clone()).datetime();
    let mut times: Vec<Timestamp> = match series.pattern.time {
        None => instants().take_while(|time| *time <= to).filter(|time| local(*time).minute() == 0).collect(),
        Some(time) => {
            let first = local(from).date().yesterday().unwrap();
            let dates = first.series(jiff::Span::new().days(1)).take(370);
            dates
                .filter(|date| (series.pattern.dates)(*date))
                .map(|date| series.zone.to_ambiguous_timestamp(date.to_datetime(time)).compatible().unwrap())
                .map(Timestamp::from_jiff)
                .collect()
        }
    };
    times.retain(|time| *time > from && *time <= to);
    times
}

impl World {
    fn new(series: &[Series], start: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self {
            random: fastrand::Rng::with_seed(7),
            now: start,
            sessions: Vec::new(),
            number_of: HashMap::new(),
            due: DueTimes::default(),
            steps: BTreeMap::new(),
            next_number: 0,
            ledger: LedgerWriter::open(folder.path()).unwrap(),
            reader: LedgerReader::open(folder.path()).unwrap(),
            _folder: folder,
            events: Vec::new(),
            lateness: [0; 5],
            runs: 0,
        };
        for one in series {
            if one.session == world.sessions.len() {
                let id = SessionId::new(&format!("sess-{}", one.session)).unwrap();
                let inbox = in_memory();
                world.number_of.insert(id.clone(), one.session);
                world.sessions.push(Session { id, inbox, begun: HashSet::new() });
            }
            world.schedule(one);
        }
        for session in 0..world.sessions.len() {
            world.look_after(session);
        }
        world
    }

    fn schedule(&mut self, series: &Series) {
        let recurrence = crate::model::recurrence::Recurrence::parse(series.pattern.expression).unwrap();
        let task = NewTask {
            task_id: MessageId::new(&series.task_id).unwrap(),
            series_id: None,
            prompt: "p".to_owned(),
            script: None,
            process_after: recurrence.next_after(self.now, &series.zone).unwrap(),
            recurrence: Some(series.pattern.expression.to_owned()),
            options: TaskOptions { timezone: series.zone.iana_name().map(str::to_owned), missed_runs: None },
            platform_id: None,
            channel_type: None,
            thread_id: None,
        };
        let now = self.now;
        write(&self.sessions[series.session].inbox, |tx| inbound::insert_task(tx, &task, now));
    }

    fn later(&mut self, seconds: u64, session: usize, step: AgentStep) {
        let time = self.now.plus(Duration::from_secs(seconds));
        self.next_number += 1;
        self.steps.insert((time, self.next_number), (session, step));
    }

    /// What a session's upkeep does: follow ended runs, move missed ones, wake the agent, say when to come back.
    fn look_after(&mut self, number: usize) {
        let now = self.now;
        let session = &mut self.sessions[number];
        let ended = inbound::completed_recurring(&session.inbox, 100).unwrap();
        let to_plan = RunsToPlan {
            ended: ended.iter().map(|run| inbound::series_run(&session.inbox, run).unwrap()).collect(),
            overdue: inbound::overdue_recurring(&session.inbox, &session.begun, i64::MIN, 100, now)
                .unwrap()
                .runs,
        };
        let defaults = SeriesDefaults { zone: TimeZone::UTC, missed: MissedPolicy::default() };
        let PlannedRuns { following, moved } = to_plan.plan(now, &defaults);
        assert_eq!(moved, [], "no agent is so late that it misses a run");
        write(&session.inbox, |tx| {
            for (ended, next) in &following {
                let next = next.as_ref().expect("a series goes on");
                let run = NewRun { id: next.id.clone(), process_after: next.process_after, paused: false };
                inbound::insert_next_run(tx, &ended.id, &run, now)?;
            }
            Ok(())
        });
        for (run, status) in ended.iter().map(|run| (&run.id, run.status)) {
            assert!(session.begun.remove(run), "{run:?} ended {status:?} without having begun");
        }
        let mut woken = Vec::new();
        for task in inbound::live_tasks(&session.inbox, &Default::default()).unwrap().rows {
            let id = MessageId::new(&task.run_id).unwrap();
            if task.process_after.is_some_and(|due| due <= now) && session.begun.insert(id.clone()) {
                woken.push(id);
            }
        }
        let next_due = inbound::next_due(&session.inbox, now).unwrap().at;
        self.due.set(session.id.clone(), next_due);
        for id in woken {
            let is_slow = self.random.u8(0..10) == 0;
            let seconds = self.random.u64(0..=if is_slow { START_SECONDS_MAX } else { 2 });
            self.later(seconds, number, AgentStep::Begins(id));
        }
    }

    fn key(&self, number: usize, id: &MessageId) -> RunKey {
        let ids = std::slice::from_ref(id);
        inbound::runs_among(&self.sessions[number].inbox, ids).unwrap().pop().expect("a run")
    }

    fn step(&mut self, number: usize, step: AgentStep) {
        match step {
            AgentStep::Begins(id) => {
                let run = self.key(number, &id);
                let scheduled = run.scheduled.unwrap();
                assert!(self.now >= scheduled, "{id:?} begins before its time");
                let seconds = self.now.since(scheduled).as_secs();
                let bucket = [0, 2, 10, 60].iter().position(|bound| seconds <= *bound).unwrap_or(4);
                self.lateness[bucket] += 1;
                self.runs += 1;
                self.events.push((number, RunEvent::Started { run, at: self.now }));
                let seconds = self.random.u64(1..=RUN_SECONDS_MAX);
                self.later(seconds, number, AgentStep::Ends(id));
            }
            AgentStep::Ends(id) => {
                let run = self.key(number, &id);
                let fails = self.random.u8(0..20) == 0;
                let (ack, result) = if fails {
                    (AckStatus::Failed, RunResult::Failed)
                } else {
                    (AckStatus::Completed, RunResult::Ok)
                };
                self.events.push((number, RunEvent::Ended { run, at: self.now, result, detail: None }));
                assert!(write(&self.sessions[number].inbox, |tx| inbound::apply_ack(tx, &id, &ack)));
                self.look_after(number);
            }
        }
        if self.events.len() >= EVENTS_PER_RECORD {
            self.record();
        }
    }

    fn record(&mut self) {
        let mut transaction = self.ledger.transaction().unwrap();
        for (number, event) in self.events.drain(..) {
            transaction.record_runs(&self.sessions[number].id, &[event], self.now).unwrap();
        }
        transaction.commit().unwrap();
    }

    /// Goes from one thing that happens to the next, up to `end`.
    fn run_until(&mut self, end: Timestamp) {
        loop {
            let step = self.steps.first_key_value().map(|((time, _), _)| *time);
            let Some(next) = self.due.earliest().into_iter().chain(step).min().filter(|next| *next <= end)
            else {
                break;
            };
            assert!(next >= self.now, "time goes on");
            self.now = next;
            for session in self.due.take_due(next) {
                self.look_after(self.number_of[&session]);
            }
            while let Some(entry) = self.steps.first_entry().filter(|entry| entry.key().0 <= next) {
                let (number, step) = entry.remove();
                self.step(number, step);
            }
        }
        self.now = end;
        self.record();
    }
}

/// An `inbound.db` in memory, with the tables of a real one.
fn in_memory() -> Connection {
    let inbox = inbound::tests::current();
    inbox.set_prepared_statement_cache_capacity(64);
    inbox
}

fn write<T>(
    conn: &Connection,
    change: impl FnOnce(&Transaction<'_>) -> Result<T, crate::store::error::StoreError>,
) -> T {
    let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate).unwrap();
    let value = change(&transaction).unwrap();
    transaction.commit().unwrap();
    value
}

#[test]
fn a_year_of_series_in_eight_zones_runs_each_run_once_and_none_early() {
    let count = std::env::var("NANORELAY_SIMULATED_SERIES").ok().and_then(|text| text.parse().ok());
    let (start, end) = (at("2027-01-01 00:00:30"), at("2028-01-01 00:00:00"));
    let series = series(count.unwrap_or(SERIES));
    let mut world = World::new(&series, start);
    // Long enough for the last runs to end.
    world.run_until(end.plus(Duration::from_secs(3600)));
    let mut ended = 0;
    for one in &series {
        let session_id = world.sessions[one.session].id.to_string();
        let filter = RunFilter { session_id, series_id: Some(one.task_id.clone()), ..RunFilter::default() };
        let mut runs = world.reader.task_runs(&filter).unwrap();
        runs.retain(|run| at(&run.scheduled_at) <= end);
        let times: Vec<Timestamp> = runs.iter().rev().map(|run| at(&run.scheduled_at)).collect();
        let name = format!("{} {} in {:?}", one.task_id, one.pattern.expression, one.zone.iana_name());
        let expected = expected(one, start, end);
        let differs = times.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert!(
            differs.is_none() && times.len() == expected.len(),
            "{name}: {differs:?}, {} runs",
            times.len()
        );
        for run in &runs {
            assert!(matches!(run.result, RunResult::Ok | RunResult::Failed), "{name}: {run:?}");
            assert!(run.started_at <= run.ended_at && run.started_at.is_some(), "{name}: {run:?}");
        }
        ended += runs.len();
    }
    let shares = ["0 s", "2 s", "10 s", "60 s", "more"].into_iter().zip(world.lateness);
    let histogram: Vec<String> = shares.map(|(bound, runs)| format!("up to {bound}: {runs}")).collect();
    println!("{} series, {ended} runs in a year; late by {}", series.len(), histogram.join(", "));
    assert_eq!(world.lateness.iter().sum::<u64>(), world.runs);
    assert!(ended > series.len() * 50, "{ended} runs");
}
