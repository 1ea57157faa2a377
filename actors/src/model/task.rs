//! What a system action changes in a session's tasks, validated before anything is written.
//!
//! Nothing of an action is applied when a part of it is wrong: the agent is told what, and asks again.

use super::action::{ActionError, ScheduleTask, SystemAction, UpdateTask};
use super::ids::{ChannelType, InvalidId, MessageId, PlatformId, ThreadId};
use super::message::OutboundRow;
use super::missed::MissedRuns;
use super::recurrence::Recurrence;
use super::series::TaskOptions;
use super::time::Timestamp;
use jiff::tz::TimeZone;

/// A change to a session's tasks that can be applied as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskChange {
    /// A new task.
    Insert {
        /// Its id, and the id of its series.
        task_id: MessageId,
        /// What the agent is told when it runs.
        prompt: String,
        /// A script that runs before the agent is told.
        script: Option<String>,
        /// Its first run.
        process_after: Timestamp,
        /// A valid cron expression.
        recurrence: Option<String>,
        /// What it says about its own time: a known zone, a policy.
        options: TaskOptions,
        /// Chat that it answers to.
        platform_id: Option<PlatformId>,
        /// Channel type of that chat.
        channel_type: Option<ChannelType>,
        /// Thread in that chat.
        thread_id: Option<ThreadId>,
    },
    /// The end of a series.
    Cancel {
        /// Id of any of its runs.
        task_id: MessageId,
    },
    /// A series that does not run until it is resumed.
    Pause {
        /// Id of any of its runs.
        task_id: MessageId,
    },
    /// A series that runs again.
    Resume {
        /// Id of any of its runs.
        task_id: MessageId,
    },
    /// New values for a series' live run. `None` = unchanged.
    Update {
        /// Id of any of its runs.
        task_id: MessageId,
        /// New prompt.
        prompt: Option<String>,
        /// New script; `Some(None)` removes it.
        script: Option<Option<String>>,
        /// New time of the next run.
        process_after: Option<Timestamp>,
        /// New valid cron expression; `Some(None)` ends the recurrence.
        recurrence: Option<Option<String>>,
        /// New known zone; `Some(None)` = that of the tenant or the host again.
        timezone: Option<Option<String>>,
        /// New policy; `Some(None)` = that of the host again.
        missed_runs: Option<Option<MissedRuns>>,
    },
}

/// The routing columns of the row that holds the action. They stand in for what its content leaves out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowRouting<'a> {
    /// The row's `platform_id`.
    pub platform_id: Option<&'a str>,
    /// The row's `channel_type`.
    pub channel_type: Option<&'a str>,
    /// The row's `thread_id`.
    pub thread_id: Option<&'a str>,
}

impl<'a> RowRouting<'a> {
    /// The routing columns of `row`.
    pub fn of(row: &'a OutboundRow) -> Self {
        Self {
            platform_id: row.platform_id.as_deref(),
            channel_type: row.channel_type.as_deref(),
            thread_id: row.thread_id.as_deref(),
        }
    }
}

/// Validates an action on tasks.
///
/// `now` is when the action is applied, `zone` the zone in which local times and cron expressions are read when the
/// action names none.
/// A schedule without `processAfter` runs first at the next occurrence of its recurrence.
pub fn plan_task(
    action: &SystemAction,
    routing: RowRouting<'_>,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<TaskChange, ActionError> {
    match action {
        SystemAction::Schedule(schedule) => plan_schedule(schedule, routing, now, zone),
        SystemAction::Cancel { task_id } => Ok(TaskChange::Cancel { task_id: task_id.clone() }),
        SystemAction::Pause { task_id } => Ok(TaskChange::Pause { task_id: task_id.clone() }),
        SystemAction::Resume { task_id } => Ok(TaskChange::Resume { task_id: task_id.clone() }),
        SystemAction::Update(update) => plan_update(update, now, zone),
        SystemAction::Other { name, .. } => Err(ActionError::not_a_task(name)),
    }
}

fn plan_schedule(
    schedule: &ScheduleTask,
    routing: RowRouting<'_>,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<TaskChange, ActionError> {
    let own_zone = schedule.timezone.as_deref().map(known_zone).transpose()?;
    let zone = own_zone.as_ref().unwrap_or(zone);
    let missed_runs = schedule.missed_runs.as_deref().map(known_policy).transpose()?;
    let given = process_after(schedule.process_after.as_deref(), zone)?;
    let next = match schedule.recurrence.as_deref() {
        Some(expression) => Some(next_run(expression, now, zone)?),
        None => None,
    };
    // Routing is taken whole from one place: a thread of one chat means nothing in another.
    let routing = if schedule.platform_id.is_some() || schedule.channel_type.is_some() {
        RowRouting {
            platform_id: schedule.platform_id.as_deref(),
            channel_type: schedule.channel_type.as_deref(),
            thread_id: schedule.thread_id.as_deref(),
        }
    } else {
        routing
    };
    Ok(TaskChange::Insert {
        task_id: schedule.task_id.clone(),
        prompt: schedule.prompt.clone(),
        script: schedule.script.clone(),
        process_after: given.or(next).ok_or(ActionError::NoTime)?,
        recurrence: schedule.recurrence.clone(),
        options: TaskOptions { timezone: schedule.timezone.clone(), missed_runs },
        platform_id: routing_id("platformId", routing.platform_id, PlatformId::new)?,
        channel_type: routing_id("channelType", routing.channel_type, ChannelType::new)?,
        thread_id: routing_id("threadId", routing.thread_id, ThreadId::new)?,
    })
}

