//! The side of the command line: blocking, one request for each connection.

use super::SocketPlace;
use super::protocol::{MessageKey, Request, Response, WHY};
use super::send::{SendHead, write_bytes};
use super::status::HostStatus;
use nanorelay_actors::inbox::{Enqueued, InboxMessage};
use nanorelay_actors::model::hold::HoldScope;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::{Answer, QuestionList, ReadySession, SessionRequest};
use nanorelay_actors::report::{
    AuditFilter, AuditRecord, DeliveryDetails, DeliveryFilter, DeliveryRecord, HoldRecord, LaneFilter,
    LaneRecord, ReplayRate, Resolution, RunFilter, RunRecord, SessionFilter, SessionRecord, TaskFilter,
    TaskList, TaskVerb,
};
use nanorelay_actors::runtime::AgentRecord;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a host may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Why a running host gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens: the host does not run.
    #[error("no host listens")]
    NotRunning,
    /// The connection failed or broke.
    #[error("cannot talk to the running host: {0}")]
    Io(#[from] io::Error),
    /// The host said something unexpected.
    #[error("the running host gave an answer that is not understood")]
    Protocol,
    /// The host refused.
    #[error("{0}")]
    Refused(String),
}

/// Asks the host of one data directory.
pub struct ControlClient {
    data_dir: PathBuf,
    /// Why changes are made, for the audit.
    why: Option<String>,
}

impl ControlClient {
    /// Fails with [`ClientError::NotRunning`] when nobody listens.
    pub fn connect(data_dir: &Path) -> Result<Self, ClientError> {
        let client = Self { data_dir: data_dir.to_owned(), why: None };
        match &client.ask(&Request::Status)?[..] {
            [Response::Status { .. }] => Ok(client),
            _ => Err(ClientError::Protocol),
        }
    }

    /// Says why changes are made, for the audit.
    pub fn because(self, why: Option<String>) -> Self {
        Self { why, ..self }
    }

    /// The changes that match, the newest first.
    pub fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRecord>, ClientError> {
        let mut responses = self.ask(&Request::Audit { filter: filter.clone() })?;
        let Some(Response::End { .. }) = responses.pop() else { return Err(ClientError::Protocol) };
        let record = |response| match response {
            Response::Audited(record) => Ok(*record),
            _ => Err(ClientError::Protocol),
        };
        responses.into_iter().map(record).collect()
    }

    /// All matching deliveries.
    pub fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, ClientError> {
        self.records(&Request::List { filter: filter.clone() })
    }

