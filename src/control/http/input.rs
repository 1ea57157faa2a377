//! What a request brings: its query and its body, checked, with errors that name what is wrong.

use super::problem::{Problem, ProblemKind};
use super::query;
use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use std::future::{Ready, ready};
use std::time::Duration;

/// The largest body of a request that says nothing else, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// The query of a request. Its type denies unknown fields.
pub(super) struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let parsed = query::parse(request.query_string());
        ready(parsed.map(Self).map_err(|error| invalid("query", &error.to_string())))
    }
}

/// The body of a request. Its type denies unknown fields.
pub(super) trait RequestBody: DeserializeOwned {
    /// The largest body, in bytes.
    const BYTES_MAX: usize = BODY_BYTES_MAX;
    /// What a request without a body stands for; `None` when it needs one.
    fn when_empty() -> Option<Self> {
        None
    }
}

/// The JSON body of a request.
pub(super) struct Body<T>(pub T);

impl<T: RequestBody + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let content_type = request.headers().get(CONTENT_TYPE).map(|value| value.as_bytes().to_vec());
        let (length, payload) = (length_in(request.headers()), payload.take());
        Box::pin(async move {
            let bytes = read(payload, length, T::BYTES_MAX).await?;
            if matches!(bytes.trim_ascii(), b"" | b"null")
                && let Some(body) = T::when_empty()
            {
                return Ok(Self(body));
            }
            if !content_type.is_some_and(|name| is_json(&name)) {
                let words = "the body needs the content type application/json";
                return Err(Problem::new(ProblemKind::UnsupportedMediaType, words));
            }
            parse(&bytes).map(Self)
        })
    }
}

/// How long a body says that it is.
pub(super) fn length_in(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body whole, unless it is too large or too slow. One that says that it is too large is not read at all.
pub(super) async fn read(
    mut payload: Payload,
    length: Option<u64>,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let too_large = || {
        let words = format!("the body has more than {bytes_max} bytes");
        Problem::new(ProblemKind::TooLarge, words).with("limit_bytes", bytes_max)
    };
    if length.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large());
    }
    let reading = async {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| Problem::field("body", error))?;
            if bytes.len() + chunk.len() > bytes_max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    let too_slow =
        |_| Problem::new(ProblemKind::RequestTimeout, format!("not here after {} s", BODY_TIMEOUT.as_secs()));
    tokio::time::timeout(BODY_TIMEOUT, reading).await.map_err(too_slow)?
}

fn is_json(content_type: &[u8]) -> bool {
    let name = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // An array would be taken for the members of an object in their order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::field("body", "is not a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let name = if path == "." { "body".to_owned() } else { path };
        invalid(&name, &error.inner().to_string())
    })?;
    deserializer.end().map_err(|error| Problem::field("body", error))?;
    Ok(value)
}

/// A deserializer's words as a problem.
fn invalid(place: &str, words: &str) -> Problem {
    Problem::field(place, words.replacen("unknown variant", "unknown value", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its errors are looked at")]
    struct Example {
        list: Vec<u8>,
    }

    #[test]
    fn an_error_names_the_place_in_the_body() {
        for (body, words) in [
            (r#"{"list":[1,"x"]}"#, "list[1]: invalid type"),
            (r#"{"list":[],"colour":1}"#, "colour: unknown field `colour`"),
            (r#"{}"#, "body: missing field `list`"),
            (r#"{"list":[]} x"#, "body: trailing characters"),
            (r#"{"list""#, "body: EOF"),
            ("", "body: is not a JSON object"),
            ("[[1]]", "body: is not a JSON object"),
        ] {
            let error = parse::<Example>(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{body}: {error}");
        }
    }

    #[test]
    fn json_is_recognised_with_its_parameters() {
        assert!(is_json(b"application/json") && is_json(b"Application/JSON; charset=utf-8"));
        assert!(!is_json(b"text/plain") && !is_json(b"application/json-seq") && !is_json(b""));
    }
}
