//! What is to become of a row: judged from the row, the session's permissions and its inbox.

use crate::limits::{QUESTION_OPTIONS_BYTES_MAX, QUESTION_TITLE_BYTES_MAX};
use crate::model::content::{Content, Shape};
use crate::model::error::ErrorClass;
use crate::model::ids::{AgentGroupId, ChannelType, PlatformId, SessionId};
use crate::model::message::{Destination, Lane, OutboundRow};
use crate::model::revision::Revision;
use crate::model::route::{self, Permissions, Route};
use crate::model::text;
use crate::model::time::Timestamp;
use crate::store::central::{Central, CentralSnapshot, PendingQuestion, QuestionInsert};
use crate::store::error::StoreError;
use crate::store::inbound;
use crate::store::ledger::{Admission, InitialState};
use crate::store::session_store::SessionStore;
use std::sync::Arc;

/// A row and what is to become of it.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub row: OutboundRow,
    pub lane: Lane,
    pub verdict: Verdict,
    /// Not to be sent before, when that lies ahead.
    pub due: Option<Timestamp>,
    pub files: Arc<[String]>,
}

/// Where a row goes.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// To a chat.
    Channel(Destination),
    /// To another agent.
    Agent(AgentTarget),
    /// To the task scheduler.
    System,
    /// Nowhere, ever.
    Dead { class: ErrorClass, reason: String },
}

/// What is known about the target of a message to another agent.
#[derive(Debug, Clone)]
pub(super) struct AgentTarget {
    pub group: AgentGroupId,
    pub named_session: Option<SessionId>,
    /// The session that wrote what this message answers.
    pub reply_source: Option<SessionId>,
    /// The session of that group that wrote last.
    pub last_peer: Option<SessionId>,
}

/// Who judges: one session's view of the central database at one moment.
pub(super) struct Judge<'a> {
    pub snapshot: &'a CentralSnapshot,
    pub session: &'a SessionId,
    pub group: &'a AgentGroupId,
    pub now: Timestamp,
}

impl Permissions for Judge<'_> {
    fn may_send(&self, channel_type: &ChannelType, platform_id: &PlatformId) -> bool {
        self.snapshot.may_send(self.session, channel_type, platform_id)
    }

    fn may_message(&self, target: &AgentGroupId) -> bool {
        self.snapshot.may_message(self.group, target)
    }

    fn agent_exists(&self, target: &AgentGroupId) -> bool {
        self.snapshot.groups.contains_key(target)
    }
}

impl Judge<'_> {
    /// Judges a row. An error is one of the session's databases, not of the row.
    pub fn judge(&self, row: OutboundRow, store: &mut SessionStore) -> Result<Judged, StoreError> {
        let dead = |row: OutboundRow, lane, class, reason| Judged {
            row,
            lane,
            verdict: Verdict::Dead { class, reason },
            due: None,
            files: Arc::from([]),
        };
        let due = match row.deliver_after.as_deref().map(Timestamp::parse) {
            None => None,
            Some(Ok(due)) => Some(due).filter(|due| *due > self.now),
            Some(Err(error)) => {
                let reason = format!("deliver_after: {error}");
                return Ok(dead(row, Lane::Nowhere, ErrorClass::Invalid, reason));
            }
        };
        let (lane, verdict) = match route::route(&row, self) {
            Route::Undeliverable { class, reason } => return Ok(dead(row, Lane::Nowhere, class, reason)),
            Route::System => (Lane::System, Verdict::System),
            Route::Channel(destination) => {
                (Lane::Channel(destination.clone()), Verdict::Channel(destination))
            }
            Route::Agent { target, named_session } => (
                Lane::Agent(target.clone()),
                Verdict::Agent(agent_target(&row, target, named_session, store)?),
            ),
        };
        let files = match (&verdict, &row.content) {
            (Verdict::System, _) | (_, Err(_)) => Vec::new(),
            (_, Ok(content)) => match Content::parse(content) {
                Ok(content) => content.files,
                Err(error) => return Ok(dead(row, lane, ErrorClass::Invalid, error.to_string())),
            },
        };
        Ok(Judged { row, lane, verdict, due, files: Arc::from(files) })
    }
}

