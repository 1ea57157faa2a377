//! Server and client over a real socket.

use super::super::client::{ClientError, ControlClient};
use super::super::status::HostStatus;
use super::*;
use async_trait::async_trait;
use nanorelay_actors::inbox::{AttachmentContent, EnqueueError, Enqueued, InboxAttachment, InboxMessage};
use nanorelay_actors::limits::Limits;
use nanorelay_actors::model::hold::{Hold, HoldCause, HoldScopeKind};
use nanorelay_actors::relay::{
    Answer, AnswerError, AuditId, CreateSessionError, QuestionList, QuestionRecord, ReadySession,
};
use nanorelay_actors::report::HoldRecord;
use nanorelay_actors::report::{
    AttemptRecord, AuditEnd, AuditEntry, AuditFilter, AuditRecord, DeliveryDetails, DeliveryFilter,
    DeliveryState, LaneFilter, LaneRecord, ReplayRate, Resolution, RunFilter, RunRecord, SessionFilter,
    SessionRecord, TaskFilter, TaskList, TaskVerb,
};
use nanorelay_actors::runtime::{AgentRecord, AgentState};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;
use tokio::task::LocalSet;

struct Fake;

/// It notes nothing.
#[async_trait(?Send)]
impl AuditTarget for Fake {
    async fn begin_audit(&self, _: AuditEntry) -> Result<Option<AuditId>, OperationError> {
        Ok(None)
    }

    async fn end_audit(&self, _: AuditId, _: AuditEnd) -> Result<(), OperationError> {
        Ok(())
    }

    async fn audit(&self, _: AuditFilter) -> Result<Vec<AuditRecord>, OperationError> {
        Ok(Vec::new())
    }
}

static LIMITS: LazyLock<Limits> =
    LazyLock::new(|| Limits { content_bytes_max: 100_000, attachments_max: 2, ..Limits::default() });

fn question() -> QuestionRecord {
    QuestionRecord {
        question_id: "q-1".to_owned(),
        session_id: "s-1".to_owned(),
        message_id: "m-1".to_owned(),
        title: "Deploy?".to_owned(),
        options: vec!["Yes".to_owned()],
        channel_type: Some("slack".to_owned()),
        platform_id: None,
        asked_at: "2026-04-16T14:37:00Z".to_owned(),
    }
}

fn record(message_id: &str) -> DeliveryRecord {
    DeliveryRecord {
        session_id: "s-1".to_owned(),
        message_id: message_id.to_owned(),
        seq: 1,
        kind: "chat".to_owned(),
        state: DeliveryState::Dead,
        attempts: 1,
        error_class: None,
        error: None,
        channel_type: None,
        platform_id: None,
        thread_id: None,
        platform_message_id: None,
        next_attempt_at: None,
        updated_at: "2026-04-16T14:37:00Z".to_owned(),
    }
}

