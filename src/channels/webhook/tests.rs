//! The channel against a small HTTP server on the loopback interface.

use super::super::payload::tests::{attachment, delivery};
use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nanorelay_actors::clock::Clock;
use nanorelay_actors::model::error::{ErrorClass, LearnedLimit, LimitScope};
use nanorelay_actors::model::time::Timestamp;
use std::collections::HashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW_S: i64 = 784_111_777;

struct FixedClock;
impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(NOW_S * 1000 + 999)
    }
}

fn channel(url: &str, timeout: Duration) -> WebhookChannel {
    let config = WebhookConfig {
        url: url.to_owned(),
        keys: SigningKeys::parse(SECRET).unwrap(),
        allow_private: true,
        timeout,
    };
    WebhookChannel::new(&config, Arc::new(FixedClock)).unwrap()
}

struct Request {
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> Request {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let got = stream.read(&mut piece).await.unwrap();
        assert!(got > 0, "the request ended early");
        bytes.extend_from_slice(&piece[..got]);
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let headers: HashMap<String, String> = head
        .lines()
        .skip(1)
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers["content-length"].parse().unwrap();
    let mut body = bytes[head_end + 4..].to_vec();
    while body.len() < length {
        let got = stream.read(&mut piece).await.unwrap();
        assert!(got > 0, "the body ended early");
        body.extend_from_slice(&piece[..got]);
    }
    Request { headers, body }
}

/// Sends one delivery to a server that gives one answer, or hangs up when the answer is empty.
async fn exchange(message: &Delivery, answer: &str) -> (Result<Receipt, SendError>, Request) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        request
    };
    let channel = channel(&url, Duration::from_secs(20));
    tokio::join!(channel.send(message), server)
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

#[tokio::test]
async fn a_delivery_arrives_signed_with_a_stable_id() {
    let mut message = delivery(r#"{"text":"hi"}"#);
    message.attachments.push(attachment("a.txt", b"abc", 3));
    let (result, request) = exchange(&message, &answer(200, "", r#"{"id":"m-7"}"#)).await;
    assert_eq!(result.unwrap().platform_message_id.as_deref(), Some("m-7"));

    let id = &request.headers["webhook-id"];
    assert_eq!(request.headers["webhook-timestamp"], NOW_S.to_string());
    assert_eq!(request.headers["content-type"], "application/json");
    let expected = SigningKeys::parse(SECRET).unwrap().sign(id, NOW_S, &request.body);
    assert_eq!(request.headers["webhook-signature"], expected);

    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["content"]["text"], "hi");
    assert_eq!(body["files"][0]["data"], STANDARD.encode("abc"));
    assert!(body.get("delivered_at").is_none());

    message.attempt = 2;
    let (_, again) = exchange(&message, &answer(204, "", "")).await;
    assert_eq!(&again.headers["webhook-id"], id);
}

#[tokio::test]
async fn an_answer_without_a_body_is_a_receipt_without_an_id() {
    let (result, _) = exchange(&delivery("{}"), &answer(202, "", "")).await;
    assert_eq!(result, Ok(Receipt::default()));
}

#[tokio::test]
async fn each_status_is_classified_with_its_hint() {
    for (status, class) in [
        (301, ErrorClass::Permanent),
        (400, ErrorClass::Permanent),
        (401, ErrorClass::Unauthorized),
        (410, ErrorClass::DestinationGone),
        (500, ErrorClass::Transient),
    ] {
        let (result, _) =
            exchange(&delivery("{}"), &answer(status, "location: http://127.0.0.1:1/\r\n", "")).await;
        assert_eq!(result.unwrap_err().class(), class, "{status}");
    }
    let (result, _) = exchange(&delivery("{}"), &answer(429, "retry-after: 7\r\n", "")).await;
    let hint = Some(Duration::from_secs(7));
    assert!(
        matches!(&result, Err(SendError::RateLimited { retry_after, scope: LimitScope::Account, .. }) if *retry_after == hint),
        "{result:?}"
    );
    let date = "retry-after: Sun, 06 Nov 1994 08:50:37 GMT\r\n";
    let (result, _) = exchange(&delivery("{}"), &answer(503, date, "")).await;
    let SendError::Transient { retry_after: Some(hint), .. } = result.unwrap_err() else {
        panic!("with a hint")
    };
    assert_eq!(hint.as_secs(), 59);
}

#[tokio::test]
async fn what_is_left_of_a_limit_is_read_from_every_answer() {
    let headers = "x-ratelimit-remaining: 0\r\nx-ratelimit-reset-after: 9\r\n";
    let (result, _) = exchange(&delivery("{}"), &answer(200, headers, "")).await;
    let resets_at = FixedClock.now().plus(Duration::from_secs(9));
    let limit = LearnedLimit { scope: LimitScope::Account, remaining: 0, resets_at };
    assert_eq!(result, Ok(Receipt { platform_message_id: None, limit: Some(limit) }));

    let (result, _) = exchange(&delivery("{}"), &answer(429, headers, "")).await;
    let hint = Some(Duration::from_secs(9));
    assert!(
        matches!(&result, Err(SendError::RateLimited { retry_after, .. }) if *retry_after == hint),
        "without a Retry-After, the limit's reset is the hint: {result:?}"
    );
}

#[tokio::test]
async fn a_refused_connection_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let result = channel(&url, Duration::from_secs(5)).send(&delivery("{}")).await;
    assert_eq!(result.unwrap_err().class(), ErrorClass::Transient);
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_is_ambiguous() {
    let (result, _) = exchange(&delivery("{}"), "").await;
    assert_eq!(result.unwrap_err().class(), ErrorClass::Ambiguous);
}

#[tokio::test]
async fn no_answer_in_time_is_ambiguous() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let channel = channel(&url, Duration::from_millis(150));
    let message = delivery("{}");
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream
    };
    let (result, _open) = tokio::join!(channel.send(&message), server);
    assert_eq!(result.unwrap_err().class(), ErrorClass::Ambiguous);
}

#[tokio::test]
async fn large_attachments_are_refused_for_good() {
    let mut message = delivery("{}");
    message.attachments.push(attachment("a.bin", b"", ATTACHMENT_BYTES_TOTAL_MAX + 1));
    let result = channel("http://127.0.0.1:1/", Duration::from_secs(5)).send(&message).await;
    assert!(
        matches!(&result, Err(SendError::Permanent { reason }) if reason.contains("too large")),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_name_with_an_internal_address_is_refused_for_good() {
    let mut channel = channel("http://127.0.0.1:1/", Duration::from_secs(5));
    channel.client = Client::builder()
        .tls_backend_preconfigured(tls_config().unwrap())
        .dns_resolver(Arc::new(PublicResolver { allow_private: false }))
        .no_proxy()
        .build()
        .unwrap();
    channel.url = Url::parse("http://localhost:1/").unwrap();
    let result = channel.send(&delivery("{}")).await;
    assert!(
        matches!(&result, Err(SendError::Permanent { reason }) if reason.contains("internal")),
        "{result:?}"
    );
}

#[test]
fn ids_are_safe_in_a_header_and_in_what_is_signed() {
    assert_eq!(webhook_id("msg_1-a"), "msg_1-a");
    let hashed = webhook_id("sess-1/msg.1\r\nx: y");
    assert!(hashed.starts_with("msg_") && hashed.len() == 44, "{hashed}");
    assert_ne!(hashed, webhook_id("sess-1/msg.2"));
}

#[test]
fn repeats_are_recognised_by_the_receiver() {
    assert_eq!(channel("http://127.0.0.1:1/", Duration::from_secs(5)).idempotency(), Idempotency::NativeKey);
}
