//! Every bound of the engine in one place.
//!
//! The constants are structural: changing one changes memory use or fairness, never correctness. What an
//! operator may want to change is in [`Limits`] and reaches the engine from the configuration.

use std::time::Duration;

/// Sessions that are opened and read for the first time at once. The others wait, so that the first ones come to their
/// sends before the last ones are opened.
pub const ACTIVATIONS_MAX: usize = 32;
/// Sessions whose databases stay open between two sections of work, at most. Those of the others are closed after each.
pub const OPEN_SESSIONS_MAX: usize = 64;
/// Which part of the descriptors that the process may have is for sessions whose databases stay open: one in so many.
pub const OPEN_SESSIONS_SHARE: u64 = 2;
/// Descriptors of a session whose databases are open: both files, the folder once for each of them and once for itself.
pub const DESCRIPTORS_PER_SESSION: u64 = 5;
/// How long the databases of a session with nothing to do stay open. Agents often speak twice in a row.
pub const IDLE_HANDLES_TIME: Duration = Duration::from_millis(250);
/// Connections to session databases of one kind that are kept without a file, for the next session: as many as are open when
/// many sessions have something to do.
pub const SPARE_CONNECTIONS_MAX: usize = OPEN_SESSIONS_MAX;
/// Sessions at rest that one record of the ledger takes note of.
pub const REST_MARKS_PER_RECORD_MAX: usize = 1000;
/// Rows read from one session in one cycle.
pub const ROWS_PER_CYCLE_MAX: usize = 256;
/// Content read from one session in one cycle, in bytes; the message that reaches it is the last of its batch.
pub const BATCH_CONTENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Messages of one lane that are in memory at a time; the rest waits in the ledger.
pub const LANE_WINDOW: usize = 256;
/// The longest time for which a session's new rows are left unread because half a window of its messages is on its way.
/// What is read when there is room goes out without being read again.
pub const READ_AHEAD_PAUSE: Duration = Duration::from_millis(50);
/// Content of one session's messages that is in memory at a time, in bytes; the rest waits in the ledger. The
/// message that reaches it is the last one.
pub const SESSION_WINDOW_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest text of a record of the audit (who, what, why), in bytes.
pub const AUDIT_TEXT_BYTES_MAX: usize = 2048;
/// The longest state before or after a change that the audit keeps, as JSON, in bytes.
pub const AUDIT_DETAIL_BYTES_MAX: usize = 4096;
/// Warnings about one session that are logged at once. One more comes free each
/// [`SESSION_WARNING_INTERVAL`]; what is left out is counted.
pub const SESSION_WARNINGS_MAX: u32 = 20;
/// See [`SESSION_WARNINGS_MAX`].
pub const SESSION_WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Ids and receipts of `delivered` rows that are held in memory while a session's history is imported, in bytes.
pub const IMPORT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a message from another agent counts as the cause of what its receiver writes to agents.
pub const AGENT_CHAIN_WINDOW: Duration = Duration::from_secs(600);
/// The time over which messages from one session to one agent are counted.
pub const AGENT_RATE_WINDOW: Duration = Duration::from_secs(60);
/// The least time between two comparisons of all sessions' files because file events were lost.
pub const OVERFLOW_RESCAN_INTERVAL: Duration = Duration::from_secs(5);
/// Messages waiting in an actor's mailbox before senders are told that it is full.
pub const MAILBOX_CAPACITY: usize = 4096;
/// Messages for one session's inbox that wait to be written. More are refused; their senders come again.
pub const ARRIVALS_WAITING_MAX: usize = 1024;
/// Content and attachments of those messages, in bytes. One message may always wait.
pub const ARRIVALS_WAITING_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Messages written to one session's inbox in one transaction.
pub const ARRIVALS_PER_TRANSACTION_MAX: usize = 256;
/// Content and attachments above which a message is the last one of its transaction, in bytes.
pub const ARRIVAL_BATCH_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Attachments with which a message is the last one of its transaction. All of them are open at the same time.
pub const ARRIVAL_BATCH_FILES_MAX: usize = 64;
/// The least time between two wakes of one session's agent because its messages failed.
pub const FAILURE_WAKE_INTERVAL: Duration = Duration::from_secs(300);
/// How old a session's `last_active` may get while messages arrive.
pub const LAST_ACTIVE_STEP: Duration = Duration::from_secs(60);
/// Sessions whose `last_active` waits to be written. Of more sessions it is left out until they are active again.
pub const ACTIVE_SESSIONS_WAITING_MAX: usize = 10_000;
/// Outcomes written to one session's `inbound.db` in one transaction.
pub const PROJECTIONS_PER_TRANSACTION_MAX: usize = 256;
/// How long an outcome may wait for others that are on their way before it is projected: each projection syncs the inbox
/// three times. Agents see it at most 250 ms late.
pub const PROJECTION_DELAY: Duration = Duration::from_millis(200);
/// The longest edit that is merged into a message that has not been sent yet, in bytes. A longer one goes out by itself.
pub const MERGED_EDIT_BYTES_MAX: usize = 64 * 1024;
/// Most claims of one session of which it is remembered that they were reset.
pub const CLAIM_RESETS_PER_SESSION_MAX: i64 = 2_000;
/// Most parts in which one message is sent. With one more it is dead.
pub const PARTS_PER_MESSAGE_MAX: i64 = 10_000;
/// Most messages of one session that wait with an edit merged into them. Later edits go out by themselves.
pub const MERGED_EDITS_PER_SESSION_MAX: i64 = 256;
/// The longest error text that is kept, in bytes.
pub const ERROR_TEXT_BYTES_MAX: usize = 1000;
/// The longest wait for a lock on a session's database within one blocking section.
pub const SESSION_LOCK_WAIT: Duration = Duration::from_millis(200);
/// The longest run of one SQL statement on a session's database.
pub const SESSION_STATEMENT_DEADLINE: Duration = Duration::from_secs(5);
/// Time from the start to the first look for what the ledger need not keep any longer.
pub const PRUNE_DELAY: Duration = Duration::from_secs(60);
/// Time between two looks for what the ledger need not keep any longer.
pub const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);
/// The least age of what is pruned because the ledger is too large. A row that its agent commits late comes within
/// seconds.
pub const PRUNE_AGE_MIN: Duration = Duration::from_secs(3600);
/// Deliveries that are looked at for one page of a list. When few of them match, the page is short, and another one goes on.
pub const DELIVERIES_LOOKED_AT_MAX: usize = 50_000;
/// Most of one message's content that is shown to an operator, in bytes.
pub const SHOWN_CONTENT_BYTES_MAX: usize = 64 * 1024;
/// Most content in one page of a session's messages, in bytes; the message that reaches it is the last one.
pub const SHOWN_PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Events that are kept for readers. One that is so many behind misses some, and is told so.
pub const EVENTS_KEPT_MAX: usize = 4096;
/// How long a destination that the platform called gone (HTTP 410) is not tried again.
pub const GONE_DESTINATION_REMEMBERED: Duration = Duration::from_secs(3600);
/// Most tasks of one session that are listed. A session that has more has written them itself.
pub const TASKS_LISTED_PER_SESSION_MAX: usize = 10_000;
/// Most of one session's tasks in a list, in bytes; the task that reaches it is the last of its session.
pub const TASK_LIST_BYTES_PER_SESSION_MAX: usize = 2 * 1024 * 1024;
/// Most of all sessions' tasks in a list, in bytes; the session that reaches it is the last one.
pub const TASK_LIST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most questions of one session that wait for an answer. The oldest ones are forgotten for new ones.
pub const QUESTIONS_PER_SESSION_MAX: usize = 64;
/// The longest title of a question that is kept, in bytes. Of a longer one the beginning is.
pub const QUESTION_TITLE_BYTES_MAX: usize = 512;
/// The longest options of a question, in bytes of JSON. A question with more is refused.
pub const QUESTION_OPTIONS_BYTES_MAX: usize = 8 * 1024;
/// Most questions in a list.
pub const QUESTIONS_LISTED_MAX: usize = 10_000;
/// Most of all questions in a list, in bytes; the question that reaches it is the last one.
pub const QUESTION_LIST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Sessions, and kinds of failures, that are told of when somebody asks how things stand.
pub const STANDING_ROWS_MAX: u32 = 20;
/// Most sessions that the doctor names one by one, and most messages that it counts of a kind.
pub const DOCTOR_FINDINGS_MAX: usize = 1000;

