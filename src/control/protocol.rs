//! The lines that are exchanged.

use super::send::SendHead;
use super::status::HostStatus;
use nanorelay_actors::inbox::Enqueued;
use nanorelay_actors::model::hold::HoldScopeKind;
use nanorelay_actors::relay::{Answer, QuestionRecord, ReadySession, SessionMode};
use nanorelay_actors::report::{
    AuditFilter, AuditRecord, DeliveryDetails, DeliveryFilter, DeliveryRecord, HoldRecord, LaneFilter,
    LaneRecord, ReplayRate, Resolution, RunFilter, RunRecord, SessionFilter, SessionRecord, TaskFilter,
    TaskRecord, TaskVerb,
};
use nanorelay_actors::runtime::AgentRecord;
use serde::{Deserialize, Serialize};

/// The longest line of a request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// What is asked of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// All matching deliveries: answered by a [`Response::Record`] each, then [`Response::End`].
    List {
        /// Which ones.
        filter: DeliveryFilter,
    },
    /// Puts these back into their lanes.
    Replay {
        /// Which ones.
        keys: Vec<MessageKey>,
    },
    /// Puts all that match back into their lanes.
    ReplayAll {
        /// Which ones.
        filter: DeliveryFilter,
        /// How fast; at once without.
        rate: Option<ReplayRate>,
    },
    /// What [`Request::ReplayAll`] would put back: answered like [`Request::List`].
    Replayable {
        /// Which ones.
        filter: DeliveryFilter,
    },
    /// One delivery with everything that was tried: answered by a [`Response::Details`] if it is known, then
    /// [`Response::End`].
    Show {
        /// Which one.
        key: MessageKey,
    },
    /// Gives a message up that has not arrived. Answered by an [`Response::Error`] when it is in a state in which that cannot
    /// be done.
    Cancel {
        /// Which one.
        key: MessageKey,
        /// Why.
        reason: String,
    },
    /// Gives all up that match and have not arrived.
    CancelAll {
        /// Which ones.
        filter: DeliveryFilter,
        /// Why.
        reason: String,
    },
    /// What [`Request::CancelAll`] would give up: answered like [`Request::List`].
    Cancellable {
        /// Which ones.
        filter: DeliveryFilter,
    },
    /// Sends a message not before a time. Answered like [`Request::Cancel`].
    Snooze {
        /// Which one.
        key: MessageKey,
        /// In milliseconds since 1970.
        until_ms: i64,
    },
    /// Settles an ambiguous delivery.
    Resolve {
        /// Which one.
        key: MessageKey,
        /// What became of it.
        resolution: Resolution,
    },
    /// All matching sessions: answered by a [`Response::Session`] each, then [`Response::End`].
    Sessions {
        /// Which ones.
        filter: SessionFilter,
    },
    /// All matching lanes: answered by a [`Response::Lane`] each, then [`Response::End`].
    Lanes {
        /// Which ones.
        filter: LaneFilter,
    },
    /// Parks the message that holds up a lane.
    Unblock {
        /// The session's id.
        session_id: String,
        /// The lane's name.
        lane: String,
    },
    /// The host's agents: answered by a [`Response::Agent`] each, then [`Response::End`].
    Agents,
    /// Looks again at a session that cannot be served.
    Release {
        /// Its id.
        session_id: String,
    },
    /// Sends nothing of a scope for a time.
    Pause {
        /// The kind of the scope.
        scope: HoldScopeKind,
        /// Its name, in parts.
        name: Vec<String>,
        /// When it ends by itself, in milliseconds since 1970; none = when it is resumed.
        until_ms: Option<i64>,
        /// In words.
        reason: String,
    },
    /// Ends what holds a scope back.
    Resume {
        /// The kind of the scope.
        scope: HoldScopeKind,
        /// Its name, in parts.
        name: Vec<String>,
        /// Whether what the platform asked for is forgotten too.
        platform: bool,
    },
    /// What holds sends back: answered by a [`Response::Hold`] each, then [`Response::End`].
    Holds,
    /// The metrics of the host: answered by a [`Response::Metrics`], then [`Response::End`].
    Metrics,
    /// Puts a message into an agent's inbox. Its bytes follow the line, see [`super::send`]. Answered by
    /// [`Response::Enqueued`], then [`Response::End`].
    Send {
        /// Everything about it but its bytes.
        head: Box<SendHead>,
    },
    /// Finds or makes a session: answered by [`Response::ReadySession`], then [`Response::End`].
    CreateSession {
        /// Its agent group.
        agent_group_id: String,
        /// The chat: its type and its id.
        chat: Option<(String, String)>,
        /// The thread.
        thread_id: Option<String>,
        /// Which messages share it.
        mode: Option<SessionMode>,
        /// Whether an unknown chat is added.
        adds_chat: bool,
    },
    /// All questions that wait: answered by a [`Response::Question`] each, a [`Response::LeftOut`] when those are not
    /// all, then [`Response::End`].
    Questions,
    /// Answers a question: answered like [`Request::Send`].
    Answer {
        /// The answer.
        answer: Answer,
    },
    /// All matching tasks: answered by a [`Response::Task`] each and a [`Response::Unreadable`] for each session of
    /// which not all is listed, then [`Response::End`].
    Tasks {
        /// Which ones.
        filter: TaskFilter,
    },
    /// All matching runs of tasks: answered by a [`Response::Run`] each, then [`Response::End`].
    TaskRuns {
        /// Which ones.
        filter: RunFilter,
    },
    /// Does something to a task.
    ChangeTask {
        /// The session's id.
        session_id: String,
        /// The task's id.
        task_id: String,
        /// What.
        verb: TaskVerb,
    },
    /// Who changed what: answered by a [`Response::Audited`] each, then [`Response::End`].
    Audit {
        /// Which changes.
        filter: AuditFilter,
    },
    /// How the host does: answered by a [`Response::Host`], then [`Response::End`].
    Host,
    /// Who answers.
    Status,
}

