//! System actions: what an agent asks its host to do.

use super::content::{ContentError, parse_object, required_text, text_field, wrong_type};
use super::ids::MessageId;
use super::recurrence::InvalidRecurrence;
use super::text::quoted;
use super::time::InvalidTimestamp;
use serde_json::{Map, Value};

/// A row of kind `system`, read but not yet validated; see [`super::task::plan_task`].
#[derive(Debug, Clone, PartialEq)]
pub enum SystemAction {
    /// Create a task.
    Schedule(ScheduleTask),
    /// End a task and its series.
    Cancel {
        /// The task, by the id of any of its runs.
        task_id: MessageId,
    },
    /// Keep a task from running.
    Pause {
        /// The task, by the id of any of its runs.
        task_id: MessageId,
    },
    /// Let a paused task run again.
    Resume {
        /// The task, by the id of any of its runs.
        task_id: MessageId,
    },
    /// Change a task.
    Update(UpdateTask),
    /// An action that is not about tasks.
    Other {
        /// Its name, `create_agent`.
        name: String,
        /// The whole content.
        content: Value,
    },
}

/// The fields of `schedule_task`. Empty texts count as absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleTask {
    /// Id of the new task, chosen by the agent.
    pub task_id: MessageId,
    /// What the agent is told when the task runs.
    pub prompt: String,
    /// A script that runs before the agent is told.
    pub script: Option<String>,
    /// When to run first, as written.
    pub process_after: Option<String>,
    /// A cron expression, as written.
    pub recurrence: Option<String>,
    /// The zone in which it is read, as written.
    pub timezone: Option<String>,
    /// What is done about missed runs, as written.
    pub missed_runs: Option<String>,
    /// Chat that the task answers to; absent in seed files.
    pub platform_id: Option<String>,
    /// Channel type of that chat.
    pub channel_type: Option<String>,
    /// Thread in that chat.
    pub thread_id: Option<String>,
}

/// The fields of `update_task`. `None` = not given, leave as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateTask {
    /// The task, by the id of any of its runs.
    pub task_id: MessageId,
    /// New prompt.
    pub prompt: Option<String>,
    /// New script; `Some(None)` removes it.
    pub script: Option<Option<String>>,
    /// New time of the next run, as written.
    pub process_after: Option<String>,
    /// New cron expression, as written; `Some(None)` ends the recurrence.
    pub recurrence: Option<Option<String>>,
    /// New zone, as written; `Some(None)` = that of the tenant or the host again.
    pub timezone: Option<Option<String>>,
    /// What is done about missed runs, as written; `Some(None)` = what the host says again.
    pub missed_runs: Option<Option<String>>,
}

/// Why a system action is refused, in words for the agent that asked for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// The content cannot be understood.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// An id is too long.
    #[error("{field} cannot be used: {reason}")]
    InvalidId {
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        reason: super::ids::InvalidId,
    },
    /// `processAfter` is no time.
    #[error("processAfter {0}")]
    InvalidTime(InvalidTimestamp),
    /// `recurrence` is no cron expression.
    #[error("recurrence {0}")]
    InvalidRecurrence(InvalidRecurrence),
    /// `timezone` is no zone.
    #[error("timezone {quoted_name} is not known: use an IANA name such as \"Europe/Berlin\"")]
    InvalidTimezone {
        /// What was written, in quotes.
        quoted_name: String,
    },
    /// `missedRuns` is no policy.
    #[error("missedRuns {quoted_name} is not known: use \"skip\", \"latest\" or \"all\"")]
    InvalidMissedRuns {
        /// What was written, in quotes.
        quoted_name: String,
    },
    /// A task has neither a time nor a recurrence.
    #[error(
        "a task needs processAfter (2026-04-16T14:37:00Z), recurrence (a cron expression such as \
         \"0 9 * * 1-5\") or both"
    )]
    NoTime,
    /// The recurrence never fires again.
    #[error("recurrence {quoted_expression} never fires again")]
    NeverFires {
        /// The expression, in quotes.
        quoted_expression: String,
    },
    /// An update that gives nothing to change.
    #[error(
        "update_task gives nothing to change: give prompt, script, processAfter, recurrence, timezone or missedRuns"
    )]
    NothingToChange,
    /// The action is not about tasks.
    #[error("{quoted_name} is not an action on tasks")]
    NotATask {
        /// Name of the action, in quotes.
        quoted_name: String,
    },
}

