//! The host's side of the socket.

mod audit;
mod target;

pub use audit::{AuditTarget, local_user};
pub use target::ControlTarget;

use super::protocol::{MessageKey, REQUEST_BYTES_MAX, Request, Response};
use super::{SOCKET_NAME, SocketPlace};
use nanorelay_actors::model::hold::HoldScope;
use nanorelay_actors::model::ids::{
    AgentGroupId, ChannelType, InvalidId, MessageId, PlatformId, SessionId, ThreadId,
};
use nanorelay_actors::model::message::DeliveryKey;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::{OperationError, QuestionList, Resume, SessionMode, SessionRequest};
use nanorelay_actors::report::{DeliveryRecord, Intervention, TaskList};
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use slog::Logger;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections that are answered at the same time; more of them wait.
const CONNECTIONS_MAX: usize = 32;
/// Messages with their attachments that are in memory at the same time; more of them wait.
const BODIES_MAX: usize = 4;
/// How long one request may take to arrive, and its answer to be taken.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a failed accept, so that a lack of file handles is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that answers until it is dropped; then its file is gone.
pub struct ControlSocket {
    place: SocketPlace,
    accepting: JoinHandle<()>,
}

impl ControlSocket {
    /// Opens the socket of a data directory and answers for `target` on the current thread, which must be one of
    /// an actix system or a local task set. A socket left behind by a killed host is replaced: call this while
    /// holding the data directory's lock.
    pub fn open<T: ControlTarget + AuditTarget>(
        data_dir: &Path,
        target: T,
        logger: Logger,
    ) -> io::Result<Self> {
        let place = SocketPlace::of(data_dir)?;
        let listener = bind(&place)?;
        let accepting = tokio::task::spawn_local(accept(listener, Rc::new(target), logger));
        Ok(Self { place, accepting })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.accepting.abort();
        // When it is gone already there is nothing to do.
        let _ = rustix::fs::unlinkat(&self.place.dir, SOCKET_NAME, AtFlags::empty());
    }
}

fn bind(place: &SocketPlace) -> io::Result<UnixListener> {
    match rustix::fs::statat(&place.dir, SOCKET_NAME, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Socket => {
            rustix::fs::unlinkat(&place.dir, SOCKET_NAME, AtFlags::empty())?;
        }
        Ok(_) => return Err(io::Error::other(format!("{SOCKET_NAME} exists and is not a socket"))),
        Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Before bind: the file has this mode from its first moment.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &place.address)?;
    rustix::net::listen(&socket, 128)?;
    UnixListener::from_std(socket.into())
}

