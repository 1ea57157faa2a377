//! Questions of agents that wait for an answer.

use super::access::{Access, Change, Operate, Read};
use super::input::{Body, Query, RequestBody};
use super::page::{Cursor, Limit, Page};
use super::problem::{Problem, ProblemKind};
use super::selection::own_tenants;
use actix_web::web::{Json, Path};
use actix_web::{get, post};
use nanorelay_actors::inbox::Enqueued;
use nanorelay_actors::relay::{Answer, AnswerError, QuestionRecord};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(list).service(answer);
}

/// Which questions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QuestionsQuery {
    /// Only of this session.
    session: Option<String>,
    /// Only of this tenant.
    tenant: Option<String>,
    /// Records of a page, 1 to 500; 50 unless it is there.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Where the page begins: the `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// Questions that wait for an answer, the oldest first
#[utoipa::path(tag = "questions", params(QuestionsQuery), responses((status = 200, body = Page<QuestionRecord>)))]
#[get("/questions")]
pub(super) async fn list(
    access: Access<Read>,
    query: Query<QuestionsQuery>,
) -> Result<Json<Page<QuestionRecord>>, Problem> {
    let (relay, tenants) = access.lists();
    let query = query.0;
    let tenants = own_tenants(tenants, query.tenant.as_deref());
    let after: Option<(String, String)> = query.cursor.map(|cursor| cursor.position()).transpose()?;
    let mut questions = relay.questions_of(&tenants).await?;
    if let Some(session) = query.session {
        questions.retain(|question| question.session_id == session);
    }
    let position = |question: &QuestionRecord| (question.asked_at.clone(), question.question_id.clone());
    Ok(Json(Page::of_all(questions, query.limit, after, position)))
}

/// The answer to a question.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerBody {
    /// The value of the chosen option.
    selected_option: String,
    /// Who has chosen, as the platform names them.
    user_id: String,
    /// Why, for the audit.
    #[serde(default)]
    reason: Option<String>,
}

impl RequestBody for AnswerBody {}

/// Answer a question
///
/// The agent gets the answer as a message; the question waits no longer.
#[utoipa::path(
    tag = "questions",
    params(("question_id" = String, Path, description = "The question.")),
    request_body = AnswerBody,
    responses((status = 200, body = Enqueued))
)]
#[post("/questions/{question_id}/answer")]
pub(super) async fn answer(
    access: Access<Operate>,
    path: Path<String>,
    body: Body<AnswerBody>,
) -> Result<Json<Enqueued>, Problem> {
    let (relay, tenants) = access.lists();
    let question_id = path.into_inner();
    let questions = relay.questions_of(tenants).await?;
    let question = questions.into_iter().find(|question| question.question_id == question_id);
    let question = question.ok_or_else(|| Problem::not_found("question"))?;
    let session = access.session(&question.session_id).await?;
    let AnswerBody { selected_option, user_id, reason } = body.0;
    let change = Change {
        action: "question.answer",
        target: format!("{} {question_id}", session.id()),
        tenant: Some(session.tenant()),
        reason: reason.as_deref(),
        before: None,
    };
    let answer = Answer { question_id: question_id.clone(), selected_option, user_id };
    let made = async { session.relay().answer(answer).await.map_err(Problem::from) };
    access.change(change, made).await.map(Json)
}

impl From<AnswerError> for Problem {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::NoSuchQuestion(_) => Problem::not_found("question"),
            AnswerError::NotAnOption { .. } => Problem::new(ProblemKind::Refused, error.to_string()),
            AnswerError::Enqueue(error) => error.into(),
            AnswerError::Operation(error) => error.into(),
        }
    }
}