    /// What [`ControlClient::replay_all`] would put back, in that order.
    pub fn replayable(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, ClientError> {
        self.records(&Request::Replayable { filter: filter.clone() })
    }

    fn records(&self, request: &Request) -> Result<Vec<DeliveryRecord>, ClientError> {
        let mut responses = self.ask(request)?;
        let Some(Response::End { .. }) = responses.pop() else { return Err(ClientError::Protocol) };
        let record = |response| match response {
            Response::Record(record) => Ok(*record),
            _ => Err(ClientError::Protocol),
        };
        responses.into_iter().map(record).collect()
    }

    /// All matching sessions.
    pub fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRecord>, ClientError> {
        let mut responses = self.ask(&Request::Sessions { filter: *filter })?;
        let Some(Response::End { .. }) = responses.pop() else { return Err(ClientError::Protocol) };
        let record = |response| match response {
            Response::Session(record) => Ok(*record),
            _ => Err(ClientError::Protocol),
        };
        responses.into_iter().map(record).collect()
    }

    /// All matching lanes.
    pub fn lanes(&self, filter: &LaneFilter) -> Result<Vec<LaneRecord>, ClientError> {
        let mut responses = self.ask(&Request::Lanes { filter: filter.clone() })?;
        let Some(Response::End { .. }) = responses.pop() else { return Err(ClientError::Protocol) };
        let record = |response| match response {
            Response::Lane(record) => Ok(*record),
            _ => Err(ClientError::Protocol),
        };
        responses.into_iter().map(record).collect()
    }

    /// The host's agents.
    pub fn agents(&self) -> Result<Vec<AgentRecord>, ClientError> {
        let mut responses = self.ask(&Request::Agents)?;
        let Some(Response::End { .. }) = responses.pop() else { return Err(ClientError::Protocol) };
        let record = |response| match response {
            Response::Agent(record) => Ok(*record),
            _ => Err(ClientError::Protocol),
        };
        responses.into_iter().map(record).collect()
    }

    /// Parks the message that holds up a lane; whether one did.
    pub fn unblock_lane(&self, session_id: &str, lane: &str) -> Result<bool, ClientError> {
        let request = Request::Unblock { session_id: session_id.to_owned(), lane: lane.to_owned() };
        Ok(self.count(&request)? > 0)
    }

    /// Has a session looked at again; whether it could not be served.
    pub fn release(&self, session_id: &str) -> Result<bool, ClientError> {
        Ok(self.count(&Request::Release { session_id: session_id.to_owned() })? > 0)
    }

    /// Puts one message back into its lane; how many were put back.
    pub fn replay(&self, key: MessageKey) -> Result<u64, ClientError> {
        self.count(&Request::Replay { keys: vec![key] })
    }

    /// Puts all that match back into their lanes; how many were put back.
    pub fn replay_all(&self, filter: &DeliveryFilter, rate: Option<ReplayRate>) -> Result<u64, ClientError> {
        self.count(&Request::ReplayAll { filter: filter.clone(), rate })
    }

    /// One delivery with everything that was tried.
    pub fn delivery(&self, key: MessageKey) -> Result<Option<DeliveryDetails>, ClientError> {
        let mut responses = self.ask(&Request::Show { key })?.into_iter();
        match (responses.next(), responses.next()) {
            (Some(Response::Details(details)), Some(Response::End { .. })) => Ok(Some(*details)),
            (Some(Response::End { .. }), None) => Ok(None),
            _ => Err(ClientError::Protocol),
        }
    }

    /// Gives a message up; whether there is such a message.
    pub fn cancel(&self, key: MessageKey, reason: &str) -> Result<bool, ClientError> {
        Ok(self.count(&Request::Cancel { key, reason: reason.to_owned() })? > 0)
    }

    /// Gives all up that match and have not arrived; how many.
    pub fn cancel_all(&self, filter: &DeliveryFilter, reason: &str) -> Result<u64, ClientError> {
        self.count(&Request::CancelAll { filter: filter.clone(), reason: reason.to_owned() })
    }

    /// What [`ControlClient::cancel_all`] would give up.
    pub fn cancellable(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, ClientError> {
        self.records(&Request::Cancellable { filter: filter.clone() })
    }

    /// Sends a message not before a time; whether there is such a message.
    pub fn snooze(&self, key: MessageKey, until: Timestamp) -> Result<bool, ClientError> {
        Ok(self.count(&Request::Snooze { key, until_ms: until.as_ms() })? > 0)
    }

    /// Settles an ambiguous delivery; whether it was ambiguous.
    pub fn resolve(&self, key: MessageKey, resolution: Resolution) -> Result<bool, ClientError> {
        Ok(self.count(&Request::Resolve { key, resolution })? > 0)
    }

    /// All metrics, in the OpenMetrics text format.
    pub fn open_metrics(&self) -> Result<String, ClientError> {
        match self.ask(&Request::Metrics)?.into_iter().next() {
            Some(Response::Metrics { text }) => Ok(text),
            _ => Err(ClientError::Protocol),
        }
    }

    /// How the host does.
    pub fn status(&self) -> Result<HostStatus, ClientError> {
        match self.ask(&Request::Host)?.into_iter().next() {
            Some(Response::Host(status)) => Ok(*status),
            _ => Err(ClientError::Protocol),
        }
    }

    /// What holds sends back.
    pub fn holds(&self) -> Result<Vec<HoldRecord>, ClientError> {
        let mut responses = self.ask(&Request::Holds)?;
        let Some(Response::End { .. }) = responses.pop() else { return Err(ClientError::Protocol) };
        let record = |response| match response {
            Response::Hold(record) => Ok(*record),
            _ => Err(ClientError::Protocol),
        };
        responses.into_iter().map(record).collect()
    }

    /// Sends nothing of a scope for a time.
    pub fn pause(
        &self,
        scope: &HoldScope,
        until: Option<Timestamp>,
        reason: String,
    ) -> Result<(), ClientError> {
        let until_ms = until.map(Timestamp::as_ms);
        let request = Request::Pause { scope: scope.kind(), name: scope.parts(), until_ms, reason };
        self.count(&request).map(drop)
    }

    /// Ends what holds a scope back; how much there was.
    pub fn resume(&self, scope: &HoldScope, platform: bool) -> Result<u64, ClientError> {
        self.count(&Request::Resume { scope: scope.kind(), name: scope.parts(), platform })
    }

    /// Puts a message into an agent's inbox.
    pub fn send(&self, session_id: &str, message: &InboxMessage) -> Result<Enqueued, ClientError> {
        let head = SendHead::of(session_id, message)?;
        let request = Request::Send { head: Box::new(head.clone()) };
        let responses = self.ask_with(&request, |stream| write_bytes(&head, message, stream))?;
        match &responses[..] {
            [Response::Enqueued(enqueued), Response::End { .. }] => Ok(enqueued.clone()),
            _ => Err(ClientError::Protocol),
        }
    }

    /// Finds or makes a session.
    pub fn create_session(&self, request: &SessionRequest) -> Result<ReadySession, ClientError> {
        let text = |id: &dyn ToString| id.to_string();
        let request = Request::CreateSession {
            agent_group_id: request.agent_group_id.to_string(),
            chat: request
                .chat
                .as_ref()
                .map(|(channel_type, platform_id)| (text(channel_type), text(platform_id))),
            thread_id: request.thread_id.as_ref().map(ToString::to_string),
            mode: request.mode,
            adds_chat: request.adds_chat,
        };
        match &self.ask(&request)?[..] {
            [Response::ReadySession(ready), Response::End { .. }] => Ok(ready.clone()),
            _ => Err(ClientError::Protocol),
        }
    }

    /// The questions that wait for an answer.
    pub fn questions(&self) -> Result<QuestionList, ClientError> {
        let mut responses = self.ask(&Request::Questions)?;
        let Some(Response::End { .. }) = responses.pop() else { return Err(ClientError::Protocol) };
        let mut list = QuestionList::default();
        for response in responses {
            match response {
                Response::Question(record) => list.questions.push(*record),
                Response::LeftOut { count } => list.left_out = count,
                _ => return Err(ClientError::Protocol),
            }
        }
        Ok(list)
    }

    /// All matching tasks.
    pub fn tasks(&self, filter: &TaskFilter) -> Result<TaskList, ClientError> {
        let mut responses = self.ask(&Request::Tasks { filter: filter.clone() })?;
        let Some(Response::End { .. }) = responses.pop() else { return Err(ClientError::Protocol) };
        let mut list = TaskList::default();
        for response in responses {
            match response {
                Response::Task(record) => list.tasks.push(*record),
                Response::Unreadable { session_id, reason } => list.unreadable.push((session_id, reason)),
                _ => return Err(ClientError::Protocol),
            }
        }
        Ok(list)
    }

    /// All matching runs of tasks.
    pub fn task_runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, ClientError> {
        let mut responses = self.ask(&Request::TaskRuns { filter: filter.clone() })?;
        let Some(Response::End { .. }) = responses.pop() else { return Err(ClientError::Protocol) };
        let record = |response| match response {
            Response::Run(record) => Ok(*record),
            _ => Err(ClientError::Protocol),
        };
        responses.into_iter().map(record).collect()
    }

    /// Answers a question.
    pub fn answer(&self, answer: &Answer) -> Result<Enqueued, ClientError> {
        match &self.ask(&Request::Answer { answer: answer.clone() })?[..] {
            [Response::Enqueued(enqueued), Response::End { .. }] => Ok(enqueued.clone()),
            _ => Err(ClientError::Protocol),
        }
    }

    /// Does something to a task; how many rows that changed.
    pub fn change_task(&self, session_id: &str, task_id: &str, verb: TaskVerb) -> Result<u64, ClientError> {
        let (session_id, task_id) = (session_id.to_owned(), task_id.to_owned());
        self.count(&Request::ChangeTask { session_id, task_id, verb })
    }

    fn count(&self, request: &Request) -> Result<u64, ClientError> {
        match self.ask(request)?[..] {
            [Response::End { count }] => Ok(count),
            _ => Err(ClientError::Protocol),
        }
    }

    /// All lines of the answer, of which the last one is complete.
    fn ask(&self, request: &Request) -> Result<Vec<Response>, ClientError> {
        self.ask_with(request, |_| Ok(()))
    }

    /// The same with bytes behind the request.
    fn ask_with(
        &self,
        request: &Request,
        write_more: impl FnOnce(&mut UnixStream) -> io::Result<()>,
    ) -> Result<Vec<Response>, ClientError> {
        let mut stream = connect(&self.data_dir)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        let mut members = serde_json::to_value(request).map_err(io::Error::other)?;
        if let Some(why) = &self.why {
            members[WHY] = why.as_str().into();
        }
        let mut line = serde_json::to_vec(&members).map_err(io::Error::other)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        match write_more(&mut stream) {
            // The host has refused them by its answer, which is there to be read.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
            written => written?,
        }
        let mut responses = Vec::new();
        for line in BufReader::new(stream).lines() {
            match serde_json::from_str(&line?).map_err(|_| ClientError::Protocol)? {
                Response::Error { message } => return Err(ClientError::Refused(message)),
                response => responses.push(response),
            }
        }
        match responses.last() {
            Some(Response::End { .. } | Response::Status { .. }) => Ok(responses),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }
}

fn connect(data_dir: &Path) -> Result<UnixStream, ClientError> {
    let absent = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning,
        _ => ClientError::Io(error),
    };
    let place = SocketPlace::of(data_dir).map_err(absent)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(io::Error::from)?;
    rustix::net::connect(&socket, &place.address).map_err(|error| absent(error.into()))?;
    Ok(socket.into())
}
