//! What an HTTP answer means.

use nanorelay_actors::model::error::{LimitScope, SendError};
use nanorelay_actors::model::time::Timestamp;
use std::time::Duration;

/// A longer hint is cut to this.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// The longest message id that is taken from an answer, in bytes.
const MESSAGE_ID_BYTES_MAX: usize = 1024;

/// `Ok` for 2xx, else the kind of failure.
pub(super) fn classify(status: u16, retry_after: Option<Duration>) -> Result<(), SendError> {
    let reason = format!("the webhook answered {status}");
    Err(match status {
        200..=299 => return Ok(()),
        410 => SendError::DestinationGone { reason },
        429 => SendError::RateLimited { retry_after, scope: LimitScope::Account, reason },
        401 | 403 => SendError::Unauthorized { reason },
        408 | 425 | 500..=599 => SendError::Transient { retry_after, reason },
        300..=399 => SendError::Permanent { reason: format!("{reason}, and redirects are not followed") },
        _ => SendError::Permanent { reason },
    })
}

/// Reads a Retry-After header: seconds, or a date in one of the three forms of HTTP. A date in the past is zero.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let forms = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let civil = forms.iter().find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())?;
    let instant = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(Timestamp::from_ms(instant.as_millisecond()).since(now).min(RETRY_AFTER_MAX))
}

/// The platform's id of the message, from an optional `{"id":…}`.
pub(super) fn message_id(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let id = match value.get("id")? {
        serde_json::Value::String(id) => id.clone(),
        serde_json::Value::Number(id) => id.to_string(),
        _ => return None,
    };
    (!id.is_empty() && id.len() <= MESSAGE_ID_BYTES_MAX).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nanorelay_actors::model::error::ErrorClass;

    #[test]
    fn each_status_has_its_class() {
        let class = |status| classify(status, None).map_err(|error| error.class());
        for (statuses, expected) in [
            (&[200, 201, 202, 204, 299][..], Ok(())),
            (&[301, 302, 304, 307, 308][..], Err(ErrorClass::Permanent)),
            (&[400, 404, 405, 413, 422, 451][..], Err(ErrorClass::Permanent)),
            (&[401, 403][..], Err(ErrorClass::Unauthorized)),
            (&[410][..], Err(ErrorClass::DestinationGone)),
            (&[429][..], Err(ErrorClass::RateLimited)),
            (&[408, 425, 500, 502, 503, 504, 520][..], Err(ErrorClass::Transient)),
        ] {
            for status in statuses {
                assert_eq!(class(*status), expected, "{status}");
            }
        }
    }

    #[test]
    fn retry_after_is_read_in_all_forms() {
        // 1994-11-06T08:49:37Z
        let then_s: i64 = 784_111_777;
        let now = Timestamp::from_ms((then_s - 90) * 1000);
        let seconds = |text| retry_after(text, now).map(|hint| hint.as_secs());
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds(" 7200 "), Some(7200));
        assert_eq!(seconds("99999999999999999999999"), Some(RETRY_AFTER_MAX.as_secs()));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(90));
        assert_eq!(seconds("Sunday, 06-Nov-94 08:49:37 GMT"), Some(90));
        assert_eq!(seconds("Sun Nov  6 08:49:37 1994"), Some(90));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for text in ["", "-5", "soon", "1.5", "1994-11-06T08:49:37Z"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn an_id_is_taken_from_the_answer_when_there_is_one() {
        assert_eq!(message_id(br#"{"id":"m1"}"#), Some("m1".to_owned()));
        assert_eq!(message_id(br#"{"id":42,"x":1}"#), Some("42".to_owned()));
        for body in [&b""[..], b"ok", b"[]", br#"{"id":null}"#, br#"{"id":""}"#] {
            assert_eq!(message_id(body), None);
        }
    }
}