impl ActionError {
    pub(super) fn not_a_task(name: &str) -> Self {
        ActionError::NotATask { quoted_name: quoted(name) }
    }

    pub(super) fn invalid_timezone(name: &str) -> Self {
        ActionError::InvalidTimezone { quoted_name: quoted(name) }
    }

    pub(super) fn invalid_missed_runs(name: &str) -> Self {
        ActionError::InvalidMissedRuns { quoted_name: quoted(name) }
    }

    pub(super) fn never_fires(expression: &str) -> Self {
        ActionError::NeverFires { quoted_expression: quoted(expression) }
    }
}

impl SystemAction {
    /// Reads the content of a row of kind `system`.
    ///
    /// ```
    /// use nanorelay_actors::model::action::SystemAction;
    ///
    /// let action = SystemAction::parse(r#"{"action":"cancel_task","taskId":"task-1"}"#).unwrap();
    /// assert!(matches!(action, SystemAction::Cancel { task_id } if task_id.as_str() == "task-1"));
    /// ```
    pub fn parse(json: &str) -> Result<Self, ActionError> {
        let object = parse_object(json)?;
        let name = required_text(&object, "action")?;
        match name.as_str() {
            "schedule_task" => ScheduleTask::read(&object).map(SystemAction::Schedule),
            "cancel_task" => Ok(SystemAction::Cancel { task_id: task_id(&object)? }),
            "pause_task" => Ok(SystemAction::Pause { task_id: task_id(&object)? }),
            "resume_task" => Ok(SystemAction::Resume { task_id: task_id(&object)? }),
            "update_task" => UpdateTask::read(&object).map(SystemAction::Update),
            _ => Ok(SystemAction::Other { name, content: Value::Object(object) }),
        }
    }
}

impl ScheduleTask {
    fn read(object: &Map<String, Value>) -> Result<Self, ActionError> {
        let optional =
            |field| Ok::<_, ContentError>(text_field(object, field)?.filter(|text| !text.is_empty()));
        Ok(Self {
            task_id: task_id(object)?,
            prompt: required_text(object, "prompt")?,
            script: optional("script")?,
            // An empty time is a mistake to report, not an absent one.
            process_after: text_field(object, "processAfter")?,
            recurrence: optional("recurrence")?,
            timezone: optional("timezone")?,
            missed_runs: optional("missedRuns")?,
            platform_id: optional("platformId")?,
            channel_type: optional("channelType")?,
            thread_id: optional("threadId")?,
        })
    }
}

impl UpdateTask {
    fn read(object: &Map<String, Value>) -> Result<Self, ActionError> {
        Ok(Self {
            task_id: task_id(object)?,
            prompt: given_text(object, "prompt")?.map(|text| not_empty("prompt", text)).transpose()?,
            script: clearable(object, "script")?,
            process_after: given_text(object, "processAfter")?,
            recurrence: clearable(object, "recurrence")?,
            timezone: clearable(object, "timezone")?,
            missed_runs: clearable(object, "missedRuns")?,
        })
    }
}

fn task_id(object: &Map<String, Value>) -> Result<MessageId, ActionError> {
    let text = required_text(object, "taskId")?;
    MessageId::new(&text).map_err(|reason| ActionError::InvalidId { field: "taskId", reason })
}

/// A field that may be absent, but not null: there is no task without it.
fn given_text(object: &Map<String, Value>, field: &'static str) -> Result<Option<String>, ContentError> {
    match object.get(field) {
        Some(Value::Null) => Err(wrong_type(field, "text", &Value::Null)),
        _ => text_field(object, field),
    }
}

fn not_empty(field: &'static str, text: String) -> Result<String, ContentError> {
    if text.is_empty() { Err(ContentError::Empty { field }) } else { Ok(text) }
}

