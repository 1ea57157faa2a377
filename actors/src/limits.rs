//! Every bound of the engine in one place.
//!
//! The constants are structural: changing one changes memory use or fairness, never correctness. What an
//! operator may want to change is in [`Limits`] and reaches the engine from the configuration.

use std::time::Duration;

/// Rows read from one session in one cycle.
pub const ROWS_PER_CYCLE_MAX: usize = 256;
/// Content read from one session in one cycle, in bytes; the message that reaches it is the last of its batch.
pub const BATCH_CONTENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Messages of one lane that are in memory at a time; the rest waits in the ledger.
pub const LANE_WINDOW: usize = 64;
/// Waiting messages of one session above which no more of its rows are read.
pub const SESSION_BACKLOG_MAX: u64 = 20_000;
/// Messages waiting in an actor's mailbox before senders are told that it is full.
pub const MAILBOX_CAPACITY: usize = 4096;
/// Outcomes written to one session's `inbound.db` in one transaction.
pub const PROJECTIONS_PER_TRANSACTION_MAX: usize = 256;
/// How long an outcome may wait for others before it is projected. Agents see it at most 250 ms late.
pub const PROJECTION_DELAY: Duration = Duration::from_millis(50);
/// The longest error text that is kept, in bytes.
pub const ERROR_TEXT_BYTES_MAX: usize = 1000;
/// The longest wait for a lock on a session's database within one blocking section.
pub const SESSION_LOCK_WAIT: Duration = Duration::from_millis(200);
/// The longest run of one SQL statement on a session's database.
pub const SESSION_STATEMENT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a destination that the platform called gone (HTTP 410) is not tried again.
pub const GONE_DESTINATION_REMEMBERED: Duration = Duration::from_secs(3600);

/// The bounds that a user may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest content of one message, in bytes.
    pub content_bytes_max: u64,
    /// Most attachments of one message.
    pub attachments_max: usize,
    /// Largest attachment, in bytes.
    pub attachment_bytes_max: u64,
    /// Largest sum of one message's attachments, in bytes.
    pub attachments_total_bytes_max: u64,
    /// Most live tasks of one session.
    pub tasks_per_session_max: usize,
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
            tasks_per_session_max: 1000,
            blocking_max: 12,
            in_flight_per_channel_max: 256,
            send_timeout: Duration::from_secs(30),
        }
    }
}
