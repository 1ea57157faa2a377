//! Messages for this session's inbox: from other agents, and from the application.

use super::messages::{AcceptError, AgentMessage, ArrivalOrigin, InboxArrival};
use super::step::{OwnedStore, StepContext, StepError};
use super::write::inbox_row;
use crate::inbox::Enqueued;
use crate::limits::{
    ARRIVAL_BATCH_BYTES_MAX, ARRIVAL_BATCH_FILES_MAX, ARRIVALS_PER_TRANSACTION_MAX,
    ARRIVALS_WAITING_BYTES_MAX, ARRIVALS_WAITING_MAX,
};
use crate::model::ids::{MessageId, PathComponent, SessionId, derived_id};
use crate::model::route::AGENT_CHANNEL_TYPE;
use crate::store::arrivals::{self, Arrival, ArrivalFile, AttachmentContent, Placed};
use crate::store::attachments;
use crate::store::error::StoreError;
use crate::store::inbound::NewInbound;
use crate::store::ledger::InboxFiles;
use crate::store::session_store::SessionStore;
use crate::supervise::activity::ActivityToken;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Messages that wait for this session's next write.
#[derive(Debug, Default)]
pub(super) struct WaitingArrivals {
    queue: VecDeque<InboxArrival>,
    bytes: u64,
}

impl WaitingArrivals {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes a message, or answers that too many wait.
    pub fn push(&mut self, message: InboxArrival) {
        let is_full = self.queue.len() >= ARRIVALS_WAITING_MAX
            || !self.queue.is_empty() && self.bytes + message.bytes() > ARRIVALS_WAITING_BYTES_MAX;
        if is_full {
            message.refuse("too many messages for this session wait to be written");
            return;
        }
        self.bytes += message.bytes();
        self.queue.push_back(message);
    }

    /// As many as one transaction takes, at least one if there is one.
    pub fn take_batch(&mut self) -> Vec<InboxArrival> {
        let (mut batch, mut bytes, mut files) = (Vec::new(), 0, 0);
        while batch.len() < ARRIVALS_PER_TRANSACTION_MAX
            && bytes < ARRIVAL_BATCH_BYTES_MAX
            && files < ARRIVAL_BATCH_FILES_MAX
        {
            let Some(message) = self.queue.pop_front() else { break };
            bytes += message.bytes();
            files += message.origin.files();
            batch.push(message);
        }
        self.bytes -= bytes;
        batch
    }

    /// Answers all of them that they must come again later.
    pub fn refuse_all(&mut self, reason: &str) {
        self.bytes = 0;
        for message in self.queue.drain(..) {
            message.refuse(reason);
        }
    }
}

/// The id that a message gets in the inbox of the agent that it is for. Derived from the source, so that a repeated
/// hand-over writes no second row.
pub(super) fn agent_inbox_id(source: &SessionId, message: &MessageId) -> String {
    derived_id("a2a", &[source.as_str(), message.as_str()])
}

/// How to answer whoever sent a message.
pub(super) type Reply = (oneshot::Sender<Result<Enqueued, AcceptError>>, ActivityToken);

/// A message without the means to answer it.
pub(super) type AcceptWork = ArrivalOrigin;

impl InboxArrival {
    pub(super) fn split(self) -> (AcceptWork, Reply) {
        (self.origin, (self.reply, self._token))
    }

    fn bytes(&self) -> u64 {
        match &self.origin {
            ArrivalOrigin::Agent(message) => message.content.len() as u64,
            ArrivalOrigin::Application(arrival) => arrival.bytes(),
        }
    }
}

/// Messages that are ready to be placed.
pub(super) struct Prepared {
    pub accepts: Vec<Result<Arrival, AcceptError>>,
    /// The files that will be copied for them. The ledger knows of them.
    pub expected_files: Vec<InboxFiles>,
}

/// Opens the files of messages and has the ledger take note of what will be copied.
pub(super) async fn prepare(
    context: &StepContext,
    store: &mut Option<OwnedStore>,
    works: Vec<AcceptWork>,
) -> Result<Prepared, StepError> {
    if works.iter().all(|work| work.files() == 0) {
        let accepts = works.into_iter().map(|work| work.into_arrival(context)).collect();
        return Ok(Prepared { accepts, expected_files: Vec::new() });
    }
    let opened = context.with_store(store, move |store, context| {
        let accepts: Vec<_> = works.into_iter().map(|work| work.into_arrival(context)).collect();
        let expected_files = arrivals::expected_files(store, accepts.iter().flatten())?;
        Ok(Prepared { accepts, expected_files })
    });
    let prepared = opened.await?;
    if !prepared.expected_files.is_empty() {
        let (session, expected) = (context.session.clone(), prepared.expected_files.clone());
        let noted = context
            .engine
            .ledger
            .record_durably(move |ledger| ledger.expect_inbox_files(&session, &expected));
        noted.await?;
    }
    Ok(prepared)
}

/// Copies the files of those messages that are new.
pub(super) fn place(
    store: &mut SessionStore,
    accepts: Vec<Result<Arrival, AcceptError>>,
) -> Result<Vec<Result<Placed, AcceptError>>, StoreError> {
    let mut refusals = Vec::with_capacity(accepts.len());
    let mut ready = Vec::with_capacity(accepts.len());
    for accept in accepts {
        match accept {
            Ok(arrival) => {
                ready.push(arrival);
                refusals.push(None);
            }
            Err(refusal) => refusals.push(Some(refusal)),
        }
    }
    let mut placed = arrivals::place(store, &ready)?.into_iter();
    let answers = refusals.into_iter().filter_map(|refusal| match refusal {
        Some(refusal) => Some(Err(refusal)),
        None => {
            placed.next().map(|placed| placed.map_err(|error| AcceptError::Unavailable(error.to_string())))
        }
    });
    Ok(answers.collect())
}

