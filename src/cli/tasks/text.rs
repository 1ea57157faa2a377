//! How tasks and their runs are shown.

use super::super::table::columns;
use super::Moment;
use crate::channels::plain_text::one_line;
use nanorelay_actors::report::{RunRecord, TaskRecord};

const SECOND_MS: u64 = 1000;

pub(super) fn tasks(records: &[TaskRecord]) -> String {
    let row = |record: &TaskRecord| {
        let last_run =
            record.last_run.as_ref().map(|run| format!("{} {}", run.result.as_str(), run.scheduled_at));
        [
            record.session_id.clone(),
            record.series_id.clone(),
            record.status.as_str().to_owned(),
            record.next_run.clone().unwrap_or_default(),
            record.recurrence.clone().unwrap_or_else(|| "once".to_owned()),
            record.timezone.clone(),
            last_run.unwrap_or_default(),
            record.prompt.clone(),
        ]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    columns(["SESSION", "TASK", "STATUS", "NEXT", "RECURRENCE", "ZONE", "LAST RUN", "PROMPT"], &rows)
}

pub(super) fn runs(records: &[RunRecord]) -> String {
    let row = |record: &RunRecord| {
        let scheduled = match &record.through {
            Some(last) => format!("{} to {last}", record.scheduled_at),
            None => record.scheduled_at.clone(),
        };
        [
            record.series_id.clone(),
            scheduled,
            record.result.as_str().to_owned(),
            record.started_at.clone().unwrap_or_default(),
            record.ended_at.clone().unwrap_or_default(),
            record.late_ms.map(lateness).unwrap_or_default(),
            record.detail.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    columns(["TASK", "SCHEDULED", "RESULT", "STARTED", "ENDED", "LATE BY", "DETAIL"], &rows)
}

pub(super) fn details(tasks: &[TaskRecord], records: &[RunRecord]) -> String {
    let mut text = String::new();
    for task in tasks {
        let fields = [
            ("session", Some(task.session_id.clone())),
            ("agent group", Some(task.agent_group_id.clone())),
            ("tenant", Some(task.tenant.clone())),
            ("task", Some(task.series_id.clone())),
            ("run", Some(task.run_id.clone())),
            ("status", Some(task.status.as_str().to_owned())),
            ("next run", task.next_run.clone()),
            ("recurrence", task.recurrence.clone()),
            ("zone", Some(task.timezone.clone())),
            ("missed runs", Some(task.missed_runs.as_str().to_owned())),
            ("tries", Some(task.tries.to_string())),
            ("channel type", task.channel_type.clone()),
            ("platform id", task.platform_id.clone()),
            ("thread id", task.thread_id.clone()),
            ("prompt", Some(task.prompt.clone())),
            ("script", task.script.clone()),
        ];
        for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            text.push_str(&format!("{name:<13} {}\n", one_line(&value)));
        }
        text.push('\n');
    }
    text + &runs(records)
}

pub(super) fn moments(moments: &[Moment]) -> String {
    let rows: Vec<_> = moments.iter().map(|moment| [moment.local.clone(), moment.at.clone()]).collect();
    columns(["LOCAL", "UTC"], &rows)
}

/// `0.3 s`, `12 s`, `1 h 5 min`.
fn lateness(ms: u64) -> String {
    let seconds = ms / SECOND_MS;
    match seconds {
        0 => format!("{}.{} s", seconds, ms / 100),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nanorelay_actors::model::missed::MissedRuns;
    use nanorelay_actors::report::{RunResult, TaskStatus};

    fn run() -> RunRecord {
        RunRecord {
            session_id: "s-1".to_owned(),
            series_id: "t-1".to_owned(),
            scheduled_at: "2026-11-22T09:00:00.000Z".to_owned(),
            through: None,
            run_id: Some("t-1".to_owned()),
            started_at: Some("2026-11-22T09:00:12.000Z".to_owned()),
            ended_at: None,
            result: RunResult::Running,
            late_ms: Some(12_000),
            detail: Some("\x1b[2J".to_owned()),
        }
    }

    fn task() -> TaskRecord {
        TaskRecord {
            session_id: "s-1".to_owned(),
            agent_group_id: "ag".to_owned(),
            tenant: "acme".to_owned(),
            series_id: "t-1".to_owned(),
            run_id: "t-1".to_owned(),
            status: TaskStatus::Pending,
            next_run: Some("2026-11-23T09:00:00.000Z".to_owned()),
            recurrence: Some("0 9 * * *".to_owned()),
            timezone: "Europe/Berlin".to_owned(),
            missed_runs: MissedRuns::Latest,
            tries: 0,
            prompt: "say \x1b[2J".to_owned(),
            script: None,
            channel_type: None,
            platform_id: None,
            thread_id: None,
            last_run: Some(run()),
        }
    }

    #[test]
    fn what_an_agent_wrote_is_escaped_for_the_terminal() {
        let all = [tasks(&[task()]), runs(&[run()]), details(&[task()], &[run()])];
        assert!(all.iter().all(|text| !text.contains('\x1b')), "{all:?}");
        assert!(all[0].contains("running 2026-11-22T09:00:00.000Z"), "{}", all[0]);
        assert!(all[1].contains("12 s"), "{}", all[1]);
        assert!(all[2].contains("missed runs   latest\n"), "{}", all[2]);
    }

    #[test]
    fn lateness_is_told_in_the_unit_that_fits() {
        let texts = [0, 320, 1_000, 59_999, 61_000, 3_900_000].map(lateness);
        assert_eq!(texts, ["0.0 s", "0.3 s", "1 s", "59 s", "1 min 1 s", "1 h 5 min"]);
    }
}
