//! The host's side of the socket.

use super::protocol::{MessageKey, REQUEST_BYTES_MAX, Request, Response};
use super::{SOCKET_NAME, SocketPlace};
use async_trait::async_trait;
use nanorelay_actors::model::hold::HoldScope;
use nanorelay_actors::model::ids::{InvalidId, MessageId, SessionId};
use nanorelay_actors::model::message::DeliveryKey;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::{OperationError, Relay, Resume};
use nanorelay_actors::report::{
    DeliveryDetails, DeliveryFilter, DeliveryRecord, HoldRecord, LaneFilter, LaneRecord, ReplayRate,
    Resolution, SessionFilter, SessionRecord,
};
use nanorelay_actors::runtime::AgentRecord;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use slog::Logger;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections that are answered at the same time; more of them wait.
const CONNECTIONS_MAX: usize = 32;
/// How long one request may take to arrive, and its answer to be taken.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a failed accept, so that a lack of file handles is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a host can be asked.
#[async_trait(?Send)]
pub trait ControlTarget: 'static {
    /// All matching deliveries.
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError>;
    /// Puts these back into their lanes.
    async fn replay(&self, keys: Vec<DeliveryKey>) -> Result<usize, OperationError>;
    /// Puts all that match back into their lanes.
    async fn replay_all(
        &self,
        filter: DeliveryFilter,
        rate: Option<ReplayRate>,
    ) -> Result<usize, OperationError>;
    /// What would be put back.
    async fn replayable(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError>;
    /// One delivery with everything that was tried.
    async fn delivery(&self, key: DeliveryKey) -> Result<Option<DeliveryDetails>, OperationError>;
    /// Settles an ambiguous delivery; whether it was one.
    async fn resolve(&self, key: DeliveryKey, resolution: Resolution) -> Result<bool, OperationError>;
    /// All matching lanes.
    async fn lanes(&self, filter: LaneFilter) -> Result<Vec<LaneRecord>, OperationError>;
    /// Parks the message that holds up a lane; whether one did.
    async fn unblock_lane(&self, session: SessionId, lane: String) -> Result<bool, OperationError>;
    /// All matching sessions.
    async fn sessions(&self, filter: SessionFilter) -> Result<Vec<SessionRecord>, OperationError>;
    /// The host's agents.
    async fn agents(&self) -> Vec<AgentRecord>;
    /// Looks again at a session that cannot be served; whether it was one.
    async fn release(&self, session: SessionId) -> Result<bool, OperationError>;
    /// What holds sends back.
    async fn holds(&self) -> Result<Vec<HoldRecord>, OperationError>;
    /// Sends nothing of a scope for a time.
    async fn pause(
        &self,
        scope: HoldScope,
        until: Option<Timestamp>,
        reason: &str,
    ) -> Result<(), OperationError>;
    /// Ends what holds a scope back; how much there was.
    async fn resume(&self, scope: HoldScope, which: Resume) -> Result<usize, OperationError>;
}

#[async_trait(?Send)]
impl ControlTarget for Relay {
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        Relay::deliveries(self, filter).await
    }
    async fn replay(&self, keys: Vec<DeliveryKey>) -> Result<usize, OperationError> {
        Relay::replay(self, keys).await
    }
    async fn replay_all(
        &self,
        filter: DeliveryFilter,
        rate: Option<ReplayRate>,
    ) -> Result<usize, OperationError> {
        Relay::replay_all(self, filter, rate).await
    }
    async fn replayable(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        Relay::replayable(self, filter).await
    }
    async fn delivery(&self, key: DeliveryKey) -> Result<Option<DeliveryDetails>, OperationError> {
        Relay::delivery(self, key).await
    }
    async fn resolve(&self, key: DeliveryKey, resolution: Resolution) -> Result<bool, OperationError> {
        Relay::resolve(self, key, resolution).await
    }
    async fn lanes(&self, filter: LaneFilter) -> Result<Vec<LaneRecord>, OperationError> {
        Relay::lanes(self, filter).await
    }
    async fn unblock_lane(&self, session: SessionId, lane: String) -> Result<bool, OperationError> {
        Relay::unblock_lane(self, session, &lane).await
    }
    async fn sessions(&self, filter: SessionFilter) -> Result<Vec<SessionRecord>, OperationError> {
        Relay::sessions(self, filter).await
    }
    async fn agents(&self) -> Vec<AgentRecord> {
        Relay::agents(self).await
    }
    async fn release(&self, session: SessionId) -> Result<bool, OperationError> {
        Relay::release(self, session).await
    }
    async fn holds(&self) -> Result<Vec<HoldRecord>, OperationError> {
        Ok(Relay::holds(self))
    }
    async fn pause(
        &self,
        scope: HoldScope,
        until: Option<Timestamp>,
        reason: &str,
    ) -> Result<(), OperationError> {
        Relay::pause(self, scope, until, reason).await
    }
    async fn resume(&self, scope: HoldScope, which: Resume) -> Result<usize, OperationError> {
        Relay::resume(self, scope, which).await
    }
}

/// A socket that answers until it is dropped; then its file is gone.
pub struct ControlSocket {
    place: SocketPlace,
    accepting: JoinHandle<()>,
}

impl ControlSocket {
    /// Opens the socket of a data directory and answers for `target` on the current thread, which must be one of
    /// an actix system or a local task set. A socket left behind by a killed host is replaced: call this while
    /// holding the data directory's lock.
    pub fn open<T: ControlTarget>(data_dir: &Path, target: T, logger: Logger) -> io::Result<Self> {
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

async fn accept<T: ControlTarget>(listener: UnixListener, target: Rc<T>, logger: Logger) {
    let places = Rc::new(Semaphore::new(CONNECTIONS_MAX));
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
        tokio::task::spawn_local(async move {
            let Ok(_place) = places.acquire().await else { return };
            match tokio::time::timeout(EXCHANGE_TIMEOUT, exchange(stream, &*target)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => slog::debug!(logger, "control connection broke"; "error" => %error),
                Err(_) => slog::debug!(logger, "control connection was too slow"),
            }
        });
    }
}

async fn exchange(mut stream: UnixStream, target: &impl ControlTarget) -> io::Result<()> {
    let (reading, writing) = stream.split();
    let mut line = Vec::new();
    let limit = REQUEST_BYTES_MAX as u64 + 1;
    BufReader::new(reading.take(limit)).read_until(b'\n', &mut line).await?;
    let mut out = BufWriter::new(writing);
    for response in answer(&line, target).await {
        let mut line = serde_json::to_vec(&response)?;
        line.push(b'\n');
        out.write_all(&line).await?;
    }
    out.flush().await
}

async fn answer(line: &[u8], target: &impl ControlTarget) -> Vec<Response> {
    let error = |message: String| vec![Response::Error { message }];
    if line.len() > REQUEST_BYTES_MAX {
        return error(format!("the request is longer than {REQUEST_BYTES_MAX} bytes"));
    }
    let request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(problem) => return error(format!("the request is not understood: {problem}")),
    };
    match perform(request, target).await {
        Ok(responses) => responses,
        Err(message) => error(message),
    }
}

async fn perform(request: Request, target: &impl ControlTarget) -> Result<Vec<Response>, String> {
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

/// Checks the ids of a key.
pub fn delivery_key(key: &MessageKey) -> Result<DeliveryKey, InvalidId> {
    Ok(DeliveryKey {
        session_id: SessionId::new(&key.session_id)?,
        message_id: MessageId::new(&key.message_id)?,
    })
}

#[cfg(test)]
mod tests;