/// A field that null or the empty text clears.
fn clearable(
    object: &Map<String, Value>,
    field: &'static str,
) -> Result<Option<Option<String>>, ContentError> {
    if !object.contains_key(field) {
        return Ok(None);
    }
    Ok(Some(text_field(object, field)?.filter(|text| !text.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> MessageId {
        MessageId::new(text).unwrap()
    }

    #[track_caller]
    fn refused(json: &str, message: &str) {
        assert_eq!(SystemAction::parse(json).expect_err(json).to_string(), message);
    }

    #[test]
    fn reads_a_schedule_of_a_current_file() {
        let action = SystemAction::parse(
            r#"{"action":"schedule_task","taskId":"task-1","prompt":"water the plants","script":null,
                "processAfter":"2027-01-15T20:00:00.000Z","recurrence":"","platformId":"discord:100:200",
                "channelType":"discord","threadId":"thread-1"}"#,
        );
        let expected = ScheduleTask {
            task_id: id("task-1"),
            prompt: "water the plants".to_owned(),
            script: None,
            process_after: Some("2027-01-15T20:00:00.000Z".to_owned()),
            recurrence: None,
            timezone: None,
            missed_runs: None,
            platform_id: Some("discord:100:200".to_owned()),
            channel_type: Some("discord".to_owned()),
            thread_id: Some("thread-1".to_owned()),
        };
        assert_eq!(action, Ok(SystemAction::Schedule(expected)));
    }

    #[test]
    fn reads_cancel_pause_and_resume() {
        let parse =
            |name| SystemAction::parse(&format!(r#"{{"action":"{name}","taskId":"task-1"}}"#)).unwrap();
        assert_eq!(parse("cancel_task"), SystemAction::Cancel { task_id: id("task-1") });
        assert_eq!(parse("pause_task"), SystemAction::Pause { task_id: id("task-1") });
        assert_eq!(parse("resume_task"), SystemAction::Resume { task_id: id("task-1") });
    }

    #[test]
    fn an_update_holds_only_the_keys_given_and_null_clears() {
        let parse = |json: &str| match SystemAction::parse(json).unwrap() {
            SystemAction::Update(update) => update,
            other => panic!("not an update: {other:?}"),
        };
        let only_prompt = parse(r#"{"action":"update_task","taskId":"t","prompt":"new"}"#);
        assert_eq!(only_prompt.prompt.as_deref(), Some("new"));
        assert_eq!((only_prompt.script, only_prompt.recurrence), (None, None));
        let cleared = parse(r#"{"action":"update_task","taskId":"t","script":null,"recurrence":""}"#);
        assert_eq!((cleared.script, cleared.recurrence), (Some(None), Some(None)));
        assert_eq!((cleared.prompt, cleared.process_after), (None, None));
    }

    #[test]
    fn other_actions_keep_their_content() {
        let action = SystemAction::parse(r#"{"action":"create_agent","name":"scout"}"#).unwrap();
        let SystemAction::Other { name, content } = action else { panic!("not another action") };
        assert_eq!(name, "create_agent");
        assert_eq!(content["name"], "scout");
    }

    #[test]
    fn faults_are_told_by_the_name_of_the_field() {
        refused("[]", "content must be a JSON object, found an array");
        refused("{}", "action is missing");
        refused(r#"{"action":7}"#, "action must be text, found a number");
        refused(r#"{"action":"cancel_task"}"#, "taskId is missing");
        refused(r#"{"action":"cancel_task","taskId":""}"#, "taskId is empty");
        refused(r#"{"action":"cancel_task","taskId":5}"#, "taskId must be text, found a number");
        refused(r#"{"action":"schedule_task","taskId":"t"}"#, "prompt is missing");
        refused(r#"{"action":"schedule_task","taskId":"t","prompt":""}"#, "prompt is empty");
        refused(
            r#"{"action":"schedule_task","taskId":"t","prompt":"p","processAfter":1776350220}"#,
            "processAfter must be text, found a number",
        );
        refused(r#"{"action":"update_task","taskId":"t","prompt":""}"#, "prompt is empty");
        refused(r#"{"action":"update_task","taskId":"t","prompt":null}"#, "prompt must be text, found null");
        refused(
            r#"{"action":"update_task","taskId":"t","processAfter":null}"#,
            "processAfter must be text, found null",
        );
        let long = format!(r#"{{"action":"cancel_task","taskId":"{}"}}"#, "x".repeat(2000));
        refused(&long, "taskId cannot be used: id has 2000 bytes, the limit is 1024");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = SystemAction::parse(&text);
            let _ = SystemAction::parse(&serde_json::json!({ "action": text, "taskId": text }).to_string());
        }
    }
}
