//! Answers to the questions that agents ask.

use super::home::WhenCallerGoes;
use super::{OperationError, Relay, StoppedHost, inbox::active};
use crate::inbox::{EnqueueError, Enqueued, InboxMessage, MessageOrigin};
use crate::limits::Limits;
use crate::model::ids::derived_id;
use crate::model::staleness::AgentState;
use crate::runtime::AgentSession;
use crate::store::central::{ContainerStatus, PendingQuestion, PendingQuestions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// A question that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct QuestionRecord {
    /// Its id.
    pub question_id: String,
    /// The session that asks.
    pub session_id: String,
    /// The message that carries it.
    pub message_id: String,
    /// What the buttons stand under.
    pub title: String,
    /// The values that can be chosen; none when the agent's NanoClaw did not record them.
    pub options: Vec<String>,
    /// The kind of platform where it is asked.
    pub channel_type: Option<String>,
    /// The chat.
    pub platform_id: Option<String>,
    /// When it was asked.
    pub asked_at: String,
}

/// The questions that wait for an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct QuestionList {
    /// The oldest first; of a long title the beginning. A list is bounded, and so are its questions.
    pub questions: Vec<QuestionRecord>,
    /// How many more there are, for which the list has no room.
    pub left_out: u64,
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The question.
    pub question_id: String,
    /// The value of the chosen option.
    pub selected_option: String,
    /// Who has chosen, as the platform names them.
    pub user_id: String,
}

/// Why a question was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Nobody asks it, or it is answered already.
    #[error("no question {0:?} waits for an answer")]
    NoSuchQuestion(String),
    /// It has no such option.
    #[error("{given:?} is no option of this question; it has {}", options.join(", "))]
    NotAnOption {
        /// What was chosen.
        given: String,
        /// What can be.
        options: Vec<String>,
    },
    /// The answer was not put into the inbox.
    #[error(transparent)]
    Enqueue(#[from] EnqueueError),
    /// `v2.db` could not be read or written.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl From<&PendingQuestion> for QuestionRecord {
    fn from(question: &PendingQuestion) -> Self {
        Self {
            question_id: question.question_id.clone(),
            session_id: question.session_id.to_string(),
            message_id: question.message_out_id.to_string(),
            title: question.title.clone(),
            options: options(question).into_iter().map(|(value, _)| value).collect(),
            channel_type: question.channel_type.clone(),
            platform_id: question.platform_id.clone(),
            asked_at: question.created_at.to_iso(),
        }
    }
}

impl From<PendingQuestions> for QuestionList {
    fn from(pending: PendingQuestions) -> Self {
        let questions = pending.questions.iter().map(QuestionRecord::from).collect();
        Self { questions, left_out: pending.left_out }
    }
}

impl Relay {
    /// The questions that wait for an answer, the oldest first.
    pub async fn questions(&self) -> Result<QuestionList, OperationError> {
        Ok(self.read(|engine| engine.central.questions()).await?.into())
    }

    /// Answers a question. The first answer counts; after it, the question no longer waits.
    ///
    /// An agent that runs waits for the answer in its tool, and takes it there. One that does not run has given up
    /// waiting: it is told as if somebody had written to it, which wakes it once.
    pub async fn answer(&self, answer: Answer) -> Result<Enqueued, AnswerError> {
        let id = answer.question_id.clone();
        let found = self.read(move |engine| engine.central.question(&id)).await?;
        let question = check(&answer, found)?;
        let session = question.session_id.clone();
        let facts = self.open_session(&session).await?;
        let agent = AgentSession { session_id: session.clone(), agent_group_id: facts.agent_group_id };
        let engine = Arc::clone(self.engine());
        // Without its heartbeat: one that was called stopped and lives hears the answer as a message; the other way
        // round nobody would.
        let state = self
            .at_home(WhenCallerGoes::Abort, move || async move { engine.agent_state(&agent, None).await });
        let is_gone = state.await.ok_or(OperationError::Ended)? == AgentState::Stopped;
        let enqueued = self.enqueue(session, message(&question, &answer, is_gone)).await?;
        self.read(move |engine| engine.central.remove_question(&question)).await?;
        Ok(enqueued)
    }
}

impl StoppedHost {
    /// The questions that wait for an answer, the oldest first.
    pub fn questions(&self) -> Result<QuestionList, OperationError> {
        let questions = self.central().and_then(|central| central.questions());
        Ok(questions?.into())
    }

    /// Answers a question; see [`Relay::answer`].
    pub fn answer(&self, answer: &Answer, limits: &Limits) -> Result<Enqueued, AnswerError> {
        let failed = |error: crate::store::error::StoreError| OperationError::from(error);
        let central = self.central().map_err(failed)?;
        let question = check(answer, central.question(&answer.question_id).map_err(failed)?)?;
        let facts = active(&central.load_snapshot().map_err(failed)?, &question.session_id)?;
        let is_gone = facts.container_status == ContainerStatus::Stopped;
        let enqueued = self.enqueue(&question.session_id, message(&question, answer, is_gone), limits)?;
        central.remove_question(&question).map_err(failed)?;
        Ok(enqueued)
    }
}

/// The question that an answer is for, when it fits.
fn check(answer: &Answer, found: Option<PendingQuestion>) -> Result<PendingQuestion, AnswerError> {
    let question = found.ok_or_else(|| AnswerError::NoSuchQuestion(answer.question_id.clone()))?;
    let options: Vec<String> = options(&question).into_iter().map(|(value, _)| value).collect();
    if !options.is_empty() && !options.contains(&answer.selected_option) {
        return Err(AnswerError::NotAnOption { given: answer.selected_option.clone(), options });
    }
    Ok(question)
}

/// Values and labels of a question's options.
fn options(question: &PendingQuestion) -> Vec<(String, String)> {
    let options: Vec<Value> = serde_json::from_str(&question.options_json).unwrap_or_default();
    let option = |option: &Value| {
        let text = |field: &str| option.get(field).and_then(Value::as_str).map(str::to_owned);
        let value = text("value").or_else(|| option.as_str().map(str::to_owned))?;
        let label = text("label").unwrap_or_else(|| value.clone());
        Some((value, label))
    };
    options.iter().filter_map(option).collect()
}

/// The row that tells an agent the answer. Its id is derived from the question, so that a repeated answer is the first
/// one; a question that is asked again in another message has another.
fn message(question: &PendingQuestion, answer: &Answer, agent_is_gone: bool) -> InboxMessage {
    let mut content = json!({
        "type": "question_response", "questionId": answer.question_id,
        "selectedOption": answer.selected_option, "userId": answer.user_id,
    });
    if agent_is_gone {
        let label = options(question).into_iter().find(|(value, _)| *value == answer.selected_option);
        let label = label.map_or_else(|| answer.selected_option.clone(), |(_, label)| label);
        content["text"] = format!("Answer to your question {:?}: {label}", question.title).into();
        content["sender"] = answer.user_id.as_str().into();
        content["senderId"] = answer.user_id.as_str().into();
    }
    let origin = match (&question.channel_type, &question.platform_id) {
        (Some(channel_type), Some(platform_id)) => MessageOrigin::Chat {
            channel_type: channel_type.clone(),
            platform_id: platform_id.clone(),
            thread_id: question.thread_id.clone(),
        },
        _ => MessageOrigin::Session,
    };
    let id = derived_id("answer", &[&question.question_id, question.message_out_id.as_str()]);
    // Nothing of kind `system` wakes: only a tool that waits for it takes it.
    let kind = if agent_is_gone { "chat" } else { "system" };
    InboxMessage::new(content.to_string()).id(&id).kind(kind).from(origin)
}