fn plan_update(update: &UpdateTask, now: Timestamp, zone: &TimeZone) -> Result<TaskChange, ActionError> {
    let own_zone = update.timezone.as_ref().and_then(Option::as_deref).map(known_zone).transpose()?;
    let zone = own_zone.as_ref().unwrap_or(zone);
    let missed_runs = update.missed_runs.as_ref().map(|name| name.as_deref().map(known_policy).transpose());
    let missed_runs = missed_runs.transpose()?;
    let process_after = process_after(update.process_after.as_deref(), zone)?;
    if let Some(Some(expression)) = &update.recurrence {
        next_run(expression, now, zone)?;
    }
    let nothing_given = update.prompt.is_none()
        && update.script.is_none()
        && update.process_after.is_none()
        && update.recurrence.is_none()
        && update.timezone.is_none()
        && update.missed_runs.is_none();
    if nothing_given {
        return Err(ActionError::NothingToChange);
    }
    Ok(TaskChange::Update {
        task_id: update.task_id.clone(),
        prompt: update.prompt.clone(),
        script: update.script.clone(),
        process_after,
        recurrence: update.recurrence.clone(),
        timezone: update.timezone.clone(),
        missed_runs,
    })
}

fn process_after(text: Option<&str>, zone: &TimeZone) -> Result<Option<Timestamp>, ActionError> {
    text.map(|text| Timestamp::parse_in_zone(text, zone)).transpose().map_err(ActionError::InvalidTime)
}

fn known_zone(name: &str) -> Result<TimeZone, ActionError> {
    TimeZone::get(name).map_err(|_| ActionError::invalid_timezone(name))
}

fn known_policy(name: &str) -> Result<MissedRuns, ActionError> {
    MissedRuns::from_name(name).ok_or_else(|| ActionError::invalid_missed_runs(name))
}