#[async_trait(?Send)]
impl ControlTarget for Fake {
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        match filter.session_id.as_deref() {
            Some("broken") => Err(OperationError::Busy("the ledger is locked".to_owned())),
            _ => Ok((0..filter.limit.unwrap_or(0)).map(|n| record(&n.to_string())).collect()),
        }
    }
    async fn replay(&self, keys: Vec<DeliveryKey>) -> Result<usize, OperationError> {
        Ok(keys.len())
    }
    async fn replay_all(&self, _: DeliveryFilter, rate: Option<ReplayRate>) -> Result<usize, OperationError> {
        Ok(if rate.is_some() { 8 } else { 7 })
    }
    async fn replayable(&self, _: DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        Ok(vec![record("m-1")])
    }
    async fn delivery(&self, key: DeliveryKey) -> Result<Option<DeliveryDetails>, OperationError> {
        let failed = AttemptRecord {
            attempt: 1,
            ended_at: "2026-04-16T14:37:00Z".to_owned(),
            error_class: "transient".to_owned(),
            error: "502".to_owned(),
        };
        let details = DeliveryDetails { record: record("m-1"), failed_attempts: vec![failed] };
        Ok((key.message_id.as_str() == "m-1").then_some(details))
    }
    async fn cancel(&self, key: DeliveryKey, _: &str) -> Result<Intervention, OperationError> {
        Ok(match key.message_id.as_str() {
            "m-1" => Intervention::Done,
            "sending" => Intervention::InFlight,
            _ => Intervention::Unknown,
        })
    }
    async fn cancel_all(&self, _: DeliveryFilter, reason: &str) -> Result<usize, OperationError> {
        Ok(reason.len())
    }
    async fn cancellable(&self, _: DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        Ok(vec![record("m-2")])
    }
    async fn snooze(&self, key: DeliveryKey, until: Timestamp) -> Result<Intervention, OperationError> {
        let is_later = until > Timestamp::from_ms(0);
        Ok(if is_later && key.message_id.as_str() == "m-1" {
            Intervention::Done
        } else {
            Intervention::Unknown
        })
    }
    async fn resolve(&self, key: DeliveryKey, resolution: Resolution) -> Result<bool, OperationError> {
        Ok(key.message_id.as_str() == "m-1" && resolution == Resolution::NotDelivered)
    }
    async fn lanes(&self, _: LaneFilter) -> Result<Vec<LaneRecord>, OperationError> {
        Ok(Vec::new())
    }
    async fn unblock_lane(&self, _: SessionId, lane: String) -> Result<bool, OperationError> {
        Ok(lane == "channel/slack/slack:C1")
    }
    async fn sessions(&self, filter: SessionFilter) -> Result<Vec<SessionRecord>, OperationError> {
        let reason = filter.quarantined.then(|| "inbound.db is refused: is a symbolic link".to_owned());
        Ok(vec![SessionRecord {
            session_id: "s-1".to_owned(),
            agent_group_id: "ag".to_owned(),
            quarantine_reason: reason,
            waiting: 2,
            updated_at: "2026-04-16T14:37:00Z".to_owned(),
        }])
    }
    async fn agents(&self) -> Vec<AgentRecord> {
        vec![AgentRecord {
            session_id: "s-1".to_owned(),
            agent_group_id: "ag".to_owned(),
            state: AgentState::Running,
            process_id: Some(7),
            since: Some("2026-04-16T14:37:00.000Z".to_owned()),
            not_before: None,
            failures: 0,
            reason: None,
        }]
    }
    async fn release(&self, session: SessionId) -> Result<bool, OperationError> {
        Ok(session.as_str() == "s-1")
    }
    async fn host_status(&self) -> Result<HostStatus, OperationError> {
        Err(OperationError::Internal("nobody asks".to_owned()))
    }
    async fn open_metrics(&self) -> String {
        "# EOF\n".to_owned()
    }
    async fn holds(&self) -> Result<Vec<HoldRecord>, OperationError> {
        let scope = HoldScope::from_parts(HoldScopeKind::Lane, &["s-1", "slack", "slack:C1"]).unwrap();
        let hold = Hold {
            scope,
            cause: HoldCause::Operator,
            until: None,
            reason: "repairs".to_owned(),
            since: Timestamp::from_ms(0),
        };
        Ok(vec![hold.into()])
    }
    async fn pause(
        &self,
        scope: HoldScope,
        until: Option<Timestamp>,
        reason: &str,
    ) -> Result<(), OperationError> {
        Err(OperationError::Invalid(format!("{scope} until {:?}: {reason}", until.map(Timestamp::as_ms))))
    }
    async fn resume(&self, _: HoldScope, which: Resume) -> Result<usize, OperationError> {
        Ok(if which == Resume::Everything { 2 } else { 1 })
    }
    fn limits(&self) -> &Limits {
        &LIMITS
    }
    async fn enqueue(&self, session: SessionId, message: InboxMessage) -> Result<Enqueued, EnqueueError> {
        let sizes: Vec<u64> =
            message.attachments.iter().map(|attachment| attachment.content.size().unwrap()).collect();
        let message_id = format!("{session} {} {sizes:?}", message.content);
        Ok(Enqueued { message_id, seq: 2, is_new: message.wake })
    }
    async fn create_session(&self, request: SessionRequest) -> Result<ReadySession, CreateSessionError> {
        let (session_id, agent_group_id) = (format!("{request:?}"), request.agent_group_id.to_string());
        Ok(ReadySession { session_id, agent_group_id, is_new: true })
    }
    async fn questions(&self) -> Result<QuestionList, OperationError> {
        Ok(QuestionList { questions: vec![question()], left_out: 3 })
    }
    async fn answer(&self, answer: Answer) -> Result<Enqueued, AnswerError> {
        Err(AnswerError::NoSuchQuestion(answer.question_id))
    }
    async fn tasks(&self, _: TaskFilter) -> Result<TaskList, OperationError> {
        let unreadable = vec![("s-2".to_owned(), "inbound.db is locked".to_owned())];
        Ok(TaskList { tasks: Vec::new(), unreadable })
    }
    async fn task_runs(&self, filter: RunFilter) -> Result<Vec<RunRecord>, OperationError> {
        Err(OperationError::NotFound(format!("no history of {}", filter.session_id)))
    }
    async fn change_task(&self, _: SessionId, _: String, verb: TaskVerb) -> Result<usize, OperationError> {
        Ok(if verb == TaskVerb::RunNow { 1 } else { 0 })
    }
}