fn agent_target(
    row: &OutboundRow,
    group: AgentGroupId,
    named_session: Option<SessionId>,
    store: &mut SessionStore,
) -> Result<AgentTarget, StoreError> {
    let inbox = store.inbound()?;
    let reply_source = match &row.in_reply_to {
        Some(answered) => inbound::reply_source(inbox, answered)?.map(|(session, _)| session),
        None => None,
    };
    let last_peer = inbound::last_peer_session(inbox, &group)?;
    Ok(AgentTarget { group, named_session, reply_source, last_peer })
}

impl Judged {
    /// The size of the content.
    pub fn content_bytes(&self) -> usize {
        self.row.content.as_ref().map_or(0, |content| content.len())
    }

    /// How the ledger gets to know the row, of which the host heard at a time.
    pub fn admission(&self, heard_at: Option<Timestamp>) -> Admission {
        let initial = match (&self.verdict, self.due) {
            (Verdict::Dead { class, reason }, _) => {
                InitialState::Dead { class: *class, reason: reason.clone() }
            }
            (_, Some(due)) => InitialState::Scheduled(due),
            (_, None) => InitialState::Due,
        };
        Admission {
            message_id: self.row.id.clone(),
            seq: self.row.seq,
            kind: self.row.kind.to_string(),
            lane: self.lane.clone(),
            channel_type: self.row.channel_type.clone(),
            platform_id: self.row.platform_id.clone(),
            thread_id: self.row.thread_id.clone(),
            has_files: !self.files.is_empty(),
            initial,
            revision: self.row.content.as_ref().ok().and_then(Revision::of),
            heard_at,
        }
    }

    /// The question that this row asks, when it goes to a chat and asks one.
    pub fn question(&self, session: &SessionId, now: Timestamp) -> Option<PendingQuestion> {
        let (Verdict::Channel(destination), Ok(content)) = (&self.verdict, &self.row.content) else {
            return None;
        };
        // Only a text that names a question can be one: no second parse for all others.
        if !content.contains("questionId") {
            return None;
        }
        let Ok(Content { shape: Shape::Question(question), .. }) = Content::parse(content) else {
            return None;
        };
        let title = question.title.clone().or_else(|| question.question.clone()).unwrap_or_default();
        let title = text::bounded(title, QUESTION_TITLE_BYTES_MAX);
        Some(PendingQuestion {
            options_json: question.options_json(),
            question_id: question.question_id,
            session_id: session.clone(),
            message_out_id: self.row.id.clone(),
            platform_id: Some(destination.platform_id.to_string()),
            channel_type: Some(destination.channel_type.to_string()),
            thread_id: destination.thread_id.as_ref().map(ToString::to_string),
            title,
            created_at: now,
        })
    }

    /// Stores the question that this row asks. One whose id another message has used is refused, and so is one with
    /// too many options.
    pub fn store_question(
        &mut self,
        question: &PendingQuestion,
        central: &Central,
    ) -> Result<(), StoreError> {
        let bytes = question.options_json.len();
        let refused = if bytes > QUESTION_OPTIONS_BYTES_MAX {
            let limit = QUESTION_OPTIONS_BYTES_MAX;
            Some(format!("the options of this question have {bytes} bytes, the limit is {limit}"))
        } else if central.insert_question(question)? == QuestionInsert::Taken {
            Some("another message has asked a question with this questionId".to_owned())
        } else {
            None
        };
        if let Some(reason) = refused {
            self.verdict = Verdict::Dead { class: ErrorClass::Invalid, reason };
        }
        Ok(())
    }
}