fn next_run(expression: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, ActionError> {
    let recurrence = Recurrence::parse(expression).map_err(ActionError::InvalidRecurrence)?;
    recurrence.next_after(now, zone).ok_or_else(|| ActionError::never_fires(expression))
}

fn routing_id<Id>(
    field: &'static str,
    text: Option<&str>,
    new: impl Fn(&str) -> Result<Id, InvalidId>,
) -> Result<Option<Id>, ActionError> {
    text.filter(|text| !text.is_empty())
        .map(|text| new(text).map_err(|reason| ActionError::InvalidId { field, reason }))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: RowRouting<'static> =
        RowRouting { platform_id: Some("slack:C0OPS"), channel_type: Some("slack"), thread_id: Some("t-9") };

    fn plan(json: &str) -> Result<TaskChange, ActionError> {
        let now = Timestamp::parse("2026-04-16T12:00:00Z").unwrap();
        plan_task(&SystemAction::parse(json)?, ROW, now, &TimeZone::get("Europe/Berlin").unwrap())
    }

    #[track_caller]
    fn first_run(fields: &str) -> String {
        let json = format!(r#"{{"action":"schedule_task","taskId":"task-1","prompt":"p",{fields}}}"#);
        match plan(&json).expect(&json) {
            TaskChange::Insert { process_after, .. } => process_after.to_iso(),
            other => panic!("not a new task: {other:?}"),
        }
    }

    #[track_caller]
    fn refused(fields: &str, message: &str) {
        let json = format!(r#"{{"action":"schedule_task","taskId":"task-1","prompt":"p"{fields}}}"#);
        let found = plan(&json).expect_err(&json).to_string();
        assert!(found.starts_with(message), "{found}");
    }

    #[test]
    fn a_task_runs_first_at_its_time_whatever_the_form() {
        assert_eq!(first_run(r#""processAfter":"2026-04-16T14:37:00Z""#), "2026-04-16T14:37:00.000Z");
        assert_eq!(first_run(r#""processAfter":"2026-04-16T14:37:00+02:00""#), "2026-04-16T12:37:00.000Z");
        assert_eq!(first_run(r#""processAfter":"2026-04-16 14:37:00""#), "2026-04-16T14:37:00.000Z");
        assert_eq!(first_run(r#""processAfter":"2026-04-16T14:37""#), "2026-04-16T12:37:00.000Z");
    }

    #[test]
    fn a_task_with_only_a_recurrence_runs_first_at_its_next_occurrence() {
        assert_eq!(first_run(r#""recurrence":"0 9 * * *""#), "2026-04-17T07:00:00.000Z");
        assert_eq!(
            first_run(r#""processAfter":"2026-05-01T00:00:00Z","recurrence":"0 9 * * *""#),
            "2026-05-01T00:00:00.000Z"
        );
    }

    #[test]
    fn a_wrong_time_or_recurrence_is_refused_in_words() {
        refused(
            r#","processAfter":"tomorrow 9am""#,
            r#"processAfter "tomorrow 9am" is not a time: use 2026-04-16T14:37:00Z"#,
        );
        refused(r#","processAfter":"""#, r#"processAfter "" is not a time"#);
        refused(
            r#","processAfter":"2026-05-01T00:00:00Z","recurrence":"every day""#,
            r#"recurrence "every day" is not a cron expression"#,
        );
        refused(r#","recurrence":"0 0 31 2 *""#, r#"recurrence "0 0 31 2 *" is not a cron expression"#);
        refused("", "a task needs processAfter");
        refused(r#","recurrence":null"#, "a task needs processAfter");
    }

    #[test]
    fn the_zone_of_a_task_goes_before_that_of_the_host() {
        assert_eq!(
            first_run(r#""recurrence":"0 9 * * *","timezone":"America/New_York""#),
            "2026-04-16T13:00:00.000Z"
        );
        assert_eq!(
            first_run(r#""processAfter":"2026-04-16T14:37","timezone":"Asia/Tokyo""#),
            "2026-04-16T05:37:00.000Z"
        );
        refused(
            r#","recurrence":"@daily","timezone":"Mars/Base""#,
            r#"timezone "Mars/Base" is not known: use an IANA name such as "Europe/Berlin""#,
        );
        let cleared =
            plan(r#"{"action":"update_task","taskId":"t","timezone":null,"missedRuns":"all"}"#).unwrap();
        let TaskChange::Update { timezone, missed_runs, .. } = cleared else { panic!("not an update") };
        assert_eq!((timezone, missed_runs), (Some(None), Some(Some(MissedRuns::All))));
    }

    #[test]
    fn an_unknown_policy_for_missed_runs_is_refused_in_words() {
        let words = r#"missedRuns "never" is not known: use "skip", "latest" or "all""#;
        refused(r#","recurrence":"@daily","missedRuns":"never""#, words);
        let update = plan(r#"{"action":"update_task","taskId":"t","missedRuns":"never"}"#);
        assert_eq!(update.unwrap_err().to_string(), words);
    }

    #[test]
    fn routing_of_the_content_goes_before_that_of_the_row_and_is_never_mixed() {
        let routing = |fields: &str| {
            let json = format!(
                r#"{{"action":"schedule_task","taskId":"t","prompt":"p","recurrence":"@daily"{fields}}}"#
            );
            match plan(&json).unwrap() {
                TaskChange::Insert { platform_id, channel_type, thread_id, .. } => (
                    channel_type.map(|id| id.to_string()),
                    platform_id.map(|id| id.to_string()),
                    thread_id.map(|id| id.to_string()),
                ),
                other => panic!("not a new task: {other:?}"),
            }
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(routing(""), (some("slack"), some("slack:C0OPS"), some("t-9")));
        assert_eq!(
            routing(r#","channelType":"discord","platformId":"discord:1","threadId":null"#),
            (some("discord"), some("discord:1"), None)
        );
    }

    #[test]
    fn an_update_is_validated_and_keeps_what_it_does_not_name() {
        let update = plan(
            r#"{"action":"update_task","taskId":"t","prompt":"new p","processAfter":"2027-02-01T00:00:00.000Z","recurrence":null}"#,
        );
        let expected = TaskChange::Update {
            task_id: MessageId::new("t").unwrap(),
            prompt: Some("new p".to_owned()),
            script: None,
            process_after: Some(Timestamp::parse("2027-02-01T00:00:00Z").unwrap()),
            recurrence: Some(None),
            timezone: None,
            missed_runs: None,
        };
        assert_eq!(update, Ok(expected));
        assert_eq!(plan(r#"{"action":"update_task","taskId":"t"}"#), Err(ActionError::NothingToChange));
        let wrong = plan(r#"{"action":"update_task","taskId":"t","recurrence":"99 * * * *"}"#);
        assert!(matches!(wrong, Err(ActionError::InvalidRecurrence(_))), "{wrong:?}");
    }

    #[test]
    fn other_actions_change_no_task() {
        let error = plan(r#"{"action":"make_coffee"}"#).unwrap_err();
        assert_eq!(error.to_string(), r#""make_coffee" is not an action on tasks"#);
    }
}
