//! What went wrong, as `application/problem+json` (RFC 9457). All types are in one table, which is served too.

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use nanorelay_actors::model::ids::InvalidId;
use nanorelay_actors::relay::OperationError;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;
use utoipa::ToSchema;

/// What all types begin with.
pub const TYPE_PREFIX: &str = "urn:nanorelay:problem:";

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $status:literal $title:literal $explanation:literal;)*) => {
        /// The types of problems.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemKind { $($(#[$doc])* $kind,)* }

        impl ProblemKind {
            /// All types.
            pub const ALL: &'static [ProblemKind] = &[$(ProblemKind::$kind,)*];

            /// What is known of a type.
            pub fn about(self) -> &'static ProblemType {
                match self {
                    $(ProblemKind::$kind => &ProblemType {
                        name: $name, status: $status, title: $title, explanation: $explanation,
                    },)*
                }
            }
        }
    };
}

kinds! {
    /// 400.
    InvalidRequest "invalid-request" 400 "The request is not understood"
        "A parameter, a header or the body is malformed, unknown, missing or out of bounds. `field` names it where that is possible. The same request fails again.";
    /// 401.
    Unauthorized "unauthorized" 401 "Not recognised"
        "The request has no token, or one that is unknown, expired or revoked. Send `Authorization: Bearer nr_…`; `nanorelay token create` makes one.";
    /// 403.
    MissingScope "missing-scope" 403 "Not allowed"
        "The caller may not do this. `required_scope` names the scope that a token needs.";
    /// 403.
    AllTenantsRequired "all-tenants-required" 403 "Not allowed for a caller of some tenants"
        "What was asked for belongs to the whole host. It needs a token for all tenants (`--tenant '*'`).";
    /// 403.
    CrossSite "cross-site" 403 "The request comes from another site"
        "A browser sent the request for a page of another site, or the name of the host in it is not one that this host answers to. Open the pages under the address that the host listens on.";
    /// 403.
    CsrfToken "csrf-token" 403 "The CSRF token is missing or wrong"
        "A change with the cookie of a login needs the header `X-CSRF-Token` with the `csrf_token` of `GET /v1/me`.";
    /// 404.
    NotFound "not-found" 404 "Not found"
        "There is no such thing, or it belongs to a tenant that the caller does not see.";
    /// 405.
    MethodNotAllowed "method-not-allowed" 405 "The method is not allowed here"
        "The header `Allow` lists the methods of this path.";
    /// 408.
    RequestTimeout "request-timeout" 408 "The request took too long to arrive"
        "The body must arrive within a minute. Send the request again.";
    /// 409.
    Conflict "conflict" 409 "Not in this state"
        "What was asked for is not possible in the state that the object is in. `detail` says which. Look at it again.";
    /// 409.
    IdempotencyInProgress "idempotency-in-progress" 409 "The same request is being answered"
        "An earlier request with this `Idempotency-Key` has no answer yet. Repeat the request after a moment.";
    /// 413.
    TooLarge "too-large" 413 "The request is too large"
        "The body is larger than is allowed here. `limit_bytes` is the limit.";
    /// 415.
    UnsupportedMediaType "unsupported-media-type" 415 "The body is not JSON"
        "A request with a body needs `Content-Type: application/json`.";
    /// 422.
    Refused "refused" 422 "Refused"
        "The request is well formed, but the host refuses it. `detail` says why.";
    /// 422.
    IdempotencyMismatch "idempotency-mismatch" 422 "The key was used for another request"
        "An earlier request of this caller had the same `Idempotency-Key` and another path or body. Use a new key for each change.";
    /// 429.
    TooManyRequests "too-many-requests" 429 "Too many requests"
        "Too many failures to be recognised, or too many event streams or answers for repeats. The header `Retry-After` says in seconds when to try again.";
    /// 500.
    Internal "internal" 500 "The host has failed"
        "The host could not do it, for example because its disk is full. `detail` and its log say more. The request may be repeated, with the same `Idempotency-Key`.";
    /// 503.
    Unavailable "unavailable" 503 "Not available now"
        "A part of the host is being restarted, or the host ends. Repeat the request after a moment.";
}

/// One type of problem, as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProblemType {
    /// Its name; the type is `urn:nanorelay:problem:` and this.
    pub name: &'static str,
    /// The HTTP status that comes with it.
    pub status: u16,
    /// A short text, always the same for a type.
    pub title: &'static str,
    /// What it means, and what to do.
    pub explanation: &'static str,
}