/// Removes files that an earlier write has copied for a row that did not come.
pub(super) async fn clear_leftovers(
    context: &StepContext,
    store: &mut Option<OwnedStore>,
    left: &[InboxFiles],
) -> Result<(), StepError> {
    if left.is_empty() {
        return Ok(());
    }
    let (session, left) = (context.session.clone(), left.to_vec());
    let cleared = context.with_store(store, move |store, _| {
        arrivals::clear_leftovers(store, &left)?;
        Ok(left)
    });
    let cleared = cleared.await?;
    Ok(context.engine.ledger.record(move |ledger| ledger.forget_inbox_files(&session, &cleared)).await?)
}

impl ArrivalOrigin {
    fn files(&self) -> usize {
        match self {
            ArrivalOrigin::Agent(message) => message.files.len(),
            ArrivalOrigin::Application(arrival) => arrival.files.len(),
        }
    }

    fn into_arrival(self, context: &StepContext) -> Result<Arrival, AcceptError> {
        match self {
            ArrivalOrigin::Application(arrival) => Ok(*arrival),
            ArrivalOrigin::Agent(message) => {
                let files = open_files(&message, context)?;
                Ok(Arrival { row: agent_row(&message)?, files })
            }
        }
    }
}

fn agent_row(message: &AgentMessage) -> Result<NewInbound, AcceptError> {
    let inbox_id = agent_inbox_id(&message.source_session, &message.source_message);
    let id = MessageId::new(&inbox_id).map_err(|error| AcceptError::Unavailable(error.to_string()))?;
    Ok(NewInbound {
        trigger: true,
        platform_id: Some(message.source_group.to_string()),
        channel_type: Some(AGENT_CHANNEL_TYPE.to_owned()),
        content: message.content.to_string(),
        source_session_id: Some(message.source_session.clone()),
        ..inbox_row(id, "chat")
    })
}

/// Opens the declared files in the source's outbox.
fn open_files(message: &AgentMessage, context: &StepContext) -> Result<Vec<ArrivalFile>, AcceptError> {
    if message.files.is_empty() {
        return Ok(Vec::new());
    }
    let limits = &context.engine.settings.limits;
    let refused = |name: &str, reason: &dyn std::fmt::Display| {
        AcceptError::Attachment(format!("attachment {name:?}: {reason}"))
    };
    if message.files.len() > limits.attachments_max {
        let reason = format!("{} attachments, the limit is {}", message.files.len(), limits.attachments_max);
        return Err(AcceptError::Attachment(reason));
    }
    let source = context
        .engine
        .sessions_root
        .session(&message.source_group, &message.source_session)
        .map_err(|error| AcceptError::Unavailable(error.to_string()))?;
    let mut total = 0;
    let mut files = Vec::with_capacity(message.files.len());
    for declared in message.files.iter() {
        limits.check_attachment_name(declared).map_err(AcceptError::Attachment)?;
        let name = PathComponent::new(declared).map_err(|error| refused(declared, &error))?;
        let folder = message.source_message.path_component().map_err(|error| refused(declared, &error))?;
        let opened = attachments::open_outbox_file(&source, &folder, &name);
        let (file, size) = opened.map_err(|error| match attachments::is_unusable(&error) {
            true => refused(declared, &error),
            false => AcceptError::Unavailable(format!("attachment {declared:?}: {error}")),
        })?;
        total += size;
        if size > limits.attachment_bytes_max || total > limits.attachments_total_bytes_max {
            return Err(refused(declared, &"the attachments are too large"));
        }
        files.push(ArrivalFile { name, size, content: AttachmentContent::File(Arc::new(file)) });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::model::ids::AgentGroupId;
    use crate::supervise::activity::Activity;

    fn with_files(number: usize, files: usize) -> InboxArrival {
        let message = AgentMessage {
            source_session: SessionId::new("sess-a").unwrap(),
            source_group: AgentGroupId::new("ag").unwrap(),
            source_message: MessageId::new(&format!("m-{number}")).unwrap(),
            content: Arc::from("{}"),
            files: (0..files).map(|file| file.to_string()).collect(),
        };
        let (reply, _) = oneshot::channel();
        InboxArrival { origin: ArrivalOrigin::Agent(message), reply, _token: Activity::default().token() }
    }

    #[test]
    fn a_batch_has_few_files_however_many_wait() {
        let files_max = Limits::default().attachments_max;
        let mut waiting = WaitingArrivals::default();
        for number in 0..100 {
            waiting.push(with_files(number, files_max));
        }
        let mut taken = 0;
        while !waiting.is_empty() {
            let batch = waiting.take_batch();
            let files: usize = batch.iter().map(|message| message.origin.files()).sum();
            assert!(files < ARRIVAL_BATCH_FILES_MAX + files_max, "{files} files");
            taken += batch.len();
        }
        assert_eq!((taken, waiting.bytes), (100, 0));
        for number in 0..100 {
            waiting.push(with_files(number, 0));
        }
        assert_eq!(waiting.take_batch().len(), 100, "others go together");
    }
}