/// The member of a request, beside its own, that says why a change is made.
pub const WHY: &str = "why";

/// A message's name in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageKey {
    /// Its session.
    pub session_id: String,
    /// Its id there.
    pub message_id: String,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// One delivery.
    Record(Box<DeliveryRecord>),
    /// One delivery with everything that was tried.
    Details(Box<DeliveryDetails>),
    /// One session.
    Session(Box<SessionRecord>),
    /// One lane.
    Lane(Box<LaneRecord>),
    /// One agent.
    Agent(Box<AgentRecord>),
    /// One pause, or limit of a platform.
    Hold(Box<HoldRecord>),
    /// One change.
    Audited(Box<AuditRecord>),
    /// All metrics, in the OpenMetrics text format.
    Metrics {
        /// The text.
        text: String,
    },
    /// How the host does.
    Host(Box<HostStatus>),
    /// A message that is in an inbox.
    Enqueued(Enqueued),
    /// A session that can be used.
    ReadySession(ReadySession),
    /// A question that waits for its answer.
    Question(Box<QuestionRecord>),
    /// There are more than a list has room for.
    LeftOut {
        /// How many more.
        count: u64,
    },
    /// One task.
    Task(Box<TaskRecord>),
    /// One run of a task.
    Run(Box<RunRecord>),
    /// A session that cannot be read, or of which not all is listed.
    Unreadable {
        /// Its id.
        session_id: String,
        /// In words.
        reason: String,
    },
    /// The request is done; nothing follows.
    End {
        /// What was listed, replayed, cancelled, snoozed, resolved, released, unblocked, paused, resumed or changed.
        count: u64,
    },
    /// Answer to [`Request::Status`]; nothing follows.
    Status {
        /// The host's process.
        process_id: u32,
        /// The host's version.
        version: String,
    },
    /// The request failed; nothing follows.
    Error {
        /// In words.
        message: String,
    },
}