async fn accept<T: ControlTarget + AuditTarget>(listener: UnixListener, target: Rc<T>, logger: Logger) {
    let places = Rc::new(Semaphore::new(CONNECTIONS_MAX));
    let bodies = Rc::new(Semaphore::new(BODIES_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                slog::warn!(logger, "control socket cannot accept"; "error" => %error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (target, places, logger) = (Rc::clone(&target), Rc::clone(&places), logger.clone());
        let bodies = Rc::clone(&bodies);
        tokio::task::spawn_local(async move {
            let Ok(_place) = places.acquire().await else { return };
            match tokio::time::timeout(EXCHANGE_TIMEOUT, exchange(stream, &*target, &bodies)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => slog::debug!(logger, "control connection broke"; "error" => %error),
                Err(_) => slog::debug!(logger, "control connection was too slow"),
            }
        });
    }
}

async fn exchange(
    mut stream: UnixStream,
    target: &(impl ControlTarget + AuditTarget),
    bodies: &Semaphore,
) -> io::Result<()> {
    let who = audit::peer(&stream);
    let (reading, writing) = stream.split();
    let mut reading = BufReader::new(reading);
    let mut line = Vec::new();
    let limit = REQUEST_BYTES_MAX as u64 + 1;
    (&mut reading).take(limit).read_until(b'\n', &mut line).await?;
    let responses = match answer(&line, &who, &mut reading, target, bodies).await {
        Ok(responses) => responses,
        Err(message) => vec![Response::Error { message }],
    };
    let mut out = BufWriter::new(writing);
    for response in responses {
        let mut line = serde_json::to_vec(&response)?;
        line.push(b'\n');
        out.write_all(&line).await?;
    }
    out.flush().await
}

async fn answer(
    line: &[u8],
    who: &str,
    body: &mut (impl AsyncRead + Unpin),
    target: &(impl ControlTarget + AuditTarget),
    bodies: &Semaphore,
) -> Result<Vec<Response>, String> {
    if line.len() > REQUEST_BYTES_MAX {
        return Err(format!("the request is longer than {REQUEST_BYTES_MAX} bytes"));
    }
    let (request, why) = audit::parse(line)?;
    let entry = audit::entry_of(&request, who, why);
    audit::noted(target, entry, fulfil(request, body, target, bodies)).await
}

async fn fulfil(
    request: Request,
    body: &mut (impl AsyncRead + Unpin),
    target: &(impl ControlTarget + AuditTarget),
    bodies: &Semaphore,
) -> Result<Vec<Response>, String> {
    match request {
        Request::Send { head } => {
            head.check(target.limits()).map_err(|problem| problem.to_string())?;
            // Its bytes are in memory until they are written.
            let _place = bodies.acquire().await.map_err(|problem| problem.to_string())?;
            let session = SessionId::new(&head.session_id).map_err(|problem| problem.to_string())?;
            let message = head.receive(body).await.map_err(|problem| problem.to_string())?;
            let enqueued = target.enqueue(session, message).await.map_err(|problem| problem.to_string())?;
            Ok(vec![Response::Enqueued(enqueued), Response::End { count: 1 }])
        }
        request => perform(request, target).await,
    }
}

/// A refusal is an error.
fn intervened(intervention: Intervention) -> Result<Response, String> {
    match intervention.refusal() {
        Some(reason) => Err(reason),
        None => Ok(Response::End { count: u64::from(intervention == Intervention::Done) }),
    }
}

async fn perform(
    request: Request,
    target: &(impl ControlTarget + AuditTarget),
) -> Result<Vec<Response>, String> {
    let words = |problem: OperationError| problem.to_string();
    Ok(match request {
        Request::List { filter } => listed(target.deliveries(filter).await.map_err(words)?),
        Request::Replayable { filter } => listed(target.replayable(filter).await.map_err(words)?),
        Request::Show { key } => {
            let key = delivery_key(&key).map_err(|problem| problem.to_string())?;
            let details = target.delivery(key).await.map_err(words)?;
            let end = Response::End { count: u64::from(details.is_some()) };
            details.map(|details| Response::Details(Box::new(details))).into_iter().chain([end]).collect()
        }
        Request::Cancel { key, reason } => {
            let key = delivery_key(&key).map_err(|problem| problem.to_string())?;
            vec![intervened(target.cancel(key, &reason).await.map_err(words)?)?]
        }
        Request::CancelAll { filter, reason } => {
            vec![Response::End { count: target.cancel_all(filter, &reason).await.map_err(words)? as u64 }]
        }
        Request::Cancellable { filter } => listed(target.cancellable(filter).await.map_err(words)?),
        Request::Snooze { key, until_ms } => {
            let key = delivery_key(&key).map_err(|problem| problem.to_string())?;
            let until = Timestamp::from_ms(until_ms);
            vec![intervened(target.snooze(key, until).await.map_err(words)?)?]
        }
        Request::Resolve { key, resolution } => {
            let key = delivery_key(&key).map_err(|problem| problem.to_string())?;
            let resolved = target.resolve(key, resolution).await.map_err(words)?;
            vec![Response::End { count: u64::from(resolved) }]
        }
        Request::Replay { keys } => {
            let keys: Result<_, InvalidId> = keys.iter().map(delivery_key).collect();
            let keys = keys.map_err(|problem| problem.to_string())?;
            vec![Response::End { count: target.replay(keys).await.map_err(words)? as u64 }]
        }
        Request::ReplayAll { filter, rate } => {
            vec![Response::End { count: target.replay_all(filter, rate).await.map_err(words)? as u64 }]
        }
        Request::Lanes { filter } => {
            let records = target.lanes(filter).await.map_err(words)?;
            let end = Response::End { count: records.len() as u64 };
            records.into_iter().map(|record| Response::Lane(Box::new(record))).chain([end]).collect()
        }
        Request::Unblock { session_id, lane } => {
            let session = SessionId::new(&session_id).map_err(|problem| problem.to_string())?;
            let unblocked = target.unblock_lane(session, lane).await.map_err(words)?;
            vec![Response::End { count: u64::from(unblocked) }]
        }
        Request::Sessions { filter } => {
            let records = target.sessions(filter).await.map_err(words)?;
            let end = Response::End { count: records.len() as u64 };
            records.into_iter().map(|record| Response::Session(Box::new(record))).chain([end]).collect()
        }
        Request::Agents => {
            let records = target.agents().await;
            let end = Response::End { count: records.len() as u64 };
            records.into_iter().map(|record| Response::Agent(Box::new(record))).chain([end]).collect()
        }
        Request::Release { session_id } => {
            let session = SessionId::new(&session_id).map_err(|problem| problem.to_string())?;
            vec![Response::End { count: u64::from(target.release(session).await.map_err(words)?) }]
        }
        Request::Holds => {
            let records = target.holds().await.map_err(words)?;
            let end = Response::End { count: records.len() as u64 };
            records.into_iter().map(|record| Response::Hold(Box::new(record))).chain([end]).collect()
        }
        Request::Pause { scope, name, until_ms, reason } => {
            let scope = HoldScope::from_parts(scope, &name).map_err(|problem| problem.to_string())?;
            target.pause(scope, until_ms.map(Timestamp::from_ms), &reason).await.map_err(words)?;
            vec![Response::End { count: 1 }]
        }
        Request::Resume { scope, name, platform } => {
            let scope = HoldScope::from_parts(scope, &name).map_err(|problem| problem.to_string())?;
            let which = if platform { Resume::Everything } else { Resume::Pause };
            vec![Response::End { count: target.resume(scope, which).await.map_err(words)? as u64 }]
        }
        Request::Metrics => {
            vec![Response::Metrics { text: target.open_metrics().await }, Response::End { count: 1 }]
        }
        // Their bytes are read by the caller.
        Request::Send { .. } => return Err("a message comes with its bytes".to_owned()),
        Request::CreateSession { agent_group_id, chat, thread_id, mode, adds_chat } => {
            let request =
                session_request(&agent_group_id, chat.as_ref(), thread_id.as_deref(), mode, adds_chat);
            let request = request.map_err(|problem| problem.to_string())?;
            let ready = target.create_session(request).await.map_err(|problem| problem.to_string())?;
            vec![Response::ReadySession(ready), Response::End { count: 1 }]
        }
        Request::Questions => {
            let QuestionList { questions, left_out } = target.questions().await.map_err(words)?;
            let end = Response::End { count: questions.len() as u64 };
            let questions = questions.into_iter().map(|record| Response::Question(Box::new(record)));
            let left_out = (left_out > 0).then_some(Response::LeftOut { count: left_out });
            questions.chain(left_out).chain([end]).collect()
        }
        Request::Answer { answer } => {
            let enqueued = target.answer(answer).await.map_err(|problem| problem.to_string())?;
            vec![Response::Enqueued(enqueued), Response::End { count: 1 }]
        }
        Request::Tasks { filter } => {
            let TaskList { tasks, unreadable } = target.tasks(filter).await.map_err(words)?;
            let end = Response::End { count: tasks.len() as u64 };
            let unreadable = unreadable
                .into_iter()
                .map(|(session_id, reason)| Response::Unreadable { session_id, reason });
            let tasks = tasks.into_iter().map(|record| Response::Task(Box::new(record)));
            tasks.chain(unreadable).chain([end]).collect()
        }
        Request::TaskRuns { filter } => {
            let records = target.task_runs(filter).await.map_err(words)?;
            let end = Response::End { count: records.len() as u64 };
            records.into_iter().map(|record| Response::Run(Box::new(record))).chain([end]).collect()
        }
        Request::ChangeTask { session_id, task_id, verb } => {
            let session = SessionId::new(&session_id).map_err(|problem| problem.to_string())?;
            let changed = target.change_task(session, task_id, verb).await.map_err(words)?;
            vec![Response::End { count: changed as u64 }]
        }
        Request::Host => {
            let status = target.host_status().await.map_err(words)?;
            vec![Response::Host(Box::new(status)), Response::End { count: 1 }]
        }
        Request::Audit { filter } => audit::list(target, filter).await?,
        Request::Status => vec![Response::Status {
            process_id: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }],
    })
}

fn listed(records: Vec<DeliveryRecord>) -> Vec<Response> {
    let end = Response::End { count: records.len() as u64 };
    records.into_iter().map(|record| Response::Record(Box::new(record))).chain([end]).collect()
}

/// Checks the ids of a session that is asked for.
pub fn session_request(
    agent_group_id: &str,
    chat: Option<&(String, String)>,
    thread_id: Option<&str>,
    mode: Option<SessionMode>,
    adds_chat: bool,
) -> Result<SessionRequest, InvalidId> {
    let chat = chat.map(|(channel_type, platform_id)| {
        Ok::<_, InvalidId>((ChannelType::new(channel_type)?, PlatformId::new(platform_id)?))
    });
    Ok(SessionRequest {
        agent_group_id: AgentGroupId::new(agent_group_id)?,
        chat: chat.transpose()?,
        thread_id: thread_id.map(ThreadId::new).transpose()?,
        mode,
        adds_chat,
    })
}

/// Checks the ids of a key.
pub fn delivery_key(key: &MessageKey) -> Result<DeliveryKey, InvalidId> {
    Ok(DeliveryKey {
        session_id: SessionId::new(&key.session_id)?,
        message_id: MessageId::new(&key.message_id)?,
    })
}

#[cfg(test)]
mod tests;
