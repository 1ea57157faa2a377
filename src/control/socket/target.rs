//! What the socket can ask a host, and the relay as such a host.

use crate::control::status::HostStatus;
use async_trait::async_trait;
use nanorelay_actors::inbox::{EnqueueError, Enqueued, InboxMessage};
use nanorelay_actors::limits::Limits;
use nanorelay_actors::model::hold::HoldScope;
use nanorelay_actors::model::ids::SessionId;
use nanorelay_actors::model::message::DeliveryKey;
use nanorelay_actors::model::tenant::TenantSet;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::{
    Answer, AnswerError, CreateSessionError, OperationError, QuestionList, ReadySession, Relay, Resume,
    SessionRequest,
};
use nanorelay_actors::report::{
    DeliveryDetails, DeliveryFilter, DeliveryRecord, HoldRecord, Intervention, LaneFilter, LaneRecord,
    ReplayRate, Resolution, RunFilter, RunRecord, SessionFilter, SessionRecord, TaskFilter, TaskList,
    TaskVerb,
};
use nanorelay_actors::runtime::AgentRecord;

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
    /// Gives a message up that has not arrived.
    async fn cancel(&self, key: DeliveryKey, reason: &str) -> Result<Intervention, OperationError>;
    /// Gives all up that match and have not arrived; how many.
    async fn cancel_all(&self, filter: DeliveryFilter, reason: &str) -> Result<usize, OperationError>;
    /// What would be given up.
    async fn cancellable(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError>;
    /// Sends a message not before a time.
    async fn snooze(&self, key: DeliveryKey, until: Timestamp) -> Result<Intervention, OperationError>;
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
    /// All metrics, in the OpenMetrics text format.
    async fn open_metrics(&self) -> String;
    /// How the host does.
    async fn host_status(&self) -> Result<HostStatus, OperationError>;
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
    /// What a message may weigh.
    fn limits(&self) -> &Limits;
    /// Puts a message into an agent's inbox.
    async fn enqueue(&self, session: SessionId, message: InboxMessage) -> Result<Enqueued, EnqueueError>;
    /// Finds or makes a session.
    async fn create_session(&self, request: SessionRequest) -> Result<ReadySession, CreateSessionError>;
    /// The questions that wait for an answer.
    async fn questions(&self) -> Result<QuestionList, OperationError>;
    /// Answers one.
    async fn answer(&self, answer: Answer) -> Result<Enqueued, AnswerError>;
    /// All matching tasks.
    async fn tasks(&self, filter: TaskFilter) -> Result<TaskList, OperationError>;
    /// All matching runs of tasks.
    async fn task_runs(&self, filter: RunFilter) -> Result<Vec<RunRecord>, OperationError>;
    /// Does something to a task; how many rows that changed.
    async fn change_task(
        &self,
        session: SessionId,
        task_id: String,
        verb: TaskVerb,
    ) -> Result<usize, OperationError>;
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
    async fn cancel(&self, key: DeliveryKey, reason: &str) -> Result<Intervention, OperationError> {
        Relay::cancel(self, key, reason).await
    }
    async fn cancel_all(&self, filter: DeliveryFilter, reason: &str) -> Result<usize, OperationError> {
        Relay::cancel_all(self, filter, TenantSet::All, reason).await
    }
    async fn cancellable(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        Relay::cancellable(self, filter, TenantSet::All).await
    }
    async fn snooze(&self, key: DeliveryKey, until: Timestamp) -> Result<Intervention, OperationError> {
        Relay::snooze(self, key, until).await
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
    async fn open_metrics(&self) -> String {
        Relay::open_metrics(self).await
    }
    async fn host_status(&self) -> Result<HostStatus, OperationError> {
        HostStatus::of(self).await
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
    fn limits(&self) -> &Limits {
        Relay::limits(self)
    }
    async fn enqueue(&self, session: SessionId, message: InboxMessage) -> Result<Enqueued, EnqueueError> {
        Relay::enqueue(self, session, message).await
    }
    async fn create_session(&self, request: SessionRequest) -> Result<ReadySession, CreateSessionError> {
        Relay::create_session(self, request).await
    }
    async fn questions(&self) -> Result<QuestionList, OperationError> {
        Relay::questions(self).await
    }
    async fn answer(&self, answer: Answer) -> Result<Enqueued, AnswerError> {
        Relay::answer(self, answer).await
    }
    async fn tasks(&self, filter: TaskFilter) -> Result<TaskList, OperationError> {
        Relay::tasks(self, filter).await
    }
    async fn task_runs(&self, filter: RunFilter) -> Result<Vec<RunRecord>, OperationError> {
        Relay::task_runs(self, filter).await
    }
    async fn change_task(
        &self,
        session: SessionId,
        task_id: String,
        verb: TaskVerb,
    ) -> Result<usize, OperationError> {
        Relay::change_task(self, session, &task_id, verb).await
    }
}