fn no_log() -> Logger {
    Logger::root(slog::Discard, slog::o!())
}

/// Runs the blocking client on a thread of its own while the socket answers.
async fn with_client<R: Send + 'static>(
    data_dir: &Path,
    ask: impl FnOnce(PathBuf) -> R + Send + 'static,
) -> R {
    let data_dir = data_dir.to_owned();
    LocalSet::new()
        .run_until(async move {
            let _socket = ControlSocket::open(&data_dir, Fake, no_log()).unwrap();
            let (answer, result) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || answer.send(ask(data_dir)));
            result.await.unwrap()
        })
        .await
}

#[tokio::test]
async fn a_client_cancels_and_snoozes_and_hears_why_not() {
    let dir = tempfile::tempdir().unwrap();
    with_client(dir.path(), |data_dir| {
        let client = ControlClient::connect(&data_dir).unwrap();
        let filter = DeliveryFilter::default();
        let key = |message: &str| MessageKey { session_id: "s-1".to_owned(), message_id: message.to_owned() };
        assert!(client.cancel(key("m-1"), "typo").unwrap() && !client.cancel(key("m-2"), "typo").unwrap());
        let refused = client.cancel(key("sending"), "").unwrap_err().to_string();
        assert!(refused.contains("on its way"), "{refused}");
        assert_eq!(client.cancel_all(&filter, "typo").unwrap(), 4);
        assert_eq!(client.cancellable(&filter).unwrap(), [record("m-2")]);
        assert!(client.snooze(key("m-1"), Timestamp::from_ms(5)).unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_client_lists_and_replays() {
    let dir = tempfile::tempdir().unwrap();
    with_client(dir.path(), |data_dir| {
        let client = ControlClient::connect(&data_dir).unwrap();
        let filter = DeliveryFilter { limit: Some(500), ..DeliveryFilter::default() };
        let records = client.deliveries(&filter).unwrap();
        assert_eq!((records.len(), records[499].message_id.as_str()), (500, "499"));
        let key = |session: &str| MessageKey { session_id: session.to_owned(), message_id: "m".to_owned() };
        assert_eq!(client.replay(key("s-1")).unwrap(), 1);
        assert!(matches!(client.replay(key("../s")), Err(ClientError::Refused(_))));
        assert_eq!(client.replay_all(&filter, None).unwrap(), 7);
        assert_eq!(client.replay_all(&filter, Some("5/s".parse().unwrap())).unwrap(), 8);
        assert_eq!(client.replayable(&filter).unwrap(), [record("m-1")]);
        let quarantined = client.sessions(&SessionFilter { quarantined: true }).unwrap();
        assert!(quarantined[0].quarantine_reason.is_some(), "{quarantined:?}");
        assert!(client.sessions(&SessionFilter::default()).unwrap()[0].quarantine_reason.is_none());
        assert_eq!(client.agents().unwrap()[0].process_id, Some(7));
        assert!(client.release("s-1").unwrap() && !client.release("s-2").unwrap());
        assert!(matches!(client.release("../s"), Err(ClientError::Refused(_))));
        let tasks = client.tasks(&TaskFilter::default()).unwrap();
        assert_eq!(tasks.unreadable, [("s-2".to_owned(), "inbound.db is locked".to_owned())]);
        let runs = client.task_runs(&RunFilter { session_id: "s-1".to_owned(), ..RunFilter::default() });
        assert_eq!(runs.unwrap_err().to_string(), "no history of s-1");
        assert_eq!(client.change_task("s-1", "t-1", TaskVerb::RunNow).unwrap(), 1);
        assert!(matches!(client.change_task("../s", "t-1", TaskVerb::Pause), Err(ClientError::Refused(_))));
        let broken = DeliveryFilter { session_id: Some("broken".to_owned()), ..DeliveryFilter::default() };
        let refused = client.deliveries(&broken).unwrap_err();
        assert_eq!(refused.to_string(), "the ledger is locked");
    })
    .await;
    assert!(!dir.path().join(SOCKET_NAME).exists(), "the socket's file goes with the socket");
    assert!(matches!(ControlClient::connect(dir.path()), Err(ClientError::NotRunning)));
}

#[tokio::test]
async fn a_client_shows_and_resolves() {
    let dir = tempfile::tempdir().unwrap();
    with_client(dir.path(), |data_dir| {
        let client = ControlClient::connect(&data_dir).unwrap();
        let key = |message: &str| MessageKey { session_id: "s-1".to_owned(), message_id: message.to_owned() };
        let shown = client.delivery(key("m-1")).unwrap().expect("known");
        assert_eq!((shown.record, shown.failed_attempts.len()), (record("m-1"), 1));
        assert_eq!(client.delivery(key("m-2")).unwrap(), None);
        assert!(client.resolve(key("m-1"), Resolution::NotDelivered).unwrap());
        let delivered = Resolution::Delivered { platform_message_id: Some("p-1".to_owned()) };
        assert!(!client.resolve(key("m-1"), delivered).unwrap());
        assert_eq!(client.lanes(&LaneFilter::default()).unwrap(), []);
        assert!(client.unblock_lane("s-1", "channel/slack/slack:C1").unwrap());
        assert!(!client.unblock_lane("s-1", "channel/slack/slack:C2").unwrap());
        let nobody = MessageKey { session_id: "../s".to_owned(), message_id: "m-1".to_owned() };
        assert!(matches!(client.delivery(nobody), Err(ClientError::Refused(_))));
    })
    .await;
}

#[actix_rt::test]
async fn a_client_pauses_resumes_lists_what_is_paused_and_reads_metrics() {
    let dir = tempfile::tempdir().unwrap();
    with_client(dir.path(), |data_dir| {
        let client = ControlClient::connect(&data_dir).unwrap();
        let holds = client.holds().unwrap();
        assert_eq!(
            (holds[0].name.join(" "), holds[0].until.clone()),
            ("s-1 slack slack:C1".to_owned(), None)
        );
        let scope = HoldScope::from_parts(holds[0].scope, &holds[0].name).unwrap();
        let until = Some(Timestamp::from_ms(7));
        let refused = client.pause(&scope, until, "why".to_owned()).unwrap_err();
        assert_eq!(refused.to_string(), "lane s-1 slack slack:C1 until Some(7): why");
        assert_eq!(client.open_metrics().unwrap(), "# EOF\n");
        assert_eq!((client.resume(&scope, false).unwrap(), client.resume(&scope, true).unwrap()), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn a_directory_of_any_length_works_and_a_stale_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let place = SocketPlace::of(&deep).unwrap();
    let stale = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&stale, &place.address).unwrap();
    drop(stale);
    assert!(matches!(ControlClient::connect(&deep), Err(ClientError::NotRunning)));
    with_client(&deep, |deep| {
        ControlClient::connect(&deep).unwrap();
        let mode = std::fs::symlink_metadata(deep.join(SOCKET_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SOCKET_NAME);
    std::fs::write(&path, "mine").unwrap();
    assert!(ControlSocket::open(dir.path(), Fake, no_log()).is_err());
    assert_eq!(std::fs::read_to_string(path).unwrap(), "mine");
}

#[tokio::test]
async fn a_request_without_bound_or_sense_is_refused() {
    for request in [vec![b'x'; REQUEST_BYTES_MAX + 10], b"{\"command\":\"explode\"}\n".to_vec()] {
        let line = &request[..request.len().min(REQUEST_BYTES_MAX + 1)];
        let message = answer(line, "x", &mut &b""[..], &Fake, &Semaphore::new(1)).await.unwrap_err();
        assert!(message.starts_with("the request is "), "{message}");
    }
}

#[tokio::test]
async fn a_silent_client_does_not_hold_up_another() {
    let dir = tempfile::tempdir().unwrap();
    with_client(dir.path(), |data_dir| {
        let mut silent = std::os::unix::net::UnixStream::connect(data_dir.join(SOCKET_NAME)).unwrap();
        silent.write_all(b"{\"comm").unwrap();
        ControlClient::connect(&data_dir).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_message_is_longer_than_a_request_and_has_files() {
    let dir = tempfile::tempdir().unwrap();
    with_client(dir.path(), |data_dir| {
        let client = ControlClient::connect(&data_dir).unwrap();
        let long = "x".repeat(99_000);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 300_000]).unwrap();
        let mut message = InboxMessage::new(long.clone()).attach("a.bin", vec![0; 200_000]);
        let content = AttachmentContent::File(file.into());
        message.attachments.push(InboxAttachment { name: "b.bin".to_owned(), content });
        let sent = client.send("s-1", &message).unwrap();
        assert_eq!((sent.message_id, sent.seq), (format!("s-1 {long} [200000, 300000]"), 2));
        let more = message.clone().attach("c.bin", vec![0]);
        assert_eq!(client.send("s-1", &more).unwrap_err().to_string(), "3 attachments, the limit is 2");
        let longer = InboxMessage::new("x".repeat(5_000_000));
        let refused = client.send("s-1", &longer).unwrap_err().to_string();
        assert!(refused.contains("5000000 bytes"), "{refused}");
        assert!(matches!(client.send("../s", &message), Err(ClientError::Refused(_))));
    })
    .await;
}

#[tokio::test]
async fn sessions_are_asked_for_and_questions_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    with_client(dir.path(), |data_dir| {
        let client = ControlClient::connect(&data_dir).unwrap();
        let chat = ("slack".to_owned(), "slack:C1".to_owned());
        let request =
            session_request("ag", Some(&chat), Some("t"), Some(SessionMode::PerThread), true).unwrap();
        let ready = client.create_session(&request).unwrap();
        assert_eq!(ready.session_id, format!("{request:?}"), "every part arrives");
        assert_eq!(client.questions().unwrap(), QuestionList { questions: vec![question()], left_out: 3 });
        let (question_id, selected_option) = ("q-2".to_owned(), "Yes".to_owned());
        let refused = client.answer(&Answer { question_id, selected_option, user_id: "u".to_owned() });
        assert!(refused.unwrap_err().to_string().contains("q-2"));
    })
    .await;
}