/// One problem.
#[derive(Debug, Clone)]
pub struct Problem(Box<Parts>);

/// Boxed: a result should not be large because of what may go wrong.
#[derive(Debug, Clone)]
struct Parts {
    kind: ProblemKind,
    detail: String,
    extra: Map<String, Value>,
    header: Option<(HeaderName, HeaderValue)>,
}

/// A problem as it is answered. More members may follow, see the type.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// `urn:nanorelay:problem:` and the type's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short text, always the same for a type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here.
    pub detail: String,
    /// More about it.
    #[serde(flatten)]
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub extra: Map<String, Value>,
}

impl Problem {
    /// A problem in words.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts { kind, detail: detail.into(), extra: Map::new(), header: None }))
    }

    /// A part of the request that is wrong.
    pub fn field(field: &str, detail: impl fmt::Display) -> Self {
        let problem = Self::new(ProblemKind::InvalidRequest, format!("{field}: {detail}"));
        problem.with("field", field)
    }

    /// Nothing there, or nothing that the caller sees.
    pub fn not_found(what: &str) -> Self {
        Self::new(ProblemKind::NotFound, format!("there is no such {what}"))
    }

    /// Its type.
    pub fn kind(&self) -> ProblemKind {
        self.0.kind
    }

    /// The same with one more member.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extra.insert(name.to_owned(), value.into());
        self
    }

    /// The same with the time after which to try again.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.0.header = Some((RETRY_AFTER, HeaderValue::from(seconds.max(1))));
        self
    }

    /// The same with the methods that are allowed.
    pub(super) fn allow(mut self, methods: &str) -> Self {
        self.0.header = HeaderValue::from_str(methods).ok().map(|methods| (ALLOW, methods));
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.about().name, self.0.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.kind.about().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let about = self.0.kind.about();
        let body = ProblemBody {
            kind: format!("{TYPE_PREFIX}{}", about.name),
            title: about.title.to_owned(),
            status: about.status,
            detail: self.0.detail.clone(),
            extra: self.0.extra.clone(),
        };
        let mut response = HttpResponse::build(self.status_code());
        if let Some((name, value)) = &self.0.header {
            response.insert_header((name.clone(), value.clone()));
        }
        if self.0.kind == ProblemKind::Unauthorized {
            response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"nanorelay\""));
        }
        // Written by hand: `json` would say that it is plain JSON.
        let text = serde_json::to_vec(&body).unwrap_or_default();
        response.content_type("application/problem+json").body(text)
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        let kind = match error {
            OperationError::NotFound(_) => ProblemKind::NotFound,
            OperationError::Invalid(_) => ProblemKind::Refused,
            OperationError::Conflict(_) => ProblemKind::Conflict,
            OperationError::Busy(_) | OperationError::Ended => ProblemKind::Unavailable,
            _ => ProblemKind::Internal,
        };
        let problem = Self::new(kind, error.to_string());
        if error.is_temporary() { problem.retry_after(Duration::from_secs(1)) } else { problem }
    }
}

/// An id that cannot be one names nothing that is there.
impl From<InvalidId> for Problem {
    fn from(error: InvalidId) -> Self {
        Self::new(ProblemKind::InvalidRequest, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_type_has_a_name_of_its_own_and_a_status_that_exists() {
        let names: HashSet<_> = ProblemKind::ALL.iter().map(|kind| kind.about().name).collect();
        assert_eq!(names.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            let about = kind.about();
            assert!(about.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", about.name);
            assert_eq!(Problem::new(*kind, "").status_code().as_u16(), about.status);
            assert!((400..600).contains(&about.status));
        }
    }

    #[test]
    fn the_document_of_problems_lists_every_type_as_it_is() {
        let document = include_str!("../../../docs/problems.md");
        let row = |about: &ProblemType| {
            format!("| `{}` | {} | {} | {} |", about.name, about.status, about.title, about.explanation)
        };
        let expected: Vec<String> = ProblemKind::ALL.iter().map(|kind| row(kind.about())).collect();
        let found: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_as_none() {
        for (wait, expected) in [(0, "1"), (1000, "1"), (1001, "2"), (90_000, "90")] {
            let problem =
                Problem::new(ProblemKind::TooManyRequests, "").retry_after(Duration::from_millis(wait));
            let response = problem.error_response();
            assert_eq!(response.headers().get(RETRY_AFTER).unwrap(), expected);
        }
    }
}