/// The bounds that a user may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest content of one message, in bytes. More than [`BATCH_CONTENT_BYTES_MAX`] counts as that.
    pub content_bytes_max: u64,
    /// Most attachments of one message.
    pub attachments_max: usize,
    /// Largest attachment, in bytes.
    pub attachment_bytes_max: u64,
    /// Largest sum of one message's attachments, in bytes.
    pub attachments_total_bytes_max: u64,
    /// Longest file name of an attachment, in bytes. Never above
    /// [`crate::model::ids::PATH_COMPONENT_BYTES_MAX`].
    pub attachment_name_bytes_max: usize,
    /// Most attachments of one session that are being sent at a time. Messages above it wait.
    pub attachments_per_session_max: usize,
    /// Largest sum of one session's attachments that are being sent at a time, in bytes. Messages above it wait.
    pub attachment_bytes_per_session_max: u64,
    /// Most live tasks of one session.
    pub tasks_per_session_max: usize,
    /// Most live tasks of all sessions of one agent group.
    pub tasks_per_agent_group_max: usize,
    /// Most messages of one session to one other agent within a minute. Those above it are held.
    pub agent_messages_per_minute_max: usize,
    /// Longest chain of messages between agents, each the answer to the one before. One above it is held.
    pub agent_hops_max: u32,
    /// Most messages of one session that wait in the ledger. No more of its rows are read until some are settled.
    pub backlog_per_session_max: u64,
    /// Most blocking sections (file and database work) at a time.
    pub blocking_max: usize,
    /// Most sends at a time in one channel.
    pub in_flight_per_channel_max: usize,
    /// The longest one send, or one call of an action handler, may take.
    pub send_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            content_bytes_max: 1024 * 1024,
            attachments_max: 20,
            attachment_bytes_max: 64 * 1024 * 1024,
            attachments_total_bytes_max: 128 * 1024 * 1024,
            attachment_name_bytes_max: 200,
            attachments_per_session_max: 64,
            attachment_bytes_per_session_max: 512 * 1024 * 1024,
            tasks_per_session_max: 1000,
            tasks_per_agent_group_max: 10_000,
            agent_messages_per_minute_max: 30,
            agent_hops_max: 16,
            backlog_per_session_max: 20_000,
            blocking_max: 12,
            in_flight_per_channel_max: 256,
            send_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Refuses the name of an attachment that is too long. The reason holds no more than its beginning.
    pub fn check_attachment_name(&self, name: &str) -> Result<(), String> {
        let limit = self.attachment_name_bytes_max;
        if name.len() <= limit {
            return Ok(());
        }
        let start: String = name.chars().take(32).collect();
        Err(format!("attachment {start:?}…: the name has {} bytes, the limit is {limit}", name.len()))
    }
}
